"""A running TMetric per test, and a client that speaks to it as the product would."""

from collections.abc import Iterator

import pytest
import requests

from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets_tests.sandbox.api import Api


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running(vendors=("tmetric",)) as sandbox:
        yield sandbox


@pytest.fixture
def api(sandbox: Sandbox) -> Iterator[Api]:
    with requests.Session() as session:
        session.trust_env = False
        yield Api(sandbox, session)
