"""The contract's command line, as a process of its own, in every zone a machine may be set to."""

import json
import subprocess
from pathlib import Path

import pytest

from etl_assets_tests.orchestration.lab import (
    BIN,
    Lab,
    bare_environment,
    command,
    materialize,
    query,
    time_entries,
    without_run,
)

# Commands take seconds each, and several times that on a busy machine.
pytestmark = pytest.mark.timeout(300)

DAY = "2026-01-05"
SELECT = '+key:"warehouse/tmetric/time_entries"'
ZONES = ("UTC", "Asia/Tokyo", "America/New_York")
LOADING = """
import sys
from etl_assets.definitions import defs
job = defs().resolve_job_def("tmetric_daily")
for day in sys.argv[1:]:
    assert job.execute_in_process(partition_key=day).success
"""


def test_the_command_loads_a_day_completely_and_right(lab: Lab, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    env = {**lab.sandbox.env(), "ETL_DATA_DIR": str(lab.data), "DAGSTER_HOME": str(home)}
    done = materialize(SELECT, DAY, env=env)
    assert done.returncode == 0, done.stderr
    assert lab.content() == lab.expected(DAY)
    (load,) = lab.query("FROM ops.loads")
    assert {row["_run_id"] for row in lab.table()} == {load["run_id"]}
    assert load["run_id"] in done.stderr
    assert (load["rows_raw"], load["rows_loaded"]) == (len(lab.table()), len(lab.table()))


@pytest.mark.slow
def test_dg_launches_the_same_assets(lab: Lab, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    env = {**lab.sandbox.env(), "ETL_DATA_DIR": str(lab.data), "DAGSTER_HOME": str(home)}
    done = command("dg", "launch", "--assets", SELECT, "--partition", DAY, env=env)
    assert done.returncode == 0, done.stderr
    assert lab.content() == lab.expected(DAY)


@pytest.mark.slow
def test_the_zone_of_the_machine_changes_nothing(lab: Lab, tmp_path: Path) -> None:
    running = {}
    for zone in ZONES:
        env = {**bare_environment(), **lab.sandbox.env(), "TZ": zone, "ETL_DATA_DIR": str(tmp_path / zone)}
        running[zone] = subprocess.Popen(
            [str(BIN / "python"), "-c", LOADING, DAY, "2026-01-06"], env=env, stderr=subprocess.DEVNULL
        )
    assert {zone: process.wait(100) for zone, process in running.items()} == dict.fromkeys(ZONES, 0)
    tables = [time_entries(tmp_path / zone / "warehouse.duckdb", None) for zone in ZONES]
    contents = [[without_run(row) for row in table] for table in tables]
    assert contents[0] == contents[1] == contents[2]
    assert contents[0] == sorted(lab.expected(DAY) + lab.expected("2026-01-06"), key=lambda row: row["id"])
    windows = [
        query(
            tmp_path / zone / "warehouse.duckdb", "SELECT partition, window_start, window_end FROM ops.loads ORDER BY 1"
        )
        for zone in ZONES
    ]
    assert windows[0] == windows[1] == windows[2]
    clean = [
        json.loads((tmp_path / zone / f"landing/clean/tmetric/time_entries/{DAY}/manifest.json").read_text())
        for zone in ZONES
    ]
    assert len({manifest["details"]["content_hash"] for manifest in clean}) == 1
