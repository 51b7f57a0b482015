"""`etl-assets scaffold`: the lines that it prints for an object, pasted into the stream file and loaded."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from etl_assets.cli import main
from etl_assets.sandbox.fxiaoke.fields import INVENTORY
from etl_assets.sandbox.fxiaoke.vendor import STREAMS
from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets.scaffold import column_name, columns_of
from etl_assets.streamfiles import packaged_files, read_source
from etl_assets_tests.sources.truth import Lab, day

PACKAGED = next(file for file in packaged_files() if file.stem == "fxiaoke")


@pytest.fixture(scope="module")
def crm() -> Iterator[Sandbox]:
    with running(vendors=("fxiaoke",), days=2, scale=0.3) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def environment(crm: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ETL_", "DUCKDB_", "FXIAOKE_")):
            monkeypatch.delenv(name)
    for name, value in crm.env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ETL_RETRY_BASE_SECONDS", "0.001")
    monkeypatch.chdir(tmp_path)


def run(*line: str) -> Result:
    return CliRunner().invoke(main, ["scaffold", "fxiaoke", *line])


def stream_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    (stream,) = yaml.safe_load(result.stdout)
    return dict(stream)


def pasted(lines: str) -> Path:
    """The packaged file with the lines below its streams, in a folder of its own, and without its waits."""
    text = PACKAGED.read_text("utf-8").replace("default: [100/20s]", "default: [5000/1s]")
    folder = Path("sources")
    folder.mkdir()
    (folder / "fxiaoke.yaml").write_text(text + lines, "utf-8")
    return folder / "fxiaoke.yaml"


def test_the_lines_paste_below_the_streams_of_the_packaged_file() -> None:
    result = run(INVENTORY, "--name", "stock_report")
    source = read_source(pasted(result.stdout).resolve())
    assert source.streams[-1].name == "stock_report"
    assert source.streams[-1].description == "库存报告, changed in the day."


@pytest.mark.parametrize(
    ("name", "family", "stream"),
    [
        (INVENTORY, "/cgi/crm/custom/v2/data/query", "object_inventory_report"),
        ("SalesOrderProductObj", "/cgi/crm/v2/data/query", "sales_order_product"),
    ],
)
def test_the_family_of_paths_follows_the_suffix_of_the_object(name: str, family: str, stream: str) -> None:
    declared = stream_of(run(name))
    assert (declared["path"], declared["values"], declared["name"]) == (family, {"object": name}, stream)


def test_every_field_has_its_column() -> None:
    columns = stream_of(run(INVENTORY))["columns"]
    packaged = yaml.safe_load(PACKAGED.read_text("utf-8"))["streams"]
    (system,) = (stream["columns"] for stream in packaged if stream.get("values") == {"object": INVENTORY})
    assert {path: columns[path] for path in system if path != "name"} == {
        path: declared for path, declared in system.items() if path != "name"
    }
    assert columns["name"] == {"type": "string", "description": "仓库名称"}
    shown = {path: declared for path, declared in columns.items() if path not in system}
    assert shown == {
        "field_wH7cD__c": {"type": "string", "description": "仓库编码"},
        "field_Q1w2E__c": {"type": "decimal(30,2)", "description": "库存金额"},
        "field_date__c": {"type": "date", "format": "epoch_ms", "description": "盘点日期"},
        "field_sel__c": {"type": "string", "description": "仓库状态"},
        "account_id__c": {"type": "string", "description": "所属客户"},
        "account_id__c__r": {"type": "string", "description": "所属客户: name"},
        "field_cAp3T__c": {"type": "integer", "description": "库容"},
        "field_sTk8N__c": {"type": "decimal(30,4)", "description": "当前库存"},
        "field_uTl9P__c": {"type": "decimal(30,2)", "description": "库容利用率"},
        "field_cNt4R__c": {"type": "integer", "description": "出库单数"},
        "field_cTy2B__c": {"type": "string", "description": "所在城市"},
        "field_lOc5A__c": {"type": "string", "description": "仓库位置"},
        "field_aRr6M__c": {"type": "json", "description": "存储品类"},
        "field_kPr1U__c": {"type": "json", "description": "仓管员"},
        "field_dPt0V__c": {"type": "json", "description": "管理部门"},
        "field_cHk2W__c": {"type": "timestamp", "format": "epoch_ms", "description": "最近盘点时间"},
        "field_oPn6X__c": {"type": "integer", "description": "开仓时间 (milliseconds of the day)"},
        "field_bOn5Y__c": {"type": "boolean", "description": "保税仓"},
        "field_rEm3Z__c": {"type": "string", "description": "备注"},
        "field_iMg8Q__c": {"type": "json", "description": "现场照片"},
        "UDSText1__c": {"type": "string", "description": "旧编码"},
    }


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("truth", "style"), [*((stream, "body") for stream in STREAMS), ("accounts", "headers")])
def test_the_columns_load_every_object_as_it_is(
    crm: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truth: str, style: str
) -> None:
    if style == "headers":
        monkeypatch.delenv("FXIAOKE_OPEN_USER_ID")
        monkeypatch.setenv("FXIAOKE_EMPLOYEE_ID", "1000")
    file = pasted(run(STREAMS[truth], "--name", "scaffolded").stdout)
    monkeypatch.setenv("ETL_SOURCES_DIR", str(file.parent))
    lab = Lab(crm, "fxiaoke", tmp_path)
    lab.run("scaffolded", day(1), day(2))
    lab.api.client.close()
    rows = [row for number in (1, 2) for row in crm.truth(stream=truth, day=str(day(number)))]
    lab.assert_true("scaffolded", rows)
    assert rows
    undeclared = {name for row in lab.table("scaffolded") for name in row["_extra"] or {}}
    assert {name for name in undeclared if not name.endswith(("__r", "__l", "__o", "__v"))} == set()


def test_decimals_are_exact(crm: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_SOURCES_DIR", str(pasted(run(INVENTORY, "--name", "stock").stdout).parent))
    lab = Lab(crm, "fxiaoke", tmp_path)
    lab.run("stock", day(1))
    lab.api.client.close()
    names = {
        "field_Q1w2E__c": "field_q1w2_e_c",
        "field_sTk8N__c": "field_s_tk8_n_c",
        "field_uTl9P__c": "field_u_tl9_p_c",
    }
    rows = crm.truth(stream="inventory_reports", day=str(day(1)))
    found = lab.sql(
        f"SELECT _id, {', '.join(f'CAST({name} AS VARCHAR)' for name in names.values())} FROM fxiaoke.stock"
    )
    assert sorted(found) == sorted((row["_id"], *(row[path] for path in names)) for row in rows)


def test_an_object_that_is_not_there_is_told() -> None:
    result = run("NothingObj")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "/cgi/crm/v2/object/describe NothingObj: error code 15002" in result.stderr


def test_a_name_that_is_none_is_refused() -> None:
    result = run(INVENTORY, "--name", "Stock Report")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no valid stream file comes of this" in result.stderr


def test_missing_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FXIAOKE_APP_SECRET")
    result = run(INVENTORY)
    assert result.exit_code == 1
    assert "FXIAOKE_APP_SECRET" in result.stderr


@pytest.mark.parametrize(
    ("field", "declared"),
    [
        ({"type": "currency"}, "decimal(30,6)"),
        ({"type": "currency", "decimal_places": 0, "length": 14}, "decimal(14,0)"),
        ({"type": "number", "decimal_places": 3, "length": 14}, "decimal(17,3)"),
        ({"type": "number", "decimal_places": 9, "length": 36}, "decimal(38,9)"),
        ({"type": "formula", "return_type": "date_time"}, {"type": "timestamp", "format": "epoch_ms"}),
        ({"type": "select_many"}, "json"),
        ({"type": "department"}, "json"),
    ],
)
def test_fields_that_the_simulator_does_not_have(field: Mapping[str, Any], declared: Any) -> None:
    assert columns_of({"x__c": field}, {}) == ({"x__c": declared}, [])


def test_a_type_that_nobody_knows_is_text_and_told() -> None:
    columns, warnings = columns_of({"x__c": {"type": "hologram"}, "y__c": {"type": "formula"}}, {})
    assert columns == {"x__c": "string", "y__c": "string"}
    assert [line.split(":")[0] for line in warnings] == ["x__c", "y__c"]


def test_a_field_out_of_use_is_left_out_and_told() -> None:
    columns, warnings = columns_of({"x__c": {"type": "text", "is_active": False}}, {})
    assert (columns, warnings) == ({}, ["x__c: not in use any more; left out"])


def test_fields_that_differ_in_capitals_get_columns_of_their_own() -> None:
    fields = {"field_aB__c": {"type": "text"}, "field_a_b__c": {"type": "text"}, "字段__c": {"type": "text"}}
    assert columns_of(fields, {})[0] == {
        "field_aB__c": "string",
        "field_a_b__c": {"type": "string", "name": "field_a_b_c_2"},
        "字段__c": "string",
    }


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("shopName", "shop_name"), ("1st", "field_1st"), ("金额", "field"), ("_extra", "field_extra"), ("_id", "_id")],
)
def test_column_names_are_names(wanted: str, name: str) -> None:
    assert column_name(wanted, []) == name
    assert column_name(wanted, [name]) == f"{name}_2"
