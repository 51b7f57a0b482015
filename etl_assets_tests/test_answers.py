"""Looking into JSON answers without building them."""

from typing import Any

import msgspec
import pytest

from etl_assets.answers import NotJson, normal, rows_at, value_at


@pytest.mark.parametrize(
    ("received", "normalised"),
    [
        (b"[]", b"[]"),
        (b" \r\n{}\n", b"{}"),
        (b"\xef\xbb\xbf[1]", b"[1]"),
        (b"\xef\xbb\xbf\r\n[1]", b"[1]"),
        (b"null", b"null"),
        (b'"text"', b'"text"'),
        (b"1e5", b"1e5"),
        ('["日本語 🔑"]'.encode(), '["日本語 🔑"]'.encode()),
        (b'{"a": 1, "a": 2}', b'{"a": 1, "a": 2}'),
        (b"[123456789012345678901234567890.10]", b"[123456789012345678901234567890.10]"),
    ],
)
def test_one_json_value_is_kept_byte_for_byte_but_for_blanks_and_bom(received: bytes, normalised: bytes) -> None:
    assert normal(received) == normalised


@pytest.mark.parametrize(
    ("received", "normalised"),
    [
        (rb'["\ud83d"]', rb'["\ufffd"]'),
        (rb'["\uDE00 end"]', rb'["\ufffd end"]'),
        (rb'["\ud83d\ude00"]', rb'["\ud83d\ude00"]'),
        (rb'["\uD83D\uDE00"]', rb'["\uD83D\uDE00"]'),
        (rb'["\ud83d\ud83d\ude00"]', rb'["\ufffd\ud83d\ude00"]'),
        (rb'["\ud83d\ude00\ude00"]', rb'["\ud83d\ude00\ufffd"]'),
        (rb'["\ude00\ud83d"]', rb'["\ufffd\ufffd"]'),
        (rb'["\ud83d\n"]', rb'["\ufffd\n"]'),
        (rb'["C:\\ud83d"]', rb'["C:\\ud83d"]'),
        (rb'["\\\ud83d"]', rb'["\\\ufffd"]'),
        (rb'["\\\\ud83d"]', rb'["\\\\ud83d"]'),
        (rb'{"\udc00": 1}', rb'{"\ufffd": 1}'),
    ],
)
def test_half_a_surrogate_pair_is_replaced_and_nothing_else(received: bytes, normalised: bytes) -> None:
    assert normal(received) == normalised
    assert "\ufffd" in str(msgspec.json.decode(normal(received))) or received == normalised


@pytest.mark.parametrize(
    ("received", "normalised"),
    [
        (b'["a\nb"]', rb'["a\u000ab"]'),
        (b'[\n"a\\"\tb\\\\"\t]', b'[\n"a\\"\\u0009b\\\\"\t]'),
    ],
)
def test_control_characters_inside_a_text_are_escaped(received: bytes, normalised: bytes) -> None:
    assert normal(received) == normalised


@pytest.mark.parametrize(
    "received",
    [
        b"",
        b"   ",
        b"<html></html>",
        b"[1, 2",
        b'[{"id": 1}, {"i',
        b"[1][2]",
        b"[1],",
        b"{'a': 1}",
        b"[01]",
        b"[NaN]",
        b"[Infinity]",
        b"[1,]",
        b'["\xff"]',
        b'["\xed\xa0\xbd"]',
        rb'["\x41"]',
        rb'["\u12"]',
        '["a"]'.encode("utf-16"),
        '["a"]'.encode("utf-16-le"),
        b"\x1f\x8b\x08\x00",
        b"callback([1])",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_anything_else_is_not_json(received: bytes) -> None:
    with pytest.raises(NotJson):
        normal(received)


BODY = b'{"data": {"rows": [{"id": 1}, {"id": 2.50}], "next": null, "more": false, "": {"x": 5}}, "total": "12"}'


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("total", "12"),
        ("data.more", False),
        ("data.next", None),
        ("data.rows", [{"id": 1}, {"id": 2.5}]),
        ("data..x", 5),
        ("data.none", None),
        ("none.of.this", None),
        ("total.deeper", None),
        ("data.rows.id", None),
        ("data.next.token", None),
    ],
)
def test_a_value_is_found_by_its_path_or_absent(path: str, value: Any) -> None:
    assert value_at(BODY, path) == value
    assert value_at(msgspec.Raw(BODY), path) == value


def test_the_empty_path_is_the_whole_answer() -> None:
    assert value_at(b"[1, 2]", "") == [1, 2]
    assert value_at(b'"x"', "") == "x"
    assert value_at(b'"x"', "a") is None


def test_rows_stay_the_bytes_that_came() -> None:
    assert [bytes(row) for row in rows_at(BODY, "data.rows")] == [b'{"id": 1}', b'{"id": 2.50}']
    assert [bytes(row) for row in rows_at(b"[1, [2],null]", "")] == [b"1", b"[2]", b"null"]


@pytest.mark.parametrize(("body", "path"), [(b"[]", ""), (b'{"rows": []}', "rows"), (b'{"rows": null}', "rows")])
def test_an_empty_or_null_list_has_no_rows(body: bytes, path: str) -> None:
    assert rows_at(body, path) == []


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"rows": {"id": 1}}', "rows"),
        (b'{"rows": "none"}', "rows"),
        (b'{"rows": 0}', "rows"),
        (b'{"error": "x"}', ""),
        (b"0", ""),
    ],
)
def test_something_else_than_a_list_is_an_error_that_names_the_place(body: bytes, path: str) -> None:
    with pytest.raises(NotJson, match=f"no list at '{path or 'the top of the answer'}'"):
        rows_at(body, path)
