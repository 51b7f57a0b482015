"""What the tests of the clean step have in common."""

DAILY = """
window: {column: t}
columns: {id: integer, t: timestamp, n: integer}
"""
LENIENT = "quarantine: {rows: 1000}\n"


def at(text: str) -> str:
    """A time of the day in Tokyo, as an API with UTC times writes it."""
    return f"2026-01-{text}+09:00"
