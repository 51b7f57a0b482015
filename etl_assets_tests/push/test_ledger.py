"""The ledger: how states follow each other, and a file that several hold open."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from etl_assets.errors import FinalError, RetryableError
from etl_assets.push.ledger import Change, Entry, Ledger, Outcome, planned, settled
from etl_assets.push.mapping import Wanted

NOW = "2026-01-05T00:00:00+00:00"
WANTED = Wanted("a", "new", b"{}")
UNFIT = Wanted("a", "unfit", None, "no name")


def entry(state: str, **more: Any) -> Entry:
    return Entry("depot", "things", "a", state, **{"action": "write", "content": "old", **more})  # type: ignore[arg-type]


SEND = Change("pending", "new", b"{}")
DEAD = Change("dead", "unfit", None, "no name")


@pytest.mark.parametrize(
    ("known", "wanted", "change"),
    [
        (None, WANTED, SEND),
        (None, UNFIT, DEAD),
        (entry("sent", confirmed="old"), WANTED, SEND),
        (entry("sent", confirmed="old"), UNFIT, DEAD),
        (entry("sent", content="new", confirmed="new"), WANTED, None),
        (entry("pending", content="new"), WANTED, None),
        (entry("pending"), WANTED, SEND),
        (entry("dead", content="new"), WANTED, None),
        (entry("dead"), WANTED, SEND),
        (entry("dead", content="unfit"), UNFIT, None),
        (entry("dropped", content="new"), WANTED, None),
        (entry("dropped"), WANTED, SEND),
        (entry("dead", confirmed="new"), WANTED, Change("sent", "new")),
        (entry("pending", action="delete", content="gone", confirmed="new"), WANTED, Change("sent", "new")),
        (entry("pending", action="delete", content="gone", confirmed="old"), WANTED, SEND),
        (entry("deleted", content="new"), WANTED, SEND),
        (entry("sending"), WANTED, None),
        (entry("unknown"), WANTED, None),
        (entry("unknown", confirmed="new"), WANTED, None),
    ],
)
def test_what_follows_from_what_is_wanted(known: Entry | None, wanted: Wanted, change: Change | None) -> None:
    assert planned(known, wanted) == change


SENDING = {"request": "r", "attempts": 2, "document": b"{}", "target_id": "7"}


@pytest.mark.parametrize(
    ("kind", "more", "state", "changes"),
    [
        ("done", {}, "sent", {"confirmed": "old", "document": None, "target_id": "9"}),
        ("done", {"action": "delete", "confirmed": "x"}, "deleted", {"confirmed": None, "target_id": None}),
        ("refused", {}, "pending", {"reason": "why"}),
        ("refused", {"attempts": 3}, "dead", {"reason": "why"}),
        ("absent", {}, "pending", {"attempts": 2}),
        ("absent", {"attempts": 3}, "dead", {}),
        ("final", {}, "dead", {"document": b"{}"}),
        ("released", {}, "pending", {"attempts": 1}),
        ("doubtful", {}, "sending", {"request": "r"}),
        ("unmentioned", {}, "sending", {"request": None}),
        ("undecided", {}, "unknown", {"document": b"{}", "confirmed": None}),
        ("undecided", {"confirmed": "x"}, "unknown", {"confirmed": "?"}),
        ("resend", {"confirmed": "x"}, "pending", {"confirmed": "?"}),
        ("resend", {}, "pending", {"confirmed": None}),
        ("skipped", {}, "dropped", {}),
    ],
)
def test_what_follows_from_how_a_request_ends(kind: Any, more: Any, state: str, changes: dict[str, Any]) -> None:
    after = settled(entry("sending", **{**SENDING, **more}), Outcome("a", kind, "why", "9", "said"), 3, NOW)
    assert after.state == state
    assert {name: getattr(after, name) for name in changes} == changes
    assert after.request is None or kind == "doubtful"


def test_a_record_that_failed_before_is_taken_alone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", "depot", "things", "run")
    ledger.plan([Wanted(name, "c", b"{}") for name in "abcd"])
    first = ledger.take("write", 2)
    ledger.settle(first, [Outcome(one.record_id, "absent") for one in first], 3)
    sizes = []
    while taken := ledger.take("write", 2):
        sizes.append([one.record_id for one in taken])
    assert sizes == [["c", "d"], ["a"], ["b"]]
    ledger.close()


def test_pushes_of_one_name_at_two_targets_have_nothing_to_do_with_each_other(tmp_path: Path) -> None:
    one, other = (Ledger(tmp_path / "ledger.sqlite", target, "things", "run") for target in ("depot", "store"))
    one.plan([WANTED])
    assert (one.counts(), other.counts()) == ({"pending": 1}, {})
    other.remove(delete=True)
    assert one.counts() == {"pending": 1}
    one.close()
    other.close()


def test_a_change_that_fails_half_way_is_no_change(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", "depot", "things", "run")
    ledger.plan([Wanted("a", "c", b"{}"), Wanted("b", "c", b"{}")])
    taken = ledger.take("write", 2)
    with pytest.raises(KeyError):
        ledger.settle(taken, [Outcome("a", "done"), Outcome("nobody", "done")], 3)
    assert ledger.counts() == {"sending": 2}
    ledger.close()


def test_a_full_disk_is_told_as_such_and_changes_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", "depot", "things", "run")
    ((pages,),) = ledger._db.execute("PRAGMA page_count").fetchall()
    ledger._db.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(RetryableError, match=r"ledger\.sqlite: cannot be written: database or disk is full"):
        ledger.plan([Wanted(str(n), "c", b"x" * 1000) for n in range(100)])
    assert ledger.counts() == {}
    ledger.close()


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    file.write_bytes(b"something else" * 1000)
    with pytest.raises(FinalError, match=r"ledger\.sqlite: is no ledger"):
        Ledger(file, "depot", "things", "run")


def test_the_ledger_can_be_read_with_any_sqlite(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", "depot", "things", "run-7")
    ledger.plan([WANTED])
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        row = db.execute("SELECT target, push, record_id, state, content, document, run_id FROM records").fetchone()
    assert row == ("depot", "things", "a", "pending", "new", b"{}", "run-7")
    db.close()
    ledger.close()
