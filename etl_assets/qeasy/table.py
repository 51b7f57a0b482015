"""The table of a stream: its window, its key and its columns."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etl_assets.errors import FinalError
from etl_assets.qeasy.asking import Ask
from etl_assets.qeasy.scheme import FIELD, LISTS, NODE_TEXTS, TYPES, Node, Parts, Scheme, Tree, without
from etl_assets.scaffold import Declaration, column_name, short, system_columns
from etl_assets.spec import snake

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
_USUAL_COLUMNS = ("modified", "updated_at", "update_time", "modified_time", "last_modified_time")  # snake_case


def window_of(ask: Ask, fields: Sequence[Node]) -> Parts | None:
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
    if not column or column in arrays(ask.scheme):
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


class Table:
    """The columns of a stream, by the paths of their fields."""

    def __init__(self, ask: Ask, fields: Sequence[Node], window: Mapping[str, Any] | None) -> None:
        self.window = window
        self.lists: dict[str, list[Node]] = {}
        self._ask = ask
        self._proven = _proven_columns(ask)
        self.key = self._key()
        self._columns: dict[str, Declaration] = {path: self._usual(path) for path in self.key}
        for path in map(ask.scheme.given.get, ("number", "name")):
            if isinstance(path, str) and FIELD.fullmatch(path):
                self._columns.setdefault(path, self._usual(path))
        for path, declared in declared_columns(fields, "", self.lists, ask):
            self._columns[path] = declared
        for path in arrays(ask.scheme):
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
        return shortened(self._columns, self._names)

    def _key(self) -> list[str]:
        given, at, notes = self._ask.scheme.given, self._ask.at, self._ask.notes
        path = given.get("id")
        if isinstance(path, str) and path:
            if not any(path.startswith(f"{array}.") for array in arrays(self._ask.scheme)):
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
        if entry["old"] in arrays(self._ask.scheme):
            kind, doubt = "", "not carried over: the list becomes a table"
        if doubt:
            self._ask.notes.add(f"{path}.format", doubt)
        return _in_epoch({"type": kind}, self._ask) if kind else {}


def _proven_columns(ask: Ask) -> Mapping[str, Any]:
    """Declarations of the packaged file that hold for the rows of this list."""
    own: Mapping[str, Any] = ask.known.get("columns") or {}
    return {**system_columns(ask.tree), **own} if ask.scheme.vendor == "fxiaoke" else own


def declared_columns(
    nodes: Sequence[Node], above: str, lists: dict[str, list[Node]], ask: Ask
) -> Iterator[tuple[str, Declaration]]:
    """The columns of response fields. The fields of what is in a list are left in `lists`."""
    for node in nodes:
        path, kind = f"{above}{node.name}", str(node.given.get("type") or type_alone(node))
        for key in ("parser", "default", "is_required"):
            if node.has(key):
                ask.notes.add(f"{node.path}.{key}", "not carried over: rows are kept as the API gives them")
        if node.children and kind and TYPES.get(kind) != "json":
            ask.notes.add(f"{node.path}.type", f"{kind!r} has no members; taken as an object")
        if node.children and kind not in LISTS:
            yield from declared_columns(node.children, f"{path}.", lists, ask)
            continue
        if node.children:
            lists[path] = node.children
        if kind and kind not in TYPES:
            ask.notes.add(f"{node.path}.type", f"{kind!r} is not known; kept as text")
        texts = dict.fromkeys(str(node.given[key]) for key in NODE_TEXTS if node.has(key))
        described = {"description": ": ".join(texts)} if texts else {}
        yield path, {**_in_epoch({"type": TYPES.get(kind, "string")}, ask), **described}


def type_alone(node: Node) -> str:
    """The type of a field that an object gives as `name: type`."""
    value = node.given.get("value")
    return value if node.given.keys() == {"value"} and isinstance(value, str) and value in TYPES else ""


def _in_epoch(declared: Declaration, ask: Ask) -> Declaration:
    """The declaration with the form of the vendor's times."""
    written = ask.scheme.vendor == "fxiaoke" and declared["type"] in _MOMENTS
    return {**declared, "format": "epoch_ms"} if written else declared


def _names(columns: Mapping[str, Declaration], ask: Ask) -> dict[str, str]:
    """A column name for each field: the one wanted as far as it is a name and not taken."""
    names: dict[str, str] = {}
    for path, declared in columns.items():
        wanted = str(declared.get("name") or snake(path))
        names[path] = column_name(wanted, names.values())
        if names[path] != wanted:
            ask.notes.add(f"{ask.at}response", f"the column of {path} is named {names[path]}")
    return names


def shortened(columns: Mapping[str, Declaration], names: Mapping[str, str]) -> Parts:
    """The declarations as a stream file spells them, each named only where its path does not say it."""
    return {
        path: short({**without(declared, "name"), **({"name": names[path]} if names[path] != snake(path) else {})})
        for path, declared in columns.items()
    }


def arrays(scheme: Scheme) -> dict[str, str]:
    """The lists that the platform takes apart into rows, each with the key that says so."""
    flat, operation = scheme.given.get("beatFlat"), scheme.given.get("operation")
    paths = {
        path: "beatFlat" for path in (flat if isinstance(flat, list) else [flat]) if isinstance(path, str) and path
    }
    if isinstance(operation, dict) and operation.get("method") == "splitArray" and operation.get("arrayKey"):
        paths.setdefault(str(operation["arrayKey"]), "operation")
    return paths
