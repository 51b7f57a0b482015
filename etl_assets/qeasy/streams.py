"""The streams of a scheme: its own rows, and a child table for each list that the platform takes apart."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from etl_assets.qeasy.asking import Ask, ask_any, ask_fxiaoke, ask_jushuitan
from etl_assets.qeasy.filling import Filling
from etl_assets.qeasy.notes import Notes
from etl_assets.qeasy.scheme import FIELD, Node, Parts, Scheme, read_nodes
from etl_assets.qeasy.table import Table, arrays, declared_columns, shortened, type_alone, window_of
from etl_assets.qeasy.told import tell_of_condition, tell_of_keys, tell_of_loading
from etl_assets.scaffold import Declaration, column_name
from etl_assets.spec import snake

_AUTOMATIC = "_autoFillResponse"


def add_streams(scheme: Scheme, tree: Mapping[str, Any], source: str, streams: list[Parts], notes: Notes) -> int:
    """Append the stream of a scheme and its child tables; how many days back it asks for."""
    given, at = scheme.given, scheme.at
    asked = json.dumps([given.get("request"), given.get("otherRequest")])
    filling = Filling(notes, starts=bool(re.search(r"\{\s*(LAST_SYNC_TIME|DAYS_AGO_)", asked)))
    body = filling.tree(read_nodes(given.get("request"), f"{at}request", notes))
    other = filling.tree(read_nodes(given.get("otherRequest"), f"{at}otherRequest", notes))
    rows_key, fields, automatic = _response(scheme, notes)
    known = _known(tree, scheme, body.get("dataObjectApiName"))
    ask = Ask(source, scheme, tree, known, body, other, rows_key, filling, notes)
    tell_of_keys(ask)
    asking: dict[str, Callable[[Ask], Parts]] = {"jushuitan": ask_jushuitan, "fxiaoke": ask_fxiaoke}
    parts = asking.get(scheme.vendor, ask_any)(ask)
    window = window_of(ask, fields)
    table = Table(ask, fields, window)
    taken = {stream["name"] for stream in streams}
    name = column_name(_stream_name(ask), taken)
    stream: Parts = {"name": name, "description": _description(scheme), **parts}
    if window:
        stream |= {"window": {**window, "column": table.name_of(window["column"])}, "load": "merge"}
    stream |= {"key": [table.name_of(path) for path in table.key], "columns": table.declared()}
    if "known" in known:
        stream["known"] = known["known"]
    children: dict[str, Parts] = {}
    for path in arrays(scheme):
        if child := _child(ask, table, path, name, taken | {name, *(one["name"] for one in children.values())}):
            children[path] = child
    streams += [stream, *children.values()]
    tell_of_loading(ask, stream, automatic=automatic)
    tell_of_condition(ask, table, name, children)
    return filling.days


def _known(tree: Mapping[str, Any], scheme: Scheme, object_name: Any) -> Mapping[str, Any]:
    """The packaged stream that reads the same list, with the file's defaults; the defaults alone without one."""
    for stream in tree["streams"]:
        filled = {**tree["defaults"], **stream}
        about = (stream.get("values") or {}).get("object")
        same = about == object_name if object_name else about is None and filled.get("path") == scheme.path
        if same and "of" not in stream:
            return filled
    defaults: Mapping[str, Any] = tree["defaults"]
    return defaults


def _response(scheme: Scheme, notes: Notes) -> tuple[str, list[Node], bool]:
    """The name of the row list, the declared fields, and whether the platform finds fields by itself."""
    at, automatic = scheme.at, scheme.given.get("autoFillResponse") is True
    own = read_nodes(scheme.given.get("response"), f"{at}response", notes)
    rows_key, fields = "", []
    for node in [*own, *read_nodes(scheme.given.get("otherResponse"), f"{at}otherResponse", notes)]:
        value = node.given.get("value")
        if _AUTOMATIC in (node.name, node.given.get("describe"), node.given.get("label")):
            automatic = True
        elif node.path.startswith(f"{at}otherResponse.") and isinstance(value, str) and value and not type_alone(node):
            if rows_key:
                notes.add(f"{node.path}.value", "not carried over: the row list is named already")
            rows_key = rows_key or value
        else:
            fields.append(node)
    return rows_key, fields, automatic


def _child(ask: Ask, table: Table, path: str, parent: str, taken: set[str]) -> Parts:
    """The child table of a list; empty if nothing in it identifies an element."""
    at = f"{ask.at}{arrays(ask.scheme)[path]}"
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
    columns |= declared_columns(table.lists.get(path, []), "", {}, ask)
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
    child |= {"key": key, "columns": {**stamped, **shortened(columns, names)}}
    doubt = "" if packaged else ". Check that this is unique: of elements with equal keys one remains"
    ask.notes.add(
        at,
        f"{path}: one row per element in {child['name']}, by {', '.join(key)}{doubt}. Fields have no prefix; those of "
        f"the row stay in {parent}, to be joined on {by_field[table.key[0]]}",
    )
    return child


def _packaged_child(ask: Ask, path: str) -> Mapping[str, Any]:
    for stream in ask.tree["streams"]:
        of = stream.get("of") or {}
        if ask.twin and of.get("stream") == ask.known["name"] and of.get("rows") == snake(path):
            found: Mapping[str, Any] = stream
            return found
    return {}


def _element_key(ask: Ask, table: Table, path: str) -> list[str]:
    """The field that tells the elements of a list apart; empty where none is known."""
    given = ask.scheme.given.get("id")
    if isinstance(given, str) and given.startswith(f"{path}."):
        return [given.removeprefix(f"{path}.")]
    names = [node.name for node in table.lists.get(path, []) if not node.children]
    ids = [name for name in names if snake(name) in ("id", "_id")]
    return [*ids, *(name for name in names if snake(name).endswith("_id"))][:1]


def _stream_name(ask: Ask) -> str:
    if ask.twin:
        return str(ask.known["name"])
    about = ask.body.get("dataObjectApiName")
    if isinstance(about, str):
        return snake(re.sub(r"(__c|Obj)$", "", about))
    common = re.compile(r"open|cgi|crm|api|v\d+|query|list|get|select|data|custom", re.I)
    steps = [step for step in ask.scheme.path.split("/") if step and not common.fullmatch(step)]
    return snake("_".join(steps)).strip("_") or "rows"


def _description(scheme: Scheme) -> str:
    name = scheme.given.get("name")
    named = f" ({name})" if isinstance(name, str) and name and not FIELD.fullmatch(name) else ""
    return f"Imported from Qeasy{named}."
