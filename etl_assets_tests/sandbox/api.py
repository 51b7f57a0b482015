"""A small TMetric client for tests."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import requests

from etl_assets.sandbox.handle import Sandbox

ACCOUNT = "/api/v3/accounts/5000"
CALLER, MIDNIGHT, LAST_SECOND, OVER_MIDNIGHT, TO_MIDNIGHT, RUNNING = 700, 701, 702, 703, 704, 705
LEFT, NEW_YORK = 718, 719
ZONES = {NEW_YORK: "America/New_York"}


class Api:
    """Requests with the token of the moment the client was made, below the workspace unless absolute."""

    def __init__(self, sandbox: Sandbox, session: requests.Session) -> None:
        self.env = sandbox.env()
        self._session = session
        self._session.headers["Authorization"] = f"Bearer {self.env['TMETRIC_TOKEN']}"

    def send(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        url = self.env["TMETRIC_BASE_URL"] + (path if path.startswith("/api/") else f"{ACCOUNT}/{path}")
        return self._session.request(method, url, timeout=10, **kwargs)

    def get(self, path: str, **params: Any) -> Any:
        response = self.send("GET", path, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    def status(self, path: str, **params: Any) -> int:
        return self.send("GET", path, params=params).status_code

    def entries(self, user: int, first: str = "2026-01-05", last: str = "2026-01-07") -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.get("timeentries", userId=user, startDate=first, endDate=last)
        return rows


def utc(text: str, user: int) -> str:
    """The wall clock time `text` of a user as UTC."""
    zone = ZoneInfo(ZONES.get(user, "Asia/Tokyo"))
    moment = datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
