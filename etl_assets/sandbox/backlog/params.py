"""Parameters of Backlog's requests, from queries and forms, and the errors about them.

A list may be written `name[]=1&name[]=2`, `name[0]=1&name[1]=2`, or as repeated plain names. What is not a
number, date or boolean where one is due is refused, as is a `count` out of range.
"""

import re
from collections.abc import Iterable
from datetime import date, timedelta
from functools import lru_cache
from typing import Literal
from urllib.parse import parse_qsl

from etl_assets.sandbox.times import at
from etl_assets.sandbox.vendor import Answer, RefusedError, Request, json_answer

NO_RESOURCE, INVALID, AUTHENTICATION, TOO_MANY = 6, 7, 11, 13

_FORM = "application/x-www-form-urlencoded"
_MOST_ROWS, _USUAL_ROWS = 100, 20
_LONGEST_NUMBER = 18
_DAY_TEXT = re.compile(r"\d{4}-\d{2}-\d{2}")
_NUMBER_TEXT = re.compile(r"-?\d+")
_INDEX = re.compile(r"(.+)\[\d*\]")
_LONG_AGO, _FAR_AHEAD = date(1990, 1, 1), date(2200, 1, 1)


def error(status: int, code: int, message: str) -> Answer:
    """An error as Backlog words it."""
    return json_answer({"errors": [{"message": message, "code": code, "moreInfo": ""}]}, status)


def invalid(message: str) -> RefusedError:
    """A parameter that makes no sense."""
    return RefusedError(error(400, INVALID, message))


def missing(what: str) -> RefusedError:
    """Something that does not exist, or that the caller may not see."""
    return RefusedError(error(404, NO_RESOURCE, f"No such {what}."))


class Params:
    """The pairs of a query or form."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.pairs = list(pairs)
        self._lists: dict[str, list[str]] = {}
        for name, value in self.pairs:
            index = _INDEX.fullmatch(name)
            self._lists.setdefault(index[1] if index else name, []).append(value)

    @classmethod
    def of_query(cls, request: Request) -> "Params":
        """The parameters of a GET."""
        return cls(request.query)

    @classmethod
    def of_form(cls, request: Request) -> "Params":
        """The parameters in a body, which must be a form: JSON is not read."""
        kind = request.header(b"content-type").split(";")[0].strip().lower()
        if request.body and kind != _FORM:
            raise invalid(f"The body is {kind or 'of no type'}, not {_FORM}.")
        try:
            return cls(parse_qsl(request.body.decode(), keep_blank_values=True))
        except UnicodeDecodeError as problem:
            raise invalid("The body is not UTF-8.") from problem

    def __contains__(self, name: str) -> bool:
        return name in self._lists

    def text(self, name: str) -> str | None:
        """A single value, the first of several."""
        values = self._lists.get(name)
        return values[0] if values else None

    def texts(self, name: str) -> list[str]:
        """All values of a list."""
        return self._lists.get(name, [])

    def numbers(self, name: str) -> frozenset[int]:
        """The numbers of a list; none if it is not given."""
        return frozenset(self.listed(name))

    def listed(self, name: str) -> tuple[int, ...]:
        """The numbers of a list in order, without empty ones: an empty one clears a list."""
        return tuple(_number(name, text) for text in self.texts(name) if text)

    def number(self, name: str) -> int | None:
        """A number, or None for a missing or empty one."""
        text = self.text(name)
        return _number(name, text) if text else None

    def decimal(self, name: str) -> float | None:
        """A number with decimals, or None for a missing or empty one."""
        text = self.text(name)
        if not text:
            return None
        if not re.fullmatch(r"-?\d{1,12}(\.\d{1,9})?", text):
            raise invalid(f"{name} is not a number: {text}")
        return float(text)

    def flag(self, name: str) -> bool | None:
        """True, false, or not given."""
        text = self.text(name)
        if text is None:
            return None
        if text not in ("true", "false"):
            raise invalid(f"{name} is not a boolean: {text}")
        return text == "true"

    def day(self, name: str) -> str | None:
        """A date as text, or None for a missing or empty one."""
        text = self.text(name)
        if not text:
            return None
        if _read_day(text) is None:
            raise invalid(f"{name} is not a date such as 2026-01-05: {text}")
        return text

    def days(self, name: str) -> tuple[str, str] | None:
        """Texts between which a date lies: `nameSince` and `nameUntil`, both inclusive."""
        since, until = self.day(f"{name}Since"), self.day(f"{name}Until")
        if since is None and until is None:
            return None
        return since or _LONG_AGO.isoformat(), until or _FAR_AHEAD.isoformat()

    def instants(self, name: str, zone: str) -> tuple[int, int] | None:
        """The same as instants `[start, end)`: whole days of `zone`."""
        days = self.days(name)
        if days is None:
            return None
        first, last = (min(max(date.fromisoformat(text), _LONG_AGO), _FAR_AHEAD) for text in days)
        return at(zone, first), at(zone, last + timedelta(days=1))

    def count(self) -> int:
        """How many rows a page may have."""
        count = _USUAL_ROWS if "count" not in self else self.number("count")
        if count is None or not 1 <= count <= _MOST_ROWS:
            raise invalid(f"count must be between 1 and {_MOST_ROWS}.")
        return count

    def offset(self) -> int:
        """How many rows come before the page."""
        offset = self.number("offset") or 0
        if offset < 0:
            raise invalid("offset must not be negative.")
        return offset

    def order(self) -> Literal["asc", "desc"]:
        """In which order rows are wanted."""
        text = self.text("order") or "desc"
        if text == "asc":
            return "asc"
        if text != "desc":
            raise invalid(f"order is neither asc nor desc: {text}")
        return "desc"


@lru_cache(maxsize=4096)
def _read_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if _DAY_TEXT.fullmatch(text) else None
    except ValueError:
        return None


def _number(name: str, text: str) -> int:
    if not _NUMBER_TEXT.fullmatch(text) or len(text) > _LONGEST_NUMBER:
        raise invalid(f"{name} is not a number: {text}")
    return int(text)
