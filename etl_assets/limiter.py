"""Politeness per credential, held across all processes of a machine.

Two things are limited. *Requests in flight*: a slot is an advisory lock on a file, which the kernel
releases when its holder dies, so a killed run never blocks the next one. *Rates*: a file holds the times of
the last N requests of an "N per period" rate as a ring; a request reserves the next place in it, sleeps
until its time has come, and goes. The oldest of N entries plus the period is exactly the first moment at
which a sliding window has room again. A pause that an API asks for (429) holds for every process, too.
"""

import fcntl
import hashlib
import os
import random
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from etl_assets.errors import RetryableError
from etl_assets.spec import Rate

_HEAD = struct.Struct("<dq")  # paused until (epoch seconds), number of requests so far
_TIME = struct.Struct("<d")
_MARGIN = 0.05  # requests sent a period apart may arrive closer together than that
_POLL_SECONDS = 0.01


@dataclass
class Waits:
    """Seconds spent waiting, summed over threads."""

    seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, seconds: float) -> None:
        """Add a wait."""
        with self._lock:
            self.seconds += seconds


class Limiter:
    """The limits of one credential. Thread-safe; share one instance per client."""

    def __init__(self, folder: Path, credential: str, *, parallel: int, rates: Mapping[str, Sequence[Rate]]) -> None:
        """`credential` tells accounts apart; only its digest is written, as the name of a folder."""
        self._folder = folder / hashlib.sha256(credential.encode()).hexdigest()[:16]
        self._folder.mkdir(parents=True, exist_ok=True)
        self._parallel = parallel
        self._rates = rates
        self.waits = Waits()

    @contextmanager
    def slot(self, deadline: float) -> Iterator[None]:
        """Hold one of the `parallel` places. `deadline` is on the monotonic clock."""
        started = time.monotonic()
        handle = self._free_slot(deadline)
        try:
            waited = time.monotonic() - started
            if waited > _POLL_SECONDS:
                self.waits.add(waited)
            yield
        finally:
            os.close(handle)

    def wait(self, bucket: str, deadline: float) -> None:
        """Sleep until the rates of the bucket permit one more request, which is thereby taken."""
        delay = max(self._reserve(bucket, rate) for rate in self._buckets(bucket)) - time.time()
        if delay <= 0:
            return
        if time.monotonic() + delay > deadline:
            raise RetryableError(f"the limit of {bucket!r} requests frees a place in {delay:.0f} s, after the deadline")
        self.waits.add(delay)
        time.sleep(delay)

    def pause(self, bucket: str, seconds: float) -> None:
        """Let no request of the bucket go for this long, in any process."""
        until = time.time() + seconds
        for rate in self._buckets(bucket):
            with self._ring(bucket, rate) as handle:
                paused, count = _HEAD.unpack(os.pread(handle, _HEAD.size, 0))
                os.pwrite(handle, _HEAD.pack(max(paused, until), count), 0)

    def _buckets(self, bucket: str) -> Sequence[Rate | None]:
        return self._rates.get(bucket) or [None]

    def _free_slot(self, deadline: float) -> int:
        places = list(range(self._parallel))
        random.shuffle(places)
        while True:
            for place in places:
                handle = os.open(self._folder / f"slot-{place}", os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return handle
                except BlockingIOError:
                    os.close(handle)
            if time.monotonic() > deadline:
                raise RetryableError(f"all {self._parallel} parallel requests stayed taken by other runs")
            time.sleep(_POLL_SECONDS)

    def _reserve(self, bucket: str, rate: Rate | None) -> float:
        """The epoch second at which this request may go; its place in the ring is taken."""
        now = time.time()
        with self._ring(bucket, rate) as handle:
            paused: float
            paused, count = _HEAD.unpack(os.pread(handle, _HEAD.size, 0))
            if rate is None:
                return paused
            place = _HEAD.size + count % rate.count * _TIME.size
            (oldest,) = _TIME.unpack(os.pread(handle, _TIME.size, place))
            # A clock that was set back must not make requests wait for the lost time.
            oldest = min(oldest, now + rate.seconds)
            at: float = max(now, paused, oldest + rate.seconds + _MARGIN if oldest else 0.0)
            os.pwrite(handle, _TIME.pack(at), place)
            os.pwrite(handle, _HEAD.pack(paused, count + 1), 0)
            return at

    @contextmanager
    def _ring(self, bucket: str, rate: Rate | None) -> Iterator[int]:
        name = f"{bucket}-{rate.count}-{rate.seconds}" if rate else f"{bucket}-pause"
        size = _HEAD.size + _TIME.size * (rate.count if rate else 0)
        handle = os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_size < size:
                os.truncate(handle, size)
            yield handle
        finally:
            os.close(handle)
