"""The frame: vendors on loopback ports, in a thread of this process or as a process of their own.

Ports, the life of the server, and the way of a request through log, faults and vendor. What a vendor
answers belongs to the vendor's module, and how bytes are sent to `wire`.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from queue import SimpleQueue

import uvloop
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from etl_assets.sandbox.backlog.vendor import Backlog
from etl_assets.sandbox.control import PREFIX, Control, Logged
from etl_assets.sandbox.faults import Fault
from etl_assets.sandbox.fxiaoke.vendor import Fxiaoke
from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.jushuitan.vendor import Jushuitan
from etl_assets.sandbox.target.vendor import Depot
from etl_assets.sandbox.tmetric.vendor import TMetric
from etl_assets.sandbox.trocco.vendor import Trocco
from etl_assets.sandbox.vendor import Clock, Request, Vendor
from etl_assets.sandbox.webhook.vendor import Webhook
from etl_assets.sandbox.wire import Protocol, Wire

VENDORS: dict[str, type[Vendor]] = {
    vendor.name: vendor for vendor in (TMetric, Fxiaoke, Jushuitan, Backlog, Trocco, Depot)
}
RECEIVERS: dict[str, type[Vendor]] = {Webhook.name: Webhook}  # of messages: run where they are asked for by name

_HOST = "127.0.0.1"
_BACKLOG = 2048
_KEEP_ALIVE_SECONDS = 75
_ENDED = 0  # among signal numbers: the child is no more


@contextmanager
def running(
    *, seed: int = 1, days: int = 3, scale: float = 1, vendors: Sequence[str] = tuple(VENDORS), port: int = 0
) -> Iterator[Sandbox]:
    """Simulators in a background thread, on `port` and the ports after it, or on any free ones."""
    with ExitStack() as stack:
        sites = []
        for number, name in enumerate(vendors):
            listener = stack.enter_context(_listener(port + number if port else 0))
            vendor = {**VENDORS, **RECEIVERS}[name](seed=seed, days=days, scale=scale, clock=Clock())
            sites.append(_Site(vendor, listener))
        loop, stop = uvloop.new_event_loop(), asyncio.Event()
        thread = threading.Thread(target=_run, args=(loop, sites, stop), name="sandbox", daemon=True)
        thread.start()
        try:
            yield Sandbox({site.vendor.name: site.url for site in sites})
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()


def serve(
    port: int, seed: int, days: int, scale: float, command: Sequence[str] = (), more: Mapping[str, str] | None = None
) -> int:
    """Run all simulators until SIGINT or SIGTERM, or while `command` runs with them; the exit code.

    `more` are variables beside those of the simulators. Without a command the environment that points at them is
    printed as `NAME=value` lines, then `ready`. Call it from the main thread.
    """
    # put() of a SimpleQueue is safe in a signal handler, and get() lets handlers run.
    events: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: events.put(received))
    with running(seed=seed, days=days, scale=scale, port=port) as sandbox:
        env = {**sandbox.env(), **(more or {})}
        if command:
            return _run_command(command, env, events)
        sys.stdout.writelines(f"{name}={value}\n" for name, value in env.items())
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        events.get()
        return 0


def _run_command(command: Sequence[str], env: dict[str, str], events: "SimpleQueue[int]") -> int:
    child = subprocess.Popen(command, env={**os.environ, **env})
    threading.Thread(target=_await, args=(child, events), daemon=True).start()
    while (received := events.get()) != _ENDED:
        if not (received == signal.SIGINT and _in_foreground()):
            child.send_signal(received)
    # As shells report a child that a signal ended.
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _await(child: "subprocess.Popen[bytes]", events: "SimpleQueue[int]") -> None:
    child.wait()
    events.put(_ENDED)


def _in_foreground() -> bool:
    """Whether Ctrl-C reaches the child from the terminal itself, so that forwarding it would double it."""
    return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()


class _Site:
    """One vendor on one port, as an ASGI application."""

    def __init__(self, vendor: Vendor, listener: socket.socket) -> None:
        self.vendor = vendor
        self.listener = listener
        self.url = f"http://{_HOST}:{listener.getsockname()[1]}"
        self.state = ServerState()
        self._control = Control(vendor, self.url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = Wire(scope, receive, send)
        body = await wire.body()
        if body is None:
            return
        request = Request(scope["method"], scope["path"], scope["query_string"], scope["headers"], body)
        if request.path.startswith(PREFIX):
            await wire.answer(self._control.answer(request))
            return
        entry = self._control.log.add(request)
        with self.vendor.attending(request):
            if fault := self._control.faults.take(request):
                await self._fail(fault, request, entry, wire)
                return
            answer = self.vendor.answer(request)
            if answer.takes and await wire.left(within=answer.takes):
                return
            entry.status, entry.bytes = answer.status, len(answer.body)
            await wire.answer(answer)
        self._control.schedule.answered(request)

    async def _fail(self, fault: Fault, request: Request, entry: Logged, wire: Wire) -> None:
        answer = self.vendor.answer(request) if fault.handled else None
        if fault.delay and await wire.left(within=fault.delay):
            return
        if fault.reset:
            await wire.reset()
            return
        if fault.replaces:
            answer = fault.replacement()
        elif answer is None:
            answer = self.vendor.answer(request)
        entry.status = answer.status
        entry.bytes = len(answer.body) if fault.cut is None else min(fault.cut, len(answer.body))
        if fault.cut is not None:
            await wire.cut(answer, fault.cut)
        elif fault.drip is not None:
            await wire.drip(answer, seconds=fault.drip, chunk=fault.chunk)
        else:
            await wire.answer(answer)
        if not fault.replaces and fault.cut is None:
            self._control.schedule.answered(request)


def _listener(port: int) -> socket.socket:
    return socket.create_server((_HOST, port), backlog=_BACKLOG)


def _run(loop: asyncio.AbstractEventLoop, sites: Sequence[_Site], stop: asyncio.Event) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(_serve(sites, stop))


async def _serve(sites: Sequence[_Site], stop: asyncio.Event) -> None:
    """Serve until `stop`. uvicorn's own Server would poll for the end and take signals for itself."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(_protocol(site), sock=site.listener) for site in sites]
    await stop.wait()
    for server in servers:
        server.close()
    for site in sites:
        for connection in list(site.state.connections):
            connection.transport.abort()
    tasks = [task for site in sites for task in site.state.tasks]
    if tasks:
        await asyncio.wait(tasks)


def _protocol(site: _Site) -> "partial[Protocol]":
    config = Config(
        site,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
    config.load()
    return partial(Protocol, config=config, server_state=site.state, app_state={})
