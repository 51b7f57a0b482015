"""Jobs and schedules: per source one for its daily streams and one for its snapshots.

Schedules are delivered stopped; switch them on in the UI.
"""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import dagster as dg

from etl_assets.defs.assets import key
from etl_assets.settings import reload_days
from etl_assets.spec import Source

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

_LAYERS = ("raw", "clean", "warehouse")
_SNAPSHOT_CRON = "30 4 * * *"
_DAILY_CRON = "0 5 * * *"


def source_job(source: Source, *, daily: bool) -> "UnresolvedAssetJobDefinition | None":
    """All steps of the source's daily streams, or of its snapshots; None where it has none."""
    streams = [stream for stream in source.streams if (stream.window is not None) == daily]
    if not streams:
        return None
    kind = "one day of the daily streams" if daily else "the snapshots"
    return dg.define_asset_job(
        f"{source.source}_{'daily' if daily else 'snapshot'}",
        selection=dg.AssetSelection.assets(
            *(key(layer, source, s) for s in streams for layer in _LAYERS if not (s.of and layer == "raw"))
        ),
        description=f"{source.title}: {kind}, from the API to the tables.",
    )


def daily_schedule(source: Source, job: "UnresolvedAssetJobDefinition") -> dg.ScheduleDefinition:
    """Every morning yesterday, and again the days before it, because people edit old days.

    Where rows are merged, also the day that has begun: a row that changed since midnight has left its old day,
    and would be missing until tomorrow.
    """
    merges = any(stream.mode == "merge" for stream in source.streams)
    text = f"Loads the last {source.reload_days} days of {source.title}, each as its own run."
    return reload_schedule(source, job, _DAILY_CRON, text, from_day=0 if merges else 1)


def reload_schedule(
    source: Source, job: "UnresolvedAssetJobDefinition", cron: str, description: str, *, from_day: int
) -> dg.ScheduleDefinition:
    """A run of the job per day that the source loads again: from `from_day` days back on, as many as it says."""

    @dg.schedule(
        name=f"{job.name}_schedule",
        job=job,
        cron_schedule=cron,
        execution_timezone=source.timezone,
        description=description,
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        today = context.scheduled_execution_time.astimezone(ZoneInfo(source.timezone)).date()
        for back in range(from_day, reload_days(source) + 1):
            day = (today - timedelta(days=back)).isoformat()
            if source.start and day >= source.start.isoformat():
                yield dg.RunRequest(run_key=f"{today}/{day}", partition_key=day)

    return schedule


def snapshot_schedule(source: Source, job: "UnresolvedAssetJobDefinition") -> dg.ScheduleDefinition:
    """Every morning, before the daily streams."""
    return dg.ScheduleDefinition(
        name=f"{source.source}_snapshot_schedule",
        job=job,
        cron_schedule=_SNAPSHOT_CRON,
        execution_timezone=source.timezone,
    )


def jobs_and_schedules(sources: Iterable[Source]) -> dg.Definitions:
    """`<source>_daily` and `<source>_snapshot`, with their schedules."""
    jobs, schedules = [], []
    for source in sources:
        for daily, scheduled in ((True, daily_schedule), (False, snapshot_schedule)):
            if job := source_job(source, daily=daily):
                jobs.append(job)
                schedules.append(scheduled(source, job))
    return dg.Definitions(jobs=jobs, schedules=schedules)
