"""Stream files that commands write: their text, their column names, and a stream made of Fxiaoke's describe.

What belongs here: how declarations become YAML that the model accepts. What Qeasy's metadata means belongs to
`qeasy`.
"""

import functools
import re
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from etl_assets import answers
from etl_assets.errors import FinalError, StreamFileError
from etl_assets.extract import Api
from etl_assets.messages import Request
from etl_assets.outfile import replacing
from etl_assets.spec import TokenAuth, snake
from etl_assets.streamfiles import packaged_files, read_source

Declaration = dict[str, Any]

_WIDTH, _SHORT = 120, 110
_NAME = re.compile(r"_?[a-z][a-z0-9_]*")
_DESCRIBE = "/cgi/crm/v2/object/describe"
_QUERY = {False: "/cgi/crm/v2/data/query", True: "/cgi/crm/custom/v2/data/query"}
_TEXTS = (
    "text long_text html_rich_text email phone_number url auto_number select_one record_type object_reference "
    "master_detail country province city district town village location"
)
_LISTS = (
    "select_many tag array employee employee_many department department_many object_reference_many file_attachment "
    "big_file_attachment image signature embedded_object embedded_object_list group out_employee out_department"
)
_TYPES: Mapping[str, Declaration] = {
    **{name: {"type": "string"} for name in _TEXTS.split()},
    **{name: {"type": "json"} for name in _LISTS.split()},
    "true_or_false": {"type": "boolean"},
    "date": {"type": "date", "format": "epoch_ms"},
    "date_time": {"type": "timestamp", "format": "epoch_ms"},
    "time": {"type": "integer"},
}
_DECIMALS = {"number", "currency", "percentile"}
_COMPUTED = {"formula", "count", "quote"}
_REFERENCES = {"object_reference", "master_detail"}
_MOST_DIGITS, _USUAL_DIGITS, _USUAL_PLACES = 38, 30, 6


@dataclass(frozen=True)
class Scaffold:
    """The lines of a stream, and what to know about them."""

    text: str
    warnings: tuple[str, ...]


class _Dumper(yaml.SafeDumper):
    """Looks like the packaged files: short collections on one line, lists indented, no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        node.flow_style = _length(node) <= _SHORT
        return node

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        node = super().represent_sequence(tag, sequence, flow_style)
        node.flow_style = _length(node) <= _SHORT
        return node


def _length(node: yaml.Node) -> int:
    """About how long a node is on one line."""
    if isinstance(node, yaml.ScalarNode):
        return len(node.value) + 4
    parts = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
    return sum(map(_length, parts)) + 2


def yaml_text(tree: Any) -> str:
    """The tree as YAML, in order."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)


def check_text(text: str) -> None:
    """Raises FinalError unless the model accepts the text as a stream file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stream.yaml"
        file.write_text(text, "utf-8")
        try:
            read_source(file)
        except StreamFileError as error:
            raise FinalError(f"no valid stream file comes of this{str(error).removeprefix(str(file))}") from None


def write_text(text: str, file: Path) -> None:
    """Put the text in the file's place in one step. Raises FinalError when it cannot be written."""
    with replacing(file) as unfinished:
        unfinished.write_text(text, "utf-8")


@functools.cache
def packaged_tree(source: str) -> Mapping[str, Any]:
    """A packaged stream file as it is written; read once, so not to be changed."""
    (file,) = [file for file in packaged_files() if file.stem == source]
    tree: Mapping[str, Any] = yaml.safe_load(file.read_text("utf-8"))
    return tree


def column_name(wanted: str, taken: Iterable[str]) -> str:
    """A column name as near to the wanted one as the model allows, and not among those taken."""
    name = wanted if _NAME.fullmatch(wanted) else snake(wanted)
    if not _NAME.fullmatch(name):
        name = f"field_{name.strip('_')}".rstrip("_")
    if name.startswith("_") and name != "_id":  # the names of system columns begin so
        name = f"field{name}"
    numbered, number, names = name, 1, set(taken)
    while numbered in names:
        number += 1
        numbered = f"{name}_{number}"
    return numbered


def short(declared: Mapping[str, Any]) -> Any:
    """A column declaration in its short form where that says it all; only a time has a form."""
    kept = {
        key: value for key, value in declared.items() if key != "format" or declared["type"] in ("date", "timestamp")
    }
    return kept["type"] if set(kept) == {"type"} else kept


def scaffold(api: Api, object_name: str, name: str | None) -> Scaffold:
    """The lines of a stream of an object of Fxiaoke, as its describe has the fields now.

    They stand below `streams:` of the packaged file, or of a copy of it. Raises EtlError when the API refuses.
    """
    described = _describe(api, object_name)
    tree = packaged_tree("fxiaoke")
    columns, warnings = columns_of(described.get("fields") or {}, system_columns(tree))
    custom = object_name.endswith("__c")
    stream = {
        "name": name or snake(re.sub(r"(__c|Obj)$", "", object_name)),
        "description": f"{described.get('display_name') or object_name}, changed in the day.",
        "path": _QUERY[custom],
        "values": {"object": object_name},
        "columns": columns,
    }
    others = [other for other in tree["streams"] if other["name"] != stream["name"]]
    check_text(yaml_text({**tree, "streams": [*others, stream]}))
    lines = yaml_text([stream]).splitlines()
    return Scaffold("".join(f"  {line}\n" for line in lines), tuple(warnings))


def _describe(api: Api, object_name: str) -> dict[str, Any]:
    """The object's describe. Where its name stands depends on where the token does."""
    way = next(way for way in api.source.auth if all(name in api.connection.values for name in way.settings()))
    in_body = isinstance(way, TokenAuth) and "{token}" in way.body.values()
    asked = {"apiName": object_name} if in_body else {"data": {"apiName": object_name}}
    answer = api.client.send(
        Request(
            "POST",
            _DESCRIBE,
            f"POST {_DESCRIBE} {object_name}",
            params=(("thirdTraceId", str(uuid.uuid4())),),
            headers={"Content-Type": "application/json"},
            body=msgspec.json.encode({"includeDetail": False, **asked}),
            errors=api.source.errors,
        )
    )
    found = answers.value_at(answer.body, "data.describe")
    if not isinstance(found, dict):
        raise FinalError(f"{object_name}: the answer has no describe")
    return found


def system_columns(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that all streams of the packaged file have in common."""
    shared: dict[str, Any] | None = None
    for stream in tree["streams"]:
        if {*stream.get("key", tree["defaults"]["key"])} == {*tree["defaults"]["key"]}:
            own = stream["columns"]
            shared = own if shared is None else {path: own[path] for path in shared if own.get(path) == shared[path]}
    return dict(shared or {})


def columns_of(fields: Mapping[str, Any], system: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The system columns, and one per further field that is in use."""
    columns, names, warnings = dict(system), {snake(path) for path in system}, []
    if label := (fields.get("name") or {}).get("label"):
        columns["name"] = {"type": "string", "description": label}
    for path, field in fields.items():
        if path in system:
            continue
        if field.get("is_active") is False:
            warnings.append(f"{path}: not in use any more; left out")
            continue
        declared, doubt = _column(field)
        if doubt:
            warnings.append(f"{path}: {doubt}")
        for place, column in _with_companion(path, field, declared).items():
            name = column_name(snake(place), names)
            names.add(name)
            columns[place] = short(column if name == snake(place) else {**column, "name": name})
    return columns, warnings


def _column(field: Mapping[str, Any]) -> tuple[Declaration, str]:
    """The declaration of a field's column, and what is doubtful about it."""
    kind = str(field.get("return_type") or field.get("type")) if field.get("type") in _COMPUTED else field.get("type")
    label = str(field.get("label") or "")
    if kind == "time":
        label = f"{label} (milliseconds of the day)".strip()
    described = {"description": label} if label else {}
    if kind in _DECIMALS:
        return {"type": _number(field, str(kind)), **described}, ""
    if kind in _TYPES:
        return {**_TYPES[str(kind)], **described}, ""
    return {"type": "string", **described}, f"type {kind!r} is not known; kept as text"


def _number(field: Mapping[str, Any], kind: str) -> str:
    """Exact for what the field may hold: Fxiaoke sends numbers as decimal text."""
    places = field.get("decimal_places")
    if not isinstance(places, int):
        return f"decimal({_USUAL_DIGITS},{_USUAL_PLACES})"
    if places == 0 and kind == "number":
        return "integer"
    whole = field.get("length")
    digits = whole + places if isinstance(whole, int) else _USUAL_DIGITS
    return f"decimal({min(max(digits, places + 1), _MOST_DIGITS)},{places})"


def _with_companion(path: str, field: Mapping[str, Any], declared: Declaration) -> dict[str, Declaration]:
    """The column, and behind a reference one with the name of what it refers to."""
    if field.get("type") not in _REFERENCES:
        return {path: declared}
    label = declared.get("description")
    return {path: declared, f"{path}__r": {"type": "string", **({"description": f"{label}: name"} if label else {})}}
