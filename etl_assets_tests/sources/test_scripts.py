"""Two hundred seeded scripts per source, twenty to a world: in the end, tables are the truth. See `scripts`."""

from pathlib import Path

import pytest

from etl_assets.streamfiles import packaged_files, read_source
from etl_assets_tests.sources.scripts import PLAYERS, TOGETHER, play, player_of

SCRIPTS = 200


@pytest.mark.one_in(20)
@pytest.mark.parametrize("first", range(0, SCRIPTS, TOGETHER))
@pytest.mark.parametrize("source", PLAYERS)
def test_tables_are_the_truth_whatever_happens_to_rows_in_whatever_order(
    tmp_path: Path, source: str, first: int, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = range(first, first + TOGETHER)
    said: list[str] = []
    try:
        play(player_of(source, first), seeds, tmp_path, said.append)
    except Exception:
        with capsys.disabled():
            again = f"python -m etl_assets_tests.sources.scripts {source} {first} {seeds[-1]}"
            print("\n".join(["", *said, f"To play it again: {again}"]))
        raise


def test_every_daily_stream_has_a_player() -> None:
    for source in map(read_source, packaged_files()):
        if source.source not in PLAYERS:  # TROCCO has tests of its own
            continue
        played = {name for player in PLAYERS[source.source] for name in (player.stream, *player.children)}
        assert {one.name for one in source.streams if one.window} - played <= {
            "issue_comments"
        }  # which Backlog plays on, too


def test_a_script_that_is_played_again_is_the_same(tmp_path: Path) -> None:
    said: list[list[str]] = [[], []]
    for number, one in enumerate(said):
        play(player_of("fxiaoke", 7), [7, 8], tmp_path / str(number), one.append)
    assert said[0] == said[1] != []
