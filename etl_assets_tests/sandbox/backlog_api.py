"""A small Backlog client for tests."""

from collections.abc import Sequence
from typing import Any

import requests

from etl_assets.sandbox.handle import Sandbox

CALLER, GUEST, NULLS, FORMER = 1001, 1020, 1018, 1019
DEMO, SHOP, INFRA, OLD, SALES = 101, 102, 103, 104, 105
DAYS = ("2026-01-05", "2026-01-06", "2026-01-07")
MASTERS = ("statuses", "issueTypes", "categories", "versions", "customFields")

Row = dict[str, Any]
Pairs = Sequence[tuple[str, Any]]


class Space:
    """Requests below /api/v2 with the key of the moment the client was made."""

    def __init__(self, sandbox: Sandbox, session: requests.Session) -> None:
        self.env = sandbox.env()
        self.key: str | None = self.env["BACKLOG_API_KEY"]
        self._session = session

    def send(self, method: str, path: str, params: Pairs | Row = (), **kwargs: Any) -> requests.Response:
        pairs = list(params.items()) if isinstance(params, dict) else list(params)
        key = [("apiKey", self.key)] if self.key else []
        url = f"{self.env['BACKLOG_BASE_URL']}/api/v2/{path}"
        return self._session.request(method, url, params=pairs + key, timeout=10, **kwargs)

    def get(self, path: str, params: Pairs | Row = (), **more: Any) -> Any:
        response = self.send("GET", path, [*(params.items() if isinstance(params, dict) else params), *more.items()])
        assert response.status_code == 200, response.text
        return response.json()

    def status(self, path: str, params: Pairs | Row = (), **more: Any) -> int:
        pairs = [*(params.items() if isinstance(params, dict) else params), *more.items()]
        return self.send("GET", path, pairs).status_code

    def refusal(self, method: str, path: str, params: Pairs | Row = (), **kwargs: Any) -> tuple[int, int]:
        """Status and code of an error, whose body has the shape of all errors."""
        response = self.send(method, path, params, **kwargs)
        (problem,) = response.json()["errors"]
        assert problem.keys() == {"message", "code", "moreInfo"}
        return response.status_code, problem["code"]

    def all(self, path: str, **params: Any) -> list[Row]:
        """All rows of an offset-paged list."""
        rows: list[Row] = []
        while True:
            page = self.get(path, **{"count": 100, "order": "asc", **params}, offset=len(rows))
            rows += page
            if len(page) < 100:
                return rows

    def every_activity(self, path: str = "space/activities", **params: Any) -> list[Row]:
        """All activities, oldest first."""
        rows: list[Row] = []
        while page := self.get(path, count=100, order="asc", minId=rows[-1]["id"] if rows else 0, **params):
            rows += page
        return rows

    def updated(self, first: str, last: str, **params: Any) -> list[Row]:
        """All issues updated in the days."""
        return self.all("issues", sort="created", updatedSince=first, updatedUntil=last, **params)


def ids(rows: list[Row]) -> list[int]:
    return [row["id"] for row in rows]
