"""Marts: tables built from warehouse tables by one SELECT each, in `etl_assets/marts/<name>.sql`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb

SCHEMA = "mart"


@dataclass(frozen=True)
class Mart:
    """A mart: its name, the comment at the head of its file, its SELECT, and the tables that this reads."""

    name: str
    description: str
    sql: str
    tables: tuple[tuple[str, str], ...]


def load_marts() -> list[Mart]:
    """Every mart, those that others read before them."""
    folder = Path(str(resources.files("etl_assets"))) / "marts"
    marts = [_read(file) for file in sorted(folder.glob("*.sql"))]
    ordered: list[Mart] = []
    while marts:
        ready = [mart for mart in marts if not _reads(mart, marts)]
        if not ready:
            raise ValueError(f"marts read each other in a circle: {', '.join(mart.name for mart in marts)}")
        ordered += ready
        marts = [mart for mart in marts if mart not in ready]
    return ordered


def _reads(mart: Mart, others: list[Mart]) -> bool:
    return any((SCHEMA, other.name) in mart.tables for other in others)


def _read(file: Path) -> Mart:
    sql = file.read_text("utf-8")
    comment = [line.removeprefix("--").strip() for line in sql.splitlines() if line.startswith("--")]
    return Mart(file.stem, " ".join(comment), sql, tables_of(sql))


def tables_of(select: str) -> tuple[tuple[str, str], ...]:
    """(schema, table) of every table that a SELECT names with its schema, sorted."""
    with duckdb.connect(":memory:") as db:
        ((tree,),) = db.execute("SELECT json_serialize_sql(?)", [select]).fetchall()
    return tuple(sorted(set(_tables(json.loads(tree)))))


def _tables(tree: Any) -> Iterator[tuple[str, str]]:
    """(schema, table) of every table that a serialised statement names with its schema."""
    if isinstance(tree, dict):
        if tree.get("type") == "BASE_TABLE" and tree["schema_name"]:
            yield tree["schema_name"], tree["table_name"]
        tree = list(tree.values())
    if isinstance(tree, list):
        for part in tree:
            yield from _tables(part)
