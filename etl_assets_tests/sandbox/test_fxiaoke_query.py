"""Fxiaoke: what queries may ask, and what they find."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from etl_assets.sandbox.handle import Sandbox
from etl_assets_tests.sandbox.fxiaoke_api import DAY, INVENTORY, OBJECTS, START, Crm, Row, of_day, path

pytest_plugins = ("etl_assets_tests.sandbox.fxiaoke_fixtures",)

ACCOUNTS = "AccountObj"
MIDNIGHT, LAST = START, START + DAY - 1


def by(name: str, *, up: bool = True) -> list[Row]:
    return [{"fieldName": name, "isAsc": up}]


def people(crm: Crm) -> list[str]:
    users = crm.call("/cgi/user/list", departmentId=999999, fetchChild=True)["userList"]
    return [user["openUserId"] for user in users]


def test_a_page_has_20_rows_unless_it_is_asked_for_more(crm: Crm) -> None:
    data = crm.data("query", ACCOUNTS, search_query_info={})["data"]
    assert (data["offset"], data["limit"], len(data["dataList"])) == (0, 20, 20)
    assert len(crm.rows(INVENTORY, limit=100)) == 100


@pytest.mark.parametrize(
    ("info", "code"),
    [
        ({"limit": 101}, 15002),
        ({"limit": 0}, 15002),
        ({"limit": "ten"}, 15002),
        ({"limit": 10.5}, 15002),
        ({"offset": 50}, 15002),
        ({"offset": -100}, 15002),
        ({"offset": 10_100}, 10013),
        ({"filters": {"条件1": {"field_name": "_id", "operator": "EQ", "field_values": ["x"]}}}, 32000),
        ({"filters": ["_id"]}, 32000),
        ({"filters": [{"field_name": "_id", "operator": "EQ", "field_values": "x"}]}, 32000),
        ({"filters": [{"field_name": "_id", "operator": "NEQ", "field_values": ["x"]}]}, 15002),
        ({"filters": [{"field_name": "_id", "operator": [], "field_values": ["x"]}]}, 15002),
        ({"filters": [{"field_name": "id", "operator": "EQ", "field_values": ["x"]}]}, 15002),
        ({"filters": [{"field_name": "_id", "operator": "EQ", "field_values": []}]}, 15002),
        ({"filters": [{"field_name": "create_time", "operator": "BETWEEN", "field_values": [1]}]}, 15002),
        ({"filters": [{"field_name": "create_time", "operator": "GT", "field_values": ["2026-01-05"]}]}, 15002),
        ({"filters": [{"field_name": "completion_rate", "operator": "GT", "field_values": ["NaN"]}]}, 15002),
        ({"orders": {"fieldName": "_id"}}, 32000),
        ({"fieldProjection": "_id"}, 32000),
    ],
)
def test_a_query_that_makes_no_sense_is_refused(crm: Crm, info: Row, code: int) -> None:
    assert crm.ask(ACCOUNTS, **info)["errorCode"] == code


def test_a_query_needs_its_parts(crm: Crm) -> None:
    query = path("query", ACCOUNTS)
    assert crm.code(query) == 32000
    assert crm.code(query, data={"search_query_info": {}}) == 32000
    assert crm.code(query, data={"dataObjectApiName": ACCOUNTS}) == 32000
    assert crm.code(query, data={"dataObjectApiName": "NoneObj", "search_query_info": {}}) == 15002
    # Only the address book takes its parameters outside of `data`.
    assert crm.code(query, dataObjectApiName=ACCOUNTS, search_query_info={}) == 32000


def test_an_offset_may_be_10000_and_no_more(crm: Crm) -> None:
    assert crm.rows(ACCOUNTS, offset=10_000) == []
    answer = crm.ask(ACCOUNTS, offset=10_100)
    assert (answer["errorCode"], answer["errorMessage"]) == (10013, "offset 不能超过10000")


def test_numbers_as_text_are_tolerated_or_refused(crm: Crm, fxiaoke: Sandbox) -> None:
    assert len(crm.rows(ACCOUNTS, limit="10", offset="0")) == 10
    fxiaoke.change("settings", quoted_numbers=False)
    assert crm.ask(ACCOUNTS, limit="10")["errorCode"] == 15002


def test_the_total_counts_all_pages_and_is_0_where_it_is_switched_off(crm: Crm, fxiaoke: Sandbox) -> None:
    count = len(fxiaoke.truth(stream="accounts"))
    info: Row = {"limit": 10, "offset": 20, "filters": []}

    def total(*, top: Row | None = None, **data: Any) -> int:
        data = {"dataObjectApiName": ACCOUNTS, "search_query_info": info, **data}
        answer = crm.call(path("query", ACCOUNTS), data=data, **(top or {}))["data"]
        assert len(answer["dataList"]) == 10
        return int(answer["total"])

    assert total() == count
    assert (total(find_explicit_total_num=True), total(find_explicit_total_num=False)) == (count, 0)
    assert [total(top={"returnTotalNum": number}) for number in (1, 2, 3)] == [count, count, 0]
    assert [total(top={"need_return_count_num": wanted}) for wanted in (True, False)] == [count, 0]
    assert total(top={"find_explicit_total_num": False}) == count  # outside of data nobody reads it
    fxiaoke.change("settings", default_total=False)
    assert (total(), total(find_explicit_total_num=True)) == (0, count)


@pytest.mark.parametrize(
    ("name", "operator", "values", "right"),
    [
        ("account_level", "EQ", ["1"], lambda v: v == "1"),
        ("account_level", "N", ["1"], lambda v: v != "1"),
        ("account_source", "N", ["1"], lambda v: v != "1"),
        ("account_source", "IN", ["1", "2"], lambda v: v in ("1", "2")),
        ("account_source", "NIN", ["1", "2"], lambda v: v not in ("1", "2")),
        ("account_source", "IS", [], lambda v: v is None),
        ("account_source", "ISN", [""], lambda v: v is not None),
        ("account_source", "EXISTS", None, lambda v: v is not None),
        ("account_source", "NEXISTS", [], lambda v: v is None),
        ("remark", "IS", [], lambda v: v in (None, "")),
        ("name", "LIKE", ["物流"], lambda v: "物流" in v),
        ("name", "NLIKE", ["物流"], lambda v: "物流" not in v),
        ("name", "STARTWITH", ["上海"], lambda v: v.startswith("上海")),
        ("name", "ENDWITH", ["7"], lambda v: v.endswith("7")),
        ("completion_rate", "GT", ["9.5"], lambda v: Decimal(v) > Decimal("9.5")),
        ("completion_rate", "LTE", [50], lambda v: Decimal(v) <= 50),
        ("completion_rate", "BETWEEN", ["9", "80.5"], lambda v: 9 <= Decimal(v) <= Decimal("80.5")),
        ("completion_rate", "NBETWEEN", ["9", "80.5"], lambda v: not 9 <= Decimal(v) <= Decimal("80.5")),
        ("transfer_count", "EQ", ["2.0"], lambda v: v == "2"),
        ("create_time", "LT", [START], lambda v: v < START),
        ("create_time", "GTE", [str(START + DAY)], lambda v: v >= START + DAY),
        ("last_followed_time", "GT", [START], lambda v: v is not None and v > START),
        ("is_remind_recycling", "EQ", ["true"], lambda v: v is True),
        ("is_remind_recycling", "EQ", [False], lambda v: v is False),
        ("data_own_department", "IN", ["1001", "1002"], lambda v: v[0] in ("1001", "1002")),
        ("data_own_department", "HASANYOF", ["1001"], lambda v: "1001" in v),
        ("data_own_department", "NHASANYOF", ["1001"], lambda v: "1001" not in v),
        ("UDMSel1__c", "CONTAINS", ["a", "b"], lambda v: isinstance(v, list) and {"a", "b"} <= set(v)),
        ("UDMSel1__c", "LIKE", ["["], lambda v: isinstance(v, str)),
    ],
)
def test_operators(
    crm: Crm, fxiaoke: Sandbox, name: str, operator: str, values: list[Any], right: Callable[[Any], bool]
) -> None:
    truth = fxiaoke.truth(stream="accounts")
    expected = {row["_id"] for row in truth if right(row[name])}
    assert 0 < len(expected) < len(truth)
    assert {row["_id"] for row in crm.rows(ACCOUNTS, (name, operator, values))} == expected


@pytest.mark.parametrize("number", ["1005", "FSUID"])
def test_people_are_found_by_either_id(crm: Crm, fxiaoke: Sandbox, number: str) -> None:
    truth = {row["_id"] for row in fxiaoke.truth(stream="accounts", ids="crm") if row["owner"] == ["1005"]}
    owner = people(crm)[5] if number == "FSUID" else number
    assert {row["_id"] for row in crm.rows(ACCOUNTS, ("owner", "IN", [owner]))} == truth != set()


def test_all_filters_must_hold(crm: Crm) -> None:
    rows = crm.rows(ACCOUNTS, of_day(1), ("account_level", "EQ", ["1"]), ("deal_status", "IN", ["2", "3"]))
    assert rows
    assert {(row["account_level"], row["last_modified_time"] // DAY) for row in rows} <= {
        ("1", (START + DAY) // DAY), ("1", (START + 2 * DAY) // DAY),
    }  # fmt: skip
    assert len(rows) < len(crm.rows(ACCOUNTS, of_day(1)))


def test_between_includes_both_ends_or_only_the_first(crm: Crm, fxiaoke: Sandbox) -> None:
    def times() -> set[int]:
        window = ("last_modified_time", "BETWEEN", [MIDNIGHT, LAST])
        return {row["last_modified_time"] for row in crm.rows(INVENTORY, window)}

    assert {MIDNIGHT, LAST} <= times()
    fxiaoke.change("settings", inclusive=False)
    assert MIDNIGHT in times()
    assert LAST not in times()


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("name", ["_id", "last_modified_time", "create_time", "name", "completion_rate"])
def test_rows_come_in_the_order_asked_for(crm: Crm, name: str, up: bool) -> None:
    rows = crm.rows(ACCOUNTS, orders=by(name, up=up))
    keys = [Decimal(row[name]) if name == "completion_rate" else row[name] for row in rows]
    assert keys == sorted(keys, reverse=not up)
    assert len(set(keys)) > 30


def test_a_second_order_decides_between_equals(crm: Crm) -> None:
    rows = crm.rows(ACCOUNTS, orders=[*by("account_level", up=False), *by("last_modified_time")])
    keys = [(-int(row["account_level"]), row["last_modified_time"]) for row in rows]
    assert keys == sorted(keys)


def test_empty_values_come_after_all_others(crm: Crm) -> None:
    sources = [row.get("account_source", "9") for row in crm.rows(ACCOUNTS, orders=by("account_source"))]
    assert sources == sorted(sources)
    assert "9" in sources


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"orders": []},
        {"order": by("_id")},
        {"orders": [{"field_name": "_id", "isAsc": True}]},
        {"orders": by("_Id")},
    ],
)
def test_without_an_order_that_is_understood_rows_come_in_none(crm: Crm, info: Row) -> None:
    rows = crm.rows(ACCOUNTS, **info)
    for name in ("_id", "last_modified_time", "create_time"):
        keys = [row[name] for row in rows]
        assert keys not in (sorted(keys), sorted(keys, reverse=True))


def test_rows_without_an_order_can_come_in_another_one_each_time(crm: Crm, fxiaoke: Sandbox) -> None:
    def ids(**info: Any) -> list[str]:
        return [row["_id"] for row in crm.rows(ACCOUNTS, **info)]

    assert ids() == ids()
    fxiaoke.change("settings", shuffle=True)
    assert len({tuple(ids()) for _ in range(3)}) == 3
    assert len({tuple(ids(orders=by("_id"))) for _ in range(3)}) == 1


def test_a_projection_gives_the_fields_named_with_their_companions(crm: Crm) -> None:
    rows = crm.rows("ContactObj", fieldProjection=["name", "account_id", "owner", "nothing"])
    assert {name for row in rows for name in row} == {
        "name", "account_id", "account_id__r", "owner", "owner__r", "owner__l",
    }  # fmt: skip
    assert crm.rows("ContactObj", fieldProjection=[]) == crm.rows("ContactObj")


def test_empty_fields_are_left_out_unless_they_are_asked_for(crm: Crm) -> None:
    (row, *_) = crm.rows(ACCOUNTS, ("fax", "IS", []))
    assert "fax" not in row
    assert None not in row.values()
    data = {"dataObjectApiName": ACCOUNTS, "search_query_info": {"limit": 1}}
    (full,) = crm.call(path("query", ACCOUNTS), data=data, includeNull=True)["data"]["dataList"]
    described = crm.call("/cgi/crm/v2/object/describe", apiName=ACCOUNTS)["data"]["describe"]
    assert full["fax"] is None
    assert full.keys() >= described["fields"].keys()


@pytest.mark.parametrize("name", OBJECTS.values())
def test_an_object_is_served_by_one_family_of_paths_only(crm: Crm, fxiaoke: Sandbox, name: str) -> None:
    other = "/cgi/crm/v2/data/" if name.endswith("__c") else "/cgi/crm/custom/v2/data/"
    body: Row = {"data": {"dataObjectApiName": name, "search_query_info": {}}}
    codes = {}
    for code in (11012, 11099, 0):
        fxiaoke.change("settings", family_code=code)
        codes[code] = crm.code(other + "query", **body)
        assert crm.rows(name)
    assert codes == {11012: 11012, 11099: 11099, 0: 0}


@pytest.mark.parametrize("name", [ACCOUNTS, INVENTORY, "SalesOrderObj"])
def test_the_simple_query_serves_all_objects_and_computes_nothing(crm: Crm, name: str) -> None:
    data = {"dataObjectApiName": name, "search_query_info": {"limit": 100, "orders": by("_id")}}
    simple = crm.call("/cgi/crm/custom/v2/data/findSimple", data=data)["data"]["dataList"]
    computed = {"field_uTl9P__c", "field_cNt4R__c", "field_cOd4K__c", "field_qLv1A__c", "field_qLv1A__c__v"}
    full = crm.rows(name, orders=by("_id"))
    assert any(computed & row.keys() for row in full)
    assert simple == [{key: row[key] for key in row if key not in computed} for row in full]
    narrow = crm.call(path("findSimple", name), data={**data, "field_projection": ["_id"]})["data"]["dataList"]
    assert narrow == [{"_id": row["_id"]} for row in full]


def test_the_simple_query_for_preset_objects_knows_no_others(crm: Crm) -> None:
    data = {"dataObjectApiName": INVENTORY, "search_query_info": {}}
    assert crm.code("/cgi/crm/v2/data/findSimple", data=data) == 11012


@pytest.mark.parametrize("name", OBJECTS.values())
def test_one_row_is_had_by_its_id(crm: Crm, name: str) -> None:
    (row, *_) = crm.rows(name)
    assert crm.data("get", name, objectDataId=row["_id"])["data"] == row
    for unknown in ("", "f" * 24, "xyz", row["_id"][:-1] + "g", None):
        assert crm.data("get", name, objectDataId=unknown)["errorCode"] == 15002


def test_whoever_acts_sees_their_own_rows_and_gets_no_error(crm: Crm, fxiaoke: Sandbox) -> None:
    everything = len(crm.all(ACCOUNTS))
    crm.user = people(crm)[4]
    own = crm.all(ACCOUNTS)
    assert 0 < len(own) < everything / 5
    assert {row["_id"] for row in own} == {row["_id"] for row in fxiaoke.truth(stream="accounts", user=crm.user)}
    assert all(crm.user in str(row["relevant_team"]) for row in own)
    assert crm.ask(ACCOUNTS)["data"]["total"] == len(own)
    assert len(crm.rows("ProductObj", limit=100)) == 100
    crm.user = "FSUID_NOBODY"
    assert [crm.rows(name) for name in OBJECTS.values()] == [[]] * 8


def test_users_of_the_current_style_are_known_by_their_number(crm: Crm) -> None:
    body = {"data": {"dataObjectApiName": ACCOUNTS, "search_query_info": {"limit": 1}}}

    def total(user: str) -> int:
        return int(crm.post(path("query", ACCOUNTS), body, crm.headers | {"x-fs-userid": user})["data"]["total"])

    assert total("1000") > total("1004") > total("9999") == total(crm.user) == 0


def test_a_row_of_others_is_refused(crm: Crm) -> None:
    mine, theirs = people(crm)[4], crm.rows(ACCOUNTS, ("owner", "IN", ["1005"]), limit=1)[0]
    crm.user = mine
    assert crm.data("get", ACCOUNTS, objectDataId=theirs["_id"])["errorCode"] == 20014


def test_personnel_need_a_sharing_rule_even_for_the_administrator(crm: Crm, fxiaoke: Sandbox) -> None:
    assert len(crm.rows("PersonnelObj")) == 40
    fxiaoke.change("settings", personnel_shared=False)
    assert [row["user_id"] for row in crm.rows("PersonnelObj")] == ["1000"]


def test_rows_in_the_recycle_bin_are_hidden_or_shown(crm: Crm, fxiaoke: Sandbox) -> None:
    (row, *_) = shown = crm.rows(INVENTORY, of_day())
    fxiaoke.change("rows", object=INVENTORY, invalidate=[row["_id"]])
    assert crm.data("get", INVENTORY, objectDataId=row["_id"])["errorCode"] == 15002
    assert len(crm.rows(INVENTORY, of_day())) == len(shown) - 1
    before = len(crm.all(INVENTORY))
    fxiaoke.change("settings", show_invalid=True)
    found = {row["_id"]: row for row in crm.all(INVENTORY)}
    assert found[row["_id"]]["life_status_before_invalid"] == "normal"
    bin_rows = [row for row in found.values() if row["life_status"] == "invalid"]
    assert len(bin_rows) == len(found) - before == 7
    assert all(row["is_deleted"] for row in bin_rows)
