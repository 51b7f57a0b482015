"""What goes wrong, when: faults for chosen requests, and changes due after chosen answers.

Decisions only. How a fault looks on the wire belongs to `server`, what a change does to a vendor.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from etl_assets.sandbox.vendor import JSON, Answer, Change, Request

_HTML = "<!DOCTYPE html>\n<html><head><title>Maintenance</title></head><body><h1>Maintenance</h1></body></html>\n"
_FOREVER = -1


class Match(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which requests are meant. What is left out matches every request."""

    path: str = ""
    method: str | None = None
    query: dict[str, str | int] = {}

    def matches(self, request: Request) -> bool:
        """Whether `request` is meant: path contains, method equals, query holds all pairs."""
        if self.path not in request.path or self.method not in (None, request.method):
            return False
        return all((name, str(value)) in request.query for name, value in self.query.items())


class Fault(Match, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One fault: a `delay`, at most one of the other actions, or both.

    - `status`, `headers`, `body`, `html`, `empty`: another answer in place of the vendor's;
    - `cut`: the vendor's answer with its full Content-Length, aborted after so many bytes;
    - `drip`: the vendor's answer in pieces of `chunk` bytes, that many seconds apart;
    - `reset`: the connection is reset without an answer;
    - `handled`: the request is carried out all the same, and only its answer lost or replaced.
    """

    skip: int = 0
    times: int = 1
    delay: float = 0
    status: int | None = None
    headers: dict[str, str] = {}
    body: str | dict[str, Any] | list[Any] | None = None
    html: bool = False
    empty: bool = False
    cut: int | None = None
    drip: float | None = None
    chunk: int = 64
    reset: bool = False
    handled: bool = False

    def __post_init__(self) -> None:
        actions = [self.replaces, self.cut is not None, self.drip is not None, self.reset]
        if sum(actions) > 1 or not (any(actions) or self.delay):
            raise ValueError("a fault is a delay, one of status/body/html/empty, cut, drip or reset, or both")
        if (self.body is not None) + self.html + self.empty > 1:
            raise ValueError("body, html and empty exclude each other")
        if self.chunk < 1:
            raise ValueError("chunk must be at least 1")

    @property
    def replaces(self) -> bool:
        """Whether the vendor's answer is not sent but another one."""
        return self.status is not None or self.body is not None or self.html or self.empty or bool(self.headers)

    def replacement(self) -> Answer:
        """The answer in place of the vendor's."""
        headers = {b"content-type": b"text/html; charset=utf-8"} if self.html else dict(JSON)
        headers |= {name.lower().encode(): value.encode() for name, value in self.headers.items()}
        return Answer(self._body(), self.status or 200, tuple(headers.items()))

    def _body(self) -> bytes:
        if self.html:
            return _HTML.encode()
        if self.body is None:
            return b""
        return self.body.encode() if isinstance(self.body, str) else msgspec.json.encode(self.body)


@dataclass
class _Active:
    id: int
    fault: Fault
    seen: int = 0
    fired: int = 0

    def fires(self) -> bool:
        """Count one matching request; whether the fault hits it."""
        self.seen += 1
        used_up = self.fault.times != _FOREVER and self.fired >= self.fault.times
        if used_up or self.seen <= self.fault.skip:
            return False
        self.fired += 1
        return True


class Faults:
    """The faults set on one vendor, in the order in which they were set."""

    def __init__(self) -> None:
        self._active: list[_Active] = []
        self._count = 0

    def add(self, fault: Fault) -> int:
        """Set a fault; its id."""
        self._count += 1
        self._active.append(_Active(self._count, fault))
        return self._count

    def clear(self) -> None:
        """Remove all faults."""
        self._active.clear()

    def take(self, request: Request) -> Fault | None:
        """The first fault that hits `request`."""
        for active in self._active:
            if active.fault.matches(request) and active.fires():
                return active.fault
        return None

    def listed(self) -> list[dict[str, Any]]:
        """All faults, with how many requests they saw and hit."""
        return [
            {"id": active.id, "seen": active.seen, "fired": active.fired, **msgspec.to_builtins(active.fault)}
            for active in self._active
        ]


class After(Match, kw_only=True, forbid_unknown_fields=True):
    """The moment right after the `count`-th next matching answer."""

    count: int = 1


class Schedule:
    """Changes that wait for their moment: rows that change between two pages."""

    def __init__(self) -> None:
        self._waiting: list[tuple[After, Change]] = []

    def add(self, after: After, change: Change) -> None:
        """Make `change` at the moment `after`."""
        self._waiting.append((after, change))

    def clear(self) -> None:
        """Forget the changes that still wait."""
        self._waiting.clear()

    def answered(self, request: Request) -> None:
        """Count an answer that the vendor itself gave, and make the changes that are due."""
        for item in list(self._waiting):
            after, change = item
            if after.matches(request):
                after.count -= 1
                if after.count <= 0:
                    self._waiting.remove(item)
                    change()
