"""Tables in one DuckDB file: a load is one short transaction.

DuckDB lets one process write, and then nobody else even read. So the file is opened for the moment of a load
only, and whoever finds it locked waits for it. A load that would change nothing leaves the table's rows
alone, so that repeating a day does not touch them.
"""

import contextlib
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from etl_assets.clean import content_hash, row_hash
from etl_assets.errors import FinalError, LandingError, LockedError, RetryableError, TableError
from etl_assets.landing import Folder, Manifest
from etl_assets.locks import held, process
from etl_assets.mart import SCHEMA, Mart
from etl_assets.spec import Source, Stream
from etl_assets.sqltext import identifier, literal
from etl_assets.warehouse import sql
from etl_assets.warehouse.deletions import refuse_sweep
from etl_assets.warehouse.protocol import Built, Difference, Loaded, Selected

PARTITION = "_partition"
_BATCH_ROWS = 10_000
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


class DuckDbDialect:
    """The SQL of DuckDB."""

    def name(self, name: str) -> str:
        """A quoted name."""
        return identifier(name)

    def table(self, schema: str, table: str) -> str:
        """A quoted table."""
        return f"{identifier(schema)}.{identifier(table)}"

    def literal(self, value: str | int | date | datetime | None) -> str:
        """A value as a literal of its type."""
        match value:
            case None:
                return "NULL"
            case int():
                return str(value)
            case datetime():
                return f"TIMESTAMPTZ {literal(value.isoformat())}"
            case date():
                return f"DATE {literal(value.isoformat())}"
        return literal(value)

    def never(self, name: str) -> str:
        """No instant."""
        return f"CAST(NULL AS TIMESTAMPTZ) AS {identifier(name)}"

    def text(self, value: str, kind: str) -> str:
        """The value as text."""
        match kind:
            case "MD5":
                return value
            case "DOUBLE":
                return f"printf('%.17g', {value})"
            case "TIMESTAMP" | "TIMESTAMP WITH TIME ZONE":
                return f"CAST(epoch_us({value}) AS VARCHAR)"
        return f"CAST({value} AS VARCHAR)"


DIALECT = DuckDbDialect()
_TABLES = {"loads": sql.LOADS, "quarantine": sql.QUARANTINE}
_OPS = "CREATE SCHEMA IF NOT EXISTS ops;" + "".join(
    f"CREATE TABLE IF NOT EXISTS ops.{table} ({', '.join(f'{identifier(n)} {kind}' for n, kind in columns.items())});"
    for table, columns in _TABLES.items()
)
_OPS += "ALTER TABLE ops.loads ADD COLUMN IF NOT EXISTS read_at TIMESTAMPTZ;"  # of warehouses made before there was one


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

        Raises what `Warehouse.load` raises, and LockedError when the file stays locked.
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

    def select(self, query: str) -> Selected:
        """The rows of a SELECT. The file stays open for reading until they are all read."""
        with contextlib.ExitStack() as opening:
            db = opening.enter_context(self.reader())
            with self._answered():
                result = db.execute(query)
            held = opening.pop_all()

        def rows() -> Iterator[tuple[Any, ...]]:
            with held, self._answered():
                while batch := result.fetchmany(_BATCH_ROWS):
                    yield from batch

        return Selected([column[0] for column in result.description or ()], rows())

    def spool(self, selects: Mapping[str, str], file: Path) -> None:
        """Copy what each SELECT gives; all of it is as of one moment."""
        with self.reader() as db, self._answered():
            try:
                db.execute(f"ATTACH {literal(str(file))} AS spool (READ_WRITE)")
                db.execute("BEGIN")
                for name, select in selects.items():
                    db.execute(f"CREATE TABLE spool.{identifier(name)} AS {select}")
                db.execute("COMMIT")
                db.execute("DETACH spool")
            except duckdb.IOException as error:
                raise LandingError(f"{file}: cannot be written: {error}") from None

    @contextlib.contextmanager
    def _answered(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            raise FinalError(f"{self.path}: the SELECT cannot be answered: {error}") from None

    @contextlib.contextmanager
    def writer(self) -> Iterator[tuple[duckdb.DuckDBPyConnection, float]]:
        """A connection that may write, and the seconds waited for it. Creates the file if there is none."""
        started = time.monotonic()

        def opened() -> duckdb.DuckDBPyConnection:
            if not self._file.exists():
                self._create()
            return self._connect(read_only=False)

        with self._held(opened, shared=False) as db:
            yield db, time.monotonic() - started

    @contextlib.contextmanager
    def reader(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection for reading. Raises FinalError when there is no warehouse yet."""
        with self._held(lambda: self._connect(read_only=True), shared=True) as db:
            yield db

    @contextlib.contextmanager
    def beside(self, name: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """A database in memory beside which the tables are attached for reading, as `name`.

        Raises FinalError when there is no warehouse yet.
        """

        def attached() -> duckdb.DuckDBPyConnection:
            db = duckdb.connect(":memory:", config=self._config)
            try:
                db.execute(f"ATTACH {literal(str(self._file))} AS {identifier(name)} (READ_ONLY)")
            except duckdb.Error:
                db.close()
                raise
            return db

        with self._held(attached, shared=True) as db:
            yield db

    @property
    def _file(self) -> Path:
        """The file itself, whatever link `path` is."""
        return self.path.resolve()

    def _create(self) -> None:
        """Make the file under another name, and rename it when it is whole: a kill leaves no half warehouse."""
        unfinished = self._file.with_name(f".{self._file.name}.unfinished")
        try:
            for left in (unfinished, unfinished.with_name(f"{unfinished.name}.wal")):
                left.unlink(missing_ok=True)
            with duckdb.connect(str(unfinished)) as db:
                db.execute(_OPS)
            with unfinished.open("rb") as handle:
                os.fsync(handle.fileno())
            unfinished.rename(self._file)
        except (OSError, duckdb.Error) as error:
            raise LandingError(f"{self.path}: cannot be created: {error}") from None

    def _connect(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        return duckdb.connect(str(self._file), read_only=read_only, config=self._config)

    @property
    def _config(self) -> dict[str, str | bool | int | float | list[str]]:
        return {
            "threads": 2,
            "memory_limit": f"{self.memory_mb}MB",
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
        }

    @contextlib.contextmanager
    def _held(
        self, open_file: Callable[[], duckdb.DuckDBPyConnection], *, shared: bool
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """What `open_file` opens, once nobody writes, or for a writer nobody reads; closed at the end.

        DuckDB's own lock keeps other programs out, and is not enough: DuckDB reads the file's header before it takes
        the lock and never again, so that what another process commits in between would be lost or be read as garbage;
        and the kernel drops it as soon as this process closes the file anywhere else. So ours is held all the time.
        """
        if shared and not self._file.exists():
            raise FinalError(f"{self.path}: there is no warehouse yet; materialise an asset first")
        until = time.monotonic() + self.lock_seconds
        lock = self._file.with_name(f".{self._file.name}.lock")
        while True:
            with held(lock, until, self._still_locked, shared=shared):
                db, holder = self._tried(open_file)
                if db is not None:
                    with contextlib.closing(db):
                        yield db
                    return
            if time.monotonic() > until:  # whoever reads may do so while a writer waits for another program
                raise LockedError(self._still_locked(holder))
            time.sleep(random.uniform(0.02, 0.2))

    def _tried(
        self, open_file: Callable[[], duckdb.DuckDBPyConnection]
    ) -> tuple[duckdb.DuckDBPyConnection | None, str]:
        """What `open_file` opens, or who keeps it from that: another program that uses DuckDB, or this one."""
        before = _state(self._file)
        try:
            db = open_file()
        except (duckdb.ConnectionException, duckdb.ResourceInUseException):  # with other settings than are needed
            return None, process(os.getpid())
        except duckdb.IOException as error:
            if "lock" not in str(error).lower():
                raise RetryableError(f"{self.path}: cannot be opened: {error}") from None
            return None, _holder(str(error))
        if before not in (None, _state(self._file)):
            db.close()  # it may have seen the header from before
            return None, "another program"
        db.execute("SET TimeZone = 'UTC'")
        return db, ""

    def _still_locked(self, holder: str) -> str:
        return (
            f"{self.path}: still locked by {holder} after {self.lock_seconds:.0f} s; "
            "close it, or raise DUCKDB_LOCK_TIMEOUT_SECONDS"
        )


class _Table:
    """The table of a stream inside an open transaction."""

    def __init__(self, db: duckdb.DuckDBPyConnection, source: Source, stream: Stream) -> None:
        self._db = db
        self._source = source
        self._stream = stream
        self._owner = sql.owner(source, stream)
        self._schema, self._table = source.source, stream.name
        self.name = DIALECT.table(self._schema, self._table)
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
        present = self._present()
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
        outdone = "false"
        if self._stream.mode == "merge":
            version = identifier(str(self._stream.version_column))
            outdone = f"coalesce(there.{version} > here.{version}, false)"
        there, here = (row_hash(self._stream, alias) for alias in ("there", "here"))
        lacking, surplus = sql.differences(
            DIALECT,
            self._stream,
            self.name,
            rows,
            mine=self._own(day),
            outdone=outdone,
            unequal=f"{there} <> {here}",
            marks=self._marks,
        )
        return Difference(*_one(self._db, lacking), *_one(self._db, surplus))

    def _own(self, day: date | None) -> str:
        return sql.own(DIALECT, PARTITION, day, marks=self._marks)

    def _present(self, table: str | None = None) -> dict[str, str]:
        """The columns of a table of this source and their types; none when there is no such table."""
        name = (self._schema, table or self._table)
        # Not from duckdb_columns(), which first makes all views of the catalog: longer work than a small load.
        found = self._db.execute(
            """SELECT 1 FROM duckdb_tables()
               WHERE database_name = current_database() AND (schema_name, table_name) = (?, ?)""",
            name,
        )
        if not found.fetchone():
            return {}
        return {column: kind for column, kind, *_ in self._db.execute(f"DESCRIBE {DIALECT.table(*name)}").fetchall()}

    def mark_deleted(self) -> None:
        """Mark the rows whose deletion another stream has told, with the time that it tells."""
        deletes = self._stream.deletes
        if deletes is None or not self._present(deletes.stream):
            return
        there = DIALECT.table(self._schema, deletes.stream)
        self._db.execute(sql.mark_deleted(DIALECT, self.name, there, deletes))

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
            sweep = sql.Sweep(DIALECT.table(self._schema, told_by), manifest.as_of)
            if not accepted:
                live, absent = _one(self._db, sql.count_absent(DIALECT, self.name, self._stream, sweep))
                refuse_sweep(self._source, self._stream, listed=manifest.rows, live=live, absent=absent)
            self._db.execute(sql.mark_absent(DIALECT, self.name, self._stream, sweep))

    def mark_swept(self, manifest: Manifest, day: date | None) -> None:
        """Mark the rows of a day that was read before the last sweep began, and which that one did not find."""
        if not self._stream.sweep or day is None or not self._present(self._stream.sweep):
            return
        swept = self._db.execute(sql.last_read(DIALECT, self._schema, self._stream.sweep)).fetchone()
        if swept and manifest.as_of < swept[0]:
            sweep = sql.Sweep(DIALECT.table(self._schema, self._stream.sweep), swept[0])
            self._db.execute(sql.mark_absent(DIALECT, self.name, self._stream, sweep, self._own(day)))

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
        m = sql.Merge(self._stream, self._owner, PARTITION, day, manifest.as_of)
        elsewhere = sql.elsewhere(DIALECT, m, sql.Versions(self.name, self._marks), own, self._parents())
        outdone = sql.newer(DIALECT, m, marks=True)
        fresh = f"({sql.fresh(DIALECT, file, elsewhere, self._owner, outdone)})"
        if self._holds(own, content_hash(self._db, self._stream, fresh)):
            return False
        same = sql.same(DIALECT, self._owner, "there", "here")
        if self._marks:
            self._db.execute(
                f"""UPDATE {self.name} AS there SET _deleted_at = {DIALECT.literal(m.read_at)}
                    WHERE {own} AND NOT EXISTS (SELECT 1 FROM {owners} AS here WHERE {same})"""
            )
        held = sql.newer(DIALECT, m, marks=self._marks)
        self._db.execute(
            f"""DELETE FROM {self.name} AS there WHERE {own} OR EXISTS (
                    SELECT 1 FROM {owners} AS here WHERE {same} AND NOT {held})"""
        )
        self._insert(fresh, day, run_id)
        return True

    def _parents(self) -> sql.Versions | None:
        of = self._stream.of
        present = self._present(of.stream) if of else {}
        if of is None or not present:
            return None
        return sql.Versions(DIALECT.table(self._schema, of.stream), "_deleted_at" in present)

    def _insert(self, rows: str, day: date | None, run_id: str) -> None:
        partition = [] if day is None else [f"{DIALECT.literal(day)} AS {PARTITION}"]
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
    if day and day >= datetime.now(ZoneInfo(source.timezone)).date():
        return None  # the day is not over
    return sql.usual([rows for (rows,) in db.execute(sql.earlier_rows(DIALECT, source, stream, day)).fetchall()])


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
    values = sql.load_values(source, stream, day, manifest, uri=uri, run_id=run_id)
    db.execute(sql.insert_load(DIALECT, values))
    db.execute(sql.delete_quarantine(DIALECT, source, stream, day))
    if quarantine:
        db.execute(sql.insert_quarantine(DIALECT, f"read_parquet({literal(str(quarantine))})", values))


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


def _state(file: Path) -> tuple[int, int] | None:
    """Size and time of the last change; None where there is no file."""
    with contextlib.suppress(FileNotFoundError):
        found = file.stat()
        return found.st_size, found.st_mtime_ns
    return None


def _holder(message: str) -> str:
    """The process that holds the file, out of DuckDB's message."""
    found = re.search(r"PID (\d+)", message)
    return process(found[1]) if found else "another process"


def _one(db: duckdb.DuckDBPyConnection, sql: str, values: list[Any] | None = None) -> tuple[Any, ...]:
    row = db.execute(sql, values).fetchone()
    assert row is not None
    return row
