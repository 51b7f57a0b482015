"""Placeholders, values, types, parsers, paging and columns."""

import json
from typing import Any

import pytest
import yaml

from etl_assets.qeasy.convert import convert
from etl_assets.spec import Stream
from etl_assets_tests.qeasy.material import (
    ORDERS,
    SHOPS,
    WAREHOUSES,
    Tree,
    imported,
    stream_of,
    warned,
    warnings_of,
)

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
