"""Exports as assets: `export/<name>`, one file, or one per day of the source whose days it has."""

import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from etl_assets.defs import steps
from etl_assets.defs.assets import days
from etl_assets.defs.jobs import reload_schedule
from etl_assets.defs.marts import origin
from etl_assets.errors import StreamFileError
from etl_assets.export import LAYER, Export, load_exports
from etl_assets.mart import tables_read
from etl_assets.spec import Source

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

_CRON = "30 8 * * *"
_SOME_DAY = date(2000, 1, 1)


def export_asset(export: Export, sources: Mapping[str, Source]) -> dg.AssetsDefinition:
    """The file of an export. Raises StreamFileError when it has the days of a source that has none."""
    source = sources.get(export.days_of or "")
    partitions = days(source) if source else None
    if export.days_of and not partitions:
        raise StreamFileError(
            f"export {export.name!r}: days_of: there is no source {export.days_of!r} with daily streams"
        )
    tables = tables_read(export.select(_SOME_DAY if partitions else None))
    spec = dg.AssetSpec(
        [LAYER, export.name],
        description=export.description,
        group_name=LAYER,
        kinds={export.format},
        deps=[origin(schema, table) for schema, table in tables if schema != "ops"],
        partitions_def=partitions,
    )

    @dg.multi_asset(
        name=f"{LAYER}__{export.name}",
        specs=[spec],
        required_resource_keys={"pipeline"},
        retry_policy=steps.retry_policy(),
    )
    def write(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        started = time.monotonic()
        with steps.reported():
            day = date.fromisoformat(context.partition_key) if export.days_of else None
            done = context.resources.pipeline.export(export, day)
        return dg.MaterializeResult(
            metadata={
                "dagster/partition_row_count" if day else "dagster/row_count": done.rows,
                "dagster/uri": done.uri,
                "bytes": done.bytes,
                "seconds": time.monotonic() - started,
            }
        )

    return write


def _job(name: str, chosen: list[Export], description: str) -> "UnresolvedAssetJobDefinition":
    selection = dg.AssetSelection.assets(*([LAYER, export.name] for export in chosen))
    return dg.define_asset_job(name, selection=selection, description=description)


def exports(sources: Mapping[str, Source], folder: Path | None) -> dg.Definitions:
    """Every export; the job `exports` for those without days, and `<source>_exports` for the days of a source."""
    declared = load_exports(folder)
    assets = [export_asset(export, sources) for export in declared]
    jobs, schedules = [], []
    if whole := [export for export in declared if not export.days_of]:
        job = _job("exports", whole, "Writes every export that has no days.")
        jobs.append(job)
        schedules.append(dg.ScheduleDefinition(job=job, cron_schedule=_CRON, execution_timezone="Asia/Tokyo"))
    for name in sorted({export.days_of for export in declared if export.days_of}):
        source, chosen = sources[name], [export for export in declared if export.days_of == name]
        job = _job(f"{name}_exports", chosen, f"Writes the exports with one file per day of {source.title}.")
        jobs.append(job)
        text = f"Writes the files of the last {source.reload_days} days of {source.title}, each as its own run."
        schedules.append(reload_schedule(source, job, _CRON, text, from_day=1))
    return dg.Definitions(assets=assets, jobs=jobs, schedules=schedules)
