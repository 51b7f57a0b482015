"""Files that arrive while the flow is killed and restarted: each is run exactly once, none is missed."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from etl_assets.errors import FinalError, RetryableError
from etl_assets.pipeline import Pipeline
from etl_assets.trocco import arrivals
from etl_assets.trocco.ledger import File, Ledger
from etl_assets.trocco.run import jobs_of, resolve_lost, start_again
from etl_assets.trocco.spec import Arrivals, Job
from etl_assets_tests.away import ROOT
from etl_assets_tests.trocco.place import Place

FILES = 1000
FLOW = """
jobs:
  - name: events
    kind: {kind}
    definition: {definition}
    variables: {variables}
    arrivals: {{path: "{folder}/*.json", batch: {batch}, quiet: 0s, at_once: {at_once}}}
    settle: 2s
    wait: sensor
"""


def declare(
    place: Place, monkeypatch: pytest.MonkeyPatch, *, batch: int = 1, at_once: int = 50, workflow: bool = False
) -> Job:
    """A flow over a folder of its own."""
    folder = place.folder / "in"
    folder.mkdir()
    text = FLOW.format(
        folder=folder,
        batch=batch,
        at_once=at_once,
        kind="workflow" if workflow else "transfer",
        definition=3002 if workflow else 1003,
        variables="{}" if workflow else '{$file$: "{file.name}"}',
    )
    (place.folder / "sources/trocco").mkdir(parents=True)
    (place.folder / "sources/trocco/flow.yaml").write_text(text, "utf-8")
    monkeypatch.setenv("ETL_SOURCES_DIR", str(place.folder / "sources"))
    return jobs_of(Pipeline.from_environment())["events"]


def drop(place: Place, *names: str) -> None:
    """Files that arrive."""
    for name in names:
        (place.folder / "in" / name).write_text("{}", "utf-8")


def arrive(place: Place, names: list[str]) -> None:
    drop(place, *names)
    time.sleep(0.15)


def processed(place: Place) -> Counter[str]:
    """How often each file was run, as the simulated TROCCO did it."""
    return Counter(
        name
        for posted in place.accepted()
        for effect in posted["effects"]
        for name in str(effect.get("$file$", "")).split(",")
        if name
    )


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_thousand_files_are_run_once_each_over_kills(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(place, monkeypatch, batch=8)
    place.sandbox.change("settings", plan={"queue": 0.0, "setup": 0.0, "run": 0.05})
    place.sandbox.fault(method="POST", path="/api/jobs", reset=True, handled=True, skip=5, times=3)
    place.sandbox.fault(method="POST", path="/api/jobs", status=503, skip=30, times=3)
    names = [f"{number:04}.json" for number in range(FILES)]
    arriving = threading.Thread(
        target=lambda: [(drop(place, *names[n : n + 20]), time.sleep(0.15)) for n in range(0, FILES, 20)]
    )
    arriving.start()
    done = subprocess.run(
        [sys.executable, "-m", "etl_assets_tests.trocco.flow", "8", "7"],
        cwd=place.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    arriving.join()
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 8  # kills
    assert processed(place) == Counter(names)


@pytest.fixture
def flow(place: Place) -> Place:
    place.sandbox.change("settings", plan={"queue": 0.0, "setup": 0.0, "run": 0.0})
    return place


def step(place: Place, wanted: Job) -> int:
    """One tick of each sensor, long after the last."""
    clock = place.clock
    with place.runner(clock) as runner:
        clock.sleep(5)
        started = arrivals.advance(runner, wanted, most=100, seconds=60)
        clock.sleep(5)
        runner.sweep({wanted.name: wanted}, most=100, seconds=60)
        return started


def test_a_file_that_was_run_is_not_run_again(flow: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = declare(flow, monkeypatch)
    drop(flow, "b.json", "c.json")
    assert [step(flow, wanted), step(flow, wanted)] == [2, 0]
    drop(flow, "a.json")  # late, and before the others by name
    step(flow, wanted)
    assert processed(flow) == Counter(["a.json", "b.json", "c.json"])


def test_a_file_that_was_replaced_is_another_file(flow: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = declare(flow, monkeypatch)
    drop(flow, "a.json")
    step(flow, wanted)
    (flow.folder / "in/a.json").write_text('{"more": 1}', "utf-8")
    step(flow, wanted)
    assert processed(flow) == Counter({"a.json": 2})


def test_no_more_runs_at_once_than_allowed(flow: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    flow.sandbox.change("settings", plan={"run": 3600.0})
    wanted = declare(flow, monkeypatch, at_once=2)
    drop(flow, *(f"{n}.json" for n in range(5)))
    assert [step(flow, wanted) for _ in range(2)] == [2, 0]


def test_a_refused_start_is_made_in_a_later_tick(flow: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = declare(flow, monkeypatch)
    drop(flow, "a.json")
    flow.sandbox.fault(method="POST", path="/api/jobs", status=422, body={"message": "no", "errors": []})
    assert [step(flow, wanted), step(flow, wanted)] == [0, 1]
    assert processed(flow) == Counter(["a.json"])


def test_a_workflow_whose_start_is_ambiguous_waits_for_a_person_and_holds_up_no_other(
    flow: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = declare(flow, monkeypatch, workflow=True)
    drop(flow, "a.json", "b.json")
    flow.sandbox.fault(method="POST", path="/api/pipeline_jobs", reset=True, handled=True)
    assert [step(flow, wanted), step(flow, wanted)] == [1, 0]
    assert "etl-assets trocco resolve events --partition 1" in caplog.text
    resolve_lost(flow.ledger, "events", "1", flow.accepted()[0]["id"])
    step(flow, wanted)
    assert len(flow.accepted()) == 2
    assert flow.ledger.open_runs() == []


def test_a_failed_file_is_run_again_when_a_person_says_so(flow: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = declare(flow, monkeypatch)
    drop(flow, "a.json")
    flow.sandbox.change("plan", plan={"outcome": "error"})
    step(flow, wanted)
    assert step(flow, wanted) == 0
    start_again(flow.ledger, "events", "1")
    assert step(flow, wanted) == 1
    assert [posted["status"] for posted in flow.accepted()] == ["error", "succeeded"]


def test_a_file_that_is_still_written_has_not_arrived(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("{", "utf-8")
    at = file.stat().st_mtime
    wanted = Arrivals(path=f"{tmp_path}/*.json")
    assert list(arrivals.listed(wanted, at + 9)) == []
    assert [found.uri for found in arrivals.listed(wanted, at + 11)] == [str(file)]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("*.json", ["a.json"]), ("**/*.json", ["a.json", "x/b.json", "x/y/c.json"]), ("x/*", ["x/b.json"])],
)
def test_a_pattern_reaches_as_deep_as_it_says(tmp_path: Path, pattern: str, found: list[str]) -> None:
    for name in ("a.json", "a.csv", "x/b.json", "x/y/c.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("", "utf-8")
    listed = arrivals.listed(Arrivals(path=f"{tmp_path}/{pattern}"), time.time() + 60)
    assert [file.uri for file in listed] == [f"{tmp_path}/{name}" for name in found]


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*.json", "a.json", True),
        ("*.json", "x/a.json", False),
        ("*", "", False),
        ("**/*.json", "a.json", True),
        ("**/*.json", "x/y/a.json", True),
        ("**/*", "x/", False),
    ],
)
def test_objects_of_a_bucket_match_as_files_do(pattern: str, name: str, matches: bool) -> None:
    assert arrivals._matches(name, pattern) is matches


def test_a_missing_folder_is_no_empty_one(tmp_path: Path) -> None:
    with pytest.raises(RetryableError, match="not a folder"):
        list(arrivals.listed(Arrivals(path=f"{tmp_path}/none/*.json"), 0))


def test_a_pattern_without_a_folder_is_refused() -> None:
    with pytest.raises(FinalError, match="a pattern is a folder"):
        list(arrivals.listed(Arrivals(path="*.json"), 0))


def test_batches_are_made_once_and_stay(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    files = [File(f"{n}", "1") for n in range(5)]
    assert ledger.arrived("flow", files[:3], 2, 0.0) == 3
    assert ledger.arrived("flow", files, 2, 0.0) == 2
    assert ledger.waiting("flow", 10) == [1, 2, 3]
    assert [ledger.files("flow", batch) for batch in (1, 2, 3)] == [("0", "1"), ("2",), ("3", "4")]
