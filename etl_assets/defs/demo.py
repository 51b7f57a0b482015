"""`make demo`: every source of the sandbox, three days, through Dagster into the warehouse; then marts, exports, pushes
and jobs of TROCCO; with a report.

Runs inside `etl-assets sandbox -- …`, which sets the variables that point at the simulators.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
from tabulate import tabulate

from etl_assets.definitions import defs
from etl_assets.defs.trocco import LAYER as TROCCO
from etl_assets.defs.trocco import specs
from etl_assets.export import load_exports
from etl_assets.outfile import replacing
from etl_assets.pipeline import Pipeline
from etl_assets.push.files import load_targets
from etl_assets.sqltext import identifier
from etl_assets.trocco.run import jobs_of

FIRST_DAY = date(2026, 1, 5)
DAYS = 3
NEXT = """What to try next:
  make dev                          the Dagster UI on http://127.0.0.1:3000, with the simulators behind it
  {look}
  cp .env.example .env              fill in your own credentials, then: etl-assets check
  docs/streams.md                   declare a further endpoint in a few lines of YAML"""
LOOK = {
    "duckdb": """duckdb {warehouse}
                                    or any other DuckDB client: SELECT * FROM mart.worklog""",
    "bigquery": """docs/bigquery.md                  a project, a bucket and a service account of your own
                                    (the tables of the emulator are gone now, its bucket is in {bucket})""",
}


@dataclass(frozen=True)
class _Line:
    asset: str
    rows: int | None
    seconds: float
    where: str


def main() -> int:
    """Run the demo; 0 only if every step of every source succeeded."""
    pipeline = Pipeline.from_environment()
    resolved = defs()
    lines: dict[str, _Line] = {}
    triggered = [spec.key for job in jobs_of(pipeline).values() if job.demo for spec in specs(job)]
    with dg.DagsterInstance.get() as instance:
        for name, partition in _runs(pipeline):
            print(f"{name} {partition or ''}".rstrip(), flush=True)
            triggers = name == TROCCO
            job = resolved.resolve_implicit_global_asset_job_def() if triggers else resolved.resolve_job_def(name)
            done = job.execute_in_process(
                run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
                instance=instance,
                partition_key=partition,
                raise_on_error=False,
                asset_selection=triggered if triggers else None,
            )
            if not done.success:
                return _failed(done)
            for event in done.get_asset_materialization_events():
                _add(lines, event)
    shown = [_counted(pipeline, line) for _, line in sorted(lines.items())]
    report = pipeline.settings.data_dir / "report.md"
    _write_report(report, shown)
    look = LOOK[pipeline.settings.warehouse].format(
        warehouse=pipeline.settings.duckdb_path, bucket=pipeline.settings.data_dir / "google"
    )
    print(f"\n{_table(shown, 'simple')}\n\nReport: {report}\n\n{NEXT.format(look=look)}")
    return 0


def _runs(pipeline: Pipeline) -> Iterator[tuple[str, str | None]]:
    """Jobs and days, in their order."""
    for source in pipeline.sources.values():
        if any(stream.window is None for stream in source.streams):
            yield f"{source.source}_snapshot", None
        if any(stream.window for stream in source.streams):
            yield from ((f"{source.source}_daily", day) for day in _days())
    yield "marts", None
    exports = load_exports(pipeline.settings.sources_dir)
    if any(not export.days_of for export in exports):
        yield "exports", None
    for name in sorted({export.days_of for export in exports if export.days_of}):
        yield from ((f"{name}_exports", day) for day in _days())
    for name in load_targets(pipeline.settings.sources_dir):
        yield f"{name}_push", None
    yield from ((TROCCO, day) for day in _days())


def _days() -> list[str]:
    return [(FIRST_DAY + timedelta(days=n)).isoformat() for n in range(DAYS)]


def _failed(done: dg.ExecuteInProcessResult) -> int:
    for event in done.all_events:
        if event.is_failure and event.message:
            print(f"{event.step_key or 'run'}: {event.message}", file=sys.stderr)
            if event.is_step_failure and event.step_failure_data.error:
                print(event.step_failure_data.error.message, file=sys.stderr)
    return 1


def _add(lines: dict[str, _Line], event: dg.DagsterEvent) -> None:
    """Add what an asset did to its line; the steps of a table share one."""
    assert event.asset_key is not None
    layer, *path = event.asset_key.path
    told = {name: entry.value for name, entry in event.step_materialization_data.materialization.metadata.items()}
    rows: object = None
    where: str
    match layer:
        case "export":
            rows = told.get("dagster/partition_row_count", told.get("dagster/row_count"))
            where = Path(str(told["dagster/uri"])).name
        case "push":
            rows, where = int(str(told["sent"])) + int(str(told["unchanged"])), str(told["dagster/uri"])
        case "trocco":
            rows, where = told.get("records"), str(told["job"])
        case "mart":
            where = ".".join([layer, *path])
        case "raw" | "clean" | "warehouse":
            layer, where = "warehouse", ".".join(path)
        case _:  # what a job of TROCCO says it has produced
            return
    asset = "/".join([layer, *path])
    before = lines.get(asset, _Line(asset, None, 0.0, ""))
    total = before.rows if rows is None else (before.rows or 0) + int(str(rows))
    lines[asset] = _Line(asset, total, before.seconds + float(str(told["seconds"])), where)


def _counted(pipeline: Pipeline, line: _Line) -> _Line:
    """Of a table, the rows that are in it."""
    if not line.asset.startswith(("warehouse/", "mart/")):
        return line
    table = ".".join(map(identifier, line.where.split(".")))
    ((rows,),) = pipeline.warehouse.select(f"SELECT count(*) FROM {table}").rows
    return replace(line, rows=rows)


def _table(lines: list[_Line], style: str) -> str:
    rows = [(line.asset, line.rows, round(line.seconds, 2), line.where) for line in lines]
    return tabulate(rows, headers=["asset", "rows", "seconds", "where"], tablefmt=style)


def _write_report(path: Path, lines: list[_Line]) -> None:
    days = ", ".join(_days())
    text = f"# Demo\n\nLoaded from the simulators for {days}.\n\n{_table(lines, 'github')}\n"
    with replacing(path) as unfinished:
        unfinished.write_text(text, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
