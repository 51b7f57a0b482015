"""What all handlers of Backlog's API share: the rows, the settings, and who is calling."""

from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from etl_assets.sandbox.backlog.access import Budgets, Keys, Tokens
from etl_assets.sandbox.backlog.activities import Activities
from etl_assets.sandbox.backlog.data import Tracker
from etl_assets.sandbox.backlog.docs import Docs
from etl_assets.sandbox.backlog.edits import Edits
from etl_assets.sandbox.backlog.params import Params, missing
from etl_assets.sandbox.backlog.shapes import Dates, Row, Shapes, Users
from etl_assets.sandbox.backlog.space import ZONE, Project
from etl_assets.sandbox.vendor import Clock, Request

NOBODY = 0


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Requests per user and minute, ten times as many as the vendor allows."""

    read: int = 6_000
    update: int = 1_500
    search: int = 1_500
    icon: int = 600


_LIMITS = {"generous": Limits(), "observed": Limits(read=600, update=150, search=150, icon=60)}


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What differs between spaces, or is not known of the real service.

    - `limits`: requests per minute by category. By default, and where not given, they are "generous" (6,000
      reads, 1,500 updates, 1,500 searches, 600 icons) so that demos and tests stay fast; "observed" is what
      users saw of the real service: 600, 150, 150, 60;
    - `search`: which paths below /api/v2 are counted as searches, for the vendor does not say;
    - `retry_after`: 429 comes with Retry-After;
    - `zone`: in which zone `updatedSince` and the like are days;
    - `dates`: the hour of dates without time: 00Z, or 15Z of the day before;
    - `bounds`: whether minId and maxId leave themselves out;
    - `users`: how users look inside other rows, "short" without userId and nulabAccount;
    - `comments_update`: a comment counts as an update of its issue;
    - `rotate`: a refresh token is good for one use; `token_seconds`: the life of access tokens.
    """

    limits: Limits | Literal["generous", "observed"] = "generous"
    search: frozenset[str] = frozenset({"issues", "issues/count"})
    retry_after: bool = False
    zone: str = ZONE
    dates: Dates = "00Z"
    bounds: Literal["exclusive", "inclusive"] = "exclusive"
    users: Users = "full"
    comments_update: bool = True
    rotate: bool = True
    token_seconds: int = 3600

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.zone)
        except (KeyError, ValueError) as error:
            raise ValueError(f"no zone {self.zone}") from error

    def limit(self, category: str) -> int:
        """How many requests of a category a user has per minute."""
        limits = self.limits if isinstance(self.limits, Limits) else _LIMITS[self.limits]
        return int(getattr(limits, category))


class Site:
    """The space behind the API."""

    def __init__(self, *, seed: int, days: int, scale: float, clock: Clock) -> None:
        self.clock = clock
        self.settings = Settings()
        self.tracker = Tracker(seed=seed, days=days, scale=scale)
        self.space = self.tracker.space
        self.docs = Docs(seed=seed, begin=self.tracker.base.starts[0], end=self.tracker.base.end)
        self.activities = Activities(self.tracker, self.docs)
        self.edits = Edits(self.tracker, self.activities)
        self.shapes = Shapes(self.tracker)
        self.keys = Keys(seed)
        self.tokens = Tokens(seed, clock)
        self.budgets = Budgets(clock)

    def apply(self, settings: Settings) -> None:
        """Switch to other settings."""
        self.settings = settings
        self.edits.comments_update = settings.comments_update
        self.tokens.rotate, self.tokens.seconds = settings.rotate, settings.token_seconds
        self.shapes.dates, self.shapes.users = settings.dates, settings.users
        self.shapes.refresh()

    def caller(self, request: Request) -> int:
        """The user who sends the request, by key or else by token; nobody if neither is good."""
        key = request.first("apiKey")
        user_id = self.tokens.user(request.header(b"authorization")) if key is None else self.keys.user(key)
        return user_id if user_id in self.space.users else NOBODY

    def joined(self, request: Request) -> frozenset[int]:
        """The projects that the caller sees."""
        return self.space.joined(self.caller(request))

    def project(self, request: Request, id_or_key: str | None) -> Project:
        """A project that the caller sees."""
        project = self.space.project(id_or_key or "")
        if project is None or project.id not in self.joined(request):
            raise missing("project")
        return project

    def now(self) -> int:
        """The moment of a write."""
        return int(self.clock.now())

    def by_id(self, rows: list[Row], params: Params) -> list[Row]:
        """The page of `rows`, oldest first, that minId, maxId, count and order ask for."""
        after, before = self.bounds(params)
        inside = [
            row for row in rows if (after is None or row["id"] > after) and (before is None or row["id"] < before)
        ]
        return (inside if params.order() == "asc" else inside[::-1])[: params.count()]

    def bounds(self, params: Params) -> tuple[int | None, int | None]:
        """Between which ids, both excluded, rows are asked for."""
        slack = 1 if self.settings.bounds == "inclusive" else 0
        after, before = params.number("minId"), params.number("maxId")
        return None if after is None else after - slack, None if before is None else before + slack
