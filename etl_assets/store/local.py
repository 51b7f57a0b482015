"""A landing on a local disk: written under another name, made durable, renamed."""

import contextlib
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from etl_assets.store.protocol import KEEP_UNREFERENCED_SECONDS


@dataclass(frozen=True)
class LocalFiles:
    """A folder on disk, made when it is first written to."""

    path: Path

    @property
    def uri(self) -> str:
        """The path."""
        return str(self.path)

    def read(self, name: str) -> tuple[bytes, int]:
        """The document; a disk has no generations."""
        return (self.path / name).read_bytes(), 0

    def replace(self, name: str, data: bytes, generation: int) -> bool:
        """Replace the document in one step, together with the names of all files kept before."""
        temporary = self.scratch()
        with temporary.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        _sync_folder(self.path)
        os.replace(temporary, self.path / name)
        _sync_folder(self.path)
        return True

    def scratch(self) -> Path:
        """A temporary path in the folder, on the file system where the file will stay."""
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path / f".tmp-{uuid.uuid4().hex}"

    def keep(self, file: Path, name: str) -> None:
        """Make the file durable and rename it."""
        with file.open("rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(file, self.path / name)
        # Kept equal content keeps its old age otherwise, and could be swept away under the new manifest.
        os.utime(self.path / name)

    def publish(self, file: Path, name: str) -> None:
        """Make the file durable and rename it."""
        self.keep(file, name)
        _sync_folder(self.path)

    def settle(self) -> None:
        """Nothing is on its way."""

    def local(self, names: list[str]) -> list[Path]:
        """The files where they are."""
        return [self.path / name for name in names]

    def sweep(self, named: set[str]) -> None:
        """Remove what is not named and older than a day."""
        limit = time.time() - KEEP_UNREFERENCED_SECONDS
        for file in self.path.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another run sweeps the same folder
                if file.name not in named and file.stat().st_mtime < limit:
                    shutil.rmtree(file) if file.is_dir() else file.unlink()


@dataclass(frozen=True)
class LocalStore:
    """Folders below a root."""

    root: Path

    def folder(self, path: str) -> LocalFiles:
        """The folder, whether it exists or not."""
        return LocalFiles(self.root / path)

    def holding(self, name: str, path: str) -> list[str]:
        """The names of the folders that hold the file."""
        return [found.parent.name for found in (self.root / path).glob(f"*/{name}")]


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
