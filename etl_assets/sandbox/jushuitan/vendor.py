"""Jushuitan's open API: signed forms in, JSON envelopes out. Tokens, limits, permissions, and read endpoints.

What the vendor does not document, or does in two ways, is a setting (`Settings`). The vendor's limits are 5
requests a second and 100 a minute; here they are 50 and 1,000, so that demos and tests stay fast, and
`settings {"per_second": 5, "per_minute": 100}` brings the vendor's back.

Who may call what is decided here and in `jushuitan_gate`; `jushuitan_endpoints` and `jushuitan_query` find
the rows, which `jushuitan_data`, `jushuitan_sales` and `jushuitan_purchases` make of the seed.
"""

from collections.abc import Mapping
from datetime import date, timedelta
from functools import partial
from typing import Any, ClassVar, Literal

import msgspec
from msgspec.structs import replace

from etl_assets.sandbox.jushuitan.data import Goods, master_tables
from etl_assets.sandbox.jushuitan.endpoints import ENDPOINTS
from etl_assets.sandbox.jushuitan.gate import Rate, Tokens, VendorError, check_timestamp, form, require, signature
from etl_assets.sandbox.jushuitan.purchases import Purchases
from etl_assets.sandbox.jushuitan.query import Endpoint, Finder, Habits, Order, Page
from etl_assets.sandbox.jushuitan.sales import Sales
from etl_assets.sandbox.jushuitan.shapes import Datetimes, flat, spelled
from etl_assets.sandbox.jushuitan.table import FAR, Row, RowChanges, Tables, Versions
from etl_assets.sandbox.times import at, wall
from etl_assets.sandbox.vendor import Action, Answer, Change, Clock, Handler, Request, Vendor, json_answer
from etl_assets.sandbox.world import secret

_ZONE = "Asia/Shanghai"
_MOST_SCALE = 100_000
_CALLER = "127.0.0.1"  # the sandbox listens nowhere else
_DONE = "执行成功"
_UNKNOWN_PATH = 404
_CODE_LENGTH = 6
_AUTH = ("app_key", "timestamp", "grant_type", "charset", "sign")
_BUSINESS = ("app_key", "access_token", "timestamp", "version", "charset", "biz", "sign")
_WRITES = "/open/{rest:path}/upload"
# A child stream, the stream of its rows, and their list.
_CHILDREN = {
    "order_items": ("orders", "items"),
    "order_pays": ("orders", "pays"),
    "outbound_items": ("outbounds", "items"),
    "refund_items": ("refunds", "items"),
    "received_items": ("received", "items"),
    "purchase_items": ("purchases", "items"),
    "purchasein_items": ("purchaseins", "items"),
    "combine_sku_items": ("combine_skus", "items"),
}


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What differs between merchants and times, or is not known of the real service.

    - `codes`: the newer list of error codes, or the older one: a bad signature is 10 or 120, a timestamp off
      by 15 minutes 140 or by 10 minutes 180;
    - `isv`: the app is a service provider's, which may not refresh (150) and gets its token for a code;
    - `token_seconds`, `grace_seconds`: the life of new access tokens, and of an old one after a refresh;
    - `refresh_gives`: a refresh answers with a new refresh token, the same, or none at all;
    - `omit_expires_in`: token answers do not tell it;
    - `ip_whitelist`: who may call at all, if anybody is named; `denied`: paths without permission;
    - `per_second`, `per_minute`: limits, 0 for none;
    - `page_size_over`: too large a page is refused, or clamped to the largest;
    - `window_end`: whether windows hold their last second;
    - `order`: rows of a window by `modified`, in any order within each page, or in another with every call;
    - `numbers_as_strings`, `empty_for_null`, `datetimes`: how rows are spelled;
    - `no_counts`, `flat`, `code_as_string`, `has_next_as_string`: how answers are;
    - `slow_first_page`: seconds that the first page takes.
    """

    codes: Literal["new", "old"] = "new"
    isv: bool = False
    token_seconds: int = 2_592_000
    grace_seconds: float = 600
    refresh_gives: Literal["new", "same", "none"] = "new"
    omit_expires_in: bool = False
    ip_whitelist: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()
    per_second: int = 50
    per_minute: int = 1_000
    page_size_over: Literal["refuse", "clamp"] = "refuse"
    window_end: Literal["inclusive", "exclusive"] = "inclusive"
    order: Order = "newest"
    numbers_as_strings: bool = False
    empty_for_null: bool = False
    datetimes: Datetimes = "plain"
    no_counts: bool = False
    flat: bool = False
    code_as_string: bool = False
    has_next_as_string: bool = False
    slow_first_page: float = 0


class _TokenOrder(msgspec.Struct, forbid_unknown_fields=True):
    expire: bool = False
    revoke_refresh: bool = False
    authorize: bool = False


class Jushuitan(Vendor):
    """Jushuitan, as the app of one merchant sees it."""

    name: ClassVar[str] = "jushuitan"
    secrets: ClassVar[frozenset[str]] = frozenset(
        {"app_key", "app_secret", "access_token", "refresh_token", "code", "sign"}
    )

    def __init__(self, *, seed: int, days: int, scale: float, clock: Clock) -> None:
        super().__init__(seed=seed, days=days, scale=scale, clock=clock)
        if not 0 < scale <= _MOST_SCALE:
            raise ValueError(f"scale must be above 0 and at most {_MOST_SCALE}")
        goods = Goods(scale)
        sales = Sales(seed=seed, days=days, scale=scale, goods=goods)
        purchases = Purchases(seed=seed, days=days, scale=scale, goods=goods)
        versions = Versions(max(sales.most, 5 * goods.count))
        masters = master_tables(seed=seed, days=days, goods=goods, versions=versions)
        self._tables = Tables({**masters, **sales.tables(versions), **purchases.tables(versions)})
        self._finder = Finder(self._tables, seed)
        self._settings = Settings()
        self._app_key = secret("jushuitan", "app_key", seed)[:32]
        self._app_secret = secret("jushuitan", "app_secret", seed)[:32]
        self._tokens = Tokens(seed, clock, seconds=self._settings.token_seconds)
        self._second, self._minute = Rate(1), Rate(60)

    def env(self, base_url: str) -> dict[str, str]:
        """Point at the app of the merchant, with its present tokens."""
        return {
            "JUSHUITAN_BASE_URL": base_url,
            "JUSHUITAN_APP_KEY": self._app_key,
            "JUSHUITAN_APP_SECRET": self._app_secret,
            "JUSHUITAN_ACCESS_TOKEN": self._tokens.access,
            "JUSHUITAN_REFRESH_TOKEN": self._tokens.refresh,
        }

    def routes(self) -> Mapping[str, Handler]:
        """Tokens, reads, and writes that nobody may make."""
        return {
            "POST /openWeb/auth/getInitToken": self._first_token,
            "POST /openWeb/auth/accessToken": self._exchange_code,
            "POST /openWeb/auth/refreshToken": self._refresh,
            **{f"POST {path}": partial(self._query, endpoint) for path, endpoint in ENDPOINTS.items()},
            f"POST {_WRITES}": self._refuse_write,
        }

    def actions(self) -> Mapping[str, Action]:
        """`settings`, `token`, and changes to rows by table (`jushuitan_table.RowChanges`).

        `token` issues a new pair and ends the old one; {"expire": true} only ends the access token,
        {"revoke_refresh": true} the refresh token, {"authorize": true} gives a service provider's `code`.
        """
        return {
            "settings": self._settings_change,
            "token": self._token_change,
            **{name: partial(self._row_change, name) for name in self._tables},
        }

    def truth(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """Rows of a table, or of one of its lists (`order_items`), flat: all, or those modified on a day.

        `day` is a day in `zone` (Asia/Shanghai). Rows of a list carry the key and `modified` of their row.
        Stock is told by warehouse, with `wms_co_id=0` the sums. Numbers are numbers even where the API has
        text, and datetimes carry their offset. With `total=true` rows are only counted, and numeric keys summed.
        """
        stream = query["stream"]
        parent, items = _CHILDREN.get(stream, (stream, ""))
        table = self._tables[parent]
        keys = table.select(*_day(query)) if "day" in query else table.all()
        if "day" in query and "modified" not in table.kind.blank:
            raise ValueError(f"{parent} do not tell when they were modified")
        if stream == "inventory":
            sums = query.get("wms_co_id") == "0"
            keys = [key for key in keys if (key[0] == 0) == sums]
        rows = (row for key in keys for row in _listed(table.row(key) or {}, items, table.kind.key))
        if query.get("total") != "true":
            return [flat(row) for row in rows]
        if items:
            item, _ = table.kind.items[items]
            keys = [row[item] for row in rows]
        return [{"rows": len(keys), "keys": sum(key for key in keys if isinstance(key, int))}]

    def answer(self, request: Request) -> Answer:
        """The vendor's answer: failures, too, are HTTP 200, but for what is no POST at all."""
        if request.method != "POST":
            return json_answer({"message": f"{request.method} is not allowed here"}, 400)
        try:
            return super().answer(request)
        except VendorError as error:
            return self._failed(error.code, error.message)

    def not_found(self, request: Request) -> Answer:
        """An unknown API is a failure like any other."""
        return self._failed(_UNKNOWN_PATH, f"接口不存在: {request.path}")

    def _failed(self, code: int, message: str) -> Answer:
        return json_answer({"code": self._code(code), "msg": message, "data": None})

    def _code(self, code: int) -> int | str:
        return str(code) if self._settings.code_as_string else code

    def _signed(self, request: Request, names: tuple[str, ...]) -> dict[str, str]:
        """The fields of a form whose sender, signature and timestamp are right."""
        if self._settings.ip_whitelist and _CALLER not in self._settings.ip_whitelist:
            raise VendorError(110, f"验证失败！已设置IP白名单，该IP不在白名单列表：{_CALLER}")
        fields, old = form(request), self._settings.codes == "old"
        require(fields, names)
        if fields["app_key"] != self._app_key or fields["sign"] != signature(self._app_secret, fields):
            raise VendorError(120 if old else 10, "验证失败！无效签名")
        check_timestamp(fields["timestamp"], minutes=10 if old else 15, code=180 if old else 140)
        if fields["charset"].lower() != "utf-8":
            raise VendorError(-4, "参数值不正确: charset")
        return fields

    def _business(self, request: Request) -> dict[str, Any]:
        """The parameters of a call that may be made."""
        fields = self._signed(request, _BUSINESS)
        if fields["version"] != "2":
            raise VendorError(-4, "参数值不正确: version")
        if not self._tokens.valid(fields["access_token"]):
            raise VendorError(100, "验证失败！无效的access_token或access_token已过期")
        if request.path in self._settings.denied:
            raise VendorError(190, "验证失败！无API权限，请申请API权限")
        self._count()
        try:
            return msgspec.json.decode(fields["biz"], type=dict[str, Any])
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise VendorError(130, "参数错误: biz 须为 JSON 对象") from error

    def _count(self) -> None:
        now, settings = self.clock.now(), self._settings
        if self._second.full(now, settings.per_second):
            raise VendorError(199, f"调用频次超过限制!请稍后再试, 请求频率一秒不超过{settings.per_second}次")
        if self._minute.full(now, settings.per_minute):
            raise VendorError(200, f"调用频次超过限制, 请求频率一分钟不超过{settings.per_minute}次")
        self._second.add(now)
        self._minute.add(now)

    def _query(self, endpoint: Endpoint, request: Request) -> Answer:
        biz, settings = self._business(request), self._settings
        habits = Habits(
            clamp=settings.page_size_over == "clamp",
            exclusive=settings.window_end == "exclusive",
            order=settings.order,
        )
        page = self._finder.page(endpoint, biz, habits)
        answer = self._page(page, endpoint.rows)
        answer.takes = settings.slow_first_page if page.number == 1 else 0
        return answer

    def _page(self, page: Page, name: str) -> Answer:
        settings, rows = self._settings, page.rows
        if settings.numbers_as_strings or settings.empty_for_null or settings.datetimes != "plain":
            rows = spelled(
                rows,
                strings=settings.numbers_as_strings,
                blanks=settings.empty_for_null,
                datetimes=settings.datetimes,
            )
        data: dict[str, Any] = {"page_index": page.number, "page_size": page.size}
        if page.total is not None and not settings.no_counts:
            data |= {"data_count": page.total, "page_count": -(-page.total // page.size)}
        data["has_next"] = str(page.has_next).lower() if settings.has_next_as_string else page.has_next
        data[name] = rows
        envelope = {"code": self._code(0), "msg": _DONE}
        return json_answer(envelope | {"issuccess": True, **data} if settings.flat else envelope | {"data": data})

    def _refuse_write(self, request: Request, **parts: str) -> Answer:
        self._business(request)
        raise VendorError(190, "验证失败！无API权限，请申请API权限")

    def _first_token(self, request: Request) -> Answer:
        fields = self._granted(request, "authorization_code", "code")
        if self._settings.isv:
            raise VendorError(190, "服务商应用须由商户授权")
        if len(fields["code"]) != _CODE_LENGTH:
            raise VendorError(-4, "参数值不正确: code")
        return self._issue("new")

    def _exchange_code(self, request: Request) -> Answer:
        fields = self._granted(request, "authorization_code", "code")
        if not self._tokens.spend(fields["code"]):
            raise VendorError(130, "授权码无效或已使用")
        return self._issue("new")

    def _refresh(self, request: Request) -> Answer:
        fields = self._granted(request, "refresh_token", "refresh_token", "scope")
        if self._settings.isv:
            raise VendorError(150, "服务商应用禁止刷新access_token,需商户重新授权")
        if not self._tokens.renewable(fields["refresh_token"]):
            raise VendorError(100, "验证失败！无效的refresh_token")
        return self._issue(self._settings.refresh_gives)

    def _granted(self, request: Request, grant: str, *names: str) -> dict[str, str]:
        fields = self._signed(request, (*_AUTH, *names))
        if fields["grant_type"] != grant:
            raise VendorError(-4, "参数值不正确: grant_type")
        return fields

    def _issue(self, refresh: Literal["new", "same", "none"]) -> Answer:
        settings = self._settings
        self._tokens.issue(seconds=settings.token_seconds, grace=settings.grace_seconds, rotate=refresh == "new")
        data: dict[str, Any] = {"access_token": self._tokens.access}
        if not settings.omit_expires_in:
            data["expires_in"] = settings.token_seconds
        if refresh != "none":
            data["refresh_token"] = self._tokens.refresh
        return json_answer({"code": self._code(0), "msg": _DONE, "data": data | {"scope": "all"}})

    def _token_change(self, payload: dict[str, Any]) -> Change:
        order = msgspec.convert(payload, _TokenOrder)
        if order.authorize:
            return lambda: {"code": self._tokens.authorize()}
        if order.expire or order.revoke_refresh:
            return partial(self._end_tokens, order)
        return self._replace_tokens

    def _end_tokens(self, order: _TokenOrder) -> dict[str, str]:
        if order.expire:
            self._tokens.shorten(0)
        if order.revoke_refresh:
            self._tokens.revoke_refresh()
        return self._shown_tokens()

    def _replace_tokens(self) -> dict[str, str]:
        self._tokens.issue(seconds=self._settings.token_seconds, grace=0, rotate=True)
        return self._shown_tokens()

    def _shown_tokens(self) -> dict[str, str]:
        return {"access_token": self._tokens.access, "refresh_token": self._tokens.refresh}

    def _settings_change(self, payload: dict[str, Any]) -> Change:
        read = msgspec.convert(payload, Settings)
        return partial(self._apply_settings, {name: getattr(read, name) for name in payload})

    def _apply_settings(self, given: Mapping[str, Any]) -> Settings:
        self._settings = replace(self._settings, **given)
        return self._settings

    def _row_change(self, name: str, payload: dict[str, Any]) -> Change:
        return self._tables[name].change(msgspec.convert(payload, RowChanges))


def _day(query: Mapping[str, str]) -> tuple[str, str]:
    """The first and the last second of a day, as clocks in Beijing show them."""
    day, zone = date.fromisoformat(query["day"]), query.get("zone", _ZONE)
    ends = at(zone, day), at(zone, day + timedelta(days=1)) - 1
    begin, end = (wall(_ZONE, moment).replace("T", " ") for moment in ends)
    return begin, min(end, FAR)


def _listed(row: Row, items: str, key: tuple[str, ...]) -> list[Row]:
    """The row itself, or the items in one of its lists with what links them to it."""
    if not items:
        return [row]
    links = {name: row[name] for name in (*key, "modified")}
    return [links | item for item in row[items]]
