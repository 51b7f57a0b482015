"""Files for people: whole, or as they were before."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from etl_assets.errors import EtlError, FinalError


@contextlib.contextmanager
def replacing(file: Path, raising: type[EtlError] = FinalError) -> Iterator[Path]:
    """A path to write to: what is there at the end takes the file's place in one step; after an error nothing does.

    A link, pipe or device is written to directly. Raises `raising` when the file cannot be written.
    """
    plain = _is_plain(file)
    unfinished = file.with_name(f".tmp-{uuid.uuid4().hex}") if plain else file
    try:
        if plain:
            unfinished.touch()
        if plain and file.exists():
            unfinished.chmod(file.stat().st_mode)
        yield unfinished
        if plain:
            with unfinished.open("rb") as handle:
                os.fsync(handle.fileno())
            unfinished.replace(file)
    except OSError as error:
        raise raising(f"{file}: cannot be written: {error.strerror or error}") from None
    finally:
        if plain:
            with contextlib.suppress(OSError):  # it has never been, or has taken the file's place
                unfinished.unlink()


def _is_plain(file: Path) -> bool:
    """Whether it is a file, or nothing yet: of what cannot even be looked at, writing will tell what is wrong."""
    with contextlib.suppress(OSError):
        return not file.is_symlink() and (file.is_file() or not file.exists())
    return False
