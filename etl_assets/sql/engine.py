"""The engine: one DuckDB database in memory with a view per stream, and the running of statements in it.

Each statement gets a connection of its own in which the scans of its tables are registered; the views look
them up by name. Nothing outside the database can be reached from a statement.
"""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from etl_assets import redact
from etl_assets.errors import EtlError
from etl_assets.extract import Api, open_api
from etl_assets.settings import Environment, Settings, connection
from etl_assets.spec import Source
from etl_assets.sql import errors, hints, names
from etl_assets.sql.dataset import ApiTable, narrowing
from etl_assets.sql.names import Spelled
from etl_assets.sql.pushdown import Wanted
from etl_assets.sql.statement import Limits, PageCache, Progress, Statement
from etl_assets.sql.tables import Catalog, Table, columns_alike
from etl_assets.sqltext import identifier, literal
from etl_assets.warehouse.duckdb import DuckDbWarehouse

log = logging.getLogger(__name__)

Hint = TypeVar("Hint")

_WAREHOUSE = "warehouse"
_CHAIN = {"PROJECTION", "TOP_N", "PYTHON_ARROW_SCAN"}
_LIMITS = {"LIMIT", "STREAMING_LIMIT", "LIMIT_PERCENT"}
_NO_TABLE = re.compile(r"Table with name \"?([\w.]+)\"? does not exist")
_NO_COLUMN = re.compile(
    r"[Cc]olumn \"?(?:named \")?([\w.]+)\"? (?:not found|does not|exists)|does not have a column named \"(\w+)\""
)
_READS = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}


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
        self._typing = duckdb.connect(":memory:", config=_config(settings))
        self._typing.execute("SET TimeZone = 'UTC'")
        self._db = duckdb.connect(":memory:", config=_config(settings))
        # A plain SET would not be seen by further connections to the database.
        self._db.execute(f"SET GLOBAL TimeZone = {literal(options.zone)}")
        if not options.offline:
            self._make_views()
            _lock(self._db)

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
        opened = self._warehouse() if self.options.offline else closing(self._db.cursor())
        db = running.closing.enter_context(opened)
        if self.options.home:
            db.execute(f"SET search_path = {literal(self.options.home)}")
        else:
            db.execute(f"SET search_path = {literal(','.join(self._sources))}")
        refuse_writing(db, spelled.sql)
        values = {f"p{number}": value for number, value in enumerate(parameters, 1)}
        sql = spelled.sql
        if self.options.offline:
            self._refuse_missing(db, spelled)
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
        statement.caching = bool(self.options.cache_seconds) or _repeats(operators)
        if not self.options.hints:
            return spelled.sql
        if set(operators) <= _CHAIN and operators.count("PYTHON_ARROW_SCAN") == 1 and "TOP_N" in operators:
            statement.sort = _or_none(lambda: hints.sorted_by(spelled, self.catalog, parameters))
        joined = _or_none(lambda: hints.joined(spelled, self.catalog))
        if joined is None or not joined.keys:
            return spelled.sql
        statement.caching = True
        for scan, table in joined.copies:
            db.register(scan, ApiTable(table, scan, statement, self._typing))
            view = f"SELECT {table.typed_columns} FROM {identifier(scan)}"
            db.execute(f"CREATE TEMP VIEW {identifier(hints.view_name(scan))} AS {view}")
        for keys in joined.keys:
            self._limit_to(keys, statement, db, values)
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

    def _make_views(self) -> None:
        nobody = Statement(self.api, datetime.now(UTC), dry=True)
        script = [f"CREATE SCHEMA {identifier(source)}" for source in self._sources]
        for table in self.catalog:
            self._db.register(table.scan_name, ApiTable(table, table.scan_name, nobody, self._typing))
            name = f"{identifier(table.source.source)}.{identifier(table.stream.name)}"
            script.append(f"CREATE VIEW {name} AS {table.view}")
            script.append(f"COMMENT ON VIEW {name} IS {literal(table.stream.description)}")
            told, described = narrowing(table), table.stream.descriptions()
            for column in {**described, **told}:
                asked = f"pushdown: {told[column]}" if column in told else ""
                text = " ".join(filter(None, [described.get(column, ""), asked]))
                script.append(f"COMMENT ON COLUMN {name}.{identifier(column)} IS {literal(text)}")
        self._db.execute(";\n".join(script))

    @contextmanager
    def _warehouse(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The loaded tables, read only, with the same names and columns. Nobody can load while it is open."""
        settings = self._settings
        if settings.warehouse != "duckdb":
            raise errors.NotSupportedError(f"Offline reads a DuckDB warehouse, not ETL_WAREHOUSE={settings.warehouse}")
        warehouse = DuckDbWarehouse(settings.duckdb_path, settings.duckdb_lock_seconds, settings.duckdb_memory_mb)
        with warehouse.beside(_WAREHOUSE) as db:
            db.execute(f"SET TimeZone = {literal(self.options.zone)}")
            loaded = _loaded(db)
            for table in self.catalog:
                columns = loaded.get((table.source.source, table.stream.name))
                if columns is not None:
                    _make_offline_view(db, table, columns)
            _lock(db)
            yield db

    def _refuse_missing(self, db: duckdb.DuckDBPyConnection, spelled: Spelled) -> None:
        """Raises ProgrammingError for a table that is declared, but was not loaded."""
        present = {
            (schema, name)
            for schema, name in db.execute("SELECT schema_name, view_name FROM duckdb_views()").fetchall()
        }
        named = [table for table in spelled.tables if spelled.names(table)]
        missing = [table.name for table in named if (table.source.source, table.stream.name) not in present]
        if missing:
            raise errors.ProgrammingError(
                f"{', '.join(missing)} is not loaded: materialise warehouse/{missing[0].replace('.', '/')}"
            )


def _make_offline_view(db: duckdb.DuckDBPyConnection, table: Table, columns: set[str]) -> None:
    """The table as declared: a column that was never loaded is NULL, and a deleted row is not there."""
    schema, name = identifier(table.source.source), identifier(table.stream.name)
    listed = ", ".join(
        identifier(name) if name in columns else f"CAST(NULL AS {kind}) AS {identifier(name)}"
        for name, kind in table.types.items()
    )
    present = "WHERE _deleted_at IS NULL" if "_deleted_at" in columns else ""
    db.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    db.execute(f"CREATE VIEW {schema}.{name} AS SELECT {listed} FROM {_WAREHOUSE}.{schema}.{name} {present}")


def _loaded(db: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    sql = "SELECT schema_name, table_name, column_name FROM duckdb_columns() WHERE database_name = ?"
    for schema, table, column in db.execute(sql, [_WAREHOUSE]).fetchall():
        found.setdefault((schema, table), set()).add(column)
    return found


def _config(settings: Settings) -> dict[str, Any]:
    return {
        "threads": 1,  # a second one takes as much memory again, and what takes long here is waiting for answers
        "memory_limit": f"{settings.duckdb_memory_mb}MB",
        "temp_directory": str(settings.data_dir / "spill"),
        "autoinstall_known_extensions": False,
    }


def _lock(db: duckdb.DuckDBPyConnection) -> None:
    """Put files, other databases, Python's variables and these settings out of reach."""
    db.execute("SET python_enable_replacements = false")
    db.execute("SET GLOBAL enable_external_access = false")
    db.execute("SET GLOBAL lock_configuration = true")


def refuse_writing(db: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raises NotSupportedError unless the text is one statement that reads."""
    statements = db.extract_statements(sql)
    if not statements:
        raise errors.ProgrammingError("there is no statement")
    if len(statements) > 1:
        raise errors.NotSupportedError("one statement at a time")
    if statements[0].type not in _READS:
        kind = str(statements[0].type).rpartition(".")[2]
        raise errors.NotSupportedError(
            f"{kind} is refused: sources are read only, with SELECT, DESCRIBE, SHOW, EXPLAIN"
        )


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


def _repeats(operators: Sequence[str]) -> bool:
    return operators.count("PYTHON_ARROW_SCAN") > 1


def _or_none(read: Callable[[], Hint | None]) -> Hint | None:
    """A hint that cannot be read is none; the statement is right without it."""
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - whatever sqlglot raises on a text that DuckDB takes
        log.debug("no hint: %s", error)
        return None


_ERRORS: dict[type[Exception], type[errors.Error]] = {
    duckdb.ParserException: errors.ProgrammingError,
    duckdb.CatalogException: errors.ProgrammingError,
    duckdb.BinderException: errors.ProgrammingError,
    duckdb.SyntaxException: errors.ProgrammingError,
    duckdb.ConversionException: errors.DataError,
    duckdb.OutOfRangeException: errors.DataError,
    duckdb.TypeMismatchException: errors.DataError,
    duckdb.DataError: errors.DataError,
    duckdb.IntegrityError: errors.IntegrityError,
    duckdb.InterruptException: errors.OperationalError,
    duckdb.PermissionException: errors.NotSupportedError,
    duckdb.NotSupportedError: errors.NotSupportedError,
    duckdb.NotImplementedException: errors.NotSupportedError,
    duckdb.InvalidInputException: errors.ProgrammingError,
    duckdb.ProgrammingError: errors.ProgrammingError,
    duckdb.InternalError: errors.InternalError,
    duckdb.OperationalError: errors.OperationalError,
}


def translated(work: Callable[[], Any], statement: Statement, catalog: Catalog, tables: Sequence[Table]) -> Any:
    """What `work` gives. Errors become those of DB-API, without secrets, and say what may have been meant."""
    try:
        return work()
    except errors.Error as error:
        problem: errors.Error = error
    except EtlError as error:
        problem = errors.OperationalError(redact.scrub(str(error)))
    except duckdb.Error as error:
        problem = _problem(error, statement.error, catalog, tables)
    if isinstance(statement.error, KeyboardInterrupt):
        raise KeyboardInterrupt
    raise problem  # out here, where the engine's error is not its context: that carries texts that nobody scrubbed


def _problem(
    error: duckdb.Error, cause: BaseException | None, catalog: Catalog, tables: Sequence[Table]
) -> errors.Error:
    """DuckDB's error, or what stopped the scan that it tells of."""
    if isinstance(cause, errors.Error):
        return cause
    if isinstance(cause, EtlError):
        return errors.OperationalError(redact.scrub(str(cause)))
    if cause is not None:
        return errors.InternalError(redact.scrub(f"{type(cause).__name__}: {cause}"))
    kind = next((found for known, found in _ERRORS.items() if isinstance(error, known)), errors.DatabaseError)
    return kind(redact.scrub(_with_suggestion(str(error), catalog, tables)))


def _with_suggestion(text: str, catalog: Catalog, tables: Sequence[Table]) -> str:
    """DuckDB's text; its own suggestions look at letters only, and do not know other sources."""
    if found := _NO_TABLE.search(text):
        alike = catalog.alike(found[1])
    elif found := _NO_COLUMN.search(text):
        alike = columns_alike(found[1] or found[2], tables)
    else:
        return text
    first = text.splitlines()[0]
    return f"{first}\nDid you mean {' or '.join(alike)}?" if alike else text
