"""Fxiaoke from request to table, against its simulator: what every stream promises, and what breaks naive clients."""

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl_assets.errors import ApiError, ApiUnavailable
from etl_assets.reconcile import reconcile
from etl_assets.sandbox.fxiaoke.fields import INVENTORY, OBJECTS
from etl_assets.sandbox.fxiaoke.vendor import TOKEN_PATHS
from etl_assets.spec import Rate, TokenAuth
from etl_assets.tokens import Token, TokenStore
from etl_assets.warehouse.protocol import Difference
from etl_assets_tests.sources.truth import RUN_ID, Lab, Row, day, lab, leaks, output

DAILY = ("inventory_reports", "accounts", "contacts", "sales_orders", "products", "personnel", "departments")
LEGACY, CURRENT = TOKEN_PATHS
QUERY = "/data/query"
BETWEEN_PAGES = {"path": QUERY, "count": 1}
MS = 86_400_000
START = 1_767_542_400_000  # day 1, 00:00 in Shanghai
EMPTY = 9  # a day without rows of its own
CURRENT_STYLE = {"FXIAOKE_OPEN_USER_ID": None, "FXIAOKE_EMPLOYEE_ID": "1000"}


@pytest.fixture
def crm(tmp_path: Path) -> Iterator[Lab]:
    with lab("fxiaoke", tmp_path, days=2) as ready:
        yield ready


def truth(crm: Lab, stream: str, *days: int) -> list[Row]:
    return [row for number in days for row in crm.sandbox.truth(stream=stream, day=str(day(number)))]


def ids(crm: Lab, number: int = 1) -> list[str]:
    return sorted(row["_id"] for row in truth(crm, "inventory_reports", number))


def received(crm: Lab, stream: str, number: int = 1) -> list[str]:
    """The ids of the rows of a day that an extract receives; it asks for one millisecond more."""
    start = START + (number - 1) * MS
    rows = crm.extract(stream, day(number))
    return [row["_id"] for row in rows if start <= row["last_modified_time"] < start + MS]


def change(crm: Lab, **changes: Any) -> Any:
    """A change to inventory reports."""
    return crm.sandbox.change("rows", object=INVENTORY, **changes)


def new(moment: int, name: str = "new", **fields: Any) -> Row:
    return {"name": name, "create_time": moment, "last_modified_time": moment, **fields}


def store(crm: Lab, way: int = 0) -> TokenStore:
    auth = crm.source.auth[way]
    assert isinstance(auth, TokenAuth)
    values = crm.api.connection.values
    return TokenStore(crm.folder / "data" / "tokens", {name: values[name] for name in auth.settings()})


def token(crm: Lab, way: int = 0) -> Token:
    kept = store(crm, way).kept()
    assert kept is not None
    return kept


# Tables


def test_every_declared_stream_is_covered_here(crm: Lab) -> None:
    assert {stream.name for stream in crm.source.streams} == {*DAILY, "objects"}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("stream", DAILY)
def test_a_daily_table_equals_the_truth_after_days_in_any_order_and_repeated(crm: Lab, stream: str) -> None:
    first, second, again = crm.run(stream, day(2), day(1), day(2))
    assert first.rows > 0
    assert second.rows > 0
    assert (again.changed, again.rows_in_table) == (False, first.rows + second.rows)
    crm.assert_true(stream, truth(crm, stream, 1, 2))
    for number in (1, 2):
        assert len(crm.table(stream, f"_partition = DATE '{day(number)}'")) == len(truth(crm, stream, number))


def test_the_catalogue_of_objects_is_a_snapshot(crm: Lab) -> None:
    crm.run("objects")
    crm.assert_true("objects", [kind.listed() for kind in OBJECTS.values()])


def test_undeclared_fields_and_companions_stay_in_extra(crm: Lab) -> None:
    api = {row["_id"]: row for row in crm.extract("inventory_reports", day(1))}
    crm.load("inventory_reports", day(1))
    declared = crm.stream("inventory_reports").columns.keys()
    rows = crm.table("inventory_reports")
    for row in rows:
        assert row["_extra"] == {name: value for name, value in api[row["_id"]].items() if name not in declared}
    for row, true in zip(sorted(rows, key=lambda row: row["_id"]), truth(crm, "inventory_reports", 1), strict=True):
        own = {name: value for name, value in true.items() if name.startswith(("field_", "UDS")) and value is not None}
        assert own.items() <= row["_extra"].items()
        assert row["_extra"]["owner__r"]["name"] == row["_extra"]["owner__l"][0]["name"]


def test_an_empty_field_is_left_out_by_the_api_and_null_in_the_table(crm: Lab) -> None:
    rows = crm.extract("accounts", day(1))
    crm.load("accounts", day(1))
    without = {row["_id"] for row in rows if "tel" not in row}
    assert {row["_id"] for row in crm.table("accounts", "tel IS NULL")} <= without < {row["_id"] for row in rows}


def test_values_are_exact(crm: Lab) -> None:
    fields = {
        "account_no": "C1", "last_deal_closed_amount": "12345678901234567890.12", "total_refund_amount": "-0.10",
        "mc_exchange_rate": "7.123456", "last_followed_time": START + 123, "owner": ["1001"], "version": "12",
    }  # fmt: skip
    crm.sandbox.change("rows", object="AccountObj", insert=[new(START + 1, "exact", **fields)])
    crm.run("accounts", day(1))
    (row,) = crm.table("accounts", "name = 'exact'")
    assert (row["last_deal_closed_amount"], row["total_refund_amount"], row["mc_exchange_rate"]) == (
        Decimal("12345678901234567890.12"), Decimal("-0.10"), Decimal("7.123456"),
    )  # fmt: skip
    assert row["last_followed_time"] == datetime(2026, 1, 4, 16, 0, 0, 123_000, UTC)
    assert row["last_modified_time"] == datetime(2026, 1, 4, 16, 0, 0, 1_000, UTC)
    assert (row["_partition"], row["version"], row["email"]) == (day(1), 12, None)
    (person,) = row["owner"]
    assert person.startswith("FSUID_")
    assert row["relevant_team"][0]["teamMemberEmployee"] == [person]


USERS_OWN = """
- name: warehouses
  path: /cgi/crm/custom/v2/data/query
  values: {object: object_inventory_report__c}
  columns:
    _id: string
    name: string
    last_modified_time: {type: timestamp, format: epoch_ms, required: true}
    field_wH7cD__c: {type: string, name: code}
    field_Q1w2E__c: {type: "decimal(38,2)", name: amount}
    field_date__c: {type: date, format: epoch_ms, name: counted_on}
    field_cHk2W__c: {type: timestamp, format: epoch_ms, name: counted_at}
    field_sel__c: {type: string, name: status}
    field_sel__c__o: {type: string, name: other_status}
    account_id__c: {type: string, name: account}
    account_id__c__r: {type: string, name: account_name}
    field_cAp3T__c: {type: integer, name: capacity}
    field_sTk8N__c: {type: "decimal(18,4)", name: stock}
    field_uTl9P__c: {type: number, name: used}
    field_aRr6M__c: {type: json, name: kinds}
    field_kPr1U__c: {type: json, name: keepers}
    field_oPn6X__c: {type: integer, name: opens}
    field_bOn5Y__c: {type: boolean, name: bonded}
    field_iMg8Q__c: {type: json, name: pictures}
"""


def test_a_custom_object_is_declared_in_a_users_own_stream_file(tmp_path: Path) -> None:
    with lab("fxiaoke", tmp_path, change=lambda tree: tree["streams"].extend(yaml.safe_load(USERS_OWN))) as crm:
        crm.run("warehouses", day(1), day(2), day(3))
        rows = truth(crm, "inventory_reports", 1, 2, 3)
        crm.assert_true("warehouses", rows)
        # The simulator has amounts that no float holds, negative ones and none.
        amounts = {row["amount"] for row in crm.table("warehouses")}
        assert max(len(str(amount)) for amount in amounts) > 17
        assert {True, False, None} <= {amount and amount < 0 for amount in amounts}
        assert {row["counted_on"] for row in crm.table("warehouses")} == {None, day(1), day(2), day(3)}


# Days


@pytest.mark.parametrize("inclusive", [True, False])
def test_rows_at_the_edges_of_a_day_land_in_exactly_one(crm: Lab, inclusive: bool) -> None:
    crm.sandbox.change("settings", inclusive=inclusive)
    edges = {"before": -1, "first": 0, "last": MS - 1, "after": MS}
    change(crm, insert=[new(START + EMPTY * MS + moment, name) for name, moment in edges.items()])
    crm.run("inventory_reports", day(EMPTY), day(EMPTY + 1), day(EMPTY + 2))
    assert sorted(crm.sql("SELECT name, _partition FROM fxiaoke.inventory_reports")) == [
        ("after", day(EMPTY + 2)), ("before", day(EMPTY)), ("first", day(EMPTY + 1)), ("last", day(EMPTY + 1)),
    ]  # fmt: skip


def test_edits_inserts_and_deletions_are_followed_when_days_run_again(crm: Lab) -> None:
    stream = "accounts"
    crm.run(stream, day(1), day(2))
    edited, moved, gone, binned, *_ = [row["_id"] for row in truth(crm, stream, 1)]
    crm.sandbox.change(
        "rows",
        object="AccountObj",
        update=[
            {"_id": edited, "name": "edited", "last_modified_time": START + 7},
            {"_id": moved, "name": "moved", "last_modified_time": START + MS + 7},
        ],
        insert=[new(START + 8), new(START + MS + 8)],
        delete=[gone],
        invalidate=[binned],
    )
    crm.run(stream, day(2), day(1))
    crm.assert_true(stream, truth(crm, stream, 1, 2))
    assert crm.sql(f"SELECT name, _partition FROM fxiaoke.{stream} WHERE _id = '{moved}'") == [("moved", day(2))]
    assert [load.changed for load in crm.run(stream, day(1), day(2))] == [False, False]


def test_an_older_day_loaded_again_does_not_overwrite_newer_rows(crm: Lab) -> None:
    crm.run("inventory_reports", day(1))
    moved = ids(crm)[0]
    change(crm, update=[{"_id": moved, "name": "newer", "last_modified_time": START + MS + 5}])
    crm.run("inventory_reports", day(2))
    crm.load("inventory_reports", day(1))  # of the files that still hold the older version
    assert crm.sql(f"SELECT name, _partition FROM fxiaoke.inventory_reports WHERE _id = '{moved}'") == [
        ("newer", day(2))
    ]
    crm.assert_true("inventory_reports", truth(crm, "inventory_reports", 1, 2))


def test_a_day_that_became_empty_is_emptied(crm: Lab) -> None:
    (made,) = change(crm, insert=[new(START + EMPTY * MS)])["inserted"]
    assert crm.run("inventory_reports", day(EMPTY + 1))[0].rows_in_table == 1
    change(crm, delete=[made])
    assert crm.run("inventory_reports", day(EMPTY + 1))[0].rows_in_table == 0


# Pages


@pytest.mark.parametrize("rows", [0, 1, 100, 200])
def test_full_pages_end_where_they_end(crm: Lab, rows: int) -> None:
    change(crm, insert=[new(START + EMPTY * MS + number, str(number)) for number in range(rows)])
    found = crm.extract("inventory_reports", day(EMPTY + 1))
    assert sorted(int(row["name"]) for row in found) == list(range(rows))
    assert crm.sandbox.count(QUERY) == rows // 100 + 1


def test_more_rows_than_the_largest_offset_are_read(tmp_path: Path) -> None:
    with lab("fxiaoke", tmp_path, days=1, scale=130) as crm:
        (whole,) = crm.sandbox.truth(stream="inventory_reports", day=str(day(1)), total="true")
        assert whole["rows"] > 10_000
        crm.run("inventory_reports", day(1))
        ((rows, modified, names),) = crm.sql(
            "SELECT count(*), sum(epoch_ms(last_modified_time)), string_agg(_id, chr(10) ORDER BY _id) "
            "FROM fxiaoke.inventory_reports"
        )
        found = {"rows": rows, "modified": modified, "ids": hashlib.sha256(names.encode()).hexdigest()}
        assert found == whole


# What happens to a row of day 1 while its pages are read: 100 on the first, the others on the second.
MEANWHILE: dict[str, Any] = {
    "a row already read leaves the day": (10, lambda row: {"update": [{"_id": row}]}),
    "a row still unread leaves the day": (120, lambda row: {"update": [{"_id": row}]}),
    "a row already read changes": (10, lambda row: {"update": [{"_id": row, "last_modified_time": START + MS - 2}]}),
    "a row still unread changes": (120, lambda row: {"update": [{"_id": row, "last_modified_time": START + MS - 2}]}),
    "a row already read is deleted": (10, lambda row: {"delete": [row]}),
    "a row still unread is deleted": (120, lambda row: {"delete": [row]}),
    "a row comes in front": (None, lambda row: {"insert": [new(START, _id="0" * 24)]}),
    "a row comes behind": (None, lambda row: {"insert": [new(START, _id="f" * 24)]}),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("number", "made"), MEANWHILE.values(), ids=MEANWHILE)
def test_rows_that_change_between_pages_cost_no_other_row_and_double_none(
    tmp_path: Path, number: int | None, made: Any
) -> None:
    with lab("fxiaoke", tmp_path, days=2, scale=2) as crm:
        before = ids(crm)
        assert len(before) > 120
        touched = set() if number is None else {before[number]}
        change(crm, after=BETWEEN_PAGES, **made(before[number or 0]))
        found = received(crm, "inventory_reports")
        assert len(found) == len(set(found))
        assert set(before) - touched <= set(found)
        crm.load("inventory_reports", day(1))
        assert len(crm.table("inventory_reports")) == len(found)


# Tokens


def test_processes_that_start_together_ask_for_one_token(crm: Lab) -> None:
    crm.sandbox.change("settings", token_seconds=0.5)
    runs = [crm.process((stream, day(1)), (stream, day(2))) for stream in ("inventory_reports", "accounts")]
    assert [code for code, _ in output(*runs)] == [0, 0]
    for stream in ("inventory_reports", "accounts"):
        crm.assert_true(stream, truth(crm, stream, 1, 2))
    crm.extract("contacts", day(1))
    assert (crm.sandbox.count(LEGACY), crm.sandbox.count(QUERY)) == (1, 5)


def test_a_token_is_renewed_ten_minutes_before_its_end(crm: Lab) -> None:
    crm.extract("accounts", day(1))
    first = token(crm)
    assert first.renew_at - time.time() == pytest.approx(6600, abs=10)
    crm.sandbox.advance(6600)
    store(crm).keep(replace(first, renew_at=time.time()))  # our clock, too, has gone on
    crm.reopen()
    crm.extract("accounts", day(1))
    assert token(crm).value != first.value
    assert crm.sandbox.count(LEGACY) == 2


def test_a_token_that_others_obtained_before_is_renewed_at_its_own_time(crm: Lab, tmp_path: Path) -> None:
    crm.extract("accounts", day(1))
    crm.sandbox.advance(6500)
    with lab("fxiaoke", tmp_path / "other", sandbox=crm.sandbox) as other:
        other.extract("accounts", day(1))
        assert token(other).value == token(crm).value
        assert token(other).renew_at - time.time() == pytest.approx(100, abs=10)


def test_an_expired_token_is_renewed_once_and_the_request_repeated_once(tmp_path: Path) -> None:
    with lab("fxiaoke", tmp_path, days=1, scale=3) as crm:
        crm.sandbox.change("token", expire=True, after=BETWEEN_PAGES)
        crm.run("inventory_reports", day(1))
        crm.assert_true("inventory_reports", truth(crm, "inventory_reports", 1))
        assert (crm.sandbox.count(LEGACY), crm.sandbox.count(QUERY)) == (2, 3 + 1)


def test_a_dead_token_that_is_handed_out_again_ends_in_an_error_not_in_a_loop(crm: Lab) -> None:
    crm.run("accounts", day(1))
    crm.sandbox.change("token", expire=True, stuck=True)
    crm.sandbox.clear_log()
    with pytest.raises(ApiError, match="error code 20016: the cropId,cropAccessToken or authorization is error"):
        crm.extract("accounts", day(1))
    assert (crm.sandbox.count(LEGACY), crm.sandbox.count(QUERY)) == (1, 2)


@pytest.mark.parametrize("code", [-1, 14001, 30004])
def test_a_busy_token_endpoint_is_asked_again(crm: Lab, code: int) -> None:
    crm.sandbox.fault(path=LEGACY, body={"errorCode": code, "errorMessage": "busy"})
    assert len(received(crm, "accounts")) == len(truth(crm, "accounts", 1))
    assert crm.sandbox.count(LEGACY) == 2


def test_a_wrong_secret_is_final_and_says_so(tmp_path: Path) -> None:
    with lab("fxiaoke", tmp_path, env={"FXIAOKE_APP_SECRET": "wrong-secret"}) as crm:
        with pytest.raises(ApiError, match="10006.*appSecret is missing or illegal") as caught:
            crm.extract("accounts", day(1))
        assert crm.sandbox.count() == 1
        assert leaks(tmp_path, crm.secrets(), str(caught.value)) == []


def test_both_styles_give_the_same_table(crm: Lab, tmp_path: Path) -> None:
    # The names of the enterprise are no secrets: they may stand in rows.
    crm.extract("departments", day(1))
    corporation = token(crm).plain["corp_id"]
    change(crm, insert=[new(START, f"demo_ea {corporation}")])
    crm.run("inventory_reports", day(1))
    assert len(crm.table("inventory_reports", f"name = 'demo_ea {corporation}'")) == 1
    legacy = crm.table("inventory_reports")
    with lab("fxiaoke", tmp_path / "current", sandbox=crm.sandbox, env=CURRENT_STYLE) as current:
        current.run("inventory_reports", day(1))
        assert current.sandbox.count(CURRENT) == 1
        assert token(current, 1).plain == {"ea": "demo_ea"}
        table = current.table("inventory_reports")
        assert leaks(current.folder, [*current.secrets(), token(current, 1).value]) == []
        current.assert_true("inventory_reports", truth(crm, "inventory_reports", 1))
    ours = {"_loaded_at": None}
    assert sorted(({**row, **ours} for row in table), key=lambda row: row["_id"]) == sorted(
        ({**row, **ours} for row in legacy), key=lambda row: row["_id"]
    )


def test_every_request_has_a_trace_id_of_its_own(crm: Lab) -> None:
    crm.sandbox.change("settings", trace_id="fresh")
    crm.sandbox.fault(path=QUERY, body={"errorCode": -1, "errorMessage": "busy"}, skip=1)
    crm.extract("inventory_reports", day(1))
    crm.extract("inventory_reports", day(2))
    queries = [dict(entry["query"]) for entry in crm.sandbox.log()]
    traces = [query.pop("thirdTraceId") for query in queries]
    assert {uuid.UUID(trace).version for trace in traces} == {4}
    assert len(set(traces)) == len(traces) - 1  # one request was repeated as it was
    assert queries == [{}] * 4


def test_no_secret_is_written_anywhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with lab("fxiaoke", tmp_path, days=1, scale=2) as crm, caplog.at_level(logging.DEBUG):
        crm.extract("accounts", day(1))
        tokens = [token(crm)]
        crm.sandbox.change("token", expire=True, after=BETWEEN_PAGES)
        crm.run("inventory_reports", day(1))
        tokens.append(token(crm))
        secrets = [*crm.secrets(), *(one.value for one in tokens)]
        assert len(set(secrets)) == 5
        echo = {"errorCode": 11001, "errorMessage": " ".join(secrets)}
        crm.sandbox.fault(path=QUERY, body=echo)
        with pytest.raises(ApiError, match="11001") as caught:
            crm.extract("inventory_reports", day(1))
        (file,) = crm.token_files()
        assert file.stat().st_mode & 0o777 == 0o600
        assert leaks(tmp_path, secrets, str(caught.value), repr(caught.value.__context__), caplog.text) == []


# Errors inside HTTP 200, and limits


def test_the_vendors_limits_are_declared(crm: Lab, tmp_path: Path) -> None:
    with lab("fxiaoke", tmp_path / "packaged", sandbox=crm.sandbox, limits=True) as packaged:
        rates = {"default": [Rate(count=100, seconds=20)], "token": [Rate(count=10, seconds=60)]}
        assert packaged.source.limits.rates == rates


@pytest.mark.parametrize("code", [30004, 14001, -1, -2, 50009])
def test_a_passing_error_is_retried(crm: Lab, code: int) -> None:
    crm.sandbox.fault(path=QUERY, body={"errorCode": code, "errorMessage": "later"}, times=2)
    assert len(received(crm, "accounts")) == len(truth(crm, "accounts", 1))
    assert crm.sandbox.count(QUERY) == 3


def test_an_error_that_does_not_pass_ends_as_one_worth_a_later_run(crm: Lab) -> None:
    crm.sandbox.change("settings", calls=0, rate_code=14001)
    with pytest.raises(ApiUnavailable, match="error code 14001: 接口调用超过限制; gave up after 7 attempts"):
        crm.extract("accounts", day(1))


FINAL = {30002: "当天访问频次超限", 15003: "no permission", 30003: "no quota", 20017: "corpId not found", 10013: "deep"}


@pytest.mark.parametrize(("code", "message"), FINAL.items())
def test_any_other_error_is_final(crm: Lab, code: int, message: str) -> None:
    crm.sandbox.fault(path=QUERY, body={"errorCode": code, "errorMessage": message, "data": None})
    with pytest.raises(ApiError, match=f"error code {code}: {message}") as caught:
        crm.extract("departments", day(1))
    assert (caught.value.code, crm.sandbox.count(QUERY)) == (str(code), 1)


def test_a_used_up_daily_quota_is_final_and_leaves_the_table_as_it_was(crm: Lab) -> None:
    crm.run("departments", day(1))
    before = crm.table("departments")
    crm.sandbox.change("settings", daily_calls=0)
    with pytest.raises(ApiError, match="error code 30002: 当天访问频次超限"):
        crm.run("departments", day(1))
    assert not crm.load("departments", day(1)).changed
    assert crm.table("departments") == before != []


NO_ANSWERS: dict[str, Row] = {
    "no error code": {"body": {"data": {"dataList": []}}},
    "no list": {"body": {"errorCode": 0, "data": {"dataList": {"_id": "1"}}}},
    "an empty body": {"empty": True},
    "HTML, as from a wrong host": {"html": True},
    "half of the answer": {"cut": 200},
}


@pytest.mark.parametrize("fault", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_what_is_no_answer_is_never_an_empty_table(crm: Lab, fault: Row) -> None:
    crm.sandbox.fault(path=QUERY, times=-1, **fault)
    with pytest.raises((ApiError, ApiUnavailable), match="POST /cgi/crm/v2/data/query"):
        crm.extract("accounts", day(1))


# Reconciliation


def only(*streams: str) -> Any:
    """Leaves no other streams in the stream file."""

    def change(tree: Row) -> None:
        tree["streams"] = [stream for stream in tree["streams"] if stream["name"] in (*streams, tree.get("check"))]

    return change


def reconciled(crm: Lab) -> dict[tuple[str, date], Difference]:
    found = reconcile(crm.pipeline, crm.api, day(1), day(2), RUN_ID)
    return {(one.stream, one.day): one.difference for one in found}


def loads(crm: Lab) -> dict[date, int]:
    return dict(crm.sql("SELECT partition, count(*) FROM ops.loads GROUP BY ALL"))


def test_reconciling_finds_late_changes_and_loads_the_days_that_differ(tmp_path: Path) -> None:
    with lab("fxiaoke", tmp_path, days=2, change=only("inventory_reports")) as crm:
        crm.run("inventory_reports", day(1), day(2))
        rows = {row["_id"]: row for row in truth(crm, "inventory_reports", 1)}
        late = [{"_id": key, "name": "late", "last_modified_time": rows[key]["last_modified_time"]} for key in rows]
        change(crm, update=late[:3], insert=[new(START + 9), new(START + 10)], delete=[late[5]["_id"]])
        assert reconciled(crm) == {
            ("inventory_reports", day(1)): Difference(missing=2, changed=3, surplus=1),
            ("inventory_reports", day(2)): Difference(0, 0, 0),
        }
        crm.assert_true("inventory_reports", truth(crm, "inventory_reports", 1, 2))
        assert loads(crm) == {day(1): 2, day(2): 1}
        assert set(reconciled(crm).values()) == {Difference(0, 0, 0)}
        assert loads(crm) == {day(1): 2, day(2): 1}


@pytest.mark.parametrize(("origin", "target"), [(1, 2), (2, 1)])
def test_reconciling_follows_a_row_to_a_later_or_earlier_day(tmp_path: Path, origin: int, target: int) -> None:
    with lab("fxiaoke", tmp_path, days=2, change=only("inventory_reports")) as crm:
        crm.run("inventory_reports", day(1), day(2))
        moved = {"_id": ids(crm, origin)[3], "last_modified_time": START + (target - 1) * MS + 77}
        change(crm, update=[moved])
        reconciled(crm)
        crm.assert_true("inventory_reports", truth(crm, "inventory_reports", 1, 2))
        assert set(reconciled(crm).values()) == {Difference(0, 0, 0)}


# What the sample code of seed 004 does wrong


def test_a_day_is_read_by_posts_in_pages_of_a_hundred_whose_total_does_not_count(tmp_path: Path) -> None:
    with lab("fxiaoke", tmp_path, days=1, scale=2) as crm:
        found = received(crm, "inventory_reports")
        assert (len(found), sorted(found)) == (156, ids(crm))
        custom = "/cgi/crm/custom/v2/data/query"
        assert [(entry["method"], entry["path"]) for entry in crm.sandbox.log()] == [
            ("POST", LEGACY), ("POST", custom), ("POST", custom),
        ]  # fmt: skip
        pages = [json.loads(body)["data"] for _, _, body in crm.pages("inventory_reports", day(1))]
        assert [page["total"] for page in pages] == [0, 0]


def test_the_last_short_page_counts(crm: Lab) -> None:
    change(crm, insert=[new(START + EMPTY * MS)])
    assert crm.run("inventory_reports", day(EMPTY + 1))[0].rows_in_table == 1
