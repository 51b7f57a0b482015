"""Filling placeholders into requests."""

from typing import Any

import pytest

from etl_assets.template import filled, params, path

VALUES = {
    "page": 2,
    "size": 100,
    "since": "2026-01-05",
    "none": None,
    "flag": True,
    "share": 0.5,
    "ids": [1, 2],
    "zero": 0,
    "empty": "",
    "each.key": "A&B",
    "braces": "{page}",
}


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ("{page}", 2),
        ("{flag}", True),
        ("{share}", 0.5),
        ("{ids}", [1, 2]),
        ("{zero}", 0),
        ("{empty}", ""),
        ("page {page} of {size}", "page 2 of 100"),
        ("{since}T00:00:00", "2026-01-05T00:00:00"),
        ("{page}{page}", "22"),
        ("no placeholder", "no placeholder"),
        ("{each.key}", "A&B"),
        ("{braces}", "{page}"),
        ("{ page } {1} {} {{page}}", "{ page } {1} {} {2}"),
        (5, 5),
        (None, None),
        (True, True),
        ({"a": {"b": ["{page}", "x"]}}, {"a": {"b": [2, "x"]}}),
        ({"{page}": "{page}"}, {"{page}": 2}),
        ([], []),
        ({}, {}),
    ],
)
def test_placeholders_are_replaced_and_types_kept(tree: Any, expected: Any) -> None:
    result = filled(tree, VALUES)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"cursor": "{none}", "size": "{size}"}, {"size": 100}),
        ({"cursor": "after {none}", "size": 1}, {"size": 1}),
        ({"cursor": "{page}-{none}"}, {}),
        ({"a": {"cursor": "{none}", "b": 1}}, {"a": {"b": 1}}),
        ({"a": {"cursor": "{none}"}}, {"a": {}}),
        ({"a": ["{none}", "{page}"]}, {"a": [2]}),
        ({"a": ["{none}"], "b": 1}, {"b": 1}),
        (
            {"filters": [{"field": "id", "above": "{none}"}, {"field": "x", "is": 1}]},
            {"filters": [{"field": "x", "is": 1}]},
        ),
        ({"filters": [{"field": "id", "values": ["{none}"]}], "limit": "{size}"}, {"limit": 100}),
        ({"filters": [{"field": "id", "values": ["{none}", "{page}"]}]}, {"filters": [{"field": "id", "values": [2]}]}),
        ({"a": [], "b": [[]]}, {"a": [], "b": [[]]}),
        ({"a": None}, {"a": None}),
        ("{none}", {}),
    ],
)
def test_what_a_missing_value_stands_in_is_left_out(tree: Any, expected: Any) -> None:
    assert filled(tree, VALUES) == expected


def test_the_declaration_itself_is_not_changed() -> None:
    tree = {"a": ["{page}", {"b": "{none}"}]}
    filled(tree, VALUES)
    assert tree == {"a": ["{page}", {"b": "{none}"}]}


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"b": "{page}", "a": "{since}"}, [("b", "2"), ("a", "2026-01-05")]),
        ({"id": ["{page}", 7, "x"], "z": 1}, [("id", "2"), ("id", "7"), ("id", "x"), ("z", "1")]),
        ({"id": "{ids}"}, [("id", "1"), ("id", "2")]),
        ({"id[]": "{ids}"}, [("id[]", "1"), ("id[]", "2")]),
        ({"done": True, "open": False, "flag": "{flag}"}, [("done", "true"), ("open", "false"), ("flag", "true")]),
        ({"q": {"name": "課題", "page": "{page}"}}, [("q", '{"name": "課題", "page": 2}')]),
        ({"share": "{share}", "zero": "{zero}", "empty": "{empty}"}, [("share", "0.5"), ("zero", "0"), ("empty", "")]),
        ({"cursor": "{none}", "size": 5}, [("size", "5")]),
        ({"ids": ["{none}"]}, []),
        ({"nothing": None, "size": 5}, [("size", "5")]),
        ({}, []),
    ],
)
def test_parameters_keep_their_order_and_lists_repeat_the_key(tree: dict[str, Any], expected: list[Any]) -> None:
    assert list(params(tree, VALUES)) == expected


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        ("/things", {}, "/things"),
        ("/things/{id}/rows", {"id": 5}, "/things/5/rows"),
        ("/things/{each.key}", {"each.key": "課題 1"}, "/things/%E8%AA%B2%E9%A1%8C%201"),
        ("/things/{id}", {"id": "a/b?c=d&e#f%2F;@:+"}, "/things/a%2Fb%3Fc%3Dd%26e%23f%252F%3B%40%3A%2B"),
        ("/{a}/{b}", {"a": "x", "b": "{a}"}, "/x/%7Ba%7D"),
        ("/v1.2/~user/$metadata", {}, "/v1.2/~user/$metadata"),
    ],
)
def test_values_in_a_path_are_percent_encoded(template: str, values: dict[str, Any], expected: str) -> None:
    assert path(template, values) == expected
