"""What can be done without the API: load again from the raw files, show a request, follow a row back to its page."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import zstandard
from click.testing import CliRunner, Result

from etl_assets.cli import main
from etl_assets.landing import days
from etl_assets.pipeline import Pipeline
from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets.store.local import LocalStore
from etl_assets.streamfiles import load_sources
from etl_assets.window import Window
from etl_assets_tests.http import Seen, answer, serving

PRODUCT = ("ETL_", "DUCKDB_", "TMETRIC_", "SHOP_", "JUSHUITAN_", "BACKLOG_", "FXIAOKE_", "DAGSTER_")
STOPPED = "http://127.0.0.1:1"
DAYS = (date(2026, 1, 5), date(2026, 1, 6))
SHOP = """
source: shop
title: Shop
base_url: {url}
timezone: Asia/Tokyo
start: 2026-01-01
settings: {{SHOP_KEY: {{secret: true, help: Ask., default: the-key-of-the-shop}}}}
auth: {{type: header, name: X-Key, value: "{{SHOP_KEY}}"}}
streams:
  - name: orders
    path: /orders
    params: {{page: "{{page}}", day: "{{since}}"}}
    rows: data.rows
    paging: {{type: page, size: 3}}
    window: {{column: at}}
    load: merge
    newest: version
    key: [shop, id]
    columns: {{shop: string, id: integer, at: timestamp, version: integer, total: {total}, lines: json}}
  - name: lines
    of: {{stream: orders, rows: lines, stamp: {{order_shop: shop, order_id: id, at: at, version: version}}}}
    window: {{column: at}}
    load: merge
    newest: version
    key: [order_shop, order_id, sku]
    columns: {{order_shop: string, order_id: integer, at: timestamp, version: integer, sku: string}}
  - name: shops
    path: /shops
    key: [name]
    columns: {{name: string, opened: date}}
"""


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(PRODUCT) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ETL_RETRY_BASE_SECONDS", "0.001")
    monkeypatch.chdir(tmp_path)


@dataclass
class Shop:
    """A source of the test's own, with what its API has. The API can be stopped."""

    root: Path
    orders: dict[str, list[dict[str, Any]]]

    @property
    def sources(self) -> Path:
        return self.root / "sources"

    def declare(self, total: str = "integer", url: str = STOPPED) -> None:
        self.sources.mkdir(exist_ok=True)
        (self.sources / "shop.yaml").write_text(SHOP.format(url=url, total=total), "utf-8")

    def play(self, seen: Seen) -> bytes:
        params = dict(seen.params)
        if seen.path == "/shops":
            return answer(json.dumps([{"name": '本店 "A"', "opened": "2020-01-01"}, {"name": "é/b"}]).encode())
        page = int(params["page"]) - 1
        rows = self.orders[params["day"]][page * 3 : page * 3 + 3]
        return answer(json.dumps({"data": {"rows": rows}}).encode())

    def load(self, *streams: str, on: date | None = None, run_id: str = "run-1") -> None:
        pipeline = Pipeline.from_environment()
        source = pipeline.sources["shop"]
        for name in streams:
            stream = source.stream(name)
            window = Window.of_day(on, source.timezone) if on and stream.window else None
            if not stream.of:
                api = pipeline.api(source)
                pipeline.extract(api, stream, window, run_id)
                api.client.close()
            pipeline.clean(source, stream, window, run_id)
            pipeline.load(source, stream, window, run_id)


def order(number: int, day: date, version: int = 1, shop: str = "tokyo", **more: Any) -> dict[str, Any]:
    lines = [{"sku": f"s{number}"}, {"sku": "gift"}]
    at = f"{day}T10:00:00+09:00"
    return {"shop": shop, "id": number, "at": at, "version": version, "total": "1", "lines": lines, **more}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Loaded for two days, then the API stopped."""
    root = tmp_path_factory.mktemp("shop")
    first = [order(n, DAYS[0]) for n in range(1, 8)]
    first += [order(2, DAYS[0], version=2), order(3, DAYS[0], shop="osaka"), order(9, DAYS[0], total="many")]
    shop = Shop(root, {str(DAYS[0]): first, str(DAYS[1]): [order(20, DAYS[1], total="2")]})
    with pytest.MonkeyPatch.context() as patch, serving(shop.play) as server:
        patch.setenv("ETL_SOURCES_DIR", str(shop.sources))
        patch.setenv("ETL_DATA_DIR", str(root / "data"))
        shop.declare(url=server.url)
        for day in DAYS:
            shop.load("orders", "lines", on=day)
        shop.load("shops")
    return shop


@pytest.fixture
def shop(loaded: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A copy of what was loaded, without the API."""
    shutil.copytree(loaded.root / "data", tmp_path / "data")
    copy = Shop(tmp_path, dict(loaded.orders))
    monkeypatch.setenv("ETL_SOURCES_DIR", str(copy.sources))
    copy.declare()
    return copy


def run(*line: str) -> Result:
    return CliRunner().invoke(main, line)


def said(*line: str) -> list[str]:
    done = run(*line)
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


def query(sql: str) -> list[tuple[Any, ...]]:
    with Pipeline.from_environment().warehouse.reader() as db:
        return db.execute(sql).fetchall()


# Replay


def test_a_changed_column_is_loaded_again_from_the_raw_files(shop: Shop) -> None:
    before = query("SELECT shop, id, version FROM shop.orders ORDER BY ALL")
    shop.declare(total="string")
    assert said("replay", "shop", "orders") == [
        "2026-01-05: shop.orders: 9 rows loaded",
        "2026-01-05: shop.lines: 18 rows loaded",
        "2026-01-06: shop.orders: 1 rows already there",
        "2026-01-06: shop.lines: 2 rows already there",
    ]
    assert query("SELECT total FROM shop.orders WHERE id IN (9, 20) ORDER BY id") == [("many",), ("2",)]
    assert query("SELECT shop, id, version FROM shop.orders ORDER BY ALL") == sorted([*before, ("tokyo", 9, 1)])
    assert query("SELECT count(*) FROM ops.quarantine") == [(0,)]
    assert len({run_id for (run_id,) in query("SELECT run_id FROM ops.loads WHERE run_id LIKE 'replay-%'")}) == 1


def test_replaying_again_changes_nothing(shop: Shop) -> None:
    before = query("SELECT * FROM shop.orders ORDER BY ALL")
    lines = said("replay", "shop", "orders", "--from", "2026-01-05", "--to", "2026-01-05")
    assert lines == [
        "2026-01-05: shop.orders: 8 rows already there, 1 in quarantine",
        "2026-01-05: shop.lines: 16 rows already there",
    ]
    assert query("SELECT * FROM shop.orders ORDER BY ALL") == before


def test_a_dry_run_says_what_would_be_done_and_does_nothing(shop: Shop) -> None:
    loads = query("SELECT count(*) FROM ops.loads")
    shop.declare(total="string")
    (line,) = said("replay", "shop", "orders", "--partition", "2026-01-06", "--dry-run")
    assert line.startswith("2026-01-06: 1 rows of 20")
    assert line.endswith("read under another declaration")
    assert query("SELECT count(*) FROM ops.loads") == loads
    assert query("SELECT typeof(total) FROM shop.orders LIMIT 1") == [("BIGINT",)]


def test_a_child_table_is_replayed_with_its_parent(shop: Shop) -> None:
    assert said("replay", "shop", "lines", "--partition", "2026-01-06") == said(
        "replay", "shop", "orders", "--partition", "2026-01-06"
    )


def test_a_snapshot_is_replayed_without_a_day(shop: Shop) -> None:
    assert said("replay", "shop", "shops") == ["snapshot: shop.shops: 2 rows already there"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("shop", "shops", "--partition", "2026-01-05"), "shop/shops is a snapshot: it has no days"),
        (
            ("shop", "orders", "--from", "2026-02-01"),
            "no raw files of these days; there are from 2026-01-05 to 2026-01-06",
        ),
        (("shop", "orders", "--partition", "2026-01-05", "--to", "2026-01-06"), "give --partition, or --from and --to"),
        (("shop", "nothing"), "shop has no stream 'nothing'; declared: orders, lines, shops"),
        (("nothing", "orders"), "no source 'nothing'; declared: "),
        (("tmetric", "time_entries"), "no raw files of these days; there are none. Materialise the raw asset"),
        (("tmetric", "projects"), "no complete raw files; materialise the raw asset"),
    ],
)
def test_what_cannot_be_replayed_is_told(shop: Shop, line: tuple[str, ...], says: str) -> None:
    done = run("replay", *line)
    assert done.exit_code != 0
    assert says in done.output


def test_a_damaged_raw_file_stops_the_replay_and_the_table_stays(shop: Shop, tmp_path: Path) -> None:
    before = query("SELECT * FROM shop.orders ORDER BY ALL")
    (file,) = (tmp_path / "data/landing/raw/shop/orders/2026-01-05").glob("part-*")
    file.write_bytes(file.read_bytes()[:-1])
    shop.declare(total="string")
    done = run("replay", "shop", "orders")
    assert done.exit_code == 1
    assert "size or digest differ from the manifest" in done.output
    assert query("SELECT * FROM shop.orders ORDER BY ALL") == before


def test_days_of_the_landing_are_those_with_a_manifest(shop: Shop, tmp_path: Path) -> None:
    landing = tmp_path / "data/landing"
    (landing / "raw/shop/orders/2026-01-07").mkdir()
    store = LocalStore(landing)
    assert days(store, "raw", "shop", "orders") == list(DAYS)
    assert days(store, "raw", "shop", "shops") == days(store, "raw", "shop", "nothing") == []


# Requests, shown


@pytest.fixture(scope="module")
def vendors() -> Iterator[Sandbox]:
    with running() as sandbox:
        yield sandbox


@pytest.mark.parametrize("source", load_sources().values(), ids=lambda source: source.source)
def test_every_request_can_be_shown_and_none_is_sent(
    source: Any, vendors: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = vendors.vendor(source.source)
    for name, value in sandbox.env().items():
        monkeypatch.setenv(name, value)
    secrets = [
        value for name, value in sandbox.env().items() if name in source.settings and source.settings[name].secret
    ]
    asked = sandbox.count()
    for stream in source.streams:
        if stream.of:
            assert "sends no request" in run("request", source.source, stream.name).output
            continue
        shown = "\n".join(
            said("request", source.source, stream.name, *(["--partition", "2026-01-05"] if stream.window else []))
        )
        assert f"{stream.method:7} {sandbox.url}" in shown
        assert "headers Accept, " in shown
        assert not [secret for secret in secrets if secret in shown]
        if stream.each:
            assert f"once    per row of {stream.each.stream}" in shown
        for name in stream.params:
            assert f"{name}=" in shown or "{last}" in str(stream.params[name]) or "{cursor}" in str(stream.params[name])
    assert sandbox.count() == asked


def test_a_request_is_shown_with_the_window_and_the_names_of_what_is_added(shop: Shop) -> None:
    assert said("request", "shop", "orders", "--partition", "2026-01-05") == [
        f"GET     {STOPPED}/orders?page=1&day=2026-01-05",
        "headers Accept, Accept-Encoding, User-Agent, X-Key",
    ]
    assert "orders is read by the day: give --partition" in run("request", "shop", "orders").output
    assert "shops has no days" in run("request", "shop", "shops", "--partition", "2026-01-05").output


# Trace


def fields(lines: list[str]) -> dict[str, str]:
    return {line[:10].strip(): line[11:] for line in lines if line.strip()}


def record(shown: Mapping[str, str]) -> dict[str, Any]:
    """The row at the place shown, read without the library's help."""
    file, _, line = shown["raw file"].rpartition(" line ")
    text = zstandard.ZstdDecompressor().stream_reader(Path(file).read_bytes()).read().decode()
    page = json.loads(text.split("\n")[int(line) - 1])
    number, _, row = shown["page"].partition(", row ")
    assert page["page"] == int(number) - 1
    body = page["body"]
    rows = body["data"]["rows"] if "data" in body else body
    found: dict[str, Any] = rows[int(row.split(",")[0]) - 1]
    return found


def test_a_row_is_followed_to_its_run_day_page_and_line(shop: Shop) -> None:
    for number in range(1, 8):
        if number == 2:
            continue
        shown = fields(said("trace", "shop.orders", "tokyo", str(number)))
        assert record(shown) == order(number, DAYS[0])
        assert shown["row"] == f"shop=tokyo, id={number}"
        assert shown["run"] == "run-1"
        assert shown["day"] == "2026-01-05: 2026-01-05T00:00:00+09:00 to 2026-01-06T00:00:00+09:00"
        assert shown["request"] == "GET /orders page={page} day={since}"
        assert "but" not in shown


def test_of_a_row_that_came_twice_the_page_in_use_is_told(shop: Shop) -> None:
    lines = said("trace", "shop.orders", "tokyo", "2")
    pages = [line for line in lines if line.startswith("page")]
    assert pages == ["page       1, row 2, another version", "page       3, row 2"]
    assert record(fields(lines)) == order(2, DAYS[0], version=2)


def test_a_part_of_the_key_gives_every_row_that_has_it(shop: Shop) -> None:
    rows = [line for line in said("trace", "shop.orders", "id=3") if line.startswith("row")]
    assert rows == ["row        shop=osaka, id=3", "row        shop=tokyo, id=3"]
    assert record(fields(said("trace", "shop.orders", "id=3", "shop=osaka")))["shop"] == "osaka"


def test_a_line_of_an_order_is_followed_to_the_order(shop: Shop) -> None:
    shown = fields(said("trace", "shop.lines", "tokyo", "20", "gift"))
    assert record(shown)["id"] == 20
    assert shown["row"] == "order_shop=tokyo, order_id=20, sku=gift"


@pytest.mark.parametrize("name", ['本店 "A"', "é/b"])
def test_a_key_that_json_escapes_is_found(shop: Shop, name: str) -> None:
    assert record(fields(said("trace", "shop.shops", name)))["name"] == name


def test_a_row_read_again_since_is_told(shop: Shop) -> None:
    with serving(shop.play) as server:
        shop.declare(url=server.url)
        shop.load("orders", on=DAYS[0], run_id="run-2")
        shown = fields(said("trace", "shop.orders", "tokyo", "1"))
        assert shown["run"] == "run-1"  # the second run found the row as it was
        assert "by run run-2" in shown["read"]
        assert shown["but"] == "the raw files were read again after the row was loaded, and hold it still"
        shop.orders[str(DAYS[0])] = []
        pipeline = Pipeline.from_environment()
        source = pipeline.sources["shop"]
        api = pipeline.api(source)
        pipeline.extract(api, source.stream("orders"), Window.of_day(DAYS[0], source.timezone), "run-3")
        api.client.close()
    shown = fields(said("trace", "shop.orders", "tokyo", "1"))
    assert shown["but"] == "the raw files were read again since, and no longer hold the key"
    assert "page" not in shown


def test_without_the_raw_files_the_rest_is_told(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "data/landing/raw/shop/orders/2026-01-05/manifest.json").unlink()
    shown = fields(said("trace", "shop.orders", "tokyo", "1"))
    assert shown["run"] == "run-1"
    assert "no complete raw files" in shown["but"]


def test_the_run_is_linked_where_the_ui_is_known(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_UI_URL", "https://dagster.example/")
    shown = fields(said("trace", "shop.orders", "tokyo", "1"))
    assert shown["run"] == "run-1  https://dagster.example/runs/run-1"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("shop.orders", "tokyo", "8"), "shop.orders has no row with shop=tokyo, id=8"),
        (("shop.orders", "tokyo", "9"), "shop=tokyo, id=9 is in ops.quarantine: total: not a integer: many"),
        (("shop.orders", "a", "b", "c"), "orders: the key is shop, id; 3 values were given"),
        (("shop.nothing", "1"), "shop has no stream 'nothing'"),
        (("mart.worklog", "1"), "no source 'mart'"),
        (("tmetric.projects", "1"), "the SELECT cannot be answered: "),
    ],
)
def test_a_row_that_is_not_there_is_told(shop: Shop, line: tuple[str, ...], says: str) -> None:
    done = run("trace", *line)
    assert done.exit_code == 1
    assert says in done.output


def test_a_row_of_a_fan_out_tells_whose_request_brought_it(
    vendors: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = vendors.vendor("tmetric")
    for name, value in sandbox.env().items():
        monkeypatch.setenv(name, value)
    pipeline = Pipeline.from_environment()
    source = pipeline.sources["tmetric"]
    stream, window = source.stream("time_entries"), Window.of_day(DAYS[0], source.timezone)
    pipeline.extract(pipeline.api(source), stream, window, "run-1")
    pipeline.clean(source, stream, window, "run-1")
    pipeline.load(source, stream, window, "run-1")
    for entry in sandbox.truth(day=str(DAYS[0]), zone="Asia/Tokyo")[::20]:
        shown = fields(said("trace", "tmetric.time_entries", str(entry["id"])))
        assert record(shown)["id"] == entry["id"]
        assert f"user_id={entry['user_id']}" in shown["asked for"]
