"""SQL against the simulators: connections in data folders of their own, requests counted, the same data in full."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from etl_assets import sql
from etl_assets.sandbox.handle import Sandbox
from etl_assets.sql.dbapi import Connection, Cursor
from etl_assets_tests.sources.truth import Lab, lab


@dataclass(frozen=True)
class Place:
    """A connection, and the simulator behind it."""

    lab: Lab
    connection: Connection

    @property
    def sandbox(self) -> Sandbox:
        return self.lab.sandbox

    def run(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """All rows of a statement."""
        return self.connection.execute(statement, parameters).fetchall()

    def counted(self, statement: str, *parameters: Any) -> tuple[int, Cursor, list[tuple[Any, ...]]]:
        """How many requests the statement took, as the server saw them, with its cursor and rows."""
        self.sandbox.clear_log()
        cursor = self.connection.execute(statement, parameters)
        rows = cursor.fetchall()
        return self.sandbox.count(), cursor, rows


@contextmanager
def place(vendor: str, folder: Path, *, sandbox: Sandbox | None = None, **given: Any) -> Iterator[Place]:
    """A connection to one simulator, without the vendor's rates and their waits; `given` are its properties."""
    change = given.pop("change", None)
    with (
        lab(vendor, folder, sandbox=sandbox, change=change, days=given.pop("days", 3)) as ready,
        sql.connect(source=vendor, **given) as connection,
    ):
        if vendor == "jushuitan":
            ready.sandbox.change("settings", per_second=0, per_minute=0)
        yield Place(ready, connection)


def in_full(connection: Connection, tables: Sequence[str], zone: str) -> duckdb.DuckDBPyConnection:
    """An ordinary DuckDB with the same tables, read whole: what every statement is compared with."""
    db = duckdb.connect(":memory:")
    db.execute(f"SET TimeZone = '{zone}'")
    for name in tables:
        schema = name.partition(".")[0]
        cursor = connection.execute(f"SELECT * FROM {name}")
        kinds = {column: kind for column, kind, *_ in cursor.description or ()}
        db.register("whole", cursor.fetch_arrow_table())
        db.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        columns = ", ".join(f'CAST("{column}" AS {kind}) AS "{column}"' for column, kind in kinds.items())
        db.execute(f"CREATE TABLE {name} AS SELECT {columns} FROM whole")
        db.unregister("whole")
    return db


def same(found: Sequence[Sequence[Any]], wanted: Sequence[Sequence[Any]], *, ordered: bool) -> bool:
    """Whether two results are equal; without an order as bags of rows."""
    both = [[tuple(map(_plain, row)) for row in rows] for rows in (found, wanted)]
    if not ordered:
        both = [sorted(rows, key=repr) for rows in both]
    return both[0] == both[1]


def _plain(value: Any) -> Any:
    """Floats to 12 digits: sums of them depend on the order of rows."""
    return f"{value:.12g}" if isinstance(value, float) else value
