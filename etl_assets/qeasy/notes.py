"""What the reader of an imported stream file has to know, and how it stands at the head of the file."""

import textwrap
from collections.abc import Sequence

_COMMENT_WIDTH = 118


class Notes:
    """Warnings in the order of the metadata, each with the path of the key that it is about."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}
        self._texts: dict[str, list[str]] = {}

    def add(self, path: str, text: str) -> None:
        """Note `text` on the key at `path`; the same note twice counts once."""
        self._lines[_one_line(f"{path}: {text}" if path else text)] = None

    def text_for_people(self, key: str, path: str) -> None:
        """A label or the like, of which a request may have hundreds: those of one kind are told together."""
        self._texts.setdefault(key, []).append(f"{path}.{key}")

    def all(self) -> tuple[str, ...]:
        """Every note, as one line each."""
        told = [
            f"{', '.join(paths)}: describes the parameter; a request has no place for it"
            for paths in self._texts.values()
        ]
        return (*self._lines, *map(_one_line, told))


def _one_line(text: str) -> str:
    """Text that is safe in a terminal and in a YAML comment."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def comments(origin: str, warnings: Sequence[str]) -> str:
    """The head of the stream file made of `origin`: every warning as comment lines."""
    lines = textwrap.wrap(f"Made by `etl-assets import-qeasy` from {_one_line(origin)}. What it warned of:")
    for warning in warnings:
        lines += textwrap.wrap(
            warning,
            _COMMENT_WIDTH,
            initial_indent="- ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "".join(f"# {line}\n" for line in lines)
