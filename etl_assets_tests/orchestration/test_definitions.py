"""What Dagster is given: loaded from nothing, complete, and refused with a reason when a stream file is wrong."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from etl_assets.definitions import defs
from etl_assets.errors import StreamFileError
from etl_assets.pipeline import Pipeline
from etl_assets_tests.away import ROOT
from etl_assets_tests.orchestration import snapshot
from etl_assets_tests.orchestration.lab import LAYERS, command, stream_file

# Commands take seconds each, and several times that on a busy machine.
pytestmark = pytest.mark.timeout(300)

# Any connection, name lookup or socket to elsewhere is an error in these programs.
ISOLATED = f"""
import json, socket, sys, time
sys.path.insert(0, {str(ROOT)!r})
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        raise RuntimeError(event)
sys.addaudithook(refuse)
"""
LOADING = f"""{ISOLATED}
from etl_assets.definitions import defs
loaded = defs()
assets = ["/".join(key.path) for key in loaded.resolve_all_asset_keys()]
print(json.dumps({{"seconds": time.process_time(), "assets": assets, "modules": sorted(sys.modules)}}))
"""
LIBRARY = f"""{ISOLATED}
import importlib, pkgutil, etl_assets
names = [module.name for module in pkgutil.walk_packages(etl_assets.__path__, "etl_assets.")
         if module.name != "etl_assets.definitions" and not module.name.startswith("etl_assets.defs")]
for name in names: importlib.import_module(name)
print(json.dumps({{"names": names, "modules": sorted(sys.modules)}}))
"""
WRONG = """
source: shop
title: Shop
base_url: https://shop.example
timezone: Asia/Tokyo
streams:
  - {name: orders, path: /orders, key: [id], columns: {id: integer}, pagging: {type: none}}
"""


def alone(program: str, folder: Path) -> dict[str, Any]:
    """What the program prints, run in an empty folder without a single variable."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env={}, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    # The last line: the emulator of BigQuery logs while it is imported.
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return printed


def stream_assets(loaded: dg.Definitions) -> list[dg.AssetKey]:
    return [key for key in loaded.resolve_all_asset_keys() if key.path[0] in LAYERS]


def test_definitions_load_from_nothing_quickly_and_lightly(tmp_path: Path) -> None:
    loaded = alone(LOADING, tmp_path)
    assert "warehouse/tmetric/time_entries" in loaded["assets"]
    # Each process of Dagster pays this: seconds of CPU for everything, the start of Python included.
    assert loaded["seconds"] < 4
    heavy = {"pandas", "petl", "pyarrow", "google.cloud", "google.auth", "dagster_gcp", "uvicorn", "starlette"}
    assert heavy.isdisjoint(loaded["modules"])
    assert list(tmp_path.iterdir()) == []


def test_the_library_runs_without_dagster(tmp_path: Path) -> None:
    loaded = alone(LIBRARY, tmp_path)
    assert {"etl_assets.cli", "etl_assets.pipeline", "etl_assets.warehouse.duckdb"} <= set(loaded["names"])
    assert not [name for name in loaded["modules"] if name.startswith("dagster")]


def test_nothing_appeared_or_vanished_unnoticed() -> None:
    # If the change is meant: python -m etl_assets_tests.orchestration.snapshot
    assert snapshot.lines() == snapshot.FILE.read_text("utf-8").splitlines()


def test_each_stream_is_raw_then_clean_then_a_table() -> None:
    loaded = defs()
    for key in stream_assets(loaded):
        layer, source, stream = key.path
        (spec,) = loaded.resolve_assets_def(key).specs
        of = Pipeline.from_environment().sources[source].stream(stream).of
        origin = ["clean", source, of.stream] if of else ["raw", source, stream]  # a child table starts from its parent
        before = {"raw": [], "clean": [origin], "warehouse": [["clean", source, stream]]}[layer]
        assert [dep.asset_key.path for dep in spec.deps] == before
        assert spec.group_name == source
        assert spec.description
        assert spec.code_version


def test_a_daily_job_holds_no_snapshot() -> None:
    # A backfill of a job runs all of it for each day: a snapshot inside would be taken once per day.
    loaded = defs()
    for job in loaded.resolve_all_job_defs():
        if job.name.endswith("_daily"):
            for key in job.asset_layer.executable_asset_keys:
                assert loaded.resolve_assets_def(key).partitions_def is not None
        if job.name.endswith("_snapshot"):
            assert job.partitions_def is None


def test_blocking_checks_stand_between_clean_and_table() -> None:
    loaded = defs()
    for asset in map(loaded.resolve_assets_def, stream_assets(loaded)):
        blocking = {check.name for check in asset.check_specs if check.blocking}
        assert blocking == ({"unique_key", "not_null", "types"} if asset.key.path[0] == "clean" else set())


def test_a_further_source_appears_beside_the_packaged_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = WRONG.replace("pagging", "paging")
    monkeypatch.setenv("ETL_SOURCES_DIR", str(stream_file(tmp_path / "sources", text)))
    keys = defs().resolve_all_asset_keys()
    assert dg.AssetKey(["warehouse", "shop", "orders"]) in keys
    assert dg.AssetKey(["warehouse", "tmetric", "time_entries"]) in keys
    assert "shop_snapshot" in {job.name for job in defs().resolve_all_job_defs()}
    assert "shop_daily" not in {job.name for job in defs().resolve_all_job_defs()}


def test_a_wrong_stream_file_is_named_with_stream_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stream_file(tmp_path / "sources", WRONG, "shop.yaml")
    monkeypatch.setenv("ETL_SOURCES_DIR", str(folder))
    with pytest.raises(StreamFileError) as caught:
        defs()
    assert str(caught.value) == f"{folder / 'shop.yaml'}:\n  stream 'orders', key pagging: unknown key"


def test_a_wrong_stream_file_is_named_on_the_command_line(tmp_path: Path) -> None:
    folder = stream_file(tmp_path / "sources", WRONG, "shop.yaml")
    env = {"ETL_SOURCES_DIR": str(folder), "DAGSTER_HOME": str(tmp_path)}
    done = command("dagster", "definitions", "validate", "-w", "workspace.yaml", env=env)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert f"StreamFileError: {folder / 'shop.yaml'}:" in said
    assert "stream 'orders', key pagging: unknown key" in said


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("dagster", "definitions", "validate", "-w", "workspace.yaml"), "All code locations passed validation"),
        (("dg", "check", "defs"), "All definitions loaded successfully"),
        (("dg", "list", "defs", "--json"), '"warehouse/tmetric/time_entries"'),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, tuple) else "",
)
def test_dagsters_own_commands_find_the_project(tmp_path: Path, line: tuple[str, ...], says: str) -> None:
    done = command(*line, env={"DAGSTER_HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert says in done.stdout + done.stderr


def test_both_kinds_of_dagster_command_name_the_same_code_location() -> None:
    # In pyproject.toml these settings would make `dagster dev` ignore workspace.yaml.
    assert not {"dg", "dagster"} & tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"].keys()
    project = tomllib.loads((ROOT / "dg.toml").read_text("utf-8"))["project"]
    (location,) = yaml.safe_load((ROOT / "workspace.yaml").read_text("utf-8"))["load_from"]
    assert project["code_location_name"] == location["python_module"]["location_name"]
    assert project["code_location_target_module"] == location["python_module"]["module_name"]


def test_the_instance_file_is_one_that_dagster_takes(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_bytes((ROOT / "dagster.yaml").read_bytes())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert not instance.telemetry_enabled
        assert instance.managed_python_loggers == ["etl_assets"]
        assert instance.run_retries_enabled
        assert instance.get_settings("run_retries")["retry_on_asset_or_op_failure"] is False
    assert os.environ.get("DAGSTER_HOME") is None
