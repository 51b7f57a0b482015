"""From a row to the document that the target wants. Pure: nothing here reads or writes anything.

A row that cannot become a document raises `Unfit` with the reason, which concerns that row alone.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from etl_assets.push.spec import Default, Push, TargetField, Unmatched

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ENCODER = msgspec.json.Encoder(order="sorted", decimal_format="number")
_SHOWN = 80
_LEFT_OUT = object()
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class Unfit(Exception):
    """Why a row cannot be sent."""


@dataclass(frozen=True)
class Found:
    """What a reference table has for a value: how many rows there, how many values among them, and one of these."""

    rows: int
    values: int
    value: Any


@dataclass(frozen=True)
class Wanted:
    """What the target should hold for a row: the record's id, the document as JSON, and the digest of its content.

    A row that cannot be sent has a reason instead of a document.
    """

    record_id: str
    content: str
    document: bytes | None
    reason: str | None = None


def wanted(
    push: Push, zone: str, row: Mapping[str, Any], *, found: Mapping[str, Found], record_id: str | None
) -> Wanted:
    """The record of a row. `found` holds what was looked up, by path of the field; `zone` is for instants."""
    try:
        if record_id is None:
            missing = [column for column in push.key if row[column] is None]
            raise Unfit(f"the row has no id: {', '.join(missing)} is NULL")
        text = _ENCODER.encode(document(push, zone, row, found))
    except Unfit as error:
        return unfit(row, record_id, str(error))
    return Wanted(record_id, digest(text), text)


def unfit(row: Mapping[str, Any], record_id: str | None, reason: str) -> Wanted:
    """The record of a row that cannot be sent."""
    nameless = f"(no id) {digest(repr(sorted(row.items())).encode())[:12]}"
    return Wanted(record_id or nameless, digest(f"unfit {reason}".encode()), None, reason)


def digest(text: bytes) -> str:
    """Equal for equal content."""
    return hashlib.sha256(text).hexdigest()


def document(push: Push, zone: str, row: Mapping[str, Any], found: Mapping[str, Found]) -> dict[str, Any]:
    """The document of a row, nested as the paths of the fields say. Raises Unfit."""
    tree: dict[str, Any] = {}
    for path, field in push.fields.items():
        try:
            value = _value(push, zone, field, row=row, found=found.get(path))
        except Unfit as error:
            raise Unfit(f"{path}: {error}") from None
        if value is not _LEFT_OUT:
            *above, last = path.split(".")
            place = tree
            for step in above:
                place = place.setdefault(step, {})
            place[last] = value
    return tree


def _value(push: Push, zone: str, field: TargetField, *, row: Mapping[str, Any], found: Found | None) -> Any:
    if field.column is None:
        return field.value
    value = row[field.column]
    if value is not None and field.lookup and found:
        value = _looked_up(value, found, push.lookups[field.lookup].unmatched)
    if value is not None and field.map:
        mapped = push.maps[field.map]
        theirs = {_text(ours): there for ours, there in mapped.values.items()}
        value = theirs[_text(value)] if _text(value) in theirs else _unmatched(value, mapped.unmatched, "the map")
    if value is None:
        if field.if_null == "reject":
            raise Unfit(f"{field.column} has no value")
        return _LEFT_OUT if field.if_null == "omit" else None
    try:
        return _written(value, field, zone)
    except (ValueError, KeyError, TypeError, ArithmeticError):
        raise Unfit(f"{_shown(value)} is no {field.type or 'value that JSON can carry'}") from None


def _looked_up(value: Any, found: Found, unmatched: Unmatched) -> Any:
    if not found.rows:
        return _unmatched(value, unmatched, "the reference table")
    if found.values > 1:
        raise Unfit(f"{_shown(value)} has {found.values} values in the reference table")
    return found.value


def _unmatched(value: Any, rule: Unmatched, where: str) -> Any:
    if isinstance(rule, Default):
        return rule.value
    if rule == "reject":
        raise Unfit(f"{_shown(value)} is not in {where}")
    return value


def _written(value: Any, field: TargetField, zone: str) -> Any:
    """The value as JSON carries it. Raises ValueError or one of its kin for a value that does not fit the type."""
    match field.type:
        case "string":
            return _text(value if field.decimals is None else _rounded(value, field.decimals), zone)
        case "integer":
            return _integer(value)
        case "number":
            return _rounded(value, field.decimals)
        case "boolean":
            return _BOOLEANS[_text(value).lower()]
        case "json":
            return msgspec.json.decode(value) if isinstance(value, str) else value
        case "date" if not isinstance(value, date):
            value = date.fromisoformat(str(value))
        case "timestamp" if not isinstance(value, date):
            value = datetime.fromisoformat(str(value))
    if isinstance(value, date):
        return _moment(value, field, zone)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(value)
    return value


def _integer(value: Any) -> int:
    exact = Decimal(str(value).strip()) if not isinstance(value, bool) else Decimal(value)
    if exact != exact.to_integral_value():
        raise ValueError(value)
    return int(exact)


def _rounded(value: Any, decimals: int | None) -> Decimal:
    exact = Decimal(str(value).strip())
    if not exact.is_finite():
        raise ValueError(value)
    return exact if decimals is None else exact.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)


def _moment(value: date, field: TargetField, zone: str) -> str | int:
    """A date or time in the field's form: instants in the zone, times without a zone as the zone's wall clock."""
    if not isinstance(value, datetime):
        if field.type != "timestamp" and field.format in ("iso", "date"):
            return value.isoformat()
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001 - midnight, of the zone
    aware = value.astimezone(ZoneInfo(zone)) if value.tzinfo else value.replace(tzinfo=ZoneInfo(zone))
    match "date" if (field.type, field.format) == ("date", "iso") else field.format:
        case "iso":
            return aware.isoformat()
        case "date":
            return aware.date().isoformat()
        case "epoch_s":
            return (aware - _EPOCH) // timedelta(seconds=1)
        case "epoch_ms":
            return (aware - _EPOCH) // timedelta(milliseconds=1)
    return aware.strftime(field.format)


def _text(value: Any, zone: str = "UTC") -> str:
    """A value as text, the same for equal values: what ids, maps and strings are made of."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime) and value.tzinfo:
        return value.astimezone(ZoneInfo(zone)).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _shown(value: Any) -> str:
    return repr(_text(value))[:_SHOWN]
