"""Keeps secrets out of every text: by value, not by guessing from names.

A secret is registered once, when it is read from the environment or received from an API. From then on
`scrub` replaces it in any text or bytes: as it is, percent-encoded, JSON-escaped and in base64 (alone or
inside a longer base64 text, at each of the three alignments). `install` puts the same replacement under
every logger of the process.
"""

import base64
import html
import itertools
import json
import logging
import re
import threading
import urllib.parse
from collections.abc import Iterator

MASK = "***"
_SHORTEST_FRAGMENT = 8  # what is shorter than this would match innocent text

_ESCAPED_BY_SOME = ("", "<>&", "<>&'=", "<>&'+`\"")  # by all, Go, Gson, .NET

_lock = threading.Lock()
_forms: set[str] = set()
_pattern: re.Pattern[str] | None = None
_bytes_pattern: re.Pattern[bytes] | None = None
_telltales: list[bytes] = []  # one of which is in any data with a secret


def register(secret: str) -> None:
    """Remember a secret value for `scrub`. Empty values are ignored; registering twice is harmless."""
    global _pattern, _bytes_pattern, _telltales
    secret = secret.strip()
    if not secret:
        return
    forms = _forms_of(secret)
    with _lock:
        if forms <= _forms:
            return
        _forms.update(forms)
        longest_first = sorted(_forms, key=len, reverse=True)
        _pattern = re.compile("|".join(map(_in_text, longest_first)))
        in_bytes = [form.encode() for form in longest_first if len(form) >= _SHORTEST_FRAGMENT]
        _bytes_pattern = re.compile(b"|".join(map(re.escape, in_bytes))) if in_bytes else None
        _telltales = [form for form in in_bytes if not any(other in form for other in in_bytes if other != form)]


def _in_text(form: str) -> str:
    # A value as short as a word is masked only where it stands alone; masking it in data would damage these.
    if len(form) < _SHORTEST_FRAGMENT:
        return rf"(?<![A-Za-z0-9]){re.escape(form)}(?![A-Za-z0-9])"
    return re.escape(form)


def scrub(text: str) -> str:
    """The text with every registered secret replaced by `***`."""
    return _pattern.sub(MASK, text) if _pattern else text


def scrub_bytes(data: bytes) -> bytes:
    """Data with every registered secret of 8 characters or more replaced; the same object when there is none."""
    # Looking for one after the other is many times faster than one pattern of all of them.
    if _bytes_pattern is None or not any(form in data for form in _telltales):
        return data
    return _bytes_pattern.sub(MASK.encode(), data)


def install() -> None:
    """Scrub every log record of this process, whichever logger it comes from. Idempotent."""
    make = logging.getLogRecordFactory()
    if getattr(make, "scrubs", False):
        return

    def scrubbed(*args: object, **kwargs: object) -> logging.LogRecord:
        record = make(*args, **kwargs)
        if _pattern is not None:
            _scrub_record(record)
        return record

    scrubbed.scrubs = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(scrubbed)


def _scrub_record(record: logging.LogRecord) -> None:
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):  # logging would print arguments that do not fit as they are
        message = f"{record.msg} {record.args}"
        record.msg, record.args = message, ()
    if (clean := scrub(message)) != message:
        record.msg, record.args = clean, ()
    if record.exc_info:
        trace = logging.Formatter().formatException(record.exc_info)
        if (clean := scrub(trace)) != trace:
            record.exc_info, record.exc_text = None, clean


def _in_json(secret: str) -> Iterator[str]:
    """The secret inside a JSON string: encoders agree on no more than what must be escaped."""
    for more, digits, letters in itertools.product(_ESCAPED_BY_SOME, ("04x", "04X"), (True, False)):
        written = "".join(_escaped(c, digits) if c in more or (c > "~" and not letters) else _quoted(c) for c in secret)
        yield written
        yield written.replace("/", "\\/")  # PHP


def _quoted(character: str) -> str:
    return json.dumps(character, ensure_ascii=False)[1:-1]


def _escaped(character: str, digits: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{int.from_bytes(units[at : at + 2]):{digits}}" for at in range(0, len(units), 2))


def _forms_of(secret: str) -> set[str]:
    forms = {
        secret,
        urllib.parse.quote(secret, safe=""),
        urllib.parse.quote(secret),
        urllib.parse.quote_plus(secret),
        repr(secret)[1:-1],
        html.escape(secret),
        *_in_json(secret),
    }
    raw = secret.encode()
    forms |= {repr(raw)[2:-1], raw.decode("latin-1")}  # as libraries show bytes and headers
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms.add(encode(raw).decode())
        for shift in range(3):
            # The characters that depend on the secret alone, when it starts `shift` bytes into a triple.
            inner = encode(b"\0" * shift + raw).decode().rstrip("=")
            fragment = inner[(0, 2, 3)[shift] : len(inner) - (1 if (shift + len(raw)) % 3 else 0)]
            if len(fragment) >= _SHORTEST_FRAGMENT:
                forms.add(fragment)
    return {form for form in forms if form}
