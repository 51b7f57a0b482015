"""`Sandbox`: the simulators as Python sees them, in this process or another.

It speaks HTTP to the control endpoints and knows nothing else of the servers.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

_BASE_URL = "_BASE_URL"
_TIMEOUT_SECONDS = 300.0


class Sandbox:
    """Running simulators by the base URLs of their vendors.

    Methods other than `env` and `vendor` mean one vendor: the only one, or the one chosen with `vendor`.
    """

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = dict(urls)
        # A proxy set for the outside world must not see traffic to loopback.
        self._opener = build_opener(ProxyHandler({}))

    @classmethod
    def attached(cls, env: Mapping[str, str]) -> "Sandbox":
        """The simulators that the variables printed by `etl-assets sandbox` point at."""
        return cls({name.removesuffix(_BASE_URL).lower(): url for name, url in env.items() if name.endswith(_BASE_URL)})

    def vendor(self, name: str) -> "Sandbox":
        """The same simulators, narrowed to one vendor."""
        return Sandbox({name: self._urls[name]})

    @property
    def url(self) -> str:
        """The vendor's base URL."""
        if len(self._urls) != 1:
            raise ValueError(f"choose one with vendor(): {', '.join(self._urls)}")
        return next(iter(self._urls.values()))

    def env(self) -> dict[str, str]:
        """The environment that points the product at the simulators, with their present credentials."""
        return {name: value for url in self._urls.values() for name, value in self._call(url, "env")["env"].items()}

    def log(self, path: str | None = None) -> list[dict[str, Any]]:
        """The requests so far, or those whose path contains `path`."""
        rows: list[dict[str, Any]] = self._call(self.url, "log", query={"path": path or ""})["requests"]
        return rows

    def clear_log(self) -> None:
        """Forget the requests so far."""
        self._call(self.url, "log", method="DELETE")

    def count(self, path: str | None = None) -> int:
        """How many requests there were, or how many whose path contains `path`."""
        return int(self._call(self.url, "count", query={"path": path or ""})["count"])

    def fault(self, **fault: Any) -> int:
        """Set a fault, with the fields of `faults.Fault`; its id."""
        return int(self._call(self.url, "faults", fault)["id"])

    def faults(self) -> list[dict[str, Any]]:
        """All faults, with how often each fired."""
        rows: list[dict[str, Any]] = self._call(self.url, "faults")["faults"]
        return rows

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._call(self.url, "faults", method="DELETE")

    def advance(self, seconds: float) -> None:
        """Skip time on the vendor's clock."""
        self._call(self.url, "clock", {"advance": seconds})

    def change(self, action: str, *, after: Mapping[str, Any] | None = None, **payload: Any) -> Any:
        """Make a vendor's own change now, or right `after` the answers described; what the vendor says."""
        return self._call(self.url, action, payload if after is None else {**payload, "after": after})

    def forget_changes(self) -> None:
        """Never make the changes that still wait for their moment."""
        self._call(self.url, "schedule", method="DELETE")

    def truth(self, **query: str) -> list[dict[str, Any]]:
        """The rows that a right extract holds at this moment."""
        rows: list[dict[str, Any]] = self._call(self.url, "truth", query=query)["rows"]
        return rows

    def _call(
        self,
        url: str,
        control: str,
        payload: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        method: str | None = None,
    ) -> Any:
        body = None if payload is None else json.dumps(payload).encode()
        target = f"{url}/_sandbox/{control}?{urlencode(query or {})}"
        request = Request(target, body, method=method)  # noqa: S310  the URL is the sandbox's own
        try:
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
                return json.load(response)
        except HTTPError as error:
            with error:
                raise ValueError(f"{control}: {error.read().decode()}") from error
