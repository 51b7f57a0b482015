"""Filling placeholders into the requests that a stream file describes."""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from etl_assets.errors import FinalError
from etl_assets.spec import PLACEHOLDER

Tree = Any
Params = tuple[tuple[str, str], ...]
_LEFT_OUT = object()


def filled(tree: Tree, values: Mapping[str, Any]) -> Tree:
    """The tree with every `{name}` replaced.

    A text that is one placeholder takes the value with its type. Where a value is None (no cursor yet on the
    first page), the parameter is left out, and in a list the whole entry that it stands in.
    """
    result = _filled(tree, values)
    return {} if result is _LEFT_OUT else result


def path(template: str, values: Mapping[str, Any]) -> str:
    """A URL path with the values percent-encoded. Raises FinalError for a value that is missing."""

    def encoded(match: re.Match[str]) -> str:
        if values[match[1]] is None:
            raise FinalError(f"{template}: there is no value for {{{match[1]}}}")
        return quote(str(values[match[1]]), safe="")

    return PLACEHOLDER.sub(encoded, template)


def params(tree: Mapping[str, Any], values: Mapping[str, Any]) -> Params:
    """Query parameters or form fields in order; a list repeats its key."""
    flat = []
    for name, value in filled(dict(tree), values).items():
        for single in value if isinstance(value, list) else [value]:
            if single is not None:
                flat.append((name, _text(single)))
    return tuple(flat)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


def _filled(tree: Tree, values: Mapping[str, Any], *, in_list: bool = False) -> Tree:
    if isinstance(tree, str):
        return _filled_text(tree, values)
    if isinstance(tree, dict):
        entries = {key: _filled(value, values) for key, value in tree.items()}
        kept = {key: value for key, value in entries.items() if value is not _LEFT_OUT}
        return _LEFT_OUT if in_list and len(kept) < len(entries) else kept
    if isinstance(tree, list):
        items = [_filled(item, values, in_list=True) for item in tree]
        kept_items = [item for item in items if item is not _LEFT_OUT]
        return _LEFT_OUT if items and not kept_items else kept_items
    return tree


def _filled_text(text: str, values: Mapping[str, Any]) -> Any:
    names = PLACEHOLDER.findall(text)
    if any(values[name] is None for name in names):
        return _LEFT_OUT
    if names and text == f"{{{names[0]}}}":
        return values[names[0]]
    return PLACEHOLDER.sub(lambda match: str(values[match[1]]), text)
