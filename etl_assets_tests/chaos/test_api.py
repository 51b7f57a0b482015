"""Faults of the API during a run: the exact table or the table as before, and never more requests than promised."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from etl_assets.client import ATTEMPTS
from etl_assets_tests.chaos import steps
from etl_assets_tests.chaos.conftest import Make
from etl_assets_tests.chaos.place import DAY, ENTRIES, NEIGHBOUR, PROJECTS, either, exact

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

REQUESTS = 22  # statuses, members, and the entries of 20 members
PARALLEL = 4
FOREVER = -1
# Only the requests for entries carry a user.
ENTRIES_ONLY = {"query": {"startDate": "2026-01-04"}}
ONE_MEMBER = {"query": {"userId": 705}}
UNFIT = [{"id": number, "startTime": "some time", "endTime": None} for number in range(200)]


@dataclass(frozen=True)
class Cell:
    """A fault, the type of error that the run ends with (none: it succeeds), and the most requests it may send."""

    fault: dict[str, Any]
    error: str = ""
    requests: int = REQUESTS
    env: dict[str, str] = field(default_factory=dict)


def passing(times: int, /, **fault: Any) -> Cell:
    """A fault that goes away: every request that it hits is sent once more."""
    return Cell({"times": times, **fault}, requests=REQUESTS + times)


def lasting(error: str, /, hits: int, **fault: Any) -> Cell:
    """A fault that stays; `hits` is how often it may be met before the run gives up."""
    return Cell({"times": FOREVER, **fault}, error, REQUESTS + hits)


QUICK = {"ETL_TOTAL_TIMEOUT_SECONDS": "1.5", "ETL_READ_TIMEOUT_SECONDS": "0.5"}
GIVES_UP = 2 * PARALLEL * ATTEMPTS  # threads go on as far as they may be ahead of the member that fails
CELLS = {
    "500s that pass": passing(5, status=500),
    "503s that pass, one in the middle": passing(6, status=503, skip=11),
    "429s that pass": passing(6, status=429, headers={"Retry-After": "0"}, **ENTRIES_ONLY),
    "cut bodies that pass": passing(6, cut=40, **ENTRIES_ONLY),
    "bodies cut before the first byte": passing(6, cut=0),
    "resets that pass": passing(6, reset=True),
    "resets after the request was carried out": passing(6, reset=True, handled=True),
    "HTML with 200 that passes": passing(6, html=True),
    "empty 200 that passes": passing(6, empty=True, **ENTRIES_ONLY),
    "half a JSON with 200 that passes": passing(6, body='[{"id": 1, "startT', **ENTRIES_ONLY),
    "silence that passes": Cell(
        {"delay": 300, "times": 2, **ENTRIES_ONLY}, requests=REQUESTS + 2, env={"ETL_READ_TIMEOUT_SECONDS": "0.5"}
    ),
    "a slow drip that is fast enough": Cell({"drip": 0.01, "chunk": 200, "times": 3, **ENTRIES_ONLY}),
    "drips slower than the deadline": Cell(
        {"drip": 0.2, "chunk": 1, "times": FOREVER, **ENTRIES_ONLY}, "ApiUnavailable", 2 + GIVES_UP, QUICK
    ),
    "silence for good": Cell({"delay": 300, "times": FOREVER, **ENTRIES_ONLY}, "ApiUnavailable", 2 + GIVES_UP, QUICK),
    "500 for good": lasting("ApiUnavailable", status=500, hits=GIVES_UP),
    "500 for good for one member": lasting("ApiUnavailable", status=500, hits=ATTEMPTS, **ONE_MEMBER),
    "429 for good": lasting("ApiUnavailable", status=429, headers={"Retry-After": "0"}, hits=GIVES_UP, **ENTRIES_ONLY),
    "429 that asks for more than the deadline": Cell(
        {"status": 429, "headers": {"Retry-After": "4"}, **ONE_MEMBER}, "ApiUnavailable", REQUESTS, QUICK
    ),
    "cut bodies for good": lasting("ApiUnavailable", cut=40, hits=GIVES_UP, **ENTRIES_ONLY),
    "HTML with 200 for good": lasting("ApiUnavailable", html=True, hits=ATTEMPTS, **ONE_MEMBER),
    "empty 200 for good": lasting("ApiUnavailable", empty=True, hits=ATTEMPTS, **ONE_MEMBER),
    "401 in the middle of the run": lasting("ApiError", status=401, skip=9, hits=0),
    "400 for one member": lasting("ApiError", status=400, hits=0, **ONE_MEMBER),
    "404 for one member": lasting("ApiError", status=404, hits=0, **ONE_MEMBER),
    "an object instead of a list": lasting("ApiError", body={}, hits=0, **ONE_MEMBER),
    "an error with 200 instead of a list": lasting("ApiError", body={"message": "Busy"}, hits=0, **ONE_MEMBER),
    "a text instead of a list": lasting("ApiError", body='"busy"', hits=0, **ONE_MEMBER),
    "members without an id": lasting("ApiError", body=[{"userName": "?"}], hits=0, path="/members"),
    "rows that are no objects": lasting("QuarantineError", body=[[1], 2, "x"] * 50, hits=0, **ONE_MEMBER),
    "rows that do not fit, beyond the limit": lasting("QuarantineError", body=UNFIT, hits=0, **ONE_MEMBER),
}
SMOKE = {
    "500s that pass",
    "cut bodies that pass",
    "500 for good for one member",
    "401 in the middle of the run",
    "an object instead of a list",
    "rows that do not fit, beyond the limit",
}


@pytest.mark.parametrize("scenario", ["first", "reload"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.smoke] * (name in SMOKE)) for name in CELLS])
def test_fault_of_the_api(make: Make, scenario: str, name: str) -> None:
    cell, place = CELLS[name], make(scenario)
    before = place.found()
    place.sandbox.fault(**cell.fault)
    done = place.run(**cell.env)
    assert place.sandbox.faults()[0]["fired"], "the fault was never met"
    assert place.sandbox.count() <= cell.requests, done.err
    assert (done.code, done.error) == (steps.TYPED if cell.error else 0, cell.error), done.err
    assert either(place, before, ENTRIES) == (done.code == 0)
    place.sandbox.clear_faults()
    again = place.run()
    assert again.code == 0, again.err
    exact(place, before)


@pytest.mark.parametrize("scenario", ["first", "reload"])
def test_the_token_is_replaced_in_the_middle_of_the_run(make: Make, scenario: str) -> None:
    place = make(scenario)
    before = place.found()
    place.sandbox.change("token", after={"path": "/timeentries", "count": 9})
    done = place.run()
    assert done.error == "ApiError"
    assert place.sandbox.count() <= REQUESTS
    assert not either(place, before, ENTRIES)
    assert place.run().code == 0  # with the new one, which the sandbox tells
    exact(place, before)


@pytest.mark.parametrize("fault", [{"status": 500}, {"body": {}}, {"reset": True}], ids=str)
def test_fault_of_the_api_for_a_snapshot(make: Make, fault: dict[str, Any]) -> None:
    place = make("reload")
    before = place.found()
    place.sandbox.fault(**fault, times=FOREVER)
    done = place.run(PROJECTS)
    assert done.code == steps.TYPED, done.err
    assert place.sandbox.count() <= ATTEMPTS
    assert not either(place, before, PROJECTS)
    place.sandbox.clear_faults()
    assert place.run(PROJECTS).code == 0
    exact(place, before, PROJECTS)


def test_a_day_that_becomes_empty_is_emptied(make: Make) -> None:
    place = make("reload")
    before = place.found()
    place.sandbox.change("entries", delete=[row["id"] for row in place.sandbox.truth(day=DAY)])
    assert place.run().code == 0
    exact(place, before)
    assert not place.found().of(ENTRIES)
    assert place.found().of(NEIGHBOUR)
