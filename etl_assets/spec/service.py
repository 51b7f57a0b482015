"""Somebody's API: where it is, how requests are authorised, what it permits, how it tells errors."""

import re
from abc import abstractmethod
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from etl_assets.spec.words import BUILT_IN, Duration, Model, Name, UrlPath, listed, placeholders

_RATE = re.compile(r"(\d+)/(\d+)s")


class Setting(Model):
    """An environment variable that the source needs."""

    help: str = Field(description="Where to get the value; shown when it is missing.")
    secret: bool = Field(False, description="Never shown or written anywhere.")
    optional: bool = Field(False, description="The source works without it, or another way to authorise does.")
    default: str | None = Field(None, description="Value when the variable is unset.")
    lifetime: Duration | None = Field(
        None,
        description="How long a value is good for; an alert comes before it ends, counted from its first use here.",
    )


class Rate(Model):
    """At most `count` requests in any `seconds`."""

    count: int = Field(gt=0)
    seconds: int = Field(gt=0)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        if isinstance(value, str):
            if not (match := _RATE.fullmatch(value)):
                raise ValueError(f"{value!r} is not a rate such as 5/1s or 100/60s")
            return {"count": int(match[1]), "seconds": int(match[2])}
        return value


class Limits(Model):
    """What the API permits one credential, held across all processes of a machine."""

    parallel: int = Field(1, ge=1, le=64, description="Requests in flight at once.")
    rates: dict[str, list[Rate]] = Field(
        default_factory=dict,
        description="Rates per bucket, each such as 5/1s; streams use the bucket `default` unless they name one.",
    )


class NoAuth(Model):
    """No credential."""

    type: Literal["none"] = "none"

    def settings(self) -> list[str]:
        """Names of the settings it needs."""
        return []


class BearerAuth(Model):
    """`Authorization: Bearer <token>`."""

    type: Literal["bearer"]
    token: str = Field(description="Name of the setting that holds the token.")

    def settings(self) -> list[str]:
        """Names of the settings it needs."""
        return [self.token]


class HeaderAuth(Model):
    """A header of your choice."""

    type: Literal["header"]
    name: str = Field(description="Header name.")
    value: str = Field(description='Header value with placeholders, such as "Token {EXAMPLE_KEY}".')

    def settings(self) -> list[str]:
        """Names of the settings it needs."""
        return sorted(set(placeholders(self.value)))


class QueryAuth(Model):
    """A query parameter."""

    type: Literal["query"]
    name: str = Field(description="Parameter name.")
    value: str = Field(description='Parameter value with placeholders, such as "{EXAMPLE_KEY}".')

    def settings(self) -> list[str]:
        """Names of the settings it needs."""
        return sorted(set(placeholders(self.value)))


class TokenAuth(Model):
    """A token that a request obtains, and that is good for a while.

    `{token}` is the token, `{token.x}` a value of `keep`.
    """

    type: Literal["token"]
    path: UrlPath = Field(description="Path of the POST that obtains it.")
    params: dict[str, Any] = Field(default_factory=dict, description="Query parameters of that request.")
    json_body: Any = Field(None, alias="json", description="Its JSON body.")
    form: dict[str, Any] | None = Field(None, description="Its form body.")
    token: str = Field(description="Path of the token in the answer.")
    expires_in: str | None = Field(None, description="Path of the seconds it is good for.")
    lifetime: Duration = Field(timedelta(hours=1), description="How long it is good for if the answer does not say.")
    renew_before: Duration = Field(timedelta(minutes=10), description="Obtain a new one this long before its end.")
    keep: dict[Name, str] = Field(
        default_factory=dict, description="Further values of the answer, kept with it: `name: path`."
    )
    initial: dict[Name, str] = Field(
        default_factory=dict, description="Values of `keep` for the first request, such as a first refresh token."
    )
    headers: dict[str, str] = Field(default_factory=dict, description="Headers of every request.")
    body: dict[str, Any] = Field(default_factory=dict, description="Fields added to every JSON body.")
    bucket: str = Field("token", description="Rate bucket of the request that obtains it.")

    def settings(self) -> list[str]:
        """Names of the settings it needs."""
        used = placeholders([self.params, self.json_body, self.form, self.initial, self.headers, self.body])
        return sorted({name for name in used if not name.startswith("token") and name not in BUILT_IN})


class JushuitanAuth(Model):
    """Jushuitan's signed form posts, with an access token that is refreshed."""

    type: Literal["jushuitan"]
    app_key: str = Field(description="Name of the setting with the app key.")
    app_secret: str = Field(description="Name of the setting with the app secret.")
    access_token: str = Field(description="Name of the setting with the first access token.")
    refresh_token: str = Field(description="Name of the setting with the first refresh token; it may be unset.")

    def settings(self) -> list[str]:
        """Names of the settings it needs."""
        return [self.app_key, self.app_secret, self.access_token]


Auth = Annotated[NoAuth | BearerAuth | HeaderAuth | QueryAuth | TokenAuth | JushuitanAuth, Field(discriminator="type")]


class Errors(Model):
    """Errors that arrive inside an answer with HTTP status 200."""

    code: str = Field(description="Path of the error code in the answer.")
    ok: list[str | int | bool] = Field(description="Codes that mean success, compared as text.")
    message: str | None = Field(None, description="Path of the human-readable message.")
    retry: list[str | int] = Field(default_factory=list, description="Codes worth a retry with backoff.")
    reauth: list[str | int] = Field(default_factory=list, description="Codes that mean the credential has expired.")


class Service(Model):
    """Somebody's API: where it is, how requests are authorised, what it permits, how it tells errors."""

    title: str = Field(description="The vendor's own name.")
    base_url: str = Field(
        description="Scheme and host; `<SOURCE>_BASE_URL` replaces it.", pattern=r"^https?://[^/?#@]+$"
    )
    settings: dict[str, Setting] = Field(default_factory=dict, description="Environment variables needed.")
    auth: Annotated[list[Auth], BeforeValidator(listed), Field(min_length=1)] = Field(
        default=[NoAuth()],
        description="How requests are authorised: one way, or several of which the first with all settings counts.",
    )
    limits: Limits = Field(default=Limits(parallel=1), description="What the API permits.")
    errors: Errors | None = Field(None, description="Errors inside HTTP 200 answers, of all requests.")

    @property
    @abstractmethod
    def name(self) -> str:
        """What its variables begin with, in lower case."""

    @property
    def base_url_variable(self) -> str:
        """Name of the environment variable that replaces `base_url`."""
        return f"{self.name.upper()}_BASE_URL"

    @model_validator(mode="after")
    def _settings_declared(self) -> "Service":
        for way in self.auth:
            for setting in way.settings() if isinstance(way, BearerAuth | HeaderAuth | QueryAuth) else ():
                if setting in self.settings and not self.settings[setting].secret:
                    raise ValueError(f"settings.{setting}: what authorises requests is `secret: true`")
        for number, way in enumerate(self.auth):
            names = [*way.settings(), *([way.refresh_token] if isinstance(way, JushuitanAuth) else [])]
            for setting in names:
                if setting not in self.settings:
                    raise ValueError(f"auth.{number}: {setting} is not declared under settings")
        return self
