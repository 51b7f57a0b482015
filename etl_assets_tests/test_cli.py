"""The `etl-assets` command: what it says and how it ends."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from etl_assets.cli import main
from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets.streamfiles import packaged_files

PRODUCT = ("ETL_", "DUCKDB_", "TMETRIC_", "SHOP_")
SHOP = """
source: shop
title: Shop
base_url: https://shop.example
timezone: Asia/Tokyo
settings: {SHOP_KEY: {secret: true, help: Printed on the back of the till.}}
auth: {type: header, name: X-Key, value: "{SHOP_KEY}"}
check: orders
streams:
  - {name: orders, path: /orders, key: [id], columns: {id: integer}}
  - {name: customers, path: /customers, key: [id], columns: {id: integer}}
"""


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(PRODUCT) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ETL_RETRY_BASE_SECONDS", "0.001")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with running(vendors=("tmetric",)) as sandbox:
        for name, value in sandbox.env().items():
            monkeypatch.setenv(name, value)
        yield sandbox


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A second source, in a folder for stream files."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "shop.yaml").write_text(SHOP, "utf-8")
    monkeypatch.setenv("ETL_SOURCES_DIR", str(folder))
    return folder / "shop.yaml"


def run(*line: str) -> Result:
    return CliRunner().invoke(main, line)


# check


def test_a_source_that_can_be_asked_is_ready(sandbox: Sandbox) -> None:
    result = run("check", "tmetric")
    assert result.exit_code == 0
    assert result.output == f"tmetric: 7 streams declared\n  ready at {sandbox.url}\n"
    assert [row["path"] for row in sandbox.log()] == ["/api/v3/accounts/5000/clients"]


def test_missing_variables_are_named_with_where_to_get_them() -> None:
    result = run("check", "tmetric")
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "tmetric: 7 streams declared",
        "  not ready: TMetric needs variables that are not set (see .env.example):",
        '    TMETRIC_TOKEN: In TMetric open My Profile and press "Get new API token". '
        "It lives one year; a new one kills the old.",
        "    TMETRIC_ACCOUNT_ID: The number in the address of your TMetric workspace, "
        "or activeAccountId of GET /api/v3/user.",
    ]


def test_an_empty_variable_counts_as_missing(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMETRIC_TOKEN", "")
    result = run("check", "tmetric")
    assert result.exit_code == 1
    assert "TMETRIC_TOKEN: In TMetric open My Profile" in result.output
    assert "TMETRIC_ACCOUNT_ID" not in result.output


def test_variables_may_stand_in_a_file(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{name}={value}\n" for name, value in sandbox.env().items()]
    for name in sandbox.env():
        monkeypatch.delenv(name)
    (tmp_path / ".env").write_text("".join(lines), "utf-8")
    assert run("check", "tmetric").exit_code == 0


def test_a_refused_token_is_said_to_be_refused_and_not_shown(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMETRIC_TOKEN", "old/token+0123456789=")
    sandbox.fault(path="/clients", status=401, body={"message": "old/token+0123456789= is not known"})
    result = run("check", "tmetric")
    assert result.exit_code == 1
    assert "/clients: HTTP 401; the credential is wrong, expired or replaced" in result.output
    assert '{"message":"*** is not known"}' in result.output
    assert "old/token" not in result.output


def test_an_api_that_is_down_is_not_called_ready(sandbox: Sandbox) -> None:
    sandbox.fault(path="/clients", status=503, times=-1)
    result = run("check", "tmetric")
    assert result.exit_code == 1
    assert "/clients: HTTP 503; gave up after 7 attempts" in result.output


def test_an_address_that_is_none_is_named(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMETRIC_BASE_URL", "http://tmetric.example")
    result = run("check", "tmetric")
    assert result.exit_code == 1
    assert "not ready: TMETRIC_BASE_URL: http:// is accepted for this machine only; use https://" in result.output


def test_all_sources_are_checked_and_one_that_is_not_ready_fails_the_command(sandbox: Sandbox, shop: Path) -> None:
    result = run("check")
    assert result.exit_code == 1
    assert "shop: 2 streams declared\n  not ready: Shop needs variables" in result.output
    assert "    SHOP_KEY: Printed on the back of the till." in result.output
    assert f"tmetric: 7 streams declared\n  ready at {sandbox.url}" in result.output


def test_a_source_that_is_not_declared_is_answered_with_those_that_are(shop: Path) -> None:
    result = run("check", "shopp")
    assert result.exit_code == 1
    assert result.output.startswith("Error: no source 'shopp'; declared: ")
    assert {"shop", "tmetric"} <= set(result.output.split(": ")[2].strip().split(", "))


def test_a_wrong_stream_file_is_named_with_stream_and_key(shop: Path) -> None:
    shop.write_text(SHOP.replace("path: /customers", "pth: /customers"), "utf-8")
    result = run("check")
    assert result.exit_code == 1
    assert f"Error: {shop}:\n" in result.output
    assert "stream 'customers', key pth: unknown key" in result.output


@pytest.mark.parametrize(("folder", "kind"), [("export", "exports"), ("trocco", "jobs"), ("push", "pushes")])
def test_a_wrong_declaration_of_another_kind_is_named(sandbox: Sandbox, shop: Path, folder: str, kind: str) -> None:
    (shop.parent / folder).mkdir()
    (shop.parent / folder / "bad.yaml").write_text(f"{kind}: [{{name: x, nonsense: 1}}]", "utf-8")
    result = run("check", "tmetric")
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {shop.parent / folder / 'bad.yaml'}")
    assert "nonsense" in result.output


@pytest.mark.parametrize("option", ["--port=99999", "--days=0", "--scale=0"])
def test_a_sandbox_that_cannot_be_is_refused(option: str) -> None:
    result = run("sandbox", option, "--", "true")
    assert (result.exit_code, "Invalid value for" in result.output) == (2, True)


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_RETRY_BASE_SECONDS", "soon")
    result = run("check")
    assert result.exit_code == 1
    assert result.output == "Error: ETL_RETRY_BASE_SECONDS: 'soon' is not a number\n"


def test_a_folder_of_stream_files_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_SOURCES_DIR", "/no/such/folder")
    result = run("check")
    assert result.exit_code == 1
    assert "ETL_SOURCES_DIR: /no/such/folder is not a folder" in result.output


# schema and help


def test_the_schema_that_stream_files_refer_to_is_the_one_printed() -> None:
    result = run("schema")
    assert result.exit_code == 0
    (folder,) = {path.parent for path in packaged_files()}
    assert result.output == (folder / "schema.json").read_text("utf-8")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_every_command(option: str) -> None:
    result = run(option)
    assert result.exit_code == 0
    for name in main.commands:
        assert f"  {name} " in result.output


def test_an_unknown_command_ends_with_a_usage_error() -> None:
    result = run("chekc")
    assert result.exit_code == 2
    assert "No such command 'chekc'" in result.output


def test_the_installed_command_reports_in_its_exit_code(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("etl-assets")
    done = subprocess.run([program, "check", "tmetric"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not ready: TMetric needs variables" in done.stdout
    assert done.stderr == ""
