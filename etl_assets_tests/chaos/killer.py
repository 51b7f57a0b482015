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
from functools import partial
from pathlib import Path

CANNOT = 77  # exit code where processes cannot be traced

_TRACEME, _CONT, _POKEUSER, _SYSCALL, _SETOPTIONS, _GET_SYSCALL_INFO = 0, 7, 6, 24, 0x4200, 0x420E
_OPTIONS = 1 | 8 | 0x100000  # mark stops at system calls, follow threads, end together with the tracer
_WALL = 0x40000000
_AT_CALL = signal.SIGTRAP | 0x80
_ENTERS, _LEAVES = 1, 2
_INFO = struct.Struct("<B3xIQQQ6Q")
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
    pid = os.fork()
    if not pid:
        _child(steps)
    if not os.WIFSTOPPED(os.waitpid(pid, 0)[1]):
        sys.exit(CANNOT)
    _ptrace(_SETOPTIONS, pid, data=_OPTIONS)
    threads = list(Path(f"/proc/{pid}/task").iterdir())
    assert len(threads) == 1, "threads from before the count would not be seen"
    dying, calls, at = 0, 0, ""
    resume = _SYSCALL if last else _CONT
    _ptrace(resume, pid)
    while True:
        thread, status = os.waitpid(-1, _WALL)
        if not os.WIFSTOPPED(status):
            if thread == pid:
                return {"calls": calls, "at": at, "signal": os.WTERMSIG(status), "code": os.WEXITSTATUS(status)}
            continue
        number, passed = os.WSTOPSIG(status), 0
        if number == _AT_CALL:
            step, name, file, size = _call(thread, folder)
            if thread == dying and step == _LEAVES:
                os.kill(pid, signal.SIGKILL)
            if step == _ENTERS and name and (mode == "before" or (name in _TORN and size > 1)):
                calls += 1
                at = f"{name} {file}" if calls <= last else at
                if calls == last and mode == "before":
                    os.kill(pid, signal.SIGKILL)
                elif calls == last:
                    _ptrace(_POKEUSER, thread, _SIZE_REGISTER, size // 2)
                    dying = thread
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


def _call(thread: int, folder: str) -> tuple[int, str | None, str, int]:
    """Whether the thread enters or leaves, the write-like call if it is one, its file, and how many bytes."""
    buffer = ctypes.create_string_buffer(_INFO.size)
    _ptrace(_GET_SYSCALL_INFO, thread, _INFO.size, ctypes.addressof(buffer))
    step, _, _, _, number, descriptor, _, size, *_ = _INFO.unpack(buffer.raw)
    name = _ON_PATHS[platform.machine()].get(number)
    if step != _ENTERS or name:
        return step, name, "", size
    name, file = _ON_DESCRIPTORS[platform.machine()].get(number), ""
    if name:
        file = str(Path(f"/proc/{thread}/fd/{descriptor}").readlink())
    return step, name if file.startswith(folder) else None, file.removeprefix(folder), size


def _ptrace(request: int, thread: int, place: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, thread, place, data) < 0:
        code = ctypes.get_errno()
        if code != 3:  # no such process: it was killed meanwhile
            raise OSError(code, f"ptrace {request}: {os.strerror(code)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
