"""SIGKILL: before every single write-like call of a run, in the middle of every write, and at pages of the extract."""

import itertools
import signal
from collections.abc import Callable

import pytest

from etl_assets_tests.chaos.conftest import Make
from etl_assets_tests.chaos.place import ENTRIES, PROJECTS, Killer, Target, either, exact, kill, until

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(600)]

SHARDS = 8
SMOKE = [pytest.mark.smoke]
CASES = [
    ("first", ENTRIES, "before"),
    ("first", ENTRIES, "half"),
    ("reload", ENTRIES, "before"),
    ("reload", ENTRIES, "half"),
    ("reload", PROJECTS, "before"),
]
LAST_PAGE = 22


@pytest.mark.parametrize("shard", [pytest.param(n, marks=SMOKE * (n == 5)) for n in range(SHARDS)])
@pytest.mark.parametrize(("scenario", "target", "mode"), CASES, ids=lambda value: getattr(value, "stream", value))
def test_killed_at_a_write(
    make: Make, scenario: str, target: Target, mode: str, shard: int, record_property: Callable[[str, int], None]
) -> None:
    place = make(scenario)
    before = place.found()
    killer = Killer(place, target, mode)
    for number in itertools.count(shard + 1, SHARDS):
        killed = killer.run(number)
        try:
            if not killed["signal"]:
                break
            assert killed["signal"] == signal.SIGKILL
            either(place, before, target)
            again = killer.run()
            assert (again["signal"], again["code"]) == (0, 0), killer.close()
            exact(place, before, target)
        except AssertionError as error:
            error.add_note(f"killed {mode} call {number}: {killed['at']}")
            raise
        make(scenario)
    assert (killed["code"], killed["calls"] < number) == (0, True), killer.close()
    exact(place, before, target)
    killer.close()
    record_property(f"kills at a write, {scenario} {target.stream} {mode}", (number - shard) // SHARDS)
    assert number > shard + 1, "nothing was killed"


@pytest.mark.parametrize("page", [1, 2, 3, pytest.param(12, marks=SMOKE), LAST_PAGE])
@pytest.mark.parametrize("scenario", ["first", "reload"])
def test_killed_while_a_page_is_awaited(
    make: Make, scenario: str, page: int, record_property: Callable[[str, int], None]
) -> None:
    place = make(scenario)
    before = place.found()
    place.sandbox.fault(skip=page - 1, delay=300)
    child = place.start_steps(*ENTRIES.arguments)
    until(lambda: place.sandbox.faults()[0]["fired"], child)
    assert kill(child).code == -signal.SIGKILL
    record_property(f"kills at a page, {scenario}", 1)
    place.sandbox.clear_faults()
    assert not either(place, before, ENTRIES)
    again = place.run()
    assert again.code == 0, again.err
    exact(place, before)
