"""Streams as tables of SQL: their names, columns and Arrow types.

What to put here: what a table is called and made of. What to keep out: what an API can be asked (pushdown.py).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

import pyarrow as pa

from etl_assets.spec import Source, Stream
from etl_assets.sqltext import identifier

ROW = "_row"  # stands for a row of which no column is wanted, as in COUNT(*)

_ARROW = {
    "VARCHAR": pa.string(),
    "JSON": pa.string(),  # an extension type would keep DuckDB's filters from being read
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")


def squashed(name: str) -> str:
    """What spellings of a name have in common: `project_id`, `ProjectID` and `projectId` are one."""
    return name.replace("_", "").lower()


@dataclass(frozen=True, eq=False)
class Table:
    """One stream as a table."""

    source: Source
    stream: Stream

    @property
    def name(self) -> str:
        """`backlog.issues`."""
        return f"{self.source.source}.{self.stream.name}"

    @property
    def scan_name(self) -> str:
        """The name under which its scan is known to the engine; the view reads from it."""
        return f"__{self.source.source}__{self.stream.name}"

    @cached_property
    def types(self) -> Mapping[str, str]:
        """DuckDB type by column, in order."""
        return dict(self.stream.table_columns())

    @cached_property
    def schema(self) -> pa.Schema:
        """The scan's columns: `_row`, and those of the table."""
        return pa.schema([(ROW, pa.bool_()), *((name, _arrow(kind)) for name, kind in self.types.items())])

    @property
    def view(self) -> str:
        """The SELECT that gives the table's columns in their types, out of the scan."""
        return f"SELECT {self.typed_columns} FROM {identifier(self.scan_name)}"

    @property
    def typed_columns(self) -> str:
        """The columns as a SELECT list, JSON as JSON."""
        return ", ".join(
            f"CAST({identifier(name)} AS JSON) AS {identifier(name)}" if kind == "JSON" else identifier(name)
            for name, kind in self.types.items()
        )


class Catalog:
    """Every table of the declared sources."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.tables = [Table(source, stream) for source in sources for stream in source.streams]
        self._by_name: dict[str, list[Table]] = {}
        for table in self.tables:
            self._by_name.setdefault(squashed(table.stream.name), []).append(table)

    def __iter__(self) -> Iterator[Table]:
        return iter(self.tables)

    def named(self, name: str, source: str | None = None) -> list[Table]:
        """The tables of that name in any spelling, of one source or of all."""
        found = self._by_name.get(squashed(name), [])
        return [one for one in found if source is None or one.source.source == squashed(source)]

    def alike(self, name: str, most: int = 3) -> list[str]:
        """Names of tables that somebody who wrote `name` may have meant."""
        wanted = squashed(name.rpartition(".")[2])
        close = get_close_matches(wanted, self._by_name, most, cutoff=0.6)
        return [table.name for one in close for table in self._by_name[one]][:most]


def columns_alike(name: str, tables: Iterable[Table], most: int = 3) -> list[str]:
    """Columns of the tables that somebody who wrote `name` may have meant."""
    known = {squashed(column): column for table in tables for column in table.types}
    wanted = squashed(name.rpartition(".")[2])
    inside = [one for one in known if wanted and (wanted in one or one in wanted)]
    return [known[one] for one in dict.fromkeys([*get_close_matches(wanted, known, most, cutoff=0.6), *inside])][:most]


def _arrow(kind: str) -> pa.DataType:
    if decimal := _DECIMAL.fullmatch(kind):
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    return _ARROW[kind]
