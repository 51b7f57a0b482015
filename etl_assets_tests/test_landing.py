"""The landing: sets sealed by a manifest, raw pages given back as they came, nothing of a half-written set seen."""

import json
import os
import random
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from etl_assets.errors import LandingError, RetryableError
from etl_assets.landing import MANIFEST, DataFile, Folder, Manifest, pages, raw_writer
from etl_assets.store.protocol import KEEP_UNREFERENCED_SECONDS
from etl_assets_tests.data import DAY

LONG_AGO = KEEP_UNREFERENCED_SECONDS + 3600


def folder(root: Path, layer: str = "raw", day: date | None = DAY) -> Folder:
    return Folder(root, layer, "demo", "things", day)


def manifest(into: Folder, files: list[DataFile], **details: Any) -> Manifest:
    return Manifest(
        layer="raw",
        source="demo",
        stream="things",
        partition=into.partition,
        window=("2026-01-05T00:00:00+09:00", "2026-01-06T00:00:00+09:00"),
        rows=sum(file.rows for file in files),
        files=tuple(files),
        run_id="run",
        code_version="1",
        created_at=datetime(2026, 1, 6, tzinfo=UTC).isoformat(),
        details=details,
    )


def write(into: Folder, *bodies: bytes, rows: int = 1) -> list[DataFile]:
    with raw_writer(into) as writer:
        for body in bodies:
            writer.add(body, rows, {})
    return writer.files


def write_and_seal(into: Folder, *bodies: bytes) -> Manifest:
    sealed = manifest(into, write(into, *bodies))
    into.seal(sealed)
    return sealed


def names(into: Folder) -> set[str]:
    return {file.name for file in into.path.iterdir()}


def bodies(into: Folder) -> list[bytes]:
    return [body for file in into.files(into.manifest()) for _, body in pages(file)]


@pytest.mark.parametrize(
    ("layer", "day", "path"),
    [("raw", DAY, "raw/demo/things/2026-01-05"), ("clean", None, "clean/demo/things/snapshot")],
)
def test_a_set_lies_under_layer_source_stream_and_day(tmp_path: Path, layer: str, day: date | None, path: str) -> None:
    assert folder(tmp_path, layer, day).path == tmp_path / path
    assert folder(tmp_path, layer, day).uri == str(tmp_path / path)


def test_a_manifest_reads_back_as_it_was_written(tmp_path: Path) -> None:
    into = folder(tmp_path)
    sealed = manifest(into, write(into, b"[1]"), note="日本 \N{GRINNING FACE}", nested={"a": [1, None]})
    into.seal(sealed)
    assert into.manifest() == sealed
    assert Manifest.from_json(sealed.to_json()) == sealed


def test_a_folder_without_a_manifest_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(LandingError, match=r"2026-01-05.*no complete raw files; materialise the raw asset"):
        folder(tmp_path).manifest()
    write(folder(tmp_path), b"[1]")
    with pytest.raises(LandingError, match="no complete raw files"):
        folder(tmp_path).manifest()


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", "{}", '{"files": [1]}', '{"files": [], "window": 3}'])
def test_a_broken_manifest_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    into = folder(tmp_path)
    write_and_seal(into, b"[1]")
    (into.path / MANIFEST).write_text(text)
    with pytest.raises(LandingError, match=r"manifest\.json: not a readable manifest"):
        into.manifest()


@pytest.mark.parametrize("other", [("clean", DAY), ("raw", date(2026, 1, 6)), ("raw", None)])
def test_a_manifest_in_the_wrong_place_is_refused(tmp_path: Path, other: tuple[str, date | None]) -> None:
    write_and_seal(folder(tmp_path), b"[1]")
    moved = folder(tmp_path, *other)
    moved.path.parent.mkdir(parents=True, exist_ok=True)
    folder(tmp_path).path.rename(moved.path)
    with pytest.raises(LandingError, match="belongs to demo/things 2026-01-05"):
        moved.manifest()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def alter(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("harm", [cut, lengthen, alter, empty, Path.unlink])
def test_a_file_that_is_not_as_the_manifest_says_is_refused(tmp_path: Path, harm: Any) -> None:
    into = folder(tmp_path)
    sealed = write_and_seal(into, b'["one"]', b'["two"]')
    harm(into.path / sealed.files[0].name)
    with pytest.raises(LandingError, match=rf"{sealed.files[0].name}.*extract again") as caught:
        into.files(into.manifest())
    assert isinstance(caught.value, RetryableError)


def test_a_page_comes_back_byte_for_byte_with_its_stamp(tmp_path: Path) -> None:
    received = [
        (b"[]", {}),
        (b"{}", {"user_id": 7, "name": "é 日本 \N{GRINNING FACE}", "zone": None, "nested": {"a": [1.5, True]}}),
        (b'{"a": 1,\n  "b": [\n1,\r\n2\n]\n}', {"quote": '"}\n'}),
        (b"[ 1 , 1.10, 1e3, 12345678901234567890.12345 ]", {}),
        ('{"t": "}\\n\\"body\\": {\\u2028 \u2028 \\u0000 日本 \N{GRINNING FACE}"}'.encode(), {"u": "\u2028"}),
        (b'"a text"', {}),
        (b"null", {}),
        (b'{"body": {"page": 0, "stamp": {}}}', {}),
        (b'{"a": 1, "a": 2}', {}),
    ]
    with raw_writer(folder(tmp_path)) as writer:
        for number, (body, stamp) in enumerate(received):
            writer.add(body, number % 2, stamp)
    read = [page for file in writer.files for page in pages(folder(tmp_path).path / file.name)]
    assert read == [(stamp, body) for body, stamp in received]


def random_tree(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(4 if depth < 3 else 2)
    if kind == 0:
        return chance.choice([None, True, 0, -1.5, 2**53 + 1, 10**20])
    if kind == 1:
        return "".join(
            chance.choice('ab"\\\n\r\t{}[],: \u2028é日\N{GRINNING FACE}\x00') for _ in range(chance.randrange(9))
        )
    if kind == 2:
        return [random_tree(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {f"k{n}\n": random_tree(chance, depth + 1) for n in range(chance.randrange(4))}


@pytest.mark.parametrize("seed", range(5))
def test_pages_of_any_content_come_back_byte_for_byte(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    received = [
        json.dumps(random_tree(chance), ensure_ascii=chance.random() < 0.5, indent=chance.choice([None, 1])).encode()
        for _ in range(200)
    ]
    with raw_writer(folder(tmp_path)) as writer:
        for body in received:
            writer.add(body, chance.randrange(2), {"s": random_tree(chance)})
    assert [body for file in writer.files for _, body in pages(folder(tmp_path).path / file.name)] == received


def test_a_large_answer_is_cut_into_parts_that_keep_pages_whole_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl_assets.landing._PART_BYTES", 1000)
    received = [json.dumps([number, "x" * 300]).encode() for number in range(10)]
    into = folder(tmp_path)
    with raw_writer(into) as writer:
        for body in received:
            writer.add(body, 2, {})
    assert [file.rows for file in writer.files] == [6, 6, 6, 2]
    assert [file.name[:11] for file in writer.files] == ["part-00000-", "part-00001-", "part-00002-", "part-00003-"]
    assert (writer.pages, writer.rows) == (10, 20)
    assert [body for file in writer.files for _, body in pages(into.path / file.name)] == received


def test_a_set_without_pages_has_no_files_and_is_complete(tmp_path: Path) -> None:
    into = folder(tmp_path)
    write_and_seal(into)
    assert into.manifest().files == ()
    assert into.files(into.manifest()) == []
    assert names(into) == {MANIFEST}


def test_identical_content_has_identical_file_names(tmp_path: Path) -> None:
    first, second = folder(tmp_path / "one"), folder(tmp_path / "two")
    assert write(first, b"[1]", b"[2]") == write(second, b"[1]", b"[2]")
    assert write(first, b"[1]", b"[3]") != write(second, b"[1]", b"[2]")


def test_writing_the_same_set_again_changes_no_file_of_it(tmp_path: Path) -> None:
    into = folder(tmp_path)
    write_and_seal(into, b"[1]")
    before = names(into)
    write_and_seal(into, b"[1]")
    assert names(into) == before
    assert bodies(into) == [b"[1]"]


def test_a_failed_writer_leaves_the_former_set_in_force_and_nothing_behind(tmp_path: Path) -> None:
    into = folder(tmp_path)
    write_and_seal(into, b'["old"]')
    before = names(into)

    def fail_half_way() -> None:
        with raw_writer(into) as writer:
            writer.add(b'["new"]', 1, {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert names(into) == before
    assert bodies(into) == [b'["old"]']


def test_files_that_are_not_sealed_yet_are_not_part_of_the_set(tmp_path: Path) -> None:
    into = folder(tmp_path)
    write_and_seal(into, b'["old"]')
    write(into, b'["new"]')
    assert bodies(into) == [b'["old"]']


def test_a_reader_of_the_former_set_still_finds_its_files(tmp_path: Path) -> None:
    into = folder(tmp_path)
    former = write_and_seal(into, b'["old"]')
    write_and_seal(into, b'["new"]')
    assert bodies(into) == [b'["new"]']
    assert [body for file in into.files(former) for _, body in pages(file)] == [b'["old"]']


def age(file: Path, seconds: float) -> None:
    then = file.stat().st_mtime - seconds
    os.utime(file, (then, then))


def test_superseded_and_abandoned_files_go_once_they_are_old(tmp_path: Path) -> None:
    into = folder(tmp_path)
    old = write_and_seal(into, b'["old"]').files[0].name
    recent = write_and_seal(into, b'["recent"]').files[0].name
    (into.path / ".tmp-abandoned").write_bytes(b"half")
    (into.path / ".tmp-recent").write_bytes(b"half")
    workspace = into.path / ".tmp-workspace"
    workspace.mkdir()
    (workspace / "typed.parquet").write_bytes(b"half")
    for name in (old, ".tmp-abandoned", ".tmp-workspace"):
        age(into.path / name, LONG_AGO)
    newest = write_and_seal(into, b'["newest"]').files[0].name
    assert names(into) == {MANIFEST, recent, newest, ".tmp-recent"}


def test_files_in_force_stay_however_old_they_are(tmp_path: Path) -> None:
    into = folder(tmp_path)
    files = write(into, b"[1]")
    age(into.path / files[0].name, LONG_AGO)
    into.seal(manifest(into, files))
    into.seal(manifest(into, files))
    assert bodies(into) == [b"[1]"]


def test_content_that_comes_back_after_a_while_is_as_young_as_its_last_use(tmp_path: Path) -> None:
    into = folder(tmp_path)
    first = write_and_seal(into, b'["a"]')
    age(into.path / first.files[0].name, LONG_AGO)
    files = write(into, b'["a"]')
    write_and_seal(into, b'["b"]')
    into.seal(manifest(into, files))
    assert bodies(into) == [b'["a"]']


def test_a_landing_that_cannot_be_written_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("a file where a folder should be")
    with pytest.raises(LandingError, match="cannot be written"):
        write(folder(tmp_path), b"[1]")
