"""Work in parallel, results in order, memory bounded.

Units of work stand in a line. Workers start them from the front; each unit produces items, and may at its
end put further units right behind itself. The caller receives all items in the order of the line, whatever
finished first. No worker runs further ahead of the caller than a fixed number of units.
"""

import heapq
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from queue import Full, Queue
from typing import Generic, TypeVar

Item = TypeVar("Item")

_AHEAD_PER_WORKER = 2
_ITEMS_PER_UNIT = 2
_CHECK_SECONDS = 0.1
_LAST_WORDS_SECONDS = 5.0


@dataclass
class Unit(Generic[Item]):
    """A piece of work: `work` yields items, and may append to `following` what comes next in order."""

    work: Callable[["Unit[Item]"], Iterator[Item]]
    following: list["Unit[Item]"] = field(default_factory=list)
    queue: Queue[object] = field(default_factory=lambda: Queue(_ITEMS_PER_UNIT))


class _Stopped(Exception):
    """The caller went away; the worker ends."""


_END = object()


@dataclass(frozen=True)
class _Failure:
    error: BaseException


def in_order(units: Iterable[Unit[Item]], workers: int) -> Iterator[Item]:
    """The items of all units, in order. An error of a unit is raised in its place and ends the rest.

    `units` is gone through as workers become free, so that a long line need not exist at once.
    """
    source = enumerate(units)
    order: Queue[Unit[Item] | _Failure | None] = Queue()  # what the caller drains
    # By place: each unit behind the one that it follows, which keeps the workers on what the caller needs next.
    following: list[tuple[tuple[int, ...], Unit[Item]]] = []
    lock = threading.Lock()
    ahead = threading.Semaphore(workers * _AHEAD_PER_WORKER)
    stopped = threading.Event()
    done = threading.Event()
    working = 0

    def put(unit: Unit[Item], item: object) -> None:
        while not stopped.is_set():
            try:
                return unit.queue.put(item, timeout=_CHECK_SECONDS)
            except Full:
                continue
        raise _Stopped

    def next_unit() -> tuple[tuple[int, ...], Unit[Item]] | None:
        nonlocal working
        with lock:
            if following:
                working += 1
                return heapq.heappop(following)
            try:
                number, unit = next(source)
            except StopIteration:
                if not working and not done.is_set():
                    done.set()
                    order.put(None)
                return None
            except BaseException as error:  # noqa: BLE001 - handed to the caller, who raises it
                done.set()
                order.put(_Failure(error))
                return None
            working += 1
            order.put(unit)
            return (number,), unit

    def take() -> tuple[tuple[int, ...], Unit[Item]] | None:
        while not stopped.is_set() and not done.is_set():
            if ahead.acquire(timeout=_CHECK_SECONDS):
                if (taken := next_unit()) is not None:
                    return taken
                ahead.release()
                done.wait(_CHECK_SECONDS / 10)
        return None

    def run() -> None:
        nonlocal working
        while (taken := take()) is not None:
            place, unit = taken
            try:
                for item in unit.work(unit):
                    put(unit, item)
                with lock:
                    for n, behind in enumerate(unit.following):
                        heapq.heappush(following, ((*place, n), behind))
                    working -= 1
                put(unit, _END)
            except _Stopped:
                return
            except BaseException as error:  # noqa: BLE001 - handed to the caller, who raises it
                try:
                    put(unit, _Failure(error))
                except _Stopped:
                    return

    def drain(unit: Unit[Item]) -> Iterator[Item]:
        while (item := unit.queue.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]
        ahead.release()
        for behind in unit.following:
            yield from drain(behind)

    threads = [threading.Thread(target=run, daemon=True, name=f"fetch-{n}") for n in range(workers)]
    try:
        for thread in threads:
            thread.start()
        while (unit := order.get()) is not None:
            if isinstance(unit, _Failure):
                raise unit.error
            yield from drain(unit)
    finally:
        stopped.set()
        for thread in threads:  # one that sleeps before a retry ends by itself after it
            thread.join(_LAST_WORDS_SECONDS)
