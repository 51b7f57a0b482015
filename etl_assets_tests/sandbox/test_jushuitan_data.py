"""Jushuitan's data: the same from the same seed, of any size, and full of what breaks clients."""

import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from etl_assets.sandbox.jushuitan.vendor import Jushuitan
from etl_assets.sandbox.vendor import Clock

DAYS = ("2026-01-05", "2026-01-06", "2026-01-07")
STREAMS = ("orders", "outbounds", "refunds", "received", "purchases", "purchaseins")
Row = dict[str, Any]


def merchant(*, seed: int = 1, days: int = 3, scale: float = 1) -> Jushuitan:
    return Jushuitan(seed=seed, days=days, scale=scale, clock=Clock())


def truth(vendor: Jushuitan, stream: str, day: str = "") -> list[Row]:
    return vendor.truth({"stream": stream, "day": day} if day else {"stream": stream})


@pytest.fixture(scope="module")
def shop() -> Jushuitan:
    return merchant()


@pytest.fixture(params=["Asia/Kathmandu", "America/Los_Angeles"])
def machine_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


def test_the_data_of_a_seed_never_change() -> None:
    vendor = merchant()
    orders = truth(vendor, "orders", "2026-01-05")
    items = truth(vendor, "order_items", "2026-01-05")
    amount = sum(Decimal(str(row["pay_amount"])) for row in orders)
    assert (len(orders), len(items), amount) == (100, 265, Decimal("50081.7615"))


@pytest.mark.usefixtures("machine_zone")
def test_the_zone_of_the_machine_does_not_matter() -> None:
    test_the_data_of_a_seed_never_change()


@pytest.mark.parametrize("stream", [*STREAMS, "skus", "inventory"])
def test_equal_parameters_give_equal_rows_and_another_seed_others(stream: str) -> None:
    first, second, other = (truth(merchant(seed=seed), stream) for seed in (7, 7, 8))
    assert first == second != other


@pytest.mark.parametrize(("scale", "orders", "skus"), [(0.01, 4, 300), (0.5, 50, 300), (1, 100, 300), (2, 200, 600)])
def test_scale_multiplies_documents_and_skus(scale: float, orders: int, skus: int) -> None:
    vendor = merchant(scale=scale)
    assert [len(truth(vendor, "orders", day)) for day in DAYS] == [orders] * 3
    assert len(truth(vendor, "skus")) == skus


@pytest.mark.parametrize("scale", [0, -1, 100_001])
def test_an_impossible_scale_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="scale"):
        merchant(scale=scale)


def test_a_day_of_many_orders_costs_nothing_until_it_is_read() -> None:
    vendor = merchant(scale=1_000)
    begun = time.process_time()
    total = vendor.truth({"stream": "orders", "day": "2026-01-06", "total": "true"})
    assert total == [{"rows": 100_000, "keys": sum(range(11_100_001, 11_200_001))}]
    assert time.process_time() - begun < 1


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("scale", [0.01, 1, 3])
def test_documents_are_modified_from_the_first_to_the_last_second_of_each_day(stream: str, scale: float) -> None:
    vendor = merchant(scale=scale)
    for day in DAYS:
        moments = [row["modified"] for row in truth(vendor, stream, day)]
        assert moments == sorted(moments)
        assert (moments[0], moments[-1]) == (f"{day}T00:00:00+08:00", f"{day}T23:59:59+08:00")
    assert len(truth(vendor, stream)) == sum(len(truth(vendor, stream, day)) for day in DAYS)


def test_some_orders_are_modified_in_the_same_second_and_most_after_the_day_they_were_made(shop: Jushuitan) -> None:
    orders = truth(shop, "orders")
    moments = [row["modified"] for row in orders]
    assert len(set(moments)) < len(moments)
    assert sum(row["created"][:10] < row["modified"][:10] for row in orders) > len(orders) / 2
    for row in orders:
        dates = [
            row["created"],
            row["pay_date"] or row["created"],
            row["send_date"] or row["modified"],
            row["modified"],
        ]
        assert dates == sorted(dates)


def test_keys_never_repeat(shop: Jushuitan) -> None:
    for stream, key in (("orders", "o_id"), ("order_items", "oi_id"), ("outbound_items", "ioi_id"), ("skus", "sku_id")):
        keys = [row[key] for row in truth(shop, stream)]
        assert len(keys) == len(set(keys))


def test_most_orders_leave_the_warehouse_and_some_come_back(shop: Jushuitan) -> None:
    orders = {row["o_id"]: row for row in truth(shop, "orders")}
    outbounds, refunds, received = (truth(shop, stream) for stream in ("outbounds", "refunds", "received"))
    assert (len(orders), len(outbounds), len(refunds), len(received)) == (300, 240, 15, 9)
    for documents in (outbounds, refunds, received):
        assert len({row["o_id"] for row in documents}) == len(documents)
        assert {row["o_id"] for row in documents} <= orders.keys()
    assert {row["as_id"] for row in received} <= {row["as_id"] for row in refunds}
    assert {orders[row["o_id"]]["as_id"] for row in refunds} == {row["as_id"] for row in refunds}
    shipped = {row["o_id"] for row in outbounds if row["status"] in ("Confirmed", "Archive")}
    assert shipped == {o_id for o_id, row in orders.items() if row["status"] == "Sent"}
    refunded = {row["o_id"] for row in truth(shop, "order_items") if row["refund_status"] != "none"}
    assert refunded == {row["o_id"] for row in refunds}


def test_every_status_occurs(shop: Jushuitan) -> None:
    statuses = {row["status"] for row in truth(shop, "orders")}
    assert statuses == {
        "WaitPay", "Delivering", "Merged", "Question", "Split", "WaitOuterSent", "WaitConfirm", "WaitFConfirm",
        "Sent", "Cancelled",
    }  # fmt: skip
    assert {"Confirmed", "WaitConfirm", "Delete", "Cancelled"} < {row["status"] for row in truth(shop, "outbounds")}


def test_orders_have_one_to_four_items_that_add_up(shop: Jushuitan) -> None:
    amounts: dict[int, list[Decimal]] = {}
    for row in truth(shop, "order_items"):
        amounts.setdefault(row["o_id"], []).append(Decimal(str(row["amount"])))
    assert {len(items) for items in amounts.values()} == {1, 2, 3, 4}
    for row in truth(shop, "orders"):
        due = sum(amounts[row["o_id"]]) - Decimal(str(row["free_amount"])) + Decimal(str(row["freight"] or 0))
        assert Decimal(str(row["pay_amount"])) == due


def test_money_has_up_to_four_decimals_and_adds_up_only_as_decimals(shop: Jushuitan) -> None:
    orders = truth(shop, "orders")
    decimals = {-int(Decimal(str(row["pay_amount"])).as_tuple().exponent) for row in orders}
    assert decimals == {1, 2, 3, 4}
    by_order: dict[int, list[float]] = {}
    for row in truth(shop, "order_items"):
        by_order.setdefault(row["o_id"], []).append(row["amount"])
    assert any(sum(parts) != round(sum(parts), 4) for parts in by_order.values())


@pytest.mark.parametrize("text", ['"', ",", "\n", "\\", "'", "😀", "  人民路", "\t"])
def test_texts_hold_what_breaks_files(shop: Jushuitan, text: str) -> None:
    values = [value for row in truth(shop, "orders") for value in row.values() if isinstance(value, str)]
    assert any(text in value for value in values)


def test_missing_values_are_null_or_empty_as_the_vendor_has_it(shop: Jushuitan) -> None:
    rows = [shop._tables["orders"].row(key) or {} for key in range(11_000_001, 11_000_301)]
    kinds = {name: {type(row[name]) for row in rows} for name in rows[0]}
    assert kinds["freight"] == kinds["wms_co_id"] == {str}
    assert kinds["shop_free_amount"] == kinds["platform_free_amount"] == {str, float}
    assert {row["shop_free_amount"] for row in rows if isinstance(row["shop_free_amount"], str)} == {""}
    assert kinds["pay_date"] == kinds["send_date"] == {str, type(None)}
    assert kinds["o_id"] == kinds["shop_id"] == kinds["ts"] == {int}
    assert {row["so_id"][:3] for row in rows} == {"000"}


def test_taobaos_buyers_are_not_shown(shop: Jushuitan) -> None:
    orders = truth(shop, "orders")
    assert {row["receiver_name"] is None for row in orders if row["shop_site"] == "淘宝天猫"} == {True}
    assert {row["receiver_name"] is None for row in orders if row["shop_site"] != "淘宝天猫"} == {False}


def test_stock_can_be_below_zero_and_arrivals_can_be_anywhere(shop: Jushuitan) -> None:
    stock = truth(shop, "inventory")
    assert min(row["qty"] for row in stock) < 0
    assert {row["wms_co_id"] for row in stock} == {row["wms_co_id"] for row in truth(shop, "warehouses")}
    assert {type(row["wh_id"]) for row in truth(shop, "purchaseins")} == {str}
    assert {row["supplier_id"] for row in truth(shop, "purchases")} <= {
        row["supplier_id"] for row in truth(shop, "suppliers")
    }


def test_masters_were_modified_before_and_on_the_data_days(shop: Jushuitan) -> None:
    for stream in ("skus", "suppliers", "skumaps", "inventory", "combine_skus"):
        moments = sorted(row["modified"] for row in truth(shop, stream))
        late = [moment for moment in moments if moment >= "2026-01-05"]
        assert (late[0], late[-1]) == ("2026-01-05T00:00:00+08:00", "2026-01-07T23:59:59+08:00")
        assert len(late) < len(moments)
