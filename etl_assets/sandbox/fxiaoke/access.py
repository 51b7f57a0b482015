"""Who may call Fxiaoke and how often: tokens of both styles, the acting employee, call limits.

All on the sandbox's clock. How a refusal looks is decided in `fxiaoke`.
"""

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any

import msgspec

from etl_assets.sandbox.fxiaoke.people import Employee, People
from etl_assets.sandbox.fxiaoke.query import ApiError
from etl_assets.sandbox.vendor import Clock, Request
from etl_assets.sandbox.world import secret

ENTERPRISE = "demo_ea"

NO_TOKEN, BAD_TOKEN, NO_USER, MIXED = 20017, 20016, 10010, 12002

_LIFE_SECONDS = 7200
_SAME_SECONDS = 6600
_BEIJING_SECONDS = 8 * 3600
_DAY_SECONDS = 86_400


@dataclass
class _Token:
    value: str
    born: float
    ends: float


class Tokens:
    """The tokens of one style."""

    def __init__(self, clock: Clock, *key: object) -> None:
        self._clock = clock
        self._key = key
        self._issued: list[_Token] = []
        self._count = 0

    def ask(self) -> tuple[str, int]:
        """The token of the moment and the seconds it has left: up to 6600 s the same one, dead or alive."""
        if not self._issued or self._clock.now() - self._issued[-1].born >= _SAME_SECONDS:
            self.renew()
        token = self._issued[-1]
        return token.value, round(max(0.0, token.born + _LIFE_SECONDS - self._clock.now()))

    def renew(self) -> None:
        """Issue a new token; older ones stay valid to their ends."""
        now = self._clock.now()
        self._count += 1
        self._issued = [token for token in self._issued if token.ends > now]
        self._issued.append(_Token(secret("fxiaoke", *self._key, self._count).upper(), now, now + _LIFE_SECONDS))

    def is_valid(self, value: str) -> bool:
        """Whether a token may be used now."""
        now = self._clock.now()
        return any(token.value == value and token.ends > now for token in self._issued)

    def end(self, *, stuck: bool) -> None:
        """End all tokens. `stuck` ones are handed out for the rest of their 6600 s all the same."""
        for token in self._issued:
            token.ends = 0.0
        if not stuck:
            self._issued.clear()


class Caller(msgspec.Struct, frozen=True):
    """For whom a call is made: an employee, or somebody unknown who sees nothing of their own."""

    employee: Employee | None
    user_id: str
    legacy: bool


class Doorman:
    """Reads credentials of calls in either style."""

    def __init__(self, *, seed: int, clock: Clock, people: People) -> None:
        self.corp_id = f"FSCID_{secret('fxiaoke', seed, 'corp')[:32].upper()}"
        self.legacy = Tokens(clock, seed, "corpAccessToken")
        self.current = Tokens(clock, seed, "accessToken")
        self._people = people

    def caller(self, request: Request, body: dict[str, Any], *, mixing: bool, needs_user: bool) -> Caller:
        """Who calls, by headers or else by the body."""
        bearer = request.header(b"authorization")
        own = [name for name in ("corpAccessToken", "corpId", "currentOpenUserId") if name in body]
        if bearer and own and not mixing:
            raise ApiError(MIXED, f"authorization 与 {own[0]} 不能同时使用")
        return self._by_headers(request, bearer, needs_user) if bearer else self._by_body(body, needs_user)

    def _by_headers(self, request: Request, bearer: str, needs_user: bool) -> Caller:
        token = bearer.removeprefix("Bearer ")
        if token == bearer or not self.current.is_valid(token) or request.header(b"x-fs-ea") != ENTERPRISE:
            raise _bad_token()
        user_id = request.header(b"x-fs-userid")
        if needs_user and not user_id:
            raise ApiError(NO_USER, "x-fs-userid为必填项，不能为空")
        return Caller(self._people.employees.get(user_id), user_id, legacy=False)

    def _by_body(self, body: dict[str, Any], needs_user: bool) -> Caller:
        if not body.get("corpAccessToken"):
            raise ApiError(NO_TOKEN, "corpAccessToken为必填项，不能为空")
        if not body.get("corpId"):
            raise ApiError(NO_TOKEN, "corpId为必填项，不能为空")
        if not self.legacy.is_valid(str(body["corpAccessToken"])) or body["corpId"] != self.corp_id:
            raise _bad_token()
        user_id = str(body.get("currentOpenUserId") or "")
        if needs_user and not user_id:
            raise ApiError(NO_USER, "currentOpenUserId为必填项，不能为空")
        return Caller(self._people.by_open_id(user_id), user_id, legacy=True)


class Rate:
    """So many calls in any so many seconds, for each key on its own. Refused calls do not count."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._calls: defaultdict[str, deque[float]] = defaultdict(deque)

    def take(self, key: str, allowed: int) -> bool:
        """Count a call, if it is still allowed."""
        now, calls = self._clock.now(), self._calls[key]
        while calls and calls[0] <= now - self._seconds:
            calls.popleft()
        if len(calls) >= allowed:
            return False
        calls.append(now)
        return True


class Quota:
    """So many calls a day, of Beijing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._day = 0
        self._calls = 0

    def take(self, allowed: int) -> bool:
        """Count a call, if it is still allowed."""
        day = int(self._clock.now() + _BEIJING_SECONDS) // _DAY_SECONDS
        if day != self._day:
            self._day, self._calls = day, 0
        if self._calls >= allowed:
            return False
        self._calls += 1
        return True


def _bad_token() -> ApiError:
    return ApiError(BAD_TOKEN, "the cropId,cropAccessToken or authorization is error")
