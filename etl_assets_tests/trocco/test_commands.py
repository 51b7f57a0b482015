"""`etl-assets trocco`: what a person sees and says; and the receiver of notifications."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest
from click.testing import CliRunner, Result

from etl_assets.cli import main
from etl_assets.errors import AmbiguousTrigger, SettingError
from etl_assets.pipeline import Pipeline
from etl_assets.trocco.listen import receiver, take
from etl_assets.trocco.run import Request
from etl_assets_tests.trocco.place import DAY, TRANSFER, WORKFLOW, Place, job, until

TOKEN = "notify-token-of-the-test"
MART = {"name": "mart", "kind": "datamart", "definition": 2001, "completion": {"by": "notification"}}


def invoke(*line: str) -> Result:
    return CliRunner().invoke(main, ["trocco", *line])


def test_open_jobs_are_listed(place: Place) -> None:
    assert invoke("status").output == "0 open\n"
    with place.runner() as runner:
        started = runner.started(Request(job(TRANSFER), DAY, "run-1", 0.0))
    said = invoke("status").output.splitlines()
    assert said[0].startswith(f"trocco/orders {DAY}: transfer {started.job_id}, queued, from 20")
    assert said[1] == "1 open"


@pytest.mark.parametrize("started", [True, False])
def test_the_command_of_the_error_resolves_it(place: Place, started: bool) -> None:
    place.sandbox.fault(method="POST", path="pipeline_jobs", reset=True, handled=started)
    with pytest.raises(AmbiguousTrigger) as caught:
        place.run(job(WORKFLOW))
    for_started, for_not = str(caught.value).split("etl-assets trocco ")[1:]
    line = for_started if started else for_not
    words = line.split(";")[0].split(". ")[0].replace(" N", f" {place.accepted()[0]['id']}" if started else "").split()
    assert invoke(*words).exit_code == 0
    assert place.run(job(WORKFLOW)).outcome == "succeeded"
    assert len(place.accepted()) == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["resolve", "orders", "--not-started"], "no trigger whose answer is lost"),
        (["resolve", "orders"], "either --job-id or --not-started"),
        (["resolve", "orders", "--job-id", "1", "--not-started"], "either --job-id or --not-started"),
        (["again", "orders"], "no job that has ended"),
        (["parts", "9999"], "HTTP 404"),
    ],
)
def test_what_makes_no_sense_is_refused(place: Place, line: list[str], says: str) -> None:
    done = invoke(*line)
    assert done.exit_code != 0
    assert says in done.output


def test_an_id_of_another_trigger_is_refused(place: Place) -> None:
    first = place.run(job(WORKFLOW))
    place.sandbox.fault(method="POST", path="pipeline_jobs", reset=True)
    with pytest.raises(AmbiguousTrigger):
        place.run(job(WORKFLOW), partition="2026-01-06")
    done = invoke("resolve", "morning", "--partition", "2026-01-06", "--job-id", str(first.job_id))
    assert "on record for another trigger" in done.output


def test_the_parts_of_a_workflow_are_printed(place: Place) -> None:
    done = invoke("parts", "3002")
    assert done.exit_code == 0
    assert "definition: 1002" in done.output


def test_the_check_makes_one_cheap_call(place: Place) -> None:
    done = CliRunner().invoke(main, ["check", "trocco"])
    assert (done.exit_code, "ready at http://127.0.0.1" in done.output) == (0, True)
    assert [entry["path"] for entry in place.sandbox.log()] == ["/api/job_definitions"]


@pytest.fixture
def server(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setenv("TROCCO_NOTIFY_TOKEN", TOKEN)
    with receiver(Pipeline.from_environment(), 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def post(server: ThreadingHTTPServer, body: bytes, token: str = TOKEN) -> int:
    address = f"http://127.0.0.1:{server.server_port}/"
    request = urllib.request.Request(address, body, {"Authorization": f"Bearer {token}"}, method="POST")
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize(("outcome", "ends"), [("succeeded", "succeeded"), ("error", "JobFailed")])
def test_a_notification_ends_a_datamart(place: Place, server: ThreadingHTTPServer, outcome: str, ends: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    place.sandbox.change("notify", kind="datamart", url=f"http://127.0.0.1:{server.server_port}/", headers=headers)
    place.sandbox.change("test_send", kind="datamart")
    place.sandbox.change("plan", plan={"outcome": outcome})
    clock = place.clock
    with place.runner(clock) as runner:
        request = Request(job(MART), "", "run-1", clock.now())
        record = runner.started(request)
        assert runner.advanced(request.job, record).is_open
        clock.sleep(60)
        place.sandbox.truth(accepted="all")  # a request lets time pass
        until(lambda: runner.ledger.noticed("datamart", record.job_id or 0))
        if outcome == "succeeded":
            assert runner.run(request).outcome == ends
            return
        with pytest.raises(Exception, match="ended in an error") as caught:
            runner.run(request)
        assert type(caught.value).__name__ == ends


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"id": 3, "status": "succeeded"}', 204),
        (b'{"id": "00000", "status": "[test] succeeded"}', 204),
        (b'{"id": 3, "status": "eaten"}', 400),
        (b'{"kind": "meal", "id": 3, "status": "succeeded"}', 400),
        (b"[]", 400),
        (b"{", 400),
    ],
)
def test_a_notification_is_taken_only_in_its_form(server: ThreadingHTTPServer, body: bytes, status: int) -> None:
    assert post(server, body) == status


def test_a_notification_without_the_token_is_refused(place: Place, server: ThreadingHTTPServer) -> None:
    assert post(server, b'{"id": 3, "status": "succeeded"}', token="wrong") == 401
    assert place.ledger.noticed("datamart", 3) is None


def test_a_test_send_says_nothing(place: Place) -> None:
    assert take(place.ledger, {"id": "00000", "status": "[test] succeeded"}, 0.0) is False
    assert take(place.ledger, {"id": "7", "status": "failed"}, 0.0) is True
    assert place.ledger.noticed("datamart", 7) == "failed"


def test_a_receiver_without_a_token_does_not_start(place: Place) -> None:
    with pytest.raises(SettingError, match="TROCCO_NOTIFY_TOKEN is not set"):
        receiver(Pipeline.from_environment(), 0)


def test_a_probe_of_the_warehouse_ends_a_datamart(place: Place) -> None:
    sql = "SELECT TIMESTAMPTZ '{triggered_at}' < now() + INTERVAL 1 HOUR"
    wanted = job({**MART, "completion": {"by": "probe", "sql": sql}})
    Pipeline.from_environment().settings.duckdb_path.parent.mkdir(parents=True, exist_ok=True)
    import duckdb

    duckdb.connect(str(Pipeline.from_environment().settings.duckdb_path)).close()
    assert place.run(wanted, partition="").outcome == "succeeded"


def test_a_datamart_in_a_workflow_of_its_own_is_followed_there(place: Place) -> None:
    done = place.run(job({**MART, "completion": {"by": "workflow", "definition": 3002}}), partition="")
    (posted,) = place.accepted()
    assert (done.kind, posted["kind"], posted["definition"]) == ("workflow", "workflow", 3002)
