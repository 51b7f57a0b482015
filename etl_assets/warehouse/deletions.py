"""How far the word of a sweep is taken: a list that has lost too much is more likely a lost right than deletions.

What to put here: the decision, the same for every warehouse. What to keep out: how rows are counted and marked.
"""

from etl_assets.errors import FinalError
from etl_assets.spec import Source, Stream

_ALWAYS_ROWS = 10
_SHARE = 0.2


def refuse_sweep(source: Source, stream: Stream, *, listed: int, live: int, absent: int) -> None:
    """Raises FinalError when a sweep of `listed` rows lacks too many of the stream's `live` rows to be believed.

    Up to ten rows, or a fifth of them, may be gone since the sweep before; but never all for an empty list.
    """
    if not absent or (listed and absent <= max(_ALWAYS_ROWS, live * _SHARE)):
        return
    name = f"{source.source}/{stream.name}"
    raise FinalError(
        f"it lists {listed} rows, and {absent} of the {live} live rows of {name} are not "
        "among them; nothing was loaded and none was marked as deleted. Check that the credential still sees "
        f"everything. If the rows are really gone, load it once more with ETL_ACCEPT_DELETIONS={name}"
    )
