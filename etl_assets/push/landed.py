"""The empty write (写入空操作): documents as files in the landing, sealed by a manifest, and nothing sent."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from etl_assets.landing import Folder, Manifest, RawWriter, raw_writer
from etl_assets.push.spec import Push, Target
from etl_assets.store.protocol import Store


@dataclass(frozen=True)
class Landed:
    """A set of documents that is being written."""

    uri: str
    writer: RawWriter

    def add(self, documents: Sequence[bytes]) -> None:
        """Append documents, as one page whose body is their list."""
        self.writer.add(b"[" + b",\n".join(documents) + b"]", len(documents), {})


@contextmanager
def landing(store: Store, target: Target, push: Push, run_id: str) -> Iterator[Landed]:
    """A set that replaces the one before when the block ends well."""
    folder = Folder(store, "push", target.name, push.name, None)
    with raw_writer(folder) as writer:
        yield Landed(folder.uri, writer)
    folder.seal(
        Manifest(
            layer="push",
            source=target.name,
            stream=push.name,
            partition=None,
            window=None,
            rows=writer.rows,
            files=tuple(writer.files),
            run_id=run_id,
            code_version=hashlib.sha256(push.model_dump_json().encode()).hexdigest()[:12],
            created_at=datetime.now(UTC).isoformat(),
            details={"pages": writer.pages, "largest_page_bytes": writer.largest_page},
        )
    )
