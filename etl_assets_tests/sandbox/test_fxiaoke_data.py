"""Fxiaoke's data: the same from the same seed, of any size, and at the edges of days."""

import json
import time
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest

from etl_assets.sandbox.fxiaoke.vendor import STREAMS, Fxiaoke
from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.vendor import Clock
from etl_assets_tests.sandbox.fxiaoke_api import DAY, INVENTORY, OBJECTS, START, Crm, of_day

pytest_plugins = ("etl_assets_tests.sandbox.fxiaoke_fixtures",)

DAILY = ("inventory_reports", "accounts", "contacts", "sales_orders", "sales_order_products")
DAYS = ("2026-01-05", "2026-01-06", "2026-01-07")


def tenant(*, seed: int = 1, days: int = 3, scale: float = 1) -> Fxiaoke:
    return Fxiaoke(seed=seed, days=days, scale=scale, clock=Clock())


def rows(vendor: Fxiaoke, stream: str, day: str | None = None, **query: str) -> list[dict[str, Any]]:
    return vendor.truth({"stream": stream, **query, **({"day": day} if day else {})})


def age(row: dict[str, Any]) -> int:
    return int(row["last_modified_time"]) - int(row["create_time"])


def digest(vendor: Fxiaoke) -> str:
    everything = [rows(vendor, stream) for stream in STREAMS]
    return sha256(json.dumps(everything, ensure_ascii=False).encode()).hexdigest()[:16]


@pytest.fixture(params=["Asia/Kathmandu", "America/Los_Angeles"])
def machine_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


def test_the_data_of_a_seed_never_change() -> None:
    assert digest(tenant()) == "a44b7a4a37454b93"


@pytest.mark.usefixtures("machine_zone")
def test_the_zone_of_the_machine_does_not_matter() -> None:
    test_the_data_of_a_seed_never_change()


def test_another_seed_gives_other_rows() -> None:
    assert digest(tenant(seed=8)) == digest(tenant(seed=8)) != digest(tenant())


@pytest.mark.parametrize("stream", DAILY)
def test_a_day_is_the_same_in_whatever_order_days_are_asked_for(stream: str) -> None:
    first, second = tenant(), tenant()
    assert [rows(first, stream, day) for day in DAYS] == [rows(second, stream, day) for day in reversed(DAYS)][::-1]


@pytest.mark.parametrize(
    ("stream", "scale", "count"),
    [
        ("inventory_reports", 1, 80),
        ("accounts", 1, 30),
        ("contacts", 1, 30),
        ("sales_orders", 1, 40),
        ("sales_order_products", 1, 80),
        ("inventory_reports", 10, 800),
        ("sales_orders", 0.5, 20),
        ("accounts", 0.01, 6),
    ],
)
def test_scale_multiplies_the_rows_of_a_day(stream: str, scale: float, count: int) -> None:
    counts = [len(rows(tenant(scale=scale), stream, day)) for day in DAYS]
    assert all(0.94 * count <= found <= count for found in counts)


def test_a_hundred_thousand_rows_are_counted_at_once() -> None:
    (total,) = rows(tenant(days=1, scale=1250), "inventory_reports", "2026-01-05", total="true")
    assert total["rows"] == 97_500


@pytest.mark.parametrize("scale", [0, -1, 100_001])
def test_an_impossible_scale_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="scale"):
        tenant(scale=scale)


@pytest.mark.parametrize("stream", DAILY)
def test_every_day_has_rows_at_its_very_edges(stream: str) -> None:
    for number, day in enumerate(DAYS):
        times = [row["last_modified_time"] for row in rows(tenant(), stream, day)]
        start = START + number * DAY
        assert (min(times), max(times)) == (start, start + DAY - 1)
        assert len(set(times)) < len(times)  # some were modified in the same millisecond


@pytest.mark.parametrize("stream", DAILY)
def test_days_make_up_the_whole(stream: str) -> None:
    vendor = tenant()
    parts = [row["_id"] for day in DAYS for row in rows(vendor, stream, day)]
    assert sorted(parts) == [row["_id"] for row in rows(vendor, stream)]
    assert len(set(parts)) == len(parts)


def test_the_day_of_another_zone_is_another_day() -> None:
    vendor = tenant()
    there = rows(vendor, "inventory_reports", "2026-01-06", zone="America/New_York")
    start = START + DAY + 13 * 3_600_000
    assert all(start <= row["last_modified_time"] < start + DAY for row in there)
    assert there != rows(vendor, "inventory_reports", "2026-01-06")


@pytest.mark.parametrize("stream", ["inventory_reports", "accounts", "sales_orders"])
def test_rows_are_modified_on_the_day_they_are_made_and_much_later(stream: str) -> None:
    found = rows(tenant(), stream)
    ages = {age(row) for row in found}
    assert min(ages) == 0 < max(ages)
    assert any(0 < old < DAY // 4 for old in ages)
    assert any(old > 20 * DAY for old in ages)
    assert all((age(row) == 0) is (str(row["version"]) == "1") for row in found)


def test_some_products_changed_on_data_days(fxiaoke: Sandbox) -> None:
    assert len(fxiaoke.truth(stream="products")) == 120
    assert 0 < len(fxiaoke.truth(stream="products", day="2026-01-06")) < 20


def test_ids_of_all_objects_are_different() -> None:
    vendor = tenant(scale=3)
    ids = [row["_id"] for stream in STREAMS for row in rows(vendor, stream)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("stream", OBJECTS)
def test_the_truth_is_what_queries_find(crm: Crm, fxiaoke: Sandbox, stream: str) -> None:
    found = {row["_id"]: row for row in crm.all(OBJECTS[stream])}
    truth = {row["_id"]: row for row in fxiaoke.truth(stream=stream)}
    assert found.keys() == truth.keys()
    for row_id, row in truth.items():
        facts = {name: value for name, value in row.items() if value is not None and not name.endswith("_utc")}
        assert found[row_id].items() >= facts.items()


def test_the_truth_of_a_day_is_what_its_window_finds(crm: Crm, fxiaoke: Sandbox) -> None:
    ids = [row["_id"] for row in crm.all(INVENTORY, of_day(1))]
    truth = fxiaoke.truth(stream="inventory_reports", day="2026-01-06", zone="Asia/Shanghai")
    assert [row["_id"] for row in truth] == ids
    (total,) = fxiaoke.truth(stream="inventory_reports", day="2026-01-06", total="true")
    assert total == {
        "rows": len(ids),
        "modified": sum(row["last_modified_time"] for row in truth),
        "ids": sha256("\n".join(ids).encode()).hexdigest(),
    }


@pytest.mark.parametrize("query", [{}, {"stream": "none"}, {"stream": "accounts", "day": "today"}])
def test_a_truth_of_nothing_is_refused(fxiaoke: Sandbox, query: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="truth"):
        fxiaoke.truth(**query)
