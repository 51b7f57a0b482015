"""Locks between processes: on files, and freed by the kernel when their holder dies."""

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from etl_assets.errors import LockedError, RetryableError

_POLL_SECONDS = 0.02


@contextlib.contextmanager
def held(file: Path, until: float, busy: Callable[[str], str], *, shared: bool = False) -> Iterator[None]:
    """Held by one thread of one process at a time, or by any number that share it.

    `file` is made where there is none. `busy` words the LockedError that is raised when somebody, whose name it is
    given, still holds it at `until` (monotonic time). Raises RetryableError when the file cannot be opened.
    """
    if shared and not file.exists() and not os.access(file.parent, os.W_OK):
        yield  # in a folder that is read-only for us, and in which nobody has held it yet
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_CREAT | os.O_RDONLY, 0o666)
    except OSError as error:
        raise RetryableError(f"{file}: cannot be opened: {error.strerror or error}") from None
    try:
        _take(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, until, busy)
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)  # also for a child that was forked meanwhile
        os.close(handle)


def process(pid: int | str) -> str:
    """A process as people know it: its number and, where the system tells that, its command line."""
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        return f"process {pid} ({command.strip()[:120]})"
    return f"process {pid}"


def _take(handle: int, kind: int, until: float, busy: Callable[[str], str]) -> None:
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise LockedError(busy(_holders(handle))) from None
            time.sleep(_POLL_SECONDS)


def _holders(handle: int) -> str:
    """Who holds a lock on the file, out of the kernel's list of locks."""
    listed = ""
    with contextlib.suppress(OSError):  # there is none but on Linux
        listed = Path("/proc/locks").read_text()
    pids = re.findall(rf"FLOCK .* (\d+) \w+:\w+:{os.fstat(handle).st_ino} ", listed)
    return ", ".join(map(process, dict.fromkeys(pids))) or "another process"
