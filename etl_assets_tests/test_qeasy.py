"""Qeasy metadata to stream files: what is carried over, what is told instead, and that the streams load the truth."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from click.testing import CliRunner, Result

from etl_assets.cli import main
from etl_assets.errors import FinalError
from etl_assets.qeasy.convert import convert
from etl_assets.qeasy.told import CARRIED, INSTEAD
from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets.spec import Source, Stream
from etl_assets.streamfiles import packaged_files, read_source
from etl_assets_tests.http import Seen, answer, serving
from etl_assets_tests.sources.truth import Lab, day

Tree = dict[str, Any]

SHOPS: Tree = {  # the shape of the first published scheme: parameters as a list, an empty write behind it
    "source": {
        "api": "/open/shops/query",
        "method": "POST",
        "id": "shop_id",
        "number": "shop_name",
        "idCheck": True,
        "pagination": {"pageSize": 100},
        "request": [{"field": "nicks", "label": "主账号", "type": "array", "describe": "逐个精确匹配"}],
    },
    "target": {"api": "写入空操作", "method": "POST", "idCheck": True},
}
WAREHOUSES: Tree = {  # the shape of the second: an object, conditions under labels, everything found by itself
    "source": {
        "api": "/cgi/crm/custom/v2/data/query",
        "method": "POST",
        "id": "_id",
        "number": "name",
        "autoFillResponse": True,
        "request": {
            "dataObjectApiName": "object_inventory_report__c",
            "search_query_info": {
                "offset": "0",
                "limit": "20",
                "filters": {
                    "条件1": {
                        "field_name": "last_modified_time",
                        "operator": "GTE",
                        "field_values": {"value": "{LAST_SYNC_TIME}000", "parser": {"name": "StringToArray"}},
                    }
                },
            },
        },
        "otherRequest": {"currentOpenUserId": "FSUID_0123456789"},
    },
    "target": {"api": "写入空操作", "effect": "EXECUTE", "method": "POST", "idCheck": True},
}
NODES: Tree = {  # the same query as a list of nodes, as exports have it
    **WAREHOUSES["source"],
    "request": [
        {
            "field": "search_query_info",
            "type": "object",
            "children": [
                {"field": "offset", "type": "string", "value": "{{PAGINATION_START_ROW}}"},
                {"field": "limit", "type": "string", "value": "{{PAGINATION_PAGE_SIZE}}"},
                {
                    "field": "filters",
                    "type": "object",
                    "children": [
                        {
                            "field": "条件1",
                            "type": "object",
                            "children": [
                                {"field": "field_name", "type": "string", "value": "last_modified_time"},
                                {
                                    "field": "field_values",
                                    "type": "string",
                                    "value": "{LAST_SYNC_TIME}000",
                                    "parser": {"name": "StringToArray", "params": ","},
                                },
                                {"field": "operator", "type": "string", "value": "GTE"},
                            ],
                        }
                    ],
                },
            ],
        },
        {"field": "dataObjectApiName", "type": "string", "value": "object_inventory_report__c"},
    ],
    "otherRequest": [{"field": "currentOpenUserId", "type": "string", "value": "FSUID_0123456789"}],
}
ORDERS: Tree = {
    "api": "/open/orders/single/query",
    "effect": "QUERY",
    "method": "POST",
    "id": "o_id",
    "number": "so_id",
    "idCheck": False,
    "pagination": {"pageSize": 30},
    "request": [
        {"field": "page_index", "type": "int", "value": "{{PAGINATION_START_PAGE}}"},
        {"field": "page_size", "type": "int", "value": "{{PAGINATION_PAGE_SIZE}}"},
        {"field": "modified_begin", "value": "_function FROM_UNIXTIME({{LAST_SYNC_TIME}}-600,'%Y-%m-%d %H:%i:%s')"},
        {"field": "modified_end", "type": "string", "value": "{{CURRENT_TIME|datetime}}"},
    ],
    "response": [
        {"field": "status", "type": "string", "label": "状态"},
        {"field": "shop_id", "type": "int"},
        {"field": "pay_amount", "type": "decimal"},
        {"field": "modified", "type": "datetime"},
        {"field": "is_cod", "type": "bool"},
        {
            "field": "items",
            "type": "array",
            "children": [{"field": "sku_id", "type": "string"}, {"field": "qty", "type": "int"}],
        },
    ],
    "beatFlat": ["items"],
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def jushuitan() -> Iterator[Sandbox]:
    with running(vendors=("jushuitan",), days=2) as sandbox:
        sandbox.change("settings", per_second=0, per_minute=0)
        yield sandbox


@pytest.fixture(scope="module")
def fxiaoke() -> Iterator[Sandbox]:
    with running(vendors=("fxiaoke",), days=2) as sandbox:
        yield sandbox


def imported(metadata: Any, *, name: str | None = None) -> tuple[Source, tuple[str, ...]]:
    """The source that the model reads from the import, and the warnings."""
    made = convert(json.dumps(metadata), name=name, origin="scheme.json")
    file = Path("imported.yaml")
    file.write_text(made.text, "utf-8")
    return read_source(file.resolve()), made.warnings


def stream_of(metadata: Any) -> Stream:
    return imported(metadata)[0].streams[0]


def warnings_of(metadata: Any) -> tuple[str, ...]:
    return imported(metadata)[1]


def warned(warnings: tuple[str, ...], path: str) -> str:
    """The warnings about a key."""
    found = [line for line in warnings if path in line.split(": ")[0].split(", ")]
    assert found, f"{path} is not among {warnings}"
    return "\n".join(found)


@contextmanager
def loading(sandbox: Sandbox, folder: Path, metadata: Any) -> Iterator[Lab]:
    """The imported source in a folder of its own, but without the waits of its rates."""
    made = convert(json.dumps(metadata), name=None, origin="scheme.json")
    tree = yaml.safe_load(made.text)
    tree["limits"]["rates"] = {"default": ["5000/1s"]}
    files = folder / "sources"
    files.mkdir()
    (files / "imported.yaml").write_text(yaml.safe_dump(tree, allow_unicode=True), "utf-8")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        ours = {"ETL_DATA_DIR": str(folder / "data"), "ETL_SOURCES_DIR": str(files)}
        for variable, value in {**sandbox.env(), **ours}.items():
            patch.setenv(variable, value)
        patch.setenv(f"{tree['source'].upper()}_BASE_URL", sandbox.url)
        lab = Lab(sandbox, tree["source"], folder)
        yield lab
        if "api" in vars(lab):
            lab.api.client.close()


def whole(row: Tree) -> Tree:
    """A table's row with what stands in `_extra`."""
    return {**row, **(row["_extra"] or {})}


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


# Placeholders


def asked(value: Any, *, kind: str | None = None, field: str = "modified_begin", **node: Any) -> tuple[Any, Any, str]:
    """A parameter's value in the request, the stream's window, and the warnings."""
    typed = {"type": kind} if kind else {}
    metadata = {
        "api": "https://erp.example/v1/rows",
        "method": "POST",
        "id": "id",
        "otherResponse": [{"field": "list", "value": "data.rows"}],
        "request": [{"field": field, "value": value, **typed, **node}],
    }
    source, warnings = imported(metadata)
    stream = source.streams[0]
    return (stream.json_body or {}).get(field), stream.window, "\n".join(warnings)


DATETIME = "%Y-%m-%d %H:%M:%S"


@pytest.mark.parametrize(
    ("value", "kind", "filled", "form"),
    [
        ("{{LAST_SYNC_TIME|datetime}}", "string", "{since}", DATETIME),
        ("{{ LAST_SYNC_TIME | date }}", "string", "{since}", "date"),
        ("{{LAST_SYNC_TIME|timestamp_ms}}", "string", "{since}", "epoch_ms_text"),
        ("{{LAST_SYNC_TIME|timestamp_ms}}", "int", "{since}", "epoch_ms"),
        ("{{LAST_SYNC_TIME}}", "int", "{since}", "epoch_s"),
        ("{LAST_SYNC_TIME}", "int", "{since}", "epoch_s"),
        ("{LAST_SYNC_TIME|datetime}", None, "{since}", DATETIME),
        ("{LAST_SYNC_TIME}000", "string", "{since}", "epoch_ms_text"),
        ("{LAST_SYNC_TIME}000", "int", "{since}", "epoch_ms"),
        ("{{LAST_SYNC_TIME}}000", None, "{since}", "epoch_ms_text"),
        ("_function FROM_UNIXTIME({{LAST_SYNC_TIME}})", "string", "{since}", DATETIME),
        ("_function FROM_UNIXTIME( {LAST_SYNC_TIME} , '%Y/%m/%d %T')", "string", "{since}", "%Y/%m/%d %H:%M:%S"),
        ('_function from_unixtime({{LAST_SYNC_TIME}},"%Y-%m-%d")', "string", "{since}", "%Y-%m-%d"),
        ("_function {{LAST_SYNC_TIME}}*1000", "int", "{since}", "epoch_ms"),
        ("{{DAYS_AGO_3|datetime}}", "string", "{since}", DATETIME),
        ("{{DAYS_AGO_1|date}}", "string", "{since}", "date"),
        ("{{CURRENT_TIME|date}}", "string", "{since}", "date"),
        (">={{LAST_SYNC_TIME|datetime}}", "string", ">={since}", DATETIME),
    ],
)
def test_a_time_becomes_the_beginning_of_the_day(value: str, kind: str | None, filled: str, form: str) -> None:
    sent, window, _ = asked(value, kind=kind)
    assert (sent, window.column, window.format) == (filled, "modified", form)


@pytest.mark.parametrize("value", ["{{CURRENT_TIME|datetime}}", "{{DAYS_AGO_0|datetime}}"])
@pytest.mark.parametrize("field", ["modified_end", "modified_to", "modifiedEnd", "end_modified", "modified_before"])
def test_a_time_in_a_parameter_for_an_end_becomes_the_end_of_the_day(value: str, field: str) -> None:
    sent, window, told = asked(value, field=field)
    assert (sent, window.column, window.format) == ("{until}", "modified", DATETIME)
    assert "no beginning is asked for" in told


@pytest.mark.parametrize(
    ("field", "column"),
    [
        ("modified_begin", "modified"),
        ("start_modified", "modified"),
        ("updatedSince", "updated"),
        ("updateTimeStart", "update_time"),
        ("minChanged", "changed"),
        ("weekend", "weekend"),
        ("start_time", "modified"),
    ],
)
def test_the_day_of_a_row_is_told_by_the_field_that_the_parameter_names(field: str, column: str) -> None:
    _, window, told = asked("{{LAST_SYNC_TIME|datetime}}", field=field)
    assert window.column == column
    assert "check that they have it" in told


@pytest.mark.parametrize(
    ("value", "widen"),
    [
        ("_function FROM_UNIXTIME({{LAST_SYNC_TIME}}-600,'%Y-%m-%d %H:%i:%s')", 600),
        ("_function FROM_UNIXTIME({{LAST_SYNC_TIME}} - 7200)", 7200),
        ("_function {{LAST_SYNC_TIME}}-90", 90),
        ("_function ({{LAST_SYNC_TIME}}-600)*1000", 600),
        ("_function FROM_UNIXTIME({{LAST_SYNC_TIME}}+0)", 0),
    ],
)
def test_an_overlap_widens_the_window(value: str, widen: int) -> None:
    _, window, _ = asked(value)
    assert window.widen.total_seconds() == widen


def test_a_delay_of_the_end_is_told_because_a_day_is_read_to_its_end() -> None:
    _, window, told = asked("_function FROM_UNIXTIME({{CURRENT_TIME}}-300)", field="modified_end")
    assert window.widen.total_seconds() == 0
    assert "request.modified_end: -300 s are not carried over" in told


@pytest.mark.parametrize(
    "value",
    [
        "{{field}}",
        "{SHOP_ID}",
        "{{LAST_SYNC_TIME|lunar}}",
        "{{PAGINATION_START_PAGE|date}}",
        "{{$now}}",
        "${today(-1)}",
        "_function CASE '{{status}}' WHEN 'a' THEN 1 END",
        "_function FROM_UNIXTIME({{LAST_SYNC_TIME}},'%W')",
        "_function FROM_UNIXTIME({{LAST_SYNC_TIME}},'day')",
        "_findCollection find shop_name from 11111111-2222-3333-4444-555555555555 where shop_id={{shop_id}}",
        "_mongoQuery 11111111-2222-3333-4444-555555555555 findField=content.name",
    ],
)
def test_what_means_nothing_here_is_left_out_and_told(value: str) -> None:
    sent, window, told = asked(value)
    assert (sent, window) == (None, None)
    assert f"request.modified_begin: {value!r} cannot be carried over" in told


def test_days_back_become_days_to_reload() -> None:
    source, warnings = imported({**SHOPS["source"], "request": [{"field": "x_begin", "value": "{{DAYS_AGO_30|date}}"}]})
    assert source.reload_days == 30
    assert "`reload_days`" in warned(warnings, "request")


def test_times_in_two_forms_are_told_because_a_stream_has_one() -> None:
    request = [
        {"field": "modified_begin", "value": "{{LAST_SYNC_TIME|datetime}}"},
        {"field": "modified_end", "value": "{{CURRENT_TIME|date}}"},
    ]
    source, warnings = imported({**ORDERS, "request": request})
    window = source.streams[0].window
    assert window is not None
    assert window.format == DATETIME
    assert "a stream has one form" in warned(warnings, "request.modified_end")


def test_a_missing_end_is_added_where_the_api_demands_it() -> None:
    source, warnings = imported({**ORDERS, "request": [ORDERS["request"][2]]})
    assert source.streams[0].json_body["modified_end"] == "{until}"
    assert "modified_end is added" in warned(warnings, "request.modified_begin")


def test_a_strict_beginning_does_not_lose_the_first_moment_of_a_day() -> None:
    request = json.loads(json.dumps(WAREHOUSES["source"]["request"]).replace("GTE", "GT"))
    stream = stream_of({**WAREHOUSES["source"], "request": request})
    assert stream.json_body["data"]["search_query_info"]["filters"][0]["operator"] == "GTE"


def test_between_takes_both_ends_of_the_day() -> None:
    condition = {
        "field_name": "create_time",
        "operator": "BETWEEN",
        "field_values": ["{{DAYS_AGO_2|timestamp_ms}}", "{{DAYS_AGO_1|timestamp_ms}}"],
    }
    request = {"dataObjectApiName": "AccountObj", "search_query_info": {"filters": [condition]}}
    stream = stream_of({**WAREHOUSES["source"], "api": "/cgi/crm/v2/data/query", "request": request})
    assert stream.json_body["data"]["search_query_info"]["filters"][0]["field_values"] == ["{since}", "{until}"]
    assert stream.window is not None
    assert (stream.name, stream.window.column, stream.window.format) == ("accounts", "create_time", "epoch_ms_text")


# Values, types and parsers


@pytest.mark.parametrize(
    ("node", "sent"),
    [
        ({"value": "5", "type": "int"}, 5),
        ({"value": "5.5", "type": "float"}, 5.5),
        ({"value": "true", "type": "boolean"}, True),
        ({"value": 5, "type": "string"}, "5"),
        ({"value": True, "type": "string"}, "true"),
        ({"value": "", "default": "7", "type": "int"}, 7),
        ({"default": "x"}, "x"),
        ({"value": 0}, 0),
        ({"value": False}, False),
        ({"value": "a", "type": "array"}, ["a"]),
        ({"value": '["a", "b"]', "type": "array"}, ["a", "b"]),
        ({"value": '{"a": 1}', "type": "object"}, {"a": 1}),
        ({"value": "a,b", "parser": {"name": "StringToArray", "params": ","}}, ["a", "b"]),
        ({"value": "a|b", "parser": {"name": "StringToArray", "params": "|"}}, ["a", "b"]),
        ({"value": "a", "parser": "StringToArray"}, ["a"]),
        ({"value": ["a", "b"], "parser": {"name": "ArrayToString", "params": ";"}}, "a;b"),
        ({"value": "a", "parser": {"name": "ArrayToString", "params": ";"}}, "a"),
        ({"type": "object", "children": [{"field": "b", "value": "1", "type": "int"}, {"field": "c"}]}, {"b": 1}),
        ({"type": "array", "children": [{"field": "b", "value": 1}, {"field": "c", "value": 2}]}, [{"b": 1, "c": 2}]),
        (
            {
                "type": "array",
                "children": [
                    {"field": "条件1", "children": [{"field": "b", "value": 1}]},
                    {"field": "条件2", "children": [{"field": "b", "value": 2}]},
                ],
            },
            [{"b": 1}, {"b": 2}],
        ),
    ],
)
def test_values_are_sent_in_their_types(node: Tree, sent: Any) -> None:
    metadata = {**SHOPS["source"], "request": [{"field": "x", **node}]}
    value = stream_of(metadata).json_body["x"]
    assert (value, type(value)) == (sent, type(sent))


@pytest.mark.parametrize(
    ("node", "path"),
    [
        ({"value": "many", "type": "int"}, "request.x"),
        ({"value": "1", "type": "uuid"}, "request.x.type"),
        ({"value": "1", "parser": {"name": "ConvertJson"}}, "request.x.parser"),
        ({"value": "1", "children": [{"field": "y", "value": 1}]}, "request.x.value"),
        ({"type": "uuid", "children": [{"field": "y", "value": 1}]}, "request.x.type"),
        ({"value": "{{PAGINATION_START_ROW}}"}, "request.x"),
        ({"value": "1", "parent": "nobody"}, "request.x.parent"),
    ],
)
def test_a_value_that_does_not_fit_its_description_is_told(node: Tree, path: str) -> None:
    warned(warnings_of({**SHOPS["source"], "request": [{"field": "x", **node}]}), path)


def test_parameters_find_their_parents() -> None:
    request = [
        {"field": "leaf", "value": "1", "parent": "twig"},
        {"field": "branch", "type": "object"},
        {"field": "twig", "type": "object", "parent": "branch"},
    ]
    assert stream_of({**SHOPS["source"], "request": request}).json_body["branch"] == {"twig": {"leaf": "1"}}


def test_parents_in_a_circle_lose_nothing() -> None:
    request = [{"field": "a", "value": "1", "parent": "b"}, {"field": "b", "value": "2", "parent": "a"}]
    _, warnings = imported({**SHOPS["source"], "request": request})
    assert "there is no" in warned(warnings, "request.b.parent")
    assert "beside children" in warned(warnings, "request.b.value")


def test_credentials_are_not_copied_and_their_values_not_shown() -> None:
    request = {"appSecret": "very-secret-value", "access_token": {"value": "very-secret-value"}, "sign_time": "now"}
    metadata = {
        **SHOPS["source"],
        "request": request,
        "otherRequest": [{"field": "app_key", "value": "very-secret-value"}],
    }
    made = convert(json.dumps(metadata), name=None, origin="x")
    assert "very-secret-value" not in made.text
    for path in ("request.appSecret", "request.access_token", "otherRequest.app_key"):
        assert "looks like a credential" in warned(made.warnings, path)
    assert yaml.safe_load(made.text)["streams"][0]["json"]["sign_time"] == "now"


def test_a_credential_in_the_address_is_not_copied_either() -> None:
    metadata = {"api": "https://me:very-secret-value@erp.example/v1/rows?token=very-secret-value&a=1", "id": "id"}
    made = convert(json.dumps(metadata), name=None, origin="x")
    assert "very-secret-value" not in made.text
    assert "looks like a credential" in warned(made.warnings, "api")
    tree = yaml.safe_load(made.text)
    assert (tree["base_url"], tree["streams"][0]["params"]) == ("https://erp.example", {"a": "1"})


# Paging


def paged(*fields: tuple[str, str], size: Any = 40) -> tuple[Stream, tuple[str, ...]]:
    metadata = {
        "api": "/v1/rows/list",
        "method": "GET",
        "id": "id",
        "pagination": {"pageSize": size},
        "request": [{"field": name, "value": value} for name, value in fields],
    }
    source, warnings = imported(metadata)
    return source.streams[0], warnings


def test_a_page_number_is_a_page_number() -> None:
    stream, _ = paged(("page", "{{PAGINATION_START_PAGE}}"), ("rows", "{{PAGINATION_PAGE_SIZE}}"))
    assert stream.params == {"page": "{page}", "rows": "{size}"}
    assert (stream.paging.type, getattr(stream.paging, "size", 0)) == ("page", 40)


def test_a_row_number_is_an_offset() -> None:
    stream, _ = paged(("from", "{{PAGINATION_START_ROW}}"), ("rows", "{{PAGINATION_PAGE_SIZE}}"))
    assert stream.params == {"from": "{offset}", "rows": "{size}"}
    assert (stream.paging.type, getattr(stream.paging, "size", 0)) == ("offset", 40)


def test_both_at_once_are_told() -> None:
    stream, warnings = paged(("page", "{{PAGINATION_START_PAGE}}"), ("from", "{{PAGINATION_START_ROW}}"))
    assert stream.params == {"page": "{page}"}
    assert "cannot be carried over" in warned(warnings, "request.from")


def test_pages_that_no_parameter_takes_are_told() -> None:
    stream, warnings = paged(("status", "open"))
    assert stream.paging.type == "none"
    assert "only the answer to one request is read" in warned(warnings, "pagination")


@pytest.mark.parametrize(("given", "used"), [(20, 20), ("20", 20), (500, 100), (0, 100), ("many", 100), (None, 100)])
def test_the_page_size_is_taken_as_far_as_the_api_gives_it(given: Any, used: int) -> None:
    source, warnings = imported({**SHOPS["source"], "pagination": {"pageSize": given}})
    assert getattr(source.streams[0].paging, "size", 0) == used
    if given not in (20, "20", None):
        warned(warnings, "pagination.pageSize")


def test_a_fixed_page_is_replaced_so_that_all_are_read() -> None:
    source, warnings = imported({**SHOPS["source"], "request": {"page_index": "1", "page_size": 10}})
    assert source.streams[0].json_body == {"page_index": "{page}", "page_size": "{size}"}
    assert "'1' is replaced" in warned(warnings, "request.page_index")


# Columns


def test_response_fields_become_columns_with_types() -> None:
    kinds = {
        "string": "VARCHAR",
        "int": "BIGINT",
        "float": "DOUBLE",
        "decimal": "DECIMAL(18,4)",
        "boolean": "BOOLEAN",
        "date": "DATE",
        "datetime": "TIMESTAMP WITH TIME ZONE",
        "array": "JSON",
        "uuid": "VARCHAR",
    }
    response = [{"field": f"f_{kind}", "type": kind} for kind in kinds]
    owner = {"field": "owner", "type": "object", "children": [{"field": "id", "type": "int", "label": "主管"}]}
    stream = stream_of({**SHOPS["source"], "response": [*response, owner]})
    columns = dict(stream.table_columns())
    assert {name: columns[f"f_{name}"] for name in kinds} == kinds
    assert columns["owner_id"] == "BIGINT"
    assert stream.descriptions()["owner_id"] == "主管"
    assert (columns["shop_id"], columns["shop_name"]) == ("BIGINT", "VARCHAR")  # as the packaged stream knows


def test_other_response_names_the_rows_and_adds_columns() -> None:
    other = [{"field": "key", "value": "result.list"}, {"field": "total", "type": "int"}]
    metadata = {"api": "/v1/rows", "method": "GET", "id": "id", "otherResponse": other}
    stream = stream_of(metadata)
    assert stream.rows == "result.list"
    assert dict(stream.table_columns()) == {"id": "VARCHAR", "total": "BIGINT"}


@pytest.mark.parametrize(("metadata", "rows"), [(SHOPS, "data.datas"), (WAREHOUSES, "data.dataList")])
def test_the_list_that_a_vendor_is_known_to_answer_is_not_replaced(metadata: Tree, rows: str) -> None:
    source, warnings = imported({**metadata["source"], "otherResponse": [{"field": "key", "value": "result.records"}]})
    assert source.streams[0].rows == rows
    assert f"rows stand at {rows}" in warned(warnings, "otherResponse")


def test_times_of_the_crm_are_read_as_milliseconds() -> None:
    response = [{"field": "field_d__c", "type": "date"}, {"field": "last_modified_time", "type": "int"}]
    stream = stream_of({**WAREHOUSES["source"], "response": response})
    assert stream.columns["field_d__c"].format == "epoch_ms"
    modified = stream.columns["last_modified_time"]
    assert (modified.type, modified.format, modified.required) == ("timestamp", "epoch_ms", True)


def test_formatted_fields_get_their_names_and_types() -> None:
    entries = [
        {"old": "created", "new": "created_day", "format": "date"},
        {"old": "created", "new": "createdAt", "format": "dateTime"},
        {"old": "price", "new": "price", "format": "amount"},
        {"old": "rate", "format": "round(2)"},
        {"old": "tags", "new": "标签", "format": "implode('|')"},
        {"old": "shop_id", "new": "id", "format": "intval"},
        {"old": "memo", "format": "rot13"},
    ]
    source, warnings = imported({**SHOPS["source"], "formatResponse": entries})
    stream = source.streams[0]
    assert stream.key == ["id"]
    assert dict(stream.table_columns()) == {
        "id": "BIGINT",
        "shop_name": "VARCHAR",
        "created_day": "DATE",
        "created_at": "TIMESTAMP WITH TIME ZONE",
        "price": "DECIMAL(18,4)",
        "rate": "DOUBLE",
        "field": "JSON",
        "memo": "VARCHAR",
    }
    assert stream.columns["createdAt"].path == ["created"]
    for number, word in ((3, "round()"), (4, "array_to_string()"), (5, "quarantine"), (6, "rot13")):
        assert word in warned(warnings, f"formatResponse[{number}].format")
    assert "named field" in warned(warnings, "response")


def test_fields_that_would_share_a_column_get_two() -> None:
    response = [{"field": "shopName", "type": "string"}, {"field": "_extra", "type": "string"}]
    names = [name for name, _ in stream_of({**SHOPS["source"], "response": response}).table_columns()]
    assert names == ["shop_id", "shop_name", "shop_name_2", "field_extra"]


def test_a_renamed_day_still_cuts_the_stream() -> None:
    entries = [{"old": "modified", "new": "changed_at", "format": "dateDescription"}]
    source, warnings = imported({**ORDERS, "formatResponse": entries})
    window = source.streams[0].window
    assert window is not None
    assert window.column == "changed_at"
    assert "tells the day" in warned(warnings, "formatResponse[0].format")


def test_an_id_in_a_list_is_the_key_of_the_child_table() -> None:
    metadata = {
        **ORDERS,
        "id": "items.oi_id",
        "beatFlat": [],
        "operation": {"method": "splitArray", "arrayKey": "items"},
    }
    source, warnings = imported(metadata)
    parent, child = source.streams
    assert (parent.key, child.key) == (["o_id"], ["oi_id"])
    assert "key of their own" in warned(warnings, "id")
    assert "one row per element" in warned(warnings, "operation")


def test_a_child_table_of_an_unknown_list_is_keyed_by_its_row_and_its_own_id() -> None:
    lines = {"field": "lines", "type": "array", "children": [{"field": "line_id", "type": "int"}]}
    metadata = {"api": "/v1/bills", "method": "GET", "id": "id", "response": [lines], "beatFlat": ["lines"]}
    source, warnings = imported(metadata)
    child = source.stream("bills_lines")
    assert child.key == ["parent_id", "line_id"]
    assert "Check that this is unique" in warned(warnings, "beatFlat")


def test_a_list_without_an_id_stays_a_column_and_the_sql_is_told() -> None:
    source, warnings = imported({**SHOPS["source"], "beatFlat": ["tags"]})
    assert dict(source.streams[0].table_columns())["tags"] == "JSON"
    assert len(source.streams) == 1
    assert "SELECT unnest(from_json(tags" in warned(warnings, "beatFlat")


def test_without_an_id_the_key_of_the_packaged_stream_is_taken_and_told() -> None:
    metadata = {key: value for key, value in SHOPS["source"].items() if key != "id"}
    source, warnings = imported(metadata)
    assert source.streams[0].key == ["shop_id"]
    assert "shop_id is taken as the key" in warned(warnings, "id")


# Nothing is dropped silently


def test_unknown_keys_are_warned_about_at_every_level() -> None:
    metadata = [
        {
            "comment": 1,
            "source": {
                **ORDERS,
                "lazy": True,
                "groupCalculate": {"headerGroup": ["so_id"]},
                "diffMode": {"enabled": True},
                "effect": "PULL",
                "pagination": {"pageSize": 10, "cursor": "x"},
                "operation": {"method": "merge", "rowsKey": "array"},
                "omissionRemedy": {"crontab": "10 */6 * * *", "takeOverRequest": []},
                "condition": [[{"field": "status", "logic": "eq", "value": "a", "strictMode": True}]],
                "formatResponse": [{"old": "a", "new": "b", "format": "date", "zone": "x"}, {"new": "c"}],
                "request": [
                    {"field": "a", "value": 1, "colour": "red", "parser": {"name": "StringToArray", "mode": 2}},
                    {"field": "b", "type": "object", "children": [{"field": "c", "value": 1, "shape": "round"}]},
                    {"label": "no field"},
                ],
                "otherRequest": [{"field": "flag", "value": 1}],
                "response": [
                    {"field": "d", "type": "int", "unit": "kg", "parser": {"name": "ConvertJson"}},
                    {"field": "e", "type": "object", "children": [{"field": "f", "type": "int", "unit": "kg"}]},
                ],
            },
            "target": {"api": "batchexecute", "request": [], "main_sql": "INSERT"},
        },
        "not an object",
    ]
    warnings = warnings_of(metadata)
    at = "[0].source."
    for path in (
        "[0].comment",
        f"{at}lazy",
        f"{at}effect",
        f"{at}pagination.cursor",
        f"{at}operation.method",
        f"{at}operation.rowsKey",
        f"{at}omissionRemedy.crontab",
        f"{at}omissionRemedy.takeOverRequest",
        f"{at}condition",
        f"{at}condition[0][0].strictMode",
        f"{at}formatResponse[0].zone",
        f"{at}formatResponse[1]",
        f"{at}request.a.colour",
        f"{at}request.a.parser.mode",
        f"{at}request.b.c.shape",
        f"{at}request[2]",
        f"{at}otherRequest.flag",
        f"{at}response.d.unit",
        f"{at}response.d.parser",
        f"{at}response.e.f.unit",
        "[0].target.api",
        "[0].target.request",
        "[0].target.main_sql",
        "[1]",
    ):
        warned(warnings, path)
    assert "group in SQL" in warned(warnings, f"{at}groupCalculate")
    assert "qeasy_jushuitan_reconcile" in warned(warnings, f"{at}diffMode")
    remedy = warned(warnings, f"{at}omissionRemedy.crontab")
    assert "`reload_days`" in remedy
    assert "qeasy_jushuitan_reconcile" in remedy


@pytest.mark.parametrize(
    "key",
    ["id", "number", "name", "pagination", "operation", "request", "response", "beatFlat", "autoFillResponse"],
)
def test_a_key_of_the_wrong_kind_is_told(key: str) -> None:
    warned(warnings_of({**SHOPS["source"], key: 7}), key)


@pytest.mark.parametrize(("given", "said"), [(True, "not stored again"), (False, "written over")])
def test_id_check_is_explained(given: bool, said: str) -> None:
    told = warned(warnings_of({**ORDERS, "idCheck": given}), "idCheck")
    assert said in told
    assert "merged by o_id, the newest version wins: updates are never dropped" in told


def test_a_key_given_twice_is_told() -> None:
    text = json.dumps(SHOPS["source"]).replace('"id":', '"id": "nick", "id":', 1)
    assert "given twice" in warned(convert(text, name=None, origin="x").warnings, "id")


def test_the_newer_names_of_the_four_groups_are_understood() -> None:
    renamed = {{"request": "requestParams", "response": "responseParams"}.get(k, k): v for k, v in ORDERS.items()}
    assert stream_of(renamed) == stream_of(ORDERS)


def test_a_group_under_both_of_its_names_is_told() -> None:
    assert "comes last" in warned(warnings_of({**SHOPS["source"], "requestParams": []}), "requestParams")


def test_a_list_of_schemes_becomes_one_source_with_streams_of_different_names() -> None:
    source, _ = imported([SHOPS, ORDERS, {"source": {**SHOPS["source"], "request": {"nicks": ["a"]}}}])
    assert [stream.name for stream in source.streams] == ["shops", "orders", "orders_items", "shops_2"]
    assert source.check == "shops"


def test_warnings_cannot_break_out_of_their_comments() -> None:
    nasty = "x\nsource: evil\u2028title: evil\x1b[31m"
    made = convert(json.dumps({**SHOPS["source"], nasty: 1}), name=None, origin=f"{nasty}.json")
    tree = yaml.safe_load(made.text)
    assert tree["source"] == "qeasy_jushuitan"
    assert "\x1b" not in made.text
    assert all("\n" not in line for line in made.warnings)


# Lists that the packaged files do not read, and vendors that nobody knows


def test_a_list_that_is_not_packaged_is_read_where_lists_usually_are(jushuitan: Sandbox, tmp_path: Path) -> None:
    response = [{"field": "name", "type": "string"}, {"field": "parent_c_id", "type": "int"}]
    metadata = {"api": "open/category/query", "id": "c_id", "response": response}
    assert "'data.datas' is taken" in warned(warnings_of(metadata), "otherResponse")
    with loading(jushuitan, tmp_path, metadata) as lab:
        lab.run("category")
        lab.assert_true("category", jushuitan.truth(stream="categories"))


def test_a_daily_list_that_is_not_packaged_loads_its_day(jushuitan: Sandbox, tmp_path: Path) -> None:
    metadata = {
        **ORDERS,
        "api": "/open/skumap/query",
        "id": "shop_sku_id",
        "number": "sku_id",
        "response": [{"field": "modified", "type": "string"}, {"field": "shop_id", "type": "int"}],
        "beatFlat": [],
    }
    with loading(jushuitan, tmp_path, metadata) as lab:
        lab.run("skumap", day(1))
        lab.assert_true("skumap", jushuitan.truth(stream="skumaps", day=str(day(1))))


def test_the_address_book_is_asked_beside_the_credentials(fxiaoke: Sandbox, tmp_path: Path) -> None:
    metadata = {
        "api": "/cgi/user/list",
        "id": "openUserId",
        "request": [
            {"field": "departmentId", "value": "999999"},
            {"field": "fetchChild", "type": "bool", "value": "true"},
        ],
        "otherResponse": [{"field": "key", "value": "userList"}],
    }
    with loading(fxiaoke, tmp_path, metadata) as lab:
        lab.run("user")
        people = fxiaoke.truth(stream="personnel")
        assert len(lab.table("user")) == len(people)


def test_an_unknown_vendor_is_asked_as_the_metadata_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = {
        "api": "https://erp.example/v1/bills/list?tenant=7",
        "method": "get",
        "id": "id",
        "pagination": {"pageSize": 2},
        "request": [
            {"field": "from", "value": "{{PAGINATION_START_ROW}}"},
            {"field": "rows", "value": "{{PAGINATION_PAGE_SIZE}}"},
            {"field": "changed_from", "value": "{{LAST_SYNC_TIME|date}}"},
            {"field": "changed_to", "value": "{{CURRENT_TIME|date}}"},
        ],
        "otherResponse": [{"field": "key", "value": "list"}],
        "response": [{"field": "changed", "type": "datetime"}],
    }
    bills = [{"id": number, "changed": f"2026-01-0{5 + number // 5} 10:00:00"} for number in range(1, 6)]

    def answered(seen: Seen) -> bytes:
        start = int(dict(seen.params)["from"])
        return answer(json.dumps({"list": bills[start : start + 2]}).encode())

    made = convert(json.dumps(metadata), name="bills", origin="x")
    assert "carry no credential" in warned(made.warnings, "api")
    files = tmp_path / "sources"
    files.mkdir()
    (files / "bills.yaml").write_text(made.text, "utf-8")
    monkeypatch.setenv("ETL_SOURCES_DIR", str(files))
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path / "data"))
    with serving(answered) as server:
        monkeypatch.setenv("BILLS_BASE_URL", server.url)
        lab = Lab(Sandbox({}), "bills", tmp_path)
        lab.run("bills", date(2026, 1, 5))
        lab.api.client.close()
        asked_for = {"tenant": "7", "rows": "2", "changed_from": "2026-01-05", "changed_to": "2026-01-06"}
        assert [dict(seen.params) for seen in server.seen] == [
            {**asked_for, "from": start} for start in ("0", "2", "4")
        ]
    assert [row["id"] for row in lab.table("bills")] == ["1", "2", "3", "4"]  # the fifth is of another day


# The command


def run(*line: str) -> Result:
    return CliRunner().invoke(main, ["import-qeasy", *line])


def written(metadata: Any) -> str:
    file = Path("scheme.json")
    file.write_text(metadata if isinstance(metadata, str) else json.dumps(metadata, ensure_ascii=False), "utf-8")
    return str(file)


def test_the_file_is_printed_and_the_warnings_beside_it() -> None:
    result = run(written(SHOPS))
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert lines
    assert all(line.startswith("warning: ") for line in lines)
    comments = " ".join(re.findall(r"(?m)^# +(.*)$", result.stdout))
    for line in lines:
        assert line.removeprefix("warning: ") in comments
    assert yaml.safe_load(result.stdout)["source"] == "qeasy_jushuitan"


def test_the_file_is_written_in_one_step() -> None:
    Path("sources").mkdir()
    result = run(written(SHOPS), "--source", "shop_tokens", "--out", "sources/shops.yaml")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "SHOP_TOKENS_BASE_URL" in result.stderr
    assert read_source(Path("sources/shops.yaml").resolve()).source == "shop_tokens"
    assert [file.name for file in Path("sources").iterdir()] == ["shops.yaml"]


def test_a_failed_import_leaves_the_file_as_it_was() -> None:
    Path("out.yaml").write_text("before", "utf-8")
    result = run(written({**SHOPS["source"], "id": "", "number": ""}), "--source", "Not A Name", "--out", "out.yaml")
    assert result.exit_code == 1
    assert "no valid stream file comes of this" in result.stderr
    assert "source" in result.stderr
    assert Path("out.yaml").read_text("utf-8") == "before"


def test_the_name_of_a_packaged_source_is_warned_about() -> None:
    assert "replaces the packaged source" in warned(imported(SHOPS, name="jushuitan")[1], "--source")


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ("{", "the file is not JSON"),
        ("[" * 100_000, "the file is not JSON"),
        ([], "no usable request"),
        ({}, "api: None is not the path of an HTTP API"),
        (SHOPS["target"], "no usable request"),
        ({"target": SHOPS["target"]}, "no usable request"),
        ({"api": "select", "id": "id"}, "'select' is not the path of an HTTP API"),
        ({"api": "jushuitan.refund.list.query", "id": "id"}, "no usable request"),
        ({"api": "/v1/{{tenant}}/rows", "id": "id"}, "no usable request"),
        ({"api": "http://[/v1/rows", "id": "id"}, "no usable request"),
        ({"api": "/v1/rows", "method": "DELETE", "id": "id"}, "DELETE is neither GET nor POST"),
        ({"api": "/v1/rows", "method": "GET"}, "a table needs the field that identifies a row"),
        ([SHOPS, WAREHOUSES], "import these apart: /open/shops/query, /cgi/crm/custom/v2/data/query"),
    ],
)
def test_what_cannot_be_imported_is_refused_with_the_reason(metadata: Any, said: str) -> None:
    result = run(written(metadata))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert said in result.stderr


def test_a_scheme_that_cannot_be_used_does_not_hide_behind_one_that_can() -> None:
    assert "nothing can be asked" in warned(warnings_of([SHOPS["source"], {"api": "select", "id": "id"}]), "[1].api")


def test_text_that_is_not_utf_8_is_refused() -> None:
    Path("scheme.json").write_bytes(b"\xff\xfe{")
    assert run("scheme.json").exit_code == 1


def test_a_file_that_cannot_be_written_is_told() -> None:
    result = run(written(SHOPS), "--out", "nowhere/out.yaml")
    assert result.exit_code == 1
    assert "nowhere/out.yaml: cannot be written" in result.stderr


def test_a_stream_that_no_model_takes_is_refused_before_it_is_written() -> None:
    with pytest.raises(FinalError, match="no valid stream file comes of this"):
        convert(json.dumps(SHOPS), name="Ünknown", origin="x")


# The document


DOCUMENT = (Path(__file__).parents[1] / "docs/qeasy.md").read_text("utf-8")


def code(language: str) -> str:
    """The one block of that language."""
    (block,) = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", DOCUMENT)
    return str(block)


def test_the_document_shows_what_the_command_says() -> None:
    result = run(written(code("json")))
    assert result.exit_code == 0
    assert result.stdout.endswith(code("yaml"))
    assert result.stderr == code("text")


def test_the_example_of_the_document_loads(jushuitan: Sandbox, tmp_path: Path) -> None:
    with loading(jushuitan, tmp_path, json.loads(code("json"))) as lab:
        lab.run("refunds", day(1))
        lab.assert_true("refunds", jushuitan.truth(stream="refunds", day=str(day(1))), unknown=["items"])
        lines = jushuitan.truth(stream="refund_items", day=str(day(1)))
        lab.assert_true("refunds_items", lines, names={"parent_as_id": "as_id", "parent_modified": "modified"})


def test_the_document_names_every_key_that_has_a_meaning() -> None:
    named = set(re.findall(r"`([^`\n]+)`", DOCUMENT))
    assert {*CARRIED, *INSTEAD} - named == set()
