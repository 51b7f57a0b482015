"""An HTTP transport whose answers end by a deadline, whatever the pace at which they arrive.

A socket's timeout starts anew with every byte, and a compressed body may arrive for ever without giving any. So each
read of an answer, from its first header on, is given what is left of the deadline, and no more.
What to put here: deadlines of single answers. What to keep out: retries and what an answer means, which is `client`.
"""

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import client as http
from typing import Any

import requests
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

_thread = threading.local()


@contextmanager
def ending(deadline: float) -> Iterator[None]:
    """Answers whose reading begins within this block, in this thread, end by `deadline` on the monotonic clock.

    A read that comes later raises TimeoutError, which urllib3 and requests turn into their own timeouts.
    """
    _thread.deadline = deadline
    try:
        yield
    finally:
        del _thread.deadline


class Adapter(requests.adapters.HTTPAdapter):
    """The adapter of requests, over connections that know the deadline; so do those through a proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """As requests does, over our connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """As requests does, over our connections."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class _Timed(io.RawIOBase):
    """The receiving end of a socket until the deadline."""

    def __init__(self, received: io.RawIOBase, connection: socket.socket, deadline: float) -> None:
        self._received = received
        self._connection = connection
        self._patience = connection.gettimeout() or float("inf")
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer was still arriving at the total deadline")
        self._connection.settimeout(min(self._patience, left))
        return self._received.readinto(buffer)

    def close(self) -> None:
        self._received.close()
        super().close()


class _Answer(http.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        deadline = getattr(_thread, "deadline", None)
        if deadline is not None:
            self.fp = io.BufferedReader(_Timed(self.fp.detach(), sock, deadline))


class _Connection(HTTPConnection):
    response_class = _Answer


class _SecureConnection(HTTPSConnection):
    response_class = _Answer


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS = {"http": _Pool, "https": _SecurePool}
