"""Fxiaoke: changes that users make through the API, and those that tests make behind it."""

from typing import Any

import pytest

from etl_assets.sandbox.handle import Sandbox
from etl_assets_tests.sandbox.fxiaoke_api import DAY, INVENTORY, START, Crm, Row, of_day, path

pytest_plugins = ("etl_assets_tests.sandbox.fxiaoke_fixtures",)

END = START + 3 * DAY


def create(crm: Crm, name: str, fields: Row, *, details: Any = None, **top: Any) -> Row:
    data = {"object_data": {"dataObjectApiName": name, **fields}, "details": details}
    return crm.call(path("create", name), data=data, **top)


def update(crm: Crm, _object: str, **fields: Any) -> int:
    return crm.code(path("update", _object), data={"object_data": {"dataObjectApiName": _object, **fields}})


def get(crm: Crm, name: str, row_id: str) -> Row:
    answer = crm.data("get", name, objectDataId=row_id)
    assert answer["errorCode"] == 0
    row: Row = answer["data"]
    return row


def test_a_row_that_is_made_is_found_like_any_other(crm: Crm) -> None:
    fields = {"name": '新仓"甲"', "field_Q1w2E__c": 12.5, "field_date__c": START, "field_sel__c": "option2"}
    row_id = create(crm, INVENTORY, {**fields, "field_kPr1U__c": [crm.user]})["dataId"]
    row = get(crm, INVENTORY, row_id)
    assert len(row_id) == 24
    assert (
        row.items()
        >= {
            "name": '新仓"甲"',
            "field_Q1w2E__c": "12.50",
            "field_date__c": START,
            "owner": [crm.user],
            "created_by": [crm.user],
            "field_kPr1U__c": [crm.user],
            "version": "1",
        }.items()
    )
    assert row["create_time"] == row["last_modified_time"] >= END
    assert [row["_id"] for row in crm.rows(INVENTORY, ("create_time", "GTE", [END]))] == [row_id]


def test_an_order_is_made_with_its_lines(crm: Crm) -> None:
    account, product = crm.rows("AccountObj")[0]["_id"], crm.rows("ProductObj")[0]["_id"]
    lines = [{"product_id": product, "quantity": number, "subtotal": "9.999"} for number in (1, 2)]
    fields = {"account_id": account, "order_time": START}
    answer = create(crm, "SalesOrderObj", fields, details={"SalesOrderProductObj": lines}, includeDetailIds=True)
    ids = answer["details"]["SalesOrderProductObj"]
    found = crm.rows("SalesOrderProductObj", ("order_id", "IN", [answer["dataId"]]))
    assert {row["_id"] for row in found} == set(ids)
    assert {(row["quantity"], row["subtotal"]) for row in found} == {("1.00", "10.00"), ("2.00", "10.00")}
    assert get(crm, "SalesOrderObj", answer["dataId"])["name"].startswith("NEW")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, 15002),
        ({"name": "x", "field_sel__c": "option9"}, 15002),
        ({"name": "x", "field_Q1w2E__c": "viel"}, 15002),
        ({"name": "x", "field_date__c": "2026-01-05"}, 15002),
        ({"name": "x", "field_kPr1U__c": "1000"}, 15002),
        ({"name": "x", "field_none__c": 1}, 15002),
        ({"name": "x", "field_uTl9P__c": "1"}, 15002),
        ({"name": "x", "last_modified_time": 1}, 15002),
    ],
)
def test_a_row_that_makes_no_sense_is_not_made(crm: Crm, fxiaoke: Sandbox, fields: Row, code: int) -> None:
    count = len(fxiaoke.truth(stream="inventory_reports"))
    assert create(crm, INVENTORY, fields)["errorCode"] == code
    assert len(fxiaoke.truth(stream="inventory_reports")) == count


def test_details_of_another_object_are_refused(crm: Crm) -> None:
    account = crm.rows("AccountObj")[0]["_id"]
    fields = {"account_id": account, "order_time": START}
    assert create(crm, "SalesOrderObj", fields, details={"ContactObj": [{"name": "x"}]})["errorCode"] == 15002
    assert create(crm, "SalesOrderObj", fields, details={"SalesOrderProductObj": [{}]})["errorCode"] == 15002
    assert create(crm, "SalesOrderObj", fields, details=[])["errorCode"] == 0
    assert len(crm.rows("SalesOrderObj", ("create_time", "GTE", [END]))) == 1


def test_the_time_of_creation_counts_only_if_that_is_said(crm: Crm) -> None:
    fields = {"name": "x", "create_time": START - DAY}
    ids = [create(crm, INVENTORY, fields, hasSpecifyTime=said)["dataId"] for said in (False, True)]
    now, then = (get(crm, INVENTORY, row_id)["create_time"] for row_id in ids)
    assert (now >= END, then) == (True, START - DAY)


def test_a_change_moves_the_row_in_time_and_leaves_its_owner(crm: Crm) -> None:
    (before, *_) = crm.rows(INVENTORY, of_day())
    assert update(crm, INVENTORY, _id=before["_id"], name="改", owner=[crm.user], field_Q1w2E__c=None) == 0
    after = get(crm, INVENTORY, before["_id"])
    assert (after["name"], after["owner"]) == ("改", before["owner"])
    assert "field_Q1w2E__c" not in after
    assert int(after["version"]) == int(before["version"]) + 1
    assert after["last_modified_time"] >= END
    assert after["create_time"] == before["create_time"]
    assert before["_id"] not in [row["_id"] for row in crm.rows(INVENTORY, of_day())]


def test_what_may_not_be_changed_is_refused(crm: Crm) -> None:
    row_id = crm.rows(INVENTORY)[0]["_id"]
    assert update(crm, INVENTORY, _id=row_id, create_time=1) == 15002
    assert update(crm, INVENTORY, _id="f" * 24, name="x") == 15002
    assert update(crm, INVENTORY, name="x") == 15002
    assert crm.code(path("update", INVENTORY), data={"dataObjectApiName": INVENTORY}) == 32000
    assert crm.code(path("update", "AccountObj"), data={"object_data": {"dataObjectApiName": INVENTORY}}) == 11012


def test_a_row_is_invalidated_then_deleted(crm: Crm, fxiaoke: Sandbox) -> None:
    row_id = crm.rows(INVENTORY)[0]["_id"]
    assert crm.data("delete", INVENTORY, idList=[row_id])["errorCode"] == 15002
    assert crm.data("invalid", INVENTORY, object_data_id=row_id)["errorCode"] == 0
    assert crm.data("get", INVENTORY, objectDataId=row_id)["errorCode"] == 15002
    fxiaoke.change("settings", show_invalid=True)
    assert get(crm, INVENTORY, row_id)["life_status"] == "invalid"
    assert crm.data("delete", INVENTORY, idList=[row_id])["errorCode"] == 0
    assert crm.data("get", INVENTORY, objectDataId=row_id)["errorCode"] == 15002


def test_rows_are_invalidated_and_deleted_all_or_none(crm: Crm) -> None:
    ids = [row["_id"] for row in crm.rows(INVENTORY, limit=2)]
    bulk = "/cgi/crm/custom/data/invalid"
    assert crm.code(bulk, data={"dataObjectApiName": INVENTORY, "idList": [ids[0], "f" * 24]}) == 15002
    assert get(crm, INVENTORY, ids[0])["life_status"] == "normal"
    assert crm.code(bulk, data={"dataObjectApiName": INVENTORY, "idList": ids}) == 0
    assert crm.data("delete", INVENTORY, idList=[*ids, "f" * 24])["errorCode"] == 15002
    assert crm.data("delete", INVENTORY, idList=ids)["errorCode"] == 0
    assert crm.data("delete", INVENTORY)["errorCode"] == 32000


def test_nobody_changes_what_they_do_not_see(crm: Crm) -> None:
    row_id = crm.rows(INVENTORY, ("owner", "IN", ["1005"]))[0]["_id"]
    crm.user = "FSUID_NOBODY"
    assert create(crm, INVENTORY, {"name": "x"})["errorCode"] == 20014
    assert update(crm, INVENTORY, _id=row_id, name="x") == 20014
    assert crm.data("invalid", INVENTORY, object_data_id=row_id)["errorCode"] == 20014


def test_rows_can_be_put_anywhere_in_time_with_fields_nobody_described(crm: Crm, fxiaoke: Sandbox) -> None:
    new = {"name": "n", "field_new__c": {"a": [1]}, "field_Q1w2E__c": "not a number", "last_modified_time": START}
    (row_id,) = fxiaoke.change("rows", object=INVENTORY, insert=[new])["inserted"]
    row = next(row for row in crm.rows(INVENTORY, of_day()) if row["_id"] == row_id)
    assert row.items() >= new.items()
    assert row["owner"] == [crm.user]
    (truth,) = [row for row in fxiaoke.truth(stream="inventory_reports", day="2026-01-05") if row["_id"] == row_id]
    assert truth["field_new__c"] == {"a": [1]}
    assert truth["last_modified_time_utc"] == "2026-01-04T16:00:00.000Z"
    # A value that is no number is found by no comparison and breaks none.
    assert row_id not in [row["_id"] for row in crm.rows(INVENTORY, ("field_Q1w2E__c", "GT", ["0"]))]


def test_a_change_behind_the_api_makes_a_row_newer_unless_it_says_when(crm: Crm, fxiaoke: Sandbox) -> None:
    first, second, third = crm.rows(INVENTORY, of_day(), limit=3)
    fxiaoke.change(
        "rows",
        object=INVENTORY,
        update=[{"_id": first["_id"]}, {"_id": second["_id"], "last_modified_time": START + DAY}],
        delete=[third["_id"]],
    )
    assert get(crm, INVENTORY, first["_id"])["last_modified_time"] >= END
    assert second["_id"] in [row["_id"] for row in crm.rows(INVENTORY, of_day(1))]
    assert crm.data("get", INVENTORY, objectDataId=third["_id"])["errorCode"] == 15002


@pytest.mark.parametrize(
    "payload",
    [
        {"object": "NoneObj"},
        {"update": [{"_id": "f" * 24}]},
        {"update": [{"name": "of nothing"}]},
        {"delete": ["x"]},
        {"invalidate": ["x"]},
        {"insert": [{"nmae": "x"}]},
        {"create": [{}]},
    ],
)
def test_changes_that_make_no_sense_are_refused(fxiaoke: Sandbox, payload: Row) -> None:
    with pytest.raises(ValueError, match="rows"):
        fxiaoke.change("rows", **{"object": INVENTORY, **payload})
