"""A small API on loopback with everything that `query` can declare, and its stream file.

Few rows and short pages, so that many statements can be run. The API reads its parameters as loosely as real ones do:
texts without case, days in a zone of its own.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Row = dict[str, Any]
KEY = "key-of-the-desk-in-tests"

STREAM_FILE = """
source: desk
title: Desk
base_url: https://desk.example
timezone: Asia/Tokyo
start: 2026-01-01
settings: {DESK_KEY: {secret: true, help: none}}
auth: {type: header, name: X-Desk-Key, value: "{DESK_KEY}"}
streams:
  - name: queues
    path: /queues
    key: [id]
    columns: {id: integer, name: string, team: string, archived: boolean}
  - name: statuses
    path: /statuses
    key: [id]
    columns: {id: integer, name: string}
  - name: members
    path: /queues/{each.id}/members
    each: {stream: queues, stamp: {queue_id: id}}
    key: [queue_id, id]
    columns: {id: integer, queue_id: integer, name: string, level: integer}
  - name: tickets
    path: /tickets
    params: {from: "{since}", to: "{until}", order: oldest, offset: "{offset}", size: "{size}"}
    window: {column: changed, widen: 1d}
    paging: {type: offset, size: 20, overlap: id}
    load: merge
    query:
      window: optional
      eq:
        id: {name: id, most: 30}
        queue_id: queue
        status_id: status
        agent_id: agent
        parent_id: parent
        team_name: {name: team, form: one}
      ranges: {opened: {since: openedFrom, until: openedTo, widen: 1d}}
      row: {ticket_key: "/tickets/{ticket_key}"}
      sort: {columns: {changed: changed, id: id}, params: {order: "{name}.{order}"}}
      count: {path: /tickets/count, value: number}
      closed: {queue_id: queues.id, status_id: statuses.id}
    key: [id]
    columns:
      id: integer
      ticketKey: string
      queueId: integer
      statusId: integer
      agentId: integer
      parentId: integer
      priority: integer
      title: string
      teamName: string
      opened: date
      changed: {type: timestamp, required: true}
      hours: number
      fee: decimal(10,2)
      urgent: boolean
      lines: json
  - name: ticket_lines
    of: {stream: tickets, rows: lines, stamp: {ticket_id: id, changed: changed}}
    window: {column: changed}
    load: merge
    key: [ticket_id, id]
    columns: {id: integer, ticket_id: integer, changed: timestamp, text: string, amount: integer}
    derived: {double_amount: {type: integer, sql: amount * 2}}
  - name: notes
    path: /tickets/{each.id}/notes
    each: {stream: tickets, stamp: {ticket_id: id, ticket_changed: changed}}
    window: {column: ticket_changed}
    load: merge
    key: [id]
    columns: {id: integer, ticket_id: integer, ticket_changed: timestamp, author_id: integer, text: string}
"""

TEAMS = ("East", "WEST", "Süd")
TICKETS = 70


class Desk:
    """The data, and the answers to requests. `asked` are the paths and parameters of all requests so far."""

    def __init__(self, tickets: int = TICKETS) -> None:
        self.queues = [{"id": n, "name": f"Queue {n}", "team": TEAMS[n % 3], "archived": n == 4} for n in range(1, 5)]
        self.statuses = [{"id": n, "name": name} for n, name in enumerate(("new", "open", "done", "gone"), 1)]
        self.members = {
            queue["id"]: [
                {"id": n, "name": f"Agent {n}", "level": n % 3 or None} for n in range(11, 17) if (n + queue["id"]) % 2
            ]
            for queue in self.queues
        }
        self.tickets = [ticket(n) for n in range(1, tickets + 1)]
        self.asked: list[tuple[str, Mapping[str, list[str]]]] = []
        self.failing: Callable[[str, int], tuple[int, Any] | None] = lambda path, number: None

    def answer(self, path: str, query: Mapping[str, list[str]], key: str | None) -> tuple[int, Any]:
        """Status and body."""
        self.asked.append((path, query))
        if failure := self.failing(path, len(self.asked)):
            return failure
        if key != KEY:
            return 401, {"error": "wrong key"}
        match [unquote(step) for step in path.strip("/").split("/")]:
            case ["queues"]:
                return 200, self.queues
            case ["statuses"]:
                return 200, self.statuses
            case ["queues", queue, "members"]:
                return 200, self.members.get(int(queue), [])
            case ["tickets"]:
                first, most = int(query["offset"][0]), int(query["size"][0])
                return 200, self.found(query)[first : first + most]
            case ["tickets", "count"]:
                return 200, {"number": len(self.found(query))}
            case ["tickets", number, "notes"]:
                return 200, notes(int(number))
            case ["tickets", name]:
                rows = [row for row in self.tickets if row["ticketKey"] == name]
                return (200, rows[0]) if rows else (404, {"error": "no such ticket"})
        return 404, {"error": "no such path"}

    def found(self, query: Mapping[str, list[str]]) -> list[Row]:
        """The tickets that the parameters ask for, in their order."""
        lists = {"id": "id", "queue": "queueId", "status": "statusId", "agent": "agentId", "parent": "parentId"}
        rows = self.tickets
        for name, column in lists.items():
            if name in query:
                wanted = {int(text) for text in query[name]}
                rows = [row for row in rows if row[column] in wanted]
        if "team" in query:
            rows = [row for row in rows if (row["teamName"] or "").lower() == query["team"][0].lower()]
        for names, column in ((("from", "to"), "changed"), (("openedFrom", "openedTo"), "opened")):
            low, high = (query.get(name, [None])[0] for name in names)
            if low or high:
                rows = [row for row in rows if row[column] and (low or "") <= row[column][:10] <= (high or "9")]
        order = query.get("order", ["oldest"])[0]
        if order != "oldest":
            name, _, direction = order.partition(".")
            rows = sorted(rows, key=lambda row: row[name], reverse=direction == "desc")
        return rows


def ticket(n: int) -> Row:
    """A ticket; `changed` is different for each, and not in the order of ids."""
    changed = datetime(2026, 1, 5, tzinfo=UTC) + timedelta(minutes=97 * (n * 37 % 71))
    opened = date(2026, 1, 1) + timedelta(days=n * 5 % 17)
    return {
        "id": n,
        "ticketKey": f"T-{n}",
        "queueId": 1 + n % 4,
        "statusId": 1 + n * 7 % 3,
        "agentId": None if n % 5 == 0 else 11 + n % 6,
        "parentId": None if n % 3 else max(n // 3, 1),
        "priority": None if n % 7 == 0 else n % 4,
        "title": ("Printer", "printer", "it's broken", "", "日本語 %", None)[n % 6],
        "teamName": (*TEAMS, "east", None)[n % 5],
        "opened": None if n % 11 == 0 else opened.isoformat(),
        "changed": changed.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "hours": None if n % 4 == 0 else n / 8,
        "fee": f"{n * 3 % 50}.{n % 100:02}",
        "urgent": None if n % 13 == 0 else n % 2 == 0,
        "lines": [{"id": k, "text": f"line {k}", "amount": n * k} for k in range(1, 1 + n % 4)],
    }


def notes(n: int) -> list[Row]:
    """The notes of a ticket."""
    return [{"id": n * 10 + k, "author_id": 11 + k, "text": f"note {k}"} for k in range(n % 3)]


@contextmanager
def serving(desk: Desk) -> Iterator[str]:
    """The API on loopback; its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            target = urlsplit(self.path)
            status, tree = desk.answer(target.path, parse_qs(target.query), self.headers["X-Desk-Key"])
            body = json.dumps(tree).encode()
            head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self.wfile.write(head.encode() + body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def desk_place(folder: Path, monkeypatch: Any, tickets: int = TICKETS) -> Iterator[Desk]:
    """The API with an environment that points at it."""
    (folder / "sources").mkdir()
    (folder / "sources/desk.yaml").write_text(STREAM_FILE, "utf-8")
    desk = Desk(tickets)
    with serving(desk) as url:
        for name, value in {
            "ETL_DATA_DIR": str(folder / "data"),
            "ETL_SOURCES_DIR": str(folder / "sources"),
            "ETL_RETRY_BASE_SECONDS": "0.001",
            "DESK_BASE_URL": url,
            "DESK_KEY": KEY,
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(folder)
        yield desk
