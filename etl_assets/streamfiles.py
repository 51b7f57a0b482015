"""The stream files: where they lie, and how one is read into a `Source`.

What to put here: finding and reading. What to keep out: what a stream may declare (spec.py).
"""

import functools
from importlib import resources
from pathlib import Path
from typing import Any

from etl_assets.errors import StreamFileError
from etl_assets.spec import Source
from etl_assets.yamlfile import parse

_JOINED = {"columns", "params", "derived"}


def packaged_files() -> list[Path]:
    """The stream files that come with the product."""
    return sorted(Path(str(resources.files("etl_assets"))).joinpath("streams").glob("*.yaml"))


def load_sources(extra: Path | None = None) -> dict[str, Source]:
    """Every source by name: the packaged files, and those of `extra`, which replace equal names.

    Raises StreamFileError when a file is wrong or the folder does not exist.
    """
    sources = {source.source: source for source in map(read_source, packaged_files())}
    if extra is not None:
        if not extra.is_dir():
            raise StreamFileError(f"ETL_SOURCES_DIR: {extra} is not a folder")
        added: dict[str, Path] = {}
        for path in sorted([*extra.glob("*.yaml"), *extra.glob("*.yml")]):
            source = read_source(path)
            if source.source in added:
                raise StreamFileError(
                    f"{path}: source {source.source!r} is also declared by {added[source.source].name}"
                )
            added[source.source] = path
            sources[source.source] = source
    return dict(sorted(sources.items()))


def read_source(path: Path) -> Source:
    """One stream file, validated. Cached by content: definitions and commands read it repeatedly."""
    try:
        return _parsed(path, path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise StreamFileError(f"{path}: cannot be read: {error}") from None


@functools.lru_cache(maxsize=64)
def _parsed(path: Path, text: str) -> Source:
    return parse(path, text, Source, begins_with="source", prepare=_with_defaults)


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
        return merged

    return {**tree, "streams": [filled(stream) for stream in streams]}
