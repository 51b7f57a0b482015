"""From a row to a document, value by value."""

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from etl_assets.push.mapping import Found, Unfit, document, wanted
from etl_assets.push.spec import Push

ZONE = "Asia/Shanghai"
INSTANT = datetime(2026, 1, 5, 16, 30, 15, tzinfo=UTC)
REFERENCE = {"table": "demo.shops", "key": "id", "value": "code", "unmatched": "reject"}


def push(fields: Mapping[str, Any], **more: Any) -> Push:
    tree = {"name": "p", "from": {"table": "demo.t"}, "key": ["id"], "mode": "land_only", "fields": fields, **more}
    return Push.model_validate(tree)


def one(value: Any, **field: Any) -> Any:
    """What becomes of a column's value."""
    return document(push({"out": {"column": "in", **field}}), ZONE, {"id": "1", "in": value}, {})["out"]


def test_columns_are_renamed_and_nested_and_constants_added() -> None:
    declared = push(
        {"id": "id", "place.city": "town", "place.zip": "zip", "place.geo.lat": "lat", "kind": {"value": [1]}}
    )
    row = {"id": "W1", "town": "北京", "zip": None, "lat": 1.5, "unused": 1}
    assert document(declared, ZONE, row, {}) == {
        "id": "W1",
        "place": {"city": "北京", "zip": None, "geo": {"lat": 1.5}},
        "kind": [1],
    }


@pytest.mark.parametrize(
    ("value", "field", "becomes"),
    [
        ("text 🚚", {}, "text 🚚"),
        (7, {}, 7),
        (True, {}, True),
        (Decimal("1.50"), {}, Decimal("1.50")),
        ({"a": [1]}, {}, {"a": [1]}),
        (date(2026, 1, 5), {}, "2026-01-05"),
        (INSTANT, {}, "2026-01-06T00:30:15+08:00"),
        (INSTANT.replace(tzinfo=None, hour=9, minute=0, second=0), {}, "2026-01-05T09:00:00+08:00"),
        (7, {"type": "string"}, "7"),
        (True, {"type": "string"}, "true"),
        (Decimal("1.50"), {"type": "string"}, "1.50"),
        (Decimal("1.005"), {"type": "string", "decimals": 2}, "1.01"),
        (12, {"type": "string", "decimals": 2}, "12.00"),
        ({"a": 1}, {"type": "string"}, '{"a": 1}'),
        (INSTANT, {"type": "string"}, "2026-01-06T00:30:15+08:00"),
        ("12", {"type": "integer"}, 12),
        (12.0, {"type": "integer"}, 12),
        (Decimal("12.00"), {"type": "integer"}, 12),
        (2**80, {"type": "integer"}, 2**80),
        ("1.25", {"type": "number"}, Decimal("1.25")),
        (0.1, {"type": "number"}, Decimal("0.1")),
        (Decimal("2.345"), {"type": "number", "decimals": 1}, Decimal("2.3")),
        ("TRUE", {"type": "boolean"}, True),
        (0, {"type": "boolean"}, False),
        ("2026-01-05", {"type": "date"}, "2026-01-05"),
        (INSTANT, {"type": "date"}, "2026-01-06"),
        (INSTANT, {"format": "date"}, "2026-01-06"),
        (INSTANT, {"format": "epoch_s"}, 1767630615),
        (INSTANT, {"type": "timestamp", "format": "epoch_ms"}, 1767630615000),
        (INSTANT, {"format": "%Y-%m-%d %H:%M:%S"}, "2026-01-06 00:30:15"),
        ("2026-01-05T16:30:15Z", {"type": "timestamp", "format": "%d.%m.%Y"}, "06.01.2026"),
        (date(2026, 1, 5), {"type": "timestamp"}, "2026-01-05T00:00:00+08:00"),
        (date(2026, 1, 5), {"format": "%d/%m/%Y"}, "05/01/2026"),
        ('{"a": [1, 2]}', {"type": "json"}, {"a": [1, 2]}),
    ],
)
def test_values_are_written_in_the_declared_form(value: Any, field: Any, becomes: Any) -> None:
    written = one(value, **field)
    assert (written, type(written)) == (becomes, type(becomes))


@pytest.mark.parametrize(
    ("value", "field", "says"),
    [
        ("12.5", {"type": "integer"}, "'12.5' is no integer"),
        ("twelve", {"type": "number"}, "'twelve' is no number"),
        (math.inf, {"type": "number"}, "'inf' is no number"),
        (math.nan, {}, "'nan' is no value that JSON can carry"),
        ("maybe", {"type": "boolean"}, "'maybe' is no boolean"),
        ("05/01/2026", {"type": "date"}, "'05/01/2026' is no date"),
        ("soon", {"type": "timestamp"}, "'soon' is no timestamp"),
        ("{", {"type": "json"}, "'{' is no json"),
        ("x" * 500, {"type": "integer"}, f"'{'x' * 79} is no integer"),
    ],
)
def test_a_value_that_does_not_fit_says_so(value: Any, field: Any, says: str) -> None:
    with pytest.raises(Unfit) as refused:
        one(value, **field)
    assert str(refused.value) == f"out: {says}"


def test_a_missing_value_is_null_or_left_out_or_refused() -> None:
    assert one(None) is None
    assert one(None, type="integer") is None
    declared = push({"a": {"column": "in", "if_null": "omit"}, "b.c": {"column": "in", "if_null": "omit"}, "id": "id"})
    assert document(declared, ZONE, {"id": "1", "in": None}, {}) == {"id": "1"}
    with pytest.raises(Unfit, match="out: in has no value"):
        one(None, if_null="reject")


@pytest.mark.parametrize(
    ("unmatched", "becomes"), [("keep", "C"), ({"value": "OTHER"}, "OTHER"), ({"value": None}, None)]
)
def test_values_go_through_a_map(unmatched: Any, becomes: Any) -> None:
    maps = {"m": {"values": {"A": "ACTIVE", "生效": 1, 7: "SEVEN", True: "YES"}, "unmatched": unmatched}}
    declared = push({"out": {"column": "in", "map": "m"}}, maps=maps)
    theirs = [document(declared, ZONE, {"id": "1", "in": ours}, {})["out"] for ours in ("A", "生效", 7, "7", True, "C")]
    assert theirs == ["ACTIVE", 1, "SEVEN", "SEVEN", "YES", becomes]


def test_a_value_that_is_not_in_the_map_is_refused_where_that_is_declared() -> None:
    maps = {"m": {"values": {"A": 1}, "unmatched": "reject"}}
    with pytest.raises(Unfit, match="out: 'a' is not in the map"):
        document(push({"out": {"column": "in", "map": "m"}}, maps=maps), ZONE, {"id": "1", "in": "a"}, {})


@pytest.mark.parametrize("rule", ["reject", "keep", {"value": 0}])
def test_what_was_looked_up_takes_the_values_place(rule: Any) -> None:
    declared = push({"out": {"column": "in", "lookup": "l"}}, lookups={"l": {**REFERENCE, "unmatched": rule}})
    row = {"id": "1", "in": "K"}
    assert document(declared, ZONE, row, {"out": Found(1, 1, "found")}) == {"out": "found"}
    assert document(declared, ZONE, row, {"out": Found(1, 0, None)}) == {"out": None}
    with pytest.raises(Unfit, match="out: 'K' has 2 values in the reference table"):
        document(declared, ZONE, row, {"out": Found(3, 2, "one of them")})
    if rule == "reject":
        with pytest.raises(Unfit, match="out: 'K' is not in the reference table"):
            document(declared, ZONE, row, {"out": Found(0, 0, None)})
    else:
        assert document(declared, ZONE, row, {"out": Found(0, 0, None)}) == {"out": "K" if rule == "keep" else 0}


def test_a_value_is_looked_up_then_mapped_then_written() -> None:
    declared = push(
        {"out": {"column": "in", "lookup": "l", "map": "m", "type": "string"}},
        lookups={"l": REFERENCE},
        maps={"m": {"values": {"found": 7}, "unmatched": "reject"}},
    )
    assert document(declared, ZONE, {"id": "1", "in": "K"}, {"out": Found(1, 1, "found")}) == {"out": "7"}


def test_equal_documents_have_equal_content_whatever_the_order_of_their_fields() -> None:
    row = {"id": "1", "in": Decimal("1234567890.123456789012345678")}
    there = wanted(push({"a": "id", "b": "in"}), ZONE, row, found={}, record_id="1")
    again = wanted(push({"b": "in", "a": "id"}), ZONE, row, found={}, record_id="1")
    assert there == again
    assert there.document == b'{"a":"1","b":1234567890.123456789012345678}'  # every digit
    assert (
        there.content != wanted(push({"a": "id", "b": "in"}), ZONE, {**row, "id": "2"}, found={}, record_id="1").content
    )
