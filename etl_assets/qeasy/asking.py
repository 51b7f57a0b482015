"""The request of a stream, by vendor: what is sent, where the rows stand, how pages follow each other."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etl_assets.errors import FinalError
from etl_assets.qeasy.filling import Filling, Use
from etl_assets.qeasy.notes import Notes
from etl_assets.qeasy.scheme import Parts, Scheme, Tree, without
from etl_assets.spec import PLACEHOLDER

_CORPORATE = ("appId", "corpId", "corpAccessToken")
_WITHOUT_VALUES = ("IS", "ISN", "EXISTS", "NEXISTS")
_LARGEST_PAGE = 1_000_000  # where no vendor says less
_USUAL_PAGE = 100


@dataclass(frozen=True)
class Ask:
    """Everything that a request is made of. `known` is the packaged stream of the same list, or its defaults."""

    source: str
    scheme: Scheme
    tree: Mapping[str, Any]
    known: Mapping[str, Any]
    body: Parts
    other: Parts
    rows_key: str
    filling: Filling
    notes: Notes

    @property
    def at(self) -> str:
        """Where the scheme stands, ready to be put before a key."""
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


def ask_jushuitan(ask: Ask) -> Parts:
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
        "json": {"page_index": "{page}", "page_size": "{size}", **without(ask.body, "page_index", "page_size")},
        "rows": ask.rows("data.datas"),
        "paging": {**(known if by_page else ask.tree["defaults"])["paging"], "size": ask.size(most, most)},
    }


def _close_ranges(ask: Ask) -> None:
    """Add the other end to a range that has only its beginning."""
    uses = ask.filling.uses
    for use in [use for use in uses if use.end == "since" and use.path.endswith("_begin")]:
        other = f"{use.path.rsplit('.', 1)[-1].removesuffix('_begin')}_end"
        if other not in ask.body:
            ask.body[other] = "{until}"
            uses.append(Use("until", use.form, use.column, f"{ask.at}request.{other}"))
            ask.notes.add(use.path, f"the API wants both ends; {other} is added")


def ask_fxiaoke(ask: Ask) -> Parts:
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


def _search(ask: Ask) -> Parts:
    """`search_query_info`: conditions as a list, both ends of the day, and rows in the order of `_id`."""
    at, notes, uses = f"{ask.at}request.search_query_info", ask.notes, ask.filling.uses
    given = ask.body.get("search_query_info")
    info = given if isinstance(given, dict) else {}
    filters = [_filter(one, f"{at}.filters.{name}", notes) for name, one in _labelled(info.get("filters"))]
    filters = [condition for condition in filters if condition]
    starts = [use for use in uses if use.end == "since"]
    if starts and not any(use.end == "until" for use in uses):
        filters.append({"field_name": starts[0].column, "operator": "LTE", "field_values": ["{until}"]})
        uses.append(Use("until", starts[0].form, starts[0].column, at))
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
        **without(info, "offset", "limit", "orders", "filters"),
        **projection,
        "limit": "{size}",
        "offset": 0,
        "filters": filters,
        "orders": [{"fieldName": "_id", "isAsc": True}],
    }


def _purge(tree: Parts, holes: set[str], path: str, notes: Notes) -> None:
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


def _filter(given: Tree, path: str, notes: Notes) -> Parts:
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


def ask_any(ask: Ask) -> Parts:
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


def _paging(ask: Ask) -> Parts:
    """Paging as the placeholders of the request demand it."""
    pages = ask.filling.pages
    if pages:
        kind = "offset" if "offset" in pages else "page"
        return {"paging": {"type": kind, "size": ask.size(_USUAL_PAGE, _LARGEST_PAGE)}}
    if ask.scheme.given.get("pagination"):
        ask.notes.add(f"{ask.at}pagination", "no parameter takes the page: only the answer to one request is read")
    return {}


def _tell_of_method(ask: Ask) -> None:
    method = str(ask.scheme.given.get("method") or "POST").upper()
    if method != "POST":
        ask.notes.add(f"{ask.at}method", f"POST instead of {method}: the API takes nothing else")


def _tell_of_other(ask: Ask) -> None:
    for name in ask.other:
        ask.notes.add(f"{ask.at}otherRequest.{name}", "how it is to be sent is not known; not carried over")
