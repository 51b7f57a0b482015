"""Pushes as assets: where they stand, what they report, how their check judges."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from etl_assets.defs.push import pushes
from etl_assets.defs.resources import PipelineResource
from etl_assets.push.files import load_targets
from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets_tests.orchestration.lab import QUIET, Run
from etl_assets_tests.push.place import DECIDED_BY, Place, document, things

ROWS = things(6)
KEY = dg.AssetKey(["push", "depot", "things"])


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running(vendors=("depot",)) as sandbox:
        yield sandbox


@pytest.fixture
def place(tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path, sandbox)
    for name, value in place.env.items():
        monkeypatch.setenv(name, value)
    place.declare()
    return place


def loaded(place: Place) -> dg.Definitions:
    """The place's pushes alone: the other assets take a second to put together."""
    resources = dg.Definitions(resources={"pipeline": PipelineResource()})
    return dg.Definitions.merge(pushes(load_targets(place.root / "sources").values()), resources)


def run(place: Place, instance: dg.DagsterInstance) -> Run:
    """All pushes of the target."""
    job = loaded(place).resolve_job_def("depot_push")
    return Run(job.execute_in_process(run_config=QUIET, instance=instance, raise_on_error=False))


def origins(place: Place, **push: Any) -> set[str]:
    place.declare(**push)
    (spec,) = loaded(place).resolve_assets_def(KEY).specs
    return {"/".join(dep.asset_key.path) for dep in spec.deps}


def test_a_push_stands_behind_what_its_rows_come_from(place: Place) -> None:
    lookups = {"l": {"table": "demo.sizes", "key": "id", "value": "name", "unmatched": "keep"}}
    joined = "SELECT * FROM jushuitan.shops JOIN mart.worklog USING (id)"
    assert origins(place) == {"warehouse/demo/things"}
    assert origins(place, lookups=lookups) == {"warehouse/demo/things", "warehouse/demo/sizes"}
    assert origins(place, **{"from": {"sql": joined}}) == {"warehouse/jushuitan/shops", "mart/worklog"}
    assert origins(place, **{"from": {"clean": "jushuitan.shops"}}) == {"clean/jushuitan/shops"}


def test_a_run_reports_what_it_did(place: Place, instance: dg.DagsterInstance) -> None:
    place.sandbox.change("refuse", ids=["t01"], message="closed", times=-1)
    place.sandbox.change("refuse", ids=["t02"], code=4002, times=-1)
    place.fill(ROWS)
    done = run(place, instance)
    assert done.success
    said = done.metadata("push/depot/things")
    numbers = ("sent", "deleted", "unchanged", "rejected", "pending", "dead", "unknown", "dropped")
    assert [said[name] for name in numbers] == [4, 0, 0, 2, 1, 1, 0, 0]
    assert said["dagster/uri"] == place.sandbox.url
    assert "error code 4001: closed" in said["problems"]
    assert {entry["run_id"] for entry in place.ledger().values()} == {done.id}


@pytest.mark.parametrize(
    ("rule", "severity"), [("warn", dg.AssetCheckSeverity.WARN), ("error", dg.AssetCheckSeverity.ERROR)]
)
def test_the_check_tells_of_dead_letters(
    place: Place, instance: dg.DagsterInstance, rule: str, severity: dg.AssetCheckSeverity
) -> None:
    place.declare(dead_letters=rule)
    place.fill(ROWS)
    assert run(place, instance).checks("push/depot/things")["no_dead_letters"].passed
    place.sandbox.change("refuse", ids=["t02"], code=4002, times=-1)
    place.fill([{**row, "qty": 0} for row in ROWS])
    check = run(place, instance).checks("push/depot/things")["no_dead_letters"]
    assert (check.passed, check.severity) == (False, severity)
    assert check.metadata["dead"].value == 1


def test_an_unknown_record_fails_the_check(place: Place, instance: dg.DagsterInstance) -> None:
    place.sandbox.fault(path="/batch", reset=True, times=1)
    place.fill(ROWS[:2])
    check = run(place, instance).checks("push/depot/things")["no_dead_letters"]
    assert (check.passed, check.metadata["unknown"].value) == (False, 2)


def test_a_target_that_is_down_fails_the_step_and_its_retry_completes_it(
    place: Place, instance: dg.DagsterInstance
) -> None:
    place.declare(**DECIDED_BY["key"])
    place.sandbox.fault(path="/batch", status=503, times=21)  # two requests and a repetition, seven times each
    place.fill(ROWS)
    done = run(place, instance)
    assert (done.success, done.step_retries) == (True, 1)
    assert place.contents() == {row["id"]: document(row) for row in ROWS}
    assert set(place.writes().values()) == {1}


def test_a_wrong_credential_fails_the_step_for_good_and_tells_no_secret(
    place: Place, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPOT_CLIENT_SECRET", "a-secret-that-is-wrong")
    place.fill(ROWS)
    done = run(place, instance)
    assert (done.success, done.step_retries) == (False, 0)
    assert "POST /v1/token: no token was given: HTTP 403" in done.failures["push/depot/things"]
    assert "a-secret-that-is-wrong" not in str(done.failures)
