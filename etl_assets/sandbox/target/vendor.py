"""A target to write to: the API of no vendor in particular, with what such APIs have in common.

    POST   /v1/token             {clientId, clientSecret} -> {code, data: {token, expiresIn}}
    POST   /v1/{kind}/check           {ids} -> data.records: [{id, recordId, record}], those that exist
    POST   /v1/{kind}/batch           {items} -> data.results: [{id, code, message, recordId}], an entry per item
    POST   /v1/{kind}/remove          {ids} -> data.results, the same
    POST   /v1/{kind}                 one item -> data: {id, recordId}
    PUT    /v1/{kind}/{recordId}      the same, in place of that record
    DELETE /v1/{kind}/{recordId}      204

Kinds come into being with their first record. An item is any object with the `id` that its writer gave it;
`recordId` is the target's own. Errors stand in HTTP 200 as `code` and `message`; what concerns the whole request
(a token that is over, an unknown record, a batch that is refused) has a status. A new token ends the one before.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from etl_assets.sandbox.target.store import Record, Row, Store
from etl_assets.sandbox.vendor import (
    Action,
    Answer,
    Change,
    Clock,
    Handler,
    RefusedError,
    Request,
    Vendor,
    json_answer,
)
from etl_assets.sandbox.world import secret

OK, INVALID, DUPLICATE, UNKNOWN, KEY_REUSED = 0, 4001, 4002, 4004, 4009

_LIFE_SECONDS = 7200


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What differs between targets.

    - `idempotency`: a repeated `Idempotency-Key`, or `requestId` of an item, is answered as before;
    - `duplicates`: what a write of an id that exists does: it updates the record (`update`), is refused
      (`refuse`), or makes a second record (`allow`), as a target without any duplicate detection does;
    - `largest`: items that a batch may have; a larger one is refused as a whole with HTTP 413;
    - `strict`: one invalid item has a batch refused as a whole with HTTP 400.
    """

    idempotency: bool = True
    duplicates: str = "update"
    largest: int = 500
    strict: bool = False


class _Refuse(msgspec.Struct, forbid_unknown_fields=True):
    """Writes of these ids are refused, so many times; -1 is for ever."""

    ids: list[str]
    code: int = INVALID
    message: str = "not accepted"
    times: int = 1


class _Foreign(msgspec.Struct, forbid_unknown_fields=True):
    """A record that somebody else has written."""

    kind: str
    id: str
    content: Row


class Depot(Vendor):
    """The target; it begins empty."""

    name: ClassVar[str] = "depot"

    def __init__(self, *, seed: int, days: int, scale: float, clock: Clock) -> None:
        super().__init__(seed=seed, days=days, scale=scale, clock=clock)
        self._client = secret("depot", seed, "client")
        self._secret = secret("depot", seed, "secret")
        self._settings = Settings()
        self._tokens = 0
        self._token, self._expires = "", 0.0
        self._empty()

    def env(self, base_url: str) -> dict[str, str]:
        """Point at the target, with the credentials of its only client."""
        return {"DEPOT_BASE_URL": base_url, "DEPOT_CLIENT_ID": self._client, "DEPOT_CLIENT_SECRET": self._secret}

    def routes(self) -> Mapping[str, Handler]:
        """The API."""
        return {
            "POST /v1/token": self._issue,
            "POST /v1/{kind}/check": self._check,
            "POST /v1/{kind}/batch": partial(self._once, self._batch),
            "POST /v1/{kind}/remove": partial(self._once, self._remove),
            "POST /v1/{kind}": partial(self._once, self._create),
            "PUT /v1/{kind}/{record_id:int}": partial(self._once, self._replace),
            "DELETE /v1/{kind}/{record_id:int}": self._delete,
        }

    def actions(self) -> Mapping[str, Action]:
        """`settings`, `token` (ends the present one), `refuse`, `foreign` records, and `empty`, all of them."""
        return {
            "empty": lambda payload: self._empty,
            "settings": self._settings_change,
            "token": lambda payload: self._end_token,
            "refuse": lambda payload: partial(self._refuse, msgspec.convert(payload, _Refuse)),
            "foreign": lambda payload: partial(self._add, msgspec.convert(payload, _Foreign)),
        }

    def truth(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """Every record of a `kind`: id, ref, content, how often it was written, and whether it is deleted."""
        return [row for row in self._store.rows() if row["kind"] == query.get("kind", row["kind"])]

    def answer(self, request: Request) -> Answer:
        """Refuse what has no valid token."""
        token = f"Bearer {self._token}"
        if request.path != "/v1/token" and (
            request.header(b"authorization") != token or self.clock.now() >= self._expires
        ):
            return json_answer({"code": 401, "message": "token is missing or over"}, 401)
        return super().answer(request)

    def _issue(self, request: Request) -> Answer:
        body = _body(request)
        if (body.get("clientId"), body.get("clientSecret")) != (self._client, self._secret):
            return json_answer({"code": 403, "message": "unknown client"}, 403)
        self._tokens += 1
        self._token = secret("depot", self.seed, "token", self._tokens)
        self._expires = self.clock.now() + _LIFE_SECONDS
        return _good({"token": self._token, "expiresIn": _LIFE_SECONDS})

    def _empty(self) -> Row:
        self._store = Store()
        self._answers: dict[str, tuple[bytes, Answer]] = {}
        self._results: dict[str, Row] = {}
        self._refused: dict[str, _Refuse] = {}
        return {}

    def _end_token(self) -> Row:
        self._expires = 0.0
        return {}

    def _settings_change(self, payload: dict[str, Any]) -> Change:
        read = msgspec.convert(payload, Settings)
        if read.duplicates not in ("update", "refuse", "allow"):
            raise ValueError("duplicates: update, refuse or allow")
        return partial(self._apply, {name: getattr(read, name) for name in payload})

    def _apply(self, given: Mapping[str, Any]) -> Settings:
        self._settings = replace(self._settings, **given)
        return self._settings

    def _refuse(self, order: _Refuse) -> Row:
        self._refused |= {ref: replace(order) for ref in order.ids}
        return {}

    def _add(self, foreign: _Foreign) -> Row:
        return {"id": self._store.create(foreign.kind, foreign.id, foreign.content).id}

    def _once(self, handler: Callable[..., Answer], request: Request, **parts: Any) -> Answer:
        """Carry a request out, or answer it as before if its key was seen before."""
        key = request.header(b"idempotency-key")
        if not key or not self._settings.idempotency:
            return handler(request, **parts)
        if key in self._answers:
            body, answer = self._answers[key]
            return answer if body == request.body else _bad(KEY_REUSED, "this key came with another body", 422)
        answer = handler(request, **parts)
        self._answers[key] = (request.body, answer)
        return answer

    def _check(self, request: Request, kind: str) -> Answer:
        found = [self._store.by_ref(kind, str(ref)) for ref in _listed(request, "ids")]
        return _good({"records": [{"id": r.ref, "recordId": r.id, "record": r.content} for r in found if r]})

    def _batch(self, request: Request, kind: str) -> Answer:
        items = _listed(request, "items")
        if len(items) > self._settings.largest:
            return _bad(INVALID, f"more than {self._settings.largest} items", 413)
        if self._settings.strict and (faults := [fault for fault in map(self._fault, items) if fault]):
            return _bad(faults[0]["code"], f"{faults[0]['id']}: {faults[0]['message']}", 400)
        return _good({"results": [self._written(kind, item) for item in items]})

    def _remove(self, request: Request, kind: str) -> Answer:
        return _good({"results": [self._removed(kind, str(ref)) for ref in _listed(request, "ids")]})

    def _create(self, request: Request, kind: str) -> Answer:
        result = self._written(kind, _body(request))
        return json_answer({"code": result["code"], "message": result["message"], "data": result})

    def _replace(self, request: Request, kind: str, record_id: int) -> Answer:
        record, item = self._existing(kind, record_id), _body(request)
        if fault := self._fault(item):
            return _bad(fault["code"], fault["message"])
        return _good(_result(self._store.change(record, item)))

    def _delete(self, request: Request, kind: str, record_id: int) -> Answer:
        self._store.delete(self._existing(kind, record_id))
        return Answer(status=204, headers=())

    def _existing(self, kind: str, record_id: int) -> Record:
        record = self._store.by_id(kind, record_id)
        if record is None:
            raise RefusedError(_bad(UNKNOWN, f"no record {record_id}", 404))
        return record

    def _written(self, kind: str, item: Row) -> Row:
        """The result of a create or update of one item."""
        key = str(item.pop("requestId", ""))
        if key and self._settings.idempotency and key in self._results:
            return self._results[key]
        result = self._write(kind, item)
        if key and result["code"] == OK:
            self._results[key] = result
        return result

    def _write(self, kind: str, item: Row) -> Row:
        if fault := self._fault(item):
            return fault
        ref = str(item["id"])
        there = self._store.by_ref(kind, ref)
        if there and self._settings.duplicates == "refuse":
            return {"id": ref, "code": DUPLICATE, "message": "exists already"}
        if there and self._settings.duplicates == "update":
            return _result(self._store.change(there, item))
        return _result(self._store.create(kind, ref, item))

    def _removed(self, kind: str, ref: str) -> Row:
        record = self._store.by_ref(kind, ref)
        if record is None:
            return {"id": ref, "code": UNKNOWN, "message": "no such record"}
        self._store.delete(record)
        return _result(record)

    def _fault(self, item: Row) -> Row | None:
        """The result of an item that is not accepted."""
        ref = str(item.get("id") or "")
        if not ref:
            return {"id": ref, "code": INVALID, "message": "id is missing"}
        refused = self._refused.get(ref)
        if refused is None:
            return None
        refused.times -= 1
        if not refused.times:
            del self._refused[ref]
        return {"id": ref, "code": refused.code, "message": refused.message}


def _result(record: Record) -> Row:
    return {"id": record.ref, "code": OK, "message": "ok", "recordId": record.id}


def _good(data: Any) -> Answer:
    return json_answer({"code": OK, "message": "ok", "data": data})


def _bad(code: int, message: str, status: int = 200) -> Answer:
    return json_answer({"code": code, "message": message}, status)


def _body(request: Request) -> Row:
    try:
        return msgspec.json.decode(request.body, type=Row)
    except msgspec.DecodeError as error:
        raise RefusedError(_bad(INVALID, str(error), 400)) from error


def _listed(request: Request, name: str) -> list[Any]:
    value = _body(request).get(name)
    if not isinstance(value, list):
        raise RefusedError(_bad(INVALID, f"{name} is no list", 400))
    return value
