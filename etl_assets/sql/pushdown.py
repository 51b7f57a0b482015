"""From a predicate to what an API is asked. Pure: no request is made here.

An API may give more rows than the predicate wants, and never fewer: the engine filters what comes. `exact` says
that it gives no more, so that counts can be left to it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from etl_assets import window
from etl_assets.spec import PLACEHOLDER, OnePage, Parameter, Range, Stream, WindowSpec
from etl_assets.sql.substrait import Among, Compare, Every, Predicate, Present, Some, Unknown
from etl_assets.sql.tables import Table
from etl_assets.template import filled
from etl_assets.window import Window

MOST_ROW_REQUESTS = 200
_MOST_PARTS = 50
_MOST_PARTS_OF_A_PLAIN_COLUMN = 5
_LONG_AGO, _FAR_AHEAD = date(1970, 1, 2), date(2100, 1, 1)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Span:
    """Bounds of a column, both inclusive; None is open."""

    low: Any = None
    high: Any = None

    def within(self, other: "Span") -> "Span":
        """What lies in both."""
        lows = [one for one in (self.low, other.low) if one is not None]
        highs = [one for one in (self.high, other.high) if one is not None]
        return Span(max(lows, default=None), min(highs, default=None))

    def around(self, other: "Span") -> "Span":
        """The least that holds both."""
        low = None if self.low is None or other.low is None else min(self.low, other.low)
        high = None if self.high is None or other.high is None else max(self.high, other.high)
        return Span(low, high)


@dataclass(frozen=True)
class Wanted:
    """What rows are wanted: values and bounds by column, all of which hold.

    `exact` says that nothing else is demanded but that the columns of `present` are not NULL.
    """

    values: Mapping[str, frozenset[Any]] = field(default_factory=dict)
    spans: Mapping[str, Span] = field(default_factory=dict)
    present: frozenset[str] = frozenset()
    exact: bool = True

    @property
    def nothing(self) -> bool:
        """No row can fulfil this."""
        return not all(self.values.values())

    def both(self, other: "Wanted") -> "Wanted":
        """What both demand."""
        values, spans = dict(self.values), dict(self.spans)
        for column, allowed in other.values.items():
            values[column] = values[column] & allowed if column in values else allowed
        for column, span in other.spans.items():
            spans[column] = spans[column].within(span) if column in spans else span
        return Wanted(values, spans, self.present | other.present, self.exact and other.exact)

    def either(self, other: "Wanted") -> "Wanted":
        """The least that holds what one or the other wants."""
        values = {name: one | other.values[name] for name, one in self.values.items() if name in other.values}
        spans = {name: one.around(other.spans[name]) for name, one in self.spans.items() if name in other.spans}
        same = self.values.keys() == other.values.keys() and len(values) == 1
        plain = not (self.spans or other.spans or self.present or other.present)
        return Wanted(values, spans, exact=self.exact and other.exact and same and plain)

    def expression(self, schema: pa.Schema) -> pc.Expression | None:
        """The same as a filter; None when everything is wanted."""
        parts = [pc.field(name).isin(pa.array(list(v), schema.field(name).type)) for name, v in self.values.items()]
        for name, span in self.spans.items():
            kind = schema.field(name).type
            parts += [pc.field(name) >= pa.scalar(span.low, kind)] if span.low is not None else []
            parts += [pc.field(name) <= pa.scalar(span.high, kind)] if span.high is not None else []
        result: pc.Expression | None = None
        for part in parts:
            result = part if result is None else result & part
        return result


def wanted(predicate: Predicate) -> Wanted:
    """What a predicate demands, as far as it can be said by values and bounds of columns."""
    match predicate:
        case Compare(column, "equal", value):
            return Wanted({column: frozenset([value])})
        case Compare(column, operator, value):
            # Strict bounds are taken as inclusive: more rows, and never fewer.
            span = Span(low=value) if operator in ("gt", "gte") else Span(high=value)
            return Wanted(spans={column: span})
        case Among(column, values):
            return Wanted({column: values})
        case Present(column):
            return Wanted(present=frozenset([column]))
        case Every(parts):
            result = Wanted()
            for part in parts:
                result = result.both(wanted(part))
            return result
        case Some(parts) if parts:
            first, *rest = map(wanted, parts)
            for one in rest:
                first = first.either(one)
            return first
    assert isinstance(predicate, Unknown | Some)
    return Wanted(exact=False)


@dataclass(frozen=True)
class Sorted:
    """Rows wanted in an order that the API knows, and how many."""

    column: str
    descending: bool
    rows: int


@dataclass(frozen=True)
class Request:
    """What is asked of the API for one scan.

    `values` go to parameters; `window` is the span of the stream's window, None where it is not asked for;
    `row` is a column whose values are asked for one by one; `parents` is what is wanted of the parent table.
    """

    table: Table
    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    ranges: Mapping[str, Span] = field(default_factory=dict)
    window: tuple[datetime | None, datetime | None] | None = None
    row: tuple[str, tuple[Any, ...]] | None = None
    parents: Wanted | None = None
    sort: Sorted | None = None
    exact: bool = False
    nothing: bool = False

    @property
    def key(self) -> str:
        """Equal for requests that get the same pages."""
        parts = (sorted(self.values.items()), sorted(self.ranges.items()), self.window, self.row, self.sort)
        above = self.parents and (sorted((k, sorted(map(repr, v))) for k, v in self.parents.values.items()),)
        below = self.parents and sorted(self.parents.spans.items())
        return repr((self.table.name, parts, above, below))


class WindowNeeded(Exception):
    """The API cannot be asked without a lower bound of its window column."""


def request_for(table: Table, rows: Wanted, *, now: datetime, sort: Sorted | None = None) -> Request:
    """The cheapest request that gives all rows wanted. `now` ends what has no end.

    Raises WindowNeeded when only an upper bound is given, and it lies before the source's first day.
    """
    stream = table.stream
    if rows.nothing:
        return Request(table, exact=True, nothing=True)
    if stream.transform and not stream.of:  # what it makes of columns, the API does not know
        rows = Wanted(exact=False)
    parents = _parents(table, rows)
    row = _row(stream, rows)
    if row:
        return Request(table, row=row)
    values = _values(stream, rows)
    ranges = {name: span for name, span in rows.spans.items() if name in stream.query.ranges}
    asked = {*values, *(parents[1] if parents else ())}
    covered = asked | set(stream.key)
    exact = (
        rows.exact
        and all(name in asked and _is_exact(table, name, parents) for name in rows.values)
        and not rows.spans
        and rows.present <= covered
    )
    alone = any(stream.query.eq[name].alone for name in values)
    request = Request(
        table,
        values=values,
        ranges=ranges,
        window=_window(table, rows, alone, now) if asks_window(stream) else None,
        parents=parents[0] if parents else None,
        exact=exact,
    )
    # Each of several lists would have an order of its own.
    return replace(request, sort=sort) if _can_sort(stream, sort) and len(askings(request)) == 1 else request


def asks_window(stream: Stream) -> bool:
    """Whether the window is in the request itself, and not in that of a parent."""
    asked = str([stream.path, stream.params, stream.json_body, stream.form])
    return stream.window is not None and bool({"since", "until"} & set(PLACEHOLDER.findall(asked)))


def _is_exact(table: Table, name: str, parents: tuple[Wanted, set[str]] | None) -> bool:
    """Texts are compared in ways of the API's own: case, width, parts of words."""
    return table.types[name] == "BIGINT" or (parents is not None and name in parents[1])


def _values(stream: Stream, rows: Wanted) -> dict[str, tuple[Any, ...]]:
    """Values for parameters. At most one column has more of them than one request takes."""
    values: dict[str, tuple[Any, ...]] = {}
    parted = False
    for name, parameter in stream.query.eq.items():
        if name not in rows.values:
            continue
        listed = tuple(sorted(rows.values[name]))
        parts = -(-len(listed) // size(parameter))
        rare = name in stream.key or parameter.alone
        if parts > (_MOST_PARTS if rare else _MOST_PARTS_OF_A_PLAIN_COLUMN) or (parts > 1 and parted):
            continue
        parted |= parts > 1
        values[name] = listed
    return values


def size(parameter: Parameter) -> int:
    """How many values one request takes."""
    return 1 if parameter.form == "one" else parameter.most


def _row(stream: Stream, rows: Wanted) -> tuple[str, tuple[Any, ...]] | None:
    for name in stream.query.row:
        listed = rows.values.get(name, frozenset())
        if 0 < len(listed) <= MOST_ROW_REQUESTS and not any(
            key in rows.values for key in stream.query.eq if key in stream.key
        ):
            return name, tuple(sorted(listed))
    return None


def _parents(table: Table, rows: Wanted) -> tuple[Wanted, set[str]] | None:
    """What is wanted of the parent table, and the columns of this one that say so."""
    stream = table.stream
    above = stream.of or stream.each
    if above is None:
        return None
    kinds = dict(table.source.stream(above.stream).table_columns())
    shared = {name: taken for name, taken in above.stamp.items() if table.types[name] == kinds[taken]}
    values = {shared[name]: listed for name, listed in rows.values.items() if name in shared}
    spans = {shared[name]: span for name, span in rows.spans.items() if name in shared}
    return Wanted(values, spans, exact=False), {*shared} & {*rows.values, *rows.spans}


def _can_sort(stream: Stream, sort: Sorted | None) -> bool:
    most = getattr(stream.paging, "size", None) or 0
    return bool(
        sort
        and not stream.each
        and stream.query.sort
        and sort.column in stream.query.sort.columns
        and sort.rows <= most
    )


def _window(table: Table, rows: Wanted, alone: bool, now: datetime) -> tuple[datetime | None, datetime | None] | None:
    """The span `[start, end)` to ask for; None for all time, where the API needs no window."""
    stream, zone = table.stream, ZoneInfo(table.source.timezone)
    assert stream.window is not None
    span = rows.spans.get(stream.window.column, Span())
    listed = rows.values.get(stream.window.column)
    if listed:
        span = span.within(Span(min(listed), max(listed)))
    low, high = _instant(span.low, zone), _instant(span.high, zone, end=True)
    optional = stream.query.window == "optional"
    if low is None and high is None and (optional or alone):
        return None
    if optional:
        if stream.method == "GET":
            return low, high  # a parameter without a value is left out
        return low or _midnight(_LONG_AGO, zone), high or _midnight(_FAR_AHEAD, zone)
    assert table.source.start is not None
    first = _midnight(table.source.start, zone)
    # Midnight, so that later statements of the day ask the same; a day more for those who are ahead of this zone.
    last = _midnight(now.astimezone(zone).date() + timedelta(days=2), zone)
    if low is None and high is not None and high <= first:
        raise WindowNeeded
    return low or first, high or max(last, (low or first) + timedelta(days=1))


def _instant(value: Any, zone: ZoneInfo, *, end: bool = False) -> datetime | None:
    """A bound as an instant; the end of the window lies behind the last value."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return value + _TICK if end else value
    return _midnight(value + timedelta(days=1) if end else value, zone)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


@dataclass(frozen=True)
class Asking:
    """A stream as it is asked for a request, and the values of its placeholders: one sequence of pages.

    `short` says that all rows stand on the first page: no more keys are asked for than it has room for.
    """

    stream: Stream
    values: Mapping[str, Any]
    short: bool = False


def askings(request: Request) -> list[Asking]:
    """The sequences of pages that the request takes, for each parent row where there are parents."""
    stream = request.table.stream
    if request.nothing:
        return []
    if request.row:
        name, listed = request.row
        return [_one_row(stream, name, value) for value in listed]
    asked = overlaid(stream, request)
    return [
        Asking(asked, {**times, **_ranges(stream, request), **part}, _is_short(stream, part))
        for part in _parts(stream, request.values)
        for times in _windows(request)
    ]


def _is_short(stream: Stream, part: Mapping[str, Any]) -> bool:
    keys = part.get(f"where.{stream.key[0]}") if len(stream.key) == 1 else None
    return isinstance(keys, list) and len(keys) <= (getattr(stream.paging, "size", None) or 0)


def overlaid(stream: Stream, request: Request) -> Stream:
    """The stream with the parameters of the request as placeholders `where.<column>` and `from.`/`to.<column>`."""
    query = stream.query
    parameters = {query.eq[name].name: f"{{where.{name}}}" for name in request.values}
    for name in request.ranges:
        parameters |= {
            query.ranges[name].since: f"{{from.{name}}}",
            query.ranges[name].until: f"{{to.{name}}}",
        }
    changes: dict[str, Any] = {}
    if query.into:
        conditions = [
            filled(query.condition, {"name": query.eq[name].name, "values": f"{{where.{name}}}"})
            for name in request.values
        ]
        changes["json_body"] = _appended(stream.json_body, query.into.split("."), conditions)
    else:
        place = "json_body" if stream.json_body is not None else "form" if stream.form is not None else "params"
        changes[place] = {**getattr(stream, place), **parameters}
    if request.sort and query.sort:
        words = {
            "name": query.sort.columns[request.sort.column],
            "order": "desc" if request.sort.descending else "asc",
            "ascending": not request.sort.descending,
        }
        changes["params"] = {**changes.get("params", stream.params), **filled(query.sort.params, words)}
        body = changes.get("json_body", stream.json_body)
        changes["json_body"] = _merged(body, filled(query.sort.json_body, words)) if query.sort.json_body else body
    return stream.model_copy(update=changes)


def counting(request: Request) -> list[Asking]:
    """The requests that count the rows, for each parent row where there are parents."""
    stream = request.table.stream
    assert stream.query.count is not None
    sort = stream.query.sort.params if stream.query.sort else {}
    paging = {"page", "offset", "size", "last", "cursor"}
    result = []
    for asking in askings(replace(request, sort=None)):
        params = {
            name: value
            for name, value in asking.stream.params.items()
            if name not in sort and not paging & set(PLACEHOLDER.findall(str(value)))
        }
        counted = _single(asking.stream, stream.query.count.path, params)
        result.append(Asking(counted, asking.values))
    return result


def _single(stream: Stream, path: str, params: dict[str, Any]) -> Stream:
    return stream.model_copy(
        update={"path": path, "params": params, "one": True, "rows": "", "paging": OnePage(), "alternatives": []}
    )


def _one_row(stream: Stream, name: str, value: Any) -> Asking:
    path = stream.query.row[name].replace(f"{{{name}}}", f"{{where.{name}}}")
    return Asking(_single(stream, path, {}), {f"where.{name}": value})


def _parts(stream: Stream, values: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Values by placeholder; where a column has more than one request takes, several."""
    whole: dict[str, Any] = {}
    parted: list[dict[str, Any]] = [{}]
    for name, listed in values.items():
        parameter = stream.query.eq[name]
        step = size(parameter)
        pieces = [_written(parameter, listed[at : at + step]) for at in range(0, len(listed), step)]
        if len(pieces) > 1:
            parted = [{f"where.{name}": piece} for piece in pieces]
        else:
            whole[f"where.{name}"] = pieces[0]
    for part in parted:
        yield {**whole, **part}


def _written(parameter: Parameter, values: tuple[Any, ...]) -> Any:
    if parameter.form == "one":
        return values[0]
    return ",".join(map(str, values)) if parameter.form == "csv" else list(values)


def _windows(request: Request) -> list[dict[str, Any]]:
    stream, spec = request.table.stream, request.table.stream.window
    if spec is None or not asks_window(stream):
        return [{}]
    start, end = request.window or (None, None)
    zone = ZoneInfo(request.table.source.timezone)
    if start is None or end is None:
        return [_half_open(start, end, zone, spec)]
    wide = Window(start.astimezone(zone), end.astimezone(zone), zone).widened(spec.widen)
    return [
        {
            "since": window.since(part, spec.format),
            "until": window.until(part, spec.format, inclusive=spec.inclusive),
        }
        for part in wide.slices(spec.longest)
    ]


def _half_open(
    start: datetime | None, end: datetime | None, zone: ZoneInfo, spec: WindowSpec | Range
) -> dict[str, Any]:
    """A window with one end, or none: what has no value is left out of the request."""
    low = start and (start.astimezone(zone) - spec.widen)
    high = end and (end.astimezone(zone) + spec.widen)
    return {
        "since": low and window.since(Window(low, low, zone), spec.format),
        "until": high and window.until(Window(high, high, zone), spec.format, inclusive=spec.inclusive),
    }


def _ranges(stream: Stream, request: Request) -> dict[str, Any]:
    zone = ZoneInfo(request.table.source.timezone)
    values: dict[str, Any] = {}
    for name, span in request.ranges.items():
        spec: Range = stream.query.ranges[name]
        times = _half_open(_instant(span.low, zone), _instant(span.high, zone, end=True), zone, spec)
        values |= {f"from.{name}": times["since"], f"to.{name}": times["until"]}
    return values


def _appended(tree: Any, path: list[str], items: list[Any]) -> Any:
    """The tree with items at the end of the list at the path."""
    if not path:
        return [*(tree or []), *items]
    step, *rest = path
    return {**(tree or {}), step: _appended((tree or {}).get(step), rest, items)}


def _merged(tree: Any, over: Any) -> Any:
    """The tree with the values of another laid over it, mapping by mapping."""
    if not isinstance(tree, dict) or not isinstance(over, dict):
        return over
    return {**tree, **{name: _merged(tree.get(name), value) for name, value in over.items()}}
