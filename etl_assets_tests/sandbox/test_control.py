"""The control endpoints: request log, clock, scheduled changes, and refusals."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from etl_assets.sandbox.control import Control
from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets.sandbox.vendor import Action, Answer, Clock, Handler, Request, Vendor, json_answer
from etl_assets_tests.sandbox.api import ACCOUNT, CALLER, Api


class Keyed(Vendor):
    """A vendor whose credential is a query parameter."""

    name: ClassVar[str] = "keyed"
    secrets: ClassVar[frozenset[str]] = frozenset({"apiKey"})

    def env(self, base_url: str) -> dict[str, str]:
        return {"KEYED_BASE_URL": base_url}

    def routes(self) -> Mapping[str, Handler]:
        return {"GET /things": lambda request: json_answer([])}

    def actions(self) -> Mapping[str, Action]:
        return {}

    def truth(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        return []


def keyed(query: bytes) -> Request:
    return Request("GET", "/things", query, [], b"")


def test_the_log_tells_every_request_with_its_query_status_and_size(api: Api, sandbox: Sandbox) -> None:
    size = len(api.send("GET", "clients", params=[("a", "1"), ("a", "2")]).content)
    api.send("DELETE", "timeentries/1")
    first, second = sandbox.log()
    assert (first["n"], first["method"], first["path"]) == (1, "GET", f"{ACCOUNT}/clients")
    assert (first["query"], first["status"], first["bytes"]) == ([["a", "1"], ["a", "2"]], 200, size)
    assert (second["n"], second["method"], second["status"]) == (2, "DELETE", 404)
    assert first["at"] <= second["at"]


def test_the_log_and_the_count_can_be_narrowed_to_a_path(api: Api, sandbox: Sandbox) -> None:
    for path in ("clients", "clients", "projects"):
        api.get(path)
    assert [row["path"] for row in sandbox.log("projects")] == [f"{ACCOUNT}/projects"]
    assert (sandbox.count(), sandbox.count("/clients"), sandbox.count("/none")) == (3, 2, 0)


def test_a_cleared_log_counts_from_the_start(api: Api, sandbox: Sandbox) -> None:
    api.get("clients")
    sandbox.clear_log()
    assert (sandbox.log(), sandbox.count()) == ([], 0)


def test_control_requests_and_headers_are_not_logged(api: Api, sandbox: Sandbox) -> None:
    api.get("clients")
    assert sandbox.count() == 1
    assert api.env["TMETRIC_TOKEN"] not in str(sandbox.log())


def test_values_of_secret_parameters_are_masked_before_they_are_kept() -> None:
    log = Control(Keyed(seed=1, days=1, scale=1, clock=Clock()), "http://x").log
    log.add(keyed(b"a=1&apiKey=s3cret&b=%20"))
    log.add(keyed(b"a=1"))
    assert [row["query"] for row in log.rows("")] == [
        [("a", "1"), ("apiKey", "***"), ("b", " ")],
        [("a", "1")],
    ]
    assert "s3cret" not in repr(vars(log))


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/things", 200), ("POST", "/things", 405), ("GET", "/other", 404)]
)
def test_a_path_known_for_another_method_is_not_an_unknown_path(method: str, path: str, status: int) -> None:
    vendor = Keyed(seed=1, days=1, scale=1, clock=Clock())
    answer: Answer = vendor.answer(Request(method, path, b"", [], b""))
    assert answer.status == status


@pytest.mark.parametrize(
    ("action", "payload"),
    [
        ("faults", {"status": 500, "cut": 3}),
        ("faults", {"path": "/x"}),
        ("faults", {"status": 500, "tmies": 2}),
        ("faults", {"html": True, "empty": True}),
        ("settings", {"zz": True}),
        ("settings", {"z": "yes"}),
        ("entries", {"insert": [{"user_id": CALLER}]}),
        ("entries", {"update": [{"note": "of nothing"}]}),
        ("entries", {"insert": [{"user_id": 1, "start_utc": "2026-01-05T00:00:00Z"}]}),
        ("entries", {"insert": [{"user_id": CALLER, "start_utc": "2026-01-05T00:00:00"}]}),
        ("entries", {"update": [{"id": 1, "note": "of nothing"}]}),
        ("entries", {"delete": [1]}),
        ("projects", {"update": [{"id": 1}]}),
        ("clients", {"delete": [1]}),
        ("clock", {"advance": "a year"}),
        ("projects", {"update": [{"id": 81, "nmae": "x"}]}),
        ("settings", {"z": True, "after": {"path": "/x", "cuont": 1}}),
        ("nothing", {}),
    ],
)
def test_a_control_request_that_makes_no_sense_is_refused(
    sandbox: Sandbox, action: str, payload: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=action):
        sandbox.change(action, **payload)


def test_the_environment_follows_the_credential(sandbox: Sandbox) -> None:
    new = sandbox.change("token")["token"]
    assert sandbox.env()["TMETRIC_TOKEN"] == new


def test_a_handle_can_be_made_from_the_printed_environment(api: Api, sandbox: Sandbox) -> None:
    api.get("clients")
    attached = Sandbox.attached({**sandbox.env(), "HOME": "/root"})
    assert attached.vendor("tmetric").count() == 1
    assert attached.env() == sandbox.env()


def test_several_vendors_have_to_be_told_apart() -> None:
    both = Sandbox({"one": "http://127.0.0.1:1", "two": "http://127.0.0.1:2"})
    with pytest.raises(ValueError, match="one, two"):
        both.log()
    assert both.vendor("two").url == "http://127.0.0.1:2"


def test_a_scheduled_change_is_made_right_after_the_counted_answer(api: Api, sandbox: Sandbox) -> None:
    after = {"path": "/timeentries", "query": {"userId": CALLER}, "count": 2}
    sandbox.change("settings", after=after, z=True)
    users = (CALLER, CALLER + 6, CALLER, CALLER)
    assert [api.entries(user)[0]["startTime"][-1] == "Z" for user in users] == [False, False, False, True]


def test_scheduled_changes_of_rows_happen_between_two_requests(api: Api, sandbox: Sandbox) -> None:
    first, second = api.entries(CALLER)[:2]
    sandbox.change("entries", after={"path": "/timeentries"}, delete=[first["id"]])
    sandbox.change("entries", after={"path": "/timeentries", "count": 2}, delete=[second["id"]])
    seen = [[row["id"] for row in api.entries(CALLER)] for _ in range(3)]
    assert seen[1] == seen[0][1:]
    assert seen[2] == seen[0][2:]


def test_scheduled_changes_that_are_forgotten_never_happen(api: Api, sandbox: Sandbox) -> None:
    before = api.entries(CALLER)
    sandbox.change("entries", after={"path": "/timeentries"}, delete=[before[0]["id"]])
    sandbox.forget_changes()
    assert [api.entries(CALLER) for _ in range(2)] == [before, before]


def test_an_injected_answer_does_not_count_for_scheduled_changes(api: Api, sandbox: Sandbox) -> None:
    sandbox.fault(path="/clients", status=500)
    sandbox.change("settings", after={"path": "/clients"}, projects=False)
    assert api.status("clients") == 500
    assert api.status("projects") == 200
    assert api.status("clients") == 200
    assert api.status("projects") == 404


def test_ports_count_up_from_the_one_given() -> None:
    with running(vendors=("tmetric",)) as free:
        port = int(free.url.rsplit(":", 1)[1])
    with running(vendors=("tmetric",), port=port) as fixed:
        assert fixed.url == f"http://127.0.0.1:{port}"
