"""What all simulated vendors agree on: the first day with data, issue keys, and numbers from a seed.

Facts that two vendors must share so that their rows can be joined belong here; facts of one vendor do not.
"""

import hashlib
import struct
from datetime import date

FIRST_DAY = date(2026, 1, 5)

ISSUE_PROJECTS = ("DEMO", "SHOP", "INFRA")
ISSUES_PER_PROJECT = 300


def numbers(count: int, *key: object) -> tuple[int, ...]:
    """`count` numbers of 64 bits that depend on `key` alone: the same on every machine and in every run.

    One hash gives the numbers of many rows, so that data need not be stored to be stable.
    """
    digest = hashlib.shake_128(repr(key).encode()).digest(8 * count)
    return struct.unpack(f"<{count}Q", digest)


def secret(*key: object) -> str:
    """A token for `key` that occurs nowhere by accident, so that a leak of it can be searched for."""
    return hashlib.shake_128(repr(("secret", *key)).encode()).hexdigest(20)
