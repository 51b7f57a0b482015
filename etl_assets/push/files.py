"""The push files: how one is read into a `Target`.

What to put here: finding and reading. What to keep out: what a push may declare (spec.py).
"""

from pathlib import Path
from typing import Any

from etl_assets import declarations
from etl_assets.push.spec import ONLY_TO_SEND, Target

FOLDER = "push"


def packaged_files() -> list[Path]:
    """The push files that come with the product: worked examples, written to the simulated target."""
    return declarations.packaged(FOLDER)


def load_targets(extra: Path | None = None) -> dict[str, Target]:
    """Every target by name: the packaged files, and those in the folder `push` of `extra`, which replace equal names.

    Raises StreamFileError when a file is wrong.
    """
    return declarations.declared("target", FOLDER, extra, lambda path: [((target := read_target(path)).target, target)])


def read_target(path: Path) -> Target:
    """One push file, validated."""
    return declarations.read(path, Target, begins_with="target", prepare=_with_defaults)


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
