"""The authorisers that stream files name."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from etl_assets import jushuitan, redact, tokens
from etl_assets.messages import Authoriser, Flow, Request
from etl_assets.spec import Auth, BearerAuth, HeaderAuth, JushuitanAuth, QueryAuth, TokenAuth
from etl_assets.template import filled


def authoriser(ways: Sequence[Auth], values: Mapping[str, str], store: Path) -> Authoriser:
    """The first declared way whose settings all have a value. Tokens that are obtained are kept in `store`."""
    auth = next(way for way in ways if all(name in values for name in way.settings()))
    match auth:
        case BearerAuth(token=token):
            return _with_header("Authorization", f"Bearer {values[token]}", secret=True)
        case HeaderAuth(name=name, value=value):
            return _with_header(name, str(filled(value, values)), secret=bool(auth.settings()))
        case QueryAuth(name=name, value=value):
            return _with_param(name, str(filled(value, values)), secret=bool(auth.settings()))
        case TokenAuth():
            return tokens.authoriser(auth, values, store)
        case JushuitanAuth():
            return jushuitan.authoriser(auth, values, store)
    return _plain


def _plain(request: Request) -> Flow:
    yield request


def _with_header(name: str, value: str, *, secret: bool) -> Authoriser:
    if secret:
        redact.register(value)

    def flow(request: Request) -> Flow:
        yield replace(request, headers={**request.headers, name: value})

    return flow


def _with_param(name: str, value: str, *, secret: bool) -> Authoriser:
    if secret:
        redact.register(value)

    def flow(request: Request) -> Flow:
        yield replace(request, params=(*request.params, (name, value)))

    return flow
