"""Jobs of TROCCO as assets: waited for in the step or by the sensor, observed, started by files, cancelled."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.errors import DagsterExecutionInterruptedError

from etl_assets.definitions import defs
from etl_assets.defs.resources import PipelineResource
from etl_assets.defs.trocco import trocco_jobs
from etl_assets.errors import FinalError, StreamFileError
from etl_assets.pipeline import Pipeline
from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets.trocco import run as trocco_run
from etl_assets.trocco.run import Clock, ledger_of
from etl_assets_tests.orchestration.lab import QUIET, TOKYO, Run, tree
from etl_assets_tests.trocco.place import Skipping

DAY = "2026-01-05"
DAILY = "partitions: {start: 2026-01-01}"
JOBS = """
jobs:
  - {name: orders, kind: transfer, definition: 1001, variables: {$day$: "{partition.date}"}, cron: "0 6 * * *",
     partitions: {start: 2026-01-01}, deps: [warehouse/tmetric/time_entries], produces: [lake/orders/rows]}
  - {name: handed, kind: workflow, definition: 3002, partitions: {start: 2026-01-01}, wait: sensor,
     produces: [lake/orders/mart], then: [trocco/orders]}
  - {name: theirs, kind: transfer, definition: 1002, started: elsewhere, produces: [lake/theirs/rows]}
  - {name: forgotten, kind: datamart, definition: 2001, completion: {by: nothing}}
  - {name: noticed, kind: datamart, definition: 2001, completion: {by: notification}, run_deadline: 1h}
  - {name: watched, kind: transfer, definition: 1001, on_cancel: hand_over}
  - name: events
    kind: transfer
    definition: 1003
    variables: {$file$: "{file.name}"}
    arrivals: {path: "FOLDER/*.json", quiet: 0s}
    wait: sensor
"""


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running(vendors=("trocco",), days=1) as sandbox:
        yield sandbox


class Lab:
    """The declared jobs in an instance of their own, on a clock that skips."""

    def __init__(self, sandbox: Sandbox, instance: dg.DagsterInstance, folder: Path, skipping: Skipping) -> None:
        self.sandbox, self.instance, self.folder, self.skipping = sandbox, instance, folder, skipping
        self.cursors: dict[str, str | None] = {}
        # The jobs of this file alone: resolving all definitions takes seconds.
        self.loaded = dg.Definitions.merge(
            trocco_jobs(trocco_run.jobs_of(Pipeline.from_environment())),
            dg.Definitions(resources={"pipeline": PipelineResource()}, executor=dg.in_process_executor),
        )

    def run(self, *keys: str, day: str | None = None, tags: dict[str, str] | None = None) -> Run:
        job = self.loaded.resolve_implicit_global_asset_job_def()
        selected = [dg.AssetKey(key.split("/")) for key in keys]
        return Run(
            job.execute_in_process(
                run_config=QUIET,
                instance=self.instance,
                asset_selection=selected,
                partition_key=day,
                tags=tags,
                raise_on_error=False,
            )
        )

    def tick(self, name: str) -> SensorExecutionData:
        """A tick of a sensor, as the daemon makes it: from the last cursor, its events stored, its cursor kept."""
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursors.get(name), repository_def=self.loaded.get_repository_def()
        )
        done = self.loaded.resolve_sensor_def(name).evaluate_tick(context)
        for event in done.asset_events:
            self.instance.report_runless_asset_event(event)
        self.cursors[name] = done.cursor
        return done

    def requested(self, result: SensorExecutionData) -> list[Run]:
        """The runs that a tick asked for."""
        return [
            self.run(
                *("/".join(key.path) for key in request.asset_selection or ()),
                day=request.partition_key,
                tags=dict(request.tags),
            )
            for request in result.run_requests or ()
        ]

    def accepted(self) -> list[dict[str, Any]]:
        return self.sandbox.truth(accepted="all")

    def days_of(self, key: str) -> set[str | None]:
        """The partitions of an asset that are materialised."""
        asset = dg.AssetKey(key.split("/"))
        records = self.instance.fetch_materializations(asset, limit=100).records
        return {record.partition_key for record in records}


@pytest.fixture
def place(sandbox: Sandbox, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    (tmp_path / "sources/trocco").mkdir(parents=True)
    (tmp_path / "in").mkdir()
    (tmp_path / "sources/trocco/jobs.yaml").write_text(JOBS.replace("FOLDER", str(tmp_path / "in")), "utf-8")
    monkeypatch.setenv("ETL_SOURCES_DIR", str(tmp_path / "sources"))
    for name, value in sandbox.env().items():
        monkeypatch.setenv(name, value)
    skipping = Skipping(sandbox)  # one clock for everything in this process
    monkeypatch.setattr(Clock, "now", lambda self: skipping.now())
    monkeypatch.setattr(Clock, "sleep", lambda self, seconds: skipping.sleep(seconds))
    return Lab(sandbox, instance, tmp_path, skipping)


def test_a_job_is_waited_for_and_materialises_its_tables_downstream(place: Lab) -> None:
    done = place.run("trocco/orders", "lake/orders/rows", day=DAY)
    assert done.made == {"trocco/orders", "lake/orders/rows"}
    (posted,) = place.accepted()
    assert posted["custom_variables"] == {"$day$": DAY}
    told = done.metadata("trocco/orders")
    assert (told["job_id"], told["outcome"], told["records"]) == (posted["id"], "succeeded", 100)
    assert told["job"].endswith(f"/jobs/{posted['id']}")
    assert (told["queue_seconds"], told["run_seconds"]) == (0.2, 0.6)


@pytest.mark.parametrize("selected", ["trocco/orders", "lake/orders/rows"])
def test_whichever_is_selected_all_of_a_job_is_materialised(place: Lab, selected: str) -> None:
    done = place.run(selected, day=DAY)
    assert (done.success, done.made) == (True, {"trocco/orders", "lake/orders/rows"})
    assert place.days_of("trocco/orders") == place.days_of("lake/orders/rows") == {DAY}
    assert len(place.accepted()) == 1


def test_the_lineage_goes_from_the_source_over_the_job_to_the_tables(place: Lab) -> None:
    graph = place.loaded.resolve_asset_graph()
    orders = graph.get(dg.AssetKey(["trocco", "orders"]))
    assert orders.parent_keys == {dg.AssetKey(["warehouse", "tmetric", "time_entries"])}
    assert orders.child_keys == {dg.AssetKey(["lake", "orders", "rows"])}


@pytest.mark.parametrize(("ends", "outcome"), [("error", "error"), ("canceled", "canceled")])
def test_only_success_materialises(place: Lab, ends: str, outcome: str) -> None:
    place.sandbox.change("plan", plan={"outcome": ends})
    failed = place.run("trocco/orders", "lake/orders/rows", day=DAY)
    assert (failed.success, failed.made, failed.step_retries) == (False, set(), 0)
    (event,) = [event for event in failed.result.all_events if event.is_step_failure]
    told = event.step_failure_data.user_failure_data
    assert told
    assert told.metadata["outcome"].value == outcome
    assert len(place.accepted()) == 1


def test_a_step_retry_attaches_to_what_the_first_try_started(place: Lab) -> None:
    place.sandbox.fault(method="POST", path="/api/jobs", reset=True, handled=True)
    done = place.run("trocco/orders", "lake/orders/rows", day=DAY)
    assert (done.success, done.step_retries) == (True, 1)
    assert done.metadata("trocco/orders")["job_id"] == place.accepted()[0]["id"]
    assert len(place.accepted()) == 1


def test_an_automatic_retry_of_the_run_reports_what_the_first_one_ran(place: Lab) -> None:
    first = place.run("trocco/orders", "lake/orders/rows", day=DAY)
    tags = {"dagster/retry_number": "1", "dagster/parent_run_id": first.id, "dagster/root_run_id": first.id}
    assert place.run("trocco/orders", "lake/orders/rows", day=DAY, tags=tags).success
    assert len(place.accepted()) == 1


def test_materialising_again_runs_the_job_again(place: Lab) -> None:
    place.skipping.skipped = -10_000  # Dagster's clock does not skip: let ends lie in the past
    for _ in range(2):
        assert place.run("trocco/orders", "lake/orders/rows", day=DAY).success
    assert len(place.accepted()) == 2


def test_a_job_that_is_handed_over_ends_its_run_and_is_told_by_the_sensor(place: Lab) -> None:
    started = place.run("trocco/handed", "lake/orders/mart", day=DAY)
    assert (started.success, started.made) == (True, set())
    place.tick("trocco_open_jobs")
    Clock().sleep(60)
    told = place.tick("trocco_open_jobs")
    assert place.days_of("trocco/handed") == place.days_of("lake/orders/mart") == {DAY}
    (then,) = told.run_requests or ()
    assert (then.asset_selection, then.partition_key) == ([dg.AssetKey(["trocco", "orders"])], DAY)
    assert len(place.accepted()) == 1


def test_an_end_is_told_again_after_a_tick_that_was_lost_and_never_after_one_that_was_kept(place: Lab) -> None:
    place.run("trocco/handed", "lake/orders/mart", day=DAY)
    Clock().sleep(60)
    before = place.cursors.get("trocco_open_jobs")
    first = place.tick("trocco_open_jobs")
    place.cursors["trocco_open_jobs"] = before  # the daemon was killed before it stored the tick
    again = place.tick("trocco_open_jobs")
    assert len(first.asset_events or ()) == len(again.asset_events or ()) == 2
    assert [one.run_key for one in first.run_requests or ()] == [one.run_key for one in again.run_requests or ()]
    assert place.tick("trocco_open_jobs").asset_events == []
    assert len(place.accepted()) == 1


def test_a_failure_of_a_handed_over_job_is_a_failed_run_and_can_be_run_again(place: Lab) -> None:
    place.skipping.skipped = -10_000
    place.sandbox.change("plan", plan={"outcome": "error"})
    place.run("trocco/handed", "lake/orders/mart", day=DAY)
    Clock().sleep(60)
    place.tick("trocco_open_jobs")
    Clock().sleep(120)  # an error of a workflow counts when it stays
    told = place.tick("trocco_open_jobs")
    (report,) = place.requested(told)
    assert "ended in an error" in report.failures["trocco/handed"]
    assert place.days_of("trocco/handed") == set()
    assert len(place.accepted()) == 1
    tags = {**report.result.dagster_run.tags, "dagster/parent_run_id": report.id}  # a person presses "re-execute"
    assert place.run("trocco/handed", "lake/orders/mart", day=DAY, tags=tags).success
    assert len(place.accepted()) == 2


def test_a_deadline_of_a_handed_over_job_fails_once_and_the_next_run_attaches(place: Lab) -> None:
    place.sandbox.change("plan", plan={"run": 50_000.0})
    place.run("trocco/handed", "lake/orders/mart", day=DAY)
    for _ in range(3):
        Clock().sleep(12_000)
        told = place.tick("trocco_open_jobs")
    (report,) = place.requested(told)
    assert "goes on by itself" in report.failures["trocco/handed"]
    assert place.tick("trocco_open_jobs").run_requests == []
    place.run("trocco/handed", "lake/orders/mart", day=DAY)
    Clock().sleep(15_000)
    place.tick("trocco_open_jobs")
    assert place.days_of("trocco/handed") == {DAY}
    assert len(place.accepted()) == 1


def test_runs_that_trocco_starts_appear_once_each(place: Lab) -> None:
    for outcome in ("succeeded", "error", "succeeded"):
        place.sandbox.change("plan", plan={"outcome": outcome})
        place.sandbox.change("run", definition=1002)
    seen = []
    for _ in range(3):
        events = place.tick("trocco_observer").asset_events or ()
        seen += [(type(event).__name__, "/".join(event.asset_key.path)) for event in events]
        Clock().sleep(30)
    assert sorted(seen) == [
        ("AssetMaterialization", "lake/theirs/rows"),
        ("AssetMaterialization", "lake/theirs/rows"),
        ("AssetMaterialization", "trocco/theirs"),
        ("AssetMaterialization", "trocco/theirs"),
        ("AssetObservation", "trocco/theirs"),
    ]


def test_a_run_that_takes_long_is_observed_when_it_ends(place: Lab) -> None:
    place.sandbox.change("plan", plan={"run": 7200.0})
    place.sandbox.change("run", definition=1002)
    for _ in range(5):
        assert not place.tick("trocco_observer").asset_events
        place.sandbox.change("run", definition=1002)
        Clock().sleep(1200)
        place.tick("trocco_observer")
    Clock().sleep(3600)
    assert len(place.tick("trocco_observer").asset_events or ()) >= 2


def test_a_datamart_that_is_started_and_forgotten_is_never_materialised(place: Lab) -> None:
    done = place.run("trocco/forgotten")
    assert (done.success, done.made) == (True, set())
    (event,) = done.result.get_asset_observation_events()
    assert event.asset_observation_data.asset_observation.metadata["outcome"].value == "started"
    assert len(place.accepted()) == 1


def test_a_datamart_ends_when_its_notification_says_so(place: Lab) -> None:
    place.sandbox.change("plan", plan={"run": 600.0})
    waiting = iter(range(1000))

    def notice(self: Clock, seconds: float) -> None:
        if next(waiting) == 3:
            ledger_of(Pipeline.from_environment()).notice("datamart", place.accepted()[0]["id"], "succeeded", 0.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Clock, "sleep", notice)
        assert place.run("trocco/noticed").made == {"trocco/noticed"}


def test_a_datamart_without_its_notification_is_overdue(place: Lab) -> None:
    failed = place.run("trocco/noticed")
    assert "still running after 1:00:00" in failed.failures["trocco/noticed"]


@pytest.mark.parametrize(("name", "polled"), [("orders", 0), ("watched", 1)])
def test_what_becomes_of_the_job_of_a_cancelled_run_is_said_and_done(
    place: Lab, name: str, polled: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.sandbox.change("plan", plan={"run": 600.0})

    def cancelled(self: Clock, seconds: float) -> None:
        raise DagsterExecutionInterruptedError

    real = Clock.sleep
    monkeypatch.setattr(Clock, "sleep", cancelled)
    done = place.run(f"trocco/{name}", *(["lake/orders/rows"] if name == "orders" else []), day=DAY)
    assert (done.success, done.made) == (False, set())
    said = [entry.user_message for entry in place.instance.all_logs(done.id)]
    words = "the sensor will report its end" if polled else "its end is not waited for"
    assert [line for line in said if line.startswith("run cancelled; http://127.0.0.1") and words in line]
    monkeypatch.setattr(Clock, "sleep", real)
    (record,) = ledger_of(Pipeline.from_environment()).open_runs()
    assert record.handed_over == bool(polled)
    Clock().sleep(1200)
    place.tick("trocco_open_jobs")
    assert len(place.days_of(f"trocco/{name}")) == polled


def test_files_that_arrive_start_jobs_and_materialise(place: Lab) -> None:
    for name in ("a", "b"):
        (place.folder / f"in/{name}.json").write_text("{}", "utf-8")
    Clock().sleep(1)
    for _ in range(3):
        place.tick("trocco_arrivals")
        Clock().sleep(60)
        place.tick("trocco_open_jobs")
    posted = [entry["custom_variables"]["$file$"] for entry in place.accepted()]
    assert sorted(posted) == ["a.json", "b.json"]
    asset = dg.AssetKey(["trocco", "events"])
    records = place.instance.fetch_materializations(asset, limit=10).records
    files = [record.asset_materialization.metadata["files"].value for record in records]  # type: ignore[union-attr]
    assert sorted(files) == [[str(place.folder / f"in/{name}.json")] for name in ("a", "b")]


def test_a_failed_file_is_a_failed_run(place: Lab) -> None:
    place.sandbox.change("plan", plan={"outcome": "error"})
    (place.folder / "in/a.json").write_text("{}", "utf-8")
    Clock().sleep(1)
    place.tick("trocco_arrivals")
    Clock().sleep(60)
    (report,) = place.requested(place.tick("trocco_open_jobs"))
    assert "trocco/events 1: job" in report.failures["trocco/events"]


def test_the_cron_of_a_daily_job_asks_for_yesterday(place: Lab) -> None:
    declared = place.loaded.resolve_schedule_def("trocco_orders_schedule")
    tick, repository = datetime(2026, 1, 20, 6, tzinfo=TOKYO), place.loaded.get_repository_def()
    with dg.build_schedule_context(scheduled_execution_time=tick, repository_def=repository) as context:
        (request,) = declared.evaluate_tick(context).run_requests or ()
    assert (request.partition_key, declared.execution_timezone) == ("2026-01-19", "Asia/Tokyo")


def test_a_wrong_declaration_is_named_with_file_job_and_key(place: Lab) -> None:
    file = place.folder / "sources/trocco/jobs.yaml"
    file.write_text("jobs: [{name: x, kind: datamart, definition: 1, waits: step}]", "utf-8")
    with pytest.raises(StreamFileError) as caught:
        defs()
    assert str(caught.value) == f"{file}:\n  job 'x', key waits: unknown key"


def test_the_demo_jobs_refuse_a_real_account(place: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = trocco_run.jobs_of(Pipeline.from_environment())["demo_morning"]
    monkeypatch.setenv("TROCCO_BASE_URL", "https://localhost.invalid")
    with (
        trocco_run.opened(Pipeline.from_environment()) as runner,
        pytest.raises(FinalError, match="simulators only"),
    ):
        runner.trigger(trocco_run.Request(demo, DAY, "run", 0.0))


def test_no_key_is_written_anywhere(place: Lab) -> None:
    key = place.sandbox.env()["TROCCO_API_KEY"]
    place.run("trocco/orders", "lake/orders/rows", day=DAY)
    place.sandbox.change("settings", api=False)
    failed = place.run("trocco/orders", "lake/orders/rows", day="2026-01-06")
    assert "HTTP 403" in failed.failures["trocco/orders"]
    assert [path for path in tree(place.folder / "data") if key.encode() in path.read_bytes()] == []
    assert key not in str([str(event) for event in failed.result.all_events])
