"""Lists of every length that matters to paging, for every stream of every source: nothing is lost at the end of a page.

Lists with pages are read in pages of four rows, which are really there at the vendor. Lists that come in one answer are
cut in the answer.
"""

import json
import random
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from etl_assets.spec import OnePage, Stream
from etl_assets.streamfiles import packaged_files, read_source
from etl_assets_tests.sources.scripts import DAYS, PLAYERS, Player
from etl_assets_tests.sources.truth import RUN_ID, Lab, Row, day, lab

PAGE = 4
SIZES = (0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE)
ALL = [(source.source, one) for file in packaged_files() for source in [read_source(file)] for one in source.streams]
# TROCCO's lists have tests of their own.
PAGED = [
    (name, one.name) for name, one in ALL if name != "trocco" and not one.of and not isinstance(one.paging, OnePage)
]
WHOLE = [(name, one.name) for name, one in ALL if not one.of and isinstance(one.paging, OnePage)]
OLD = 104  # Backlog's small project
DEMO, SHOP, INFRA = 101, 102, 103
WAREHOUSE = 20_001

Make = Callable[[int], None]
"""Makes a list as long as that at the vendor; called with growing numbers."""


@pytest.fixture
def x(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lab]:
    source: str = request.getfixturevalue("source")
    with lab(source, tmp_path, days=1, scale=0.01) as ready:
        yield ready


def player(source: str, stream: str) -> Player | None:
    return next((one for one in PLAYERS[source] if one.stream == stream), None)


def of_player(x: Lab, one: Player) -> Make:
    """Rows on a day that has none of its own."""
    rng, made = random.Random(1), []

    def make(size: int) -> None:
        on = DAYS[0]
        noon = datetime(on.year, on.month, on.day, 12, tzinfo=ZoneInfo(one.zone))
        changes = [one.new(rng, f"{number}/", noon) for number in range(len(made), size)]
        made.extend(changes)
        one.apply(x, changes)

    return make


def of_table(x: Lab, table: str, row: Callable[[int], Row], keys: list[Any]) -> Make:
    """Rows of a table of Jushuitan, which is emptied first."""
    x.sandbox.change(table, delete=keys)
    made: list[Row] = []

    def make(size: int) -> None:
        new = [row(number) for number in range(len(made), size)]
        made.extend(new)
        x.sandbox.change(table, insert=new)

    return make


def of_jushuitan(x: Lab, stream: str) -> Make:
    then = {"modified": f"{DAYS[0]} 12:00:00"}
    if stream == "inventory":
        x.sandbox.change("warehouses", delete=[row["wms_co_id"] for row in x.sandbox.truth(stream="warehouses")][1:])
        keys = [[row["wms_co_id"], row["sku_id"]] for row in x.sandbox.truth(stream="inventory")]
        return of_table(x, stream, lambda number: {"wms_co_id": WAREHOUSE, "sku_id": f"N{number}", **then}, keys)
    key = {"shops": "shop_id", "warehouses": "wms_co_id", "logistics_companies": "lc_id"}[stream]
    keys = [row[key] for row in x.sandbox.truth(stream=stream)]
    if stream == "logistics_companies":
        return of_table(x, stream, lambda number: {key: f"L{number}", **then}, keys)
    return of_table(x, stream, lambda number: {key: 50_000 + number}, keys)


def left(x: Lab, *projects: int) -> None:
    """The caller leaves projects, and no longer sees what is in them."""
    x.sandbox.change("projects", update=[{"id": project, "members": []} for project in projects])


def issues(x: Lab, count: int) -> list[int]:
    new = {"project_id": OLD, "summary": "new", "updated": f"{DAYS[0]}T12:00:00+09:00"}
    inserted: list[int] = x.sandbox.change("issues", insert=[new] * count)["inserted"]
    return inserted


def of_backlog(x: Lab, stream: str) -> Make:
    made: list[int] = []
    if stream in ("documents", "pull_requests"):
        hidden = [row["id"] for row in x.sandbox.truth(stream=stream) if row.get("repository_id", 801) == 801]
        others = {row["id"] for row in x.sandbox.truth(stream=stream)} - {*hidden}
        x.sandbox.change(stream, delete=sorted(others))
        return lambda size: x.sandbox.change(stream, delete=[hidden.pop() for _ in range(len(hidden) - size)])
    left(x, DEMO, SHOP, INFRA)
    if stream == "issue_comments":
        (issue,) = issues(x, 1)

    def make(size: int) -> None:
        more = size - len(made)
        if stream == "issue_comments":
            new = {"issue_id": issue, "created": f"{DAYS[0]}T12:00:00+09:00", "content": "new"}
            made.extend(x.sandbox.change("comments", insert=[new] * more)["inserted"])
            return
        made.extend(inserted := issues(x, more))
        if stream == "deleted_issues":
            x.sandbox.change("issues", delete=inserted)

    if stream == "issue_keys":
        x.sandbox.change("issues", delete=[row["id"] for row in x.sandbox.truth(project="OLD")])
    return make


def maker(x: Lab, stream: str) -> Make:
    if one := player(x.name, stream):
        return of_player(x, one)
    return of_jushuitan(x, stream) if x.name == "jushuitan" else of_backlog(x, stream)


def small(stream: Stream, size: int) -> Stream:
    return stream.model_copy(update={"paging": stream.paging.model_copy(update={"size": size})})


def read(x: Lab, stream: str, size: int) -> list[Any]:
    """What is read in pages of that size; the day's rows, for a stream with days."""
    one = small(x.stream(stream), size)
    on = DAYS[0] if one.window else None
    x.pipeline.extract(x.api, one, x.window(stream, on), RUN_ID)
    rows = [
        {**json.loads(bytes(row)), **stamp}
        for path, stamp, body in x.pages(stream, on)
        for row in _rows(json.loads(body), path)
    ]
    paths = [next(paths for name, paths, _ in one.field_columns() if name == key) for key in one.key]
    return sorted({json.dumps([next(row[p] for p in places if p in row) for places in paths]) for row in rows})


def _rows(body: Any, path: str) -> list[Any]:
    for step in path.split(".") if path else ():
        body = body[step]
    return [json.dumps(row).encode() for row in body]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("source", "stream"), [pair for pair in PAGED if pair[1] != "activities"])
def test_a_list_of_any_length_is_read_to_its_end(x: Lab, source: str, stream: str) -> None:
    make = maker(x, stream)
    # What can only be taken away grows shorter.
    shrinks = stream in ("documents", "pull_requests")
    for size in sorted(SIZES, reverse=shrinks):
        make(size)
        x.sandbox.clear_log()
        assert len(read(x, stream, PAGE)) == size
        assert (
            x.sandbox.count(x.stream(stream).path.split("}")[-1]) <= size // (PAGE - 1) + 5
        )  # and a few for other windows and parents
    on = DAYS[0] if x.stream(stream).window else None
    loaded = x.load(stream, on)
    assert (loaded.rows, loaded.rows_in_table) == (size, size)


@pytest.mark.parametrize("source", ["backlog"])
def test_activities_of_any_number_are_read_to_the_first(x: Lab, source: str) -> None:
    left(x, DEMO, SHOP, INFRA)
    page = len(x.sandbox.truth(stream="activities")) + 1
    for size in (page - 1, page, page + 1, 3 * page):
        issues(x, size - len(x.sandbox.truth(stream="activities")))
        assert len(read(x, "activities", page)) == size
    one = x.extract("activities")[:1]
    for body in (one, []):
        x.sandbox.fault(path="/space/activities", body=body)
        assert len(read(x, "activities", page)) == len(body)


@pytest.mark.one_in(4)
@pytest.mark.parametrize(("source", "stream"), WHOLE)
def test_a_list_in_one_answer_may_have_none_one_or_many_rows(x: Lab, source: str, stream: str) -> None:
    one = x.stream(stream)
    asked = x.stream(one.each.stream) if one.one and one.each else one  # a page of its own per row of that list
    on = day(1) if one.window else None
    (many,) = x.run(stream, on)
    x.run(asked.name, on)
    # The first answer that has several rows, and the path to them.
    path, body = next((path, json.loads(body)) for path, _, body in x.pages(asked.name, on) if body.count(b"{") > 2)
    key = [name for name in one.key if name not in one.stamped()]
    assert many.rows == many.rows_in_table == len({tuple(row[name] for name in one.key) for row in x.table(stream)}) > 1
    assert key
    where: Row = {"path": asked.path.split("}")[-1]}
    if stream == "time_entries":
        where["query"] = {"startDate": "2026-01-04"}  # which the list of who is tracking does not have
    if stream == "wiki_pages":
        left(x, SHOP, INFRA, OLD)
        where["query"] = {"projectIdOrKey": DEMO}  # which the page itself does not have
    for size in (1, 0):
        x.sandbox.clear_faults()
        for count, times in ((size, 1), (0, -1)):
            x.sandbox.fault(body=_cut(body, path, count), times=times, **where)
        loaded = x.run(stream, on)[0]
        assert (loaded.rows, loaded.rows_in_table) == (size, size)


def _cut(body: Any, path: str, count: int) -> Any:
    """The answer with so many rows only."""
    if not path:
        return body[:count]
    step, _, rest = path.partition(".")
    return {**body, step: _cut(body[step], rest, count)}
