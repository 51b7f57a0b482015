"""Qeasy scheme metadata into a stream file, with a warning for everything that a stream file does not carry.

What a vendor's requests need beside the metadata is taken from the vendor's packaged stream file. docs/qeasy.md is
for users.
"""

from dataclasses import dataclass
from datetime import date

from etl_assets.errors import FinalError
from etl_assets.qeasy.notes import Notes, comments
from etl_assets.qeasy.scheme import ZONE, Parts, parse_metadata, read_schemes
from etl_assets.qeasy.streams import add_streams
from etl_assets.scaffold import check_text, packaged_tree, yaml_text

_TAKEN_OVER = ("base_url", "timezone", "start", "reload_days", "settings", "auth", "errors", "limits")
_NO_VENDOR: Parts = {
    "title": "Qeasy",
    "base_url": "https://api.example",
    "timezone": ZONE,
    "start": date(2024, 1, 1),
    "reload_days": 7,
    "auth": {"type": "none"},
    "defaults": {},
    "streams": [],
}


@dataclass(frozen=True)
class Imported:
    """A stream file, and what its reader has to know."""

    text: str
    warnings: tuple[str, ...]


def convert(text: str, *, name: str | None, origin: str) -> Imported:
    """The stream file of the metadata in `text`, which came from `origin`.

    Raises FinalError when there is nothing to ask an API for, or no valid stream file comes of it.
    """
    notes = Notes()
    schemes = list(read_schemes(parse_metadata(text, notes), "", notes))
    if not schemes:
        found = "".join(f"\n  {line}" for line in notes.all())
        raise FinalError(f"{origin}: no usable request: a source with the path of an HTTP API is needed{found}")
    if len({scheme.vendor or scheme.host for scheme in schemes}) > 1:
        paths = ", ".join(scheme.path for scheme in schemes)
        raise FinalError(f"{origin}: a stream file is of one vendor; import these apart: {paths}")
    vendor, host = schemes[0].vendor, schemes[0].host
    tree = packaged_tree(vendor) if vendor else _NO_VENDOR
    source = name or f"qeasy_{vendor}".strip("_")
    head = {key: tree[key] for key in _TAKEN_OVER if key in tree}
    _tell_of_source(source, vendor, host, notes)
    streams: list[Parts] = []
    for scheme in schemes:
        days = add_streams(scheme, tree, source, streams, notes)
        head["reload_days"] = max(head["reload_days"], days)
    if host and not vendor:
        head["base_url"] = host
    if whole := [stream["name"] for stream in streams if "window" not in stream and "of" not in stream]:
        head["check"] = whole[0]
    title = f"{tree['title']} (Qeasy)" if vendor else tree["title"]
    warnings = notes.all()
    body = yaml_text({"source": source, "title": title, **head, "streams": streams})
    result = f"{comments(origin, warnings)}{body}"
    check_text(result)
    return Imported(result, warnings)


def _tell_of_source(source: str, vendor: str, host: str, notes: Notes) -> None:
    base_url = f"{source.upper()}_BASE_URL"
    if not vendor:
        where = f"the host {host} is taken" if host else f"set {base_url}, or `base_url` in the file"
        notes.add(
            "api", f"the vendor is not known: {where}; requests carry no credential: declare `settings` and `auth`"
        )
        notes.add("api", "errors inside HTTP 200 answers are not seen: declare `errors` if the API has them")
    elif source == vendor:
        notes.add(
            "--source", f"{vendor} replaces the packaged source with all its streams; take another name to keep it"
        )
    else:
        notes.add(
            "api",
            f"settings are those of {vendor}, but the address is {base_url} here; and limits are counted for {source} "
            f"alone, so do not run it beside {vendor}",
        )
    if host and vendor:
        notes.add("api", f"the host {host} is not taken over; set {base_url} if it is another than the packaged one")
