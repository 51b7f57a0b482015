"""What Jushuitan's endpoints answer: windows, pages, versions, filters, and rows that change in between."""

from collections.abc import Iterator
from typing import Any

import pytest

from etl_assets_tests.sandbox.jushuitan_api import DAY, DAYS, ORDERS, REFUNDS, SHOPS, Jst, Row, jushuitan

SUPPLIERS = "/open/supplier/query"
STOCK = "/open/inventory/query"
OUTBOUNDS = "/open/orders/out/simple/query"
RECEIVED = "/open/aftersale/received/query"
ARRIVALS = "/open/purchasein/query"
SKUS = "/open/sku/query"
FIRST, LAST = 11_000_001, 11_000_100  # orders of the first day

# Path, stream, key, and the field of the rows; without a window where there is none.
WINDOWED = [
    (ORDERS, "orders", "o_id"),
    (OUTBOUNDS, "outbounds", "io_id"),
    (REFUNDS, "refunds", "as_id"),
    (RECEIVED, "received", "io_id"),
    ("/open/purchase/query", "purchases", "po_id"),
    (SUPPLIERS, "suppliers", "supplier_id"),
    (SKUS, "skus", "autoid"),
    ("/open/combine/sku/query", "combine_skus", "sku_id"),
    ("/open/skumap/query", "skumaps", "shop_sku_id"),
    ("/open/category/query", "categories", "c_id"),
    ("/open/logisticscompany/query", "logistics_companies", "lc_id"),
]
WHOLE = [
    (SHOPS, "shops", "shop_id"),
    ("/open/wms/partner/query", "warehouses", "wms_co_id"),
    ("/open/category/query", "categories", "c_id"),
    ("/open/logisticscompany/query", "logistics_companies", "lc_id"),
]
VERSIONED = [(ORDERS, "orders"), (OUTBOUNDS, "outbounds"), (REFUNDS, "refunds"), (RECEIVED, "received")]


@pytest.fixture
def jst() -> Iterator[Jst]:
    with jushuitan() as client:
        yield client


def window(begin: str, end: str) -> dict[str, str]:
    return {"modified_begin": begin, "modified_end": end}


def ids(rows: list[Row], key: str = "o_id") -> list[Any]:
    return [row[key] for row in rows]


@pytest.mark.parametrize(("path", "stream", "key"), WINDOWED)
def test_pages_of_a_day_hold_all_its_rows_and_no_others(jst: Jst, path: str, stream: str, key: str) -> None:
    rows = jst.paged(path, page_size=7, **DAY)
    assert rows
    assert len(rows) == len(set(ids(rows, key)))
    assert sorted(ids(rows, key)) == sorted(ids(jst.sandbox.truth(stream=stream, day="2026-01-05"), key))


@pytest.mark.parametrize(("path", "stream", "key"), WHOLE)
def test_some_lists_are_read_without_a_window(jst: Jst, path: str, stream: str, key: str) -> None:
    assert sorted(ids(jst.paged(path), key)) == sorted(ids(jst.sandbox.truth(stream=stream), key))


@pytest.mark.parametrize("path", [path for path, _, _ in WINDOWED])
@pytest.mark.parametrize("end", ["modified_begin", "modified_end"])
def test_both_ends_of_a_window_are_needed(jst: Jst, path: str, end: str) -> None:
    assert jst.code(path, **{end: DAY[end]}) == 130


@pytest.mark.parametrize(("path", "days"), [(path, 1 if path == SUPPLIERS else 7) for path, _, _ in WINDOWED])
def test_a_window_spans_at_most_a_week_or_a_day(jst: Jst, path: str, days: int) -> None:
    begin = "2026-01-05 12:00:00"
    assert jst.code(path, **window(begin, f"2026-01-{5 + days:02} 12:00:00")) == 0
    assert jst.code(path, **window(begin, f"2026-01-{5 + days:02} 12:00:01")) == 130


@pytest.mark.parametrize("text", ["2026-01-05", "2026-01-05T00:00:00", "2026-01-05 24:00:00", "2026-1-5 00:00:00", "x"])
def test_a_moment_is_written_in_one_way_only(jst: Jst, text: str) -> None:
    assert jst.code(ORDERS, **window(text, "2026-01-06 00:00:00")) == 130


def test_a_window_does_not_end_before_it_begins(jst: Jst) -> None:
    assert jst.code(ORDERS, **window("2026-01-06 00:00:00", "2026-01-05 00:00:00")) == 130


@pytest.mark.parametrize("path", [path for path, _, _ in WINDOWED if path not in {path for path, _, _ in WHOLE}])
def test_neither_window_nor_ids_is_refused(jst: Jst, path: str) -> None:
    assert jst.code(path, page_index=1) == 130


def test_stock_and_arrivals_need_a_window_or_ids_too(jst: Jst) -> None:
    assert jst.code(STOCK, page_index=1) == 170
    assert jst.code(ARRIVALS) == 130


def test_windows_hold_both_their_ends_or_not_the_last(jst: Jst) -> None:
    first, last = window(DAY["modified_begin"], DAY["modified_begin"]), window(DAY["modified_end"], DAY["modified_end"])
    assert (ids(jst.rows(ORDERS, **first)), ids(jst.rows(ORDERS, **last))) == ([FIRST], [LAST])
    jst.sandbox.change("settings", window_end="exclusive")
    assert LAST not in ids(jst.paged(ORDERS, page_size=100, **DAY))
    assert len(jst.paged(ORDERS, page_size=100, **DAY)) == 99


@pytest.mark.parametrize(
    ("path", "default", "most"),
    [(ORDERS, 30, 100), (OUTBOUNDS, 30, 50), (SKUS, 30, 50), (SHOPS, 100, 100), (SUPPLIERS, 30, 500), (STOCK, 30, 100)],
)
def test_pages_have_a_default_and_a_highest_size(jst: Jst, path: str, default: int, most: int) -> None:
    asked = {} if path == SHOPS else DAY
    assert jst.data(path, **asked)["page_size"] == default
    assert jst.data(path, page_size=most, **asked)["page_size"] == most
    assert jst.code(path, page_size=most + 1, **asked) == 130
    jst.sandbox.change("settings", page_size_over="clamp")
    assert jst.data(path, page_size=10_000, **asked)["page_size"] == most


@pytest.mark.parametrize("paging", [{"page_index": 0}, {"page_index": -1}, {"page_size": 0}, {"page_size": "many"}])
def test_paging_that_makes_no_sense_is_refused(jst: Jst, paging: dict[str, Any]) -> None:
    assert jst.code(ORDERS, **DAY, **paging) == 130


def test_page_numbers_may_be_text_and_other_names_are_ignored(jst: Jst) -> None:
    expected = jst.rows(ORDERS, page_index=2, page_size=10, **DAY)
    assert jst.rows(ORDERS, page_index="2", page_size="10", pageSize=3, **DAY) == expected
    assert len(jst.rows(ORDERS, page=2, pageSize=100, **DAY)) == 30


def test_the_last_page_says_so_whatever_its_length(jst: Jst) -> None:
    pages = [jst.data(ORDERS, page_index=page, page_size=50, **DAY) for page in (1, 2, 3)]
    assert [(len(page["orders"]), page["has_next"]) for page in pages] == [(50, True), (50, False), (0, False)]
    assert {(page["data_count"], page["page_count"]) for page in pages} == {(100, 2)}


def test_counts_are_left_out_or_zero(jst: Jst) -> None:
    assert not {"data_count", "page_count"} & (jst.data(SHOPS).keys() | jst.data(STOCK, **DAY).keys())
    page = jst.data(ORDERS, is_get_total=False, **DAY)
    assert (page["data_count"], page["page_count"], page["has_next"]) == (0, 0, True)


def test_rows_come_newest_first_unless_switched(jst: Jst) -> None:
    newest = ids(jst.paged(ORDERS, page_size=40, **DAY))
    assert newest == list(range(LAST, FIRST - 1, -1))
    jst.sandbox.change("settings", order="oldest")
    assert ids(jst.paged(ORDERS, page_size=40, **DAY)) == newest[::-1]
    jst.sandbox.change("settings", order="shuffled")
    shuffled = ids(jst.paged(ORDERS, page_size=40, **DAY))
    assert shuffled != newest
    assert sorted(shuffled[:40]) == sorted(newest[:40])
    jst.sandbox.change("settings", order="unstable")
    assert len(set(ids(jst.paged(ORDERS, page_size=40, **DAY)))) < 100


def test_reading_pages_loses_a_row_that_moves_and_reading_by_version_does_not(jst: Jst) -> None:
    moved = FIRST + 10  # on the last page of three
    jst.sandbox.change(
        "orders", after={"path": ORDERS}, update=[{"o_id": moved, "modified": DAY["modified_end"], "status": "Sent"}]
    )
    rows = ids(jst.paged(ORDERS, page_size=40, **DAY))
    assert moved not in rows
    assert len(rows) == 100
    assert len(set(rows)) == 99  # one row twice, in place of the lost one
    assert sorted(set(ids(jst.since(ORDERS, page_size=40, **DAY)))) == list(range(FIRST, LAST + 1))


def test_reading_pages_loses_an_innocent_row_when_another_leaves_the_window(jst: Jst) -> None:
    gone = LAST - 5  # on the first page, read before it goes
    change = {"update": [{"o_id": gone, "modified": "2026-01-08 09:00:00"}]}
    jst.sandbox.change("orders", after={"path": ORDERS}, **change)
    rows = ids(jst.paged(ORDERS, page_size=40, **DAY))
    (lost,) = set(range(FIRST, LAST + 1)) - set(rows)
    assert lost == LAST - 40
    assert lost in ids(jst.sandbox.truth(stream="orders", day="2026-01-05"))


def test_reading_by_version_sees_rows_that_change_meanwhile_again(jst: Jst) -> None:
    jst.sandbox.change("orders", after={"path": ORDERS, "count": 2}, update=[{"o_id": FIRST, "status": "Question"}])
    jst.sandbox.change("orders", after={"path": ORDERS, "count": 3}, insert=[{"modified": "2026-01-07 23:59:59"}])
    rows = jst.since(ORDERS, page_size=100)
    assert len(rows) == 302
    assert [row["status"] for row in rows if row["o_id"] == FIRST][1:] == ["Question"]
    assert {row["o_id"]: row["status"] for row in rows} == {
        row["o_id"]: row["status"] for row in jst.sandbox.truth(stream="orders")
    }


@pytest.mark.parametrize(("path", "stream"), VERSIONED)
def test_versions_rise_and_are_read_from_the_one_given_on(jst: Jst, path: str, stream: str) -> None:
    rows = jst.since(path, page_size=50)
    versions = [int(row["ts"]) for row in rows]
    assert versions == sorted(set(versions))
    assert len(rows) == len(jst.sandbox.truth(stream=stream))
    assert [int(row["ts"]) for row in jst.rows(path, start_ts=versions[5], page_size=50)] == versions[5:55]
    assert [int(row["ts"]) for row in jst.rows(path, start_ts=versions[5] + 1, page_size=2)] == versions[6:8]
    assert jst.rows(path, start_ts=versions[-1] + 1) == []
    assert type(rows[0]["ts"]) is (str if path == REFUNDS else int)


def test_versions_rise_over_all_tables_with_every_change(jst: Jst) -> None:
    jst.sandbox.change("orders", update=[{"o_id": FIRST + 1}])
    jst.sandbox.change("outbounds", update=[{"io_id": 41_000_002}])
    jst.sandbox.change("orders", update=[{"o_id": FIRST}])
    first, second = jst.rows(ORDERS, o_ids=[FIRST])[0], jst.rows(ORDERS, o_ids=[FIRST + 1])[0]
    assert second["ts"] < jst.rows(OUTBOUNDS, io_ids=[41_000_002])[0]["ts"] < first["ts"]
    assert first["modified"] == "2026-01-05 00:00:00"


def test_versions_and_other_filters_go_together(jst: Jst) -> None:
    sent = [row for row in jst.since(ORDERS, page_size=100) if row["status"] == "Sent"]
    assert jst.since(ORDERS, page_size=20, status="Sent") == sent
    counted = jst.data(ORDERS, start_ts=0, status="Sent", page_size=20)
    assert (counted["data_count"], counted["orders"]) == (len(sent), sent[:20])


def test_arrivals_are_read_by_version_with_nothing_beside_it(jst: Jst) -> None:
    assert len(jst.since(ARRIVALS)) == len(jst.paged(ARRIVALS, **DAYS))
    assert jst.code(ARRIVALS, start_ts=0, **DAYS) == 130
    assert jst.code(ARRIVALS, start_ts=0, statuss=["Delete"]) == 130


def test_only_confirmed_arrivals_come_unless_others_are_asked_for(jst: Jst) -> None:
    truth = jst.sandbox.truth(stream="purchaseins")
    statuses = sorted({row["status"] for row in truth})
    assert {"Archive", "Cancelled", "Confirmed", "WaitConfirm"} < set(statuses)
    assert {row["status"] for row in jst.paged(ARRIVALS, **DAYS)} == {"Confirmed"}
    assert len(jst.paged(ARRIVALS, statuss=statuses, **DAYS)) == len(truth)


def test_orders_are_filtered_by_ids_and_values(jst: Jst) -> None:
    orders = {row["o_id"]: row for row in jst.paged(ORDERS, page_size=100, **DAYS)}
    some = [FIRST, FIRST + 150, FIRST + 299]
    numbers = [orders[o_id]["so_id"] for o_id in some]
    assert sorted(ids(jst.rows(ORDERS, o_ids=some))) == some
    assert sorted(ids(jst.rows(ORDERS, so_ids=numbers))) == some
    assert sorted(ids(jst.rows(ORDERS, so_ids=",".join(numbers), o_ids=some[:2]))) == some[:2]
    assert ids(jst.rows(ORDERS, so_ids=numbers, **DAY)) == [FIRST]
    assert jst.rows(ORDERS, so_ids=["nothing", numbers[0].lstrip("0")]) == []
    assert jst.code(ORDERS, so_ids=[str(n) for n in range(21)]) == 130
    for name, value in (("status", "Sent"), ("shop_id", 10_004)):
        expected = sorted(o_id for o_id, row in orders.items() if row[name] == value)
        assert sorted(ids(jst.paged(ORDERS, **DAYS, **{name: value}))) == expected != []
    offline = jst.paged(ORDERS, shop_id=0, is_offline_shop=True, **DAYS)
    assert {row["shop_site"] for row in offline} == {"线下"}
    swaps = jst.paged(ORDERS, order_types=["换货订单"], **DAYS)
    assert {row["type"] for row in swaps} == {"换货订单"}


@pytest.mark.parametrize(("date_type", "field"), [(2, "order_date"), (3, "send_date")])
def test_a_window_can_be_about_another_date(jst: Jst, date_type: int, field: str) -> None:
    orders = jst.paged(ORDERS, page_size=100, **DAYS)
    expected = sorted(row["o_id"] for row in orders if (row[field] or "")[:10] == "2026-01-05")
    assert sorted(ids(jst.paged(ORDERS, date_type=date_type, **DAY))) == expected != []
    assert expected != list(range(FIRST, LAST + 1))


@pytest.mark.parametrize(("path", "date_type"), [(ORDERS, 1), (RECEIVED, 1), (OUTBOUNDS, 3)])
def test_an_unknown_date_type_is_refused(jst: Jst, path: str, date_type: int) -> None:
    assert jst.code(path, date_type=date_type, **DAY) == 130


def test_documents_are_found_by_the_order_they_belong_to(jst: Jst) -> None:
    refund = jst.rows(REFUNDS, **DAY)[0]
    for path, key in ((OUTBOUNDS, "io_id"), (REFUNDS, "as_id"), (RECEIVED, "io_id")):
        every = jst.paged(path, **DAYS)
        expected = [row for row in every if row["o_id"] == refund["o_id"]]
        assert jst.rows(path, o_ids=[refund["o_id"]]) == jst.rows(path, so_ids=[refund["so_id"]]) == expected
        assert jst.rows(path, **{f"{key}s": [every[-1][key]]}) == every[-1:]
    assert jst.code(OUTBOUNDS, l_ids=[str(n) for n in range(21)]) == 130


def test_outbounds_of_one_distributor_are_read_day_by_day(jst: Jst) -> None:
    assert jst.code(OUTBOUNDS, drp_co_id=1, **DAYS) == 130
    assert jst.code(OUTBOUNDS, drp_co_id=1, **DAY) == 0


def test_skus_are_found_by_code_style_name_and_age(jst: Jst) -> None:
    skus = jst.sandbox.truth(stream="skus")
    codes = [row["sku_id"] for row in skus[:3]]
    assert sorted(ids(jst.rows(SKUS, sku_ids=",".join(codes)), "sku_id")) == sorted(codes)
    assert jst.code(SKUS, sku_ids=codes) == 130
    assert jst.code(SKUS, sku_ids=",".join(map(str, range(21)))) == 130
    assert len(jst.rows(SKUS, i_ids=["K0001", "K0002"])) == 12
    assert {row["name"] for row in jst.rows(SKUS, name="修身")} == {"连衣裙, 修身"}
    assert jst.rows(SKUS, exactly_name="修身") == []
    assert len(jst.paged(SKUS, exactly_name="连衣裙, 修身")) == 30
    created = jst.paged(SKUS, date_field="created", **window("2025-12-01 00:00:00", "2025-12-07 23:59:59"))
    assert {row["created"][:7] for row in created} == {"2025-12"}
    assert jst.code(SKUS, date_field="deleted", **DAY) == 130


def test_a_purchase_price_is_shown_to_whoever_asks(jst: Jst) -> None:
    assert "purchase_price" not in jst.rows(SKUS, **DAY)[0]
    assert jst.rows(SKUS, flds="purchase_price", **DAY)[0]["purchase_price"] > 0


def test_suppliers_need_no_window_with_ids(jst: Jst) -> None:
    assert len(jst.rows(SUPPLIERS, supplier_ids=[70_001, 70_002])) == 2
    (row,) = jst.rows(SUPPLIERS, names=["杭州, 织造厂1"])
    assert jst.rows(SUPPLIERS, supplier_codes=[row["supplier_code"]]) == [row]
    assert jst.code(SUPPLIERS, supplier_ids=list(range(51))) == 130


def test_shops_are_found_by_id_and_by_the_old_filter(jst: Jst) -> None:
    assert ids(jst.rows(SHOPS, shop_ids=[10_001]), "shop_id") == [10_001]
    assert ids(jst.rows(SHOPS, nicks=["店主2"]), "shop_id") == [10_002]
    assert len(jst.rows(SHOPS, nicks=[])) == 6


def test_carriers_can_be_those_of_one_warehouse(jst: Jst) -> None:
    path = "/open/logisticscompany/query"
    assert len(jst.rows(path)) == 6
    assert len(jst.rows(path, wms_co_id=20_001)) == 5
    assert jst.rows(path, wms_co_id=1) == []


def test_listings_have_three_windows(jst: Jst) -> None:
    path = "/open/skumap/query"
    rows = jst.paged(path, link_modified_begin="2026-01-05 00:00:00", link_modified_end="2026-01-05 23:59:59")
    assert {row["link_modified"][:10] for row in rows} == {"2026-01-05"}
    assert {row["modified"][:10] for row in rows} == {"2026-01-05", "2026-01-06"}
    assert jst.code(path, created_begin="2026-01-05 00:00:00") == 130


def test_stock_is_told_per_warehouse_or_together(jst: Jst) -> None:
    parts = [jst.paged(STOCK, wms_co_id=place, **DAYS) for place in (20_001, 20_011, 20_012, 20_013)]
    code = parts[0][-1]["sku_id"]
    of_one = [next(row for row in rows if row["sku_id"] == code) for rows in parts]
    assert [row["wms_co_id"] for row in of_one] == [20_001, 20_011, 20_012, 20_013]
    for together in (jst.rows(STOCK, sku_ids=code), jst.rows(STOCK, sku_ids=code, wms_co_id=0)):
        (total,) = together
        assert "wms_co_id" not in total
        assert total["qty"] == sum(row["qty"] for row in of_one)
        assert total["modified"] == max(row["modified"] for row in of_one)
        assert "lock_qty" not in total
    assert "lock_qty" in jst.rows(STOCK, sku_ids=code, has_lock_qty=True)[0]
    assert len(jst.since(STOCK, parameter="ts", page_size=100)) == 300
    assert len(jst.since(STOCK, parameter="ts", page_size=100, wms_co_id=20_011)) == 300


def test_a_change_of_stock_changes_the_sum(jst: Jst) -> None:
    code = "K0001-红-S"
    before = jst.rows(STOCK, sku_ids=code)[0]
    old = jst.rows(STOCK, sku_ids=code, wms_co_id=20_012)[0]
    change = {"wms_co_id": 20_012, "sku_id": code, "qty": old["qty"] - 1_000, "modified": "2026-01-06 10:00:00"}
    jst.sandbox.change("inventory", update=[change])
    after = jst.rows(STOCK, sku_ids=code)[0]
    assert (after["qty"], after["modified"]) == (before["qty"] - 1_000, "2026-01-06 10:00:00")
    assert after["ts"] > jst.rows(STOCK, sku_ids=code, wms_co_id=20_012)[0]["ts"] > before["ts"]
    jst.sandbox.change("inventory", delete=[[place, code] for place in (20_001, 20_011, 20_012, 20_013)])
    assert jst.rows(STOCK, sku_ids=code) == []


def test_rows_can_be_inserted_changed_and_deleted(jst: Jst) -> None:
    item = {"sku_id": "K0001-红-S", "qty": 2}
    new = {"modified": "2026-01-06 12:00:00", "remark": '引号"', "items": [item, item]}
    (o_id,) = jst.sandbox.change("orders", insert=[new])["inserted"]
    assert o_id == FIRST + 300
    (row,) = jst.rows(ORDERS, o_ids=[o_id])
    assert (row["remark"], row["created"], row["status"]) == ('引号"', new["modified"], "WaitConfirm")
    first, second = ids(row["items"], "oi_id")
    jst.sandbox.change("orders", remove_item=[{"o_id": o_id, "oi_id": first, "modified": "2026-01-06 13:00:00"}])
    (changed,) = jst.rows(ORDERS, o_ids=[o_id])
    assert (ids(changed["items"], "oi_id"), changed["modified"]) == ([second], "2026-01-06 13:00:00")
    assert changed["ts"] > row["ts"]
    jst.sandbox.change("orders", delete=[o_id, FIRST])
    assert jst.rows(ORDERS, o_ids=[o_id, FIRST]) == []
    assert jst.sandbox.truth(stream="orders", total="true")[0]["rows"] == 299


def test_a_change_is_made_whole_or_not_at_all(jst: Jst) -> None:
    with pytest.raises(ValueError, match="no row 1"):
        jst.sandbox.change("orders", update=[{"o_id": FIRST, "status": "Split"}], delete=[1])
    assert jst.rows(ORDERS, o_ids=[FIRST])[0]["status"] != "Split"


def test_a_row_can_hold_values_that_no_type_expects(jst: Jst) -> None:
    jst.sandbox.change("orders", update=[{"o_id": FIRST, "pay_amount": "many", "send_date": 5, "shop_id": None}])
    (row,) = jst.rows(ORDERS, o_ids=[FIRST])
    assert (row["pay_amount"], row["send_date"], row["shop_id"]) == ("many", 5, None)
    assert FIRST not in ids(jst.paged(ORDERS, date_type=3, page_size=100, **DAYS))
    assert FIRST in ids(jst.sandbox.truth(stream="orders", day="2026-01-05"))


def test_an_sku_can_get_another_code_and_keeps_its_own_id(jst: Jst) -> None:
    (old,) = jst.rows(SKUS, sku_ids="K0001-红-S")
    jst.sandbox.change("skus", update=[{"autoid": old["autoid"], "sku_id": "NEW", "modified": "2026-01-07 08:00:00"}])
    assert jst.rows(SKUS, sku_ids="K0001-红-S") == []
    assert jst.rows(SKUS, sku_ids="NEW")[0]["autoid"] == old["autoid"]


def test_the_truth_of_a_day_follows_changes_and_the_zone(jst: Jst) -> None:
    jst.sandbox.change("orders", update=[{"o_id": FIRST, "modified": "2026-01-06 00:00:00"}])
    assert FIRST not in ids(jst.sandbox.truth(stream="orders", day="2026-01-05"))
    assert FIRST in ids(jst.sandbox.truth(stream="orders", day="2026-01-06", zone="Asia/Shanghai"))
    tokyo = jst.sandbox.truth(stream="orders", day="2026-01-06", zone="Asia/Tokyo")
    assert {row["modified"][:13] for row in tokyo} >= {"2026-01-05T23", "2026-01-06T00", "2026-01-06T22"}
    assert "2026-01-06T23" not in {row["modified"][:13] for row in tokyo}


def test_the_truth_is_flat_with_real_numbers_and_instants(jst: Jst) -> None:
    rows = {row["o_id"]: row for row in jst.paged(ORDERS, page_size=100, **DAY)}
    truth = jst.sandbox.truth(stream="orders", day="2026-01-05")
    for row in truth:
        sent = rows[row["o_id"]]
        assert row["modified"] == sent["modified"].replace(" ", "T") + "+08:00"
        assert row["freight"] == (float(sent["freight"]) if sent["freight"] else None)
        assert row["shop_free_amount"] == (sent["shop_free_amount"] or None)
        assert (row["pay_amount"], row["remark"], row["wms_co_id"]) == (
            sent["pay_amount"],
            sent["remark"],
            sent["wms_co_id"],
        )
        assert not [value for value in row.values() if isinstance(value, list | dict)]
    assert set(truth[0]) == set(next(iter(rows.values()))) - {"items", "pays"}


def test_the_truth_of_items_names_their_row(jst: Jst) -> None:
    items = jst.sandbox.truth(stream="order_items", day="2026-01-05")
    expected = {
        (row["o_id"], item["oi_id"], item["qty"], item["amount"])
        for row in jst.paged(ORDERS, page_size=100, **DAY)
        for item in row["items"]
    }
    assert {(row["o_id"], row["oi_id"], row["qty"], row["amount"]) for row in items} == expected
    assert len(items) == len(expected)
    (total,) = jst.sandbox.truth(stream="order_items", day="2026-01-05", total="true")
    assert total == {"rows": len(items), "keys": sum(row["oi_id"] for row in items)}
    for stream in (
        "order_pays",
        "outbound_items",
        "refund_items",
        "received_items",
        "purchase_items",
        "purchasein_items",
    ):
        assert jst.sandbox.truth(stream=stream, day="2026-01-06")


def test_the_truth_of_stock_is_by_warehouse_or_summed(jst: Jst) -> None:
    assert len(jst.sandbox.truth(stream="inventory")) == 1_200
    sums = jst.sandbox.truth(stream="inventory", wms_co_id="0")
    assert len(sums) == 300
    assert {row["wms_co_id"] for row in sums} == {0}
