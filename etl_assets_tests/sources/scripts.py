"""Seeded scripts of what may happen to the rows of a stream, at the vendor and here; at the end tables are the truth.

A script owns a handful of rows. From its seed follow: which rows there are, how they are inserted, edited, moved to
other days, deleted, and which of that happens between two pages of a running load. As at a real vendor many such
histories go on at once: `TOGETHER` scripts with consecutive seeds share a world, its pages and its tables. The first of
their seeds decides what is loaded when: some days, repeated, in random order, and the others again from older files.

After each load from the API: what nobody touched meanwhile was read. After each load from files: nothing went back. At
the end, all days loaded in random order: parents, children and deletion marks are exactly the truth. How that goes for
one source is its `Player`.

Play scripts again by `scripts.py SOURCE FIRST [LAST]`: a failing world, or one script alone, with all that happens.
"""

import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from etl_assets_tests.sources.truth import Lab, Row, day, lab

TOGETHER = 20
DAYS = [day(5), day(6), day(9)]  # two that touch, and one that no widened window of theirs reaches
_ROUNDS = 4
_PAGE = 6  # rows
_LAST_TURN = 3  # of pages after which rows change within a load; each may cost one more reading of a list
_EDGES = (0, 1, 86_399)

Change = tuple[str, Row]
"""What is done with a row (`insert`, `update`, `delete`, or the vendor's own), and the row as the control takes it."""


@dataclass
class Player:
    """How scripts play on one stream of a source."""

    stream: str
    vendor: ClassVar[str]
    zone: ClassVar[str]
    mark: ClassVar[str] = "remark"
    """The field of a row that says whose it is: `<seed>/<number>`, and a letter more with every edit."""
    key: str = "id"
    action: str = ""
    more: Row = field(default_factory=dict)
    """What the control's action takes besides the rows."""
    days: ClassVar[int] = 0
    children: Sequence[str] = ()

    def slim(self, tree: Row) -> None:
        """Cut the stream file down to what is played with, and to small pages."""
        raise NotImplementedError

    def begin(self, x: Lab) -> None:
        """Make the world small."""

    def truth(self, x: Lab, on: date) -> list[Row]:
        """The true rows of a day."""
        raise NotImplementedError

    def new(self, rng: random.Random, mark: str, moment: datetime) -> Change:
        """A new row."""
        raise NotImplementedError

    def edit(self, rng: random.Random, row: Row, moment: datetime | None) -> Change:
        """An edit of a row, which thereby moves to another moment, if one is given."""
        raise NotImplementedError

    def delete(self, rng: random.Random, row: Row) -> Change:
        """The end of a row."""
        return "delete", row[self.key]

    def may_happen_within(self, change: str, of: date | None, to: date | None, loading: date) -> bool:
        """Whether such a change can happen between two pages of the day that is loading, and costs no other row.

        `of` and `to` are the days of the row before and after it.
        """
        return True

    def moment(self, row: Row) -> datetime | None:
        """When a row was changed last: a later change has a later moment. None where rows move to any day."""
        return None

    def changed(self, row: Row) -> str:
        """The row's mark after one more edit."""
        return f"{row[self.mark]}x"

    def apply(self, x: Lab, changes: Iterable[Change], **after: Any) -> None:
        """Make changes at the vendor, all at once."""
        lists = defaultdict(list)
        for kind, row in changes:
            lists[kind].append(row)
        if lists:
            x.sandbox.change(self.action, **self.more, **lists, **after)

    def path(self, x: Lab) -> str:
        """The path of the requests between which rows change."""
        return x.stream(self.stream).path

    def loads(self, rng: random.Random) -> list[tuple[str, date | None]]:
        """What is loaded in one round, with repetitions."""
        return [(self.stream, rng.choice(DAYS)) for _ in range(rng.randint(1, 2))]

    def everything(self) -> list[tuple[str, date | None]]:
        """All that must be loaded for the tables to be true."""
        return [(self.stream, on) for on in DAYS]

    def assert_true(self, x: Lab, seen: set[Any]) -> None:
        """The tables are the truth. `seen` are the keys of all rows that were ever read."""
        raise NotImplementedError


def play(player: Player, seeds: Sequence[int], folder: Path, say: Callable[[str], None]) -> None:
    """Play the scripts of these seeds in one world. Raises AssertionError where something is not as it should be."""
    common = random.Random(f"{player.vendor} {seeds[0] // TOGETHER}")
    scripts = {seed: random.Random(f"{player.vendor} {seed}") for seed in seeds}
    with lab(player.vendor, folder, days=player.days or 0, scale=0.01, change=player.slim) as x:
        player.begin(x)
        seen: set[Any] = set()
        first = [(seed, *_new(player, rng, seed)) for seed, rng in scripts.items() for _ in range(rng.randint(0, 4))]
        _do(player, x, first, say)
        for number in range(_ROUNDS):
            if number:
                _do(player, x, _drawn(player, scripts, _rows(player, x), None), say)
            loads = player.loads(common)
            older = [(player.stream, on) for on in DAYS if number and (player.stream, on) not in loads]
            for stream, on in common.sample(loads + older, len(loads + older)):
                _load(player, x, scripts, stream, on, seen=seen, from_files=(stream, on) in older, say=say)
        _do(player, x, _drawn(player, scripts, _rows(player, x), None), say)
        last = player.everything()
        common.shuffle(last)
        for stream, on in last:
            _load(player, x, None, stream, on, seen=seen, from_files=False, say=say)
        say("the end")
        player.assert_true(x, seen)


def _load(
    player: Player,
    x: Lab,
    scripts: dict[int, random.Random] | None,
    stream: str,
    on: date | None,
    *,
    seen: set[Any],
    from_files: bool,
    say: Callable[[str], None],
) -> None:
    """Load a stream and day, from the API or from its files; with `scripts` rows change between pages."""
    if from_files and on and x.pipeline.folder("raw", x.source, x.stream(stream), x.window(stream, on)).path.exists():
        say(f"load {stream} {on} from files")
        held = _held(player, x)
        _load_all(player, x, stream, on)
        _assert_nothing_went_back(player, x, held)
        return
    say(f"load {stream} {on or ''}")
    if stream != player.stream or on is None:
        x.run(stream, on)
        return
    before = {row[player.key]: row for row in player.truth(x, on)}
    if scripts:
        _do(player, x, _drawn(player, scripts, _rows(player, x), on), say, within=player.path(x))
    column = x.stream(stream).key[0]
    paths = next(paths for name, paths, _ in x.stream(stream).field_columns() if name == column)
    read = [next(row[path] for path in paths if path in row) for row in x.extract(stream, on)]
    if scripts:
        x.sandbox.forget_changes()
    after = {row[player.key]: row for row in player.truth(x, on)}
    untouched = {key for key, row in before.items() if after.get(key) == row}
    assert untouched <= set(read), f"{on}: not read, though nobody touched them: {untouched - set(read)}"
    seen.update(key for key in read if key in before or key in after)
    _load_all(player, x, stream, on)


def _load_all(player: Player, x: Lab, stream: str, on: date) -> None:
    for name in (stream, *(player.children if stream == player.stream else ())):
        x.load(name, on)


def _held(player: Player, x: Lab) -> dict[Any, tuple[datetime, bool]]:
    """Version of each row of the table, and whether it is marked as deleted."""
    stream = x.stream(player.stream)
    if stream.mode != "merge":
        return {}
    marked = "_deleted_at IS NOT NULL" if stream.sweep else "false"
    found = x.sql(f"SELECT {stream.key[0]}, {stream.version_column}, {marked} FROM {x.name}.{stream.name}")
    return {key: (version, gone) for key, version, gone in found}


def _assert_nothing_went_back(player: Player, x: Lab, before: dict[Any, tuple[datetime, bool]]) -> None:
    """Older files bring back no older version, no deleted row, and no line of another version than its parent's."""
    after = _held(player, x)
    back = [key for key in before.keys() & after.keys() if after[key] < before[key] and after[key][0] <= before[key][0]]
    assert back == [], "rows that went back"
    for child in player.children:
        of = x.stream(child).of
        assert of
        same = " AND ".join(f"child.{name} = parent.{taken}" for name, taken in of.stamp.items())
        alone = f"SELECT count(*) FROM {x.name}.{child} AS child ANTI JOIN {x.name}.{player.stream} AS parent ON {same}"
        assert x.sql(alone) == [(0,)], f"rows of {child} without their parent"


def _rows(player: Player, x: Lab) -> dict[int, list[tuple[date, Row]]]:
    """The rows of each script, with their days."""
    found = defaultdict(list)
    for on in DAYS:
        for row in player.truth(x, on):
            found[int(row[player.mark].split("/")[0])].append((on, row))
    return found


def _new(player: Player, rng: random.Random, seed: int) -> tuple[str, Change]:
    on = rng.choice(DAYS)
    moment = _moment(player, rng, on)
    return f"insert at {moment:%d %H:%M:%S}", player.new(rng, f"{seed}/{rng.randrange(1000)}", moment)


def _drawn(
    player: Player, scripts: dict[int, random.Random], rows: dict[int, list[tuple[date, Row]]], loading: date | None
) -> list[tuple[int, str, Change]]:
    """What each script does now, or while that day is loading: seed, words and change. No row changes twice."""
    drawn = []
    for seed, rng in scripts.items():
        own = sorted(rows[seed], key=lambda dated: str(dated[1][player.key]))
        rng.shuffle(own)
        own.sort(key=lambda dated: dated[0] == loading)  # so that these are taken first
        for _ in range(rng.choice((0, 1, 2) if loading is None else (0, 0, 1))):
            kind = rng.choices(("insert", "edit", "move", "delete"), (2, 3, 3, 2))[0]
            if kind != "insert" and not own:
                continue
            of, row = own.pop() if kind != "insert" else (None, {})
            moment = _moment(player, rng, rng.choice(DAYS)) if kind in ("insert", "move") else None
            if kind == "move" and moment and (before := player.moment(row)):
                moment = moment if moment > before else _end(player)
                kind, moment = ("move", moment) if moment > before else ("edit", None)
            to = moment.date() if moment else of if kind == "edit" else None
            if loading and not player.may_happen_within(kind, of, to, loading):
                continue
            what = f"{kind} {row.get(player.mark, '')} {of or ''} {moment or ''}".strip()
            if kind == "insert":
                assert moment
                drawn.append((seed, what, player.new(rng, f"{seed}/{rng.randrange(1000)}", moment)))
            elif kind == "delete":
                drawn.append((seed, what, player.delete(rng, row)))
            else:
                drawn.append((seed, what, player.edit(rng, row, moment if kind == "move" else None)))
    return drawn


def _do(
    player: Player, x: Lab, drawn: list[tuple[int, str, Change]], say: Callable[[str], None], within: str | None = None
) -> None:
    """Make the changes now, or each after one of the next answers from a path."""
    turns = defaultdict(list)
    for seed, what, change in drawn:
        turn = 1 + seed % _LAST_TURN if within else 0
        say(f"  {seed}: {what}" + (f", after page {turn}" if turn else ""))
        turns[turn].append(change)
    for turn, changes in turns.items():
        player.apply(x, changes, **({"after": {"path": within, "count": turn}} if turn else {}))


def _moment(player: Player, rng: random.Random, on: date) -> datetime:
    second = rng.choice(_EDGES) if rng.random() < 0.2 else rng.randrange(86_400)
    # The wall clock: no zone here changes its offset.
    return datetime(on.year, on.month, on.day, tzinfo=ZoneInfo(player.zone)) + timedelta(seconds=second)


def _end(player: Player) -> datetime:
    last = DAYS[-1]
    return datetime(last.year, last.month, last.day, 23, 59, 59, tzinfo=ZoneInfo(player.zone))


def _cut(tree: Row, columns: dict[str, Sequence[str]], paging: Callable[[str, Row], None] | None = None) -> None:
    """Only these streams and columns, and no undeclared fields."""
    tree["streams"] = [one for one in tree["streams"] if one["name"] in columns]
    for one in tree["streams"]:
        one["columns"] = {name: kind for name, kind in one["columns"].items() if name in columns[one["name"]]}
        one.pop("query", None)  # it speaks of columns that are gone
        one["extra"] = "drop"
        for name in ("derived", "local", "known"):
            one.pop(name, None)
        if of := one.get("of"):
            of["stamp"] = {name: taken for name, taken in of["stamp"].items() if name in one["columns"]}
        if paging:
            paging(one["name"], one)
    tree.pop("check", None)


class TMetric(Player):
    """Entries of four members; no list has pages, but rows change between the requests for two members."""

    vendor, zone, mark = "tmetric", "Asia/Tokyo", "note"
    members = (700, 706, 707, 719)  # the last one in New York

    def slim(self, tree: Row) -> None:
        members, statuses = ("id", "name"), ("user.id", "timeZone.id")
        entries = ("id", "startTime", "endTime", "user.id", "user.name", "user_time_zone", "note")
        _cut(tree, {"members": members, "member_statuses": statuses, "time_entries": entries})
        tree["limits"]["parallel"] = 1  # or else another order of requests each time

    def begin(self, x: Lab) -> None:
        others = [row["id"] for row in x.sandbox.truth(stream="members") if row["id"] not in self.members]
        x.sandbox.change("members", delete=others)

    def path(self, x: Lab) -> str:
        return "/timeentries"

    def truth(self, x: Lab, on: date) -> list[Row]:
        return x.sandbox.truth(day=on.isoformat())

    def new(self, rng: random.Random, mark: str, moment: datetime) -> Change:
        return "insert", {"user_id": rng.choice(self.members), "note": mark, **self._times(rng, moment)}

    def edit(self, rng: random.Random, row: Row, moment: datetime | None) -> Change:
        other = {"user_id": rng.choice(self.members)} if rng.random() < 0.2 else {}
        times = self._times(rng, moment) if moment else {}
        return "update", {"id": row["id"], "note": self.changed(row), **other, **times}

    def _times(self, rng: random.Random, moment: datetime) -> Row:
        end = None if rng.random() < 0.2 else (moment + timedelta(minutes=rng.randrange(600))).isoformat()
        return {"start_utc": moment.isoformat(), "end_utc": end}

    def may_happen_within(self, change: str, of: date | None, to: date | None, loading: date) -> bool:
        return change != "edit"  # a user's entry that becomes another's in between is read twice or not at all

    def assert_true(self, x: Lab, seen: set[Any]) -> None:
        rows = [row for on in DAYS for row in self.truth(x, on)]
        names = {"start_time": "start_utc", "end_time": "end_utc"}
        x.assert_true("time_entries", rows, names=names, unknown=["user_time_zone"])


class Fxiaoke(Player):
    """Rows of an object, read in the order of their ids."""

    vendor, zone, mark = "fxiaoke", "Asia/Shanghai", "name"

    def slim(self, tree: Row) -> None:
        _cut(tree, {self.stream: ("_id", "name", "create_time", "last_modified_time", "version")})
        tree["defaults"]["paging"]["size"] = _PAGE
        tree["defaults"].pop("known")

    def truth(self, x: Lab, on: date) -> list[Row]:
        return x.sandbox.truth(stream=self.stream, day=on.isoformat())

    def new(self, rng: random.Random, mark: str, moment: datetime) -> Change:
        then = int(moment.timestamp() * 1000) + rng.choice((0, 0, 999))
        return "insert", {"name": mark, "create_time": then, "last_modified_time": then}

    def edit(self, rng: random.Random, row: Row, moment: datetime | None) -> Change:
        then = int(moment.timestamp() * 1000) if moment else row["last_modified_time"]
        return "update", {"_id": row["_id"], "name": self.changed(row), "last_modified_time": then}

    def moment(self, row: Row) -> datetime | None:
        return datetime.fromtimestamp(row["last_modified_time"] // 1000, ZoneInfo(self.zone))

    def delete(self, rng: random.Random, row: Row) -> Change:
        return rng.choice(("delete", "invalidate")), row["_id"]

    def assert_true(self, x: Lab, seen: set[Any]) -> None:
        x.assert_true(self.stream, [row for on in DAYS for row in self.truth(x, on)])


class Jushuitan(Player):
    """Rows of a table, some with lines in a table of their own."""

    vendor, zone = "jushuitan", "Asia/Shanghai"
    items: ClassVar[dict[str, tuple[str, str]]] = {
        "orders": ("order_items", "oi_id"),
        "outbound": ("outbound_items", "ioi_id"),
        "refunds": ("refund_items", "asi_id"),
    }
    versioned: ClassVar[set[str]] = {"orders", "outbound", "refunds", "aftersale_received"}

    texts: ClassVar[dict[str, str]] = {
        "aftersale_received": "aftersale_remark",
        "purchases": "labels",
        "refunds": "question_type",
    }

    @property
    def text(self) -> str:
        """The column in which a row is marked."""
        return self.texts.get(self.stream, "remark")

    def slim(self, tree: Row) -> None:
        columns: dict[str, Sequence[str]] = {self.stream: (self.key, self.text, "modified", "items", "ts", "status")}
        if self.stream in self.items:
            child, item = self.items[self.stream]
            columns[child] = (item, self.key, "modified", "sku_id", "qty")
        _cut(tree, columns, self._small)

    def _small(self, name: str, one: Row) -> None:
        if "of" not in one:
            usual = {"type": "page", "more": "data.has_next", "count": "data.data_count"}
            one["paging"] = {**one.get("paging", usual), "size": _PAGE}

    def truth(self, x: Lab, on: date) -> list[Row]:
        rows = x.sandbox.truth(stream=self.action, day=on.isoformat())
        return [{**row, "remark": row[self.text]} for row in rows if row[self.text].partition("/")[1]]

    def new(self, rng: random.Random, mark: str, moment: datetime) -> Change:
        own: Row = {"sku_id": f"S{mark}-{rng.randrange(10**6)}"} if self.key == "sku_id" else {}
        if self.stream == "purchase_ins":
            own["status"] = rng.choice(("Confirmed", "Cancelled"))
        items = {"items": self._lines(rng)} if self.stream in self.items else {}
        return "insert", {**own, self.text: mark, "modified": f"{moment:%Y-%m-%d %H:%M:%S}", **items}

    def edit(self, rng: random.Random, row: Row, moment: datetime | None) -> Change:
        items = {"items": self._lines(rng)} if self.stream in self.items and rng.random() < 0.5 else {}
        then = {"modified": f"{moment:%Y-%m-%d %H:%M:%S}"} if moment else {}
        if self.stream == "skus":  # known to the vendor by another key: this one may change
            renamed = {"sku_id": f"{row['sku_id']}r"} if rng.random() < 0.3 else {}
            return "update", {"autoid": row["autoid"], self.text: self.changed(row), **then, **renamed}
        return "update", {self.key: row[self.key], self.text: self.changed(row), **then, **items}

    def delete(self, rng: random.Random, row: Row) -> Change:
        return "delete", row["autoid" if self.stream == "skus" else self.key]

    def moment(self, row: Row) -> datetime | None:
        return datetime.fromisoformat(row["modified"]).replace(tzinfo=ZoneInfo(self.zone))

    def _lines(self, rng: random.Random) -> list[Row]:
        return [{"sku_id": f"L{rng.randrange(100)}", "qty": rng.randrange(9)} for _ in range(rng.randrange(3))]

    def may_happen_within(self, change: str, of: date | None, to: date | None, loading: date) -> bool:
        # What changes now is modified now: nothing enters a day that is over. Of lists that are counted and not read by
        # version, one that loses a row while it gains another within one page is the case that no count can show.
        return self.stream in self.versioned or (of == loading and to != loading)

    def assert_true(self, x: Lab, seen: set[Any]) -> None:
        rows = [row for on in DAYS for row in self.truth(x, on)]
        x.assert_true(self.stream, rows, unknown=["items"])
        if self.stream in self.items:
            child, _ = self.items[self.stream]
            keys = {row[self.key] for row in rows}
            lines = [row for on in DAYS for row in x.sandbox.truth(stream=child, day=on.isoformat())]
            x.assert_true(child, [line for line in lines if line[self.key] in keys])


class Backlog(Player):
    """Issues with custom fields and comments; deleted ones stay, marked."""

    vendor, zone, mark, days = "backlog", "Asia/Tokyo", "summary", 1
    demo, text, number = 101, 910, 912

    def slim(self, tree: Row) -> None:
        columns = {
            "issues": ("id", "projectId", "issueKey", "summary", "status.id", "created", "updated", "customFields"),
            "issue_custom_fields": ("id", "issue_id", "updated", "fieldTypeId", "name"),
            "issue_comments": ("id", "issueId", "issue_updated", "content", "created"),
            "deleted_issues": ("id", "content.id", "created"),
            "issue_keys": ("id", "issueKey"),
        }
        _cut(tree, columns, self._small)

    def _small(self, name: str, one: Row) -> None:
        if name == "issues":
            one["paging"]["size"] = _PAGE

    def truth(self, x: Lab, on: date) -> list[Row]:
        return x.sandbox.truth(stream="issues", day=on.isoformat())

    def new(self, rng: random.Random, mark: str, moment: datetime) -> Change:
        created = moment - timedelta(hours=rng.choice((0, 0, 30, 3000)))
        times = {"created": created.isoformat(), "updated": moment.isoformat()}
        return "insert", {"project_id": self.demo, "summary": mark, "values": self._values(rng), **times}

    def edit(self, rng: random.Random, row: Row, moment: datetime | None) -> Change:
        then = {"updated": moment.isoformat()} if moment else {}
        if moment and rng.random() < 0.3:
            target = "OLD" if row["project_id"] == self.demo else "DEMO"
            return "move", {"id": row["id"], "project": target, **then}
        values = {"values": self._values(rng)} if row["project_id"] == self.demo else {}
        return "update", {"id": row["id"], "summary": self.changed(row), **values, **then}

    def moment(self, row: Row) -> datetime | None:
        return datetime.fromisoformat(row["updated"]).astimezone(ZoneInfo(self.zone))

    def _values(self, rng: random.Random) -> list[Row]:
        values = [{"field_id": self.text, "value": f"v{rng.randrange(9)}"}, {"field_id": self.number, "value": 7.5}]
        return rng.sample(values, rng.randrange(3))

    def loads(self, rng: random.Random) -> list[tuple[str, date | None]]:
        others = [("issue_comments", rng.choice(DAYS)), ("deleted_issues", None), ("issue_keys", None)]
        both = [*super().loads(rng), rng.choice(others)]
        rng.shuffle(both)
        return both

    def everything(self) -> list[tuple[str, date | None]]:
        days = [(stream, on) for stream in ("issues", "issue_comments") for on in DAYS]
        return [*days, ("deleted_issues", None), ("issue_keys", None)]

    def assert_true(self, x: Lab, seen: set[Any]) -> None:
        issues = [row for on in DAYS for row in self.truth(x, on)]
        alone = [{name: value for name, value in row.items() if name != "custom_fields"} for row in issues]
        x.assert_true("issues", alone, where="_deleted_at IS NULL", unknown=["custom_fields"])
        told = dict(x.sql("SELECT issue_id, created FROM backlog.deleted_issues"))
        marked = dict(x.sql("SELECT id, _deleted_at FROM backlog.issues WHERE _deleted_at IS NOT NULL"))
        gone = seen & {row["id"] for row in x.sandbox.truth(stream="deleted")}
        assert marked.keys() == gone, f"deleted are {gone - marked.keys()}, not {marked.keys() - gone}"
        assert marked == {key: told[key] for key in gone}, "rows are marked with another time than the one told"
        fields = [{**one, "issue_id": i["id"], "updated": i["updated"]} for i in issues for one in i["custom_fields"]]
        x.assert_true("issue_custom_fields", fields)
        updated = {row["id"]: row["updated"] for row in issues}
        comments = [row for on in DAYS for row in x.sandbox.truth(stream="comments", day=on.isoformat(), by="issue")]
        x.assert_true("issue_comments", [{**row, "issue_updated": updated[row["issue_id"]]} for row in comments])


PLAYERS: dict[str, list[Player]] = {
    "tmetric": [TMetric("time_entries", action="entries")],
    "backlog": [Backlog("issues", action="issues", children=["issue_custom_fields"])],
    "jushuitan": [
        Jushuitan("orders", key="o_id", action="orders", children=["order_items"]),
        Jushuitan("outbound", key="io_id", action="outbounds", children=["outbound_items"]),
        Jushuitan("refunds", key="as_id", action="refunds", children=["refund_items"]),
        Jushuitan("aftersale_received", key="io_id", action="received"),
        Jushuitan("skus", key="sku_id", action="skus"),
        Jushuitan("combine_skus", key="sku_id", action="combine_skus"),
        Jushuitan("suppliers", key="supplier_id", action="suppliers"),
        Jushuitan("purchases", key="po_id", action="purchases"),
        Jushuitan("purchase_ins", key="io_id", action="purchaseins"),
    ],
    "fxiaoke": [
        Fxiaoke(stream, key="_id", action="rows", more={"object": name})
        for stream, name in {
            "accounts": "AccountObj",
            "contacts": "ContactObj",
            "sales_orders": "SalesOrderObj",
            "products": "ProductObj",
            "personnel": "PersonnelObj",
            "departments": "DepartmentObj",
            "inventory_reports": "object_inventory_report__c",
        }.items()
    ],
}


def player_of(source: str, seed: int) -> Player:
    """Who plays the script of this seed: the streams of a source take turns."""
    players = PLAYERS[source]
    return players[seed // TOGETHER % len(players)]


if __name__ == "__main__":
    name, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[-1])
    with tempfile.TemporaryDirectory() as place:
        play(player_of(name, first), range(first, last + 1), Path(place), print)
