"""The transform hook."""

import textwrap
import zlib
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from etl_assets.errors import FinalError, LandingError
from etl_assets_tests.clean.material import DAILY, at
from etl_assets_tests.data import DAY, Bench, utc

HOOKED = """
transform: "{module}:{function}"
window: {{column: t}}
columns: {{id: integer, t: timestamp, big: integer, flag: boolean, price: "decimal(12,2)", d: date, j: json, s: string}}
derived: {{label: {{type: string}}, twice: {{type: integer}}}}
"""


def hooked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, *, module: str, function: str = "change"
) -> Bench:
    (tmp_path / f"{module}.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(str(tmp_path))
    return Bench.of(tmp_path, HOOKED.format(module=module, function=function))


ADDING = """
def change(frame):
    frame["label"] = frame["s"].str.upper()
    frame["twice"] = frame["big"]
    return frame
"""


def test_a_transform_adds_columns_and_bends_no_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = hooked(tmp_path, monkeypatch, ADDING, module="hook_adding")
    record = {"id": 2**53 + 1, "t": at("05T09:00:00.123456"), "big": 2**63 - 1, "flag": True, "price": "9999999999.99"}
    record |= {"d": "9999-12-31", "j": {"a": [1, None, "é"]}, "s": "é\N{GRINNING FACE}", "undeclared": 2**53 + 1}
    bench.cleaned([record, {"id": 2, "t": at("05T10:00")}], day=DAY)
    empty, full = bench.rows(day=DAY)
    assert full == {
        "id": 2**53 + 1,
        "t": utc("2026-01-05 00:00:00.123456"),
        "big": 2**63 - 1,
        "flag": True,
        "price": Decimal("9999999999.99"),
        "d": date(9999, 12, 31),
        "j": '{"a":[1,null,"é"]}',
        "s": "é\N{GRINNING FACE}",
        "label": "É\N{GRINNING FACE}",
        "twice": 2**63 - 1,
        "_extra": '{"undeclared":9007199254740993}',
    }
    assert empty == {**dict.fromkeys(full), "id": 2, "t": utc("2026-01-05 01:00")}


def test_a_transform_is_given_the_rows_batch_by_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl_assets.clean._TRANSFORM_ROWS", 10)
    code = """
    def change(frame):
        assert len(frame) <= 10
        frame["label"], frame["twice"] = "x", frame["id"] * 2
        return frame.iloc[::-1]
    """
    bench = hooked(tmp_path, monkeypatch, code, module="hook_batches")
    cleaned = bench.cleaned([{"id": n, "t": at("05T09:00")} for n in range(95)], day=DAY)
    assert [(row["id"], row["twice"]) for row in bench.rows(day=DAY)] == [(n, 2 * n) for n in range(95)]
    assert cleaned.manifest.rows == 95


def test_a_transform_of_no_rows_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = hooked(tmp_path, monkeypatch, ADDING, module="hook_empty")
    assert bench.cleaned([], day=DAY).manifest.rows == 0
    assert bench.rows(day=DAY) == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return frame.iloc[1:]", "as many rows as it got"),
        ("return None", "as many rows as it got"),
        ("return [1, 2]", "as many rows as it got"),
        ("return frame.drop(columns=['price'])", "has no column price"),
        ("return frame.drop(columns=['_extra'])", "has no column _extra"),
        ("frame['id'] = 1\n    return frame", "the keys are no longer unique"),
        ("frame['big'] = 'many'\n    return frame", "cannot be cleaned"),
    ],
)
def test_a_transform_that_breaks_its_promise_is_a_final_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    module = f"hook_{zlib.crc32(body.encode())}"
    bench = hooked(tmp_path, monkeypatch, f"def change(frame):\n    {body}\n", module=module)
    with pytest.raises(FinalError, match=said):
        bench.cleaned([{"id": n, "t": at("05T09:00")} for n in range(3)], day=DAY)
    with pytest.raises(LandingError, match="no complete clean files"):
        bench.folder("clean", DAY).manifest()


@pytest.mark.parametrize(("module", "function"), [("hook_absent", "change"), ("hook_present", "nope")])
def test_a_transform_that_does_not_exist_is_a_final_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, function: str
) -> None:
    (tmp_path / "hook_present.py").write_text("change = None")
    monkeypatch.syspath_prepend(str(tmp_path))
    bench = Bench.of(tmp_path, HOOKED.format(module=module, function=function))
    with pytest.raises(FinalError, match=f"transform '{module}:{function}'"):
        bench.cleaned([{"id": 1, "t": at("05T09:00")}], day=DAY)


def test_folders_of_different_days_do_not_touch_each_other(tmp_path: Path) -> None:
    bench = Bench.of(tmp_path, DAILY)
    bench.cleaned([{"id": 1, "t": at("05T09:00")}], day=DAY)
    bench.cleaned([{"id": 1, "t": at("06T09:00")}], day=date(2026, 1, 6))
    bench.cleaned([], day=date(2026, 1, 6))
    assert [row["id"] for row in bench.rows(day=DAY)] == [1]
    assert bench.rows(day=date(2026, 1, 6)) == []


@pytest.mark.parametrize(("form", "delimiter"), [("tsv", "\t"), ("csv", ",")])
def test_a_text_file_brings_every_value_back(tmp_path: Path, form: str, delimiter: str) -> None:
    import csv

    bench = Bench.of(tmp_path, f"delimited: {form}\ncolumns: {{id: integer, v: string, w: string, j: json, n: number}}")
    texts = ["plain", "a\tb", "a\nb", "a\r\nb", 'say "so"', "a,b", "", " 日本 ", None, "NULL", "\\t"]
    bench.cleaned([{"id": n, "v": text, "w": "x", "j": {"k": ["a\tb", '"']}, "n": 0.1} for n, text in enumerate(texts)])
    manifest = bench.folder("clean", None).manifest()
    (entry,) = [file for file in manifest.files if file.name.startswith("table-")]
    assert (entry.name.rsplit(".", 1)[1], entry.rows) == (form, len(texts))
    written = (bench.folder("clean", None).path / entry.name).read_text("utf-8")
    with (bench.folder("clean", None).path / entry.name).open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file, delimiter=delimiter))
    assert header == ["id", "v", "w", "j", "n", "_extra"]
    assert [row[1] for row in rows] == [text or "" for text in texts]
    assert {row[3] for row in rows} == {'{"k":["a\\tb","\\""]}'}
    assert f'6{delimiter}""{delimiter}x' in written  # an empty text is not NULL
    assert f"8{delimiter}{delimiter}x" in written
    assert len(bench.folder("clean", None).files(manifest)) == 1  # no step reads it
    assert bench.load().rows == len(texts)
