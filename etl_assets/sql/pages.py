"""From a request to Arrow batches: pages through the client, typed as the clean step types them.

What to put here: reading, typing, counting. What to keep out: deciding what to ask (pushdown.py), and what the
engine makes of the rows.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from etl_assets import answers, pool
from etl_assets.clean import elements, time_reading, transformed, typed_rows
from etl_assets.errors import ApiError, named
from etl_assets.extract import Api, ask, fan_out, row_values
from etl_assets.paginate import Page
from etl_assets.settings import plain_values
from etl_assets.spec import Stream
from etl_assets.sql.errors import OperationalError, ProgrammingError
from etl_assets.sql.pushdown import Asking, Request, Sorted, Wanted, askings, counting, request_for
from etl_assets.sql.statement import ScanLog, Statement
from etl_assets.sql.tables import ROW, Table
from etl_assets.sqltext import identifier

_PAGES_AT_HAND = 8
_PAGES_AT_ONCE, _BYTES_AT_ONCE = 50, 2_600_000  # typing takes some 20 times the bytes
_ROWS_AT_ONCE = 65_536
_SHOWN = 8
_LEAST_PAGES_WORTH_COUNTING = 3
_WORDS = re.compile(r"\w+")
_RECORDS = "SELECT 0 AS _page, stamp AS _stamp, record AS _record FROM received"


@dataclass(frozen=True)
class Reader:
    """Reads tables for one statement. `typing` is a database in memory of its own, in which rows are typed."""

    statement: Statement
    typing: duckdb.DuckDBPyConnection

    def batches(
        self, request: Request, scan: ScanLog, columns: Sequence[str], mask: pc.Expression | None, used: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """The rows that pass the mask, with the columns in this order. `used` are the columns of the mask."""
        if request.nothing:
            return
        if (counted := self._counted(request, scan, columns)) is not None:
            yield from counted
            return
        schema = pa.schema([request.table.schema.field(name) for name in columns])
        for batch in self._cheapest(request, scan, columns, mask, used):
            passing = batch if mask is None or not batch.num_rows else batch.filter(mask)
            scan.rows_used += passing.num_rows
            yield from _chosen(passing, schema)

    def _cheapest(
        self, request: Request, scan: ScanLog, columns: Sequence[str], mask: pc.Expression | None, used: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        needed = list(dict.fromkeys([*columns, *used, *request.table.stream.key]))
        if request.sort:
            first = self._sorted_page(request, scan, needed, mask, request.sort)
            if first is not None:
                yield first
                return
            request = replace(request, sort=None)
        yield from self._read(request, scan, needed)

    def _sorted_page(
        self, request: Request, scan: ScanLog, needed: Sequence[str], mask: pc.Expression | None, sort: Sorted
    ) -> pa.RecordBatch | None:
        """The first page in the order wanted, if it holds all the rows wanted; None if it does not."""
        page = next(self._fetched(request, scan), None)
        if page is None:
            return None
        batch, _ = self._typist(request.table, needed).typed([page])
        passing = batch.num_rows if mask is None else batch.filter(mask).num_rows
        whole = len(page.rows) < getattr(request.table.stream.paging, "size", 0)
        return batch if passing >= sort.rows or whole else None

    def _read(self, request: Request, scan: ScanLog, needed: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Typed rows, each key once."""
        keys = request.table.stream.key
        seen: set[Any] = set()
        batches = (
            self._children(request, scan, needed) if request.table.stream.of else self._pages(request, scan, needed)
        )
        for batch in batches:
            columns = [batch.column(name).to_pylist() for name in keys]
            fresh = []
            for place, key in enumerate(columns[0] if len(columns) == 1 else zip(*columns, strict=True)):
                if key not in seen:
                    seen.add(key)
                    fresh.append(place)
            yield batch if len(fresh) == batch.num_rows else batch.take(pa.array(fresh, pa.int64()))

    def _pages(self, request: Request, scan: ScanLog, needed: Sequence[str]) -> Iterator[pa.RecordBatch]:
        typist = self._typist(request.table, needed)
        for pages in self._grouped(self._ahead(self.fetched(request, scan))):
            batch, misfits = typist.typed(pages)
            for reason in misfits:
                self.statement.misfit(request.table.name, reason)
            yield batch

    def _children(self, request: Request, scan: ScanLog, needed: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The elements of the lists in the parents' rows."""
        table, stream = request.table, request.table.stream
        assert stream.of is not None
        parent = Table(table.source, table.source.stream(stream.of.stream))
        typist = self._typist(table, needed)
        taken = list(dict.fromkeys([stream.of.rows, *stream.of.stamp.values()]))
        for batch in self._parent_batches(parent, request.parents, scan, taken):
            typed, misfits = typist.elements(batch)
            for reason in misfits:
                self.statement.misfit(table.name, reason)
            yield typed

    def _parent_batches(
        self, parent: Table, rows: Wanted | None, scan: ScanLog, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        rows = rows or Wanted()
        request = checked(parent, request_for(parent, rows, now=self.statement.now), self.statement)
        mask = rows.expression(parent.schema)
        needed = list(dict.fromkeys([*columns, *rows.values, *rows.spans, *parent.stream.key]))
        for batch in self._read(request, scan, needed) if not request.nothing else ():
            yield batch if mask is None else batch.filter(mask)

    def fetched(self, request: Request, scan: ScanLog) -> Iterator[Page]:
        """The pages of a request, asked for unless the statement has them."""
        keep = request.table.name in self.statement.kept
        return self.statement.cache.pages(request.key, lambda: self._fetched(request, scan), keep=keep)

    def _fetched(self, request: Request, scan: ScanLog) -> Iterator[Page]:
        api = self.statement.api(request.table.source, scan)
        lists = self._lists(api, request, scan)
        parallel = 1 if self.statement.limited else api.connection.parallel
        if parallel > 1 and len(lists) > 1:
            units = [pool.Unit(partial(_work, api, one, stamp)) for one, stamp in lists]
            pages: Iterator[Page] = pool.in_order(units, min(parallel, len(units)))
        else:
            pages = (page for one, stamp in lists for page in _asked(api, one, stamp))
        for number, page in enumerate(pages):
            self.statement.took_rows(scan, len(page.rows))
            yield page
            if number == 0 and len(page.rows) >= (getattr(request.table.stream.paging, "size", None) or 1 << 60):
                self._check_budget(request, scan)

    def _lists(self, api: Api, request: Request, scan: ScanLog) -> list[tuple[Asking, Mapping[str, Any]]]:
        """Every sequence of pages, and what it stamps on its rows: per parent row where there are parents."""
        asked = askings(request)
        if request.table.stream.each is None or request.row:
            return [(one, {}) for one in asked]
        parents = self._parent_rows(request, scan)
        certain = len(asked) * len(parents)
        if certain > self.statement.limits.fan_out:
            refuse_fan_out(request.table, certain, self.statement.limits.fan_out)
        return [
            (replace(one, values={**one.values, **values}), stamp)
            for values, stamp in fan_out(api, request.table.stream, parents)
            for one in asked
        ]

    def _parent_rows(self, request: Request, scan: ScanLog) -> list[dict[str, Any]]:
        """The rows of the parent table that are wanted, as the fan-out takes them."""
        each = request.table.stream.each
        assert each is not None
        parent = Table(request.table.source, request.table.source.stream(each.stream))
        rows = request.parents or Wanted()
        above = checked(parent, request_for(parent, rows, now=self.statement.now), self.statement)
        mask = rows.expression(parent.schema)
        typist = self._typist(parent, list(dict.fromkeys([*parent.stream.key, *rows.values, *rows.spans])))
        found: dict[tuple[str, ...], dict[str, Any]] = {}
        for page in self.fetched(above, scan) if not above.nothing else ():
            with named(f"{parent.source.source}/{parent.stream.name}"):
                values = [row_values(parent.stream, raw, page.stamp) for raw in page.rows]
            if mask is not None and values:
                batch, _ = typist.typed([page])
                places = batch.append_column("_place", pa.array(range(len(values)), pa.int64())).filter(mask)
                values = [values[place] for place in places.column("_place").to_pylist()]
            for row in values:
                found.setdefault(tuple(str(row[name]) for name in parent.stream.key), row)
        return list(found.values())

    def _ahead(self, pages: Iterator[Page]) -> Iterator[Page]:
        """The pages; who has read some of them wants them all, and the next ones are asked for meanwhile."""
        yield from itertools.islice(pages, _PAGES_AT_HAND)
        following: pool.Unit[Page] = pool.Unit(lambda _: pages)
        yield from pages if self.statement.limited else pool.in_order([following], 1)

    def _grouped(self, pages: Iterator[Page]) -> Iterator[list[Page]]:
        """Pages to be typed together, for that costs little more than one: one by one where few rows may be wanted."""
        group: list[Page] = []
        size = 0
        for page in pages:
            group.append(page)
            size += len(page.body)
            if self.statement.limited or len(group) >= _PAGES_AT_ONCE or size >= _BYTES_AT_ONCE:
                yield group
                group, size = [], 0
        if group:
            yield group

    def _typist(self, table: Table, columns: Sequence[str]) -> "Typist":
        return Typist(table, [name for name in columns if name != ROW], self.typing.cursor())

    def _counted(self, request: Request, scan: ScanLog, columns: Sequence[str]) -> Iterator[pa.RecordBatch] | None:
        """The rows by their number alone, where the API can count what is wanted; None where they must be read."""
        stream = request.table.stream
        if stream.query.count is None or not request.exact or self.statement.limited or len(columns) != 1:
            return None
        (column,) = columns
        if column == ROW:
            return _repeated(request.table, {None: self.count(request, scan)}, column)
        if column not in stream.query.closed:
            return None
        total = self.count(request, scan)
        pages = -(-total // (getattr(stream.paging, "size", None) or 1))
        if pages < _LEAST_PAGES_WORTH_COUNTING:
            return None
        values = request.values.get(column) or self._closed(request, column, scan)
        if len(values) >= pages:
            return None
        counts: dict[Any, int] = {}
        for value in values:
            one = replace(request, values={**request.values, column: (value,)})
            counts[value] = self.count(one, scan)
        # A value that the list does not tell, or a row that changed meanwhile: then every row is looked at.
        return _repeated(request.table, counts, column) if sum(counts.values()) == total else None

    def count(self, request: Request, scan: ScanLog) -> int:
        """How many rows the API says there are."""
        stream = request.table.stream
        assert stream.query.count is not None
        api = self.statement.api(request.table.source, scan)
        parents: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = [({}, {})]
        if stream.each:
            parents = list(fan_out(api, stream, self._parent_rows(request, scan)))
        total = 0
        for asking in counting(request):
            for values, _ in parents:
                for page in ask(api, asking.stream, {**asking.values, **values}, {}):
                    value = answers.value_at(page.body, stream.query.count.value)
                    if not isinstance(value, int) or isinstance(value, bool):
                        raise ApiError(f"{stream.query.count.path}: no count in the answer", status=200)
                    total += value
        return total

    def _closed(self, request: Request, column: str, scan: ScanLog) -> tuple[Any, ...]:
        """All values that a closed column can have, in the parents that are wanted."""
        other, _, listed = request.table.stream.query.closed[column].partition(".")
        table = Table(request.table.source, request.table.source.stream(other))
        rows = Wanted({name: frozenset(v) for name, v in request.values.items() if name in table.stream.stamped()})
        found: set[Any] = set()
        for batch in self._parent_batches(table, rows, scan, [listed]):
            found.update(batch.column(listed).to_pylist())
        return tuple(sorted(found - {None}))

    def _check_budget(self, request: Request, scan: ScanLog) -> None:
        """Before a second page: raises OperationalError when the rows are known to be too many."""
        limits, stream = self.statement.limits, request.table.stream
        if (
            self.statement.limited
            or stream.query.count is None
            or stream.each
            or (limits.requests is None and limits.rows is None)
        ):
            return
        rows = self.count(replace(request, sort=None), scan)
        size = getattr(stream.paging, "size", None) or rows
        pages = -(-rows // max(size, 1))
        spent = self.statement.requests
        more = limits.rows is not None and rows > limits.rows
        if more or (limits.requests is not None and pages - 1 + spent > limits.requests):
            allowed = f"{limits.rows} rows (max_rows)" if more else f"{limits.requests} requests (max_requests)"
            raise OperationalError(
                f"{request.table.name}: {rows} rows in {pages} pages are needed, {allowed} are allowed; "
                f"narrow it by {', '.join(filters_of(request.table)[:_SHOWN]) or 'a LIMIT'}"
            )


def filters_of(table: Table) -> list[str]:
    """Columns by which the API can narrow the rows."""
    stream = table.stream
    above = stream.of or stream.each
    window = [stream.window.column] if stream.window else []
    named = [*window, *stream.query.eq, *stream.query.ranges, *stream.query.row, *(above.stamp if above else ())]
    return list(dict.fromkeys(named))


def checked(table: Table, request: Request, statement: Statement) -> Request:
    """The request, unless it takes more requests than a statement may fan out to."""
    certain = len(askings(request))
    if certain > statement.limits.fan_out:
        refuse_fan_out(table, certain, statement.limits.fan_out)
    return request


def refuse_fan_out(table: Table, requests: int, allowed: int) -> None:
    """Raises ProgrammingError with an example of a filter."""
    raise ProgrammingError(
        f"{table.name}: at least {requests} requests are needed, {allowed} are allowed (max_fan_out); "
        f"ask for less, for example {example(table)}"
    )


def example(table: Table) -> str:
    """A WHERE that the API can use."""
    stream = table.stream
    above = stream.of or stream.each
    if above and (column := next(iter(above.stamp), None)) and not (stream.window and column == stream.window.column):
        return f"WHERE {column} = {1 if table.types[column] == 'BIGINT' else repr('…')}"
    if stream.window:
        return f"WHERE {stream.window.column} >= now() - INTERVAL 7 DAY"
    column = next(iter(stream.query.eq), stream.key[0])
    return f"WHERE {column} = {1 if table.types[column] == 'BIGINT' else repr('…')}"


def _asked(api: Api, asking: Asking, stamp: Mapping[str, Any]) -> Iterator[Page]:
    try:
        for page in ask(api, asking.stream, asking.values, stamp):
            yield page
            if asking.short:
                return
    except ApiError as error:
        # One row asked for by its key, and there is none.
        if not (asking.stream.one and error.status == 404 and any(name.startswith("where.") for name in asking.values)):
            raise


def _work(api: Api, asking: Asking, stamp: Mapping[str, Any], unit: pool.Unit[Page]) -> Iterator[Page]:
    return _asked(api, asking, stamp)


def _repeated(table: Table, counts: Mapping[Any, int], column: str) -> Iterator[pa.RecordBatch]:
    """Batches of a column in which each value stands as often as it was counted."""
    schema = pa.schema([table.schema.field(column)])
    for value, count in counts.items():
        for begin in range(0, count, _ROWS_AT_ONCE):
            rows = min(_ROWS_AT_ONCE, count - begin)
            filler = pa.repeat(pa.scalar(value, schema.field(0).type), rows)
            yield pa.RecordBatch.from_arrays([filler], schema=schema)


def _chosen(batch: pa.RecordBatch, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    if not batch.num_rows:
        return
    arrays = [
        pa.nulls(batch.num_rows, field.type)
        if field.name == ROW and ROW not in batch.schema.names
        else batch.column(field.name)
        for field in schema
    ]
    yield pa.RecordBatch.from_arrays(arrays, schema=schema)


class Typist:
    """Types the rows of a table as the clean step does, as far as columns are needed."""

    def __init__(self, table: Table, columns: Sequence[str], db: duckdb.DuckDBPyConnection) -> None:
        self._table = table
        self._db = db
        self._relation: Any = None
        self._columns = list(columns)
        self._stream = table.stream if table.stream.transform else narrowed(table.stream, columns)
        self._reading = time_reading(table.stream, plain_values(table.source))
        self._schema = pa.schema([table.schema.field(name) for name in columns])

    def typed(self, pages: Sequence[Page]) -> tuple[pa.RecordBatch, list[str]]:
        """The rows of pages in their order, and why values of theirs are NULL that do not fit."""
        stamps: list[str] = []
        records: list[bytes] = []
        for page in pages:
            stamp = json.dumps(page.stamp, ensure_ascii=False, default=str)
            stamps += [stamp] * len(page.rows)
            records += map(bytes, page.rows)
        received = pa.table(
            {"stamp": pa.array(stamps, pa.string()), "record": pa.array(records, pa.binary()).cast(pa.string())}
        )
        return self._typed(received, _RECORDS)

    def elements(self, parents: pa.RecordBatch) -> tuple[pa.RecordBatch, list[str]]:
        """The rows in the lists of the parents' rows."""
        of = self._table.stream.of
        assert of is not None
        names = ", ".join(map(identifier, parents.schema.names))
        return self._typed(
            pa.Table.from_batches([parents]), elements(of, f"(SELECT 0 AS _page, {names} FROM received)")
        )

    def _typed(self, received: pa.Table, records: str) -> tuple[pa.RecordBatch, list[str]]:
        self._db.register("received", received)
        if self._relation is None:  # bound once; it reads what is registered when it is run
            rows = typed_rows(self._table.source, self._stream, records, self._reading)
            self._relation = self._db.sql(f"SELECT {self._selected()}, _reason FROM ({rows})")
        table = self._relation.to_arrow_table()
        reasons = table.column("_reason")
        misfits = [] if reasons.null_count == len(reasons) else [text for text in reasons.to_pylist() if text]
        if self._stream.transform:
            table = transformed(self._db, self._stream, table.drop_columns(["_reason"]))
        chosen = table.select(self._columns).cast(self._schema).combine_chunks()
        batches = chosen.to_batches()
        return (batches[0] if batches else pa.RecordBatch.from_pylist([], schema=self._schema)), misfits

    def _selected(self) -> str:
        if self._stream.transform:  # it is given all of them
            columns = ", ".join(identifier(name) for name, _ in self._stream.table_columns())
            return f"{columns}, _extra, CAST(_page AS BIGINT) AS _page"
        return ", ".join(
            f"CAST({identifier(name)} AS VARCHAR) AS {identifier(name)}"
            if self._table.types[name] == "JSON"
            else identifier(name)
            for name in self._columns
        )


def narrowed(stream: Stream, columns: Sequence[str]) -> Stream:
    """The stream with no more columns than these need: planning a SELECT over all of them takes longer than rows do."""
    needed, local = {*columns, *stream.key}, []
    for name in stream.local:
        if f"{name}_local" in needed:
            needed.add(name)
            local.append(name)
    waiting = [name for name in stream.derived if name in needed]
    derived: dict[str, Any] = {}
    while waiting:
        name = waiting.pop()
        derived[name] = stream.derived[name]
        words = set(_WORDS.findall(stream.derived[name].sql or ""))
        needed |= words
        waiting += [other for other in stream.derived if other in words and other not in derived]
    kept = {
        path: column
        for (path, column), (name, _, _) in zip(stream.columns.items(), stream.field_columns(), strict=True)
        if name in needed
    }
    return stream.model_copy(
        update={
            "columns": kept,
            "derived": {name: column for name, column in stream.derived.items() if name in derived},
            "local": local,
            "window": None,
            "extra": "drop",
        }
    )
