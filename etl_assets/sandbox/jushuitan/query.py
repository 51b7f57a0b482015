"""What a call of a read endpoint asks for, and the page of rows that answers it.

An `Endpoint` says which filters there are and what they demand; `jushuitan_endpoints` lists them all. How
rows are spelled, and everything outside `biz`, belongs to others.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Literal

from etl_assets.sandbox.jushuitan.data import LONGEST_LAG
from etl_assets.sandbox.jushuitan.gate import VendorError
from etl_assets.sandbox.jushuitan.table import FAR, Row, Table, read_moment

Test = Callable[[Row], bool]
Order = Literal["newest", "oldest", "shuffled", "unstable"]

_PAGING = {"page_index", "page_size", "is_get_total"}


class Biz:
    """The business parameters of a call. Unknown ones are ignored, as by the vendor."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given

    def has(self, name: str) -> bool:
        """Whether a parameter has a value."""
        return self._given.get(name) not in (None, "", [])

    def names(self) -> set[str]:
        """The parameters that have a value."""
        return set(filter(self.has, self._given))

    def number(self, name: str) -> int | None:
        """A whole number, as such or as text."""
        value = self._given.get(name)
        if value in (None, ""):
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
            return int(value)
        raise VendorError(130, f"参数错误: {name} 须为数字")

    def flag(self, name: str, *, missing: bool = False) -> bool:
        """True or false, as such or as text."""
        value = self._given.get(name)
        return missing if value in (None, "") else value in (True, "true", "True", 1, "1")

    def text(self, name: str) -> str:
        """Text, empty if it is missing."""
        value = self._given.get(name)
        return "" if value is None else str(value)

    def moment(self, name: str) -> str:
        """A moment, empty if it is missing."""
        text = self.text(name)
        if text and read_moment(text) is None:
            raise VendorError(130, f"参数错误: {name} 格式须为 yyyy-MM-dd HH:mm:ss")
        return text

    def listed(self, name: str, *, form: str = "", most: int = 0) -> list[str]:
        """The values of a list: a JSON list or text joined by commas, one of them where `form` demands it."""
        value = self._given.get(name)
        if value in (None, "", []):
            return []
        if (form == "csv" and not isinstance(value, str)) or (form == "list" and not isinstance(value, list)):
            raise VendorError(130, f"参数错误: {name} 类型不正确")
        values = [str(part).strip() for part in (value if isinstance(value, list) else str(value).split(","))]
        if 0 < most < len(values):
            raise VendorError(130, f"参数错误: {name} 最多 {most} 个")
        return values


@dataclass(frozen=True)
class Ids:
    """A parameter that lists values of a field, at most so many, perhaps in one form only."""

    parameter: str
    field: str
    most: int = 0
    form: Literal["", "csv", "list"] = ""
    selects: bool = True
    """Whether it can stand in place of a window."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A read endpoint.

    - `size`, `most`: default and highest `page_size`;
    - `windows`: fields with `<field>_begin` and `<field>_end`, `days` the widest span between them, and
      `narrow` a parameter that makes it one day; `date_types` and `date_field` turn the first to other fields;
    - `needs`: the code of a call with no window, ids, version or other `selectors`, 0 where it is fine;
    - `version`: the parameter for reading by row version, `alone` if only paging may stand beside it;
    - `equal`: parameters and the field that has to equal them; `tests`: other filters;
    - `shown`: what a row shows, if not all of it.
    """

    table: str
    rows: str = "datas"
    size: int = 30
    most: int = 50
    windows: tuple[str, ...] = ("modified",)
    days: int = 7
    narrow: str = ""
    date_types: Mapping[int, str] = field(default_factory=dict)
    date_field: tuple[str, ...] = ()
    needs: int = 130
    ids: tuple[Ids, ...] = ()
    selectors: tuple[str, ...] = ()
    version: str = ""
    alone: bool = False
    equal: Mapping[str, str] = field(default_factory=dict)
    tests: Callable[[Biz], list[Test]] = lambda biz: []
    shown: Callable[[Biz, Row], Row] = lambda biz, row: row
    counts: bool = True


@dataclass(frozen=True)
class Page:
    """A page of rows; `total` is None where rows are never counted, 0 where the call asked not to."""

    rows: list[Row]
    number: int
    size: int
    total: int | None
    has_next: bool


@dataclass(frozen=True, kw_only=True)
class Habits:
    """What is not known of the vendor: the settings `page_size_over`, `window_end` and `order`."""

    clamp: bool
    exclusive: bool
    order: Order


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What a call asks for: rows in a span of a field or with one of these keys, from a version on, that pass.

    With `near` the field is never much earlier than `modified`.
    """

    field: str
    near: bool
    begin: str
    end: str
    keys: list[Any] | None
    version: int | None
    tests: list[Test]


class Finder:
    """Finds pages of one merchant's rows."""

    def __init__(self, tables: Mapping[str, Table], seed: int) -> None:
        self._tables = tables
        self._random = random.Random(seed)
        self._last: dict[str, tuple[Any, Sequence[Any]]] = {}

    def page(self, endpoint: Endpoint, given: Mapping[str, Any], habits: Habits) -> Page:
        """The page that a call asks for."""
        biz, table = Biz(given), self._tables[endpoint.table]
        number, size = _paging(endpoint, biz, habits)
        asked = _read(endpoint, biz, table, habits)
        counting = biz.flag("is_get_total", missing=True)
        offset, total = (number - 1) * size, 0
        if asked.version is not None and not counting:
            # Nobody needs to know all rows, of which there may be many: one more than the page is enough.
            ahead = list(islice(_matching(table, asked), offset, offset + size + 1))
            keys, has_next = ahead[:size], len(ahead) > size
        else:
            found = self._found(endpoint, given, asked, habits)
            total, has_next = len(found), offset + size < len(found)
            ordered = found if asked.version is not None else self._ordered(found, habits.order)
            keys = list(ordered[offset : offset + size])
        if habits.order == "shuffled" and asked.version is None:
            self._random.shuffle(keys)
        rows = [endpoint.shown(biz, row) for key in keys if (row := table.row(key)) is not None]
        told = (total if counting else 0) if endpoint.counts else None
        return Page(rows, number, size, told, has_next)

    def _found(self, endpoint: Endpoint, given: Mapping[str, Any], asked: _Asked, habits: Habits) -> Sequence[Any]:
        """All keys asked for. Those of the last call are kept, for the next call mostly wants their next page."""
        table = self._tables[endpoint.table]
        if not asked.tests:
            return _candidates(table, asked)
        filters = {name: value for name, value in given.items() if name not in ("page_index", "page_size")}
        call = (table.changes, habits, repr(sorted(filters.items())))
        last = self._last.get(endpoint.table)
        if last is None or last[0] != call:
            last = self._last[endpoint.table] = call, list(_matching(table, asked))
        return last[1]

    def _ordered(self, keys: Sequence[Any], order: Order) -> Sequence[Any]:
        """Keys, given from the oldest, in the order in which pages show them."""
        if order == "oldest":
            return keys
        return self._random.sample(keys, len(keys)) if order == "unstable" else keys[::-1]


def _paging(endpoint: Endpoint, biz: Biz, habits: Habits) -> tuple[int, int]:
    number, size = biz.number("page_index"), biz.number("page_size")
    number, size = 1 if number is None else number, endpoint.size if size is None else size
    if number < 1 or size < 1:
        raise VendorError(130, "参数错误: page_index 与 page_size 从 1 开始")
    if 0 < endpoint.most < size:
        if not habits.clamp:
            raise VendorError(130, f"参数错误: page_size 最大 {endpoint.most}")
        size = endpoint.most
    return number, size


def _read(endpoint: Endpoint, biz: Biz, table: Table, habits: Habits) -> _Asked:
    """Read the parameters, and refuse a call without those that the endpoint needs."""
    spans = {name: span for name in endpoint.windows if (span := _span(endpoint, biz, name, habits))}
    ids = [(one, values) for one in endpoint.ids if (values := biz.listed(one.parameter, form=one.form, most=one.most))]
    version = biz.number(endpoint.version) if endpoint.version else None
    if endpoint.alone and version is not None and biz.names() - _PAGING - {endpoint.version}:
        raise VendorError(130, f"参数错误: {endpoint.version} 只能与分页参数一起使用")
    selected = any(one.selects for one, _ in ids) or any(map(biz.has, endpoint.selectors))
    if endpoint.needs and version is None and not spans and not selected:
        raise VendorError(endpoint.needs, "参数错误: 修改时间与单号等条件不能同时为空")
    tests = [*endpoint.tests(biz), *(_among(one.field, values) for one, values in ids)]
    tests += [_among(column, [biz.text(name)]) for name, column in endpoint.equal.items() if biz.has(name)]
    tests += [_within(name, span) for name, span in spans.items() if name != "modified"]
    main, span, keys = _main_field(endpoint, biz), spans.get("modified"), _named(table, ids)
    if span and (main != "modified" or keys is not None):
        tests.append(_within(main, span))
    begin, end = span or ("", FAR)
    near = bool(endpoint.date_types)
    return _Asked(field=main, near=near, begin=begin, end=end, keys=keys, version=version, tests=tests)


def _span(endpoint: Endpoint, biz: Biz, name: str, habits: Habits) -> tuple[str, str] | None:
    """The two ends of a window, the later one inclusive; None without a window."""
    begin, end = biz.moment(f"{name}_begin"), biz.moment(f"{name}_end")
    if not begin and not end:
        return None
    if not begin or not end:
        raise VendorError(130, f"参数错误: {name}_begin 与 {name}_end 必须同时存在")
    days = 1 if endpoint.narrow and biz.has(endpoint.narrow) else endpoint.days
    span = datetime.fromisoformat(end) - datetime.fromisoformat(begin)
    if not timedelta() <= span <= timedelta(days=days):
        raise VendorError(130, f"参数错误: 时间间隔不能超过{days}天")
    return begin, _shifted(end, -1) if habits.exclusive else end


def _main_field(endpoint: Endpoint, biz: Biz) -> str:
    """The field that the window on `modified` is about."""
    if endpoint.date_types:
        kind = biz.number("date_type") or 0
        if kind not in endpoint.date_types:
            raise VendorError(130, "参数错误: date_type 不支持")
        return endpoint.date_types[kind]
    column = biz.text("date_field") if endpoint.date_field else ""
    if column and column not in endpoint.date_field:
        raise VendorError(130, "参数错误: date_field 不支持")
    return column or "modified"


def _named(table: Table, ids: Sequence[tuple[Ids, Sequence[str]]]) -> list[Any] | None:
    """The keys that can have the listed values, if they can be told without looking at all rows."""
    for one, values in ids:
        if (one.field,) == table.kind.key:
            numeric = isinstance(table.kind.blank[one.field], int)
            return [int(text) if numeric and text.isdecimal() else text for text in values]
        if table.kind.of_order and one.field in ("o_id", "so_id"):
            keys = (table.kind.of_order(int(text)) for text in values if text.isdecimal())
            return [*(key for key in keys if key is not None), *table.edited()]
    return None


def _matching(table: Table, asked: _Asked) -> Iterator[Any]:
    """The keys of the rows asked for; rows are only looked at where a test demands it."""
    for key in _candidates(table, asked):
        if not asked.tests or ((row := table.row(key)) is not None and all(test(row) for test in asked.tests)):
            yield key


def _candidates(table: Table, asked: _Asked) -> Sequence[Any]:
    """Keys among which those asked for are, from the oldest, or by version."""
    if asked.field == "modified" and asked.keys is None:
        return table.select(asked.begin, asked.end, asked.version)
    if asked.keys is None and asked.near:
        near = set(table.select(asked.begin, _shifted(asked.end, LONGEST_LAG)))
        keys = [key for key in near.union(table.edited()) if table.row(key) is not None]
    else:
        keys = [key for key in set(table.all() if asked.keys is None else asked.keys) if table.row(key) is not None]
    if asked.version is None:
        return sorted(keys, key=table.age)
    least = asked.version
    return sorted((key for key in keys if table.version(key) >= least), key=table.version)


def _among(column: str, values: Sequence[str]) -> Test:
    wanted = frozenset(values)
    return lambda row: str(row[column]) in wanted


def _within(column: str, span: tuple[str, str]) -> Test:
    begin, end = span
    return lambda row: isinstance(row[column], str) and begin <= row[column] <= end


def _shifted(moment: str, seconds: int) -> str:
    if moment == FAR:
        return FAR
    return str(datetime.fromisoformat(moment) + timedelta(seconds=seconds))
