"""SQLAlchemy dialect: `create_engine("etlassets://backlog?Offline=true")`.

The host of the URL is the source whose tables need no prefix; the query holds properties. Secrets belong into
`connect_args` or the environment rather than into a URL.
"""

from types import ModuleType
from typing import Any

from sqlalchemy import Connection, pool, text, types
from sqlalchemy.dialects.postgresql.base import PGCompiler, PGIdentifierPreparer, PGTypeCompiler
from sqlalchemy.engine import URL
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.engine.reflection import cache

from etl_assets.sql import dbapi

_TYPES: dict[str, Any] = {
    "VARCHAR": types.String,
    "JSON": types.String,  # DuckDB hands JSON over as text, and SQLAlchemy's JSON would decode what is compared
    "BIGINT": types.BigInteger,
    "INTEGER": types.Integer,
    "DOUBLE": types.Double,
    "BOOLEAN": types.Boolean,
    "DATE": types.Date,
    "TIMESTAMP": types.DateTime,
}


class Dialect(DefaultDialect):
    """DuckDB's SQL is close to PostgreSQL's; reflection reads information_schema."""

    name = "etlassets"
    driver = "etl_assets"
    default_paramstyle = "qmark"
    statement_compiler = PGCompiler
    type_compiler_cls = PGTypeCompiler
    preparer = PGIdentifierPreparer
    supports_statement_cache = True
    supports_native_boolean = True
    supports_alter = False
    supports_sane_rowcount = False
    supports_native_decimal = True

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        """The DB-API module."""
        return dbapi

    @classmethod
    def get_pool_class(cls, url: URL) -> type[pool.Pool]:
        """A connection is for one thread at a time; there is nothing to gain from more of them."""
        return pool.QueuePool

    def create_connect_args(self, url: URL) -> tuple[list[Any], dict[str, Any]]:
        """What `connect` is called with."""
        return [], {**({"source": url.host} if url.host else {}), **url.query}

    def do_ping(self, dbapi_connection: Any) -> bool:
        """Whether the connection is good, without a request."""
        dbapi_connection.execute("SELECT 1").fetchall()
        return True

    def _get_server_version_info(self, connection: Any) -> tuple[int, ...]:
        return (1, 0)

    def _get_default_schema_name(self, connection: Connection) -> str:
        found: Any = connection.exec_driver_sql("SELECT current_schema()").scalar()
        return str(found)

    def get_schema_names(self, connection: Connection, **kw: Any) -> list[str]:
        """The sources."""
        rows = connection.execute(
            text("SELECT DISTINCT schema_name FROM duckdb_views() WHERE NOT internal AND NOT temporary ORDER BY 1")
        )
        return [str(row[0]) for row in rows]

    def get_table_names(self, connection: Connection, schema: str | None = None, **kw: Any) -> list[str]:
        """The tables of a source; of all, where no source is the connection's own."""
        rows = connection.execute(
            text(
                "SELECT DISTINCT view_name FROM duckdb_views() WHERE NOT internal AND NOT temporary "
                "AND schema_name = coalesce(CAST(:schema AS VARCHAR), schema_name) ORDER BY 1"
            ),
            {"schema": schema or self.default_schema_name},
        )
        return [str(row[0]) for row in rows]

    def get_view_names(self, connection: Connection, schema: str | None = None, **kw: Any) -> list[str]:
        """None: what the engine calls views are the tables."""
        return []

    def has_table(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> bool:
        """Whether a source has the table, in any case."""
        return table_name.lower() in self.get_table_names(connection, schema)

    @cache
    def get_columns(
        self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[ReflectedColumn]:
        """Columns with their types; the comment says what the API can be asked."""
        rows = connection.execute(
            text(
                "SELECT column_name, data_type, numeric_precision, numeric_scale, comment FROM duckdb_columns() "
                "WHERE NOT internal AND database_name = current_database() AND table_name = lower(:name) "
                "AND schema_name = coalesce(CAST(:schema AS VARCHAR), schema_name) ORDER BY column_index"
            ),
            {"name": table_name, "schema": schema or self.default_schema_name},
        )
        return [
            {"name": name, "type": _type(kind, precision, scale), "nullable": True, "default": None, "comment": comment}
            for name, kind, precision, scale, comment in rows
        ]

    def get_pk_constraint(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        """No constraint is declared: an ORM class names its key itself."""
        return {"constrained_columns": [], "name": None}

    def get_foreign_keys(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        """None."""
        return []

    def get_indexes(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        """None."""
        return []

    def get_unique_constraints(
        self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> Any:
        """None."""
        return []

    def get_check_constraints(
        self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> Any:
        """None."""
        return []

    def get_table_comment(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        """What the stream file says of the table."""
        rows = connection.execute(
            text(
                "SELECT comment FROM duckdb_views() WHERE NOT temporary AND view_name = lower(:name) "
                "AND schema_name = coalesce(CAST(:schema AS VARCHAR), schema_name)"
            ),
            {"name": table_name, "schema": schema or self.default_schema_name},
        )
        return {"text": rows.scalar()}


def _type(kind: str, precision: int | None, scale: int | None) -> Any:
    if kind.startswith("DECIMAL"):
        return types.Numeric(precision, scale)
    if kind == "TIMESTAMP WITH TIME ZONE":
        return types.DateTime(timezone=True)
    return _TYPES.get(kind, types.String)()
