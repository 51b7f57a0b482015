"""Receivers of chat messages: Slack, DingTalk, WeCom and Feishu group robots, and a plain JSON endpoint.

Each judges a message as the chat's documents say it would be, and answers as the chat does. `truth` gives the messages
that were taken. Alerts are not part of the data, so `etl-assets sandbox` does not run this one.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec

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
from etl_assets.sandbox.world import secret

_TEXT = ((b"content-type", b"text/html"),)
_LONGEST = {"slack": 3_000, "dingtalk": 20_000, "wecom": 4_096, "feishu": 20_000}
_SIGNED_FOR_SECONDS = 3_600

Message = dict[str, Any]


class Webhook(Vendor):
    """A group in each chat, with a robot in it."""

    name: ClassVar[str] = "webhook"
    secrets: ClassVar[frozenset[str]] = frozenset({"access_token", "key", "sign"})

    def __init__(self, *, seed: int, days: int, scale: float, clock: Clock) -> None:
        super().__init__(seed=seed, days=days, scale=scale, clock=clock)
        self._token = secret(seed, "webhook token")
        self._signing = secret(seed, "webhook signature")
        self._taken: list[Message] = []

    def env(self, base_url: str) -> dict[str, str]:
        """Point at Slack and at the plain endpoint."""
        return {"SLACK_WEBHOOK_URL": self._url(base_url, "slack"), "ALERT_WEBHOOK_URL": self._url(base_url, "json")}

    def routes(self) -> Mapping[str, Handler]:
        """One address per chat, shaped like the real one."""
        return {
            "POST /services/T0/B0/{token}": self._slack,
            "POST /robot/send": self._dingtalk,
            "POST /cgi-bin/webhook/send": self._wecom,
            "POST /open-apis/bot/v2/hook/{token}": self._feishu,
            "POST /alerts/{token}": self._json,
        }

    def actions(self) -> Mapping[str, Action]:
        """`address` gives the address of a chat and its signing secret, `forget` the messages so far."""
        return {"address": self._address, "forget": lambda _: self._forget}

    def truth(self, query: Mapping[str, str]) -> list[Message]:
        """The messages taken, oldest first, of one chat with `chat`."""
        return [message for message in self._taken if query.get("chat", message["chat"]) == message["chat"]]

    def _address(self, payload: dict[str, Any]) -> Change:
        chat, base_url = payload["chat"], payload["base_url"]
        return lambda: {"url": self._url(base_url, chat), "secret": self._signing}

    def _forget(self) -> dict[str, Any]:
        self._taken.clear()
        return {}

    def _url(self, base_url: str, chat: str) -> str:
        paths = {
            "slack": f"/services/T0/B0/{self._token}",
            "dingtalk": f"/robot/send?access_token={self._token}",
            "wecom": f"/cgi-bin/webhook/send?key={self._token}",
            "feishu": f"/open-apis/bot/v2/hook/{self._token}",
            "json": f"/alerts/{self._token}",
        }
        return base_url + paths[chat]

    def _slack(self, request: Request, token: str) -> Answer:
        if token != self._token:
            return Answer(b"invalid_token", 403, _TEXT)
        message = self._decoded(request, lambda: Answer(b"invalid_payload", 400, _TEXT))
        blocks = message.get("blocks", [])
        if not message.get("text"):
            return Answer(b"no_text", 400, _TEXT)
        for block in blocks:
            limit = 150 if block["type"] == "header" else _LONGEST["slack"]
            texts = [block["text"]] if "text" in block else block["elements"]
            if any(not text["text"] or len(text["text"]) > limit for text in texts):
                return Answer(b"invalid_blocks", 400, _TEXT)
        self._take("slack", message["text"], request)
        return Answer(b"ok", 200, _TEXT)

    def _dingtalk(self, request: Request) -> Answer:
        def refused(code: int, text: str) -> Answer:
            return json_answer({"errcode": code, "errmsg": text})

        if request.first("access_token") != self._token:
            return refused(300001, "token is not exist")
        moment = request.first("timestamp") or "0"
        expected = _hmac(self._signing, f"{moment}\n{self._signing}")
        if abs(time.time() - int(moment) / 1000) > _SIGNED_FOR_SECONDS or request.first("sign") != expected:
            return refused(310000, "sign not match")
        message = self._decoded(request, lambda: refused(40035, "invalid json"))
        body = message.get("markdown", {})
        if message.get("msgtype") != "markdown" or not body.get("title") or not body.get("text"):
            return refused(40035, "missing parameter")
        if len(request.body) > _LONGEST["dingtalk"]:
            return refused(460101, "message too long")
        self._take("dingtalk", body["title"], request)
        return json_answer({"errcode": 0, "errmsg": "ok"})

    def _wecom(self, request: Request) -> Answer:
        if request.first("key") != self._token:
            return json_answer({"errcode": 93000, "errmsg": "invalid webhook url"})
        message = self._decoded(request, lambda: json_answer({"errcode": 40008, "errmsg": "invalid message type"}))
        content = message.get("markdown", {}).get("content", "")
        if message.get("msgtype") != "markdown" or not content:
            return json_answer({"errcode": 40008, "errmsg": "invalid message type"})
        if len(content.encode()) > _LONGEST["wecom"]:
            return json_answer({"errcode": 40058, "errmsg": "markdown.content exceed max length 4096"})
        self._take("wecom", content.splitlines()[0].removeprefix("#### "), request)
        return json_answer({"errcode": 0, "errmsg": "ok"})

    def _feishu(self, request: Request, token: str) -> Answer:
        def refused(code: int, text: str) -> Answer:
            return json_answer({"code": code, "data": {}, "msg": text})

        if token != self._token:
            return refused(19001, "param invalid: incoming webhook access token invalid")
        message = self._decoded(request, lambda: refused(9499, "Bad Request"))
        moment = str(message.get("timestamp", "0"))
        late = abs(time.time() - int(moment)) > _SIGNED_FOR_SECONDS
        if late or message.get("sign") != _hmac(f"{moment}\n{self._signing}", ""):
            return refused(19021, "sign match fail or timestamp is not within one hour from current time")
        card = message.get("card", {})
        title = card.get("header", {}).get("title", {}).get("content")
        if message.get("msg_type") != "interactive" or not title or not card.get("elements"):
            return refused(9499, "Bad Request")
        if len(request.body) > _LONGEST["feishu"]:
            return refused(9499, "Bad Request: too long")
        self._take("feishu", title, request)
        return json_answer({"StatusCode": 0, "StatusMessage": "success", "code": 0, "data": {}, "msg": "success"})

    def _json(self, request: Request, token: str) -> Answer:
        if token != self._token:
            return json_answer({"error": "unknown address"}, 404)
        message = self._decoded(request, lambda: json_answer({"error": "no JSON"}, 400))
        self._take("json", message["cause"], request)
        return Answer(b"", 204)

    def _decoded(self, request: Request, refusal: Callable[[], Answer]) -> Message:
        try:
            return msgspec.json.decode(request.body, type=Message)
        except msgspec.DecodeError:
            raise RefusedError(refusal()) from None

    def _take(self, chat: str, title: str, request: Request) -> None:
        """`title` is what tells causes apart in the chat; `body` the whole message as it was sent."""
        self._taken.append({"chat": chat, "title": title, "body": request.body.decode(), "at": time.time()})


def _hmac(key: str, text: str) -> str:
    return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()).decode()
