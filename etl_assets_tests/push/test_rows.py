"""Where the rows come from: tables, clean files, a SELECT, reference tables; and the empty write."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from etl_assets.errors import FinalError
from etl_assets.landing import Folder, pages
from etl_assets.settings import Settings
from etl_assets_tests.data import Bench
from etl_assets_tests.push.place import Place, Row, document, things

ROWS = things(10)
LANDED: Row = {"mode": "land_only", "write": None, "delete": None}


def landed(place: Place) -> list[Row]:
    """The documents in force, by what the landing says."""
    folder = Folder(Settings.read().landing, "push", "depot", "things", None)
    manifest = folder.manifest()
    found = [row for file in folder.files(manifest) for _, body in pages(file) for row in msgspec.json.decode(body)]
    assert manifest.rows == len(found)
    return found


# The empty write


def test_the_empty_write_lands_the_documents_and_asks_nobody(place: Place) -> None:
    place.declare(**LANDED)
    place.fill(ROWS)
    done = place.run()
    assert landed(place) == [document(row) for row in ROWS]
    assert (done.written, done.unchanged, done.where) == (10, 0, str(place.data / "landing/push/depot/things/snapshot"))
    assert place.sandbox.count() == 0
    assert set(place.states().values()) == {"sent"}


def test_the_empty_write_needs_no_credential(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEPOT_CLIENT_SECRET")
    place.declare(**LANDED)
    place.fill(ROWS)
    assert place.run().written == 10


def test_the_empty_write_follows_the_rows_and_leaves_out_what_does_not_fit(place: Place) -> None:
    place.declare(**LANDED)
    place.fill(ROWS)
    place.run()
    nameless: Row = {"id": None, "name": "no id", "qty": 1}
    place.fill([{**ROWS[0], "qty": 99}, *ROWS[1:7], nameless])
    done = place.run()
    assert (done.written, done.unchanged, done.dead) == (1, 6, 1)
    assert [row["id"] for row in landed(place)] == [row["id"] for row in ROWS[:7]]
    assert sorted(place.states().values()) == ["dead"] + ["sent"] * 7
    place.fill([])
    place.run()
    assert (landed(place), place.states()) == ([], {})


def test_landing_again_gives_the_same_files(place: Place) -> None:
    place.declare(**LANDED)
    place.fill(ROWS)
    place.run()
    folder = Folder(Settings.read().landing, "push", "depot", "things", None)
    before = folder.manifest().files
    place.run()
    assert folder.manifest().files == before


# The rows


def test_several_columns_make_one_id(place: Place) -> None:
    place.declare(key=["name", "id"], **LANDED)
    place.fill(
        [
            {"id": "a/b", "name": "n", "qty": 1},
            {"id": "b", "name": "n/a", "qty": 2},
            {"id": "c", "name": None, "qty": 3},
        ]
    )
    place.run()
    states = place.states()
    assert {record_id for record_id, state in states.items() if state == "sent"} == {"n/a%2Fb", "n%2Fa/b"}
    assert list(states.values()).count("dead") == 1


def test_a_select_is_pushed(place: Place) -> None:
    place.fill(ROWS)
    sql = "SELECT id, upper(name) AS name, qty * 2.5 AS qty -- doubled and more\nFROM demo.things WHERE qty <= 2;\n"
    place.declare(**{"from": {"sql": sql}}, **LANDED)
    place.run()
    assert landed(place) == [
        {"id": "t01", "name": "品 1", "size": {"qty": 2.5}},
        {"id": "t02", "name": "品 2", "size": {"qty": 5.0}},
    ]


def test_nested_columns_arrive_as_they_are(place: Place) -> None:
    sql = """SELECT 'a' AS id, '{"x": [1, "é"]}'::JSON AS j, [1, 2] AS l, {'k': DATE '2026-01-05'} AS s,
                    123456789012345678901234567890.12::DECIMAL(38, 2) AS d"""
    place.declare(
        **{"from": {"sql": sql}},
        fields={"j": "j", "l": "l", "s": "s", "d": {"column": "d", "type": "string"}},
        **LANDED,
    )
    place.fill([])
    place.run()
    assert landed(place) == [
        {"j": {"x": [1, "é"]}, "l": [1, 2], "s": {"k": "2026-01-05"}, "d": "123456789012345678901234567890.12"}
    ]


def test_values_are_looked_up_in_reference_tables(place: Place) -> None:
    place.fill(ROWS[:4])
    place.fill(
        [
            {"id": "1", "name": "ONE", "qty": 0},
            {"id": "2", "name": "TWO", "qty": 0},
            {"id": "2", "name": "ZWEI", "qty": 0},
            {"id": "3", "name": "THREE", "qty": 0},
            {"id": "3", "name": "THREE", "qty": 0},
        ],
        table="demo.sizes",
    )
    reference = {"table": "demo.sizes", "key": "id", "value": "name"}
    place.declare(
        fields={"id": "id", "must": {"column": "qty", "lookup": "strict"}, "may": {"column": "qty", "lookup": "loose"}},
        lookups={
            "strict": {**reference, "unmatched": "reject"},
            "loose": {**reference, "unmatched": {"value": "?"}},
        },
        **LANDED,
    )
    place.run()
    assert landed(place) == [
        {"id": "t01", "must": "ONE", "may": "ONE"},
        {"id": "t03", "must": "THREE", "may": "THREE"},
    ]
    reasons = {record_id: entry["reason"] for record_id, entry in place.ledger().items() if entry["state"] == "dead"}
    assert reasons == {
        "t02": "must: '2' has 2 values in the reference table",
        "t04": "must: '4' is not in the reference table",
    }
    place.execute("DELETE FROM demo.sizes WHERE name = 'ZWEI'", "INSERT INTO demo.sizes VALUES ('4', 'FOUR', 0)")
    assert place.run().dead == 0  # a row that did not fit does so as soon as it does


@pytest.mark.parametrize(
    ("push", "says"),
    [
        ({"fields": {"id": "idd"}}, "from: there is no column 'idd'; there are: id, name, qty"),
        ({"key": ["nr"]}, "from: there is no column 'nr'"),
        ({"from": {"table": "demo.absent"}}, "Table with name absent does not exist"),
        ({"from": {"sql": "SELEC 1"}}, "syntax error"),
        ({"from": {"clean": "demo.things"}}, "from.clean: there is no stream demo.things"),
        (
            {"from": {"clean": "tmetric.time_entries"}},
            "from.clean: tmetric.time_entries comes by day; push from its table",
        ),
        (
            {
                "fields": {"id": {"column": "id", "lookup": "l"}},
                "lookups": {"l": {"table": "demo.things", "key": "id", "value": "nr", "unmatched": "reject"}},
            },
            "lookups.l: there is no column 'nr'",
        ),
    ],
)
def test_rows_that_cannot_be_read_are_an_error_and_no_empty_set(place: Place, push: dict[str, Any], says: str) -> None:
    place.fill(ROWS)
    place.declare(**LANDED)
    place.run()
    place.declare(**{**LANDED, **push})
    with pytest.raises(FinalError) as refused:
        place.run()
    assert says in str(refused.value)
    assert len(landed(place)) == 10
    assert set(place.states().values()) == {"sent"}


def test_clean_files_are_pushed_without_a_warehouse(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench.of(tmp_path / "sources", "columns: {id: string, name: string, qty: integer}")
    bench.cleaned([{"id": row["id"], "name": row["name"], "qty": row["qty"]} for row in ROWS])
    monkeypatch.setenv("ETL_LANDING", str(bench.root / "landing"))
    place.declare(**{"from": {"clean": "demo.things"}}, **LANDED)
    place.run()
    assert landed(place) == [document(row) for row in ROWS]
    assert not place.warehouse.exists()
