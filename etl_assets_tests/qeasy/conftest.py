"""Simulators whose tables the imported files load."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def jushuitan() -> Iterator[Sandbox]:
    with running(vendors=("jushuitan",), days=2) as sandbox:
        sandbox.change("settings", per_second=0, per_minute=0)
        yield sandbox


@pytest.fixture(scope="module")
def fxiaoke() -> Iterator[Sandbox]:
    with running(vendors=("fxiaoke",), days=2) as sandbox:
        yield sandbox
