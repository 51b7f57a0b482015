"""A full disk: files that may not grow beyond a size, and a small file system without room or without inodes."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from etl_assets.sandbox.server import running
from etl_assets_tests.chaos import steps
from etl_assets_tests.chaos.conftest import Make
from etl_assets_tests.chaos.place import ENTRIES, Found, Place, either, exact

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

SMOKE = pytest.mark.smoke
KB = 1024
ROOM, INODES = 6 << 20, 100
# How far it goes, and whether that is too little for a run.
FILE_BYTES = [
    pytest.param(0, True),  # the first file of the limiter
    pytest.param(512, True),  # raw
    pytest.param(10_000, True),  # clean
    pytest.param(30_000, True, marks=SMOKE),  # the commit of the load
    pytest.param(300_000, False),  # a checkpoint of a new warehouse is cut, the load stands
    pytest.param(1_400_000, False),  # so is one of a warehouse that exists
]
BYTES_LEFT = [
    pytest.param(0, True),
    pytest.param(12 * KB, True, marks=SMOKE),  # raw is written, its manifest is not
    pytest.param(20 * KB, True),
    pytest.param(36 * KB, True),
    pytest.param(52 * KB, True, marks=SMOKE),
    pytest.param(400 * KB, False),
    pytest.param(1000 * KB, False),
]
INODES_LEFT = [(0, True), (1, True), (2, True), (4, True), (6, True), (8, True), (9, True), (22, None), (30, False)]

Disk = Callable[[int, int], Path]


@pytest.mark.parametrize("scenario", ["first", "reload"])
@pytest.mark.parametrize(("size", "fails"), FILE_BYTES)
def test_files_cannot_grow(make: Make, scenario: str, size: int, fails: bool) -> None:
    place = make(scenario)
    before = place.found()
    limited(place, before, fails, CHAOS_FILE_BYTES=str(size))
    healed(place, before)


def test_files_cannot_grow_while_many_rows_arrive(tmp_path: Path) -> None:
    """The disk is full in the middle of a part, not only when it is closed."""
    with running(days=3, scale=5, vendors=("tmetric",)) as sandbox:
        place = Place(sandbox, tmp_path / "data")
        before = place.found()
        limited(place, before, fails=True, CHAOS_FILE_BYTES="4096")
        assert [file.name for file in (place.data / "landing").rglob("*") if file.is_file()] == []
        healed(place, before)


@pytest.mark.parametrize("scenario", ["first", "reload"])
@pytest.mark.parametrize("size", [100_000, 300_000, 1_400_000])
def test_one_run_after_the_other_with_the_checkpoint_cut(make: Make, scenario: str, size: int) -> None:
    place = make(scenario)
    before = place.found()
    for note in ("one", "two", "three"):
        changed = place.sandbox.truth(day=str(ENTRIES.day))[0]["id"]
        place.sandbox.change("entries", update=[{"id": changed, "note": note}])
        limited(place, before, fails=None, CHAOS_FILE_BYTES=str(size))
        before = place.found()
    healed(place, before)


@pytest.mark.parametrize("scenario", ["first", "reload"])
@pytest.mark.parametrize(("left", "fails"), BYTES_LEFT)
def test_no_room(make: Make, disk: Disk, scenario: str, left: int, fails: bool) -> None:
    place = make(scenario, disk(ROOM, INODES))
    ballast = place.data.with_name("ballast")
    ballast.write_bytes(bytes(_free(place).f_bavail * _free(place).f_bsize - left))
    before = place.found()
    limited(place, before, fails)
    ballast.unlink()
    healed(place, before)


@pytest.mark.parametrize("scenario", ["first", "reload"])
@pytest.mark.parametrize(("left", "fails"), INODES_LEFT)
def test_no_inodes(make: Make, disk: Disk, scenario: str, left: int, fails: bool | None) -> None:
    place = make(scenario, disk(ROOM, INODES))
    ballast = [place.data.with_name(f"ballast-{number}") for number in range(_free(place).f_favail - left)]
    for file in ballast:
        file.touch()
    before = place.found()
    limited(place, before, fails)
    for file in ballast:
        file.unlink()
    healed(place, before)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mounts a file system of so many bytes and inodes in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mounted(size: int, inodes: int) -> Path:
        options = ["-t", "tmpfs", "-o", f"size={size},nr_inodes={inodes}", "chaos", str(folder)]
        try:
            subprocess.run(["mount", *options], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no file system can be mounted here: {error}")
        return folder

    yield mounted
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def limited(place: Place, before: Found, fails: bool | None, **more: str) -> None:
    """A run in want: success and the truth, or a typed error and the table as before."""
    done = place.run(**more)
    assert done.code in (0, steps.TYPED), done.err
    assert fails is None or fails == (done.code != 0), done.err
    assert either(place, before, ENTRIES) == (done.code == 0)


def healed(place: Place, before: Found) -> None:
    again = place.run()
    assert again.code == 0, again.err
    exact(place, before)


def _free(place: Place) -> os.statvfs_result:
    return os.statvfs(place.data.parent)
