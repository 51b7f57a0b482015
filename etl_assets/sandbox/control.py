"""The control endpoints under `/_sandbox/`: what a test or the demo asks of a simulator itself.

GET    log       requests so far (`path`: only paths that contain it); DELETE forgets them
GET    count     how many there were (`path` as above)
POST   faults    sets a fault (`faults.Fault`); GET lists them; DELETE removes all
POST   clock     {"advance": seconds} skips time
GET    env       the environment that points at this vendor, with its present credential
GET    truth     the rows of a right extract; the query is the vendor's
POST   <action>  a vendor's own change; "after": {"path", "method", "query", "count"} delays it until
                 that many matching answers were sent
DELETE schedule  forgets the changes that still wait
"""

import time
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from etl_assets.sandbox.faults import After, Fault, Faults, Schedule
from etl_assets.sandbox.vendor import Answer, Request, Routes, Vendor, json_answer

PREFIX = "/_sandbox/"

_KEPT = 200_000
_MASK = "***"


class Logged(msgspec.Struct):
    """One request. Status 0: not answered, or not yet. `bytes` is the size of the body."""

    n: int
    at: float
    method: str
    path: str
    query_string: bytes
    status: int = 0
    bytes: int = 0


class Log:
    """The last requests to a vendor and an exact count of all. Headers and bodies are never kept."""

    def __init__(self, secrets: frozenset[str]) -> None:
        self._secrets = secrets
        self._entries: deque[Logged] = deque(maxlen=_KEPT)
        self._total = 0

    def add(self, request: Request) -> Logged:
        """Note a request on arrival; its status is filled in later."""
        self._total += 1
        entry = Logged(self._total, time.time(), request.method, request.path, self._masked(request))
        self._entries.append(entry)
        return entry

    def clear(self) -> None:
        """Forget all requests, and count from 0 again."""
        self._entries.clear()
        self._total = 0

    def rows(self, path: str) -> list[dict[str, Any]]:
        """The requests whose path contains `path`, oldest first."""
        return [
            {
                "n": e.n,
                "at": e.at,
                "method": e.method,
                "path": e.path,
                "query": parse_qsl(e.query_string.decode(), keep_blank_values=True),
                "status": e.status,
                "bytes": e.bytes,
            }
            for e in self._entries
            if path in e.path
        ]

    def count(self, path: str) -> int:
        """How many requests there were: exact for all, and for one path as far back as the log reaches."""
        return sum(path in entry.path for entry in self._entries) if path else self._total

    def _masked(self, request: Request) -> bytes:
        if self._secrets.isdisjoint(name for name, _ in request.query):
            return request.query_string
        pairs = [(name, _MASK if name in self._secrets else value) for name, value in request.query]
        return urlencode(pairs).encode()


class Control:
    """The control endpoints of one vendor."""

    def __init__(self, vendor: Vendor, base_url: str) -> None:
        self.log = Log(vendor.secrets)
        self.faults = Faults()
        self.schedule = Schedule()
        self._vendor = vendor
        self._base_url = base_url
        self._actions = vendor.actions()
        self._routes = Routes(
            {
                "GET /_sandbox/log": self._log,
                "DELETE /_sandbox/log": self._forget,
                "GET /_sandbox/count": self._count,
                "GET /_sandbox/faults": self._faults,
                "POST /_sandbox/faults": self._add_fault,
                "DELETE /_sandbox/faults": self._clear_faults,
                "POST /_sandbox/clock": self._advance,
                "DELETE /_sandbox/schedule": self._forget_changes,
                "GET /_sandbox/env": self._env,
                "GET /_sandbox/truth": self._truth,
                "POST /_sandbox/{action}": self._act,
            }
        )

    def answer(self, request: Request) -> Answer:
        """The answer to a control request: 400 and a sentence for one that makes no sense."""
        try:
            return self._routes.answer(request) or self._unknown(request.path)
        except (ValueError, KeyError) as error:
            return json_answer({"error": f"{type(error).__name__}: {error}"}, 400)

    def _log(self, request: Request) -> Answer:
        return json_answer({"requests": self.log.rows(request.first("path") or ""), "total": self.log.count("")})

    def _forget(self, request: Request) -> Answer:
        self.log.clear()
        return json_answer({})

    def _count(self, request: Request) -> Answer:
        return json_answer({"count": self.log.count(request.first("path") or "")})

    def _faults(self, request: Request) -> Answer:
        return json_answer({"faults": self.faults.listed()})

    def _add_fault(self, request: Request) -> Answer:
        return json_answer({"id": self.faults.add(msgspec.json.decode(request.body, type=Fault))})

    def _clear_faults(self, request: Request) -> Answer:
        self.faults.clear()
        return json_answer({})

    def _advance(self, request: Request) -> Answer:
        self._vendor.clock.advance(float(_payload(request)["advance"]))
        return json_answer({"now": self._vendor.clock.now()})

    def _forget_changes(self, request: Request) -> Answer:
        self.schedule.clear()
        return json_answer({})

    def _env(self, request: Request) -> Answer:
        return json_answer({"env": self._vendor.env(self._base_url)})

    def _truth(self, request: Request) -> Answer:
        query: Mapping[str, str] = dict(request.query)
        return json_answer({"rows": self._vendor.truth(query)})

    def _act(self, request: Request, action: str) -> Answer:
        if action not in self._actions:
            return self._unknown(request.path)
        payload = _payload(request)
        after = payload.pop("after", None)
        change = self._actions[action](payload)
        if after is None:
            return json_answer(change())
        self.schedule.add(msgspec.convert(after, After), change)
        return json_answer({"scheduled": True})

    def _unknown(self, path: str) -> Answer:
        return json_answer({"error": f"no such control: {path}", "actions": sorted(self._actions)}, 404)


def _payload(request: Request) -> dict[str, Any]:
    return msgspec.json.decode(request.body or b"{}", type=dict[str, Any])
