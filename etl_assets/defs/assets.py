"""Assets: `raw`, `clean` and `warehouse` of every declared stream, made by three factories.

The bodies call one step of the pipeline and report what it did. Nothing here looks at a row.
"""

import functools
from collections.abc import Iterable
from datetime import timedelta

import dagster as dg

from etl_assets.defs import checks, steps
from etl_assets.spec import Source, Stream, code_version

DEADLINE_CRON = "0 9 * * *"
DEADLINE_SLACK = timedelta(hours=9)


def key(layer: str, source: Source, stream: Stream) -> dg.AssetKey:
    """`[layer, source, stream]`."""
    return dg.AssetKey([layer, source.source, stream.name])


def partitions(source: Source, stream: Stream) -> dg.DailyPartitionsDefinition | None:
    """Days in the source's zone, or None for a snapshot."""
    if stream.window is None or source.start is None:
        return None
    # The day that has begun is a partition, too: see the daily schedule.
    return dg.DailyPartitionsDefinition(source.start.isoformat(), timezone=source.timezone, end_offset=1)


def raw_asset(source: Source, stream: Stream) -> dg.AssetsDefinition:
    """The API's answers, as received."""
    spec = _spec("raw", source, stream, kinds={"raw", "json"}, deps=[])

    @dg.multi_asset(
        name=_op_name(spec),
        specs=[spec],
        required_resource_keys={source.source, "pipeline"},
        retry_policy=steps.retry_policy(),
        pool=source.source,
    )
    def raw(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        with steps.reported(), getattr(context.resources, source.source).open() as api:
            day = steps.window(context, source, stream)
            done = context.resources.pipeline.extract(api, stream, day, context.run.run_id)
        return dg.MaterializeResult(
            metadata={
                **steps.rows_metadata(stream, done.manifest.rows),
                "dagster/uri": done.uri,
                "pages": done.manifest.details["pages"],
                "requests": done.requests,
                "bytes": sum(file.bytes for file in done.manifest.files),
                "seconds": round(done.seconds, 3),
                "seconds_waiting_for_limits": round(done.waited_seconds, 3),
            }
        )

    return raw


def clean_asset(source: Source, stream: Stream) -> dg.AssetsDefinition:
    """Typed rows, those that do not fit apart."""
    origin = key("clean", source, source.stream(stream.of.stream)) if stream.of else key("raw", source, stream)
    spec = _spec("clean", source, stream, kinds={"clean", "parquet"}, deps=[origin])

    @dg.multi_asset(
        name=_op_name(spec),
        specs=[spec],
        check_specs=checks.clean_specs(spec.key, stream),
        required_resource_keys={"pipeline"},
        retry_policy=steps.retry_policy(),
    )
    def clean(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        with steps.reported():
            day = steps.window(context, source, stream)
            done = context.resources.pipeline.clean(source, stream, day, context.run.run_id)
            found = context.resources.pipeline.inspect(source, stream, day)
        return dg.MaterializeResult(
            metadata={
                **steps.rows_metadata(stream, done.manifest.rows),
                "dagster/uri": done.uri,
                "dagster/column_schema": steps.column_schema(stream),
                "rows_raw": done.rows_raw,
                "rows_quarantined": done.rows_quarantined,
                "rows_duplicate": done.rows_duplicate,
                "rows_of_other_days": done.rows_outside,
                "seconds": round(done.seconds, 3),
                "sample": steps.markdown(found.sample),
            },
            check_results=list(checks.clean_results(spec.key, done, found)),
        )

    return clean


def warehouse_asset(source: Source, stream: Stream) -> dg.AssetsDefinition:
    """The table."""
    spec = _spec("warehouse", source, stream, kinds={"warehouse", "duckdb"}, deps=[key("clean", source, stream)])
    spec = spec.replace_attributes(freshness_policy=_fresh_by_morning(source.timezone))

    @dg.multi_asset(
        name=_op_name(spec),
        specs=[spec],
        check_specs=checks.warehouse_specs(spec.key),
        required_resource_keys={"pipeline"},
        retry_policy=steps.retry_policy(),
        pool="warehouse",
    )
    def warehouse(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        with steps.reported():
            day = steps.window(context, source, stream)
            done = context.resources.pipeline.load(source, stream, day, context.run.run_id)
        return dg.MaterializeResult(
            metadata={
                **steps.rows_metadata(stream, done.rows),
                "dagster/table_name": done.table,
                "dagster/uri": done.uri,
                "dagster/column_schema": steps.column_schema(stream),
                "rows_in_table": done.rows_in_table,
                "changed": done.changed,
                "seconds": round(done.seconds, 3),
                "seconds_waiting_for_the_file": round(done.waited_seconds, 3),
            },
            check_results=list(checks.warehouse_results(spec.key, done)),
        )

    return warehouse


@functools.cache  # Dagster tries a thousand ticks of the cron each time
def _fresh_by_morning(timezone: str) -> dg.FreshnessPolicy:
    return dg.FreshnessPolicy.cron(deadline_cron=DEADLINE_CRON, lower_bound_delta=DEADLINE_SLACK, timezone=timezone)


def _spec(layer: str, source: Source, stream: Stream, *, kinds: set[str], deps: list[dg.AssetKey]) -> dg.AssetSpec:
    return dg.AssetSpec(
        key(layer, source, stream),
        description=f"{source.title}: {stream.description}" if stream.description else source.title,
        group_name=source.source,
        kinds=kinds,
        deps=deps,
        partitions_def=partitions(source, stream),
        code_version=code_version(source, stream),
        metadata=steps.table_metadata(source, stream) if layer == "warehouse" else {},
    )


def _op_name(spec: dg.AssetSpec) -> str:
    return "__".join(spec.key.path)


def stream_assets(sources: Iterable[Source]) -> dg.Definitions:
    """Three assets per stream; two for a child table, whose rows come with its parent's."""
    return dg.Definitions(
        assets=[
            make(source, stream)
            for source in sources
            for stream in source.streams
            for make in (raw_asset, clean_asset, warehouse_asset)
            if not (stream.of and make is raw_asset)
        ]
    )
