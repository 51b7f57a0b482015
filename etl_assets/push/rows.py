"""The rows of a push: out of the warehouse or the clean files, with what is looked up beside them.

Everything is copied first, in one short read: the warehouse is free again before the first request
goes out. What to keep out: what becomes of a row (mapping.py).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import duckdb
import msgspec

from etl_assets.errors import FinalError
from etl_assets.push.mapping import Found, Wanted, unfit, wanted
from etl_assets.push.spec import Push, TargetField
from etl_assets.sqltext import identifier, literal

_ROWS = "rows"
_BATCH = 1000


class Readable(Protocol):
    """A warehouse, as far as a push knows it."""

    def spool(self, selects: Mapping[str, str], file: Path) -> None:
        """Copy the rows of each SELECT into a table of a new DuckDB file.

        The SELECTs are in DuckDB's dialect and name tables as `schema.table`; columns keep their types.
        """


def selects(push: Push) -> dict[str, str]:
    """What is read from the warehouse: by table of the copy, the SELECT."""
    origin = push.origin
    read = {f"lookup_{name}": f"SELECT * FROM {reference.table}" for name, reference in push.lookups.items()}
    if origin.table:
        read[_ROWS] = f"SELECT * FROM {origin.table}"
    if origin.sql:
        read[_ROWS] = origin.sql.rstrip().rstrip(";")
    return read


def records(push: Push, zone: str, *, spool: Path, clean: Path | None, memory_mb: int) -> Iterator[list[Wanted]]:
    """The records of all rows in the copy, in batches; `clean` is the file with the rows if not among them.

    Raises FinalError when the rows or a reference table lack a column.
    """
    rows = f"read_parquet({literal(str(clean))})" if clean else _ROWS
    with duckdb.connect(str(spool)) as db:
        db.execute("SET TimeZone = 'UTC'")
        db.execute(f"SET memory_limit = '{memory_mb}MB'")
        db.execute(f"SET temp_directory = {literal(str(spool.parent))}")
        _refuse_missing(db, rows, {*push.key, *(f.column for f in push.fields.values() if f.column)}, "from")
        for name, reference in push.lookups.items():
            _refuse_missing(db, _lookup(name), {reference.key, reference.value}, f"lookups.{name}")
        result = db.execute(_sql(push, rows))
        columns = [(column[0], column[1] == "JSON") for column in result.description or ()]
        while batch := result.fetchmany(_BATCH):
            yield [_record(push, zone, _row(columns, cells)) for cells in batch]


def _sql(push: Push, rows: str) -> str:
    """Every row with its record's id, how many rows share that, and per field with a look-up what was found."""
    found, joins = [], []
    for number, field in enumerate(_looked_up(push).values()):
        reference, table = push.lookups[str(field.lookup)], f"found{number}"
        value = identifier(reference.value)
        found.append(
            f"coalesce({table}.n, 0) AS _rows{number}, coalesce({table}.d, 0) AS _values{number}, "
            f"{table}.v AS _value{number},"
        )
        joins.append(
            f"""LEFT JOIN (SELECT CAST({identifier(reference.key)} AS VARCHAR) AS k, count(*) AS n,
                                  count(DISTINCT {value}) AS d, any_value({value}) AS v
                           FROM {_lookup(str(field.lookup))} GROUP BY 1) AS {table}
                ON {table}.k = CAST(r.{identifier(str(field.column))} AS VARCHAR)"""
        )
    return f"""WITH r AS (SELECT *, {_record_id(push)} AS _record_id FROM {rows})
               SELECT count(*) OVER (PARTITION BY _record_id) AS _same, {" ".join(found)} r.*
               FROM r {" ".join(joins)} ORDER BY _record_id"""


def _record_id(push: Push) -> str:
    """The key as one text; NULL where a part of it is. With several columns `/` stands between them."""
    texts = [f"CAST({identifier(column)} AS VARCHAR)" for column in push.key]
    if len(texts) == 1:
        return texts[0]
    return " || '/' || ".join(f"replace({text}, '/', '%2F')" for text in texts)


def _row(columns: list[tuple[str, bool]], cells: tuple[Any, ...]) -> dict[str, Any]:
    return {
        name: msgspec.json.decode(cell) if is_json and cell is not None else cell
        for (name, is_json), cell in zip(columns, cells, strict=True)
    }


def _record(push: Push, zone: str, row: dict[str, Any]) -> Wanted:
    record_id, same = row.pop("_record_id"), row.pop("_same")
    found = {
        path: Found(row.pop(f"_rows{number}"), row.pop(f"_values{number}"), row.pop(f"_value{number}"))
        for number, path in enumerate(_looked_up(push))
    }
    if record_id is not None and same > 1:
        return unfit(row, record_id, f"{same} rows have this id")
    return wanted(push, zone, row, found=found, record_id=record_id)


def _looked_up(push: Push) -> dict[str, TargetField]:
    return {path: field for path, field in push.fields.items() if field.lookup}


def _refuse_missing(db: duckdb.DuckDBPyConnection, table: str, needed: set[str], where: str) -> None:
    present = {name for name, *_ in db.execute(f"DESCRIBE FROM {table}").fetchall()}
    if missing := sorted(needed - present):
        raise FinalError(f"{where}: there is no column {missing[0]!r}; there are: {', '.join(sorted(present))}")


def _lookup(name: str) -> str:
    return identifier(f"lookup_{name}")
