"""The simulators as a process of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

import etl_assets.sandbox
from etl_assets.sandbox.handle import Sandbox

ROOT = Path(etl_assets.sandbox.__path__[0]).parents[1]
PROGRAM = "import sys; from etl_assets.sandbox.server import serve; sys.exit(serve(0, 4, 2, 1, sys.argv[1:]))"


@contextmanager
def serving(*command: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def lines_until_ready(process: "subprocess.Popen[str]") -> list[str]:
    assert process.stdout
    return [line.rstrip("\n") for line in iter(process.stdout.readline, "ready\n")]


def python(program: str) -> Sequence[str]:
    return sys.executable, "-c", program


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_the_environment_then_ready_and_serves_until_it_is_stopped(stop: signal.Signals) -> None:
    with serving() as process:
        env = dict(line.split("=", 1) for line in lines_until_ready(process))
        assert {"TMETRIC_BASE_URL", "TMETRIC_TOKEN", "TMETRIC_ACCOUNT_ID"} <= env.keys()
        sandbox = Sandbox.attached(env)
        assert sandbox.env() == env
        assert sandbox.vendor("tmetric").truth(day="2026-01-06")
        process.send_signal(stop)
        assert process.wait(10) == 0


def test_a_command_runs_with_the_environment_and_lends_its_exit_code() -> None:
    program = "import os, sys; print(os.environ['TMETRIC_BASE_URL'], len(os.environ['TMETRIC_TOKEN'])); sys.exit(7)"
    with serving(*python(program)) as process:
        output, _ = process.communicate(timeout=10)
        assert output.startswith("http://127.0.0.1:")
        assert output.endswith(" 40\n")
        assert process.returncode == 7


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_forwarded_to_the_command(stop: signal.Signals) -> None:
    program = (
        "import signal, sys\n"
        "for s in (signal.SIGTERM, signal.SIGINT): signal.signal(s, lambda n, _: sys.exit(n + 50))\n"
        "print('ready', flush=True); signal.pause()"
    )
    with serving(*python(program)) as process:
        lines_until_ready(process)
        process.send_signal(stop)
        assert process.wait(10) == stop + 50


def test_a_command_that_a_signal_kills_is_reported_as_shells_do() -> None:
    with serving(*python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")) as process:
        assert process.wait(10) == 128 + signal.SIGKILL
