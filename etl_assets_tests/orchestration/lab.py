"""A place to run the product in: a simulated vendor, folders of its own, runs in this process or by command.

What a right table holds is worked out here from the vendor's own rows, without the library's help.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import duckdb
from dagster._utils.error import SerializableErrorInfo

from etl_assets.definitions import defs
from etl_assets.sandbox.handle import Sandbox
from etl_assets_tests.away import away

BIN = Path(sys.executable).parent
TOKYO = ZoneInfo("Asia/Tokyo")
NEW_YORKER = 719
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
LAYERS = ("raw", "clean", "warehouse")
OWN = ("ETL_", "DUCKDB_", "TMETRIC_", "DAGSTER_", "BIGQUERY_", "STORAGE_")

Row = dict[str, Any]


def bare_environment() -> dict[str, str]:
    """The variables of this process without those of the product and without proxies."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(OWN) and not name.lower().endswith("_proxy")
    }


@dataclass(frozen=True)
class Run:
    """A finished run."""

    result: dg.ExecuteInProcessResult

    @property
    def success(self) -> bool:
        return self.result.success

    @property
    def id(self) -> str:
        return self.result.run_id

    def metadata(self, asset: str) -> dict[str, Any]:
        """The metadata of what the run made of `asset`."""
        (made,) = [e for e in self.result.get_asset_materialization_events() if _path(e.asset_key) == asset]
        return {name: entry.value for name, entry in made.materialization.metadata.items()}

    @property
    def made(self) -> set[str]:
        return {_path(event.asset_key) for event in self.result.get_asset_materialization_events()}

    def checks(self, asset: str) -> dict[str, Any]:
        """The check evaluations of `asset` by name."""
        found = self.result.get_asset_check_evaluations()
        return {check.check_name: check for check in found if _path(check.asset_key) == asset}

    @property
    def failures(self) -> dict[str, str]:
        """Asset by asset what a failed step says: the cause, where retries were used up."""
        return {
            str(event.step_key).replace("__", "/"): _cause(event.step_failure_data.error)
            for event in self.result.all_events
            if event.is_step_failure and event.step_failure_data.error
        }

    @property
    def step_retries(self) -> int:
        return sum(event.is_step_up_for_retry for event in self.result.all_events)


@dataclass(frozen=True)
class Lab:
    """The product with TMetric behind it, as the variables of this process point at them."""

    sandbox: Sandbox
    data: Path
    instance: dg.DagsterInstance

    def run(self, *assets: str, day: str | None = None) -> Run:
        """Materialise the assets, each given as `layer/source/stream`, or `source/stream` for all its layers."""
        keys = [
            dg.AssetKey(path.split("/"))
            for asset in assets
            for path in ([asset] if asset.startswith(LAYERS) else [f"{layer}/{asset}" for layer in LAYERS])
        ]
        job = defs().resolve_implicit_global_asset_job_def()
        return Run(
            job.execute_in_process(
                run_config=QUIET,
                instance=self.instance,
                asset_selection=keys,
                partition_key=day,
                raise_on_error=False,
            )
        )

    def job(self, name: str, day: str | None = None) -> Run:
        """Run a job."""
        job = defs().resolve_job_def(name)
        return Run(
            job.execute_in_process(run_config=QUIET, instance=self.instance, partition_key=day, raise_on_error=False)
        )

    def load(self, day: str) -> Run:
        """Materialise one day of time entries, which must succeed."""
        run = self.run("tmetric/time_entries", day=day)
        assert run.success, run.failures
        return run

    def query(self, sql: str) -> list[Row]:
        return query(self.data / "warehouse.duckdb", sql)

    def table(self, day: str | None = None) -> list[Row]:
        """The rows of time entries, JSON as trees, all columns."""
        return time_entries(self.data / "warehouse.duckdb", day)

    def content(self, day: str | None = None) -> list[Row]:
        """The same without the columns that differ between runs."""
        return [without_run(row) for row in self.table(day)]

    def expected(self, day: str) -> list[Row]:
        """What `content(day)` has to be."""
        return expected_entries(self.sandbox, day)


def _cause(error: SerializableErrorInfo) -> str:
    return _cause(error.cause) if error.cause else error.message.strip()


def _path(key: dg.AssetKey | None) -> str:
    return "/".join(key.path) if key else ""


def query(warehouse: Path, sql: str) -> list[Row]:
    """Rows as dictionaries, instants in UTC."""
    with duckdb.connect(str(warehouse), read_only=True) as db:
        db.execute("SET TimeZone = 'UTC'")
        result = db.execute(sql)
        names = [column[0] for column in result.description or []]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def time_entries(warehouse: Path, day: str | None) -> list[Row]:
    where = f"WHERE _partition = DATE '{day}'" if day else ""
    rows = query(warehouse, f"FROM tmetric.time_entries {where} ORDER BY id, _partition")
    for row in rows:
        row["tags"] = json.loads(row["tags"] or "[]")  # the vendor leaves the field out where there are none
    return rows


def without_run(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("_loaded_at", "_run_id")}


def expected_entries(sandbox: Sandbox, day: str) -> list[Row]:
    """The rows of the table for one day of Tokyo, out of what the vendor says it holds."""
    tags = {tag["name"]: tag for tag in sandbox.truth(stream="tags")}
    return sorted(
        (_expected(entry, tags, day) for entry in sandbox.truth(day=day, zone="Asia/Tokyo")), key=lambda row: row["id"]
    )


def _expected(entry: Row, tags: Mapping[str, Row], day: str) -> Row:
    start, end = (datetime.fromisoformat(text) if text else None for text in (entry["start_utc"], entry["end_utc"]))
    project, client = entry["project_id"], entry["project_client_id"]
    billable = entry["project_is_billable"]
    return {
        "id": entry["id"],
        "start_time": start,
        "end_time": end,
        "user_id": entry["user_id"],
        "user_name": entry["user_name"],
        "user_time_zone": "America/New_York" if entry["user_id"] == NEW_YORKER else "Asia/Tokyo",
        "task_id": entry["task_id"],
        "task_name": entry["task_name"],
        "task_external_link_caption": entry["task_external_link_caption"],
        "task_external_link_link": entry["task_external_link_link"],
        "task_external_link_issue_id": entry["task_external_link_issue_id"],
        "task_integration": None,
        "project_id": project,
        "project_name": entry["project_name"],
        "project_status": entry["project_status"],
        "project_is_billable": billable,
        "project_invoice_method": "taskHourlyRate" if billable else None,
        "project_client_id": client,
        "project_client_name": entry["project_client_name"],
        "project_client_icon_url": client and f"https://example.com/clients/{client}.png",
        "project_icon_url": project and f"https://example.com/projects/{project}.png",
        "note": entry["note"],
        "tags": [
            {"id": tags[name]["id"], "name": name, "isWorkType": tags[name]["is_work_type"]} for name in entry["tags"]
        ],
        "is_billable": entry["is_billable"],
        "is_invoiced": entry["is_invoiced"],
        "is_running": end is None,
        "duration_seconds": None if end is None or start is None else int((end - start).total_seconds()),
        "start_time_local": _tokyo(start),
        "end_time_local": _tokyo(end),
        "_partition": date.fromisoformat(day),
        "_extra": None,
    }


def _tokyo(moment: datetime | None) -> datetime | None:
    return moment.astimezone(TOKYO).replace(tzinfo=None) if moment else None


def day_start(day: str, zone: ZoneInfo = TOKYO) -> datetime:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), zone).astimezone(UTC)


def following(day: str) -> str:
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def command(
    *line: str, env: Mapping[str, str], cwd: Path | None = None, seconds: float = 250
) -> "subprocess.CompletedProcess[str]":
    """Run one of the environment's commands to its end, with these variables and no others of the product."""
    return subprocess.run(
        [str(BIN / line[0]), *line[1:]],
        cwd=cwd or away(),
        env={**bare_environment(), "PATH": f"{BIN}:{os.environ['PATH']}", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def python(program: str, *arguments: str, env: Mapping[str, str], seconds: float = 250) -> str:
    """What a program prints that must succeed."""
    done = command("python", "-c", program, *arguments, env=env, seconds=seconds)
    assert done.returncode == 0, done.stderr
    return done.stdout


def materialize(select: str, day: str | None, *, env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """The contract's command."""
    partition = ["--partition", day] if day else []
    return command(
        "dagster", "asset", "materialize", "-m", "etl_assets.definitions", "--select", select, *partition, env=env
    )


def stream_file(folder: Path, text: str, name: str = "extra.yaml") -> Path:
    """A further stream file in a folder for ETL_SOURCES_DIR; the folder."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, "utf-8")
    return folder


def tree(folder: Path) -> Sequence[Path]:
    """Every file below the folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
