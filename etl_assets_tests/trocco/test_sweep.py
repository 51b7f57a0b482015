"""Waiting for many jobs at once: the sensor's batch, within the rate limit, without holding anything."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from etl_assets.auth import authoriser
from etl_assets.client import Client
from etl_assets.errors import RetryableError
from etl_assets.limiter import Limiter
from etl_assets.pipeline import Pipeline
from etl_assets.settings import connection
from etl_assets.trocco import decide
from etl_assets.trocco.api import Trocco
from etl_assets.trocco.ledger import LOOK, TRIGGER
from etl_assets.trocco.run import Request, Runner, ledger_of
from etl_assets_tests.trocco.place import TRANSFER, WORKFLOW, Place, Skipping, job

CALLS, SECONDS = 3_500, 600
TICK = 30.0
JOBS = 500


@contextmanager
def unlimited(place: Place, clock: Skipping) -> Iterator[Runner]:
    """A runner whose client holds no rate: what keeps to the limit is the sweep alone."""
    pipeline = Pipeline.from_environment()
    source = pipeline.sources["trocco"]
    reached = connection(source)
    client = Client(
        reached.base_url,
        authoriser=authoriser(source.auth, reached.values, place.folder / "tokens"),
        limiter=Limiter(place.folder / "limits", "test", parallel=4, rates={}),
        timeouts=pipeline.settings.timeouts,
        retry_base_seconds=0.001,
        max_response_bytes=1_000_000,
        connections=4,
    )
    try:
        yield Runner(Trocco(client, reached.base_url), ledger_of(pipeline), clock, lambda sql: False, 10.0)
    finally:
        client.close()


def handed_over(place: Place, runner: Runner, count: int) -> None:
    """So many open jobs that the sensor waits for, started without the API's help to keep the test short."""
    wanted = job(WORKFLOW)
    first = runner.started(Request(wanted, "0", "run", runner.clock.now(), handed_over=True))
    for number in range(1, count):
        started = place.sandbox.change("run", kind="workflow", definition=3002)
        record = runner.ledger.intend(replace(first, partition=str(number), job_id=None))
        runner.ledger.keep(replace(record, job_id=started["id"]), TRIGGER)


@pytest.mark.slow
def test_five_hundred_jobs_are_polled_within_the_limit(place: Place) -> None:
    place.sandbox.change("settings", plan={"run": 780.0})
    clock = place.clock
    wanted = {"morning": job(WORKFLOW)}
    with unlimited(place, clock) as runner:
        handed_over(place, runner, JOBS)
        last, looks = clock.now(), []
        while runner.ledger.open_runs():
            assert len(looks) < 60
            clock.sleep(TICK)
            most = decide.allowance(CALLS, SECONDS, clock.now() - last)
            last = clock.now()
            looks.append(runner.sweep(wanted, most=most, seconds=60))
    log = [entry for entry in place.sandbox.log("/api/pipeline_jobs/") if entry["method"] == "GET"]
    assert {entry["status"] for entry in log} == {200}  # no 429
    assert len(log) == sum(looks)
    assert len(log) > CALLS / 2  # as fast as is polite
    ticks = round(SECONDS / TICK)
    assert max(sum(looks[n : n + ticks]) for n in range(len(looks))) < 0.85 * CALLS
    ends = runner.ledger.ended_after(0, 1000)
    assert [record.outcome for record in ends] == ["succeeded"] * JOBS
    assert [record.ended for record in ends] == list(range(1, JOBS + 1))
    assert len({record.job_id for record in ends}) == JOBS


def test_a_tick_asks_for_those_that_waited_longest(place: Place) -> None:
    place.sandbox.change("settings", plan={"run": 3600.0})
    clock = place.clock
    with place.runner(clock) as runner:
        handed_over(place, runner, 6)
        for _ in range(3):
            clock.sleep(TICK)
            assert runner.sweep({"morning": job(WORKFLOW)}, most=2, seconds=60) == 2
    asked = [entry["path"] for entry in place.sandbox.log("/api/pipeline_jobs/")]
    assert len(set(asked)) == 6


def test_an_outage_ends_the_sweep_and_loses_nothing(place: Place) -> None:
    clock = place.clock
    with place.runner(clock) as runner:
        handed_over(place, runner, 3)
        clock.sleep(TICK)
        place.sandbox.fault(path="/api/pipeline_jobs/", status=503, times=21)
        runner.sweep({"morning": job(WORKFLOW)}, most=100, seconds=60)
        assert len(runner.ledger.open_runs()) == 3
        runner.sweep({"morning": job(WORKFLOW)}, most=100, seconds=60)
        assert [record.outcome for record in runner.ledger.ended_after(0, 10)] == ["succeeded"] * 3


def test_a_job_that_is_refused_does_not_stop_the_others(place: Place) -> None:
    clock = place.clock
    with place.runner(clock) as runner:
        handed_over(place, runner, 3)
        clock.sleep(TICK)
        place.sandbox.fault(path="/api/pipeline_jobs/1", status=403, body={"error": "Not Authorized"}, times=-1)
        runner.sweep({"morning": job(WORKFLOW)}, most=100, seconds=60)
        assert [record.job_id for record in runner.ledger.open_runs()] == [1]
        clock.sleep(7 * 3600)
        runner.sweep({"morning": job(WORKFLOW)}, most=100, seconds=60)
        (late,) = [record for record in runner.ledger.ended_after(0, 10) if record.overdue]
        assert late.job_id == 1


def test_what_a_step_waits_for_is_not_polled_twice(place: Place) -> None:
    clock = place.clock
    with place.runner(clock) as runner:
        runner.started(Request(job(TRANSFER), "2026-01-05", "run", clock.now()))
        clock.sleep(TICK)
        assert runner.sweep({"orders": job(TRANSFER)}, most=100, seconds=60) == 0


def test_a_skipped_job_is_started_again_by_the_sweep(place: Place) -> None:
    place.sandbox.change("plan", plan={"run": 150.0})
    place.sandbox.change("run", definition=1004)
    clock = place.clock
    wanted = job(TRANSFER, definition=1004, on_skipped="retrigger", wait="sensor")
    with place.runner(clock) as runner:
        runner.started(Request(wanted, "2026-01-05", "run", clock.now(), handed_over=True))
        for _ in range(10):
            clock.sleep(TICK)
            runner.sweep({"orders": wanted}, most=100, seconds=60)
        (end,) = runner.ledger.ended_after(0, 10)
    *before, last = place.accepted()
    assert {posted["status"] for posted in before} == {"skipped"}
    assert (end.outcome, end.job_id) == ("succeeded", last["id"])


def test_a_lost_answer_that_no_run_comes_back_for_is_cleared_up_by_the_sweep(place: Place) -> None:
    clock, wanted = place.clock, job(TRANSFER, wait="sensor")
    place.sandbox.fault(method="POST", path="/api/jobs", reset=True, handled=True)
    with place.runner(clock) as runner:
        with pytest.raises(RetryableError):
            runner.started(Request(wanted, "2026-01-05", "run", clock.now(), handed_over=True))
        for _ in range(2):
            clock.sleep(TICK)
            runner.sweep({"orders": wanted}, most=100, seconds=60)
        (end,) = runner.ledger.ended_after(0, 10)
    assert (end.outcome, [end.job_id]) == ("succeeded", [posted["id"] for posted in place.accepted()])


def test_the_end_of_an_overdue_job_is_told_when_it_comes(place: Place) -> None:
    place.sandbox.change("plan", plan={"run": 5000.0})
    clock, wanted = place.clock, job(WORKFLOW, run_deadline="1h", wait="sensor")
    with place.runner(clock) as runner:
        runner.started(Request(wanted, "2026-01-05", "run", clock.now(), handed_over=True))
        told = []
        for _ in range(8):
            clock.sleep(1000)
            runner.sweep({"morning": wanted}, most=100, seconds=60)
            ends = runner.ledger.ended_after(told[-1][0] if told else 0, 10)
            told += [(record.ended, record.overdue is not None, record.outcome) for record in ends]
    assert told == [(1, True, None), (2, True, "succeeded")]


def test_who_looks_at_a_job_does_not_undo_who_waits_for_it(place: Place) -> None:
    clock, wanted = place.clock, job(WORKFLOW)
    with place.runner(clock) as runner:
        before = runner.started(Request(wanted, "2026-01-05", "run-1", clock.now(), handed_over=True))
        runner.trigger(Request(wanted, "2026-01-05", "run-2", clock.now()))
        runner.ledger.keep(replace(before, status="executing"), LOOK)
        now = runner.ledger.by_number(before.id)
    assert (now.requester, now.handed_over, now.status) == ("run-2", False, "executing")
