"""How an answer travels: whole, cut off, in drips, or not at all.

One request's end of the connection. Which answer, and whether it breaks, is decided elsewhere.
"""

import asyncio
import socket
import struct
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from etl_assets.sandbox.vendor import Answer

_TRANSPORT = "sandbox.transport"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_FLUSH_SECONDS = 0.001


class Protocol(HttpToolsProtocol):
    """uvicorn's, with the transport in the scope: only the transport can break a connection off."""

    def on_message_begin(self) -> None:
        """Begin a scope."""
        super().on_message_begin()
        cast(dict[str, Any], self.scope)[_TRANSPORT] = self.transport


@dataclass(slots=True)
class Wire:
    """The connection that one request came in on."""

    scope: Scope
    receive: Receive
    send: Send

    async def body(self) -> bytes | None:
        """The request's body; None from who hung up in the middle. A GET has none, and asking would only cost time."""
        if self.scope["method"] == "GET":
            return b""
        parts = []
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(parts)

    async def answer(self, answer: Answer) -> None:
        """Send the answer."""
        await self._start(answer)
        await self.send({"type": "http.response.body", "body": answer.body})

    async def cut(self, answer: Answer, size: int) -> None:
        """Send all headers and the first `size` bytes, then break off as if the server had died."""
        await self._start(answer)
        await self.send({"type": "http.response.body", "body": answer.body[:size], "more_body": True})
        await self._abort()

    async def drip(self, answer: Answer, *, seconds: float, chunk: int) -> None:
        """Send the answer in pieces of `chunk` bytes, `seconds` apart."""
        await self._start(answer)
        for start in range(0, len(answer.body), chunk):
            if start and await self.left(within=seconds):
                return
            piece = answer.body[start : start + chunk]
            await self.send({"type": "http.response.body", "body": piece, "more_body": True})
        await self.send({"type": "http.response.body"})

    async def reset(self) -> None:
        """Send nothing but a TCP reset."""
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        await self._abort()

    async def left(self, *, within: float) -> bool:
        """Wait; true as soon as the client hangs up. The end of the sandbox hangs up on everybody."""
        try:
            async with asyncio.timeout(within):
                await self._hung_up()
        except TimeoutError:
            return False
        return True

    async def _start(self, answer: Answer) -> None:
        headers = list(answer.headers)
        if answer.status != HTTPStatus.NO_CONTENT:
            headers.append((b"content-length", b"%d" % len(answer.body)))
        await self.send({"type": "http.response.start", "status": answer.status, "headers": headers})

    async def _abort(self) -> None:
        while self._transport.get_write_buffer_size() and not self._transport.is_closing():
            await asyncio.sleep(_FLUSH_SECONDS)
        self._transport.abort()
        await self._hung_up()

    async def _hung_up(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    @property
    def _transport(self) -> asyncio.Transport:
        return cast(asyncio.Transport, self.scope[_TRANSPORT])
