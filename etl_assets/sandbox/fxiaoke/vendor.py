"""Fxiaoke's Open API (纷享销客): both calling styles, the data endpoints of both families, the address book.

HTTP status is 200 whatever happens; outcomes are told by `errorCode`. What the vendor does not document is a
setting (`Settings`). Limits are generous, so that demos and tests need not wait for the vendor's: the action
`vendor_limits` sets those. Rows come from `fxiaoke_data`, their looks from `fxiaoke_shapes`.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import date, timedelta
from functools import partial
from typing import Any, ClassVar, Literal

import msgspec
from msgspec.structs import replace

from etl_assets.sandbox.fxiaoke.access import ENTERPRISE, Caller, Doorman, Quota, Rate, Tokens
from etl_assets.sandbox.fxiaoke.data import FOREVER, Changes, Tenant
from etl_assets.sandbox.fxiaoke.fields import INVENTORY, OBJECTS, CrmObject, Row
from etl_assets.sandbox.fxiaoke.people import ADMIN, Employee, listed_departments, simple_user
from etl_assets.sandbox.fxiaoke.query import SHAPE, VALUE, ApiError, Finder, Query, Reading, Sight, projection, read
from etl_assets.sandbox.fxiaoke.shapes import Shapes
from etl_assets.sandbox.fxiaoke.write import Writer, no_right
from etl_assets.sandbox.times import at, iso
from etl_assets.sandbox.vendor import Action, Answer, Change, Clock, Handler, Request, Vendor, json_answer
from etl_assets.sandbox.world import secret

ILLEGAL, NO_BODY, NO_UNIT, NO_EMPLOYEE = 10006, 12004, 30007, 30027
QUOTA_USED = 30002
TOO_FAST: Literal[30004] = 30004

TOKEN_PATHS = ("/cgi/corpAccessToken/get/V2", "/oauth2.0/token")
STREAMS = {
    "inventory_reports": INVENTORY,
    "accounts": "AccountObj",
    "contacts": "ContactObj",
    "sales_orders": "SalesOrderObj",
    "sales_order_products": "SalesOrderProductObj",
    "products": "ProductObj",
    "personnel": "PersonnelObj",
    "departments": "DepartmentObj",
}

_RATE_SECONDS = 20
_MINUTE = 60
_PUBLIC = frozenset({"ProductObj", "DepartmentObj"})
_MOMENTS = ("create_time", "last_modified_time")
_PRESET, _CUSTOM = "/cgi/crm/v2/data", "/cgi/crm/custom/v2/data"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the vendor sells by the piece, or what is not known of the real service.

    - `calls`: in 20 seconds for each path, `daily_calls` in a day, `token_calls` for tokens in a minute;
    - `rate_code`: how too many calls in 20 seconds are refused; `token_code`: too many calls for tokens, or
      one while another is being answered, which `serial_tokens` forbids and `token_seconds` makes visible;
    - `trace_id`: whether `thirdTraceId` is ignored, must be there, or must never have been there before;
    - `mixing`: credentials of both styles in one request are tolerated, and the headers count;
    - `family_code`: the refusal of an object under the other family's path; 0 serves it there all the same;
    - `inclusive`: BETWEEN includes its upper end; `quoted_numbers`: limit and offset may be text;
    - `default_total`: rows are counted if nobody says whether they should be;
    - `shuffle`: rows that no order tells apart come in another order each time;
    - `show_invalid`: queries find rows from the recycle bin;
    - `personnel_shared`: a sharing rule lets the administrator see all of PersonnelObj.
    """

    calls: int = 2_000
    daily_calls: int = 10_000_000
    token_calls: int = 100
    rate_code: Literal[30004, 14001] = TOO_FAST
    token_code: int = 14001
    serial_tokens: bool = True
    token_seconds: float = 0.01
    trace_id: Literal["ignored", "required", "fresh"] = "ignored"
    mixing: bool = False
    family_code: int = 11012
    inclusive: bool = True
    quoted_numbers: bool = True
    default_total: bool = True
    shuffle: bool = False
    show_invalid: bool = False
    personnel_shared: bool = True


VENDOR_LIMITS = {"calls": 100, "daily_calls": 100_000, "token_calls": 10}


class _TokenOrder(msgspec.Struct, forbid_unknown_fields=True):
    expire: bool = False
    stuck: bool = False


class _Call(msgspec.Struct, frozen=True):
    """A call that was let in."""

    body: dict[str, Any]
    caller: Caller

    @property
    def data(self) -> dict[str, Any]:
        """What is asked, within the body."""
        data = self.body.get("data")
        if not isinstance(data, dict):
            raise ApiError(SHAPE, "data 必须是对象")
        return data

    @property
    def open_ids(self) -> bool:
        """Whether people are shown by FSUID."""
        return bool(self.body.get("convertUserId", self.caller.legacy))

    @property
    def nulls(self) -> bool:
        """Whether empty fields are shown."""
        return self.body.get("includeNull") is True


class Fxiaoke(Vendor):
    """One tenant of Fxiaoke, as an app of its own sees it."""

    name: ClassVar[str] = "fxiaoke"

    def __init__(self, *, seed: int, days: int, scale: float, clock: Clock) -> None:
        super().__init__(seed=seed, days=days, scale=scale, clock=clock)
        self._tenant = Tenant(seed=seed, days=days, scale=scale, clock=clock)
        self._people = self._tenant.people
        self._shapes = Shapes(self._tenant)
        self._writer = Writer(self._tenant)
        self._finder = Finder(seed)
        self._doorman = Doorman(seed=seed, clock=clock, people=self._people)
        self._settings = Settings()
        self._rate = Rate(clock, _RATE_SECONDS)
        self._token_rate = Rate(clock, _MINUTE)
        self._quota = Quota(clock)
        self._asking: Request | None = None
        self._traces: set[str] = set()
        self._answers = 0
        self._app = {
            "appId": f"FSAID_{secret('fxiaoke', seed, 'app')[:16]}",
            "appSecret": secret("fxiaoke", seed, "secret"),
            "permanentCode": secret("fxiaoke", seed, "code").upper(),
        }

    def env(self, base_url: str) -> dict[str, str]:
        """Point at the tenant, acting as its administrator."""
        return {
            "FXIAOKE_BASE_URL": base_url,
            "FXIAOKE_APP_ID": self._app["appId"],
            "FXIAOKE_APP_SECRET": self._app["appSecret"],
            "FXIAOKE_PERMANENT_CODE": self._app["permanentCode"],
            "FXIAOKE_OPEN_USER_ID": self._people.external(ADMIN),
        }

    def routes(self) -> Mapping[str, Handler]:
        """Both ways to a token, and what is behind them."""
        legacy, current = TOKEN_PATHS
        data: dict[str, Callable[[CrmObject, _Call], Row]] = {
            "query": self._query,
            "findSimple": self._find_simple,
            "get": self._get,
            "create": lambda kind, call: self._writer.create(kind, call.body, call.data, call.caller),
            "update": lambda kind, call: self._writer.update(kind, call.data, self._sight(kind, call.caller)),
            "invalid": lambda kind, call: self._writer.invalidate(kind, call.data, self._sight(kind, call.caller)),
            "delete": lambda kind, call: self._writer.delete(kind, call.data, self._sight(kind, call.caller)),
        }
        crm: dict[str, Callable[[_Call], Row]] = {
            f"{path}/{verb}": partial(self._on_object, handler, custom, verb)
            for path, custom in ((_PRESET, False), (_CUSTOM, True))
            for verb, handler in data.items()
        }
        crm["/cgi/crm/custom/data/invalid"] = partial(self._on_object, data["invalid"], True, "invalid")
        crm["/cgi/crm/v2/object/list"] = self._objects
        crm["/cgi/crm/v2/object/describe"] = self._describe
        book: dict[str, Callable[[_Call], Row]] = {
            "/cgi/user/list": self._users,
            "/cgi/user/simpleList": self._simple_users,
            "/cgi/user/get": self._user,
            "/cgi/user/getByMobile": self._users_by_mobile,
            "/cgi/department/list": self._departments,
        }
        return {
            f"POST {legacy}": partial(self._token, self._doorman.legacy, self._legacy_token),
            f"POST {current}": partial(self._token, self._doorman.current, self._current_token),
            **{f"POST {path}": partial(self._let_in, handler, True) for path, handler in crm.items()},
            **{f"POST {path}": partial(self._let_in, handler, False) for path, handler in book.items()},
        }

    def actions(self) -> Mapping[str, Action]:
        """`settings`; `vendor_limits`; `rows` (`fxiaoke_data.Changes`); and `token`.

        `token` {} issues new tokens beside the old ones, {"expire": true} ends all, and with "stuck" the
        dead ones are still handed out until they are 6600 seconds old.
        """
        return {
            "settings": self._settings_change,
            "vendor_limits": lambda payload: partial(self._apply_settings, VENDOR_LIMITS),
            "token": self._token_change,
            "rows": lambda payload: self._tenant.change(msgspec.convert(payload, Changes)),
        }

    def truth(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """The rows of a `stream` that `user` (an FSUID; the administrator) sees, by id.

        With `day` and perhaps `zone`, those last modified on it. People are FSUIDs, or with `ids=crm` the
        CRM's own ids. With `total=true` rows are only counted: `rows`, the sum of `modified`, and `ids`, a
        hash of the sorted ids joined by newlines.
        """
        kind = OBJECTS[STREAMS[query["stream"]]]
        table = self._tenant.tables[kind.name]
        start, end = _span(query)
        user = self._people.by_open_id(query["user"]) if "user" in query else self._people.employees[ADMIN]
        sight = self._sight(kind, Caller(user, "", legacy=True))
        heads = [
            head
            for head in table.heads(start, end, invalid=self._settings.show_invalid)
            if start <= head[0] <= end and (sight is None or sight(table.row(head)))
        ]
        heads.sort(key=lambda head: head[1])
        if query.get("total") == "true":
            ids = "\n".join(head[1] for head in heads).encode()
            modified = sum(head[0] for head in heads)
            return [{"rows": len(heads), "modified": modified, "ids": hashlib.sha256(ids).hexdigest()}]
        open_ids = query.get("ids", "open") == "open"
        rows = [self._shapes.flat(kind, table.row(head), open_ids=open_ids) for head in heads]
        return [{**row, **{f"{name}_utc": _utc(row[name]) for name in _MOMENTS}} for row in rows]

    def answer(self, request: Request) -> Answer:
        """Everything is a POST and answered with 200."""
        try:
            if request.method != "POST":
                return self.not_found(request)
            self._check_trace(request)
            return super().answer(request)
        except ApiError as error:
            return self._refusal(error, of_token=request.path in TOKEN_PATHS)

    def attending(self, request: Request) -> AbstractContextManager[None]:
        """Calls for tokens have to come one after the other."""
        return self._asking_for_token(request) if request.path in TOKEN_PATHS else nullcontext()

    def not_found(self, request: Request) -> Answer:
        """The answer to an unknown path."""
        return self._refusal(ApiError(ILLEGAL, f"the request uri=[{request.path}] is not exists"))

    @contextmanager
    def _asking_for_token(self, request: Request) -> Iterator[None]:
        if self._asking is not None:
            yield
            return
        self._asking = request
        try:
            yield
        finally:
            self._asking = None

    def _check_trace(self, request: Request) -> None:
        if self._settings.trace_id == "ignored":
            return
        trace = request.first("thirdTraceId")
        if not trace or (self._settings.trace_id == "fresh" and trace in self._traces):
            raise ApiError(VALUE, f"thirdTraceId {trace or ''} 不合法")
        self._traces.add(trace)

    def _envelope(self, code: int, message: str, description: str) -> Row:
        self._answers += 1
        return {
            "traceId": f"E-O.{ENTERPRISE}-{self._answers:012}",
            "errorCode": code,
            "errorMessage": message,
            "errorDescription": description,
        }

    def _refusal(self, error: ApiError, *, of_token: bool = False) -> Answer:
        row = self._envelope(error.code, str(error), "缺少参数或参数不合法" if of_token else str(error))
        if of_token:
            row |= {"error": "非法请求", "error_description": row["errorDescription"]}
        return json_answer(row)

    def _token(self, tokens: Tokens, shown: Callable[[str, int], Row], request: Request) -> Answer:
        """A token for the app's credentials."""
        settings = self._settings
        if settings.serial_tokens and self._asking is not None and self._asking is not request:
            raise ApiError(settings.token_code, "接口不能并发调用")
        if not self._token_rate.take("", settings.token_calls):
            raise ApiError(settings.token_code, "接口调用超过限制")
        body = _body(request)
        wanted = self._app if tokens is self._doorman.legacy else self._app | {"grantType": "app_secret"}
        # The gateway reports the secret first, and calls nothing else by a name of its own.
        for name in ("appSecret", *wanted):
            if body.get(name) != wanted[name]:
                raise ApiError(ILLEGAL, f"the parameter {name} is missing or illegal")
        answer = json_answer(self._envelope(0, "success", "success") | shown(*tokens.ask()))
        answer.takes = settings.token_seconds
        return answer

    def _legacy_token(self, token: str, seconds: int) -> Row:
        return {"corpAccessToken": token, "corpId": self._doorman.corp_id, "expiresIn": seconds}

    def _current_token(self, token: str, seconds: int) -> Row:
        return {
            "accessToken": token,
            "expiresIn": seconds,
            "appId": self._app["appId"],
            "ea": ENTERPRISE,
            "openUserId": self._doorman.corp_id,  # so named by the vendor
        }

    def _let_in(self, handler: Callable[[_Call], Row], needs_user: bool, request: Request) -> Answer:
        """What `handler` makes of a call with valid credentials and within all limits."""
        body = _body(request)
        settings = self._settings
        caller = self._doorman.caller(request, body, mixing=settings.mixing, needs_user=needs_user)
        if not self._rate.take(request.path, settings.calls):
            raise ApiError(settings.rate_code, "秒频次超限" if settings.rate_code == TOO_FAST else "接口调用超过限制")
        if not self._quota.take(settings.daily_calls):
            raise ApiError(QUOTA_USED, "当天访问频次超限")
        return json_answer(
            self._envelope(0, "OK" if needs_user else "success", "success") | handler(_Call(body, caller))
        )

    def _on_object(self, handler: Callable[[CrmObject, _Call], Row], custom: bool, verb: str, call: _Call) -> Row:
        """What `handler` makes of a call under the path of one family."""
        kind = self._named(call.data.get("dataObjectApiName") or _inner(call.data).get("dataObjectApiName"))
        served = kind.is_custom is custom or (custom and verb == "findSimple")
        if not served and self._settings.family_code:
            raise ApiError(self._settings.family_code, f"对象 {kind.name} 不支持该接口")
        return handler(kind, call)

    def _named(self, name: Any) -> CrmObject:
        if not isinstance(name, str):
            raise ApiError(SHAPE, "dataObjectApiName 不能为空")
        if name not in OBJECTS:
            raise ApiError(VALUE, f"对象 {name} 不存在")
        return OBJECTS[name]

    def _query(self, kind: CrmObject, call: _Call) -> Row:
        query = self._read(kind, call)
        return self._page(kind, call, query, query.projection, computed=True)

    def _find_simple(self, kind: CrmObject, call: _Call) -> Row:
        """The query for those who only want changes: fields that would have to be computed are left out."""
        return self._page(
            kind, call, self._read(kind, call), projection(call.data.get("field_projection")), computed=False
        )

    def _read(self, kind: CrmObject, call: _Call) -> Query:
        return read(call.data.get("search_query_info"), kind, self._reading, self._people)

    def _page(self, kind: CrmObject, call: _Call, query: Query, only: frozenset[str] | None, *, computed: bool) -> Row:
        table, sight = self._tenant.tables[kind.name], self._sight(kind, call.caller)
        heads, total = self._finder.page(table, query, self._reading, viewer=call.caller.user_id, sight=sight)
        shown = partial(self._shapes.row, kind, open_ids=call.open_ids, nulls=call.nulls, only=only, computed=computed)
        return {
            "data": {
                "offset": query.offset,
                "limit": query.limit,
                "total": total if self._counts(call) else 0,
                "dataList": [shown(table.row(head)) for head in heads],
            }
        }

    def _counts(self, call: _Call) -> bool:
        """Whether the total is wanted, which three parameters can say."""
        if "find_explicit_total_num" in call.data:
            return call.data["find_explicit_total_num"] is True
        if "returnTotalNum" in call.body:
            return call.body["returnTotalNum"] in (1, 2)
        return bool(call.body.get("need_return_count_num", self._settings.default_total))

    def _get(self, kind: CrmObject, call: _Call) -> Row:
        row_id = call.data.get("objectDataId")
        row = self._tenant.tables[kind.name].get(row_id) if isinstance(row_id, str) else None
        if row is None or (row["life_status"] == "invalid" and not self._settings.show_invalid):
            raise ApiError(VALUE, f"数据 {row_id} 不存在")
        if (sight := self._sight(kind, call.caller)) and not sight(row):
            raise no_right()
        return {"data": self._shapes.row(kind, row, open_ids=call.open_ids, nulls=call.nulls)}

    def _objects(self, call: _Call) -> Row:
        return {"data": {"objects": [kind.listed() for kind in OBJECTS.values()]}}

    def _describe(self, call: _Call) -> Row:
        data = call.body.get("data")
        kind = self._named(data.get("apiName") if isinstance(data, dict) else call.body.get("apiName"))
        row: Row = {"describe": kind.described()}
        if call.body.get("includeDetail") is True:
            row["detailDescribeList"] = [OBJECTS[name].described() for name in kind.details]
        return {"data": row}

    def _users(self, call: _Call) -> Row:
        detailed = call.body.get("showDepartmentIdsDetail") is True
        return {"userList": [self._people.user(employee, detailed=detailed) for employee in self._inside(call)]}

    def _simple_users(self, call: _Call) -> Row:
        return {"userList": [simple_user(employee) for employee in self._inside(call)]}

    def _inside(self, call: _Call) -> list[Employee]:
        unit = str(call.body.get("departmentId") or "")
        if unit not in self._people.departments:
            raise ApiError(NO_UNIT, "部门不存在")
        return self._people.inside(unit, below=call.body.get("fetchChild") is True)

    def _user(self, call: _Call) -> Row:
        employee = self._people.by_open_id(str(call.body.get("openUserId")))
        if employee is None:
            raise ApiError(NO_EMPLOYEE, "员工不存在")
        return self._people.user(employee, detailed=True)

    def _users_by_mobile(self, call: _Call) -> Row:
        found = [employee for employee in self._people.employees.values() if employee.mobile == call.body.get("mobile")]
        return {"empList": [self._people.user(employee) for employee in found]}

    def _departments(self, call: _Call) -> Row:
        return {"departments": list(listed_departments(self._people.departments))}

    def _sight(self, kind: CrmObject, caller: Caller) -> Sight | None:
        """Which rows of an object the acting employee sees: None for all."""
        employee = caller.employee
        if employee is None:
            return lambda row: False
        shared = kind.name != "PersonnelObj" or self._settings.personnel_shared
        if kind.name in _PUBLIC or (employee.is_admin and shared):
            return None
        me = employee.id
        return lambda row: any(me in member["teamMemberEmployee"] for member in row["relevant_team"] or ())

    @property
    def _reading(self) -> Reading:
        settings = self._settings
        return Reading(
            inclusive=settings.inclusive,
            quoted_numbers=settings.quoted_numbers,
            show_invalid=settings.show_invalid,
            shuffle=settings.shuffle,
        )

    def _settings_change(self, payload: dict[str, Any]) -> Change:
        given = msgspec.convert(payload, Settings)
        return partial(self._apply_settings, {name: getattr(given, name) for name in payload})

    def _apply_settings(self, given: Mapping[str, Any]) -> Settings:
        self._settings = replace(self._settings, **given)
        return self._settings

    def _token_change(self, payload: dict[str, Any]) -> Change:
        order = msgspec.convert(payload, _TokenOrder)
        return partial(self._change_tokens, order)

    def _change_tokens(self, order: _TokenOrder) -> Row:
        for tokens in (self._doorman.legacy, self._doorman.current):
            if order.expire:
                tokens.end(stuck=order.stuck)
            else:
                tokens.renew()
        return {}


def _body(request: Request) -> dict[str, Any]:
    if not request.body:
        raise ApiError(NO_BODY, "POST 的数据包为空")
    if not request.header(b"content-type").startswith("application/json"):
        raise ApiError(SHAPE, "Content-Type 必须是 application/json")
    try:
        return msgspec.json.decode(request.body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ApiError(SHAPE, "参数错误") from error


def _inner(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where calls that write name the object."""
    inner = data.get("object_data")
    return inner if isinstance(inner, dict) else {}


def _span(query: Mapping[str, str]) -> tuple[int, int]:
    """The first and last millisecond of the day asked for."""
    if "day" not in query:
        return -FOREVER, FOREVER
    day, zone = date.fromisoformat(query["day"]), query.get("zone", "Asia/Shanghai")
    return at(zone, day) * 1000, at(zone, day + timedelta(days=1)) * 1000 - 1


def _utc(moment: int) -> str:
    return f"{iso(moment // 1000)}.{moment % 1000:03}Z"
