"""Declarations: what a job may say, what is refused and why, and what a partition makes of it."""

from pathlib import Path
from typing import Any

import pytest

from etl_assets.errors import StreamFileError
from etl_assets.trocco.spec import Asked, load_jobs, read_jobs
from etl_assets_tests.trocco.place import TRANSFER, job

PLAIN = {"name": "x", "kind": "transfer", "definition": 1}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "workflow", "variables": {"$a$": "1"}}, "ignores variables of a workflow.*run its parts"),
        ({"kind": "datamart"}, "does not tell when a datamart has ended"),
        (
            {"kind": "datamart", "variables": {"$a$": "1"}, "completion": {"by": "workflow", "definition": 2}},
            "ignores variables of a workflow",
        ),
        ({"completion": {"by": "nothing"}}, "for datamarts only"),
        ({"variables": {"a": "1"}}, r"'a' is not written with its dollar signs"),
        ({"variables": {f"${n}$": "" for n in range(41)}}, "40 at most"),
        ({"variables": {"$a$": "{partition.date}"}}, r"\{partition.date\} means nothing here; known: none"),
        ({"variables": {"$a$": "{partition.week}"}, "partitions": {"start": "2026-01-01"}}, "known: partition, "),
        ({"variables_by": "loop"}, "for workflows with variables only"),
        ({"kind": "workflow", "started": "elsewhere"}, "lists runs of transfers only"),
        ({"arrivals": {"path": "in/*"}}, "set wait: sensor"),
        ({"kind": "datamart", "completion": {"by": "nothing"}, "produces": ["a/b"]}, "produces nothing"),
        ({"deps": ["nothing"]}, "String should match pattern"),
        ({"time_zone": "Tokyo"}, "not an IANA time zone"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        job(PLAIN, **changes)


def test_values_are_filled_from_the_day() -> None:
    variables = {
        "$a$": "{partition}",
        "$b$": "{partition.date:%Y%m%d}",
        "$c$": "to {partition.next:%d/%m}",
        "$d$": "{x}",
    }
    with pytest.raises(ValueError, match=r"\{x\} means nothing"):
        job(TRANSFER, variables=variables)
    del variables["$d$"]
    asked = Asked.of(job(TRANSFER, variables=variables, context_time="{partition.next} 06:00:00"), "2026-01-31")
    assert asked.variables == {"$a$": "2026-01-31", "$b$": "20260131", "$c$": "to 01/02"}
    assert asked.context_time == "2026-02-01 06:00:00"


def test_values_are_filled_from_the_files() -> None:
    wanted = job(PLAIN, variables={"$a$": "{file}", "$b$": "{file.name}"}, arrivals={"path": "in/*"}, wait="sensor")
    asked = Asked.of(wanted, "1", ("gs://b/x/a.json", "gs://b/x/b.json"))
    assert asked.variables == {"$a$": "gs://b/x/a.json,gs://b/x/b.json", "$b$": "a.json,b.json"}


def test_a_job_of_ones_own_replaces_the_packaged_one(tmp_path: Path) -> None:
    (tmp_path / "trocco").mkdir()
    (tmp_path / "trocco/mine.yaml").write_text("jobs: [{name: demo_orders, kind: transfer, definition: 7}]", "utf-8")
    jobs = load_jobs(tmp_path)
    assert (jobs["demo_orders"].definition, jobs["demo_morning"].demo) == (7, True)
    (tmp_path / "trocco/other.yml").write_text("jobs: [{name: demo_orders, kind: transfer, definition: 8}]", "utf-8")
    with pytest.raises(StreamFileError, match="also declared by"):
        load_jobs(tmp_path)


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text("jobs:\n" + "  - {name: x, kind: transfer, definition: 7}\n" * 2, "utf-8")
    with pytest.raises(StreamFileError, match="two jobs are named 'x'"):
        read_jobs(file)
