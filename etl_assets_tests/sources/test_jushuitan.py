"""Jushuitan from request to table, against its simulator: what every stream promises, and what breaks naive clients.

Which promise holds for which stream: VERSIONED ones are read in the order of their row version, in which rows that
change go to the end; COUNTED ones are read again when a row was missed; stock is read whole, by version.
"""

import json
import logging
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from etl_assets.errors import ApiError, ApiUnavailable, PagingError, QuarantineError, RetryableError
from etl_assets.reconcile import reconcile
from etl_assets.spec import Rate
from etl_assets.tokens import Token, TokenStore
from etl_assets.warehouse.protocol import Difference
from etl_assets.window import Window
from etl_assets_tests.sources.truth import RUN_ID, Lab, Row, day, lab, leaks, output

# Streams and what the simulator calls them.
VERSIONED = {"orders": "orders", "outbound": "outbounds", "refunds": "refunds", "aftersale_received": "received"}
COUNTED = {
    "skus": "skus",
    "combine_skus": "combine_skus",
    "suppliers": "suppliers",
    "purchases": "purchases",
    "purchase_ins": "purchaseins",
}
DAILY = {**VERSIONED, **COUNTED}
CHILDREN = {"order_items": "orders", "outbound_items": "outbound", "refund_items": "refunds"}
SNAPSHOTS = ("shops", "warehouses", "logistics_companies")
# Of which the truth says nothing: lists are looked at as child tables, or in a test of their own.
LISTS = ("items", "pays", "batchs", "sns", "cluster_infos", "images", "order_labels")

ORDERS, RECEIVED = "/open/orders/single/query", "/open/aftersale/received/query"
REFRESH = "/openWeb/auth/refreshToken"
EMPTY = 9  # a day without rows of its own
NO_LIMITS = {"per_second": 0, "per_minute": 0}


@pytest.fixture
def jst(tmp_path: Path) -> Iterator[Lab]:
    with opened(tmp_path) as ready:
        yield ready


def opened(folder: Path, *, scale: float = 0.2, days: int = 2, **options: Any) -> Any:
    return lab("jushuitan", folder, scale=scale, days=days, **options)


def truth(jst: Lab, stream: str, *days: int) -> list[Row]:
    """The true rows of a stream; of its days, if they are given."""
    parent = CHILDREN.get(stream)
    name = stream if parent else DAILY.get(stream, stream)
    asked = [{"day": str(day(number))} for number in days] or [{}]
    rows = [row for one in asked for row in jst.sandbox.truth(stream=name, **one)]
    if stream == "purchase_ins":  # a text, as nothing is known of it
        rows = [{**row, "archived": row["archived"] and row["archived"][:19].replace("T", " ")} for row in rows]
    if stream == "order_items":
        shops = {order["o_id"]: order["shop_id"] for order in truth(jst, "orders", *days)}
        rows = [{**row, "shop_id": shops[row["o_id"]]} for row in rows]
    return rows


def assert_true(jst: Lab, stream: str, *days: int) -> None:
    """The stream's table, and those of its children, hold the truth of the days."""
    jst.assert_true(stream, truth(jst, stream, *days), unknown=LISTS)
    for child in (child for child, parent in CHILDREN.items() if parent == stream):
        jst.assert_true(child, truth(jst, child, *days))


def at(number: int, clock: str) -> str:
    """A moment of a data day as the API writes it."""
    return f"{day(number)} {clock}"


def keys(jst: Lab, stream: str, number: int = 1) -> list[Any]:
    """The keys of a day's true rows, the oldest first."""
    (key,) = jst.stream(stream).key
    return [row[key] for row in sorted(truth(jst, stream, number), key=lambda row: (row["modified"], row[key]))]


# Tables


def test_every_declared_stream_is_covered_here(jst: Lab) -> None:
    assert {stream.name for stream in jst.source.streams} == {*DAILY, *CHILDREN, *SNAPSHOTS, "inventory"}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("stream", DAILY)
def test_a_daily_table_equals_the_truth_after_days_in_any_order_and_repeated(jst: Lab, stream: str) -> None:
    first, second, again = jst.run(stream, day(2), day(1), day(2))
    assert first.rows > 0
    assert second.rows > 0
    assert (again.changed, again.rows_in_table) == (False, first.rows + second.rows)
    assert_true(jst, stream, 1, 2)
    for number in (1, 2):
        assert len(jst.table(stream, f"_partition = DATE '{day(number)}'")) == len(truth(jst, stream, number))


@pytest.mark.parametrize("stream", SNAPSHOTS)
def test_a_snapshot_equals_the_truth(jst: Lab, stream: str) -> None:
    jst.run(stream)
    jst.assert_true(stream, truth(jst, stream))


LINES = {
    "aftersale_received": ("received_items", "ioi_id"),
    "purchases": ("purchase_items", "poi_id"),
    "purchase_ins": ("purchasein_items", "ioi_id"),
    "combine_skus": ("combine_sku_items", "src_sku_id"),
    "orders": ("order_pays", "pay_id"),
}


@pytest.mark.parametrize(("stream", "name", "key"), [(stream, *lines) for stream, lines in LINES.items()])
def test_lists_without_a_table_of_their_own_stay_whole_as_json(jst: Lab, stream: str, name: str, key: str) -> None:
    jst.run(stream, day(1))
    (parent,) = jst.stream(stream).key
    column = "pays" if name == "order_pays" else "items"
    found = [(row[parent], item[key], item.get("qty")) for row in jst.table(stream) for item in row[column]]
    wanted = jst.sandbox.truth(stream=name, day=str(day(1)))
    assert found
    assert sorted(found, key=str) == sorted(((row[parent], row[key], row.get("qty")) for row in wanted), key=str)


def test_goods_received_come_in_every_status_not_only_confirmed(tmp_path: Path) -> None:
    with opened(tmp_path, scale=2) as jst:
        jst.run("purchase_ins", day(1))
        assert_true(jst, "purchase_ins", 1)
        assert {row["status"] for row in jst.table("purchase_ins")} == {
            "WaitConfirm", "Confirmed", "Cancelled", "Delete", "Archive", "OuterConfirming",
        }  # fmt: skip
        confirmed = next(row["io_id"] for row in jst.table("purchase_ins") if row["status"] == "Confirmed")
        jst.sandbox.change("purchaseins", update=[{"io_id": confirmed, "status": "Cancelled"}])
        jst.run("purchase_ins", day(1))
        assert_true(jst, "purchase_ins", 1)


def test_stock_equals_the_truth_by_warehouse_and_changes_while_it_is_read_are_seen(jst: Lab) -> None:
    first = truth(jst, "inventory")[0]
    change = {"wms_co_id": first["wms_co_id"], "sku_id": first["sku_id"], "qty": -77}
    jst.sandbox.change("inventory", update=[change], after={"path": "/open/inventory/query", "count": 2})
    assert jst.run("inventory")[0].rows == len(truth(jst, "inventory")) == 4 * 300
    jst.assert_true("inventory", truth(jst, "inventory"))
    assert jst.sql("SELECT wms_co_id, sku_id FROM jushuitan.inventory WHERE qty = -77") == [
        (first["wms_co_id"], first["sku_id"])
    ]


# Days


EDGES = {"a": (-1, "23:59:59"), "b": (0, "00:00:00"), "c": (0, "11:59:59"), "d": (0, "12:00:00"), "e": (0, "23:59:59")}
EDGES["f"] = (1, "00:00:00")


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("stream", "field", "end"),
    [("aftersale_received", "aftersale_remark", "inclusive"), ("aftersale_received", "aftersale_remark", "exclusive"),
     ("purchases", "labels", "inclusive"), ("purchases", "labels", "exclusive"),
     ("suppliers", "remark", "inclusive"), ("suppliers", "remark", "exclusive")],
)  # fmt: skip
def test_rows_at_the_edges_of_a_day_land_in_exactly_one(jst: Lab, stream: str, field: str, end: str) -> None:
    jst.sandbox.change("settings", window_end=end)
    new = [{field: name, "modified": at(EMPTY + days, clock)} for name, (days, clock) in EDGES.items()]
    jst.sandbox.change(DAILY[stream], insert=new)
    jst.run(stream, day(EMPTY), day(EMPTY - 1), day(EMPTY + 1))
    assert sorted(jst.sql(f"SELECT {field}, _partition FROM jushuitan.{stream}")) == [
        (name, day(EMPTY + days)) for name, (days, _) in EDGES.items()
    ]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("stream", "scale"), [("orders", 0.1), ("skus", 1), ("purchase_ins", 0.6)])
def test_edits_inserts_and_deletions_are_followed_when_days_run_again(
    tmp_path: Path, stream: str, scale: float
) -> None:
    with opened(tmp_path, scale=scale) as jst:
        change_and_run_again(jst, stream)


def change_and_run_again(jst: Lab, stream: str) -> None:
    jst.run(stream, day(1), day(2))
    (key,) = jst.sandbox.truth(stream=DAILY[stream])[0].keys() & {"o_id", "autoid", "io_id"}
    rows = sorted(truth(jst, stream, 1), key=lambda row: row["modified"])
    edited, moved, gone = (row[key] for row in rows[1:4])
    new = {"sku_id": "NEW"} if stream == "skus" else {}
    jst.sandbox.change(
        DAILY[stream],
        update=[{key: edited, "remark": "edited"}, {key: moved, "remark": "moved", "modified": at(2, "10:00:00")}],
        insert=[{**new, "remark": "new", "modified": at(1, "10:00:00")}],
        delete=[gone],
    )
    jst.run(stream, day(2), day(1))
    assert_true(jst, stream, 1, 2)
    marked = jst.sql(f"SELECT remark, _partition FROM jushuitan.{stream} WHERE remark IN ('edited', 'moved', 'new')")
    assert sorted(marked) == [("edited", day(1)), ("moved", day(2)), ("new", day(1))]
    assert not jst.run(stream, day(1))[0].changed


def test_a_day_that_became_empty_is_emptied(jst: Lab) -> None:
    (made,) = jst.sandbox.change("orders", insert=[{"modified": at(EMPTY, "10:00:00"), "items": [{}]}])["inserted"]
    jst.run("orders", day(EMPTY))
    assert (len(jst.table("orders")), len(jst.table("order_items"))) == (1, 1)
    jst.sandbox.change("orders", delete=[made])
    jst.run("orders", day(EMPTY))
    assert (jst.table("orders"), jst.table("order_items")) == ([], [])


def test_a_window_longer_than_a_week_is_asked_for_in_parts(tmp_path: Path) -> None:
    with opened(tmp_path, days=16) as jst:
        jst.sandbox.change("settings", window_end="exclusive")
        fortnight = Window(window(jst, 1).start, window(jst, 16).end, window(jst, 1).zone)
        jst.run("orders", fortnight)
        assert_true(jst, "orders", *range(1, 17))
        assert jst.sandbox.count(ORDERS) == 5  # weeks of 140 rows, and two days


def window(jst: Lab, number: int) -> Window:
    return Window.of_day(day(number), jst.source.timezone)


# Child tables


def test_a_line_that_an_order_no_longer_has_disappears(jst: Lab) -> None:
    jst.run("orders", day(1))
    line = next(row for row in truth(jst, "order_items", 1))
    jst.sandbox.change("orders", remove_item=[{"o_id": line["o_id"], "oi_id": line["oi_id"]}])
    jst.run("orders", day(1))
    assert jst.sql(f"FROM jushuitan.order_items WHERE oi_id = {line['oi_id']}") == []
    assert_true(jst, "orders", 1)


def test_an_order_without_lines_has_none_and_loses_those_it_had(jst: Lab) -> None:
    jst.run("orders", day(1))
    without = dict(zip(keys(jst, "orders")[2:], ([], None, ""), strict=False))
    emptied = [{"o_id": o, "items": nothing, "modified": at(2, "10:00:00")} for o, nothing in without.items()]
    jst.sandbox.change("orders", update=emptied)
    jst.run("orders", day(2))
    for order in without:
        assert jst.sql(f"SELECT _partition FROM jushuitan.orders WHERE o_id = {order}") == [(day(2),)]
        assert jst.sql(f"FROM jushuitan.order_items WHERE o_id = {order}") == []


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("stream", "child", "key", "item", "scale"),
    [("orders", "order_items", "o_id", "oi_id", 0.1), ("outbound", "outbound_items", "io_id", "ioi_id", 0.1),
     ("refunds", "refund_items", "as_id", "asi_id", 1)],
)  # fmt: skip
def test_lines_go_along_to_another_day_and_an_older_day_leaves_them_there(
    tmp_path: Path, stream: str, child: str, key: str, item: str, scale: float
) -> None:
    with opened(tmp_path, scale=scale) as jst:
        jst.run(stream, day(1))
        line = truth(jst, child, 1)[1]
        kept = [row for row in truth(jst, child, 1) if row[key] == line[key] and row[item] != line[item]]
        moved = {key: line[key], item: line[item], "modified": at(2, "10:00:00")}
        jst.sandbox.change(DAILY[stream], remove_item=[moved])
        jst.run(stream, day(2))
        for name in (stream, child):
            jst.load(name, day(1))  # of the files that still hold the older version
        lines = jst.sql(f"SELECT {item}, _partition FROM jushuitan.{child} WHERE {key} = {line[key]}")
        assert sorted(lines) == sorted((row[item], day(2)) for row in kept)
        assert_true(jst, stream, 1, 2)


# Pages


@pytest.mark.parametrize(
    ("stream", "rows", "requests"),
    [("orders", 0, 1), ("orders", 1, 1), ("orders", 100, 1), ("orders", 101, 2), ("orders", 200, 3),
     ("purchases", 0, 1), ("purchases", 50, 1), ("purchases", 51, 2), ("purchases", 100, 2)],
)  # fmt: skip
def test_full_pages_end_where_they_end(jst: Lab, stream: str, rows: int, requests: int) -> None:
    new = [{"labels": str(number), "modified": at(EMPTY, "10:00:00")} for number in range(rows)]
    jst.sandbox.change(DAILY[stream], insert=new)
    found = {int(row["labels"]) for row in jst.extract(stream, day(EMPTY))}
    assert found == set(range(rows))
    assert jst.sandbox.count() == requests


@pytest.mark.parametrize("shops", [99, 100, 101])
def test_shops_fill_pages_of_a_hundred(jst: Lab, shops: int) -> None:
    jst.sandbox.change("shops", insert=[{"shop_id": 20_000 + number} for number in range(shops - 6)])
    jst.run("shops")
    jst.assert_true("shops", truth(jst, "shops"))
    assert (len(jst.table("shops")), jst.sandbox.count()) == (shops, 2 if shops > 100 else 1)


@pytest.mark.parametrize(("stream", "size", "text"), [("orders", 200, False), ("purchases", 80, True)])
def test_has_next_is_believed_and_not_a_short_page(tmp_path: Path, stream: str, size: int, text: bool) -> None:
    def larger(tree: Row) -> None:
        tree["defaults"]["paging"]["size"] = size
        for one in tree["streams"]:
            one["paging"] = {**one.get("paging", tree["defaults"]["paging"]), "size": size}

    with opened(tmp_path, scale=6, change=larger) as jst:
        jst.sandbox.change("settings", page_size_over="clamp", has_next_as_string=text)
        key = jst.stream(stream).key
        found = {tuple(row[name] for name in key) for row in jst.extract(stream, day(1))}
        wanted = truth(jst, stream, 1)
        assert {tuple(row[name] for name in key) for row in wanted} <= found
        assert len(wanted) > size / 2  # which is as much as the simulator gives at once


@pytest.mark.parametrize("stream", ["orders", "purchases", "shops", "inventory"])
def test_an_answer_in_another_shape_is_an_error_and_no_empty_table(jst: Lab, stream: str) -> None:
    jst.sandbox.change("settings", flat=True)
    with pytest.raises(ApiError, match="no list at 'data"):
        jst.extract(stream, day(1))
    jst.sandbox.change("settings", flat=False)
    rows: dict[str, list[Row]] = {"datas": [], "orders": [], "inventorys": []}
    jst.sandbox.fault(path=jst.stream(stream).path, body={"code": 0, "msg": "", "data": rows})
    with pytest.raises(PagingError, match="the answer has no 'data.has_next'"):
        jst.extract(stream, day(1))


# What happens to a row of day 1 while its pages are read: to one of the first page, or to one of the last.
LATER, WITHIN = "2026-01-06 10:00:00", "2026-01-05 23:59:59"
MEANWHILE: dict[str, Any] = {
    "a row already read leaves the day": (-5, lambda row: {"update": [{**row, "modified": LATER}]}),
    "a row still unread leaves the day": (5, lambda row: {"update": [{**row, "modified": LATER}]}),
    "a row already read changes": (-5, lambda row: {"update": [{**row, "modified": WITHIN}]}),
    "a row still unread changes": (5, lambda row: {"update": [{**row, "modified": WITHIN}]}),
    "a row already read is deleted": (-5, lambda row: {"delete": [*row.values()]}),
    "a row still unread is deleted": (5, lambda row: {"delete": [*row.values()]}),
    "a row is inserted": (None, lambda row: {"insert": [{"modified": WITHIN}]}),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("number", "made"), MEANWHILE.values(), ids=MEANWHILE)
@pytest.mark.parametrize(
    ("stream", "scale", "order"),
    [("aftersale_received", 20, "newest"), ("purchases", 6, "newest"), ("purchases", 6, "oldest")],
)
def test_rows_that_change_between_pages_cost_no_other_row_and_double_none(
    tmp_path: Path, stream: str, scale: float, number: int | None, made: Any, order: str
) -> None:
    with opened(tmp_path, scale=scale) as jst:
        jst.sandbox.change("settings", order=order)
        (key,) = jst.stream(stream).key
        before = keys(jst, stream)
        place = (number or 0) * (-1 if order == "oldest" else 1)
        touched = set() if number is None else {before[place]}
        after = {"path": jst.stream(stream).path}
        jst.sandbox.change(DAILY[stream], after=after, **made({key: before[place]}))
        found = [row[key] for row in jst.extract(stream, day(1))]
        assert set(before) - touched <= set(found)
        still = touched & set(keys(jst, stream))
        assert still <= set(found)
        if order == "oldest":
            return
        # Raw files hold what was read, also twice; the table holds each row once.
        jst.load(stream, day(1))
        table = [row[key] for row in jst.table(stream)]
        assert sorted(table) == sorted(set(table))
        assert (set(before) - touched) | still <= set(table)


def naive(tree: Row) -> None:
    """Pages by number, and no look at the total."""
    for one in tree["streams"]:
        if one["name"] in ("orders", "aftersale_received", "purchases"):
            one["paging"] = {"type": "page", "size": 50, "more": "data.has_next"}
            one["json"] = {name: value for name, value in one["json"].items() if name != "start_ts"}
            one["json"]["page_index"] = "{page}"


@pytest.mark.parametrize(("stream", "scale"), [("orders", 0.6), ("aftersale_received", 20), ("purchases", 6)])
@pytest.mark.parametrize(("place", "moment"), [(-5, LATER), (5, WITHIN)])
def test_a_row_that_naive_paging_loses_is_not_lost(
    tmp_path: Path, stream: str, scale: float, place: int, moment: str
) -> None:
    lost = {}
    for name, change in (("naively", naive), ("here", None)):
        with opened(tmp_path / name, scale=scale, change=change) as jst:
            (key,) = jst.stream(stream).key
            moved = keys(jst, stream)[place]
            jst.sandbox.change(
                DAILY[stream], after={"path": jst.stream(stream).path}, update=[{key: moved, "modified": moment}]
            )
            found = {row[key] for row in jst.extract(stream, day(1))}
            lost[name] = set(keys(jst, stream)) - found
    assert (len(lost["naively"]), len(lost["here"])) == (1, 0)


def test_a_list_that_never_stands_still_is_an_error(tmp_path: Path) -> None:
    with opened(tmp_path, scale=12) as jst:
        jst.sandbox.change("settings", order="unstable")
        with pytest.raises(RetryableError, match="the list changed each of the 5 times it was read"):
            jst.extract("purchases", day(1))


def test_answers_without_counts_are_read_by_has_next_alone(tmp_path: Path) -> None:
    with opened(tmp_path, scale=8) as jst:
        jst.sandbox.change("settings", no_counts=True)
        jst.run("purchases", day(1))
        assert_true(jst, "purchases", 1)


# How values are spelled


def test_numbers_as_text_blanks_for_null_and_iso_moments_give_the_same_table(tmp_path: Path) -> None:
    with opened(tmp_path) as jst:
        streams = ("refunds", "purchase_ins")
        for stream in streams:
            jst.run(stream, day(1))
        plain = {stream: typed(jst, stream) for stream in (*streams, "refund_items")}
        jst.sandbox.change(
            "settings", numbers_as_strings=True, empty_for_null=True, datetimes="iso", code_as_string=True
        )
        for stream in streams:
            jst.run(stream, day(1))
        assert {stream: typed(jst, stream) for stream in plain} == plain


def typed(jst: Lab, stream: str) -> list[Row]:
    """The rows of a table by key, without what cannot tell "" from null, or holds the API's own JSON."""
    (key,) = jst.stream(stream).key
    kinds = dict(jst.stream(stream).table_columns())
    rows = sorted(jst.table(stream), key=lambda row: str(row[key]))
    return [
        {name: value or None if kinds[name] == "VARCHAR" else value for name, value in row.items() if name in kinds
         and kinds[name] != "JSON"}
        for row in rows
    ]  # fmt: skip


def test_moments_that_cannot_be_read_stop_the_load(jst: Lab) -> None:
    jst.run("orders", day(1))
    before = jst.table("orders")
    jst.sandbox.change("settings", datetimes="run_together")
    with pytest.raises(QuarantineError, match=r"created: not a timestamp: 2026-01-0\d\d\d:"):
        jst.run("orders", day(1))
    assert jst.table("orders") == before


def test_a_row_with_a_moment_that_cannot_be_read_is_put_aside_with_its_reason(jst: Lab) -> None:
    odd = {"modified": at(1, "10:00:00"), "pay_date": "2026-01-0509:00:00"}
    (made,) = jst.sandbox.change("orders", insert=[odd])["inserted"]
    jst.run("orders", day(1))
    ((key, reason, record),) = jst.sql("SELECT record_key, reason, record FROM ops.quarantine WHERE stream = 'orders'")
    assert (key, reason) == (str(made), "pay_date: not a timestamp: 2026-01-0509:00:00")
    assert json.loads(record)["pay_date"] == odd["pay_date"]
    jst.assert_true("orders", [row for row in truth(jst, "orders", 1) if row["o_id"] != made], unknown=LISTS)


# Tokens


def store(jst: Lab) -> TokenStore:
    values = jst.api.connection.values
    names = [setting for setting in jst.source.settings if setting.startswith("JUSHUITAN_")]
    return TokenStore(jst.folder / "data" / "tokens", {name: values.get(name, "") for name in names})


def token(jst: Lab) -> Token:
    kept = store(jst).kept()
    assert kept is not None
    return kept


def test_an_expired_token_is_refreshed_once_and_the_request_repeated_once(tmp_path: Path) -> None:
    with opened(tmp_path, scale=2.5) as jst:
        jst.sandbox.change("token", expire=True, after={"path": ORDERS})
        jst.run("orders", day(1))
        assert_true(jst, "orders", 1)
        assert (jst.sandbox.count(REFRESH), jst.sandbox.count(ORDERS)) == (1, 3 + 1)


def test_processes_that_start_together_refresh_once_and_the_new_refresh_token_is_used_next(jst: Lab) -> None:
    first = token(jst)
    jst.sandbox.change("token", expire=True)
    jst.sandbox.fault(path=REFRESH, delay=0.5)
    runs = [jst.process(("shops", None), (stream, day(1))) for stream in ("purchases", "suppliers")]
    assert [code for code, _ in output(*runs)] == [0, 0]
    assert jst.sandbox.count(REFRESH) == 1
    second = token(jst)
    jst.sandbox.change("token", expire=True)
    jst.run("shops")  # in a process that knows nothing of the refresh yet
    third = token(jst)
    assert jst.sandbox.count(REFRESH) == 2
    assert len({one.values["refresh_token"] for one in (first, second, third)}) == 3
    assert third.values["refresh_token"] == jst.sandbox.env()["JUSHUITAN_REFRESH_TOKEN"]


@pytest.mark.parametrize("gives", ["same", "none"])
def test_a_refresh_token_that_is_not_replaced_is_used_again(jst: Lab, gives: str) -> None:
    jst.sandbox.change("settings", refresh_gives=gives)
    for refreshes in (1, 2):
        jst.sandbox.change("token", expire=True)
        jst.extract("shops")
        assert jst.sandbox.count(REFRESH) == refreshes


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({"token_seconds": 3_600}, 3_240),
        ({"token_seconds": 15_552_000}, 15_465_600),
        ({"omit_expires_in": True}, 6_480),
    ],
)
def test_a_token_is_refreshed_before_its_end(jst: Lab, settings: Row, seconds: float) -> None:
    jst.sandbox.change("settings", **settings)
    jst.sandbox.change("token", expire=True)
    jst.extract("shops")
    kept = token(jst)
    assert kept.renew_at - time.time() == pytest.approx(seconds, abs=10)
    store(jst).keep(Token(kept.value, time.time(), kept.values))
    jst.reopen()
    jst.extract("shops")
    assert (jst.sandbox.count(REFRESH), jst.sandbox.count("shops")) == (2, 3)


def test_an_app_that_may_not_refresh_is_told_what_to_do(jst: Lab) -> None:
    jst.sandbox.change("settings", isv=True)
    jst.sandbox.change("token", expire=True)
    with pytest.raises(ApiError, match="error code 150: .*authorise it again and set a new JUSHUITAN_ACCESS_TOKEN"):
        jst.extract("shops")
    assert (jst.sandbox.count(REFRESH), jst.sandbox.count("shops")) == (1, 1)


def test_a_refresh_token_that_is_over_ends_in_an_error_that_says_what_to_do(jst: Lab) -> None:
    jst.sandbox.change("token", expire=True, revoke_refresh=True)
    with pytest.raises(
        ApiError, match="error code 100: .*authorise .* a new JUSHUITAN_ACCESS_TOKEN and JUSHUITAN_REFRESH_TOKEN"
    ):
        jst.extract("shops")
    assert (jst.sandbox.count(REFRESH), jst.sandbox.count("shops")) == (1, 1)


def test_without_a_refresh_token_the_error_names_it_and_setting_it_helps(tmp_path: Path) -> None:
    with opened(tmp_path, env={"JUSHUITAN_REFRESH_TOKEN": None}) as jst:
        jst.extract("shops")
        jst.sandbox.change("token", expire=True)
        with pytest.raises(ApiError, match="the access token is over; set JUSHUITAN_REFRESH_TOKEN"):
            jst.extract("shops")
        assert jst.sandbox.count(REFRESH) == 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("JUSHUITAN_REFRESH_TOKEN", jst.sandbox.env()["JUSHUITAN_REFRESH_TOKEN"])
            jst.reopen()
            assert len(jst.extract("shops")) == 6


def test_too_many_requests_at_a_refresh_are_waited_for(jst: Lab) -> None:
    jst.sandbox.change("token", expire=True)
    jst.sandbox.fault(path=REFRESH, body={"code": 199, "msg": "too fast", "data": None}, times=2)
    assert len(jst.extract("shops")) == 6
    assert jst.sandbox.count(REFRESH) == 3


def test_no_secret_is_written_anywhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path) as jst, caplog.at_level(logging.DEBUG):
        jst.run("shops")
        tokens = [token(jst)]
        jst.sandbox.change("token", expire=True)
        jst.run("orders", day(1))
        tokens.append(token(jst))
        secrets = {*jst.secrets(), *(one.value for one in tokens), *(one.values["refresh_token"] for one in tokens)}
        assert len(secrets) == 6
        jst.sandbox.fault(path=ORDERS, body={"code": 130, "msg": " ".join(secrets), "data": None})
        with pytest.raises(ApiError, match="130") as caught:
            jst.extract("orders", day(1))
        (file,) = jst.token_files()
        assert file.stat().st_mode & 0o777 == 0o600
        assert leaks(tmp_path, secrets, str(caught.value), repr(caught.value.__context__), caplog.text) == []


# Errors inside HTTP 200, and limits


@pytest.mark.parametrize("code", [199, 200, 10004, "199"])
def test_a_passing_error_is_retried(jst: Lab, code: int | str) -> None:
    jst.sandbox.fault(path=ORDERS, body={"code": code, "msg": "调用频次超过限制", "data": None}, times=2)
    assert {row["o_id"] for row in jst.extract("orders", day(1))} >= set(keys(jst, "orders"))
    assert jst.sandbox.count(ORDERS) == 3


def test_an_error_that_does_not_pass_ends_as_one_worth_a_later_run(jst: Lab) -> None:
    jst.sandbox.fault(path=ORDERS, body={"code": 200, "msg": "限流"}, times=-1)
    with pytest.raises(ApiUnavailable, match="error code 200: 限流; gave up after 7 attempts"):
        jst.extract("orders", day(1))


@pytest.mark.parametrize(
    ("settings", "code"),
    [({"denied": [RECEIVED]}, 190), ({"ip_whitelist": ["10.0.0.1"]}, 110)],
)
def test_a_missing_permission_is_final_and_leaves_the_table_as_it_was(jst: Lab, settings: Row, code: int) -> None:
    jst.run("aftersale_received", day(1))
    before = jst.table("aftersale_received")
    jst.sandbox.clear_log()
    jst.sandbox.change("settings", **settings)
    with pytest.raises(ApiError, match=f"POST {RECEIVED}: error code {code}: 验证失败") as caught:
        jst.run("aftersale_received", day(1))
    assert (caught.value.code, jst.sandbox.count()) == (str(code), 1)
    assert jst.table("aftersale_received") == before != []


@pytest.mark.parametrize("code", [10, 120, 130, 140, 150, 160, 170, 180, 10015, -4, 404, None])
def test_any_other_code_is_final_and_never_an_empty_table(jst: Lab, code: int | None) -> None:
    jst.sandbox.fault(path=ORDERS, body={"code": code, "msg": "参数错误", "data": None})
    with pytest.raises(ApiError, match=f"error code {code}: 参数错误"):
        jst.extract("orders", day(1))
    assert jst.sandbox.count() == 1


@pytest.mark.parametrize("codes", ["new", "old"])
def test_a_wrong_secret_is_a_bad_signature(tmp_path: Path, codes: str) -> None:
    with opened(tmp_path, env={"JUSHUITAN_APP_SECRET": "0123456789abcdef"}) as jst:
        jst.sandbox.change("settings", codes=codes)
        with pytest.raises(ApiError, match=f"error code {10 if codes == 'new' else 120}: 验证失败！无效签名"):
            jst.extract("shops")


def test_the_vendors_limits_are_declared(jst: Lab, tmp_path: Path) -> None:
    with opened(tmp_path / "packaged", sandbox=jst.sandbox, limits=True) as packaged:
        assert packaged.source.limits.rates == {"default": [Rate(count=5, seconds=1), Rate(count=100, seconds=60)]}


# Reconciliation


def reconciled(jst: Lab) -> dict[tuple[str, date], Difference]:
    found = reconcile(jst.pipeline, jst.api, day(1), day(2), RUN_ID)
    return {(one.stream, one.day): one.difference for one in found}


def only(*streams: str) -> Any:
    """Leaves no other streams in the stream file."""

    def change(tree: Row) -> None:
        tree["streams"] = [one for one in tree["streams"] if one["name"] in (*streams, tree.get("check"))]

    return change


def loads(jst: Lab) -> dict[tuple[str, date], int]:
    return {(name, on): count for name, on, count in jst.sql(
        "SELECT stream, partition, count(*) FROM ops.loads WHERE partition IS NOT NULL GROUP BY ALL"
    )}  # fmt: skip


def test_reconciling_finds_late_changes_and_loads_the_days_that_differ(tmp_path: Path) -> None:
    with opened(tmp_path, change=only("orders", "order_items")) as jst:
        jst.run("orders", day(1), day(2))
        first, second, gone, *_ = keys(jst, "orders")
        lines = [{"sku_id": "LATE"}]
        jst.sandbox.change(
            "orders",
            update=[{"o_id": first, "status": "Split", "items": lines}, {"o_id": second, "remark": "late"}],
            insert=[{"modified": at(1, "10:00:00"), "items": lines}],
            delete=[gone],
        )
        nothing = Difference(0, 0, 0)
        assert reconciled(jst) == {
            ("orders", day(1)): Difference(missing=1, changed=2, surplus=1),
            ("orders", day(2)): nothing,
        }
        assert_true(jst, "orders", 1, 2)
        counted = loads(jst)
        assert {key for key, count in counted.items() if count > 1} == {("orders", day(1)), ("order_items", day(1))}
        assert set(reconciled(jst).values()) == {nothing}
        assert loads(jst) == counted


def test_reconciling_follows_an_order_and_its_lines_to_an_earlier_day(tmp_path: Path) -> None:
    with opened(tmp_path, change=only("orders", "order_items")) as jst:
        jst.run("orders", day(1), day(2))
        moved = {"o_id": keys(jst, "orders", 2)[3], "modified": at(1, "10:00:00")}
        jst.sandbox.change("orders", update=[moved])
        reconciled(jst)
        assert_true(jst, "orders", 1, 2)


# What the sample code of seed 003 does wrong


def test_few_shops_on_a_single_short_page_are_all_there(jst: Lab) -> None:
    assert jst.run("shops")[0].rows_in_table == 6
    assert [(entry["method"], entry["path"], entry["query"]) for entry in jst.sandbox.log()] == [
        ("POST", "/open/shops/query", [])
    ]


def test_a_token_is_not_refreshed_without_need(jst: Lab) -> None:
    for stream in ("shops", "warehouses", "logistics_companies"):
        jst.extract(stream)
    assert jst.sandbox.count(REFRESH) == 0


def test_times_are_beijing_wall_clock(jst: Lab) -> None:
    jst.sandbox.change("shops", insert=[{"shop_id": 20_000, "created": "2026-01-05 00:00:00", "session_expired": ""}])
    jst.run("shops")
    (row,) = jst.table("shops", "shop_id = 20000")
    assert (row["created"], row["session_expired"]) == (datetime(2026, 1, 4, 16, tzinfo=UTC), None)
