"""Runs at the same time: of the same day, of many days, and next to a reader who does not let go."""

import signal
import subprocess
import sys

import duckdb
import pytest

from etl_assets_tests.chaos import gap, killer, steps
from etl_assets_tests.chaos.conftest import Make
from etl_assets_tests.chaos.place import ENTRIES, NEIGHBOUR, PROJECTS, Found, Place, Target, either, ended, exact, until

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

SMOKE = pytest.mark.smoke
LAST_PAGE = 22
SIX_DAYS = [Target(day=f"2026-01-{day:02}") for day in range(5, 11)]
READER = "import duckdb, sys; db = duckdb.connect(sys.argv[1], read_only=True); print('open', flush=True); input()"
STILL_WAITING_SECONDS = 1.0
TIME_TO_STOP_SECONDS = 3.0


@pytest.mark.parametrize("scenario", ["first", "reload"])
@pytest.mark.parametrize("page", [1, 12, pytest.param(LAST_PAGE, marks=SMOKE)])
def test_a_run_is_overtaken_by_one_that_sees_a_changed_source(make: Make, scenario: str, page: int) -> None:
    """The slow one began first and may hold older rows. The last word has the run that asks last."""
    place = make(scenario)
    before = place.found()
    place.sandbox.fault(skip=page - 1, delay=TIME_TO_STOP_SECONDS)
    slow = place.start_steps(*ENTRIES.arguments, TMETRIC_PARALLEL="1")  # a slot more would be held from the quick one
    until(lambda: place.sandbox.faults()[0]["fired"], slow)
    slow.send_signal(signal.SIGSTOP)
    change(place)
    quick = place.run()
    assert quick.code == 0, quick.err
    exact(place, before)
    slow.send_signal(signal.SIGCONT)
    assert ended(slow).code == 0
    assert place.run().code == 0
    exact(place, before)


@pytest.mark.parametrize("scenario", ["first", "reload"])
@pytest.mark.parametrize("attempt", [pytest.param(0, marks=SMOKE), 1, 2, 3])
def test_two_runs_of_a_day_at_once(make: Make, scenario: str, attempt: int) -> None:
    """Whatever comes first: both succeed with the same rows, and of each run there is an entry in `ops.loads`."""
    place = make(scenario)
    before = place.found()
    for child in [place.start_steps(*ENTRIES.arguments) for _ in range(2)]:
        done = ended(child)
        assert done.code == 0, done.err
    exact(place, before)
    assert len(place.found().of(ENTRIES, "ops.loads")) == len(before.of(ENTRIES, "ops.loads")) + 2
    change(place)
    assert place.run().code == 0
    exact(place, before)


@pytest.mark.parametrize("scenario", ["first", pytest.param("reload", marks=SMOKE)])
def test_six_days_at_once(make: Make, scenario: str) -> None:
    at_once(make(scenario), SIX_DAYS)


@pytest.mark.parametrize("scenario", ["first", "reload"])
def test_streams_at_once(make: Make, scenario: str) -> None:
    at_once(make(scenario), [ENTRIES, NEIGHBOUR, PROJECTS])


@pytest.mark.smoke
def test_a_run_waits_for_a_reader_and_then_succeeds(make: Make) -> None:
    place = make("reload")
    before = place.found()
    reader = reading(place)
    child = place.start_steps(*ENTRIES.arguments)
    assert [said(child) for _ in range(3)] == ["extract", "clean", "load"]
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(timeout=STILL_WAITING_SECONDS)
    assert place.found() == before
    assert reader.communicate("done\n")[1] == ""
    done = ended(child)
    assert done.code == 0, done.err
    exact(place, before)


def test_a_run_does_not_wait_for_ever(make: Make) -> None:
    place = make("reload")
    before = place.found()
    reader = reading(place)
    done = place.run(DUCKDB_LOCK_TIMEOUT_SECONDS="0.5")
    assert done.error == "LockedError", done.err
    assert str(reader.pid) in done.err, "it does not say who holds the file"
    assert not either(place, before, ENTRIES)
    reader.communicate("done\n")
    assert place.run().code == 0
    exact(place, before)


@pytest.mark.parametrize("scenario", ["first", "reload"])
def test_runs_of_a_day_while_another_is_killed(make: Make, scenario: str) -> None:
    """A dead run holds no lock, no slot and no place in a rate."""
    place = make(scenario)
    before = place.found()
    place.sandbox.fault(skip=5, times=4, delay=300)  # all slots of the limiter are taken
    dying = place.start_steps(*ENTRIES.arguments)
    until(lambda: place.sandbox.faults()[0]["fired"] == 4, dying)
    waiting = place.start_steps(*ENTRIES.arguments)
    assert said(waiting) == "extract"
    dying.kill()
    dying.communicate()
    done = ended(waiting)
    assert done.code == 0, done.err
    exact(place, before)


@pytest.mark.smoke
def test_what_another_program_commits_while_a_run_opens_the_file_is_kept(make: Make) -> None:
    """DuckDB looks at the file before it locks it, and would write over what came in between."""
    place = make("reload")
    before = place.found()
    child = pausing(place)
    with duckdb.connect(str(place.data / "warehouse.duckdb")) as db:
        db.execute("CREATE TABLE notes AS SELECT 'kept' AS note")
    done = ended(child)
    assert done.code == 0, done.err
    exact(place, before)
    with duckdb.connect(str(place.data / "warehouse.duckdb"), read_only=True) as db:
        assert db.execute("FROM notes").fetchall() == [("kept",)]


@pytest.mark.smoke
def test_no_run_writes_while_another_opens_the_file(make: Make) -> None:
    place = make("reload")
    before = place.found()
    child = pausing(place)
    other = place.start_steps(*NEIGHBOUR.arguments)
    assert [said(other) for _ in range(3)] == ["extract", "clean", "load"]
    with pytest.raises(subprocess.TimeoutExpired):
        other.wait(timeout=STILL_WAITING_SECONDS)
    for done in (ended(child), ended(other)):
        assert done.code == 0, done.err
    exact(place, _with_others(before, place.found(), ENTRIES))
    exact(place, _with_others(before, place.found(), NEIGHBOUR), NEIGHBOUR)


def change(place: Place) -> None:
    first, *_, last = (row["id"] for row in place.sandbox.truth(day=str(ENTRIES.day)))
    place.sandbox.change("entries", update=[{"id": first, "note": "changed meanwhile"}], delete=[last])


def at_once(place: Place, targets: list[Target]) -> None:
    before = place.found()
    children = [place.start_steps(*target.arguments) for target in targets]
    for done in map(ended, children):
        assert done.code == 0, done.err
    for target in targets:
        exact(place, _with_others(before, place.found(), target), target)


def _with_others(before: Found, now: Found, target: Target) -> Found:
    """What was there before the run of the target, with what the other runs have made of the rest."""
    tables = {name: [*rows, *before.of(target, name)] for name, rows in now.without(target).items()}
    return Found(tables, before.hashes)


def reading(place: Place) -> "subprocess.Popen[str]":
    """Another program with a connection open."""
    command = [sys.executable, "-c", READER, str(place.data / "warehouse.duckdb")]
    pipe = subprocess.PIPE
    reader = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert said(reader) == "open"
    return reader


def pausing(place: Place) -> "subprocess.Popen[str]":
    """A run of the day that has looked at the warehouse file and not locked it yet; it goes on with a line of stdin."""
    child = place.start(
        [sys.executable, "-m", gap.__name__, str(place.data / "warehouse.duckdb"), steps.__name__, *ENTRIES.arguments]
    )
    heard = said(child)
    if not heard and child.wait() == killer.CANNOT:
        pytest.skip("processes cannot be traced here")
    assert heard == "gap"
    return child


def said(child: "subprocess.Popen[str]") -> str:
    """The next line that the child prints."""
    assert child.stdout
    return child.stdout.readline().strip()
