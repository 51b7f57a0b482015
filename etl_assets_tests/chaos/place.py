"""A place to break things in: a sandbox, a data folder, child processes, and the two looks at what came of it.

`either` and `exact` are the promise under test. Both read a copy of the warehouse, so that looking at it neither
repairs nor locks it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl_assets.clean import content_hash
from etl_assets.sandbox.handle import Sandbox
from etl_assets.streamfiles import load_sources
from etl_assets_tests.chaos import killer, steps

DAY = "2026-01-05"
REPOSITORY = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.001
_STATUSES = {1: "active", 2: "done", 3: "archived"}

Row = dict[str, Any]
Rows = list[Row]


@dataclass(frozen=True)
class Target:
    """What a run loads: a stream, and a day of it unless it is a snapshot."""

    stream: str = "time_entries"
    day: str | None = DAY

    @property
    def arguments(self) -> list[str]:
        return [self.stream, *([self.day] if self.day else [])]

    def mine(self, row: Row) -> bool:
        """Whether a row of the table, or of `ops`, is the target's."""
        kept = row.get("_partition", row.get("partition"))
        return row.get("stream", self.stream) == self.stream and (kept.isoformat() if kept else None) == self.day


ENTRIES, NEIGHBOUR, PROJECTS = Target(), Target(day="2026-01-06"), Target("projects", None)


@dataclass(frozen=True)
class Found:
    """All rows of all tables, in a fixed order; a table that does not exist has none."""

    tables: Mapping[str, Rows]
    hashes: Mapping[Target, str]

    def without(self, target: Target) -> dict[str, Rows]:
        """What a load of the target must leave alone."""
        tables = {name: self.tables[name] for name in ("ops.loads", "ops.quarantine", f"tmetric.{target.stream}")}
        others = {name: rows for name, rows in self.tables.items() if name not in tables}
        return others | {name: [row for row in rows if not target.mine(row)] for name, rows in tables.items()}

    def of(self, target: Target, table: str | None = None) -> Rows:
        return [row for row in self.tables[table or f"tmetric.{target.stream}"] if target.mine(row)]


@dataclass
class Ended:
    """A process that has ended, by itself or not."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The type of the error that the steps ended with; none for any other end."""
        return self.err.split()[-1] if self.code == steps.TYPED else ""


@dataclass
class Place:
    """One sandbox and one data folder."""

    sandbox: Sandbox
    data: Path
    more: dict[str, str] = field(default_factory=dict)

    def env(self, **more: str) -> dict[str, str]:
        """The environment of a child, without any setting of the one who runs the tests."""
        ours = ("ETL_", "TMETRIC_", "DUCKDB_", "DAGSTER_", "CHAOS_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        fixed = {
            "ETL_DATA_DIR": str(self.data),
            "ETL_RETRY_BASE_SECONDS": "0.01",
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return {**env, **self.sandbox.env(), **fixed, **self.more, **more}

    def start(self, command: list[str], **more: str) -> "subprocess.Popen[str]":
        """A child with a process group of its own, away from any `.env`."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command,
            env=self.env(**more),
            cwd=self.data.parent,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            start_new_session=True,
        )

    def start_steps(self, *arguments: str, **more: str) -> "subprocess.Popen[str]":
        return self.start([sys.executable, "-m", steps.__name__, *arguments], **more)

    def run(self, target: Target = ENTRIES, **more: str) -> Ended:
        """The three steps of the target, to their end."""
        return ended(self.start_steps(*target.arguments, **more))

    def found(self) -> Found:
        """What a reader would find at this moment."""
        with tempfile.TemporaryDirectory() as copy:
            for file in self.data.glob("warehouse.duckdb*"):
                shutil.copy(file, copy)
            return _read(Path(copy) / "warehouse.duckdb")

    def truth(self, target: Target) -> Rows:
        """The rows that the target's table has to have, as far as the source knows them."""
        if target == PROJECTS:
            rows = self.sandbox.truth(stream="projects")
            return [{**{n: row[n] for n in row if n != "code"}, "status": _STATUSES[row["status"]]} for row in rows]
        return [_entry(row, target) for row in self.sandbox.truth(day=str(target.day))]


class Killer:
    """Runs of a target that are killed at a write-like call, and plain ones, in the order in which they are asked."""

    def __init__(self, place: Place, target: Target, mode: str) -> None:
        command = [sys.executable, "-m", killer.__name__, str(place.data), mode, steps.__name__, *target.arguments]
        self._child = place.start(command)

    def run(self, number: int = 0) -> Row:
        """One run, killed at the call of that number; without a number it is not killed."""
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(f"{number}\n")
        self._child.stdin.flush()
        if line := self._child.stdout.readline():
            report: Row = json.loads(line)
            return report
        done = ended(self._child)
        if done.code == killer.CANNOT:
            pytest.skip("processes cannot be traced here")
        raise AssertionError(done.err)

    def close(self) -> str:
        """What was said on stderr."""
        return ended(self._child).err


def ended(child: "subprocess.Popen[str]") -> Ended:
    """Wait for the child's end; at the deadline its group is killed and the test fails."""
    try:
        out, err = child.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        kill(child)
        raise
    return Ended(child.returncode, out, err)


def kill(child: "subprocess.Popen[str]") -> Ended:
    """SIGKILL to the child and what it started."""
    os.killpg(child.pid, signal.SIGKILL)
    out, err = child.communicate()
    return Ended(child.returncode, out, err)


def until(condition: Callable[[], Any], child: "subprocess.Popen[str]") -> None:
    """Wait for a condition while the child runs."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert child.poll() is None, f"ended too early: {ended(child)}"
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(_POLL_SECONDS)


def either(place: Place, before: Found, target: Target) -> bool:
    """The table is exactly what it was, or exactly the truth of now; True for the latter."""
    found = place.found()
    if found == before:
        return False
    _compare(found, before, place.truth(target), target)
    return True


def exact(place: Place, before: Found, target: Target = ENTRIES) -> None:
    """The table is the truth of now, `ops.loads` agrees, and nothing else was touched since `before`."""
    _compare(place.found(), before, place.truth(target), target)


def _compare(found: Found, before: Found, truth: Rows, target: Target) -> None:
    rows = found.of(target)
    assert sorted(map(_key, [_comparable(row, truth) for row in rows])) == sorted(map(_key, truth))
    assert found.without(target) == before.without(target)
    earlier, loads = before.of(target, "ops.loads"), found.of(target, "ops.loads")
    assert loads[: len(earlier)] == earlier
    assert len(loads) > len(earlier), "a table without its entry in ops.loads"
    last = loads[-1]
    assert last["content_hash"] == found.hashes[target]
    assert last["rows_loaded"] == len(truth)
    assert last["rows_raw"] == last["rows_loaded"] + last["rows_quarantined"] + last["rows_duplicate"]
    assert last["rows_quarantined"] == len(found.of(target, "ops.quarantine"))
    assert {row["_run_id"] for row in rows} <= {load["run_id"] for load in loads}


def _read(file: Path) -> Found:
    names = ("tmetric.time_entries", "tmetric.projects", "ops.loads", "ops.quarantine")
    if not file.exists():
        return Found({name: [] for name in names}, {})
    with duckdb.connect(str(file), read_only=True) as db:
        db.execute("SET TimeZone = 'UTC'")
        sql = "SELECT schema_name || '.' || table_name FROM duckdb_tables()"
        present = {name for (name,) in db.execute(sql).fetchall()}
        tables = {name: _rows(db, name) if name in present else [] for name in names}
        loaded = {(load["stream"], load["partition"]) for load in tables["ops.loads"]}
        targets = [Target(stream, day and day.isoformat()) for stream, day in loaded]
        return Found(tables, {target: _hash(db, target) for target in targets})


def _rows(db: duckdb.DuckDBPyConnection, table: str) -> Rows:
    order = "loaded_at" if table == "ops.loads" else "ALL"
    result = db.execute(f"SELECT * FROM {table} ORDER BY {order}")
    names = [entry[0] for entry in result.description or []]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _hash(db: duckdb.DuckDBPyConnection, target: Target) -> str:
    stream = load_sources(None)["tmetric"].stream(target.stream)
    where = f"_partition = DATE '{target.day}'" if target.day else "true"
    return content_hash(db, stream, f"(FROM tmetric.{target.stream} WHERE {where})")


def _entry(row: Row, target: Target) -> Row:
    """An entry of the truth, with what the table derives from it."""
    start, end = (text and datetime.fromisoformat(text) for text in (row.pop("start_utc"), row.pop("end_utc")))
    tokyo = timedelta(hours=9)
    return {
        **row,
        "start_time": start,
        "end_time": end,
        "is_running": end is None,
        "duration_seconds": end and int((end - start).total_seconds()),
        "start_time_local": (start + tokyo).replace(tzinfo=None),
        "end_time_local": end and (end + tokyo).replace(tzinfo=None),
        "_partition": date.fromisoformat(str(target.day)),
        "_extra": None,
    }


def _comparable(row: Row, truth: Rows) -> Row:
    """A row of the table with the columns of the truth, in its types."""
    names = truth[0] if truth else row
    row = {name: row[name] for name in names}
    if "tags" in row:
        row["tags"] = [tag["name"] for tag in json.loads(row["tags"] or "[]")]
    return {n: v.astimezone(UTC) if isinstance(v, datetime) and v.tzinfo else v for n, v in row.items()}


def _key(row: Row) -> str:
    return repr(sorted(row.items()))
