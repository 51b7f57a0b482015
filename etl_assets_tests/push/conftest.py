"""A place per test, in an environment of its own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets_tests.push.place import Place

_PRODUCT = ("ETL_", "DUCKDB_", "DEPOT_", "DAGSTER_")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running(vendors=("depot",)) as sandbox:
        yield sandbox


@pytest.fixture
def place(tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place without rows, whose variables are those of this process."""
    for name in list(os.environ):
        if name.startswith(_PRODUCT) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    place = Place(tmp_path, sandbox)
    for name, value in place.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    place.declare()
    return place
