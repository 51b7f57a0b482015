"""Streams and rows for the tests of warehouses, and looks at their tables."""

import dataclasses
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl_assets_tests.data import DAY, Bench

SNAPSHOT = "columns: {id: integer, v: string}\n"
REPLACE = "window: {column: t}\ncolumns: {id: integer, t: timestamp, v: string}\n"
MERGE = "load: merge\n" + REPLACE
VERSIONED = "newest: n\nload: merge\nwindow: {column: t}\ncolumns: {id: integer, t: timestamp, n: integer, v: string}\n"
MODES = pytest.mark.parametrize(
    ("stream", "day"), [(SNAPSHOT, None), (REPLACE, DAY), (MERGE, DAY)], ids=["snapshot", "replace", "merge"]
)
NEXT = DAY + timedelta(days=1)
CONTENT = "* EXCLUDE (_loaded_at, _run_id)"


def row(key: int | None, day: date | None = DAY, v: str = "x", hour: int = 9, **more: Any) -> dict[str, Any]:
    return {"id": key, "v": v, "t": f"{day or DAY}T{hour:02}:00:00", **more}


def kept(bench: Bench) -> list[tuple[Any, ...]]:
    """(id, v, partition) of the table's rows."""
    partition = "_partition" if bench.stream.window else "NULL AS _partition"
    return [tuple(found.values()) for found in bench.table(f"id, v, {partition}")]


def redeclared(bench: Bench, stream: str) -> Bench:
    """The same landing and warehouse under another declaration."""
    fresh = Bench.of(bench.root, stream)
    return dataclasses.replace(bench, source=fresh.source, stream=fresh.stream)


def typed(kind: str) -> str:
    return f"window: {{column: t}}\ncolumns:\n  id: integer\n  t: timestamp\n  v: {kind}\n"


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])
