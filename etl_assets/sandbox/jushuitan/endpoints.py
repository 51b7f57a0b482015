"""The read endpoints, and what each demands of a call and shows of a row."""

from collections.abc import Mapping

from etl_assets.sandbox.jushuitan.data import CARRIERS, OFFLINE_SHOP, WAREHOUSES
from etl_assets.sandbox.jushuitan.query import Biz, Endpoint, Ids, Test
from etl_assets.sandbox.jushuitan.table import Row


def _without(row: Row, *names: str) -> Row:
    return {name: value for name, value in row.items() if name not in names}


def _offline(biz: Biz) -> list[Test]:
    """Shop 0 with `is_offline_shop` means the shops that are not online, any other shop itself."""
    shop = biz.number("shop_id")
    if biz.flag("is_offline_shop") and not shop:
        shop = OFFLINE_SHOP
    return [lambda row: bool(row["shop_id"] == shop)] if shop else []


def _orders(biz: Biz) -> list[Test]:
    types = biz.listed("order_types", form="list")
    return [*_offline(biz), *([lambda row: row["type"] in types] if types else [])]


def _order(biz: Biz, row: Row) -> Row:
    finances = {"cb_finances": {"freight_fee": None, "commission": None}}
    return row | finances if biz.flag("is_get_cbfinance") else _without(row, "cb_finances")


def _outbound(biz: Biz, row: Row) -> Row:
    finance = {"cb_finance": {"freight_fee": None, "commission": None}}
    return row | finance if biz.flag("is_get_cbfinance") else _without(row, "cb_finance")


def _sku_names(biz: Biz) -> list[Test]:
    part, exact = biz.text("name"), biz.text("exactly_name")
    tests: list[Test] = [lambda row: part in row["name"]] if part else []
    return [*tests, lambda row: bool(row["name"] == exact)] if exact else tests


def _sku(biz: Biz, row: Row) -> Row:
    return row if "purchase_price" in biz.listed("flds") else _without(row, "purchase_price")


def _one_warehouse(biz: Biz) -> list[Test]:
    """Warehouse 0, or none, means all together."""
    warehouse = biz.number("wms_co_id") or 0
    return [lambda row: bool(row["wms_co_id"] == warehouse)]


def _stock(biz: Biz, row: Row) -> Row:
    """A row names its warehouse only to whoever asked for one."""
    hidden = [() if biz.number("wms_co_id") else ("wms_co_id",), () if biz.flag("has_lock_qty") else ("lock_qty",)]
    return _without(row, *hidden[0], *hidden[1])


def _carriers(biz: Biz) -> list[Test]:
    """The carriers that a warehouse uses: all but one."""
    warehouse = biz.number("wms_co_id")
    if not warehouse:
        return []
    unused = CARRIERS[WAREHOUSES.index(warehouse)][0] if warehouse in WAREHOUSES else None
    return [lambda row: unused is not None and row["lc_id"] != unused]


def _confirmed(biz: Biz) -> list[Test]:
    statuses = biz.listed("statuss", form="list") or ["Confirmed"]
    return [lambda row: row["status"] in statuses]


ENDPOINTS: Mapping[str, Endpoint] = {
    "/open/shops/query": Endpoint(
        table="shops",
        size=100,
        most=100,
        windows=(),
        needs=0,
        counts=False,
        ids=(Ids("shop_ids", "shop_id", form="list"), Ids("nicks", "nick", form="list")),
    ),
    "/open/wms/partner/query": Endpoint(table="warehouses", most=0, windows=(), needs=0),
    "/open/logisticscompany/query": Endpoint(table="logistics_companies", needs=0, tests=_carriers),
    "/open/category/query": Endpoint(
        table="categories",
        needs=0,
        ids=(Ids("c_ids", "c_id", form="list"), Ids("parent_c_ids", "parent_c_id", form="list")),
    ),
    "/open/sku/query": Endpoint(
        table="skus",
        date_field=("modified", "created"),
        ids=(
            Ids("sku_ids", "sku_id", 20, "csv"),
            Ids("sku_codes", "sku_code", 20, "csv"),
            Ids("i_ids", "i_id", form="list"),
        ),
        selectors=("name", "exactly_name"),
        tests=_sku_names,
        shown=_sku,
    ),
    "/open/combine/sku/query": Endpoint(
        table="combine_skus", ids=(Ids("sku_ids", "sku_id", 20, "csv"), Ids("i_ids", "i_id", form="list"))
    ),
    "/open/skumap/query": Endpoint(
        table="skumaps",
        windows=("modified", "link_modified", "created"),
        ids=(Ids("sku_ids", "sku_id", 20, "csv"),),
        equal={"shop_id": "shop_id"},
    ),
    "/open/inventory/query": Endpoint(
        table="inventory",
        rows="inventorys",
        most=100,
        needs=170,
        ids=(
            Ids("sku_ids", "sku_id", 100, "csv"),
            Ids("names", "name", 100, "csv"),
            Ids("i_ids", "i_id", 100, "csv"),
        ),
        version="ts",
        tests=_one_warehouse,
        shown=_stock,
        counts=False,
    ),
    "/open/orders/single/query": Endpoint(
        table="orders",
        rows="orders",
        most=100,
        date_types={0: "modified", 2: "order_date", 3: "send_date"},
        ids=(Ids("so_ids", "so_id", 20), Ids("o_ids", "o_id")),
        version="start_ts",
        equal={"status": "status"},
        tests=_orders,
        shown=_order,
    ),
    "/open/orders/out/simple/query": Endpoint(
        table="outbounds",
        narrow="drp_co_id",
        date_types={0: "modified", 2: "io_date"},
        ids=(
            Ids("so_ids", "so_id", 50),
            Ids("o_ids", "o_id", 50),
            Ids("io_ids", "io_id", 50),
            Ids("l_ids", "l_id", 20),
            Ids("wave_ids", "wave_id", 50),
        ),
        version="start_ts",
        equal={"status": "status", "wms_co_id": "wms_co_id", "owner_co_id": "co_id"},
        tests=_offline,
        shown=_outbound,
    ),
    "/open/refund/single/query": Endpoint(
        table="refunds",
        ids=(
            Ids("so_ids", "so_id"),
            Ids("o_ids", "o_id"),
            Ids("as_ids", "as_id"),
            Ids("shop_buyer_ids", "shop_buyer_id", 50),
        ),
        version="start_ts",
        equal={"status": "status", "good_status": "good_status", "type": "type"},
        tests=_offline,
    ),
    "/open/aftersale/received/query": Endpoint(
        table="received",
        date_types={0: "modified", 2: "_order_date", 4: "io_date"},
        ids=(
            Ids("so_ids", "so_id"),
            Ids("o_ids", "o_id"),
            Ids("as_ids", "as_id", 50),
            Ids("io_ids", "io_id", 50),
        ),
        version="start_ts",
        equal={"shop_id": "shop_id"},
        shown=lambda biz, row: _without(row, "_order_date"),
    ),
    "/open/purchase/query": Endpoint(
        table="purchases",
        ids=(
            Ids("po_ids", "po_id", form="list"),
            Ids("so_ids", "so_id", form="list"),
            Ids("statuss", "status", form="list", selects=False),
        ),
    ),
    "/open/purchasein/query": Endpoint(
        table="purchaseins",
        date_types={0: "modified", 2: "io_date"},
        ids=(Ids("po_ids", "po_id", 30), Ids("io_ids", "io_id", 30), Ids("so_ids", "so_id")),
        version="start_ts",
        alone=True,
        tests=_confirmed,
    ),
    "/open/supplier/query": Endpoint(
        table="suppliers",
        most=500,
        days=1,
        ids=(
            Ids("supplier_ids", "supplier_id", 50),
            Ids("names", "name", 50),
            Ids("supplier_codes", "supplier_code"),
        ),
    ),
}
