"""Files for people: whole, or as they were before."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etl_assets.errors import FinalError


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path to write to: what is there at the end takes the file's place in one step; after an error nothing does.

    A pipe or device is written to directly. Raises FinalError when the file cannot be written.
    """
    if file.exists() and not file.is_file():
        yield file
        return
    unfinished = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        unfinished.touch()
        yield unfinished
        with unfinished.open("rb") as handle:
            os.fsync(handle.fileno())
        unfinished.replace(file)
    except OSError as error:
        raise FinalError(f"{file}: cannot be written: {error.strerror or error}") from None
    finally:
        unfinished.unlink(missing_ok=True)
