"""Push files: what is refused, with file, push and key; where they lie."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl_assets.errors import StreamFileError
from etl_assets.push.files import load_targets, packaged_files, read_target
from etl_assets_tests.push.place import LOOK_UP, SERVICE, THINGS, UPDATE


def written(folder: Path, *, service: dict[str, Any] | None = None, **push: Any) -> Path:
    declared = {name: value for name, value in {**copy.deepcopy(THINGS), **push}.items() if value is not None}
    tree = {**copy.deepcopy(SERVICE), **(service or {}), "pushes": [declared]}
    file = folder / "push" / "depot.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(tree, allow_unicode=True), "utf-8")
    return file


@pytest.mark.parametrize(
    ("push", "says"),
    [
        ({"rows": 1}, "key rows: unknown key"),
        ({"from": {"table": "things"}}, "key from.table: String should match pattern"),
        ({"from": {"table": "a.b", "sql": "SELECT 1"}}, "key from: give exactly one of table, clean and sql"),
        ({"from": {}}, "key from: give exactly one of table, clean and sql"),
        ({"key": []}, "key key: List should have at least 1 item"),
        ({"fields": {}}, "key fields: Dictionary should have at least 1 item"),
        ({"fields": {"a": {"column": "x", "value": 1}}}, "key fields.a: give either a column or a value"),
        ({"fields": {"a": {}}}, "key fields.a: give either a column or a value"),
        ({"fields": {"a": {"value": 1, "type": "string"}}}, "key fields.a: value: a constant is sent as it is"),
        ({"fields": {"a": {"column": "x", "format": "iso8601"}}}, "key fields.a: format: 'iso8601' is none of"),
        ({"fields": {"a": {"column": "x", "type": "string", "format": "date"}}}, "format: a string has none"),
        ({"fields": {"a": {"column": "x", "decimals": 2}}}, "decimals: needs type string or number"),
        ({"fields": {"a": {"column": "x", "lookup": "l"}}}, "fields.a.lookup: there is no 'l' under lookups"),
        ({"fields": {"a": {"column": "x", "map": "m"}}}, "fields.a.map: there is no 'm' under maps"),
        ({"fields": {"a": "x", "a.b": "y"}}, "fields.a.b: 'a' is a value and cannot hold another"),
        ({"maps": {"m": {"values": {"a": 1}}}}, "key maps.m.unmatched: Field required"),
        ({"maps": {"m": {"values": {"a": 1}, "unmatched": "ignore"}}}, "key maps.m.unmatched."),
        ({"write": None}, "write: needed unless mode is land_only"),
        ({"mode": "land_only"}, "delete: land_only sends nothing"),
        ({"delete": None, "removed": "delete"}, "removed: delete needs the `delete` call"),
        ({"removed": {"action": "delete", "at_most": 0}}, "key removed.at_most: Input should be greater than 0"),
        ({"id_check": "update"}, "id_check: needs the `look_up` call"),
        ({"write": {**THINGS["write"], "json": "{document}"}}, "write.size: {document} stands for one record"),
        ({"write": {**THINGS["write"], "json": {"a": 1}}}, "write: neither {document} nor {documents} is sent"),
        ({"write": {**THINGS["write"], "path": "/v1/{target_id}"}}, "write.size: {target_id} stands for one record"),
        ({"write": {**UPDATE, "path": "/v1/{target_id}"}}, "write: {target_id} is not known there; declare `update`"),
        ({"delete": {**THINGS["delete"], "json": "{documents}"}}, "delete: {documents} is not known there"),
        ({"write": {**THINGS["write"], "path": "/v1/{kind}"}}, "pushes.things.write: placeholder {kind} means nothing"),
        (
            {"write": {**THINGS["write"], "bucket": "slow"}},
            "pushes.things.write.bucket: 'slow' is not under limits.rates",
        ),
        (
            {"write": {**THINGS["write"], "results": {"code": "c"}}},
            "write.results: code: `code` and `ok` belong together",
        ),
        ({"look_up": {**LOOK_UP, "rows": None}}, "key look_up: rows: needed where several records are asked for"),
        ({"idempotency": {}}, "key idempotency: give either a header or a field"),
        ({"attempts": 0}, "key attempts: Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_push_is_told_with_file_push_and_key(tmp_path: Path, push: dict[str, Any], says: str) -> None:
    file = written(tmp_path, **push)
    with pytest.raises(StreamFileError) as refused:
        read_target(file)
    assert str(refused.value).startswith(f"{file}:\n  ")
    assert says in str(refused.value)
    assert "push 'things'" in str(refused.value) or "pushes.things" in str(refused.value)


@pytest.mark.parametrize(
    ("service", "says"),
    [
        ({"timezone": "China"}, "key timezone: 'China' is not an IANA time zone"),
        ({"settings": {}}, "auth.0: DEPOT_CLIENT_ID is not declared under settings"),
        ({"stream": []}, "key stream: unknown key"),
        ({"base_url": "depot.example"}, "key base_url: String should match pattern"),
    ],
)
def test_a_wrong_target_is_told_with_file_and_key(tmp_path: Path, service: dict[str, Any], says: str) -> None:
    with pytest.raises(StreamFileError) as refused:
        read_target(written(tmp_path, service=service))
    assert says in str(refused.value)


def test_two_pushes_of_one_name_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path)
    tree = yaml.safe_load(file.read_text("utf-8"))
    file.write_text(yaml.safe_dump({**tree, "pushes": tree["pushes"] * 2}), "utf-8")
    with pytest.raises(StreamFileError, match="two pushes are named 'things'"):
        read_target(file)


def test_the_defaults_hold_for_every_push_and_the_empty_write_takes_what_it_can_use(tmp_path: Path) -> None:
    file = written(tmp_path)
    tree = yaml.safe_load(file.read_text("utf-8"))
    (push,) = tree["pushes"]
    shared = {name: push.pop(name) for name in ("write", "delete", "key")}
    empty = {"name": "empty", "mode": "land_only", "from": push["from"], "fields": push["fields"]}
    file.write_text(yaml.safe_dump({**tree, "defaults": shared, "pushes": [push, empty]}), "utf-8")
    target = read_target(file)
    assert (target.push("things").write is None, target.push("empty").write is None) == (False, True)
    assert target.push("empty").key == ["id"]


def test_an_own_file_replaces_the_packaged_target_of_that_name(tmp_path: Path) -> None:
    assert [push.name for push in load_targets()["depot"].pushes] == ["shops", "warehouses", "inventory_reports"]
    written(tmp_path)
    assert [push.name for push in load_targets(tmp_path)["depot"].pushes] == ["things"]


def test_a_target_declared_twice_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.with_name("other.yaml").write_bytes(file.read_bytes())
    with pytest.raises(StreamFileError, match=r"other\.yaml: target 'depot' is also declared by depot\.yaml"):
        load_targets(tmp_path)


def test_a_folder_without_pushes_is_no_mistake(tmp_path: Path) -> None:
    assert load_targets(tmp_path) == load_targets()


@pytest.mark.parametrize("file", packaged_files(), ids=lambda file: file.stem)
def test_packaged_files_are_named_after_their_target(file: Path) -> None:
    assert read_target(file).target == file.stem
