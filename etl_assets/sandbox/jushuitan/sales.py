"""What the merchant sells: orders, outbounds, refunds, and goods received back.

Per data day 100 x scale orders were modified (4 at least) with 1 to 4 items each, 80 x scale outbounds,
5 x scale refunds and 3 x scale returned goods (2 at least of each). Most orders were created on an earlier
day. What outbounds, refunds and returned goods belong to was modified on the same day as they.

Rows are as the API shows them. Times are seconds of Beijing's wall clock; money is in 1/10000 until it is shown.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from etl_assets.sandbox.jushuitan import shapes
from etl_assets.sandbox.jushuitan.data import (
    CARRIERS,
    CO_ID,
    SHOP_NAMES,
    SHOP_SITES,
    SHOPS,
    TAOBAO_SHOP,
    WAREHOUSES,
    ZONES,
    Goods,
    Timeline,
    clock,
    document_base,
    yuan,
)
from etl_assets.sandbox.jushuitan.table import Row, Table, Versions
from etl_assets.sandbox.times import DAY
from etl_assets.sandbox.world import numbers

_FIRST_ORDER = 11_000_001
_FIRST_OUTBOUND = 41_000_001
_FIRST_REFUND = 51_000_001
_FIRST_RECEIVED = 61_000_001
_HOUR = 3_600

_PEOPLE = (
    ("王小明", "浙江省", "杭州市", "西湖区", '文三路 "数码港" 5号, 3楼'),
    ("李O'娜", "上海", "上海市", "静安区", "南京西路\n1038号"),
    ("张伟😀", "广东省", "深圳市", "南山区", "科技园\\北区, A座"),
    ("阿卜杜拉·买买提", "新疆维吾尔自治区", "乌鲁木齐市", "天山区", "  人民路 88 号  "),
    ('陈"大力", Jr.', "四川省", "成都市", "武侯区", "天府大道\t北段"),
)
_MESSAGES = (
    "",
    "",
    "",
    None,
    '请 "尽快" 发货, 谢谢',
    "两件一起发\n不要分开",
    "生日礼物🎁",
    "=HYPERLINK(1)",
    "备注;分号,逗号",
)
# Of an order, and of its outbound.
_SHIPPED = (
    *[("Sent", "Confirmed")] * 41, *[("Delivering", "WaitConfirm")] * 3, ("WaitOuterSent", "OuterConfirming"),
    ("WaitOuterSent", "OuterConfirming"), ("Cancelled", "Cancelled"), ("Cancelled", "Cancelled"),
    ("Delivering", "Delete"), ("Sent", "Archive"),
)  # fmt: skip
_UNSHIPPED = ("WaitPay", "WaitConfirm", "WaitFConfirm", "Question", "Cancelled", "Merged", "Split")
_RETURNS = ("普通退货", "换货", "拒收退货")
_OTHER_CASES = ("仅退款", "其它", "投诉", "补发", "维修")
_GOOD = ("BUYER_NOT_RECEIVED", "BUYER_RECEIVED", "BUYER_RETURNED_GOODS", "SELLER_RECEIVED")


class Sales:
    """All documents of sales by number."""

    def __init__(self, *, seed: int, days: int, scale: float, goods: Goods) -> None:
        self._seed = seed
        self._goods = goods
        self._orders = Timeline(max(4, round(100 * scale)), days, seed)
        self._outbounds, self._refunds, self._received = (
            Timeline(max(2, round(per_day * scale)), days, seed) for per_day in (80, 5, 3)
        )

    @property
    def most(self) -> int:
        """How many rows the largest table has."""
        return self._orders.total

    def tables(self, versions: Versions) -> dict[str, Callable[..., Table]]:
        """Makers of all tables of this module by name."""
        return {
            "orders": partial(
                Table,
                replace(shapes.ORDER, of_order=_order_id),
                document_base(_FIRST_ORDER, self._orders, self.order),
                versions,
            ),
            "outbounds": partial(
                Table,
                replace(shapes.OUTBOUND, of_order=self._outbound_id),
                document_base(_FIRST_OUTBOUND, self._outbounds, self.outbound),
                versions,
            ),
            "refunds": partial(
                Table,
                replace(shapes.REFUND, of_order=self._refund_id),
                document_base(_FIRST_REFUND, self._refunds, self.refund),
                versions,
            ),
            "received": partial(
                Table,
                replace(shapes.RECEIVED, of_order=self._received_id),
                document_base(_FIRST_RECEIVED, self._received, self.received),
                versions,
            ),
        }

    def order(self, number: int) -> Row:
        """An order with its items and payments."""
        words = numbers(8, self._seed, "order", number)
        o_id, modified = _FIRST_ORDER + number, self._orders.moment(number)
        created = modified - _lag(words[0])
        paid_at = min(created + (words[0] >> 40) % 600, modified)
        sent_at = max(paid_at, modified - (words[0] >> 50) % (2 * _HOUR))
        status, _ = self._statuses(number, words[1])
        paid, sent = status != "WaitPay", status == "Sent"
        refund = self._refunds.belonging_to(number, self._orders)
        shop = (words[1] >> 8) % len(SHOPS)
        items, total = self._order_items(o_id, words, None if refund is None else _FIRST_REFUND + refund)
        free = total // 10 if words[2] % 3 == 0 else 0
        freight = (0, 65_000, 80_000)[(words[2] >> 8) % 3]
        pay = total - free + freight
        carrier = CARRIERS[(words[3] >> 8) % len(CARRIERS)] if sent else ("", "")
        return {
            **shapes.ORDER.blank,
            "o_id": o_id,
            "so_id": _so_id(o_id),
            "shop_id": SHOPS[shop],
            "shop_name": SHOP_NAMES[shop],
            "co_id": CO_ID,
            "as_id": None if refund is None else _FIRST_REFUND + refund,
            "outer_pay_id": f"P{o_id}" if paid else "",
            "status": status,
            "shop_status": "TRADE_FINISHED" if sent else "WAIT_SELLER_SEND_GOODS" if paid else "WAIT_BUYER_PAY",
            "type": ("普通订单", "普通订单", "补发订单", "换货订单")[(words[1] >> 16) % 4],
            "order_from": SHOP_SITES[shop],
            "question_type": "地址, 异常" if status == "Question" else "",
            "labels": ("", "加急", "加急,赠品")[(words[1] >> 20) % 3],
            "is_merge": status == "Merged",
            "is_split": status == "Split",
            "seller_flag": (words[1] >> 24) % 6,
            "created": clock(created),
            "modified": clock(modified),
            "order_date": clock(created),
            "pay_date": clock(paid_at) if paid else None,
            "send_date": clock(sent_at) if sent else None,
            "plan_delivery_date": clock(created + 2 * DAY) if paid else None,
            "pay_amount": yuan(pay),
            "paid_amount": yuan(pay) if paid else 0.0,
            "free_amount": yuan(free),
            "freight": "" if freight == 0 and words[2] % 2 else f"{yuan(freight):.2f}",
            "shop_free_amount": yuan(free) if free else "",
            "platform_free_amount": yuan((words[2] >> 16) % 40_000) if words[2] % 5 == 0 else "",
            "buyer_paid_amount": yuan(pay) if paid else None,
            "seller_income_amount": yuan(pay - pay // 20) if paid else None,
            "currency": "USD" if SHOP_SITES[shop] == "Lazada" else "CNY",
            "shop_buyer_id": f"买家{words[3] % 5_000}",
            "buyer_id": str(words[3] % 5_000),
            "buyer_message": _MESSAGES[(words[3] >> 16) % len(_MESSAGES)],
            **_receiver(SHOPS[shop], words[3]),
            "wms_co_id": "" if status in ("WaitPay", "Merged") else str(WAREHOUSES[(words[3] >> 24) % len(WAREHOUSES)]),
            "lc_id": carrier[0],
            "logistics_company": carrier[1],
            "l_id": f"SF{words[3] % 10**12:012}" if sent else "",
            "weight": yuan((words[2] >> 24) % 50_000),
            "creator_name": "系统" if words[2] % 4 else "客服, 小美",
            "remark": _MESSAGES[(words[3] >> 20) % len(_MESSAGES)] or "",
            "skus": ",".join(item["sku_id"] for item in items),
            "shop_site": SHOP_SITES[shop],
            "items": items,
            "pays": _pays(o_id, pay, clock(paid_at), words[2]) if paid else [],
        }

    def outbound(self, number: int) -> Row:
        """An outbound of most orders. Only a confirmed one left the warehouse."""
        source = self._outbounds.of(number, self._orders)
        order, io_id = self.order(source), _FIRST_OUTBOUND + number
        (word,) = numbers(1, self._seed, "outbound", number)
        modified = clock(self._outbounds.moment(number))
        _, status = self._statuses(source, numbers(2, self._seed, "order", source)[1])
        left = status in ("Confirmed", "Archive")
        return {
            **shapes.OUTBOUND.blank,
            **{name: order[name] for name in _FROM_ORDER},
            "io_id": io_id,
            "wms_co_id": int(order["wms_co_id"] or CO_ID),
            "status": status,
            "order_type": order["type"],
            "io_date": modified if left else None,
            "created": min(order["created"], modified),
            "modified": modified,
            "freight": float(order["freight"] or 0),
            "l_id": order["l_id"] if left else "",
            "wave_id": 800_000 + number // 20 if word % 3 else None,
            "is_print": left,
            "is_print_express": left,
            "business_staff": "" if word % 3 else "业务, 员",
            "items": [_outbound_item(io_id, place, item) for place, item in enumerate(order["items"])],
        }

    def refund(self, number: int) -> Row:
        """A refund of one or all items of an order."""
        order, as_id = self.order(self._refunds.of(number, self._orders)), _FIRST_REFUND + number
        (word,) = numbers(1, self._seed, "refund", number)
        moment = self._refunds.moment(number)
        created, modified = clock(moment - word % (20 * _HOUR)), clock(moment)
        returned = self._received.belonging_to(number, self._refunds) is not None
        status = ("Confirmed", "Confirmed", "WaitConfirm", "Cancelled", "Merged")[(word >> 20) % 5]
        items = order["items"][: 1 + word % 2]
        refund = round(sum(item["amount"] for item in items), 4)
        return {
            **shapes.REFUND.blank,
            **{name: order[name] for name in _RECEIVER_FIELDS},
            **{name: order[name] for name in ("o_id", "so_id", "shop_id", "shop_name", "shop_buyer_id", "currency")},
            "as_id": as_id,
            "outer_as_id": f"{as_id:015}",
            "as_date": created,
            "created": created,
            "modified": modified,
            "confirm_date": modified if status == "Confirmed" else None,
            "type": (_RETURNS if returned else _OTHER_CASES)[(word >> 24) % (3 if returned else 5)],
            "status": status,
            "shop_status": "SUCCESS" if status == "Confirmed" else "WAIT_SELLER_AGREE",
            "good_status": "SELLER_RECEIVED" if returned else _GOOD[(word >> 28) % 3],
            "order_status": order["status"],
            "refund_phase": ("onsale", "aftersale")[word % 2],
            "question_type": ("质量问题", "七天无理由", "尺码, 不合\n适")[(word >> 30) % 3],
            "refund": refund,
            "payment": order["paid_amount"],
            "buyer_apply_refund": refund,
            "receive_refund": None if status == "Cancelled" else refund,
            "warehouse": ZONES[2] if returned else "",
            "wh_id": 2 if returned else None,
            "wms_co_id": WAREHOUSES[0] if returned else None,
            "order_labels": [label for label in order["labels"].split(",") if label],
            "refund_version": 1 + word % 3,
            "images": [{"key": f"{as_id}.jpg", "domain": "https://img.example"}] if word % 4 == 0 else [],
            "items": [_refund_item(as_id, place, item, returned) for place, item in enumerate(items)],
        }

    def received(self, number: int) -> Row:
        """Goods of a refund that came back."""
        refund, io_id = self.refund(self._received.of(number, self._refunds)), _FIRST_RECEIVED + number
        (word,) = numbers(1, self._seed, "received", number)
        modified, zone = clock(self._received.moment(number)), 2 + word % 3
        carrier = CARRIERS[word % len(CARRIERS)]
        return {
            **shapes.RECEIVED.blank,
            **{name: refund[name] for name in ("as_id", "o_id", "so_id", "shop_id", "type")},
            "io_id": io_id,
            "io_date": modified,
            "modified": modified,
            "_order_date": self.order(refund["o_id"] - _FIRST_ORDER)["order_date"],
            "warehouse": ZONES[zone],
            "wh_id": zone,
            "wms_co_id": WAREHOUSES[word % len(WAREHOUSES)],
            "l_id": f"R{word % 10**10:010}",
            "lc_id": carrier[0],
            "logistics_company": carrier[1],
            "creator": 900 + word % 3,
            "creator_name": "仓管\n老王",
            "aftersale_remark": _MESSAGES[(word >> 16) % len(_MESSAGES)] or "",
            "items": [
                {**shapes.RECEIVED_ITEM, "ioi_id": str(io_id * 10 + place), "io_id": io_id,
                 "sku_id": item["sku_id"], "i_id": item["i_id"], "qty": item["qty"], "sale_price": item["price"],
                 "sale_amount": item["amount"], "unit": "件", "name": "退回商品"}
                for place, item in enumerate(refund["items"])
            ],
        }  # fmt: skip

    def _statuses(self, number: int, word: int) -> tuple[str, str]:
        if self._outbounds.belonging_to(number, self._orders) is None:
            return _UNSHIPPED[word % len(_UNSHIPPED)], ""
        return _SHIPPED[word % len(_SHIPPED)]

    def _order_items(self, o_id: int, words: tuple[int, ...], refund_id: int | None) -> tuple[list[Row], int]:
        """The items of an order and what they cost together."""
        goods, items, total = self._goods, [], 0
        for place in range(1 + words[1] % 4):
            word = words[4 + place]
            sku, qty = word % goods.count, 1 + (word >> 16) % 3
            price = goods.price(sku)
            gift = place > 0 and (word >> 20) % 8 == 0
            amount = 0 if gift else price * qty
            total += amount
            refunded = refund_id if place == 0 else None
            items.append(
                {
                    **shapes.ORDER_ITEM,
                    "oi_id": o_id * 10 + place,
                    "sku_id": goods.sku(sku),
                    "i_id": goods.style(sku),
                    "shop_sku_id": f"S{sku}",
                    "shop_i_id": f"S{goods.style(sku)}",
                    "name": goods.name(sku),
                    "properties_value": goods.look(sku),
                    "pic": "" if word % 5 == 0 else f"https://img.example/{sku}.jpg",
                    "sku_type": "combine" if (word >> 24) % 20 == 0 else "normal",
                    "qty": qty,
                    "price": yuan(0 if gift else price),
                    "base_price": yuan(price),
                    "amount": yuan(amount),
                    "is_gift": gift,
                    "outer_oi_id": f"{o_id * 10 + place:014}",
                    "raw_so_id": _so_id(o_id),
                    "refund_id": None if refunded is None else str(refunded),
                    "refund_status": "none" if refunded is None else ("waiting", "success", "closed")[word % 3],
                    "buyer_paid_amount": None if word % 3 == 0 else yuan(amount),
                    "remark": _MESSAGES[(word >> 28) % len(_MESSAGES)] or "",
                }
            )
        return items, total

    def _outbound_id(self, o_id: int) -> int | None:
        return _id(_FIRST_OUTBOUND, self._outbounds.belonging_to(o_id - _FIRST_ORDER, self._orders))

    def _refund_id(self, o_id: int) -> int | None:
        return _id(_FIRST_REFUND, self._refunds.belonging_to(o_id - _FIRST_ORDER, self._orders))

    def _received_id(self, o_id: int) -> int | None:
        refund = self._refunds.belonging_to(o_id - _FIRST_ORDER, self._orders)
        return None if refund is None else _id(_FIRST_RECEIVED, self._received.belonging_to(refund, self._refunds))


_RECEIVER_FIELDS = tuple(name for name in shapes.ORDER.blank if name.startswith("receiver_"))
_FROM_ORDER = (
    "o_id", "so_id", "shop_id", "co_id", "pay_date", "pay_amount", "paid_amount", "free_amount", "weight", "f_weight",
    "currency", "lc_id", "logistics_company", "labels", "remark", "node", *_RECEIVER_FIELDS, "is_cod",
)  # fmt: skip


def _order_id(o_id: int) -> int:
    return o_id


def _id(first: int, number: int | None) -> int | None:
    return None if number is None else first + number


def _so_id(o_id: int) -> str:
    return f"{o_id:013}"


def _lag(word: int) -> int:
    """How long before its last change an order was made."""
    return (word >> 8) % (6 * _HOUR) if word % 10 < 4 else _HOUR + (word >> 8) % (3 * DAY)


def _receiver(shop_id: int, word: int) -> Row:
    """Who gets the order; Taobao's buyers are not shown here."""
    if shop_id == TAOBAO_SHOP:
        return {}
    name, state, city, district, address = _PEOPLE[word % len(_PEOPLE)]
    return {
        "receiver_name": name,
        "receiver_mobile": f"138{word % 10**8:08}",
        "receiver_phone": "",
        "receiver_country": "CN",
        "receiver_state": state,
        "receiver_city": city,
        "receiver_district": district,
        "receiver_town": "",
        "receiver_address": address,
        "receiver_zip": f"{word % 10**5:06}",
        "receiver_email": None if word % 3 else "buyer@example.com",
    }


def _pays(o_id: int, pay: int, paid_at: str, word: int) -> list[Row]:
    """One payment, or two of which the first is 0.1."""
    parts = [1_000, pay - 1_000] if word % 7 == 0 and pay > 1_000 else [pay]
    return [
        {**shapes.PAY, "pay_id": o_id * 10 + place, "o_id": o_id, "outer_pay_id": f"P{o_id}-{place}",
         "amount": yuan(part), "pay_date": paid_at, "payment": "支付宝" if word % 2 else "微信支付",
         "pay_type": "Online", "status": "Confirmed", "buyer_account": f"买家{word % 5_000}@pay"}
        for place, part in enumerate(parts)
    ]  # fmt: skip


def _outbound_item(io_id: int, place: int, item: Row) -> Row:
    same = {name: item[name] for name in ("sku_id", "i_id", "qty", "oi_id", "outer_oi_id", "raw_so_id", "is_gift")}
    prices = {"sale_price": item["price"], "sale_base_price": item["base_price"], "sale_amount": item["amount"]}
    combined = item["sku_id"] if item["sku_type"] == "combine" else ""
    return {**shapes.OUTBOUND_ITEM, **same, **prices, "ioi_id": io_id * 10 + place, "combine_sku_id": combined}


def _refund_item(as_id: int, place: int, item: Row, returned: bool) -> Row:
    same = {name: item[name] for name in ("sku_id", "i_id", "shop_sku_id", "qty", "price", "amount", "is_gift")}
    return {
        **shapes.REFUND_ITEM,
        **same,
        "asi_id": as_id * 10 + place,
        "as_id": as_id,
        "r_qty": item["qty"] if returned else 0,
        "shop_amount": item["amount"],
        "type": "退货" if returned else "其它",
        "outer_oi_id": item["outer_oi_id"],
    }
