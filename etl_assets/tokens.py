"""Tokens that an API hands out for a while: obtained once, shared by all processes, renewed in time.

A token is kept in a file, encrypted with a key made of the credentials it was obtained with: the file is of no
use without them, and new credentials start afresh. Whoever finds the token missing, nearly over or refused
takes the lock, looks again, and only then asks for a new one, so that there is never more than one request
for a token under way.
"""

import base64
import hashlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from cryptography.fernet import Fernet, InvalidToken

from etl_assets import answers, redact
from etl_assets.errors import ApiError
from etl_assets.locks import held
from etl_assets.messages import Answer, Authoriser, Flow, Request
from etl_assets.spec import Errors, TokenAuth
from etl_assets.template import filled, params

_LOCK_SECONDS = 120.0


@dataclass(frozen=True)
class Token:
    """A token and what came with it: secrets in `values`, names and the like in `plain`.

    `renew_at` is in epoch seconds.
    """

    value: str
    renew_at: float
    values: dict[str, str] = field(default_factory=dict)
    plain: dict[str, str] = field(default_factory=dict)


Obtain = Callable[[Token | None, Errors | None], Generator[Request, Answer, Token]]
Apply = Callable[[Request, Token], Request]


class TokenStore:
    """The token of one set of credentials."""

    def __init__(self, folder: Path, credentials: Mapping[str, str]) -> None:
        """`credentials` tell tokens apart, and are what the file cannot be read without."""
        secret = json.dumps(dict(credentials), sort_keys=True).encode()
        self._fernet = Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"token store" + secret).digest()))
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / hashlib.sha256(b"token name" + secret).hexdigest()[:16]
        self._memory: Token | None = None
        self._memory_lock = threading.Lock()

    def current(self, refused: Token | None) -> Token | None:
        """The kept token, unless it is the refused one or nearly over."""
        with self._memory_lock:
            if not _usable(self._memory, refused):
                self._memory = self.kept()
            return self._memory if _usable(self._memory, refused) else None

    def kept(self) -> Token | None:
        """What the file holds, usable or not; None without a readable file."""
        try:
            token = Token(**json.loads(self._fernet.decrypt(self._file.read_bytes())))
        except (FileNotFoundError, InvalidToken):
            return None
        _register(token)
        return token

    def keep(self, token: Token) -> None:
        """Put the token in the file's place, in one step."""
        _register(token)
        unfinished = self._file.with_name(f".{self._file.name}.{os.getpid()}.{threading.get_ident()}")
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(self._fernet.encrypt(json.dumps(asdict(token)).encode()))
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, self._file)
        with self._memory_lock:
            self._memory = token

    def lock(self) -> AbstractContextManager[None]:
        """Held by one thread of one process at a time. Raises LockedError when it stays taken."""
        return held(
            self._file.with_suffix(".lock"),
            time.monotonic() + _LOCK_SECONDS,
            lambda holder: f"another run is still obtaining a token: {holder}",
        )


def with_token(store: TokenStore, obtain: Obtain, apply: Apply) -> Authoriser:
    """Send requests with the kept token; obtain one when there is none, once more when it is refused.

    `obtain` is given the token kept before, and the errors of the request that needs it: they are worth a retry
    there as well.
    """

    def fresh(refused: Token | None, errors: Errors | None) -> Generator[Request, Answer, Token]:
        if token := store.current(refused):
            return token
        with store.lock():
            if token := store.current(refused):
                return token
            token = yield from obtain(store.kept(), errors)
            store.keep(token)
            return token

    def flow(request: Request) -> Flow:
        token = yield from fresh(None, request.errors)
        answer = yield apply(request, token)
        if is_refused(answer, request.errors) and (other := store.current(token)):
            token = other  # from another process; it may be over by now as well
            answer = yield apply(request, token)
        if is_refused(answer, request.errors):
            token = yield from fresh(token, request.errors)
            yield apply(request, token)

    return flow


def is_refused(answer: Answer, errors: Errors | None) -> bool:
    """Whether the answer says that the token is not, or no longer, good."""
    if answer.status == 401:
        return True
    if errors is None or answer.status >= 300:
        return False
    return str(answers.value_at(answer.body, errors.code)) in {str(code) for code in errors.reauth}


def authoriser(auth: TokenAuth, values: Mapping[str, str], folder: Path) -> Authoriser:
    """A token obtained by one request, as the stream file describes it."""
    names = {name: values[name] for name in auth.settings()}
    store = TokenStore(folder, names)

    def obtain(before: Token | None, errors: Errors | None) -> Generator[Request, Answer, Token]:
        known: dict[str, Any] = {f"token.{name}": filled(text, values) for name, text in auth.initial.items()}
        known |= {
            f"token.{name}": value for name, value in ({**before.plain, **before.values} if before else {}).items()
        }
        request = replace(_request(auth, {**values, **known, "uuid": str(uuid.uuid4())}), errors=errors)
        answer = yield request
        return _token(auth, answer, request, known)

    def apply(request: Request, token: Token) -> Request:
        kept = {**token.plain, **token.values}
        known = {**values, "token": token.value, **{f"token.{name}": value for name, value in kept.items()}}
        headers = {name: str(filled(text, known)) for name, text in auth.headers.items()}
        body = request.body
        if auth.body:
            tree = msgspec.json.decode(body) if body else {}
            body = msgspec.json.encode({**filled(auth.body, known), **tree})
        return replace(request, headers={**request.headers, **headers}, body=body)

    return with_token(store, obtain, apply)


def _request(auth: TokenAuth, values: Mapping[str, Any]) -> Request:
    if auth.json_body is not None:
        kind, body = "application/json", msgspec.json.encode(filled(auth.json_body, values))
    else:
        from urllib.parse import urlencode

        kind = "application/x-www-form-urlencoded; charset=UTF-8"
        body = urlencode(params(auth.form or {}, values)).encode()
    return Request(
        "POST",
        auth.path,
        f"POST {auth.path}",
        params=params(auth.params, values),
        headers={"Content-Type": kind},
        body=body,
        bucket=auth.bucket,
    )


def _token(auth: TokenAuth, answer: Answer, request: Request, known: Mapping[str, Any]) -> Token:
    value = answers.value_at(answer.body, auth.token) if answer.status < 300 else None
    if not isinstance(value, str) or not value:
        shown = redact.scrub_bytes(answer.body)[:200].decode("utf-8", "replace")
        raise ApiError(f"{request.label}: no token was given: HTTP {answer.status} {shown}", status=answer.status)
    redact.register(value)
    kept = {name: answers.value_at(answer.body, path) or known.get(f"token.{name}") for name, path in auth.keep.items()}
    lifetime = answers.value_at(answer.body, auth.expires_in) if auth.expires_in else None
    seconds = float(lifetime or auth.lifetime.total_seconds()) - auth.renew_before.total_seconds()
    texts = {name: str(text) for name, text in kept.items() if text}
    # What began as a setting is a credential. The rest says whose token it is, and may well stand in rows.
    secret = {name: text for name, text in texts.items() if name in auth.initial}
    plain = {name: text for name, text in texts.items() if name not in auth.initial}
    return Token(value, time.time() + max(seconds, 0.0), secret, plain)


def _usable(token: Token | None, refused: Token | None) -> bool:
    return token is not None and time.time() < token.renew_at and (refused is None or token.value != refused.value)


def _register(token: Token) -> None:
    for secret in (token.value, *token.values.values()):
        redact.register(secret)
