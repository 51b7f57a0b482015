"""The engine: one DuckDB database in memory with a view per stream, made when it is first asked for, and the running of
statements in it.

Each statement gets a connection of its own in which the scans of its tables are registered; the views look
them up by name. Nothing outside the database can be reached from a statement.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from etl_assets.extract import Api, open_api
from etl_assets.settings import Environment, Settings, connection
from etl_assets.spec import Source
from etl_assets.sql import errors, hints, names, offline
from etl_assets.sql.database import config, lock, refuse_writing
from etl_assets.sql.dataset import ApiTable, narrowing
from etl_assets.sql.names import Spelled
from etl_assets.sql.pushdown import Wanted
from etl_assets.sql.statement import Limits, PageCache, Progress, Statement
from etl_assets.sql.tables import Catalog, Table
from etl_assets.sql.translate import translated
from etl_assets.sqltext import identifier, literal

log = logging.getLogger(__name__)

Hint = TypeVar("Hint")

_CHAIN = {"PROJECTION", "TOP_N", "PYTHON_ARROW_SCAN"}
_LIMITS = {"LIMIT", "STREAMING_LIMIT", "LIMIT_PERCENT"}


@dataclass(frozen=True)
class Options:
    """How a connection runs its statements. `home` is the source whose tables need no prefix."""

    home: str | None = None
    zone: str = "UTC"
    offline: bool = False
    dialect: str | None = None
    limits: Limits = field(default_factory=Limits)
    cache_seconds: float = 0.0
    hints: bool = True


class Running:
    """A statement that is ready: bound, and run when its first rows are read. Errors are those of DB-API."""

    def __init__(self, statement: Statement, spelled: Spelled, catalog: Catalog) -> None:
        self.statement = statement
        self.spelled = spelled
        self.closing = ExitStack()
        self._catalog = catalog
        self._values: Mapping[str, Any] = {}
        self._sql = ""
        self._db: duckdb.DuckDBPyConnection | None = None
        self._relation: Any = None
        self._executed = False

    def ready(self, db: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, Any]) -> None:
        """Bind the text."""
        self._db, self._sql, self._values = db, sql, values
        self._relation = db.sql(sql, params=dict(values) or None)

    def columns(self) -> list[tuple[str, str]]:
        """(name, DuckDB type) of the result, the names as the statement spells them."""
        if self._relation is None:
            return []
        named = zip(self._relation.columns, self._relation.types, strict=True)
        return [(names.restored(name, self.spelled.spelling), str(kind)) for name, kind in named]

    def rows(self, read: Callable[[duckdb.DuckDBPyConnection], Any]) -> Any:
        """What `read` gets of the rows still to come."""
        return self._translated(lambda: read(self._run()))

    def arrow(self, rows: int) -> pa.RecordBatchReader:
        """The rows as Arrow batches of about that many. Raises InterfaceError once rows were read otherwise."""
        if self._executed:
            raise errors.InterfaceError("rows were already read: fetch Arrow batches right after execute()")
        self._executed = True
        reader = self._translated(lambda: self._relation.to_arrow_reader(rows))
        columns = [field.with_name(name) for field, (name, _) in zip(reader.schema, self.columns(), strict=True)]
        schema = pa.schema(columns)

        def batches() -> Iterator[pa.RecordBatch]:
            while (batch := self._translated(lambda: next(reader, None))) is not None:
                yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)

        return pa.RecordBatchReader.from_batches(schema, batches())

    def interrupt(self) -> None:
        """Stop at the next request, and what the engine is doing."""
        self.statement.cancel()
        if self._db is not None:
            self._db.interrupt()

    def close(self) -> None:
        """Let go of the rows that were not read."""
        self.statement.cancel()
        self._relation = None
        self.closing.close()

    def _run(self) -> duckdb.DuckDBPyConnection:
        assert self._db is not None
        if not self._executed:
            self._executed = True
            self._db.execute(self._sql, dict(self._values) or None)
        return self._db

    def _translated(self, work: Callable[[], Any]) -> Any:
        return translated(work, self.statement, self._catalog, self.spelled.tables)


class Engine:
    """The database of one connection."""

    def __init__(self, sources: Mapping[str, Source], settings: Settings, env: Environment, options: Options) -> None:
        self.catalog = Catalog(sources.values())
        self.options = options
        self._settings = settings
        self._env = env
        self._sources = sources
        self._apis: dict[str, Api] = {}
        self._cache = PageCache(options.cache_seconds)
        self._typing = duckdb.connect(":memory:", config=config(settings))
        self._typing.execute("SET TimeZone = 'UTC'")
        self._db = duckdb.connect(":memory:", config=config(settings))
        # A plain SET would not be seen by further connections to the database.
        self._db.execute(f"SET GLOBAL TimeZone = {literal(options.zone)}")
        self._viewed: set[Table] = set()
        if not options.offline:
            self._db.execute(";".join(f"CREATE SCHEMA {identifier(source)}" for source in sources))
            lock(self._db)

    def close(self) -> None:
        """Close the database and the clients."""
        self._db.close()
        self._typing.close()
        for api in self._apis.values():
            api.client.close()
        self._apis.clear()

    def api(self, source: Source) -> Api:
        """The source's API, opened when first needed. Raises SettingError when a variable is missing."""
        if source.source not in self._apis:
            self._apis[source.source] = open_api(source, connection(source, self._env), self._settings)
        return self._apis[source.source]

    def run(
        self,
        sql: str,
        parameters: Sequence[Any],
        *,
        limits: Limits,
        progress: Progress | None = None,
        dry: bool = False,
        started: Callable[[Statement], None] = lambda _: None,
    ) -> Running:
        """Start a statement. `dry` asks nothing of the APIs and gives no rows. Raises errors of DB-API.

        `started` gets the statement before its first request, to be looked at also when it fails.
        """
        spelled = names.spelled(names.transpiled(sql, self.options.dialect), self.catalog, self.options.home)
        if spelled.parameters != len(parameters):
            raise errors.ProgrammingError(
                f"the statement has {spelled.parameters} parameters, {len(parameters)} were given"
            )
        statement = Statement(self.api, datetime.now(UTC), limits, dry=dry, progress=progress, cache=self._cache.copy())
        statement.messages += [(errors.Warning, text) for text in spelled.warnings]
        started(statement)
        running = Running(statement, spelled, self.catalog)
        try:
            translated(lambda: self._start(running, parameters), statement, self.catalog, spelled.tables)
        except BaseException:
            running.close()
            raise
        return running

    def _start(self, running: Running, parameters: Sequence[Any]) -> None:
        spelled, statement = running.spelled, running.statement
        opened = (
            offline.warehouse(self._settings, self.catalog, self.options.zone, spelled.tables)
            if self.options.offline
            else self._viewing(spelled)
        )
        db = running.closing.enter_context(opened)
        if self.options.home:
            db.execute(f"SET search_path = {literal(self.options.home)}")
        else:
            db.execute(f"SET search_path = {literal(','.join(self._sources))}")
        refuse_writing(db, spelled.sql)
        values = {f"p{number}": value for number, value in enumerate(parameters, 1)}
        sql = spelled.sql
        if self.options.offline:
            offline.refuse_missing(db, spelled)
        else:
            for table in spelled.tables:
                db.register(table.scan_name, ApiTable(table, table.scan_name, statement, self._typing))
            sql = self._hinted(running, db, parameters, values)
        running.ready(db, sql, values)
        if self.options.cache_seconds:
            running.closing.callback(lambda: self._cache.keep(statement.cache))

    def _hinted(
        self, running: Running, db: duckdb.DuckDBPyConnection, parameters: Sequence[Any], values: Mapping[str, Any]
    ) -> str:
        """What the text and the plan say goes into the statement; the text to run."""
        spelled, statement = running.spelled, running.statement
        plan = _plan(db, spelled.sql, values)
        operators = [node.get("name", "") for node in _nodes(plan)]
        statement.filters = tuple(_filters(plan))
        statement.limited = bool(_LIMITS & set(operators))
        every, scans = frozenset(table.name for table in self.catalog), operators.count("PYTHON_ARROW_SCAN")
        statement.kept = kept = every if self.options.cache_seconds else hints.read_twice(spelled, self.catalog, scans)
        if not self.options.hints:
            return spelled.sql
        if set(operators) <= _CHAIN and scans == 1 and "TOP_N" in operators:
            statement.sort = _or_none(lambda: hints.sorted_by(spelled, self.catalog, parameters))
        joined = _or_none(lambda: hints.joined(spelled, self.catalog))
        if joined is None or not joined.keys:
            return spelled.sql
        for scan, table in joined.copies:
            db.register(scan, ApiTable(table, scan, statement, self._typing))
            view = f"SELECT {table.typed_columns} FROM {identifier(scan)}"
            db.execute(f"CREATE TEMP VIEW {identifier(hints.view_name(scan))} AS {view}")
        statement.kept = kept.union(*(hints.lineage(keys.origin) for keys in joined.keys))
        for keys in joined.keys:
            self._limit_to(keys, statement, db, values)
        statement.kept = kept
        return joined.sql

    def _limit_to(
        self, keys: hints.Keys, statement: Statement, db: duckdb.DuckDBPyConnection, values: Mapping[str, Any]
    ) -> None:
        """Ask for the keys of a join, and limit the other table to them if they are few."""
        if statement.dry:
            statement.promised[keys.scan] = keys.told
            return
        limited, statement.limited = statement.limited, False
        found = db.execute(keys.sql, {name: values[name] for name in keys.parameters} or None).fetchall()
        statement.limited = limited
        if len(found) <= hints.MOST_KEYS:
            statement.keys[keys.scan] = Wanted({keys.column: frozenset(value for (value,) in found)})

    def _viewing(self, spelled: Spelled) -> duckdb.DuckDBPyConnection:
        """A connection with the views that the statement may look at: those of all tables unless it names its own."""
        nobody = Statement(self.api, datetime.now(UTC), dry=True)
        script = []
        wanted = spelled.tables if spelled.reads_only(self.catalog) else list(self.catalog)
        for table in [table for table in wanted if table not in self._viewed]:
            self._db.register(table.scan_name, ApiTable(table, table.scan_name, nobody, self._typing))
            name = f"{identifier(table.source.source)}.{identifier(table.stream.name)}"
            script.append(f"CREATE OR REPLACE VIEW {name} AS {table.view}")  # anew if the last try was interrupted
            script.append(f"COMMENT ON VIEW {name} IS {literal(table.stream.description)}")
            told, described = narrowing(table), table.stream.descriptions()
            for column in {**described, **told}:
                asked = f"pushdown: {told[column]}" if column in told else ""
                text = " ".join(filter(None, [described.get(column, ""), asked]))
                script.append(f"COMMENT ON COLUMN {name}.{identifier(column)} IS {literal(text)}")
        self._db.execute(";\n".join(script))
        self._viewed.update(wanted)
        return self._db.cursor()


def _plan(db: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, Any]) -> Any:
    try:
        ((_, text),) = db.execute(f"EXPLAIN (FORMAT JSON) {sql}", dict(values) or None).fetchall()
        return json.loads(text)
    except (duckdb.Error, ValueError):
        return []  # the statement itself will say what is wrong with it


def _nodes(plan: Any) -> Iterator[Any]:
    for node in plan if isinstance(plan, list) else []:
        yield node
        yield from _nodes(node.get("children", []))


def _filters(plan: Any) -> Iterator[str]:
    """Conditions that the engine keeps to itself."""
    for node in _nodes(plan):
        if node.get("name") == "FILTER":
            yield str(node.get("extra_info", {}).get("Expression", "a condition"))


def _or_none(read: Callable[[], Hint | None]) -> Hint | None:
    """A hint that cannot be read is none; the statement is right without it."""
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - whatever sqlglot raises on a text that DuckDB takes
        log.debug("no hint: %s", error)
        return None
