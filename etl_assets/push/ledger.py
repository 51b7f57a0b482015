"""The ledger: what the target holds of each record, what it should hold, and what happened on the way.

One SQLite file for all pushes, a row per (target, push, record id). Each change is one durable transaction, so a
kill leaves the row before it or after it. Before a request goes out its records are marked `sending`; whoever finds
them so later, without a run in progress, knows that the request may or may not have been carried out.

What to put here: states and how they follow each other. What to keep out: requests and answers.
"""

import contextlib
import itertools
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from etl_assets.errors import FinalError, RetryableError
from etl_assets.push.mapping import Wanted

State = Literal["pending", "sending", "sent", "deleted", "dead", "unknown", "dropped"]
Action = Literal["write", "delete"]
Which = Literal["write", "update", "delete"]
Kind = Literal[
    "done", "refused", "final", "released", "doubtful", "unmentioned", "absent", "undecided", "resend", "skipped"
]
SENT_AGAIN: tuple[Kind, ...] = ("released", "absent", "resend")
"""Outcomes after which the same run may take a record again."""

QUEUED: tuple[State, ...] = ("dead", "unknown", "pending", "sending")
"""States in which a record waits for something: the queue."""

GONE = "gone"
"""The content of a record that the target should not hold."""

UNCERTAIN = "?"
"""What the target is known to hold after a request that may have changed it."""

_BUSY_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    target TEXT NOT NULL, push TEXT NOT NULL, record_id TEXT NOT NULL,
    state TEXT NOT NULL,      -- pending, sending, sent, deleted, dead, unknown, dropped
    action TEXT NOT NULL,     -- write, delete
    content TEXT NOT NULL,    -- digest of what the target should hold
    confirmed TEXT,           -- digest of what the target has confirmed to hold; NULL: nothing
    document BLOB,            -- what is to be sent, until it is confirmed
    target_id TEXT,           -- the target's own id
    request TEXT,             -- while sending: in which request, which is also its idempotency key
    place INTEGER NOT NULL,   -- and where in it
    attempts INTEGER NOT NULL,
    reason TEXT,              -- why it is not sent
    answer TEXT,              -- what the target said last, without secrets
    run_id TEXT NOT NULL,
    changed_at TEXT NOT NULL,
    PRIMARY KEY (target, push, record_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_state ON records (target, push, state);
"""


@dataclass(frozen=True)
class Entry:
    """A record as the ledger has it: the columns of the table."""

    target: str
    push: str
    record_id: str
    state: State
    action: Action
    content: str
    confirmed: str | None = None
    document: bytes | None = None
    target_id: str | None = None
    request: str | None = None
    place: int = 0
    attempts: int = 0
    reason: str | None = None
    answer: str | None = None
    run_id: str = ""
    changed_at: str = ""

    @property
    def which(self) -> Which:
        """With which of the declared requests it goes out: `update` where the target has it already."""
        if self.action == "delete":
            return "delete"
        return "write" if self.confirmed is None and self.target_id is None else "update"

    @property
    def age_seconds(self) -> float:
        """Seconds since the last change."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.changed_at)).total_seconds()


_COLUMNS = ", ".join(Entry.__dataclass_fields__)
_VALUES = ", ".join(f":{name}" for name in Entry.__dataclass_fields__)


@dataclass(frozen=True)
class Outcome:
    """What became of one record of a request.

    `refused` may go better another time, `final` will not; `released` was never carried out; `doubtful` may have
    been, for all that is known; `unmentioned` as well, though there was an answer; `absent` turned out not to have
    been; `undecided` cannot be told, nor `resend`, which is sent again all the same; `skipped` need not be sent.
    """

    record_id: str
    kind: Kind
    reason: str | None = None
    target_id: str | None = None
    answer: str | None = None


@dataclass(frozen=True)
class Change:
    """How planning changes a record."""

    state: State
    content: str
    document: bytes | None = None
    reason: str | None = None


def planned(known: Entry | None, wanted: Wanted) -> Change | None:
    """What follows for a record from what is wanted now; None when nothing does."""
    if known and known.state in ("sending", "unknown"):
        return None  # first it must be known what the target holds
    if known and wanted.reason is None and known.confirmed == wanted.content:
        return None if known.state == "sent" else Change("sent", wanted.content)
    if known and (known.content, known.action) == (wanted.content, "write") and known.state != "deleted":
        return None
    return Change("dead" if wanted.reason else "pending", wanted.content, wanted.document, wanted.reason)


def settled(entry: Entry, outcome: Outcome, most_attempts: int, now: str) -> Entry:
    """The record after a request of which it was part."""
    answer = outcome.answer or entry.answer
    last = replace(entry, reason=outcome.reason, answer=answer, request=None, changed_at=now)
    match outcome.kind:
        case "done" if entry.action == "delete":
            return replace(last, state="deleted", confirmed=None, target_id=None, document=None)
        case "done":
            target_id = outcome.target_id or entry.target_id
            return replace(last, state="sent", confirmed=entry.content, target_id=target_id, document=None)
        case "refused" | "absent" | "resend":
            confirmed = UNCERTAIN if entry.confirmed and outcome.kind == "resend" else entry.confirmed
            return replace(last, state="dead" if entry.attempts >= most_attempts else "pending", confirmed=confirmed)
        case "released":
            return replace(last, state="pending", attempts=max(entry.attempts - 1, 0))
        case "doubtful":
            return replace(entry, reason=outcome.reason)  # the time still says when it was sent
        case "unmentioned":
            return replace(last, state="sending")  # in no request any more: the same one would be answered the same
        case "skipped":
            return replace(last, state="dropped")
        case "undecided":
            return replace(last, state="unknown", confirmed=entry.confirmed and UNCERTAIN)
    return replace(last, state="dead")


class Ledger:
    """The records of one push. For one thread; other processes may have the file open as well."""

    def __init__(self, file: Path, target: str, push: str, run_id: str) -> None:
        """Raises FinalError when the file is no ledger, RetryableError when it cannot be written."""
        self._file, self._target, self._push, self.run_id = file, target, push, run_id
        self._db = connect(file)
        self._db.execute("CREATE TEMP TABLE seen (record_id TEXT PRIMARY KEY) WITHOUT ROWID")
        self._db.execute("CREATE TEMP TABLE tried (record_id TEXT PRIMARY KEY) WITHOUT ROWID")
        self._db.execute("CREATE TEMP TABLE checked (record_id TEXT PRIMARY KEY) WITHOUT ROWID")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def plan(self, wanted: Iterable[Wanted]) -> None:
        """Note what the target should hold."""
        by_id = {one.record_id: one for one in wanted}
        with self._changing():
            known = self._named(list(by_id))
            self._remember("seen", by_id)
            for record_id, one in by_id.items():
                if change := planned(known.get(record_id), one):
                    self._put(record_id, change, known.get(record_id))

    def gone(self) -> tuple[int, int]:
        """How many records the target has whose rows were not planned, and how many it has altogether."""
        ((gone, all_),) = self._rows(
            "SELECT count(*) FILTER (WHERE record_id NOT IN seen AND action = 'write'), count(*) FROM records "
            "WHERE target = ? AND push = ? AND confirmed IS NOT NULL"
        )
        return gone, all_

    def remove(self, *, delete: bool) -> None:
        """Have the records that were not planned deleted, or leave them; forget those that never reached the target."""
        where = "target = ? AND push = ? AND record_id NOT IN seen AND state NOT IN ('sending', 'unknown')"
        fresh = f"document = NULL, reason = NULL, attempts = 0, run_id = '{self.run_id}', changed_at = '{_now()}'"
        with self._changing():
            self._rows(f"DELETE FROM records WHERE {where} AND confirmed IS NULL AND state <> 'deleted'")
            self._rows(
                f"UPDATE records SET state = 'pending', action = 'delete', content = '{GONE}', {fresh} "
                f"WHERE {where} AND confirmed IS NOT NULL AND action = 'write'"
                if delete
                else f"UPDATE records SET state = 'sent', action = 'write', content = confirmed, {fresh} "
                f"WHERE {where} AND confirmed IS NOT NULL AND state <> 'sent'"
            )

    def unchecked(self, size: int) -> list[Entry]:
        """Up to `size` records that were never sent, each once in the life of this object."""
        with self._changing():
            entries = self._select(
                "state = 'pending' AND action = 'write' AND confirmed IS NULL AND target_id IS NULL AND attempts = 0 "
                "AND record_id NOT IN checked",
                size,
            )
            self._remember("checked", [entry.record_id for entry in entries])
        return entries

    def adopt(self, target_ids: Mapping[Entry, str]) -> list[Entry]:
        """Note the target's ids of records that it turned out to have."""
        entries = [replace(entry, target_id=target_id) for entry, target_id in target_ids.items()]
        with self._changing():
            self._write(entries)
        return entries

    def landed(self) -> int:
        """Note that the documents of all planned records are landed, and no others; how many are new or changed."""
        mine = "target = ? AND push = ?"
        with self._changing():
            self._rows(f"DELETE FROM records WHERE {mine} AND record_id NOT IN seen")
            self._rows(f"UPDATE records SET confirmed = NULL WHERE {mine} AND state <> 'sent'")
            changed = self._rows(
                f"UPDATE records SET state = 'sent', confirmed = content, document = NULL, changed_at = '{_now()}' "
                f"WHERE {mine} AND state = 'pending' RETURNING 1"
            )
        return len(changed)

    def take(self, which: Which, size: int, only: Sequence[str] | None = None) -> list[Entry]:
        """Up to `size` pending records that were not tried yet, marked as being sent in one new request.

        `which` is `write`, `update` or `delete`, where `update` are records that the target has. One that has
        failed before is taken alone, so that it cannot spoil others. `only` names the records to choose from.
        """
        action, has = {"write": ("write", "IS NULL"), "update": ("write", "IS NOT NULL"), "delete": ("delete", "")}[
            which
        ]
        where = f"state = 'pending' AND action = '{action}' AND record_id NOT IN tried"
        if has:
            where += f" AND coalesce(confirmed, target_id) {has}"
        if only is not None:
            where += f" AND record_id IN ({_marks(only)})"
        with self._changing():
            entries = self._select(f"{where} AND attempts = 0", size, only or ())
            entries = entries or self._select(where, size if only else 1, only or ())
            request = str(uuid.uuid4())
            marked = [
                replace(
                    entry, state="sending", request=request, place=place, attempts=entry.attempts + 1, changed_at=_now()
                )
                for place, entry in enumerate(entries)
            ]
            self._write(marked)
            self._remember("tried", [entry.record_id for entry in marked])
        return marked

    def in_doubt(self) -> list[list[Entry]]:
        """The records of each request that went out and whose end is not known, in the order sent."""
        entries = self._select("state = 'sending'", order="request, place")
        return [list(group) for _, group in itertools.groupby(entries, key=lambda entry: entry.request)]

    def settle(self, entries: Iterable[Entry], outcomes: Iterable[Outcome], most_attempts: int) -> None:
        """Note what became of the records of a request. Some may be taken again."""
        by_id = {entry.record_id: entry for entry in entries}
        outcomes = list(outcomes)
        with self._changing():
            self._write([settled(by_id[one.record_id], one, most_attempts, _now()) for one in outcomes])
            again = [(one.record_id,) for one in outcomes if one.kind in SENT_AGAIN]
            self._db.executemany("DELETE FROM tried WHERE record_id = ?", again)

    def counts(self) -> dict[str, int]:
        """Records by state."""
        return dict(self._rows("SELECT state, count(*) FROM records WHERE target = ? AND push = ? GROUP BY state"))

    def problems(self, most: int) -> list[Entry]:
        """The first dead and unknown records, and those that wait after a failure."""
        return self._select("state IN ('dead', 'unknown') OR (state = 'pending' AND attempts > 0)", most)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """One durable transaction. Raises RetryableError when the disk does not take it."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._db.in_transaction:  # on a full disk SQLite has taken it back by itself
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise RetryableError(f"{self._file}: cannot be written: {error}") from None

    def _rows(self, sql: str, more: Sequence[Any] = ()) -> list[Any]:
        return self._db.execute(sql, (self._target, self._push, *more)).fetchall()

    def _select(self, where: str, most: int = -1, more: Sequence[Any] = (), *, order: str = "record_id") -> list[Entry]:
        sql = f"SELECT {_COLUMNS} FROM records WHERE target = ? AND push = ? AND ({where}) ORDER BY {order} LIMIT ?"
        return [Entry(*row) for row in self._rows(sql, (*more, most))]

    def _named(self, record_ids: Sequence[str]) -> dict[str, Entry]:
        where = f"record_id IN ({_marks(record_ids)})"
        return {entry.record_id: entry for entry in self._select(where, -1, record_ids)}

    def _remember(self, table: str, record_ids: Iterable[str]) -> None:
        self._db.executemany(f"INSERT OR IGNORE INTO {table} VALUES (?)", [(one,) for one in record_ids])

    def _put(self, record_id: str, change: Change, known: Entry | None) -> None:
        before = known or Entry(self._target, self._push, record_id, change.state, "write", change.content)
        self._write([replace(before, action="write", attempts=0, changed_at=_now(), **vars(change))])

    def _write(self, entries: Iterable[Entry]) -> None:
        rows = [{**vars(entry), "run_id": self.run_id} for entry in entries]
        self._db.executemany(f"INSERT OR REPLACE INTO records ({_COLUMNS}) VALUES ({_VALUES})", rows)


def connect(file: Path) -> sqlite3.Connection:
    """The ledger's file, made if there is none. Raises FinalError when it is something else."""
    with contextlib.ExitStack() as stack:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            db = stack.enter_context(
                contextlib.closing(sqlite3.connect(file, timeout=_BUSY_SECONDS, isolation_level=None))
            )
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.executescript(_SCHEMA)
        except OSError as error:
            raise RetryableError(f"{file}: cannot be written: {error.strerror or error}") from None
        except sqlite3.OperationalError as error:
            raise RetryableError(f"{file}: cannot be opened: {error}") from None
        except sqlite3.DatabaseError as error:
            raise FinalError(f"{file}: is no ledger: {error}") from None
        stack.pop_all()
    return db


def queued(file: Path, push: tuple[str, str] | None, states: Sequence[State], most: int) -> list[Entry]:
    """The first records in these states, of one push (target, name) or of all."""
    if not file.exists():
        return []
    where = f"state IN ({_marks(states)})" + (" AND target = ? AND push = ?" if push else "")
    sql = f"SELECT {_COLUMNS} FROM records WHERE {where} ORDER BY target, push, state, record_id LIMIT ?"
    with contextlib.closing(connect(file)) as db:
        return [Entry(*row) for row in db.execute(sql, (*states, *(push or ()), most))]


def send_again(file: Path, target: str, push: str, record_ids: Sequence[str]) -> int:
    """Make dead, unknown and dropped records pending; of those not named, dead and unknown ones. How many."""
    states = ("dead", "unknown", "dropped") if record_ids else ("dead", "unknown")
    return _moved(
        file,
        "state = 'pending'",
        where=f"state IN ({_marks(states)}) AND (document IS NOT NULL OR action = 'delete')",
        values=(target, push, *states),
        record_ids=record_ids,
    )


def put_aside(file: Path, target: str, push: str, record_ids: Sequence[str]) -> int:
    """Make dead, unknown and pending records dropped; of those not named, dead and unknown ones. How many."""
    states = ("dead", "unknown", "pending") if record_ids else ("dead", "unknown")
    confirmed = f"CASE state WHEN 'unknown' THEN '{UNCERTAIN}' ELSE confirmed END"
    return _moved(
        file,
        f"state = 'dropped', confirmed = {confirmed}",
        where=f"state IN ({_marks(states)})",
        values=(target, push, *states),
        record_ids=record_ids,
    )


def _moved(file: Path, change: str, *, where: str, values: Sequence[str], record_ids: Sequence[str]) -> int:
    if not file.exists():
        return 0
    named = f" AND record_id IN ({_marks(record_ids)})" if record_ids else ""
    sql = f"UPDATE records SET {change}, attempts = 0, changed_at = ? WHERE target = ? AND push = ? AND {where}{named}"
    with contextlib.closing(connect(file)) as db:
        return db.execute(sql, (_now(), *values, *record_ids)).rowcount


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


def _now() -> str:
    return datetime.now(UTC).isoformat()
