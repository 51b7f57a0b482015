"""`make demo`: every source of the sandbox, three days, through Dagster into the warehouse and marts, with a report.

Runs inside `etl-assets sandbox -- …`, which sets the variables that point at the simulators.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
from tabulate import tabulate

from etl_assets.definitions import defs
from etl_assets.mart import SCHEMA
from etl_assets.pipeline import Pipeline
from etl_assets.spec import Source
from etl_assets.sqltext import identifier

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
    rows: int
    seconds: float
    where: str


def main() -> int:
    """Run the demo; 0 only if every step of every source succeeded."""
    pipeline = Pipeline.from_environment()
    resolved = defs()
    seconds: dict[str, float] = {}
    with dg.DagsterInstance.get() as instance:
        runs = [run for source in pipeline.sources.values() for run in _runs(source)]
        for name, partition in [*runs, ("marts", None)]:
            print(f"{name} {partition or ''}".rstrip(), flush=True)
            done = resolved.resolve_job_def(name).execute_in_process(
                run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
                instance=instance,
                partition_key=partition,
                raise_on_error=False,
            )
            if not done.success:
                return _failed(done)
            _add_seconds(seconds, done)
    lines = list(_lines(pipeline, seconds))
    report = pipeline.settings.data_dir / "report.md"
    _write_report(report, lines)
    look = LOOK[pipeline.settings.warehouse].format(
        warehouse=pipeline.settings.duckdb_path, bucket=pipeline.settings.data_dir / "google"
    )
    print(f"\n{_table(lines, 'simple')}\n\nReport: {report}\n\n{NEXT.format(look=look)}")
    return 0


def _runs(source: Source) -> Iterator[tuple[str, str | None]]:
    if any(stream.window is None for stream in source.streams):
        yield f"{source.source}_snapshot", None
    if any(stream.window for stream in source.streams):
        for n in range(DAYS):
            yield f"{source.source}_daily", (FIRST_DAY + timedelta(days=n)).isoformat()


def _failed(done: dg.ExecuteInProcessResult) -> int:
    for event in done.all_events:
        if event.is_failure and event.message:
            print(f"{event.step_key or 'run'}: {event.message}", file=sys.stderr)
            if event.is_step_failure and event.step_failure_data.error:
                print(event.step_failure_data.error.message, file=sys.stderr)
    return 1


def _add_seconds(seconds: dict[str, float], done: dg.ExecuteInProcessResult) -> None:
    for event in done.get_asset_materialization_events():
        layer, *path = event.asset_key.path if event.asset_key else [""]
        spent = event.step_materialization_data.materialization.metadata["seconds"].value
        asset = "/".join([SCHEMA if layer == SCHEMA else "warehouse", *path])
        seconds[asset] = seconds.get(asset, 0.0) + float(str(spent))


def _lines(pipeline: Pipeline, seconds: dict[str, float]) -> Iterator[_Line]:
    for asset, spent in sorted(seconds.items()):
        *_, schema, table = asset.split("/")
        counted = pipeline.warehouse.select(f"SELECT count(*) FROM {identifier(schema)}.{identifier(table)}")
        ((rows,),) = counted.rows
        yield _Line(asset, rows, spent, f"{schema}.{table}")


def _table(lines: list[_Line], style: str) -> str:
    rows = [(line.asset, line.rows, round(line.seconds, 2), line.where) for line in lines]
    return tabulate(rows, headers=["asset", "rows", "seconds", "table"], tablefmt=style)


def _write_report(path: Path, lines: list[_Line]) -> None:
    days = ", ".join((FIRST_DAY + timedelta(days=n)).isoformat() for n in range(DAYS))
    text = f"# Demo\n\nLoaded from the simulators for {days}.\n\n{_table(lines, 'github')}\n"
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(text, "utf-8")
    unfinished.replace(path)


if __name__ == "__main__":
    sys.exit(main())
