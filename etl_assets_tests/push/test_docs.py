"""docs/push.md against the product: the example is run, the tables are compared with the code."""

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from etl_assets.pipeline import Pipeline
from etl_assets.push import ledger, run, spec
from etl_assets.push.files import load_targets, packaged_files, read_target
from etl_assets.push.queue import _HEADERS
from etl_assets.schema import push_schema_text
from etl_assets.settings import Settings
from etl_assets.spec import Service
from etl_assets_tests.push.place import Place, things
from etl_assets_tests.test_docs import ROOT, _choices, code, default_of, keys_of, models, table, tables, words

TEXT = (ROOT / "docs/push.md").read_text("utf-8")
TITLES: Mapping[type[BaseModel], str] = {
    spec.Target: "the target",
    spec.Push: "a push",
    spec.Origin: "`from`",
    spec.TargetField: "a field",
    spec.Reference: "a lookup",
    spec.ValueMap: "a map",
    spec.Call: "a request",
    spec.Write: "`results`",
    spec.LookUp: "`look_up`",
    spec.Removed: "`removed`",
    spec.Idempotency: "`idempotency`",
}
INHERITED: Mapping[type[BaseModel], type[BaseModel]] = {spec.Write: spec.Results, spec.LookUp: spec.LookUp}


def own_keys(model: type[BaseModel]) -> dict[str, Any]:
    """The keys that the model's table has to show: those of every request are in a table of their own."""
    shown = keys_of(INHERITED.get(model, model))
    return {key: field for key, field in shown.items() if model is not spec.LookUp or key not in keys_of(spec.Call)}


@pytest.mark.parametrize(("model", "title"), TITLES.items(), ids=TITLES.values())
def test_every_key_is_documented_with_its_default_and_choices(model: type[BaseModel], title: str) -> None:
    rows = table(TEXT, f"Key of {title}", "Type", "Default", "Meaning").rows
    assert {words(key)[0]: default for key, _, default, _ in rows} == {
        key: default_of(field) for key, field in own_keys(model).items()
    }
    types = {words(key)[0]: kind for key, kind, _, _ in rows}
    for key, field in own_keys(model).items():
        assert set(_choices(field.annotation)) <= set(words(types[key])), key


def test_every_model_has_its_table() -> None:
    of_the_service = set().union(*(models_of(field) for field in Service.model_fields.values()))
    assert models(spec.Target) - of_the_service == {*TITLES, spec.Results, spec.Default} - {spec.Call}


def models_of(field: Any) -> set[type[BaseModel]]:
    from etl_assets_tests.test_docs import _models_in

    return set().union(*(models(model) for model in _models_in([field.annotation, *field.metadata])))


def test_states_columns_and_placeholders_are_those_of_the_code(tmp_path: Path) -> None:
    assert [words(cell)[0] for cell in table(TEXT, "State").column()] == list(get_args(ledger.State))
    ledger.connect(tmp_path / "ledger.sqlite").close()
    db = sqlite3.connect(tmp_path / "ledger.sqlite")
    columns = [row[1] for row in db.execute("PRAGMA table_info(records)")]
    db.close()
    assert sorted(word for cell in table(TEXT, "Column of `records`").column() for word in words(cell)) == sorted(
        columns
    )
    shown = {word.strip("{}") for cell in table(TEXT, "Placeholder").column() for word in words(cell)}
    assert shown == {*spec._OF_ONE, *spec._OF_MANY, "uuid", "NAME", "name"}


def test_the_example_gives_the_document_it_shows(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    example = code(TEXT, "yaml")[0]
    (place.root / "sources/push/wms.yaml").write_text(example, "utf-8")
    target = load_targets(place.root / "sources")["wms"]
    for name in ("BASE_URL", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.setenv(f"WMS_{name}", place.env[f"DEPOT_{name}"])
    place.execute(
        "CREATE SCHEMA jushuitan",
        "CREATE TABLE jushuitan.warehouses AS SELECT 20011 AS wms_co_id, '华南 \"云仓\"' AS name, '生效' AS status",
        "CREATE TABLE jushuitan.inventory (wms_co_id BIGINT, max_qty BIGINT, qty BIGINT)",
        "INSERT INTO jushuitan.inventory VALUES (20011, 50000, 15000), (20011, 10000, 3)",
    )
    done = run.push(Pipeline(Settings.read()), target, target.push("warehouses"), "run")
    assert (done.written, done.requests) == (1, 3)  # token, id check, batch
    (shown,) = code(TEXT, "json")
    assert place.contents() == {}
    assert [row["content"] for row in place.there("warehouses")] == [json.loads(shown)]


def test_the_queue_is_shown_as_it_is_printed() -> None:
    shown = code(TEXT, "console")[0].splitlines()
    assert tuple(shown[1].split()) == _HEADERS


def test_the_ledger_is_read_as_shown(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.fill(things(3))
    place.run()
    (command,) = [line for block in code(TEXT, "sh") for line in block.splitlines() if line.startswith("python -c")]
    program = command.removeprefix('python -c "').removesuffix('"')
    exec(program)
    assert capsys.readouterr().out == "('depot', 'things', 'sent', 3)\n"


def test_the_committed_schema_is_the_one_that_the_model_makes() -> None:
    assert (ROOT / "etl_assets/streams/push/schema.json").read_text("utf-8") == push_schema_text()


def test_the_schema_accepts_packaged_file_and_example_and_refuses_a_mistake() -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator(json.loads(push_schema_text()))
    for text in (*(file.read_text("utf-8") for file in packaged_files()), code(TEXT, "yaml")[0]):
        assert list(validator.iter_errors(yaml.safe_load(text))) == []
    assert list(validator.iter_errors(yaml.safe_load(code(TEXT, "yaml")[0].replace("look_up:", "lookup:"))))


def test_the_packaged_examples_write_what_their_sources_hold(place: Place) -> None:
    sources = Pipeline(Settings.read()).sources
    read = ("jushuitan.shops", "jushuitan.warehouses", "jushuitan.inventory", "fxiaoke.inventory_reports")
    for source, stream in (name.split(".") for name in read):
        columns = ", ".join(f'"{column}" {kind}' for column, kind in sources[source].stream(stream).table_columns())
        place.execute(f"CREATE SCHEMA IF NOT EXISTS {source}", f"CREATE TABLE {source}.{stream} ({columns})")
    place.execute(
        """INSERT INTO jushuitan.shops BY NAME SELECT 10001 AS shop_id, '旗舰店' AS shop_name, '京东' AS shop_site,
                  TIMESTAMPTZ '2026-12-31 00:00:00+08' AS session_expired""",
        "INSERT INTO jushuitan.shops BY NAME SELECT 10002 AS shop_id, 'Shop' AS shop_name, 'Offline' AS shop_site",
        """INSERT INTO jushuitan.warehouses BY NAME
           SELECT 20001 AS wms_co_id, '主仓' AS name, true AS is_main, '生效' AS status""",
        "INSERT INTO jushuitan.inventory BY NAME SELECT 20001 AS wms_co_id, 10000 AS max_qty, 5000 AS qty",
    )
    target = read_target(packaged_files()[0])
    for push in target.pushes:
        run.push(Pipeline(Settings.read()), target, push, "run")
    assert [row["content"] for row in place.there("shops")] == [
        {
            "id": "10001",
            "name": "旗舰店",
            "operation": "upsert",
            "channel": "JD",
            "session": {"expires": "2026-12-31 00:00:00"},
        },
        {"id": "10002", "name": "Shop", "operation": "upsert", "channel": "Offline"},
    ]
    assert [row["content"] for row in place.there("warehouses")] == [
        {
            "id": "20001",
            "name": "主仓",
            "location": {"city": "Hangzhou", "main": True},
            "capacityInfo": {"totalCapacity": 10000, "currentStockLevel": 5000},
            "status": "ACTIVE",
        }
    ]
    assert place.sandbox.count("/token") == 1  # for all of it


def test_all_tables_of_keys_belong_to_a_model() -> None:
    titles = [one.head[0].removeprefix("Key of ") for one in tables(TEXT) if one.head[0].startswith("Key of ")]
    assert sorted(titles) == sorted(TITLES.values())
