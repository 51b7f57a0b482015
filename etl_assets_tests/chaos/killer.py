"""SIGKILL right before the K-th write-like system call of the steps.

    python -m etl_assets_tests.chaos.killer FOLDER MODE MODULE [ARGUMENT ...]

A tracer (ptrace) of its own: strace counts `when=K` per thread and per call name, and so never comes to most of
the calls. This one counts every call of every thread, from the moment the steps begin; what goes to a descriptor
counts if that is a file below FOLDER. The steps are `main` of MODULE with the arguments. MODE is `before`, or
`half` for a write of which only half the bytes go out.

Reads K from stdin, a line for each run, 0 for one without a kill. Answers with a line of JSON: how the run ended,
how many calls there were, and the last one that was counted. Runs are forks: importing costs more than running.
"""

import ctypes
import importlib
import json
import os
import platform
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

CANNOT = 77  # exit code where processes cannot be traced

_TRACEME, _CONT, _POKEUSER, _SYSCALL, _SETOPTIONS, _GET_SYSCALL_INFO = 0, 7, 6, 24, 0x4200, 0x420E
_OPTIONS = 1 | 8 | 0x100000  # mark stops at system calls, follow threads, end together with the tracer
_WALL = 0x40000000
_AT_CALL = signal.SIGTRAP | 0x80
_ENTERS, _LEAVES = 1, 2
_INFO = struct.Struct("<B3xIQQQ6Q")
_SIZE = 2  # which argument of a write
_SIZE_REGISTER = 96  # rdx in x86-64's struct user

_ON_PATHS = {
    "x86_64": {82: "rename", 264: "renameat", 316: "renameat2", 86: "link", 265: "linkat", 87: "unlink",
               263: "unlinkat", 83: "mkdir", 258: "mkdirat", 84: "rmdir", 76: "truncate"},
    "aarch64": {38: "renameat", 276: "renameat2", 37: "linkat", 35: "unlinkat", 34: "mkdirat", 45: "truncate"},
}  # fmt: skip
_ON_DESCRIPTORS = {
    "x86_64": {1: "write", 18: "pwrite64", 20: "writev", 296: "pwritev", 74: "fsync", 75: "fdatasync",
               77: "ftruncate", 285: "fallocate"},
    "aarch64": {64: "write", 68: "pwrite64", 66: "writev", 70: "pwritev", 82: "fsync", 83: "fdatasync",
                46: "ftruncate", 47: "fallocate"},
}  # fmt: skip
_TORN = ("write", "pwrite64")
_MACHINES = {"before": tuple(_ON_PATHS), "half": ("x86_64",)}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def main(folder: str, mode: str, module: str, *arguments: str) -> None:
    """Answer the lines of stdin."""
    if platform.machine() not in _MACHINES[mode]:
        sys.exit(CANNOT)
    steps = partial(importlib.import_module(module).main, *arguments)
    for line in sys.stdin:
        print(json.dumps(run(int(line), folder, mode, steps)), flush=True)


def run(last: int, folder: str, mode: str, steps: Callable[[], None]) -> dict[str, object]:
    """Run the steps to their end or to the kill."""
    traced = Traced(steps)
    dying, calls, at = 0, 0, ""

    def look(stop: "Stop") -> None:
        nonlocal dying, calls, at
        name, file = _write_like(stop, folder)
        if stop.thread == dying and stop.leaves:
            os.kill(traced.pid, signal.SIGKILL)
        if name and (mode == "before" or (name in _TORN and stop.arguments[_SIZE] > 1)):
            calls += 1
            at = f"{name} {file}" if calls <= last else at
            if calls == last and mode == "before":
                os.kill(traced.pid, signal.SIGKILL)
            elif calls == last:
                _ptrace(_POKEUSER, stop.thread, _SIZE_REGISTER, stop.arguments[_SIZE] // 2)
                dying = stop.thread

    status = traced.run(look if last else None)
    return {"calls": calls, "at": at, "signal": os.WTERMSIG(status), "code": os.WEXITSTATUS(status)}


@dataclass(frozen=True)
class Stop:
    """A thread that enters or leaves a system call; `number` and `arguments` are of a call that it enters."""

    thread: int
    step: int
    number: int
    arguments: tuple[int, ...]

    @property
    def enters(self) -> bool:
        return self.step == _ENTERS

    @property
    def leaves(self) -> bool:
        return self.step == _LEAVES


class Traced:
    """Steps in a fork of this process that stand still until `run`. Ends the process where none can be traced."""

    def __init__(self, steps: Callable[[], None]) -> None:
        self.pid = os.fork()
        if not self.pid:
            _child(steps)
        if not os.WIFSTOPPED(os.waitpid(self.pid, 0)[1]):
            sys.exit(CANNOT)
        _ptrace(_SETOPTIONS, self.pid, data=_OPTIONS)
        threads = list(Path(f"/proc/{self.pid}/task").iterdir())
        assert len(threads) == 1, "threads from before the count would not be seen"

    def run(self, look: Callable[[Stop], None] | None) -> int:
        """Let the steps go, `look` at each system call of each thread, and give the status they end with."""
        resume = _SYSCALL if look else _CONT
        _ptrace(resume, self.pid)
        while True:
            thread, status = os.waitpid(-1, _WALL)
            if not os.WIFSTOPPED(status):
                if thread == self.pid:
                    return status
                continue
            number, passed = os.WSTOPSIG(status), 0
            if look and number == _AT_CALL:
                look(_stop(thread))
            elif number not in (signal.SIGSTOP, signal.SIGTRAP):
                passed = number
            _ptrace(resume, thread, data=passed)


def _child(steps: Callable[[], None]) -> None:
    code = 1
    try:
        _ptrace(_TRACEME, 0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the steps say is no answer
        os.kill(os.getpid(), signal.SIGSTOP)
        steps()
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


def _stop(thread: int) -> Stop:
    buffer = ctypes.create_string_buffer(_INFO.size)
    _ptrace(_GET_SYSCALL_INFO, thread, _INFO.size, ctypes.addressof(buffer))
    step, _, _, _, number, *arguments = _INFO.unpack(buffer.raw)
    return Stop(thread, step, number, tuple(arguments))


def _write_like(stop: Stop, folder: str) -> tuple[str | None, str]:
    """The write-like call that the thread enters, if it is one, and its file."""
    if not stop.enters:
        return None, ""
    if name := _ON_PATHS[platform.machine()].get(stop.number):
        return name, ""
    name, file = _ON_DESCRIPTORS[platform.machine()].get(stop.number), ""
    if name:
        file = str(Path(f"/proc/{stop.thread}/fd/{stop.arguments[0]}").readlink())
    return name if file.startswith(folder) else None, file.removeprefix(folder)


def _ptrace(request: int, thread: int, place: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, thread, place, data) < 0:
        code = ctypes.get_errno()
        if code != 3:  # no such process: it was killed meanwhile
            raise OSError(code, f"ptrace {request}: {os.strerror(code)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
