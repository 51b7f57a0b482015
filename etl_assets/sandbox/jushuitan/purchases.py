"""What the merchant buys: purchases and what arrived of them.

Per data day 10 x scale purchases were modified, with 1 to 4 items each, and 8 x scale arrivals (2 at least of
each). An arrival belongs to a purchase modified on the same day.
"""

from collections.abc import Callable
from functools import partial

from etl_assets.sandbox.jushuitan import shapes
from etl_assets.sandbox.jushuitan.data import (
    SUPPLIERS,
    WAREHOUSE_NAMES,
    WAREHOUSES,
    Goods,
    Timeline,
    clock,
    document_base,
    supplier_id,
    yuan,
)
from etl_assets.sandbox.jushuitan.table import Row, Table, Versions
from etl_assets.sandbox.times import DAY
from etl_assets.sandbox.world import numbers

_FIRST_PURCHASE = 71_000_001
_FIRST_ARRIVAL = 81_000_001

_PURCHASE_STATUSES = ("Confirmed", "Confirmed", "Finished", "Creating", "WaitConfirm", "Cancelled", "Delete")
_RECEIVE_STATUSES = ("Not_Received", "Part_Received", "Received", "Timeout")
_ARRIVAL_STATUSES = (
    "Confirmed", "Confirmed", "WaitConfirm", "Confirmed", "Cancelled", "Confirmed", "Delete", "Confirmed",
    "Archive", "Confirmed", "OuterConfirming",
)  # fmt: skip


class Purchases:
    """All documents of purchases by number."""

    def __init__(self, *, seed: int, days: int, scale: float, goods: Goods) -> None:
        self._seed = seed
        self._goods = goods
        self._purchases = Timeline(max(2, round(10 * scale)), days, seed)
        self._arrivals = Timeline(max(2, round(8 * scale)), days, seed)

    def tables(self, versions: Versions) -> dict[str, Callable[..., Table]]:
        """Makers of all tables of this module by name."""
        purchases = document_base(_FIRST_PURCHASE, self._purchases, self.purchase)
        arrivals = document_base(_FIRST_ARRIVAL, self._arrivals, self.arrival)
        return {
            "purchases": partial(Table, shapes.PURCHASE, purchases, versions),
            "purchaseins": partial(Table, shapes.PURCHASEIN, arrivals, versions),
        }

    def purchase(self, number: int) -> Row:
        """A purchase order. `qty` is what was ordered, not what came."""
        words = numbers(6, self._seed, "purchase", number)
        po_id, moment = _FIRST_PURCHASE + number, self._purchases.moment(number)
        status = _PURCHASE_STATUSES[words[0] % len(_PURCHASE_STATUSES)]
        ordered = clock(moment - words[0] % (3 * DAY))
        return {
            **shapes.PURCHASE.blank,
            "po_id": po_id,
            "po_date": ordered,
            "so_id": f"{po_id:012}",
            "status": status,
            "receive_status": _RECEIVE_STATUSES[(words[0] >> 8) % 4],
            "supplier_id": supplier_id(words[0] >> 16),
            "seller": f"供应商{(words[0] >> 16) % SUPPLIERS + 1}",
            "purchaser_name": '采购 "小李"',
            "tax_rate": 0.13 if words[0] % 2 else None,
            "wms_co_id": WAREHOUSES[(words[0] >> 32) % len(WAREHOUSES)],
            "confirm_date": clock(moment) if status in ("Confirmed", "Finished") else None,
            "finish_time": clock(moment) if status == "Finished" else None,
            "modified": clock(moment),
            "labels": "" if words[0] % 3 else "急采,面料",
            "items": [self._purchase_item(po_id, place, words[1 + place]) for place in range(1 + words[5] % 4)],
        }

    def arrival(self, number: int) -> Row:
        """Goods of a purchase that arrived, once the arrival is confirmed."""
        purchase, io_id = self.purchase(self._arrivals.of(number, self._purchases)), _FIRST_ARRIVAL + number
        (word,) = numbers(1, self._seed, "arrival", number)
        modified = clock(self._arrivals.moment(number))
        status, zone = _ARRIVAL_STATUSES[number % len(_ARRIVAL_STATUSES)], (1, 1, 3, 4)[(word >> 8) % 4]
        return {
            **shapes.PURCHASEIN.blank,
            **{name: purchase[name] for name in ("po_id", "so_id", "wms_co_id", "supplier_id", "labels", "tax_rate")},
            "io_id": io_id,
            "out_io_id": "" if word % 2 else f"W{io_id}",
            "io_date": modified if status in ("Confirmed", "Archive") else None,
            "status": status,
            "f_status": "Confirmed" if word % 3 == 0 else "WaitConfirm",
            "warehouse": WAREHOUSE_NAMES[WAREHOUSES.index(purchase["wms_co_id"])],
            "wh_id": str(zone),
            "supplier_name": purchase["seller"],
            "archived": modified if status == "Archive" else None,
            "modified": modified,
            "type": "采购进仓",
            "creator_name": "仓管, 老王",
            "items": [
                {**shapes.PURCHASEIN_ITEM, "ioi_id": io_id * 10 + place, "sku_id": item["sku_id"],
                 "i_id": item["i_id"], "qty": item["in_qty"], "cost_price": item["price"],
                 "cost_amount": round(item["in_qty"] * item["price"], 4), "tax_rate": purchase["tax_rate"]}
                for place, item in enumerate(purchase["items"])
            ],
        }  # fmt: skip

    def _purchase_item(self, po_id: int, place: int, word: int) -> Row:
        sku, qty = word % self._goods.count, 10 + (word >> 16) % 90
        # ISO instead of the usual form, as seen in the wild.
        due = (None, "2026-02-01T00:00:00", "2026-02-01 00:00:00")[(word >> 24) % 3]
        return {
            **shapes.PURCHASE_ITEM,
            "poi_id": po_id * 10 + place,
            "po_id": po_id,
            "sku_id": self._goods.sku(sku),
            "i_id": self._goods.style(sku),
            "qty": qty,
            "in_qty": (word >> 32) % (qty + 1),
            "price": yuan(self._goods.price(sku) // 2),
            "tax_rate": 0.13 if word % 2 else None,
            "delivery_date": due,
        }
