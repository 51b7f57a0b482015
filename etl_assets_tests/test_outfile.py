import os
from pathlib import Path

import pytest

from etl_assets.errors import FinalError
from etl_assets.outfile import replacing


def test_the_file_is_the_old_one_until_the_new_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    for text in ("first", "second"):
        before = file.read_text() if file.exists() else None
        with replacing(file) as unfinished:
            unfinished.write_text(text)
            assert (file.read_text() if file.exists() else None) == before
        assert file.read_text() == text
    assert list(tmp_path.iterdir()) == [file]


def test_after_an_error_the_file_is_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    file.write_text("first")

    def write() -> None:
        with replacing(file) as unfinished:
            unfinished.write_text("half")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - whatever it is
        write()
    assert (file.read_text(), list(tmp_path.iterdir())) == ("first", [file])


def test_who_may_read_the_file_stays_so(tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    file.touch(0o600)
    with replacing(file) as unfinished:
        unfinished.write_text("secret")
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_link_stays_one(tmp_path: Path) -> None:
    link, real = tmp_path / "link.csv", tmp_path / "real.csv"
    link.symlink_to(real)
    with replacing(link) as unfinished:
        unfinished.write_text("text")
    assert (link.is_symlink(), real.read_text()) == (True, "text")


@pytest.mark.parametrize("name", ["missing/out.csv", "a-file/out.csv", "/dev/full", "x" * 300])
def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "a-file").touch()
    with (
        pytest.raises(FinalError, match=f"{name}: cannot be written: "),
        replacing(tmp_path / name) as unfinished,
        unfinished.open("w") as file,
    ):
        file.write("text")


def test_a_name_may_be_as_long_as_the_system_permits(tmp_path: Path) -> None:
    file = tmp_path / ("x" * os.pathconf(tmp_path, "PC_NAME_MAX"))
    with replacing(file) as unfinished:
        unfinished.write_text("text")
    assert file.read_text() == "text"
