"""Threads that share heaps: what a thread once held does not stay with the process for each of them."""

import subprocess
import sys

import pytest

USED = """
import ctypes, sys, threading
from etl_assets import heaps
if sys.argv[1] == "shared":
    heaps.share()
together = threading.Barrier(8)
def hold():
    together.wait()
    kept = [b"x" * 1000 for _ in range(1000)]
    together.wait()
threads = [threading.Thread(target=hold) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
libc.fdopen.argtypes = [ctypes.c_int, ctypes.c_char_p]
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fflush.argtypes = [ctypes.c_void_p]
out = libc.fdopen(1, b"w")
libc.malloc_info(0, out)
libc.fflush(out)
"""


def heaps_of_eight_threads(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", USED, how], capture_output=True, text=True, check=True)
    return done.stdout.count("<heap nr=")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no heap per thread")
def test_threads_share_heaps() -> None:
    assert heaps_of_eight_threads("shared") <= 2 < heaps_of_eight_threads("as it is")
