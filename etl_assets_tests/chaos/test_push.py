"""SIGKILL before every write-like call of a push: afterwards ledger, target and queue agree, and a run completes it."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from etl_assets.cli import main
from etl_assets.push.ledger import QUEUED
from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets_tests.chaos import killer
from etl_assets_tests.push import steps
from etl_assets_tests.push.place import DECIDED_BY, LOOK_UP, Place, Row, document, things

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(600)]

SHARDS = 6
BEFORE = things(7)
AFTER = [*({**row, "qty": row["qty"] + 100} if row["qty"] < 4 else row for row in BEFORE[:-1]), *things(9)[7:]]
"""Three changed, three as they were, one gone, two new."""


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running(vendors=("depot",)) as sandbox:
        yield sandbox


@pytest.fixture
def place(tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path, sandbox)
    for name, value in place.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return place


@contextmanager
def killing(place: Place) -> Iterator[Callable[[int], Row]]:
    """Runs of the push, killed at the write-like call of that number; 0 for a run to its end."""
    command = [sys.executable, "-m", killer.__name__, str(place.data), "before", steps.__name__]
    env = {**os.environ, **place.env, "PYTHONPATH": str(Path(__file__).parents[2])}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, cwd=place.root, stdin=pipe, stdout=pipe, text=True) as child:

        def run(number: int) -> Row:
            assert child.stdin
            assert child.stdout
            child.stdin.write(f"{number}\n")
            child.stdin.flush()
            if line := child.stdout.readline():
                report: Row = json.loads(line)
                return report
            if child.wait() == killer.CANNOT:
                pytest.skip("processes cannot be traced here")
            raise AssertionError("the killer ended")

        yield run
        assert child.stdin
        child.stdin.close()


@pytest.mark.parametrize("shard", [pytest.param(n, marks=[pytest.mark.smoke] * (n == 3)) for n in range(SHARDS)])
@pytest.mark.parametrize("scenario", ["first", "again"])
@pytest.mark.parametrize("decider", DECIDED_BY)
def test_killed_at_a_write(
    place: Place, decider: str, scenario: str, shard: int, record_property: Callable[[str, int], None]
) -> None:
    declared = {**DECIDED_BY[decider], **({"look_up": LOOK_UP} if decider == "field" else {})}  # for deletions
    place.declare(service={"limits": {"parallel": 2}}, removed={"action": "delete", "at_most": 1.0}, **declared)
    prepare(place, scenario)
    saved = place.root / "saved"
    shutil.copytree(place.data, saved)
    with killing(place) as run:
        for number in itertools.count(shard + 1, SHARDS):
            killed = run(number)
            try:
                if not killed["signal"]:
                    break
                assert killed["signal"] == signal.SIGKILL
                agree(place, scenario)
                assert run(0)["code"] == 0
                if decider == "nothing":
                    decide_by_hand(place)
                    assert run(0)["code"] == 0
                complete(place, scenario)
            except AssertionError as error:
                error.add_note(f"killed before call {number}: {killed['at']}")
                raise
            place.sandbox.change("empty")
            if scenario == "again":
                prepare_target(place)
            shutil.rmtree(place.data)
            shutil.copytree(saved, place.data)
    assert (killed["code"], killed["calls"] < number) == (0, True)
    complete(place, scenario)
    record_property(f"kills of a push, {scenario}, decided by {decider}", (number - shard) // SHARDS)
    assert number > shard + 1, "nothing was killed"


def prepare(place: Place, scenario: str) -> None:
    """A warehouse with rows, for `again` after a run on the rows that were there before."""
    place.sandbox.change("settings", duplicates="allow" if scenario == "first" else "update")
    if scenario == "again":
        place.fill(BEFORE)
        place.run()
        place.sandbox.change("empty")
        prepare_target(place)
    place.fill(AFTER)


def prepare_target(place: Place) -> None:
    """The target as it was after the run on the rows before, by other means."""
    for row in BEFORE:
        place.sandbox.change("foreign", kind="things", id=row["id"], content=document(row))


def agree(place: Place, scenario: str) -> None:
    """What the ledger is sure of is so at the target; the queue lists what is not done."""
    there, writes = place.contents(), place.writes()
    before = {row["id"]: document(row) for row in BEFORE} if scenario == "again" else {}
    after = {row["id"]: document(row) for row in AFTER}
    for record_id, entry in place.ledger().items():
        if entry["state"] == "sent":
            assert there[record_id] in (after.get(record_id), before.get(record_id)), record_id
        if entry["state"] == "pending":
            assert there.get(record_id) == before.get(record_id), record_id
        if entry["state"] == "deleted":
            assert record_id not in there
    assert all(count <= (2 if record_id in before else 1) for record_id, count in writes.items())
    said = CliRunner().invoke(main, ["queue", "list", "--json"])
    queue = (
        {line["record_id"]: line["state"] for line in map(json.loads, said.output.splitlines())}
        if place.ledger()
        else {}
    )
    assert queue == {record_id: state for record_id, state in place.states().items() if state in QUEUED}


def decide_by_hand(place: Place) -> None:
    """Look at the target for the records of which nothing is known, and say what follows."""
    there, after = place.contents(), {row["id"]: document(row) for row in AFTER}
    for record_id, state in place.states().items():
        if state == "unknown":
            arrived = there.get(record_id) == after.get(record_id)
            command = "drop" if arrived else "retry"
            assert CliRunner().invoke(main, ["queue", command, "depot/things", record_id]).exit_code == 0


def complete(place: Place, scenario: str) -> None:
    """The target holds the rows, each written once for each of its contents, and nothing is left to do."""
    after = {row["id"]: document(row) for row in AFTER}
    assert place.contents() == after
    known = {row["id"]: document(row) for row in BEFORE} if scenario == "again" else {}
    changed = {record_id for record_id in known if after.get(record_id, known[record_id]) != known[record_id]}
    assert place.writes() == {record_id: 2 if record_id in changed else 1 for record_id in {**known, **after}}
    states = place.states()
    assert {state for record_id, state in states.items() if record_id in after} <= {"sent", "dropped"}
    assert {state for record_id, state in states.items() if record_id not in after} <= {"deleted", "dropped"}


def test_the_rows_are_what_they_are_said_to_be() -> None:
    ids: dict[str, Any] = {row["id"]: row for row in BEFORE}
    assert sum(row != ids[row["id"]] for row in AFTER if row["id"] in ids) == 3
    assert len(AFTER) == 8
