"""What a simulated vendor is made of: requests, answers, routes, a clock, and the base class `Vendor`.

A new vendor is one module with one subclass of `Vendor`, listed in `server.VENDORS`. Sockets, faults, the
request log and the control endpoints are the frame's business, not a vendor's.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import msgspec
from starlette.routing import compile_path

Headers = tuple[tuple[bytes, bytes], ...]
Handler = Callable[..., "Answer"]
Change = Callable[[], Any]
Action = Callable[[dict[str, Any]], Change]

JSON: Headers = ((b"content-type", b"application/json; charset=utf-8"),)


class Request:
    """One HTTP request, read completely."""

    def __init__(
        self, method: str, path: str, query_string: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes
    ) -> None:
        self.method = method
        self.path = path
        self.query_string = query_string
        self.headers = headers
        self.body = body

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        """All pairs of the query, in order."""
        return parse_qsl(self.query_string.decode(), keep_blank_values=True)

    def first(self, name: str) -> str | None:
        """The first value of a query parameter."""
        return next((value for key, value in self.query if key == name), None)

    def every(self, name: str) -> list[str]:
        """All values of a repeated query parameter."""
        return [value for key, value in self.query if key == name]

    def header(self, name: bytes) -> str:
        """The value of a header by its lower-case name, empty if it is missing."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")


@dataclass(slots=True)
class Answer:
    """One HTTP answer; Content-Length is added when it is sent, `takes` seconds after the vendor gave it."""

    body: bytes = b""
    status: int = 200
    headers: Headers = JSON
    takes: float = 0


def json_answer(value: Any, status: int = 200) -> Answer:
    """`value` as JSON."""
    return Answer(msgspec.json.encode(value), status)


class RefusedError(Exception):
    """Raised by a handler: the request gets `answer` instead of what it asked for."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Routes:
    """Handlers by method and path: `{"GET /api/v3/accounts/{account:int}/clients": handler}`.

    A handler gets the request, and the parts of the path by name.
    """

    def __init__(self, table: Mapping[str, Handler]) -> None:
        self._routes = []
        for line, handler in table.items():
            method, path = line.split(" ")
            pattern, _, convertors = compile_path(path)
            self._routes.append((method, pattern, convertors, handler))
        self._found = lru_cache(maxsize=4096)(self._find)

    def answer(self, request: Request) -> Answer | None:
        """The handler's answer, 405 if only another method has the path, None if the path is unknown."""
        found = self._found(request.method, request.path)
        if found is None:
            return None
        handler, parts = found
        return handler(request, **parts)

    def _find(self, method: str, path: str) -> tuple[Handler, dict[str, Any]] | None:
        known = False
        for allowed, pattern, convertors, handler in self._routes:
            if match := pattern.match(path):
                if allowed == method:
                    return handler, {k: convertors[k].convert(v) for k, v in match.groupdict().items()}
                known = True
        return (_method_not_allowed, {}) if known else None


class Clock:
    """The time as a vendor sees it: the machine's, plus what was skipped. Data never depend on it."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def now(self) -> float:
        """Epoch seconds."""
        return time.time() + self._skipped

    def advance(self, seconds: float) -> None:
        """Skip `seconds`, so that tokens expire and limits refill without waiting."""
        self._skipped += seconds


class Vendor(ABC):
    """A vendor's API over data that depend on `seed`, `days` and `scale` alone.

    Requests are answered one at a time by a single thread: a vendor needs no locks and must not block.
    """

    name: ClassVar[str]
    secrets: ClassVar[frozenset[str]] = frozenset()
    """Query parameters whose values the request log must not show."""

    def __init__(self, *, seed: int, days: int, scale: float, clock: Clock) -> None:
        self.seed = seed
        self.days = days
        self.scale = scale
        self.clock = clock

    @abstractmethod
    def env(self, base_url: str) -> dict[str, str]:
        """The environment variables that point the product at this vendor with a valid credential."""

    @abstractmethod
    def routes(self) -> Mapping[str, Handler]:
        """The API."""

    @abstractmethod
    def actions(self) -> Mapping[str, Action]:
        """Changes that `POST /_sandbox/<name>` can make.

        An action checks its payload (ValueError) and returns the change; the frame makes it, now or later.
        """

    @abstractmethod
    def truth(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """The rows that a right extract of the data holds at this moment."""

    def answer(self, request: Request) -> Answer:
        """The answer to a request. Credentials, limits and headers of every answer go around this."""
        try:
            return self._routes.answer(request) or self.not_found(request)
        except RefusedError as refused:
            return refused.answer

    def attending(self, request: Request) -> AbstractContextManager[None]:
        """Entered when a request arrives, left when its answer is sent: shows which ones come at once."""
        return nullcontext()

    def not_found(self, request: Request) -> Answer:
        """The answer to an unknown path."""
        return json_answer({"message": f"Not found: {request.path}"}, 404)

    @cached_property
    def _routes(self) -> Routes:
        return Routes(self.routes())


def _method_not_allowed(request: Request) -> Answer:
    return json_answer({"message": f"{request.method} is not allowed here"}, 405)
