"""A DuckDB file that the answers of another warehouse are copied into, piece by piece.

DuckDB itself says which types the columns have, by planning the SELECT over empty tables of the same columns: other
warehouses forget the digits of decimals, and know JSON as text. Where the answers come from is kept out.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb

from etl_assets.errors import FinalError, LandingError
from etl_assets.sqltext import identifier, literal


class Spool:
    """A new file, and the outlines of the tables that are read."""

    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        self._db = db

    def outline(self, schema: str, name: str, *, columns: Mapping[str, str] | None = None, select: str = "") -> None:
        """Know a table by its columns, or by the SELECT that makes it."""
        body = f"AS {select} WITH NO DATA"
        if columns:
            body = f"({', '.join(f'{identifier(column)} {kind}' for column, kind in columns.items())})"
        self._db.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(schema)}")
        self._db.execute(f"CREATE TABLE IF NOT EXISTS {identifier(schema)}.{identifier(name)} {body}")

    def table(self, name: str, select: str) -> None:
        """An empty table for what the SELECT gives."""
        self._db.execute(f"CREATE TABLE spool.{identifier(name)} AS {select} WITH NO DATA")

    def add(self, name: str, batch: Any) -> None:
        """Append an Arrow batch, column by column in their order."""
        import pyarrow as pa

        columns = [c.cast(pa.string()) if pa.types.is_decimal256(c.type) else c for c in batch.columns]
        rows = pa.Table.from_arrays(columns, names=[f"c{number}" for number, _ in enumerate(columns)])
        self._db.register("batch", rows)
        self._db.execute(f"INSERT INTO spool.{identifier(name)} SELECT * FROM batch")
        self._db.unregister("batch")


@contextmanager
def opened(file: Path, memory_mb: int) -> Iterator[Spool]:
    """A spool at a path where nothing is yet. DuckDB's errors become FinalError, or LandingError for the disk."""
    config: dict[str, Any] = {"threads": 1, "memory_limit": f"{memory_mb}MB", "autoinstall_known_extensions": False}
    try:
        with closing(duckdb.connect(":memory:", config=config)) as db:
            db.execute("SET TimeZone = 'UTC'")
            db.execute(f"ATTACH {literal(str(file))} AS spool (READ_WRITE)")
            yield Spool(db)
            db.execute("DETACH spool")
    except duckdb.IOException as error:
        raise LandingError(f"{file}: cannot be written: {error}") from None
    except duckdb.Error as error:
        raise FinalError(f"the SELECT cannot be answered: {error}") from None
