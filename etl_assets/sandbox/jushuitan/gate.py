"""The gate before Jushuitan's API: forms, signatures, timestamps, tokens and limits.

A request that passes has a signed form and perhaps a token. What it asks for belongs to `jushuitan_query`.
"""

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from etl_assets.sandbox.vendor import Clock, Request
from etl_assets.sandbox.world import secret

_FORM = "application/x-www-form-urlencoded"
_TIMESTAMP_DIGITS = 10


class VendorError(Exception):
    """A failure as the vendor reports it: a code and a message inside HTTP 200."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def signature(app_secret: str, fields: Mapping[str, str]) -> str:
    """The signature of a form: fields that are not empty, in the order of their names, after the secret."""
    text = "".join(name + fields[name] for name in sorted(fields) if name != "sign" and fields[name])
    return hashlib.md5((app_secret + text).encode(), usedforsecurity=False).hexdigest()


def form(request: Request) -> dict[str, str]:
    """The fields of the body. What stands in the query string does not count."""
    if request.header(b"content-type").split(";")[0].strip().lower() != _FORM:
        raise VendorError(10015, f"参数缺失: 请求须为 {_FORM}")
    try:
        pairs = parse_qsl(request.body.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError as error:
        raise VendorError(130, "参数错误: 编码须为 utf-8") from error
    return dict(pairs)


def require(fields: Mapping[str, str], names: Iterable[str]) -> None:
    """Refuse a form without one of the fields; an empty one is none."""
    for name in names:
        if not fields.get(name):
            raise VendorError(10015, f"参数缺失: {name}")


def check_timestamp(text: str, *, minutes: int, code: int) -> None:
    """Refuse a timestamp that is off by more than so many minutes of real time."""
    number = int(text) if len(text) == _TIMESTAMP_DIGITS and text.isdecimal() else 0
    if abs(time.time() - number) > minutes * 60:
        raise VendorError(code, f"验证失败！无效的timestamp，请求最大时间误差{minutes}分钟")


class Tokens:
    """The merchant's tokens: a present pair, and earlier access tokens that still live."""

    def __init__(self, seed: int, clock: Clock, *, seconds: int) -> None:
        self.access = self.refresh = ""
        self._seed = seed
        self._clock = clock
        self._issued = 0
        self._ends: dict[str, float] = {}
        self._codes: set[str] = set()
        self._renewable = False
        self.issue(seconds=seconds, grace=0, rotate=True)

    def issue(self, *, seconds: int, grace: float, rotate: bool) -> None:
        """Issue an access token, and with `rotate` a refresh token. The old access token lives on for `grace`."""
        self._issued += 1
        self.shorten(grace)
        self.access = secret("jushuitan", "access", self._seed, self._issued)
        self._ends[self.access] = self._clock.now() + seconds
        if rotate:
            self.refresh = secret("jushuitan", "refresh", self._seed, self._issued)
            self._renewable = True

    def shorten(self, grace: float) -> None:
        """End all access tokens in `grace` seconds, if they do not end before."""
        end = self._clock.now() + grace
        self._ends = {token: min(old, end) for token, old in self._ends.items()}

    def revoke_refresh(self) -> None:
        """End the refresh token, so that only a new authorization helps."""
        self._renewable = False

    def renewable(self, refresh: str) -> bool:
        """Whether a refresh token is the present one and lives."""
        return self._renewable and refresh == self.refresh

    def valid(self, access: str) -> bool:
        """Whether an access token lives."""
        return self._clock.now() < self._ends.get(access, 0.0)

    def authorize(self) -> str:
        """A code as the merchant's consent brings it to a service provider; it works once."""
        self._issued += 1
        code = secret("jushuitan", "code", self._seed, self._issued)[:16]
        self._codes.add(code)
        return code

    def spend(self, code: str) -> bool:
        """Whether `code` was given and not used before."""
        known = code in self._codes
        self._codes.discard(code)
        return known


class Rate:
    """At most so many requests in any span of `seconds`; refused ones do not count."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._times: deque[float] = deque()

    def full(self, now: float, most: int) -> bool:
        """Whether one more request would be too many; 0 means that none ever is."""
        while self._times and self._times[0] <= now - self._seconds:
            self._times.popleft()
        return 0 < most <= len(self._times)

    def add(self, now: float) -> None:
        """Count a request."""
        self._times.append(now)
