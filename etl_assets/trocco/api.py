"""TROCCO's API as methods: runs and their status, the history of a definition, and lists with their changes.

A POST that starts a run is never repeated by itself. What differs from kind to kind, and what PATCH takes, is here;
when something is started, and what an answer means, is not (decide.py, run.py).
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from etl_assets.errors import ApiError, FinalError, PagingError
from etl_assets.messages import Answer, Request, Sender
from etl_assets.template import Params
from etl_assets.trocco.spec import Asked, Kind

log = logging.getLogger(__name__)

Row = dict[str, Any]

_STARTS: dict[Kind, tuple[str, str]] = {
    "transfer": ("/api/jobs", "job_definition_id"),
    "datamart": ("/api/datamart_jobs", "datamart_definition_id"),
    "workflow": ("/api/pipeline_jobs", "pipeline_definition_id"),
}
_PAGES: dict[Kind, str] = {"transfer": "jobs", "datamart": "datamart/jobs", "workflow": "pipeline_jobs"}
_STATES: dict[Kind, str] = {"transfer": "/api/jobs", "workflow": "/api/pipeline_jobs"}
_PAGE_SIZES = {"notification_destinations": 50}
_MOST_PAGES = 10_000
_NEEDED_BY_PATCH = {"teams": ("name", "members"), "resource_groups": ("name", "teams")}
_SHOWN_OF_MEMBERS = {"members": ("user_id", "role"), "teams": ("team_id", "role")}


@dataclass(frozen=True)
class State:
    """What TROCCO tells of a run. `status` is its own word; `facts` are what may be missing."""

    id: int
    status: str
    executor: str | None
    facts: Mapping[str, Any]


class Collection:
    """One kind of thing that can be listed, made, changed and deleted, such as `users` or `connections/bigquery`."""

    def __init__(self, trocco: "Trocco", path: str) -> None:
        """`path` is that of the list below /api."""
        self._trocco, self._path = trocco, path
        self._name = path.split("/")[0]

    def list(self, **filters: str | int) -> Iterator[Row]:
        """Every row, page by page; filters are query parameters such as `name`."""
        size = _PAGE_SIZES.get(self._name, 100)
        return self._trocco.pages(f"/api/{self._path}", [(name, str(value)) for name, value in filters.items()], size)

    def get(self, number: int) -> Row:
        """One row in detail. ApiError with status 400 for transfers whose connectors the API does not know."""
        return self._trocco.ask("GET", f"/api/{self._path}/{number}")

    def create(self, row: Mapping[str, Any]) -> Row:
        """A new row. Not repeated when the answer is lost: look into the list before doing it again."""
        return self._trocco.ask("POST", f"/api/{self._path}", body=row)

    def update(self, number: int, changes: Mapping[str, Any]) -> Row:
        """Change what `changes` holds and nothing else.

        Scalars are set, lists replaced whole, objects of options merged. Teams and resource groups need their name and
        all their members in each change: what `changes` leaves out is read first. Raises FinalError for what cannot
        change, and for a row that GET gave and PATCH does not take.
        """
        if "data_warehouse_type" in changes:
            raise FinalError(f"{self._path} {number}: the warehouse of a datamart cannot change; make a new one")
        if self._name == "pipeline_definitions" and any("key" not in task for task in changes.get("tasks", ())):
            raise FinalError(f"{self._path} {number}: tasks are changed by `key`; see workflow_body()")
        body = dict(changes)
        needed = [name for name in _NEEDED_BY_PATCH.get(self._name, ()) if name not in body]
        if needed:
            now = self.get(number)
            body |= {name: _as_changed(name, now.get(name, [])) for name in needed}
        return self._trocco.ask("PATCH", f"/api/{self._path}/{number}", body=body, repeatable=True)

    def delete(self, number: int) -> None:
        """Delete a row; from then on TROCCO answers 403 for it."""
        self._trocco.ask("DELETE", f"/api/{self._path}/{number}")


class Trocco:
    """An account of TROCCO. Every method raises ApiError when it is refused, ApiUnavailable without an answer."""

    def __init__(self, client: Sender, base_url: str) -> None:
        self._client, self.base_url = client, base_url
        self.job_definitions = Collection(self, "job_definitions")
        self.datamart_definitions = Collection(self, "datamart_definitions")
        self.pipeline_definitions = Collection(self, "pipeline_definitions")
        self.users = Collection(self, "users")
        self.teams = Collection(self, "teams")
        self.resource_groups = Collection(self, "resource_groups")
        self.labels = Collection(self, "labels")

    def connections(self, kind: str) -> Collection:
        """Connections of a kind, such as `bigquery`."""
        return Collection(self, f"connections/{kind}")

    def notification_destinations(self, kind: str) -> Collection:
        """Targets of notifications: `email` or `slack_channel`."""
        return Collection(self, f"notification_destinations/{kind}")

    def start(self, kind: Kind, definition: int, asked: Asked) -> int:
        """Start a run and give its id. Sent once: after InDoubt it may be running."""
        path, name = _STARTS[kind]
        body: Row = {}
        if asked.context_time:
            body |= {"context_time": asked.context_time, "time_zone": asked.time_zone}
        if kind != "workflow" and asked.variables:
            body["custom_variables"] = [{"name": name, "value": value} for name, value in asked.variables.items()]
        if kind == "datamart" and asked.memo:
            body["memo"] = asked.memo
        row = self.ask("POST", path, params=[(name, str(definition))], body=body)
        if not isinstance(row.get("id"), int):
            # Not ApiError with an HTTP status of a refusal: something was started, but what?
            raise ApiError(f"POST {path} {definition}: the answer has no id", status=200)
        return int(row["id"])

    def state(self, kind: Kind, number: int) -> State:
        """The status of a transfer or workflow run. Datamarts have none in the API."""
        try:
            return _state(self.ask("GET", f"{_STATES[kind]}/{number}"))
        except ApiError as error:
            if error.status != 403:
                raise
            raise ApiError(
                f"{error}; a key that may start jobs needs the function to view them as well, and a job of a "
                "definition that was deleted is refused, too",
                status=403,
            ) from None

    def history(self, definition: int, since: float) -> Iterator[State]:
        """The runs of a transfer created from `since` (epoch seconds) on, in no promised order."""
        start = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%d %H:%M:%S")
        params = [("start_time", start), ("time_zone", "Etc/UTC")]
        return map(_state, self.pages(f"/api/job_definitions/{definition}/jobs", params, 100))

    def link(self, kind: Kind, number: int | None) -> str:
        """The page of a run for people; without a number that of the list."""
        return f"{self.base_url}/{_PAGES[kind]}{f'/{number}' if number else ''}"

    def pages(self, path: str, params: Params | list[tuple[str, str]], size: int) -> Iterator[Row]:
        """The items of a list, over all pages. Raises PagingError when the cursor goes in a circle."""
        cursor, seen = None, set()
        for _ in range(_MOST_PAGES):
            more = [("limit", str(size)), *([("cursor", cursor)] if cursor else [])]
            answer = self.ask("GET", path, params=[*params, *more])
            yield from answer.get("items") or []
            cursor = answer.get("next_cursor")
            if not cursor:
                return
            if cursor in seen:
                raise PagingError(f"GET {path}: the cursor {cursor!r} came a second time")
            seen.add(cursor)
        raise PagingError(f"GET {path}: more than {_MOST_PAGES} pages")

    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Sequence[tuple[str, str]] = (),
        body: Mapping[str, Any] | None = None,
        repeatable: bool | None = None,
    ) -> Row:
        """One request and the object of its answer; GET is repeated on failure, others only if `repeatable`."""
        shown = " ".join(f"{name}={value}" for name, value in params)
        answer = self._client.send(
            Request(
                method=method,
                path=path,
                label=f"{method} {path} {shown}".strip(),
                params=tuple(params),
                headers={} if body is None else {"Content-Type": "application/json"},
                body=None if body is None else msgspec.json.encode(body),
                repeatable=method == "GET" if repeatable is None else repeatable,
            )
        )
        return _object(answer, f"{method} {path}")


def workflow_body(detail: Mapping[str, Any], tasks: Sequence[Row]) -> Row:
    """What PATCH takes for a workflow whose GET gave `detail`, with other `tasks` (in the shape of GET).

    GET numbers its tasks, PATCH wants keys and gives new numbers.
    """
    return {
        "tasks": [
            {"key": str(task["task_identifier"]), **{name: v for name, v in task.items() if name != "task_identifier"}}
            for task in tasks
        ],
        "task_dependencies": [
            {end: str(link[end]) for end in ("source", "destination")} for link in detail.get("task_dependencies") or []
        ],
    }


def _as_changed(name: str, value: Any) -> Any:
    """What GET shows of a field as PATCH takes it: of members only who and in which role."""
    shown = _SHOWN_OF_MEMBERS.get(name)
    return [{key: row[key] for key in shown if key in row} for row in value] if shown else value


def _object(answer: Answer, label: str) -> Row:
    if answer.status == 204 or not answer.body:
        return {}
    tree = json.loads(answer.body)
    if not isinstance(tree, dict):
        raise ApiError(f"{label}: the answer is no object", status=answer.status)
    return tree


def _state(row: Row) -> State:
    if not isinstance(row.get("id"), int) or not isinstance(row.get("status"), str):
        raise ApiError("a run without id or status", status=200)
    names = ("created_at", "started_at", "finished_at", "transfer_records", "transfer_bytes", "skipped_records")
    facts = {name: row[name] for name in names if row.get(name) is not None}
    return State(row["id"], row["status"], row.get("executor_type"), facts)
