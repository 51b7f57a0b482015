"""Fxiaoke's queries: what `search_query_info` says, and which rows it finds in which order.

What the vendor does not document is in `Reading`. Who may ask, and how rows look, is decided elsewhere.
"""

import random
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from functools import partial
from operator import itemgetter
from typing import Any

import msgspec

from etl_assets.sandbox.fxiaoke.base import Head
from etl_assets.sandbox.fxiaoke.data import FOREVER, Table
from etl_assets.sandbox.fxiaoke.fields import DECIMALS, PEOPLE, TIMES, CrmObject, Field, Row
from etl_assets.sandbox.fxiaoke.people import People

SHAPE, VALUE, TOO_DEEP = 32000, 15002, 10013

_MOST_ROWS = 100
_USUAL_ROWS = 20
_MOST_OFFSET = 10_000
_KEPT = 8
_MODIFIED = "last_modified_time"
# Fields that heads have, by their place there.
_SLOTS = {_MODIFIED: 0, "_id": 1, "create_time": 2}
_PAIR = 2

Test = Callable[[Any], bool]
Sight = Callable[[Row], bool]
Compare = Callable[[Any, tuple[Any, ...]], bool]


class ApiError(Exception):
    """An outcome other than success, as `errorCode` and `errorMessage`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Reading(msgspec.Struct, frozen=True):
    """How the vendor reads what its documents leave open."""

    inclusive: bool
    quoted_numbers: bool
    show_invalid: bool
    shuffle: bool


class Filter(msgspec.Struct, frozen=True):
    """A condition on one field."""

    field: Field
    operator: str
    values: tuple[Any, ...]


class Query(msgspec.Struct, frozen=True):
    """A query, read. Orders are fields, each with whether it ascends."""

    filters: tuple[Filter, ...]
    orders: tuple[tuple[Field, bool], ...]
    limit: int
    offset: int
    projection: frozenset[str] | None


def read(info: Any, kind: CrmObject, reading: Reading, people: People) -> Query:
    """What `search_query_info` asks for."""
    if not isinstance(info, dict):
        raise ApiError(SHAPE, "search_query_info 必须是对象")
    number = partial(_number, info, quoted=reading.quoted_numbers)
    limit, offset = number("limit", _USUAL_ROWS), number("offset", 0)
    if not 0 < limit <= _MOST_ROWS:
        raise ApiError(VALUE, f"limit 不能超过{_MOST_ROWS}")
    if offset > _MOST_OFFSET:
        raise ApiError(TOO_DEEP, f"offset 不能超过{_MOST_OFFSET}")
    if offset < 0 or offset % limit:
        raise ApiError(VALUE, "offset 必须是 limit 的整数倍")
    return Query(
        filters=tuple(_filter(item, kind, people) for item in _items(info, "filters")),
        orders=tuple(order for item in _items(info, "orders") if (order := _order(item, kind))),
        limit=limit,
        offset=offset,
        projection=projection(info.get("fieldProjection")),
    )


def projection(names: Any) -> frozenset[str] | None:
    """The fields that are wanted; all, if none are named."""
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ApiError(SHAPE, "fieldProjection 必须是字符串列表")
    return frozenset(names) or None


class Finder:
    """Finds rows, and remembers for a while what it found: the next page asks the same again."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._found: OrderedDict[object, list[Head]] = OrderedDict()

    def page(
        self, table: Table, query: Query, reading: Reading, *, viewer: str, sight: Sight | None
    ) -> tuple[list[Head], int]:
        """The rows of one page, and how many rows there are over all pages. No `sight` sees everything."""
        rest, start = _keyset(query)
        key = (table.kind.name, table.version, viewer, sight is None, rest, query.orders, reading)
        found = self._found.get(key)
        if found is None:
            found = self._find(table, rest, query.orders, reading, sight)
            if not reading.shuffle:
                self._found[key] = found
                while len(self._found) > _KEPT:
                    self._found.popitem(last=False)
        else:
            self._found.move_to_end(key)
        first = start(found)
        begin = first + query.offset
        return found[begin : begin + query.limit], len(found) - first

    def _find(
        self,
        table: Table,
        filters: tuple[Filter, ...],
        orders: tuple[tuple[Field, bool], ...],
        reading: Reading,
        sight: Sight | None,
    ) -> list[Head]:
        heads: Iterable[Head] = table.heads(*_window(filters), invalid=reading.show_invalid)
        on_rows: list[tuple[str, Test]] = []
        for condition in filters:
            test, slot = _test(condition, reading), _SLOTS.get(condition.field.name)
            if slot is None:
                on_rows.append((condition.field.name, test))
            else:
                heads = filter(_on(test, itemgetter(slot)), heads)
        if on_rows or sight:
            heads = (head for head in heads if _passes(table.row(head), on_rows, sight))
        return self._ordered(table, heads, orders, shuffle=reading.shuffle)

    def _ordered(
        self, table: Table, heads: Iterable[Head], orders: tuple[tuple[Field, bool], ...], *, shuffle: bool
    ) -> list[Head]:
        """Rows in order; those that are equal, or all, lie as they are stored, or in any order at all."""
        found = list(heads)
        if shuffle:
            self._random.shuffle(found)
        elif all(field.name != "_id" for field, _ in orders):
            found.sort(key=table.position)
        for field, ascending in reversed(orders):
            slot = _SLOTS.get(field.name)
            key = itemgetter(slot) if slot is not None else partial(_sort_key, table, field)
            found.sort(key=key, reverse=not ascending)
        return found


def _keyset(query: Query) -> tuple[tuple[Filter, ...], Callable[[list[Head]], int]]:
    """Take conditions that only say after which id to go on out of a query ordered by id."""
    if query.orders and query.orders[0][1] and query.orders[0][0].name == "_id":
        after = [f for f in query.filters if f.field.name == "_id" and f.operator in ("GT", "GTE") and f.values]
        if len(after) == 1:
            last, bisect = str(after[0].values[0]), bisect_right if after[0].operator == "GT" else bisect_left
            rest = tuple(f for f in query.filters if f is not after[0])
            return rest, lambda found: bisect(found, last, key=itemgetter(1))
    return query.filters, lambda found: 0


def _items(info: Mapping[str, Any], name: str) -> list[Any]:
    items = info.get(name)
    if items is None:
        return []
    if not isinstance(items, list):
        raise ApiError(SHAPE, f"{name} 必须是列表")
    return items


def _number(info: Mapping[str, Any], name: str, missing: int, *, quoted: bool) -> int:
    value = info.get(name, missing)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if quoted and isinstance(value, str) and value.isdecimal():
        return int(value)
    raise ApiError(VALUE, f"{name} 必须是整数")


def _order(item: Any, kind: CrmObject) -> tuple[Field, bool] | None:
    """A field to order by; what names no field orders nothing."""
    if not isinstance(item, dict):
        raise ApiError(SHAPE, "orders 的元素必须是对象")
    field = kind.fields.get(str(item.get("fieldName")))
    return None if field is None else (field, str(item.get("isAsc", True)).lower() == "true")


def _filter(item: Any, kind: CrmObject, people: People) -> Filter:
    if not isinstance(item, dict):
        raise ApiError(SHAPE, "filters 的元素必须是对象")
    name, operator, values = item.get("field_name"), item.get("operator"), item.get("field_values")
    field = kind.fields.get(str(name))
    if field is None:
        raise ApiError(VALUE, f"字段 {name} 不存在")
    if not isinstance(operator, str) or operator not in _OPERATORS:
        raise ApiError(VALUE, f"不支持的操作符 {operator}")
    if operator in _ON_EMPTINESS:
        return Filter(field, operator, ())
    if not isinstance(values, list):
        raise ApiError(SHAPE, "field_values 必须是列表")
    if len(values) < 1 or (operator in ("BETWEEN", "NBETWEEN") and len(values) != _PAIR):
        raise ApiError(VALUE, f"{operator} 的 field_values 个数不正确")
    if field.type in PEOPLE:
        values = [people.internal(str(value)) for value in values]
    texts = operator in _ON_TEXT
    return Filter(field, operator, tuple(str(value) if texts else _readable(field, value) for value in values))


def _readable(field: Field, value: Any) -> Any:
    try:
        return _value(field, value)
    except (ValueError, TypeError, InvalidOperation) as error:
        raise ApiError(VALUE, f"字段 {field.name} 的值 {value} 不合法") from error


def _value(field: Field, value: Any) -> Any:
    """A single value as something that can be compared with others of its field."""
    if field.value_type in DECIMALS:
        number = Decimal(str(value))
        if not number.is_finite():
            raise ValueError(value)
        return number
    if field.value_type in TIMES:
        return int(value)
    if field.value_type == "true_or_false":
        return str(value).lower() == "true"
    return str(value)


def _window(filters: Iterable[Filter]) -> tuple[int, int]:
    """Between which instants rows must have been modified at all events."""
    start, end = -FOREVER, FOREVER
    for condition in filters:
        if condition.field.name == _MODIFIED:
            if condition.operator in ("EQ", "GT", "GTE", "BETWEEN"):
                start = max(start, condition.values[0])
            if condition.operator in ("EQ", "LT", "LTE", "BETWEEN"):
                end = min(end, condition.values[-1])
    return start, end


def _on(test: Test, part: Callable[[Head], Any]) -> Callable[[Head], bool]:
    return lambda head: test(part(head))


def _passes(row: Row, conditions: Iterable[tuple[str, Test]], sight: Sight | None) -> bool:
    return all(test(row.get(name)) for name, test in conditions) and (sight is None or sight(row))


def _sort_key(table: Table, field: Field, head: Head) -> tuple[bool, Any]:
    """Empty values after all others."""
    value = table.row(head).get(field.name)
    if _is_empty(value):
        return True, 0
    if isinstance(value, list | dict):
        return False, str(value)
    try:
        return False, _value(field, value)
    except (ValueError, InvalidOperation):
        return True, 0


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [])


def _test(condition: Filter, reading: Reading) -> Test:
    """Whether a value of a row fulfils a condition."""
    field, operator, values = condition.field, condition.operator, condition.values
    if operator in _ON_EMPTINESS:
        wanted = _ON_EMPTINESS[operator]
        return lambda value: _is_empty(value) is wanted
    if operator in ("BETWEEN", "NBETWEEN"):
        compare: Compare = partial(_between, inclusive=reading.inclusive)
    else:
        compare = _OPERATORS[operator]
    empty_passes = operator in _MATCHING_EMPTY
    lists = operator in _ON_LISTS
    of_text = operator in _ON_TEXT
    negative = operator == "NBETWEEN"

    def test(value: Any) -> bool:
        if _is_empty(value):
            return empty_passes
        if isinstance(value, list):
            if not lists:
                return False
            own: Any = tuple(map(str, value))
        elif of_text:
            own = str(value)
        else:
            try:
                own = _value(field, value)
            except (ValueError, InvalidOperation):
                return empty_passes
        return compare(own, values) is not negative

    return test


def _between(own: Any, values: tuple[Any, ...], *, inclusive: bool) -> bool:
    low, high = values
    return bool(low <= own <= high if inclusive else low <= own < high)


def _equal(own: Any, values: tuple[Any, ...]) -> bool:
    return bool(own == values) if isinstance(own, tuple) else bool(own == values[0])


def _overlap(own: Any, values: tuple[Any, ...]) -> bool:
    return not set(own).isdisjoint(values) if isinstance(own, tuple) else own in values


def _contains(own: Any, values: tuple[Any, ...]) -> bool:
    return set(own).issuperset(values) if isinstance(own, tuple) else own in values


_OPERATORS: dict[str, Compare] = {
    "EQ": _equal,
    "N": lambda own, values: not _equal(own, values),
    "GT": lambda own, values: bool(own > values[0]),
    "GTE": lambda own, values: bool(own >= values[0]),
    "LT": lambda own, values: bool(own < values[0]),
    "LTE": lambda own, values: bool(own <= values[0]),
    "LIKE": lambda own, values: values[0] in own,
    "NLIKE": lambda own, values: values[0] not in own,
    "STARTWITH": lambda own, values: bool(own.startswith(values[0])),
    "ENDWITH": lambda own, values: bool(own.endswith(values[0])),
    "IN": _overlap,
    "NIN": lambda own, values: not _overlap(own, values),
    "HASANYOF": _overlap,
    "NHASANYOF": lambda own, values: not _overlap(own, values),
    "CONTAINS": _contains,
    "BETWEEN": partial(_between, inclusive=True),
    "NBETWEEN": partial(_between, inclusive=True),
    "IS": lambda own, values: False,
    "ISN": lambda own, values: True,
    "EXISTS": lambda own, values: True,
    "NEXISTS": lambda own, values: False,
}
_ON_EMPTINESS = {"IS": True, "ISN": False, "EXISTS": False, "NEXISTS": True}
_ON_TEXT = frozenset({"LIKE", "NLIKE", "STARTWITH", "ENDWITH"})
_ON_LISTS = frozenset({"EQ", "N", "IN", "NIN", "HASANYOF", "NHASANYOF", "CONTAINS"})
_MATCHING_EMPTY = frozenset({"N", "NLIKE", "NIN", "NHASANYOF"})
