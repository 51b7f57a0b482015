"""A lab per test. The variables of the product are those of the lab and no others."""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets_tests.orchestration.lab import Lab, bare_environment


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ui: the web server, its daemon and the pages of the UI")


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A process without the product's variables, in an empty folder: no .env of a developer is read."""
    for name in os.environ.keys() - bare_environment().keys():
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    variables = {"ETL_DATA_DIR": str(tmp_path / "data"), "ETL_RETRY_BASE_SECONDS": "0.001"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def sandbox_days() -> int:
    return 3


@pytest.fixture
def sandbox(sandbox_days: int) -> Iterator[Sandbox]:
    with running(vendors=("tmetric",), days=sandbox_days) as sandbox:
        yield sandbox


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def lab(
    sandbox: Sandbox,
    instance: dg.DagsterInstance,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Lab:
    for name, value in sandbox.env().items():
        monkeypatch.setenv(name, value)
    return Lab(sandbox, Path(environment["ETL_DATA_DIR"]), instance)
