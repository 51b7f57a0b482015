"""`Google`: the emulators as tests and commands see them, in a process of their own.

python -m etl_assets.sandbox.google.serve FOLDER
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

PROJECT, BUCKET = "sandbox", "lake"
_CONTROL = "/_proxy"


@dataclass(frozen=True)
class Api:
    """One emulator behind its proxy."""

    url: str

    def fault(self, **fault: Any) -> None:
        """Set a fault, with the fields of `proxy.Fault`."""
        self._call("POST", f"{_CONTROL}/faults", fault)

    def calls(self) -> list[dict[str, Any]]:
        """The calls so far: method, path, body, time."""
        calls: list[dict[str, Any]] = self._call("GET", f"{_CONTROL}/calls")["calls"]
        return calls

    def fired(self) -> int:
        """How often faults fired."""
        return sum(fault["fired"] for fault in self._call("GET", f"{_CONTROL}/calls")["faults"])

    def clear(self) -> None:
        """Forget faults and calls."""
        self._call("DELETE", _CONTROL)

    def _call(self, method: str, path: str, payload: Any = None) -> Any:
        body = None if payload is None else json.dumps(payload).encode()
        # A proxy set for the outside world must not see traffic to loopback.
        request = Request(self.url + path, body, method=method)  # noqa: S310 - the URL is the sandbox's own
        with build_opener(ProxyHandler({})).open(request, timeout=60) as response:
            return json.load(response)


@dataclass(frozen=True)
class Google:
    """Both emulators."""

    bigquery: Api
    storage: Api

    def env(self, place: str = "") -> dict[str, str]:
        """The variables that point the product at them; `place` keeps users of one pair of emulators apart."""
        return {
            "ETL_WAREHOUSE": "bigquery",
            "ETL_LANDING": "/".join(filter(None, [f"gs://{BUCKET}", place])),
            "BIGQUERY_PROJECT": PROJECT,
            "BIGQUERY_DATASET_PREFIX": f"{place}_" if place else "",
            "BIGQUERY_EMULATOR_HOST": self.bigquery.url,
            "STORAGE_EMULATOR_HOST": self.storage.url,
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "NO_GCE_CHECK": "true",
        }


@contextmanager
def running(folder: Path) -> Iterator[Google]:
    """Both emulators, each behind a proxy, in a child process; objects lie below `folder`."""
    command = [sys.executable, "-W", "ignore", "-m", "etl_assets.sandbox.google.serve", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            said = child.stdout.readline()
            if not said:
                raise RuntimeError("the Google emulators did not start; are the test dependencies installed?")
            yield Google(**{name: Api(url) for name, url in json.loads(said).items()})
        finally:
            child.terminate()
            child.wait()
