"""Places to break things in, and the one line that the whole matrix comes down to."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets_tests.chaos.place import DAY, ENTRIES, NEIGHBOUR, PROJECTS, Place

DAYS = 8


class Make(Protocol):
    """Makes a place: for `first` there is nothing yet, for `reload` the source has changed since the load."""

    def __call__(self, scenario: str, folder: Path | None = None) -> Place: ...


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running(days=DAYS, vendors=("tmetric",)) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that holds the day, a neighbour day and a snapshot, as they were at first."""
    data = tmp_path_factory.mktemp("loaded") / "data"
    with running(days=DAYS, vendors=("tmetric",)) as sandbox:
        for target in (NEIGHBOUR, ENTRIES, PROJECTS):
            done = Place(sandbox, data).run(target)
            assert done.code == 0, done.err
    return data


@pytest.fixture
def make(sandbox: Sandbox, loaded: Path, tmp_path: Path) -> Make:
    edit(sandbox)

    def made(scenario: str, folder: Path | None = None) -> Place:
        data = (folder or tmp_path) / "data"
        if data.exists():
            shutil.rmtree(data)
        if scenario == "reload":
            shutil.copytree(loaded, data)
        return Place(sandbox, data)

    return made


def edit(sandbox: Sandbox) -> None:
    """Change the source: rows edited, inserted, deleted, and moved to another day."""
    edited, deleted, moved, *_ = (row["id"] for row in sandbox.truth(day=DAY))
    later = {"start_utc": "2026-01-08T03:00:00Z", "end_utc": "2026-01-08T04:00:00Z"}
    new = {"start_utc": f"{DAY}T03:00:00Z", "end_utc": f"{DAY}T03:30:00Z", "note": "新規"}
    sandbox.change(
        "entries",
        update=[{"id": edited, "note": "edited", "is_billable": False}, {"id": moved, **later}],
        insert=[{"user_id": 703, **new}, {"user_id": 719, **new}],
        delete=[deleted],
    )
    project = {"id": 99, "name": "新規", "code": "NEW", "client_id": 21, "status": 1, "is_billable": True}
    sandbox.change("projects", update=[{"id": 81, "name": "Renamed"}], insert=[project], delete=[88])


def pytest_unconfigure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None or config.option.markexpr not in ("chaos", "smoke"):
        return
    count = {outcome: len(terminal.stats.get(outcome, [])) for outcome in ("passed", "failed", "error")}
    kills: Counter[str] = Counter()
    for report in terminal.stats.get("passed", []):
        for name, number in report.user_properties:
            kills[name] += number
    print()
    print(*(f"{name}: {number}" for name, number in sorted(kills.items())), sep="\n")
    print(f"{count['passed']} passed, {count['failed'] + count['error']} failed")
