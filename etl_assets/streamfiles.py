"""The stream files: how one is read into a `Source`.

What to put here: finding and reading. What to keep out: what a stream may declare (spec/).
"""

from pathlib import Path
from typing import Any

from etl_assets import declarations
from etl_assets.errors import StreamFileError
from etl_assets.spec import Source, snake

_JOINED = {"columns", "params", "derived"}
_BY_COLUMN = {"eq", "ranges", "row", "closed"}


def packaged_files() -> list[Path]:
    """The stream files that come with the product."""
    return declarations.packaged()


def load_sources(extra: Path | None = None) -> dict[str, Source]:
    """Every source by name: the packaged files, and those of `extra`, which replace equal names.

    Raises StreamFileError when a file is wrong or the folder does not exist.
    """
    if extra is not None and not extra.is_dir():
        raise StreamFileError(f"ETL_SOURCES_DIR: {extra} is not a folder")
    return declarations.declared("source", "", extra, lambda path: [((source := read_source(path)).source, source)])


def read_source(path: Path) -> Source:
    """One stream file, validated."""
    return declarations.read(path, Source, begins_with="source", prepare=_with_defaults)


def _with_defaults(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with `defaults` filled into each stream. Columns and parameters are joined, other keys replaced."""
    defaults, streams = tree.get("defaults") or {}, tree.get("streams")
    if not isinstance(defaults, dict) or not isinstance(streams, list):
        return tree

    def filled(stream: Any) -> Any:
        if not isinstance(stream, dict):
            return stream
        merged = {**defaults, **stream}
        for key in _JOINED & defaults.keys() & stream.keys():
            if isinstance(defaults[key], dict) and isinstance(stream[key], dict):
                merged[key] = {**defaults[key], **stream[key]}
        if "query" in defaults and "query" not in stream and isinstance(merged.get("columns"), dict):
            merged["query"] = _fitting(defaults["query"], merged["columns"])
        return merged

    return {**tree, "streams": [filled(stream) for stream in streams]}


def _fitting(query: Any, columns: dict[str, Any]) -> Any:
    """What is inherited of a query, without what speaks of columns that the stream does not have."""
    if not isinstance(query, dict):
        return query
    names = {
        one.get("name") if isinstance(one, dict) and "name" in one else snake(path) for path, one in columns.items()
    }
    kept = dict(query)
    for key in _BY_COLUMN & query.keys():
        kept[key] = {name: asked for name, asked in query[key].items() if name in names}
    if isinstance(query.get("sort"), dict):
        sort = query["sort"]
        kept["sort"] = {**sort, "columns": {name: asked for name, asked in sort["columns"].items() if name in names}}
    return kept
