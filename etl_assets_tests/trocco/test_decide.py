"""Decisions, without anything being asked or written."""

from dataclasses import replace

import pytest

from etl_assets.trocco import decide
from etl_assets.trocco.api import State
from etl_assets.trocco.decide import Follow, Found, Later, NotStarted, Report, Several, Start
from etl_assets.trocco.ledger import NOT_STARTED, SUPERSEDED, Record
from etl_assets.trocco.observe import Mark, news
from etl_assets_tests.trocco.place import TRANSFER, WORKFLOW, job

NOW = 1_000_000.0
OPEN = Record(
    id=1,
    job="orders",
    partition="2026-01-05",
    kind="transfer",
    definition=1001,
    requester="run-1",
    asked_at=NOW,
    intended_at=NOW,
    watched_since=NOW,
    handed_over=False,
    baseline=10,
)
ENDED = replace(OPEN, job_id=11, outcome="succeeded", ended_at=NOW + 100)


@pytest.mark.parametrize(
    ("latest", "requester", "asked_at", "means"),
    [
        (None, "run-1", NOW, Start),
        (OPEN, "run-1", NOW, Follow),
        (OPEN, "run-2", NOW + 500, Follow),
        (ENDED, "run-1", NOW, Report),
        (ENDED, "run-1", NOW + 500, Report),  # however late the retry comes
        (ENDED, "run-2", NOW + 50, Report),  # asked while it ran
        (ENDED, "run-2", NOW + 101, Start),
        (replace(ENDED, outcome="error"), "run-2", NOW + 101, Start),
        (replace(ENDED, outcome=NOT_STARTED), "run-1", NOW, Start),
        (replace(ENDED, outcome=SUPERSEDED), "run-1", NOW, Start),
    ],
)
def test_what_a_request_means(latest: Record | None, requester: str, asked_at: float, means: type) -> None:
    assert isinstance(decide.on_request(latest, requester, asked_at), means)


def run(number: int, executor: str | None = "api", status: str = "queued") -> State:
    return State(number, status, executor, {})


@pytest.mark.parametrize(
    ("history", "seconds", "became"),
    [
        ([run(9), run(10)], 10, Later(15.0, "a lost answer may still turn up in the history")),
        ([run(9), run(10)], 121, NotStarted()),
        ([run(12, "scheduler"), run(13, "workflow"), run(14, "manual")], 121, NotStarted()),
        ([run(12, "scheduler"), run(13)], 10, Found(13)),
        ([run(13, None)], 10, Found(13)),
        ([run(11)], 121, NotStarted()),  # on record for another trigger
        ([run(14), run(12)], 10, Several((12, 14))),
    ],
)
def test_what_became_of_a_lost_answer(history: list[State], seconds: float, became: object) -> None:
    assert decide.lost(OPEN, history, {11}, NOW + seconds, 120) == became


def test_an_error_of_a_workflow_counts_when_it_stays() -> None:
    wanted, record = job(WORKFLOW), replace(OPEN, kind="workflow", job_id=1)
    seen = decide.observed(record, run(1, status="error"), wanted, NOW)
    assert seen.outcome is None
    assert decide.observed(seen, run(1, status="retry_waiting"), wanted, NOW + 30).outcome is None
    assert decide.observed(seen, run(1, status="error"), wanted, NOW + 71).outcome == "error"


def test_deadlines_of_queue_and_run_are_counted_apart() -> None:
    wanted, hour = job(TRANSFER, queue_deadline="1h", run_deadline="2h"), 3600
    queued = replace(OPEN, job_id=1, status="queued")
    assert decide.late(queued, wanted, NOW + hour) is None
    assert decide.late(queued, wanted, NOW + hour + 1) == "still in the queue after 1:00:00"
    running = replace(queued, left_queue_at=NOW + 5 * hour)
    assert decide.late(running, wanted, NOW + 7 * hour) is None
    assert decide.late(running, wanted, NOW + 7 * hour + 1) == "still running after 2:00:00"
    assert decide.late(replace(running, watched_since=NOW + 7 * hour), wanted, NOW + 8 * hour) is None


def test_looks_become_rarer_with_age_and_never_too_rare() -> None:
    delays = [decide.delay(OPEN, NOW + age) for age in (0, 10, 60, 300, 3600, 86_400)]
    assert delays == [1, 5, 15, 30, 60, 60]


@pytest.mark.parametrize("pace", [1.0, 30.0, 59.0, 60.0, 300.0, 10_000.0])
def test_ticks_of_any_pace_stay_within_the_rate(pace: float) -> None:
    calls = decide.allowance(3500, 600, pace)
    assert calls >= 1
    assert calls * (600 / pace + 1) <= 3500


def observed(number: int, created: str, status: str = "succeeded") -> State:
    return State(number, status, "scheduler", {"created_at": f"2026-01-05T{created}.500+09:00"})


def test_each_end_is_news_once_however_long_the_run() -> None:
    mark, told = Mark(0.0), []
    histories = [
        [observed(1, "01:00:00"), observed(2, "01:00:01", "executing"), observed(3, "01:00:02")],
        [observed(2, "01:00:01", "executing"), observed(3, "01:00:02"), observed(4, "02:00:00", "error")],
        [observed(2, "01:00:01"), observed(3, "01:00:02"), observed(4, "02:00:00", "error")],
        [observed(4, "02:00:00", "error"), observed(5, "02:00:00")],
    ]
    for history in histories:
        found, mark = news(history, mark)
        told.append([state.id for state in found])
    assert told == [[1, 3], [4], [2], [5]]
    assert len(mark.seen) <= 2
