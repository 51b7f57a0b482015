"""Random statements over a small API against the same data in full: not one may differ.

`python -m etl_assets_tests.sql.test_random SEED COUNT` runs more of them, and prints what differs.
"""

import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl_assets import sql
from etl_assets.sql.dbapi import Connection
from etl_assets_tests.sql.place import in_full, same
from etl_assets_tests.sql.world import desk_place

TABLES = ["desk.queues", "desk.statuses", "desk.members", "desk.tickets", "desk.ticket_lines", "desk.notes"]
SEEDS = range(1, 11)
STATEMENTS = 100

Statement = tuple[str, list[Any], bool]
NUMBERS = {
    "queue_id": (0, 6), "status_id": (0, 5), "agent_id": (9, 19), "parent_id": (0, 30), "priority": (-1, 5),
    "id": (-2, 80),
}  # fmt: skip
TEXTS = {
    "title": ["Printer", "printer", "it''s broken", "", "日本語 %", "none"],
    "team_name": ["East", "WEST", "Süd", "east", "x"],
    "ticket_key": ["T-1", "T-12", "T-70", "T-71", "t-3"],
}
SPELLINGS = {
    "queue_id": ["queue_id", "QueueId", "QueueID"],
    "status_id": ["status_id", "StatusID"],
    "ticket_key": ["TicketKey", "ticket_key"],
    "changed": ["changed", "Changed"],
    "id": ["id", "Id", "ID"],
}


class Maker:
    """Statements, one after the other, from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def statement(self) -> Statement:
        """Text, parameters, and whether the order of the rows is given."""
        shapes: list[Callable[[], tuple[str, bool]]] = [
            self.plain, self.plain, self.ordered, self.top, self.count, self.grouped, self.inner, self.inner, self.left,
            self.outer, self.itself, self.exists, self.among, self.twice, self.union, self.window, self.distinct,
            self.scalar, self.children, self.three, self.correlated,
        ]  # fmt: skip
        text, ordered = self.random.choice(shapes)()
        parameters = [int(number) for number in re.findall(r"⟨(-?\d+)⟩", text)]
        return re.sub(r"⟨-?\d+⟩", "?", text), parameters, ordered

    def pick(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def name(self, column: str, alias: str = "") -> str:
        spelled = self.random.choice(SPELLINGS.get(column, [column]))
        return f"{alias}.{spelled}" if alias else spelled

    def value(self, low: int, high: int) -> str:
        number = self.random.randint(low, high)
        if self.random.random() < 0.2:
            return f"⟨{number}⟩"
        return str(number)

    def condition(self, alias: str = "") -> str:
        """One condition on `tickets`."""
        kind = self.random.randrange(14)
        column = self.random.choice(list(NUMBERS))
        name, bounds = self.name(column, alias), NUMBERS[column]
        if kind <= 2:
            return f"{name} = {self.value(*bounds)}"
        if kind <= 4:
            values = [self.value(*bounds) for _ in range(self.random.randint(1, 5))]
            return f"{name} {self.pick('IN', 'IN', 'NOT IN')} ({', '.join(values)})"
        if kind == 5:
            return f"{name} {self.pick('<', '<=', '>', '>=', '<>')} {self.value(*bounds)}"
        if kind == 6:
            return f"{name} IS {self.pick('', 'NOT ')}NULL"
        if kind == 7:
            text = self.random.choice(list(TEXTS))
            return f"{self.name(text, alias)} = '{self.random.choice(TEXTS[text])}'"
        if kind == 8:
            text = self.random.choice(list(TEXTS))
            listed = ", ".join(f"'{one}'" for one in self.random.sample(TEXTS[text], 2))
            return f"{self.name(text, alias)} IN ({listed})"
        if kind == 9:
            return f"{self.name('changed', alias)} {self.pick('<', '>=', '>', '<=')} '{self.moment()}'"
        if kind == 10:
            first, second = sorted([self.random.randint(1, 20), self.random.randint(1, 20)])
            return f"{self.name('opened', alias)} BETWEEN '2026-01-{first:02}' AND '2026-01-{second:02}'"
        if kind == 11:
            return f"{self.name('title', alias)} {self.pick('LIKE', 'NOT LIKE')} '{self.pick('P%', '%r', '%%')}'"
        if kind == 12:
            prefix = f"{alias}." if alias else ""
            return self.pick(f"{prefix}urgent", f"NOT {prefix}urgent", f"{prefix}hours > 2.5", f"{prefix}fee = 12.04")
        return self.pick(
            "1 = 1",
            f"{name} + 1 = {self.value(*bounds)}",
            f"date_trunc('day', {self.name('changed', alias)}) = '2026-01-06'",
        )

    def moment(self) -> str:
        return f"2026-01-{self.random.randint(4, 11):02} {self.random.randint(0, 23):02}:{self.pick('00:00', '30:01')}"

    def tree(self, alias: str = "", depth: int = 2) -> str:
        """Conditions joined by AND, OR and NOT."""
        if depth == 0 or self.random.random() < 0.35:
            return self.condition(alias)
        parts = [self.tree(alias, depth - 1) for _ in range(self.random.randint(1, 3))]
        text = f" {self.pick('AND', 'AND', 'OR')} ".join(parts)
        return f"{self.pick('', '', '', 'NOT ')}({text})"

    def columns(self, alias: str = "") -> str:
        names = ["id", "queue_id", "status_id", "agent_id", "priority", "title", "opened", "changed", "hours", "fee"]
        prefix = f"{alias}." if alias else ""
        return self.pick(
            ", ".join(self.name(one, alias) for one in self.random.sample(names, 3)),
            f"{prefix}id, upper({prefix}title) AS t, {prefix}priority * 2 AS p2",
            f"{prefix}*" if not alias else f"{prefix}id",
        )

    def tickets(self) -> str:
        return self.pick("desk.tickets", "tickets", "Tickets", "DESK.Tickets")

    def plain(self) -> tuple[str, bool]:
        return f"SELECT {self.columns()} FROM {self.tickets()} WHERE {self.tree(depth=3)}", False

    def ordered(self) -> tuple[str, bool]:
        where = self.tree()
        order = self.pick("id", "priority DESC NULLS LAST, id", "title, id DESC", "changed")
        limit = self.pick("", f" LIMIT {self.random.randint(0, 9)}", " LIMIT 4 OFFSET 2")
        return f"SELECT id, title, priority FROM tickets WHERE {where} ORDER BY {order}{limit}", True

    def top(self) -> tuple[str, bool]:
        where = self.pick("", f"WHERE {self.condition()}", f"WHERE {self.tree()}")
        order = f"{self.name(self.pick('changed', 'id'))} {self.pick('', 'ASC', 'DESC')}"
        limit = f"LIMIT {self.value(0, 25)}{self.pick('', ' OFFSET 3')}"
        chosen = self.pick("id, changed", "*", "id AS number, upper(title)", "id, changed AS c", "-id AS changed, id")
        return f"SELECT {chosen} FROM tickets {where} ORDER BY {order} {limit}", True

    def count(self) -> tuple[str, bool]:
        what = self.pick("count(*)", "count(*)", "count(agent_id)", "min(changed), max(id)", "sum(fee)")
        return f"SELECT {what} FROM tickets {self.pick('', f'WHERE {self.condition()}', f'WHERE {self.tree()}')}", True

    def grouped(self) -> tuple[str, bool]:
        column = self.name(self.pick("status_id", "queue_id", "agent_id", "priority"))
        where = self.pick("", f"WHERE {self.condition()}", f"WHERE {self.tree()}")
        having = self.pick("", "", "HAVING count(*) > 3")
        what = self.pick("count(*)", "count(*)", "max(id)", "count(DISTINCT title)")
        return f"SELECT {column}, {what} FROM tickets {where} GROUP BY {column} {having}", False

    def inner(self) -> tuple[str, bool]:
        where = self.pick(f"WHERE {self.tree('t', 1)}", f"WHERE q.team = '{self.pick('East', 'WEST')}'", "")
        more = self.pick("", f" AND q.id <= {self.value(1, 4)}")
        return f"SELECT t.id, q.name, q.team FROM tickets t JOIN queues q ON q.id = t.QueueId{more} {where}", False

    def left(self) -> tuple[str, bool]:
        on = self.pick("", f" AND {self.condition('t')}", " AND q.id > 1")
        where = self.pick(
            "",
            "WHERE q.team = 'East'",
            "WHERE t.id IS NULL",
            "WHERE q.id = 2 AND t.status_id = 2",
            f"WHERE {self.condition('t')}",
        )
        return f"SELECT q.id, t.id, t.title FROM queues q LEFT JOIN tickets t ON t.queue_id = q.id{on} {where}", False

    def outer(self) -> tuple[str, bool]:
        kind = self.pick("FULL", "RIGHT")
        where = self.pick("", f"WHERE {self.condition('t')}")
        return (
            f"SELECT m.id, m.queue_id, t.id FROM tickets t {kind} JOIN members m "
            f"ON t.agent_id = m.id AND t.queue_id = m.queue_id {where}",
            False,
        )

    def itself(self) -> tuple[str, bool]:
        kind = self.pick("JOIN", "LEFT JOIN")
        where = self.pick(f"WHERE {self.condition('c')}", f"WHERE {self.condition('p')}", f"WHERE {self.tree('c')}")
        return f"SELECT c.id, p.id, p.title FROM tickets c {kind} tickets p ON c.parent_id = p.id {where}", False

    def exists(self) -> tuple[str, bool]:
        inner = f"SELECT 1 FROM tickets t WHERE t.queue_id = q.id AND {self.condition('t')}"
        return f"SELECT q.id, q.name FROM queues q WHERE {self.pick('', 'NOT ')}EXISTS ({inner})", False

    def among(self) -> tuple[str, bool]:
        level = self.pick("= 1", "> 1", "IS NULL")
        inner = f"SELECT queue_id FROM members WHERE level {level} AND id < {self.value(11, 17)}"
        return (
            f"SELECT id, title FROM tickets "
            f"WHERE queue_id {self.pick('IN', 'NOT IN')} ({inner}) AND {self.condition()}",
            False,
        )

    def twice(self) -> tuple[str, bool]:
        cte = f"WITH few AS (SELECT * FROM tickets WHERE {self.tree()})"
        return f"{cte} SELECT a.id, b.id FROM few a JOIN few b ON a.id = b.parent_id", False

    def union(self) -> tuple[str, bool]:
        kind = self.pick("UNION", "UNION ALL", "EXCEPT", "INTERSECT")
        left = f"SELECT id, queue_id FROM tickets WHERE {self.tree()}"
        return (
            f"{left} {kind} SELECT id, queue_id FROM {self.pick('tickets', 'members')} WHERE id <= {self.value(5, 40)}",
            False,
        )

    def window(self) -> tuple[str, bool]:
        over = self.pick(
            "PARTITION BY status_id ORDER BY id", "ORDER BY changed", "PARTITION BY queue_id ORDER BY id DESC"
        )
        rank = f"row_number() OVER ({over}) AS n"
        text = f"SELECT id, {rank} FROM tickets WHERE {self.tree()}"
        return self.pick(text, f"SELECT * FROM ({text}) WHERE n = 1"), False

    def distinct(self) -> tuple[str, bool]:
        column = self.name(self.pick("status_id", "queue_id", "team_name", "priority"))
        return f"SELECT DISTINCT {column} FROM tickets {self.pick('', f'WHERE {self.tree()}')}", False

    def scalar(self) -> tuple[str, bool]:
        inner = f"SELECT {self.pick('max', 'min')}(id) FROM tickets WHERE {self.condition()}"
        return f"SELECT id, title FROM tickets WHERE id {self.pick('=', '<', '>=')} ({inner})", False

    def children(self) -> tuple[str, bool]:
        table, column = self.pick(
            ("ticket_lines", "id, text, DoubleAmount"), ("TicketLines", "amount"), ("notes", "id, text")
        )
        number = self.value(1, 70)
        where = self.pick(f"ticket_id = {number}", f"ticket_id IN ({number}, 3, 5)", f"ticket_id = {number} AND id > 1")
        if table != "notes":
            where = self.pick(where, "changed >= '2026-01-07'", "amount > 30", "1 = 1")
        return f"SELECT TicketID, {column} FROM {table} WHERE {where}", False

    def three(self) -> tuple[str, bool]:
        kind = self.pick("JOIN", "LEFT JOIN")
        where = self.pick(
            "WHERE q.team = 'WEST'", f"WHERE {self.tree('t', 1)}", f"WHERE l.amount > {self.value(0, 90)}"
        )
        return (
            f"SELECT q.name, t.id, l.text FROM queues q JOIN tickets t ON t.queue_id = q.id "
            f"{kind} ticket_lines l ON l.ticket_id = t.id {where}",
            False,
        )

    def correlated(self) -> tuple[str, bool]:
        inner = "SELECT count(*) FROM ticket_lines l WHERE l.ticket_id = t.id"
        return f"SELECT t.id, ({inner}) AS n FROM tickets t WHERE {self.tree('t')}", False


def differing(connections: list[Connection], full: duckdb.DuckDBPyConnection, seed: int, count: int) -> list[str]:
    """The statements whose results differ from those of the same data in full."""
    maker, wrong = Maker(seed), []
    for number in range(count):
        text, parameters, ordered = maker.statement()
        plain = _plain_names(text)
        try:
            wanted = full.execute(plain, parameters).fetchall()
        except duckdb.Error as error:
            raise AssertionError(f"seed {seed} makes a wrong statement: {text}: {error}") from error
        connection = connections[number % len(connections)]
        try:
            found = connection.execute(text, parameters).fetchall()
        except sql.Error as error:
            wrong.append(f"seed {seed} statement {number}: {text} {parameters}: {type(error).__name__}: {error}")
            continue
        if not same(found, wanted, ordered=ordered):
            wrong.append(f"seed {seed} statement {number}: {text} {parameters}: {len(found)} rows, not {len(wanted)}")
    return wrong


def _plain_names(text: str) -> str:
    """The statement as the full data understand it: in the tables' own spelling."""
    for column, spellings in {
        **SPELLINGS,
        "ticket_id": ["TicketID"],
        "double_amount": ["DoubleAmount"],
        "ticket_lines": ["TicketLines"],
    }.items():
        for one in spellings:
            if one.lower() != column:
                text = text.replace(one, column)
    return text


@pytest.fixture
def connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Connection]]:
    with desk_place(tmp_path, monkeypatch):
        # Most with a cache: it saves the time of the requests, and is to be tried, too.
        made = [sql.connect(source="desk", timezone="Asia/Tokyo", cache_seconds=s) for s in (3600, 3600, 3600, 0)]
        yield made
        for one in made:
            one.close()


@pytest.mark.one_in(10)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_statements_give_what_the_full_data_give(connections: list[Connection], seed: int) -> None:
    full = in_full(connections[0], TABLES, "Asia/Tokyo")
    full.execute("SET search_path = 'desk'")
    assert differing(connections, full, seed, STATEMENTS) == []


def main(seed: int, count: int) -> int:
    """Run statements; print what differs. Each thousand has a seed of its own."""
    failed = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
        desk_place(Path(folder), patch),
    ):
        made = [sql.connect(source="desk", timezone="Asia/Tokyo", cache_seconds=s) for s in (3600, 3600, 3600, 0)]
        full = in_full(made[0], TABLES, "Asia/Tokyo")
        full.execute("SET search_path = 'desk'")
        for number in range(-(-count // 1000)):
            wrong = differing(made, full, seed + number, min(1000, count - 1000 * number))
            failed += len(wrong)
            print("\n".join(wrong) if wrong else f"seed {seed + number}: none differs", flush=True)
        for one in made:
            one.close()
    print(f"{count} statements from seed {seed}: {failed} wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
