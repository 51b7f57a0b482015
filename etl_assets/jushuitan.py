"""Jushuitan's signed form posts (vendor sheet, sections 3 and 4).

The business parameters travel as one form field `biz`, whose exact text is signed. All fields but the
signature are sorted by name, joined without separators behind the app secret, and hashed.
"""

import hashlib
import time
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

from etl_assets import answers, redact
from etl_assets.errors import ApiError
from etl_assets.messages import Answer, Authoriser, Request
from etl_assets.spec import Errors, JushuitanAuth
from etl_assets.tokens import Token, TokenStore, with_token

REFRESH_PATH = "/openWeb/auth/refreshToken"
_FORM = {"Content-Type": "application/x-www-form-urlencoded;charset=UTF-8"}
_HINTS = {
    "150": "; this app may not refresh: authorise it again and set a new {access}",
    "100": "; the refresh token is over, too: authorise the app again, set a new {access} and {refresh}",
}
# Lifetimes of 1, 30 and 180 days are reported: a tenth of whatever the answer says, at most a day, is kept free.
_MARGIN_SHARE, _LONGEST_MARGIN_SECONDS = 0.1, 86_400.0


def sign(secret: str, fields: Mapping[str, str]) -> str:
    """The signature of form fields: 32 lower-case hex digits."""
    text = secret + "".join(f"{name}{fields[name]}" for name in sorted(fields) if fields[name])
    return hashlib.md5(text.encode()).hexdigest()  # noqa: S324 - the vendor's algorithm


def authoriser(auth: JushuitanAuth, values: Mapping[str, str], folder: Path) -> Authoriser:
    """Sign every request, and keep the access token alive.

    The tokens of the settings are where it starts; what a refresh brings is kept and goes on from there.
    """
    key, secret = values[auth.app_key], values[auth.app_secret]
    refresh = values.get(auth.refresh_token, "")
    store = TokenStore(folder, {name: values.get(name, "") for name in (*auth.settings(), auth.refresh_token)})
    with store.lock():  # between looking and keeping, another process could keep what a refresh brought
        if store.kept() is None:
            store.keep(Token(values[auth.access_token], float("inf"), {"refresh_token": refresh} if refresh else {}))

    def signed(fields: dict[str, str]) -> bytes:
        fields = {"app_key": key, "charset": "utf-8", "timestamp": str(int(time.time())), **fields}
        return urlencode({**fields, "sign": sign(secret, fields)}).encode()

    def apply(request: Request, token: Token) -> Request:
        biz = (request.body or b"{}").decode()
        body = signed({"access_token": token.value, "version": "2", "biz": biz})
        return replace(request, headers={**request.headers, **_FORM}, body=body)

    def obtain(before: Token | None, errors: Errors | None) -> Generator[Request, Answer, Token]:
        known = before.values.get("refresh_token") if before else refresh
        if not known:
            raise ApiError(
                f"the access token is over; set {auth.refresh_token}, or a new {auth.access_token}", status=0
            )
        fields = {"grant_type": "refresh_token", "refresh_token": known, "scope": "all"}
        label = f"POST {REFRESH_PATH}"
        answer = yield Request("POST", REFRESH_PATH, label, headers=_FORM, body=signed(fields), errors=errors)
        return _token(answer, label, known, auth)

    return with_token(store, obtain, apply)


def _token(answer: Answer, label: str, refresh: str, auth: JushuitanAuth) -> Token:
    code = str(answers.value_at(answer.body, "code"))
    value = answers.value_at(answer.body, "data.access_token")
    if code != "0" or not isinstance(value, str):
        hint = _HINTS.get(code, "").format(access=auth.access_token, refresh=auth.refresh_token)
        message = redact.scrub(str(answers.value_at(answer.body, "msg") or ""))
        raise ApiError(f"{label}: error code {code}: {message}{hint}", status=answer.status, code=code)
    lifetime = float(answers.value_at(answer.body, "data.expires_in") or 7200)
    margin = min(lifetime * _MARGIN_SHARE, _LONGEST_MARGIN_SECONDS)
    renewed = answers.value_at(answer.body, "data.refresh_token") or refresh
    return Token(value, time.time() + lifetime - margin, {"refresh_token": str(renewed)})
