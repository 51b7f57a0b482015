"""Limits that hold over processes: slots, rates, pauses."""

import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from etl_assets.errors import RetryableError
from etl_assets.limiter import Limiter
from etl_assets.spec import Rate

pytestmark = pytest.mark.timeout(30)

CREDENTIAL = "https://api.example Bearer 8f3c-secret"
LOOSE = 0.5  # of a period: a busy machine delays a request that was let go in time


def limiter(folder: Path, parallel: int = 2, rates: Mapping[str, Sequence[Rate]] | None = None) -> Limiter:
    return Limiter(folder, CREDENTIAL, parallel=parallel, rates=rates or {})


def per(count: int, seconds: int) -> Rate:
    return Rate(count=count, seconds=seconds)


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


def crowded(times: Sequence[float], count: int) -> list[float]:
    """Seconds that each `count + 1` consecutive requests span: none may be shorter than the period."""
    ordered = sorted(times)
    return [after - before for before, after in zip(ordered, ordered[count:], strict=False)]


@contextmanager
def process(program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs the program with `limiter` made in the same way as here."""
    head = (
        "import sys, threading, time\n"
        "from pathlib import Path\n"
        "from etl_assets.errors import RetryableError\n"
        "from etl_assets_tests.test_limiter import limiter, per, soon\n"
        "folder = Path(sys.argv[1])\n"
    )
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", head + program, *map(str, arguments)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as running:
        try:
            assert running.stdout
            assert running.stdout.readline() == "ready\n"
            yield running
        finally:
            running.kill()


def say(running: subprocess.Popen[str], line: str) -> None:
    assert running.stdin
    running.stdin.write(f"{line}\n")
    running.stdin.flush()


def said(running: subprocess.Popen[str]) -> str:
    """The rest of what the process prints until it ends."""
    assert running.stdout
    return running.stdout.read()


# Slots

_HOLDER = """
with limiter(folder, parallel=1).slot(soon()):
    print("ready", flush=True)
    sys.stdin.readline()
print("released", flush=True)
"""


def test_a_slot_held_by_another_process_is_not_given_twice(tmp_path: Path) -> None:
    mine = limiter(tmp_path, parallel=1)
    with process(_HOLDER, tmp_path) as holder:
        with pytest.raises(RetryableError, match="all 1 parallel requests stayed taken"), mine.slot(soon(0.05)):
            pass
        say(holder, "go on")
        with mine.slot(soon()):
            assert said(holder) == "released\n"


def test_a_slot_is_free_again_when_its_holder_is_killed(tmp_path: Path) -> None:
    mine = limiter(tmp_path, parallel=1)
    with process(_HOLDER, tmp_path) as holder:
        holder.send_signal(signal.SIGKILL)
        assert holder.wait(10) == -signal.SIGKILL
        with mine.slot(soon()):
            pass
    assert mine.waits.seconds < 1


def test_there_are_as_many_slots_as_declared(tmp_path: Path) -> None:
    mine, other = limiter(tmp_path, parallel=3), limiter(tmp_path, parallel=3)
    with ExitStack() as stack:
        for one in (mine, other, mine):
            stack.enter_context(one.slot(soon(0)))
        for one in (mine, other):
            with pytest.raises(RetryableError, match="all 3"), one.slot(soon(0)):
                pass
    with mine.slot(soon(0)):
        pass


def test_a_slot_is_free_again_after_an_error(tmp_path: Path) -> None:
    mine = limiter(tmp_path, parallel=1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), mine.slot(soon(0)):
            raise ZeroDivisionError


def test_threads_share_the_slots(tmp_path: Path) -> None:
    mine, lock = limiter(tmp_path, parallel=2), threading.Lock()
    inside, most = 0, 0
    enough = threading.Barrier(2)

    def work(number: int) -> None:
        nonlocal inside, most
        with mine.slot(soon()):
            with lock:
                inside += 1
                most = max(most, inside)
            enough.wait(10)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert most == 2


def test_accounts_do_not_limit_each_other_and_leave_no_credential_behind(tmp_path: Path) -> None:
    one = Limiter(tmp_path, "token-of-one", parallel=1, rates={"default": [per(1, 60)]})
    two = Limiter(tmp_path, "token-of-two", parallel=1, rates={"default": [per(1, 60)]})
    with one.slot(soon(0)), two.slot(soon(0)):
        one.wait("default", soon(0))
        two.wait("default", soon(0))
    written = [
        str(path) + (path.read_bytes().decode("latin-1") if path.is_file() else "") for path in tmp_path.rglob("*")
    ]
    assert len(written) >= 4
    assert "token-of" not in "".join(written)


# Rates

_ASKER = """
rates = {"default": [per(int(count), int(seconds)) for count, seconds in (text.split("/") for text in sys.argv[4:])]}
asking, times = limiter(folder, rates=rates), []
def ask():
    for _ in range(int(sys.argv[3])):
        asking.wait("default", soon())
        times.append(time.time())
threads = [threading.Thread(target=ask) for _ in range(int(sys.argv[2]))]
print("ready", flush=True)
sys.stdin.readline()
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*times, flush=True)
"""


def asked_by_two(folder: Path, threads: int, each: int, *rates: str) -> list[float]:
    with process(_ASKER, folder, threads, each, *rates) as one, process(_ASKER, folder, threads, each, *rates) as two:
        say(one, "go")
        say(two, "go")
        times = [float(number) for number in (said(one) + said(two)).split()]
    assert len(times) == 2 * threads * each
    return times


def test_a_rate_holds_in_every_window_over_two_processes(tmp_path: Path) -> None:
    times = asked_by_two(tmp_path, 1, 4, "3/1")
    assert min(crowded(times, 3)) > LOOSE
    assert 2.0 < max(times) - min(times) < 4


def test_a_rate_holds_for_a_queue_longer_than_two_periods(tmp_path: Path) -> None:
    times = asked_by_two(tmp_path, 4, 1, "2/1")
    assert min(crowded(times, 2)) > LOOSE
    assert 3.0 < max(times) - min(times) < 5


def test_several_rates_of_a_bucket_all_hold(tmp_path: Path) -> None:
    times = asked_by_two(tmp_path, 3, 1, "2/1", "3/2")
    assert min(crowded(times, 2)) > LOOSE
    assert min(crowded(times, 3)) > 2 * LOOSE
    assert 2.0 < max(times) - min(times) < 4


def test_one_caller_after_the_other_keeps_to_the_rates_to_the_millisecond(tmp_path: Path) -> None:
    mine = limiter(tmp_path, rates={"default": [per(2, 1), per(3, 2)]})
    before, after = [], []
    for _ in range(6):
        before.append(time.time())
        mine.wait("default", soon())
        after.append(time.time())
    assert all(last - first >= 1 for first, last in zip(before, after[2:], strict=False))
    assert all(last - first >= 2 for first, last in zip(before, after[3:], strict=False))
    assert 2.0 < mine.waits.seconds < 4


def test_requests_within_the_rate_do_not_wait(tmp_path: Path) -> None:
    mine = limiter(tmp_path, rates={"default": [per(5, 60)]})
    for _ in range(5):
        mine.wait("default", soon(0))
    assert mine.waits.seconds == 0


_CROWD = """
asking, lucky = limiter(folder, rates={"default": [per(3000, 60)]}), []
def ask():
    for _ in range(1000):
        try: asking.wait("default", soon(0))
        except RetryableError: continue
        lucky.append(1)
threads = [threading.Thread(target=ask) for _ in range(4)]
print("ready", flush=True)
sys.stdin.readline()
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(lucky), flush=True)
"""


def test_no_place_is_given_twice_in_a_crowd(tmp_path: Path) -> None:
    with process(_CROWD, tmp_path) as one, process(_CROWD, tmp_path) as two:
        say(one, "go")
        say(two, "go")
        assert int(said(one)) + int(said(two)) == 3000


def test_the_same_rate_twice_is_no_trap(tmp_path: Path) -> None:
    mine = limiter(tmp_path, rates={"default": [per(5, 60), per(5, 60)]})
    mine.wait("default", soon(0))


def test_a_bucket_without_a_rate_is_not_limited(tmp_path: Path) -> None:
    mine = limiter(tmp_path, rates={"search": [per(1, 60)]})
    mine.wait("search", soon(0))
    for _ in range(20):
        mine.wait("default", soon(0))
    with pytest.raises(
        RetryableError, match="the limit of 'search' requests frees a place in 60 s, after the deadline"
    ):
        mine.wait("search", soon())


def test_a_request_that_cannot_wait_takes_no_place(tmp_path: Path) -> None:
    mine = limiter(tmp_path, rates={"default": [per(1, 1)]})
    mine.wait("default", soon(0))
    for _ in range(5):
        with pytest.raises(RetryableError, match="after the deadline"):
            mine.wait("default", soon(0.1))
    started = time.monotonic()
    mine.wait("default", soon())
    assert 0.5 < time.monotonic() - started < 2


def test_a_clock_that_was_set_back_does_not_stop_requests(tmp_path: Path) -> None:
    mine = limiter(tmp_path, rates={"default": [per(2, 1)]})
    for _ in range(2):
        mine.wait("default", soon(0))
    mine.pause("default", 0.0)
    shifted = 0
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        data = file.read_bytes()
        for place in range(0, len(data) - len(data) % 8, 8):
            (moment,) = struct.unpack_from("<d", data, place)
            if abs(moment - time.time()) < 60:
                data = data[:place] + struct.pack("<d", moment + 86_400) + data[place + 8 :]
                shifted += 1
        file.write_bytes(data)
    assert shifted >= 2
    for _ in range(3):
        mine.wait("default", soon(3))


# Pauses


@pytest.mark.parametrize("rates", [{}, {"default": [per(100, 1)]}, {"default": [per(100, 1), per(1000, 60)]}])
def test_a_pause_holds_for_every_limiter_of_the_account(tmp_path: Path, rates: dict[str, list[Rate]]) -> None:
    mine, other = limiter(tmp_path, rates=rates), limiter(tmp_path, rates=rates)
    mine.pause("default", 0.4)
    started = time.monotonic()
    other.wait("search", soon(0))
    with pytest.raises(RetryableError, match="after the deadline"):
        other.wait("default", soon(0.1))
    other.wait("default", soon())
    assert 0.35 < time.monotonic() - started < 2
    assert mine.waits.seconds == 0
    assert other.waits.seconds > 0.2


def test_a_pause_holds_in_another_process(tmp_path: Path) -> None:
    limiter(tmp_path).pause("default", 120)
    program = (
        'print("ready", flush=True)\n'
        "try: limiter(folder).wait('default', soon(1))\n"
        "except Exception as error: print(error, flush=True)\n"
    )
    with process(program, tmp_path) as other:
        assert "frees a place in 1" in said(other)


def test_a_shorter_pause_does_not_end_a_longer_one(tmp_path: Path) -> None:
    mine = limiter(tmp_path)
    mine.pause("default", 60)
    mine.pause("default", 0)
    with pytest.raises(RetryableError, match=r"in (59|60) s"):
        mine.wait("default", soon(1))


def test_a_pause_that_is_over_is_forgotten(tmp_path: Path) -> None:
    mine = limiter(tmp_path)
    mine.pause("default", -5)
    mine.wait("default", soon(0))
    assert mine.waits.seconds == 0
