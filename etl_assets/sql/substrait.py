"""Predicates that DuckDB hands to a scan, out of the Substrait that pyarrow makes of them.

Only what can be turned into an API's parameters is understood: = IN < <= > >= AND OR and IS NOT NULL. Everything
else becomes `Unknown`, which is no error: the engine's own filter decides on every row.
Message and field numbers are those of substrait's `algebra.proto` and `extended_expression.proto`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock
_WORD = 1 << 64


@dataclass(frozen=True)
class Compare:
    """`column <operator> value`; the operator is equal, lt, lte, gt or gte."""

    column: str
    operator: str
    value: Any


@dataclass(frozen=True)
class Among:
    """The column has one of the values."""

    column: str
    values: frozenset[Any]


@dataclass(frozen=True)
class Present:
    """The column is not NULL."""

    column: str


@dataclass(frozen=True)
class Every:
    """All parts hold."""

    parts: tuple["Predicate", ...]


@dataclass(frozen=True)
class Some:
    """At least one part holds."""

    parts: tuple["Predicate", ...]


@dataclass(frozen=True)
class Unknown:
    """Something else, which may hold or not."""


Predicate = Compare | Among | Present | Every | Some | Unknown

_MIRRORED = {"equal": "equal", "lt": "gt", "gt": "lt", "lte": "gte", "gte": "lte"}


def decode(message: bytes, names: Sequence[str]) -> Predicate:
    """The predicate of an ExtendedExpression; `names` are the columns of its schema. Raises ValueError if it is cut."""
    functions: dict[int, str] = {}
    expression = b""
    for number, value in _fields(message):
        if number == 2:
            declared = _message(value, 3)
            functions[_number(declared, 2)] = str(_message(declared, 3), "utf-8").partition(":")[0]
        elif number == 3:
            expression = _message(value, 1)
    return _Decoder(functions, names).predicate(expression)


def referenced(message: bytes, names: Sequence[str]) -> set[str]:
    """At least the columns that the expression looks at: those of every part that reads as a field reference."""
    expression = b"".join(value for number, value in _fields(message) if number == 3)
    return {names[index] for index in _references(expression) if index < len(names)}


class _Decoder:
    def __init__(self, functions: dict[int, str], names: Sequence[str]) -> None:
        self._functions = functions
        self._names = names

    def predicate(self, expression: bytes) -> Predicate:
        for number, value in _fields(expression):
            if number == 3:
                return self._function(value)
            if number == 6:
                return self._conditional(value)
            if number == 8:
                return self._among(value)
        return Unknown()

    def _function(self, call: bytes) -> Predicate:
        name = self._functions.get(_number(call, 1), "")
        arguments = [_message(value, 3) for number, value in _fields(call) if number == 4]
        if name == "and":
            return Every(tuple(map(self.predicate, arguments)))
        if name == "or":
            return Some(tuple(map(self.predicate, arguments)))
        if name == "is_not_null" and (column := self._column(arguments[0])):
            return Present(column)
        if name in _MIRRORED and len(arguments) == 2:
            left, right = arguments
            if (column := self._column(left)) and (found := self._literal(right)):
                return Compare(column, name, found[0])
            if (column := self._column(right)) and (found := self._literal(left)):
                return Compare(column, _MIRRORED[name], found[0])
        return Unknown()

    def _conditional(self, condition: bytes) -> Predicate:
        """`if x is not null then x in (...) else null`, as DuckDB 2 writes IN."""
        clauses = [value for number, value in _fields(condition) if number == 1]
        if len(clauses) != 1:
            return Unknown()
        test, then = self.predicate(_message(clauses[0], 1)), self.predicate(_message(clauses[0], 2))
        if isinstance(test, Present) and isinstance(then, Among) and then.column == test.column:
            return then
        return Unknown()

    def _among(self, choice: bytes) -> Predicate:
        column = self._column(_message(choice, 1))
        options = [self._literal(value) for number, value in _fields(choice) if number == 2]
        if column is None or any(option is None for option in options):
            return Unknown()
        return Among(column, frozenset(option[0] for option in options if option))

    def _column(self, expression: bytes) -> str | None:
        for number, value in _fields(expression):
            if number == 2:
                field = _message(_message(value, 1), 2)
                return self._names[_number(field, 1)]
        return None

    def _literal(self, expression: bytes) -> tuple[Any] | None:
        literal = next((value for number, value in _fields(expression) if number == 1), None)
        if literal is None:
            return None
        for number, value in _fields(literal):
            if number in _LITERALS:
                return (_LITERALS[number](value),)
        return None


def _signed(value: int) -> int:
    return value - _WORD if value >= _WORD >> 1 else value


def _wall(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=_signed(value))


def _decimal(value: bytes) -> Decimal:
    unscaled = int.from_bytes(_message(value, 1), "little", signed=True)
    return Decimal(unscaled).scaleb(-_number(value, 3))


_LITERALS: dict[int, Any] = {
    2: _signed,
    3: _signed,
    5: _signed,
    7: _signed,
    12: lambda value: value.decode("utf-8"),
    14: _wall,
    16: lambda value: date(1970, 1, 1) + timedelta(days=_signed(value)),
    24: _decimal,
    27: lambda value: _wall(value).replace(tzinfo=UTC),
}


def _references(message: bytes) -> Iterator[int]:
    """Indices of field references anywhere below: in doubt one too many, when bytes happen to read as one."""
    try:
        parts = list(_fields(message))
    except ValueError:
        return
    for number, value in parts:
        if isinstance(value, bytes):
            if number == 2 and (index := _index(value)) is not None:
                yield index
            yield from _references(value)


def _index(reference: bytes) -> int | None:
    try:
        return _number(_message(_message(reference, 1), 2), 1)
    except (ValueError, AttributeError):
        return None


def _message(data: bytes, wanted: int) -> bytes:
    """The last field of that number, empty if there is none."""
    found = b""
    for number, value in _fields(data):
        if number == wanted:
            if not isinstance(value, bytes):
                raise ValueError(f"field {wanted} is a number")
            found = value
    return found


def _number(data: bytes, wanted: int) -> int:
    for number, value in _fields(data):
        if number == wanted:
            if isinstance(value, bytes):
                raise ValueError(f"field {wanted} is no number")
            return int(value)
    return 0


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, integer or bytes) of a protobuf message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            if kind != 2:
                raise ValueError(f"wire type {kind}")
            size, at = _varint(data, at)
        if at + size > len(data):
            raise ValueError("the message is cut")
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("the message is cut")
