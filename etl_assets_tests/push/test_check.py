"""`etl-assets check` of a target, and of push files that are wrong."""

import pytest
from click.testing import CliRunner, Result

from etl_assets.cli import main
from etl_assets_tests.push.place import DECIDED_BY, Place


def check(*line: str) -> Result:
    return CliRunner().invoke(main, ["check", *line])


def test_a_target_that_answers_is_ready_and_nothing_is_written(place: Place) -> None:
    place.declare(**DECIDED_BY["look-up"])
    said = check("depot")
    assert (said.exit_code, said.output) == (0, f"depot: 1 pushes declared\n  ready at {place.sandbox.url}\n")
    assert place.sandbox.count("/check") == 1
    assert place.there() == []


def test_a_missing_variable_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEPOT_CLIENT_ID")
    said = check("depot")
    assert said.exit_code == 1
    assert "not ready" in said.output
    assert "DEPOT_CLIENT_ID: Ask for it." in said.output


def test_a_wrong_credential_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPOT_CLIENT_SECRET", "a-guess-at-the-secret")
    place.declare(**DECIDED_BY["look-up"])
    said = check("depot")
    assert said.exit_code == 1
    assert "refused: POST /v1/token: no token was given: HTTP 403" in said.output
    assert "a-guess-at-the-secret" not in said.output


def test_a_wrong_push_file_is_told_whatever_is_checked(place: Place) -> None:
    place.declare(colums={})
    said = check("tmetric")
    assert said.exit_code == 1
    assert "push 'things', key colums: unknown key" in said.output
