"""TROCCO's own metadata as tables, against what the simulator holds."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import duckdb
import pytest

from etl_assets.pipeline import Pipeline
from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets.window import Window

DAY = "2026-01-05"
LISTS = {
    "job_definitions",
    "datamart_definitions",
    "pipeline_definitions",
    "users",
    "teams",
    "resource_groups",
    "labels",
}


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path / "data"))
    with running(vendors=("trocco",), days=3) as sandbox:
        for name, value in sandbox.env().items():
            monkeypatch.setenv(name, value)
        yield sandbox


def load(*streams: str, day: str | None = None) -> None:
    pipeline = Pipeline.from_environment()
    source = pipeline.sources["trocco"]
    api = pipeline.api(source)
    for name in streams:
        stream, window = source.stream(name), Window.of_day(date.fromisoformat(day), source.timezone) if day else None
        pipeline.extract(api, stream, window, "run")
        cleaned = pipeline.clean(source, stream, window, "run")
        assert (cleaned.rows_quarantined, cleaned.undeclared) == (0, {})
        pipeline.load(source, stream, window, "run")
    api.client.close()


def query(sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(Pipeline.from_environment().settings.duckdb_path), read_only=True) as db:
        db.execute("SET TimeZone = 'Asia/Tokyo'")
        return db.execute(sql).fetchall()


def test_every_list_is_loaded_whole(sandbox: Sandbox) -> None:
    connections = [f"{kind}_connections" for kind in ("bigquery", "snowflake", "gcs", "mysql")]
    load(*sorted(LISTS), *connections)
    for name in LISTS:
        expected = [(row["id"], row.get("name", row.get("email"))) for row in sandbox.truth(stream=name)]
        label = "email" if name == "users" else "name"
        assert query(f"SELECT id, {label} FROM trocco.{name} ORDER BY id") == expected
    for name in connections:
        expected = [(row["id"],) for row in sandbox.truth(stream=f"connections/{name.removesuffix('_connections')}")]
        assert query(f"SELECT id FROM trocco.{name} ORDER BY id") == expected


def test_runs_of_a_day_are_those_that_were_created_on_it(sandbox: Sandbox) -> None:
    for day in (DAY, "2026-01-06"):
        load("job_runs", day=day)
        rows = query(
            "SELECT id, status, executor_type, transfer_records, strftime(created_at, '%Y-%m-%d'), run_seconds IS NULL "
            f"FROM trocco.job_runs WHERE _partition = DATE '{day}' ORDER BY id"
        )
        expected = [
            (r["id"], r["status"], r["executor_type"], r["transfer_records"], day, r["started_at"] is None)
            for r in sandbox.truth(stream="job_runs", day=day)
        ]
        assert rows == expected
        assert len(rows) == 24


def test_a_run_that_had_not_ended_gets_its_end_when_its_day_is_loaded_again(sandbox: Sandbox) -> None:
    sandbox.change("plan", plan={"run": 600.0})
    sandbox.change("run", definition=1001)
    (today,) = {row["created_at"][:10] for row in [sandbox_row(sandbox)]}
    load("job_runs", day=today)
    assert query("SELECT status FROM trocco.job_runs") == [("queued",)]
    sandbox.advance(1000)
    load("job_runs", day=today)
    assert query("SELECT status, run_seconds FROM trocco.job_runs") == [("succeeded", 600.1)]


def sandbox_row(sandbox: Sandbox) -> dict[str, str]:
    """The run that was just started."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    now = datetime.now(ZoneInfo("Asia/Tokyo"))
    rows = sandbox.truth(stream="job_runs", day=now.date().isoformat())
    return rows[-1]
