"""Backlog's credentials, limits and errors."""

from collections.abc import Mapping
from typing import Any

import pytest
import requests

from etl_assets.sandbox.backlog.vendor import Backlog
from etl_assets.sandbox.handle import Sandbox
from etl_assets.sandbox.server import running
from etl_assets.sandbox.vendor import Clock
from etl_assets_tests.sandbox.backlog_api import CALLER, GUEST, SALES, Row, Space

pytest_plugins = ("etl_assets_tests.sandbox.backlog_fixtures",)

HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


def limits(response: requests.Response) -> tuple[int, int, int]:
    limit, remaining, reset = (int(response.headers[name]) for name in HEADERS)
    return limit, remaining, reset


def with_key(space: Space, key: str | None) -> Space:
    other = Space.__new__(Space)
    other.__dict__ = {**space.__dict__, "key": key}
    return other


def token(space: Space, oauth: Mapping[str, str], **changes: Any) -> requests.Response:
    form = {
        "grant_type": "refresh_token",
        "client_id": oauth["BACKLOG_OAUTH_CLIENT_ID"],
        "client_secret": oauth["BACKLOG_OAUTH_CLIENT_SECRET"],
        "refresh_token": oauth["BACKLOG_OAUTH_REFRESH_TOKEN"],
        **changes,
    }
    return with_key(space, None).send("POST", "oauth2/token", data=form)


def bearer(space: Space, access: str) -> int:
    return with_key(space, None).send("GET", "space", headers={"Authorization": f"Bearer {access}"}).status_code


def test_the_environment_follows_the_seed() -> None:
    envs = [Backlog(seed=seed, days=1, scale=1, clock=Clock()).env("http://x") for seed in (1, 1, 2)]
    assert envs[0] == envs[1] != envs[2]
    assert envs[0].keys() == {"BACKLOG_BASE_URL", "BACKLOG_API_KEY"}


def test_without_a_good_key_everything_is_refused(space: Space) -> None:
    for key in (None, "nonsense", ""):
        for path in ("space", "issues", "nothing"):
            assert with_key(space, key).refusal("GET", path) == (401, 11)
    assert with_key(space, None).refusal("GET", "space", headers={"apiKey": space.key or ""}) == (401, 11)
    assert with_key(space, None).refusal("GET", "space", headers={"Authorization": f"Bearer {space.key}"}) == (401, 11)
    assert space.status("space") == 200


def test_a_key_never_gets_into_the_log(space: Space, backlog: Sandbox) -> None:
    space.get("space")
    (row,) = backlog.log("space")
    assert row["query"] == [["apiKey", "***"]]
    assert space.key
    assert space.key not in str(backlog.log())


def test_a_user_can_have_several_keys_and_lose_one(space: Space, backlog: Sandbox) -> None:
    second = with_key(space, backlog.change("key")["key"])
    assert backlog.env()["BACKLOG_API_KEY"] == second.key != space.key
    assert space.get("users/myself") == second.get("users/myself")
    assert second.get("users/myself")["id"] == CALLER
    backlog.change("key", revoke=second.key, after={"path": "/space"})
    assert [second.status("space"), second.status("space"), space.status("space")] == [200, 401, 200]


def test_another_user_sees_other_projects_and_has_a_budget_of_their_own(space: Space, backlog: Sandbox) -> None:
    other = with_key(space, backlog.change("key", user=CALLER + 1)["key"])
    assert SALES in {row["id"] for row in other.get("projects")}
    assert {row["id"] for row in other.get("projects")} == {row["id"] for row in other.get("projects", all="true")}
    guest = with_key(space, backlog.change("key", user=GUEST)["key"])
    assert guest.status("issues/OLD-1") == 404
    assert {row["project_id"] for row in backlog.truth(user=str(GUEST))} == {101, 102, 103}
    remaining = [limits(caller.send("GET", "space"))[1] for caller in (other, space, guest)]
    assert remaining == [5996, 5999, 5998]


def test_a_refresh_token_gives_access_for_an_hour(space: Space, backlog: Sandbox) -> None:
    answer = token(space, backlog.change("oauth")).json()
    assert answer.keys() == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 3600)
    assert bearer(space, answer["access_token"]) == 200
    backlog.advance(3590)
    assert bearer(space, answer["access_token"]) == 200
    backlog.advance(10)
    refused = with_key(space, None).refusal(
        "GET", "space", headers={"Authorization": f"Bearer {answer['access_token']}"}
    )
    assert refused == (401, 11)


def test_a_used_refresh_token_is_refused_unless_they_do_not_rotate(space: Space, backlog: Sandbox) -> None:
    oauth = backlog.change("oauth")
    answer = token(space, oauth).json()
    assert answer["refresh_token"] == backlog.change("oauth")["BACKLOG_OAUTH_REFRESH_TOKEN"]
    refused = token(space, oauth)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert refused.json().keys() == {"error", "error_description"}
    backlog.change("settings", rotate=False)
    answers = [token(space, backlog.change("oauth")).json() for _ in range(2)]
    assert len({row["refresh_token"] for row in answers}) == 1
    assert len({row["access_token"] for row in answers}) == 2


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"refresh_token": "wrong"}, 400, "invalid_grant"),
        ({"grant_type": "client_credentials"}, 400, "unsupported_grant_type"),
        ({"grant_type": "authorization_code", "code": "wrong", "redirect_uri": "x"}, 400, "invalid_grant"),
    ],
)
def test_a_bad_grant_is_refused_in_oauths_own_words(
    space: Space, backlog: Sandbox, change: Row, status: int, error: str
) -> None:
    response = token(space, backlog.change("oauth"), **change)
    assert (response.status_code, response.json()["error"]) == (status, error)


def test_a_code_can_be_exchanged_once(space: Space, backlog: Sandbox) -> None:
    oauth = backlog.change("oauth", code=True)
    change = {"grant_type": "authorization_code", "code": oauth["code"], "redirect_uri": "https://example.com/"}
    answers = [token(space, oauth, **change) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 400]
    assert bearer(space, answers[0].json()["access_token"]) == 200


def test_tokens_can_be_ended_at_once_and_live_as_long_as_wanted(space: Space, backlog: Sandbox) -> None:
    backlog.change("settings", token_seconds=60)
    answer = token(space, backlog.change("oauth")).json()
    assert answer["expires_in"] == 60
    backlog.change("oauth", expire=True)
    assert bearer(space, answer["access_token"]) == 401
    old = backlog.change("oauth")
    backlog.change("oauth", renew=True)
    assert token(space, old).status_code == 400


def test_the_token_endpoint_reads_forms_only(space: Space, backlog: Sandbox) -> None:
    oauth = backlog.change("oauth")
    refused = with_key(space, None).refusal("POST", "oauth2/token", json={"grant_type": "refresh_token", **oauth})
    assert refused == (400, 7)


@pytest.mark.parametrize(
    ("path", "limit"), [("space", 6000), ("rateLimit", 6000), ("issues", 1500), ("users/1001/icon", 600)]
)
def test_every_answer_tells_the_limit_of_its_category(space: Space, path: str, limit: int) -> None:
    for used in (1, 2):
        assert limits(space.send("GET", path))[:2] == (limit, limit - used)
    assert limits(space.send("GET", path, {"count": "x"}))[:2] == (limit, limit - 3)
    assert limits(space.send("GET", "nothing"))[0] == 6000
    assert limits(with_key(space, None).send("GET", path))[:2] == (limit, limit)
    assert limits(space.send("POST", "issues"))[:2] == (1500, 1499)


def test_the_observed_numbers_are_one_action_away(space: Space, backlog: Sandbox) -> None:
    backlog.change("settings", limits="observed")
    shown = space.get("rateLimit")["rateLimit"]
    assert {name: row["limit"] for name, row in shown.items()} == {
        "read": 600, "update": 150, "search": 150, "icon": 60,
    }  # fmt: skip
    assert {name: row["remaining"] for name, row in shown.items()}["read"] == 599


def test_which_calls_are_searches_is_a_setting(space: Space, backlog: Sandbox) -> None:
    backlog.change("settings", search=["wikis"], limits={"read": 7, "search": 3})
    found = [limits(space.send("GET", path, {"projectIdOrKey": "DEMO"}))[0] for path in ("issues", "wikis")]
    assert found == [7, 3]


@pytest.fixture
def patient(space: Space, backlog: Sandbox) -> Space:
    backlog.change("settings", limits={"read": 2})
    return space


def test_beyond_the_limit_requests_are_refused_for_a_minute(patient: Space, backlog: Sandbox) -> None:
    first = patient.send("GET", "space")
    backlog.advance(30)
    assert limits(patient.send("GET", "space")) == (2, 0, limits(first)[2])
    refused = patient.send("GET", "space")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (429, 13)
    assert limits(refused) == (2, 0, limits(first)[2])
    assert "Retry-After" not in refused.headers
    assert patient.status("issues") == 200
    backlog.advance(29)
    assert patient.status("space") == 429
    backlog.advance(1)
    again = patient.send("GET", "space")
    assert again.status_code == 200
    assert limits(again)[1] == 1
    assert limits(again)[2] - limits(first)[2] in (60, 61)


def test_all_keys_of_a_user_share_the_budget(patient: Space, backlog: Sandbox) -> None:
    second = with_key(patient, backlog.change("key")["key"])
    assert [caller.status("space") for caller in (patient, second, patient, second)] == [200, 200, 429, 429]


def test_a_limit_can_be_lowered_at_any_time(space: Space, backlog: Sandbox) -> None:
    assert [space.status("space") for _ in range(3)] == [200] * 3
    backlog.change("settings", limits={"read": 3}, retry_after=True)
    refused = space.send("GET", "space")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 61


def test_unknown_paths_and_methods_are_errors_of_the_usual_shape(space: Space) -> None:
    assert space.refusal("GET", "nothing") == (404, 6)
    assert space.refusal("PUT", "issues") == (405, 7)


@pytest.mark.parametrize(
    ("action", "payload"),
    [
        ("settings", {"zone": "Tokyo"}),
        ("settings", {"limits": "none"}),
        ("settings", {"dates": "09Z"}),
        ("settings", {"boundz": "inclusive"}),
        ("key", {"user": 5}),
        ("key", {"revoke": "nonsense"}),
        ("oauth", {"expires": True}),
        ("issues", {"insert": [{"project_id": 101, "summary": "without a time"}]}),
        ("issues", {"insert": [{"project_id": 9, "summary": "x", "updated": "2026-01-05T00:00:00Z"}]}),
        ("issues", {"insert": [{"project_id": 101, "summary": "x", "updated": "2026-01-05T00:00:00"}]}),
        (
            "issues",
            {"insert": [{"project_id": 101, "summary": "x", "updated": "2026-01-05T00:00:00Z", "status_id": 9}]},
        ),
        ("issues", {"update": [{"id": 1, "summary": "of nothing"}]}),
        ("issues", {"update": [{"id": 200_001, "project_id": 102}]}),
        ("issues", {"delete": [1]}),
        ("issues", {"move": [{"id": 200_001, "project": "NONE"}]}),
        ("comments", {"insert": [{"issue_id": 200_001, "content": "x"}]}),
        ("comments", {"delete": [1]}),
        ("users", {"update": [{"id": 1001, "nmae": "x"}]}),
        ("versions", {"delete": [1]}),
    ],
)
def test_a_control_request_that_makes_no_sense_is_refused(backlog: Sandbox, action: str, payload: Row) -> None:
    with pytest.raises(ValueError, match=action):
        backlog.change(action, **payload)


def test_several_vendors_run_beside_each_other() -> None:
    with running(vendors=("tmetric", "backlog")) as both:
        assert both.vendor("backlog").truth(stream="priorities")
        assert {"BACKLOG_API_KEY", "TMETRIC_TOKEN"} <= both.env().keys()
