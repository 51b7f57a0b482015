"""The web server with its daemon, as `make dev` starts them: a backfill of a month, and what a person sees.

Chromium is used if it is installed; Dagster's pages have no stable names, so tests look for the words on them.
"""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets_tests.away import ROOT, away
from etl_assets_tests.orchestration.lab import (
    BIN,
    LAYERS,
    Row,
    bare_environment,
    expected_entries,
    query,
    time_entries,
    without_run,
)

pytestmark = [pytest.mark.slow, pytest.mark.ui, pytest.mark.timeout(1200)]

CHROMIUM = Path("/usr/bin/chromium")
FIRST = date(2026, 1, 5)
DAYS = [str(FIRST + timedelta(days=n)) for n in range(30)]
KEYS = [{"path": [layer, "tmetric", "time_entries"]} for layer in LAYERS]
QUIET_BROWSER = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}"""
STATUS = """
query Status($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status error { message } } }
}"""
RUNS = "{ runsOrError { ... on Runs { results { status tags { key value } } } } }"
DAEMONS = "{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"


@dataclass(frozen=True)
class Deck:
    """A running `dagster dev` with a vendor behind it."""

    url: str
    sandbox: Sandbox
    warehouse: Path
    log: Path

    def ask(self, graphql: str, **variables: Any) -> dict[str, Any]:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(f"{self.url}/graphql", json={"query": graphql, "variables": variables}, timeout=60)
        answer.raise_for_status()
        data: dict[str, Any] = answer.json()["data"]
        return data

    def serves(self) -> bool:
        try:
            self.ask("{ version }")
        except requests.ConnectionError:
            return False
        return True

    def daemons_are_up(self) -> bool:
        states = self.ask(DAEMONS)["instance"]["daemonHealth"]["allDaemonStatuses"]
        return all(state["healthy"] for state in states if state["required"])


def eventually(reached: Callable[[], bool], *, seconds: float, log: Path) -> None:
    """Poll until it is so; fail with the end of the log when the time is over."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s:\n{log.read_text()[-4000:]}")
        time.sleep(0.5)


@pytest.fixture(scope="module")
def deck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deck]:
    folder = tmp_path_factory.mktemp("deck")
    home, log = folder / "home", folder / "log"
    home.mkdir()
    (home / "dagster.yaml").write_bytes((ROOT / "dagster.yaml").read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with running(vendors=("tmetric",), days=len(DAYS)) as sandbox, log.open("wb") as written:
        env = {
            **bare_environment(),
            **sandbox.env(),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "DAGSTER_HOME": str(home),
            "ETL_DATA_DIR": str(folder / "data"),
        }
        line = ["dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(
            [str(BIN / line[0]), *line[1:]], cwd=away(), env=env, stdout=written, stderr=written, start_new_session=True
        )
        deck = Deck(f"http://127.0.0.1:{port}", sandbox, folder / "data/warehouse.duckdb", log)
        try:
            eventually(deck.serves, seconds=120, log=log)
            eventually(deck.daemons_are_up, seconds=120, log=log)
            yield deck
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


def test_a_backfill_of_a_month_loads_every_day_right(deck: Deck) -> None:
    params = {"assetSelection": KEYS, "partitionNames": DAYS, "title": "January", "tags": []}
    launched = deck.ask(LAUNCH, params=params)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    state: dict[str, Any] = {}

    def ended() -> bool:
        state.update(deck.ask(STATUS, id=launched["backfillId"])["partitionBackfillOrError"])
        return str(state["status"]).startswith(("COMPLETED", "FAIL", "CANCEL"))

    eventually(ended, seconds=900, log=deck.log)
    assert state["status"] == "COMPLETED_SUCCESS", state
    table = [without_run(row) for row in time_entries(deck.warehouse, None)]
    expected: list[Row] = [row for day in DAYS for row in expected_entries(deck.sandbox, day)]
    assert table == sorted(expected, key=lambda row: row["id"])
    runs = [run for run in deck.ask(RUNS)["runsOrError"]["results"] if _tag(run, "dagster/backfill")]
    assert sorted(str(_tag(run, "dagster/partition")) for run in runs) == DAYS
    loads = query(deck.warehouse, "SELECT count(*) AS loads, count(DISTINCT partition) AS days FROM ops.loads")
    assert loads == [{"loads": 30, "days": 30}]


def _tag(run: dict[str, Any], key: str) -> str | None:
    return next((tag["value"] for tag in run["tags"] if tag["key"] == key), None)


@pytest.fixture
def page(deck: Deck) -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed (apt-get install chromium)")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=QUIET_BROWSER)
        page = browser.new_page(viewport={"width": 1600, "height": 2000})
        page.set_default_timeout(60_000)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        yield page
        browser.close()
    # No telemetry, no fonts from elsewhere.
    assert not [url for url in asked if not url.removeprefix("blob:").startswith((deck.url, "data:"))]


def test_the_graph_of_a_source_shows_its_streams_in_three_layers(deck: Deck, page: Any) -> None:
    from playwright.sync_api import expect

    page.goto(f"{deck.url}/locations/etl_assets/asset-groups/tmetric", wait_until="domcontentloaded")
    for stream in ("members", "projects", "tags"):
        expect(page.get_by_text(stream, exact=True)).to_have_count(3)
    kinds = [page.get_by_text(kind, exact=True).first for kind in ("json", "Parquet", "DuckDB")]
    for kind in kinds:
        expect(kind).to_be_visible()
    from_left = [kind.bounding_box()["x"] for kind in kinds]
    assert from_left == sorted(from_left)


def test_a_person_materialises_a_day_and_reads_what_came(deck: Deck, page: Any) -> None:
    from playwright.sync_api import expect

    day = DAYS[1]
    page.goto(f"{deck.url}/locations/etl_assets/jobs/tmetric_daily", wait_until="domcontentloaded")
    expect(page.get_by_text("TMetric: one day of the daily streams, from the API to the tables.")).to_be_visible()
    expect(page.get_by_text("time_entries", exact=True).first).to_be_visible()
    page.locator("button", has_text="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Partition selection")
    older = dialog.get_by_text("Show all partitions")  # offered when the day is not among the last ninety
    expect(older.or_(dialog.get_by_placeholder(re.compile("^ex:"))).first).to_be_visible()
    if older.count():
        older.first.click()
    box = dialog.get_by_placeholder(re.compile("^ex:"))
    box.fill(day)
    box.press("Enter")
    expect(dialog).to_contain_text("1 partition")
    dialog.get_by_role("button", name=re.compile("^Launch")).click()
    toast = page.get_by_role("region", name=re.compile("Notifications"))
    expect(toast).to_contain_text("Launched run")
    page.goto(f"{deck.url}/runs", wait_until="domcontentloaded")
    page.locator("a[href^='/runs/']").filter(has_text=re.compile("^[0-9a-f]{8}$")).first.click()
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=120_000)
    rows = len(expected_entries(deck.sandbox, day))
    for said in (r"^raw: \d+ rows in 22 requests", f"^clean: {rows} rows fit, 0 quarantined", "^warehouse: tmetric"):
        expect(page.get_by_text(re.compile(said)).first).to_be_attached()

    page.goto(f"{deck.url}/assets/warehouse/tmetric/time_entries", wait_until="domcontentloaded")
    for text in ("TMetric: Time tracked by every member", "Empty while the timer runs.", "duration_seconds"):
        expect(page.get_by_text(text).first).to_be_visible()
    for name in ("dagster/partition_row_count", "rows_in_table", "seconds"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    assert [without_run(row) for row in time_entries(deck.warehouse, day)] == expected_entries(deck.sandbox, day)

    page.goto(f"{deck.url}/assets/clean/tmetric/time_entries?view=checks", wait_until="domcontentloaded")
    for check in ("unique_key", "not_null", "types", "drift"):
        expect(page.get_by_text(check, exact=True).first).to_be_visible()
    expect(page.get_by_text("Succeeded", exact=True)).to_have_count(4)
