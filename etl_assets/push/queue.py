"""`etl-assets queue`: the records that are not sent, why, and what to do about them."""

import json
from collections.abc import Sequence
from pathlib import Path

import click
from tabulate import tabulate

from etl_assets.errors import EtlError, FinalError
from etl_assets.push.files import load_targets
from etl_assets.push.ledger import QUEUED, Entry, State, put_aside, queued, send_again
from etl_assets.push.run import ledger_file
from etl_assets.settings import Settings

_WIDTH = 80
_HEADERS = ("push", "id", "state", "action", "attempts", "since", "reason")


@click.group()
def queue() -> None:
    """Records of pushes that wait, were refused, or of which nothing is known."""


@queue.command("list")
@click.argument("push", required=False, metavar="[TARGET/NAME]")
@click.option("--state", "states", multiple=True, type=click.Choice([*QUEUED, "dropped"]), help="Only such records.")
@click.option("--limit", default=100, show_default=True, help="Most records.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON each, with the document and the last answer.")
def list_(push: str | None, states: tuple[State, ...], limit: int, as_json: bool) -> None:
    """List dead, unknown, pending and sending records, with the reason."""
    try:
        file, names = _place(push)
        entries = queued(file, names, states or QUEUED, limit)
    except EtlError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        for entry in entries:
            click.echo(json.dumps(_tree(entry), ensure_ascii=False))
    elif entries:
        click.echo(tabulate([_line(entry) for entry in entries], headers=_HEADERS, disable_numparse=True))
    else:
        click.echo("nothing is queued")


@queue.command()
@click.argument("push", metavar="TARGET/NAME")
@click.argument("ids", nargs=-1, metavar="[ID]...")
def retry(push: str, ids: tuple[str, ...]) -> None:
    """Have dead, unknown and dropped records sent by the next run; without an ID, all dead and unknown ones.

    A record of which nothing is known may come to exist twice at the target.
    """
    try:
        file, (target, name) = _named(push)
        count = send_again(file, target, name, ids)
    except EtlError as error:
        raise click.ClickException(str(error)) from None
    _report(count, ids, "to be sent by the next run")


@queue.command()
@click.argument("push", metavar="TARGET/NAME")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "all_", is_flag=True, help="All dead and unknown records.")
def drop(push: str, ids: tuple[str, ...], all_: bool) -> None:
    """Give records up: they are not sent until their row changes."""
    if bool(ids) == all_:
        raise click.ClickException("name the records, or say --all")
    try:
        file, (target, name) = _named(push)
        count = put_aside(file, target, name, ids)
    except EtlError as error:
        raise click.ClickException(str(error)) from None
    _report(count, ids, "dropped")


def _place(push: str | None) -> tuple[Path, tuple[str, str] | None]:
    if push is None:
        return ledger_file(Settings.read()), None
    return _named(push)


def _named(push: str) -> tuple[Path, tuple[str, str]]:
    """The ledger's file, and the push as (target, name). Raises FinalError for one that is not declared."""
    settings = Settings.read()
    declared = [f"{t.name}/{one.name}" for t in load_targets(settings.sources_dir).values() for one in t.pushes]
    if push not in declared:
        raise FinalError(f"no push {push!r}; declared: {', '.join(declared)}")
    target, _, name = push.partition("/")
    return ledger_file(settings), (target, name)


def _report(count: int, ids: Sequence[str], what: str) -> None:
    """Say how many, and fail when some of those named are in no state for it."""
    click.echo(f"{count} {what}")
    if count < len(set(ids)):
        raise click.ClickException(
            "the others are not in the queue, or have no document: `etl-assets queue list` tells"
        )


def _line(entry: Entry) -> tuple[object, ...]:
    reason = " ".join((entry.reason or "").split())
    shown = reason if len(reason) <= _WIDTH else f"{reason[: _WIDTH - 1]}…"
    since = entry.changed_at[:19].replace("T", " ")
    push = f"{entry.target}/{entry.push}"
    return (push, entry.record_id, entry.state, entry.action, entry.attempts, since, shown)


def _tree(entry: Entry) -> dict[str, object]:
    return {**vars(entry), "document": json.loads(entry.document) if entry.document else None}
