"""Stream files: what is refused and how it is said, how defaults and names work, what comes packaged."""

import copy
import textwrap
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl_assets.errors import StreamFileError
from etl_assets.spec import Rate, Source, code_version, snake
from etl_assets.streamfiles import load_sources, packaged_files, read_source

GOOD = """
source: demo
title: Demo
base_url: https://demo.example
timezone: Asia/Tokyo
start: 2026-01-01
settings:
  DEMO_TOKEN: {secret: true, help: Ask somebody.}
  DEMO_READING: {default: offset_aware, help: How times are meant.}
auth: {type: bearer, token: DEMO_TOKEN}
limits: {parallel: 2, rates: {default: [5/1s, 100/60s], slow: [1/1s]}}
streams:
  - name: members
    path: /members
    key: [id]
    columns: {id: integer, name: string}
  - name: zones
    path: /zones
    key: [user_id]
    columns: {user.id: integer, timeZone: string}
  - name: entries
    path: /entries/{each.id}
    params: {from: "{since}", to: "{until}"}
    each:
      stream: members
      stamp: {user_id: id}
      lookup: {user_zone: {stream: zones, key: user_id, value: time_zone, optional: true}}
    window: {column: start_time, widen: 1d}
    zone: user_zone
    reading: "{DEMO_READING}"
    key: [id]
    local: [start_time]
    bucket: slow
    paging: {type: page, size: 50}
    columns:
      id: integer
      startTime: {type: timestamp, required: true}
      amount: decimal(10,2)
      user_id: integer
      user_zone: string
    derived:
      is_big: {type: boolean, sql: amount > 100}
  - name: orders
    method: POST
    path: /orders
    json: {page: "{page}", since: "{since}"}
    paging: {type: page, size: 50}
    window: {column: modified}
    load: merge
    key: [id]
    columns: {id: integer, modified: timestamp}
"""
DELETED = object()


def changed(path: str, value: Any) -> str:
    """The good file with one key set (or deleted), addressed as `streams.2.window.column`."""
    tree = copy.deepcopy(yaml.safe_load(GOOD))
    *parents, last = path.split("/") if "/" in path else path.split(".")
    place = tree
    for step in parents:
        place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
    if value is DELETED:
        del place[last]
    elif isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return yaml.safe_dump(tree, allow_unicode=True, sort_keys=False)


def read(folder: Path, text: str) -> Source:
    path = folder / "demo.yaml"
    path.write_text(text, "utf-8")
    return read_source(path)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(StreamFileError) as caught:
        read(folder, text)
    return str(caught.value)


def test_the_file_that_the_cases_change_is_good(tmp_path: Path) -> None:
    entries = read(tmp_path, GOOD).stream("entries")
    assert entries.mode == "replace"
    assert entries.window is not None
    assert entries.window.widen == timedelta(days=1)
    assert entries.table_columns() == [
        ("id", "BIGINT"),
        ("start_time", "TIMESTAMP WITH TIME ZONE"),
        ("amount", "DECIMAL(10,2)"),
        ("user_id", "BIGINT"),
        ("user_zone", "VARCHAR"),
        ("is_big", "BOOLEAN"),
        ("start_time_local", "TIMESTAMP"),
    ]


IN_A_STREAM = [
    # unknown keys
    ("streams.2.colour", "red", ["colour: unknown key"]),
    ("streams.2.window.colum", "id", ["window.colum: unknown key"]),
    ("streams.2.each.stamps", {}, ["each.stamps: unknown key"]),
    ("streams.2.each.lookup.user_zone.default", "x", ["each.lookup.user_zone.default: unknown key"]),
    ("streams.2.columns.startTime.requird", True, ["columns.startTime", "requird: unknown key"]),
    ("streams.2.derived.is_big.expr", "1", ["derived.is_big.expr: unknown key"]),
    ("streams.2.quarantine.percent", 1, ["quarantine.percent: unknown key"]),
    ("streams.2.paging.limit", 1, ["paging", "limit: unknown key"]),
    ("streams.2.errors", {"code": "code", "ok": [0], "fatal": [1]}, ["errors.fatal: unknown key"]),
    ("streams.2.alternatives", [{"path": "/x", "method": "POST"}], ["alternatives.0.method: unknown key"]),
    # wrong types and values
    ("streams.2.path", 5, ["path", "string"]),
    ("streams.2.path", DELETED, ["path: a stream has either a path or a parent"]),
    ("streams.2.key", "id", ["key", "list"]),
    ("streams.2.key", [], ["key", "at least 1"]),
    ("streams.2.key", DELETED, ["key: Field required"]),
    ("streams.2.columns", DELETED, ["columns: Field required"]),
    ("streams.2.columns", ["id"], ["columns", "dictionary"]),
    ("streams.2.method", "PUT", ["method", "GET"]),
    ("streams.2.one", "yes", ["one", "boolean"]),
    ("streams.2.load", "append", ["load", "merge"]),
    ("streams.2.window.widen", "1w", ["window.widen", "30s, 15m, 6h or 7d"]),
    ("streams.2.window.longest", 7, ["window.longest", "not a duration"]),
    ("streams.2.quarantine", {"share": 2}, ["quarantine.share", "less than or equal to 1"]),
    ("streams.2.quarantine", {"rows": -1}, ["quarantine.rows", "greater than or equal to 0"]),
    ("streams.2.paging", {"type": "page", "size": 0}, ["paging", "size", "greater than 0"]),
    ("streams.2.paging", {"type": "pages"}, ["paging", "'pages'", "'keyset'"]),
    ("streams.2.paging", {"size": 3}, ["paging", "type"]),
    ("streams.2.transform", "not a function", ["transform", "pattern"]),
    ("streams.2.columns.id", None, ["columns.id", "a column type is a word"]),
    ("streams.2.columns.id", {"type": "integer", "path": []}, ["columns.id.path", "at least 1"]),
    ("streams.2.columns.id", {"type": "integer", "name": "Id"}, ["columns.id.name", "pattern"]),
    ("streams.2.columns.id", {"path": "id"}, ["columns.id.type: Field required"]),
    ("streams.2.columns", {"id": "integer", 1: "string"}, ["columns", "valid string"]),
    # column types
    ("streams.2.columns.id", "int", ["columns.id: unknown column type 'int'; one of: string, integer", "decimal(p,s)"]),
    ("streams.2.columns.id", {"type": "Integer"}, ["columns.id: unknown column type 'Integer'"]),
    ("streams.2.columns.amount", "decimal", ["columns.amount: unknown column type 'decimal'"]),
    ("streams.2.columns.amount", "decimal(39,2)", ["columns.amount: decimal(39,2) is out of range"]),
    ("streams.2.columns.amount", "decimal(0,0)", ["columns.amount: decimal(0,0) is out of range"]),
    ("streams.2.columns.amount", "decimal(2,3)", ["columns.amount: decimal(2,3) is out of range"]),
    ("streams.2.derived.is_big.type", "bool", ["derived.is_big.type: unknown column type 'bool'"]),
    # names given twice
    ("streams.2.columns.ID", "integer", ["columns: two columns are named 'id'; give one a `name`"]),
    ("streams/2/columns/user.id", "integer", ["columns: two columns are named 'user_id'"]),
    ("streams.2.columns.isBig", "boolean", ["columns: two columns are named 'is_big'"]),
    ("streams.2.columns.startTimeLocal", "datetime", ["columns: two columns are named 'start_time_local'"]),
    # references to columns
    ("streams.2.key", ["id", "nope"], ["key: there is no column 'nope'"]),
    ("streams.2.key", ["startTime"], ["key.0", "pattern"]),
    ("streams.2.newest", "nope", ["newest: there is no column 'nope'"]),
    ("streams.2.window.column", "nope", ["window.column: there is no column 'nope'"]),
    ("streams.2.window.column", "amount", ["window.column: 'amount' is neither a timestamp nor a date"]),
    ("streams.2.window.column", "start_time_local", ["window.column: 'start_time_local' is neither"]),
    ("streams.2.local", ["nope"], ["local: there is no column 'nope'"]),
    ("streams.2.local", ["id"], ["local: 'id' is not a timestamp"]),
    ("streams.2.zone", "nope", ["zone: 'nope' is not a column that `each` stamps"]),
    ("streams.2.zone", "start_time", ["zone: 'start_time' is not a column that `each` stamps"]),
    # keys that do not go together
    ("streams.2.load", "snapshot", ["load: a stream with a window is loaded by replace or merge"]),
    ("streams.2.alternatives", [{"path": "/other"}], ["alternatives: a stream with `each` has one way to ask"]),
    ("streams.2.derived.is_big", {"type": "boolean"}, ["derived.is_big: give `sql`, or a `transform`"]),
    # references to other streams
    ("streams.2.each.stream", "nope", ["each.stream: there is no stream 'nope'"]),
    ("streams.2.each.stream", "orders", ["each.stamp: 'modified' of orders is missing"]),
    ("streams.2.each.stream", "entries", ["each.stream: 'entries' is asked for by itself"]),
    ("streams.2.each.stamp", {"user_id": "nope"}, ["each.stamp.user_id: members has no column 'nope'"]),
    ("streams.2.each.stamp", {"owner": "id"}, ["the stamped column 'owner' is not under columns"]),
    ("streams.2.each.lookup.user_zone.stream", "nope", ["each.lookup.user_zone.stream: there is no stream 'nope'"]),
    ("streams.2.each.lookup.user_zone.stream", "orders", ["each.lookup.user_zone.stream: 'orders' is not a plain"]),
    ("streams.2.each.lookup.user_zone.key", "nope", ["each.lookup.user_zone.key: zones has no column 'nope'"]),
    ("streams.2.each.lookup.user_zone.value", "nope", ["each.lookup.user_zone.value: zones has no column 'nope'"]),
    # placeholders
    ("streams.2.path", "/e/{nope}", ["placeholder {nope} means nothing here", "since"]),
    ("streams.2.path", "/e/{each.nope}", ["placeholder {each.nope} means nothing here"]),
    ("streams.2.params.x", ["a", {"b": "{nope}"}], ["placeholder {nope}"]),
    ("streams.2.json", {"a": [{"b": "{nope}"}]}, ["placeholder {nope}"]),
    ("streams.2.form", {"a": "{nope}"}, ["placeholder {nope}"]),
    ("streams.2.reading", "{NOPE}", ["reading: {NOPE} is not a setting that may be shown"]),
    # rate buckets
    ("streams.2.bucket", "search", ["bucket: 'search' is not under limits.rates"]),
]


@pytest.mark.parametrize(("path", "value", "said"), IN_A_STREAM)
def test_a_mistake_in_a_stream_is_told_with_file_stream_and_key(
    tmp_path: Path, path: str, value: Any, said: list[str]
) -> None:
    text = refused(tmp_path, changed(path, value))
    assert str(tmp_path / "demo.yaml") in text
    assert "entries" in text
    for part in said:
        assert part in text


@pytest.mark.parametrize(
    ("stream", "path", "value", "said"),
    [
        ("members", "streams.0.params", {"d": "{since}"}, "{since} and {until} need a window"),
        ("members", "streams.0.alternatives", [{"path": "/{until}"}], "{since} and {until} need a window"),
        ("members", "streams.0.alternatives", [{"path": "/x", "params": {"a": "{x}"}}], "placeholder {x}"),
        ("members", "streams.0.path", "/m/{each.id}", "placeholder {each.id} means nothing here"),
        ("members", "streams.0.load", "merge", "load: merge needs a window"),
        ("members", "streams.0.load", "replace", "load: replace needs a window"),
        ("members", "streams.0.zone", "name", "zone: 'name' is not a column that `each` stamps"),
        ("orders", "streams.3.form", {"a": "b"}, "form: a request has a form body or a json body, not both"),
    ],
)
def test_a_mistake_in_another_kind_of_stream_is_told_as_well(
    tmp_path: Path, stream: str, path: str, value: Any, said: str
) -> None:
    text = refused(tmp_path, changed(path, value))
    assert str(tmp_path / "demo.yaml") in text
    assert stream in text
    assert said in text


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("colour", "red", "key colour: unknown key"),
        ("title", DELETED, "key title: Field required"),
        ("title", 3, "key title"),
        ("source", "Demo", "key source"),
        ("base_url", "https://demo.example/v1", "key base_url"),
        ("base_url", "ftp://demo.example", "key base_url"),
        ("timezone", "Asia/Tokio", "key timezone: 'Asia/Tokio' is not an IANA time zone"),
        ("timezone", "Tokyo Standard Time", "key timezone"),
        ("start", "2026-01-01", "key start"),
        ("start", DELETED, "start: daily streams need their first day"),
        ("reload_days", 0, "key reload_days"),
        ("settings.DEMO_TOKEN.hidden", True, "key settings.DEMO_TOKEN.hidden: unknown key"),
        ("settings.DEMO_TOKEN", {"secret": True}, "key settings.DEMO_TOKEN.help: Field required"),
        ("limits.parallel", 0, "key limits.parallel"),
        ("limits.parallel", 65, "key limits.parallel"),
        ("limits.rates.slow", ["5/s"], "'5/s' is not a rate such as 5/1s or 100/60s"),
        ("limits.rates.slow", ["0/1s"], "key limits.rates.slow.0"),
        ("auth", {"type": "basic"}, "key auth"),
        ("auth", {"type": "bearer", "token": "NOPE"}, "auth.0: NOPE is not declared under settings"),
        ("auth", {"type": "header", "name": "X", "value": "T {NOPE}"}, "auth.0: NOPE is not declared"),
        ("auth", {"type": "query", "name": "k", "value": "{NOPE}"}, "auth.0: NOPE is not declared"),
        ("auth", {"type": "query", "name": "k", "value": "{DEMO_TOKEN}", "in": "x"}, "in: unknown key"),
        ("errors", {"code": "code"}, "key errors.ok: Field required"),
        ("streams", [], "key streams"),
        ("streams", {"members": {}}, "key streams"),
        ("streams.1", "zones", "stream '1', key (itself)"),
        ("streams.1.name", "members", "streams: two streams are named 'members'"),
        ("streams.1.name", "Zones", "stream 'Zones', key name"),
        ("streams.1.name", DELETED, "stream 'number 1', key name: Field required"),
        ("defaults", ["x"], "key defaults"),
        ("defaults", {"colour": 1}, "stream 'members', key colour: unknown key"),
    ],
)
def test_a_mistake_outside_the_streams_is_told_with_file_and_key(
    tmp_path: Path, path: str, value: Any, said: str
) -> None:
    text = refused(tmp_path, changed(path, value))
    assert text.startswith(f"{tmp_path / 'demo.yaml'}:")
    assert said in text


def test_every_mistake_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    text = refused(tmp_path, changed("streams.0.colour", 1).replace("title: Demo", "title: 7"))
    assert "key title" in text
    assert "stream 'members', key colour: unknown key" in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a mapping that begins with `source:`"),
        ("- source: demo\n", "a mapping that begins with `source:`"),
        ("just words", "a mapping that begins with `source:`"),
        ("source: [demo\n", "not YAML"),
        ("source: !!python/object/apply:os.getcwd []\n", "not YAML"),
        ("source: demo\nsource: demo\n", "key 'source' is given twice"),
        ("a: {b: 1, c: 2, b: 3}\n", "key 'b' is given twice"),
        ("source: demo\nstart: 2026-13-01\n", "not YAML: month must be in 1..12"),
        ("streams: [{path: {{since}}}]\n", "needs quotes"),
        ("1: 2\n", "strings"),
        ("source: a\x00b\n", "not YAML"),
    ],
)
def test_what_is_no_plain_yaml_mapping_is_refused(tmp_path: Path, text: str, said: str) -> None:
    answer = refused(tmp_path, text)
    assert str(tmp_path / "demo.yaml") in answer
    assert said in answer


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("title: Zürich".encode("latin-1"))
    for name in ("latin.yaml", "absent.yaml", "."):
        with pytest.raises(StreamFileError, match="cannot be read") as caught:
            read_source(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_columns_can_be_shared_with_an_anchor_and_partly_replaced(tmp_path: Path) -> None:
    text = """
    source: demo
    title: Demo
    base_url: https://demo.example
    timezone: UTC
    streams:
      - {name: one, path: /one, key: [id], columns: &shared {id: integer, note: string}}
      - {name: two, path: /two, key: [id], columns: {<<: *shared, note: json, more: date}}
    """
    source = read(tmp_path, textwrap.dedent(text))
    assert source.stream("one").table_columns() == [("id", "BIGINT"), ("note", "VARCHAR")]
    assert source.stream("two").table_columns() == [("id", "BIGINT"), ("note", "JSON"), ("more", "DATE")]


def test_defaults_fill_what_a_stream_leaves_out(tmp_path: Path) -> None:
    text = """
    source: demo
    title: Demo
    base_url: https://demo.example
    timezone: UTC
    limits: {rates: {search: [1/1s]}}
    defaults:
      key: [id]
      bucket: search
      params: {count: 100, order: asc}
      columns: {id: integer, created: timestamp}
      paging: {type: offset, size: 100}
    streams:
      - {name: plain, path: /plain}
      - name: own
        path: /own
        key: [code]
        bucket: default
        params: {order: desc, extra: 1}
        columns: {id: string, code: string}
        paging: {type: page, size: 100}
    """
    source = read(tmp_path, textwrap.dedent(text))
    plain, own = source.stream("plain"), source.stream("own")
    assert (plain.key, plain.bucket, plain.params) == (["id"], "search", {"count": 100, "order": "asc"})
    assert plain.table_columns() == [("id", "BIGINT"), ("created", "TIMESTAMP WITH TIME ZONE")]
    assert (own.key, own.bucket) == (["code"], "default")
    assert own.params == {"count": 100, "order": "desc", "extra": 1}
    assert own.table_columns() == [("id", "VARCHAR"), ("created", "TIMESTAMP WITH TIME ZONE"), ("code", "VARCHAR")]
    assert own.paging.model_dump() == {
        "type": "page",
        "size": 100,
        "start": 1,
        "more": None,
        "count": None,
        "total": None,
    }


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("task.externalLink.caption", "task_external_link_caption"),
        ("issueKey", "issue_key"),
        ("startTime", "start_time"),
        ("o_id", "o_id"),
        ("mc_exchange_rate", "mc_exchange_rate"),
        ("id", "id"),
        ("ID", "id"),
        ("HTTPServer", "http_server"),
        ("getHTTPResponseCode", "get_http_response_code"),
        ("userID", "user_id"),
        ("_id", "_id"),
        ("X__c", "x_c"),
        ("owner__r.id", "owner_r_id"),
        ("field_Q1w2E__c", "field_q1w2_e_c"),
        ("UDSText1__c", "uds_text1_c"),
        ("v2Id", "v2_id"),
        ("sku1", "sku1"),
        ("2fa", "2fa"),
        ("a-b c/d", "a_b_c_d"),
        ("a..b", "a_b"),
        ("客户Name", "name"),
        ("客户", "_"),
        ("", "_"),
    ],
)
def test_a_path_becomes_a_column_name_in_snake_case(path: str, name: str) -> None:
    assert snake(path) == name


def test_two_chinese_field_names_need_names_of_their_own(tmp_path: Path) -> None:
    columns = {"id": "integer", "客户": "string", "数量": "integer"}
    assert "give one a `name`" in refused(tmp_path, changed("streams.0.columns", columns))
    named = {**columns, "客户": {"type": "string", "name": "customer"}, "数量": {"type": "integer", "name": "quantity"}}
    source = read(tmp_path, changed("streams.0.columns", named))
    assert [name for name, _ in source.stream("members").table_columns()] == ["id", "customer", "quantity"]


@pytest.mark.parametrize(
    ("text", "count", "seconds"), [("5/1s", 5, 1), ("100/60s", 100, 60), ({"count": 2, "seconds": 3}, 2, 3)]
)
def test_a_rate_is_read_from_either_form(text: object, count: int, seconds: int) -> None:
    assert Rate.model_validate(text) == Rate(count=count, seconds=seconds)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("30s", timedelta(seconds=30)),
        ("15m", timedelta(minutes=15)),
        ("6h", timedelta(hours=6)),
        ("7d", timedelta(days=7)),
    ],
)
def test_a_duration_is_a_number_with_a_unit(tmp_path: Path, text: str, meant: timedelta) -> None:
    window = read(tmp_path, changed("streams.2.window.longest", text)).stream("entries").window
    assert window is not None
    assert window.longest == meant


@pytest.mark.parametrize(
    ("stream", "load", "mode", "version"),
    [(0, None, "snapshot", None), (2, None, "replace", "start_time"), (3, "merge", "merge", "modified")],
)
def test_how_rows_are_loaded_follows_from_the_window(
    tmp_path: Path, stream: int, load: str | None, mode: str, version: str | None
) -> None:
    chosen = read(tmp_path, changed(f"streams.{stream}.load", load)).streams[stream]
    assert (chosen.mode, chosen.version_column) == (mode, version)


@pytest.mark.parametrize("file", packaged_files(), ids=lambda file: file.name)
def test_a_packaged_file_is_valid_and_named_after_its_source(file: Path) -> None:
    source = read_source(file)
    assert file.name == f"{source.source}.yaml"
    assert all(stream.description for stream in source.streams)


def test_the_packaged_sources_have_the_names_and_columns_of_the_contract() -> None:
    sources = load_sources()
    entries = sources["tmetric"].stream("time_entries")
    columns = dict(entries.table_columns())
    assert sources["tmetric"].timezone == "Asia/Tokyo"
    assert (entries.mode, entries.key) == ("replace", ["id"])
    assert columns["task_external_link_caption"] == "VARCHAR"
    assert columns["start_time"] == "TIMESTAMP WITH TIME ZONE"
    assert columns["start_time_local"] == "TIMESTAMP"
    assert columns["tags"] == "JSON"


ADDED = "title: {title}\nbase_url: https://x.example\ntimezone: UTC\nstreams: [{stream}]\n"
PLAIN = "{name: items, path: /items, key: [id], columns: {id: integer}}"


def add(folder: Path, name: str, source: str, title: str = "Mine", stream: str = PLAIN) -> None:
    (folder / name).write_text(f"source: {source}\n" + ADDED.format(title=title, stream=stream), "utf-8")


def test_files_of_the_own_folder_come_on_top_of_the_packaged_ones(tmp_path: Path) -> None:
    add(tmp_path, "b.yaml", "shop")
    add(tmp_path, "a.yml", "blog")
    (tmp_path / "notes.txt").write_text("not a stream file")
    assert list(load_sources(tmp_path)) == sorted({*load_sources(), "shop", "blog"})


def test_an_own_file_replaces_the_packaged_source_of_its_name(tmp_path: Path) -> None:
    add(tmp_path, "whatever.yaml", "tmetric", title="Our TMetric")
    sources = load_sources(tmp_path)
    assert sources["tmetric"].title == "Our TMetric"
    assert [stream.name for stream in sources["tmetric"].streams] == ["items"]


def test_two_own_files_cannot_declare_one_source(tmp_path: Path) -> None:
    add(tmp_path, "a.yaml", "shop")
    add(tmp_path, "b.yml", "shop")
    with pytest.raises(StreamFileError, match=r"b\.yml: source 'shop' is also declared by a\.yaml"):
        load_sources(tmp_path)


def test_a_wrong_own_file_is_named(tmp_path: Path) -> None:
    add(tmp_path, "shop.yaml", "shop", stream="{name: items, path: /items, key: [id], columns: {id: int}}")
    with pytest.raises(StreamFileError, match=r"shop\.yaml:\n.*stream 'items', key columns.id: unknown column type"):
        load_sources(tmp_path)


def test_an_own_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StreamFileError, match=r"ETL_SOURCES_DIR: .*nowhere is not a folder"):
        load_sources(tmp_path / "nowhere")


def test_a_file_edited_in_place_is_read_again(tmp_path: Path) -> None:
    add(tmp_path, "shop.yaml", "shop", title="Before")
    assert load_sources(tmp_path)["shop"].title == "Before"
    add(tmp_path, "shop.yaml", "shop", title="After")
    assert load_sources(tmp_path)["shop"].title == "After"


def version_of(folder: Path, text: str, stream: str = "orders") -> str:
    source = read(folder, text)
    return code_version(source, source.stream(stream))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("streams.3.path", "/v2/orders"),
        ("streams.3.key", ["id", "modified"]),
        ("streams.3.columns.modified", {"type": "timestamp", "format": "epoch_ms"}),
        ("streams.3.columns.note", "string"),
        ("streams.3.quarantine", {"rows": 11}),
        ("streams.3.derived", {"x": {"type": "integer", "sql": "1"}}),
        ("streams.3.window.widen", "1h"),
        ("timezone", "Asia/Shanghai"),
        ("base_url", "https://other.example"),
    ],
)
def test_code_version_changes_with_the_declaration(tmp_path: Path, path: str, value: Any) -> None:
    assert version_of(tmp_path, changed(path, value)) != version_of(tmp_path, GOOD)


@pytest.mark.parametrize(
    "text",
    [
        GOOD + "# a comment\n",
        changed("start", date(2026, 1, 1)),
        changed("title", "Another title"),
        changed("streams.0.columns.more", "string"),
        changed("streams.3.method", "POST"),
        changed("streams.3.bucket", "default"),
        changed("limits.parallel", 3),
    ],
    ids=["comment", "layout", "title", "other-stream", "key-order", "default-spelt-out", "limits"],
)
def test_code_version_stays_when_the_declaration_does(tmp_path: Path, text: str) -> None:
    assert version_of(tmp_path, text) == version_of(tmp_path, GOOD)
