"""How requests are authorised, and that nothing else about them changes."""

from dataclasses import replace
from pathlib import Path

import pytest

from etl_assets import redact
from etl_assets.auth import authoriser
from etl_assets.messages import Request
from etl_assets.spec import Auth, BearerAuth, HeaderAuth, NoAuth, QueryAuth
from etl_assets_tests.http import answer, client, serving

REQUEST = Request(
    "POST",
    "/things",
    "POST /things",
    params=(("a", "1"), ("a", "2")),
    headers={"Content-Type": "application/json"},
    body=b"{}",
    bucket="search",
    repeatable=False,
)
VALUES = {"KEY": "key-auth-0001&x=1", "USER": "rin"}
NO_STORE = Path("/nonexistent")  # these ways keep no token


@pytest.mark.parametrize(
    ("auth", "sent"),
    [
        (NoAuth(), REQUEST),
        (
            BearerAuth(type="bearer", token="KEY"),
            replace(REQUEST, headers={**REQUEST.headers, "Authorization": "Bearer key-auth-0001&x=1"}),
        ),
        (
            HeaderAuth(type="header", name="X-Key", value="Token {KEY} of {USER}"),
            replace(REQUEST, headers={**REQUEST.headers, "X-Key": "Token key-auth-0001&x=1 of rin"}),
        ),
        (
            QueryAuth(type="query", name="apiKey", value="{KEY}"),
            replace(REQUEST, params=(*REQUEST.params, ("apiKey", "key-auth-0001&x=1"))),
        ),
    ],
    ids=["none", "bearer", "header", "query"],
)
def test_a_request_gets_its_credential_and_keeps_the_rest(auth: Auth, sent: Request) -> None:
    assert list(authoriser([auth], VALUES, NO_STORE)(REQUEST)) == [sent]


@pytest.mark.parametrize(
    ("auth", "where"),
    [
        (BearerAuth(type="bearer", token="KEY"), ("authorization", "Bearer key-auth-0001&x=1")),
        (HeaderAuth(type="header", name="X-Key", value="{KEY}"), ("x-key", "key-auth-0001&x=1")),
        (QueryAuth(type="query", name="apiKey", value="{KEY}"), ("apiKey", "key-auth-0001&x=1")),
    ],
    ids=["bearer", "header", "query"],
)
def test_the_credential_arrives_at_the_api(tmp_path: Path, auth: Auth, where: tuple[str, str]) -> None:
    with serving([answer()]) as server:
        client(server.url, tmp_path, authoriser=authoriser([auth], VALUES, NO_STORE)).send(REQUEST)
    (seen,) = server.seen
    assert where in [*seen.headers.items(), *seen.params]
    assert seen.params[:2] == [("a", "1"), ("a", "2")]
    assert seen.body == b"{}"


@pytest.mark.parametrize(
    ("auth", "sent"),
    [
        (HeaderAuth(type="header", name="Authorization", value="Basic {USER}.{KEY}"), "Basic rin.key-auth-0001&x=1"),
        (QueryAuth(type="query", name="sign", value="{USER}.{KEY}"), "rin.key-auth-0001&x=1"),
    ],
    ids=["header", "query"],
)
def test_a_credential_put_together_from_settings_is_a_secret_as_a_whole(auth: Auth, sent: str) -> None:
    authoriser([auth], VALUES, NO_STORE)
    assert redact.scrub(f"refused: {sent}") == "refused: ***"


def test_the_label_of_an_authorised_request_holds_no_credential() -> None:
    for auth in (BearerAuth(type="bearer", token="KEY"), QueryAuth(type="query", name="k", value="{KEY}")):
        (sent,) = authoriser([auth], VALUES, NO_STORE)(REQUEST)
        assert sent.label == "POST /things"
