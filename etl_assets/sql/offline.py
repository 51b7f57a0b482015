"""The loaded warehouse in the place of the APIs."""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from etl_assets.settings import Settings
from etl_assets.sql import errors
from etl_assets.sql.database import lock
from etl_assets.sql.names import Spelled
from etl_assets.sql.tables import Catalog, Table
from etl_assets.sqltext import identifier, literal
from etl_assets.warehouse.duckdb import DuckDbWarehouse

_WAREHOUSE = "warehouse"


@contextmanager
def warehouse(settings: Settings, catalog: Catalog, zone: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """The loaded tables, read only, with the same names and columns. Nobody can load while it is open."""
    if settings.warehouse != "duckdb":
        raise errors.NotSupportedError(f"Offline reads a DuckDB warehouse, not ETL_WAREHOUSE={settings.warehouse}")
    loaded_tables = DuckDbWarehouse(settings.duckdb_path, settings.duckdb_lock_seconds, settings.duckdb_memory_mb)
    with loaded_tables.beside(_WAREHOUSE) as db:
        db.execute(f"SET TimeZone = {literal(zone)}")
        loaded = _loaded(db)
        for table in catalog:
            columns = loaded.get((table.source.source, table.stream.name))
            if columns is not None:
                _make_offline_view(db, table, columns)
        lock(db)
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
