"""No secret in any byte written, whatever a vendor does with it and however a step ends."""

import contextlib
import logging
import os
import sqlite3
import tempfile
import traceback
import zlib
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import duckdb
import pytest
import zstandard

from etl_assets.errors import EtlError
from etl_assets.pipeline import Pipeline
from etl_assets.spec import Source
from etl_assets.sqltext import literal
from etl_assets.streamfiles import load_sources
from etl_assets_tests.http import Server, serving
from etl_assets_tests.orchestration import hostile
from etl_assets_tests.orchestration.lab import command, materialize, stream_file
from etl_assets_tests.orchestration.leaks import Canary, leaks, spellings

# Commands take seconds each, and several times that on a busy machine.
pytestmark = pytest.mark.timeout(300)

DAY = "2026-01-05"
IMPATIENT = {
    "ETL_RETRY_BASE_SECONDS": "0.001",
    "ETL_CONNECT_TIMEOUT_SECONDS": "2",
    "ETL_READ_TIMEOUT_SECONDS": "2",
    "ETL_TOTAL_TIMEOUT_SECONDS": "5",
}
INSTANCE = """
telemetry: {enabled: false}
python_logs: {managed_python_loggers: [root], python_log_level: DEBUG}
"""
# A stream that cannot be reached, with its credential in the path and in the query.
UNREACHABLE = """
source: {name}
title: Unreachable
base_url: {url}
timezone: Asia/Tokyo
auth: {{type: query, name: apiKey, value: "{{QUERY_TOKEN}}"}}
settings: {{QUERY_TOKEN: {{secret: true, help: Ask the vendor.}}}}
check: things
streams:
  - {{name: things, path: "/a/{{QUERY_TOKEN}}/b", key: [id], columns: {{id: integer}}}}
"""


@pytest.fixture
def canary() -> Canary:
    return Canary()


@pytest.fixture
def identity() -> Canary:
    """An id, such as that of an account: no secret, but nobody's business either."""
    return Canary()


@pytest.fixture
def server(canary: Canary) -> Iterator[Server]:
    with serving(hostile.hostile(canary.value)) as server:
        yield server


@pytest.fixture
def env(
    canary: Canary, identity: Canary, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The variables for the hostile sources and for the packaged ones with hostile vendors; set here, too."""
    for name in hostile.AUTH:
        stream_file(tmp_path / "sources", hostile.stream_text(name, server.url), f"{name}.yaml")
    env = {
        **IMPATIENT,
        "ETL_SOURCES_DIR": str(tmp_path / "sources"),
        "ETL_DATA_DIR": str(tmp_path / "data"),
        **{f"{name.upper()}_TOKEN": canary.value for name in hostile.AUTH},
        **{source.base_url_variable: server.url for source in packaged()},
        **{name: canary.value if secret else identity.value for name, secret in needed().items()},
    }
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.fixture
def home() -> Iterator[Path]:
    """A lasting DAGSTER_HOME that logs all there is; in memory, as Dagster waits for the disk at every event."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        (Path(folder) / "dagster.yaml").write_text(INSTANCE, "utf-8")
        yield Path(folder)


@pytest.fixture
def log() -> Iterator[StringIO]:
    """Everything logged anywhere in this process, down to DEBUG."""
    written, root = StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(written), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield written
    root.removeHandler(handler)
    root.setLevel(level)


def packaged() -> list[Source]:
    return list(load_sources().values())


def needed() -> dict[str, bool]:
    """The variables without a default of the packaged sources, and whether they are secret."""
    return {
        name: declared.secret
        for source in packaged()
        for name, declared in source.settings.items()
        if declared.default is None
    }


def as_sqlite(path: Path, text: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE snapshots (body BLOB)")
        db.execute("INSERT INTO snapshots VALUES (?)", [zlib.compress(text.encode())])


def as_parquet(path: Path, text: str) -> None:
    with duckdb.connect(":memory:") as db:
        db.execute(f"COPY (SELECT {literal(text)} AS text) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)")


def as_table(path: Path, text: str) -> None:
    with duckdb.connect(str(path)) as db:
        db.execute(f"CREATE SCHEMA s; CREATE TABLE s.t AS SELECT {literal(text)} AS text")


WRITERS: dict[str, Callable[[Path, str], object]] = {
    "text.log": lambda path, text: path.write_text(text, "utf-8"),
    "part.json.zst": lambda path, text: path.write_bytes(zstandard.compress(text.encode())),
    "runs.db": as_sqlite,
    "rows.parquet": as_parquet,
    "warehouse.duckdb": as_table,
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", WRITERS)
def test_the_search_finds_a_secret_in_every_kind_of_file(name: str, canary: Canary, tmp_path: Path) -> None:
    for number, spelling in enumerate(spellings(canary.value).values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        WRITERS[name](folder / name, f"something {spelling} and more")
        assert leaks(canary, folder)
        assert not leaks(Canary(), folder)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", hostile.AUTH)
def test_the_library_writes_no_secret(
    name: str, canary: Canary, env: dict[str, str], tmp_path: Path, log: StringIO
) -> None:
    pipeline = Pipeline.from_environment()
    source, said, done = pipeline.sources[name], {}, set()
    api = pipeline.api(source)
    for stream in source.streams:
        try:
            pipeline.extract(api, stream, None, "run")
            pipeline.clean(source, stream, None, "run")
            pipeline.load(source, stream, None, "run")
            done.add(stream.name)
        except EtlError as error:
            said[stream.name] = f"{error} {error!r} {traceback.format_exc()}"
    api.client.close()
    assert done == hostile.SUCCEEDING.keys()
    assert said.keys() == hostile.REFUSED.keys() | hostile.PASSING.keys()
    assert "connectionpool" in log.getvalue() or "HTTP/1.1" in log.getvalue()
    assert leaks(canary, tmp_path / "data", texts={**said, "log": log.getvalue()}) == []


def test_a_run_writes_no_secret(
    canary: Canary, identity: Canary, env: dict[str, str], server: Server, home: Path, tmp_path: Path
) -> None:
    unreachable = {
        "no_name": "https://no-such-host.invalid",
        "no_tls": f"https://{server.netloc}",
        "no_port": "http://127.0.0.1:1",
    }
    for name, url in unreachable.items():
        stream_file(tmp_path / "sources", UNREACHABLE.format(name=name, url=url), f"{name}.yaml")
    streams = [*hostile.REFUSED, *hostile.SUCCEEDING, "down_500", "bad_header"]
    whole = ["rows", "some_rows_do_not_fit", "field_name", "no_row_fits"]
    selected = [
        *(f"raw/query/{stream}" for stream in streams),
        *(f"{layer}/query/{stream}" for stream in whole for layer in ("clean", "warehouse")),
        *(f"raw/{name}/things" for name in unreachable),
        # One run has one definition of days: the sources of this zone.
        *(f"raw/{source.source}/*" for source in packaged() if source.timezone == "Asia/Tokyo"),
    ]
    done = materialize(" or ".join(f'key:"{key}"' for key in selected), DAY, env={**env, "DAGSTER_HOME": str(home)})
    assert done.returncode != 0
    failed, made = done.stderr.count("STEP_FAILURE - "), done.stderr.count("ASSET_MATERIALIZATION - ")
    assert failed >= len(hostile.REFUSED) + 2 + len(unreachable)
    assert made >= len(hostile.SUCCEEDING) + 1 + 3 * 2
    assert leaks(canary, home, tmp_path / "data", texts={"out": done.stdout, "err": done.stderr}) == []
    # The log at DEBUG, which nobody gets unasked, shows addresses; secrets in them are masked, ids are not.
    assert leaks(identity, tmp_path / "data") == []


def test_the_check_command_writes_no_secret(canary: Canary, env: dict[str, str], home: Path, tmp_path: Path) -> None:
    done = command("etl-assets", "check", env=env)
    assert done.returncode == 1
    assert done.stdout.count("refused: page 1: GET ") >= len(hostile.AUTH)
    assert leaks(canary, tmp_path / "data", texts={"out": done.stdout, "err": done.stderr}) == []
