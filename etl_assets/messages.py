"""Requests and answers, and what it means to authorise a request.

An authoriser is a generator function: it yields the request it wants sent, receives the answer, and may
yield again: a request for a token first, or the same request with a fresh token. The client sends whatever it
yields and judges the last answer. Credentials enter a request there and nowhere else, so every other text is
made without them.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from etl_assets.spec import Errors
from etl_assets.template import Params


@dataclass(frozen=True)
class Request:
    """One HTTP request before authorisation. `label` names it in texts and holds no secret.

    The good answer of a `plain` one need not be JSON.
    """

    method: str
    path: str
    label: str
    params: Params = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    bucket: str = "default"
    errors: Errors | None = None
    repeatable: bool = True
    plain: bool = False


@dataclass(frozen=True)
class Answer:
    """Status, headers (case-insensitive) and decoded body of one exchange."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Flow = Generator[Request, Answer, None]
Authoriser = Callable[[Request], Flow]


class Sender(Protocol):
    """What sends requests: the client, or something around it."""

    requests: int

    @property
    def waited_seconds(self) -> float:
        """Seconds spent waiting for limits."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...

    def send(self, request: Request) -> Answer:
        """The API's good answer; raises EtlError when there is none."""
        ...
