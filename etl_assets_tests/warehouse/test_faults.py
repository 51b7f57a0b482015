"""BigQuery and Cloud Storage at their worst: answers that get lost, services that are busy, quotas, slow jobs.

The emulators answer, the proxy before them spoils it. What only a real service decides (quotas, bytes billed,
a job that stays RUNNING) is an answer in Google's form that the proxy gives.
"""

import dataclasses
import threading
from typing import Any

import pytest

from etl_assets.errors import AccessError, EtlError, FinalError, GoogleUnavailable, QuotaError, RetryableError
from etl_assets.sandbox.google.handle import PROJECT, Google
from etl_assets_tests.data import DAY, Bench
from etl_assets_tests.warehouse.conftest import Of
from etl_assets_tests.warehouse.material import MERGE, MODES, NEXT, REPLACE, kept, row

JOBS = {"method": "POST", "path": "/jobs"}
LOAD_JOB = JOBS | {"body": '"load"'}
MERGE_JOB = JOBS | {"body": "MERGE"}
RECORD_JOB = JOBS | {"body": "INSERT INTO"}
UPLOAD = {"method": "POST", "path": "^/upload"}
LOST_AT = {
    "the upload of the load file": ("storage", UPLOAD | {"body": "load/demo/things/2026-01-05/rows-"}),
    "the plan": ("storage", UPLOAD | {"body": "plan.json"}),
    "the end of the plan": ("storage", UPLOAD | {"body": "plan.json", "skip": 1}),
    "the load job": ("bigquery", LOAD_JOB),
    "the record": ("bigquery", RECORD_JOB),
    "a query": ("bigquery", JOBS | {"body": "bit_xor"}),
}


def loads(bench: Bench) -> list[str]:
    """The runs in `ops.loads`, in order."""
    return [found["run_id"] for found in bench.query("SELECT run_id FROM ops.loads ORDER BY loaded_at")]


def ready(on_bigquery: Of, stream: str = REPLACE) -> Bench:
    """A table with a day in it, and another version of the day cleaned."""
    bench = on_bigquery(stream)
    bench.loaded([row(1, v="old"), row(2, v="old"), row(None)], day=DAY, run_id="first")
    bench.cleaned([row(1, v="new"), row(3, v="new")], day=DAY)
    return bench


def right(bench: Bench) -> None:
    """The table has the version that was cleaned last."""
    assert kept(bench) == [(1, "new", DAY), (3, "new", DAY)]
    assert bench.query("SELECT record_key FROM ops.quarantine") == []


@pytest.mark.parametrize(("api", "request_"), LOST_AT.values(), ids=LOST_AT.keys())
def test_a_lost_answer_costs_nothing_and_doubles_nothing(
    on_bigquery: Of, google: Google, api: str, request_: dict[str, Any]
) -> None:
    bench = ready(on_bigquery)
    faulty = getattr(google, api)
    faulty.fault(**request_, lost=True)
    assert bench.load(day=DAY, run_id="second").changed is True
    assert faulty.fired() == 1
    right(bench)
    assert loads(bench) == ["first", "second"]


def test_a_merge_whose_answer_is_lost_is_not_merged_twice(on_bigquery: Of, google: Google) -> None:
    bench = ready(on_bigquery, MERGE)
    google.bigquery.fault(**MERGE_JOB, lost=True)
    google.bigquery.fault(**RECORD_JOB, lost=True)
    assert bench.load(day=DAY, run_id="second").changed is True
    assert google.bigquery.fired() == 2
    right(bench)
    assert loads(bench) == ["first", "second"]


@pytest.mark.parametrize(
    ("status", "reason"),
    [(503, "backendError"), (500, "internalError"), (403, "rateLimitExceeded")],
)
def test_a_busy_service_is_asked_again(on_bigquery: Of, google: Google, status: int, reason: str) -> None:
    bench = ready(on_bigquery)
    google.bigquery.fault(**JOBS, times=3, status=status, reason=reason)
    google.storage.fault(**UPLOAD, times=2, status=503, reason="backendError")
    assert bench.load(day=DAY).changed is True
    assert (google.bigquery.fired(), google.storage.fired()) == (3, 2)
    right(bench)


REFUSALS = {
    "quota": (403, "quotaExceeded", QuotaError),
    "costs": (400, "bytesBilledLimitExceeded", QuotaError),
    "rights": (403, "accessDenied", AccessError),
    "credential": (401, "authError", AccessError),
    "mistake": (400, "invalid", FinalError),
}


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    REFUSALS.values(),
    ids=REFUSALS.keys(),
)
@pytest.mark.parametrize("what", [LOAD_JOB, RECORD_JOB], ids=["load", "record"])
def test_a_refused_job_is_an_error_that_a_plain_run_recovers_from(
    on_bigquery: Of, google: Google, status: int, reason: str, kind: type[EtlError], what: dict[str, Any]
) -> None:
    bench = ready(on_bigquery)
    before = bench.table()
    google.bigquery.fault(**what, times=1, status=status, reason=reason, message="said so")
    with pytest.raises(kind, match="said so|cannot be refreshed"):
        bench.load(day=DAY, run_id="second")
    if what is LOAD_JOB:
        assert bench.table() == before
    bench.load(day=DAY, run_id="third")
    right(bench)
    assert loads(bench)[-1] == "third"
    assert loads(bench).count("second") <= 1


def failed(reason: str, message: str) -> dict[str, Any]:
    """A load job that was accepted and has failed."""
    error = {"reason": reason, "message": message}
    place = {"projectId": PROJECT, "datasetId": "d", "tableId": "t"}
    return {
        "jobReference": {"projectId": PROJECT, "jobId": "failed", "location": "US"},
        "configuration": {"load": {"destinationTable": place, "sourceUris": []}},
        "status": {"state": "DONE", "errorResult": error, "errors": [error]},
    }


@pytest.mark.parametrize(
    ("reason", "message", "kind"),
    [
        ("quotaExceeded", "Exceeded quota for imports per table", QuotaError),
        ("rateLimitExceeded", "too many table update operations", GoogleUnavailable),
        ("backendError", "Error encountered during execution", GoogleUnavailable),
        ("invalidQuery", "Transaction is aborted due to concurrent update against table", GoogleUnavailable),
        ("invalid", "Error while reading data", FinalError),
    ],
)
def test_a_job_that_fails_is_followed_by_one_with_another_id(
    on_bigquery: Of, google: Google, reason: str, message: str, kind: type[EtlError]
) -> None:
    bench = ready(on_bigquery)
    before = bench.table()
    google.bigquery.clear()
    google.bigquery.fault(**LOAD_JOB, reply=failed(reason, message))
    with pytest.raises(kind, match=message) as caught:
        bench.load(day=DAY)
    assert isinstance(caught.value, RetryableError) == (kind is GoogleUnavailable)
    assert bench.table() == before
    assert bench.load(day=DAY).changed is True
    right(bench)
    asked = [call["body"] for call in google.bigquery.calls() if call["path"].split("?")[0].endswith("/jobs")]
    ids = [body.split('"jobId": "')[1].split('"')[0] for body in asked if "things$20260105" in body]
    assert [name.split("_")[-4] for name in ids] == ["2", "3"]
    assert len(set(ids)) == 2


def test_a_job_that_stays_pending_is_awaited(on_bigquery: Of, google: Google) -> None:
    bench = ready(on_bigquery)
    google.bigquery.fault(**LOAD_JOB, patch={"status": {"state": "PENDING"}})
    google.bigquery.fault(method="GET", path="/jobs/etl_", patch={"status": {"state": "RUNNING"}})
    assert bench.load(day=DAY).changed is True
    assert google.bigquery.fired() == 2
    right(bench)


def test_what_jobs_cost_is_told(on_bigquery: Of, google: Google) -> None:
    bench = ready(on_bigquery)
    billed = {"statistics": {"query": {"totalBytesBilled": "10485760", "totalSlotMs": "250"}}}
    google.bigquery.fault(**RECORD_JOB, patch=billed)
    cost = bench.load(day=DAY).cost
    assert (cost["bytes_billed"], cost["slot_milliseconds"]) == (10_485_760, 250)
    assert cost["jobs"] >= 4


@MODES
def test_every_table_is_modified_once_per_load_and_never_appended_to(
    on_bigquery: Of, google: Google, stream: str, day: Any
) -> None:
    bench = on_bigquery(stream)
    bench.loaded([row(1, v="old")], day=day)
    google.bigquery.clear()
    bench.loaded([row(1, v="new")], day=day)
    bodies = [call["body"] for call in google.bigquery.calls() if call["method"] == "POST"]
    writing = [
        body
        for body in bodies
        if ('"tableId": "things' in body and '"sourceUris"' in body)
        or any(word in body for word in ("MERGE `", "UPDATE `", "DELETE FROM `"))
    ]
    assert len(writing) == 1
    assert "WRITE_APPEND" not in "".join(bodies)
    assert all('"writeDisposition": "WRITE_TRUNCATE"' in body for body in bodies if '"sourceUris"' in body)
    labels = '"labels": {"source": "demo", "stream": "things", "run": "run"}'
    assert all(labels in body for body in bodies if '"configuration"' in body and "_sandbox" not in body)


# Two runs at once


def in_background(bench: Bench, run_id: str) -> tuple[threading.Thread, list[Any]]:
    """A load in a thread, and what came of it."""
    came: list[Any] = []

    def load() -> None:
        try:
            came.append(Bench.at(bench.root).load(day=DAY, run_id=run_id))
        except EtlError as error:
            came.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    return thread, came


@pytest.mark.parametrize("stream", [REPLACE, MERGE], ids=["replace", "merge"])
@pytest.mark.parametrize("at", ["plan", "job"])
def test_a_run_that_was_overtaken_does_not_put_older_rows_back(
    on_bigquery: Of, google: Google, stream: str, at: str
) -> None:
    bench = ready(on_bigquery, stream)
    job = LOAD_JOB | {"body": "things.20260105"} if stream == REPLACE else MERGE_JOB
    fault = UPLOAD | {"body": "plan.json"} if at == "plan" else job
    slow = google.storage if at == "plan" else google.bigquery
    slow.fault(**fault, delay=3.0)
    thread, came = in_background(bench, "slow")
    while not slow.fired():
        assert thread.is_alive(), came
    bench.loaded([row(1, v="newer"), row(4, v="newer")], day=DAY, run_id="quick")
    thread.join()
    assert not isinstance(came[0], Exception)
    assert kept(bench) == [(1, "newer", DAY), (4, "newer", DAY)]
    assert bench.load(day=DAY, run_id="again").changed is False


def test_two_runs_of_a_day_that_begin_together_leave_one_content(on_bigquery: Of) -> None:
    bench = ready(on_bigquery)
    running = [in_background(bench, name) for name in ("one", "two")]
    for thread, _ in running:
        thread.join()
    assert [isinstance(came[0], Exception) for _, came in running] == [False, False]
    right(bench)
    assert sorted(loads(bench)) == ["first", "one", "two"]


def test_an_older_clean_set_is_not_loaded_over_a_newer_one(on_bigquery: Of) -> None:
    """The slow run read first, and comes to its load last."""
    bench = ready(on_bigquery)
    folder = bench.folder("clean", DAY)
    older = folder.manifest()
    bench.loaded([row(1, v="newer")], day=DAY)
    folder._files.replace("manifest.json", older.to_json(), folder._files.read("manifest.json")[1])
    assert bench.load(day=DAY, run_id="late").changed is False
    assert kept(bench) == [(1, "newer", DAY)]


def test_changes_of_a_table_are_spread_over_time(on_bigquery: Of) -> None:
    bench = on_bigquery(REPLACE)
    paced = dataclasses.replace(bench, google=(*bench.google, ("BIGQUERY_TABLE_RATES", "1/4s")))
    assert paced.loaded([row(1)], day=DAY).waited_seconds == 0
    assert paced.loaded([row(2, NEXT)], day=NEXT).waited_seconds > 0
    hurried = dataclasses.replace(paced, google=(*paced.google, ("ETL_TOTAL_TIMEOUT_SECONDS", "0.5")))
    with pytest.raises(QuotaError, match="as often as BIGQUERY_TABLE_RATES permits"):
        hurried.loaded([row(3)], day=DAY)
    assert kept(bench) == [(1, "x", DAY), (2, "x", NEXT)]
