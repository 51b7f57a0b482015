"""What the landing needs of a storage: folders of files that are written once, and documents that replace another.

Names and manifests belong to `landing`; here is how bytes come and go.
"""

from pathlib import Path
from typing import Protocol

KEEP_UNREFERENCED_SECONDS = 24 * 3600


class Files(Protocol):
    """The files of one folder. OSError and LandingError mean that the storage cannot be reached or written."""

    @property
    def uri(self) -> str:
        """Where the folder is, for people and for other services."""
        ...

    def read(self, name: str) -> tuple[bytes, int]:
        """A document and its generation. Raises FileNotFoundError."""
        ...

    def replace(self, name: str, data: bytes, generation: int) -> bool:
        """Put a document in place of the one of that generation, 0 meaning that there is none.

        False, and nothing changed, when another one is there by now. A storage without generations replaces
        whatever is there.
        """
        ...

    def scratch(self) -> Path:
        """A fresh local path to write a file at, or to make a folder of."""
        ...

    def keep(self, file: Path, name: str) -> None:
        """Take a file written at or below `scratch()` under its final name; it may be on its way until `settle`."""
        ...

    def settle(self) -> None:
        """Wait until everything kept is durable."""
        ...

    def publish(self, file: Path, name: str) -> None:
        """Put a file written at or below `scratch()` in place of what has the name now, in one step, durably."""
        ...

    def local(self, names: list[str]) -> list[Path]:
        """Local paths to read the files at. Raises FileNotFoundError."""
        ...

    def sweep(self, named: set[str]) -> None:
        """Remove what is not named and older than a day: superseded, or left by a run that died."""
        ...


class Store(Protocol):
    """A storage with folders."""

    def folder(self, path: str) -> Files:
        """The folder at a path such as `raw/tmetric/tags/snapshot`."""
        ...

    def holding(self, name: str, path: str) -> list[str]:
        """The names of the folders right below the path that hold a file of that name."""
        ...
