"""The emulators of Google's services, one pair per process of the tests, and benches of both warehouses."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from etl_assets.sandbox.google.handle import Google, running
from etl_assets_tests.data import Bench


class Of(Protocol):
    """Makes a bench for a stream, given as the YAML of its keys, in a warehouse of its own."""

    def __call__(self, stream: str, *, more: str = "") -> Bench: ...


@pytest.fixture(scope="session")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    with running(tmp_path_factory.mktemp("google")) as google:
        yield google


@pytest.fixture
def google(emulators: Google) -> Google:
    """The emulators, without faults and calls of earlier tests."""
    emulators.bigquery.clear()
    emulators.storage.clear()
    return emulators


@pytest.fixture
def place() -> str:
    """A name for the datasets and the folder of the bucket that belong to one test."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def env(google: Google, place: str) -> dict[str, str]:
    """The variables of a test with BigQuery."""
    return {**google.env(place), "ETL_RETRY_BASE_SECONDS": "0.01"}


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
