"""Dealings with a target: send what is pending, and settle what became of it.

The order of things makes a run repeatable: records are marked before their request goes out, and settled by its
answer. What a killed run or a lost answer leaves in doubt is decided before anything else is sent: by the same
request with the same idempotency key, or by looking the records up; where neither is declared, it is told.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from etl_assets import answers, redact
from etl_assets.client import Client
from etl_assets.errors import ApiError, ApiUnavailable, EtlError, FinalError, InDoubt
from etl_assets.extract import open_client
from etl_assets.messages import Answer, Request
from etl_assets.push import calls
from etl_assets.push.ledger import SENT_AGAIN, Entry, Kind, Ledger, Outcome, Which
from etl_assets.push.spec import LookUp, Push, Target, Write
from etl_assets.settings import Settings, connection
from etl_assets.spec import Errors

_MOST_LOST = 3  # answers lost in a row: then it is not one record that the target stumbles over


@dataclass
class Tally:
    """What was done: records written, deleted and refused, requests, seconds waited for limits, and where."""

    written: int = 0
    deleted: int = 0
    refused: int = 0
    requests: int = 0
    waited_seconds: float = 0.0
    where: str = ""


@contextmanager
def session(target: Target, declared: Push, *, ledger: Ledger, settings: Settings, tally: Tally) -> Iterator["Session"]:
    """Dealings with the target for one run. Raises SettingError when a variable is missing."""
    reached = connection(target)
    client = open_client(target, reached, settings)
    tally.where = reached.base_url
    try:
        with ThreadPoolExecutor(reached.parallel, "push") as pool:
            values = {**reached.values, **declared.values}
            yield Session(target, declared, ledger, client, pool, reached.parallel, values, tally)
    finally:
        tally.requests, tally.waited_seconds = client.requests, client.waited_seconds
        client.close()


def try_target(target: Target, settings: Settings) -> str:
    """Ask the target for a record that it hardly has, if a push can look one up; its address.

    Raises SettingError when a variable is missing, ApiError or ApiUnavailable when the target does not answer well.
    """
    reached = connection(target)
    client = open_client(target, reached, settings)
    with closing(client):
        for declared in target.pushes:
            if declared.look_up:
                nobody = Entry(target.name, declared.name, "etl-assets-check", "pending", "write", "")
                values, errors = {**reached.values, **declared.values}, declared.errors or target.errors
                _looked_up(client, declared.look_up, [nobody], values=values, errors=errors)
                break
    return reached.base_url


@dataclass
class Session:
    """The dealings of one run. The ledger is touched by the calling thread alone."""

    target: Target
    declared: Push
    ledger: Ledger
    client: Client
    pool: ThreadPoolExecutor
    parallel: int
    values: Mapping[str, Any]
    tally: Tally
    failure: EtlError | None = None
    lost: int = 0
    halves: list[tuple[Which, list[str]]] = field(default_factory=list)

    def send(self) -> None:
        """Send what is pending, and decide what is in doubt afterwards; at last raise what stopped it."""
        if self.declared.id_check:
            self._check_ids()
        for _ in range(self.declared.attempts):
            self._deliver()
            if not self.decide_doubts() or self.failure:
                break
        if self.failure:
            raise self.failure

    def _check_ids(self) -> None:
        """Ask for the records that were never sent whether the target has them, before one of them is sent."""
        look_up = self.declared.look_up
        assert look_up
        while batches := [batch for _ in range(self.parallel) if (batch := self.ledger.unchecked(look_up.size))]:
            for entries, there in zip(batches, self.pool.map(self._look_up, batches), strict=True):
                found = {entry: there[entry.record_id] for entry in entries if entry.record_id in there}
                if self.declared.id_check == "update":
                    adopted = self.ledger.adopt({e: has.target_id or e.record_id for e, has in found.items()})
                    same = [e for e, has in zip(adopted, found.values(), strict=True) if calls.holds(look_up, e, has)]
                    self.ledger.settle(same, _all(same, "done"), self.declared.attempts)
                else:
                    kind: Kind = "skipped" if self.declared.id_check == "skip" else "final"
                    self._settle(list(found), _all(list(found), kind, "the target has a record of this id already"))

    @property
    def _errors(self) -> Errors | None:
        return self.declared.errors or self.target.errors

    def _writes(self) -> dict[Which, Write]:
        """The declared requests that change something."""
        declared = self.declared
        which: dict[Which, Write | None] = {
            "write": declared.write,
            "update": declared.update or declared.write,
            "delete": declared.delete,
        }
        return {name: call for name, call in which.items() if call}

    def _call(self, entry: Entry) -> Write:
        """The request that a record goes out with."""
        return self._writes()[entry.which]

    def _request(self, entries: Sequence[Entry]) -> Request:
        call, idempotency = self._call(entries[0]), self.declared.idempotency
        return calls.request(call, entries, self.values, errors=self._errors, idempotency=idempotency)

    def _settle(self, entries: Sequence[Entry], outcomes: Sequence[Outcome]) -> None:
        self.ledger.settle(entries, outcomes, self.declared.attempts)
        done = {one.record_id for one in outcomes if one.kind == "done"}
        actions = [entry.action for entry in entries if entry.record_id in done]
        self.tally.deleted += actions.count("delete")
        self.tally.written += actions.count("write")
        self.tally.refused += sum(one.kind in ("refused", "final") for one in outcomes)

    def _deliver(self) -> None:
        """Send what is pending, a few requests at a time, until nothing is left or the target is out of order."""
        going: dict[Future[Answer], list[Entry]] = {}
        while True:
            while not self.failure and len(going) < self.parallel and (entries := self._next()):
                try:
                    request = self._request(entries)
                except FinalError as error:  # such as a path that needs the target's id, which is not known
                    self._settle(entries, _all(entries, "final", error))
                else:
                    going[self.pool.submit(self.client.send, request)] = entries
            if not going:
                return
            for future in wait(going, return_when=FIRST_COMPLETED).done:
                entries = going.pop(future)
                self._settle(entries, self._received(entries, future))

    def _next(self) -> list[Entry]:
        """The records of the next request, marked as being sent; none when nothing is left."""
        while self.halves:
            which, ids = self.halves.pop()
            if entries := self.ledger.take(which, len(ids), ids):
                return entries
        for which, call in self._writes().items():
            if entries := self.ledger.take(which, call.size):
                return entries
        return []

    def _received(self, entries: list[Entry], future: Future[Answer]) -> list[Outcome]:
        """What the end of a request means for its records, and for the run."""
        try:
            answer = future.result()
        except InDoubt as error:
            return self._lost(entries, error)
        except ApiUnavailable as error:
            if calls.has_key(entries[0], self.declared.idempotency):
                return self._lost(entries, error)
            return self._stopped(entries, error)
        except ApiError as error:
            match self._refusal(entries, error):
                case "done":
                    return _all(entries, "done")
                case "refused":
                    return self._refused(entries, error)
            if error.status < 300 and error.code is None:  # an answer that is of no use
                return self._lost(entries, error)
            return self._stopped(entries, error)
        self.lost = 0
        return calls.outcomes(self._call(entries[0]).results, answer, entries)

    def _refusal(self, entries: list[Entry], error: ApiError) -> Literal["done", "refused"] | None:
        return calls.refusal(self._call(entries[0]), entries[0], error, self.declared.split_on)

    def _stopped(self, entries: list[Entry], error: EtlError) -> list[Outcome]:
        self.failure = self.failure or error
        return _all(entries, "released", error)

    def _lost(self, entries: list[Entry], error: EtlError) -> list[Outcome]:
        self.lost += 1
        if self.lost >= _MOST_LOST:
            self.failure = self.failure or error
        return _all(entries, "doubtful", error)

    def _refused(self, entries: list[Entry], error: ApiError) -> list[Outcome]:
        """The target refused the whole request: it is sent again in halves, down to the records that are to blame."""
        which = entries[0].which
        if len(entries) == 1:
            final = calls.is_among(error, self._call(entries[0]).results.final)
            return _all(entries, "final" if final else "refused", error)
        ids = [entry.record_id for entry in entries]
        self.halves += [(which, ids[len(ids) // 2 :]), (which, ids[: len(ids) // 2])]
        return _all(entries, "released", error)

    def decide_doubts(self) -> bool:
        """Settle the requests whose end is not known; whether some of their records may be sent again."""
        again = False
        for entries in self.ledger.in_doubt():
            outcomes = self._decided(entries)
            if self.failure:  # the target is out of order: no fault of the record, and no attempt
                outcomes = [replace(one, kind="released") if one.kind == "absent" else one for one in outcomes]
            self._settle(entries, outcomes)
            again = again or any(one.kind in SENT_AGAIN for one in outcomes)
        return again

    def _decided(self, entries: list[Entry]) -> list[Outcome]:
        """What became of the records of a request whose answer is not known."""
        outcomes = self._repeated(entries) if self._may_repeat(entries[0]) else _all(entries, "doubtful")
        open_ids = {one.record_id for one in outcomes if one.kind in ("doubtful", "unmentioned")}
        left = [entry for entry in entries if entry.record_id in open_ids]
        return [*(one for one in outcomes if one.record_id not in open_ids), *self._judged(left)]

    def _may_repeat(self, entry: Entry) -> bool:
        """Whether the target would recognise the request by its key."""
        known = self.declared.idempotency
        return known is not None and calls.has_key(entry, known) and entry.age_seconds < known.valid.total_seconds()

    def _repeated(self, entries: list[Entry]) -> list[Outcome]:
        try:
            answer = self.client.send(self._request(entries))
        except ApiError as error:
            match self._refusal(entries, error):
                case "done":
                    return _all(entries, "done")
                case "refused":
                    return _all(entries, "released", error)
            raise
        return calls.outcomes(self._call(entries[0]).results, answer, entries)

    def _judged(self, entries: list[Entry]) -> list[Outcome]:
        """By what the target has now; where it cannot be asked, by what is declared."""
        look_up = self.declared.look_up
        if not look_up or not entries:
            lost = entries[0].reason or "the run was killed before the answer came" if entries else ""
            return _all(entries, "resend" if self.declared.in_doubt == "resend" else "undecided", lost)
        time.sleep(max(0.0, look_up.after.total_seconds() - min(entry.age_seconds for entry in entries)))
        there = self._look_up(entries)
        return [calls.arrived(look_up, entry, there.get(entry.record_id)) for entry in entries]

    def _look_up(self, entries: Sequence[Entry]) -> dict[str, calls.There]:
        look_up = self.declared.look_up
        assert look_up
        return _looked_up(self.client, look_up, entries, values=self.values, errors=self._errors)


def _looked_up(
    client: Client, look_up: LookUp, entries: Sequence[Entry], *, values: Mapping[str, Any], errors: Errors | None
) -> dict[str, calls.There]:
    """The records that the target has, by our id."""
    there: dict[str, calls.There] = {}
    for start in range(0, len(entries), look_up.size):
        request = calls.request(look_up, entries[start : start + look_up.size], values, errors=errors)
        try:
            there |= calls.found(look_up, client.send(request))
        except ApiError as error:
            if not calls.is_among(error, look_up.absent):
                raise
        except answers.NotJson as error:
            raise FinalError(f"{look_up.label}: {error}") from None
    return there


def _all(entries: Sequence[Entry], kind: Kind, why: EtlError | str | None = None) -> list[Outcome]:
    """The same for all records of a request."""
    reason = None if why is None else redact.scrub(str(why))
    return [Outcome(entry.record_id, kind, reason) for entry in entries]
