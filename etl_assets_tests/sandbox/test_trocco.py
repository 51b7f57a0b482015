"""The simulated TROCCO: what it refuses, how runs go, what lists and changes do, on a clock that skips."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running

ORDERS, NOT_CONCURRENT, UNSUPPORTED, WORKFLOW, MART = 1001, 1004, 1005, 3002, 2001
DAY = "2026-01-05"


class Api:
    """TROCCO as a client with the key sees it."""

    def __init__(self, sandbox: Sandbox, session: requests.Session) -> None:
        self.sandbox, self.env, self.session = sandbox, sandbox.env(), session
        session.headers["Authorization"] = f"Token {self.env['TROCCO_API_KEY']}"

    def send(self, method: str, path: str, **more: Any) -> requests.Response:
        return self.session.request(method, f"{self.env['TROCCO_BASE_URL']}/api/{path}", timeout=10, **more)

    def get(self, path: str, **params: Any) -> Any:
        answer = self.send("GET", path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def start(self, definition: int = ORDERS, **body: Any) -> int:
        answer = self.send("POST", "jobs", params={"job_definition_id": definition}, json=body)
        assert (answer.status_code, answer.json()["status"]) == (200, "queued")
        return int(answer.json()["id"])

    def status(self, number: int, kind: str = "jobs") -> str:
        return str(self.get(f"{kind}/{number}")["status"])

    def walk(self, number: int, *seconds: float, kind: str = "jobs") -> list[str]:
        """The status after each of so many seconds more."""
        seen = []
        for more in seconds:
            self.sandbox.advance(more)
            seen.append(self.status(number, kind))
        return seen


@pytest.fixture
def api() -> Iterator[Api]:
    with running(vendors=("trocco",)) as sandbox, requests.Session() as session:
        session.trust_env = False
        yield Api(sandbox, session)


def test_the_word_before_the_key_is_token(api: Api) -> None:
    for header in ("Bearer " + api.env["TROCCO_API_KEY"], "Token wrong", ""):
        assert api.send("GET", "users", headers={"Authorization": header}).status_code == 401


def test_a_plan_without_the_api_and_a_key_without_a_function_are_refused(api: Api) -> None:
    api.sandbox.change("settings", denied=["people"])
    refused = api.send("GET", "users")
    assert (refused.status_code, refused.json()) == (403, {"error": "Not Authorized"})
    assert api.send("GET", "job_definitions").status_code == 200
    api.sandbox.change("settings", api=False)
    assert api.send("GET", "job_definitions").status_code == 403


def test_the_id_of_the_definition_stands_in_the_query_or_the_body(api: Api) -> None:
    assert api.send("POST", "jobs", json={"job_definition_id": ORDERS}).status_code == 200
    assert api.send("POST", "jobs", params={"job_definition_id": ORDERS}).status_code == 200
    assert api.send("POST", "jobs").status_code == 400
    assert api.send("POST", "jobs", params={"job_definition_id": 9}).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"context_time": "2026-01-05"},
        {"time_zone": "Tokyo"},
        {"custom_variables": [{"name": "day", "value": "1"}]},
        {"custom_variables": [{"name": "$day$", "value": 1}]},
    ],
)
def test_a_start_that_is_wrong_is_refused_and_starts_nothing(api: Api, body: dict[str, Any]) -> None:
    assert api.send("POST", "jobs", params={"job_definition_id": ORDERS}, json=body).status_code == 422
    assert api.sandbox.truth(accepted="all") == []


def test_a_request_that_breaks_off_before_its_body_starts_nothing(api: Api) -> None:
    key, port = api.env["TROCCO_API_KEY"], int(api.env["TROCCO_BASE_URL"].rsplit(":", 1)[1])
    head = f"POST /api/jobs?job_definition_id={ORDERS} HTTP/1.1\r\nHost: x\r\nAuthorization: Token {key}\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"{head}Content-Length: 20\r\n\r\n".encode())
    assert api.send("GET", "labels").status_code == 200
    assert api.sandbox.truth(accepted="all") == []


def test_a_transfer_goes_its_way(api: Api) -> None:
    api.sandbox.change("plan", plan={"queue": 10, "setup": 10, "run": 10})
    number = api.start()
    assert api.walk(number, 0, 12, 10, 10) == ["queued", "setting_up", "executing", "succeeded"]
    done = api.get(f"jobs/{number}")
    assert done["created_at"].endswith("+09:00")
    assert done["transfer_records"] == 100


@pytest.mark.parametrize("outcome", ["error", "canceled"])
def test_a_run_can_end_otherwise(api: Api, outcome: str) -> None:
    api.sandbox.change("plan", plan={"outcome": outcome})
    assert api.walk(api.start(), 5) == [outcome]


def test_a_run_beside_another_of_a_definition_that_permits_one_is_skipped(api: Api) -> None:
    api.sandbox.change("plan", plan={"run": 100})
    first, second = api.start(NOT_CONCURRENT), api.start(NOT_CONCURRENT)
    assert (api.walk(first, 5), api.status(second)) == (["executing"], "skipped")


def test_runs_beyond_the_plans_number_wait_in_the_queue(api: Api) -> None:
    api.sandbox.change("settings", places=1, plan={"run": 100})
    first, second = api.start(), api.start()
    assert (api.walk(first, 50), api.status(second)) == (["executing"], "queued")
    assert (api.walk(first, 60), api.status(second)) == (["succeeded"], "executing")


def test_a_person_stops_a_run(api: Api) -> None:
    api.sandbox.change("plan", plan={"run": 100})
    number = api.start()
    api.sandbox.advance(5)
    api.sandbox.change("cancel", kind="transfer", id=number)
    assert api.walk(number, 0, 11) == ["interrupting", "canceled"]


def test_a_workflow_shows_its_error_waits_and_is_run_again(api: Api) -> None:
    plan = {"outcome": "error", "retries": 1, "error_seconds": 10, "interval": 100, "run": 10}
    api.sandbox.change("plan", plan=plan)
    answer = api.send("POST", "pipeline_jobs", params={"pipeline_definition_id": WORKFLOW}, json={})
    assert set(answer.json()) == {"id", "pipeline_definition_id", "name", "status"}
    walked = api.walk(answer.json()["id"], 11, 10, 105, 20, kind="pipeline_jobs")
    assert walked == ["error", "retry_waiting", "executing", "succeeded"]


def test_a_workflow_ignores_variables(api: Api) -> None:
    body = {"custom_variables": [{"name": "$day$", "value": "x"}]}
    api.send("POST", "pipeline_jobs", params={"pipeline_definition_id": WORKFLOW}, json=body)
    api.sandbox.advance(5)
    (posted,) = api.sandbox.truth(accepted="all")
    assert posted["effects"][0]["$day$"] == "2026-01-01"


def test_a_datamart_has_no_status(api: Api) -> None:
    answer = api.send("POST", "datamart_jobs", json={"datamart_definition_id": MART})
    assert set(answer.json()) == {"id", "datamart_definition_id", "context_time"}
    assert api.send("GET", f"datamart_jobs/{answer.json()['id']}").status_code == 404


def test_dates_follow_context_time_or_the_start(api: Api) -> None:
    api.start(context_time="2026-01-10 00:30:00", time_zone="Etc/UTC")
    api.sandbox.advance(5)
    (posted,) = api.sandbox.truth(accepted="all")
    (effect,) = posted["effects"]
    assert effect["$context$"] == "20260109"  # one day before 09:30 in Tokyo
    assert not effect["$started$"].startswith("2026-01-10")


def test_lists_are_capped_and_go_on_by_cursor(api: Api) -> None:
    ids, cursor = [], None
    while True:
        page = api.get("users", limit=3, **({"cursor": cursor} if cursor else {}))
        ids += [row["id"] for row in page["items"]]
        if not (cursor := page["next_cursor"]):
            break
    assert ids == list(range(1, 8))
    assert len(api.get("job_definitions/1001/jobs", limit=1000)["items"]) == 12


def test_the_history_is_cut_by_the_time_of_creation_in_a_zone(api: Api) -> None:
    day = {"start_time": f"{DAY} 00:00:00", "end_time": f"{DAY} 23:59:59"}
    rows = api.get("job_definitions/1001/jobs", **day)["items"]
    assert [row["id"] for row in rows] == [
        row["id"] for row in api.sandbox.truth(stream="job_runs", day=DAY) if row["job_definition_id"] == ORDERS
    ]
    utc = {"start_time": "2026-01-04 15:00:00", "end_time": f"{DAY} 14:59:59", "time_zone": "Etc/UTC"}
    assert api.get("job_definitions/1001/jobs", **utc)["items"] == rows


def test_empty_lists_are_left_out_and_texts_come_raw(api: Api) -> None:
    assert "schedules" not in api.get("job_definitions")["items"][0]
    raw = api.send("GET", f"datamart_definitions/{MART}").content
    assert b"\n\tFROM" in raw
    assert api.send("GET", f"job_definitions/{UNSUPPORTED}").status_code == 400


def test_what_is_deleted_is_forbidden(api: Api) -> None:
    assert api.send("DELETE", "labels/1").status_code == 204
    assert api.send("GET", "labels/1").status_code == 403
    assert api.send("GET", "labels/99").status_code == 404


def test_a_workflow_is_changed_by_keys(api: Api) -> None:
    tasks = api.get(f"pipeline_definitions/{WORKFLOW}")["tasks"]
    assert api.send("PATCH", f"pipeline_definitions/{WORKFLOW}", json={"tasks": tasks}).status_code == 400
    assert api.send("PATCH", "teams/1", json={"description": "x"}).status_code == 422


def test_the_rate_is_told_and_held(api: Api) -> None:
    api.sandbox.change("settings", calls=5)
    answers = [api.send("GET", "labels") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert [answer.headers["X-Rate-Limit-Remaining"] for answer in answers] == ["4", "3", "2", "1", "0", "0"]
    api.sandbox.advance(601)
    assert api.send("GET", "labels").status_code == 200


def test_the_same_seed_gives_the_same_account(api: Api) -> None:
    with running(vendors=("trocco",)) as other:
        assert other.env()["TROCCO_API_KEY"] == api.env["TROCCO_API_KEY"]
        for stream in ("job_definitions", "users"):
            assert other.truth(stream=stream) == api.sandbox.truth(stream=stream)
        assert other.truth(stream="job_runs", day=DAY) == api.sandbox.truth(stream="job_runs", day=DAY)
