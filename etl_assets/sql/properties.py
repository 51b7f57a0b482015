"""Connection properties: `ApiKey=…;Url=https://yourspace.backlog.com;`, keywords and the environment as one.

Names count without case, spaces and underscores. What is no property of the connection is a setting of a source:
`ApiKey` for BACKLOG_API_KEY, `Url` for BACKLOG_BASE_URL; with several sources `Backlog.ApiKey` or the variable's name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from etl_assets.errors import EtlError
from etl_assets.settings import Environment, Settings
from etl_assets.spec import Source
from etl_assets.sql.engine import Options
from etl_assets.sql.errors import InterfaceError
from etl_assets.sql.statement import Limits
from etl_assets.streamfiles import load_sources

PROPERTIES: Mapping[str, str] = {
    "Source": "Source whose tables need no prefix, such as backlog.",
    "Offline": "true: read the loaded warehouse instead of the APIs.",
    "TimeZone": "IANA zone of times without one, in literals and in what is shown. By default that of the source.",
    "MaxRequests": "Most requests of one statement.",
    "MaxRows": "Most rows that one statement reads from the APIs.",
    "MaxFanOut": "Most requests that a statement may need from the start; 500 by default.",
    "CacheSeconds": "Keep pages this long for later statements; 0 by default.",
    "Dialect": "SQL dialect of the statements, such as tsql or mysql; DuckDB's by default.",
    "Parallel": "Requests in flight at once, as <SOURCE>_PARALLEL.",
    "Hints": "false: take no join keys and orders from the text.",
}
_URLS = ("url", "baseurl")


@dataclass(frozen=True)
class Properties:
    """What a connection is made of."""

    sources: Mapping[str, Source]
    settings: Settings
    env: Environment
    options: Options


def read(text: str, given: Mapping[str, object], env: Environment, source: str | None = None) -> Properties:
    """The properties of a connection string and keywords, over an environment. `source` is the module's.

    Raises InterfaceError naming a property, a setting or a stream file that is wrong.
    """
    pairs = [*_pairs(text), *((name, _text(value)) for name, value in given.items() if value is not None)]
    named = {_plain(name): value for name, value in pairs}
    known = {_plain(name): name for name in PROPERTIES}
    own = {known[name]: named.pop(name) for name in list(named) if name in known}
    try:
        sources = load_sources(Settings.read(env).sources_dir)
        home = _home(own.get("Source") or source, named, sources)
        env = {**env, **dict(_variables(named, pairs, sources, home))}
        if "Parallel" in own:
            env |= {f"{name.upper()}_PARALLEL": own["Parallel"] for name in sources}
        settings = Settings.read(env)
    except EtlError as error:
        raise InterfaceError(str(error)) from None
    return Properties(sources, settings, env, _options(own, home, sources))


def _options(own: Mapping[str, str], home: str | None, sources: Mapping[str, Source]) -> Options:
    zones = {sources[home].timezone} if home else {source.timezone for source in sources.values()}
    zone = own.get("TimeZone") or (zones.pop() if len(zones) == 1 else "UTC")
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InterfaceError(f"TimeZone: {zone!r} is not an IANA time zone such as Asia/Tokyo") from None
    return Options(
        home=home,
        zone=zone,
        offline=_flag(own, "Offline", False),
        dialect=own.get("Dialect", "").lower() or None,
        limits=Limits(
            requests=_number(own, "MaxRequests"),
            rows=_number(own, "MaxRows"),
            fan_out=_number(own, "MaxFanOut") or Limits().fan_out,
        ),
        cache_seconds=float(_number(own, "CacheSeconds") or 0),
        hints=_flag(own, "Hints", True),
    )


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """`Name=value;Name="a;b";`"""
    at = 0
    while at < len(text):
        name, equals, _ = text[at:].partition("=")
        if not name.strip(" ;\n\t"):
            if equals:
                raise InterfaceError("the connection string is Name=value;Name=value; and a name is missing")
            return
        if not equals:
            raise InterfaceError("the connection string is Name=value;Name=value; and a value is missing")
        at += len(name) + 1
        quote = text[at : at + 1]
        if quote in ('"', "'") and (end := text.find(quote, at + 1)) > 0:
            value, at = text[at + 1 : end], end + 1
        else:
            value = text[at:].partition(";")[0]
            at += len(value)
        at += text[at : at + 1] == ";"
        yield name.strip(" ;\n\t"), value.strip()


def _home(named: str | None, given: Mapping[str, str], sources: Mapping[str, Source]) -> str | None:
    if named is None:
        return _implied(given, sources)
    home = named.strip().lower()
    if home not in sources:
        raise InterfaceError(f"Source: there is no source {named!r}; declared: {', '.join(sources)}")
    return home


def _implied(given: Mapping[str, str], sources: Mapping[str, Source]) -> str | None:
    """The source that alone has all the settings given by their short names; by its host if several have."""
    names = [name for name in given if name not in _URLS and not any(_is_prefixed(name, source) for source in sources)]
    if not names and not any(name in given for name in _URLS):
        return None
    fitting = [name for name, source in sources.items() if all(one in _short_names(source) for one in names)]
    url = next((given[name] for name in _URLS if name in given), None)
    if len(fitting) > 1 and url:
        host = urlsplit(url).hostname or ""
        domain = {name: (urlsplit(sources[name].base_url).hostname or "").split(".")[-2:-1] for name in fitting}
        fitting = [name for name in fitting if host == name or set(domain[name]) & set(host.split("."))] or fitting
    return fitting[0] if len(fitting) == 1 else None


def _variables(
    named: Mapping[str, str], pairs: list[tuple[str, str]], sources: Mapping[str, Source], home: str | None
) -> Iterator[tuple[str, str]]:
    """Variables of the environment out of the properties of sources."""
    written = {_plain(name): name for name, _ in pairs}
    for name, value in named.items():
        found = [variable for source in sources.values() if (variable := _variable(name, source, prefixed=True))]
        if not found and home:
            found = [variable for variable in [_variable(name, sources[home], prefixed=False)] if variable]
        if not found:
            raise InterfaceError(_unknown(written[name], sources, home))
        yield found[0], value


def _variable(name: str, source: Source, *, prefixed: bool) -> str | None:
    names = _short_names(source)
    if not prefixed:
        return names.get(name)
    return names.get(name.removeprefix(_plain(source.source))) if _is_prefixed(name, source.source) else None


def _is_prefixed(name: str, source: str) -> bool:
    return name.startswith(_plain(source)) and name != _plain(source)


def _short_names(source: Source) -> dict[str, str]:
    """`apikey` -> `BACKLOG_API_KEY`"""
    prefix = f"{source.source.upper()}_"
    names = {_plain(variable.removeprefix(prefix)): variable for variable in source.settings}
    names |= dict.fromkeys(_URLS, source.base_url_variable)
    return names


def _unknown(name: str, sources: Mapping[str, Source], home: str | None) -> str:
    short = {one: one for source in sources.values() for one in _short_names(source)} if home is None else {}
    short |= _short_names(sources[home]) if home else {}
    alike = get_close_matches(_plain(name), [*short, *map(_plain, PROPERTIES)], 3)
    which = f" of {home}" if home else "; say Source=<name>, or <source>.<property>"
    return f"unknown property {name!r}{which}{': did you mean ' + ', '.join(alike) + '?' if alike else ''}"


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flag(own: Mapping[str, str], name: str, default: bool) -> bool:
    text = own.get(name, str(default)).lower()
    if text not in ("true", "false", "1", "0", "yes", "no"):
        raise InterfaceError(f"{name}: {own[name]!r} is neither true nor false")
    return text in ("true", "1", "yes")


def _number(own: Mapping[str, str], name: str) -> int | None:
    if name not in own:
        return None
    if not own[name].isdecimal():
        raise InterfaceError(f"{name}: {own[name]!r} is not a whole number")
    return int(own[name])
