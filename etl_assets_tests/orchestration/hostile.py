"""A vendor that throws the credential back in every way it can think of, and the stream file that asks it.

Three sources, since a credential travels in a header, in a header of another name, or in the address. The name
of a stream is the last step of its path, and says what its answer is.
"""

import json
import urllib.parse
from collections.abc import Callable

from etl_assets_tests.http import Play, Seen, answer, chunked, reset
from etl_assets_tests.orchestration.leaks import spellings

SOURCE = """
source: {name}
title: Hostile
base_url: {url}
timezone: Asia/Tokyo
auth: {auth}
settings: {{{name_upper}_TOKEN: {{secret: true, help: Ask the vendor.}}}}
limits: {{parallel: 2}}
check: refused_401
defaults: {{key: [id], columns: {{id: integer, text: string, more: json}}, quarantine: {{rows: 100}}}}
streams:
"""
AUTH = {
    "bearer": "{type: bearer, token: BEARER_TOKEN}",
    "header": '{type: header, name: X-Key, value: "Key {HEADER_TOKEN}"}',
    "query": '{type: query, name: apiKey, value: "{QUERY_TOKEN}"}',
}
INSIDE = "errors: {code: code, ok: [0], message: message}"
# Streams by name, with their keys beside path, key and columns.
SUCCEEDING = {
    "rows": "",
    "some_rows_do_not_fit": "",
    "field_name": "",
    "redirect_here": "",
    "in_params": "params: {key: '{TOKEN}', both: 'a{TOKEN}b'}",
    "in_json": "method: POST, json: {key: '{TOKEN}'}",
    "in_form": "method: POST, form: {key: '{TOKEN}'}",
}
REFUSED = {
    **dict.fromkeys(("refused_400", "refused_401", "refused_403", "refused_404", "no_row_fits", "no_list"), ""),
    **dict.fromkeys(("redirect_away", "redirect_nowhere", "redirect_loop"), ""),
    "error_inside": INSIDE,
    "error_code_inside": "errors: {code: message, ok: [0]}",
    "same_cursor": "paging: {type: cursor, next: next}, rows: rows, params: {after: '{cursor}'}",
}
# Asked for again and again before it is given up.
PASSING = dict.fromkeys(
    ("down_500", "down_429", "html", "not_json", "reset", "cut", "bad_chunk", "bad_status", "bad_header"), ""
)
STREAMS = {**SUCCEEDING, **REFUSED, **PASSING}


def stream_text(name: str, url: str) -> str:
    """The stream file of one of the sources."""
    token = f"{{{name.upper()}_TOKEN}}"
    head = SOURCE.format(name=name, name_upper=name.upper(), url=url, auth=AUTH[name])
    lines = [
        f"  - {{name: {stream}, path: /{stream}{', ' + keys.replace('{TOKEN}', token) if keys else ''}}}"
        for stream, keys in STREAMS.items()
    ]
    return head + "\n".join(lines) + "\n"


def hostile(token: str) -> Callable[[Seen], Play]:
    """The script of the server, for one token."""

    def play(seen: Seen) -> Play:
        return _answer(seen.path.rsplit("/", 1)[-1], seen, token)

    return play


def _answer(name: str, seen: Seen, token: str) -> Play:
    quoted = urllib.parse.quote(token, safe="")
    echo = json.dumps({"code": 7, "message": f"no access with {token}", "asked": seen.target}).encode()
    headers = {"WWW-Authenticate": f'Bearer error="{quoted}"', "X-Echo": token, "Set-Cookie": f"token={quoted}"}
    rows = [f'{{"id": {n}, "text": {text}}}' for n, text in enumerate(spellings(token).values(), 1)]
    kind, _, status = name.rpartition("_")
    if kind in ("refused", "down"):
        return answer(echo, int(status), {**headers, "Retry-After": "0"})
    match name:
        case "html":
            return answer(f"<html><title>Sign in</title>{token} {seen.headers}</html>".encode(), 200, headers)
        case "not_json":
            return answer(f"{token}".encode())
        case "reset":
            return reset
        case "cut":
            return answer(echo)[:-4]
        case "bad_chunk":
            return chunked(echo, end=f"{token}\r\n".encode())
        case "bad_status":
            return f"HTTP/1.1 {token}\r\n\r\n".encode()
        case "bad_header":
            return f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{token}\r\nX-Echo: {token}\r\n\r\n<>".encode()
        case "redirect_away":
            return answer(b"", 302, {"Location": f"https://elsewhere.example/{quoted}?token={quoted}"})
        case "redirect_here" if "token" not in dict(seen.params):
            return answer(b"", 302, {"Location": f"/redirect_here?token={quoted}"})
        case "redirect_nowhere":
            return answer(b"", 302, {"Location": f"http://[{quoted}"})
        case "redirect_loop":
            return answer(b"", 302, {"Location": f"/redirect_loop?token={quoted}"})
        case "no_list":
            return answer(json.dumps({"rows": token}).encode())
        case "no_row_fits":
            return answer(f"[{','.join(row.replace('id', 'text', 1) for row in rows)}]".encode())
        case "some_rows_do_not_fit":
            wrong = json.dumps([{"id": token, "text": token}, {"text": token, token: token}])[1:-1]
            return answer(f"[{','.join(rows)}, {wrong}]".encode())
        case "field_name":
            inner = ", ".join(f"{text}: {text}" for text in spellings(token).values())
            return answer(f'[{{"id": 1, "more": {{{inner}}}, {inner}}}]'.encode())
        case "error_inside" | "error_code_inside":
            return answer(echo)
        case "same_cursor":
            return answer(json.dumps({"rows": [{"id": 1}], "next": token}).encode())
    return answer(f"[{','.join(rows)}]".encode())
