"""Dagster on Google Cloud: the resources for assets of one's own, logs of steps in the bucket, several days per run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner
from dagster_gcp import BigQueryResource, GCSResource

from etl_assets.cli import main
from etl_assets.definitions import defs
from etl_assets.sandbox.google.handle import BUCKET, PROJECT, Google
from etl_assets.sandbox.server import running
from etl_assets.settings import Settings
from etl_assets.warehouse.bigquery import BigQueryWarehouse
from etl_assets_tests.test_docs import listed_variables

ROOT = Path(__file__).parents[2]
DAYS = ("2026-01-05", "2026-01-06", "2026-01-07")
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def environment(env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    for name, value in {**env, "ETL_DATA_DIR": str(tmp_path / "data"), "ETL_COMPUTE_LOG_BUCKET": BUCKET}.items():
        monkeypatch.setenv(name, value)
    defs.load_fn.cache_clear()  # they are made once per process, for the environment of then
    yield env
    defs.load_fn.cache_clear()


def test_assets_of_ones_own_get_googles_resources(environment: dict[str, str]) -> None:
    resources = defs().resources or {}
    bigquery, gcs = resources["bigquery"], resources["gcs"]
    assert isinstance(bigquery, BigQueryResource)
    assert (bigquery.project, bigquery.location) == (PROJECT, "asia-northeast1")
    assert isinstance(gcs, GCSResource)
    assert gcs.get_client().bucket(BUCKET).exists()


def test_the_environment_of_a_deployment_names_settings_that_exist() -> None:
    lines = (ROOT / "deploy/gcp/env.example").read_text("utf-8").splitlines()
    named = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert named.keys() - listed_variables().keys() == {"DAGSTER_HOME", "ETL_COMPUTE_LOG_BUCKET"}
    settings = Settings.read(named)
    assert (settings.warehouse, settings.google.project, settings.backfill_days) == ("bigquery", "your-project", 10)


def test_the_logs_of_steps_lie_in_the_bucket(environment: dict[str, str], tmp_path: Path, google: Google) -> None:
    configured = yaml.safe_load((ROOT / "deploy/gcp/dagster.yaml").read_text("utf-8"))
    usual = yaml.safe_load((ROOT / "dagster.yaml").read_text("utf-8"))
    assert {name: value for name, value in configured.items() if name != "compute_logs"} == usual
    configured["compute_logs"]["config"]["local_dir"] = str(tmp_path / "logs")
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(configured), "utf-8")

    @dg.op
    def speak() -> None:
        print("said on stdout")

    @dg.job
    def speaking() -> None:
        speak()

    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        done = speaking.execute_in_process(instance=instance, run_config=QUIET)
        assert done.success
        logs = instance.compute_log_manager
        assert type(logs).__name__ == "GCSComputeLogManager"
    found = google.storage._call("GET", f"/storage/v1/b/{BUCKET}/o?prefix=dagster/storage/{done.run_id}")["items"]
    assert any(item["name"].endswith(".out") for item in found)


def test_a_backfill_puts_several_days_into_one_run_and_check_tells_what_they_cost(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_BACKFILL_DAYS", "3")
    defs.load_fn.cache_clear()
    with running(vendors=("tmetric",)) as sandbox:
        for name, value in sandbox.env().items():
            monkeypatch.setenv(name, value)
        definitions = defs()
        keys = [dg.AssetKey([layer, "tmetric", "time_entries"]) for layer in ("raw", "clean", "warehouse")]
        policy = definitions.resolve_asset_graph().get(keys[2]).backfill_policy
        assert policy == dg.BackfillPolicy.multi_run(max_partitions_per_run=3)
        with dg.DagsterInstance.ephemeral() as instance:
            done = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
                run_config=QUIET,
                instance=instance,
                asset_selection=keys,
                tags={"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[2]},
                raise_on_error=False,
            )
            assert done.success, [event.message for event in done.all_events if event.is_failure]
            assert instance.get_materialized_partitions(keys[2]) == set(DAYS)
        rows = len([row for day in DAYS for row in sandbox.truth(day=day)])
        pipeline = _pipeline()
        assert isinstance(pipeline.warehouse, BigQueryWarehouse)
        ((loaded, days),) = pipeline.warehouse.select(
            "SELECT count(*), count(DISTINCT _partition) FROM tmetric.time_entries"
        ).rows
        assert (loaded, days) == (rows, 3)
        made = [event for event in done.get_asset_materialization_events() if event.asset_key == keys[2]]
        metadata = made[0].step_materialization_data.materialization.metadata
        assert (metadata["days"].value, metadata["rows"].value) == (3, rows)
        assert "dagster/partition_row_count" not in metadata

        checked = CliRunner().invoke(main, ["check", "tmetric"])
        assert checked.exit_code == 0, checked.output
        assert f"landing ready at {environment['ETL_LANDING']}" in checked.output
        assert "tmetric: 1 tables, comparing all of them bills 0.0 MB" in checked.output


def test_a_check_says_what_google_refuses(
    environment: dict[str, str], google: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    google.bigquery.fault(
        method="POST", path="/jobs", status=403, reason="accessDenied", message="no bigquery.jobs.create"
    )
    with running(vendors=("tmetric",)) as sandbox:
        for name, value in sandbox.env().items():
            monkeypatch.setenv(name, value)
        checked = CliRunner().invoke(main, ["check", "tmetric"])
    assert checked.exit_code == 1
    assert "no bigquery.jobs.create" in checked.output


def test_the_dry_run_tells_the_bytes(environment: dict[str, str], google: Google, on_bigquery: Any) -> None:
    bench = on_bigquery("columns: {id: integer, v: string}")
    bench.loaded([{"id": 1, "v": "x"}])
    google.bigquery.fault(
        method="POST",
        path="/jobs",
        body='"dryRun": true',
        patch={"statistics": {"totalBytesProcessed": "2500000", "query": {"totalBytesProcessed": "2500000"}}},
    )
    assert bench.warehouse.scanned_bytes(bench.source, bench.stream) == 2_500_000
    asked = [json.loads(call["body"]) for call in google.bigquery.calls() if '"dryRun": true' in call["body"]]
    assert len(asked) == 1


def _pipeline() -> Any:
    from etl_assets.pipeline import Pipeline

    return Pipeline.from_environment()
