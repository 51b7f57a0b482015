"""A running Backlog per test, and a client that speaks to it; a plugin of the tests that name it."""

from collections.abc import Iterator

import pytest
import requests

from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets_tests.sandbox.backlog_api import Space


@pytest.fixture
def backlog() -> Iterator[Sandbox]:
    with running(vendors=("backlog",)) as sandbox:
        yield sandbox


@pytest.fixture
def space(backlog: Sandbox) -> Iterator[Space]:
    with requests.Session() as session:
        session.trust_env = False
        yield Space(backlog, session)
