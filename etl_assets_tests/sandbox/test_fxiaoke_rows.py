"""Fxiaoke: how rows, descriptions and the address book look."""

import re
from decimal import Decimal
from itertools import chain
from typing import Any

import pytest

from etl_assets.sandbox.handle import Sandbox
from etl_assets_tests.sandbox.fxiaoke_api import DAY, INVENTORY, OBJECTS, START, Crm, Row, of_day, path

pytest_plugins = ("etl_assets_tests.sandbox.fxiaoke_fixtures",)

DESCRIBE = "/cgi/crm/v2/object/describe"
EVERY_OBJECT = pytest.mark.parametrize("name", OBJECTS.values())
PERSON = re.compile(r"FSUID_[0-9A-F]{32}|-10000")
SHAPES: dict[str, type | tuple[type, ...]] = {
    "true_or_false": bool,
    "date": int,
    "date_time": int,
    "time": int,
    "employee": list,
    "employee_many": list,
    "department": list,
    "department_many": list,
    "select_many": (list, str),
    "image": list,
    "embedded_object_list": list,
}


def described(crm: Crm, name: str) -> Row:
    fields: Row = crm.call(DESCRIBE, apiName=name)["data"]["describe"]["fields"]
    return fields


def values(crm: Crm, name: str, *fields: str) -> list[Any]:
    return [row[field] for row in crm.all(name) for field in fields if field in row]


@EVERY_OBJECT
def test_every_value_is_of_the_type_that_the_object_describes(crm: Crm, name: str) -> None:
    fields = described(crm, name)
    for row in crm.all(name):
        for field, value in row.items():
            if field in fields:
                kind = fields[field].get("return_type", fields[field]["type"])
                # Old rows have a number for their version.
                shape = (str, int) if field == "version" else SHAPES.get(kind, str)
                assert isinstance(value, shape), (field, value)
            else:
                assert field[:-3] in fields or field.removesuffix("__v") in fields


@EVERY_OBJECT
def test_every_field_is_described_with_what_its_type_needs(crm: Crm, name: str) -> None:
    rows = crm.all(name)
    for field, facts in described(crm, name).items():
        assert facts["api_name"] == field
        assert facts["label"]
        assert facts["define_type"] in ("system", "package", "custom")
        if facts["type"] in ("number", "currency", "percentile"):
            numbers = [row[field] for row in rows if field in row and isinstance(row[field], str)]
            assert {-int(Decimal(number).as_tuple().exponent) for number in numbers} <= {facts["decimal_places"]}
        if facts["type"] in ("select_one", "record_type"):
            options = {option["value"] for option in facts["options"]}
            assert {row[field] for row in rows if field in row} <= options
        if facts["type"] == "date":
            assert {(row[field] - START) % DAY for row in rows if field in row} <= {0}
            assert (facts["time_zone"], facts["date_format"]) == ("GMT+8", "yyyy-MM-dd")
        if facts["type"] in ("object_reference", "master_detail"):
            targets = {row["_id"]: row["name"] for row in crm.all(facts["target_api_name"])}
            for row in rows:
                if row.get(field) in targets:
                    assert row[f"{field}__r"] == targets[row[field]]
            assert any(row.get(field) in targets for row in rows)


@EVERY_OBJECT
def test_every_row_has_the_system_fields(crm: Crm, name: str) -> None:
    for row in crm.all(name):
        assert row["object_describe_api_name"] == name
        assert row["life_status"] == "normal"
        assert row["is_deleted"] is False
        assert row["create_time"] <= row["last_modified_time"]
        assert PERSON.fullmatch(row["owner"][0])
        assert row["relevant_team"][0]["teamMemberEmployee"] == row["owner"]
        assert row["mc_exchange_rate"] == "1.000000"


def test_the_inventory_report_has_the_fields_of_the_tenant(crm: Crm) -> None:
    kinds = {
        name: facts["type"] for name, facts in described(crm, INVENTORY).items() if facts["define_type"] == "custom"
    }
    assert (
        kinds.items()
        >= {
            "field_Q1w2E__c": "currency",
            "field_date__c": "date",
            "field_sel__c": "select_one",
            "account_id__c": "object_reference",
            "field_cAp3T__c": "number",
            "field_sTk8N__c": "number",
            "field_lOc5A__c": "location",
            "field_uTl9P__c": "formula",
        }.items()
    )
    assert all(row["name"] for row in crm.all(INVENTORY))


def test_a_computed_field_agrees_with_what_it_is_computed_from(crm: Crm) -> None:
    for row in crm.all(INVENTORY):
        used = Decimal(row["field_sTk8N__c"]) / Decimal(row["field_cAp3T__c"]) * 100
        assert 0 <= used - Decimal(row["field_uTl9P__c"]) < Decimal("0.01")
        longitude, latitude, _ = row.get("field_lOc5A__c", "121#%$31#%$").split("#%$")
        assert 100 < float(longitude) < 130
        assert 20 < float(latitude) < 50


def test_an_order_is_the_sum_of_its_lines(crm: Crm) -> None:
    sums: dict[str, Decimal] = {}
    for line in crm.all("SalesOrderProductObj"):
        assert Decimal(line["sales_price"]) * Decimal(line["quantity"]) == Decimal(line["subtotal"])
        sums[line["order_id"]] = sums.get(line["order_id"], Decimal()) + Decimal(line["subtotal"])
    orders = {row["_id"]: Decimal(row["order_amount"]) for row in crm.all("SalesOrderObj")}
    assert sums == orders


def test_a_quote_shows_a_label_and_keeps_the_value_beside_it(crm: Crm) -> None:
    levels = {row["_id"]: row["account_level"] for row in crm.all("AccountObj")}
    labels = {option["value"]: option["label"] for option in described(crm, "AccountObj")["account_level"]["options"]}
    for row in crm.all("SalesOrderObj"):
        assert row["field_qLv1A__c"] == labels[row["field_qLv1A__c__v"]]
        assert levels.get(row["account_id"], row["field_qLv1A__c__v"]) == row["field_qLv1A__c__v"]


def test_amounts_have_more_digits_than_a_float_keeps(crm: Crm) -> None:
    amounts = values(crm, INVENTORY, "field_Q1w2E__c")
    assert any(len(amount) > 20 and f"{float(amount):.2f}" != amount for amount in amounts)
    assert any(amount.startswith("-") for amount in amounts)
    assert "0.00" in amounts
    assert len(amounts) < len(crm.all(INVENTORY))


def test_texts_have_everything_that_breaks_a_csv(crm: Crm) -> None:
    texts = "".join(values(crm, INVENTORY, "name", "field_rEm3Z__c") + values(crm, "AccountObj", "name", "remark"))
    assert all(
        text in texts for text in ('"', ",", "\n", "\r\n", "\t", "\\", "'", "🚚", "🔥", "𠮷", "\u2028", "，", "=")
    )
    assert "" in values(crm, INVENTORY, "field_rEm3Z__c")


def test_ids_are_of_two_kinds_and_order_as_text(crm: Crm) -> None:
    ids = values(crm, "AccountObj", "_id")
    assert {len(row_id) for row_id in ids} == {24, 32}
    assert all(re.fullmatch("[0-9a-f]+", row_id) for row_id in ids)
    assert ids == sorted(ids)
    assert {len(row_id) for row_id in values(crm, INVENTORY, "_id")} == {24}


def test_old_rows_have_another_look(crm: Crm) -> None:
    rows = crm.all("AccountObj")
    for row in rows:
        old = len(row["_id"]) == 32
        assert isinstance(row["version"], int) is old
        assert ("UDSText1__c" in row) is old
        if "UDMSel1__c" in row:
            assert isinstance(row["UDMSel1__c"], str) is old


def test_a_chosen_other_comes_with_its_text(crm: Crm) -> None:
    rows = crm.all(INVENTORY)
    others = [row for row in rows if row.get("field_sel__c") == "other"]
    assert others
    assert [row for row in rows if "field_sel__c__o" in row] == others


def test_companions_are_objects_for_people_and_text_for_references(crm: Crm) -> None:
    row = next(row for row in crm.all(INVENTORY) if {"account_id__c", "field_kPr1U__c"} <= row.keys())
    assert row["owner__l"] == [row["owner__r"]]
    assert row["owner__r"].keys() == {"id", "name", "dept", "status", "tenantId"}
    assert row["owner__r"]["id"].isdecimal()
    assert isinstance(row["account_id__c__r"], str)
    assert len(row["field_kPr1U__c__l"]) == len(row["field_kPr1U__c"]) == 2
    assert "field_kPr1U__c__r" not in row
    assert row["data_own_department__r"]["deptId"] == row["data_own_department"][0]
    assert row["relevant_team__r"].split(",")[0] == row["owner__r"]["name"]


@pytest.mark.parametrize(("style", "asked", "open_ids"), [
    ("legacy", None, True), ("legacy", False, False), ("current", None, False), ("current", True, True),
])  # fmt: skip
def test_people_are_fsuids_or_numbers_as_the_style_or_the_caller_wants(
    crm: Crm, style: str, asked: bool | None, open_ids: bool
) -> None:
    body: Row = {"data": {"dataObjectApiName": INVENTORY, "search_query_info": {"limit": 100}}}
    if asked is not None:
        body["convertUserId"] = asked
    where = path("query", INVENTORY)
    answer = crm.call(where, **body) if style == "legacy" else crm.post(where, body, crm.headers)
    rows = answer["data"]["dataList"]
    team = [member["teamMemberEmployee"] for row in rows for member in row["relevant_team"]]
    listed = [row[field] for row in rows for field in ("owner", "created_by", "field_kPr1U__c") if field in row]
    ids = set(chain(*team, *listed))
    assert "-10000" in ids
    assert {person.startswith("FSUID_") for person in ids - {"-10000"}} == {open_ids}


def test_a_name_follows_the_row_it_is_of(crm: Crm, fxiaoke: Sandbox) -> None:
    row = next(row for row in crm.rows(INVENTORY, of_day()) if "account_id__c" in row)
    fxiaoke.change("rows", object="AccountObj", update=[{"_id": row["account_id__c"], "name": "改名"}])
    assert crm.data("get", INVENTORY, objectDataId=row["_id"])["data"]["account_id__c__r"] == "改名"
    fxiaoke.change("rows", object="AccountObj", delete=[row["account_id__c"]])
    assert "account_id__c__r" not in crm.data("get", INVENTORY, objectDataId=row["_id"])["data"]


def test_all_objects_are_listed(crm: Crm) -> None:
    objects = crm.call("/cgi/crm/v2/object/list")["data"]["objects"]
    assert {row["describeApiName"]: row["defineType"] for row in objects} == {
        name: "custom" if name == INVENTORY else "package" for name in OBJECTS.values()
    }
    assert {row["describeDisplayName"] for row in objects} >= {"客户", "库存报告"}


def test_an_object_is_described_for_both_shapes_of_the_question(crm: Crm) -> None:
    flat = crm.call(DESCRIBE, apiName="SalesOrderObj", includeDetail=True)["data"]
    nested = crm.post(DESCRIBE, {"includeDetail": True, "data": {"apiName": "SalesOrderObj"}}, crm.headers)["data"]
    assert flat == nested
    assert [row["api_name"] for row in flat["detailDescribeList"]] == ["SalesOrderProductObj"]
    assert "detailDescribeList" not in crm.call(DESCRIBE, apiName="SalesOrderObj")["data"]
    assert crm.code(DESCRIBE, apiName="NoneObj") == 15002
    assert crm.code(DESCRIBE) == 32000


def test_users_are_those_of_a_department_and_of_those_below(crm: Crm) -> None:
    def users(department: Any, **more: Any) -> list[Row]:
        rows: list[Row] = crm.call("/cgi/user/list", departmentId=department, **more)["userList"]
        return rows

    assert users(999999) == []
    everybody = users(999999, fetchChild=True, showDepartmentIdsDetail=True)
    assert len(everybody) == 40
    assert {user["isStop"] for user in everybody} == {True, False}
    assert all(1003 in user["departmentIds"] for user in users("1003"))
    assert any(user["attachingDepartmentIds"] == [1003] for user in everybody)
    assert "mainDepartmentId" not in users("1003")[0]
    simple = crm.call("/cgi/user/simpleList", departmentId=999999, fetchChild=True)["userList"]
    assert simple == [{name: user[name] for name in ("openUserId", "name", "nickName")} for user in everybody]
    assert [crm.code("/cgi/user/list", departmentId=unit) for unit in (None, 7)] == [30007, 30007]


def test_one_user_is_had_by_id_or_by_mobile(crm: Crm) -> None:
    user = crm.call("/cgi/user/get", openUserId=crm.user)
    assert (user["openUserId"], user["name"], user["errorMessage"]) == (crm.user, "王伟", "success")
    (found,) = crm.call("/cgi/user/getByMobile", mobile=user["mobile"])["empList"]
    assert found["openUserId"] == crm.user
    assert crm.code("/cgi/user/get", openUserId="FSUID_X") == 30027


def test_departments_and_people_are_objects_too(crm: Crm) -> None:
    departments = crm.call("/cgi/department/list")["departments"]
    rows = {row["dept_id"]: row for row in crm.all("DepartmentObj")}
    assert {str(unit["id"]): unit["name"] for unit in departments} == {k: row["name"] for k, row in rows.items()}
    assert {unit["parentId"] for unit in departments} == {0, 999999, 1001, 1002}
    assert [row["main_department"] for row in crm.rows("PersonnelObj", ("user_id", "EQ", ["1000"]))] == [["1000"]]
