"""A small Jushuitan client for tests, with a signature of its own."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests

from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running

ORDERS = "/open/orders/single/query"
REFUNDS = "/open/refund/single/query"
SHOPS = "/open/shops/query"
REFRESH = "/openWeb/auth/refreshToken"
DAY: dict[str, Any] = {"modified_begin": "2026-01-05 00:00:00", "modified_end": "2026-01-05 23:59:59"}
DAYS: dict[str, Any] = {"modified_begin": "2026-01-05 00:00:00", "modified_end": "2026-01-07 23:59:59"}

Row = dict[str, Any]


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


class Jst:
    """Calls with the credentials of the moment the client was made."""

    def __init__(self, sandbox: Sandbox, session: requests.Session) -> None:
        self.sandbox = sandbox
        self.env = sandbox.env()
        self._session = session

    @property
    def secret(self) -> str:
        return self.env["JUSHUITAN_APP_SECRET"]

    def sign(self, fields: Mapping[str, str]) -> str:
        return md5(self.secret + "".join(f"{name}{fields[name]}" for name in sorted(fields) if fields[name]))

    def signed(self, fields: Mapping[str, str]) -> dict[str, str]:
        return {**fields, "sign": self.sign(fields)}

    def business(self, biz: Mapping[str, Any] | str, **changed: str) -> dict[str, str]:
        """The fields of a business call but for the signature."""
        text = biz if isinstance(biz, str) else json.dumps(biz, ensure_ascii=False)
        return {
            "app_key": self.env["JUSHUITAN_APP_KEY"],
            "access_token": self.env["JUSHUITAN_ACCESS_TOKEN"],
            "timestamp": str(int(time.time())),
            "version": "2",
            "charset": "utf-8",
            "biz": text,
            **changed,
        }

    def send(self, path: str, method: str = "POST", **kwargs: Any) -> requests.Response:
        return self._session.request(method, self.env["JUSHUITAN_BASE_URL"] + path, timeout=10, **kwargs)

    def post(self, path: str, fields: Mapping[str, str], **kwargs: Any) -> Any:
        """The envelope that answers a form; failures are HTTP 200, too."""
        response = self.send(path, data=dict(fields), **kwargs)
        assert response.status_code == 200, response.text
        return response.json()

    def call(self, path: str, **biz: Any) -> Any:
        return self.post(path, self.signed(self.business(biz)))

    def code(self, path: str, **biz: Any) -> Any:
        envelope = self.call(path, **biz)
        assert (envelope["code"] == 0) == (envelope["data"] is not None)
        return envelope["code"]

    def data(self, path: str, **biz: Any) -> Any:
        envelope = self.call(path, **biz)
        assert envelope["code"] == 0, envelope
        return envelope["data"]

    def rows(self, path: str, **biz: Any) -> list[Row]:
        """The rows of one page, whatever their key."""
        (rows,) = (value for value in self.data(path, **biz).values() if isinstance(value, list))
        return list(rows)

    def paged(self, path: str, **biz: Any) -> list[Row]:
        """The rows of all pages of a window, read as most clients do."""
        rows: list[Row] = []
        for page in range(1, 1000):
            data = self.data(path, page_index=page, **biz)
            rows += next(value for value in data.values() if isinstance(value, list))
            if not data["has_next"]:
                break
        return rows

    def since(self, path: str, *, start: int = 0, parameter: str = "start_ts", **biz: Any) -> list[Row]:
        """All rows from a version on, read as the vendor advises."""
        rows: dict[int, Row] = {}
        for _ in range(1000):
            page = self.rows(path, is_get_total=False, **{**biz, parameter: start})
            fresh = [row for row in page if int(row["ts"]) not in rows]
            if not fresh:
                break
            rows |= {int(row["ts"]): row for row in fresh}
            start = max(rows)
        return list(rows.values())

    def token(self, path: str, **fields: str) -> Any:
        """The envelope of a token call."""
        common = {"app_key": self.env["JUSHUITAN_APP_KEY"], "timestamp": str(int(time.time())), "charset": "utf-8"}
        return self.post(path, self.signed({**common, **fields}))

    def refresh(self, token: str | None = None) -> Any:
        token = token or self.env["JUSHUITAN_REFRESH_TOKEN"]
        return self.token(REFRESH, grant_type="refresh_token", refresh_token=token, scope="all")


@contextmanager
def jushuitan(**options: Any) -> Iterator[Jst]:
    """A running Jushuitan without limits, and a client."""
    with running(vendors=("jushuitan",), **options) as sandbox, requests.Session() as session:
        session.trust_env = False
        sandbox.change("settings", per_second=0, per_minute=0)
        yield Jst(sandbox, session)
