"""Tables as DuckDB scans them: `pyarrow.dataset.Dataset`s without a file behind.

DuckDB asks a dataset for a scanner with the columns and the predicate it needs, and reads it as a stream. It
drops the predicates that it hands over, so every batch is filtered exactly here.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from etl_assets.spec import Stream
from etl_assets.sql.errors import ProgrammingError
from etl_assets.sql.pages import Reader, checked, example, filters_of
from etl_assets.sql.pushdown import Request, Wanted, WindowNeeded, askings, request_for, wanted
from etl_assets.sql.statement import ScanLog, Statement
from etl_assets.sql.substrait import Unknown, decode, referenced
from etl_assets.sql.tables import ROW, Table

log = logging.getLogger(__name__)

_ALWAYS_WORTH = 3  # requests for the keys of a join; more are weighed against the pages that they spare


class ApiTable(ds.Dataset):  # type: ignore[misc]  # pyarrow has no types
    """A table for the scans of one statement. `name` is the one that it is registered under."""

    def __init__(self, table: Table, name: str, statement: Statement, typing: duckdb.DuckDBPyConnection) -> None:
        # No super().__init__(): there is nothing native behind.
        self._table = table
        self._name = name
        self._statement = statement
        self._typing = typing

    @property
    def schema(self) -> pa.Schema:
        """The scan's columns."""
        return self._table.schema

    @property
    def partition_expression(self) -> pc.Expression:
        """Nothing is known of all rows."""
        return pc.scalar(True)

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None, **_: Any) -> "Scanner":  # noqa: A002
        """What DuckDB calls once per scan, when the statement runs."""
        try:
            return self._scanner(list(columns) if columns is not None else self.schema.names, filter)
        except BaseException as error:
            self._statement.error = self._statement.error or error
            raise

    def _scanner(self, columns: list[str], mask: pc.Expression | None) -> "Scanner":
        table, statement = self._table, self._statement
        rows, used = _read(mask, self.schema)
        reader, spent = Reader(statement, self._typing), ScanLog(table.name, ())
        try:
            rows = self._with_keys(rows, reader, spent)
            request = checked(table, request_for(table, rows, now=statement.now, sort=statement.sort), statement)
        except WindowNeeded:
            column = table.stream.window and table.stream.window.column
            raise ProgrammingError(
                f"{table.name}: rows before {table.source.start} are asked for without a lower bound of {column}; "
                f"give one, for example {example(table)}"
            ) from None
        if statement.promised.get(self._name):
            request = replace(request, exact=False)
        scan = _log(table, request, rows, columns, mask, statement.promised.get(self._name, ""))
        scan.requests = spent.requests
        statement.scans.append(scan)
        schema = pa.schema([self.schema.field(name) for name in columns])
        if statement.dry:
            return Scanner(schema, iter(()))
        return Scanner(schema, _kept(reader.batches(request, scan, columns, mask, sorted(used)), statement))

    def _with_keys(self, rows: Wanted, reader: Reader, scan: ScanLog) -> Wanted:
        """The rows wanted, limited to the keys of a join where that takes fewer requests than reading all of them."""
        keys = self._statement.keys.get(self._name)
        if keys is None:
            return rows
        limited, stream = rows.both(keys), self._table.stream
        lists = len(askings(request_for(self._table, limited, now=self._statement.now)))
        size = getattr(stream.paging, "size", None)
        if lists <= _ALWAYS_WORTH or stream.query.count is None or stream.each or not size:
            return limited
        whole = request_for(self._table, rows, now=self._statement.now)
        return limited if lists <= -(-reader.count(whole, scan) // size) else rows


class Scanner:
    """The two things of a scanner that DuckDB uses."""

    def __init__(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        self.projected_schema = schema
        self._batches = batches

    def to_reader(self) -> pa.RecordBatchReader:
        """The batches as a stream, each made when it is asked for."""
        return pa.RecordBatchReader.from_batches(self.projected_schema, self._batches)


def _kept(batches: Iterator[pa.RecordBatch], statement: Statement) -> Iterator[pa.RecordBatch]:
    """The batches; an error is kept for the cursor, for DuckDB only carries its text."""
    try:
        yield from batches
    except GeneratorExit:
        raise
    except BaseException as error:
        statement.error = statement.error or error
        raise


def _read(mask: pc.Expression | None, schema: pa.Schema) -> tuple[Wanted, set[str]]:
    """What the predicate wants, and at least the columns it looks at."""
    if mask is None:
        return Wanted(), set()
    try:
        message = bytes(mask.to_substrait(schema))
        return wanted(decode(message, schema.names)), referenced(message, schema.names) - {ROW}
    except (ValueError, pa.ArrowException, LookupError, UnicodeDecodeError) as error:
        log.debug("not pushed: %s: %s", mask, error)
        return wanted(Unknown()), set(schema.names) - {ROW}


def _log(
    table: Table, request: Request, rows: Wanted, columns: Sequence[str], mask: pc.Expression | None, promised: str
) -> ScanLog:
    used = {*request.values, *request.ranges, *([request.row[0]] if request.row else ())}
    used |= {*request.parents.values} if request.parents else set()
    return ScanLog(
        table=table.name,
        columns=tuple(name for name in columns if name != ROW),
        pushed=(*_pushed(request), *([promised] if promised else [])),
        local="" if mask is None or request.exact else " ".join(str(mask).split()),
        exact=request.exact,
        estimate=_estimate(request, columns),
    )


def _pushed(request: Request) -> Iterator[str]:
    """What the API is asked for, in a few words each."""
    stream, zone = request.table.stream, ZoneInfo(request.table.source.timezone)
    if request.nothing:
        yield "nothing: no row can match"
    for name, values in request.values.items():
        yield f"{stream.query.eq[name].name}={_shown(values)}"
    if request.row:
        name, values = request.row
        yield f"{stream.query.row[name]} for {_shown(values)}"
    for name, span in request.ranges.items():
        yield _between(name, span.low, span.high, zone)
    if request.window:
        yield _between(str(stream.window and stream.window.column), *request.window, zone)
    if request.parents:
        above = stream.of or stream.each
        found = [f"{name}={_shown(sorted(values, key=repr))}" for name, values in request.parents.values.items()]
        found += [_between(name, span.low, span.high, zone) for name, span in request.parents.spans.items()]
        if above and found:
            yield f"{above.stream}: {', '.join(found)}"
    if request.sort:
        yield f"ORDER BY {request.sort.column} {'DESC' if request.sort.descending else 'ASC'} LIMIT {request.sort.rows}"


def _between(name: str, low: Any, high: Any, zone: ZoneInfo) -> str:
    parts = [f"{word} {_moment(bound, zone)}" for word, bound in (("from", low), ("to", high)) if bound is not None]
    return f"{name} {' '.join(parts)}"


def _moment(bound: Any, zone: ZoneInfo) -> str:
    if isinstance(bound, datetime) and bound.tzinfo:
        return bound.astimezone(zone).isoformat(sep=" ", timespec="seconds")
    return str(bound)


def _shown(values: Sequence[Any]) -> str:
    shown = ",".join(map(str, values[:5]))
    return shown if len(values) <= 5 else f"{shown},… ({len(values)} values)"


def _estimate(request: Request, columns: Sequence[str]) -> str:
    """How many requests it will take, as far as that is known before the first one."""
    stream = request.table.stream
    if request.nothing:
        return "0"
    size, lists = getattr(stream.paging, "size", None), len(askings(request))
    if stream.of:
        return f"those of {stream.of.stream}"
    if request.sort or request.row:
        return str(lists)
    count = stream.query.count is not None and request.exact and not stream.each
    if count and list(columns) == [ROW]:
        return f"{lists} (count)"
    if count and len(columns) == 1 and columns[0] in stream.query.closed:
        return "1 per value (counts), or pages if these are fewer"
    pages = f"{lists} per {size} rows" if size and lists == 1 else f"{lists}"
    if size and lists > 1:
        pages = f"{lists}, and more where a list exceeds {size} rows"
    return f"{pages} for each of the {stream.each.stream}" if stream.each else pages


def narrowing(table: Table) -> dict[str, str]:
    """What the API can be asked, by column: for comments and documents."""
    stream: Stream = table.stream
    told = dict.fromkeys(filters_of(table), "= IN")
    told |= dict.fromkeys(stream.query.ranges, "< > BETWEEN")
    if stream.window:
        told[stream.window.column] = "< > BETWEEN"
    for name in stream.query.sort.columns if stream.query.sort else ():
        told[name] = f"{told.get(name, '')} ORDER BY".strip()
    for name in stream.query.closed:
        told[name] = f"{told.get(name, '')} GROUP BY".strip()
    return told
