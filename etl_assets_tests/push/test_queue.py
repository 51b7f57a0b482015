"""`etl-assets queue`: what it shows, and what it changes."""

import json

import pytest
from click.testing import CliRunner, Result

from etl_assets.cli import main
from etl_assets_tests.push.place import Place, Row, document, things

ROWS = things(6)
PUSH = "depot/things"


def queue(*line: str) -> Result:
    return CliRunner().invoke(main, ["queue", *line])


@pytest.fixture
def troubled(place: Place) -> Place:
    """t01 and t02 are dead, t03 has failed once, t04 has no id, and of t05 and t06 nothing is known."""
    place.declare(service={"limits": {"parallel": 1}})
    place.fill([*ROWS[:3], {"id": None, "name": "no id", "qty": 1}])
    place.sandbox.change("refuse", ids=["t01", "t02"], code=4002, message="closed", times=1)
    place.sandbox.change("refuse", ids=["t03"], message="busy\nagain " + "later " * 30, times=1)
    place.run()
    place.sandbox.fault(path="/batch", reset=True)
    place.fill([*ROWS, {"id": None, "name": "no id", "qty": 1}])
    place.sandbox.change("refuse", ids=["t03"], message="busy\nagain " + "later " * 30, times=1)
    place.run()
    return place


def test_the_queue_is_listed_with_the_reasons(troubled: Place) -> None:
    said = queue("list")
    assert said.exit_code == 0
    lines = [line.split() for line in said.output.splitlines()[2:]]
    assert [(line[0], line[1], line[2]) for line in lines if line[1] != "(no"] == [
        (PUSH, "t01", "dead"),
        (PUSH, "t02", "dead"),
        (PUSH, "t03", "pending"),
        *((PUSH, f"t0{n}", "unknown") for n in (4, 5, 6)),
    ]
    assert "error code 4002: closed" in said.output
    assert "the row has no id: id is NULL" in said.output
    assert max(map(len, said.output.splitlines())) < 180


def test_a_state_or_a_push_is_chosen(troubled: Place) -> None:
    assert [line.split()[1] for line in queue("list", PUSH, "--state", "unknown").output.splitlines()[2:]] == [
        "t04",
        "t05",
        "t06",
    ]
    assert len(queue("list", "--limit", "2").output.splitlines()) == 4
    assert queue("list", "--state", "dropped").output == "nothing is queued\n"


def test_a_line_of_json_has_the_document_and_the_last_answer(troubled: Place) -> None:
    found: dict[str, Row] = {
        line["record_id"]: line for line in map(json.loads, queue("list", "--json").output.splitlines())
    }
    assert found["t01"]["document"] == document(ROWS[0])
    assert json.loads(found["t01"]["answer"]) == {"id": "t01", "code": 4002, "message": "closed"}
    assert found["t04"]["reason"].startswith("POST /v1/things/batch: no whole answer")


def test_dead_letters_are_sent_again_by_the_next_run(troubled: Place) -> None:
    said = queue("retry", PUSH, "t01")
    assert (said.exit_code, said.output) == (0, "1 to be sent by the next run\n")
    troubled.run()
    assert "t01" in troubled.contents()
    assert "t02" not in troubled.contents()


def test_all_dead_and_unknown_records_are_sent_again(troubled: Place) -> None:
    assert queue("retry", PUSH).output == "5 to be sent by the next run\n"
    troubled.run()
    assert troubled.contents() == {row["id"]: document(row) for row in ROWS}


def test_a_dropped_record_is_not_sent_until_its_row_changes(troubled: Place) -> None:
    assert queue("drop", PUSH, "t01", "t04").output == "2 dropped\n"
    troubled.run()
    assert {"t01", "t04"}.isdisjoint(troubled.contents())
    troubled.fill([{**ROWS[0], "qty": 7}, *ROWS[1:]])
    troubled.run()
    assert troubled.contents()["t01"]["size"] == {"qty": 7}
    assert queue("retry", PUSH, "t04").exit_code == 0
    troubled.run()
    assert "t04" in troubled.contents()


@pytest.mark.parametrize("command", ["retry", "drop"])
def test_a_row_that_changes_back_is_sent_where_the_target_may_hold_something_else(place: Place, command: str) -> None:
    place.fill(ROWS[:1])
    place.run()
    place.sandbox.fault(path="/batch", reset=True, handled=True)
    place.fill([{**ROWS[0], "qty": 100}])
    place.run()
    assert queue(command, PUSH, "t01").exit_code == 0
    place.fill(ROWS[:1])
    assert place.run().written == 1
    assert place.contents() == {"t01": document(ROWS[0])}


def test_everything_can_be_dropped_at_once(troubled: Place) -> None:
    assert queue("drop", PUSH, "--all").output == "6 dropped\n"
    assert troubled.run().dead == 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("list", "depot/nothing"), "no push 'depot/nothing'; declared: depot/things"),
        (("retry", "depot"), "no push 'depot'; declared: depot/things"),
        (("retry", PUSH, "t99"), "the others are not in the queue"),
        (("drop", PUSH), "name the records, or say --all"),
        (("drop", PUSH, "t01", "--all"), "name the records, or say --all"),
    ],
)
def test_what_makes_no_sense_is_refused(place: Place, line: tuple[str, ...], says: str) -> None:
    said = queue(*line)
    assert said.exit_code == 1
    assert says in said.output


def test_a_record_without_a_document_cannot_be_sent(troubled: Place) -> None:
    (nameless,) = [record_id for record_id in troubled.ledger() if record_id.startswith("(no id)")]
    said = queue("retry", PUSH, nameless)
    assert (said.exit_code, said.output.splitlines()[0]) == (1, "0 to be sent by the next run")


def test_a_queue_that_never_ran_is_empty(place: Place) -> None:
    assert queue("list").output == "nothing is queued\n"
    assert not (place.data / "push").exists()
