"""Values and placeholders of a request: from the platform's to those of stream files."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from etl_assets.qeasy.notes import Notes
from etl_assets.qeasy.scheme import CREDENTIAL, FIELD, LISTS, TYPES, Node, Parts, Tree
from etl_assets.spec import PLACEHOLDER, snake

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
_LEFT_OUT = object()


@dataclass(frozen=True)
class Use:
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


class Filling:
    """Turns the nodes of a request into a tree with the placeholders of stream files, and knows which."""

    def __init__(self, notes: Notes, *, starts: bool) -> None:
        """`starts` says whether the request has a placeholder for the beginning of its time range."""
        self.uses: list[Use] = []
        self.pages: set[str] = set()
        self.days = 0
        self.overlap = 0
        self._notes = notes
        self._starts = starts
        self._types: dict[str, str] = {}

    def tree(self, nodes: Sequence[Node]) -> Parts:
        """The values of the nodes by name, without those that have none."""
        if not nodes:
            return {}
        path = nodes[0].path.removesuffix(f".{nodes[0].name}")
        return self._filled_object(self._members(nodes), path, _Place())

    def _members(self, nodes: Sequence[Node]) -> Parts:
        members: Parts = {}
        for node in nodes:
            if (value := self._plain(node)) is not _LEFT_OUT:
                if node.name in members:
                    self._notes.add(node.path, "is given twice; the last one counts")
                members[node.name] = value
        return members

    def _plain(self, node: Node) -> Tree:
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
        if CREDENTIAL.fullmatch(snake(node.name)):
            self._notes.add(node.path, "looks like a credential; not copied: it belongs to `settings` and `auth`")
            return _LEFT_OUT
        kind = str(node.given.get("type") or "")
        if kind and kind not in TYPES:
            self._notes.add(f"{node.path}.type", f"{kind!r} is not known; sent as it is written")
        self._types[node.path] = kind
        return self._typed(self._split(value, node), kind, node.path)

    def _of_children(self, node: Node) -> Tree:
        for key in ("value", "default", "parser"):
            if node.has(key):
                self._notes.add(f"{node.path}.{key}", "not carried over beside children")
        if node.has("type") and TYPES.get(str(node.given["type"])) != "json":
            self._notes.add(f"{node.path}.type", f"{node.given['type']!r} has no members; sent as an object")
        values = self._members(node.children)
        if not values:
            return _LEFT_OUT
        if node.given.get("type") in LISTS:  # children that have children are its elements, others those of one
            return list(values.values()) if all(child.children for child in node.children) else [values]
        return values

    def _split(self, value: Tree, node: Node) -> Tree:
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
        declared = TYPES.get(kind)
        if isinstance(value, list | dict):
            return value
        try:
            match declared:
                case "json":
                    read = json.loads(value) if isinstance(value, str) else value
                    return read if isinstance(read, list | dict) or kind not in LISTS else [value]
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
            if kind in LISTS:
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
        column = column if FIELD.fullmatch(column) else ""
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
        number = TYPES.get(self._types.get(path, "")) in ("integer", "number")
        if form == "epoch_ms" and not number:
            form = "epoch_ms_text"
        if form == "epoch_s":
            sent = ", and sent as a number" if whole and not number else ""
            self._notes.add(path, f"a time without a form is taken as seconds{sent}")
        self.uses.append(Use(end, form, place.column or _without_edge(place.name), path))
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
