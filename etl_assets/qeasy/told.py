"""What is told of a scheme: keys without a counterpart, how rows are loaded instead, filters as SQL."""

import json
import re
from collections.abc import Mapping
from typing import Any

from etl_assets.qeasy.asking import Ask
from etl_assets.qeasy.notes import Notes
from etl_assets.qeasy.scheme import ZONE, Parts, Tree
from etl_assets.qeasy.table import Table, arrays
from etl_assets.spec import snake
from etl_assets.sqltext import identifier, json_path, literal

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
_LOGIC = {"eq": "=", "gt": ">", "egt": ">=", "lt": "<", "elt": "<="}
_NUMBERS = ("integer", "number", "decimal")


def tell_of_keys(ask: Ask) -> None:
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
    flat, lists = given.get("beatFlat") or [], arrays(ask.scheme)
    for path in flat if isinstance(flat, list) else [flat]:
        if not isinstance(path, str) or path not in lists:
            notes.add(f"{at}beatFlat", f"{path!r} is no field; not carried over")
    operation = given.get("operation")
    if isinstance(operation, dict) and operation.get("method") != "splitArray":
        notes.add(f"{at}operation.method", f"{operation.get('method')!r} is not carried over, only splitArray is")
    elif isinstance(operation, dict) and str(operation.get("arrayKey")) not in lists:
        notes.add(f"{at}operation.arrayKey", "names no field; not carried over")


def tell_of_loading(ask: Ask, stream: Mapping[str, Any], *, automatic: bool) -> None:
    """A note for what the platform does to stored rows, and what happens here instead."""
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


def tell_of_condition(ask: Ask, table: Table, parent: str, children: Mapping[str, Parts]) -> None:
    """A note with the filter of the scheme as a SELECT over the table."""
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


def _term(item: Tree, path: str, table: Table, children: Mapping[str, Parts], ask: Ask) -> str:
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


def _expression(field: str, table: Table) -> tuple[str, str | None]:
    """A field as SQL over the table, and its column type if it has a column."""
    if kind := table.type_of(field):
        return identifier(table.name_of(field)), kind
    steps = field.split(".")
    for depth in range(len(steps) - 1, 0, -1):
        if table.type_of(".".join(steps[:depth])) == "json":
            column = identifier(table.name_of(".".join(steps[:depth])))
            return f"json_extract_string({column}, {json_path('.'.join(steps[depth:]))})", None
    return f"json_extract_string(_extra, {json_path(field)})", None


def _comparison(item: Mapping[str, Any], expression: str, kind: str | None, path: str, notes: Notes) -> str:
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
        return f"timezone({literal(ZONE)}, TIMESTAMP {literal(text.removeprefix('timestamp:').strip())})"
    is_number = re.fullmatch(r"-?\d+(\.\d+)?", text) is not None
    return text if is_number and str(kind).startswith(_NUMBERS) else literal(text)
