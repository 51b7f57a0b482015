"""`<source>_reconcile`: the second look at days that were loaded before."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from etl_assets.defs import steps
from etl_assets.defs.assets import key
from etl_assets.reconcile import children, reconcile
from etl_assets.spec import Source

_RECONCILED_DAYS = 35


class ReconcileRange(dg.Config):
    """Days to reconcile, both included (`YYYY-MM-DD`); by default the last 35 before today."""

    first: str | None = None
    last: str | None = None

    def days(self, source: Source) -> tuple[date, date]:
        """The range in the source's calendar. Raises ValueError for anything but days in order."""
        yesterday = datetime.now(ZoneInfo(source.timezone)).date() - timedelta(days=1)
        last = date.fromisoformat(self.last) if self.last else yesterday
        first = date.fromisoformat(self.first) if self.first else last - timedelta(days=_RECONCILED_DAYS - 1)
        if first > last:
            raise ValueError(f"first day {first} is after last day {last}")
        return first, last


def reconcile_job(source: Source) -> dg.JobDefinition | None:
    """Compares the daily streams of a range of days with the API, and loads the days that differ."""
    if not any(stream.window for stream in source.streams):
        return None

    @dg.op(
        name=f"{source.source}_reconcile_days",
        required_resource_keys={source.source, "pipeline"},
        retry_policy=steps.retry_policy(),
        pool=source.source,
    )
    def compare_and_load(context: dg.OpExecutionContext, config: ReconcileRange) -> None:
        recovered = 0
        table: list[tuple[object, ...]] = [("stream", "day", "missing", "changed", "surplus")]
        with steps.reported(), getattr(context.resources, source.source).open() as api:
            first, last = config.days(source)
            for done in reconcile(context.resources.pipeline, api, first, last, context.run.run_id):
                found = done.difference
                recovered += found.recovered
                table.append((done.stream, done.day.isoformat(), found.missing, found.changed, found.surplus))
                if found:
                    stream = source.stream(done.stream)
                    for one in [stream, *children(source, stream)]:
                        context.log_event(
                            dg.AssetMaterialization(key("warehouse", source, one), partition=done.day.isoformat())
                        )
        context.add_output_metadata({"rows_recovered": recovered, "days": steps.markdown(table)})

    @dg.job(name=f"{source.source}_reconcile", description=compare_and_load.description)
    def job() -> None:
        compare_and_load()

    return job


def reconcile_jobs(sources: Iterable[Source]) -> dg.Definitions:
    """One job per source with daily streams. Start it in the launchpad, with another range if wanted."""
    return dg.Definitions(jobs=[job for source in sources if (job := reconcile_job(source))])
