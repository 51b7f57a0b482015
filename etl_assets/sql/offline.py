"""The loaded warehouse in the place of the APIs."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb

from etl_assets.pipeline import Pipeline
from etl_assets.settings import Settings
from etl_assets.sql import errors
from etl_assets.sql.database import config, lock
from etl_assets.sql.names import Spelled
from etl_assets.sql.tables import Catalog, Table
from etl_assets.sqltext import identifier, literal
from etl_assets.warehouse.duckdb import DuckDbWarehouse

_WAREHOUSE = "warehouse"


@contextmanager
def warehouse(
    settings: Settings, catalog: Catalog, zone: str, tables: Iterable[Table]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """The loaded tables, read only, with the same names and columns.

    Nobody can load into a DuckDB file while it is open. Of another warehouse the `tables` are copied, in full; the
    others can be described, and not read.
    """
    opened = _opened(settings, catalog) if settings.warehouse == "duckdb" else _copied(settings, catalog, tables)
    with opened as db:
        for source in {table.source.source for table in catalog}:
            db.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(source)}")  # searched, also when nothing is in it
        db.execute(f"SET TimeZone = {literal(zone)}")
        lock(db)
        yield db


@contextmanager
def _opened(settings: Settings, catalog: Catalog) -> Iterator[duckdb.DuckDBPyConnection]:
    file = DuckDbWarehouse(settings.duckdb_path, settings.duckdb_lock_seconds, settings.duckdb_memory_mb)
    with file.beside(_WAREHOUSE) as db:
        present = _columns(db)
        for table in catalog:
            if columns := present.get((table.source.source, table.stream.name)):
                _make_view(db, table, columns, f"{_WAREHOUSE}.{_quoted(table)}")
        yield db


@contextmanager
def _copied(settings: Settings, catalog: Catalog, tables: Iterable[Table]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database beside copies, which are gone afterwards."""
    there = Pipeline(settings).warehouse
    loaded = {
        f"{source}.{stream}" for source, stream in there.select("SELECT DISTINCT source, stream FROM ops.loads").rows
    }
    spill = settings.data_dir / "spill"
    spill.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=spill) as folder:
        file = Path(folder) / "copies.duckdb"
        there.spool({table.name: f"SELECT * FROM {table.name}" for table in tables if table.name in loaded}, file)
        with closing(duckdb.connect(":memory:", config=config(settings))) as db:
            db.execute(f"ATTACH {literal(str(file))} AS {_WAREHOUSE} (READ_ONLY)")
            present = _columns(db)
            for table in catalog:
                if columns := present.get(("main", table.name)):
                    _make_view(db, table, columns, f"{_WAREHOUSE}.{identifier(table.name)}")
                elif table.name in loaded:
                    unread = literal(f"{table.name} was not copied, because the statement was not seen to read it")
                    _make_view(db, table, set(), f"(SELECT 1 WHERE error({unread}) IS NULL)")
            yield db


def refuse_missing(db: duckdb.DuckDBPyConnection, spelled: Spelled) -> None:
    """Raises ProgrammingError for a table that is declared, but was not loaded."""
    present = {
        (schema, name) for schema, name in db.execute("SELECT schema_name, view_name FROM duckdb_views()").fetchall()
    }
    named = [table for table in spelled.tables if spelled.names(table)]
    missing = [table.name for table in named if (table.source.source, table.stream.name) not in present]
    if missing:
        raise errors.ProgrammingError(
            f"{', '.join(missing)} is not loaded: materialise warehouse/{missing[0].replace('.', '/')}"
        )


def _make_view(db: duckdb.DuckDBPyConnection, table: Table, columns: set[str], rows: str) -> None:
    """The table as declared: a column that was never loaded is NULL, and a deleted row is not there."""
    listed = ", ".join(
        identifier(name) if name in columns else f"CAST(NULL AS {kind}) AS {identifier(name)}"
        for name, kind in table.types.items()
    )
    present = "WHERE _deleted_at IS NULL" if "_deleted_at" in columns else ""
    db.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(table.source.source)}")
    db.execute(f"CREATE VIEW {_quoted(table)} AS SELECT {listed} FROM {rows} {present}")


def _columns(db: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], set[str]]:
    """The columns of every table that is there, by schema and name."""
    found: dict[tuple[str, str], set[str]] = {}
    sql = "SELECT schema_name, table_name, column_name FROM duckdb_columns() WHERE database_name = ?"
    for schema, table, column in db.execute(sql, [_WAREHOUSE]).fetchall():
        found.setdefault((schema, table), set()).add(column)
    return found


def _quoted(table: Table) -> str:
    return f"{identifier(table.source.source)}.{identifier(table.stream.name)}"
