"""The fault table: whatever goes wrong, one job is started per request, and its outcome is told rightly.

Each test ends with the simulator's own count of accepted POSTs. Where TROCCO's API cannot tell whether a job was
started, the ambiguity is stated and nothing is started a second time.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from etl_assets import errors
from etl_assets.errors import AmbiguousTrigger, ApiError, EtlError, RetryableError
from etl_assets.trocco.run import Request, resolve_lost
from etl_assets_tests.trocco.place import DAY, TRANSFER, WORKFLOW, Place, job, kill, until

POST = {"method": "POST", "path": "jobs"}
LOOK = {"method": "GET", "path": "/api/jobs/"}
LONG = {"plan": {"run": 3600.0}, "times": -1}

NOT_ACCEPTED = {"500": {"status": 500}, "503 with HTML": {"status": 503, "html": True}, "reset": {"reset": True}}
ACCEPTED = {
    "reset": {"reset": True, "handled": True},
    "500": {"status": 500, "handled": True},
    "HTML instead of JSON": {"html": True, "handled": True},
    "half an answer": {"cut": 10},
    "an answer without an id": {"body": {"status": "queued"}, "handled": True},
}


def again(place: Place, wanted: Any, times: int = 3) -> Any:
    """The request with the retries that Dagster gives a step."""
    for _ in range(times):
        try:
            return place.run(wanted)
        except RetryableError:
            continue
    raise AssertionError("still failing")


@pytest.mark.parametrize("fault", NOT_ACCEPTED.values(), ids=NOT_ACCEPTED)
def test_a_start_that_failed_before_it_was_accepted_is_made_by_the_retry(place: Place, fault: dict[str, Any]) -> None:
    place.sandbox.fault(**POST, **fault)
    assert again(place, job(TRANSFER)).outcome == "succeeded"
    assert len(place.accepted()) == 1


@pytest.mark.parametrize("fault", ACCEPTED.values(), ids=ACCEPTED)
def test_a_lost_answer_is_found_in_the_history(place: Place, fault: dict[str, Any]) -> None:
    place.sandbox.fault(**POST, **fault)
    found = again(place, job(TRANSFER))
    (posted,) = place.accepted()
    assert (found.outcome, found.job_id) == ("succeeded", posted["id"])


def test_a_lost_answer_is_found_although_the_history_shows_it_late(place: Place) -> None:
    place.sandbox.change("settings", runs_visible_after=90)
    place.sandbox.fault(**POST, **ACCEPTED["reset"])
    assert again(place, job(TRANSFER)).outcome == "succeeded"
    assert len(place.accepted()) == 1


@pytest.mark.parametrize("fault", [*NOT_ACCEPTED.values(), *ACCEPTED.values()], ids=[*NOT_ACCEPTED, *ACCEPTED])
def test_a_lost_answer_of_a_workflow_is_a_stated_ambiguity(place: Place, fault: dict[str, Any]) -> None:
    place.sandbox.fault(**POST, **fault)
    for _ in range(2):
        with pytest.raises(AmbiguousTrigger, match=r"/pipeline_jobs; .*etl-assets trocco resolve morning"):
            place.run(job(WORKFLOW))
    assert len(place.accepted()) == (fault in ACCEPTED.values())


@pytest.mark.parametrize("started", [True, False])
def test_a_person_resolves_an_ambiguity(place: Place, started: bool) -> None:
    place.sandbox.fault(**POST, reset=True, handled=started)
    with pytest.raises(AmbiguousTrigger):
        place.run(job(WORKFLOW))
    resolve_lost(place.ledger, "morning", DAY, place.accepted()[0]["id"] if started else None)
    assert place.run(job(WORKFLOW)).outcome == "succeeded"
    assert len(place.accepted()) == 1


def test_two_lost_answers_of_one_definition_are_told_apart(place: Place) -> None:
    wanted, days = job(TRANSFER), [DAY, "2026-01-06"]
    place.sandbox.fault(**POST, reset=True, handled=True, times=2)
    for day in days:
        with pytest.raises(RetryableError):
            place.run(wanted, partition=day)
    found = [place.run(wanted, partition=day) for day in days]
    assert [place.accepted()[n]["custom_variables"]["$day$"] for n in range(2)] == days
    assert [record.job_id for record in found] == [posted["id"] for posted in place.accepted()]


def test_a_lost_answer_beside_somebody_elses_start_is_a_stated_ambiguity(place: Place) -> None:
    place.sandbox.fault(**POST, reset=True, handled=True)
    with pytest.raises(RetryableError):
        place.run(job(TRANSFER))
    with place.runner() as runner:
        runner.trocco.ask("POST", "/api/jobs", params=[("job_definition_id", "1001")])
    with pytest.raises(AmbiguousTrigger, match="several runs may be it"):
        place.run(job(TRANSFER))
    assert len(place.accepted()) == 2  # ours, and theirs


def test_somebody_elses_start_before_ours_is_not_taken_for_it(place: Place) -> None:
    clock = place.clock
    with place.runner(clock) as runner:
        runner.trocco.ask("POST", "/api/jobs", params=[("job_definition_id", "1001")])
        clock.sleep(200)
        place.sandbox.fault(**POST, reset=True)
        request = Request(job(TRANSFER), DAY, "run-1", clock.now())
        with pytest.raises(RetryableError):
            runner.run(request)
        assert runner.run(request).job_id == place.accepted()[-1]["id"]
    assert [len(posted["custom_variables"]) for posted in place.accepted()] == [0, 1]


@pytest.mark.parametrize("kind", ["transfer", "workflow"])
@pytest.mark.parametrize("accepted", [True, False])
def test_a_process_killed_before_it_stored_the_id(place: Place, kind: str, accepted: bool) -> None:
    place.sandbox.fault(**POST, delay=60, handled=accepted)
    process = place.start(kind)
    until(lambda: [entry for entry in place.sandbox.log("jobs") if entry["method"] == "POST"])
    kill(process)
    wanted = job(TRANSFER if kind == "transfer" else WORKFLOW)
    if kind == "workflow":
        with pytest.raises(AmbiguousTrigger):
            place.run(wanted)
        assert len(place.accepted()) == accepted
        return
    assert place.run(wanted, requester="run-2").outcome == "succeeded"
    assert len(place.accepted()) == 1


@pytest.mark.parametrize("kind", ["transfer", "workflow"])
def test_a_process_killed_while_it_waits(place: Place, kind: str) -> None:
    place.sandbox.change("plan", **LONG)
    process = place.start(kind)
    until(lambda: any(record.job_id for record in place.ledger.open_runs()))
    kill(process)
    assert place.run(job(TRANSFER if kind == "transfer" else WORKFLOW), requester="run-2").outcome == "succeeded"
    assert len(place.accepted()) == 1


def test_a_second_run_beside_the_first_shares_its_job(place: Place) -> None:
    wanted, clock = job(TRANSFER), place.clock
    with place.runner(clock) as runner, ThreadPoolExecutor(4) as threads:
        requests = [Request(wanted, DAY, f"run-{n}", clock.now()) for n in range(4)]
        ends = list(threads.map(runner.run, requests))
    assert {record.job_id for record in ends} == {place.accepted()[0]["id"]}
    assert len(place.accepted()) == 1


def test_a_second_process_beside_the_first_shares_its_job(place: Place) -> None:
    place.sandbox.change("plan", plan={"run": 2.0})
    processes = [place.start("transfer", requester=f"run-{n}") for n in range(2)]
    ends = [(process.wait(60), process.stderr.read() if process.stderr else b"") for process in processes]
    assert [code for code, _ in ends] == [0, 0], ends
    assert len(place.accepted()) == 1


def test_a_step_that_is_retried_after_the_end_starts_nothing(place: Place) -> None:
    first = place.run(job(TRANSFER))
    assert place.run(job(TRANSFER)).job_id == first.job_id
    assert len(place.accepted()) == 1


def test_who_asks_after_the_end_gets_a_new_job(place: Place) -> None:
    first = place.run(job(TRANSFER))
    later = place.clock.now() + 10_000
    assert place.run(job(TRANSFER), requester="run-2", asked_at=later).job_id != first.job_id
    assert len(place.accepted()) == 2


def test_errors_of_the_server_while_polling_are_waited_out(place: Place) -> None:
    place.sandbox.fault(**LOOK, status=500, times=20)
    assert place.run(job(TRANSFER)).outcome == "succeeded"
    assert len(place.accepted()) == 1


def test_an_id_that_is_not_known_for_a_moment_is_asked_again(place: Place) -> None:
    place.sandbox.fault(**LOOK, status=404, times=2)
    assert place.run(job(TRANSFER)).outcome == "succeeded"
    assert len(place.accepted()) == 1


def test_an_id_that_is_not_known_any_more_is_lost(place: Place) -> None:
    place.sandbox.fault(**LOOK, status=404, body={"message": "not found", "errors": []}, times=-1)
    with pytest.raises(errors.JobLost, match=r"/jobs/\d+") as caught:
        place.run(job(TRANSFER))
    assert caught.value.outcome == "lost"
    assert len(place.accepted()) == 1


def test_a_key_that_may_not_look_is_told_before_anything_is_started(place: Place) -> None:
    place.sandbox.change("settings", denied=["view_jobs"])
    with pytest.raises(ApiError, match="HTTP 403"):
        place.run(job(TRANSFER))
    assert place.accepted() == []


def test_a_workflow_that_may_not_be_looked_at_is_refused_with_the_scope(place: Place) -> None:
    place.sandbox.change("settings", denied=["view_jobs"])
    with pytest.raises(ApiError, match="needs the function to view them"):
        place.run(job(WORKFLOW))
    place.sandbox.change("settings", denied=[])
    assert place.run(job(WORKFLOW), requester="run-2").outcome == "succeeded"
    assert len(place.accepted()) == 1


def test_a_status_that_nobody_knows_is_waited_out_with_a_warning(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.sandbox.change("plan", plan={"run": 300.0, "shown": "hibernating"})
    assert place.run(job(TRANSFER)).outcome == "succeeded"
    assert "'hibernating', which is not known" in caplog.text
    assert len(place.accepted()) == 1


def test_a_queue_that_never_ends_is_overdue_and_can_be_waited_for_again(place: Place) -> None:
    place.sandbox.change("plan", plan={"stuck": True})
    for requester in ("run-1", "run-2"):
        with pytest.raises(errors.JobOverdue, match="still in the queue after 1:00:00"):
            place.run(job(TRANSFER, queue_deadline="1h"), requester=requester)
    assert len(place.accepted()) == 1


def test_a_job_that_runs_for_too_long_is_overdue(place: Place) -> None:
    place.sandbox.change("plan", plan={"run": 1e6})
    with pytest.raises(errors.JobOverdue, match="still running after 0:30:00"):
        place.run(job(TRANSFER, run_deadline="30m"))
    assert len(place.accepted()) == 1


def test_a_job_that_waits_for_a_place_is_not_late_for_running(place: Place) -> None:
    place.sandbox.change("settings", places=0)
    place.sandbox.change("plan", plan={"run": 60.0})
    clock = place.clock
    with place.runner(clock) as runner:
        wanted = job(TRANSFER, run_deadline="30m")
        record = runner.started(Request(wanted, DAY, "run-1", clock.now()))
        clock.sleep(3 * 3600)
        record = runner.advanced(wanted, record)
        assert record.status == "queued"
        place.sandbox.change("settings", places=5)
        place.sandbox.change("run", definition=1002)  # the end of any run frees places
        assert runner.run(Request(wanted, DAY, "run-1", clock.now())).outcome == "succeeded"


@pytest.mark.parametrize(("outcome", "error"), [("error", errors.JobFailed), ("canceled", errors.JobCanceled)])
@pytest.mark.parametrize("declared", [TRANSFER, WORKFLOW], ids=["transfer", "workflow"])
def test_an_end_that_is_no_success_is_told_by_its_kind(
    place: Place, declared: dict[str, Any], outcome: str, error: type[EtlError]
) -> None:
    place.sandbox.change("plan", plan={"outcome": outcome})
    for _ in range(2):  # a retry of the step tells the same end
        with pytest.raises(error, match=r"http://127.0.0.1:\d+/(pipeline_)?jobs/\d+"):
            place.run(job(declared))
    assert len(place.accepted()) == 1


def test_a_job_that_somebody_stops_at_trocco_is_canceled(place: Place) -> None:
    place.sandbox.change("plan", plan={"run": 3600.0})
    clock = place.clock
    with place.runner(clock) as runner:
        request = Request(job(TRANSFER), DAY, "run-1", clock.now())
        record = runner.started(request)
        clock.sleep(5)
        place.sandbox.change("cancel", kind="transfer", id=record.job_id)
        assert runner.advanced(request.job, record).status == "interrupting"
        with pytest.raises(errors.JobCanceled):
            runner.run(request)
    assert len(place.accepted()) == 1


def test_a_skipped_job_is_neither_success_nor_error(place: Place) -> None:
    place.sandbox.change("plan", plan={"run": 600.0})
    place.sandbox.change("run", definition=1004)
    with pytest.raises(errors.JobSkipped):
        place.run(job(TRANSFER, definition=1004))
    assert len(place.accepted()) == 1


def test_a_skipped_job_can_be_started_again_until_its_turn_comes(place: Place) -> None:
    place.sandbox.change("plan", plan={"run": 150.0})
    place.sandbox.change("run", definition=1004)
    done = place.run(job(TRANSFER, definition=1004, on_skipped="retrigger"))
    assert done.outcome == "succeeded"
    *before, last = [posted["status"] for posted in place.accepted()]
    assert (set(before), last) == ({"skipped"}, "succeeded")


def test_a_job_that_is_always_skipped_is_told_in_the_end(place: Place) -> None:
    place.sandbox.change("plan", plan={"run": 1e6})
    place.sandbox.change("run", definition=1004)
    with pytest.raises(errors.JobSkipped):
        place.run(job(TRANSFER, definition=1004, on_skipped="retrigger", queue_deadline="10m"))
    assert {posted["status"] for posted in place.accepted()} == {"skipped"}


def test_a_workflow_that_waits_for_its_retry_has_not_failed(place: Place) -> None:
    place.sandbox.change("plan", plan={"outcome": "error", "retries": 1, "interval": 300.0, "error_seconds": 40.0})
    assert place.run(job(WORKFLOW)).outcome == "succeeded"
    assert len(place.accepted()) == 1


@pytest.mark.parametrize("declared", [TRANSFER, WORKFLOW], ids=["transfer", "workflow"])
def test_what_is_refused_starts_nothing_and_can_be_asked_again(place: Place, declared: dict[str, Any]) -> None:
    place.sandbox.fault(**POST, status=422, body={"message": "validation failed", "errors": []})
    with pytest.raises(ApiError, match="HTTP 422"):
        place.run(job(declared))
    assert place.run(job(declared)).outcome == "succeeded"
    assert len(place.accepted()) == 1


@pytest.mark.parametrize("declared", [TRANSFER, WORKFLOW], ids=["transfer", "workflow"])
def test_too_many_requests_are_repeated_since_they_start_nothing(place: Place, declared: dict[str, Any]) -> None:
    place.sandbox.fault(**POST, status=429, times=3)
    assert place.run(job(declared)).outcome == "succeeded"
    assert len(place.accepted()) == 1


def test_a_retry_after_a_refused_connection_starts_the_workflow(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with place.runner() as runner:
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("TROCCO_BASE_URL", "http://127.0.0.1:1")
            with place.runner() as refused, pytest.raises(RetryableError, match="refused"):
                replace(runner, trocco=refused.trocco).run(Request(job(WORKFLOW), DAY, "run-1", 0.0))
        assert runner.run(Request(job(WORKFLOW), DAY, "run-1", 0.0)).outcome == "succeeded"
    assert len(place.accepted()) == 1
