"""Backlog's API v2 as a vendor: credentials, limits, the control actions, and where requests go.

Issues and comments are answered by `backlog_issue_api`, all else by `backlog_project_api`; what Nulab does not
document is a setting (`backlog_site.Settings`).
"""

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from math import ceil
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from etl_assets.sandbox.backlog import params as codes
from etl_assets.sandbox.backlog.access import Bucket
from etl_assets.sandbox.backlog.issue_api import IssueApi
from etl_assets.sandbox.backlog.project_api import ProjectApi
from etl_assets.sandbox.backlog.site import NOBODY, Limits, Settings, Site
from etl_assets.sandbox.backlog.space import CALLER_ID
from etl_assets.sandbox.backlog.truth import Truth
from etl_assets.sandbox.vendor import (
    Action,
    Answer,
    Change,
    Clock,
    Handler,
    RefusedError,
    Request,
    Vendor,
    json_answer,
)

_API = "/api/v2/"
_TOKEN = "POST", f"{_API}oauth2/token"


class _KeyOrder(msgspec.Struct, forbid_unknown_fields=True):
    user: int = CALLER_ID
    revoke: str | None = None


class _OAuthOrder(msgspec.Struct, forbid_unknown_fields=True):
    expire: bool = False
    renew: bool = False
    code: bool = False


class Backlog(Vendor):
    """A space of Backlog, as its administrator sees it, who joined all of its projects but one."""

    name: ClassVar[str] = "backlog"
    secrets: ClassVar[frozenset[str]] = frozenset({"apiKey"})

    def __init__(self, *, seed: int, days: int, scale: float, clock: Clock) -> None:
        super().__init__(seed=seed, days=days, scale=scale, clock=clock)
        self._site = Site(seed=seed, days=days, scale=scale, clock=clock)
        self._truth = Truth(self._site.tracker, self._site.activities, self._site.docs)

    def env(self, base_url: str) -> dict[str, str]:
        """Point at the space, with the caller's newest key. OAuth's variables come from the action `oauth`."""
        return {"BACKLOG_BASE_URL": base_url, "BACKLOG_API_KEY": self._site.keys.of(CALLER_ID)}

    def routes(self) -> Mapping[str, Handler]:
        """The API, all below /api/v2."""
        site = self._site
        table = {"GET rateLimit": self._rate_limit, **IssueApi(site).routes(), **ProjectApi(site).routes()}
        return {line.replace(" ", f" {_API}", 1): handler for line, handler in table.items()}

    def actions(self) -> Mapping[str, Action]:
        """Settings, credentials, and rows.

        - `settings`: as `backlog_site.Settings`;
        - `key`: {} gives the caller a further key, {"user": id} somebody else, {"revoke": key} ends one;
        - `oauth`: the variables of a client; {"expire": true} ends access tokens, {"renew": true} replaces the
          refresh token, {"code": true} adds a `code` for the first exchange;
        - `issues`: {"insert", "update", "delete", "move"}, `comments`: {"insert", "update", "delete"}, as
          `backlog_edits.IssueChanges` and `CommentChanges`: like a user's edits they leave change logs and
          activities;
        - `users`, `projects`, `categories`, `versions`: {"insert", "update", "delete"}, `documents`,
          `pull_requests`: {"delete"}, without a trace.
        """
        return {
            "settings": self._settings_change,
            "key": self._key_change,
            "oauth": self._oauth_change,
            "issues": self._site.edits.issue_change,
            "comments": self._site.edits.comment_change,
            **{stream: partial(self._row_change, stream) for stream in self._site.space.changeable},
            **{stream: partial(self._site.docs.removal, stream) for stream in ("documents", "pull_requests")},
        }

    def truth(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """The rows of a `stream`, perhaps of one `day` in one `zone`; see `backlog_truth.Truth.rows`."""
        return self._truth.rows(query)

    def answer(self, request: Request) -> Answer:
        """Charge the request to its caller's budget; refuse it without a caller or beyond the budget."""
        site, category = self._site, self._category(request)
        user_id, bucket = site.caller(request), self._bucket(NOBODY, category)
        if (request.method, request.path) == _TOKEN:
            answer = self._token(request)
        elif user_id == NOBODY:
            answer = codes.error(401, codes.AUTHENTICATION, "Authentication failure.")
        else:
            bucket = site.budgets.charge(user_id, category, site.settings.limit(category))
            answer = self._too_many(bucket) if bucket.over else self._within_budget(request)
        answer.headers += bucket.headers()
        return answer

    def not_found(self, request: Request) -> Answer:
        """The answer to an unknown path."""
        return codes.error(404, codes.NO_RESOURCE, f"Undefined resource. {request.path}")

    def _within_budget(self, request: Request) -> Answer:
        answer = super().answer(request)
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            return codes.error(405, codes.INVALID, f"{request.method} is not allowed here.")
        return answer

    def _token(self, request: Request) -> Answer:
        try:
            return self._site.tokens.answer(request)
        except RefusedError as refused:
            return refused.answer

    def _too_many(self, bucket: Bucket) -> Answer:
        answer = codes.error(429, codes.TOO_MANY, "Too many requests.")
        if self._site.settings.retry_after:
            answer.headers += ((b"retry-after", b"%d" % ceil(bucket.reset - self._site.clock.now())),)
        return answer

    def _category(self, request: Request) -> str:
        if request.method != "GET":
            return "update"
        path = request.path.removeprefix(_API)
        if path in self._site.settings.search:
            return "search"
        return "icon" if path.endswith(("/icon", "/image")) else "read"

    def _bucket(self, user_id: int, category: str) -> Bucket:
        return self._site.budgets.bucket(user_id, category, self._site.settings.limit(category))

    def _rate_limit(self, request: Request) -> Answer:
        user_id, categories = self._site.caller(request), Limits.__struct_fields__
        return json_answer({"rateLimit": {name: self._bucket(user_id, name).shown() for name in categories}})

    def _settings_change(self, payload: dict[str, Any]) -> Change:
        read = msgspec.convert(payload, Settings)
        return partial(self._apply_settings, {name: getattr(read, name) for name in payload})

    def _apply_settings(self, given: Mapping[str, Any]) -> Settings:
        self._site.apply(replace(self._site.settings, **given))
        return self._site.settings

    def _key_change(self, payload: dict[str, Any]) -> Change:
        order = msgspec.convert(payload, _KeyOrder)
        if order.user not in self._site.space.users:
            raise ValueError(f"no user {order.user}")
        return partial(self._apply_key, order)

    def _apply_key(self, order: _KeyOrder) -> dict[str, str]:
        if order.revoke is None:
            return {"key": self._site.keys.issue(order.user)}
        self._site.keys.revoke(order.revoke)
        return {}

    def _oauth_change(self, payload: dict[str, Any]) -> Change:
        return partial(self._apply_oauth, msgspec.convert(payload, _OAuthOrder))

    def _apply_oauth(self, order: _OAuthOrder) -> dict[str, str]:
        tokens = self._site.tokens
        if order.expire:
            tokens.expire()
        if order.renew:
            tokens.renew()
        code = {"code": tokens.code()} if order.code else {}
        return {**tokens.env(), **code}

    def _row_change(self, stream: str, payload: dict[str, Any]) -> Change:
        return partial(self._apply_rows, self._site.space.row_change(stream, payload))

    def _apply_rows(self, change: Change) -> Any:
        result = change()
        self._site.shapes.refresh()
        return result
