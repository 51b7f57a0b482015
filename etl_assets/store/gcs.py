"""A landing in Cloud Storage: uploads that go on while the next file is written, documents guarded by generation.

Files carry a digest in their name, so they are written once: to find one there already is success. What is
read or about to be uploaded lies for the length of a step in a spool folder on the local disk.
"""

import shutil
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from google.api_core.exceptions import NotFound, PreconditionFailed
from google.cloud.storage import Blob

from etl_assets.gcp import Clients, translated
from etl_assets.store.protocol import KEEP_UNREFERENCED_SECONDS

_CHUNK_BYTES = 8 << 20  # of a resumable upload: what is held in memory and sent again after an interruption
_TRANSFERS = 4
_WAITING_UPLOADS = 8  # files on disk that wait for their upload before the writer has to wait for them


class GcsFiles:
    """The objects below one prefix."""

    def __init__(self, store: "GcsStore", path: str) -> None:
        self._clients, self._bucket = store.clients, store.bucket
        self._prefix = f"{store.prefix}{path}/"
        self._spool = store.spool / uuid.uuid4().hex
        self._transfers = ThreadPoolExecutor(_TRANSFERS, thread_name_prefix="transfer")
        self._room = threading.Semaphore(_WAITING_UPLOADS)
        self._uploads: list[Future[None]] = []
        self._lock = threading.Lock()
        weakref.finalize(self, shutil.rmtree, self._spool, ignore_errors=True)
        weakref.finalize(self, self._transfers.shutdown, wait=False, cancel_futures=True)

    @property
    def uri(self) -> str:
        """The prefix as `gs://bucket/…`."""
        return f"gs://{self._bucket}/{self._prefix.rstrip('/')}"

    def read(self, name: str) -> tuple[bytes, int]:
        """A document and its generation."""
        blob = self._blob(name, in_chunks=False)  # in chunks it would not tell the generation
        with translated(self.uri):
            try:
                data: bytes = blob.download_as_bytes(retry=self._clients.storage_retry)
            except NotFound:
                raise FileNotFoundError(name) from None
        return data, int(blob.generation or 0)

    def replace(self, name: str, data: bytes, generation: int) -> bool:
        """Write the document if it still has that generation."""
        self.settle()
        try:
            self._upload(lambda blob, **options: blob.upload_from_string(data, **options), name, generation)
        except PreconditionFailed:
            # After a lost answer the repeated request finds what the first one has written.
            try:
                return self.read(name)[0] == data
            except FileNotFoundError:
                return False
        return True

    def scratch(self) -> Path:
        """A path in the spool folder."""
        self._spool.mkdir(parents=True, exist_ok=True)
        return self._spool / f".tmp-{uuid.uuid4().hex}"

    def keep(self, file: Path, name: str) -> None:
        """Begin to upload the file; waits only while many others wait."""
        spooled = self.scratch()
        file.replace(spooled)
        self._room.acquire()
        # Only what the transfer needs: a reference to all of this would keep the spool folder alive.
        self._uploads.append(self._transfers.submit(self._kept, spooled, name))

    def publish(self, file: Path, name: str) -> None:
        """Upload the file; the object from before is there until the upload is complete."""
        self._upload(lambda blob, **options: blob.upload_from_filename(str(file), **options), name, None)

    def settle(self) -> None:
        """Wait for the uploads; the first error among them is raised."""
        uploads, self._uploads = self._uploads, []
        for upload in uploads:
            upload.result()

    def local(self, names: list[str]) -> list[Path]:
        """Download the files, each once."""
        self._spool.mkdir(parents=True, exist_ok=True)
        return list(self._transfers.map(self._downloaded, names))

    def sweep(self, named: set[str]) -> None:
        """Remove the objects that are not named and older than a day."""
        limit = datetime.now(UTC) - timedelta(seconds=KEEP_UNREFERENCED_SECONDS)
        retry = self._clients.storage_retry
        with translated(self.uri):
            for blob in self._clients.storage.list_blobs(self._bucket, prefix=self._prefix, retry=retry):
                used = max(time for time in (blob.time_created, blob.custom_time) if time)
                if blob.name.removeprefix(self._prefix) in named or used > limit:
                    continue
                try:  # who takes it into use again meanwhile, changes its metageneration
                    blob.delete(if_metageneration_match=blob.metageneration, retry=retry)
                except (NotFound, PreconditionFailed):
                    continue

    def _kept(self, file: Path, name: str) -> None:
        try:
            self._upload(lambda blob, **options: blob.upload_from_filename(str(file), **options), name, 0)
        except PreconditionFailed:
            self._use_again(name)
        finally:
            file.unlink(missing_ok=True)
            self._room.release()

    def _use_again(self, name: str) -> None:
        """Make an object that is there already as young as a new one, so that it is not swept away."""
        blob = self._blob(name)
        blob.custom_time = datetime.now(UTC)
        with translated(self.uri):
            blob.patch(retry=self._clients.storage_retry)

    def _upload(self, send: Callable[..., Any], name: str, generation: int | None) -> None:
        with translated(self.uri):
            send(
                self._blob(name),
                if_generation_match=generation,
                checksum="crc32c",
                retry=self._clients.storage_retry,
            )

    def _downloaded(self, name: str) -> Path:
        path = self._spool / name
        with translated(self.uri):
            try:
                if not path.exists():
                    self._blob(name).download_to_filename(str(path), retry=self._clients.storage_retry)
            except NotFound:
                path.unlink(missing_ok=True)
                raise FileNotFoundError(2, "it is not in the bucket", f"{self.uri}/{name}") from None
        return path

    def _blob(self, name: str, *, in_chunks: bool = True) -> Blob:
        chunk = _CHUNK_BYTES if in_chunks else None
        return self._clients.storage.bucket(self._bucket).blob(self._prefix + name, chunk_size=chunk)


@dataclass(frozen=True)
class GcsStore:
    """Objects below `gs://bucket/prefix`; `spool` is a local folder for what is on its way."""

    clients: Clients
    bucket: str
    prefix: str
    spool: Path

    @classmethod
    def at(cls, uri: str, clients: Clients, spool: Path) -> "GcsStore":
        """The store at `gs://bucket/prefix`. What runs that died left in the spool folder is removed after a day."""
        bucket, _, prefix = uri.removeprefix("gs://").partition("/")
        prefix = prefix.strip("/")
        limit = time.time() - KEEP_UNREFERENCED_SECONDS
        for left in spool.iterdir() if spool.exists() else ():
            if left.stat().st_mtime < limit:
                shutil.rmtree(left, ignore_errors=True)
        return cls(clients, bucket, f"{prefix}/" if prefix else "", spool)

    def folder(self, path: str) -> GcsFiles:
        """The objects below the path."""
        return GcsFiles(self, path)

    def holding(self, name: str, path: str) -> list[str]:
        """The names of the folders that hold the object."""
        prefix = f"{self.prefix}{path}/"
        with translated(f"gs://{self.bucket}/{prefix}"):
            blobs = self.clients.storage.list_blobs(self.bucket, prefix=prefix, retry=self.clients.storage_retry)
            found = [blob.name.removeprefix(prefix).split("/") for blob in blobs]
        return [parts[0] for parts in found if parts[1:] == [name]]
