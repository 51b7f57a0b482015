"""TROCCO's API as methods: all lists and their changes, what PATCH takes, and variables of workflows."""

from typing import Any

import pytest

from etl_assets.errors import ApiError, FinalError
from etl_assets.trocco import variables
from etl_assets.trocco.api import Trocco, workflow_body
from etl_assets.trocco.parts import parts_text
from etl_assets_tests.trocco.place import DAY, Place, job

COLLECTIONS = [
    "job_definitions",
    "datamart_definitions",
    "pipeline_definitions",
    "users",
    "teams",
    "resource_groups",
    "labels",
]
LOOPED = {"name": "looped", "kind": "workflow", "definition": 3001, "variables": {"$day$": "{partition.date}"}}
LOOPED |= {"partitions": {"start": "2026-01-01"}}


@pytest.fixture
def trocco(place: Place) -> Any:
    with place.runner() as runner:
        yield runner.trocco


@pytest.mark.parametrize("name", COLLECTIONS)
def test_a_list_is_read_to_its_end(place: Place, trocco: Trocco, name: str) -> None:
    rows = [row["id"] for row in getattr(trocco, name).list()]
    assert rows == [row["id"] for row in place.sandbox.truth(stream=name)]


def test_a_long_list_is_read_page_by_page(place: Place, trocco: Trocco) -> None:
    for number in range(250):
        trocco.labels.create({"name": f"label {number}"})
    place.sandbox.clear_log()
    assert len({row["id"] for row in trocco.labels.list()}) == 254
    assert place.sandbox.count("/api/labels") == 3


@pytest.mark.parametrize(
    ("collection", "row"),
    [
        ("users", {"email": "new@example.com", "role": "member", "password_auto_generated": True}),
        ("datamart_definitions", {"name": "new", "data_warehouse_type": "bigquery"}),
        ("connections/bigquery", {"name": "new", "project_id": "demo", "service_account_credentials": "{}"}),
        ("labels", {"name": "new", "color": "#ffffff"}),
    ],
)
def test_a_row_is_made_read_changed_and_deleted(trocco: Trocco, collection: str, row: dict[str, Any]) -> None:
    kind, _, of = collection.partition("/")
    rows = trocco.connections(of) if of else getattr(trocco, kind)
    number = rows.create(row)["id"]
    assert rows.update(number, {"description": "changed"})["description"] == "changed"
    assert rows.get(number).items() >= {"description": "changed"}.items()
    rows.delete(number)
    with pytest.raises(ApiError, match="HTTP 403"):
        rows.get(number)


@pytest.mark.parametrize("kind", ["email", "slack_channel"])
def test_targets_of_notifications_are_listed(trocco: Trocco, kind: str) -> None:
    assert len(list(trocco.notification_destinations(kind).list())) == 1


@pytest.mark.parametrize(("collection", "members"), [("teams", "members"), ("resource_groups", "teams")])
def test_a_change_of_a_team_keeps_its_members(trocco: Trocco, collection: str, members: str) -> None:
    rows = getattr(trocco, collection)
    before = rows.get(1)[members]
    assert rows.update(1, {"description": "changed"})["description"] == "changed"
    kept = "team_id" if members == "teams" else "user_id"
    assert [one[kept] for one in rows.get(1)[members]] == [one[kept] for one in before]


def test_objects_of_options_are_merged_and_lists_replaced(trocco: Trocco) -> None:
    changed = trocco.datamart_definitions.update(
        2001, {"datamart_bigquery_option": {"query": "SELECT 1"}, "labels": ["新"]}
    )
    assert changed["datamart_bigquery_option"]["destination_dataset"] == "mart"
    assert changed["labels"] == ["新"]


def test_texts_with_raw_control_characters_are_read(trocco: Trocco) -> None:
    assert "\n\tFROM" in trocco.datamart_definitions.get(2001)["datamart_bigquery_option"]["query"]


def test_the_warehouse_of_a_datamart_cannot_change(trocco: Trocco) -> None:
    with pytest.raises(FinalError, match="cannot change"):
        trocco.datamart_definitions.update(2001, {"data_warehouse_type": "snowflake"})


def test_what_get_gives_of_a_workflow_is_refused_before_patch_is(trocco: Trocco) -> None:
    detail = trocco.pipeline_definitions.get(3001)
    with pytest.raises(FinalError, match="by `key`"):
        trocco.pipeline_definitions.update(3001, {"tasks": detail["tasks"]})
    trocco.pipeline_definitions.update(3001, workflow_body(detail, detail["tasks"]))
    after = trocco.pipeline_definitions.get(3001)
    assert (after["tasks"], after["task_dependencies"]) == (detail["tasks"], detail["task_dependencies"])


def test_a_kind_that_the_api_does_not_know_is_refused_with_its_words(trocco: Trocco) -> None:
    with pytest.raises(ApiError, match="not supported by the API"):
        trocco.job_definitions.get(1005)


def test_a_start_says_what_it_was_asked(place: Place) -> None:
    wanted = job(
        {"name": "mart", "kind": "datamart", "definition": 2001, "completion": {"by": "nothing"}},
        variables={"$day$": "x"},
        context_time="2026-01-05 01:00:00",
        time_zone="Etc/UTC",
        memo="by hand",
    )
    place.run(wanted, partition="")
    place.sandbox.advance(5)
    (posted,) = place.accepted()
    assert posted["asked"] == {
        "context_time": "2026-01-05 01:00:00",
        "time_zone": "Etc/UTC",
        "custom_variables": [{"name": "$day$", "value": "x"}],
        "memo": "by hand",
    }
    assert posted["context_time"] == "2026-01-05T10:00:00.000+09:00"
    assert posted["effects"][0]["$day$"] == "x"


@pytest.mark.parametrize("way", ["loop", "defaults"])
def test_a_workflow_gets_its_variables_by_a_change_of_the_definition(place: Place, way: str) -> None:
    # The loop of 3001 has a value of its own, which wins over defaults: those are seen in its datamart.
    place.run(job(LOOPED, variables_by=way))
    (posted,) = place.accepted()
    transfer, datamart = posted["effects"]
    assert (transfer if way == "loop" else datamart)["$day$"] == DAY
    assert posted["asked"] == {}


def test_runs_that_change_the_definition_wait_for_each_other(place: Place) -> None:
    place.sandbox.change("settings", plan={"run": 600.0})
    clock = place.clock
    with place.runner(clock) as runner:
        from etl_assets.trocco.decide import Later
        from etl_assets.trocco.run import Request

        wanted = job(LOOPED, variables_by="loop")
        first = runner.started(Request(wanted, DAY, "run-1", clock.now()))
        other = Request(wanted, "2026-01-06", "run-2", clock.now())
        assert isinstance(runner.trigger(other), Later)
        assert len(place.accepted()) == 1
        clock.sleep(700)
        assert runner.advanced(wanted, first).outcome == "succeeded"
        assert runner.run(other).outcome == "succeeded"
    assert [posted["effects"][0]["$day$"] for posted in place.accepted()] == [DAY, "2026-01-06"]


@pytest.mark.parametrize("change", [variables.change_loop, variables.change_defaults])
def test_a_variable_that_nothing_uses_is_refused(trocco: Trocco, change: Any) -> None:
    with pytest.raises(FinalError, match=r"\$nothing\$; the value would be ignored"):
        change(trocco, 3001, {"$nothing$": "1"})


def test_a_workflow_is_taken_apart_into_jobs_in_its_order(trocco: Trocco) -> None:
    made = parts_text(trocco.pipeline_definitions.get(3001))
    assert "w3001_transfer_1" in made.text
    assert "deps:\n  - trocco/w3001_transfer_1" in made.text
    assert "$day$" in made.text
    assert made.warnings == ["job w3001_datamart_2: choose its `completion`"]
    assert "slack_notification" in " ".join(parts_text(trocco.pipeline_definitions.get(3002)).warnings)
