"""Reading Qeasy scheme metadata: the source side of each scheme, and the nodes of its requests and answers.

What belongs here: the platform's own vocabulary and its spellings. What becomes of it belongs to the modules above.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from etl_assets.errors import FinalError
from etl_assets.qeasy.notes import Notes
from etl_assets.spec import snake

Tree = Any
Parts = dict[str, Any]
_VENDORS = {"/open/": "jushuitan", "/cgi/": "fxiaoke"}
ZONE = "Asia/Shanghai"  # in which the platform writes times
_SYNONYMS = {  # of the newer user interface
    "requestParams": "request",
    "otherRequestParams": "otherRequest",
    "responseParams": "response",
    "otherResponseParams": "otherResponse",
}
_EMPTY_TARGETS = {"写入空操作", "空操作"}
_TARGETS = _EMPTY_TARGETS | {"execute", "batchexecute", "executeReturn"}
_NODE_VALUES = {"value", "default", "parser", "children"}
NODE_TEXTS = ("label", "name", "describe")
_NODE = {"field", "type", "parent", "is_required", *_NODE_VALUES, *NODE_TEXTS}
TYPES = {
    **dict.fromkeys(("string", "text", "varchar", "char", "longtext", "time"), "string"),
    **dict.fromkeys(("int", "integer", "long", "bigint", "smallint", "tinyint"), "integer"),
    **dict.fromkeys(("float", "double", "number", "real"), "number"),
    **dict.fromkeys(("decimal", "numeric", "money", "currency"), "decimal(18,4)"),
    **dict.fromkeys(("bool", "boolean"), "boolean"),
    **dict.fromkeys(("object", "array", "list", "map", "json"), "json"),
    **dict.fromkeys(("datetime", "timestamp"), "timestamp"),
    "date": "date",
}
LISTS = ("array", "list")
FIELD = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)
CREDENTIAL = re.compile(
    r"(.*_)?(secret|password|passwd|sign|signature|authorization|(app|api|access|secret)_?key|permanent_code)"
    r"|((corp_)?access_|refresh_|auth_|bearer_)?token"
)


@dataclass(frozen=True)
class Scheme:
    """The source side of one scheme; `at` is where it stands, ready to be put before a key."""

    at: str
    given: Mapping[str, Any]
    host: str
    path: str
    query: Parts

    @property
    def vendor(self) -> str:
        """The packaged source that the path belongs to; empty without one."""
        return next((name for prefix, name in _VENDORS.items() if self.path.startswith(prefix)), "")

    @property
    def is_wrapped(self) -> bool:
        """Whether requests of the CRM, and answers of both vendors, have everything below `data`."""
        return self.path.startswith(("/open/", "/cgi/crm/"))


@dataclass(frozen=True)
class Node:
    """One parameter or field."""

    name: str
    path: str
    given: Mapping[str, Any]
    children: list["Node"]

    def has(self, key: str) -> bool:
        """Whether a key says anything."""
        return self.given.get(key) not in (None, "", False, [], {})


def parse_metadata(text: str, notes: Notes) -> Tree:
    """The JSON of the metadata; a key given twice is noted. Raises FinalError for anything else."""

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


def read_schemes(tree: Tree, at: str, notes: Notes) -> Iterator[Scheme]:
    """The usable source sides in what was given, in order."""
    before = f"{at}." if at else ""
    if isinstance(tree, list):
        for number, item in enumerate(tree):
            yield from read_schemes(item, f"{at}[{number}]", notes)
    elif not isinstance(tree, dict):
        notes.add(at, "is no metadata object")
    elif "api" not in tree and {"source", "target"} & tree.keys():
        for key in tree:
            if key not in ("source", "target"):
                notes.add(f"{before}{key}", "not carried over")
        if "target" in tree:
            _tell_of_target(tree["target"], f"{before}target", notes)
        if "source" in tree:
            yield from read_schemes(tree["source"], f"{before}source", notes)
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


def _tell_of_target(target: Tree, at: str, notes: Notes) -> None:
    before = f"{at}." if at else ""
    keys = ", ".join(f"{before}{key}" for key in target) if isinstance(target, dict) and target else at
    api = str(target.get("api") if isinstance(target, dict) else target)
    if api in _EMPTY_TARGETS:
        notes.add(keys, f"land-only ({api}): the rows end in the table, and nothing more is asked for")
    else:
        notes.add(keys, f"writing to {api!r} is not imported: the rows end in the table; take them on from there")


def _scheme(given: Mapping[str, Any], at: str, notes: Notes) -> Scheme | None:
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
    secret = [name for name in query if CREDENTIAL.fullmatch(snake(name))]
    if "@" in parts.netloc or secret:
        notes.add(f"{at}api", "holds what looks like a credential; not copied: it belongs to `settings` and `auth`")
    host = f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1]}" if parts.netloc else ""
    return Scheme(at, renamed, host, path, without(query, *secret))


def read_nodes(given: Tree, path: str, notes: Notes) -> list[Node]:
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


def _named(name: str, value: Tree, path: str, notes: Notes) -> Node:
    """A member of an object: a node without its `field`, an object of further members, or a plain value."""
    if not isinstance(value, dict):
        return Node(name, path, {"value": value}, [])
    if value.keys() <= _NODE and (_NODE_VALUES & value.keys() or str(value.get("type")) in TYPES):
        return _node(name, value, path, notes)
    return Node(name, path, {"type": "object"}, read_nodes(value, path, notes))


def _node(name: str, given: Mapping[str, Any], path: str, notes: Notes) -> Node:
    for key in given:
        if key not in _NODE:
            notes.add(f"{path}.{key}", "not carried over")
    return Node(name, path, given, read_nodes(given.get("children"), path, notes))


def _linked(nodes: list[Node], path: str, notes: Notes) -> list[Node]:
    """The nodes that have no `parent`, with those that do among their children."""
    top: list[Node] = []
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


def _placed(node: Node, above: str) -> Node:
    """The node with the paths that follow from its place."""
    path = f"{above}.{node.name}"
    return Node(node.name, path, node.given, [_placed(child, path) for child in node.children])


def _all(nodes: Sequence[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from _all(node.children)


def without(values: Mapping[str, Any], *names: str) -> Parts:
    """The values but those of the names."""
    return {name: value for name, value in values.items() if name not in names}
