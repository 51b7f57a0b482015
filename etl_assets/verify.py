"""Looking at a clean set as its reader would: do keys, mandatory columns and types hold in the file itself?"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import duckdb

from etl_assets.errors import FinalError
from etl_assets.landing import Folder
from etl_assets.spec import Stream
from etl_assets.sqltext import identifier, literal

_SAMPLE_ROWS = 5
_SAMPLE_WIDTH = 40


@dataclass(frozen=True)
class Findings:
    """What is in the file. `nulls` counts rows without a mandatory value, `types` names columns that differ
    from the declaration, `sample` is a few rows with a header."""

    rows: int
    repeated_keys: int
    nulls: dict[str, int]
    types: dict[str, str]
    sample: list[tuple[Any, ...]]

    def refuse(self) -> None:
        """Raises FinalError when the set breaks its declaration, and so may not reach the table."""
        broken = [f"{self.repeated_keys} repeated keys"] if self.repeated_keys else []
        broken += [f"{count} rows without {name}" for name, count in self.nulls.items()]
        broken += [f"{name} is {kind}" for name, kind in self.types.items()]
        if broken:
            raise FinalError(f"the clean files break their declaration: {'; '.join(broken)}; nothing was loaded")


def inspect(stream: Stream, folder: Folder, sample_rows: int = _SAMPLE_ROWS) -> Findings:
    """Findings on the clean set in force, with so many rows as a sample. Raises LandingError when there is none."""
    manifest = folder.manifest()
    paths = folder.files(manifest)
    file = f"read_parquet({literal(str(paths[0]))})"
    declared = dict(stream.table_columns())
    mandatory = [*stream.key, *([stream.window.column] if stream.window else [])]
    mandatory += [name for name, _, column in stream.field_columns() if column.required]
    mandatory = list(dict.fromkeys(mandatory))
    key = ", ".join(map(identifier, stream.key))
    missing = ", ".join(f"count(*) - count({identifier(name)})" for name in mandatory)
    with contextlib.closing(duckdb.cursor()) as db:  # of the one database in memory that this process has anyway
        db.execute("SET TimeZone = 'UTC'")
        rows, keys, *nulls = db.execute(f"SELECT count(*), count(DISTINCT ({key})), {missing} FROM {file}").fetchall()[
            0
        ]
        present = {name: kind for name, kind, *_ in db.execute(f"DESCRIBE FROM {file}").fetchall()}
        sample = _sample(db, declared, file, sample_rows) if sample_rows else []
    return Findings(
        rows=rows,
        repeated_keys=rows - keys,
        nulls={name: count for name, count in zip(mandatory, nulls, strict=True) if count},
        types={name: present.get(name, "absent") for name, kind in declared.items() if present.get(name) != kind},
        sample=[tuple(declared), *sample],
    )


def _sample(db: duckdb.DuckDBPyConnection, declared: Iterable[str], file: str, rows: int) -> list[tuple[Any, ...]]:
    columns = ", ".join(map(identifier, declared))
    cells = ", ".join(f"left(CAST({identifier(name)} AS VARCHAR), {_SAMPLE_WIDTH})" for name in declared)
    return db.execute(f"SELECT {cells} FROM (SELECT {columns} FROM {file} LIMIT {rows})").fetchall()
