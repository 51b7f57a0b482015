"""Fxiaoke: what rows that change while they are read do to ways of paging."""

from typing import Any

import pytest
import requests

from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets_tests.sandbox.fxiaoke_api import DAY, INVENTORY, START, Crm, Row, of_day

pytest_plugins = ("etl_assets_tests.sandbox.fxiaoke_fixtures",)

BY_TIME = [{"fieldName": "last_modified_time", "isAsc": True}]
BETWEEN_PAGES = {"path": "/data/query", "method": "POST"}


def by_offset(crm: Crm, limit: int = 20, **info: Any) -> list[str]:
    """What a client finds that counts on rows staying where they are."""
    found: list[Row] = []
    while len(page := crm.rows(INVENTORY, of_day(), limit=limit, offset=len(found), **info)) == limit:
        found += page
    return [row["_id"] for row in found + page]


def by_id(crm: Crm, limit: int = 20) -> list[str]:
    """What a client finds in a frozen window by going on after the last id."""
    found: list[str] = []
    while True:
        after = [("_id", "GT", [found[-1]])] if found else []
        order = [{"fieldName": "_id", "isAsc": True}]
        page = crm.rows(INVENTORY, of_day(), *after, limit=limit, orders=order)
        found += [row["_id"] for row in page]
        if len(page) < limit:
            return found


@pytest.fixture
def ids(fxiaoke: Sandbox) -> list[str]:
    """The ids of a day's rows, by the time of their last modification."""
    rows = fxiaoke.truth(stream="inventory_reports", day="2026-01-05")
    return [row["_id"] for row in sorted(rows, key=lambda row: int(row["last_modified_time"]))]


def test_rows_that_stay_as_they_are_are_found_in_both_ways(crm: Crm, ids: list[str]) -> None:
    assert sorted(by_offset(crm, orders=BY_TIME)) == by_id(crm) == sorted(ids)


def test_paging_by_offset_loses_a_row_when_another_is_modified(crm: Crm, fxiaoke: Sandbox, ids: list[str]) -> None:
    fxiaoke.change("rows", object=INVENTORY, update=[{"_id": ids[3], "name": "moved"}], after=BETWEEN_PAGES)
    found = by_offset(crm, orders=BY_TIME)
    assert set(ids) - set(found) == {ids[20]}
    # The row that nobody touched is still there, and the one that was modified belongs to a later day now.
    assert {row["_id"] for row in fxiaoke.truth(stream="inventory_reports", day="2026-01-05")} == set(ids) - {ids[3]}


def test_paging_by_offset_loses_a_row_when_another_moves_within_the_window(
    crm: Crm, fxiaoke: Sandbox, ids: list[str]
) -> None:
    moved = {"_id": ids[3], "last_modified_time": START + DAY - 2}
    fxiaoke.change("rows", object=INVENTORY, update=[moved], after=BETWEEN_PAGES)
    found = by_offset(crm, orders=BY_TIME)
    assert ids[20] not in found
    assert found.count(ids[3]) == 2


def test_paging_by_offset_repeats_a_row_when_another_comes_in_front(crm: Crm, fxiaoke: Sandbox, ids: list[str]) -> None:
    new = {"name": "new", "create_time": START + 5, "last_modified_time": START + 5}
    fxiaoke.change("rows", object=INVENTORY, insert=[new], after=BETWEEN_PAGES)
    found = by_offset(crm, orders=BY_TIME)
    assert found.count(ids[19]) == 2


@pytest.mark.parametrize("number", [3, 30, 70])
@pytest.mark.parametrize("moment", [START + DAY - 2, START + 9 * DAY])
def test_a_frozen_window_read_by_id_loses_no_row_but_those_that_left(
    crm: Crm, fxiaoke: Sandbox, ids: list[str], number: int, moment: int
) -> None:
    fxiaoke.change(
        "rows",
        object=INVENTORY,
        update=[{"_id": ids[number], "last_modified_time": moment}],
        after=BETWEEN_PAGES,
    )
    found = by_id(crm)
    left = {ids[number]} if moment > START + DAY else set()
    assert len(found) == len(set(found))
    assert set(ids) - left <= set(found) <= set(ids)


def test_paging_without_an_order_loses_rows(crm: Crm, fxiaoke: Sandbox, ids: list[str]) -> None:
    assert sorted(by_offset(crm)) == sorted(ids)
    fxiaoke.change("settings", shuffle=True)
    found = by_offset(crm)
    assert len(found) == len(ids)
    assert set(found) < set(ids)


def test_a_row_that_is_touched_goes_to_the_end_of_the_unordered(crm: Crm, fxiaoke: Sandbox) -> None:
    first = crm.rows(INVENTORY, of_day(), limit=1)[0]["_id"]
    fxiaoke.change("rows", object=INVENTORY, update=[{"_id": first, "last_modified_time": START + 1}])
    rows = crm.rows(INVENTORY, of_day())
    assert [row["_id"] for row in rows].index(first) == len(rows) - 1


def test_only_reading_by_id_gets_beyond_the_largest_offset() -> None:
    with running(vendors=("fxiaoke",), days=1, scale=130) as sandbox, requests.Session() as session:
        session.trust_env = False
        crm = Crm(sandbox, session)
        (truth,) = sandbox.truth(stream="inventory_reports", day="2026-01-05", total="true")
        assert truth["rows"] == 10_140
        assert len(crm.rows(INVENTORY, of_day(), offset=10_000, orders=BY_TIME)) == 100
        assert crm.ask(INVENTORY, of_day(), offset=10_100, orders=BY_TIME)["errorCode"] == 10013
        found = crm.all(INVENTORY, of_day(), fieldProjection=["_id", "last_modified_time"])
        assert len(found) == truth["rows"]
        assert sum(row["last_modified_time"] for row in found) == truth["modified"]
