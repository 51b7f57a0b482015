"""Jushuitan's gate as its fact sheet describes it: forms, signatures, tokens, limits, permissions, switches."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from etl_assets.sandbox.jushuitan.gate import signature
from etl_assets.sandbox.jushuitan.vendor import Settings
from etl_assets_tests.sandbox.jushuitan_api import DAY, ORDERS, SHOPS, Jst, jushuitan, md5

SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
CALL = {
    "app_key": "a1b2c3d4e5f60718293a4b5c6d7e8f90",
    "access_token": "00112233445566778899aabbccddeeff",
    "timestamp": "1767225600",
    "version": "2",
    "charset": "utf-8",
}
AUTH = {"app_key": CALL["app_key"], "timestamp": CALL["timestamp"], "charset": "utf-8"}
TEXT = (
    '{"modified_begin":"2026-01-01 00:00:00","modified_end":"2026-01-07 23:59:59",'
    '"page_index":1,"page_size":50,"status":"Confirmed","remark":"中文"}'
)


@pytest.fixture
def jst() -> Iterator[Jst]:
    with jushuitan() as client:
        yield client


@pytest.mark.parametrize(
    ("fields", "sign"),
    [
        (CALL | {"biz": '{"page_index":1,"page_size":100}'}, "2d636d5b3ae1bdfb66bc96dedeb5ddca"),
        (CALL | {"biz": '{"shop_ids":[10001],"page_index":1,"page_size":100}'}, "19bfd37ac4c7d50406dda9c1a66e5351"),
        (CALL | {"biz": TEXT}, "121e7623d15826d67a59f1088af6ea2b"),
        (
            AUTH | {"grant_type": "refresh_token", "refresh_token": "ffeeddccbbaa99887766554433221100", "scope": "all"},
            "16fe3d16ef2f8da892194e8a3ac8b654",
        ),
        (AUTH | {"grant_type": "authorization_code", "code": "Ab12Cd"}, "dfacbe9f3cf1486f4ec817bc4ebdc3f3"),
    ],
)
def test_signatures_are_those_of_the_worked_examples(fields: dict[str, str], sign: str) -> None:
    assert signature(SECRET, fields) == sign
    assert signature(SECRET, {**fields, "sign": "whatever", "empty": ""}) == sign


def sorted_backwards(jst: Jst, fields: dict[str, str]) -> str:
    return md5(jst.secret + "".join(name + fields[name] for name in sorted(fields, reverse=True)))


def secret_appended(jst: Jst, fields: dict[str, str]) -> str:
    return md5(jst.secret + "".join(name + fields[name] for name in sorted(fields)) + jst.secret)


def upper_case(jst: Jst, fields: dict[str, str]) -> str:
    return jst.sign(fields).upper()


def biz_written_anew(jst: Jst, fields: dict[str, str]) -> str:
    return jst.sign({**fields, "biz": json.dumps(json.loads(fields["biz"]), separators=(",", ":"))})


def without_version(jst: Jst, fields: dict[str, str]) -> str:
    return jst.sign({name: value for name, value in fields.items() if name != "version"})


def without_charset(jst: Jst, fields: dict[str, str]) -> str:
    return jst.sign({name: value for name, value in fields.items() if name != "charset"})


def with_separators(jst: Jst, fields: dict[str, str]) -> str:
    return md5(jst.secret + "&".join(f"{name}={fields[name]}" for name in sorted(fields)))


@pytest.mark.parametrize(
    "wrong",
    [
        sorted_backwards,
        secret_appended,
        upper_case,
        biz_written_anew,
        without_version,
        without_charset,
        with_separators,
    ],
)
def test_a_wrong_signature_is_refused(jst: Jst, wrong: Any) -> None:
    fields = jst.business({"page_index": 1, "remark": "中文"})
    assert jst.post(SHOPS, jst.signed(fields))["code"] == 0
    assert jst.post(SHOPS, {**fields, "sign": wrong(jst, fields)}) == {
        "code": 10,
        "msg": "验证失败！无效签名",
        "data": None,
    }
    jst.sandbox.change("settings", codes="old")
    assert jst.post(SHOPS, {**fields, "sign": wrong(jst, fields)})["code"] == 120


def test_a_key_of_another_app_is_refused(jst: Jst) -> None:
    assert jst.post(SHOPS, jst.signed(jst.business({}, app_key="0" * 32)))["code"] == 10


@pytest.mark.parametrize("field", ["app_key", "access_token", "timestamp", "version", "charset", "biz", "sign"])
def test_a_missing_or_empty_field_is_told(jst: Jst, field: str) -> None:
    fields = jst.signed(jst.business({}))
    for incomplete in ({k: v for k, v in fields.items() if k != field}, {**fields, field: ""}):
        answer = jst.post(SHOPS, incomplete)
        assert answer["code"] == 10015
        assert field in answer["msg"]


@pytest.mark.parametrize(("field", "value"), [("version", "1"), ("charset", "gbk")])
def test_a_field_with_another_value_is_refused(jst: Jst, field: str, value: str) -> None:
    assert jst.post(SHOPS, jst.signed(jst.business({}, **{field: value})))["code"] == -4


@pytest.mark.parametrize("biz", ["[]", "null", "{", "page_index=1"])
def test_biz_must_be_a_json_object(jst: Jst, biz: str) -> None:
    assert jst.post(SHOPS, jst.signed(jst.business(biz)))["code"] == 130


def test_only_forms_in_the_body_are_read(jst: Jst) -> None:
    fields = jst.signed(jst.business({}))
    assert jst.send(SHOPS, json=fields).json()["code"] == 10015
    assert jst.send(SHOPS, json={"page": 1, "pageSize": 100}).json()["code"] == 10015
    assert jst.send(SHOPS, params=fields, data={"a": "b"}).json()["code"] == 10015
    assert jst.send(SHOPS, method="GET", params=fields).status_code == 400
    typed = {"Content-Type": "application/x-www-form-urlencoded;charset=UTF-8"}
    assert jst.post(SHOPS, fields, headers=typed)["code"] == 0


def test_credentials_do_not_reach_the_log(jst: Jst) -> None:
    fields = jst.signed(jst.business({}))
    jst.send(SHOPS, params=fields, data=fields)
    log = str(jst.sandbox.log())
    assert not [name for name in ("app_key", "access_token", "sign") if fields[name] in log]


@pytest.mark.parametrize(("seconds", "new", "old"), [(0, 0, 0), (-550, 0, 0), (-850, 0, 180), (-950, 140, 180)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_timestamp_may_be_off_by_minutes_of_real_time(jst: Jst, seconds: int, new: int, old: int, sign: int) -> None:
    jst.sandbox.advance(3600)
    fields = jst.signed(jst.business({}, timestamp=str(int(time.time()) + sign * seconds)))
    assert jst.post(SHOPS, fields)["code"] == new
    jst.sandbox.change("settings", codes="old")
    assert jst.post(SHOPS, fields)["code"] == old


@pytest.mark.parametrize("text", ["0", "now", "1767225600000", "2026-01-05 00:00:00"])
def test_a_timestamp_is_ten_digits(jst: Jst, text: str) -> None:
    assert jst.post(SHOPS, jst.signed(jst.business({}, timestamp=text)))["code"] == 140


def test_an_unknown_api_fails_inside_http_200(jst: Jst) -> None:
    answer = jst.call("/open/shop/query")
    assert answer["code"] not in (0, "0")
    assert "/open/shop/query" in answer["msg"]


@pytest.mark.parametrize("path", ["/open/jushuitan/orders/upload", "/open/supplier/upload"])
def test_nothing_can_be_written(jst: Jst, path: str) -> None:
    assert jst.code(path, orders=[]) == 190


def test_a_token_lives_as_long_as_it_was_said_to(jst: Jst) -> None:
    seconds = jst.refresh()["data"]["expires_in"]
    assert seconds == 30 * 86_400
    jst.env = jst.sandbox.env()
    jst.sandbox.advance(seconds - 60)
    assert jst.code(SHOPS) == 0
    jst.sandbox.advance(60)
    assert jst.code(SHOPS) == 100


def test_an_unknown_token_is_refused(jst: Jst) -> None:
    assert jst.post(SHOPS, jst.signed(jst.business({}, access_token="0" * 32)))["code"] == 100


def test_a_token_can_be_ended_between_two_pages(jst: Jst) -> None:
    jst.sandbox.change("token", expire=True, after={"path": ORDERS})
    assert [jst.code(ORDERS, page_index=page, **DAY) for page in (1, 2)] == [0, 100]
    assert jst.refresh()["code"] == 0
    jst.env = jst.sandbox.env()
    assert jst.code(ORDERS, page_index=2, **DAY) == 0


def test_a_refresh_gives_a_new_pair_and_the_old_token_a_grace_period(jst: Jst) -> None:
    old, data = jst.env, jst.refresh()["data"]
    assert set(data) == {"access_token", "expires_in", "refresh_token", "scope"}
    assert jst.sandbox.env()["JUSHUITAN_ACCESS_TOKEN"] == data["access_token"] != old["JUSHUITAN_ACCESS_TOKEN"]
    assert jst.sandbox.env()["JUSHUITAN_REFRESH_TOKEN"] == data["refresh_token"] != old["JUSHUITAN_REFRESH_TOKEN"]
    assert jst.code(SHOPS) == 0
    jst.sandbox.advance(601)
    assert jst.code(SHOPS) == 100
    assert jst.refresh()["code"] == 100
    assert jst.refresh(data["refresh_token"])["code"] == 0


def test_the_grace_period_can_be_none(jst: Jst) -> None:
    jst.sandbox.change("settings", grace_seconds=0)
    assert jst.refresh()["code"] == 0
    assert jst.code(SHOPS) == 100


@pytest.mark.parametrize(("gives", "shown"), [("same", True), ("none", False)])
def test_the_refresh_token_can_stay_the_same(jst: Jst, gives: str, shown: bool) -> None:
    jst.sandbox.change("settings", refresh_gives=gives, omit_expires_in=True)
    data = jst.refresh()["data"]
    assert data.get("refresh_token") == (jst.env["JUSHUITAN_REFRESH_TOKEN"] if shown else None)
    assert "expires_in" not in data
    assert jst.refresh()["code"] == 0


def test_a_refresh_token_can_be_revoked(jst: Jst) -> None:
    jst.sandbox.change("token", revoke_refresh=True)
    assert jst.refresh()["code"] == 100
    assert jst.code(SHOPS) == 0
    new = jst.sandbox.change("token")
    assert jst.code(SHOPS) == 100
    assert jst.refresh(new["refresh_token"])["code"] == 0


def test_a_merchants_own_app_gets_its_first_token_for_six_characters(jst: Jst) -> None:
    path, grant = "/openWeb/auth/getInitToken", "authorization_code"
    token = jst.token(path, grant_type=grant, code="Ab12Cd")["data"]["access_token"]
    assert jst.post(SHOPS, jst.signed(jst.business({}, access_token=token)))["code"] == 0
    assert jst.token(path, grant_type=grant, code="Ab12")["code"] == -4
    assert jst.token(path, grant_type="refresh_token", code="Ab12Cd")["code"] == -4
    assert jst.token(path, grant_type=grant)["code"] == 10015


def test_a_service_provider_must_be_authorised_again(jst: Jst) -> None:
    jst.sandbox.change("settings", isv=True)
    assert jst.refresh()["code"] == 150
    assert jst.token("/openWeb/auth/getInitToken", grant_type="authorization_code", code="Ab12Cd")["code"] == 190
    code = jst.sandbox.change("token", authorize=True)["code"]
    exchange = {"grant_type": "authorization_code", "code": code}
    token = jst.token("/openWeb/auth/accessToken", **exchange)["data"]["access_token"]
    assert jst.post(SHOPS, jst.signed(jst.business({}, access_token=token)))["code"] == 0
    assert jst.token("/openWeb/auth/accessToken", **exchange)["code"] == 130


def test_callers_outside_the_whitelist_are_refused_by_their_address(jst: Jst) -> None:
    jst.sandbox.change("settings", ip_whitelist=["10.0.0.1"])
    answer = jst.call(SHOPS)
    assert answer["code"] == 110
    assert "127.0.0.1" in answer["msg"]
    assert jst.refresh()["code"] == 110
    jst.sandbox.change("settings", ip_whitelist=["10.0.0.1", "127.0.0.1"])
    assert jst.code(SHOPS) == 0


def test_an_api_without_permission_is_refused_alone(jst: Jst) -> None:
    jst.sandbox.change("settings", denied=[ORDERS])
    assert jst.code(ORDERS, **DAY) == 190
    assert jst.code(SHOPS) == 0


def test_the_vendors_limits_are_5_a_second_and_100_a_minute(jst: Jst) -> None:
    jst.sandbox.change("settings", per_second=5, per_minute=100)
    codes = []
    for _ in range(20):
        codes += [jst.code(SHOPS) for _ in range(5)]
        jst.sandbox.advance(1)
    assert codes == [0] * 100
    assert jst.code(SHOPS) == 200
    jst.sandbox.advance(60)
    begun = time.monotonic()
    codes = [jst.code(SHOPS) for _ in range(7)]
    if time.monotonic() - begun < 1:
        assert codes == [0, 0, 0, 0, 0, 199, 199]
    jst.sandbox.advance(1)
    assert jst.code(SHOPS) == 0


def test_token_calls_are_not_limited(jst: Jst) -> None:
    jst.sandbox.change("settings", per_second=1)
    jst.code(SHOPS)
    assert jst.refresh()["code"] == 0


def test_the_sandbox_is_more_generous_than_the_vendor() -> None:
    assert (Settings().per_second, Settings().per_minute) == (50, 1_000)


def test_the_environment_depends_on_the_seed_alone() -> None:
    names = ("JUSHUITAN_APP_KEY", "JUSHUITAN_APP_SECRET", "JUSHUITAN_ACCESS_TOKEN", "JUSHUITAN_REFRESH_TOKEN")
    environments = []
    for seed in (1, 1, 2):
        with jushuitan(seed=seed) as jst:
            environments.append([jst.env[name] for name in names])
    first, second, other = environments
    assert first == second
    assert set(first).isdisjoint(other)
    assert len(set(first)) == 4


def test_answers_can_be_spelled_as_seen_in_the_wild(jst: Jst) -> None:
    (plain,) = jst.rows(ORDERS, o_ids=[11_000_003])
    jst.sandbox.change("settings", numbers_as_strings=True, empty_for_null=True, datetimes="run_together")
    (odd,) = jst.rows(ORDERS, o_ids=[11_000_003])
    assert (odd["o_id"], odd["pay_amount"]) == (str(plain["o_id"]), str(plain["pay_amount"]))
    assert odd["items"][0]["qty"] == str(plain["items"][0]["qty"])
    assert odd["is_cod"] is False
    assert None not in odd.values()
    assert plain["as_id"] is None
    assert odd["modified"] == plain["modified"].replace(" ", "")
    jst.sandbox.change("settings", datetimes="iso")
    assert jst.rows(ORDERS, o_ids=[11_000_003])[0]["modified"] == plain["modified"].replace(" ", "T")


def test_envelopes_can_differ(jst: Jst) -> None:
    jst.sandbox.change("settings", code_as_string=True, has_next_as_string=True, no_counts=True)
    answer = jst.call(ORDERS, page_size=10, **DAY)
    assert answer["code"] == "0"
    assert set(answer["data"]) == {"page_index", "page_size", "has_next", "orders"}
    assert answer["data"]["has_next"] == "true"
    assert jst.call(ORDERS)["code"] == "130"
    jst.sandbox.change("settings", flat=True)
    assert {"code", "issuccess", "msg", "has_next", "datas"} <= jst.call(SHOPS).keys()


def test_the_first_page_can_be_slow(jst: Jst) -> None:
    jst.sandbox.change("settings", slow_first_page=0.05)
    begun = time.monotonic()
    assert jst.rows(ORDERS, **DAY)
    assert time.monotonic() - begun >= 0.05


@pytest.mark.parametrize(
    ("action", "payload"),
    [
        ("settings", {"codes": "newest"}),
        ("settings", {"per_secnd": 1}),
        ("token", {"expires": True}),
        ("orders", {"update": [{"o_id": 11_000_001, "stauts": "Sent"}]}),
        ("orders", {"update": [{"o_id": 1}]}),
        ("orders", {"update": [{"o_id": 11_000_001, "modified": "2026-01-05T00:00:00"}]}),
        ("orders", {"update": [{"o_id": 11_000_001, "modified": "2026-02-30 00:00:00"}]}),
        ("orders", {"insert": [{"status": "Sent"}]}),
        ("orders", {"insert": [{"o_id": 11_000_001, "modified": "2026-01-05 00:00:00"}]}),
        ("orders", {"insert": [{"modified": "2026-01-05 00:00:00", "items": [{"sku": "x"}]}]}),
        ("orders", {"delete": [1]}),
        ("orders", {"remove_item": [{"o_id": 11_000_001, "oi_id": 1}]}),
        ("skus", {"update": [{"sku_id": "K0001-红-S"}]}),
        ("skumaps", {"insert": [{"shop_id": 10_001, "modified": "2026-01-05 00:00:00"}]}),
        ("order_items", {"delete": [1]}),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(jst: Jst, action: str, payload: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=action):
        jst.sandbox.change(action, **payload)


@pytest.mark.parametrize("query", [{}, {"stream": "things"}, {"stream": "shops", "day": "2026-01-05"}])
def test_a_truth_that_makes_no_sense_is_refused(jst: Jst, query: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="truth"):
        jst.sandbox.truth(**query)
