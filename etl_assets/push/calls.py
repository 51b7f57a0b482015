"""Requests about records, and what their answers say. Pure: nothing here sends or keeps anything."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from etl_assets import answers, redact, template
from etl_assets.errors import ApiError
from etl_assets.messages import Answer, Request
from etl_assets.push.ledger import Entry, Outcome
from etl_assets.push.spec import Call, Idempotency, LookUp, Results
from etl_assets.spec import Errors

_SHOWN = 500
_GONE = (404, 410)
_CONFLICT = (409,)


def request(
    call: Call,
    entries: Sequence[Entry],
    values: Mapping[str, Any],
    *,
    errors: Errors | None,
    idempotency: Idempotency | None = None,
) -> Request:
    """The request about the entries; with the same entries, it is the same request to the byte.

    It may be repeated if the target can tell by a key, or if it changes nothing.
    """
    key = entries[0].request
    documents = [msgspec.Raw(_document(entry, idempotency)) for entry in entries if entry.document is not None]
    known = {
        **values,
        "uuid": key or str(uuid.uuid4()),
        "documents": documents,
        "document": documents[0] if documents else None,
        "ids": [entry.record_id for entry in entries],
        "id": entries[0].record_id,
        "target_ids": [entry.target_id for entry in entries],
        "target_id": entries[0].target_id,
    }
    headers = {name: str(template.filled(text, known)) for name, text in call.headers.items()}
    if idempotency and idempotency.header and key:
        headers[idempotency.header] = key
    body = None
    if call.json_body is not None:
        headers["Content-Type"] = "application/json"
        body = msgspec.json.encode(template.filled(call.json_body, known))
    return Request(
        call.method,
        template.path(call.path, known),
        call.label,
        params=template.params(call.params, known),
        headers=headers,
        body=body,
        bucket=call.bucket,
        errors=errors,
        repeatable=isinstance(call, LookUp) or has_key(entries[0], idempotency),
    )


def has_key(entry: Entry, idempotency: Idempotency | None) -> bool:
    """Whether a request about the entry carries a key: one in a field needs a document, which a deletion has not."""
    if idempotency is None or entry.request is None:
        return False
    return bool(idempotency.header) or entry.action == "write"


def _document(entry: Entry, idempotency: Idempotency | None) -> bytes:
    assert entry.document is not None
    if idempotency is None or idempotency.field is None:
        return entry.document
    fields = msgspec.json.decode(entry.document, type=dict[str, msgspec.Raw])
    key = uuid.uuid5(uuid.UUID(str(entry.request)), entry.record_id)
    return msgspec.json.encode({**fields, idempotency.field: str(key)})


def outcomes(results: Results, answer: Answer, entries: Sequence[Entry]) -> list[Outcome]:
    """What a good answer says about each entry."""
    if results.rows is None:
        return [_outcome(results, answer.body, entry) for entry in entries]
    try:
        rows = answers.rows_at(answer.body, results.rows)
    except answers.NotJson as error:
        return [Outcome(one.record_id, "unmentioned", str(error), answer=shown(answer.body)) for one in entries]
    if results.id:
        by_id: dict[str, Any] = {str(answers.value_at(row, results.id)): row for row in rows}
    else:
        in_order = rows if len(rows) == len(entries) else []
        by_id = {entry.record_id: row for entry, row in zip(entries, in_order, strict=False)}
    return [_outcome(results, by_id.get(entry.record_id), entry) for entry in entries]


def _outcome(results: Results, row: bytes | msgspec.Raw | None, entry: Entry) -> Outcome:
    if row is None:
        return Outcome(entry.record_id, "unmentioned", "the answer does not mention it")
    code = answers.value_at(row, results.code) if results.code else None
    if results.code and str(code) not in map(str, results.ok):
        kind: Literal["final", "refused"] = "final" if str(code) in map(str, results.final) else "refused"
        message = answers.value_at(row, results.message) if results.message else ""
        return Outcome(entry.record_id, kind, redact.scrub(f"error code {code}: {message}"), answer=shown(row))
    target_id = answers.value_at(row, results.target_id) if results.target_id else None
    return Outcome(entry.record_id, "done", None, None if target_id is None else str(target_id), shown(row))


@dataclass(frozen=True)
class There:
    """A record as the target has it."""

    target_id: str | None
    record: Any


def found(look_up: LookUp, answer: Answer) -> dict[str, There]:
    """The records that the answer to a look-up holds, by our id. Raises NotJson when it holds no list of them."""
    rows = [answer.body] if look_up.rows is None else answers.rows_at(answer.body, look_up.rows)
    there = {}
    for row in rows:
        target_id = answers.value_at(row, look_up.target_id) if look_up.target_id else None
        record = answers.value_at(row, look_up.record)
        there[str(answers.value_at(row, look_up.id))] = There(None if target_id is None else str(target_id), record)
    return there


def arrived(look_up: LookUp, entry: Entry, there: There | None) -> Outcome:
    """Whether a request in doubt was carried out for the entry, judged by what the target has now."""
    if entry.action == "delete":
        kind: Literal["done", "absent"] = "absent" if there else "done"
        return Outcome(entry.record_id, kind, "it was not deleted" if there else None)
    if there is None:
        return Outcome(entry.record_id, "absent", "it had not arrived")
    if look_up.compare == [] and (entry.confirmed or entry.target_id):
        return Outcome(entry.record_id, "undecided", "the look-up does not tell whether the change has arrived")
    if holds(look_up, entry, there):
        return Outcome(entry.record_id, "done", None, there.target_id)
    return Outcome(entry.record_id, "absent", "the change had not arrived")


def holds(look_up: LookUp, entry: Entry, there: There) -> bool:
    """Whether the target's record has all that the entry's document says, or the fields that tell."""
    sent = msgspec.json.decode(entry.document or b"{}")
    if look_up.compare is None:
        return _contains(there.record, sent)
    return all(_contains(_part(there.record, path), _part(sent, path)) for path in look_up.compare)


def _contains(there: Any, sent: Any) -> bool:
    """Whether every value sent is there. Numbers are equal by value; null equals a missing field."""
    if isinstance(sent, dict):
        return isinstance(there, dict) and all(_contains(there.get(name), value) for name, value in sent.items())
    if isinstance(sent, list):
        return isinstance(there, list) and len(there) == len(sent) and all(map(_contains, there, sent))
    return (type(there) is type(sent) and there == sent) or (_is_number(there) and _is_number(sent) and there == sent)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _part(tree: Any, path: str) -> Any:
    for step in path.split("."):
        tree = tree.get(step) if isinstance(tree, dict) else None
    return tree


def refusal(
    call: Call, entry: Entry, error: ApiError, split_on: Sequence[str | int]
) -> Literal["done", "refused"] | None:
    """What a refusal of the whole request means for its records, of which `entry` is one; None: it is not about them.

    A record that is not there needs no deletion.
    """
    gone = call.names_record and is_among(error, _GONE)
    if gone and entry.action == "delete":
        return "done"
    conflict = call.names_record and is_among(error, _CONFLICT)
    return "refused" if gone or conflict or is_among(error, split_on) else None


def is_among(error: ApiError, codes: Sequence[str | int]) -> bool:
    """Whether a refusal's HTTP status, or its error code, is among the codes."""
    said = error.code if error.code is not None else str(error.status)
    return said in map(str, codes)


def shown(answer: bytes | msgspec.Raw) -> str:
    """The beginning of an answer, without secrets."""
    return redact.scrub(bytes(answer).decode("utf-8", "replace"))[:_SHOWN]
