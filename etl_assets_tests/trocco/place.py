"""Where TROCCO's jobs are run in tests: the simulator, the ledger, and requests in this process or in others."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etl_assets.pipeline import Pipeline
from etl_assets.sandbox.handle import Sandbox
from etl_assets.trocco.ledger import Ledger
from etl_assets.trocco.run import Clock, Request, Runner, ledger_of, opened
from etl_assets.trocco.spec import Job, JobFile

ROOT = Path(__file__).parents[2]
TRANSFER = {"name": "orders", "kind": "transfer", "definition": 1001, "variables": {"$day$": "{partition.date}"}}
TRANSFER |= {"partitions": {"start": "2026-01-01"}}
WORKFLOW = {"name": "morning", "kind": "workflow", "definition": 3002, "partitions": {"start": "2026-01-01"}}
DAY = "2026-01-05"
_ALONE = """
import sys
from etl_assets_tests.trocco.place import request_alone
request_alone(sys.argv[1], sys.argv[2], sys.argv[3])
"""


def job(declared: dict[str, Any], **changes: Any) -> Job:
    """The job of a declaration, read as from YAML."""
    import datetime

    tree = {**declared, **changes}
    if "partitions" in tree:
        tree["partitions"] = {"start": datetime.date.fromisoformat(tree["partitions"]["start"])}
    return JobFile.model_validate({"jobs": [tree]}).jobs[0]


@dataclass
class Skipping(Clock):
    """A clock on which waiting costs nothing, and which takes the simulator along."""

    sandbox: Sandbox
    skipped: float = 0.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return time.time() + self.skipped

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.skipped += seconds
        self.sandbox.advance(seconds)


@dataclass(frozen=True)
class Place:
    """A simulator and a data folder, as the variables of this process point at them."""

    sandbox: Sandbox
    folder: Path

    @property
    def ledger(self) -> Ledger:
        return ledger_of(Pipeline.from_environment())

    @property
    def clock(self) -> Skipping:
        return Skipping(self.sandbox)

    @contextmanager
    def runner(self, clock: Clock | None = None) -> Iterator[Runner]:
        with opened(Pipeline.from_environment(), clock=clock or self.clock) as runner:
            yield runner

    def run(self, wanted: Job, *, requester: str = "run-1", partition: str = DAY, asked_at: float | None = None) -> Any:
        """Request the job and wait for its end."""
        clock = self.clock
        with self.runner(clock) as runner:
            return runner.run(Request(wanted, partition, requester, clock.now() if asked_at is None else asked_at))

    def accepted(self) -> list[dict[str, Any]]:
        """The POSTs that started a run, as the simulator counts them."""
        return self.sandbox.truth(accepted="all")

    def start(self, kind: str, requester: str = "run-1") -> "subprocess.Popen[bytes]":
        """The same request in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", _ALONE, kind, requester, DAY],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
        )


def request_alone(kind: str, requester: str, partition: str) -> None:
    """Request a job and wait for its end, with the clock of the machine."""
    wanted = job({"transfer": TRANSFER, "workflow": WORKFLOW}[kind])
    with opened(Pipeline.from_environment()) as runner:
        runner.run(Request(wanted, partition, requester, time.time()))


def until(happened: Callable[[], object], seconds: float = 60) -> None:
    """Wait for another process."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL, and gone."""
    assert process.poll() is None, process.stderr and process.stderr.read().decode()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stderr
    process.stderr.close()
