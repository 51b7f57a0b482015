"""TROCCO's API: runs of transfers, datamarts and workflows; definitions, people and connections; HTTP notifications.

Not in it, because the real one lacks it: cancelling by API, a datamart's status, a list of workflow runs, and
variables of workflows, which are ignored. What is not known of the real service is a setting (`Settings`).
"""

import math
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, ClassVar
from urllib.request import ProxyHandler, build_opener
from urllib.request import Request as Outgoing
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec.structs import replace

from etl_assets.sandbox.times import at, instant
from etl_assets.sandbox.trocco import variables
from etl_assets.sandbox.trocco.jobs import Engine, Job, Kind, Plan
from etl_assets.sandbox.trocco.records import (
    DEFINITIONS,
    NOT_CONCURRENT,
    Row,
    body,
    page,
    refuse,
    shown_time,
    tables,
)
from etl_assets.sandbox.vendor import Action, Answer, Change, Clock, Handler, Request, Vendor, json_answer
from etl_assets.sandbox.world import FIRST_DAY, numbers, secret

_WINDOW_SECONDS = 600
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
_KINDS = {"jobs": "transfer", "datamart_jobs": "datamart", "pipeline_jobs": "workflow"}
_PATHS = {kind: path for path, kind in _KINDS.items()}
_PAGES = {"transfer": "jobs", "datamart": "datamart/jobs", "workflow": "pipeline_jobs"}
_RUNS_A_DAY = 4
_TIMEOUT_SECONDS = 10


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the contract or the operator decides, and what is not known of the real service.

    - `calls`: in ten minutes; 3,500 from Advanced on, 100 on trial; `places`: runs at once (Advanced: 50);
    - `api`: the plan includes the API; `denied`: functions that the key may not use, of `start_jobs`,
      `view_jobs`, `definitions` and `people`;
    - `plan`: how runs go for which no other plan is set; `date_status`: how a bad moment or zone is refused;
    - `name_status`: how a variable without dollar signs is refused; `runs_visible_after`: seconds until a new
      run appears in the history.
    """

    calls: int = 3_500
    places: int = 50
    api: bool = True
    denied: list[str] = []
    plan: Plan = Plan()
    date_status: int = 422
    name_status: int = 422
    runs_visible_after: float = 0.0


class _Target(msgspec.Struct, forbid_unknown_fields=True):
    """Where notifications go: the operator's own address, headers and text."""

    url: str
    headers: dict[str, str] = {}
    body: str = '{"id": "{{ JOB_ID }}", "status": "{{ JOB_STATUS }}", "url": "{{ JOB_URL }}"}'


class _PlanOrder(msgspec.Struct, forbid_unknown_fields=True):
    plan: Plan
    kind: Kind | None = None
    definition: int | None = None
    times: int = 1


class _JobOrder(msgspec.Struct, forbid_unknown_fields=True):
    kind: Kind
    id: int
    shown: str | None = None


class Trocco(Vendor):
    """One account of TROCCO."""

    name: ClassVar[str] = "trocco"

    def __init__(self, *, seed: int, days: int, scale: float, clock: Clock) -> None:
        super().__init__(seed=seed, days=days, scale=scale, clock=clock)
        self._key = secret("trocco", seed, "key")
        self._settings = Settings()
        self._tables = tables(seed, scale, clock.now)
        self._engine = Engine(clock, self._ended, self._began)
        self._plans: list[_PlanOrder] = []
        self._calls: deque[float] = deque()
        self._targets: dict[str, _Target] = {}
        self._url = ""
        self._past()

    def env(self, base_url: str) -> dict[str, str]:
        """Point at the account with a key for everything."""
        self._url = base_url
        return {"TROCCO_BASE_URL": base_url, "TROCCO_API_KEY": self._key}

    def routes(self) -> Mapping[str, Handler]:
        """Runs, their history, and the lists with their changes."""
        allowed = self._allowed
        routes: dict[str, Handler] = {
            "POST /api/jobs": allowed("start_jobs", partial(self._start, "transfer")),
            "POST /api/datamart_jobs": allowed("start_jobs", partial(self._start, "datamart")),
            "POST /api/pipeline_jobs": allowed("start_jobs", partial(self._start, "workflow")),
            "GET /api/jobs/{number:int}": allowed("view_jobs", partial(self._state, "transfer")),
            "GET /api/pipeline_jobs/{number:int}": allowed("view_jobs", partial(self._state, "workflow")),
            "GET /api/job_definitions/{number:int}/jobs": allowed("view_jobs", self._history),
        }
        for path, table in self._tables.items():
            scope = "definitions" if path in DEFINITIONS.values() else "people"
            routes[f"GET /api/{path}"] = allowed(scope, table.listed)
            routes[f"POST /api/{path}"] = allowed(scope, table.create)
            routes[f"GET /api/{path}/{{number:int}}"] = allowed(scope, table.shown)
            routes[f"PATCH /api/{path}/{{number:int}}"] = allowed(scope, table.update)
            routes[f"DELETE /api/{path}/{{number:int}}"] = allowed(scope, table.delete)
        return routes

    def actions(self) -> Mapping[str, Action]:
        """What people do in the UI, and what chance does.

        - `settings`: fields of `Settings`; `plan`: how the next runs go (`_PlanOrder`);
        - `cancel`: the button, for a run given as {"kind", "id"}; `job`: a run shows another status (`shown`);
        - `run`: TROCCO's own schedule starts a `definition` (`kind`, by default a transfer);
        - `notify`: notifications of a `kind` go to {"url", "headers", "body"}; `test_send`: a trial of it.
        """
        return {
            "settings": self._settings_change,
            "plan": lambda payload: partial(self._plans.append, msgspec.convert(payload, _PlanOrder)),
            "cancel": lambda payload: partial(self._cancel, msgspec.convert(payload, _JobOrder)),
            "job": lambda payload: partial(self._show, msgspec.convert(payload, _JobOrder)),
            "run": lambda payload: partial(self._run, payload.get("kind", "transfer"), payload["definition"]),
            "notify": self._notify_change,
            "test_send": lambda payload: partial(self._test_send, payload["kind"]),
        }

    def truth(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """`accepted`: every POST that started a run, oldest first, with what the run did; or rows of a `stream`.

        `stream=job_runs` takes a `day` of Tokyo; other streams are the lists by their last word.
        """
        self._engine.settle()
        if "accepted" in query:
            return [_accepted(job) for job in self._engine.all() if job.executor == "api"]
        if query["stream"] == "job_runs":
            start = at("Asia/Tokyo", date.fromisoformat(query["day"]))
            runs = [job for job in self._engine.all() if job.kind == "transfer"]
            return [self._run_row(job) for job in runs if start <= job.created < start + 86_400]
        return list(self._tables[query["stream"]].rows.values())

    def answer(self, request: Request) -> Answer:
        """Key, plan and rate before everything; the rate's headers on every answer."""
        self._engine.settle()
        if request.header(b"authorization") != f"Token {self._key}":
            return json_answer({"error": "Unauthorized"}, 401)
        if not self._settings.api:
            return json_answer({"error": "Not Authorized"}, 403)
        now = self.clock.now()
        while self._calls and self._calls[0] <= now - _WINDOW_SECONDS:
            self._calls.popleft()
        refused = len(self._calls) >= self._settings.calls
        if not refused:
            self._calls.append(now)
        answer = json_answer({"error": "Too Many Requests"}, 429) if refused else super().answer(request)
        left = self._settings.calls - len(self._calls)
        reset = math.ceil((self._calls[0] if self._calls else now) + _WINDOW_SECONDS)
        headers = {
            "x-rate-limit-limit": self._settings.calls,
            "x-rate-limit-remaining": left,
            "x-rate-limit-reset": reset,
        }
        answer.headers = (*answer.headers, *((name.encode(), b"%d" % value) for name, value in headers.items()))
        return answer

    def not_found(self, request: Request) -> Answer:
        """The answer to an unknown path."""
        return json_answer({"message": "not found", "errors": []}, 404)

    def _allowed(self, scope: str, handler: Callable[..., Answer]) -> Handler:
        def handle(request: Request, **parts: Any) -> Answer:
            if scope in self._settings.denied:
                raise refuse(403, "Not Authorized")
            return handler(request, **parts)

        return handle

    def _start(self, kind: Kind, request: Request) -> Answer:
        given = body(request)
        name = DEFINITIONS[kind].removesuffix("s") + "_id"
        try:
            number = int(request.first(name) or given[name])
        except (KeyError, ValueError, TypeError):
            raise refuse(400, f"{name} is missing") from None
        definition = self._tables[DEFINITIONS[kind]].row(number)
        context = self._context(given)
        values = {} if kind == "workflow" else self._variables(given)
        job = self._new(kind, number, executor="api", context=context, given=values, asked=given)
        shown: Row = {"id": job.id, name: number}
        if kind == "datamart":
            return json_answer({**shown, "context_time": given.get("context_time") or shown_time(context)})
        label = "name" if kind == "workflow" else "job_definition_name"
        return json_answer({**shown, label: definition["name"], "status": "queued"})

    def _context(self, given: Row) -> float:
        try:
            zone = ZoneInfo(given.get("time_zone") or "Asia/Tokyo")
        except (ZoneInfoNotFoundError, ValueError):
            raise refuse(self._settings.date_status, "time_zone is invalid") from None
        text = given.get("context_time")
        if text is None:
            return self.clock.now()
        if not isinstance(text, str) or not _TIME.fullmatch(text):
            raise refuse(self._settings.date_status, "context_time is invalid")
        return instant(datetime.fromisoformat(text), zone.key)

    def _variables(self, given: Row) -> dict[str, str]:
        values = {}
        for item in given.get("custom_variables") or []:
            name, value = item.get("name"), item.get("value")
            if not isinstance(name, str) or not re.fullmatch(r"\$[^$]+\$", name) or not isinstance(value, str):
                raise refuse(self._settings.name_status, "custom_variables is invalid")
            values[name] = value
        return values

    def _new(
        self, kind: Kind, definition: int, *, executor: str, context: float, given: dict[str, str], asked: Row
    ) -> Job:
        row = self._tables[DEFINITIONS[kind]].row(definition)
        job = Job(
            id=0,
            kind=kind,
            definition=definition,
            plan=self._planned(kind, definition),
            created=self.clock.now(),
            executor=executor,
            context=context,
            given=given,
            asked=asked,
            effects=[],
        )
        concurrent = (
            not row["is_concurrent_execution_skipped"] if kind == "workflow" else row["is_runnable_concurrently"]
        )
        return self._engine.new(job, concurrent=concurrent)

    def _planned(self, kind: Kind, definition: int) -> Plan:
        for order in self._plans:
            if order.times and order.kind in (None, kind) and order.definition in (None, definition):
                order.times -= 1
                return order.plan
        return self._settings.plan

    def _began(self, job: Job) -> None:
        """What a run does is settled as it begins: with the definition and the variables of that moment."""
        row = self._tables[DEFINITIONS[job.kind]].rows.get(job.definition, {})
        if job.kind != "workflow":
            job.effects = [self._effect(job, row, job.given)]
            return
        for task in row.get("tasks", []):
            kind = "transfer" if task["type"] == "trocco_transfer" else "datamart"
            number = variables.target(task)
            if number is not None:
                inner = self._tables[DEFINITIONS[kind]].rows[number]
                job.effects += [self._effect(job, inner, values) for values in variables.looped(task)]

    def _effect(self, job: Job, row: Row, given: Mapping[str, str]) -> Row:
        settings = row.get("custom_variable_settings", [])
        begins = self.clock.now()
        return {"definition": row.get("id"), **variables.values(settings, given, context=job.context, begins=begins)}

    def _state(self, kind: Kind, request: Request, number: int) -> Answer:
        job = self._engine.get(kind, number)
        if job is None:
            raise refuse(404, "not found")
        if job.definition in self._tables[DEFINITIONS[kind]].deleted:
            raise refuse(403, "Not Authorized")
        row = self._run_row(job) if kind == "transfer" else self._workflow_row(job)
        return json_answer(row)

    def _history(self, request: Request, number: int) -> Answer:
        self._tables["job_definitions"].row(number)
        zone = request.first("time_zone") or "Asia/Tokyo"
        try:
            first, last = (
                instant(datetime.fromisoformat(text), zone) if (text := request.first(name)) else default
                for name, default in (("start_time", -math.inf), ("end_time", math.inf))
            )
        except (ValueError, ZoneInfoNotFoundError):
            raise refuse(400, "invalid parameter") from None
        visible = self.clock.now() - self._settings.runs_visible_after
        jobs = self._engine.of("transfer", number)
        rows = [self._run_row(job) for job in jobs if first <= job.created <= min(last, visible)]
        return json_answer(page(rows, request, most=100))

    def _run_row(self, job: Job) -> Row:
        done = job.status == "succeeded"
        row = self._tables["job_definitions"].rows.get(job.definition, {})
        return {
            "id": job.id,
            "job_definition_id": job.definition,
            "job_definition_name": row.get("name"),
            "status": _status(job),
            "executor_type": job.executor,
            "transfer_records": job.plan.records if done else None,
            "transfer_bytes": job.plan.records * 128 if done and job.id % 5 else None,
            "skipped_records": job.plan.skipped_records if done else None,
            "created_at": shown_time(job.created),
            "started_at": shown_time(job.started),
            "finished_at": shown_time(job.finished),
            "url": f"https://trocco.io/jobs/{job.id}",
        }

    def _workflow_row(self, job: Job) -> Row:
        row = self._tables["pipeline_definitions"].rows[job.definition]
        return {"id": job.id, "pipeline_definition_id": job.definition, "name": row["name"], "status": _status(job)}

    def _past(self) -> None:
        """The history: a few runs a day of every transfer, most of them well."""
        for day in range(self.days):
            midnight = at("Asia/Tokyo", FIRST_DAY + timedelta(days=day))
            for turn in range(_RUNS_A_DAY):
                for definition in self._tables["job_definitions"].rows:
                    chance, second, records = numbers(3, "trocco", self.seed, "run", day, turn, definition)
                    created = midnight + turn * 21_600 + second % 20_000 + (second % 1000) / 1000
                    status = ("error", "canceled", "skipped")[chance % 3] if chance % 20 == 0 else "succeeded"
                    self._engine.new(
                        Job(
                            id=0,
                            kind="transfer",
                            definition=definition,
                            plan=Plan(records=records % 100_000),
                            created=created,
                            executor=("scheduler", "manual", "workflow")[records % 3],
                            context=created,
                            given={},
                            asked={},
                            status=status,
                            started=None if status == "skipped" else created + 5,
                            finished=created + 60 + second % 600,
                        ),
                        concurrent=definition != NOT_CONCURRENT,
                    )

    def _run(self, kind: Kind, definition: int) -> Row:
        now = self.clock.now()
        return {"id": self._new(kind, definition, executor="scheduler", context=now, given={}, asked={}).id}

    def _ended(self, job: Job) -> None:
        if target := self._targets.get(job.kind):
            word = "failed" if job.status == "error" and job.kind != "workflow" else job.status
            self._send(target, str(job.id), word, f"https://trocco.io/{_PAGES[job.kind]}/{job.id}")

    def _test_send(self, kind: str) -> Row:
        self._send(self._targets[kind], "00000", "succeeded", "https://trocco.io/jobs/00000", mark="[test] ")
        return {}

    def _send(self, target: _Target, number: str, status: str, url: str, mark: str = "") -> None:
        text = target.body
        for name, value in {"JOB_ID": number, "JOB_STATUS": mark + status, "JOB_URL": url}.items():
            text = text.replace(f"{{{{ {name} }}}}", value).replace(f"${name}$", value)
        message = Outgoing(target.url, text.encode(), target.headers, method="POST")  # noqa: S310  the test's own
        threading.Thread(target=_deliver, args=(message,), daemon=True).start()

    def _settings_change(self, payload: dict[str, Any]) -> Change:
        given = msgspec.convert(payload, Settings)
        return partial(self._apply_settings, {name: getattr(given, name) for name in payload})

    def _apply_settings(self, given: Mapping[str, Any]) -> Settings:
        self._settings = replace(self._settings, **given)
        self._engine.places = self._settings.places
        return self._settings

    def _notify_change(self, payload: dict[str, Any]) -> Change:
        kind = payload.pop("kind")
        return partial(self._targets.__setitem__, kind, msgspec.convert(payload, _Target))

    def _cancel(self, order: _JobOrder) -> Row:
        self._engine.settle()
        self._engine.cancel(self._known(order))
        return {}

    def _show(self, order: _JobOrder) -> Row:
        job = self._known(order)
        job.plan = replace(job.plan, shown=order.shown)
        return {}

    def _known(self, order: _JobOrder) -> Job:
        job = self._engine.get(order.kind, order.id)
        if job is None:
            raise ValueError(f"no {order.kind} job {order.id}")
        return job


def _status(job: Job) -> str:
    return job.plan.shown if job.plan.shown and job.is_running else job.status


def _accepted(job: Job) -> Row:
    return {
        "kind": job.kind,
        "id": job.id,
        "definition": job.definition,
        "status": job.status,
        "created_at": datetime.fromtimestamp(job.created, UTC).isoformat(),
        "context_time": shown_time(job.context),
        "custom_variables": job.given,
        "asked": job.asked,
        "effects": job.effects,
    }


def _deliver(message: Outgoing) -> None:
    """Send it once. What becomes of it nobody hears."""
    with suppress(OSError), build_opener(ProxyHandler({})).open(message, timeout=_TIMEOUT_SECONDS) as answer:
        answer.read()
