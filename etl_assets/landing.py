"""The landing: where raw answers and clean files lie, each set of files sealed by a manifest.

A folder per (layer, source, stream, partition), in a storage (`store/`). Data files are kept under a name that
holds their digest; the manifest comes last and replaces the one before in one step. So a reader sees the old
set or the new one, never a part: what no manifest names does not exist. Superseded and abandoned files are
removed a day later, when no reader can still be at them.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from etl_assets.errors import LandingError
from etl_assets.store.local import LocalStore
from etl_assets.store.protocol import Store

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
SNAPSHOT = "snapshot"
FOR_PEOPLE = (".tsv", ".csv")  # files of a set that no step reads
_PART_BYTES = 2 << 20  # uncompressed; DuckDB holds whole parts, one per thread
_LEVEL = 3
_RIVALS = 20  # runs that may seal the same set while one tries to


@dataclass(frozen=True)
class DataFile:
    """One file of a set."""

    name: str
    bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True)
class Manifest:
    """What makes a set of files complete, and where it came from. Times are ISO 8601 in UTC."""

    layer: str
    source: str
    stream: str
    partition: str | None
    window: tuple[str, str] | None
    rows: int
    files: tuple[DataFile, ...]
    run_id: str
    code_version: str
    created_at: str
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def as_of(self) -> datetime:
        """When the source began to be read: of two sets of a day, the later one knows better."""
        raw = self.details.get("raw") or {}
        return datetime.fromisoformat(self.details.get("started_at") or raw.get("started_at") or self.created_at)

    def to_json(self) -> bytes:
        """The manifest as a JSON document."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Manifest":
        """The inverse of `to_json`. Raises ValueError, KeyError or TypeError on anything else."""
        tree = json.loads(text)
        tree["files"] = tuple(DataFile(**entry) for entry in tree["files"])
        tree["window"] = tuple(tree["window"]) if tree["window"] else None
        return cls(**tree)


class Folder:
    """One set of files in a landing."""

    def __init__(self, root: str | Path | Store, layer: str, source: str, stream: str, day: date | None) -> None:
        """`root` is a storage or a local folder; `day` is the partition, None for a snapshot."""
        self.partition = day.isoformat() if day else None
        store = LocalStore(Path(root)) if isinstance(root, str | Path) else root
        self._files = store.folder(f"{layer}/{source}/{stream}/{self.partition or SNAPSHOT}")
        self._identity = (layer, source, stream, self.partition)

    @property
    def uri(self) -> str:
        """Where the set is, for people and other services."""
        return self._files.uri

    @property
    def path(self) -> Path:
        """Where the set is on a local disk."""
        return Path(self._files.uri)

    def manifest(self) -> Manifest:
        """The manifest of the complete set. Raises LandingError when there is none or it is unreadable."""
        file = f"{self.uri}/{MANIFEST}"
        try:
            return self._parsed(self._files.read(MANIFEST)[0])
        except FileNotFoundError:
            layer = self._identity[0]
            raise LandingError(f"{file}: no complete {layer} files; materialise the {layer} asset") from None
        except OSError as error:
            raise LandingError(f"{file}: not a readable manifest: {error}") from None

    def files(self, manifest: Manifest) -> list[Path]:
        """Local paths of the manifest's files, each checked for size and digest. Raises LandingError.

        The files of a remote storage are there as long as this folder is.
        """
        entries = [entry for entry in manifest.files if not entry.name.endswith(FOR_PEOPLE)]
        try:
            paths = self._files.local([entry.name for entry in entries])
        except OSError as error:
            raise self._missing(error.filename, error) from None
        for entry, path in zip(entries, paths, strict=True):
            self._check(entry, path)
        return paths

    def new_file(self) -> Path:
        """A fresh local path, for a file or a folder, that `keep` takes files from."""
        return self._files.scratch()

    def keep(self, file: Path, name: str, suffix: str, rows: int) -> DataFile:
        """Take a file written at `new_file()` into the folder as `<name>-<digest><suffix>`."""
        with file.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        size = file.stat().st_size
        final = f"{name}-{digest[:16]}{suffix}"
        self._files.keep(file, final)
        return DataFile(final, size, digest, rows)

    def seal(self, manifest: Manifest) -> None:
        """Put the manifest in force: from here on its files are the set. OSError becomes LandingError.

        A set that another run has read later and sealed earlier stays in force.
        """
        try:
            self._files.settle()
            if not any(self._put(manifest) for _ in range(_RIVALS)):
                raise LandingError(f"{self.uri}: other runs keep sealing the same set; run again later")
            self._files.sweep({entry.name for entry in manifest.files} | {MANIFEST})
        except OSError as error:
            raise LandingError(f"{self.uri}: cannot be written: {error.strerror or error}") from None

    def _put(self, manifest: Manifest) -> bool:
        """Whether the manifest, or a later one, is in force now; False when another run was quicker."""
        generation = 0
        with contextlib.suppress(OSError, LandingError):  # what is not readable is replaced
            text, generation = self._files.read(MANIFEST)
            present = self._parsed(text)
            if manifest.as_of < present.as_of < datetime.now(UTC):
                log.warning("%s: run %s has read this later, its set stays", self.uri, present.run_id)
                return True
        return self._files.replace(MANIFEST, manifest.to_json(), generation)

    def _parsed(self, text: bytes) -> Manifest:
        file = f"{self.uri}/{MANIFEST}"
        try:
            manifest = Manifest.from_json(text)
        except (ValueError, KeyError, TypeError) as error:
            raise LandingError(f"{file}: not a readable manifest: {error}") from None
        if (manifest.layer, manifest.source, manifest.stream, manifest.partition) != self._identity:
            raise LandingError(f"{file}: belongs to {manifest.source}/{manifest.stream} {manifest.partition}")
        return manifest

    def _check(self, entry: DataFile, path: Path) -> None:
        try:
            with path.open("rb") as handle:
                intact = (
                    path.stat().st_size == entry.bytes
                    and hashlib.file_digest(handle, "sha256").hexdigest() == entry.sha256
                )
        except OSError as error:
            raise self._missing(path, error) from None
        if not intact:
            raise LandingError(f"{self.uri}/{entry.name}: size or digest differ from the manifest; extract again")

    def _missing(self, file: object, error: OSError) -> LandingError:
        return LandingError(f"{file}: named by the manifest, but {error.strerror}; extract again")


def days(store: Store, layer: str, source: str, stream: str) -> list[date]:
    """The days that have a complete set of files, in order."""
    names = store.holding(MANIFEST, f"{layer}/{source}/{stream}")
    return sorted(date.fromisoformat(name) for name in names if name != SNAPSHOT)


@dataclass
class RawWriter:
    """Writes pages into compressed parts: one JSON object per page, around the answer as it was received.

    The answer stands under `body`, or under `empty` when it has no rows: an empty answer need not have the
    shape of the others.
    """

    folder: Folder
    pages: int = 0
    rows: int = 0
    largest_page: int = 0
    files: list[DataFile] = field(default_factory=list)
    _part: "_Part | None" = None

    def add(self, body: bytes, rows: int, stamp: Mapping[str, Any]) -> None:
        """Append one page. `body` is one JSON value; `stamp` holds what the request knows of its rows."""
        if self._part is None:
            self._part = _Part(self.folder.new_file())
        head = _head(self.pages, stamp, rows)
        written = self._part.write(head + body + b"}\n", rows)
        self.pages += 1
        self.rows += rows
        self.largest_page = max(self.largest_page, written + 16)
        if self._part.size >= _PART_BYTES:
            self.finish()

    def finish(self) -> None:
        """Close the part being written, if any."""
        if self._part is not None:
            self._part.close()
            name = f"part-{len(self.files):05d}"
            self.files.append(self.folder.keep(self._part.path, name, ".json.zst", self._part.rows))
            self._part = None

    def abandon(self) -> None:
        """Remove what is not finished."""
        if self._part is not None:
            with contextlib.suppress(OSError):  # what a full disk does not take is not wanted any more
                self._part.close()
            self._part.path.unlink(missing_ok=True)
            self._part = None


class _Part:
    def __init__(self, path: Path) -> None:
        self.path, self.size, self.rows = path, 0, 0
        self._file: BinaryIO = path.open("wb")
        self._stream = zstandard.ZstdCompressor(level=_LEVEL).stream_writer(self._file)

    def write(self, data: bytes, rows: int) -> int:
        self._stream.write(data)
        self.size += len(data)
        self.rows += rows
        return len(data)

    def close(self) -> None:
        try:
            self._stream.close()  # type: ignore[no-untyped-call]
        finally:
            self._file.close()


@contextlib.contextmanager
def raw_writer(folder: Folder) -> Iterator[RawWriter]:
    """A writer whose unfinished part is removed when the block fails. OSError becomes LandingError."""
    writer = RawWriter(folder)
    try:
        yield writer
        writer.finish()
    except OSError as error:
        raise LandingError(f"{folder.uri}: cannot be written: {error.strerror or error}") from None
    finally:
        writer.abandon()


def pages(file: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """(stamp, body) of every page of a raw part, the body byte for byte as it was received."""
    with file.open("rb") as handle:
        data = zstandard.ZstdDecompressor().stream_reader(handle).read().decode()
    decoder, position = json.JSONDecoder(), 0
    while position < len(data):
        tree, end = decoder.raw_decode(data, position)
        head = _head(tree["page"], tree["stamp"], "body" in tree)
        body = data[position + len(head.decode()) : end - 1]
        yield tree["stamp"], body.encode()
        position = end + 1


def _head(page: int, stamp: Mapping[str, Any], rows: int) -> bytes:
    head = json.dumps({"page": page, "stamp": stamp}, ensure_ascii=False)[:-1]
    return f'{head}, "{"body" if rows else "empty"}": '.encode()
