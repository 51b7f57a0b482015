"""Runs: transfers, datamarts and workflows from `queued` to their end, on the sandbox's clock.

Nothing happens between requests. Whoever asks first lets pass what is due by then, in the order of time.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

from etl_assets.sandbox.vendor import Clock

Kind = Literal["transfer", "datamart", "workflow"]
Row = dict[str, Any]

ENDS = ("succeeded", "error", "canceled", "skipped")
_INTERRUPTING_SECONDS = 10.0


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a run goes: seconds in each phase, and its end.

    A workflow that ends in `error` shows that for `error_seconds` and is run again `retries` times, `interval`
    seconds later. `stuck` runs stay in the queue, and `shown` is a status that nobody knows, while executing.
    """

    queue: float = 0.2
    setup: float = 0.1
    run: float = 0.5
    outcome: Literal["succeeded", "error", "canceled"] = "succeeded"
    retries: int = 0
    interval: float = 60.0
    error_seconds: float = 5.0
    stuck: bool = False
    shown: str | None = None
    records: int = 100
    skipped_records: int = 0


class Job(msgspec.Struct):
    """One run. Moments are epoch seconds; `effects` are the variables of each thing that it did."""

    id: int
    kind: Kind
    definition: int
    plan: Plan
    created: float
    executor: str
    context: float
    given: dict[str, str]
    asked: Row
    status: str = "queued"
    started: float | None = None
    finished: float | None = None
    tries: int = 0
    effects: list[Row] = []

    @property
    def is_running(self) -> bool:
        """Whether it takes one of the places of the plan."""
        return self.status in ("setting_up", "executing", "interrupting")


class Engine:
    """All runs of the account, and the places that they compete for."""

    def __init__(self, clock: Clock, on_end: Callable[[Job], None], on_start: Callable[[Job], None]) -> None:
        self._clock = clock
        self._on_end, self._on_start = on_end, on_start
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._waiting: deque[Job] = deque()
        self._numbers = 0
        self._taken = 0
        self._last: dict[str, int] = {"transfer": 0, "datamart": 0, "workflow": 0}
        self._jobs: dict[tuple[str, int], Job] = {}
        self._of: dict[tuple[str, int], list[Job]] = {}
        self.places = 50

    def settle(self) -> None:
        """Let pass what is due."""
        now = self._clock.now()
        while self._due and self._due[0][0] <= now:
            at, _, event = heapq.heappop(self._due)
            event(at)

    def new(self, job: Job, *, concurrent: bool) -> Job:
        """Put a run into the queue, under the next number of its kind; one that finds another active is skipped."""
        job.id = self._last[job.kind] = self._last[job.kind] + 1
        others = self.of(job.kind, job.definition)
        blocked = not concurrent and any(other.status not in ENDS for other in others)
        self._jobs[job.kind, job.id] = job
        self._of.setdefault((job.kind, job.definition), []).append(job)
        if job.finished is None:
            event = (lambda at: self._skip(job, at)) if blocked else (lambda at: self._ready(job, at))
            self._at(job.created + job.plan.queue, event)
        return job

    def get(self, kind: Kind, number: int) -> Job | None:
        """A run by its number."""
        return self._jobs.get((kind, number))

    def of(self, kind: str, definition: int) -> list[Job]:
        """The runs of a definition, oldest first."""
        return self._of.get((kind, definition), [])

    def all(self) -> Iterator[Job]:
        """Every run."""
        yield from self._jobs.values()

    def cancel(self, job: Job) -> None:
        """What the button in the UI does."""
        if job.status in ENDS:
            raise ValueError(f"job {job.id} has ended")
        if not job.is_running:
            self._finish(job, "canceled", self._clock.now())
            return
        job.status, job.plan = "interrupting", msgspec.structs.replace(job.plan, outcome="canceled", retries=0)
        self._at(self._clock.now() + _INTERRUPTING_SECONDS, lambda at: self._end(job, at))

    def _at(self, moment: float, event: Callable[[float], None]) -> None:
        self._numbers += 1
        heapq.heappush(self._due, (moment, self._numbers, event))

    def _skip(self, job: Job, at: float) -> None:
        self._finish(job, "skipped", at)

    def _ready(self, job: Job, at: float) -> None:
        if job.status != "queued" or job.plan.stuck:
            return
        # Workflows do not count: their transfers and datamarts do.
        if job.kind != "workflow" and self._taken >= self.places:
            self._waiting.append(job)
            return
        self._taken += job.kind != "workflow"
        job.status = "setting_up"
        job.started = job.started or at
        self._at(at + job.plan.setup, lambda then: self._execute(job, then))

    def _execute(self, job: Job, at: float) -> None:
        if job.status == "setting_up":
            job.status = "executing"
            self._on_start(job)
            self._at(at + job.plan.run, lambda then: self._end(job, then))

    def _end(self, job: Job, at: float) -> None:
        if not job.is_running:
            return
        self._taken -= job.kind != "workflow"
        if job.plan.outcome == "error" and job.tries < job.plan.retries:
            job.tries += 1
            job.status = "error"
            job.plan = msgspec.structs.replace(
                job.plan, outcome="succeeded" if job.tries == job.plan.retries else "error"
            )
            self._at(at + job.plan.error_seconds, lambda then: self._wait_for_retry(job, then))
        else:
            self._finish(job, job.plan.outcome, at)
        while self._waiting and self._taken < self.places:
            self._ready(self._waiting.popleft(), at)

    def _wait_for_retry(self, job: Job, at: float) -> None:
        job.status = "retry_waiting"
        self._at(at + job.plan.interval, lambda then: self._again(job, then))

    def _again(self, job: Job, at: float) -> None:
        job.status = "queued"
        self._ready(job, at)

    def _finish(self, job: Job, status: str, at: float) -> None:
        job.status, job.finished = status, at
        self._on_end(job)
