"""A small Fxiaoke client of both styles for tests."""

from functools import cached_property
from typing import Any

import requests

from etl_assets.sandbox.handle import Sandbox

LEGACY, CURRENT = "/cgi/corpAccessToken/get/V2", "/oauth2.0/token"
INVENTORY = "object_inventory_report__c"
DAY = 86_400_000
START = 1_767_542_400_000  # 2026-01-05 00:00 in Shanghai
OBJECTS = {
    "inventory_reports": INVENTORY,
    "accounts": "AccountObj",
    "contacts": "ContactObj",
    "sales_orders": "SalesOrderObj",
    "sales_order_products": "SalesOrderProductObj",
    "products": "ProductObj",
    "personnel": "PersonnelObj",
    "departments": "DepartmentObj",
}

Row = dict[str, Any]


class Crm:
    """Calls in the legacy style, as the user of the environment unless another is named."""

    def __init__(self, sandbox: Sandbox, session: requests.Session) -> None:
        self.env = sandbox.env()
        self.session = session
        self.user = self.env["FXIAOKE_OPEN_USER_ID"]

    @property
    def app(self) -> dict[str, str]:
        names = {"appId": "APP_ID", "appSecret": "APP_SECRET", "permanentCode": "PERMANENT_CODE"}
        return {name: self.env[f"FXIAOKE_{variable}"] for name, variable in names.items()}

    @cached_property
    def auth(self) -> dict[str, str]:
        """The credentials of the legacy style, fetched once."""
        token = self.post(LEGACY, self.app)
        return {"corpAccessToken": token["corpAccessToken"], "corpId": token["corpId"]}

    @cached_property
    def headers(self) -> dict[str, str]:
        """The credentials of the current style, fetched once."""
        token = self.post(CURRENT, {**self.app, "grantType": "app_secret"})
        return {"authorization": f"Bearer {token['accessToken']}", "x-fs-ea": token["ea"], "x-fs-userid": "1000"}

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None, **params: str) -> Row:
        url = self.env["FXIAOKE_BASE_URL"] + path
        response = self.session.post(url, json=body, headers=headers, params=params, timeout=10)
        assert response.status_code == 200
        answer: Row = response.json()
        assert answer["traceId"]
        return answer

    def call(self, path: str, **body: Any) -> Row:
        return self.post(path, {**self.auth, "currentOpenUserId": self.user, **body})

    def code(self, path: str, **body: Any) -> int:
        code: int = self.call(path, **body)["errorCode"]
        return code

    def data(self, verb: str, name: str, **data: Any) -> Row:
        """A call of the data endpoints, under the right family."""
        return self.call(path(verb, name), data={"dataObjectApiName": name, **data})

    def ask(self, name: str, *filters: tuple[str, str, Any], **info: Any) -> Row:
        """A whole answer to a query, or to what stands in its place."""
        conditions = [
            {"field_name": field, "operator": test, "field_values": values} for field, test, values in filters
        ]
        return self.data("query", name, search_query_info={"limit": 100, "offset": 0, "filters": conditions, **info})

    def rows(self, name: str, *filters: tuple[str, str, Any], **info: Any) -> list[Row]:
        """The rows of one page."""
        answer = self.ask(name, *filters, **info)
        assert answer["errorCode"] == 0, answer["errorMessage"]
        rows: list[Row] = answer["data"]["dataList"]
        return rows

    def all(self, name: str, *filters: tuple[str, str, Any], **info: Any) -> list[Row]:
        """The rows of all pages, by `_id`."""
        found: list[Row] = []
        while True:
            after = [("_id", "GT", [found[-1]["_id"]])] if found else []
            page = self.rows(name, *filters, *after, orders=[{"fieldName": "_id", "isAsc": True}], **info)
            found += page
            if len(page) < 100:
                return found


def path(verb: str, name: str) -> str:
    """The path of a data endpoint for an object."""
    return f"/cgi/crm/{'custom/' if name.endswith('__c') else ''}v2/data/{verb}"


def of_day(number: int = 0) -> tuple[str, str, list[str]]:
    """The filter on rows last modified on a data day."""
    start = START + number * DAY
    return "last_modified_time", "BETWEEN", [str(start), str(start + DAY - 1)]
