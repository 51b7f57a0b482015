"""Runs of a push against the simulated target: what is sent, what is not, and what becomes of failures."""

import logging
import threading
from typing import Any

import pytest

from etl_assets.errors import ApiError, ApiUnavailable, FinalError, SettingError
from etl_assets_tests.push.place import DECIDED_BY, KEY, LOOK_UP, THINGS, UPDATE, Place, Row, document, things

ROWS = things(10)
DECIDERS = pytest.mark.parametrize("decider", DECIDED_BY)


def expected(rows: list[Row]) -> dict[str, Row]:
    return {row["id"]: document(row) for row in rows}


def edited(rows: list[Row], *ids: str) -> list[Row]:
    return [{**row, "name": f"{row['name']}, new"} if row["id"] in ids else row for row in rows]


def without(rows: list[Row], *ids: str) -> list[Row]:
    return [row for row in rows if row["id"] not in ids]


# What is sent


def test_every_row_is_sent_once_and_the_ledger_knows_it(place: Place) -> None:
    place.fill(ROWS)
    done = place.run()
    assert (done.written, done.unchanged, done.refused, done.dead) == (10, 0, 0, 0)
    assert place.contents() == expected(ROWS)
    assert set(place.writes().values()) == {1}
    assert place.sandbox.count("/batch") == 3  # of 4, 4 and 2
    ids = {row["ref"]: str(row["id"]) for row in place.there()}
    for record_id, entry in place.ledger().items():
        assert (entry["state"], entry["attempts"], entry["document"], entry["reason"]) == ("sent", 1, None, None)
        assert entry["confirmed"] == entry["content"]
        assert entry["target_id"] == ids[record_id]
        assert f'"id":"{record_id}"' in entry["answer"]


def test_what_has_not_changed_is_not_sent_again(place: Place) -> None:
    place.fill(ROWS)
    place.run()
    place.sandbox.clear_log()
    done = place.run()
    assert (done.written, done.unchanged, done.requests) == (0, 10, 0)
    assert place.sandbox.count() == 0


def test_only_what_has_changed_is_sent(place: Place) -> None:
    place.fill(ROWS)
    place.run()
    changed = [*edited(ROWS, "t02", "t07"), {"id": "new", "name": "新", "qty": 0}]
    place.fill(changed)
    done = place.run()
    assert (done.written, done.unchanged) == (3, 8)
    assert place.contents() == expected(changed)
    assert place.writes() == {**dict.fromkeys(expected(changed), 1), "t02": 2, "t07": 2}


def test_a_column_that_no_field_takes_makes_no_difference(place: Place) -> None:
    place.fill(ROWS)
    place.run()
    place.execute("ALTER TABLE demo.things ADD COLUMN seen TIMESTAMP", "UPDATE demo.things SET seen = now()")
    assert place.run().written == 0


def test_a_change_of_the_mapping_is_a_change_of_the_rows(place: Place) -> None:
    place.fill(ROWS)
    place.run()
    place.declare(fields={**THINGS["fields"], "unit": {"value": "pcs"}})
    assert place.run().written == 10
    assert {content["unit"] for content in place.contents().values()} == {"pcs"}


def test_a_row_that_changes_back_before_it_was_sent_is_not_sent(place: Place) -> None:
    place.fill(ROWS)
    place.run()
    place.sandbox.change("refuse", ids=["t01"], times=-1)
    place.fill(edited(ROWS, "t01"))
    place.run()
    assert place.states()["t01"] == "pending"
    place.fill(ROWS)
    done = place.run()
    assert (done.written, done.unchanged) == (0, 10)
    assert set(place.writes().values()) == {1}


# Rows that are gone


def test_the_record_of_a_removed_row_stays_unless_it_is_to_be_deleted(place: Place) -> None:
    place.fill(ROWS)
    place.run()
    place.fill(without(ROWS, "t03"))
    assert place.run().deleted == 0
    assert "t03" in place.contents()
    assert place.states()["t03"] == "sent"


def test_the_record_of_a_removed_row_is_deleted_once_where_that_is_declared(place: Place) -> None:
    place.declare(removed="delete")
    place.fill(ROWS)
    place.run()
    left = without(ROWS, "t03", "t09")
    place.fill(left)
    assert place.run().deleted == 2
    assert place.contents() == expected(left)
    assert place.states() == {row["id"]: "deleted" if row["id"] in ("t03", "t09") else "sent" for row in ROWS}
    place.sandbox.clear_log()
    assert place.run().deleted == 0
    assert place.sandbox.count() == 0


def test_a_row_that_comes_back_is_written_again(place: Place) -> None:
    place.declare(removed="delete")
    for rows in (ROWS, without(ROWS, "t03"), ROWS):
        place.fill(rows)
        place.run()
    assert place.contents() == expected(ROWS)
    assert place.states()["t03"] == "sent"


def test_a_row_that_never_reached_the_target_is_forgotten_when_it_is_gone(place: Place) -> None:
    place.declare(removed="delete")
    place.sandbox.change("refuse", ids=["t03"], times=-1)
    place.fill(ROWS)
    place.run()
    place.fill(without(ROWS, "t03"))
    assert place.run().deleted == 0
    assert "t03" not in place.states()
    assert place.sandbox.count("/remove") == 0


def test_an_empty_table_does_not_empty_the_target(place: Place) -> None:
    place.declare(removed="delete")
    place.fill(ROWS)
    place.run()
    place.fill([])
    with pytest.raises(FinalError, match=r"10 of 10 records would be deleted .*removed\.at_most"):
        place.run()
    assert place.contents() == expected(ROWS)
    place.declare(removed={"action": "delete", "at_most": 1.0})
    assert place.run().deleted == 10
    assert place.contents() == {}


# Rows that are refused


def test_a_refused_row_does_not_hold_up_the_others_and_is_sent_again_by_the_next_run(place: Place) -> None:
    place.sandbox.change("refuse", ids=["t02"], message="price list is closed")
    place.fill(ROWS)
    done = place.run()
    assert (done.written, done.refused, done.dead) == (9, 1, 0)
    entry = place.ledger()["t02"]
    assert (entry["state"], entry["attempts"]) == ("pending", 1)
    assert entry["reason"] == "error code 4001: price list is closed"
    assert place.run().written == 1
    assert place.contents() == expected(ROWS)


def test_after_its_attempts_a_refused_row_is_a_dead_letter_until_it_changes(place: Place) -> None:
    place.sandbox.change("refuse", ids=["t02"], times=3)
    place.fill(ROWS)
    assert [place.run().dead for _ in range(4)] == [0, 0, 1, 1]
    assert (place.ledger()["t02"]["attempts"], place.sandbox.count("/batch")) == (3, 3 + 2)
    place.fill(edited(ROWS, "t02"))
    assert place.run().written == 1
    assert place.ledger()["t02"]["state"] == "sent"


def test_a_final_code_is_a_dead_letter_at_once(place: Place) -> None:
    place.sandbox.change("refuse", ids=["t02"], code=4002, times=-1)
    place.fill(ROWS)
    assert place.run().dead == 1
    assert place.states()["t02"] == "dead"


def test_a_batch_that_is_refused_as_a_whole_is_split_down_to_the_row_to_blame(place: Place) -> None:
    place.sandbox.change("settings", strict=True)
    place.sandbox.change("refuse", ids=["t02"], times=-1)
    place.fill(ROWS)
    done = place.run()
    assert (done.written, done.refused) == (9, 1)
    assert place.contents() == expected(without(ROWS, "t02"))
    assert set(place.writes().values()) == {1}
    assert place.ledger()["t02"]["reason"].startswith("POST /v1/things/batch: HTTP 400")


def test_a_batch_that_is_too_large_for_the_target_is_split(place: Place) -> None:
    place.sandbox.change("settings", largest=1)
    place.fill(ROWS)
    assert place.run().written == 10
    assert set(place.writes().values()) == {1}
    assert {entry["attempts"] for entry in place.ledger().values()} == {1}


def test_a_row_without_id_or_with_the_id_of_another_is_a_dead_letter(place: Place) -> None:
    nameless: Row = {"id": None, "name": "no id", "qty": 1}
    place.fill([*ROWS, nameless, {"id": "t05", "name": "second", "qty": 2}])
    done = place.run()
    assert (done.written, done.dead) == (9, 2)
    reasons = {i: e["reason"] for i, e in place.ledger().items() if e["state"] == "dead"}
    assert reasons.pop("t05") == "2 rows have this id"
    ((record_id, reason),) = reasons.items()
    assert (record_id[:8], reason) == ("(no id) ", "the row has no id: id is NULL")
    place.fill(ROWS)
    assert (place.run().written, place.states()) == (1, dict.fromkeys(expected(ROWS), "sent"))


def test_a_row_that_does_not_fit_the_mapping_is_a_dead_letter_until_it_does(place: Place) -> None:
    place.declare(
        fields={**THINGS["fields"], "size.qty": {"column": "qty", "map": "sizes"}},
        maps={"sizes": {"values": {n: n for n in range(1, 10)}, "unmatched": "reject"}},
    )
    place.fill(ROWS)
    assert [place.run().dead for _ in range(2)] == [1, 1]
    assert place.ledger()["t10"]["reason"] == "size.qty: '10' is not in the map"
    place.declare()
    assert place.run().dead == 0
    assert place.contents() == expected(ROWS)


# The target as a whole


def test_a_target_that_is_down_costs_no_attempt(place: Place) -> None:
    place.sandbox.fault(path="/batch", status=429, times=-1)
    place.fill(ROWS)
    with pytest.raises(ApiUnavailable, match="gave up after 7 attempts"):
        place.run()
    assert {(e["state"], e["attempts"]) for e in place.ledger().values()} == {("pending", 0)}
    place.sandbox.clear_faults()
    assert place.run().written == 10
    assert set(place.writes().values()) == {1}


def test_a_wrong_address_or_right_stops_the_run_and_makes_no_dead_letters(place: Place) -> None:
    place.sandbox.fault(path="/batch", status=403, times=-1)
    place.fill(ROWS)
    for _ in range(4):
        with pytest.raises(ApiError, match="HTTP 403; rights are missing"):
            place.run()
    assert {(e["state"], e["attempts"]) for e in place.ledger().values()} == {("pending", 0)}


def test_a_missing_credential_is_told_before_anything_is_planned(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEPOT_CLIENT_SECRET")
    place.fill(ROWS)
    with pytest.raises(SettingError, match="DEPOT_CLIENT_SECRET: Ask for it"):
        place.run()
    assert place.ledger() == {}


def test_a_token_is_exchanged_once_for_all_requests_and_kept_for_the_next_run(place: Place) -> None:
    for rows in (ROWS, edited(ROWS, "t01", "t02")):
        place.fill(rows)
        place.run()
    assert (place.sandbox.count("/token"), place.sandbox.count("/batch")) == (1, 4)


def test_a_token_that_ends_between_batches_is_renewed_once(place: Place) -> None:
    place.sandbox.change("token", after={"path": "/batch"})
    place.fill(things(40))
    assert place.run().written == 40
    assert place.sandbox.count("/token") == 2
    assert set(place.writes().values()) == {1}


def test_a_busy_target_is_asked_again_where_that_is_safe(place: Place) -> None:
    place.declare(**DECIDED_BY["key"])
    place.sandbox.fault(path="/batch", status=503, times=2)
    place.fill(ROWS)
    assert place.run().written == 10
    assert set(place.writes().values()) == {1}


# Lost answers


FAULTS: dict[str, Row] = {
    "the answer is lost": {"reset": True, "handled": True},
    "the request is lost": {"reset": True},
    "error 500, though carried out": {"status": 500, "handled": True},
    "error 500": {"status": 500},
    "the answer is cut": {"cut": 20, "handled": True},
    "no JSON, though carried out": {"html": True, "handled": True},
}


@pytest.mark.one_in(2)
@DECIDERS
@pytest.mark.parametrize(("duplicates", "fault"), [("update", "the answer is lost"), *(("allow", f) for f in FAULTS)])
def test_nothing_is_lost_or_sent_twice(place: Place, decider: str, duplicates: str, fault: str) -> None:
    place.declare(**DECIDED_BY[decider])
    place.sandbox.change("settings", duplicates=duplicates, idempotency=decider in ("key", "field"))
    place.sandbox.fault(path="/batch", skip=1, **FAULTS[fault])
    place.fill(ROWS)
    done = place.run()
    states = place.states()
    carried_out = {row["id"] for row in ROWS if row["id"] in place.contents()}
    assert set(place.writes().values()) == {1}
    if decider == "nothing":
        unknown = {record_id for record_id, state in states.items() if state == "unknown"}
        assert (done.written, done.dead) == (10 - len(unknown), len(unknown))
        assert unknown >= {row["id"] for row in ROWS} - carried_out
        place.sandbox.clear_log()
        place.run()
        assert place.sandbox.count("/batch") == 0  # never silently
    else:
        assert (set(states.values()), place.contents()) == ({"sent"}, expected(ROWS))


@pytest.mark.one_in(2)
@DECIDERS
def test_a_change_whose_answer_was_lost_is_decided_as_well(place: Place, decider: str) -> None:
    place.declare(**DECIDED_BY[decider])
    place.fill(ROWS)
    place.run()
    place.sandbox.fault(path="/batch", reset=True, handled=True)
    place.sandbox.fault(path="/batch", reset=True)
    changed = edited(ROWS, *expected(ROWS))
    place.fill(changed)
    place.run()
    if decider == "nothing":
        assert sorted(place.states().values()) == ["sent"] * 2 + ["unknown"] * 8
    else:
        assert (place.contents(), set(place.states().values())) == (expected(changed), {"sent"})
        assert set(place.writes().values()) == {2}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("more", [{}, {"idempotency": {"field": "requestId"}}], ids=["", "no key without a document"])
def test_a_deletion_whose_answer_was_lost_is_looked_up(place: Place, carried_out: bool, more: Row) -> None:
    place.declare(removed="delete", look_up=LOOK_UP, **more)
    place.fill(ROWS)
    place.run()
    place.sandbox.fault(path="/remove", reset=True, handled=carried_out)
    place.fill(without(ROWS, "t01", "t02"))
    assert place.run().deleted == 2
    assert place.contents() == expected(without(ROWS, "t01", "t02"))
    assert place.sandbox.count("/remove") == (1 if carried_out else 3)  # what failed before goes alone


def test_what_changes_while_nothing_is_known_of_it_waits_for_a_decision(place: Place) -> None:
    place.sandbox.fault(path="/batch", reset=True, handled=True)
    place.fill(ROWS[:4])
    place.run()
    place.fill(edited(ROWS[:4], "t01"))
    assert place.run().dead == 4
    assert place.contents() == expected(ROWS[:4])


def test_sending_again_in_doubt_can_be_chosen(place: Place) -> None:
    place.declare(in_doubt="resend")
    place.sandbox.fault(path="/batch", reset=True, handled=True)
    place.fill(ROWS[:4])
    assert place.run().written == 4
    assert set(place.writes().values()) == {2}


def test_a_key_that_the_target_may_have_forgotten_does_not_decide(place: Place) -> None:
    place.declare(idempotency={**KEY, "valid": "0s"}, look_up=LOOK_UP)
    place.sandbox.change("settings", idempotency=False)
    place.sandbox.fault(path="/batch", reset=True, times=7)
    place.fill(ROWS[:4])
    assert place.run().written == 4
    assert place.sandbox.count("/check") == 2
    assert set(place.writes().values()) == {1}


def test_a_target_that_answers_nothing_at_all_stops_the_run_and_makes_no_dead_letters(place: Place) -> None:
    place.declare(**DECIDED_BY["look-up"])
    place.sandbox.fault(path="/batch", status=500, times=-1)
    place.fill(things(40))
    for _ in range(4):
        with pytest.raises(ApiUnavailable, match="HTTP 500"):
            place.run()
        assert set(place.states().values()) == {"pending"}
    place.sandbox.clear_faults()
    assert place.run().written == 40
    assert set(place.writes().values()) == {1}


def test_one_record_that_the_target_stumbles_over_does_not_spoil_the_others(place: Place) -> None:
    place.declare(update=UPDATE, **DECIDED_BY["look-up"])
    place.fill(ROWS)
    place.run()
    poison = place.ledger()["t03"]["target_id"]
    place.sandbox.fault(path=f"/v1/things/{poison}", status=500, times=-1)
    changed = edited(ROWS, *expected(ROWS))
    place.fill(changed)
    done = place.run()
    assert (done.written, place.states()["t03"]) == (9, "dead")
    assert place.contents() == expected([*without(changed, "t03"), ROWS[2]])


@pytest.mark.parametrize(("decider", "state"), [("nothing", "unknown"), ("key", "unknown"), ("look-up", "sent")])
def test_a_record_that_the_answer_does_not_mention_is_in_doubt(place: Place, decider: str, state: str) -> None:
    said = {"code": 0, "data": {"results": [{"id": "t01", "code": 0, "recordId": 1}]}}
    place.declare(**DECIDED_BY[decider])
    place.sandbox.fault(path="/batch", body=said, handled=True)
    place.fill(ROWS[:2])
    place.run()
    assert place.states() == {"t01": "sent", "t02": state}
    assert place.writes() == {"t01": 1, "t02": 1}


# The id check


def foreign(place: Place, **more: Any) -> None:
    """Records that the target has from somebody else: t01 as ours would be, t02 another one."""
    place.sandbox.change("foreign", kind="things", id="t01", content=document(ROWS[0]))
    place.sandbox.change("foreign", kind="things", id="t02", content={"id": "t02", "name": "theirs", **more})


def test_a_record_that_the_target_has_already_is_taken_over(place: Place) -> None:
    foreign(place)
    place.declare(id_check="update", update=UPDATE, look_up=LOOK_UP)
    place.sandbox.change("settings", duplicates="refuse")
    place.fill(ROWS)
    done = place.run()
    assert done.written == 9  # t01 is as it should be
    assert place.contents() == expected(ROWS)
    assert place.writes() == {**dict.fromkeys(expected(ROWS), 1), "t02": 2}
    assert set(place.states().values()) == {"sent"}
    ids = {row["ref"]: str(row["id"]) for row in place.there()}
    assert {record_id: entry["target_id"] for record_id, entry in place.ledger().items()} == ids
    assert place.sandbox.count("/check") == 4  # of 3, once each
    place.sandbox.clear_log()
    place.fill(edited(ROWS, "t05"))
    place.run()
    assert place.sandbox.count("/check") == 0  # what is known is not asked for


@pytest.mark.parametrize(("rule", "state"), [("skip", "dropped"), ("reject", "dead")])
def test_a_record_that_the_target_has_already_is_left_alone(place: Place, rule: str, state: str) -> None:
    foreign(place)
    place.declare(id_check=rule, look_up=LOOK_UP)
    place.fill(ROWS)
    assert place.run().written == 8
    assert {i for i, s in place.states().items() if s == state} == {"t01", "t02"}
    assert place.contents()["t02"]["name"] == "theirs"
    assert place.ledger()["t02"]["reason"] == "the target has a record of this id already"
    place.sandbox.clear_log()
    place.run()
    assert place.sandbox.count() == 0


# One record per request


def test_records_are_created_changed_and_deleted_one_by_one(place: Place) -> None:
    place.declare(
        write={"path": "/v1/things", "json": "{document}", "results": {"target_id": "data.recordId"}},
        update=UPDATE,
        delete={"method": "DELETE", "path": "/v1/things/{target_id}"},
        removed="delete",
    )
    place.sandbox.change("settings", duplicates="allow")
    place.fill(ROWS)
    assert place.run().written == 10
    changed = without(edited(ROWS, "t04"), "t06")
    place.fill(changed)
    done = place.run()
    assert (done.written, done.deleted) == (1, 1)
    assert place.contents() == expected(changed)


def test_a_record_that_somebody_has_deleted_at_the_target_stops_no_other(place: Place) -> None:
    place.declare(
        update=UPDATE, delete={"method": "DELETE", "path": "/v1/things/{target_id}"}, removed="delete", attempts=1
    )
    place.fill(ROWS)
    place.run()
    ids = {record_id: entry["target_id"] for record_id, entry in place.ledger().items()}
    for record_id in ("t01", "t02"):
        place.sandbox.fault(path=f"/v1/things/{ids[record_id]}", status=404, times=-1)
    changed = without(edited(ROWS, "t02", "t03"), "t01")
    place.fill(changed)
    done = place.run()
    assert (done.written, done.deleted, done.dead) == (1, 1, 1)
    assert place.states()["t01"] == "deleted"
    assert place.ledger()["t02"]["reason"].startswith("PUT /v1/things/{target_id}: HTTP 404")


def test_an_update_without_the_targets_id_is_told(place: Place) -> None:
    place.declare(update=UPDATE, write={**THINGS["write"], "results": {"rows": "data.results", "id": "id"}})
    place.fill(ROWS[:1])
    place.run()
    place.fill(edited(ROWS[:1], "t01"))
    assert place.run().dead == 1
    assert place.ledger()["t01"]["reason"] == "/v1/things/{target_id}: there is no value for {target_id}"


# Together


def test_runs_at_the_same_time_send_each_record_once(place: Place) -> None:
    place.fill(things(60))
    place.sandbox.fault(path="/batch", delay=0.01, times=-1)
    threads = [threading.Thread(target=place.run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert place.contents() == expected(things(60))
    assert set(place.writes().values()) == {1}


def test_no_secret_reaches_ledger_or_log(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    secret = place.env["DEPOT_CLIENT_SECRET"]
    place.sandbox.change("refuse", ids=["t01"], message=f"client {secret} may not", times=-1)
    place.fill(ROWS)
    with caplog.at_level(logging.DEBUG):
        place.run()
    assert "client *** may not" in place.ledger()["t01"]["reason"]
    assert "client *** may not" in place.ledger()["t01"]["answer"]
    written = b"".join(file.read_bytes() for file in (place.data / "push").rglob("*") if file.is_file())
    assert secret.encode() not in written
    assert secret not in caplog.text


def test_nothing_is_left_of_the_rows_that_were_read(place: Place) -> None:
    place.fill(ROWS)
    place.run()
    assert sorted(file.name for file in (place.data / "push").iterdir()) == ["depot.things.lock", "ledger.sqlite"]
