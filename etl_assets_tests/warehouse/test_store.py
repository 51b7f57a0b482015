"""The landing in Cloud Storage: sets sealed by a generation-guarded manifest, uploads that go on in the background."""

import dataclasses
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl_assets.errors import AccessError, GoogleUnavailable, LandingError
from etl_assets.landing import Folder, Manifest, pages, raw_writer
from etl_assets.pipeline import Pipeline
from etl_assets.sandbox.google.handle import BUCKET, Google
from etl_assets.settings import Settings
from etl_assets_tests.data import DAY
from etl_assets_tests.test_landing import manifest, write, write_and_seal

UPLOAD = {"method": "POST", "path": "^/upload"}
Make = Callable[[], Folder]


@pytest.fixture
def make(env: dict[str, str], tmp_path: Path) -> Make:
    """Makes the folder of a raw set, as another step or run would."""
    pipeline = Pipeline(Settings.read({**env, "ETL_DATA_DIR": str(tmp_path)}))
    return lambda: Folder(pipeline.landing, "raw", "demo", "things", DAY)


def bodies(folder: Folder) -> list[bytes]:
    return [body for file in folder.files(folder.manifest()) for _, body in pages(file)]


def objects(google: Google, place: str) -> set[str]:
    """The names below the set's folder, as a listing gives them."""
    found = google.storage._call("GET", f"/storage/v1/b/{BUCKET}/o?prefix={place}/")
    return {item["name"].rsplit("/", 1)[1].split("-")[0] for item in found.get("items", [])}


def test_a_set_comes_back_and_a_step_leaves_nothing_on_the_disk(make: Make, tmp_path: Path, place: str) -> None:
    sealed = write_and_seal(make(), b'["one"]', '["日本"]'.encode())
    folder = make()
    assert (folder.manifest(), bodies(folder)) == (sealed, [b'["one"]', '["日本"]'.encode()])
    assert folder.uri == f"gs://{BUCKET}/{place}/raw/demo/things/2026-01-05"
    del folder
    assert [path for path in (tmp_path / "spool").rglob("*") if path.is_file()] == []


def test_nothing_is_listed_to_read_a_set(make: Make, google: Google) -> None:
    write_and_seal(make(), b"[1]")
    google.storage.clear()
    bodies(make())
    assert [call["path"] for call in google.storage.calls() if "/o?" in call["path"]] == []


def test_the_manifest_comes_last(make: Make, google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl_assets.landing._PART_BYTES", 10)
    google.storage.fault(**UPLOAD, body="part-00000", delay=0.5)
    write_and_seal(make(), b'["one page"]', b'["another"]', b'["a third"]')
    sent = [call["body"] for call in google.storage.calls() if call["path"].startswith("/upload")]
    assert len(sent) == 4
    assert "manifest.json" in sent[-1]


def test_parts_are_uploaded_while_the_next_ones_are_written(
    make: Make, google: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl_assets.landing._PART_BYTES", 10)
    with raw_writer(make()) as writer:
        writer.add(b'["a page of its own"]', 1, {})
        while not google.storage.calls():
            pass
        writer.add(b'["the next page"]', 1, {})


@pytest.mark.parametrize("fault", [{"lost": True}, {"status": 503, "reason": "backendError"}], ids=["lost", "busy"])
@pytest.mark.parametrize("what", ["part-", "manifest.json"])
def test_an_upload_survives_a_bad_moment(make: Make, google: Google, fault: dict[str, Any], what: str) -> None:
    write_and_seal(make(), b'["old"]')
    google.storage.fault(**UPLOAD, body=what, **fault)
    write_and_seal(make(), b'["new"]')
    assert google.storage.fired() == 1
    assert bodies(make()) == [b'["new"]']


def test_a_large_file_is_sent_in_pieces_of_which_a_lost_one_is_sent_again(
    make: Make, google: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl_assets.store.gcs._CHUNK_BYTES", 1 << 18)
    monkeypatch.setattr("google.cloud.storage.blob._MAX_MULTIPART_SIZE", 1 << 18)
    folder = make()
    file = folder.new_file()
    file.write_bytes(b"".join(str(number).encode() for number in range(200_000)))
    google.storage.fault(method="PUT", skip=1, status=503, reason="backendError")
    entry = folder.keep(file, "large", ".bin", 1)
    folder.seal(manifest(folder, [entry]))
    assert sum(call["method"] == "PUT" for call in google.storage.calls()) > 4
    reader = make()  # its files are there as long as it is
    (path,) = reader.files(reader.manifest())
    assert path.stat().st_size == entry.bytes


def test_a_service_that_stays_away_leaves_the_former_set_in_force(
    make: Make, google: Google, env: dict[str, str]
) -> None:
    write_and_seal(make(), b'["old"]')
    google.storage.fault(**UPLOAD, body="part-", times=10_000, status=403, reason="forbidden")
    with pytest.raises(AccessError, match="lists the permissions"):
        write_and_seal(make(), b'["new"]')
    google.storage.clear()
    assert bodies(make()) == [b'["old"]']


def test_an_unreachable_service_is_given_up_in_time(env: dict[str, str], tmp_path: Path) -> None:
    closed = {**env, "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9", "ETL_TOTAL_TIMEOUT_SECONDS": "0.3"}
    pipeline = Pipeline(Settings.read({**closed, "ETL_DATA_DIR": str(tmp_path)}))
    with pytest.raises(GoogleUnavailable):
        Folder(pipeline.landing, "raw", "demo", "things", DAY).manifest()


def test_what_is_missing_or_altered_in_the_bucket_is_refused(make: Make, google: Google, place: str) -> None:
    with pytest.raises(LandingError, match="no complete raw files; materialise the raw asset"):
        make().manifest()
    sealed = write_and_seal(make(), b"[1]")
    name = f"{place}/raw/demo/things/2026-01-05/{sealed.files[0].name}".replace("/", "%2F")
    folder = make()
    folder._files._upload(lambda blob, **options: blob.upload_from_string(b"x", checksum=None), sealed.files[0].name, 0)
    with pytest.raises(LandingError, match="size or digest differ"):
        make().files(sealed)
    google.storage._call("GET", f"/storage/v1/b/{BUCKET}/o/{name}")
    folder._files._blob(sealed.files[0].name).delete()
    with pytest.raises(LandingError, match="named by the manifest, but it is not in the bucket; extract again"):
        make().files(sealed)


def later(sealed: Manifest, **more: Any) -> Manifest:
    began = datetime.now(UTC) - timedelta(minutes=1)
    return dataclasses.replace(sealed, details={"started_at": began.isoformat()}, **more)


def test_of_two_runs_the_one_that_read_later_has_the_last_word(make: Make) -> None:
    slow, quick = make(), make()
    older = manifest(slow, write(slow, b'["older"]'))
    newer = later(manifest(quick, write(quick, b'["newer"]')), run_id="quick")
    quick.seal(newer)
    slow.seal(older)
    assert make().manifest().run_id == "quick"
    assert bodies(make()) == [b'["newer"]']


def test_seals_at_the_same_moment_leave_one_whole_set(make: Make) -> None:
    received = [f'["run {number}"]'.encode() for number in range(4)]
    threads = [threading.Thread(target=write_and_seal, args=(make(), body)) for body in received]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bodies(make()) in [[body] for body in received]


def test_superseded_files_go_once_they_are_old_and_content_that_comes_back_stays(
    make: Make, google: Google, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_and_seal(make(), b'["old"]')
    write_and_seal(make(), b'["recent"]')
    assert len(google.storage._call("GET", f"/storage/v1/b/{BUCKET}/o?prefix={place}/")["items"]) == 3
    monkeypatch.setattr("etl_assets.store.gcs.KEEP_UNREFERENCED_SECONDS", -60)
    write_and_seal(make(), b'["recent"]')
    assert objects(google, place) == {"manifest.json", "part"}
    assert bodies(make()) == [b'["recent"]']


def test_a_broken_manifest_is_replaced(make: Make) -> None:
    folder = make()
    folder._files.replace("manifest.json", b"{", 0)
    with pytest.raises(LandingError, match="not a readable manifest"):
        folder.manifest()
    write_and_seal(make(), b"[1]")
    assert bodies(make()) == [b"[1]"]
