"""What rows of each kind look like: their fields, what stands in empty ones, and how the API may spell values.

Fields are those of the vendor's reference, in its types: a field that shows "" where others show null does so
here, and a number that comes as text is text. What rows there are belongs to `jushuitan_data` and
`jushuitan_sales`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from etl_assets.sandbox.jushuitan.table import Kind, Row

Datetimes = Literal["plain", "run_together", "iso"]

_RECEIVER = "receiver_name receiver_mobile receiver_phone receiver_country receiver_state receiver_city "
_ADDRESS = "receiver_district receiver_town receiver_address receiver_zip receiver_email"


def _of(names: str, value: Any = None) -> Row:
    return dict.fromkeys(names.split(), value)


SHOP = Kind(
    key=("shop_id",),
    blank={
        **_of("shop_id", 0),
        **_of("shop_name", ""),
        **_of("co_id", 0),
        **_of("shop_site shop_url", ""),
        **_of("created"),
        **_of("nick", ""),
        **_of("session_expired"),
        **_of("session_uid short_name", ""),
        **_of("group_id", 0),
        **_of("group_name", ""),
    },
)
WAREHOUSE = Kind(
    key=("wms_co_id",),
    blank={
        **_of("name", ""),
        **_of("co_id wms_co_id", 0),
        **_of("is_main", False),
        **_of("status remark1 remark2", ""),
    },
)
CARRIER = Kind(key=("lc_id",), blank=_of("lc_id lc_name modified", ""))
SUPPLIER = Kind(
    key=("supplier_id",),
    blank={
        **_of("supplier_id", 0),
        **_of("supplier_code name group", ""),
        **_of("enabled", True),
        **_of("remark remark2 remark3 depositbank bankacount acountnumber", ""),
        **_of("modified"),
    },
)
CATEGORY = Kind(key=("c_id",), blank={**_of("c_id parent_c_id", 0), **_of("name", ""), **_of("modified")})
SKU = Kind(
    key=("autoid",),
    blank={
        **_of("autoid", 0),
        **_of("sku_id i_id name short_name properties_value color category vc_name brand unit", ""),
        **_of("sku_type", "normal"),
        **_of("item_type", "成品"),
        **_of("pic pic_big remark sku_code sku_codes labels stock_type production_licence batch_enabled", ""),
        **_of("sale_price cost_price market_price weight l w h"),
        **{f"other_price_{number}": None for number in range(1, 11)},
        **{f"other_{number}": "" for number in range(1, 11)},
        **_of("c_id"),
        **_of("enabled", 1),
        **_of("stock_disabled", 0),
        **_of("shelf_life"),
        **_of("is_series_number", False),
        **_of("supplier_id supplier_name supplier_sku_id supplier_i_id", ""),
        **_of("creator created modified purchase_price"),
    },
)
BUNDLE = Kind(
    key=("sku_id",),
    blank={
        **_of("sku_id i_id name short_name vc_name pic properties_value", ""),
        **_of("sale_price cost_price weight l w h volume"),
        **{f"other_price_{number}": None for number in range(1, 6)},
        **{f"other_{number}": "" for number in range(1, 6)},
        **_of("enty_sku_id labels brand sku_code item_type remark", ""),
        **_of("enabled", 1),
        **_of("sku_qty", 0),
        **_of("created modified"),
        "items": [],
    },
    items={
        "items": (
            "src_sku_id",
            {**_of("combine_sku_id src_sku_id", ""), **_of("qty", 1), **_of("sale_price modified")},
        )
    },
)
LISTING = Kind(
    key=("shop_id", "shop_sku_id"),
    blank={
        **_of("shop_id", 0),
        **_of("shop_sku_id", ""),
        **_of("co_id", 0),
        **_of("channel i_id sku_id raw_sku_id link_sku_id shop_i_id name properties_value", ""),
        **_of("shop_price", ""),
        **_of("shop_qty"),
        **_of("enabled", True),
        **_of("type", 0),
        **_of("created modified link_modified shop_created pull_off_time"),
        **_of("outer_sku_code", ""),
    },
)
STOCK = Kind(
    key=("wms_co_id", "sku_id"),
    blank={
        **_of("wms_co_id", 0),
        **_of("sku_id", ""),
        **_of("ts", 0),
        **_of("i_id name", ""),
        **_of("qty order_lock pick_lock virtual_qty purchase_qty return_qty in_qty defective_qty", 0),
        **_of("customize_qty_1 customize_qty_2 customize_qty_3 allocate_qty min_qty max_qty sale_refund_qty", 0),
        **_of("lock_qty", 0),
        **_of("modified"),
    },
)

_ORDER: Row = {
    **_of("o_id", 0),
    **_of("so_id", ""),
    **_of("shop_id", 0),
    **_of("shop_name", ""),
    **_of("co_id", 0),
    **_of("as_id link_o_id"),
    **_of("merge_so_id outer_pay_id warehouse_oid package_no", ""),
    **_of("status", "WaitConfirm"),
    **_of("shop_status", ""),
    **_of("type", "普通订单"),
    **_of("order_from question_type question_desc labels", ""),
    **_of("is_cod is_merge is_split", False),
    **_of("seller_flag", 0),
    **_of("created modified order_date pay_date send_date sign_time end_time plan_delivery_date"),
    **_of("pay_amount paid_amount free_amount", 0.0),
    **_of("freight platform_free_amount pay_free_amount referrer_free_amount shop_free_amount", ""),
    **_of("buyer_paid_amount seller_income_amount cb_total_tax"),
    **_of("currency", "CNY"),
    **_of("shop_buyer_id buyer_id open_id buyer_message", ""),
    **_of(_RECEIVER + _ADDRESS),
    **_of("wms_co_id lc_id logistics_company l_id un_lid chosen_channel shipment", ""),
    **_of("weight f_weight"),
    **_of("creator_name", ""),
    **_of("drp_co_id_from drp_co_id_to referrer_id"),
    **_of("referrer_name invoice_title invoice_type buyer_tax_no remark node skus shop_site", ""),
    **_of("ts", 0),
    "items": [],
    "pays": [],
    "cb_finances": None,
}
ORDER_ITEM: Row = {
    **_of("oi_id", 0),
    **_of("sku_id i_id shop_sku_id shop_i_id name properties_value pic", ""),
    **_of("sku_type", "normal"),
    **_of("qty", 1),
    **_of("price base_price amount", 0.0),
    **_of("is_gift is_presale", False),
    **_of("outer_oi_id raw_so_id", ""),
    **_of("refund_id"),
    **_of("refund_status", "none"),
    **_of("item_status", ""),
    **_of("buyer_paid_amount seller_income_amount batch_id produced_date lwh_id"),
    **_of("lwh_name", ""),
    **_of("referrer_id"),
    **_of("remark", ""),
    **_of("item_ext_data"),
}
PAY: Row = {
    **_of("pay_id o_id", 0),
    **_of("outer_pay_id", ""),
    **_of("amount", 0.0),
    **_of("pay_date"),
    **_of("payment pay_type status buyer_account", ""),
    **_of("is_order_pay", True),
}
_OUTBOUND: Row = {
    **_of("io_id o_id", 0),
    **_of("so_id", ""),
    **_of("shop_id co_id wms_co_id", 0),
    **_of("status", "WaitConfirm"),
    **_of("order_type", "普通订单"),
    **_of("io_date created modified pay_date"),
    **_of("pay_amount paid_amount free_amount", 0.0),
    **_of("freight weight f_weight"),
    **_of("currency", "CNY"),
    **_of("l_id lc_id logistics_company", ""),
    **_of("wave_id"),
    **_of("labels remark node", ""),
    **_of(_RECEIVER + _ADDRESS),
    **_of("is_cod is_print is_print_express", False),
    **_of("stock_enabled", ""),
    **_of("business_staff", ""),
    **_of("order_staff_id"),
    **_of("order_staff_name", ""),
    **_of("ts", 0),
    "items": [],
    "batchs": [],
    "sns": [],
    "cluster_infos": [],
    "cb_finance": None,
}
OUTBOUND_ITEM: Row = {
    **_of("ioi_id", 0),
    **_of("sku_id i_id", ""),
    **_of("qty", 1),
    **_of("sale_price sale_base_price sale_amount", 0.0),
    **_of("oi_id"),
    **_of("outer_oi_id raw_so_id combine_sku_id", ""),
    **_of("is_gift", False),
    **_of("batch_id product_date supplier_id expiration_date"),
}
_REFUND: Row = {
    **_of("as_id", 0),
    **_of("outer_as_id", ""),
    **_of("o_id", 0),
    **_of("so_id", ""),
    **_of("shop_id", 0),
    **_of("shop_name", ""),
    **_of("as_date created modified confirm_date"),
    **_of("type", "仅退款"),
    **_of("status", "WaitConfirm"),
    **_of("shop_status good_status order_status refund_phase question_type result", ""),
    **_of("refund payment free_amount freight shop_freight", 0.0),
    **_of("buyer_apply_refund receive_refund buyer_receive_refund"),
    **_of("warehouse", ""),
    **_of("wh_id wms_co_id"),
    **_of("l_id logistics_company", ""),
    **_of(_RECEIVER + _ADDRESS),
    **_of("shop_buyer_id labels", ""),
    "order_labels": [],
    **_of("currency", "CNY"),
    **_of("refund_version", 0),
    **_of("ts", ""),
    "images": [],
    "items": [],
    "batchs": [],
    "sns": [],
}
REFUND_ITEM: Row = {
    **_of("asi_id as_id", 0),
    **_of("sku_id i_id combine_sku_id shop_sku_id", ""),
    **_of("qty", 1),
    **_of("r_qty defective_qty", 0),
    **_of("price amount shop_amount", 0.0),
    **_of("type", "退货"),
    **_of("is_gift", False),
    **_of("outer_oi_id", ""),
    **_of("receive_date"),
    **_of("remark", ""),
}
_RECEIVED: Row = {
    **_of("io_id", 0),
    **_of("as_id o_id"),
    **_of("so_id", ""),
    **_of("shop_id", 0),
    **_of("io_date modified _order_date"),
    **_of("warehouse", ""),
    **_of("wh_id", 2),
    **_of("wms_co_id", 0),
    **_of("status", "Confirmed"),
    **_of("type l_id lc_id logistics_company", ""),
    **_of("creator"),
    **_of("creator_name drp_co_name aftersale_remark", ""),
    **_of("ts", 0),
    "items": [],
}
RECEIVED_ITEM: Row = {
    **_of("ioi_id", ""),
    **_of("io_id", 0),
    **_of("sku_id i_id", ""),
    **_of("qty", 1),
    **_of("sale_price sale_amount", 0.0),
    **_of("unit name", ""),
}
_PURCHASE: Row = {
    **_of("po_id", 0),
    **_of("po_date"),
    **_of("so_id", ""),
    **_of("status", "Creating"),
    **_of("receive_status", "Not_Received"),
    **_of("supplier_id", 0),
    **_of("seller purchaser_name", ""),
    **_of("tax_rate more_rate"),
    **_of("freight wms_co_id", 0),
    **_of("confirm_date finish_time modified"),
    **_of("labels", ""),
    **_of("merge_po_id"),
    "items": [],
}
PURCHASE_ITEM: Row = {
    **_of("poi_id po_id", 0),
    **_of("sku_id i_id", ""),
    **_of("qty", 1),
    **_of("in_qty return_qty", 0),
    **_of("price", 0.0),
    **_of("tax_rate delivery_date"),
    **_of("qc_qty qc_quality_qty qc_defective_qty", 0),
    **_of("is_delivery", False),
}
_PURCHASEIN: Row = {
    **_of("io_id", 0),
    **_of("po_id"),
    **_of("so_id out_io_id", ""),
    **_of("io_date"),
    **_of("status", "WaitConfirm"),
    **_of("f_status", "WaitConfirm"),
    **_of("warehouse", ""),
    **_of("wh_id", "1"),
    **_of("wms_co_id supplier_id", 0),
    **_of("supplier_name", ""),
    **_of("archived modified"),
    **_of("merge_so_id remark labels type creator_name l_id", ""),
    **_of("tax_rate"),
    **_of("ts", 0),
    "items": [],
}
PURCHASEIN_ITEM: Row = {
    **_of("ioi_id", 0),
    **_of("sku_id i_id", ""),
    **_of("qty", 1),
    **_of("cost_price cost_amount", 0.0),
    **_of("batch_no", ""),
    **_of("tax_rate"),
}

ORDER = Kind(key=("o_id",), blank=_ORDER, items={"items": ("oi_id", ORDER_ITEM), "pays": ("pay_id", PAY)})
OUTBOUND = Kind(key=("io_id",), blank=_OUTBOUND, items={"items": ("ioi_id", OUTBOUND_ITEM)})
REFUND = Kind(key=("as_id",), blank=_REFUND, items={"items": ("asi_id", REFUND_ITEM)})
RECEIVED = Kind(key=("io_id",), blank=_RECEIVED, items={"items": ("ioi_id", RECEIVED_ITEM)})
PURCHASE = Kind(key=("po_id",), blank=_PURCHASE, items={"items": ("poi_id", PURCHASE_ITEM)})
PURCHASEIN = Kind(key=("io_id",), blank=_PURCHASEIN, items={"items": ("ioi_id", PURCHASEIN_ITEM)})

OBJECTS = frozenset({"cb_finances", "cb_finance"})
"""Fields that hold objects, and only when asked for."""

_MOMENTS = _of(
    "created modified order_date pay_date send_date sign_time end_time plan_delivery_date io_date as_date confirm_date "
    "po_date finish_time delivery_date link_modified shop_created pull_off_time session_expired receive_date archived "
    "produced_date product_date expiration_date"
).keys()
_NUMBERS = _of(
    "freight platform_free_amount pay_free_amount referrer_free_amount shop_free_amount shop_price ts"
).keys()


def spelled(rows: Iterable[Row], *, strings: bool, blanks: bool, datetimes: Datetimes) -> list[Row]:
    """Rows with numbers as text, "" for null, or datetimes in a form seen in the wild."""
    return [_spelled(row, "", strings, blanks, datetimes) for row in rows]


def flat(row: Mapping[str, Any]) -> Row:
    """What a right extract holds of a row, without its lists: numbers as numbers, datetimes with their offset."""
    return {
        name: _meant(name, value)
        for name, value in row.items()
        if not isinstance(value, list | dict) and name not in OBJECTS and not name.startswith("_")
    }


def _spelled(value: Any, name: str, strings: bool, blanks: bool, datetimes: Datetimes) -> Any:
    if isinstance(value, dict):
        return {key: _spelled(inner, key, strings, blanks, datetimes) for key, inner in value.items()}
    if isinstance(value, list):
        return [_spelled(inner, name, strings, blanks, datetimes) for inner in value]
    if value is None:
        return "" if blanks else None
    if strings and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if name in _MOMENTS and isinstance(value, str) and datetimes != "plain":
        return value.replace(" ", "T" if datetimes == "iso" else "", 1)
    return value


def _meant(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if name in _MOMENTS:
        return f"{value.replace(' ', 'T')}+08:00" if value else None
    if name in _NUMBERS:
        try:
            return (int(value) if value.isdecimal() else float(value)) if value else None
        except ValueError:
            return value
    return value
