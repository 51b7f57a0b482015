"""HTTP for tests: a scripted server on a real loopback socket, and clients of the library that talk to it.

The server plays its script in order, one play per request, and records the requests. A play is the raw bytes of
an answer, or a function that does what it likes with the connection. After the last play it hangs up unanswered.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qsl, urlsplit

from etl_assets import auth
from etl_assets.client import Client
from etl_assets.limiter import Limiter
from etl_assets.messages import Authoriser, Request
from etl_assets.settings import Timeouts
from etl_assets.spec import NoAuth, Rate

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
QUICK = Timeouts(connect=2.0, read=2.0, total=15.0)


@dataclass(frozen=True)
class Seen:
    """A request as it arrived: names of headers in lower case, `at` on the monotonic clock."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def params(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)


@dataclass
class Exchange:
    """One request and the connection that waits for its answer."""

    seen: Seen
    socket: socket.socket
    closing: threading.Event
    answered: Callable[[], None]

    def send(self, data: bytes) -> None:
        self.answered()
        self.socket.sendall(data)


Play = bytes | Callable[[Exchange], None]
Script = Iterable[Play] | Callable[[Seen], Play]


@dataclass
class Server:
    """What a test asks of a running server."""

    url: str
    closing: threading.Event = field(default_factory=threading.Event)
    seen: list[Seen] = field(default_factory=list)
    most_at_once: int = 0

    @property
    def netloc(self) -> str:
        return urlsplit(self.url).netloc

    def gaps(self) -> list[float]:
        """Seconds between consecutive requests."""
        return [after.at - before.at for before, after in pairwise(self.seen)]


@contextlib.contextmanager
def serving(script: Script) -> Iterator[Server]:
    """A server that plays the script until the block ends."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        server = Server(f"http://127.0.0.1:{listener.getsockname()[1]}")
        stage = _Stage(server, script)
        acceptor = threading.Thread(target=stage.accept, args=(listener,), daemon=True)
        acceptor.start()
        try:
            yield server
        finally:
            server.closing.set()
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            stage.hang_up()


class _Stage:
    def __init__(self, server: Server, script: Script) -> None:
        self._server = server
        self._play = script if callable(script) else None
        self._plays = iter(() if callable(script) else script)
        self._lock = threading.Lock()
        self._at_once = 0
        self._open: dict[threading.Thread, socket.socket] = {}

    def accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._open[thread] = connection
                thread.start()

    def hang_up(self) -> None:
        for thread, connection in self._open.items():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as reader:
            while (seen := _read(reader)) is not None:
                play = self._begin(seen)
                exchange = Exchange(seen, connection, self._server.closing, _once(self._end))
                try:
                    if callable(play):
                        play(exchange)
                    elif play:
                        exchange.send(play)
                finally:
                    exchange.answered()
                if callable(play) or b"Connection: keep-alive" not in play:
                    return

    def _begin(self, seen: Seen) -> Play:
        with self._lock:
            self._server.seen.append(seen)
            self._at_once += 1
            self._server.most_at_once = max(self._server.most_at_once, self._at_once)
            return self._play(seen) if self._play else next(self._plays, b"")

    def _end(self) -> None:
        with self._lock:
            self._at_once -= 1


def _once(function: Callable[[], None]) -> Callable[[], None]:
    calls = iter([function])
    return lambda: next(calls, lambda: None)()


def _read(reader: BinaryIO) -> Seen | None:
    first = reader.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    headers = {}
    while line := reader.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    at = time.monotonic()
    return Seen(first[0], first[1], headers, reader.read(int(headers.get("content-length", 0))), at)


def answer(
    body: bytes = b"[]", status: int = 200, headers: Mapping[str, str] | None = None, *, keep: bool = False
) -> bytes:
    """A whole answer with its length; the connection stays open with `keep`."""
    fields = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "keep-alive" if keep else "close",
        **(headers or {}),
    }
    reason = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unheard Of"
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} {reason}\r\n{head}\r\n".encode("latin-1") + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """An answer in chunks; one without `end` is cut after the last of them."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + body + end


def without_length(body: bytes, headers: str = "") -> bytes:
    """An answer that ends where the connection does."""
    return f"HTTP/1.1 200 OK\r\n{headers}Connection: close\r\n\r\n".encode() + body


def reset(exchange: Exchange) -> None:
    """Throw the connection away instead of answering."""
    exchange.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def silence(exchange: Exchange) -> None:
    """Answer nothing for as long as the server runs."""
    exchange.closing.wait()


def trickle(head: bytes, piece: bytes, every: float) -> Play:
    """An answer that never ends: `piece` again and again."""

    def play(exchange: Exchange) -> None:
        exchange.send(head)
        while not exchange.closing.wait(every):
            exchange.send(piece)

    return play


def held(data: bytes, seconds: float) -> Play:
    """An answer that takes a while."""

    def play(exchange: Exchange) -> None:
        exchange.closing.wait(seconds)
        exchange.send(data)

    return play


def client(
    url: str,
    folder: Path,
    *,
    authoriser: Authoriser | None = None,
    parallel: int = 2,
    rates: Mapping[str, Sequence[Rate]] | None = None,
    timeouts: Timeouts = QUICK,
    retry_base_seconds: float = 0.001,
    max_response_bytes: int = 1_000_000,
) -> Client:
    """A client of the library with patience for tests; `folder` is where the limiter keeps its files."""
    return Client(
        url,
        authoriser=authoriser or auth.authoriser([NoAuth()], {}, folder / "tokens"),
        limiter=Limiter(folder, url, parallel=parallel, rates=rates or {}),
        timeouts=timeouts,
        retry_base_seconds=retry_base_seconds,
        max_response_bytes=max_response_bytes,
        connections=parallel,
    )


GET = Request("GET", "/things", "GET /things")
POST = Request("POST", "/things", "POST /things", body=b"{}", repeatable=False)
