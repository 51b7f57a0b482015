"""The simulated target: what it takes, what it refuses, and what it counts."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running

Send = Callable[..., tuple[int, Any]]
A, B = {"id": "a", "name": "one"}, {"id": "b", "name": "two"}


@pytest.fixture
def target() -> Iterator[Sandbox]:
    with running(vendors=("depot",)) as sandbox:
        yield sandbox


@pytest.fixture
def send(target: Sandbox) -> Iterator[Send]:
    """Sends with a token: method, path below /v1, body; status and answer."""
    env = target.env()
    with requests.Session() as session:
        session.trust_env = False
        login = {"clientId": env["DEPOT_CLIENT_ID"], "clientSecret": env["DEPOT_CLIENT_SECRET"]}
        answer = session.post(f"{target.url}/v1/token", json=login, timeout=10).json()
        assert (answer["code"], answer["data"]["expiresIn"]) == (0, 7200)
        token = answer["data"]["token"]

        def sent(method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            answer = session.request(
                method,
                f"{target.url}/v1{path}",
                json=body,
                headers={"Authorization": f"Bearer {token}", **named},
                timeout=10,
            )
            return answer.status_code, answer.json() if answer.content else None

        yield sent


def results(answer: tuple[int, Any]) -> list[tuple[str, int]]:
    assert answer[0] == 200
    return [(result["id"], result["code"]) for result in answer[1]["data"]["results"]]


def held(target: Sandbox) -> list[tuple[str, Any, int]]:
    return [(row["ref"], row["content"], row["writes"]) for row in target.truth(kind="shops") if not row["deleted"]]


def test_only_a_token_that_is_good_lets_in(target: Sandbox, send: Send) -> None:
    assert send("POST", "/shops/check", {"ids": []})[0] == 200
    assert send("POST", "/shops/check", {"ids": []}, Authorization="Bearer wrong")[0] == 401
    target.advance(7200)
    assert send("POST", "/shops/check", {"ids": []})[0] == 401


def test_a_new_token_ends_the_one_before(target: Sandbox, send: Send) -> None:
    env = target.env()
    login = {"clientId": env["DEPOT_CLIENT_ID"], "clientSecret": env["DEPOT_CLIENT_SECRET"]}
    assert send("POST", "/token", login)[0] == 200
    assert send("POST", "/shops/check", {"ids": []})[0] == 401
    assert send("POST", "/token", {**login, "clientSecret": "guess"})[0] == 403


def test_a_batch_is_answered_item_by_item_and_counted(target: Sandbox, send: Send) -> None:
    assert results(send("POST", "/shops/batch", {"items": [A, {"name": "nobody"}, B]})) == [
        ("a", 0),
        ("", 4001),
        ("b", 0),
    ]
    assert held(target) == [("a", A, 1), ("b", B, 1)]
    assert results(send("POST", "/shops/batch", {"items": [{**A, "name": "uno"}]})) == [("a", 0)]
    assert held(target) == [("a", {**A, "name": "uno"}, 2), ("b", B, 1)]


@pytest.mark.parametrize(
    ("duplicates", "code", "writes"), [("update", 0, [2]), ("refuse", 4002, [1]), ("allow", 0, [1, 1])]
)
def test_a_second_write_of_an_id_follows_the_setting(
    target: Sandbox, send: Send, duplicates: str, code: int, writes: list[int]
) -> None:
    target.change("settings", duplicates=duplicates)
    send("POST", "/shops/batch", {"items": [A]})
    assert results(send("POST", "/shops/batch", {"items": [A]})) == [("a", code)]
    assert [count for _, _, count in held(target)] == writes


def test_a_repeated_key_is_answered_as_before_and_not_carried_out(target: Sandbox, send: Send) -> None:
    first = send("POST", "/shops/batch", {"items": [A]}, Idempotency_Key="k1")
    assert send("POST", "/shops/batch", {"items": [A]}, Idempotency_Key="k1") == first
    assert send("POST", "/shops/batch", {"items": [B]}, Idempotency_Key="k1")[0] == 422
    assert held(target) == [("a", A, 1)]
    target.change("settings", idempotency=False)
    send("POST", "/shops/batch", {"items": [A]}, Idempotency_Key="k1")
    assert held(target) == [("a", A, 2)]


def test_a_repeated_request_id_of_an_item_is_not_carried_out_and_not_kept(target: Sandbox, send: Send) -> None:
    for _ in range(2):
        assert results(send("POST", "/shops/batch", {"items": [{**A, "requestId": "r1"}]})) == [("a", 0)]
    assert held(target) == [("a", A, 1)]


def test_what_exists_is_found_by_its_id(send: Send) -> None:
    send("POST", "/shops/batch", {"items": [A, B]})
    _, answer = send("POST", "/shops/check", {"ids": ["b", "c"]})
    assert answer["data"]["records"] == [{"id": "b", "recordId": 1001, "record": B}]
    assert send("POST", "/goods/check", {"ids": ["a"]})[1]["data"]["records"] == []


def test_records_are_written_and_deleted_one_by_one(target: Sandbox, send: Send) -> None:
    assert send("POST", "/shops", A)[1]["data"] == {"id": "a", "code": 0, "message": "ok", "recordId": 1000}
    assert send("PUT", "/shops/1000", {**A, "name": "uno"})[1]["code"] == 0
    assert held(target) == [("a", {**A, "name": "uno"}, 2)]
    assert send("DELETE", "/shops/1000") == (204, None)
    assert held(target) == []
    assert send("PUT", "/shops/1000", A)[0] == 404
    assert results(send("POST", "/shops/remove", {"ids": ["a"]})) == [("a", 4004)]


def test_items_are_refused_as_ordered(target: Sandbox, send: Send) -> None:
    target.change("refuse", ids=["a"], code=7, message="closed", times=1)
    _, answer = send("POST", "/shops/batch", {"items": [A, B]})
    assert answer["data"]["results"][0] == {"id": "a", "code": 7, "message": "closed"}
    assert results(send("POST", "/shops/batch", {"items": [A]})) == [("a", 0)]
    target.change("refuse", ids=["b"], times=-1)
    for _ in range(2):
        assert results(send("POST", "/shops/batch", {"items": [B]})) == [("b", 4001)]


def test_a_strict_target_refuses_the_whole_batch(target: Sandbox, send: Send) -> None:
    target.change("settings", strict=True, largest=2)
    assert send("POST", "/shops/batch", {"items": [A, {"name": "nobody"}]})[0] == 400
    assert send("POST", "/shops/batch", {"items": [A, B, A]})[0] == 413
    assert held(target) == []


def test_records_of_somebody_else_can_be_put_there_and_all_taken_away(target: Sandbox) -> None:
    target.change("foreign", kind="shops", id="a", content=A)
    assert held(target) == [("a", A, 1)]
    target.change("empty")
    assert held(target) == []


@pytest.mark.parametrize("body", [None, [], {"items": 1}])
def test_what_is_no_batch_is_refused(send: Send, body: Any) -> None:
    assert send("POST", "/shops/batch", body)[0] == 400


def test_a_setting_that_does_not_exist_is_refused(target: Sandbox) -> None:
    with pytest.raises(ValueError, match="duplicates: update, refuse or allow"):
        target.change("settings", duplicates="ignore")
