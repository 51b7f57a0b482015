"""A simulated TROCCO per test, a data folder, and a clock that runs as fast as the tests want."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets_tests.trocco.place import Place


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running(vendors=("trocco",), days=1) as sandbox:
        yield sandbox


@pytest.fixture
def place(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name in os.environ:
        if name.startswith(("ETL_", "TROCCO_")):
            monkeypatch.delenv(name)
    data = tmp_path / "data"
    for name, value in {**sandbox.env(), "ETL_DATA_DIR": str(data), "ETL_RETRY_BASE_SECONDS": "0.001"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return Place(sandbox, tmp_path)
