"""SIGKILL of a load on BigQuery: before and after each of its calls. A plain run makes it right."""

import itertools
import os
import signal
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from etl_assets.sandbox.google.handle import Api, Google
from etl_assets_tests.data import DAY, Bench
from etl_assets_tests.warehouse.conftest import Of
from etl_assets_tests.warehouse.loader import Loader, loader
from etl_assets_tests.warehouse.material import MERGE, MODES, kept, row

FOREVER = 3600.0
PATIENCE_SECONDS = 60.0
MOMENTS = {
    "before the upload": ("storage", "delay", {"method": "POST", "body": "/rows-"}),
    "between upload and plan": ("storage", "delay", {"method": "POST", "body": "plan.json"}),
    "between plan and job": ("bigquery", "delay", {"method": "POST", "body": "things.20260105"}),
    "between job and result": ("bigquery", "hold", {"method": "POST", "body": "things.20260105"}),
    "between result and record": ("bigquery", "delay", {"method": "POST", "body": "INSERT INTO"}),
    "after the record": ("bigquery", "hold", {"method": "POST", "body": "INSERT INTO"}),
}


def cleaned(bench: Bench, day: date | None, version: str) -> list[tuple[Any, ...]]:
    """Clean another version of the day, with a row for quarantine; what the table is to hold then."""
    bench.cleaned([row(1, v=version), row(2, v=version), row(None)], day=day)
    return [(1, version, day), (2, version, day)]


def killed(api: Api, how: str, match: dict[str, Any], load: Loader, day: date | None) -> bool:
    """Load until the moment comes, and kill; False when the load ended without coming to it."""
    api.fault(**match, **{how: FOREVER})
    pid = load.start("killed", day)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not api.fired():
        assert time.monotonic() < deadline
        if not Path(f"/proc/{pid}").exists():
            return load.end() != 0
    os.kill(pid, signal.SIGKILL)
    assert load.end() == -signal.SIGKILL
    return True


def recovered(bench: Bench, load: Loader, day: date | None, before: Any, after: Any) -> None:
    """After the kill the table is as before or as it shall be, and after a plain run as it shall be."""
    assert kept(bench) in (before, after)
    load.start("again", day)
    assert load.end() == 0
    assert kept(bench) == after
    (last, *_) = bench.query("SELECT * FROM ops.loads ORDER BY loaded_at DESC LIMIT 1")
    assert (last["run_id"], last["rows_loaded"], last["rows_quarantined"]) == ("again", 2, 1)
    assert last["content_hash"] == bench.folder("clean", day).manifest().details["content_hash"]
    assert len(bench.query("SELECT * FROM ops.quarantine")) == 1
    assert {found["_run_id"] for found in bench.table("_run_id")} <= {"killed", "again"}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_load_that_is_killed_is_made_right_by_a_plain_run(on_bigquery: Of, google: Google, moment: str) -> None:
    bench = on_bigquery(MERGE.removeprefix("load: merge\n"))
    before = cleaned(bench, DAY, "old")
    bench.load(day=DAY)
    after = cleaned(bench, DAY, "new")
    api, how, match = MOMENTS[moment]
    with loader(bench) as load:
        assert killed(getattr(google, api), how, match, load, DAY)
        getattr(google, api).clear()
        recovered(bench, load, DAY, before, after)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["delay", "hold"])
@pytest.mark.parametrize("api", ["storage", "bigquery"])
@MODES
def test_a_load_can_be_killed_at_any_of_its_calls(
    on_bigquery: Of, google: Google, stream: str, day: date | None, api: str, how: str
) -> None:
    bench, service = on_bigquery(stream), getattr(google, api)
    before = cleaned(bench, day, "version 0")
    bench.load(day=day)
    with loader(bench) as load:
        for call in itertools.count():
            after = cleaned(bench, day, f"version {call + 1}")
            service.clear()
            if not killed(service, how, {"skip": call}, load, day):
                break
            service.clear()
            try:
                recovered(bench, load, day, before, after)
            except AssertionError as error:
                error.add_note(f"killed at call {call}")
                raise
            before = after
    assert call > 4
