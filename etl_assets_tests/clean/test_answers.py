"""Answers of every shape, and files that are broken."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from etl_assets.errors import LandingError
from etl_assets_tests.clean.material import DAILY
from etl_assets_tests.data import DAY, Bench, Page

# Shapes of answers


def test_an_answer_can_hold_one_row(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "one: true\ncolumns: {id: integer, name: string, settings: json}")
    bench.land([Page({"id": 1, "name": "Space", "settings": {"a": []}, "lang": "ja"})])
    cleaned = bench.clean()
    assert bench.rows() == [{"id": 1, "name": "Space", "settings": '{"a":[]}', "_extra": '{"lang":"ja"}'}]
    assert cleaned.rows_raw == 1


def test_one_row_can_stand_deeper_in_the_answer(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "one: true\nrows: ''\ncolumns: {id: {type: integer, path: data.user.id}}")
    bench.land([Page({"code": 0, "data": {"user": {"id": 7}}})])
    bench.clean()
    assert [(row["id"], row["_extra"]) for row in bench.rows()] == [(7, '{"code":0}')]


def test_rows_can_stand_anywhere_in_the_answer(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "rows: data.da-tas.list\ncolumns: {id: integer, v: string}")
    bench.land(
        [
            Page({"code": 0, "data": {"da-tas": {"list": [{"id": 1, "v": "a"}], "n": [1]}, "x": {}}, "id": 9}),
            Page({"data": {"da-tas": {"list": [{"id": 2}, {"id": 3, "w": 1}]}}}),
        ]
    )
    bench.clean()
    assert [(row["id"], row["v"], row["_extra"]) for row in bench.rows()] == [
        (1, "a", None),
        (2, None, None),
        (3, None, '{"w":1}'),
    ]


EMPTY = ['{"data": []}', '{"data": null}', '{"data": {"datas": null}}', '{"data": {"datas": []}}', "[]"]


@pytest.mark.parametrize("body", EMPTY)
def test_an_empty_answer_of_any_shape_has_no_rows(tmp_path: Path, body: str) -> None:
    bench = Bench.of(tmp_path, "rows: data.datas\ncolumns: {id: integer}")
    bench.land([Page(body)])
    assert bench.clean().rows_raw == 0
    assert bench.rows() == []


def test_empty_answers_between_full_ones_do_not_matter(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "rows: data.datas\ncolumns: {id: integer}")
    full = [Page({"data": {"datas": [{"id": n}]}}) for n in range(3)]
    bench.land([page for pair in zip(full, map(Page, EMPTY), strict=False) for page in pair] + [Page(EMPTY[0])])
    assert bench.clean().rows_raw == 3
    assert [row["id"] for row in bench.rows()] == [0, 1, 2]


@pytest.mark.parametrize("day", [None, DAY])
def test_no_page_at_all_is_an_empty_set(tmp_path: Path, day: date | None) -> None:
    bench = Bench.of(tmp_path, DAILY if day else "columns: {id: integer}")
    bench.land([], day=day)
    cleaned = bench.clean(day=day)
    assert (cleaned.rows_raw, cleaned.rows_quarantined, cleaned.manifest.rows) == (0, 0, 0)
    assert bench.rows(day=day) == []


def test_a_page_may_be_long_and_hold_line_breaks(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer, v: string}")
    records = [{"id": n, "v": f"line\n{n}" * 100} for n in range(4000)]
    pages = [json.dumps(records[:3000], indent=4), json.dumps(records[3000:], indent="\t").replace("\n", "\r\n")]
    manifest = bench.land(map(Page, pages))
    assert manifest.details["largest_page_bytes"] > 2 << 20
    bench.clean()
    assert [(row["id"], row["v"]) for row in bench.rows()] == [(record["id"], record["v"]) for record in records]


def test_a_page_may_be_larger_than_what_a_json_reader_takes_by_default(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer, v: string}")
    manifest = bench.land([Page([{"id": n, "v": "x" * 1000} for n in range(36_000)]), Page([{"id": -1}])])
    assert manifest.details["largest_page_bytes"] > 32 << 20
    assert bench.clean().manifest.rows == 36_001


def test_rows_are_read_from_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl_assets.landing._PART_BYTES", 500)
    bench = Bench.of(tmp_path, "columns: {id: integer}")
    manifest = bench.land(Page([{"id": 10 * n + m} for m in range(10)]) for n in range(30))
    assert len(manifest.files) > 5
    bench.clean()
    assert [row["id"] for row in bench.rows()] == list(range(300))


# Broken input


def raw_file(bench: Bench) -> Path:
    folder = bench.folder("raw", None)
    return folder.path / folder.manifest().files[0].name


@pytest.mark.parametrize(
    "harm",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\0"),
        lambda file: (file.parent / "manifest.json").unlink(),
    ],
    ids=["missing", "cut", "altered", "unsealed"],
)
def test_raw_files_that_are_not_whole_are_never_cleaned(tmp_path: Path, harm: Callable[[Path], Any]) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer}")
    bench.cleaned([{"id": 1}])
    before = bench.folder("clean", None).manifest()
    harm(raw_file(bench))
    with pytest.raises(LandingError):
        bench.clean()
    assert bench.folder("clean", None).manifest() == before


def test_rows_that_cannot_be_read_back_fail_the_step(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer}")
    manifest = bench.land([Page([{"id": 1}])])
    path = bench.folder("raw", None).path / "manifest.json"
    path.write_text(path.read_text().replace(f'"rows": {manifest.rows},', '"rows": 2,', 1))
    with pytest.raises(LandingError, match="2 rows were received, 1 read back"):
        bench.clean()


def test_a_landing_whose_clean_folder_is_a_file_is_said_to_be_unwritable(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, "columns: {id: integer}")
    bench.land([Page([{"id": 1}])])
    (tmp_path / "landing" / "clean").write_text("")
    with pytest.raises(LandingError, match="cannot be written"):
        bench.clean()


@pytest.mark.parametrize("name", ["a b", "日本", "a'b", 'a"b', "a[1]", "a*b", "{x,y}", "100%"])
def test_the_data_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    root.mkdir()
    bench = Bench.of(root, "columns: {id: integer}")
    assert bench.loaded([{"id": 1}, {"id": "?"}]).rows == 1
    assert bench.table("id") == [{"id": 1}]
