"""What was meant to be started at TROCCO, what was started, and how it ended: durable, shared by all processes.

One SQLite file below `ETL_DATA_DIR`. A record stands for one trigger of a (job, partition); it is written before
the POST, gets the id right after it, and is never removed. Whoever triggers holds the lock of the definition, which
the kernel releases when its holder dies: a record without an id that nobody holds is a trigger whose answer is lost.

It is a matter of one machine: of several, one has to run all TROCCO assets and sensors.
What to put here: storing and finding. What to keep out: what follows from a record (decide.py).
"""

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from etl_assets.errors import RetryableError
from etl_assets.trocco.spec import Kind

NOT_STARTED, SUPERSEDED = "not_started", "superseded"  # outcomes of records that no job of TROCCO stands behind

# What is written of a record, by whom: who triggers it, who waits for it, who looks at it. Each leaves the rest alone.
TRIGGER = ("job_id", "status", "status_since", "left_queue_at", "watched_since", "outcome", "ended_at")
WATCH = ("requester", "watched_since", "overdue", "handed_over")
LOOK = ("status", "status_since", "left_queue_at", "polled_at", "outcome", "ended_at", "overdue", "facts")

_BUSY_SECONDS = 60
_POLL_SECONDS = 0.02
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
  id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, partition TEXT NOT NULL, kind TEXT NOT NULL,
  definition INTEGER NOT NULL, requester TEXT NOT NULL, asked_at REAL NOT NULL, intended_at REAL NOT NULL,
  baseline INTEGER, job_id INTEGER, watched_since REAL NOT NULL, handed_over INTEGER NOT NULL, status TEXT,
  status_since REAL, left_queue_at REAL, polled_at REAL, outcome TEXT, ended_at REAL, ended INTEGER,
  overdue TEXT, facts TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS runs_by_job ON runs (job, partition, id);
CREATE INDEX IF NOT EXISTS runs_open ON runs (kind, definition) WHERE outcome IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS runs_by_end ON runs (ended) WHERE ended IS NOT NULL;
CREATE INDEX IF NOT EXISTS runs_by_id ON runs (kind, job_id) WHERE job_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS files (
  flow TEXT NOT NULL, uri TEXT NOT NULL, version TEXT NOT NULL, batch INTEGER NOT NULL, seen_at REAL NOT NULL,
  PRIMARY KEY (flow, uri, version)
);
CREATE INDEX IF NOT EXISTS files_by_batch ON files (flow, batch);
CREATE TABLE IF NOT EXISTS notices (
  kind TEXT NOT NULL, job_id INTEGER NOT NULL, status TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (kind, job_id)
);
"""


@dataclass(frozen=True)
class Record:
    """One trigger. Moments are epoch seconds.

    `requester` is the Dagster run that asked, `asked_at` when it did. `baseline` is the newest id that the history
    had before the POST. `watched_since` is when the present waiting began, from which deadlines count; `overdue` is
    the deadline that passed, until somebody waits again. `ended` numbers the ends in the order in which they became
    known, overdue ones included. `facts` is what TROCCO told of the end.
    """

    id: int
    job: str
    partition: str
    kind: Kind
    definition: int
    requester: str
    asked_at: float
    intended_at: float
    watched_since: float
    handed_over: bool
    baseline: int | None = None
    job_id: int | None = None
    status: str | None = None
    status_since: float | None = None
    left_queue_at: float | None = None
    polled_at: float | None = None
    outcome: str | None = None
    ended_at: float | None = None
    ended: int | None = None
    overdue: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether its end is not known."""
        return self.outcome is None


@dataclass(frozen=True)
class File:
    """A file that arrived; another version under the same name is another file."""

    uri: str
    version: str


class Ledger:
    """The records. Safe to use from several threads and processes; keeps nothing open between calls."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made when something is first written."""
        self._folder = folder
        self._ready = False

    def latest(self, job: str, partition: str) -> Record | None:
        """The newest record of a (job, partition)."""
        found = self._select("WHERE job = ? AND partition = ? ORDER BY id DESC LIMIT 1", job, partition)
        return found[0] if found else None

    def by_number(self, number: int) -> Record:
        """The record of that number; KeyError without one."""
        found = self._select("WHERE id = ?", number)
        if not found:
            raise KeyError(number)
        return found[0]

    def open_runs(self) -> list[Record]:
        """Records whose end is not known, oldest first."""
        return self._select("WHERE outcome IS NULL ORDER BY id")

    def of_definition(self, kind: Kind, definition: int) -> list[Record]:
        """Open records of a definition, oldest first."""
        return self._select("WHERE outcome IS NULL AND kind = ? AND definition = ? ORDER BY id", kind, definition)

    def known_ids(self, kind: Kind, definition: int, above: int) -> set[int]:
        """Ids of runs of a definition that are on record."""
        where = "WHERE kind = ? AND definition = ? AND job_id > ?"
        return {record.job_id for record in self._select(where, kind, definition, above) if record.job_id}

    def ended_after(self, number: int, most: int) -> list[Record]:
        """Records whose end became known after the end of that number, in order."""
        where = "WHERE ended > ? AND (outcome IS NOT NULL OR overdue IS NOT NULL) ORDER BY ended LIMIT ?"
        return self._select(where, number, most)

    def intend(self, record: Record) -> Record:
        """Add a record without an id; durable when this returns. The record with its number."""
        with self._writing() as db:
            values = _values(record)
            names = ", ".join(values)
            places = ", ".join("?" * len(values))
            cursor = db.execute(f"INSERT INTO runs ({names}) VALUES ({places})", list(values.values()))
            return replace(record, id=cursor.lastrowid or 0)

    def keep(self, record: Record, names: Sequence[str]) -> Record:
        """Write these fields of a record; the record as it is now. An end gets its number."""
        (kept,) = self.keep_all([record], names)
        return kept

    def keep_all(self, records: Iterable[Record], names: Sequence[str]) -> list[Record]:
        """Write these fields of several records at once. One whose end is known already keeps it."""
        kept = []
        with self._writing() as db:
            for record in records:
                (before,) = _records(db.execute("SELECT * FROM runs WHERE id = ?", [record.id]))
                if not before.is_open:
                    kept.append(before)
                    continue
                record = replace(before, **{name: getattr(record, name) for name in names})
                if _ends(before, record):
                    (last,) = db.execute("SELECT coalesce(max(ended), 0) FROM runs").fetchone()
                    record = replace(record, ended=last + 1)
                values = _values(record)
                db.execute(
                    f"UPDATE runs SET {', '.join(f'{name} = ?' for name in values)} WHERE id = ?",
                    [*values.values(), record.id],
                )
                kept.append(record)
        return kept

    def forget(self, record: Record) -> None:
        """Let no request be answered by this record: the next one starts a job."""
        with self._writing() as db:
            db.execute("UPDATE runs SET outcome = ? WHERE id = ?", [SUPERSEDED, record.id])

    def arrived(self, flow: str, files: Iterable[File], batch: int, now: float) -> int:
        """Put files that are not known yet into new batches of at most so many; how many were new."""
        new = 0
        with self._writing() as db:
            (last,) = db.execute("SELECT coalesce(max(batch), 0) FROM files WHERE flow = ?", [flow]).fetchone()
            for file in files:
                values = (flow, file.uri, file.version, last + 1 + new // batch, now)
                new += db.execute("INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?, ?)", values).rowcount
        return new

    def waiting(self, flow: str, most: int) -> list[int]:
        """Batches of a flow that no job of TROCCO stands behind yet, oldest first."""
        sql = """SELECT DISTINCT batch FROM files WHERE flow = ?1 AND NOT EXISTS
                 (SELECT 1 FROM runs WHERE job = ?1 AND partition = CAST(batch AS TEXT)
                  AND (outcome IS NULL OR outcome NOT IN (?2, ?3))) ORDER BY batch LIMIT ?4"""
        with self._reading() as db:
            return [batch for (batch,) in db.execute(sql, [flow, NOT_STARTED, SUPERSEDED, most])]

    def files(self, flow: str, batch: int) -> tuple[str, ...]:
        """The files of a batch."""
        sql = "SELECT uri FROM files WHERE flow = ? AND batch = ? ORDER BY uri"
        with self._reading() as db:
            return tuple(uri for (uri,) in db.execute(sql, [flow, batch]))

    def notice(self, kind: Kind, job_id: int, status: str, now: float) -> None:
        """Keep what a notification said of a run."""
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO notices VALUES (?, ?, ?, ?)", [kind, job_id, status, now])

    def noticed(self, kind: Kind, job_id: int) -> str | None:
        """The status that a notification told, if one has come."""
        with self._reading() as db:
            sql = "SELECT status FROM notices WHERE kind = ? AND job_id = ?"
            row = db.execute(sql, [kind, job_id]).fetchone()
        return row[0] if row else None

    @contextmanager
    def holding(self, kind: Kind, definition: int, deadline: float) -> Iterator[None]:
        """The lock of a definition: triggers of it go one after the other. `deadline` is on the monotonic clock.

        Raises RetryableError when another process holds it for longer.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._folder / f"{kind}-{definition}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not _locked(handle):
                if time.monotonic() > deadline:
                    raise RetryableError(f"another run has been starting {kind} {definition} for too long")
                time.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(handle)

    def _select(self, where: str, *values: object) -> list[Record]:
        with self._reading() as db:
            return _records(db.execute(f"SELECT * FROM runs {where}", values))

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._connected() as db:
            yield db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._connected() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / "ledger.sqlite"
            with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as db:
                db.row_factory = sqlite3.Row
                db.execute("PRAGMA synchronous = FULL")
                if not self._ready:
                    db.executescript(_SCHEMA)
                    self._ready = True
                yield db
        except (sqlite3.Error, OSError) as error:
            raise RetryableError(f"{self._folder}: the ledger cannot be used: {error}") from None


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _ends(before: Record, now: Record) -> bool:
    """Whether an end becomes known that somebody waits for. Numbers only grow, so none is given back."""
    if now.overdue and not before.overdue:
        return True
    return now.outcome is not None and now.outcome not in (NOT_STARTED, SUPERSEDED)


def _values(record: Record) -> dict[str, Any]:
    values = {entry.name: getattr(record, entry.name) for entry in fields(record) if entry.name != "id"}
    return {**values, "handed_over": int(record.handed_over), "facts": json.dumps(dict(record.facts))}


def _records(rows: Iterable[sqlite3.Row]) -> list[Record]:
    return [
        Record(**{**dict(row), "handed_over": bool(row["handed_over"]), "facts": json.loads(row["facts"])})
        for row in rows
    ]
