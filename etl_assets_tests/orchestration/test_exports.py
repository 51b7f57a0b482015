"""Exports and replays as Dagster runs them: the right files, from the right tables, and without the API."""

import csv
import os
from pathlib import Path

import dagster as dg
import pytest

from etl_assets.definitions import defs
from etl_assets.errors import StreamFileError
from etl_assets_tests.orchestration.lab import QUIET, Lab, Run

DAY = "2026-01-05"
EXPORTS = """
exports:
  - name: hours
    description: Hours per project.
    sql: |
      SELECT project_name, count(*) AS entries, sum(duration_seconds) AS seconds
      FROM tmetric.time_entries LEFT JOIN ops.loads ON false GROUP BY ALL
    sort: [project_name]
  - name: refused
    description: A column that is not there.
    table: tmetric.time_entries
    columns: [nothing]
    sort: [nothing]
"""


@pytest.fixture
def declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of own sources with two exports."""
    folder = tmp_path / "sources"
    (folder / "export").mkdir(parents=True)
    (folder / "export/mine.yaml").write_text(EXPORTS, "utf-8")
    monkeypatch.setenv("ETL_SOURCES_DIR", str(folder))
    return folder


def read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8-sig", newline="") as handle:
        return list(csv.DictReader(handle, strict=True))


def escaped(note: str) -> str:
    return f"'{note}" if note.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else note


def test_the_file_of_a_day_holds_the_entries_of_the_day(lab: Lab) -> None:
    lab.load(DAY)
    run = lab.job("tmetric_exports", DAY)
    assert run.success, run.failures
    finished = [entry for entry in lab.expected(DAY) if not entry["is_running"]]
    file = lab.data / f"landing/export/timesheet/{DAY}.csv"
    rows = read(file)
    assert [(row["Member"], row["Start"], row["Note"]) for row in rows] == sorted(
        (entry["user_name"], str(entry["start_time_local"]), escaped(entry["note"] or "")) for entry in finished
    )
    metadata = run.metadata("export/timesheet")
    assert metadata["dagster/partition_row_count"] == len(rows)
    assert (metadata["dagster/uri"], metadata["bytes"]) == (str(file), file.stat().st_size)


def test_an_export_of_ones_own_is_an_asset_behind_the_tables_it_reads(lab: Lab, declared: Path) -> None:
    lab.load(DAY)
    spec = {spec.key: spec for spec in defs().resolve_all_asset_specs()}[dg.AssetKey(["export", "hours"])]
    assert [dep.asset_key.path for dep in spec.deps] == [["warehouse", "tmetric", "time_entries"]]
    job = defs().resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(["export", name]) for name in ("hours", "refused")]
    run = Run(
        job.execute_in_process(run_config=QUIET, instance=lab.instance, asset_selection=keys, raise_on_error=False)
    )
    assert run.made == {"export/hours"}
    assert "the SELECT cannot be answered" in run.failures["export/refused"]
    assert run.step_retries == 0
    entries = sum(int(row["entries"]) for row in read(lab.data / "landing/export/hours/hours.csv"))
    assert entries == len(lab.expected(DAY))
    assert not list((lab.data / "landing/export").glob("refused/*"))


def test_an_export_with_the_days_of_nothing_is_refused(declared: Path) -> None:
    (declared / "export/mine.yaml").write_text(
        "exports:\n  - {name: x, description: X., sql: 'SELECT {day}', days_of: nothing}\n", "utf-8"
    )
    with pytest.raises(StreamFileError, match="export 'x': days_of: there is no source 'nothing' with daily streams"):
        defs()


def test_a_replay_needs_neither_the_api_nor_a_credential(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.load(DAY)
    before, asked = lab.content(), lab.sandbox.count()
    (lab.data / "warehouse.duckdb").unlink()
    for name in os.environ:
        if name.startswith("TMETRIC_"):
            monkeypatch.delenv(name)
    config = {"source": "tmetric", "stream": "time_entries"}
    done = Run(
        defs()
        .resolve_job_def("replay")
        .execute_in_process(
            run_config={**QUIET, "ops": {"replay_days": {"config": config}}},
            instance=lab.instance,
            raise_on_error=False,
        )
    )
    assert done.success, done.failures
    assert lab.content() == before
    assert lab.sandbox.count() == asked
    made = [event.partition for event in done.result.get_asset_materialization_events()]
    assert made == [DAY]
