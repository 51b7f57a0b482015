"""Tables in one DuckDB file: a load is one short transaction.

DuckDB lets one process write, and then nobody else even read. So the file is opened for the moment of a load
only, and whoever finds it locked waits for it. A load that would change nothing leaves the table's rows
alone, so that repeating a day does not touch them.
"""

import contextlib
import glob
import os
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from etl_assets.clean import content_hash, row_hash
from etl_assets.errors import FinalError, LandingError, LockedError, RetryableError, TableError
from etl_assets.landing import KEEP_UNREFERENCED_SECONDS, Folder, Manifest
from etl_assets.mart import SCHEMA, Mart
from etl_assets.spec import Source, Stream
from etl_assets.sqltext import identifier, literal
from etl_assets.warehouse.deletions import refuse_sweep

_SYSTEM_COLUMNS = {
    "_partition": "DATE",
    "_loaded_at": "TIMESTAMP WITH TIME ZONE",
    "_run_id": "VARCHAR",
    "_extra": "JSON",
}
_WIDER = {
    "BIGINT": ("DOUBLE", "DECIMAL", "VARCHAR"),
    "BOOLEAN": ("VARCHAR",),
    "DATE": ("VARCHAR", "TIMESTAMP WITH TIME ZONE"),
    "DOUBLE": ("VARCHAR",),
    "JSON": ("VARCHAR",),
}
_HISTORY, _HISTORY_AT_LEAST = 8, 3
_UNFINISHED = re.compile(r"[0-9a-f]{32}(\.wal)?")
_OPS = """
CREATE SCHEMA IF NOT EXISTS ops;
CREATE TABLE IF NOT EXISTS ops.loads (
    source VARCHAR, stream VARCHAR, partition DATE, window_start TIMESTAMPTZ, window_end TIMESTAMPTZ,
    rows_raw BIGINT, rows_loaded BIGINT, rows_quarantined BIGINT, rows_duplicate BIGINT, content_hash VARCHAR,
    landing_uri VARCHAR, run_id VARCHAR, code_version VARCHAR, loaded_at TIMESTAMPTZ);
CREATE TABLE IF NOT EXISTS ops.quarantine (
    source VARCHAR, stream VARCHAR, partition DATE, record_key VARCHAR, reason VARCHAR, record VARCHAR,
    run_id VARCHAR, quarantined_at TIMESTAMPTZ);
ALTER TABLE ops.loads ADD COLUMN IF NOT EXISTS read_at TIMESTAMPTZ;
"""


@dataclass(frozen=True)
class Loaded:
    """What a load did. `changed` is False when the table already held exactly these rows.

    `usual_rows` is the median of earlier loads: of the same weekday, or of a snapshot; None while they are few.
    """

    table: str
    uri: str
    rows: int
    rows_in_table: int
    changed: bool
    usual_rows: float | None
    seconds: float
    waited_seconds: float


@dataclass(frozen=True)
class Difference:
    """How a day of a table differs from a clean set: rows missing, rows in another version, rows too many."""

    missing: int
    changed: int
    surplus: int

    def __bool__(self) -> bool:
        return bool(self.missing or self.changed or self.surplus)

    @property
    def recovered(self) -> int:
        """Rows that a load brings back or up to date."""
        return self.missing + self.changed


@dataclass(frozen=True)
class Built:
    """A mart that was built; `sample` is a few rows with a header."""

    uri: str
    rows: int
    sample: list[tuple[Any, ...]]


@dataclass(frozen=True)
class DuckDbWarehouse:
    """A warehouse in the file at `path`; `lock_seconds` is how long to wait for somebody else's lock.

    `accept_deletions` names streams (`backlog/issues`) of which a sweep may mark any number of rows.
    """

    path: Path
    lock_seconds: float
    memory_mb: int
    accept_deletions: frozenset[str] = frozenset()

    def load(self, source: Source, stream: Stream, day: date | None, clean: Folder, run_id: str) -> Loaded:
        """Put the clean set into the table, with its entry in `ops.loads`, or change nothing at all.

        Raises TableError when the table cannot take the columns, LockedError when the file stays locked,
        LandingError when clean files are missing.
        """
        started = time.monotonic()
        manifest = clean.manifest()
        files = {path.name.split("-")[0]: path for path in clean.files(manifest)}
        with self.writer() as (db, waited), _transaction(db):
            table = _Table(db, source, stream)
            db.execute(_OPS)
            table.prepare()
            usual = _usual_rows(db, source, stream, day)
            table.mark_deleted()  # so that these rows are not taken for moved ones, and kept
            changed = table.take(files["rows"], files.get("parents", files["rows"]), manifest, day, run_id)
            table.mark_deleted()  # rows that were read before they were deleted
            table.mark_swept(manifest, day)
            _record(db, source, stream, day, manifest, clean.uri, files.get("quarantine"), run_id)
            for other in source.streams:
                accepted = f"{source.source}/{other.name}" in self.accept_deletions
                _Table(db, source, other).learn_of_deletions(stream.name, manifest, accepted=accepted)
            (in_table,) = _one(db, f"SELECT count(*) FROM {table.name}")
        return Loaded(
            table=f"{source.source}.{stream.name}",
            uri=str(self.path),
            rows=manifest.rows,
            rows_in_table=in_table,
            changed=changed,
            usual_rows=usual,
            seconds=time.monotonic() - started,
            waited_seconds=waited,
        )

    def compare(self, source: Source, stream: Stream, day: date | None, clean: Folder) -> Difference:
        """How the stream's table differs from the clean set of the day. A table that does not exist misses all."""
        manifest = clean.manifest()
        rows = f"read_parquet({literal(str(clean.files(manifest)[0]))})"
        if not self.path.exists():
            return Difference(manifest.rows, 0, 0)
        with self.reader() as db:
            return _Table(db, source, stream).compare(rows, manifest, day)

    def build(self, mart: Mart) -> Built:
        """Replace the mart's table by what its SELECT gives now. Raises FinalError when a table it reads is missing."""
        name = f"{SCHEMA}.{identifier(mart.name)}"
        with self.writer() as (db, _), _transaction(db):
            present = set(db.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall())
            if missing := [f"{schema}.{table}" for schema, table in mart.tables if (schema, table) not in present]:
                raise FinalError(f"mart {mart.name} reads tables that are not loaded yet: {', '.join(missing)}")
            db.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            db.execute(f"CREATE OR REPLACE TABLE {name} AS {mart.sql}")
            db.execute(f"COMMENT ON TABLE {name} IS {literal(mart.description)}")
            (rows,) = _one(db, f"SELECT count(*) FROM {name}")
            sample = db.execute(f"FROM {name} LIMIT 5")
            header = tuple(column[0] for column in sample.description or ())
            shown = [header, *sample.fetchall()]
        return Built(str(self.path), rows, shown)

    def spool(self, selects: Mapping[str, str], file: Path) -> None:
        """Copy the rows of each SELECT, in its order and all as of one moment, into a table of a new DuckDB file.

        There they can be read for as long as it takes, without holding up loads. Raises FinalError when there is no
        warehouse or it cannot answer a SELECT, LandingError when the file cannot be written.
        """
        with self.reader() as db:
            try:
                db.execute(f"ATTACH {literal(str(file))} AS spool (READ_WRITE)")
                db.execute("BEGIN")
                for name, select in selects.items():
                    db.execute(f"CREATE TABLE spool.{identifier(name)} AS {select}")
                db.execute("COMMIT")
                db.execute("DETACH spool")
            except duckdb.IOException as error:
                raise LandingError(f"{file}: cannot be written: {error}") from None
            except duckdb.Error as error:
                raise FinalError(f"{self.path}: the SELECT cannot be answered: {error}") from None

    @contextlib.contextmanager
    def writer(self) -> Iterator[tuple[duckdb.DuckDBPyConnection, float]]:
        """A connection that may write, and the seconds waited for it. Creates the file if there is none."""
        if not self.path.exists():
            self._create()
        self._sweep()
        db, waited = self._open(read_only=False)
        with contextlib.closing(db):
            yield db, waited

    @contextlib.contextmanager
    def reader(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection for reading. Raises FinalError when there is no warehouse yet."""
        if not self.path.exists():
            raise FinalError(f"{self.path}: there is no warehouse yet; materialise an asset first")
        db, _ = self._open(read_only=True)
        with contextlib.closing(db):
            yield db

    def _create(self) -> None:
        """Make the file under another name and link it into place when it is whole: a process that dies
        meanwhile leaves no half file behind, and of two processes one wins."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        try:
            with duckdb.connect(str(unfinished)) as db:
                db.execute(_OPS)
            with unfinished.open("rb") as handle:
                os.fsync(handle.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(unfinished, self.path)
        except (OSError, duckdb.Error) as error:
            raise LandingError(f"{self.path}: cannot be created: {error}") from None
        finally:
            unfinished.unlink(missing_ok=True)
            unfinished.with_name(unfinished.name + ".wal").unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what processes left that were killed in `_create`. What is young may still be made by one."""
        limit = datetime.now(UTC).timestamp() - KEEP_UNREFERENCED_SECONDS
        for file in self.path.parent.glob(f".{glob.escape(self.path.name)}.*"):
            with contextlib.suppress(FileNotFoundError):  # another process sweeps the same folder
                if (
                    _UNFINISHED.fullmatch(file.name.removeprefix(f".{self.path.name}."))
                    and file.stat().st_mtime < limit
                ):
                    file.unlink()

    @contextlib.contextmanager
    def beside(self, name: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """A database in memory beside which the tables are attached for reading, as `name`.

        Raises FinalError when there is no warehouse yet.
        """
        if not self.path.exists():
            raise FinalError(f"{self.path}: there is no warehouse yet; materialise an asset first")

        def attached() -> duckdb.DuckDBPyConnection:
            db = duckdb.connect(":memory:", config=self._config)
            try:
                db.execute(f"ATTACH {literal(str(self.path))} AS {identifier(name)} (READ_ONLY)")
            except duckdb.Error:
                db.close()
                raise
            return db

        db, _ = self._when_free(attached)
        with contextlib.closing(db):
            yield db

    def _open(self, *, read_only: bool) -> tuple[duckdb.DuckDBPyConnection, float]:
        return self._when_free(lambda: duckdb.connect(str(self.path), read_only=read_only, config=self._config))

    @property
    def _config(self) -> dict[str, str | bool | int | float | list[str]]:
        return {
            "threads": 2,
            "memory_limit": f"{self.memory_mb}MB",
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
        }

    def _when_free(self, open_file: Callable[[], duckdb.DuckDBPyConnection]) -> tuple[duckdb.DuckDBPyConnection, float]:
        """What `open_file` opens, and the seconds waited until nobody else held the file."""
        started = time.monotonic()
        while True:
            try:
                db = open_file()
                db.execute("SET TimeZone = 'UTC'")
                return db, time.monotonic() - started
            except duckdb.IOException as error:
                if "lock" not in str(error).lower():
                    raise RetryableError(f"{self.path}: cannot be opened: {error}") from None
                if time.monotonic() - started > self.lock_seconds:
                    raise LockedError(
                        f"{self.path}: still locked by {_holder(str(error))} after {self.lock_seconds:.0f} s; "
                        "close it, or raise DUCKDB_LOCK_TIMEOUT_SECONDS"
                    ) from None
                time.sleep(random.uniform(0.02, 0.2))


class _Table:
    """The table of a stream inside an open transaction."""

    def __init__(self, db: duckdb.DuckDBPyConnection, source: Source, stream: Stream) -> None:
        self._db = db
        self._source = source
        self._stream = stream
        self._owner = stream.key
        if owner := source.owner(stream):
            parent, stamp = owner
            self._owner = [column for column, taken in stamp.items() if taken in parent.key]
        self._schema, self._table = source.source, stream.name
        self.name = f"{identifier(self._schema)}.{identifier(self._table)}"
        self._marks = bool(stream.deletes or stream.sweep)
        columns = dict(stream.table_columns())
        if stream.window is None:
            self._columns = {**columns, **{n: k for n, k in _SYSTEM_COLUMNS.items() if n != "_partition"}}
        else:
            self._columns = {**columns, **_SYSTEM_COLUMNS}
        if self._marks:
            self._columns["_deleted_at"] = "TIMESTAMP WITH TIME ZONE"

    def prepare(self) -> None:
        """Create the table, or add what the stream file has come to declare since."""
        self._db.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(self._schema)}")
        columns = ", ".join(f"{identifier(name)} {kind}" for name, kind in self._columns.items())
        self._db.execute(f"CREATE TABLE IF NOT EXISTS {self.name} ({columns})")
        present = {name: kind for name, kind, *_ in self._db.execute(f"DESCRIBE {self.name}").fetchall()}
        for name, kind in self._columns.items():
            before = present.get(name)
            if before is None:
                self._db.execute(f"ALTER TABLE {self.name} ADD COLUMN {identifier(name)} {kind}")
            elif before != kind:
                if not _widens(before, kind):
                    raise TableError(
                        f"{self._schema}.{self._table}.{name} is {before} and cannot become {kind} without losing "
                        "values; give the column another name in the stream file, or drop it from the table first"
                    )
                self._db.execute(f"ALTER TABLE {self.name} ALTER COLUMN {identifier(name)} TYPE {kind}")
        self._describe()

    def compare(self, rows: str, manifest: Manifest, day: date | None) -> Difference:
        """How the table differs from the rows of a clean set of the day; reads only."""
        if not self._present():
            return Difference(manifest.rows, 0, 0)
        own = self._own(day)
        same = " AND ".join(f"there.{identifier(name)} = here.{identifier(name)}" for name in self._stream.key)
        there, here = (row_hash(self._stream, alias) for alias in ("there", "here"))
        newer = "false"
        if self._stream.mode == "merge":
            version = identifier(str(self._stream.version_column))
            newer = f"coalesce(there.{version} > here.{version}, false)"
        absent = "there._run_id IS NULL"
        if self._marks:  # what the API has is not deleted
            absent += f" OR (there._deleted_at IS NOT NULL AND NOT {newer})"
        missing, changed = _one(
            self._db,
            f"""SELECT count(*) FILTER ({absent}),
                       count(*) FILTER (NOT ({absent}) AND {there} <> {here} AND NOT {newer})
                FROM {rows} AS here LEFT JOIN {self.name} AS there ON {same}""",
        )
        (surplus,) = _one(
            self._db, f"SELECT count(*) FROM (FROM {self.name} WHERE {own}) AS there ANTI JOIN {rows} AS here ON {same}"
        )
        return Difference(missing, changed, surplus)

    def _own(self, day: date | None) -> str:
        """The rows that a load of the day decides on. Those marked as deleted are kept as they are."""
        own = "true" if day is None else f"_partition = DATE {literal(day.isoformat())}"
        return f"{own} AND _deleted_at IS NULL" if self._marks else own

    def _present(self, table: str | None = None) -> dict[str, str]:
        """The columns of a table of this source and their types; none when there is no such table."""
        return dict(
            self._db.execute(
                """SELECT column_name, data_type FROM duckdb_columns()
                   WHERE database_name = current_database() AND schema_name = ? AND table_name = ?""",
                [self._schema, table or self._table],
            ).fetchall()
        )

    def mark_deleted(self) -> None:
        """Mark the rows whose deletion another stream has told, with the time that it tells."""
        deletes = self._stream.deletes
        if deletes is None or not self._present(deletes.stream):
            return
        there = f"{identifier(self._schema)}.{identifier(deletes.stream)}"
        same = " AND ".join(
            f"{self.name}.{identifier(own)} = told.{identifier(other)}" for own, other in deletes.key.items()
        )
        keys = ", ".join(map(identifier, deletes.key.values()))
        self._db.execute(
            f"""UPDATE {self.name} SET _deleted_at = told.at
                FROM (SELECT {keys}, min({identifier(deletes.at)}) AS at FROM {there} GROUP BY ALL) AS told
                WHERE {same} AND _deleted_at IS DISTINCT FROM told.at"""
        )

    def learn_of_deletions(self, told_by: str, manifest: Manifest, *, accepted: bool) -> None:
        """Mark what the load of the stream `told_by` says is deleted, if this table exists and listens to it.

        Raises FinalError when a sweep lacks too much to be believed, unless that is `accepted`.
        """
        deletes = self._stream.deletes
        if not self._marks or not self._present():
            return
        if deletes and deletes.stream == told_by:
            self.mark_deleted()
        if self._stream.sweep == told_by:
            absent = self._absent(manifest.details["raw"]["started_at"])
            if not accepted:
                sql = f"SELECT count(*), count(*) FILTER ({absent}) FROM {self.name} WHERE _deleted_at IS NULL"
                live, lacking = _one(self._db, sql)
                refuse_sweep(self._source, self._stream, listed=manifest.rows, live=live, absent=lacking)
            self._mark(absent, manifest.details["raw"]["started_at"])

    def mark_swept(self, manifest: Manifest, day: date | None) -> None:
        """Mark the rows of a day that was read before the last sweep began, and which that one did not find."""
        if not self._stream.sweep or day is None or not self._present(self._stream.sweep):
            return
        (swept,) = _one(
            self._db,
            "SELECT CAST(max_by(read_at, loaded_at) AS VARCHAR) FROM ops.loads WHERE source = ? AND stream = ?",
            [self._schema, self._stream.sweep],
        )
        if swept and datetime.fromisoformat(manifest.details["raw"]["started_at"]) < datetime.fromisoformat(swept):
            self._mark(f"_partition = DATE {literal(day.isoformat())} AND {self._absent(swept)}", swept)

    def _absent(self, began: str) -> str:
        """The rows whose key the sweep that began then did not find, unless they changed after that."""
        there = f"{identifier(self._schema)}.{identifier(str(self._stream.sweep))}"
        same = " AND ".join(f"found.{identifier(name)} = {self.name}.{identifier(name)}" for name in self._stream.key)
        version = identifier(str(self._stream.version_column))
        return (
            f"({version} < TIMESTAMPTZ {literal(began)} AND NOT EXISTS (SELECT 1 FROM {there} AS found WHERE {same}))"
        )

    def _mark(self, where: str, at: str) -> None:
        self._db.execute(
            f"UPDATE {self.name} SET _deleted_at = TIMESTAMPTZ {literal(at)} WHERE _deleted_at IS NULL AND {where}"
        )

    def take(self, rows: Path, owners: Path, manifest: Manifest, day: date | None, run_id: str) -> bool:
        """Bring the rows of the file into the table; False when they are all there already and nothing else.

        `owners` holds the versions that decide in a merge: of the rows themselves, or of a child's parents.
        """
        file = f"read_parquet({literal(str(rows))})"
        own = self._own(day)
        match self._stream.mode:
            case "replace" | "snapshot":
                if self._holds(own, manifest.details["content_hash"]):
                    return False
                self._db.execute(f"DELETE FROM {self.name} WHERE {own}")
                self._insert(file, day, run_id)
            case "merge":
                return not self._holds(own, manifest.details["content_hash"]) and self._merge(
                    file, f"read_parquet({literal(str(owners))})", own, manifest, day, run_id
                )
        return True

    def _holds(self, own: str, content: str) -> bool:
        return bool(content_hash(self._db, self._stream, f"(FROM {self.name} WHERE {own})") == content)

    def _merge(self, file: str, owners: str, own: str, manifest: Manifest, day: date | None, run_id: str) -> bool:
        """A partition owns the rows whose newest version it brought; of equal versions the later day's counts.

        Rows of this partition that the API no longer has there go, or are marked where the table keeps deleted rows;
        rows that another partition holds in a newer version stay as they are, and so do those that were marked after
        the set was read, unless it has a newer version. Child rows come and go together, with the version of their
        parent: a line that is no longer in an order disappears, also when it was the last one.
        """
        assert day is not None  # a merge needs a window
        read_at = f"TIMESTAMPTZ {literal(manifest.details['raw']['started_at'])}"
        key = [identifier(name) for name in self._owner]
        same = " AND ".join(f"there.{name} = here.{name}" for name in key)
        version = identifier(str(self._stream.version_column))

        def newer(marked: str) -> str:
            later = f"(there._partition > DATE {literal(day.isoformat())} OR coalesce({marked} > {read_at}, false))"
            return f"""coalesce(there.{version} > here.{version} OR there.{version} = here.{version} AND {later},
                                there.{version} IS NOT NULL OR here.{version} IS NULL AND {later})"""

        elsewhere = self._elsewhere(own, day)
        fresh = f"(FROM {file} AS here ANTI JOIN ({elsewhere}) AS there ON {same} AND {newer('there._deleted_at')})"
        if self._holds(own, content_hash(self._db, self._stream, fresh)):
            return False
        held = newer("there._deleted_at" if self._marks else "NULL")
        if self._marks:
            self._db.execute(
                f"""UPDATE {self.name} AS there SET _deleted_at = {read_at}
                    WHERE {own} AND NOT EXISTS (SELECT 1 FROM {owners} AS here WHERE {same})"""
            )
        self._db.execute(
            f"""DELETE FROM {self.name} AS there WHERE ({own}) OR EXISTS (
                    SELECT 1 FROM {owners} AS here WHERE {same} AND NOT {held})"""
        )
        self._insert(fresh, day, run_id)
        return True

    def _elsewhere(self, own: str, day: date) -> str:
        """The versions in other partitions and of marked rows: those of parents, too, which may have no child rows."""
        names = [*self._owner, str(self._stream.version_column)]
        columns = ", ".join(map(identifier, names))
        marked = "_deleted_at" if self._marks else "CAST(NULL AS TIMESTAMPTZ) AS _deleted_at"
        held = f"SELECT {columns}, _partition, {marked} FROM {self.name} WHERE NOT ({own})"
        of = self._stream.of
        if of is None or not of.stamp.keys() >= set(names) or not (present := self._present(of.stream)):
            return held
        taken = ", ".join(identifier(of.stamp[name]) for name in names)
        parent = f"{identifier(self._schema)}.{identifier(of.stream)}"
        other, marked = f"_partition <> DATE {literal(day.isoformat())}", "NULL"
        if "_deleted_at" in present:
            other, marked = f"({other} OR _deleted_at IS NOT NULL)", "_deleted_at"
        return f"{held} UNION ALL SELECT {taken}, _partition, {marked} FROM {parent} WHERE {other}"

    def _insert(self, rows: str, day: date | None, run_id: str) -> None:
        partition = [] if day is None else [f"DATE {literal(day.isoformat())} AS _partition"]
        system = ", ".join([*partition, "now() AS _loaded_at", f"{literal(run_id)} AS _run_id"])
        self._db.execute(f"INSERT INTO {self.name} BY NAME SELECT * EXCLUDE (_page), {system} FROM {rows}")

    def _describe(self) -> None:
        if self._stream.description:
            self._db.execute(f"COMMENT ON TABLE {self.name} IS {literal(self._stream.description)}")
        for name, text in self._stream.descriptions().items():
            self._db.execute(f"COMMENT ON COLUMN {self.name}.{identifier(name)} IS {literal(text)}")


def _widens(before: str, after: str) -> bool:
    decimal = re.compile(r"DECIMAL\((\d+),(\d+)\)")
    if (old := decimal.fullmatch(before)) and (new := decimal.fullmatch(after)):
        digits = [int(m[1]) - int(m[2]) for m in (old, new)]
        return digits[1] >= digits[0] and int(new[2]) >= int(old[2])
    if before.startswith("DECIMAL"):
        return after == "VARCHAR"
    return after.split("(")[0] in _WIDER.get(before, ())


def _usual_rows(db: duckdb.DuckDBPyConnection, source: Source, stream: Stream, day: date | None) -> float | None:
    same = "true" if day is None else "partition <> ?::DATE AND dayofweek(partition) = dayofweek(?::DATE)"
    if day and day >= datetime.now(ZoneInfo(source.timezone)).date():
        return None  # the day is not over
    usual: float | None
    (usual,) = db.execute(
        f"""WITH latest AS (
                SELECT max_by(rows_loaded, loaded_at) AS rows, max(loaded_at) AS loaded FROM ops.loads
                WHERE source = ? AND stream = ? AND {same}
                GROUP BY {"loaded_at" if day is None else "partition"} ORDER BY loaded DESC LIMIT {_HISTORY})
            SELECT CASE WHEN count(*) >= {_HISTORY_AT_LEAST} THEN median(rows) END FROM latest""",
        [source.source, stream.name, *([] if day is None else [day, day])],
    ).fetchall()[0]
    return usual


def _record(
    db: duckdb.DuckDBPyConnection,
    source: Source,
    stream: Stream,
    day: date | None,
    manifest: Manifest,
    uri: str,
    quarantine: Path | None,
    run_id: str,
) -> None:
    """The load's entry in `ops.loads`, and the partition's rows in `ops.quarantine`."""
    who = [source.source, stream.name, day]
    start, end = manifest.window or (None, None)
    counts = [manifest.details[name] for name in ("rows_quarantined", "rows_duplicate", "content_hash")]
    values = [*who, start, end, manifest.details["rows_raw"], manifest.rows, *counts, uri, run_id]
    db.execute(
        f"INSERT INTO ops.loads VALUES ({', '.join('?' * 15)})",
        [*values, manifest.code_version, datetime.now(UTC), manifest.details["raw"]["started_at"]],
    )
    db.execute("DELETE FROM ops.quarantine WHERE source = ? AND stream = ? AND partition IS NOT DISTINCT FROM ?", who)
    if quarantine:
        db.execute(
            f"""INSERT INTO ops.quarantine
                SELECT ?, ?, ?, record_key, reason, record, ?, now() FROM read_parquet({literal(str(quarantine))})""",
            [*who, run_id],
        )


@contextlib.contextmanager
def _transaction(db: duckdb.DuckDBPyConnection) -> Iterator[None]:
    db.execute("BEGIN")
    try:
        yield
        db.execute("COMMIT")
    except duckdb.Error as error:
        with contextlib.suppress(duckdb.Error):  # a failed COMMIT has already rolled back
            db.execute("ROLLBACK")
        passing = isinstance(error, duckdb.IOException | duckdb.TransactionException | duckdb.OutOfMemoryException)
        raise (RetryableError if passing else FinalError)(f"the load was rolled back: {error}") from None


def _holder(message: str) -> str:
    """The process that holds the lock, out of DuckDB's message and the process table."""
    found = re.search(r"PID (\d+)", message)
    if not found:
        return "another process"
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{found[1]}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        return f"process {found[1]} ({command.strip()[:120]})"
    return f"process {found[1]}"


def _one(db: duckdb.DuckDBPyConnection, sql: str, values: list[Any] | None = None) -> tuple[Any, ...]:
    row = db.execute(sql, values).fetchone()
    assert row is not None
    return row
