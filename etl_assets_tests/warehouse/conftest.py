"""Benches of both warehouses."""

import json
from pathlib import Path
from typing import Protocol

import pytest

from etl_assets_tests.data import Bench


class Of(Protocol):
    """Makes a bench for a stream, given as the YAML of its keys, in a warehouse of its own."""

    def __call__(self, stream: str, *, more: str = "") -> Bench: ...


@pytest.fixture
def on_bigquery(env: dict[str, str], tmp_path: Path) -> Of:
    def made(stream: str, *, more: str = "") -> Bench:
        (tmp_path / "google.json").write_text(json.dumps(env))
        Bench.of(tmp_path, stream, more=more)
        return Bench.at(tmp_path)

    return made


@pytest.fixture(params=["duckdb", "bigquery"])
def of(request: pytest.FixtureRequest, tmp_path: Path) -> Of:
    if request.param == "bigquery":
        made: Of = request.getfixturevalue("on_bigquery")
        return made
    return lambda stream, *, more="": Bench.of(tmp_path, stream, more=more)
