"""`etl-assets import-qeasy`, and its document."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from etl_assets.cli import main
from etl_assets.errors import FinalError
from etl_assets.qeasy.convert import convert
from etl_assets.qeasy.told import CARRIED, INSTEAD
from etl_assets.sandbox.handle import Sandbox
from etl_assets.streamfiles import read_source
from etl_assets_tests.qeasy.material import (
    SHOPS,
    WAREHOUSES,
    imported,
    loading,
    warned,
    warnings_of,
)
from etl_assets_tests.sources.truth import day

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


DOCUMENT = (Path(__file__).parents[2] / "docs/qeasy.md").read_text("utf-8")


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
