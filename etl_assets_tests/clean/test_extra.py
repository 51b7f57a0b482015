"""What no column declares is kept, and told."""

import json
from pathlib import Path
from typing import Any

import pytest

from etl_assets_tests.clean.material import DAILY, at
from etl_assets_tests.data import DAY, Bench, Page

# Undeclared fields


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("fields", "extra"),
    [
        ({}, None),
        ({"a": {"b": "x"}}, None),
        ({"a": {"b": "x", "c": {"d": "y"}}}, None),
        ({"a": {}}, None),
        ({"a": None}, None),
        ({"a": {"c": {}}}, None),
        ({"a": {"b": None, "c": {"d": None}}}, None),
        ({"j": {"deep": [{"a": {}}]}}, None),
        ({"z": 1}, {"z": 1}),
        ({"z": None}, {"z": None}),
        ({"z": False, "y": 0, "x": ""}, {"z": False, "y": 0, "x": ""}),
        ({"z": {}}, {"z": {}}),
        ({"z": []}, {"z": []}),
        ({"z": {"q": None, "l": [None, {"m": None}]}}, {"z": {"q": None, "l": [None, {"m": None}]}}),
        ({"a": {"b": "x", "z": 1}}, {"a": {"z": 1}}),
        ({"a": {"z": {}}}, {"a": {"z": {}}}),
        ({"a": {"c": {"d": "y", "z": [1]}, "b": "x"}}, {"a": {"c": {"z": [1]}}}),
        ({"a": {"b": "x", "c": {"d": "y"}}, "z": 1}, {"z": 1}),
        ({"z": 1, "a": {"b": "x", "c": {"d": "y"}}}, {"z": 1}),
        ({"y": 1, "a": {"c": {"d": "y"}}, "z": 2}, {"y": 1, "z": 2}),
        ({"c": {"d": 1}}, {"c": {"d": 1}}),
        ({"d": 1}, {"d": 1}),
        ({"a.b": 1}, {"a.b": 1}),
        ({"A": {"b": 1}}, {"A": {"b": 1}}),
        ({'k"ey': 1, "": 2, "日本": 3}, {'k"ey': 1, "": 2, "日本": 3}),
        # Another shape than the declared one is something undeclared.
        ({"a": "text"}, {"a": "text"}),
        ({"a": 5, "z": 1}, {"a": 5, "z": 1}),
        ({"a": False}, {"a": False}),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1}]}),
        ({"a": "{"}, {"a": "{"}),
        ({"a": {"b": "x", "c": "text"}}, {"a": {"c": "text"}}),
        ({"a": {"c": [1, {"d": 2}], "z": 3}}, {"a": {"c": [1, {"d": 2}], "z": 3}}),
    ],
)
def test_extra_holds_exactly_the_fields_that_are_not_declared(
    tmp_path: Path, fields: dict[str, Any], extra: Any
) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer, a.b: string, a.c.d: string, j: json}")
    bench.cleaned([{"id": 1, **fields}])
    (row,) = bench.rows()
    assert (None if row["_extra"] is None else json.loads(row["_extra"])) == extra


NASTY = [
    ",}",
    "}",
    "{}",
    '"a":{}',
    ',"a":{}',
    '"a":{},',
    '{"a":{},"c":{}}',
    '"c":{}',
    "\\",
    '\\"a\\":{}',
    '"',
    "'",
    "\n",
    "\r\n\t",
    "\x00",
    "a\x00b",
    "\x1f\x7f",
    "\u2028\u2029",
    "\ufeff",
    "\N{GRINNING FACE}",
    "日本語、中文",
    "null",
    "",
    " ",
    "$.a",
    "%s {0} {id}",
    "*/ -- ;",
]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("escaped", [True, False])
@pytest.mark.parametrize("text", NASTY)
def test_a_text_comes_through_unharmed_wherever_it_stands(tmp_path: Path, text: str, escaped: bool) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer, a.b: string, a.c.d: string, j: json}")
    record = {
        "id": 1,
        "t": text,
        "a": {"b": text, "c": {"d": text}, "z": [text]},
        "j": {"k": text, text: [text]},
        "u": {text: text},
    }
    bench.land([Page(json.dumps([record], ensure_ascii=escaped))])
    bench.clean()
    (row,) = bench.rows()
    assert (row["a_b"], row["a_c_d"]) == (text, text)
    assert json.loads(row["j"]) == record["j"]
    assert json.loads(row["_extra"]) == {"t": text, "a": {"z": [text]}, "u": {text: text}}


def test_numbers_of_undeclared_fields_keep_their_value(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer}")
    bench.land([Page('[{"id": 1, "a": 12345678901234567890123, "b": 1.50, "c": -0.0, "d": 1e300, "e": 0.1}]')])
    bench.clean()
    (row,) = bench.rows()
    assert json.loads(row["_extra"]) == {"a": 12345678901234567890123, "b": 1.5, "c": -0.0, "d": 1e300, "e": 0.1}


# Drift


def test_drift_names_new_fields_with_their_types_and_columns_that_never_came(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer, a.b: string, gone: integer, j: json, empty: string}")
    cleaned = bench.cleaned(
        [
            {"id": 1, "a": {"b": "x", "new": True}, "top": 1.5, "list": [{"x": 1}], "empty": ""},
            {"id": 2, "deep": {"er": {"text": "y"}}},
        ]
    )
    assert cleaned.undeclared == {
        "a.new": "BOOLEAN",
        "top": "DOUBLE",
        "list": "LIST",
        "deep.er.text": "VARCHAR",
    }
    assert cleaned.never_seen == ("gone", "j")


@pytest.mark.parametrize("records", [[], [{"id": 1, "a": "x"}]])
def test_without_drift_nothing_is_reported(tmp_path: Path, records: list[Any]) -> None:
    cleaned = Bench.of(tmp_path, "columns: {id: integer, a: string}").cleaned(records)
    assert (dict(cleaned.undeclared), cleaned.never_seen) == ({}, ())


def test_drift_does_not_look_outside_the_day(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, DAILY)
    cleaned = bench.cleaned([{"id": 1, "t": at("05T09:00"), "n": 1}, {"id": 2, "t": at("09T09:00"), "x": 1}], day=DAY)
    assert dict(cleaned.undeclared) == {}
