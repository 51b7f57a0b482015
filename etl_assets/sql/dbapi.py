"""DB-API 2.0 (PEP 249) over the sources: `connect`, connections and cursors. Everything is read only."""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from types import TracebackType
from typing import Any

import pyarrow as pa

from etl_assets.settings import environment
from etl_assets.sql import errors, properties
from etl_assets.sql.engine import Engine, Running
from etl_assets.sql.errors import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Warning,  # noqa: A004 - the name that PEP 249 gives
)
from etl_assets.sql.explain import Plan
from etl_assets.sql.statement import Progress

__all__ = [
    "BINARY", "DATETIME", "NUMBER", "ROWID", "STRING", "Binary", "Connection", "Cursor", "DataError", "DatabaseError",
    "Date", "DateFromTicks", "Error", "IntegrityError", "InterfaceError", "InternalError", "NotSupportedError",
    "OperationalError", "ProgrammingError", "Time", "TimeFromTicks", "Timestamp", "TimestampFromTicks", "Warning",
    "apilevel", "connect", "paramstyle", "threadsafety",
]  # fmt: skip

apilevel = "2.0"
threadsafety = 1
paramstyle = "qmark"

Date, Time, Timestamp, Binary = date, time, datetime, bytes
DateFromTicks = date.fromtimestamp
TimestampFromTicks = datetime.fromtimestamp

_ARROW_ROWS = 10_000
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(?!ANALYZE\b|\()", re.IGNORECASE)


def TimeFromTicks(ticks: float) -> time:
    """The local time of day at epoch seconds."""
    return datetime.fromtimestamp(ticks).time()  # noqa: DTZ006 - as PEP 249 has it


class TypeObject:
    """A kind of column: equal to the type codes of `description` that belong to it."""

    def __init__(self, *names: str) -> None:
        self._names = frozenset(names)

    def __eq__(self, other: object) -> bool:
        return str(other).partition("(")[0] in self._names if isinstance(other, str) else self is other

    def __hash__(self) -> int:
        return hash(self._names)


STRING = TypeObject("VARCHAR", "JSON", "UUID", "ENUM")
BINARY = TypeObject("BLOB")
NUMBER = TypeObject(
    "BIGINT", "INTEGER", "SMALLINT", "TINYINT", "UBIGINT", "UINTEGER", "USMALLINT", "UTINYINT", "HUGEINT", "DOUBLE",
    "FLOAT", "DECIMAL", "BOOLEAN",
)  # fmt: skip
DATETIME = TypeObject("DATE", "TIME", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "INTERVAL")
ROWID = TypeObject()


def connect(dsn: str = "", *, source: str | None = None, **given: Any) -> "Connection":
    """A connection to the sources.

    `dsn` is `ApiKey=…;Url=https://yourspace.backlog.com;`; the same names are taken as keywords, with underscores if
    wanted; what is in neither comes from the environment. `source` names the source whose tables need no prefix.
    Raises InterfaceError for a property that is unknown or wrong. No request is made.
    """
    read = properties.read(dsn, given, environment(), source)
    return Connection(Engine(read.sources, read.settings, read.env, read.options))


class Connection:
    """A connection. Its cursors may be read side by side, by one thread at a time."""

    Warning = errors.Warning
    Error = errors.Error
    InterfaceError = errors.InterfaceError
    DatabaseError = errors.DatabaseError
    DataError = errors.DataError
    OperationalError = errors.OperationalError
    IntegrityError = errors.IntegrityError
    InternalError = errors.InternalError
    ProgrammingError = errors.ProgrammingError
    NotSupportedError = errors.NotSupportedError

    def __init__(self, engine: Engine) -> None:
        self._engine: Engine | None = engine
        self._cursors: list[Cursor] = []

    @property
    def engine(self) -> Engine:
        """The engine. Raises InterfaceError when the connection is closed."""
        if self._engine is None:
            raise InterfaceError("the connection is closed")
        return self._engine

    def cursor(self) -> "Cursor":
        """A cursor."""
        made = Cursor(self, self.engine)
        self._cursors = [one for one in self._cursors if not one.closed]
        self._cursors.append(made)
        return made

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> "Cursor":
        """A cursor with a statement running."""
        return self.cursor().execute(sql, parameters)

    def interrupt(self) -> None:
        """Cancel what runs in the cursors of this connection; may be called from another thread."""
        for cursor in self._cursors:
            cursor.cancel()

    def commit(self) -> None:
        """Nothing: there is nothing to commit."""
        self.engine  # noqa: B018 - a closed connection is an error

    def rollback(self) -> None:
        """Nothing: there is nothing to roll back."""
        self.engine  # noqa: B018

    def close(self) -> None:
        """Close the cursors and the clients."""
        for cursor in self._cursors:
            cursor.close()
        if self._engine is not None:
            self._engine.close()
        self._engine = None

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Cursor:
    """Runs one statement at a time, and gives its rows as they come."""

    def __init__(self, connection: Connection, engine: Engine) -> None:
        self.connection = connection
        self.arraysize = 1
        self.description: list[tuple[Any, ...]] | None = None
        self.rowcount = -1
        self.messages: list[tuple[type[Exception], Any]] = []
        self.max_requests = engine.options.limits.requests
        self.max_rows = engine.options.limits.rows
        self.progress: Progress | None = None
        self.plan: Plan | None = None
        self.closed = False
        self._engine = engine
        self._running: Running | None = None
        self._arrow: Iterator[tuple[Any, ...]] | None = None
        self._told = 0

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> "Cursor":
        """Run a statement with `?` for each of the parameters. `EXPLAIN SELECT …` gives the plan as rows."""
        if _EXPLAIN.match(sql):
            self._show(self.explain(_EXPLAIN.sub("", sql, count=1), parameters))
            return self
        self._start(sql, parameters, dry=False)
        assert self._running is not None
        self.description = [(name, kind, None, None, None, None, None) for name, kind in self._running.columns()]
        return self

    def executemany(self, sql: str, parameters: Sequence[Sequence[Any]]) -> None:
        """Refused by PEP 249 for statements that give rows, as all do here."""
        raise NotSupportedError("executemany is for statements that give no rows, and all that is permitted does")

    def explain(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Plan:
        """What the statement would ask, without any request."""
        self._start(sql, parameters, dry=True)
        assert self._running is not None
        running = self._running
        running.rows(lambda db: db.fetchall())
        self.plan = Plan.of(running.statement, self._engine.options.zone)
        running.close()
        self._running = None
        return self.plan

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row, None behind the last."""
        self._refuse_closed()
        if self._arrow is not None:
            return next(self._arrow, None)
        row: tuple[Any, ...] | None = self._reading(lambda db: db.fetchone())
        if row is None:
            self._ended()
        return row

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """The next rows, none behind the last."""
        self._refuse_closed()
        wanted = self.arraysize if size is None else size
        if self._arrow is not None:
            return [row for _, row in zip(range(wanted), self._arrow, strict=False)]
        rows: list[tuple[Any, ...]] = self._reading(lambda db: db.fetchmany(wanted))
        if not rows and wanted:
            self._ended()
        return rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows still to come."""
        self._refuse_closed()
        if self._arrow is not None:
            return list(self._arrow)
        rows: list[tuple[Any, ...]] = self._reading(lambda db: db.fetchall())
        self._ended()
        return rows

    def fetch_record_batch(self, rows: int = _ARROW_ROWS) -> pa.RecordBatchReader:
        """All rows still to come, as Arrow batches of about that many rows."""
        self._refuse_closed()
        if self._running is None:
            raise ProgrammingError("no statement was executed")
        return self._running.arrow(rows)

    def fetch_arrow_table(self) -> pa.Table:
        """All rows still to come, as an Arrow table."""
        table = self.fetch_record_batch().read_all()
        self._ended()
        return table

    def cancel(self) -> None:
        """Stop the statement at its next request; may be called from another thread."""
        if self._running is not None:
            self._running.interrupt()

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """Nothing, as PEP 249 permits."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Nothing, as PEP 249 permits."""

    def close(self) -> None:
        """Let go of the rows that were not read."""
        self._drop()
        self.closed = True

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        while (row := self.fetchone()) is not None:
            yield row

    def __enter__(self) -> "Cursor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any], *, dry: bool) -> None:
        self._refuse_closed()
        self._drop()
        self.plan, self.description, self.rowcount, self._told = None, None, -1, 0
        if isinstance(parameters, Mapping):
            raise ProgrammingError("parameters are a sequence: paramstyle is qmark")
        limits = replace(self._engine.options.limits, requests=self.max_requests, rows=self.max_rows)
        made: list[Any] = []
        try:
            self._running = self._engine.run(
                sql, list(parameters), limits=limits, progress=self.progress, dry=dry, started=made.append
            )
        finally:
            for statement in made:
                self.messages = statement.messages
                self.plan = Plan.of(statement, self._engine.options.zone)
        self._warn()

    def _refuse_closed(self) -> None:
        if self.closed:
            raise InterfaceError("the cursor is closed")

    def _show(self, plan: Plan) -> None:
        self.description = [("plan", "VARCHAR", None, None, None, None, None)]
        self._arrow = iter([(line,) for line in plan.lines()])

    def _reading(self, read: Any) -> Any:
        if self._running is None:
            if self.description is not None:
                return read(_Nothing())
            raise ProgrammingError("no statement was executed")
        try:
            return self._running.rows(read)
        finally:
            self.plan = Plan.of(self._running.statement, self._engine.options.zone)
            self._warn()

    def _warn(self) -> None:
        """Tell what was not told before."""
        told, self._told = self._told, len(self.messages)
        for _, text in self.messages[told:]:
            warnings.warn(str(text), UserWarning, stacklevel=4)

    def _ended(self) -> None:
        """All rows are read: what the statement held is free, the warehouse file among it."""
        if self._running is not None:
            self.plan = Plan.of(self._running.statement, self._engine.options.zone)
            self._running.close()
            self._running = None

    def _drop(self) -> None:
        self._ended()
        self._arrow = None


class _Nothing:
    """The rows behind the last."""

    def fetchone(self) -> None:
        """No row."""

    def fetchmany(self, size: int) -> list[Any]:
        """No rows."""
        return []

    def fetchall(self) -> list[Any]:
        """No rows."""
        return []
