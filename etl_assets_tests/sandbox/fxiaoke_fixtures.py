"""A running Fxiaoke per test, and a client that speaks to it; a plugin of the tests that name it."""

from collections.abc import Iterator

import pytest
import requests

from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets_tests.sandbox.fxiaoke_api import Crm


@pytest.fixture
def fxiaoke() -> Iterator[Sandbox]:
    with running(vendors=("fxiaoke",)) as sandbox:
        yield sandbox


@pytest.fixture
def crm(fxiaoke: Sandbox) -> Iterator[Crm]:
    with requests.Session() as session:
        session.trust_env = False
        yield Crm(fxiaoke, session)
