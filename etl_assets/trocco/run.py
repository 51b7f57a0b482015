"""Running jobs of TROCCO: one trigger per request, and waiting for its end in a step or for many at once.

What to put here: asking and writing around the decisions. What to keep out: the decisions (decide.py).
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

from etl_assets import redact
from etl_assets.errors import (
    AmbiguousTrigger,
    ApiError,
    ApiUnavailable,
    EtlError,
    FinalError,
    InDoubt,
    JobCanceled,
    JobEnded,
    JobFailed,
    JobLost,
    JobOverdue,
    JobSkipped,
    RetryableError,
)
from etl_assets.pipeline import Pipeline
from etl_assets.settings import Timeouts, connection
from etl_assets.trocco import decide, variables
from etl_assets.trocco.api import State, Trocco
from etl_assets.trocco.decide import Follow, Found, Later, Report, Several
from etl_assets.trocco.ledger import LOOK, NOT_STARTED, SUPERSEDED, TRIGGER, WATCH, Ledger, Record
from etl_assets.trocco.spec import Asked, ByNothing, ByNotification, ByProbe, Job, filled, load_jobs

log = logging.getLogger(__name__)

SOURCE = "trocco"
_LOCK_SECONDS, _SWEEP_LOCK_SECONDS = 300.0, 5.0
_FORGOTTEN_SECONDS = 7 * 86_400.0  # the sensor does not look at a job for longer than this
_TURN_SECONDS = 30.0
_OUTAGE_SECONDS = 60.0
_SWEEP_TIMEOUTS = Timeouts(connect=5.0, read=15.0, total=20.0)
_NOTICES = {"failed": "error"}
_ENDS: Mapping[str, tuple[type[JobEnded], str]] = {
    "error": (JobFailed, "ended in an error; its log is at"),
    "canceled": (JobCanceled, "was canceled at TROCCO, or ran into a time limit there; see"),
    "skipped": (JobSkipped, "was skipped because another run of the definition was active; see"),
    decide.LOST: (JobLost, "is not known to TROCCO any more; look for it at"),
}


class Clock:
    """The time, and waiting. Tests bring another one."""

    def now(self) -> float:
        """Epoch seconds."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


@dataclass(frozen=True)
class Request:
    """Somebody wants a job run for a partition: who, since when, and whether the sensor waits for its end."""

    job: Job
    partition: str
    requester: str
    asked_at: float
    handed_over: bool = False
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Runner:
    """Starts and follows jobs.

    `probe` runs a query on the warehouse that gives one boolean; `lock_seconds` is how long a start waits for others of
    the same definition.
    """

    trocco: Trocco
    ledger: Ledger
    clock: Clock
    probe: Callable[[str], bool]
    lock_seconds: float

    def run(self, request: Request) -> Record:
        """The job's success, after starting it or attaching to it, and waiting for its end.

        Raises JobEnded for any other end or a deadline, AmbiguousTrigger when nobody knows whether it was started,
        other EtlErrors when it cannot be started at all.
        """
        record = self.started(request)
        while record.is_open:
            record = self.advanced(request.job, record)
            if record.is_open:
                self._refuse_overdue(request.job, record)
                self.clock.sleep(decide.delay(record, self.clock.now()))
        return self.success(record)

    def started(self, request: Request) -> Record:
        """The record of the job that answers the request; waits for its turn where it must. Raises as `run` does."""
        deadline = self.clock.now() + request.job.queue_deadline.total_seconds()
        while isinstance(record := self.trigger(request), Later):
            if self.clock.now() > deadline:
                raise FinalError(f"trocco/{request.job.name}: {record.why}, for longer than the queue deadline")
            log.info("trocco/%s: %s; looking again in %.0f s", request.job.name, record.why, record.seconds)
            self.clock.sleep(record.seconds)
        return record

    def trigger(self, request: Request) -> Record | Later:
        """Start the job unless a record answers the request already. Never waits for TROCCO."""
        job = request.job
        kind, definition = job.runs
        with self.ledger.holding(kind, definition, time.monotonic() + self.lock_seconds):
            if isinstance(waiting := self._clear_up(request), Later):
                return waiting
            latest = self.ledger.latest(job.name, request.partition)
            match decide.on_request(latest, request.requester, request.asked_at):
                case Report(record):
                    log.info("trocco/%s: job %s has ended for this request", job.name, record.job_id)
                    return record
                case Follow(record) if record.job_id is None:
                    raise self._ambiguous(job, record)
                case Follow(record):
                    log.info("trocco/%s: attached to %s", job.name, self.trocco.link(kind, record.job_id))
                    return self.ledger.keep(self._watched(record, request), WATCH)
            if job.variables_by and self.ledger.of_definition(kind, definition):
                return Later(_TURN_SECONDS, "another run uses the definition, whose variables this one changes")
            return self._start(request, self.clock.now())

    def advanced(self, job: Job, record: Record) -> Record:
        """The record after a look at the job; a skipped one that is to be started again may be another one."""
        now = self.clock.now()
        if decide.wants_another_start(record, job, now):
            return self._restarted(job, record)
        return self.ledger.keep(self._looked(job, record), LOOK)

    def sweep(self, jobs: Mapping[str, Job], *, most: int, seconds: float) -> int:
        """Look at the jobs that the sensor waits for, at most so many and for about so long; how many were looked at.

        An outage of TROCCO ends the sweep; what was not looked at comes first in the next one.
        """
        until, now, looked = time.monotonic() + seconds, self.clock.now(), 0
        mine = [record for record in self.ledger.open_runs() if record.handed_over and record.job in jobs]
        waiting = [record for record in mine if now - record.watched_since < _FORGOTTEN_SECONDS]
        for record in waiting:
            self._mend(jobs[record.job], record)
        chosen = decide.due([record for record in waiting if record.job_id], now, most)
        with ThreadPoolExecutor(4) as threads:
            for start in range(0, len(chosen), 16):
                if time.monotonic() > until:
                    break
                seen = list(threads.map(lambda r: self._seen(jobs[r.job], r), chosen[start : start + 16]))
                self.ledger.keep_all((record for record in seen if record is not None), LOOK)
                looked += len(seen)
                if None in seen:
                    break
        return looked

    def success(self, record: Record) -> Record:
        """The record if it is a success. Raises JobEnded otherwise."""
        if record.outcome in ("succeeded", decide.STARTED):
            return record
        link = self.trocco.link(record.kind, record.job_id)
        name = f"trocco/{record.job}{f' {record.partition}' if record.partition else ''}"
        if record.outcome is None:
            raise JobOverdue(
                f"{name}: job {record.job_id} is {record.overdue}; it goes on by itself, see {link}. Materialise again "
                "to wait for it, not to start another",
                outcome="overdue",
                link=link,
            )
        kind, text = _ENDS[record.outcome]
        raise kind(f"{name}: job {record.job_id} {text} {link}", outcome=record.outcome, link=link)

    def hand_over(self, record: Record) -> None:
        """Let the sensor wait for the job."""
        current = self.ledger.by_number(record.id)
        if current.is_open:
            self.ledger.keep(replace(current, handed_over=True), WATCH)

    def _start(self, request: Request, watched_since: float) -> Record:
        """Intent, POST, id: in this order, each durable before the next."""
        job = request.job
        kind, definition = job.runs
        if job.demo and urlsplit(self.trocco.base_url).hostname != "127.0.0.1":
            raise FinalError(f"trocco/{job.name} belongs to the demo and runs against the simulators only")
        asked = Asked.of(job, request.partition, request.files)
        baseline = self._baseline(definition) if kind == "transfer" else None
        if job.variables_by == "loop":
            variables.change_loop(self.trocco, definition, asked.variables)
        elif job.variables_by == "defaults":
            variables.change_defaults(self.trocco, definition, asked.variables)
        record = self.ledger.intend(
            Record(
                id=0,
                job=job.name,
                partition=request.partition,
                kind=kind,
                definition=definition,
                requester=request.requester,
                asked_at=request.asked_at,
                intended_at=self.clock.now(),
                watched_since=watched_since,
                handed_over=request.handed_over,
                baseline=baseline,
            )
        )
        try:
            number = self.trocco.start(kind, definition, asked)
        except (ApiError, ApiUnavailable) as error:
            refused = error.status >= 300 if isinstance(error, ApiError) else not isinstance(error, InDoubt)
            if refused:
                self.ledger.keep(decide.ended(record, NOT_STARTED, self.clock.now()), TRIGGER)
                raise
            log.warning("%s", error)
            if kind == "transfer":
                raise RetryableError(f"{error}; the history of the definition will tell") from None
            raise self._ambiguous(job, record) from None
        now = self.clock.now()
        record = replace(record, job_id=number, status="queued", status_since=now)
        if kind == "datamart":  # there is no queue that could be seen
            record = replace(record, left_queue_at=now)
        if isinstance(job.completion, ByNothing):
            record = decide.ended(record, decide.STARTED, now)
        log.info("trocco/%s: started %s", job.name, self.trocco.link(kind, number))
        return self.ledger.keep(record, TRIGGER)

    def _baseline(self, definition: int) -> int:
        """The newest run that the history shows before a start. A key that may not look fails here, not later."""
        since = self.clock.now() - decide.HISTORY_SLACK_SECONDS
        return max((run.id for run in self.trocco.history(definition, since)), default=0)

    def _clear_up(self, request: Request) -> Later | None:
        """Find out about lost triggers of a transfer before the next one, by whoever comes first."""
        kind, definition = request.job.runs
        if kind != "transfer":
            return None
        for record in [record for record in self.ledger.of_definition(kind, definition) if record.job_id is None]:
            history = self.trocco.history(definition, record.intended_at - decide.HISTORY_SLACK_SECONDS)
            known = self.ledger.known_ids(kind, definition, record.baseline or 0)
            settle = request.job.settle.total_seconds()
            match decide.lost(record, history, known, self.clock.now(), settle):
                case Found(job_id):
                    log.warning("trocco/%s: found the job of a lost answer: %s", record.job, job_id)
                    now = self.clock.now()
                    self.ledger.keep(replace(record, job_id=job_id, status="queued", status_since=now), TRIGGER)
                case Later() as later:
                    return later
                case Several(job_ids) if (record.job, record.partition) == (request.job.name, request.partition):
                    raise self._ambiguous(request.job, record, job_ids)
                case Several():
                    pass
                case _:
                    log.warning("trocco/%s: no job came of a lost answer", record.job)
                    self.ledger.keep(decide.ended(record, NOT_STARTED, self.clock.now()), TRIGGER)
        return None

    def _watched(self, record: Record, request: Request) -> Record:
        """Who asks now is who waits, with deadlines of their own; a retry of the same request keeps the old ones."""
        now = self.clock.now()
        fresh = record.requester != request.requester or record.overdue
        since = now if fresh else record.watched_since
        return replace(
            record, requester=request.requester, watched_since=since, overdue=None, handed_over=request.handed_over
        )

    def _restarted(self, job: Job, record: Record) -> Record:
        """Another job in place of one that was skipped."""
        with self.ledger.holding(record.kind, record.definition, time.monotonic() + self.lock_seconds):
            latest = self.ledger.latest(record.job, record.partition)
            if latest is None or latest.id == record.id:
                latest = self._start(self._request_of(job, record), record.watched_since)
            self.ledger.keep(decide.ended(record, SUPERSEDED, self.clock.now()), LOOK)
            return latest

    def _mend(self, job: Job, record: Record) -> None:
        """What the sensor waits for, and is not yet or no more a job of TROCCO: a lost answer, a skipped run."""
        try:
            if decide.wants_another_start(record, job, self.clock.now()):
                self._restarted(job, record)
            elif record.job_id is None and record.kind == "transfer" and not job.arrivals:
                self.trigger(self._request_of(job, record))
        except EtlError as error:
            log.error("trocco/%s: %s", job.name, redact.scrub(str(error)))

    def _request_of(self, job: Job, record: Record) -> Request:
        """The request that the record was made for."""
        files = self.ledger.files(job.name, int(record.partition)) if job.arrivals else ()
        return Request(job, record.partition, record.requester, record.asked_at, record.handed_over, files)

    def _seen(self, job: Job, record: Record) -> Record | None:
        """`_looked` for many: None in an outage; what is refused for one job does not stop the others."""
        try:
            seen = self._looked(job, record)
        except RetryableError as error:
            log.warning("%s", redact.scrub(str(error)))
            return None
        except FinalError as error:
            log.error("trocco/%s: %s", job.name, redact.scrub(str(error)))
            seen = replace(record, polled_at=self.clock.now())
        if seen.is_open and not seen.overdue and (late := decide.late(seen, job, self.clock.now())):
            return replace(seen, overdue=late)
        return seen

    def _looked(self, job: Job, record: Record) -> Record:
        now = self.clock.now()
        if record.job_id is None:
            raise self._ambiguous(job, record)
        try:
            state = self._state(job, record, record.job_id)
        except ApiUnavailable as error:
            if record.handed_over:
                raise
            log.warning("trocco/%s: %s; waiting on", job.name, error)
            self.clock.sleep(_OUTAGE_SECONDS)
            return replace(record, polled_at=now)
        except ApiError as error:
            if error.status != 404:
                raise
            if now - record.intended_at < job.settle.total_seconds():
                return replace(record, polled_at=now)
            return decide.ended(record, decide.LOST, now)
        return decide.observed(record, state, job, now)

    def _state(self, job: Job, record: Record, number: int) -> State:
        """The status, from wherever it can be known."""
        if record.kind != "datamart":
            return self.trocco.state(record.kind, number)
        status = "executing"
        if isinstance(job.completion, ByNotification):
            notice = self.ledger.noticed("datamart", number) or status
            status = _NOTICES.get(notice, notice)
        elif isinstance(job.completion, ByProbe):
            started = datetime.fromtimestamp(record.intended_at, UTC).strftime("%Y-%m-%d %H:%M:%S+00")
            sql = filled(job.completion.sql.replace("{triggered_at}", started), job, record.partition)
            status = "succeeded" if self.probe(sql) else status
        return State(number, status, None, {})

    def _refuse_overdue(self, job: Job, record: Record) -> None:
        if late := decide.late(record, job, self.clock.now()):
            self.success(self.ledger.keep(replace(record, overdue=late), LOOK))

    def _ambiguous(self, job: Job, record: Record, candidates: Sequence[int] = ()) -> AmbiguousTrigger:
        links = [self.trocco.link(record.kind, number) for number in candidates or (None,)]
        at = datetime.fromtimestamp(record.intended_at, UTC).isoformat(timespec="seconds")
        partition = f" --partition {record.partition}" if record.partition else ""
        why = "TROCCO has no list of its runs" if not candidates else "several runs may be it"
        return AmbiguousTrigger(
            f"trocco/{job.name}: {record.kind} {record.definition} was asked to start at {at}, the answer is lost, and "
            f"{why}. Look at {' '.join(links)}; if it was started: etl-assets trocco resolve {job.name}{partition} "
            f"--job-id N; if not: etl-assets trocco resolve {job.name}{partition} --not-started. Then materialise again"
        )


@contextmanager
def opened(pipeline: Pipeline, *, clock: Clock | None = None, hurried: bool = False) -> Iterator[Runner]:
    """A runner on the settings of the pipeline. `hurried` gives up on a request in time for a sensor's tick.

    Raises SettingError when TROCCO_API_KEY is missing.
    """
    if hurried:
        pipeline = replace(pipeline, settings=replace(pipeline.settings, timeouts=_SWEEP_TIMEOUTS))
    api = pipeline.api(pipeline.sources[SOURCE])
    try:
        yield Runner(
            Trocco(api.client, api.connection.base_url),
            ledger_of(pipeline),
            clock or Clock(),
            lambda sql: probed(pipeline, sql),
            _SWEEP_LOCK_SECONDS if hurried else _LOCK_SECONDS,
        )
    finally:
        api.client.close()


def ledger_of(pipeline: Pipeline) -> Ledger:
    """The ledger of the data folder, one per address: ids of the simulators mean nothing at TROCCO.

    Raises SettingError when TROCCO_API_KEY is missing.
    """
    address = urlsplit(connection(pipeline.sources[SOURCE]).base_url).netloc
    return Ledger(pipeline.settings.data_dir / "trocco" / address.replace(":", "_"))


def jobs_of(pipeline: Pipeline) -> dict[str, Job]:
    """Every declared job by name."""
    return load_jobs(pipeline.settings.sources_dir)


def probed(pipeline: Pipeline, sql: str) -> bool:
    """The one boolean that a probe gives; NULL counts as false. Raises FinalError for anything else."""
    rows = list(pipeline.warehouse.select(sql).rows)
    if len(rows) != 1 or len(rows[0]) != 1 or not isinstance(rows[0][0], bool | None):
        raise FinalError(f"a probe gives one boolean, not {rows[:1]}: {sql}")
    return rows[0][0] is True


def resolve_lost(ledger: Ledger, name: str, partition: str, job_id: int | None) -> None:
    """Note what a person found out about a lost trigger: the id of its job, or None for not started.

    Raises FinalError when there is no such trigger, or the id is on record for another one.
    """
    record = ledger.latest(name, partition)
    if record is None or not record.is_open or record.job_id is not None:
        raise FinalError(f"trocco/{name} {partition}: there is no trigger whose answer is lost")
    now = time.time()
    if job_id is None:
        ledger.keep(decide.ended(record, NOT_STARTED, now), TRIGGER)
        return
    if job_id in ledger.known_ids(record.kind, record.definition, 0):
        raise FinalError(f"trocco/{name} {partition}: job {job_id} is on record for another trigger")
    ledger.keep(replace(record, job_id=job_id, status="queued", status_since=now, watched_since=now), TRIGGER)


def start_again(ledger: Ledger, name: str, partition: str) -> None:
    """Let the next request start a job that has ended. Raises FinalError when there is none that has."""
    record = ledger.latest(name, partition)
    if record is None or record.is_open:
        raise FinalError(f"trocco/{name} {partition}: there is no job that has ended")
    ledger.forget(record)
