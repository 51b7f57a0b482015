"""Qeasy scheme metadata into a stream file, with a warning for everything that a stream file does not carry.

What belongs here: the vocabulary of that platform, and what becomes of each word of it. What a vendor's
requests need beside it is taken from the vendor's packaged stream file. docs/qeasy.md is for users.
"""

import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from etl_assets.errors import FinalError
from etl_assets.scaffold import Declaration, check_text, column_name, packaged_tree, short, system_columns, yaml_text
from etl_assets.spec import PLACEHOLDER, snake
from etl_assets.sqltext import identifier, json_path, literal

Tree = Any
Parts = dict[str, Any]

_VENDORS = {"/open/": "jushuitan", "/cgi/": "fxiaoke"}
_TAKEN_OVER = ("base_url", "timezone", "start", "reload_days", "settings", "auth", "errors", "limits")
_ZONE = "Asia/Shanghai"  # in which the platform writes times
_NO_VENDOR: Parts = {
    "title": "Qeasy",
    "base_url": "https://api.example",
    "timezone": _ZONE,
    "start": date(2024, 1, 1),
    "reload_days": 7,
    "auth": {"type": "none"},
    "defaults": {},
    "streams": [],
}
_SYNONYMS = {  # of the newer user interface
    "requestParams": "request",
    "otherRequestParams": "otherRequest",
    "responseParams": "response",
    "otherResponseParams": "otherResponse",
}
CARRIED = frozenset(
    {
        *("api", "type", "effect", "method", "id", "number", "name", "idCheck", "pagination"),
        *("request", "otherRequest", "response", "otherResponse", "autoFillResponse", "formatResponse"),
        *("condition", "beatFlat", "operation", "omissionRemedy"),
    }
)
INSTEAD = {
    "groupCalculate": "group in SQL over the table",
    "diffMode": "the job {source}_reconcile compares days of the table with the API",
    "dependencies": "assets run after those that they read",
    "validationRules": "column types and `required` send rows that do not fit to quarantine",
    "cleanRules": "clean in SQL over the table",
    "retryPolicy": "requests and steps are repeated by themselves",
    "errorHandling": "`quarantine` says how many rows may not fit",
    "crontab": "the schedules of the source are in the UI",
}
_EMPTY_TARGETS = {"写入空操作", "空操作"}
_TARGETS = _EMPTY_TARGETS | {"execute", "batchexecute", "executeReturn"}

_NODE_VALUES = {"value", "default", "parser", "children"}
_NODE_TEXTS = ("label", "name", "describe")
_NODE = {"field", "type", "parent", "is_required", *_NODE_VALUES, *_NODE_TEXTS}
_TYPES = {
    **dict.fromkeys(("string", "text", "varchar", "char", "longtext", "time"), "string"),
    **dict.fromkeys(("int", "integer", "long", "bigint", "smallint", "tinyint"), "integer"),
    **dict.fromkeys(("float", "double", "number", "real"), "number"),
    **dict.fromkeys(("decimal", "numeric", "money", "currency"), "decimal(18,4)"),
    **dict.fromkeys(("bool", "boolean"), "boolean"),
    **dict.fromkeys(("object", "array", "list", "map", "json"), "json"),
    **dict.fromkeys(("datetime", "timestamp"), "timestamp"),
    "date": "date",
}
_LISTS = ("array", "list")
_MOMENTS = ("timestamp", "date")
_FORMATS = {
    "date": ("date", ""),
    "shortDate": ("date", ""),
    "dateTime": ("timestamp", ""),
    "time": ("string", "kept as the API writes it"),
    "dateDescription": ("string", "kept as the API writes it"),
    "longText": ("string", "not cut; use left() in SQL"),
    "intval": ("integer", "a value with decimals goes to quarantine instead of being cut"),
    "round": ("number", "not rounded; use round() in SQL"),
    "amount": ("decimal(18,4)", "not rounded; use round() in SQL"),
    "implode": ("json", "kept as a list; use array_to_string() in SQL"),
}
_AUTOMATIC = "_autoFillResponse"
_FIELD = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)

_TIMES = r"LAST_SYNC_TIME|CURRENT_TIME|DAYS_AGO_\d+"
_PAGES = {"PAGINATION_START_PAGE": "page", "PAGINATION_PAGE_SIZE": "size", "PAGINATION_START_ROW": "offset"}
_WORDS = f"{_TIMES}|{'|'.join(_PAGES)}"
_HOLE = re.compile(
    rf"(?:\{{\{{\s*(?P<word>{_WORDS})\s*(?:\|\s*(?P<pipe>\w+)\s*)?\}}\}}"
    rf"|\{{(?P<old_word>{_WORDS})(?:\|(?P<old_pipe>\w+))?\}})(?P<thousand>000(?!\d))?"
)
_TIME = rf"\{{\{{?\s*({_TIMES})\s*\}}?\}}\s*([-+]\s*\d+)?\s*"
_FROM_UNIXTIME = re.compile(rf"_function\s+FROM_UNIXTIME\(\s*{_TIME}(?:,\s*['\"]([^'\"]*)['\"]\s*)?\)\s*", re.I)
_ARITHMETIC = re.compile(rf"_function\s+\(?\s*{_TIME}\)?\s*(\*\s*1000)?\s*")
_DATETIME = "%Y-%m-%d %H:%M:%S"
_PIPES = {"": "epoch_s", "datetime": _DATETIME, "date": "date", "timestamp_ms": "epoch_ms"}
_MYSQL = {"%i": "%M", "%s": "%S", "%T": "%H:%M:%S", "%h": "%I", **{f"%{same}": f"%{same}" for same in "YymdHSp"}}

_UPPER_EDGES = {"end", "to", "until", "before", "max", "lte", "lt"}
_EDGES = sorted({"begin", "start", "from", "since", "after", "min", "gte", "gt", *_UPPER_EDGES})
_BEFORE = re.compile(rf"^(?:{'|'.join(_EDGES)})(?:[_-]|(?=[A-Z]))")
_AFTER = re.compile(rf"[_-](?:{'|'.join(_EDGES)})$|(?<=[a-z0-9])(?:{'|'.join(edge.title() for edge in _EDGES)})$")
_NO_COLUMN = {"", "time", "date", "at", *_EDGES}
_USUAL_COLUMNS = ("modified", "updated_at", "update_time", "modified_time", "last_modified_time")  # snake_case
_CREDENTIAL = re.compile(
    r"(.*_)?(secret|password|passwd|sign|signature|authorization|(app|api|access|secret)_?key|permanent_code)"
    r"|((corp_)?access_|refresh_|auth_|bearer_)?token"
)
_CORPORATE = ("appId", "corpId", "corpAccessToken")
_WITHOUT_VALUES = ("IS", "ISN", "EXISTS", "NEXISTS")
_LOGIC = {"eq": "=", "gt": ">", "egt": ">=", "lt": "<", "elt": "<="}
_NUMBERS = ("integer", "number", "decimal")
_LARGEST_PAGE = 1_000_000  # where no vendor says less
_USUAL_PAGE = 100
_COMMENT_WIDTH = 118
_LEFT_OUT = object()


@dataclass(frozen=True)
class Imported:
    """A stream file, and what its reader has to know."""

    text: str
    warnings: tuple[str, ...]


def convert(text: str, *, name: str | None, origin: str) -> Imported:
    """The stream file of the metadata in `text`, which came from `origin`.

    Raises FinalError when there is nothing to ask an API for, or no valid stream file comes of it.
    """
    notes = _Notes()
    schemes = list(_schemes(_parsed(text, notes), "", notes))
    if not schemes:
        found = "".join(f"\n  {line}" for line in notes.all())
        raise FinalError(f"{origin}: no usable request: a source with the path of an HTTP API is needed{found}")
    if len({scheme.vendor or scheme.host for scheme in schemes}) > 1:
        paths = ", ".join(scheme.path for scheme in schemes)
        raise FinalError(f"{origin}: a stream file is of one vendor; import these apart: {paths}")
    vendor, host = schemes[0].vendor, schemes[0].host
    tree = packaged_tree(vendor) if vendor else _NO_VENDOR
    source = name or f"qeasy_{vendor}".strip("_")
    head = {key: tree[key] for key in _TAKEN_OVER if key in tree}
    _tell_of_source(source, vendor, host, notes)
    streams: list[Parts] = []
    for scheme in schemes:
        days = _add_streams(scheme, tree, source, streams, notes)
        head["reload_days"] = max(head["reload_days"], days)
    if host and not vendor:
        head["base_url"] = host
    if whole := [stream["name"] for stream in streams if "window" not in stream and "of" not in stream]:
        head["check"] = whole[0]
    title = f"{tree['title']} (Qeasy)" if vendor else tree["title"]
    warnings = notes.all()
    body = yaml_text({"source": source, "title": title, **head, "streams": streams})
    result = f"{_comments(origin, warnings)}{body}"
    check_text(result)
    return Imported(result, warnings)


class _Notes:
    """Warnings in the order of the metadata, each with the path of the key that it is about."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}
        self._texts: dict[str, list[str]] = {}

    def add(self, path: str, text: str) -> None:
        self._lines[_one_line(f"{path}: {text}" if path else text)] = None

    def text_for_people(self, key: str, path: str) -> None:
        """A label or the like, of which a request may have hundreds: those of one kind are told together."""
        self._texts.setdefault(key, []).append(f"{path}.{key}")

    def all(self) -> tuple[str, ...]:
        told = [
            f"{', '.join(paths)}: describes the parameter; a request has no place for it"
            for paths in self._texts.values()
        ]
        return (*self._lines, *map(_one_line, told))


def _one_line(text: str) -> str:
    """Text that is safe in a terminal and in a YAML comment."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def _comments(origin: str, warnings: Sequence[str]) -> str:
    lines = textwrap.wrap(f"Made by `etl-assets import-qeasy` from {_one_line(origin)}. What it warned of:")
    for warning in warnings:
        lines += textwrap.wrap(
            warning,
            _COMMENT_WIDTH,
            initial_indent="- ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "".join(f"# {line}\n" for line in lines)


# What was given


@dataclass(frozen=True)
class _Scheme:
    """The source side of one scheme; `at` is where it stands, ready to be put before a key."""

    at: str
    given: Mapping[str, Any]
    host: str
    path: str
    query: Parts

    @property
    def vendor(self) -> str:
        return next((name for prefix, name in _VENDORS.items() if self.path.startswith(prefix)), "")

    @property
    def is_wrapped(self) -> bool:
        """Whether requests of the CRM, and answers of both vendors, have everything below `data`."""
        return self.path.startswith(("/open/", "/cgi/crm/"))


@dataclass(frozen=True)
class _Node:
    """One parameter or field."""

    name: str
    path: str
    given: Mapping[str, Any]
    children: list["_Node"]

    def has(self, key: str) -> bool:
        """Whether a key says anything."""
        return self.given.get(key) not in (None, "", False, [], {})


def _parsed(text: str, notes: _Notes) -> Tree:
    def unique(pairs: list[tuple[str, Any]]) -> Parts:
        names = [name for name, _ in pairs]
        for name in dict.fromkeys(names):
            if names.count(name) > 1:
                notes.add(name, "the key is given twice in one object; the last one counts")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise FinalError(f"the file is not JSON: {error}") from None


def _schemes(tree: Tree, at: str, notes: _Notes) -> Iterator[_Scheme]:
    """The usable source sides in what was given, in order."""
    before = f"{at}." if at else ""
    if isinstance(tree, list):
        for number, item in enumerate(tree):
            yield from _schemes(item, f"{at}[{number}]", notes)
    elif not isinstance(tree, dict):
        notes.add(at, "is no metadata object")
    elif "api" not in tree and {"source", "target"} & tree.keys():
        for key in tree:
            if key not in ("source", "target"):
                notes.add(f"{before}{key}", "not carried over")
        if "target" in tree:
            _tell_of_target(tree["target"], f"{before}target", notes)
        if "source" in tree:
            yield from _schemes(tree["source"], f"{before}source", notes)
    elif _is_target(tree):
        _tell_of_target(tree, at, notes)
    elif scheme := _scheme(tree, before, notes):
        yield scheme


def _is_target(given: Mapping[str, Any]) -> bool:
    return (
        str(given.get("api")) in _TARGETS
        or str(given.get("effect")).upper() == "EXECUTE"
        or str(given.get("type")).upper() == "WRITE"
    )


def _tell_of_target(target: Tree, at: str, notes: _Notes) -> None:
    before = f"{at}." if at else ""
    keys = ", ".join(f"{before}{key}" for key in target) if isinstance(target, dict) and target else at
    api = str(target.get("api") if isinstance(target, dict) else target)
    if api in _EMPTY_TARGETS:
        notes.add(keys, f"land-only ({api}): the rows end in the table, and nothing more is asked for")
    else:
        notes.add(keys, f"writing to {api!r} is not imported: the rows end in the table; take them on from there")


def _scheme(given: Mapping[str, Any], at: str, notes: _Notes) -> _Scheme | None:
    renamed = {_SYNONYMS.get(key, key): value for key, value in given.items()}
    for key, name in _SYNONYMS.items():
        if key in given and name in given:
            notes.add(f"{at}{key}", f"means the same as {name}; only the one that comes last counts")
    try:
        parts = urlsplit(str(renamed.get("api") or ""))
    except ValueError:
        parts = urlsplit("")
    path = parts.path if parts.path.startswith("/") else f"/{parts.path}"
    if "/" not in parts.path or "{" in path or not re.fullmatch(r"/[!-~]+", path):
        notes.add(f"{at}api", f"{renamed.get('api')!r} is not the path of an HTTP API; nothing can be asked there")
        return None
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    secret = [name for name in query if _CREDENTIAL.fullmatch(snake(name))]
    if "@" in parts.netloc or secret:
        notes.add(f"{at}api", "holds what looks like a credential; not copied: it belongs to `settings` and `auth`")
    host = f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1]}" if parts.netloc else ""
    return _Scheme(at, renamed, host, path, _without(query, *secret))


def _nodes(given: Tree, path: str, notes: _Notes) -> list[_Node]:
    """Parameters or fields, given as a list of nodes or as an object of values."""
    if given in (None, "", [], {}):
        return []
    if isinstance(given, dict):
        return [_named(name, value, f"{path}.{name}", notes) for name, value in given.items()]
    if not isinstance(given, list):
        notes.add(path, "is neither a list of nodes nor an object; not carried over")
        return []
    nodes = []
    for number, item in enumerate(given):
        if isinstance(item, dict) and isinstance(item.get("field"), str) and item["field"]:
            nodes.append(_node(item["field"], item, f"{path}.{item['field']}", notes))
        else:
            notes.add(f"{path}[{number}]", "has no field; not carried over")
    return _linked(nodes, path, notes)


def _named(name: str, value: Tree, path: str, notes: _Notes) -> _Node:
    """A member of an object: a node without its `field`, an object of further members, or a plain value."""
    if not isinstance(value, dict):
        return _Node(name, path, {"value": value}, [])
    if value.keys() <= _NODE and (_NODE_VALUES & value.keys() or str(value.get("type")) in _TYPES):
        return _node(name, value, path, notes)
    return _Node(name, path, {"type": "object"}, _nodes(value, path, notes))


def _node(name: str, given: Mapping[str, Any], path: str, notes: _Notes) -> _Node:
    for key in given:
        if key not in _NODE:
            notes.add(f"{path}.{key}", "not carried over")
    return _Node(name, path, given, _nodes(given.get("children"), path, notes))


def _linked(nodes: list[_Node], path: str, notes: _Notes) -> list[_Node]:
    """The nodes that have no `parent`, with those that do among their children."""
    top: list[_Node] = []
    for node in nodes:
        wanted = str(node.given.get("parent") or "")
        parent = None
        if wanted and wanted != path.rsplit(".", 1)[-1]:
            below = list(map(id, _all([node])))
            called = (one for one in _all(nodes) if one.name == wanted.rsplit(".", 1)[-1])
            parent = next((one for one in called if id(one) not in below), None)
            if parent is None:
                notes.add(f"{node.path}.parent", f"there is no {wanted!r}; taken as a parameter of its own")
        (parent.children if parent else top).append(node)
    return [_placed(node, path) for node in top]


def _placed(node: _Node, above: str) -> _Node:
    """The node with the paths that follow from its place."""
    path = f"{above}.{node.name}"
    return _Node(node.name, path, node.given, [_placed(child, path) for child in node.children])


def _all(nodes: Sequence[_Node]) -> Iterator[_Node]:
    for node in nodes:
        yield node
        yield from _all(node.children)


# Values and placeholders of a request


@dataclass(frozen=True)
class _Use:
    """A placeholder of the day's window in a request: which end, how it is written, and of which field."""

    end: Literal["since", "until"]
    form: str
    column: str
    path: str


@dataclass(frozen=True)
class _Place:
    """Where a value stands: the name of its parameter, the field it is about, whether it ends a range.

    Of a `pair`, the second value ends the range.
    """

    name: str = ""
    column: str = ""
    upper: bool = False
    pair: bool = False


class _Filling:
    """Turns the nodes of a request into a tree with the placeholders of stream files, and knows which."""

    def __init__(self, notes: _Notes, *, starts: bool) -> None:
        """`starts` says whether the request has a placeholder for the beginning of its time range."""
        self.uses: list[_Use] = []
        self.pages: set[str] = set()
        self.days = 0
        self.overlap = 0
        self._notes = notes
        self._starts = starts
        self._types: dict[str, str] = {}

    def tree(self, nodes: Sequence[_Node]) -> Parts:
        """The values of the nodes by name, without those that have none."""
        if not nodes:
            return {}
        path = nodes[0].path.removesuffix(f".{nodes[0].name}")
        return self._filled_object(self._members(nodes), path, _Place())

    def _members(self, nodes: Sequence[_Node]) -> Parts:
        members: Parts = {}
        for node in nodes:
            if (value := self._plain(node)) is not _LEFT_OUT:
                if node.name in members:
                    self._notes.add(node.path, "is given twice; the last one counts")
                members[node.name] = value
        return members

    def _plain(self, node: _Node) -> Tree:
        """The node's value in its type, placeholders untouched."""
        for key in ("label", "name", "describe", "is_required"):
            if node.has(key):
                self._notes.text_for_people(key, node.path)
        if node.children:
            return self._of_children(node)
        value = next((found for found in map(node.given.get, ("value", "default")) if found not in (None, "")), None)
        if value is None:
            self._notes.add(node.path, "has no value; not sent")
            return _LEFT_OUT
        if _CREDENTIAL.fullmatch(snake(node.name)):
            self._notes.add(node.path, "looks like a credential; not copied: it belongs to `settings` and `auth`")
            return _LEFT_OUT
        kind = str(node.given.get("type") or "")
        if kind and kind not in _TYPES:
            self._notes.add(f"{node.path}.type", f"{kind!r} is not known; sent as it is written")
        self._types[node.path] = kind
        return self._typed(self._split(value, node), kind, node.path)

    def _of_children(self, node: _Node) -> Tree:
        for key in ("value", "default", "parser"):
            if node.has(key):
                self._notes.add(f"{node.path}.{key}", "not carried over beside children")
        if node.has("type") and _TYPES.get(str(node.given["type"])) != "json":
            self._notes.add(f"{node.path}.type", f"{node.given['type']!r} has no members; sent as an object")
        values = self._members(node.children)
        if not values:
            return _LEFT_OUT
        if node.given.get("type") in _LISTS:  # children that have children are its elements, others those of one
            return list(values.values()) if all(child.children for child in node.children) else [values]
        return values

    def _split(self, value: Tree, node: _Node) -> Tree:
        """The value as its parser gives it."""
        if not node.has("parser"):
            return value
        parser, path = node.given["parser"], f"{node.path}.parser"
        parser = parser if isinstance(parser, dict) else {"name": parser}
        for key in parser:
            if key not in ("name", "params"):
                self._notes.add(f"{path}.{key}", "not carried over")
        params = parser.get("params")
        separator = params if isinstance(params, str) and params else ","
        match parser.get("name"):
            case "StringToArray" if isinstance(value, str) and not value.startswith("_function"):
                return value.split(separator)
            case "StringToArray":  # commas inside an expression separate nothing
                return value if isinstance(value, list) else [value]
            case "ArrayToString":
                return separator.join(map(str, value)) if isinstance(value, list) else value
        self._notes.add(path, f"{parser.get('name')!r} is not known; the value is sent as it is written")
        return value

    def _typed(self, value: Tree, kind: str, path: str) -> Tree:
        """The value in the type that the node declares; what does not fit stays as it is written."""
        declared = _TYPES.get(kind)
        if isinstance(value, list | dict):
            return value
        try:
            match declared:
                case "json":
                    read = json.loads(value) if isinstance(value, str) else value
                    return read if isinstance(read, list | dict) or kind not in _LISTS else [value]
                case _ if _is_dynamic(value):
                    return value
                case "integer":
                    return int(str(value))
                case "number":
                    return float(str(value))
                case "boolean":
                    return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]
                case "string":
                    return str(value).lower() if isinstance(value, bool) else str(value)
        except (ValueError, KeyError):
            if kind in _LISTS:
                return [value]
            if not _is_dynamic(value):
                self._notes.add(path, f"{value!r} is not of type {kind}; sent as it is written")
        return value

    def _filled(self, value: Tree, path: str, place: _Place) -> Tree:
        match value:
            case dict():
                return self._filled_object(value, path, place)
            case list():
                return self._filled_list(value, path, place)
            case str() if _is_dynamic(value):
                return self._text(value, path, place)
        return value

    def _filled_object(self, value: Parts, path: str, place: _Place) -> Parts:
        column, operator = str(value.get("field_name") or ""), str(value.get("operator") or "")
        column = column if _FIELD.fullmatch(column) else ""
        filled = {}
        for name, inner in value.items():
            upper = place.upper or operator in ("LT", "LTE") or not _UPPER_EDGES.isdisjoint(snake(name).split("_"))
            below = _Place(name, column or place.column, upper=upper, pair=operator == "BETWEEN")
            filled[name] = self._filled(inner, f"{path}.{name}", below)
        return {name: inner for name, inner in filled.items() if inner is not _LEFT_OUT}

    def _filled_list(self, value: list[Any], path: str, place: _Place) -> Tree:
        items = []
        for number, item in enumerate(value):
            upper = place.upper or (place.pair and number == 1)
            items.append(self._filled(item, path, _Place(place.name, place.column, upper=upper)))
        kept = [item for item in items if item is not _LEFT_OUT]
        return kept if kept or not items else _LEFT_OUT

    def _text(self, text: str, path: str, place: _Place) -> Tree:
        filled = self._function(text, path, place) if text.startswith("_function") else self._holes(text, path, place)
        if filled is None:
            self._notes.add(path, f"{text!r} cannot be carried over; left out, so the API may answer more rows")
            return _LEFT_OUT
        return filled

    def _function(self, text: str, path: str, place: _Place) -> str | None:
        if match := _FROM_UNIXTIME.fullmatch(text):
            form = _strftime(match[3]) if match[3] is not None else _DATETIME
        elif match := _ARITHMETIC.fullmatch(text):
            form = "epoch_ms" if match[3] else "epoch_s"
        else:
            return None
        if not form:
            return None
        end = self._end(match[1], place)
        self._widen(end, int((match[2] or "0").replace(" ", "")), path)
        return self._time(end, form, path, place, whole=True)

    def _holes(self, text: str, path: str, place: _Place) -> str | None:
        """The text with every placeholder replaced; None if one of them means nothing here."""
        holes = [(hole["word"] or hole["old_word"], hole["pipe"] or hole["old_pipe"]) for hole in _HOLE.finditer(text)]
        rest = _HOLE.sub("", text)
        if "{{" in rest or "${" in rest or PLACEHOLDER.search(rest) or text.startswith(("_findColl", "_mongoQuery")):
            return None
        if any((pipe or "") not in _PIPES or (pipe and word in _PAGES) for word, pipe in holes):
            return None
        if {"page", "offset"} <= self.pages | {_PAGES[word] for word, _ in holes if word in _PAGES}:
            return None

        def replaced(hole: re.Match[str]) -> str:
            word, pipe = hole["word"] or hole["old_word"], hole["pipe"] or hole["old_pipe"]
            zeros = hole["thousand"] or ""
            if word in _PAGES:
                self.pages.add(_PAGES[word])
                return f"{{{_PAGES[word]}}}{zeros}"
            end, alone = self._end(word, place), not rest and len(holes) == 1
            if pipe:
                return self._time(end, _PIPES[pipe], path, place, whole=alone and not zeros) + zeros
            return self._time(end, "epoch_ms" if zeros else "epoch_s", path, place, whole=alone)

        return _HOLE.sub(replaced, text)

    def _end(self, word: str, place: _Place) -> Literal["since", "until"]:
        """Which end of a day stands for a moment of the platform."""
        if word.startswith("DAYS_AGO_"):
            self.days = max(self.days, int(word.removeprefix("DAYS_AGO_")))
            return "until" if place.upper else "since"
        return "until" if word == "CURRENT_TIME" and (place.upper or self._starts) else "since"

    def _time(self, end: Literal["since", "until"], form: str, path: str, place: _Place, *, whole: bool) -> str:
        """The placeholder for an end of the day; `whole` if it is all of the value."""
        number = _TYPES.get(self._types.get(path, "")) in ("integer", "number")
        if form == "epoch_ms" and not number:
            form = "epoch_ms_text"
        if form == "epoch_s":
            sent = ", and sent as a number" if whole and not number else ""
            self._notes.add(path, f"a time without a form is taken as seconds{sent}")
        self.uses.append(_Use(end, form, place.column or _without_edge(place.name), path))
        return f"{{{end}}}"

    def _widen(self, end: str, seconds: int, path: str) -> None:
        if (end == "since") == (seconds < 0):
            self.overlap = max(self.overlap, abs(seconds))
        elif seconds:
            self._notes.add(
                path, f"{seconds:+} s are not carried over: a day is read from its first second to its last"
            )


def _is_dynamic(value: Tree) -> bool:
    """Whether a text may have to be computed."""
    return isinstance(value, str) and ("{" in value or value.startswith("_"))


def _strftime(mysql: str) -> str:
    """MySQL's date format in strftime's spelling; empty if there is none."""
    words = re.findall(r"%.?|[^%]+", mysql)
    if "%" not in mysql or any(word.startswith("%") and word not in _MYSQL for word in words):
        return ""
    return "".join(_MYSQL.get(word, word) for word in words)


def _without_edge(name: str) -> str:
    """The field that a parameter such as `modified_begin` or `startModified` is about; empty if none is named."""
    cut = _AFTER.sub("", name)
    if cut == name and (cut := _BEFORE.sub("", name)) != name:
        cut = cut[:1].lower() + cut[1:]
    return "" if cut in _NO_COLUMN else cut


# Requests by vendor


@dataclass(frozen=True)
class _Ask:
    """Everything that a request is made of. `known` is the packaged stream of the same list, or its defaults."""

    source: str
    scheme: _Scheme
    tree: Mapping[str, Any]
    known: Mapping[str, Any]
    body: Parts
    other: Parts
    rows_key: str
    filling: _Filling
    notes: _Notes

    @property
    def at(self) -> str:
        return self.scheme.at

    @property
    def twin(self) -> str:
        """The packaged stream that reads the same list; empty without one."""
        return f"{self.tree['source']}/{self.known['name']}" if "name" in self.known else ""

    def size(self, usual: int, most: int) -> int:
        """Rows per page: as the metadata say, as far as the API permits."""
        pagination = self.scheme.given.get("pagination")
        given = pagination.get("pageSize") if isinstance(pagination, dict) else None
        if given is None:
            return usual
        path = f"{self.at}pagination.pageSize"
        if not str(given).isdecimal() or int(str(given)) < 1:
            self.notes.add(path, f"{given!r} is no number of rows; {usual} is used")
            return usual
        if int(str(given)) > most:
            self.notes.add(path, f"{given} is more than the API gives at once; {most} is used")
        return min(int(str(given)), most)

    def rows(self, usual: str, *, certain: bool = False) -> str:
        """Where the rows stand in an answer; `usual` where the metadata do not say, or where it is `certain`."""
        if self.twin or certain:
            used = str(self.known["rows"])
            if self.rows_key and self.rows_key.split(".")[-1] != used.split(".")[-1]:
                self.notes.add(f"{self.at}otherResponse", f"{self.rows_key!r} is not taken: rows stand at {used}")
            return used
        if self.rows_key:
            inside = self.scheme.is_wrapped and "." not in self.rows_key
            return f"data.{self.rows_key}" if inside else self.rows_key
        self.notes.add(
            f"{self.at}otherResponse",
            f"does not name the list of rows; {usual!r} is taken. Check it: an answer without it counts as empty",
        )
        return usual


def _jushuitan(ask: _Ask) -> Parts:
    """A signed form post: all parameters are business parameters."""
    at, known = ask.at, ask.known
    _tell_of_method(ask)
    _tell_of_other(ask)
    for name, hole in (("page_index", "{page}"), ("page_size", "{size}")):
        if ask.body.get(name, hole) != hole:
            ask.notes.add(
                f"{at}request.{name}", f"{ask.body[name]!r} is replaced by {hole}, so that all pages are read"
            )
    _purge(ask.body, {"offset"}, f"{at}request", ask.notes)
    by_page = known["paging"]["type"] == "page"
    if not by_page:
        ask.notes.add(
            f"{at}request",
            "read by page number, where rows that change meanwhile can move between pages; "
            f"{ask.twin} of the packaged file reads the same list by row version, which misses none",
        )
    _close_ranges(ask)
    most = known["paging"].get("size") or ask.tree["defaults"]["paging"]["size"]
    return {
        "method": "POST",
        "path": ask.scheme.path,
        **({"params": ask.scheme.query} if ask.scheme.query else {}),
        "json": {"page_index": "{page}", "page_size": "{size}", **_without(ask.body, "page_index", "page_size")},
        "rows": ask.rows("data.datas"),
        "paging": {**(known if by_page else ask.tree["defaults"])["paging"], "size": ask.size(most, most)},
    }


def _close_ranges(ask: _Ask) -> None:
    """Add the other end to a range that has only its beginning."""
    uses = ask.filling.uses
    for use in [use for use in uses if use.end == "since" and use.path.endswith("_begin")]:
        other = f"{use.path.rsplit('.', 1)[-1].removesuffix('_begin')}_end"
        if other not in ask.body:
            ask.body[other] = "{until}"
            uses.append(_Use("until", use.form, use.column, f"{ask.at}request.{other}"))
            ask.notes.add(use.path, f"the API wants both ends; {other} is added")


def _fxiaoke(ask: _Ask) -> Parts:
    """A JSON body: the request in `data`, other parameters beside it, the credentials added by the authorisation."""
    scheme, defaults = ask.scheme, ask.tree["defaults"]
    _tell_of_method(ask)
    for part, values in (("request", ask.body), ("otherRequest", ask.other)):
        if user := values.pop("currentOpenUserId", None):
            ask.notes.add(f"{ask.at}{part}.currentOpenUserId", f"is a setting: FXIAOKE_OPEN_USER_ID={user}")
        for name in _CORPORATE:
            if values.pop(name, None):
                ask.notes.add(f"{ask.at}{part}.{name}", "comes from the authorisation")
    asked = {"method": "POST", "path": scheme.path, "params": {**defaults["params"], **scheme.query}}
    if scheme.path.endswith(("/data/query", "/data/findSimple")):
        paging = defaults["paging"]
        data = {"find_explicit_total_num": False, **ask.body, "search_query_info": _search(ask)}
        _purge(data, {"offset", "page"}, f"{ask.at}request", ask.notes)
        _purge(ask.other, {"offset", "page"}, f"{ask.at}otherRequest", ask.notes)
        paging = {**paging, "size": ask.size(paging["size"], paging["size"])}
        rows = ask.rows(defaults["rows"], certain=True)
        return {**asked, "json": {**ask.other, "data": data}, "rows": rows, "paging": paging}
    # The address book takes its parameters beside the credentials.
    body = {"data": ask.body} if scheme.is_wrapped else ask.body
    return {**asked, "json": {**ask.other, **body}, "rows": ask.rows(defaults["rows"]), **_paging(ask)}


def _search(ask: _Ask) -> Parts:
    """`search_query_info`: conditions as a list, both ends of the day, and rows in the order of `_id`."""
    at, notes, uses = f"{ask.at}request.search_query_info", ask.notes, ask.filling.uses
    given = ask.body.get("search_query_info")
    info = given if isinstance(given, dict) else {}
    filters = [_filter(one, f"{at}.filters.{name}", notes) for name, one in _labelled(info.get("filters"))]
    filters = [condition for condition in filters if condition]
    starts = [use for use in uses if use.end == "since"]
    if starts and not any(use.end == "until" for use in uses):
        filters.append({"field_name": starts[0].column, "operator": "LTE", "field_values": ["{until}"]})
        uses.append(_Use("until", starts[0].form, starts[0].column, at))
        notes.add(starts[0].path, "a day has an end, too: a filter for it is added")
    filters.append({"field_name": "_id", "operator": "GT", "field_values": ["{last}"]})
    for name in ("offset", "limit", "orders"):
        if name in info:
            notes.add(f"{at}.{name}", "replaced: pages are read in the order of _id, each from the last row on")
    projection = {}
    if isinstance(wanted := info.get("fieldProjection"), list):
        needed = [name for name in dict.fromkeys(["_id", *(use.column for use in starts)]) if name not in wanted]
        projection = {"fieldProjection": [*wanted, *needed]}
        if needed:
            notes.add(f"{at}.fieldProjection", f"{', '.join(needed)} added, which the stream needs")
    return {
        **_without(info, "offset", "limit", "orders", "filters"),
        **projection,
        "limit": "{size}",
        "offset": 0,
        "filters": filters,
        "orders": [{"fieldName": "_id", "isAsc": True}],
    }


def _purge(tree: Parts, holes: set[str], path: str, notes: _Notes) -> None:
    """Take out what the paging of the vendor has no values for."""
    for name, value in list(tree.items()):
        if isinstance(value, dict):
            _purge(value, holes, f"{path}.{name}", notes)
        elif not holes.isdisjoint(PLACEHOLDER.findall(json.dumps(value))):
            del tree[name]
            notes.add(f"{path}.{name}", "left out: the vendor's lists are not read so")


def _labelled(given: Tree) -> list[tuple[str, Any]]:
    """The entries of a list, or of an object whose keys are labels for people."""
    if isinstance(given, dict):
        return list(given.items())
    return [(str(number), item) for number, item in enumerate(given)] if isinstance(given, list) else []


def _filter(given: Tree, path: str, notes: _Notes) -> Parts:
    """A condition as the API takes it; empty when it has no values because they could not be carried over."""
    if not isinstance(given, dict) or not given.get("field_name"):
        notes.add(path, "is no condition; left out, so the API may answer more rows")
        return {}
    values, operator = given.get("field_values"), given.get("operator")
    if values is None and operator not in _WITHOUT_VALUES:
        notes.add(path, "has no values; left out, so the API may answer more rows")
        return {}
    listed = values if isinstance(values, list) else [] if values is None else [values]
    if operator == "GT" and "{since}" in listed:
        notes.add(f"{path}.operator", "GTE instead of GT, so that days meet without a gap")
        operator = "GTE"
    return {**given, "operator": operator, "field_values": listed}


def _generic(ask: _Ask) -> Parts:
    """The request as the metadata say it, without a vendor's knowledge."""
    scheme = ask.scheme
    method = str(scheme.given.get("method") or "GET").upper()
    if method not in ("GET", "POST"):
        raise FinalError(f"{ask.at}method: no usable request: {method} is neither GET nor POST")
    if not scheme.given.get("method"):
        ask.notes.add(f"{ask.at}method", "is missing; GET is taken")
    _tell_of_other(ask)
    sent = {"params": {**scheme.query, **ask.body}}
    if method == "POST":
        sent = {"params": scheme.query, "json": ask.body}
        ask.notes.add(f"{ask.at}request", "sent as a JSON body; use `form` if the API wants a form")
    sent = {key: value for key, value in sent.items() if value}
    return {"method": method, "path": scheme.path, **sent, "rows": ask.rows("rows"), **_paging(ask)}


def _paging(ask: _Ask) -> Parts:
    """Paging as the placeholders of the request demand it."""
    pages = ask.filling.pages
    if pages:
        kind = "offset" if "offset" in pages else "page"
        return {"paging": {"type": kind, "size": ask.size(_USUAL_PAGE, _LARGEST_PAGE)}}
    if ask.scheme.given.get("pagination"):
        ask.notes.add(f"{ask.at}pagination", "no parameter takes the page: only the answer to one request is read")
    return {}


def _tell_of_method(ask: _Ask) -> None:
    method = str(ask.scheme.given.get("method") or "POST").upper()
    if method != "POST":
        ask.notes.add(f"{ask.at}method", f"POST instead of {method}: the API takes nothing else")


def _tell_of_other(ask: _Ask) -> None:
    for name in ask.other:
        ask.notes.add(f"{ask.at}otherRequest.{name}", "how it is to be sent is not known; not carried over")


def _without(values: Mapping[str, Any], *names: str) -> Parts:
    return {name: value for name, value in values.items() if name not in names}


# Streams


def _add_streams(scheme: _Scheme, tree: Mapping[str, Any], source: str, streams: list[Parts], notes: _Notes) -> int:
    """Append the stream of a scheme and its child tables; how many days back it asks for."""
    given, at = scheme.given, scheme.at
    asked = json.dumps([given.get("request"), given.get("otherRequest")])
    filling = _Filling(notes, starts=bool(re.search(r"\{\s*(LAST_SYNC_TIME|DAYS_AGO_)", asked)))
    body = filling.tree(_nodes(given.get("request"), f"{at}request", notes))
    other = filling.tree(_nodes(given.get("otherRequest"), f"{at}otherRequest", notes))
    rows_key, fields, automatic = _response(scheme, notes)
    known = _known(tree, scheme, body.get("dataObjectApiName"))
    ask = _Ask(source, scheme, tree, known, body, other, rows_key, filling, notes)
    _tell_of_keys(ask)
    asking: dict[str, Callable[[_Ask], Parts]] = {"jushuitan": _jushuitan, "fxiaoke": _fxiaoke}
    parts = asking.get(scheme.vendor, _generic)(ask)
    window = _window(ask, fields)
    table = _Table(ask, fields, window)
    taken = {stream["name"] for stream in streams}
    name = column_name(_stream_name(ask), taken)
    stream: Parts = {"name": name, "description": _description(scheme), **parts}
    if window:
        stream |= {"window": {**window, "column": table.name_of(window["column"])}, "load": "merge"}
    stream |= {"key": [table.name_of(path) for path in table.key], "columns": table.declared()}
    if "known" in known:
        stream["known"] = known["known"]
    children: dict[str, Parts] = {}
    for path in _arrays(scheme):
        if child := _child(ask, table, path, name, taken | {name, *(one["name"] for one in children.values())}):
            children[path] = child
    streams += [stream, *children.values()]
    _tell_of_loading(ask, stream, automatic=automatic)
    _tell_of_condition(ask, table, name, children)
    return filling.days


def _known(tree: Mapping[str, Any], scheme: _Scheme, object_name: Any) -> Mapping[str, Any]:
    """The packaged stream that reads the same list, with the file's defaults; the defaults alone without one."""
    for stream in tree["streams"]:
        filled = {**tree["defaults"], **stream}
        about = (stream.get("values") or {}).get("object")
        same = about == object_name if object_name else about is None and filled.get("path") == scheme.path
        if same and "of" not in stream:
            return filled
    defaults: Mapping[str, Any] = tree["defaults"]
    return defaults


def _response(scheme: _Scheme, notes: _Notes) -> tuple[str, list[_Node], bool]:
    """The name of the row list, the declared fields, and whether the platform finds fields by itself."""
    at, automatic = scheme.at, scheme.given.get("autoFillResponse") is True
    own = _nodes(scheme.given.get("response"), f"{at}response", notes)
    rows_key, fields = "", []
    for node in [*own, *_nodes(scheme.given.get("otherResponse"), f"{at}otherResponse", notes)]:
        value = node.given.get("value")
        if _AUTOMATIC in (node.name, node.given.get("describe"), node.given.get("label")):
            automatic = True
        elif node.path.startswith(f"{at}otherResponse.") and isinstance(value, str) and value and not _type_alone(node):
            if rows_key:
                notes.add(f"{node.path}.value", "not carried over: the row list is named already")
            rows_key = rows_key or value
        else:
            fields.append(node)
    return rows_key, fields, automatic


def _window(ask: _Ask, fields: Sequence[_Node]) -> Parts | None:
    """How the stream is cut into days; `column` is still the path of the field. None for a snapshot."""
    uses, notes = ask.filling.uses, ask.notes
    if not uses:
        return None
    first = next((use for use in uses if use.end == "since"), uses[0])
    for use in uses:
        if use.form != first.form:
            notes.add(use.path, f"written as {first.form} like {first.path}, not as {use.form}: a stream has one form")
    for end, edge, reach in (("until", "end", "since"), ("since", "beginning", "before")):
        if all(use.end != end for use in uses):
            notes.add(
                first.path, f"no {edge} is asked for: each day reads everything {reach}, and other days' rows are cut"
            )
    declared = {node.name for node in fields} | set(ask.known.get("columns") or {})
    column = first.column
    if not column or column in _arrays(ask.scheme):
        column = next((name for name in sorted(declared) if snake(name) in _USUAL_COLUMNS), "modified")
    if column not in declared:
        notes.add(first.path, f"rows belong to a day by their field {column}: check that they have it")
    # Whether an API includes the end is mostly unknown: asked for one unit more, rows outside the day are cut.
    window: Parts = {"column": column, "format": first.form, "inclusive": False}
    if ask.filling.overlap:
        window["widen"] = _duration(ask.filling.overlap)
    packaged = [stream["window"] for stream in ask.tree["streams"] if stream.get("window") and "of" not in stream]
    usual = ask.known.get("window") or (packaged or [{}])[0]
    return {**window, **{key: usual[key] for key in ("inclusive", "longest") if key in usual}}


def _duration(seconds: int) -> str:
    return next(f"{seconds // unit}{name}" for name, unit in (("h", 3600), ("m", 60), ("s", 1)) if seconds % unit == 0)


class _Table:
    """The columns of a stream, by the paths of their fields."""

    def __init__(self, ask: _Ask, fields: Sequence[_Node], window: Mapping[str, Any] | None) -> None:
        self.window = window
        self.lists: dict[str, list[_Node]] = {}
        self._ask = ask
        self._proven = _proven_columns(ask)
        self.key = self._key()
        self._columns: dict[str, Declaration] = {path: self._usual(path) for path in self.key}
        for path in map(ask.scheme.given.get, ("number", "name")):
            if isinstance(path, str) and _FIELD.fullmatch(path):
                self._columns.setdefault(path, self._usual(path))
        for path, declared in _declared(fields, "", self.lists, ask):
            self._columns[path] = declared
        for path in _arrays(ask.scheme):
            self._columns[path] = {**self._columns.get(path, {}), "type": "json"}
        if window:
            self._columns[window["column"]] = self._of_window(window)
        self._format(ask.scheme.given.get("formatResponse"), f"{ask.at}formatResponse")
        self._names = _names(self._columns, ask)

    def name_of(self, path: str) -> str:
        """The column of a field."""
        return self._names[path]

    def type_of(self, path: str) -> str | None:
        """The type of a field's column; None without one."""
        return str(self._columns[path]["type"]) if path in self._columns else None

    def declared(self) -> Parts:
        """The columns as a stream file declares them."""
        return _shortened(self._columns, self._names)

    def _key(self) -> list[str]:
        given, at, notes = self._ask.scheme.given, self._ask.at, self._ask.notes
        path = given.get("id")
        if isinstance(path, str) and path:
            if not any(path.startswith(f"{array}.") for array in _arrays(self._ask.scheme)):
                return [path]
            notes.add(f"{at}id", f"{path} identifies elements; rows need a key of their own")
        number = given.get("number")
        columns = self._ask.known.get("columns") or {}
        usual = [
            next((path for path in columns if snake(path) == name), name) for name in self._ask.known.get("key") or []
        ] or ([number] if isinstance(number, str) and number else [])
        if not usual:
            raise FinalError(f"{at}id: no usable request: a table needs the field that identifies a row")
        notes.add(f"{at}id", f"{', '.join(usual)} is taken as the key: check that it identifies a row")
        return usual

    def _usual(self, path: str) -> Declaration:
        """The declaration of the packaged file where it has the field."""
        declared = self._proven.get(path, "string")
        return {"type": declared} if isinstance(declared, str) else dict(declared)

    def _of_window(self, window: Mapping[str, Any]) -> Declaration:
        """The column that tells the day is a time, whatever the metadata call it."""
        path, form = window["column"], str(window["format"])
        before, proven = self._columns.get(path, {}), self._usual(path)
        declared: Declaration = {"type": "timestamp"}
        if before.get("type") in _MOMENTS:
            declared = before
        elif proven["type"] in _MOMENTS:
            declared = proven
        elif form.startswith("epoch") and before.get("type") != "string":
            declared = {"type": "timestamp", "format": form.removesuffix("_text")}
        return {**before, **declared, "required": True}

    def _format(self, given: Tree, at: str) -> None:
        notes, formatted = self._ask.notes, set()
        for number, entry in enumerate(given if isinstance(given, list) else [given] if given else []):
            path = f"{at}[{number}]"
            if not isinstance(entry, dict) or not isinstance(entry.get("old"), str) or not entry["old"]:
                notes.add(path, "has no old field; not carried over")
                continue
            for key in entry:
                if key not in ("old", "new", "format"):
                    notes.add(f"{path}.{key}", "not carried over")
            old = entry["old"]
            new = str(entry.get("new") or snake(old))
            declared = {**self._columns.get(old, self._usual(old)), **self._formatted(entry, path), "name": new}
            if old in formatted:  # a second column of the same field
                self._columns[new] = {**declared, "path": old}
            else:
                self._columns[old] = declared
            formatted.add(old)

    def _formatted(self, entry: Mapping[str, Any], path: str) -> Declaration:
        given = entry.get("format")
        if not given:
            return {}
        kind, doubt = _FORMATS.get(re.sub(r"\(.*\)$", "", str(given)), ("", f"{given!r} is not known; the type stays"))
        if self.window and entry["old"] == self.window["column"]:
            kind, doubt = "", "not carried over: the column tells the day of a row"
        if entry["old"] in _arrays(self._ask.scheme):
            kind, doubt = "", "not carried over: the list becomes a table"
        if doubt:
            self._ask.notes.add(f"{path}.format", doubt)
        return _in_epoch({"type": kind}, self._ask) if kind else {}


def _proven_columns(ask: _Ask) -> Mapping[str, Any]:
    """Declarations of the packaged file that hold for the rows of this list."""
    own: Mapping[str, Any] = ask.known.get("columns") or {}
    return {**system_columns(ask.tree), **own} if ask.scheme.vendor == "fxiaoke" else own


def _declared(
    nodes: Sequence[_Node], above: str, lists: dict[str, list[_Node]], ask: _Ask
) -> Iterator[tuple[str, Declaration]]:
    """The columns of response fields. The fields of what is in a list are left in `lists`."""
    for node in nodes:
        path, kind = f"{above}{node.name}", str(node.given.get("type") or _type_alone(node))
        for key in ("parser", "default", "is_required"):
            if node.has(key):
                ask.notes.add(f"{node.path}.{key}", "not carried over: rows are kept as the API gives them")
        if node.children and kind and _TYPES.get(kind) != "json":
            ask.notes.add(f"{node.path}.type", f"{kind!r} has no members; taken as an object")
        if node.children and kind not in _LISTS:
            yield from _declared(node.children, f"{path}.", lists, ask)
            continue
        if node.children:
            lists[path] = node.children
        if kind and kind not in _TYPES:
            ask.notes.add(f"{node.path}.type", f"{kind!r} is not known; kept as text")
        texts = dict.fromkeys(str(node.given[key]) for key in _NODE_TEXTS if node.has(key))
        described = {"description": ": ".join(texts)} if texts else {}
        yield path, {**_in_epoch({"type": _TYPES.get(kind, "string")}, ask), **described}


def _type_alone(node: _Node) -> str:
    """The type of a field that an object gives as `name: type`."""
    value = node.given.get("value")
    return value if node.given.keys() == {"value"} and isinstance(value, str) and value in _TYPES else ""


def _in_epoch(declared: Declaration, ask: _Ask) -> Declaration:
    """The declaration with the form of the vendor's times."""
    written = ask.scheme.vendor == "fxiaoke" and declared["type"] in _MOMENTS
    return {**declared, "format": "epoch_ms"} if written else declared


def _names(columns: Mapping[str, Declaration], ask: _Ask) -> dict[str, str]:
    """A column name for each field: the one wanted as far as it is a name and not taken."""
    names: dict[str, str] = {}
    for path, declared in columns.items():
        wanted = str(declared.get("name") or snake(path))
        names[path] = column_name(wanted, names.values())
        if names[path] != wanted:
            ask.notes.add(f"{ask.at}response", f"the column of {path} is named {names[path]}")
    return names


def _shortened(columns: Mapping[str, Declaration], names: Mapping[str, str]) -> Parts:
    return {
        path: short({**_without(declared, "name"), **({"name": names[path]} if names[path] != snake(path) else {})})
        for path, declared in columns.items()
    }


def _arrays(scheme: _Scheme) -> dict[str, str]:
    """The lists that the platform takes apart into rows, each with the key that says so."""
    flat, operation = scheme.given.get("beatFlat"), scheme.given.get("operation")
    paths = {
        path: "beatFlat" for path in (flat if isinstance(flat, list) else [flat]) if isinstance(path, str) and path
    }
    if isinstance(operation, dict) and operation.get("method") == "splitArray" and operation.get("arrayKey"):
        paths.setdefault(str(operation["arrayKey"]), "operation")
    return paths


def _child(ask: _Ask, table: _Table, path: str, parent: str, taken: set[str]) -> Parts:
    """The child table of a list; empty if nothing in it identifies an element."""
    at = f"{ask.at}{_arrays(ask.scheme)[path]}"
    packaged, rows = _packaged_child(ask, path), table.name_of(path)
    element = list(packaged.get("key", [])) or _element_key(ask, table, path)
    if not element:
        unnested = f"SELECT unnest(from_json({rows}, '[\"JSON\"]')) FROM {ask.source}.{parent}"
        ask.notes.add(at, f"{path} stays a json column: no field is known to identify an element. In SQL: {unnested}")
        return {}
    proven = packaged.get("columns") or {}
    columns: dict[str, Declaration] = {name: {"type": "string"} for name in element}
    columns |= {
        name: proven[name] if isinstance(proven[name], dict) else {"type": proven[name]}
        for name in element
        if name in proven
    }
    columns |= _declared(table.lists.get(path, []), "", {}, ask)
    names: dict[str, str] = {}
    for name in columns:
        names[name] = column_name(snake(name), names.values())
    stamps: dict[str, str] = {}
    window = [table.window["column"]] if table.window else []
    for field in dict.fromkeys([*table.key, *window]):
        own = column_name(f"parent_{table.name_of(field).strip('_')}", [*names.values(), *stamps])
        stamps[own] = field
    by_field = {field: own for own, field in stamps.items()}
    key = [*([] if packaged else [by_field[field] for field in table.key]), *(names[name] for name in element)]
    child: Parts = {
        "name": column_name(f"{parent}_{rows}", taken),
        "description": f"Elements of {path} of {parent}.",
        "of": {"stream": parent, "rows": rows, "stamp": {own: table.name_of(field) for own, field in stamps.items()}},
    }
    if window:
        child |= {"window": {"column": by_field[window[0]]}, "load": "merge"}
    stamped = {own: str(table.type_of(field)) for own, field in stamps.items()}
    child |= {"key": key, "columns": {**stamped, **_shortened(columns, names)}}
    doubt = "" if packaged else ". Check that this is unique: of elements with equal keys one remains"
    ask.notes.add(
        at,
        f"{path}: one row per element in {child['name']}, by {', '.join(key)}{doubt}. Fields have no prefix; those of "
        f"the row stay in {parent}, to be joined on {by_field[table.key[0]]}",
    )
    return child


def _packaged_child(ask: _Ask, path: str) -> Mapping[str, Any]:
    for stream in ask.tree["streams"]:
        of = stream.get("of") or {}
        if ask.twin and of.get("stream") == ask.known["name"] and of.get("rows") == snake(path):
            found: Mapping[str, Any] = stream
            return found
    return {}


def _element_key(ask: _Ask, table: _Table, path: str) -> list[str]:
    """The field that tells the elements of a list apart; empty where none is known."""
    given = ask.scheme.given.get("id")
    if isinstance(given, str) and given.startswith(f"{path}."):
        return [given.removeprefix(f"{path}.")]
    names = [node.name for node in table.lists.get(path, []) if not node.children]
    ids = [name for name in names if snake(name) in ("id", "_id")]
    return [*ids, *(name for name in names if snake(name).endswith("_id"))][:1]


def _stream_name(ask: _Ask) -> str:
    if ask.twin:
        return str(ask.known["name"])
    about = ask.body.get("dataObjectApiName")
    if isinstance(about, str):
        return snake(re.sub(r"(__c|Obj)$", "", about))
    common = re.compile(r"open|cgi|crm|api|v\d+|query|list|get|select|data|custom", re.I)
    steps = [step for step in ask.scheme.path.split("/") if step and not common.fullmatch(step)]
    return snake("_".join(steps)).strip("_") or "rows"


def _description(scheme: _Scheme) -> str:
    name = scheme.given.get("name")
    named = f" ({name})" if isinstance(name, str) and name and not _FIELD.fullmatch(name) else ""
    return f"Imported from Qeasy{named}."


# What is told


def _tell_of_source(source: str, vendor: str, host: str, notes: _Notes) -> None:
    base_url = f"{source.upper()}_BASE_URL"
    if not vendor:
        where = f"the host {host} is taken" if host else f"set {base_url}, or `base_url` in the file"
        notes.add(
            "api", f"the vendor is not known: {where}; requests carry no credential: declare `settings` and `auth`"
        )
        notes.add("api", "errors inside HTTP 200 answers are not seen: declare `errors` if the API has them")
    elif source == vendor:
        notes.add(
            "--source", f"{vendor} replaces the packaged source with all its streams; take another name to keep it"
        )
    else:
        notes.add(
            "api",
            f"settings are those of {vendor}, but the address is {base_url} here; and limits are counted for {source} "
            f"alone, so do not run it beside {vendor}",
        )
    if host and vendor:
        notes.add("api", f"the host {host} is not taken over; set {base_url} if it is another than the packaged one")


def _tell_of_keys(ask: _Ask) -> None:
    """A note for each key of the scheme that has no counterpart, and each part of one."""
    at, given, notes = ask.at, ask.scheme.given, ask.notes
    for key in given:
        if key not in CARRIED:
            notes.add(
                f"{at}{key}",
                f"not carried over: {INSTEAD[key].format(source=ask.source)}" if key in INSTEAD else "not carried over",
            )
    for key in ("effect", "type"):
        if str(given.get(key) or "QUERY").upper() != "QUERY":
            notes.add(f"{at}{key}", f"{given[key]!r} is not known; taken as a query")
    if not isinstance(given.get("autoFillResponse", False), bool):
        notes.add(f"{at}autoFillResponse", f"{given['autoFillResponse']!r} is neither true nor false; not carried over")
    for key in ("id", "number", "name"):
        if not isinstance(given.get(key) or "", str):
            notes.add(f"{at}{key}", "is no field name; not carried over")
    for key, parts in (("pagination", {"pageSize"}), ("operation", {"method", "arrayKey"})):
        value = given.get(key)
        if value and not isinstance(value, dict):
            notes.add(f"{at}{key}", "is no object; not carried over")
        for part in value if isinstance(value, dict) else ():
            if part not in parts:
                notes.add(f"{at}{key}.{part}", "not carried over")
    flat, lists = given.get("beatFlat") or [], _arrays(ask.scheme)
    for path in flat if isinstance(flat, list) else [flat]:
        if not isinstance(path, str) or path not in lists:
            notes.add(f"{at}beatFlat", f"{path!r} is no field; not carried over")
    operation = given.get("operation")
    if isinstance(operation, dict) and operation.get("method") != "splitArray":
        notes.add(f"{at}operation.method", f"{operation.get('method')!r} is not carried over, only splitArray is")
    elif isinstance(operation, dict) and str(operation.get("arrayKey")) not in lists:
        notes.add(f"{at}operation.arrayKey", "names no field; not carried over")


def _tell_of_loading(ask: _Ask, stream: Mapping[str, Any], *, automatic: bool) -> None:
    at, given, notes, key = ask.at, ask.scheme.given, ask.notes, ", ".join(stream["key"])
    if "idCheck" in given:
        skipped = given["idCheck"] is True
        there = "a row that is stored already is not stored again" if skipped else "a stored row is written over"
        loaded = (
            f"are merged by {key}, the newest version wins"
            if "window" in stream
            else "are read whole and replace the table"
        )
        notes.add(
            f"{at}idCheck",
            f"{json.dumps(given['idCheck'])} there means: {there}. Here rows {loaded}: updates are never dropped",
        )
    if remedy := given.get("omissionRemedy"):
        keys = [f"{at}omissionRemedy.{key}" for key in remedy] if isinstance(remedy, dict) else [f"{at}omissionRemedy"]
        notes.add(
            ", ".join(keys),
            "not carried over: every morning the last `reload_days` days are loaded again, and the job "
            f"{ask.source}_reconcile compares older days with the API and loads those that differ",
        )
    if automatic:
        hint = "; `etl-assets scaffold fxiaoke` writes them for an object" if ask.scheme.vendor == "fxiaoke" else ""
        if ask.twin:
            hint = f"; {ask.twin} of the packaged file declares {len(ask.known['columns'])} for this list{hint}"
        notes.add(
            f"{at}autoFillResponse", f"undeclared fields are kept in _extra; declare those you use under columns{hint}"
        )
    if ask.filling.days:
        notes.add(
            f"{at}request",
            f"asks {ask.filling.days} days back on every run; here each day is a run, and `reload_days` says how many "
            "are loaded again",
        )


def _tell_of_condition(ask: _Ask, table: _Table, parent: str, children: Mapping[str, Parts]) -> None:
    given, at = ask.scheme.given.get("condition"), f"{ask.at}condition"
    if not given:
        return
    groups = [
        group if isinstance(group, list) else [group] for group in (given if isinstance(given, list) else [given])
    ]
    alternatives = []
    for outer, group in enumerate(groups):
        terms = [_term(item, f"{at}[{outer}][{inner}]", table, children, ask) for inner, item in enumerate(group)]
        alternatives.append(" AND ".join(term for term in terms if term) or "true")
    where = " OR ".join(f"({one})" for one in alternatives) if len(alternatives) > 1 else alternatives[0]
    sql = f"SELECT * FROM {ask.source}.{parent} r WHERE {where}"
    ask.notes.add(at, f"rows are not filtered, all are loaded. In SQL: {sql}")


def _term(item: Tree, path: str, table: _Table, children: Mapping[str, Parts], ask: _Ask) -> str:
    """One condition in SQL on `r`, the row; empty, and told, where it cannot be put."""
    notes = ask.notes
    if not isinstance(item, dict) or not isinstance(item.get("field"), str) or not item["field"]:
        notes.add(path, "names no field; not in the SQL")
        return ""
    for key in item:
        if key not in ("field", "logic", "value"):
            notes.add(f"{path}.{key}", "not carried over")
    above = next((array for array in children if item["field"].startswith(f"{array}.")), None)
    if above is None:
        expression, kind = _expression(item["field"], table)
        return _comparison(item, expression, kind, path, notes)
    child, inner = children[above], item["field"].removeprefix(f"{above}.")
    declared = child["columns"].get(inner)
    described = declared if isinstance(declared, dict) else {"type": declared}
    expression = f"e.{identifier(str(described.get('name') or snake(inner)))}"
    if declared is None:
        expression = f"json_extract_string(e._extra, {json_path(inner)})"
    test = _comparison(item, expression, described["type"], path, notes)
    keys = [(own, field) for own, field in child["of"]["stamp"].items() if field in map(table.name_of, table.key)]
    joined = " AND ".join(f"e.{identifier(own)} = r.{identifier(field)}" for own, field in keys)
    return f"EXISTS (FROM {ask.source}.{child['name']} e WHERE {joined} AND {test})" if test else ""


def _expression(field: str, table: _Table) -> tuple[str, str | None]:
    """A field as SQL over the table, and its column type if it has a column."""
    if kind := table.type_of(field):
        return identifier(table.name_of(field)), kind
    steps = field.split(".")
    for depth in range(len(steps) - 1, 0, -1):
        if table.type_of(".".join(steps[:depth])) == "json":
            column = identifier(table.name_of(".".join(steps[:depth])))
            return f"json_extract_string({column}, {json_path('.'.join(steps[depth:]))})", None
    return f"json_extract_string(_extra, {json_path(field)})", None


def _comparison(item: Mapping[str, Any], expression: str, kind: str | None, path: str, notes: _Notes) -> str:
    logic, value = str(item.get("logic")), item.get("value")
    if kind is None and isinstance(value, int | float) and not isinstance(value, bool):
        expression = f"TRY_CAST({expression} AS DOUBLE)"
        kind = "number"
    match logic:
        case "eq" | "gt" | "egt" | "lt" | "elt":
            return f"{expression} {_LOGIC[logic]} {_constant(value, kind)}"
        case "neq":
            return f"{expression} IS DISTINCT FROM {_constant(value, kind)}"
        case "like" | "notlike":
            pattern = str(value) if "%" in str(value) else f"%{value}%"
            return f"{expression} {'NOT ' if logic == 'notlike' else ''}LIKE {literal(pattern)}"
        case "between":
            ends = value if isinstance(value, list) else str(value).split(",")
            if len(ends) == 2:
                return f"{expression} BETWEEN {_constant(ends[0], kind)} AND {_constant(ends[1], kind)}"
        case "notnull" | "isnull":
            return f"{expression} IS {'NOT ' if logic == 'notnull' else ''}NULL"
    notes.add(f"{path}.logic", f"{logic!r} with {value!r} is not known; not in the SQL")
    return ""


def _constant(value: Tree, kind: str | None) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value).strip()
    if text.startswith("timestamp:"):
        return f"timezone({literal(_ZONE)}, TIMESTAMP {literal(text.removeprefix('timestamp:').strip())})"
    is_number = re.fullmatch(r"-?\d+(\.\d+)?", text) is not None
    return text if is_number and str(kind).startswith(_NUMBERS) else literal(text)
