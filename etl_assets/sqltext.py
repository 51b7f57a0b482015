"""Quoting for SQL that is put together from declarations."""


def identifier(name: str) -> str:
    """A quoted name."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A quoted string."""
    return "'" + text.replace("'", "''") + "'"


def json_path(path: str) -> str:
    """A dotted path of a stream file as a quoted SQL/JSON path: `a.b` -> `'$."a"."b"'`."""
    return literal("$" + "".join(f'."{step}"' for step in path.split(".")))
