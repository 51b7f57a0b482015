"""The published shapes, down to the tables."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets.streamfiles import packaged_files, read_source
from etl_assets_tests.qeasy.material import (
    NODES,
    ORDERS,
    SHOPS,
    WAREHOUSES,
    Tree,
    imported,
    loading,
    stream_of,
    warned,
    warnings_of,
    whole,
)
from etl_assets_tests.sources.truth import day

# The two published shapes, down to the tables


def test_the_shops_scheme_loads_the_shops(jushuitan: Sandbox, tmp_path: Path) -> None:
    with loading(jushuitan, tmp_path, SHOPS) as lab:
        lab.run("shops")
        truth = jushuitan.truth(stream="shops")
        lab.assert_true("shops", truth)
        names = {row["shop_id"]: row["nick"] for row in truth}
        assert {row["shop_id"]: row["_extra"]["nick"] for row in lab.table("shops")} == names


def test_a_changed_shop_is_changed_here_although_id_check_would_skip_it(tmp_path: Path) -> None:
    with running(vendors=("jushuitan",)) as sandbox, loading(sandbox, tmp_path, SHOPS) as lab:
        lab.run("shops")
        sandbox.change("shops", update=[{"shop_id": 10_001, "shop_name": "another"}])
        lab.run("shops")
        assert [row["shop_name"] for row in lab.table("shops", "shop_id = 10001")] == ["another"]


@pytest.mark.parametrize("metadata", [WAREHOUSES, NODES], ids=["object", "nodes"])
def test_the_warehouse_scheme_loads_every_day_of_the_object(fxiaoke: Sandbox, tmp_path: Path, metadata: Tree) -> None:
    with loading(fxiaoke, tmp_path, metadata) as lab:
        lab.run("inventory_reports", day(2), day(1), day(2))
        truth = [row for number in (1, 2) for row in fxiaoke.truth(stream="inventory_reports", day=str(day(number)))]
        assert len(truth) > 100  # more than a page
        lab.assert_true("inventory_reports", truth)
        stock = {row["_id"]: row["field_sTk8N__c"] for row in truth}
        assert {row["_id"]: whole(row)["field_sTk8N__c"] for row in lab.table("inventory_reports")} == stock


def test_both_forms_of_a_query_ask_the_same() -> None:
    first, second = stream_of(WAREHOUSES).json_body, stream_of(NODES).json_body
    assert first == second
    assert first["data"]["search_query_info"] == {
        "limit": "{size}",
        "offset": 0,
        "filters": [
            {"field_name": "last_modified_time", "operator": "GTE", "field_values": ["{since}"]},
            {"field_name": "last_modified_time", "operator": "LTE", "field_values": ["{until}"]},
            {"field_name": "_id", "operator": "GT", "field_values": ["{last}"]},
        ],
        "orders": [{"fieldName": "_id", "isAsc": True}],
    }


def test_what_the_warehouse_scheme_loses_is_told() -> None:
    warnings = warnings_of(WAREHOUSES)
    assert "FXIAOKE_OPEN_USER_ID=FSUID_0123456789" in warned(warnings, "source.otherRequest.currentOpenUserId")
    assert "_extra" in warned(warnings, "source.autoFillResponse")
    assert "replaced" in warned(warnings, "source.request.search_query_info.limit")
    assert "land-only (写入空操作)" in warned(warnings, "target.effect")
    assert "QEASY_FXIAOKE_BASE_URL" in warned(warnings, "api")


def test_what_the_shops_scheme_loses_is_told() -> None:
    warnings = warnings_of(SHOPS)
    assert "updates are never dropped" in warned(warnings, "source.idCheck")
    assert "not sent" in warned(warnings, "source.request.nicks")
    assert "describes the parameter" in warned(warnings, "source.request.nicks.label")
    assert "land-only" in warned(warnings, "target.idCheck")


@pytest.mark.parametrize(("metadata", "vendor"), [(SHOPS, "jushuitan"), (WAREHOUSES, "fxiaoke")])
def test_settings_errors_and_limits_are_those_of_the_packaged_source(metadata: Tree, vendor: str) -> None:
    source, _ = imported(metadata)
    packaged = read_source(next(file for file in packaged_files() if file.stem == vendor))
    assert source.source == f"qeasy_{vendor}"
    for key in ("base_url", "timezone", "start", "reload_days", "settings", "auth", "errors", "limits"):
        assert getattr(source, key) == getattr(packaged, key), key


# Orders: overlap, child table, condition


def test_a_scheme_with_overlap_and_flattened_lines_loads_both_tables(jushuitan: Sandbox, tmp_path: Path) -> None:
    with loading(jushuitan, tmp_path, ORDERS) as lab:
        assert lab.stream("orders").window is not None
        lab.run("orders", day(2), day(1))
        for stream, truth in (("orders", "orders"), ("orders_items", "order_items")):
            rows = [row for number in (1, 2) for row in jushuitan.truth(stream=truth, day=str(day(number)))]
            if stream == "orders_items":
                stamped = {"parent_o_id": "o_id", "parent_modified": "modified"}
                lab.assert_true(stream, rows, names=stamped)
            else:
                lab.assert_true(stream, rows, unknown=["items"])
        assert lab.sql(
            "SELECT sum(json_array_length(items)) = (FROM (SELECT count(*) FROM qeasy_jushuitan.orders_items)) "
            "FROM qeasy_jushuitan.orders"
        ) == [(True,)]


def test_the_sql_of_a_condition_selects_the_rows_that_it_would_have_kept(jushuitan: Sandbox, tmp_path: Path) -> None:
    condition = [
        [{"field": "pay_amount", "logic": "egt", "value": 100}, {"field": "items.qty", "logic": "gt", "value": 1}],
        [
            {"field": "shop_id", "logic": "eq", "value": "10001"},
            {"field": "shop_name", "logic": "like", "value": "官方"},
        ],
        [
            {
                "field": "modified",
                "logic": "between",
                "value": "timestamp:2026-01-05 00:00:00,timestamp:2026-01-05 00:10:00",
            }
        ],
    ]
    metadata = {**ORDERS, "condition": condition}
    told = warned(warnings_of(metadata), "condition")
    with loading(jushuitan, tmp_path, metadata) as lab:
        lab.run("orders", day(1))
        sql = told.split("In SQL: ")[1].replace("SELECT *", "SELECT o_id")
        found = {key for (key,) in lab.sql(sql)}
    rows = jushuitan.truth(stream="orders", day=str(day(1)))
    several = {item["o_id"] for item in jushuitan.truth(stream="order_items", day=str(day(1))) if item["qty"] > 1}
    kept = {
        row["o_id"]
        for row in rows
        if (row["pay_amount"] >= 100 and row["o_id"] in several)
        or (row["shop_id"] == 10_001 and "官方" in row["shop_name"])
        or row["modified"] <= "2026-01-05T00:10:00+08:00"
    }
    assert found == kept
    assert 0 < len(kept) < len(rows)


@pytest.mark.parametrize(
    ("logic", "value", "kept"),
    [
        ("eq", "a", ["a"]),
        ("neq", "a", ["b", "ab", None]),
        ("like", "b", ["b", "ab"]),
        ("like", "b%", ["b"]),
        ("notlike", "b", ["a"]),
        ("between", ["a", "aa"], ["a"]),
        ("notnull", None, ["a", "b", "ab"]),
        ("isnull", "", [None]),
    ],
)
@pytest.mark.parametrize("declared", [True, False], ids=["column", "extra"])
def test_every_logic_has_its_sql(logic: str, value: Any, kept: list[str | None], declared: bool) -> None:
    response = [{"field": "status", "type": "string"}] if declared else []
    condition = [[{"field": "status", "logic": logic, "value": value}]]
    told = warned(warnings_of({**SHOPS["source"], "response": response, "condition": condition}), "condition")
    where = told.split("WHERE ")[1]
    with duckdb.connect(":memory:") as db:
        db.execute("CREATE SCHEMA qeasy_jushuitan; USE qeasy_jushuitan")
        db.execute("CREATE TABLE shops (status VARCHAR, _extra JSON)")
        for text in ("a", "b", "ab", None):
            extra = json.dumps({} if text is None else {"status": text})
            db.execute("INSERT INTO shops VALUES (?, ?)", [text if declared else "a", extra if not declared else "{}"])
        column = "status" if declared else "_extra->>'status'"
        assert [text for (text,) in db.execute(f"SELECT {column} FROM shops WHERE {where}").fetchall()] == kept


def test_a_condition_that_cannot_be_put_in_sql_is_named() -> None:
    condition = [[{"field": "status", "logic": "soundslike", "value": "x"}, {"logic": "eq", "value": 1}]]
    warnings = warnings_of({**SHOPS["source"], "condition": condition})
    assert "soundslike" in warned(warnings, "condition[0][0].logic")
    assert "names no field" in warned(warnings, "condition[0][1]")
    assert warned(warnings, "condition").endswith("WHERE true")
