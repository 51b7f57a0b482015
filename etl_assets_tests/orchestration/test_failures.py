"""What goes wrong at the vendor: what is tried again and how often, what is said, and that the table stays."""

from pathlib import Path
from typing import Any

import pytest

from etl_assets.client import ATTEMPTS
from etl_assets_tests.orchestration.lab import Lab, materialize, stream_file

# Commands take seconds each, and several times that on a busy machine.
pytestmark = pytest.mark.timeout(300)

DAY = "2026-01-05"
SELECT = '+key:"warehouse/tmetric/time_entries"'
TAGS = "timeentries/tags"
STEP_RETRIES = 2

SHOP = """
source: shop
title: Shop
base_url: {url}
timezone: Asia/Tokyo
start: 2026-01-01
auth: {{type: bearer, token: SHOP_TOKEN}}
settings: {{SHOP_TOKEN: {{secret: true, help: Printed on the back of the till.}}}}
streams:
  - name: labels
    path: /api/v3/accounts/5000/timeentries/tags
    key: [id]
    columns: {{id: integer, name: string, isWorkType: boolean, isWorkTypeBillable: boolean}}
"""


def test_an_error_that_may_pass_is_tried_again_by_the_client(lab: Lab) -> None:
    lab.sandbox.fault(path=TAGS, status=503, times=ATTEMPTS - 1)
    run = lab.run("tmetric/tags")
    assert (run.success, run.step_retries) == (True, 0)
    assert lab.sandbox.count(TAGS) == ATTEMPTS
    assert len(lab.query("FROM tmetric.tags")) == 6


def test_then_by_the_step(lab: Lab) -> None:
    lab.sandbox.fault(path=TAGS, status=503, times=ATTEMPTS)
    run = lab.run("tmetric/tags")
    assert (run.success, run.step_retries) == (True, 1)
    assert lab.sandbox.count(TAGS) == ATTEMPTS + 1
    assert len(lab.query("FROM tmetric.tags")) == 6


def test_and_given_up_in_the_end(lab: Lab) -> None:
    lab.sandbox.fault(path=TAGS, status=503, times=-1)
    run = lab.run("tmetric/tags")
    assert (run.success, run.step_retries) == (False, STEP_RETRIES)
    assert lab.sandbox.count(TAGS) == ATTEMPTS * (1 + STEP_RETRIES)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_not_tried_again(lab: Lab, status: int) -> None:
    lab.sandbox.fault(path="timeentries/statuses", status=401)
    lab.sandbox.fault(path="tasks", status=status, times=-1)
    run = lab.run("tmetric/tasks")
    assert (run.success, run.step_retries) == (False, 0)
    assert lab.sandbox.count("tasks") == 1
    assert run.failures["raw/tmetric/tasks"].startswith(
        "dagster._core.definitions.events.Failure: tmetric/tasks: page 1: GET "
    )
    assert f"HTTP {status}" in run.failures["raw/tmetric/tasks"]


FAULTS: dict[str, dict[str, Any]] = {
    "refused": {"status": 403, "times": -1},
    "down": {"status": 500, "times": -1},
    "an error page": {"html": True, "times": -1},
    "cut": {"cut": 10, "times": -1},
    "reset": {"reset": True, "times": -1},
    "an error object": {"body": {"error": "no"}, "times": -1},
    "not what it was": {"body": [{"id": "?"}], "times": -1},
    "one member of many refused": {"status": 404, "query": {"userId": 719}},
    "one member of many cut off": {"cut": 100, "query": {"userId": 702}, "times": -1},
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_failed_run_leaves_the_table_as_it_was_and_the_next_recovers(lab: Lab, fault: dict[str, Any]) -> None:
    lab.load(DAY)
    table, loads = lab.table(), lab.query("FROM ops.loads")
    lab.sandbox.change("entries", delete=[table[0]["id"]], update=[{"id": table[1]["id"], "note": "changed"}])
    lab.sandbox.fault(path="/timeentries", **{"query": {"startDate": "2026-01-04"}, **fault})
    run = lab.run("tmetric/time_entries", day=DAY)
    assert not run.success
    assert "warehouse/tmetric/time_entries" not in run.made
    assert (lab.table(), lab.query("FROM ops.loads")) == (table, loads)
    lab.sandbox.clear_faults()
    lab.load(DAY)
    assert lab.content() == lab.expected(DAY)


def test_a_failed_command_says_why_and_changes_nothing(lab: Lab) -> None:
    lab.load(DAY)
    table, loads = lab.table(), lab.query("FROM ops.loads")
    lab.sandbox.change("token", expire=True)
    done = materialize(SELECT, DAY, env={**lab.sandbox.env(), "ETL_DATA_DIR": str(lab.data)})
    assert done.returncode != 0
    assert (lab.table(), lab.query("FROM ops.loads")) == (table, loads)
    # Dagster puts the stack of its own calls below the message.
    last = done.stderr.splitlines()[-40:]
    assert any("HTTP 401; the credential is wrong, expired or replaced" in line for line in last)
    assert last[-1] == "Error: Materialization failed."


def test_a_missing_variable_is_named_with_what_to_do(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMETRIC_TOKEN")
    monkeypatch.setenv("TMETRIC_ACCOUNT_ID", "")
    run = lab.run("tmetric/tags")
    assert run.step_retries == 0
    said = run.failures["raw/tmetric/tags"]
    assert "TMetric needs variables that are not set (see .env.example):" in said
    assert '  TMETRIC_TOKEN: In TMetric open My Profile and press "Get new API token".' in said
    assert "  TMETRIC_ACCOUNT_ID: The number in the address of your TMetric workspace" in said
    assert lab.sandbox.count() == 0


@pytest.mark.parametrize("lacking", ["tmetric", "shop"])
def test_a_missing_variable_stops_its_own_source_and_no_other(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    monkeypatch.setenv("ETL_SOURCES_DIR", str(stream_file(tmp_path / "sources", SHOP.format(url=lab.sandbox.url))))
    monkeypatch.setenv("SHOP_TOKEN", lab.sandbox.env()["TMETRIC_TOKEN"])
    monkeypatch.delenv(f"{lacking.upper()}_TOKEN")
    run = lab.run("shop/labels", "tmetric/tags", "tmetric/time_entries", day=DAY)
    assert not run.success
    tmetric = {
        f"{layer}/tmetric/{stream}" for layer in ("raw", "clean", "warehouse") for stream in ("tags", "time_entries")
    }
    shop = {f"{layer}/shop/labels" for layer in ("raw", "clean", "warehouse")}
    assert run.made == (shop if lacking == "tmetric" else tmetric)
    assert {path.split("/")[1] for path in run.failures} == {lacking}
    if lacking == "tmetric":
        assert lab.query("SELECT id, name, is_work_type FROM shop.labels ORDER BY id") == lab.sandbox.truth(
            stream="tags"
        )
    else:
        assert lab.content() == lab.expected(DAY)
        assert "Printed on the back of the till." in run.failures["raw/shop/labels"]


def test_what_is_in_the_landing_needs_no_credentials_to_be_loaded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lab.run("raw/tmetric/time_entries", day=DAY).success
    for name in lab.sandbox.env():
        monkeypatch.delenv(name)
    run = lab.run("clean/tmetric/time_entries", "warehouse/tmetric/time_entries", day=DAY)
    assert run.success, run.failures
    assert lab.content() == lab.expected(DAY)


@pytest.mark.parametrize("missing", ["raw", "clean"])
def test_a_step_without_the_files_before_it_says_which_asset_makes_them(lab: Lab, missing: str) -> None:
    after = {"raw": "clean", "clean": "warehouse"}[missing]
    run = lab.run(f"{after}/tmetric/time_entries", day=DAY)
    assert not run.success
    said = run.failures[f"{after}/tmetric/time_entries"]
    assert f"no complete {missing} files; materialise the {missing} asset" in said
