"""Preview: the request that a stream would send, in words, without sending it and without a secret.

What the declaration says is shown as it is; of what the authorisation adds only the names.
"""

import contextlib
import json
from collections.abc import Iterator
from urllib.parse import parse_qsl, unquote, urlencode

import msgspec

from etl_assets import auth, redact
from etl_assets.client import HEADERS
from etl_assets.extract import Api, preview
from etl_assets.messages import Request
from etl_assets.settings import Settings
from etl_assets.spec import Stream
from etl_assets.window import Window


def described(api: Api, settings: Settings, stream: Stream, day: Window | None) -> Iterator[str]:
    """One text per first request of each slice of the window."""
    for request in preview(api, stream, day):
        authorised = _authorised(api, settings, request)
        yield redact.scrub("\n".join(_lines(api, stream, request, authorised)))


def _authorised(api: Api, settings: Settings, request: Request) -> Request:
    """The first request that the authorisation would send: this one, or that for a token."""
    source, values = api.source, api.connection.values
    flow = auth.authoriser(source.auth, values, settings.data_dir / "tokens")(request)
    with contextlib.closing(flow):  # gives back the lock that it may hold
        return next(flow)


def _lines(api: Api, stream: Stream, request: Request, authorised: Request) -> Iterator[str]:
    if authorised.path != request.path:
        yield f"first   {authorised.method} {authorised.path}, which obtains a token"
        authorised = request
    params = [*request.params, *((name, "…") for name, _ in authorised.params if name not in dict(request.params))]
    query = "?" + "&".join(f"{name}={value}" for name, value in params) if params else ""
    yield f"{request.method:7} {api.connection.base_url}{unquote(request.path)}{query}"
    if stream.each:
        yield f"once    per row of {stream.each.stream}"
    yield f"headers {', '.join(sorted({*HEADERS, *request.headers, *authorised.headers}))}"
    if request.body:
        yield f"body    {_shown(request)}"
    if authorised.body and (added := sorted(set(_names(authorised)) - set(_names(request)))):
        form = "form" if _is_form(authorised) else "JSON"
        yield f"        sent as {form}; the authorisation adds {', '.join(added)}"


def _shown(request: Request) -> str:
    body = request.body or b""
    if _is_form(request):
        return urlencode(parse_qsl(body.decode()), safe="{}")
    return json.dumps(msgspec.json.decode(body), ensure_ascii=False)


def _names(request: Request) -> list[str]:
    """The fields at the top of the body."""
    if not request.body:
        return []
    if _is_form(request):
        return [name for name, _ in parse_qsl(request.body.decode(), keep_blank_values=True)]
    tree = msgspec.json.decode(request.body)
    return list(tree) if isinstance(tree, dict) else []


def _is_form(request: Request) -> bool:
    return "form" in request.headers.get("Content-Type", "")
