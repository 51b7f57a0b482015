"""Fxiaoke: tokens, both calling styles, and limits."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from etl_assets.sandbox.handle import Sandbox
from etl_assets_tests.sandbox.fxiaoke_api import CURRENT, INVENTORY, LEGACY, Crm, Row, path

pytest_plugins = ("etl_assets_tests.sandbox.fxiaoke_fixtures",)

LIST = "/cgi/crm/v2/object/list"
BOTH = pytest.mark.parametrize("style", [LEGACY, CURRENT])
QUERY = {"data": {"dataObjectApiName": "AccountObj", "search_query_info": {}}}


def ask(crm: Crm, style: str, **changes: Any) -> Row:
    return crm.post(style, {**crm.app, "grantType": "app_secret", **changes})


def token(crm: Crm, style: str) -> str:
    answer = ask(crm, style)
    value: str = answer["corpAccessToken" if style == LEGACY else "accessToken"]
    return value


def use(crm: Crm, style: str, value: str) -> int:
    """The outcome of a call with a token."""
    if style == LEGACY:
        body = {"corpAccessToken": value, "corpId": crm.auth["corpId"], "currentOpenUserId": crm.user}
        return int(crm.post(LIST, body)["errorCode"])
    return int(crm.post(LIST, {}, {**crm.headers, "authorization": f"Bearer {value}"})["errorCode"])


def test_the_environment_follows_from_the_seed(crm: Crm) -> None:
    assert crm.env["FXIAOKE_APP_ID"].startswith("FSAID_")
    assert crm.env["FXIAOKE_OPEN_USER_ID"].startswith("FSUID_")
    assert len(crm.env) == 5


def test_a_token_comes_in_the_shape_of_its_style(crm: Crm) -> None:
    legacy, current = ask(crm, LEGACY), ask(crm, CURRENT)
    assert legacy.keys() >= {"corpAccessToken", "corpId", "expiresIn", "errorCode", "errorMessage", "traceId"}
    assert (current["ea"], current["appId"]) == ("demo_ea", crm.app["appId"])
    assert current["openUserId"] == legacy["corpId"]
    assert legacy["corpAccessToken"] != current["accessToken"]


@BOTH
def test_a_token_stays_the_same_until_it_has_600_seconds_left(crm: Crm, fxiaoke: Sandbox, style: str) -> None:
    first = token(crm, style)
    assert ask(crm, style)["expiresIn"] == 7200
    fxiaoke.advance(6590)
    assert token(crm, style) == first
    assert 600 <= ask(crm, style)["expiresIn"] <= 610


@BOTH
def test_a_new_token_does_not_end_the_old_one_before_its_time(crm: Crm, fxiaoke: Sandbox, style: str) -> None:
    old = token(crm, style)
    fxiaoke.advance(6600)
    new = token(crm, style)
    assert new != old
    assert [use(crm, style, value) for value in (old, new)] == [0, 0]
    fxiaoke.advance(600)
    assert [use(crm, style, value) for value in (old, new)] == [20016, 0]


@BOTH
def test_tokens_can_be_ended_between_two_calls(crm: Crm, fxiaoke: Sandbox, style: str) -> None:
    old = token(crm, style)
    fxiaoke.change("token", expire=True, after={"path": "/object/list"})
    assert [use(crm, style, old), use(crm, style, old)] == [0, 20016]
    assert use(crm, style, token(crm, style)) == 0


def test_a_dead_token_can_be_handed_out_until_it_is_6600_seconds_old(crm: Crm, fxiaoke: Sandbox) -> None:
    old = token(crm, LEGACY)
    fxiaoke.change("token", expire=True, stuck=True)
    assert token(crm, LEGACY) == old
    assert use(crm, LEGACY, old) == 20016
    fxiaoke.advance(6600)
    assert use(crm, LEGACY, token(crm, LEGACY)) == 0


def test_new_tokens_can_be_issued_at_once(crm: Crm, fxiaoke: Sandbox) -> None:
    old = token(crm, CURRENT)
    fxiaoke.change("token")
    assert token(crm, CURRENT) != old
    assert use(crm, CURRENT, old) == 0


@BOTH
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"appSecret": "x"}, "appSecret"),
        ({"appSecret": None}, "appSecret"),
        ({"appId": "FSAID_x"}, "appId"),
        ({"permanentCode": "x"}, "permanentCode"),
        ({"appId": "x", "appSecret": "x"}, "appSecret"),
    ],
)
def test_wrong_credentials_of_the_app_are_named(crm: Crm, style: str, wrong: Row, named: str) -> None:
    answer = ask(crm, style, **wrong)
    assert answer["errorCode"] == 10006
    assert answer["errorMessage"] == f"the parameter {named} is missing or illegal"
    assert {"error", "error_description"} <= answer.keys()


def test_the_current_style_wants_its_grant_type(crm: Crm) -> None:
    assert crm.post(CURRENT, crm.app)["errorCode"] == 10006
    assert crm.post(LEGACY, crm.app)["errorCode"] == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, 20017),
        ({"corpAccessToken": ""}, 20017),
        ({"corpAccessToken": "FAKE", "corpId": "FSCID_X", "currentOpenUserId": "FSUID_X"}, 20016),
        ({"corpAccessToken": "FAKE"}, 20017),
    ],
)
def test_calls_with_no_or_a_false_token_in_the_body(crm: Crm, body: Row, code: int) -> None:
    answer = crm.post("/cgi/crm/v2/data/query", {**body, **QUERY})
    assert answer["errorCode"] == code
    assert (
        answer["errorMessage"]
        == {
            20016: "the cropId,cropAccessToken or authorization is error",
            20017: "corpAccessToken为必填项，不能为空"
            if not body.get("corpAccessToken")
            else "corpId为必填项，不能为空",
        }[code]
    )


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 0),
        ({"authorization": "Bearer FAKE"}, 20016),
        ({"x-fs-ea": "other"}, 20016),
        ({"x-fs-userid": ""}, 10010),
    ],
)
def test_calls_of_the_current_style(crm: Crm, headers: dict[str, str], code: int) -> None:
    assert crm.post("/cgi/crm/v2/data/query", QUERY, crm.headers | headers)["errorCode"] == code


def test_a_token_belongs_to_its_style_corporation_and_scheme(crm: Crm) -> None:
    assert use(crm, CURRENT, crm.auth["corpAccessToken"]) == 20016
    assert use(crm, LEGACY, crm.headers["authorization"].split()[1]) == 20016
    assert crm.code(LIST, corpId="FSCID_OTHER") == 20016
    bare = {"authorization": crm.headers["authorization"].split()[1]}
    assert crm.post(LIST, {}, crm.headers | bare)["errorCode"] == 20016


def test_crm_calls_need_an_acting_user_and_the_address_book_does_not(crm: Crm) -> None:
    assert crm.post(LIST, crm.auth)["errorCode"] == 10010
    assert crm.post("/cgi/department/list", crm.auth)["errorCode"] == 0


def test_credentials_of_both_styles_in_one_call_are_refused_or_tolerated(crm: Crm, fxiaoke: Sandbox) -> None:
    body = {**crm.auth, **QUERY}
    assert crm.post("/cgi/crm/v2/data/query", body, crm.headers)["errorCode"] == 12002
    fxiaoke.change("settings", mixing=True)
    assert crm.post("/cgi/crm/v2/data/query", body, crm.headers)["errorCode"] == 0


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_what_is_no_endpoint_is_told_by_code_not_by_status(crm: Crm, method: str) -> None:
    response = crm.session.request(method, crm.env["FXIAOKE_BASE_URL"] + "/cgi/none", json={}, timeout=10)
    assert response.status_code == 200
    assert response.json()["errorCode"] == 10006
    assert response.json()["errorMessage"] == "the request uri=[/cgi/none] is not exists"


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [(b"", "application/json", 12004), (b"[1]", "application/json", 32000), (b"{", "application/json", 32000),
     (b"{}", "text/plain", 32000)],
)  # fmt: skip
def test_bodies_that_are_no_json_objects_are_refused(crm: Crm, body: bytes, kind: str, code: int) -> None:
    url = crm.env["FXIAOKE_BASE_URL"] + LIST
    response = crm.session.post(url, data=body, headers={"content-type": kind}, timeout=10)
    assert (response.status_code, response.json()["errorCode"]) == (200, code)


def test_a_trace_id_can_be_demanded_and_be_demanded_anew(crm: Crm, fxiaoke: Sandbox) -> None:
    body = {**crm.auth, "currentOpenUserId": crm.user}
    codes = {}
    for wanted in ("ignored", "required", "fresh"):
        fxiaoke.change("settings", trace_id=wanted)
        asked: list[dict[str, str]] = [{}, {"thirdTraceId": wanted}, {"thirdTraceId": wanted}]
        codes[wanted] = [crm.post(LIST, body, None, **params)["errorCode"] for params in asked]
    assert codes == {"ignored": [0, 0, 0], "required": [15002, 0, 0], "fresh": [15002, 0, 15002]}


@BOTH
def test_tokens_may_be_asked_for_ten_times_a_minute(crm: Crm, fxiaoke: Sandbox, style: str) -> None:
    limits = fxiaoke.change("vendor_limits")
    assert (limits["calls"], limits["token_calls"], limits["daily_calls"]) == (100, 10, 100_000)
    assert [ask(crm, style)["errorCode"] for _ in range(11)] == [0] * 10 + [14001]
    fxiaoke.advance(60)
    assert ask(crm, style)["errorCode"] == 0


@pytest.mark.parametrize(("serial", "second"), [(True, 14001), (False, 0)])
def test_tokens_may_not_be_asked_for_at_once(crm: Crm, fxiaoke: Sandbox, serial: bool, second: int) -> None:
    fxiaoke.change("settings", serial_tokens=serial)
    fxiaoke.fault(path="/corpAccessToken", delay=0.3)
    with ThreadPoolExecutor(1) as other:
        slow = other.submit(ask, crm, LEGACY)
        while fxiaoke.count("/corpAccessToken") == 0:
            pass
        assert ask(crm, CURRENT)["errorCode"] == second
        assert slow.result()["errorCode"] == 0
    assert ask(crm, LEGACY)["errorCode"] == 0


def test_a_token_takes_its_time_so_that_clients_without_a_lock_meet(crm: Crm, fxiaoke: Sandbox) -> None:
    fxiaoke.change("settings", token_seconds=0.2)
    with ThreadPoolExecutor(4) as others:
        codes = [answer["errorCode"] for answer in others.map(lambda _: ask(crm, LEGACY), range(4))]
    assert sorted(codes) == [0, 14001, 14001, 14001]


@pytest.mark.parametrize("code", [30004, 14001])
def test_each_path_may_be_called_a_hundred_times_in_twenty_seconds(crm: Crm, fxiaoke: Sandbox, code: int) -> None:
    fxiaoke.change("vendor_limits")
    fxiaoke.change("settings", rate_code=code)
    assert {crm.code(LIST) for _ in range(100)} == {0}
    assert crm.code(LIST) == code
    assert crm.rows("AccountObj", limit=1)
    fxiaoke.advance(20)
    assert crm.code(LIST) == 0


def test_limits_are_generous_unless_told_otherwise(crm: Crm) -> None:
    assert {crm.code(LIST) for _ in range(120)} == {0}
    assert {ask(crm, LEGACY)["errorCode"] for _ in range(12)} == {0}


def test_the_daily_quota_is_over_until_midnight(crm: Crm, fxiaoke: Sandbox) -> None:
    fxiaoke.change("settings", daily_calls=3)
    assert [crm.code(LIST), crm.code("/cgi/department/list"), crm.code(LIST), crm.code(LIST)] == [0, 0, 0, 30002]
    fxiaoke.advance(86_400)
    assert use(crm, LEGACY, token(crm, LEGACY)) == 0


def test_refused_calls_are_not_counted(crm: Crm, fxiaoke: Sandbox) -> None:
    fxiaoke.change("settings", daily_calls=1)
    assert crm.code(LIST, corpId="FSCID_OTHER") == 20016
    assert [crm.code(LIST), crm.code(LIST)] == [0, 30002]


@pytest.mark.parametrize("payload", [{"calls": "many"}, {"rate_code": 30005}, {"cals": 1}, {"trace_id": "maybe"}])
def test_settings_that_make_no_sense_are_refused(fxiaoke: Sandbox, payload: Row) -> None:
    with pytest.raises(ValueError, match="settings"):
        fxiaoke.change("settings", **payload)


def test_no_secret_is_logged(crm: Crm, fxiaoke: Sandbox) -> None:
    crm.rows(INVENTORY)
    assert [entry["path"] for entry in fxiaoke.log()] == [LEGACY, path("query", INVENTORY)]
    assert not any(secret in str(fxiaoke.log()) for secret in (*crm.app.values(), crm.auth["corpAccessToken"]))
