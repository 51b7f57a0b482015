"""How requests are authorised.

An authoriser is a generator function: it yields the request it wants sent, receives the answer, and may
yield once more, for instance with a fresh token. The client sends whatever it yields and returns the last
answer. Credentials enter the request here and nowhere else, so every other text is made without them.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace

from etl_assets import redact
from etl_assets.spec import Auth, BearerAuth, Errors, HeaderAuth, QueryAuth
from etl_assets.template import Params, filled


@dataclass(frozen=True)
class Request:
    """One HTTP request before authorisation. `label` names it in texts and holds no secret."""

    method: str
    path: str
    label: str
    params: Params = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    bucket: str = "default"
    errors: Errors | None = None
    repeatable: bool = True


@dataclass(frozen=True)
class Answer:
    """Status, headers (case-insensitive) and decoded body of one exchange."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Flow = Generator[Request, Answer, None]
Authoriser = Callable[[Request], Flow]


def authoriser(auth: Auth, values: Mapping[str, str]) -> Authoriser:
    """The authoriser that a stream file declares, with the values of its settings."""
    match auth:
        case BearerAuth(token=token):
            return _with_header("Authorization", f"Bearer {values[token]}")
        case HeaderAuth(name=name, value=value):
            return _with_header(name, str(filled(value, values)))
        case QueryAuth(name=name, value=value):
            return _with_param(name, str(filled(value, values)))
    return _plain


def _plain(request: Request) -> Flow:
    yield request


def _with_header(name: str, value: str) -> Authoriser:
    redact.register(value)

    def flow(request: Request) -> Flow:
        yield replace(request, headers={**request.headers, name: value})

    return flow


def _with_param(name: str, value: str) -> Authoriser:
    redact.register(value)

    def flow(request: Request) -> Flow:
        yield replace(request, params=(*request.params, (name, value)))

    return flow
