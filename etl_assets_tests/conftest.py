"""What concerns all tests: the emulators of Google's services, and that each test begins as a new process would."""

import os
import shutil
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from copy import copy
from typing import Any

import pytest

from etl_assets import redact
from etl_assets.sandbox.google.handle import Google, running
from etl_assets_tests.away import ROOT, away


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: some tests wait, for an API's limits above all."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark what has a run of its own: what runs on the emulators, where a load is some twenty calls, and most cases of
    a long matrix."""
    cases: Counter[str] = Counter()
    for item in items:
        test = item.nodeid.partition("[")[0]
        if (matrix := item.get_closest_marker("one_in")) and cases[test] % matrix.args[0]:
            item.add_marker(pytest.mark.slow)
        cases[test] += 1
        chosen = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if "emulators" in item.fixturenames or "bigquery" in chosen:
            item.add_marker(pytest.mark.bigquery)
            item.add_marker(pytest.mark.timeout(600))


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
    """The variables of a test with BigQuery; loads come faster there than anywhere else."""
    return {**google.env(place), "ETL_RETRY_BASE_SECONDS": "0.01", "BIGQUERY_TABLE_RATES": "1000/1s"}


@pytest.fixture(autouse=True, scope="session")
def away_from_the_repository() -> Iterator[None]:
    """Tests, and what they start, find the code from anywhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        patch.chdir(away())
        yield
    shutil.rmtree(away())


@pytest.fixture(autouse=True)
def secrets_of_a_new_process() -> Iterator[None]:
    """What other tests took for secrets is none here, and costs no time."""
    known = {name: copy(getattr(redact, name)) for name in ("_forms", "_pattern", "_bytes_pattern", "_telltales")}
    yield
    vars(redact).update(known)


@pytest.fixture(autouse=True)
def definitions_of_a_new_process() -> None:
    """Definitions are built once per process; a test may have changed what they are built from."""
    if module := sys.modules.get("etl_assets.definitions"):
        module.defs.load_fn.cache_clear()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say what `make test` leaves to other commands."""
    if config.option.markexpr == "not slow and not bigquery":
        terminalreporter.write_line(
            "Left to commands of their own: long matrices (make long), faults and kills (make chaos), emulators of "
            "BigQuery and Cloud Storage (make bigquery), the UI in a browser (make ui)."
        )
