"""What the account holds beside runs: definitions, people, labels, connections; lists with cursors, and changes.

Rows follow from the seed. Detail is what one row shows when it is asked for by id, a list shows less.
"""

import base64
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from etl_assets.sandbox.times import at
from etl_assets.sandbox.vendor import Answer, RefusedError, Request, json_answer
from etl_assets.sandbox.world import FIRST_DAY, numbers

Row = dict[str, Any]
TOKYO = ZoneInfo("Asia/Tokyo")

DEFINITIONS = {"transfer": "job_definitions", "datamart": "datamart_definitions", "workflow": "pipeline_definitions"}
CONNECTIONS = ("bigquery", "gcs", "google_spreadsheets", "mysql", "postgresql", "s3", "salesforce", "snowflake")
UNSUPPORTED = 1005  # a transfer whose connectors the API does not know
NOT_CONCURRENT = 1004
LOOPED, PLAIN = 3001, 3002
_ONLY_IN_DETAIL = {"datamart_definitions": {"datamart_bigquery_option"}, "teams": {"members"}}
_MOST = {"job_definitions": 100, "notification_destinations": 50}
_USUAL = 50
_REPLACED_WHOLE = {"teams": ("members",), "resource_groups": ("teams",)}


def shown_time(moment: float | None) -> str | None:
    """A moment as TROCCO writes it: Japan's clock with its offset, and milliseconds."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, TOKYO).isoformat(timespec="milliseconds")


def refuse(status: int, message: str, *, errors: list[Row] | None = None) -> RefusedError:
    """One of the shapes that errors have."""
    body: Row = {"error": message} if status == 403 else {"message": message, "errors": errors or []}
    return RefusedError(json_answer(body, status))


def lacks(resource: str, name: str) -> RefusedError:
    """The refusal of a body without a mandatory field."""
    return refuse(422, f"{resource}: validation failed", errors=[{"attribute": name, "message": "can't be blank"}])


class Table:
    """One kind of thing: rows by id."""

    def __init__(self, name: str, rows: list[Row], now: Callable[[], float]) -> None:
        self.name = name
        self.rows: dict[int, Row] = {row["id"]: row for row in rows}
        self.deleted: set[int] = set()
        self._now = now
        self._last = max(self.rows, default=0)

    def row(self, number: int) -> Row:
        """The row; refused as TROCCO does it: 403 for what was deleted, 404 for what never was."""
        if number in self.deleted:
            raise refuse(403, "Not Authorized")
        if number not in self.rows:
            raise refuse(404, "not found")
        return self.rows[number]

    def listed(self, request: Request) -> Answer:
        """A page of the list."""
        hidden = _ONLY_IN_DETAIL.get(self.name, set())
        name = request.first("name") or ""
        rows = [row for row in self.rows.values() if name in str(row.get("name", ""))]
        rows = [{key: value for key, value in row.items() if key not in hidden} for row in rows]
        return json_answer(page(rows, request, most=_MOST.get(self.name, 200)))

    def shown(self, request: Request, number: int) -> Answer:
        """One row in detail. Texts come as they were typed: with raw control characters."""
        if number == UNSUPPORTED:
            raise refuse(400, "this connector type is not supported by the API")
        answer = json_answer(_without_empty_lists(self.row(number)))
        answer.body = answer.body.replace(rb"\n", b"\n").replace(rb"\t", b"\t")
        return answer

    def create(self, request: Request) -> Answer:
        """Add a row. Passwords are taken and never shown."""
        given = body(request)
        needed = "email" if self.name == "users" else "name"
        if not given.get(needed):
            raise lacks(self.name, needed)
        self._last += 1
        times = {"created_at": shown_time(self._now()), "updated_at": shown_time(self._now())}
        self.rows[self._last] = {"id": self._last, **_shown(given), **times}
        return json_answer(self.rows[self._last], 201)

    def update(self, request: Request, number: int) -> Answer:
        """PATCH: scalars that are sent change, lists are replaced whole, objects of options are merged."""
        row, given = self.row(number), _shown(body(request))
        for name in _REPLACED_WHOLE.get(self.name, ()):
            if "name" not in given or name not in given:
                raise lacks(self.name, "name" if "name" not in given else name)
        if "data_warehouse_type" in given and given["data_warehouse_type"] != row["data_warehouse_type"]:
            raise refuse(422, "data_warehouse_type cannot be changed")
        if self.name == "pipeline_definitions":
            given = _by_number(given)
        for key, value in given.items():
            row[key] = {**row[key], **value} if isinstance(value, dict) and isinstance(row.get(key), dict) else value
        row["updated_at"] = shown_time(self._now())
        return json_answer(_without_empty_lists(row))

    def delete(self, request: Request, number: int) -> Answer:
        """Remove a row."""
        self.row(number)
        del self.rows[number]
        self.deleted.add(number)
        return Answer(status=204)


def body(request: Request) -> Row:
    """The JSON body, which may be missing."""
    try:
        tree = json.loads(request.body or b"{}", strict=False)
    except ValueError:
        raise refuse(400, "invalid JSON") from None
    if not isinstance(tree, dict):
        raise refuse(400, "invalid JSON")
    return tree


def page(rows: list[Row], request: Request, *, most: int) -> Row:
    """A page by id, with the cursor of the next one."""
    try:
        limit = min(int(request.first("limit") or _USUAL), most)
        after = json.loads(base64.b64decode(request.first("cursor") or "e30=")).get("id", 0)
    except ValueError:
        raise refuse(400, "invalid parameter") from None
    left = sorted((row for row in rows if row["id"] > after), key=lambda row: row["id"])
    items = left[:limit]
    more = len(left) > limit
    cursor = base64.b64encode(json.dumps({"id": items[-1]["id"]}, separators=(",", ":")).encode()) if more else b""
    return {"items": [_without_empty_lists(row) for row in items], "next_cursor": cursor.decode() or None}


def _without_empty_lists(row: Row) -> Row:
    return {name: value for name, value in row.items() if value != []}


def _shown(given: Row) -> Row:
    return {name: value for name, value in given.items() if "password" not in name and "credential" not in name}


def _by_number(given: Row) -> Row:
    """What PATCH takes (tasks by a `key` of one's own) as GET shows it (`task_identifier`, counted)."""
    if "tasks" not in given:
        return given
    keys: dict[str, int] = {}
    tasks = []
    for number, task in enumerate(given["tasks"], 1):
        if not isinstance(task.get("key"), str) or "task_identifier" in task:
            raise refuse(400, "tasks: key is invalid")
        keys[task["key"]] = number
        tasks.append({"task_identifier": number, **{name: value for name, value in task.items() if name != "key"}})
    links = given.get("task_dependencies", [])
    if any(link[end] not in keys for link in links for end in ("source", "destination")):
        raise refuse(400, "task_dependencies: key is invalid")
    linked = [{"source": keys[link["source"]], "destination": keys[link["destination"]]} for link in links]
    return {**given, "tasks": tasks, "task_dependencies": linked}


def tables(seed: int, scale: float, now: Callable[[], float]) -> dict[str, Table]:
    """Everything, by the path of its list below /api."""
    made: dict[str, list[Row]] = {
        "job_definitions": _transfers(seed, max(round(6 * scale), 6)),
        "datamart_definitions": _datamarts(seed),
        "pipeline_definitions": _workflows(seed),
        "users": [_user(seed, number) for number in range(1, 8)],
        "teams": [_team(seed, number) for number in range(1, 4)],
        "resource_groups": [_group(seed, number) for number in range(1, 3)],
        "labels": [_label(seed, number) for number in range(1, 5)],
        **{f"connections/{kind}": _connections(seed, kind) for kind in CONNECTIONS},
        "notification_destinations/email": [{"id": 1, "email": "data@example.com", **_times(seed, "email", 1)}],
        "notification_destinations/slack_channel": [{"id": 1, "channel": "#data", **_times(seed, "slack", 1)}],
    }
    return {path: Table(path, rows, now) for path, rows in made.items()}


def _times(seed: int, *key: object) -> Row:
    first, later = numbers(2, "trocco", seed, *key)
    created = at("Asia/Tokyo", FIRST_DAY) - 86_400 * (30 + first % 300)
    return {"created_at": shown_time(created), "updated_at": shown_time(created + later % 2_000_000)}


def _transfers(seed: int, count: int) -> list[Row]:
    kinds = [("mysql", "bigquery"), ("salesforce", "bigquery"), ("gcs", "bigquery"), ("http", "snowflake")]
    names = ["受注データ転送", "商談データ転送", "Brazeイベント取込", "広告費データ転送", "旧システム転送"]
    rows = []
    for number in range(1001, 1001 + count):
        source, target = kinds[(number - 1001) % len(kinds)]
        rows.append(
            {
                "id": number,
                "name": names[number - 1001] if number - 1001 < len(names) else f"データ転送 {number}",
                "description": f"{source} から {target} へ" if number % 2 else None,
                "resource_group_id": 1 + number % 2,
                "is_runnable_concurrently": number != NOT_CONCURRENT,
                "retry_limit": number % 3,
                "resource_enhancement": None,
                "input_option_type": source,
                "output_option_type": target,
                "labels": ["毎日"] if number % 2 else [],
                "schedules": [],
                "notifications": [],
                "custom_variable_settings": [
                    {"name": "$day$", "type": "string", "value": "2026-01-01"},
                    {"name": "$file$", "type": "string", "value": ""},
                    {"name": "$context$", "type": "timestamp", "quantity": 1, "unit": "date", "direction": "ago",
                     "format": "%Y%m%d", "time_zone": "Asia/Tokyo"},
                    {"name": "$started$", "type": "timestamp_runtime", "quantity": 0, "unit": "hour",
                     "direction": "ago", "format": "%Y-%m-%d %H", "time_zone": "Asia/Tokyo"},
                ],
                **_times(seed, "transfer", number),
            }
        )  # fmt: skip
    return rows


def _datamarts(seed: int) -> list[Row]:
    return [
        {
            "id": number,
            "name": name,
            "description": None,
            "data_warehouse_type": "bigquery",
            "is_runnable_concurrently": True,
            "resource_group": {"id": 1, "name": "データ基盤"},
            "custom_variable_settings": [{"name": "$day$", "type": "string", "value": "2026-01-01"}],
            "datamart_bigquery_option": {
                "bigquery_connection_id": 1,
                "query_mode": "insert",
                "query": "SELECT *\n\tFROM raw.orders\nWHERE day = '$day$'",
                "destination_dataset": "mart",
                "destination_table": f"table_{number}",
                "write_disposition": "truncate",
            },
            "notifications": [],
            "schedules": [],
            "labels": [],
            **_times(seed, "datamart", number),
        }
        for number, name in ((2001, "売上日次"), (2002, "会員マート"))
    ]


def _workflows(seed: int) -> list[Row]:
    loop = {
        "type": "string",
        "is_parallel_execution_allowed": False,
        "string_config": {"variables": [{"name": "$day$", "values": ["2026-01-01"]}]},
    }
    tasks = {
        LOOPED: [
            {"task_identifier": 1, "type": "trocco_transfer",
             "trocco_transfer_config": {"definition_id": 1001, "custom_variable_loop": loop}},
            {"task_identifier": 2, "type": "trocco_bigquery_datamart",
             "trocco_bigquery_datamart_config": {"definition_id": 2001}},
        ],
        PLAIN: [
            {"task_identifier": 1, "type": "trocco_transfer", "trocco_transfer_config": {"definition_id": 1002}},
            {"task_identifier": 2, "type": "trocco_bigquery_datamart",
             "trocco_bigquery_datamart_config": {"definition_id": 2002}},
            {"task_identifier": 3, "type": "slack_notification",
             "slack_notification_config": {"notification_id": 1, "message": "done"}},
        ],
    }  # fmt: skip
    return [
        {
            "id": number,
            "name": {LOOPED: "日次ループ", PLAIN: "朝のワークフロー"}[number],
            "description": None,
            "resource_group_id": 1,
            "max_task_parallelism": 2,
            "execution_timeout": 60,
            "max_retries": 1,
            "min_retry_interval": 1,
            "is_concurrent_execution_skipped": False,
            "is_stopped_on_errors": True,
            "labels": [],
            "notifications": [],
            "schedules": [],
            "tasks": made,
            "task_dependencies": [{"source": n, "destination": n + 1} for n in range(1, len(made))],
            "created_by": {"id": 1, "email": "user1@example.com"},
            **_times(seed, "workflow", number),
        }
        for number, made in tasks.items()
    ]


def _user(seed: int, number: int) -> Row:
    times = _times(seed, "user", number)
    return {
        "id": number,
        "email": f"user{number}@example.com",
        "role": "super_admin" if number == 1 else "member",
        "can_use_audit_log": number == 1,
        "is_restricted_connection_modify": number > 3,
        "last_sign_in_at": None if number == 7 else times["updated_at"],
        "otp_required_for_login": number % 2 == 0,
        "can_use_basic_services": True,
        "can_use_data_catalog": False,
        "teams": [],
        **times,
    }


def _team(seed: int, number: int) -> Row:
    members = [
        {"user_id": user, "email": f"user{user}@example.com", "role": "team_admin" if user == 1 else "team_member"}
        for user in (1, number + 1)
    ]
    return {
        "id": number,
        "name": f"チーム{number}",
        "description": None,
        "members": members,
        **_times(seed, "team", number),
    }


def _group(seed: int, number: int) -> Row:
    teams = [{"team_id": number, "role": "editor"}]
    times = _times(seed, "group", number)
    return {
        "id": number,
        "name": f"グループ{number}",
        "description": "本番" if number == 1 else None,
        "teams": teams,
        **times,
    }


def _label(seed: int, number: int) -> Row:
    name = ("毎日", "毎週", "重要", "試験")[number - 1]
    return {"id": number, "name": name, "description": None, "color": "#e86115", **_times(seed, "label", number)}


def _connections(seed: int, kind: str) -> list[Row]:
    own = {"project_id": "demo"} if kind == "bigquery" else {"host": f"{kind}.example.com"}
    return [
        {"id": n, "name": f"{kind} {n}", "description": None, "resource_group_id": 1, **own, **_times(seed, kind, n)}
        for n in (1, 2)
    ]
