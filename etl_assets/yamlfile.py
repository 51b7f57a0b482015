"""Strict YAML into a model: whatever is wrong is a `StreamFileError` that names the file, the item and the key.

What to put here: reading declarations of any kind. What to keep out: what may be declared.
"""

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from etl_assets.errors import StreamFileError

Declared = TypeVar("Declared", bound=BaseModel)


def parse(
    path: Path,
    text: str,
    model: type[Declared],
    *,
    begins_with: str,
    prepare: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Declared:
    """The `model` that `text` declares; `path` names the file in errors, `prepare` may fill in defaults before."""
    try:
        tree = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-13-01
        raise StreamFileError(f"{path}: not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise StreamFileError(f"{path}: a stream file is a mapping that begins with `{begins_with}:`")
    try:
        return model.model_validate(prepare(tree))
    except ValidationError as error:
        problems = "\n  ".join(_problem(tree, dict(item)) for item in error.errors())
        raise StreamFileError(f"{path}:\n  {problems}") from None


def _problem(tree: dict[str, Any], error: dict[str, Any]) -> str:
    """`stream 'issues', key columns.id: …` out of one validation error."""
    location = [str(part) for part in error["loc"] if not str(part).startswith("function-")]
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "unknown key"
    if len(location) > 1 and location[1].isdigit() and isinstance(tree.get(location[0]), list):
        item = tree[location[0]][int(location[1])]
        name = item.get("name", f"number {location[1]}") if isinstance(item, dict) else location[1]
        inner = location[2:]
        if inner[:1] == ["columns"] and inner[-1:] == ["type"] and len(inner) == 3 and error["type"] != "missing":
            inner = inner[:2]
        return f"{location[0].removesuffix('s')} {name!r}, key {'.'.join(inner) or '(itself)'}: {message}"
    return f"key {'.'.join(location)}: {message}" if location else message


class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """SafeLoader that refuses a key given twice, where YAML would keep the last one silently."""


def _unique_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    written = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(
                None, None, "a key is a word; a text that begins with { needs quotes", key_node.start_mark
            )
        if key in written:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
        written.add(key)
    loader.flatten_mapping(node)  # `<<` brings further keys, which those written here replace
    return {
        loader.construct_object(key, deep=True): loader.construct_object(value, deep=True) for key, value in node.value
    }


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)
