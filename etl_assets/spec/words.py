"""The words that stream files are made of: names, types, durations, zones, placeholders."""

import functools
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

BUILT_IN = frozenset({"uuid"})
PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.]*)\}")
SIMPLE_TYPES = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "datetime": "TIMESTAMP",
    "json": "JSON",
}
_DECIMAL = re.compile(r"decimal\((\d{1,2}), ?(\d{1,2})\)")
_DURATION = re.compile(r"(\d+)(s|m|h|d)")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@functools.cache
def snake(path: str) -> str:
    """Column name of a JSON path: `task.externalLink.caption` -> `task_external_link_caption`."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", path)
    spaced = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", spaced)
    name = re.sub(r"[^0-9A-Za-z]+", "_", spaced).lower().strip("_") or "_"
    return f"_{name}" if path.startswith("_") else name


def placeholders(tree: object) -> Iterator[str]:
    """The names in braces in a text, and in all texts of a mapping or list."""
    if isinstance(tree, str):
        yield from PLACEHOLDER.findall(tree)
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from placeholders(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from placeholders(value)


def _type_name(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(f"a column type is a word, not {value!r}")
    if decimal := _DECIMAL.fullmatch(value):
        precision, scale = int(decimal[1]), int(decimal[2])
        if not 1 <= precision <= 38 or scale > precision:
            raise ValueError(f"{value} is out of range: decimal(p,s) takes 1 <= p <= 38 and s <= p")
        return f"decimal({precision},{scale})"
    if value not in SIMPLE_TYPES:
        known = ", ".join([*SIMPLE_TYPES, "decimal(p,s)"])
        raise ValueError(f"unknown column type {value!r}; one of: {known}")
    return value


def _duration(value: object) -> object:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[match[2]]
        return timedelta(**{unit: int(match[1])})
    if isinstance(value, timedelta):
        return value
    raise ValueError(f"{value!r} is not a duration such as 30s, 15m, 6h or 7d")


def listed(value: object) -> object:
    """One thing as a list of it."""
    return [value] if isinstance(value, str | dict) else value


def _zone(value: object) -> object:
    try:
        ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{value!r} is not an IANA time zone such as Asia/Tokyo") from None
    return value


TypeName = Annotated[str, BeforeValidator(_type_name)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
Zone = Annotated[str, BeforeValidator(_zone)]
Name = Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
ColumnName = Annotated[str, Field(pattern=f"^_?{_NAME.pattern}$")]
UrlPath = Annotated[str, Field(pattern=r"^/")]
Paths = Annotated[list[str], BeforeValidator(listed), Field(min_length=1)]


class Model(BaseModel):
    """Strict and frozen: unknown keys and silently converted values are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)
