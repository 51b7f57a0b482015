"""The C library's heaps, so that many threads do not each keep the most memory that they ever held."""

import contextlib
import ctypes
import functools

_M_ARENA_MAX, _HEAPS = -8, 2  # mallopt(3)


@functools.cache
def share() -> None:
    """Let all threads share two heaps. glibc gives a thread its own and hardly ever gives back what lies in it.

    Heaps that exist stay in use: to be called before threads start.
    """
    with contextlib.suppress(AttributeError):  # other C libraries have no mallopt, and no heap per thread
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _HEAPS)
