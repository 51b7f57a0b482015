"""SIGKILL to a run while it waits for the target: at the token, the id check, and a request carried out or not.

The whole matrix, at every write to disk, is in `etl_assets_tests/chaos/test_push.py`.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from etl_assets.cli import main
from etl_assets_tests.push import steps
from etl_assets_tests.push.place import DECIDED_BY, LOOK_UP, Place, document, things

ROWS = things(10)
EXPECTED = {row["id"]: document(row) for row in ROWS}
PATIENCE_SECONDS = 60.0


def killed_at(place: Place, **fault: Any) -> None:
    """A run in a process of its own, killed when it waits for the answer that the fault holds back."""
    place.sandbox.fault(delay=300, **fault)
    env = {**os.environ, **place.env, "PYTHONPATH": str(Path(__file__).parents[2])}
    child = subprocess.Popen([sys.executable, "-m", steps.__name__], env=env, cwd=place.root)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not place.sandbox.faults()[0]["fired"]:
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    place.sandbox.clear_faults()


@pytest.mark.one_in(3)
@pytest.mark.parametrize("handled", [True, False], ids=["carried out", "not carried out"])
@pytest.mark.parametrize("decider", DECIDED_BY)
def test_killed_while_a_request_is_under_way(place: Place, decider: str, handled: bool) -> None:
    place.declare(service={"limits": {"parallel": 1}}, **DECIDED_BY[decider])
    place.sandbox.change("settings", duplicates="allow")
    place.fill(ROWS)
    killed_at(place, path="/batch", skip=1, handled=handled)
    before = place.states()
    assert sorted(before.values()) == ["pending"] * 2 + ["sending"] * 4 + ["sent"] * 4
    place.run()
    if decider == "nothing":
        assert {i for i, state in place.states().items() if state == "unknown"} == {
            i for i, state in before.items() if state == "sending"
        }
        lost = ["t05", "t06", "t07", "t08"]
        assert place.contents() == {i: EXPECTED[i] for i in EXPECTED if handled or i not in lost}
        if handled:  # somebody looks, and decides
            said = CliRunner().invoke(main, ["queue", "drop", "depot/things", *lost])
        else:
            said = CliRunner().invoke(main, ["queue", "retry", "depot/things", *lost])
        assert said.exit_code == 0, said.output
        place.run()
    assert place.contents() == EXPECTED
    assert set(place.writes().values()) == {1}


@pytest.mark.parametrize("path", ["/token", "/check"])
def test_killed_before_anything_was_sent(place: Place, path: str) -> None:
    place.declare(id_check="update", look_up=LOOK_UP)
    place.fill(ROWS)
    killed_at(place, path=path)
    assert set(place.states().values()) <= {"pending"}
    assert place.run().written == 10
    assert (place.contents(), set(place.writes().values())) == (EXPECTED, {1})


def test_a_killed_run_leaves_no_rows_behind_for_long(place: Place) -> None:
    place.fill(ROWS)
    killed_at(place, path="/batch")
    place.run()
    assert sorted(file.name for file in (place.data / "push").iterdir()) == ["depot.things.lock", "ledger.sqlite"]


@pytest.mark.parametrize("decider", ["key", "look-up"])
def test_a_row_that_changed_since_the_kill_is_decided_first_and_sent_by_the_same_run(
    place: Place, decider: str
) -> None:
    place.declare(service={"limits": {"parallel": 1}}, **DECIDED_BY[decider])
    place.fill(ROWS)
    killed_at(place, path="/batch", skip=1, handled=True)
    changed = [{**row, "qty": row["qty"] + 100} for row in ROWS]
    place.fill(changed)
    place.run()
    assert place.contents() == {row["id"]: document(row) for row in changed}
    assert place.writes() == {row["id"]: 2 if row["qty"] <= 8 else 1 for row in ROWS}
