"""Assets: `raw`, `clean` and `warehouse` of every declared stream, made by three factories.

The bodies call one step of the pipeline and report what it did. Nothing here looks at a row.
"""

import functools
from collections.abc import Iterable
from datetime import timedelta

import dagster as dg

from etl_assets.defs import checks, steps
from etl_assets.settings import Settings
from etl_assets.spec import Source, Stream, code_version

DEADLINE_HOUR = 9
DEADLINE_SLACK = timedelta(hours=9)


def key(layer: str, source: Source, stream: Stream) -> dg.AssetKey:
    """`[layer, source, stream]`."""
    return dg.AssetKey([layer, source.source, stream.name])


def partitions(source: Source, stream: Stream) -> dg.DailyPartitionsDefinition | None:
    """Days in the source's zone, or None for a snapshot."""
    return days(source) if stream.window else None


def days(source: Source) -> dg.DailyPartitionsDefinition | None:
    """The days of a source; None where all its streams are snapshots."""
    if source.start is None:
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
        backfill_policy=steps.backfill_policy(stream),
        pool=source.source,
    )
    def raw(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        extract, run_id = context.resources.pipeline.extract, context.run.run_id
        with steps.reported(), getattr(context.resources, source.source).open() as api:
            done = [extract(api, stream, day, run_id) for day in steps.windows(context, source, stream)]
        return dg.MaterializeResult(
            metadata={
                **steps.rows_metadata(stream, [one.manifest.rows for one in done]),
                "dagster/uri": done[-1].uri,
                "pages": sum(one.manifest.details["pages"] for one in done),
                "requests": sum(one.requests for one in done),
                "bytes": sum(file.bytes for one in done for file in one.manifest.files),
                "seconds": round(sum(one.seconds for one in done), 3),
                "seconds_waiting_for_limits": round(sum(one.waited_seconds for one in done), 3),
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
        backfill_policy=steps.backfill_policy(stream),
    )
    def clean(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        pipeline, run_id = context.resources.pipeline, context.run.run_id
        with steps.reported():
            days = steps.windows(context, source, stream)
            done = [pipeline.clean(source, stream, day, run_id) for day in days]
            found = [pipeline.inspect(source, stream, day) for day in days]
        return dg.MaterializeResult(
            metadata={
                **steps.rows_metadata(stream, [one.manifest.rows for one in done]),
                "dagster/uri": done[-1].uri,
                "dagster/column_schema": steps.column_schema(stream),
                "rows_raw": sum(one.rows_raw for one in done),
                "rows_quarantined": sum(one.rows_quarantined for one in done),
                "rows_duplicate": sum(one.rows_duplicate for one in done),
                "rows_of_other_days": sum(one.rows_outside for one in done),
                "seconds": round(sum(one.seconds for one in done), 3),
                "sample": steps.markdown(found[-1].sample),
            },
            check_results=checks.of_all_days(
                checks.clean_results(spec.key, *both) for both in zip(done, found, strict=True)
            ),
        )

    return clean


def warehouse_asset(source: Source, stream: Stream) -> dg.AssetsDefinition:
    """The table."""
    spec = _spec(
        "warehouse", source, stream, kinds={"warehouse", warehouse_kind()}, deps=[key("clean", source, stream)]
    )
    spec = spec.replace_attributes(freshness_policy=_fresh_by_morning(source.timezone))

    @dg.multi_asset(
        name=_op_name(spec),
        specs=[spec],
        check_specs=checks.warehouse_specs(spec.key),
        required_resource_keys={"pipeline"},
        retry_policy=steps.retry_policy(),
        backfill_policy=steps.backfill_policy(stream),
        pool="warehouse",
    )
    def warehouse(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        load, run_id = context.resources.pipeline.load, context.run.run_id
        with steps.reported():
            done = [load(source, stream, day, run_id) for day in steps.windows(context, source, stream)]
        last = done[-1]
        return dg.MaterializeResult(
            metadata={
                **steps.rows_metadata(stream, [one.rows for one in done]),
                "dagster/table_name": last.table,
                "dagster/uri": last.uri,
                "dagster/column_schema": steps.column_schema(stream),
                "rows_in_table": last.rows_in_table,
                "changed": any(one.changed for one in done),
                "seconds": round(sum(one.seconds for one in done), 3),
                "seconds_waiting_for_the_table": round(sum(one.waited_seconds for one in done), 3),
                **{name: sum(one.cost[name] for one in done) for name in last.cost},
            },
            check_results=checks.of_all_days(checks.warehouse_results(spec.key, one) for one in done),
        )

    return warehouse


@functools.cache  # Dagster tries a thousand ticks of the cron each time
def _fresh_by_morning(timezone: str) -> dg.FreshnessPolicy:
    cron = f"0 {DEADLINE_HOUR} * * *"
    return dg.FreshnessPolicy.cron(deadline_cron=cron, lower_bound_delta=DEADLINE_SLACK, timezone=timezone)


def warehouse_kind() -> str:
    """The warehouse as Dagster shows it."""
    return Settings.read().warehouse


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
