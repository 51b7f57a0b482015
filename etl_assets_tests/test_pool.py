"""Work in parallel: order, bounds, errors, and no standstill whatever the shape of the work."""

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice

import pytest

from etl_assets.pool import Unit, in_order

pytestmark = pytest.mark.timeout(15)

AHEAD = 2  # units per worker that may be under way or waiting to be taken
BUFFER = 2  # items per unit that wait to be taken


def unit(*items: object, following: tuple[Unit[object], ...] = ()) -> Unit[object]:
    """A unit that yields the items, an exception by raising it, and then announces what follows."""

    def work(self: Unit[object]) -> Iterator[object]:
        for item in items:
            if isinstance(item, BaseException):
                raise item
            yield item
        self.following.extend(following)

    return Unit(work)


def fetchers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fetch-")]


# Order


@pytest.mark.parametrize("workers", [1, 2, 7, 64])
def test_items_come_in_the_order_of_their_units(workers: int) -> None:
    units = [unit(*(f"{n}.{i}" for i in range(n % 5))) for n in range(40)]
    assert list(in_order(units, workers)) == [f"{n}.{i}" for n in range(40) for i in range(n % 5)]


def test_a_slow_unit_holds_its_place() -> None:
    others = threading.Event()

    def slow(self: Unit[object]) -> Iterator[object]:
        assert others.wait(10)
        yield "slow"

    def quick(self: Unit[object]) -> Iterator[object]:
        yield "quick"
        others.set()

    assert list(in_order([Unit(slow), Unit(quick)], 2)) == ["slow", "quick"]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_followers_come_right_behind_their_unit(workers: int) -> None:
    units = [
        unit("a", following=(unit("a1", "a1"), unit(), unit("a2", following=(unit("a2x"), unit("a2y"))), unit("a3"))),
        unit("b"),
        unit(following=(unit("c1"),)),
    ]
    assert list(in_order(units, workers)) == ["a", "a1", "a1", "a2", "a2x", "a2y", "a3", "b", "c1"]


@pytest.mark.parametrize("workers", [1, 3])
def test_without_work_there_is_nothing_to_wait_for(workers: int) -> None:
    assert list(in_order([], workers)) == []
    assert list(in_order([unit(), unit()], workers)) == []


def test_units_run_at_the_same_time() -> None:
    together = threading.Barrier(3)

    def work(self: Unit[object]) -> Iterator[object]:
        yield together.wait(10) >= 0

    assert list(in_order([Unit(work) for _ in range(9)], 3)) == [True] * 9


def test_no_more_units_run_at_the_same_time_than_there_are_workers() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work(self: Unit[object]) -> Iterator[object]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        yield 1
        with lock:
            running -= 1

    assert len(list(in_order([Unit(work) for _ in range(100)], 4))) == 100
    assert most <= 4


# Bounds


@pytest.mark.parametrize("workers", [1, 3])
def test_no_worker_starts_a_unit_too_far_ahead_of_the_caller(workers: int) -> None:
    started, taken, furthest, all_ahead = count(1), 0, 0, threading.Event()

    def work(self: Unit[object]) -> Iterator[object]:
        nonlocal furthest
        number = next(started)
        furthest = max(furthest, number - taken)
        if number == workers * AHEAD:
            all_ahead.set()
        yield "item"

    for _ in in_order([Unit(work) for _ in range(100)], workers):
        taken += 1
        assert all_ahead.wait(5), "the workers do not wait for a slow caller"
    assert taken == 100
    assert furthest <= workers * AHEAD


def test_the_bound_holds_for_followers() -> None:
    started, taken, furthest = count(1), 0, 0

    def work(self: Unit[object]) -> Iterator[object]:
        nonlocal furthest
        furthest = max(furthest, next(started) - taken)
        yield "item"

    def parent(self: Unit[object]) -> Iterator[object]:
        yield from work(self)
        self.following.extend(Unit(work) for _ in range(30))

    for _ in in_order([Unit(parent) for _ in range(3)], 2):
        taken += 1
    assert taken == 93
    assert furthest <= 2 * AHEAD


def test_a_long_unit_does_not_run_ahead_of_the_caller() -> None:
    produced, taken, furthest, ahead = 0, 0, 0, threading.Event()

    def work(self: Unit[object]) -> Iterator[object]:
        nonlocal produced, furthest
        for _ in range(500):
            produced += 1
            furthest = max(furthest, produced - taken)
            if produced == BUFFER + 1:
                ahead.set()
            yield produced

    for _ in in_order([Unit(work)], 2):
        taken += 1
        assert ahead.wait(5), "the worker does not wait for a slow caller"
    assert taken == 500
    assert furthest <= BUFFER + 2  # one in the hands of either side


def test_an_endless_unit_can_be_read_from() -> None:
    def work(self: Unit[object]) -> Iterator[object]:
        yield from count()

    items = in_order([Unit(work), unit("never")], 2)
    assert list(islice(items, 50)) == list(range(50))
    items.close()  # type: ignore[attr-defined]
    assert fetchers() == []


# Errors


class Broken(Exception):
    pass


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_an_error_is_raised_in_its_place_after_the_items_before_it(workers: int) -> None:
    units = [unit("a", "b"), unit("c"), unit("d", Broken("here")), unit("e"), unit(Broken("later"))]
    items = in_order(units, workers)
    assert [next(items) for _ in range(4)] == ["a", "b", "c", "d"]
    with pytest.raises(Broken, match="here"):
        next(items)
    assert fetchers() == []


def test_the_first_error_in_order_is_raised_although_a_later_one_came_sooner() -> None:
    later = threading.Event()

    def fails_late(self: Unit[object]) -> Iterator[object]:
        assert later.wait(10)
        raise Broken("first in order")
        yield

    def fails_soon(self: Unit[object]) -> Iterator[object]:
        later.set()
        raise Broken("first in time")
        yield

    with pytest.raises(Broken, match="first in order"):
        list(in_order([Unit(fails_late), Unit(fails_soon)], 2))


def test_an_error_stops_the_rest() -> None:
    started = count(1)

    def work(self: Unit[object]) -> Iterator[object]:
        next(started)
        yield 1

    with pytest.raises(Broken):
        list(in_order([unit(Broken()), *(Unit(work) for _ in range(1000))], 4))
    assert next(started) <= 4 * AHEAD + 1


def test_an_error_of_a_follower_is_raised_in_its_place() -> None:
    units = [unit("a", following=(unit("a1"), unit(Broken("a2")))), unit("b")]
    items = in_order(units, 2)
    assert [next(items), next(items)] == ["a", "a1"]
    with pytest.raises(Broken, match="a2"):
        next(items)


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(3), RecursionError(), StopAsyncIteration()])
def test_any_error_reaches_the_caller(error: BaseException) -> None:
    with pytest.raises(type(error)):
        list(in_order([unit("a", error)], 2))


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_a_caller_that_goes_away_leaves_no_thread_behind(taken: int) -> None:
    items = in_order([unit(*range(10), following=(unit(1),)) for _ in range(50)], 3)
    assert len(list(islice(items, taken))) == taken
    items.close()  # type: ignore[attr-defined]
    assert fetchers() == []


def test_no_thread_is_left_behind_at_the_end() -> None:
    assert list(in_order([unit(1), unit(2)], 3)) == [1, 2]
    assert fetchers() == []


# No standstill


def test_followers_of_a_later_unit_do_not_overtake_those_of_an_earlier_one() -> None:
    """If they did, all workers would hold work that the caller takes later, and none what it waits for."""
    b_runs, a_announced, b_ends = threading.Event(), threading.Event(), threading.Event()

    def a(self: Unit[object]) -> Iterator[object]:
        yield "a"
        assert b_runs.wait(10)
        self.following.extend([Unit(a0), *(unit(*[f"a{n}"] * 3) for n in range(1, 6))])

    def a0(self: Unit[object]) -> Iterator[object]:
        a_announced.set()
        yield from ["a0"] * 3

    def b(self: Unit[object]) -> Iterator[object]:
        b_runs.set()
        yield "b"
        assert a_announced.wait(10)
        self.following.extend(unit(*[f"b{n}"] * 3) for n in range(6))
        b_ends.set()

    items = in_order([Unit(a), Unit(b)], 2)
    found = [next(items)]
    assert b_ends.wait(10)
    found += items
    assert found == [text for name in "ab" for text in [name, *(f"{name}{n}" for n in range(6) for _ in range(3))]]


@dataclass
class Shape:
    """A piece of random work: how many items, and what follows."""

    name: str
    items: int
    following: list["Shape"] = field(default_factory=list)

    def unit(self, pause: Callable[[], object]) -> Unit[str]:
        def work(unit: Unit[str]) -> Iterator[str]:
            for number in range(self.items):
                pause()
                yield f"{self.name}:{number}"
            pause()
            unit.following.extend(shape.unit(pause) for shape in self.following)

        return Unit(work)

    def expected(self) -> Iterator[str]:
        yield from (f"{self.name}:{number}" for number in range(self.items))
        for shape in self.following:
            yield from shape.expected()


def random_shapes(rng: random.Random, name: str = "", depth: int = 0) -> list[Shape]:
    most = (8, 5, 2, 1)[depth]
    return [
        Shape(
            f"{name}.{number}",
            rng.choice((0, 1, 1, 1, 2, 3, 9)),
            random_shapes(rng, f"{name}.{number}", depth + 1) if depth < 3 and rng.random() < 0.5 else [],
        )
        for number in range(rng.randint(0, most))
    ]


@pytest.mark.parametrize("seed", range(60))
def test_random_work_comes_to_its_end_in_order(seed: int) -> None:
    rng = random.Random(seed)
    shapes, workers = random_shapes(rng), rng.choice((1, 2, 2, 3, 4, 8))
    never, delays = threading.Event(), random.Random(seed)
    lag = rng.choice((0.0, 0.0005))
    pause = (lambda: never.wait(delays.random() * lag)) if lag else (lambda: None)
    found = []
    for item in in_order([shape.unit(pause) for shape in shapes], workers):
        found.append(item)
        if rng.random() < 0.2:
            pause()
    assert found == [item for shape in shapes for item in shape.expected()]
