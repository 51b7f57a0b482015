"""A workflow taken apart: its transfers and datamarts as jobs that depend on each other as its tasks did."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from etl_assets.errors import FinalError


@dataclass(frozen=True)
class Parts:
    """The text of a TROCCO file, and what could not be carried over."""

    text: str
    warnings: list[str]


def parts_text(detail: Mapping[str, Any]) -> Parts:
    """The file for a workflow as GET gives it. Raises FinalError when none of its tasks can be run alone."""
    tasks = {task["task_identifier"]: task for task in detail.get("tasks") or []}
    before: dict[int, list[int]] = {number: [] for number in tasks}
    for link in detail.get("task_dependencies") or []:
        before[link["destination"]].append(link["source"])
    jobs = {number: job for number, task in tasks.items() if (job := _job(detail, number, task))}
    for number, job in jobs.items():
        deps = sorted({f"trocco/{jobs[source]['name']}" for source in _runnable(number, before, jobs)})
        if deps:
            job["deps"] = deps
    if not jobs:
        raise FinalError(f"workflow {detail.get('id')}: it has no transfer and no datamart")
    warnings = [
        f"task {number} ({task['type']}) is left out: only TROCCO runs it"
        for number, task in tasks.items()
        if number not in jobs
    ]
    warnings += [f"job {job['name']}: choose its `completion`" for job in jobs.values() if job["kind"] == "datamart"]
    return Parts(yaml.safe_dump({"jobs": list(jobs.values())}, sort_keys=False, allow_unicode=True), warnings)


def _job(detail: Mapping[str, Any], number: int, task: Mapping[str, Any]) -> dict[str, Any] | None:
    config = task.get(f"{task['type']}_config") or {}
    definition = config.get("definition_id")
    if definition is None or not re.fullmatch(r"trocco_(transfer|\w+_datamart)", task["type"]):
        return None
    kind = "transfer" if task["type"] == "trocco_transfer" else "datamart"
    job: dict[str, Any] = {"name": f"w{detail['id']}_{kind}_{number}", "kind": kind, "definition": definition}
    loop = config.get("custom_variable_loop") or {}
    if names := [item["name"] for item in (loop.get("string_config") or {}).get("variables", ())]:
        job["variables"] = dict.fromkeys(names, "")
    return job


def _runnable(number: int, before: Mapping[int, list[int]], jobs: Mapping[int, Any]) -> set[int]:
    """The jobs right before a task, looking through tasks that are left out."""
    found: set[int] = set()
    for source in before[number]:
        found |= {source} if source in jobs else _runnable(source, before, jobs)
    return found
