"""Nothing is dropped silently: what cannot be carried over, and who nobody knows."""

import json
from datetime import date
from pathlib import Path

import pytest
import yaml

from etl_assets.qeasy.convert import convert
from etl_assets.sandbox.handle import Sandbox
from etl_assets_tests.http import Seen, answer, serving
from etl_assets_tests.qeasy.material import (
    ORDERS,
    SHOPS,
    imported,
    loading,
    stream_of,
    warned,
    warnings_of,
)
from etl_assets_tests.sources.truth import Lab, day

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
