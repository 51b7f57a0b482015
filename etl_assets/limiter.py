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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from etl_assets.errors import RetryableError
from etl_assets.spec import Rate

_TIME = struct.Struct("<d")  # epoch seconds
_COUNT = struct.Struct("<q")
_MARGIN = 0.05  # requests sent a period apart may arrive closer together than that
_POLL_SECONDS = 0.01
_LONGEST_QUEUE_SECONDS = 900.0  # nobody reserves a place, and no API is heeded, further ahead than this


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
        with _writing(self._folder):
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
        """Sleep until the rates of the bucket permit one more request, which is thereby taken.

        Raises RetryableError when that would be after the deadline; then nothing is taken.
        """
        delay = self._reserve(bucket, min(deadline, time.monotonic() + _LONGEST_QUEUE_SECONDS))
        if delay <= 0:
            return
        if time.monotonic() + delay > deadline:
            raise RetryableError(f"the limit of {bucket!r} requests frees a place in {delay:.0f} s, after the deadline")
        self.waits.add(delay)
        time.sleep(delay)

    def pause(self, bucket: str, seconds: float) -> None:
        """Let no request of the bucket go for this long, in any process."""
        until = time.time() + min(seconds, _LONGEST_QUEUE_SECONDS)
        with self._bucket(bucket) as handle:
            (paused,) = _TIME.unpack(os.pread(handle, _TIME.size, 0))
            os.pwrite(handle, _TIME.pack(max(_reachable(paused), until)), 0)

    def _free_slot(self, deadline: float) -> int:
        places = list(range(self._parallel))
        random.shuffle(places)
        while True:
            for place in places:
                with _writing(self._folder):
                    handle = os.open(self._folder / f"slot-{place}", os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return handle
                except BlockingIOError:
                    os.close(handle)
            if time.monotonic() > deadline:
                raise RetryableError(f"all {self._parallel} parallel requests stayed taken by other runs")
            time.sleep(_POLL_SECONDS)

    def _reserve(self, bucket: str, deadline: float) -> float:
        """Seconds until this request may go; it is entered into every ring unless that is after the deadline."""
        with self._bucket(bucket) as handle, ExitStack() as stack:
            now = time.time()
            (paused,) = _TIME.unpack(os.pread(handle, _TIME.size, 0))
            rings = [stack.enter_context(self._ring(bucket, rate)) for rate in self._rates.get(bucket, ())]
            at: float = max([now, _reachable(paused), *(ring.free_at() for ring in rings)])
            if at <= now or time.monotonic() + at - now <= deadline:
                for ring in rings:
                    ring.enter(at)
            return at - now

    @contextmanager
    def _bucket(self, bucket: str) -> Iterator[int]:
        """The file with the bucket's pause. Its lock covers the rings, so that all of them take the same time."""
        with self._file(f"{bucket}-pause", _TIME.size) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle

    @contextmanager
    def _ring(self, bucket: str, rate: Rate) -> Iterator["_Ring"]:
        size = _COUNT.size + _TIME.size * rate.count
        with self._file(f"{bucket}-{rate.count}-{rate.seconds}", size) as handle:
            yield _Ring(handle, rate)

    @contextmanager
    def _file(self, name: str, size: int) -> Iterator[int]:
        with _writing(self._folder):
            handle = os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if os.fstat(handle).st_size < size:
                    os.truncate(handle, size)
                yield handle
            finally:
                os.close(handle)


@dataclass(frozen=True)
class _Ring:
    """The times of the last `rate.count` requests, and how many there were so far."""

    handle: int
    rate: Rate

    def free_at(self) -> float:
        """The epoch second at which the window has room for one more."""
        (oldest,) = _TIME.unpack(os.pread(self.handle, _TIME.size, self._place()))
        return oldest + self.rate.seconds + _MARGIN if _reachable(oldest) else 0.0

    def enter(self, at: float) -> None:
        """Put a request in the place of the oldest."""
        os.pwrite(self.handle, _TIME.pack(at), self._place())
        os.pwrite(self.handle, _COUNT.pack(self._count() + 1), 0)

    def _place(self) -> int:
        return _COUNT.size + self._count() % self.rate.count * _TIME.size

    def _count(self) -> int:
        (count,) = _COUNT.unpack(os.pread(self.handle, _COUNT.size, 0))
        return int(count)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """A disk that is full is no network that fails, though both are OSError: it becomes RetryableError."""
    try:
        yield
    except OSError as error:
        raise RetryableError(f"{folder}: cannot be written: {error.strerror or error}") from None


def _reachable(moment: float) -> float:
    """The moment; 0 for one so far ahead that the clock must have been set back since it was written."""
    return moment if moment <= time.time() + _LONGEST_QUEUE_SECONDS else 0.0
