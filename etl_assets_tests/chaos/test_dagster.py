"""SIGKILL in the middle of `dagster asset materialize`, at three moments; then the same command plainly."""

import contextlib
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from etl_assets_tests.chaos.conftest import Make
from etl_assets_tests.chaos.place import DAY, ENTRIES, REPOSITORY, Place, either, ended, exact, kill, until

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(300)]

COMMAND = [
    str(Path(sys.executable).with_name("dagster")),
    *("asset", "materialize", "-m", "etl_assets.definitions"),
    *("--select", '+key:"warehouse/tmetric/time_entries"', "--partition", DAY),
]


@pytest.mark.parametrize("moment", ["raw", pytest.param("clean", marks=pytest.mark.smoke), "load"])
def test_killed_command(make: Make, moment: str, tmp_path: Path) -> None:
    place = make("reload")
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(REPOSITORY / "dagster.yaml", home)
    place.more["DAGSTER_HOME"] = str(home)
    before = place.found()
    MOMENTS[moment](place)
    assert not either(place, before, ENTRIES)
    place.sandbox.clear_faults()
    again = ended(place.start(COMMAND))
    assert again.code == 0, again.err
    exact(place, before)


def kill_in_raw(place: Place) -> None:
    place.sandbox.fault(skip=9, delay=300)
    child = place.start(COMMAND)
    until(lambda: place.sandbox.faults()[0]["fired"], child)
    assert kill(child).code == -signal.SIGKILL


def kill_in_clean(place: Place) -> None:
    """As soon as the folder appears in which it works."""
    folder = place.data / "landing/clean/tmetric/time_entries" / DAY
    child = place.start(COMMAND)
    until(lambda: any(folder.glob(".tmp-*")), child)
    assert kill(child).code == -signal.SIGKILL


def kill_in_load(place: Place) -> None:
    """While it waits for a reader to let go of the file."""
    with duckdb.connect(str(place.data / "warehouse.duckdb"), read_only=True):
        child = place.start(COMMAND)
        until(lambda: _begun(Path(place.more["DAGSTER_HOME"]), "warehouse__tmetric__time_entries"), child)
        assert kill(child).code == -signal.SIGKILL


def _begun(home: Path, step: str) -> bool:
    """Whether the event log says that the step has started."""
    runs = home / "history" / "runs"
    for file in set(runs.glob("*.db")) - {runs / "index.db"}:
        sql = "SELECT 1 FROM event_logs WHERE dagster_event_type = 'STEP_START' AND step_key = ?"
        # The file may not be made yet, nor its table, and it may be locked.
        with contextlib.suppress(sqlite3.OperationalError), _opened(file) as db:
            return bool(db.execute(sql, [step]).fetchall())
    return False


def _opened(file: Path) -> "contextlib.closing[sqlite3.Connection]":
    return contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True))


MOMENTS: dict[str, Callable[[Place], None]] = {"raw": kill_in_raw, "clean": kill_in_clean, "load": kill_in_load}
