"""What to do next: pure functions of a record, of what TROCCO said, and of the time.

Times are epoch seconds. What to put here: decisions. What to keep out: asking and writing (run.py).
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from etl_assets.trocco.api import State
from etl_assets.trocco.ledger import NOT_STARTED, SUPERSEDED, Record
from etl_assets.trocco.spec import Job

log = logging.getLogger(__name__)

UNDER_WAY = frozenset({"queued", "setting_up", "executing", "interrupting", "retry_waiting"})
ENDS = frozenset({"succeeded", "error", "canceled", "skipped"})
LOST, STARTED = "lost", "started"  # outcomes beside TROCCO's own words
RETRIGGER_SECONDS = 60.0
HISTORY_SLACK_SECONDS = 300.0  # how far TROCCO's clock may be from ours: history is read from so long before a start

_DELAYS = ((5, 1.0), (30, 5.0), (120, 15.0), (600, 30.0))
_LONGEST_DELAY = 60.0
_SHARE = 0.8
_LONGEST_TICK_SECONDS = 60.0


@dataclass(frozen=True)
class Start:
    """Start a job."""


@dataclass(frozen=True)
class Follow:
    """Wait for a job that was started before."""

    record: Record


@dataclass(frozen=True)
class Report:
    """The job has ended, and its end answers this request as well."""

    record: Record


@dataclass(frozen=True)
class Later:
    """Ask again after so many seconds."""

    seconds: float
    why: str


@dataclass(frozen=True)
class Found:
    """The lost answer's job."""

    job_id: int


@dataclass(frozen=True)
class NotStarted:
    """No job came of the lost trigger."""


@dataclass(frozen=True)
class Several:
    """More jobs than one may be the lost one."""

    job_ids: tuple[int, ...]


def on_request(latest: Record | None, requester: str, asked_at: float) -> Start | Follow | Report:
    """What a request for a (job, partition) means, given its newest record.

    A job under way is attached to, whoever asks. An end answers the request that caused it, however often that is
    retried, and every request made before that end. A later one wants the job run again.
    """
    if latest is None or latest.outcome in (NOT_STARTED, SUPERSEDED):
        return Start()
    if latest.is_open:
        return Follow(latest)
    if latest.requester == requester or (latest.ended_at or 0) >= asked_at:
        return Report(latest)
    return Start()


def lost(
    record: Record, history: Iterable[State], known: Collection[int], now: float, settle: float
) -> Found | NotStarted | Later | Several:
    """What became of a transfer whose POST was never answered, by the history of its definition.

    Candidates are runs started by API, newer than all before the POST and on record for nobody else. Triggers of a
    definition go one after the other, and lost ones are cleared up before the next, so one candidate is ours. None at
    all counts only after `settle` seconds: an answer may be lost before the job appears.
    """
    candidates = tuple(
        sorted(
            run.id
            for run in history
            if run.id > (record.baseline or 0) and run.id not in known and run.executor in (None, "api")
        )
    )
    if len(candidates) > 1:
        return Several(candidates)
    if candidates:
        return Found(candidates[0])
    left = record.intended_at + settle - now
    return Later(min(left, 15.0), "a lost answer may still turn up in the history") if left > 0 else NotStarted()


def observed(record: Record, state: State, job: Job, now: float) -> Record:
    """The record after a look at the job. Only an end that counts sets its outcome."""
    if state.status not in UNDER_WAY | ENDS and state.status != record.status:
        log.warning("%s: TROCCO says %r, which is not known; waiting on", record.job, state.status)
    changed = state.status != record.status
    since = now if changed or record.status_since is None else record.status_since
    left = record.left_queue_at
    if left is None and state.status not in ("queued", "skipped"):
        left = now
    seen = replace(record, status=state.status, status_since=since, left_queue_at=left, polled_at=now)
    if state.status not in ENDS:
        return seen
    if state.status == "error" and record.kind == "workflow" and now - since < job.error_grace.total_seconds():
        return seen  # the workflow may be about to wait for its automatic retry
    if state.status == "skipped" and job.on_skipped == "retrigger" and late(seen, job, now) is None:
        return seen  # waits for its turn
    return ended(seen, state.status, now, dict(state.facts))


def ended(record: Record, outcome: str, now: float, facts: dict[str, object] | None = None) -> Record:
    """The record with its end."""
    return replace(record, outcome=outcome, ended_at=now, facts=facts or record.facts, polled_at=now)


def wants_another_start(record: Record, job: Job, now: float) -> bool:
    """Whether a skipped run, kept open because it is to be started again, has waited long enough, and not too long."""
    waited = now - (record.status_since or now)
    return record.is_open and record.status == "skipped" and waited >= RETRIGGER_SECONDS and not late(record, job, now)


def late(record: Record, job: Job, now: float) -> str | None:
    """The deadline that has passed, in words; None within both."""
    if record.left_queue_at is None:
        if now - record.watched_since > job.queue_deadline.total_seconds():
            return f"still in the queue after {job.queue_deadline}"
    elif now - max(record.left_queue_at, record.watched_since) > job.run_deadline.total_seconds():
        return f"still running after {job.run_deadline}"
    return None


def delay(record: Record, now: float) -> float:
    """Seconds between two looks at a job: longer, the longer it takes."""
    age = now - record.intended_at
    return next((seconds for limit, seconds in _DELAYS if age < limit), _LONGEST_DELAY)


def due(records: Sequence[Record], now: float, most: int) -> list[Record]:
    """The records to look at now, at most so many, those that waited longest first."""
    ready = [record for record in records if (record.polled_at or 0) + delay(record, now) <= now]
    return sorted(ready, key=lambda record: record.polled_at or 0)[:most]


def allowance(calls: int, seconds: float, since_last: float) -> int:
    """How many calls a tick may make of a rate of `calls` per `seconds`.

    Ticks together stay below 80 % of the rate, whatever their pace: an unused tick does not add up.
    """
    return max(int(_SHARE * calls / seconds * min(since_last, _LONGEST_TICK_SECONDS)), 1)
