"""Who calls Backlog, and how often: API keys, OAuth tokens, and the budgets of requests per minute.

What is counted as which category belongs to `backlog`, the rights of users to the data.
"""

import math
from typing import Any

import msgspec

from etl_assets.sandbox.backlog.params import Params
from etl_assets.sandbox.backlog.space import CALLER_ID
from etl_assets.sandbox.vendor import Answer, Clock, Request, json_answer
from etl_assets.sandbox.world import secret

_WINDOW_SECONDS = 60


class Keys:
    """API keys. A user may have several, and they do not expire."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._users: dict[str, int] = {}
        self._given = 0
        self.issue(CALLER_ID)

    def issue(self, user_id: int) -> str:
        """A further key of a user."""
        self._given += 1
        key = secret("backlog key", self._seed, self._given)
        self._users[key] = user_id
        return key

    def revoke(self, key: str) -> None:
        """End a key."""
        del self._users[key]

    def user(self, key: str) -> int | None:
        """Whose key it is."""
        return self._users.get(key)

    def of(self, user_id: int) -> str:
        """The newest key of a user, empty if there is none."""
        return next((key for key, owner in reversed(self._users.items()) if owner == user_id), "")


class Tokens:
    """OAuth for the one registered client: codes and refresh tokens for access tokens of limited life.

    With `rotate` a refresh token is good for one use and the answer brings the next one; else it stays.
    """

    def __init__(self, seed: int, clock: Clock) -> None:
        self._seed, self._clock = seed, clock
        self._given = 0
        self._access: dict[str, tuple[int, float]] = {}
        self._codes: set[str] = set()
        self.client_id = secret("backlog client", seed)
        self.client_secret = secret("backlog client secret", seed)
        self.rotate = True
        self.seconds = 3600
        self.renew()

    def env(self) -> dict[str, str]:
        """The environment variables with which a client refreshes its access."""
        return {
            "BACKLOG_OAUTH_CLIENT_ID": self.client_id,
            "BACKLOG_OAUTH_CLIENT_SECRET": self.client_secret,
            "BACKLOG_OAUTH_REFRESH_TOKEN": self._refresh,
        }

    def renew(self) -> None:
        """Replace the refresh token, as if the user had authorised the client again."""
        self._refresh = self._new("refresh")

    def expire(self) -> None:
        """End all access tokens."""
        self._access.clear()

    def code(self) -> str:
        """A code as the browser brings it back, good for one exchange."""
        code = self._new("code")
        self._codes.add(code)
        return code

    def user(self, authorization: str) -> int | None:
        """Whose access token the header carries, unless it has expired."""
        user_id, expires = self._access.get(authorization.removeprefix("Bearer "), (None, 0.0))
        return user_id if authorization.startswith("Bearer ") and self._clock.now() < expires else None

    def answer(self, request: Request) -> Answer:
        """The token endpoint, whose errors are OAuth's and not the API's."""
        form = Params.of_form(request)
        if (form.text("client_id"), form.text("client_secret")) != (self.client_id, self.client_secret):
            return _problem("invalid_client", 401)
        grant = form.text("grant_type")
        if grant == "authorization_code":
            if form.text("code") not in self._codes or not form.text("redirect_uri"):
                return _problem("invalid_grant")
            self._codes.remove(form.text("code") or "")
            self.renew()
        elif grant == "refresh_token":
            if form.text("refresh_token") != self._refresh:
                return _problem("invalid_grant")
            if self.rotate:
                self.renew()
        else:
            return _problem("unsupported_grant_type")
        access = self._new("access")
        self._access[access] = (CALLER_ID, self._clock.now() + self.seconds)
        return json_answer(
            {
                "access_token": access,
                "token_type": "Bearer",
                "expires_in": self.seconds,
                "refresh_token": self._refresh,
            }
        )

    def _new(self, kind: str) -> str:
        self._given += 1
        return secret("backlog", kind, self._seed, self._given)


class Bucket(msgspec.Struct):
    """What is left of one user's budget of one category; `over` if a request came too much."""

    limit: int
    remaining: int
    reset: int
    over: bool = False

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The headers of every answer."""
        return (
            (b"x-ratelimit-limit", b"%d" % self.limit),
            (b"x-ratelimit-remaining", b"%d" % self.remaining),
            (b"x-ratelimit-reset", b"%d" % self.reset),
        )

    def shown(self) -> dict[str, Any]:
        """The bucket as `/rateLimit` shows it."""
        return {"limit": self.limit, "remaining": self.remaining, "reset": self.reset}


class Budgets:
    """Requests per user and category in windows of one minute, each of which begins with its first request."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows: dict[tuple[int, str], tuple[float, int]] = {}

    def charge(self, user_id: int, category: str, limit: int) -> Bucket:
        """Count a request."""
        begun, used = self._window(user_id, category)
        self._windows[user_id, category] = (begun, used + 1)
        return self.bucket(user_id, category, limit)

    def bucket(self, user_id: int, category: str, limit: int) -> Bucket:
        """What is left."""
        begun, used = self._window(user_id, category)
        return Bucket(limit, max(0, limit - used), math.ceil(begun + _WINDOW_SECONDS), used > limit)

    def _window(self, user_id: int, category: str) -> tuple[float, int]:
        now = self._clock.now()
        begun, used = self._windows.get((user_id, category), (now, 0))
        return (now, 0) if now >= begun + _WINDOW_SECONDS else (begun, used)


def _problem(name: str, status: int = 400) -> Answer:
    text = {"invalid_grant": "The grant is invalid, expired or used."}.get(name, name)
    return json_answer({"error": name, "error_description": text}, status)
