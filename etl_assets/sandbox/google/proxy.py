"""A proxy before an emulator: it records every call, and does on demand what a real service does at times.

Lost answers, 503, quota errors, jobs that stay PENDING, slow answers, statistics that the emulator does not
know. Faults are set and calls are read by HTTP, so that tests reach it from any process:

    POST   /_proxy/faults   a `Fault` as JSON
    DELETE /_proxy          forget faults and calls
    GET    /_proxy/calls    `{"calls": [...], "faults": [...]}`
"""

import http.client
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

CONTROL = "/_proxy"
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade"}
_KEPT_BODY = 20_000


@dataclass
class Fault:
    """What happens to requests that match, after `skip` of them and `times` times.

    `path` and `body` are regular expressions, searched. `status` with `reason`, or `reply`, is answered instead of
    asking the emulator; `lost` asks it and closes the connection without an answer; `delay` waits before the
    request is handed on, `hold` before the answer is; `patch` is merged into an answer that is JSON.
    """

    method: str = ""
    path: str = ""
    body: str = ""
    skip: int = 0
    times: int = 1
    status: int = 0
    reason: str = ""
    message: str = ""
    lost: bool = False
    delay: float = 0.0
    hold: float = 0.0
    reply: dict[str, Any] = field(default_factory=dict)
    patch: dict[str, Any] = field(default_factory=dict)
    seen: int = 0
    fired: int = 0

    def hits(self, method: str, path: str, body: str) -> bool:
        """Whether it hits this request, which is counted."""
        if self.method not in ("", method) or not re.search(self.path, path) or not re.search(self.body, body):
            return False
        self.seen += 1
        hit = self.seen > self.skip and self.fired < self.times
        self.fired += hit
        return hit

    def answer(self) -> bytes:
        """The reply, or Google's form of an error."""
        if self.reply:
            return json.dumps(self.reply).encode()
        message = self.message or f"{self.reason}, said by the proxy"
        error = {"code": self.status, "message": message, "errors": [{"reason": self.reason, "message": message}]}
        return json.dumps({"error": error}).encode()


class _State:
    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.calls: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    def take(self, method: str, path: str, body: str) -> Fault | None:
        with self.lock:
            self.calls.append({"method": method, "path": path, "body": body[:_KEPT_BODY], "at": time.time()})
            return next((fault for fault in self.faults if fault.hits(method, path, body)), None)


@contextmanager
def before(url: str) -> Iterator[str]:
    """A proxy before the server at `url`; gives the proxy's URL."""
    state, target = _State(), urlsplit(url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # header and body in one packet: two cost a delayed acknowledgement, 40 ms
        disable_nagle_algorithm = True

        def answer_request(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path.startswith(CONTROL):
                self._send(200, {}, _controlled(state, self.command, body))
                return
            fault = state.take(self.command, self.path, body[:_KEPT_BODY].decode("utf-8", "replace"))
            if fault and fault.delay:
                time.sleep(fault.delay)
            if fault and (fault.status or fault.reply):
                self._send(fault.status or 200, {"Content-Type": "application/json"}, fault.answer())
                return
            status, headers, answer = _forwarded(target.netloc, self.command, self.path, self.headers, body)
            if fault and fault.hold:
                time.sleep(fault.hold)
            if fault and fault.lost:
                linger = struct.pack("ii", 1, 0)  # a reset, not an end
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                self.connection.close()
                return
            if fault and fault.patch:
                answer = json.dumps(_merged(json.loads(answer), fault.patch)).encode()
            self._send(status, headers, answer)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer_request

        def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # the caller was killed, or its answer was lost on purpose

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _controlled(state: _State, method: str, body: bytes) -> bytes:
    with state.lock:
        if method == "POST":
            state.faults.append(Fault(**json.loads(body)))
        elif method == "DELETE":
            state.faults, state.calls = [], []
        return json.dumps({"calls": state.calls, "faults": [asdict(fault) for fault in state.faults]}).encode()


def _forwarded(netloc: str, method: str, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(netloc, timeout=300)
    try:
        sent = {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}
        connection.request(method, path, body or None, sent)
        answer = connection.getresponse()
        given = {
            name: value
            for name, value in answer.getheaders()
            if name.lower() not in _HOP_BY_HOP | {"content-length", "date", "server"}
        }
        return answer.status, given, answer.read()
    finally:
        connection.close()


def _merged(tree: Any, patch: Any) -> Any:
    if not isinstance(tree, dict) or not isinstance(patch, dict):
        return patch
    return tree | {name: _merged(tree.get(name, {}), value) for name, value in patch.items()}
