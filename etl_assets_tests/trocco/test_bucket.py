"""Objects that arrive in a bucket, listed by Google's client from an emulator."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from gcp_storage_emulator.server import create_server
from google.cloud import storage

from etl_assets.errors import RetryableError
from etl_assets.trocco import arrivals
from etl_assets.trocco.spec import Arrivals


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[storage.Bucket]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="exports")
    server.start()
    yield storage.Client(project="demo").bucket("exports")
    server.stop()


def found(pattern: str) -> list[str]:
    return sorted(file.uri for file in arrivals.listed(Arrivals(path=pattern), 0))


def test_objects_are_found_by_prefix_and_pattern(bucket: storage.Bucket) -> None:
    for name in ("braze/a.avro", "braze/a.csv", "braze/2026/01/b.avro", "other/c.avro", "d.avro"):
        bucket.blob(name).upload_from_string(b"x")
    assert found("gs://exports/braze/*.avro") == ["gs://exports/braze/a.avro"]
    assert found("gs://exports/braze/**/*.avro") == ["gs://exports/braze/2026/01/b.avro", "gs://exports/braze/a.avro"]
    assert found("gs://exports/*.avro") == ["gs://exports/d.avro"]
    assert found("gs://exports/none/*") == []


def test_a_replaced_object_is_another_file(bucket: storage.Bucket) -> None:
    versions = set()
    for content in (b"x", b"y"):
        bucket.blob("a.avro").upload_from_string(content)
        versions |= set(arrivals.listed(Arrivals(path="gs://exports/*"), 0))
    assert len(versions) == 2


def test_a_bucket_that_is_not_there_is_no_empty_one(bucket: storage.Bucket) -> None:
    with pytest.raises(RetryableError, match="gs://nowhere: cannot be listed"):
        found("gs://nowhere/*")
