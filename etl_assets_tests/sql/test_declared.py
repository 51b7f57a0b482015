"""What `query` declares: mistakes in it are told with their place, and every packaged one points at what is there."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from etl_assets.errors import StreamFileError
from etl_assets.spec import Source
from etl_assets.sql.pushdown import Span, Wanted, askings, request_for, wanted
from etl_assets.sql.substrait import Among, Compare, Every, Present, Some, Unknown
from etl_assets.sql.tables import Table
from etl_assets.streamfiles import load_sources, read_source
from etl_assets_tests.sql.world import STREAM_FILE

NOW = datetime(2026, 1, 10, 3, tzinfo=UTC)


def declared(folder: Path, change: dict[str, Any] | None = None) -> Source:
    """The small API's file, with other keys in the `query` of its tickets."""
    tree = yaml.safe_load(STREAM_FILE)
    (tickets,) = (stream for stream in tree["streams"] if stream["name"] == "tickets")
    tickets["query"] |= change or {}
    file = folder / "desk.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False), "utf-8")
    return read_source(file)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"eq": {"nothing": "x"}}, "query.eq: there is no column 'nothing'"),
        ({"eq": {"hours": "x"}}, "query.eq.hours: only integers and strings"),
        ({"ranges": {"priority": {"since": "a", "until": "b"}}}, "query.ranges.priority: only dates and timestamps"),
        ({"row": {"ticket_key": "/tickets/{id}"}}, "query.row.ticket_key: the path must hold {ticket_key}"),
        ({"sort": {"columns": {"nothing": "x"}}}, "query.sort.columns: there is no column"),
        ({"closed": {"queue_id": "queues.nothing"}}, "query.closed.queue_id: there is no 'queues.nothing'"),
        ({"into": "a.b"}, "query.into: goes together with `condition`"),
        ({"count": {"path": "/count/{nothing}"}}, "placeholder {nothing} means nothing here"),
        ({"equals": {}}, "key query.equals: unknown key"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    with pytest.raises(StreamFileError) as refused:
        declared(tmp_path, change)
    assert text in str(refused.value)
    assert "tickets" in str(refused.value)


def test_a_row_cannot_be_asked_for_where_a_parent_stamps_it(tmp_path: Path) -> None:
    tree = yaml.safe_load(STREAM_FILE)
    tree["streams"][2]["query"] = {"row": {"id": "/members/{id}"}}
    (tmp_path / "desk.yaml").write_text(yaml.safe_dump(tree), "utf-8")
    with pytest.raises(StreamFileError, match="stamps would be missing"):
        read_source(tmp_path / "desk.yaml")


@pytest.mark.parametrize("source", load_sources().values(), ids=lambda source: source.source)
def test_every_declared_parameter_makes_a_request(source: Source) -> None:
    """Each column that can be asked for, by itself: the request can be filled, and holds the value."""
    for stream in source.streams:
        table = Table(source, stream)
        for column in [*stream.query.eq, *stream.query.row]:
            value = 4711 if table.types[column] == "BIGINT" else "value-4711"
            rows = Wanted({column: frozenset([value])})
            request = request_for(table, rows, now=NOW)
            (asking, *_) = askings(request)
            assert any("4711" in str(given) for given in asking.values.values()), (table.name, column)
            placeholders = {name for name in asking.stream.placeholders if name.startswith("where.")}
            assert placeholders <= asking.values.keys()
            assert placeholders, (table.name, column)


# Predicates

ONE, TWO, B_ONE = Compare("a", "equal", 1), Compare("a", "equal", 2), Compare("b", "equal", 1)


@pytest.mark.parametrize(
    ("predicate", "values", "exact"),
    [
        (ONE, {"a": {1}}, True),
        (Some((ONE, TWO)), {"a": {1, 2}}, True),
        (Every((Among("a", frozenset([1, 2])), TWO)), {"a": {2}}, True),
        (Every((ONE, TWO)), {"a": set()}, True),
        (Some((ONE, Compare("b", "equal", 1))), {}, False),
        (Some((Every((ONE, B_ONE)), Every((TWO, Compare("b", "equal", 3))))), {"a": {1, 2}, "b": {1, 3}}, False),
        (Some((ONE, Unknown())), {}, False),
        (Every((ONE, Unknown())), {"a": {1}}, False),
        (Some((ONE, Every((TWO, Present("b"))))), {"a": {1, 2}}, False),
    ],
)  # fmt: skip
def test_a_predicate_wants_no_less_than_it_says(predicate: Any, values: dict[str, set[int]], exact: bool) -> None:
    found = wanted(predicate)
    assert {name: set(listed) for name, listed in found.values.items()} == values
    assert found.exact is exact


def test_bounds_are_joined_and_met() -> None:
    low, high = Compare("a", "gte", 3), Compare("a", "lt", 9)
    assert wanted(Every((low, high))).spans == {"a": Span(3, 9)}
    assert wanted(Some((low, high))).spans == {"a": Span(None, None)}
    both = (Every((low, high)), Every((Compare("a", "gt", 5), Compare("a", "lte", 20))))
    assert wanted(Some(both)).spans == {"a": Span(3, 20)}
    assert wanted(Every(both)).spans == {"a": Span(5, 9)}


def test_what_is_wanted_of_parents_is_a_filter_that_loses_no_row() -> None:
    rows = Wanted({"a": frozenset([1, 2])}, {"b": Span(low=5)})
    batch = pa.RecordBatch.from_pydict({"a": [1, 2, 3, None], "b": [5, 4, 9, 9]})
    mask = rows.expression(batch.schema)
    assert isinstance(mask, pc.Expression)
    assert batch.filter(mask).to_pylist() == [{"a": 1, "b": 5}]
    assert Wanted().expression(batch.schema) is None


# Windows


def test_an_optional_window_is_left_out_and_a_required_one_begins_with_the_source(tmp_path: Path) -> None:
    source = declared(tmp_path)
    (free,) = askings(request_for(Table(source, source.stream("tickets")), Wanted(), now=NOW))
    assert free.values == {"since": None, "until": None}
    source = declared(tmp_path, {"window": "required"})
    (bound,) = askings(request_for(Table(source, source.stream("tickets")), Wanted(), now=NOW))
    assert bound.values["since"] == "2025-12-31"  # the source's start, and a day more
    assert bound.values["until"] > "2026-01-11"


def test_a_window_goes_a_day_beyond_what_is_wanted_and_is_cut_into_what_the_api_takes() -> None:
    jushuitan, backlog = (load_sources()[name] for name in ("jushuitan", "backlog"))
    span = Span(datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 25, tzinfo=UTC))
    issues = askings(request_for(Table(backlog, backlog.stream("issues")), Wanted(spans={"updated": span}), now=NOW))
    assert [(one.values["since"], one.values["until"]) for one in issues] == [("2026-01-04", "2026-01-26")]
    orders = askings(
        request_for(Table(jushuitan, jushuitan.stream("orders")), Wanted(spans={"modified": span}), now=NOW)
    )
    edges = [(one.values["since"], one.values["until"]) for one in orders]
    assert len(edges) == 3
    assert edges[0][0] == "2026-01-05 08:00:00"
    assert all(one[1] == two[0] for one, two in pairwise(edges))


def test_ids_stand_in_place_of_a_window_where_the_api_says_so() -> None:
    source = load_sources()["jushuitan"]
    table = Table(source, source.stream("orders"))
    (asking,) = askings(request_for(table, Wanted({"o_id": frozenset([1, 2])}), now=NOW))
    assert asking.values == {"where.o_id": [1, 2], "since": None, "until": None}
    two = Wanted({"o_id": frozenset([1])}, {"modified": Span(NOW - timedelta(days=1), NOW)})
    (asking,) = askings(request_for(table, two, now=NOW))
    assert asking.values["since"] is not None


def test_bounds_of_days_are_days() -> None:
    source = load_sources()["backlog"]
    rows = Wanted(spans={"due_date": Span(date(2026, 1, 5), date(2026, 1, 6))})
    (asking,) = askings(request_for(Table(source, source.stream("issues")), rows, now=NOW))
    assert (asking.values["from.due_date"], asking.values["to.due_date"]) == ("2026-01-04", "2026-01-07")
