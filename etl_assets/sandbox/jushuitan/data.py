"""The merchant's shops, warehouses, goods, stock and suppliers, and when rows were modified.

6 shops, 4 warehouses, 6 carriers, 20 suppliers, 20 bundles, 10 categories; 300 x scale SKUs (300 at least,
3,000 at most) with stock in every warehouse. Of each kind every third row was modified on a data day, the
first of them on the first day at 00:00:00 and the last on the last at 23:59:59. Documents have a `Timeline`
instead, but are made in `jushuitan_sales` and `jushuitan_purchases`.

Rows are as the API shows them. Times are seconds of Beijing's wall clock; money is in 1/10000 until it is shown.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from typing import Any

from etl_assets.sandbox.jushuitan.shapes import (
    BUNDLE,
    CARRIER,
    CATEGORY,
    LISTING,
    SHOP,
    SKU,
    STOCK,
    SUPPLIER,
    WAREHOUSE,
)
from etl_assets.sandbox.jushuitan.table import Base, Kind, Row, Table, Versions
from etl_assets.sandbox.times import DAY, iso
from etl_assets.sandbox.world import FIRST_DAY, numbers

CO_ID = 20_001
OPENING = (FIRST_DAY - date(1970, 1, 1)).days * DAY
WAREHOUSES = (20_001, 20_011, 20_012, 20_013)
SHOPS = (10_001, 10_002, 10_003, 10_004, 10_005, 10_006)
OFFLINE_SHOP, TAOBAO_SHOP = 10_002, 10_003
CARRIERS = (
    ("SF", "顺丰速运"),
    ("YTO", "圆通速递"),
    ("ZTO", "中通快递"),
    ("EMS", "中国邮政 EMS"),
    ("JD", "京东物流"),
    ("STO.8", "申通, 华东"),
)
SHOP_NAMES = (
    '自有商城 "官方"',
    "线下门店, 上海\n静安",
    "天猫旗舰店🛍️",
    "抖音小店",
    "Cross-border / Lazada",
    "有赞's 商城",
)
SHOP_SITES = ("自有商城", "线下", "淘宝天猫", "头条放心购", "Lazada", "有赞")
WAREHOUSE_NAMES = ("主仓", '华南 "云仓"', "保税仓, 宁波", "代发仓🚚")
ZONES = {1: "主仓", 2: "销退仓", 3: "进货仓", 4: "次品仓"}
COLORS = ("红", "黑", "米白")
SUPPLIERS = 20
LONGEST_LAG = 5 * DAY
"""No date that documents are filtered by is further than this before their `modified`, edits apart."""
FIRST_SKU = 300_001

_FIRST_SUPPLIER = 70_001
_SKUS = 300
_MOST_SKUS = 3_000
_BUNDLES = 20
_CATEGORIES = 10
_PAST = 90 * DAY
_SIZES = ("S", "XL")
_NAMES = (
    '纯棉T恤 "夏季"', "连衣裙, 修身", "换行\n测试裤", "🧥羽绒服", "=SUM(A1)帽",
    "back\\slash包", "袜子 5双装", "L'été 丝巾", "Tab\t腰带", "保温杯😀",
)  # fmt: skip
# In 1/10000: 0.1 and 0.2, of which floats make 0.30000000000000004, four decimals, whole ones, and large ones.
_PRICES = (1_000, 2_000, 199_000, 333_333, 1_290_000, 99, 590_000, 8_888_888, 100_000, 1_005_000)
_STOCKS = ("qty", "order_lock", "pick_lock", "virtual_qty", "purchase_qty", "return_qty", "in_qty", "defective_qty",
           "customize_qty_1", "customize_qty_2", "customize_qty_3", "allocate_qty", "min_qty", "max_qty",
           "sale_refund_qty", "lock_qty")  # fmt: skip


def clock(seconds: int) -> str:
    """Seconds of Beijing's wall clock as the API writes them."""
    return iso(seconds).replace("T", " ")


def yuan(money: int) -> float:
    """1/10000 yuan as the shortest decimal that means them."""
    return money / 10_000


def supplier_id(number: int) -> int:
    """The id of a supplier by number."""
    return _FIRST_SUPPLIER + number % SUPPLIERS


class Spread:
    """When `total` rows were modified: two thirds before the data days, the others evenly over them."""

    def __init__(self, total: int, days: int) -> None:
        self._early = total - max(2, total // 3)
        self._late = total - self._early
        self._span = days * DAY - 1

    def moment(self, number: int) -> int:
        """When row `number` was modified; never before row `number - 1`."""
        late = number - self._early
        if late < 0:
            return OPENING - _PAST + number * _PAST // self._early
        return OPENING + late * self._span // (self._late - 1)


class Timeline:
    """When the documents of one kind were modified: `per_day` of them on each data day."""

    def __init__(self, per_day: int, days: int, seed: int) -> None:
        self.per_day = per_day
        self.total = per_day * days
        self._step = max(1, DAY // per_day)
        self._seed = seed

    def moment(self, number: int) -> int:
        """When document `number` was modified; never before `number - 1`."""
        day, place = divmod(number, self.per_day)
        start = OPENING + day * DAY
        if place == 0:
            return start
        if place == self.per_day - 1:
            return start + DAY - 1
        if place % 10 == 5:
            place -= 1  # in the same second as the one before
        return start + place * DAY // self.per_day + (place * 40_503 + day * 97 + self._seed * 7_919) % self._step

    def of(self, number: int, other: "Timeline") -> int:
        """The document of a longer timeline that document `number` of this one belongs to: of the same day."""
        day, place = divmod(number, self.per_day)
        return day * other.per_day + place * other.per_day // self.per_day

    def belonging_to(self, number: int, other: "Timeline") -> int | None:
        """The document of this timeline that belongs to document `number` of a longer one."""
        day, place = divmod(number, other.per_day)
        own = -(-place * self.per_day // other.per_day)
        if own < self.per_day and own * other.per_day // self.per_day == place:
            return day * self.per_day + own
        return None


class Goods:
    """SKUs by number, for whoever needs their key, name or price without the whole row."""

    def __init__(self, scale: float) -> None:
        self.count = max(_SKUS, min(_MOST_SKUS, round(_SKUS * scale)))

    def style(self, number: int) -> str:
        """The style code (`i_id`) of an SKU."""
        return f"K{number // 6 + 1:04}"

    def sku(self, number: int) -> str:
        """The code of an SKU."""
        return f"{self.style(number)}-{COLORS[number % 3]}-{_SIZES[number // 3 % 2]}"

    def look(self, number: int) -> str:
        """Colour and size."""
        return f"{COLORS[number % 3]};{_SIZES[number // 3 % 2]}"

    def name(self, number: int) -> str:
        """The name, which SKUs of a style share."""
        return _NAMES[number // 6 % len(_NAMES)]

    def price(self, number: int) -> int:
        """The sale price in 1/10000."""
        return _PRICES[number % len(_PRICES)]


class Stock(Table):
    """Stock by warehouse and SKU. Warehouse 0 is the sum over all, and follows every change to a part."""

    def settle(self, rows: Mapping[Any, Row | None]) -> Mapping[Any, Row | None]:
        """The rows and the new sums of their SKUs."""
        settled = dict(rows)
        for sku in {sku: None for warehouse, sku in rows if warehouse}:
            keys = [(warehouse, sku) for warehouse in WAREHOUSES]
            parts = [part for key in keys if (part := settled[key] if key in settled else self.row(key))]
            settled[0, sku] = _total(parts) if parts else None
        return settled


def master_tables(*, seed: int, days: int, goods: Goods, versions: Versions) -> dict[str, Callable[..., Table]]:
    """Makers of all tables of this module by name."""
    kinds: dict[str, tuple[Kind, Callable[[], list[Row]]]] = {
        "shops": (SHOP, lambda: [_shop(number) for number in range(len(SHOPS))]),
        "warehouses": (WAREHOUSE, lambda: [_warehouse(number) for number in range(len(WAREHOUSES))]),
        "logistics_companies": (CARRIER, lambda: [{"lc_id": lc_id, "lc_name": name} for lc_id, name in CARRIERS]),
        "suppliers": (SUPPLIER, lambda: [_supplier(number) for number in range(SUPPLIERS)]),
        "categories": (CATEGORY, lambda: [_category(number) for number in range(_CATEGORIES)]),
        "skus": (SKU, lambda: _skus(seed, goods)),
        "combine_skus": (BUNDLE, lambda: [_bundle(goods, number) for number in range(_BUNDLES)]),
        "skumaps": (LISTING, lambda: [_listing(goods, number) for number in range(2 * goods.count)]),
    }

    def maker(kind: Kind, rows: Callable[[], list[Row]]) -> Callable[..., Table]:
        return lambda place: Table(kind, _base(kind, _dated(rows(), days)), versions, place=place)

    def stock(place: int) -> Table:
        return Stock(STOCK, _base(STOCK, _with_totals(_dated(_stock(seed, goods), days))), versions, place=place)

    return {**{name: maker(*kind) for name, kind in kinds.items()}, "inventory": stock}


def document_base(first_id: int, timeline: Timeline, make: Callable[[int], Row]) -> Base:
    """The documents of a timeline, numbered on from `first_id`."""
    return Base(range(first_id, first_id + timeline.total), partial(_moment, timeline), make)


def _moment(timeline: Timeline, number: int) -> str:
    return clock(timeline.moment(number))


def _dated(rows: list[Row], days: int) -> list[Row]:
    """Rows with the times they were made and changed, the latter spread over the days."""
    spread = Spread(len(rows), days)
    for number, row in enumerate(rows):
        modified = spread.moment(number)
        created = modified - 30 * DAY - number * 977
        row |= {"modified": clock(modified), "created": clock(created), "link_modified": clock(modified - 3_600)}
        row["shop_created"] = clock(created - DAY)
    return rows


def _base(kind: Kind, rows: Sequence[Row]) -> Base:
    moments = [row["modified"] for row in rows]
    shown = [{name: row.get(name, empty) for name, empty in kind.blank.items()} for row in rows]
    keys = [row[kind.key[0]] if len(kind.key) == 1 else tuple(row[name] for name in kind.key) for row in shown]
    return Base(keys, moments.__getitem__, lambda number: dict(shown[number]))


def _shop(number: int) -> Row:
    return {
        "shop_id": SHOPS[number],
        "shop_name": SHOP_NAMES[number],
        "co_id": CO_ID,
        "shop_site": SHOP_SITES[number],
        "shop_url": f"https://shop{number + 1}.example",
        "nick": f"店主{number + 1}",
        "session_expired": None if number == 1 else "2026-12-31 00:00:00",
        "short_name": SHOP_SITES[number][:2],
        "group_id": number % 2,
        "group_name": "跨境组" if number % 2 else "",
    }


def _warehouse(number: int) -> Row:
    return {
        "name": WAREHOUSE_NAMES[number],
        "co_id": CO_ID,
        "wms_co_id": WAREHOUSES[number],
        "is_main": number == 0,
        "status": "生效",
        "remark2": "代发\n备注" if number == 3 else "",
    }


def _supplier(number: int) -> Row:
    return {
        "supplier_id": supplier_id(number),
        "supplier_code": f"GYS{number + 1:03}",
        "name": ("杭州, 织造厂", '广州 "南方" 服饰', "义乌小商品🧵", "苏州丝绸")[number % 4] + str(number + 1),
        "group": "面料" if number % 3 else "",
        "enabled": number % 7 != 6,
        "remark": "账期\n30 天" if number % 5 == 0 else "",
        "depositbank": "中国银行",
        "acountnumber": f"0062{number:012}",
    }


def _category(number: int) -> Row:
    parent = 0 if number < 3 else 500 + number % 3
    return {
        "c_id": 500 + number,
        "parent_c_id": parent,
        "name": f"类目 {number + 1}" + ("/鞋, 包" if number % 4 == 0 else ""),
    }


def _skus(seed: int, goods: Goods) -> list[Row]:
    words = numbers(goods.count, seed, "skus")
    return [_sku(goods, number, words[number]) for number in range(goods.count)]


def _sku(goods: Goods, number: int, word: int) -> Row:
    price = goods.price(number)
    supplied = word % 4 != 0
    return {
        "autoid": FIRST_SKU + number,
        "sku_id": goods.sku(number),
        "i_id": goods.style(number),
        "name": goods.name(number),
        "short_name": goods.name(number)[:2],
        "properties_value": goods.look(number),
        "color": COLORS[number % 3],
        "category": f"类目 {number % _CATEGORIES + 1}",
        "vc_name": "" if word % 3 else "虚拟分类",
        "brand": ("", "ACME", "李宁, 复刻")[word % 3],
        "unit": "件",
        "sku_type": "normal",
        "item_type": ("成品", "成品", "半成品", "原材料", "包材")[word % 5],
        "pic": f"https://img.example/{number}.jpg",
        "remark": ("", "", "易碎\n轻放", '尺码 "偏小"')[word >> 8 & 3],
        "sku_code": f"69{number:011}",
        "labels": ("", "新品", "新品,爆款")[(word >> 10) % 3],
        "sale_price": yuan(price),
        "cost_price": None if word % 7 == 0 else yuan(price * 3 // 5),
        "market_price": yuan(price * 2),
        "weight": yuan((word >> 12) % 30_000),
        "other_price_1": yuan(price) if word % 2 else None,
        "other_1": "" if word % 2 else "A\\B",
        "c_id": 500 + number % _CATEGORIES,
        "enabled": (1, 1, 1, 0, -1)[(word >> 16) % 5],
        "stock_disabled": (0, 0, 1, 2)[(word >> 18) % 4],
        "shelf_life": None if word % 3 else 365,
        "supplier_id": str(supplier_id(number)) if supplied else "",
        "supplier_name": f"供应商{number % SUPPLIERS + 1}" if supplied else "",
        "supplier_sku_id": f"S-{number}" if supplied else "",
        "creator": 900 + word % 3,
        "purchase_price": yuan(price // 2),
    }


def _bundle(goods: Goods, number: int) -> Row:
    parts = [(number * 7) % goods.count, (number * 11 + 1) % goods.count]
    code = f"ZH{number + 1:04}"
    price = sum(goods.price(part) for part in parts)
    items = [
        {"combine_sku_id": code, "src_sku_id": goods.sku(part), "qty": place + 1, "sale_price": yuan(goods.price(part)),
         "modified": clock(OPENING - DAY)}
        for place, part in enumerate(parts)
    ]  # fmt: skip
    return {
        "sku_id": code,
        "i_id": code,
        "name": f'组合装 "{number + 1}"',
        "short_name": "组合",
        "sale_price": yuan(price),
        "cost_price": yuan(price // 2),
        "weight": 0.3,
        "item_type": "成品",
        "sku_qty": len(items),
        "items": items,
    }


def _listing(goods: Goods, number: int) -> Row:
    sku, shop = number // 2, SHOPS[(number // 2 + 3 * (number % 2)) % len(SHOPS)]
    return {
        "shop_id": shop,
        "shop_sku_id": f"{shop}-{FIRST_SKU + sku}",
        "co_id": CO_ID,
        "channel": SHOP_SITES[SHOPS.index(shop)],
        "i_id": goods.style(sku),
        "sku_id": goods.sku(sku),
        "raw_sku_id": goods.sku(sku),
        "shop_i_id": f"{shop}-{goods.style(sku)}",
        "name": goods.name(sku),
        "properties_value": goods.look(sku),
        "shop_price": f"{yuan(goods.price(sku)):.2f}",
        "shop_qty": None if number % 9 == 0 else number % 50,
        "enabled": number % 10 != 9,
        "pull_off_time": "2026-01-02 00:00:00" if number % 10 == 9 else None,
    }


def _stock(seed: int, goods: Goods) -> list[Row]:
    """Every SKU in every warehouse, without the sums. Some stock is below zero."""
    words = numbers(goods.count * len(WAREHOUSES), seed, "stock")
    rows = []
    for number, word in enumerate(words):
        sku, place = divmod(number, len(WAREHOUSES))
        lock = word % 9
        rows.append(
            {
                "wms_co_id": WAREHOUSES[place],
                "sku_id": goods.sku(sku),
                "i_id": goods.style(sku),
                "name": goods.name(sku),
                **dict.fromkeys(_STOCKS, 0),
                "qty": (word >> 4) % 200 - 5,
                "order_lock": lock,
                "pick_lock": lock // 2,
                "purchase_qty": (word >> 12) % 60,
                "return_qty": (word >> 18) % 4,
                "defective_qty": (word >> 20) % 3,
                "lock_qty": (word >> 22) % 2,
            }
        )
    return rows


def _with_totals(parts: Sequence[Row]) -> list[Row]:
    """Each SKU's parts and after them their sum, which is as recent as the last part."""
    step = len(WAREHOUSES)
    groups = [parts[start : start + step] for start in range(0, len(parts), step)]
    return [row for group in groups for row in (*group, _total(group))]


def _total(parts: Sequence[Row]) -> Row:
    sums = {name: sum(part[name] for part in parts if isinstance(part[name], int)) for name in _STOCKS}
    return {**parts[0], **sums, "wms_co_id": 0, "modified": max(part["modified"] for part in parts)}
