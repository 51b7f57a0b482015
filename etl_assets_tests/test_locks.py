import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from etl_assets.errors import LockedError, RetryableError
from etl_assets.locks import held

NOW, LATER = 0.0, float("inf")
HOLDER = """
import pathlib, sys
from etl_assets.locks import held
with held(pathlib.Path(sys.argv[1]), 0, str, shared=len(sys.argv) > 2):
    print("held", flush=True)
    input()
"""


def busy(holder: str) -> str:
    return f"held by {holder}"


def test_a_lock_is_held_once_at_a_time_and_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "lock"
    got = threading.Event()

    def wait() -> None:
        with held(file, LATER, busy):
            got.set()

    with held(file, LATER, busy):
        waiting = threading.Thread(target=wait)
        waiting.start()
        with pytest.raises(LockedError), held(file, time.monotonic() + 0.1, busy):
            pass
        assert not got.is_set()
    assert got.wait(10)
    waiting.join(10)


@pytest.mark.parametrize("shared", [False, True])
def test_the_holder_is_named_and_frees_the_lock_by_its_death(tmp_path: Path, shared: bool) -> None:
    file = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(file)], stdout=subprocess.PIPE, stdin=-1) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockedError) as caught, held(file, NOW, busy, shared=shared):
            pass
        assert str(caught.value).startswith(f"held by process {holder.pid} ({sys.executable} -c")
        holder.kill()
    with held(file, NOW, busy, shared=shared):
        pass


def test_those_who_share_a_lock_keep_out_who_wants_it_alone(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    sharing = held(file, NOW, busy, shared=True)
    with (
        sharing,
        held(file, NOW, busy, shared=True),
        pytest.raises(LockedError, match=f"held by process {os.getpid()}"),
    ):
        held(file, NOW, busy).__enter__()
    with held(file, NOW, busy):
        pass


def test_a_folder_that_is_read_only_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, whom the tests may run as, may write anywhere
    with held(tmp_path / "lock", NOW, busy, shared=True):
        assert not list(tmp_path.iterdir())


def test_a_lock_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(RetryableError, match="file/lock: cannot be opened"),
        held(tmp_path / "file" / "lock", NOW, busy),
    ):
        pass


FORKING = """
import os, pathlib, sys
from etl_assets.locks import held
with held(pathlib.Path(sys.argv[1]), 0, str):
    if not os.fork():
        sys.stdin.read()
        os._exit(0)
with held(pathlib.Path(sys.argv[1]), 0, str):
    print("free", flush=True)
"""


def test_a_child_that_was_forked_meanwhile_does_not_keep_the_lock(tmp_path: Path) -> None:
    program = [sys.executable, "-c", FORKING, str(tmp_path / "lock")]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"free\n"
