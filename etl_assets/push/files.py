"""The push files: where they lie, and how one is read into a `Target`.

What to put here: finding and reading. What to keep out: what a push may declare (spec.py).
"""

import functools
from importlib import resources
from pathlib import Path
from typing import Any

from etl_assets.errors import StreamFileError
from etl_assets.push.spec import ONLY_TO_SEND, Target
from etl_assets.yamlfile import parse

FOLDER = "push"


def packaged_files() -> list[Path]:
    """The push files that come with the product: worked examples, written to the simulated target."""
    return sorted(Path(str(resources.files("etl_assets"))).joinpath("streams", FOLDER).glob("*.yaml"))


def load_targets(extra: Path | None = None) -> dict[str, Target]:
    """Every target by name: the packaged files, and those in the folder `push` of `extra`, which replace equal names.

    Raises StreamFileError when a file is wrong.
    """
    targets = {target.target: target for target in map(read_target, packaged_files())}
    added: dict[str, Path] = {}
    for path in sorted([*(extra / FOLDER).glob("*.yaml"), *(extra / FOLDER).glob("*.yml")]) if extra else ():
        target = read_target(path)
        if target.target in added:
            raise StreamFileError(f"{path}: target {target.target!r} is also declared by {added[target.target].name}")
        added[target.target] = path
        targets[target.target] = target
    return dict(sorted(targets.items()))


def read_target(path: Path) -> Target:
    """One push file, validated. Cached by content: definitions and commands read it repeatedly."""
    try:
        return _parsed(path, path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise StreamFileError(f"{path}: cannot be read: {error}") from None


@functools.lru_cache(maxsize=64)
def _parsed(path: Path, text: str) -> Target:
    return parse(path, text, Target, begins_with="target", prepare=_with_defaults)


def _with_defaults(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with `defaults` filled into each push that does not set the key."""
    defaults, pushes = tree.get("defaults") or {}, tree.get("pushes")
    if not isinstance(defaults, dict) or not isinstance(pushes, list):
        return tree
    to_land = {key: value for key, value in defaults.items() if key not in ONLY_TO_SEND}

    def filled(push: Any) -> Any:
        if not isinstance(push, dict):
            return push
        return {**(to_land if push.get("mode") == "land_only" else defaults), **push}

    return {**tree, "pushes": [filled(push) for push in pushes]}
