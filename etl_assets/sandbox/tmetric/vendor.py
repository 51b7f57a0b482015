"""TMetric's API: v3 and, behind a switch, v2. Paths, rights, parameters, and the token.

What the vendor does not document is a setting (`Settings`). Rows come from `tmetric_data`, their looks from
`tmetric_shapes`.
"""

import random
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict, replace

from etl_assets.sandbox.times import at, instant, wall
from etl_assets.sandbox.tmetric import shapes
from etl_assets.sandbox.tmetric.data import CALLER_ID, TEAMS, Entry, EntryChanges, Member, Task, Workspace
from etl_assets.sandbox.tmetric.shapes import ACCOUNT_ID, Row, Shapes
from etl_assets.sandbox.vendor import (
    Action,
    Answer,
    Change,
    Clock,
    Handler,
    RefusedError,
    Request,
    Vendor,
    json_answer,
)
from etl_assets.sandbox.world import FIRST_DAY, secret

_TOKEN_LIFE_SECONDS = 365 * 86_400
_DAY_TEXT = re.compile(r"\d{4}-\d{2}-\d{2}")
_LONG_AGO = date(2000, 1, 1)
_FAR_AHEAD = date(9000, 1, 1)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What differs between accounts, or is not known of the real service.

    - `z`: times end in Z, as decoration on the user's wall clock, or with `utc` as true UTC;
    - `v2`, `projects`: whether v2, and `GET /projects` of v3, exist;
    - `shuffle`: lists of entries come in random order;
    - `forbidden_users`: whose entries the caller may not see; answered with `forbidden_status`, 200 meaning
      an empty list;
    - `user_field`: entries carry their user;
    - `dates`: in whose zone `startDate` and `endDate` are days, the entry user's or the caller's;
    - `match`: whether an entry is found by its start or wherever it overlaps the days.
    """

    z: bool = False
    utc: bool = False
    v2: bool = True
    projects: bool = True
    shuffle: bool = False
    forbidden_users: frozenset[int] = frozenset()
    forbidden_status: int = 403
    user_field: bool = False
    dates: Literal["user", "caller"] = "user"
    match: Literal["start", "overlap"] = "start"


class _Ref(msgspec.Struct):
    id: int | None = None
    name: str | None = None


class _EntryBody(msgspec.Struct, rename="camel"):
    start_time: datetime | UnsetType | None = UNSET
    end_time: datetime | UnsetType | None = UNSET
    note: str | UnsetType | None = UNSET
    project: _Ref | UnsetType | None = UNSET
    task: _Ref | UnsetType | None = UNSET
    tags: list[_Ref] | UnsetType | None = UNSET
    is_billable: bool | UnsetType = UNSET


class _TokenOrder(msgspec.Struct, forbid_unknown_fields=True):
    expire: bool = False


class TMetric(Vendor):
    """TMetric, as one user sees it: the owner of a workspace with members in two zones."""

    name: ClassVar[str] = "tmetric"

    def __init__(self, *, seed: int, days: int, scale: float, clock: Clock) -> None:
        super().__init__(seed=seed, days=days, scale=scale, clock=clock)
        self._work = Workspace(seed=seed, days=days, scale=scale)
        self._shapes = Shapes(self._work)
        self._settings = Settings()
        self._random = random.Random(seed)
        self._tokens = 0
        self._issue_token()

    def env(self, base_url: str) -> dict[str, str]:
        """Point at the workspace that has data, with the present token."""
        return {
            "TMETRIC_BASE_URL": base_url,
            "TMETRIC_TOKEN": self._token,
            "TMETRIC_ACCOUNT_ID": str(ACCOUNT_ID),
        }

    def routes(self) -> Mapping[str, Handler]:
        """Both versions; within a workspace the paths below `accounts/{account}`."""
        work = self._work
        v3: dict[str, Handler] = {
            "GET timeentries": self._entries,
            "POST timeentries": self._create_entry,
            "PUT timeentries/{entry_id:int}": self._replace_entry,
            "DELETE timeentries/{entry_id:int}": self._delete_entry,
            "GET timeentries/latest": self._latest_entry,
            "GET timeentries/statuses": self._statuses,
            "GET timeentries/projects": self._trackable_projects,
            "GET timeentries/tags": _list(lambda: map(shapes.tag, work.tags.values())),
            "GET reports/projects": self._project_report,
            "GET reports/projects/filter": self._report_filter,
            "GET teams/managed": _list(shapes.teams),
            "GET schedule": self._schedule,
            "GET clients": _list(lambda: map(shapes.client, work.clients.values())),
            "GET projects": self._projects,
            "GET tasks": self._tasks,
            "GET tasks/{task_id:int}": self._task,
        }
        v2: dict[str, Handler] = {
            "GET members": _list(lambda: map(shapes.v2_member, work.members.values())),
            "GET projects": _list(lambda: map(shapes.v2_project, work.projects.values())),
            "GET clients": _list(lambda: map(shapes.v2_client, work.clients.values())),
            "GET tags": _list(lambda: map(shapes.v2_tag, work.tags.values())),
            "GET scope": self._v2_scope,
        }
        return {
            "GET /api/v3/user": lambda request: json_answer(shapes.caller(self._caller)),
            "GET /api/reports/detailed": self._v2_detailed,
            **_within_account("/api/v3", v3),
            **_within_account("/api", v2),
        }

    def actions(self) -> Mapping[str, Action]:
        """`settings`, `token` ({} issues a new one, {"expire": true} ends the old), and rows by stream."""
        streams = ("members", "clients", "projects", "tags", "tasks")
        return {
            "settings": self._settings_change,
            "token": self._token_change,
            "entries": self._entry_change,
            **{stream: partial(self._row_change, stream) for stream in streams},
        }

    def truth(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """Entries that start on `day` in `zone`, or all rows of another `stream`.

        With `total=true` entries are only counted: a row of `rows`, their `seconds`, the sum of their `ids`.
        """
        if stream := query.get("stream"):
            return [asdict(row) for row in self._work.rows(stream)]
        day, zone = date.fromisoformat(query["day"]), query.get("zone", "Asia/Tokyo")
        entries = self._work.started(at(zone, day), at(zone, day + timedelta(days=1)))
        if query.get("total") == "true":
            return [_total(entries)]
        return [self._work.described(entry) for entry in entries]

    def answer(self, request: Request) -> Answer:
        """Refuse what has no valid token, and all of v2 where it is switched off."""
        if not self._authorised(request):
            return json_answer({"message": "Authorization has been denied for this request."}, 401)
        if not self._settings.v2 and not request.path.startswith("/api/v3/"):
            return self.not_found(request)
        return super().answer(request)

    def _authorised(self, request: Request) -> bool:
        return request.header(b"authorization") == f"Bearer {self._token}" and self.clock.now() < self._expires

    def _issue_token(self) -> dict[str, str]:
        self._tokens += 1
        self._token = secret("tmetric", self.seed, self._tokens)
        self._expires = self.clock.now() + _TOKEN_LIFE_SECONDS
        return {"token": self._token}

    def _expire_token(self) -> dict[str, str]:
        self._expires = 0.0
        return {"token": self._token}

    def _token_change(self, payload: dict[str, Any]) -> Change:
        order = msgspec.convert(payload, _TokenOrder)
        return self._expire_token if order.expire else self._issue_token

    def _settings_change(self, payload: dict[str, Any]) -> Change:
        read = msgspec.convert(payload, Settings)
        return partial(self._apply_settings, {name: getattr(read, name) for name in payload})

    def _apply_settings(self, given: Mapping[str, Any]) -> Settings:
        self._settings = replace(self._settings, **given)
        return self._settings

    def _entry_change(self, payload: dict[str, Any]) -> Change:
        return partial(self._work.change_entries, msgspec.convert(payload, EntryChanges))

    def _row_change(self, stream: str, payload: dict[str, Any]) -> Change:
        return partial(self._apply_rows, self._work.row_change(stream, payload))

    def _apply_rows(self, change: Change) -> Any:
        result = change()
        self._shapes.refresh()
        return result

    def _entries(self, request: Request) -> Answer:
        member = self._asked_member(request)
        first, last = _day(request, "startDate"), _day(request, "endDate", missing=_FAR_AHEAD)
        zone = member.zone if self._settings.dates == "user" else self._caller.zone
        start, end = at(zone, first), at(zone, last + timedelta(days=1))
        entries = self._work.entries(member, start, end, overlapping=self._settings.match == "overlap")
        if self._settings.shuffle:
            self._random.shuffle(entries)
        return Answer(self._rendered(entries, member))

    def _latest_entry(self, request: Request) -> Answer:
        member = self._asked_member(request)
        entry = self._work.latest(member)
        return Answer(b"null" if entry is None else self._rendered_one(entry, member))

    def _create_entry(self, request: Request) -> Answer:
        member = self._asked_member(request)
        blank = Entry(self._work.new_id(), member.id, self._now(), None)
        return self._write_entry(blank, member, request)

    def _replace_entry(self, request: Request, entry_id: int) -> Answer:
        entry, member = self._owned_entry(entry_id)
        return self._write_entry(entry, member, request)

    def _delete_entry(self, request: Request, entry_id: int) -> Answer:
        entry, _ = self._owned_entry(entry_id)
        self._work.remove(entry.id)
        return Answer(status=204, headers=())

    def _write_entry(self, old: Entry, member: Member, request: Request) -> Answer:
        """Put the entry of the body in place of `old`, and cut what overlaps it; all entries touched."""
        entry = self._read_entry(old, request)
        self._work.remove(old.id)
        touched = [entry]
        end = entry.start + 1 if entry.end is None else entry.end
        for other in self._work.entries(member, entry.start, end, overlapping=True):
            self._work.remove(other.id)
            touched += _cut(other, entry.start, entry.end, self._work.new_id)
        for changed in touched:
            self._work.put(changed)
        return Answer(self._rendered(touched, member))

    def _read_entry(self, old: Entry, request: Request) -> Entry:
        try:
            body = msgspec.json.decode(request.body, type=_EntryBody)
        except msgspec.DecodeError as error:
            raise _refused(400, str(error)) from error
        zone = self._work.members[old.user_id].zone
        given: dict[str, Any] = {}
        if body.start_time is not UNSET:
            given["start"] = instant(body.start_time, zone) if body.start_time else self._now()
        if body.end_time is not UNSET:
            given["end"] = instant(body.end_time, zone) if body.end_time else None
        if body.note is not UNSET:
            given["note"] = body.note
        if body.project is not UNSET:
            given["project_id"] = body.project.id if body.project else None
        if body.task is not UNSET:
            given |= self._task_fields(body.task, given.get("project_id", old.project_id))
        if body.tags is not UNSET:
            given["tag_ids"] = tuple(tag.id for tag in body.tags or () if tag.id)
        if body.is_billable is not UNSET:
            given["is_billable"] = body.is_billable
        entry = replace(old, **given)
        if entry.end is not None and entry.end < entry.start:
            raise _refused(400, "endTime is before startTime")
        return entry

    def _task_fields(self, ref: _Ref | None, project_id: int | None) -> dict[str, int | None]:
        if ref is None:
            return {"task_id": None}
        task = self._work.tasks.get(ref.id) if ref.id else self._named_task(ref.name or "", project_id)
        if task is None:
            raise _refused(400, f"no task {ref.id}")
        return {"task_id": task.id, "project_id": task.project_id}

    def _named_task(self, name: str, project_id: int | None) -> Task:
        """The task of that name in the project: a name alone is enough to make one."""
        tasks, now = self._work.tasks, self._now()
        for task in tasks.values():
            if (task.name, task.project_id) == (name, project_id):
                return task
        new = Task(
            id=max(tasks) + 1,
            name=name,
            project_id=project_id,
            creator_id=CALLER_ID,
            created=now,
            modified=now,
        )
        tasks[new.id] = new
        self._shapes.refresh()
        return new

    def _owned_entry(self, entry_id: int) -> tuple[Entry, Member]:
        entry = self._work.entry(entry_id)
        if entry is None:
            raise _refused(404, "no such time entry")
        return entry, self._visible_member(entry.user_id)

    def _statuses(self, request: Request) -> Answer:
        asked = _listed(request, "teamId")
        members = self._work.members.values()
        return json_answer([self._status(member) for member in members if not asked or member.team_id in asked])

    def _status(self, member: Member) -> Row:
        entry = self._work.latest(member)
        timer = entry if entry and entry.end is None else None
        return {
            "user": shapes.user(member),
            "timeZone": shapes.time_zone(member),
            "startTime": timer and wall(member.zone, timer.start),
            "totalSeconds": 0,
            "activeTimer": timer and msgspec.Raw(self._rendered_one(timer, member)),
        }

    def _trackable_projects(self, request: Request) -> Answer:
        self._asked_member(request)
        projects = self._work.projects.values()
        return json_answer(
            [self._shapes.project(project) | {"recentUsageTime": None} for project in projects if project.status == 1]
        )

    def _report_filter(self, request: Request) -> Answer:
        return json_answer(
            {
                "users": list(map(shapes.user, self._work.members.values())),
                "teams": shapes.teams(),
                "clients": list(map(shapes.client, self._work.clients.values())),
                "projects": list(map(self._shapes.project, self._work.projects.values())),
            }
        )

    def _schedule(self, request: Request) -> Answer:
        """Days of 8 hours. Of these rows only the user is documented; lower-case dates are ignored."""
        first = _day(request, "StartDate", missing=FIRST_DAY)
        last = _day(request, "EndDate", missing=FIRST_DAY + timedelta(days=self.days - 1))
        dates = [(first + timedelta(days=i)).isoformat() for i in range((last - first).days + 1)]
        days = [{"date": text, "requiredSeconds": 28_800} for text in dates]
        return json_answer([{"user": shapes.user(m), "days": days} for m in self._work.members.values()])

    def _projects(self, request: Request) -> Answer:
        if not self._settings.projects:
            return self.not_found(request)
        return json_answer(list(map(self._shapes.project, self._work.projects.values())))

    def _tasks(self, request: Request) -> Answer:
        return json_answer(
            [self._shapes.task(task) for task in self._work.tasks.values() if self._chosen(task, request)]
        )

    def _task(self, request: Request, task_id: int) -> Answer:
        task = self._work.tasks.get(task_id)
        return self.not_found(request) if task is None else json_answer(self._shapes.task(task))

    def _chosen(self, task: Task, request: Request) -> bool:
        after, before = request.first("AfterDate"), request.first("BeforeDate")
        if (after or before) and task.due_date is None:
            return False
        due = task.due_date or ""
        if (after and due < after) or (before and due > before):
            return False
        completed = request.first("Completed")
        if completed is not None and (completed.lower() == "true") != task.is_completed:
            return False
        project = self._work.projects.get(task.project_id or 0)
        values = {
            "Assignee": task.assignee_id or 0,
            "Creator": task.creator_id,
            "ProjectList": task.project_id,
            "ClientList": project and project.client_id,
        }
        chosen = {name: _listed(request, name) for name in values}
        return all(not chosen[name] or value in chosen[name] for name, value in values.items())

    def _project_report(self, request: Request) -> Answer:
        first, last = (
            _day(request, "startDate", missing=_LONG_AGO),
            _day(request, "endDate", missing=_FAR_AHEAD),
        )
        start, end = at(self._caller.zone, first), at(self._caller.zone, last + timedelta(days=1))
        users, teams = _listed(request, "userId"), _listed(request, "teamId")
        members = [
            member
            for member in self._work.members.values()
            if (not users or member.id in users) and (not teams or member.team_id in teams)
        ]
        billable, other = self._seconds_by_project(members, start, end)
        clients, projects = _listed(request, "clientId"), _listed(request, "projectId")
        done = request.first("includeDone") == "true"
        return json_answer(
            [
                self._shapes.report(row, billable=billable.get(row.id, 0), other=other.get(row.id, 0))
                for row in self._work.projects.values()
                if (done or row.status == 1)
                and (not clients or row.client_id in clients)
                and (not projects or row.id in projects)
            ]
        )

    def _seconds_by_project(
        self, members: Iterable[Member], start: int, end: int
    ) -> tuple[dict[int, int], dict[int, int]]:
        billable: dict[int, int] = {}
        other: dict[int, int] = {}
        for member in members:
            for entry in self._work.entries(member, start, end):
                if entry.end is not None and entry.project_id is not None:
                    sums = billable if entry.is_billable else other
                    sums[entry.project_id] = sums.get(entry.project_id, 0) + entry.end - entry.start
        return billable, other

    def _v2_scope(self, request: Request) -> Answer:
        work = self._work
        return json_answer(
            {
                "account": shapes.v2_account(),
                "members": list(map(shapes.v2_member, work.members.values())),
                "groups": shapes.teams(),
                "projects": list(map(shapes.v2_project, work.projects.values())),
                "clients": list(map(shapes.v2_client, work.clients.values())),
                "tags": list(map(shapes.v2_tag, work.tags.values())),
                "managedProjects": list(work.projects),
                "trackedProjects": [project.id for project in work.projects.values() if project.status == 1],
                "managedGroups": list(TEAMS),
                "managedUsers": list(work.members),
                "features": [],
                "requiredFields": {"description": False, "project": False, "tags": False, "taskLink": False},
            }
        )

    def _v2_detailed(self, request: Request) -> Answer:
        """The whole team at once, `EndDate` excluded. Times always end in Z, whatever that means."""
        if request.first("AccountId") != str(ACCOUNT_ID):
            raise _refused(403, "no access to this account")
        start = at(self._caller.zone, _day(request, "StartDate"))
        end = at(self._caller.zone, _day(request, "EndDate"))
        groups, wanted = _listed(request, "GroupList"), self._entry_filter(request)
        rows = []
        for member in self._work.members.values():
            if not groups or member.team_id in groups:
                stamp = shapes.stamp(member.zone, z=True, utc=self._settings.utc)
                entries = filter(wanted, self._work.entries(member, start, end))
                rows += [self._shapes.v2_detail(entry, member, stamp) for entry in entries]
        return json_answer(rows)

    def _entry_filter(self, request: Request) -> Callable[[Entry], bool]:
        projects, tags = _listed(request, "ProjectList"), _listed(request, "TagList")
        if clients := _listed(request, "ClientList"):
            of_clients = {row.id for row in self._work.projects.values() if row.client_id in clients}
            projects = projects & of_clients if projects else of_clients | {0}

        def wanted(entry: Entry) -> bool:
            return (not projects or entry.project_id in projects) and (not tags or not tags.isdisjoint(entry.tag_ids))

        return wanted

    @property
    def _caller(self) -> Member:
        return self._work.members[CALLER_ID]

    def _now(self) -> int:
        return int(self.clock.now())

    def _asked_member(self, request: Request) -> Member:
        text = request.first("userId") or "0"
        if not text.isdecimal():
            raise _refused(400, "userId is not a number")
        return self._visible_member(int(text) or CALLER_ID)

    def _visible_member(self, user_id: int) -> Member:
        member = self._work.members.get(user_id)
        if member is not None and user_id not in self._settings.forbidden_users:
            return member
        status = self._settings.forbidden_status
        raise (RefusedError(json_answer([])) if status == HTTPStatus.OK else _refused(status, "no access to this user"))

    def _rendered(self, entries: Iterable[Entry], member: Member) -> bytes:
        settings = self._settings
        stamp = shapes.stamp(member.zone, z=settings.z, utc=settings.utc)
        return self._shapes.entries(entries, member, stamp, with_user=settings.user_field)

    def _rendered_one(self, entry: Entry, member: Member) -> bytes:
        return self._rendered([entry], member)[1:-1]


def _list(rows: Callable[[], Iterable[Row]]) -> Handler:
    return lambda request: json_answer(list(rows()))


def _within_account(base: str, handlers: Mapping[str, Handler]) -> dict[str, Handler]:
    routes: dict[str, Handler] = {}
    for line, handler in handlers.items():
        method, path = line.split(" ")
        routes[f"{method} {base}/accounts/{{account:int}}/{path}"] = partial(_in_account, handler)
    return routes


def _in_account(handler: Handler, request: Request, account: int, **parts: Any) -> Answer:
    if account != ACCOUNT_ID:
        raise _refused(403, "no access to this account")
    return handler(request, **parts)


def _refused(status: int, message: str) -> RefusedError:
    return RefusedError(json_answer({"message": message}, status))


def _listed(request: Request, name: str) -> set[int]:
    """The numbers of a list parameter, given as repeated keys or joined by commas."""
    try:
        return {int(part) for value in request.every(name) for part in value.split(",") if part}
    except ValueError as error:
        raise _refused(400, f"{name} is not a list of numbers") from error


def _day(request: Request, name: str, missing: date | None = None) -> date:
    text = request.first(name)
    if text is None and missing is not None:
        return missing
    day = _read_day(text or "")
    if day is None:
        raise _refused(400, f"{name} is not a date like 2026-01-05")
    return min(max(day, _LONG_AGO), _FAR_AHEAD)


@lru_cache(maxsize=4096)
def _read_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if _DAY_TEXT.fullmatch(text) else None
    except ValueError:
        return None


def _cut(entry: Entry, start: int, end: int | None, new_id: Callable[[], int]) -> list[Entry]:
    """What is left of `entry` once `[start, end)` is taken out of it: nothing, a part, or two."""
    rest = []
    if entry.start < start:
        rest.append(replace(entry, end=start))
    if end is not None and (entry.end is None or entry.end > end):
        rest.append(replace(entry, id=new_id() if rest else entry.id, start=end))
    return rest


def _total(entries: Iterable[Entry]) -> dict[str, int]:
    rows = seconds = ids = 0
    for entry in entries:
        rows += 1
        ids += entry.id
        seconds += 0 if entry.end is None else entry.end - entry.start
    return {"rows": rows, "seconds": seconds, "ids": ids}
