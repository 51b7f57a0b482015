"""Looking into JSON answers without building them.

The parts of an answer that decide something (row list, has-more flag, error code) are picked out; the rest
stays bytes. Paths are dotted, `data.datas`; the empty path is the whole answer.
"""

import re
from typing import Any

import msgspec

_BOM = b"\xef\xbb\xbf"
# Escapes are consumed from the left, so that a backslash that is itself escaped is not taken for one.
_ESCAPES = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_CONTROL = re.compile(rb"[\x00-\x1f]")


class NotJson(ValueError):
    """The bytes are not one JSON value in UTF-8, or not of the expected shape."""


def normal(body: bytes) -> bytes:
    """The body as one JSON value that every JSON reader takes; raises NotJson if it is cut or something else.

    Three things differ from the bytes received: a byte order mark is left out, half of a surrogate pair (an emoji
    that the API cut in two) becomes U+FFFD, and control characters inside texts (TROCCO sends queries so) are escaped.
    """
    body = body.removeprefix(_BOM).strip()
    if b"\\ud" in body or b"\\uD" in body:
        body = _ESCAPES.sub(lambda found: rb"\ufffd" if found[1] else found[0], body)
    try:
        return _checked(body)
    except NotJson:
        escaped = _TEXT.sub(_without_controls, body)
        if escaped == body:
            raise
        return _checked(escaped)


def _checked(body: bytes) -> bytes:
    try:
        body.decode("utf-8")
        msgspec.json.decode(body, type=msgspec.Raw)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise NotJson(str(error)) from None
    return body


def _without_controls(text: re.Match[bytes]) -> bytes:
    return _CONTROL.sub(lambda found: b"\\u%04x" % ord(found[0]), text[0])


def value_at(body: bytes | msgspec.Raw, path: str) -> Any:
    """The value at the path as Python objects; None where it is absent."""
    raw = _raw_at(body, path)
    return None if raw is None else msgspec.json.decode(raw)


def rows_at(body: bytes, path: str) -> list[msgspec.Raw]:
    """The rows of the list at the path, undecoded. Null in its place, or an empty list above it, has no rows.

    Raises NotJson when the list is not there at all, or something else is: an answer of another shape is an
    error, and never an empty list.
    """
    raw: bytes | msgspec.Raw = body
    for key in path.split(".") if path else ():
        try:
            fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw] | list[msgspec.Raw] | None)
        except msgspec.DecodeError as error:
            raise NotJson(f"no list at {path!r}: {error}") from None
        if fields == [] or (fields is None and raw is not body):
            return []
        if not isinstance(fields, dict) or key not in fields:
            raise NotJson(f"no list at {path!r}: there is no {key!r}")
        raw = fields[key]
    try:
        return msgspec.json.decode(raw, type=list[msgspec.Raw] | None if path else list[msgspec.Raw]) or []
    except msgspec.DecodeError as error:
        raise NotJson(f"no list at {path or 'the top of the answer'!r}: {error}") from None


def _raw_at(body: bytes | msgspec.Raw, path: str) -> bytes | msgspec.Raw | None:
    raw: bytes | msgspec.Raw = body
    for key in path.split(".") if path else ():
        try:
            fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw] | None)
        except msgspec.DecodeError:
            return None
        if not fields or key not in fields:
            return None
        raw = fields[key]
    return raw
