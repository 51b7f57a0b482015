"""The documents against the product: what they show is run, what they list is compared with the code.

A document that a test cannot hold to its word should say less.
"""

import csv
import importlib.util
import json
import re
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

import click
import duckdb
import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from etl_assets import client, errors, spec
from etl_assets import sql as dbapi
from etl_assets.alerts import KEPT_DAYS
from etl_assets.cli import main
from etl_assets.export import Export, Layout, load_exports, write
from etl_assets.landing import Manifest
from etl_assets.mart import load_marts
from etl_assets.pipeline import Pipeline
from etl_assets.push.files import load_targets
from etl_assets.sandbox.server import VENDORS, running
from etl_assets.schema import schema_text
from etl_assets.settings import (
    WEBHOOK_FORMATS,
    AlertSettings,
    Settings,
    connection,
    lifetimes,
    plain_values,
    register_secrets,
    reload_days,
)
from etl_assets.spec import Column, Service, Source
from etl_assets.sql.properties import PROPERTIES
from etl_assets.streamfiles import load_sources, packaged_files, read_source
from etl_assets.trocco import decide
from etl_assets.trocco import spec as trocco_spec
from etl_assets.window import Window, since, until

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "deploy/README.md", *sorted(ROOT.glob("docs/*.md"))]
STREAMS = (ROOT / "docs/streams.md").read_text("utf-8")
SOURCES = (ROOT / "docs/sources.md").read_text("utf-8")
OPERATIONS = (ROOT / "docs/operations.md").read_text("utf-8")
EXPORTS = (ROOT / "docs/exports.md").read_text("utf-8")
ALERTS = (ROOT / "docs/alerts.md").read_text("utf-8")
SQL = (ROOT / "docs/sql.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
EVERYTHING = "\n".join(path.read_text("utf-8") for path in DOCUMENTS)
DAY = "2026-01-05"

KNOWN_HOSTS = {
    *("127.0.0.1", "app.tmetric.com", "yourspace.backlog.com", "openapi.jushuitan.com", "open.fxiaoke.com"),
    *("trocco.io", "in.trocco.io", "kr.trocco.io", "owasp.org"),
}


@dataclass(frozen=True)
class Table:
    """A table of a document: its header, and its rows with the mark-up left as it is."""

    head: list[str]
    rows: list[list[str]]

    def column(self, number: int = 0) -> list[str]:
        return [row[number] for row in self.rows]


def tables(text: str) -> list[Table]:
    """The tables of a document."""
    blocks = re.findall(r"(?m)(?:^\|.*\|$\n?)+", text)
    lines = [[_cells(line) for line in block.splitlines()] for block in blocks]
    return [Table(head, rows) for head, _, *rows in lines]


def _cells(line: str) -> list[str]:
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def table(text: str, *head: str) -> Table:
    """The one table whose header begins so."""
    (found,) = [one for one in tables(text) if one.head[: len(head)] == list(head)]
    return found


def words(cell: str) -> list[str]:
    """What stands in code quotes in a cell."""
    return re.findall(r"`([^`]*)`", cell)


def code(text: str, language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text)


@contextmanager
def serving(answer: Callable[[str, Mapping[str, str], Mapping[str, str]], Any]) -> Iterator[str]:
    """An API on loopback; `answer` gets path, parameters and headers. Gives its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            target = urlsplit(self.path)
            asked = {name: values[-1] for name, values in parse_qs(target.query).items()}
            body = json.dumps(answer(target.path, asked, self.headers)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def load(pipeline: Pipeline, source: Source, stream: str, day: date | None) -> None:
    """Raw, clean and warehouse of a stream and day."""
    declared, window = source.stream(stream), Window.of_day(day, source.timezone) if day else None
    api = pipeline.api(source)
    try:
        pipeline.extract(api, declared, window, "run")
    finally:
        api.client.close()
    pipeline.clean(source, declared, window, "run")
    pipeline.load(source, declared, window, "run")


def query(pipeline: Pipeline, sql: str) -> list[tuple[str | None, ...]]:
    """The rows, every value as text."""
    with pipeline.warehouse.reader() as db:
        return db.sql(f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM ({sql})").fetchall()


# The worked example


class TicketDesk:
    """The API of the worked example, out of the example's own answers; it is busy at first."""

    def __init__(self) -> None:
        self.pages = [json.loads(block) for block in code(STREAMS, "json")]
        self.busy = 1
        self.asked: list[Mapping[str, str]] = []

    def answer(self, path: str, params: Mapping[str, str], headers: Mapping[str, str]) -> Any:
        if headers["X-Desk-Key"] != "desk-key-of-the-test":
            return {"status": "denied", "message": "wrong key"}
        if path == "/v1/queues":
            return {"status": "ok", "data": {"more": False, "queues": [{"id": 1, "name": "Hardware"}]}}
        self.asked.append(params)
        if self.busy:
            self.busy -= 1
            return {"status": "busy", "message": "try again"}
        return self.pages[int(params["page"]) - 1]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TicketDesk]:
    """The worked example's file in a folder of its own, and its API."""
    (tmp_path / "my-sources").mkdir()
    (tmp_path / "my-sources/desk.yaml").write_text(code(STREAMS, "yaml")[0], "utf-8")
    api = TicketDesk()
    with serving(api.answer) as url:
        for name, value in {
            "ETL_DATA_DIR": str(tmp_path / "data"),
            "ETL_SOURCES_DIR": str(tmp_path / "my-sources"),
            "ETL_RETRY_BASE_SECONDS": "0.001",
            "DESK_BASE_URL": url,
            "DESK_KEY": "desk-key-of-the-test",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        yield api


def test_the_worked_example_gives_the_tables_it_shows(desk: TicketDesk) -> None:
    pipeline = Pipeline.from_environment()
    load(pipeline, pipeline.sources["desk"], "tickets", date.fromisoformat(DAY))
    shown = [one for one in tables(STREAMS) if one.head[0] in ("id", "record_key")]
    queries = code(STREAMS, "sql")
    assert len(queries) == len(shown) == 2
    for sql, expected in zip(queries, shown, strict=True):
        assert query(pipeline, sql) == [tuple(cell or None for cell in row) for row in expected.rows]


def test_the_worked_example_asks_as_it_says(desk: TicketDesk) -> None:
    pipeline = Pipeline.from_environment()
    load(pipeline, pipeline.sources["desk"], "tickets", date.fromisoformat(DAY))
    request = parse_qs(re.findall(r"^GET /v1/tickets\?(\S+)$", STREAMS, re.MULTILINE)[0])
    first = {name: value for name, (value,) in request.items()}
    assert desk.asked == [first, first, {**first, "page": "2"}]  # busy, and then two pages


def test_the_check_of_the_worked_example_says_what_is_shown(desk: TicketDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    said = CliRunner().invoke(main, ["check", "desk"])
    assert said.exit_code == 0
    shown = re.sub(r"http://127\.0\.0\.1:\d+", Pipeline.from_environment().sources["desk"].base_url, said.output)
    assert shown in code(STREAMS, "text")


def test_a_mistake_in_the_worked_example_is_told_as_shown(tmp_path: Path) -> None:
    file = tmp_path / "desk.yaml"
    file.write_text(code(STREAMS, "yaml")[0].replace("paging:", "pagin:"), "utf-8")
    with pytest.raises(errors.StreamFileError) as refused:
        read_source(file)
    assert str(refused.value).replace(str(file), file.name) + "\n" in code(STREAMS, "text")


# The reference of stream files: every key of every model, and no other


TITLES: Mapping[type[BaseModel], str] = {
    spec.Source: "the source",
    spec.service.Setting: "a setting",
    spec.service.Limits: "`limits`",
    spec.Errors: "`errors`",
    spec.Column: "a column",
    spec.Derived: "a derived column",
    spec.stream.Lookup: "a lookup",
    spec.stream.Each: "`each`",
    spec.Children: "`of`",
    spec.Deletes: "`deletes`",
    spec.WindowSpec: "`window`",
    spec.stream.Alternative: "an alternative",
    spec.Quarantine: "`quarantine`",
    spec.query.Query: "`query`",
    spec.Parameter: "a parameter",
    spec.Range: "a range",
    spec.query.Sort: "`sort`",
    spec.query.Count: "`count`",
    spec.Stream: "a stream",
}
VARIANTS = {"Auth type": get_args(get_args(spec.Auth)[0]), "Paging type": get_args(get_args(spec.Paging)[0])}
WRITTEN_AS_TEXT = {spec.Rate}


@dataclass(frozen=True)
class Documented:
    """What a row of the reference says about a key."""

    type: str
    default: str


def reference() -> dict[str, dict[str, Documented]]:
    """Documented keys by the title of their table; a stream's stand in several. No key is told twice."""
    found: dict[str, dict[str, Documented]] = {}
    for one in tables(STREAMS):
        if one.head[1:] == ["Type", "Default", "Meaning"] and one.head[0].startswith("Key of "):
            keys = found.setdefault(one.head[0].removeprefix("Key of "), {})
            for cell, kind, default, _ in one.rows:
                (key,) = words(cell)
                assert key not in keys, key
                keys[key] = Documented(kind, default)
    return found


def variants(title: str) -> dict[str, dict[str, Documented]]:
    """Documented keys of each auth or paging type."""
    found: dict[str, dict[str, Documented]] = {}
    for chosen, key, kind, default, _ in table(STREAMS, title, "Key", "Type", "Default", "Meaning").rows:
        keys = found.setdefault(words(chosen)[0], {})
        keys.update({name: Documented(kind, default) for name in words(key)})
    return found


def models(model: type[BaseModel]) -> set[type[BaseModel]]:
    """The model and all models that its keys hold."""
    found = {model}
    for field in model.model_fields.values():
        for inner in _models_in([field.annotation, *field.metadata]):
            found |= models(inner)
    return found


def _models_in(annotations: list[Any]) -> set[type[BaseModel]]:
    found: set[type[BaseModel]] = set()
    for annotation in annotations:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.add(annotation)
        found |= _models_in(list(get_args(annotation)))
    return found


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys as they are written in a file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def default_of(field: FieldInfo) -> str:
    """The default as the reference shows it."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, list) and len(default) == 1:
        default = default[0]  # a list of one may be written without the list
    if isinstance(default, BaseModel):
        default = {name: value for name, value in default.model_dump().items() if value not in ({}, "", None)}
    if default in (None, "", [], {}):
        return "–"
    if isinstance(default, timedelta):
        return f"`{default.total_seconds():.0f}s`"
    return f"`{_as_yaml(default)}`"


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()


def test_every_model_of_a_stream_file_has_its_table() -> None:
    chosen = {model for variant in VARIANTS.values() for model in variant}
    assert models(Source) == {*TITLES, *chosen, *WRITTEN_AS_TEXT}
    assert set(reference()) == set(TITLES.values())


@pytest.mark.parametrize(("model", "title"), TITLES.items(), ids=TITLES.values())
def test_every_key_is_documented_with_its_default(model: type[BaseModel], title: str) -> None:
    shown = {key: documented.default for key, documented in reference()[title].items()}
    assert shown == {key: default_of(field) for key, field in keys_of(model).items()}


@pytest.mark.parametrize("title", VARIANTS)
def test_every_type_of_auth_and_paging_is_documented_with_its_keys(title: str) -> None:
    shown = {
        kind: {key: documented.default for key, documented in keys.items()} for kind, keys in variants(title).items()
    }
    assert shown == {
        get_args(model.model_fields["type"].annotation)[0]: {
            key: default_of(field) for key, field in keys_of(model).items() if key != "type"
        }
        for model in VARIANTS[title]
    }


@pytest.mark.parametrize(("model", "title"), TITLES.items(), ids=TITLES.values())
def test_the_choices_of_a_key_are_all_named(model: type[BaseModel], title: str) -> None:
    for key, field in keys_of(model).items():
        for choice in _choices(field.annotation):
            assert choice in words(reference()[title][key].type), key


def _choices(annotation: Any) -> list[str]:
    options = [part for part in get_args(annotation) if isinstance(part, str)]
    return options + [choice for part in get_args(annotation) for choice in _choices(part)]


def test_every_placeholder_is_documented(tmp_path: Path) -> None:
    known: set[str] = set()
    for paging in (
        {"type": "none"},
        {"type": "page", "size": 2},
        {"type": "offset", "size": 2},
        {"type": "keyset", "size": 2, "column": "id"},
        {"type": "cursor", "next": "next"},
    ):
        tree = yaml.safe_load(code(STREAMS, "yaml")[0])
        tree["streams"][0] |= {"paging": paging, "params": {"wrong": "{nothing}"}}
        file = tmp_path / f"{paging['type']}.yaml"
        file.write_text(yaml.safe_dump(tree), "utf-8")
        with pytest.raises(errors.StreamFileError, match="known: ") as refused:
            read_source(file)
        known |= set(re.findall(r"'(\w+)'", str(refused.value).split("known: ")[1])) - {"DESK_KEY"}
    shown = {word.strip("{}") for cell in table(STREAMS, "Placeholder", "Is").column() for word in words(cell)}
    assert shown == known


def test_every_column_type_is_documented_with_its_type_in_duckdb() -> None:
    shown = {words(kind)[0]: words(duckdb)[0] for kind, duckdb, _ in table(STREAMS, "Column type").rows}
    decimal = shown.pop("decimal(p,s)")
    assert decimal == Column(type="decimal(10,2)").duckdb_type.replace("10,2", "p,s")
    with pytest.raises(ValueError, match="one of: ") as refused:
        Column(type="nothing")
    known = str(refused.value).split("one of: ")[1].split(" [")[0].split(", ")
    assert {*shown, "decimal(p,s)"} == set(known)
    assert shown == {kind: Column(type=kind).duckdb_type for kind in shown}


def test_what_column_types_accept_is_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [[words(cell)[0] if words(cell) else cell for cell in row] for row in table(STREAMS, "Declared").rows]
    columns = {"id": "integer"}
    records: list[dict[str, Any]] = []
    for number, (declared, sent, _) in enumerate(examples):
        columns[f"v{number}"] = yaml.safe_load(declared)
        records.append({"id": number, f"v{number}": json.loads(sent)})
    stream = {"name": "values", "path": "/", "key": ["id"], "columns": columns, "quarantine": {"rows": len(records)}}
    head = {"source": "shown", "title": "Shown", "base_url": "https://shown.example", "timezone": "Asia/Tokyo"}
    (tmp_path / "shown.yaml").write_text(yaml.safe_dump({**head, "streams": [stream]}, sort_keys=False), "utf-8")
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ETL_SOURCES_DIR", str(tmp_path))
    with serving(lambda *_: records) as url:
        monkeypatch.setenv("SHOWN_BASE_URL", url)
        pipeline = Pipeline.from_environment()
        load(pipeline, pipeline.sources["shown"], "values", None)
    loaded = {int(str(row[0])): row for row in query(pipeline, "SELECT * FROM shown.values")}
    for number, (declared, sent, becomes) in enumerate(examples):
        value = "quarantine" if number not in loaded else loaded[number][number + 1]
        assert (declared, sent, "NULL" if value is None else value) == (declared, sent, becomes)


def test_windows_are_written_as_shown() -> None:
    window = Window.of_day(date.fromisoformat(DAY), "Asia/Tokyo")
    for row in table(STREAMS, "Format", "`{since}`").rows:
        form, *shown = [words(cell)[0] for cell in row]
        ends = [until(window, form, inclusive=inclusive) for inclusive in (True, False)]
        assert shown == [str(value) for value in (since(window, form), *ends)]


def test_the_table_has_the_system_columns_shown(desk: TicketDesk) -> None:
    pipeline = Pipeline.from_environment()
    load(pipeline, pipeline.sources["desk"], "tickets", date.fromisoformat(DAY))
    columns = [row[0] for row in query(pipeline, "SELECT column_name FROM (DESCRIBE desk.tickets)")]
    shown = [words(cell)[0] for cell in table(STREAMS, "System column").column()]
    assert shown == [name for name in columns if str(name).startswith("_")]


def test_the_committed_schema_is_the_one_that_the_model_makes() -> None:
    assert (ROOT / "etl_assets/streams/schema.json").read_text("utf-8") == schema_text()


if importlib.util.find_spec("jsonschema"):  # comes with Dagster's own tools, not with the product

    @pytest.mark.parametrize("file", packaged_files(), ids=lambda file: file.stem)
    def test_the_schema_accepts_the_packaged_files(file: Path) -> None:
        assert list(_violations(file.read_text("utf-8"))) == []

    def test_the_schema_accepts_the_worked_example_and_refuses_a_mistake_in_it() -> None:
        example = code(STREAMS, "yaml")[0]
        assert list(_violations(example)) == []
        assert "pagin" in " ".join(_violations(example.replace("paging:", "pagin:")))

    def _violations(text: str) -> Iterator[str]:
        from jsonschema import Draft202012Validator

        tree = json.loads(json.dumps(yaml.safe_load(text), default=str))
        for error in Draft202012Validator(json.loads(schema_text())).iter_errors(tree):
            yield f"{error.json_path}: {error.message}"


# The environment


class Recorder(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


@dataclass(frozen=True)
class Variable:
    default: str
    comment: str


def listed_variables() -> dict[str, Variable]:
    """The variables of `.env.example`, each with the comment above it."""
    found: dict[str, Variable] = {}
    comment = ""
    for line in (ROOT / ".env.example").read_text("utf-8").splitlines():
        if variable := re.fullmatch(r"# ([A-Z][A-Z0-9_]*)=(.*)", line):
            assert variable[1] not in found, line
            found[variable[1]] = Variable(variable[2], comment)
        elif line.startswith("#"):
            comment = line.removeprefix("#").strip()
        else:
            assert not line, f"not commented out: {line}"
            comment = ""
    return found


def some_value(source: Service, setting: str) -> str:
    return source.base_url if setting == source.base_url_variable else "value-of-the-test"


def test_every_variable_that_is_read_is_in_the_example_and_no_other() -> None:
    sources = load_sources().values()
    services: list[Service] = [*sources, *load_targets().values()]
    env = Recorder({name: some_value(service, name) for service in services for name in service.settings})
    Settings.read(env)
    AlertSettings.read(env)
    register_secrets(sources, env)
    for target in load_targets().values():
        connection(target, env)
    for source in sources:
        lifetimes(source, env)
        plain_values(source, env)
        connection(source, env)
        reload_days(source, env)
    assert set(listed_variables()) == env.asked


def test_the_sandbox_sets_no_variable_that_the_example_lacks() -> None:
    declared = [name for name in VENDORS if name in {**load_sources(), **load_targets()}]
    with running(vendors=declared) as sandbox:
        assert set(sandbox.env()) <= set(listed_variables())


def test_the_environment_is_read_in_one_place() -> None:
    readers = [
        str(file.relative_to(ROOT))
        for file in sorted(ROOT.glob("etl_assets/**/*.py"))
        if re.search(r"os\.environ|getenv", file.read_text("utf-8"))
    ]
    # The sandbox hands its whole environment on to the command that it runs.
    assert readers == ["etl_assets/sandbox/server.py", "etl_assets/settings.py"]


def test_every_variable_has_a_comment() -> None:
    assert [name for name, variable in listed_variables().items() if not variable.comment] == []


def test_the_defaults_in_the_example_are_the_real_ones() -> None:
    shown = {name: variable.default for name, variable in listed_variables().items() if variable.default}
    assert Settings.read(shown) == Settings.read({})
    assert AlertSettings.read(shown) == AlertSettings.read({})
    for source in load_sources().values():
        needed = {
            name: some_value(source, name) for name, setting in source.settings.items() if setting.default is None
        }
        assert connection(source, {**shown, **needed}) == connection(source, needed)
        assert reload_days(source, shown) == reload_days(source, {})
        prefix = source.source.upper()
        defaults = {f"{prefix}_BASE_URL", f"{prefix}_PARALLEL", f"{prefix}_RELOAD_DAYS"} - needed.keys()
        assert defaults <= set(shown)
        assert {name for name, setting in source.settings.items() if setting.default} <= set(shown)


# Commands, links, and what else a reader would try


def test_the_endpoint_in_the_readme_can_be_added_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = [file for file in packaged_files() if file.stem == "tmetric"]
    (endpoint,) = code(README, "yaml")
    (tmp_path / file.name).write_text(f"{file.read_text('utf-8')}\n{endpoint}", "utf-8")
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ETL_SOURCES_DIR", str(tmp_path))
    with running(vendors=["tmetric"]) as sandbox:
        for name, value in sandbox.env().items():
            monkeypatch.setenv(name, value)
        pipeline = Pipeline.from_environment()
        load(pipeline, pipeline.sources["tmetric"], "teams", None)
    loaded = query(pipeline, "SELECT id, name, icon_url FROM tmetric.teams")
    assert loaded
    assert all(None not in row for row in loaded)


@pytest.mark.parametrize("snippet", code(EVERYTHING, "yaml"))
def test_a_snippet_of_yaml_is_yaml(snippet: str) -> None:
    yaml.safe_load(snippet)


def test_every_command_is_documented_and_every_documented_one_exists() -> None:
    assert isinstance(main, click.Group)
    spans = re.findall(r"`[^`\n]+`", EVERYTHING) + re.findall(r"(?ms)^```\w*\n.*?^```$", EVERYTHING)
    named = set(re.findall(r"(?<![\w-])etl-assets ([a-z][a-z-]*)", "\n".join(spans)))
    assert named == set(main.commands)


def test_every_make_target_of_the_documents_exists() -> None:
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text("utf-8")))
    named = set(re.findall(r"`make ([a-z]+)", EVERYTHING)) | set(re.findall(r"(?m)^make ([a-z]+)", EVERYTHING))
    assert named <= targets
    assert {"demo", "test", "dev", "check"} <= named


def test_the_demo_in_the_readme_shows_every_table() -> None:
    shown = set(re.findall(r"(?m)^ *warehouse/(\w+/\w+) ", README))
    assert shown == {
        f"{source.source}/{stream.name}" for source in load_sources().values() for stream in source.streams
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", document.read_text("utf-8")):
        file = (document.parent / target).resolve() if target else document
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), f"{target}#{anchor}"


def anchors(document: Path) -> set[str]:
    """The headings as they are linked to."""
    headings = re.findall(r"(?m)^#+ (.*)$", document.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / ".env.example"], ids=lambda path: path.name)
def test_no_document_names_a_machine_or_an_index(document: Path) -> None:
    text = document.read_text("utf-8")
    assert re.findall(r"(?<![\w.<>-])/(?:work|root|home|farm|opt|Users|var)\b\S*", text) == []
    hosts = set(re.findall(r"https?://([\w.-]+)", text))
    assert {host for host in hosts if not host.endswith(".example")} <= KNOWN_HOSTS


# Sources and operations


@pytest.mark.parametrize("source", load_sources().values(), ids=lambda source: source.source)
def test_every_source_is_described_with_its_streams_and_settings(source: Source) -> None:
    section = re.findall(rf"(?ms)^## {re.escape(source.title)}\n(.*?)(?=^## |\Z)", SOURCES)[0]
    described = {word for heading in re.findall(r"(?m)^### (.*)$", section) for word in words(heading)}
    assert described == {stream.name for stream in source.streams}
    assert set(source.settings) <= set(words(section))


def test_every_error_class_is_explained() -> None:
    classes = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.EtlError)
    }
    shown = {word for cell in table(OPERATIONS, "The text says").column(1) for word in words(cell)}
    assert shown == classes - {"EtlError"}


def test_the_manifest_and_the_ops_tables_are_as_described(desk: TicketDesk) -> None:
    pipeline = Pipeline.from_environment()
    load(pipeline, pipeline.sources["desk"], "tickets", date.fromisoformat(DAY))
    assert described("Manifest key") == [field.name for field in fields(Manifest)]
    for name in ("ops.loads", "ops.quarantine"):
        columns = query(pipeline, f"SELECT column_name FROM (DESCRIBE {name})")
        assert described(f"Column of `{name}`") == [column for (column,) in columns]


def described(title: str) -> list[str]:
    """The names in the first column of a table of operations, in order."""
    return [word for cell in table(OPERATIONS, title).column() for word in words(cell)]


def test_the_numbers_of_the_retries_are_the_real_ones() -> None:
    from etl_assets.defs.steps import retry_policy

    text = " ".join(OPERATIONS.split())
    assert f"sent up to {client.ATTEMPTS} times" in text
    assert f"double, up to {client.LONGEST_BACKOFF_SECONDS:.0f} s" in text
    assert f"heeded, up to {client.LONGEST_REQUESTED_WAIT_SECONDS:.0f} s" in text
    assert f"run again up to {retry_policy().max_retries} times" in text


def test_every_check_job_and_schedule_is_described() -> None:
    from etl_assets.definitions import defs

    definitions = defs()
    checks = {check.name for graph in [definitions.resolve_asset_graph()] for check in graph.asset_check_keys}
    assert checks == set(described("Check"))
    repository = definitions.get_repository_def()
    names = {job.name for job in repository.get_all_jobs()} | {item.name for item in repository.schedule_defs}
    prefixes = {f"{source}_": "<source>_" for source in load_sources()}
    prefixes |= {f"{target}_": "<target>_" for target in load_targets()}
    shapes = {
        shape + name.removeprefix(prefix)
        for name in names
        for prefix, shape in prefixes.items()
        if name.startswith(prefix)
    }
    assert shapes == {word for word in words(OPERATIONS) if word.startswith(("<source>_", "<target>_"))}
    others = {name for name in names if not name.startswith((*prefixes, "__"))}
    assert others <= set(words(OPERATIONS))


TROCCO = (ROOT / "docs/trocco.md").read_text("utf-8")
TROCCO_MODELS: Mapping[str, type[BaseModel]] = {
    "Key of a job": trocco_spec.Job,
    "Key of `arrivals`": trocco_spec.Arrivals,
}


@pytest.mark.parametrize(("title", "model"), TROCCO_MODELS.items(), ids=TROCCO_MODELS)
def test_every_key_of_a_trocco_job_is_documented_with_its_default(title: str, model: type[BaseModel]) -> None:
    shown = {words(key)[0]: default for key, _, default, _ in table(TROCCO, title).rows}
    assert shown == {key: default_of(field) for key, field in keys_of(model).items()}
    kinds = {words(key)[0]: kind for key, kind, _, _ in table(TROCCO, title).rows}
    for key, field in keys_of(model).items():
        if key not in ("partitions", "arrivals", "completion"):
            assert set(_choices(field.annotation)) == set(words(kinds[key])), key


def test_every_way_to_know_the_end_of_a_datamart_is_documented() -> None:
    shown = {
        re.findall(r"by: (\w+)", ways)[0]: set(words(keys)) for ways, keys, _ in table(TROCCO, "`completion`").rows
    }
    ways = get_args(get_args(trocco_spec.Completion)[0])
    assert shown == {get_args(way.model_fields["by"].annotation)[0]: way.model_fields.keys() - {"by"} for way in ways}


def test_the_jobs_of_the_trocco_document_can_be_declared(tmp_path: Path) -> None:
    (tmp_path / "trocco").mkdir()
    for number, text in enumerate(code(TROCCO, "yaml")):
        (tmp_path / f"trocco/{number}.yaml").write_text(text, "utf-8")
    assert {"orders", "braze_events", "demo_orders"} <= trocco_spec.load_jobs(tmp_path).keys()


def test_every_status_and_outcome_of_trocco_is_documented() -> None:
    said = {word for cell in table(TROCCO, "TROCCO says").column() for word in words(cell)}
    assert said == decide.UNDER_WAY | decide.ENDS
    outcomes = {word for cell in table(TROCCO, "TROCCO says").column(2) for word in words(cell)}
    assert outcomes == decide.ENDS | {decide.LOST, "overdue"}


def test_every_trocco_command_is_documented() -> None:
    group = main.commands["trocco"]
    assert isinstance(group, click.Group)
    named = {re.findall(r"etl-assets trocco (\w+)", cell)[0] for cell in table(TROCCO, "Command").column()}
    assert named == set(group.commands)


def test_every_mart_is_described() -> None:
    assert described("Mart") == [f"mart.{mart.name}" for mart in load_marts()]


# Exports and alerts


def test_every_key_of_an_export_is_documented_with_its_default() -> None:
    rows = table(EXPORTS, "Key of an export", "Type", "Default", "Meaning").rows
    shown = {words(key)[0]: default for key, _, default, _ in rows}
    assert shown == {key: default_of(field) for key, field in keys_of(Export).items()}
    kinds = {words(key)[0]: words(kind) for key, kind, _, _ in rows}
    assert kinds["format"] == _choices(Export.model_fields["format"].annotation)


def test_cells_are_written_as_shown(tmp_path: Path) -> None:
    with duckdb.connect(":memory:") as db:
        db.execute("SET TimeZone = 'UTC'")
        for value, shown in table(EXPORTS, "Value", "In the file").rows:
            (row,) = db.execute(f"SELECT {words(value)[0]}").fetchall()
            file = tmp_path / "cell.csv"
            write([["cell"], row], file, Layout())
            with file.open(encoding="utf-8", newline="") as handle:
                assert list(csv.reader(handle))[1] == words(shown)


def test_the_example_of_an_export_is_one(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export/files.yaml").write_text(code(EXPORTS, "yaml")[0], "utf-8")
    packaged = {export.name for export in load_exports()}
    (added,) = {export.name for export in load_exports(tmp_path)} - packaged
    assert f"export/{added}" in EXPORTS
    assert {word for cell in table(EXPORTS, "Export", "Is").column() for word in words(cell)} == packaged


def test_the_demo_in_the_readme_shows_every_export() -> None:
    assert set(re.findall(r"(?m)^ *export/(\w+) ", README)) == {export.name for export in load_exports()}


def test_every_form_and_sensor_of_alerts_is_described() -> None:
    from etl_assets.definitions import defs

    forms = [words(cell)[0] for cell in table(ALERTS, "`ALERT_WEBHOOK_FORMAT`").column()]
    assert tuple(forms) == WEBHOOK_FORMATS
    sensors = {sensor.name for sensor in defs().sensors or () if sensor.name.startswith("alert_")}
    assert sensors == {word for cell in table(ALERTS, "Sensor").column() for word in words(cell)}
    assert sensors <= set(words(OPERATIONS))
    assert f"not be delivered for {KEPT_DAYS} days" in ALERTS


# SQL


def test_the_commands_of_the_sql_page_print_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("ETL_SOURCES_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    with running(vendors=("backlog", "tmetric")) as sandbox:
        for name, value in sandbox.env().items():
            monkeypatch.setenv(name, value)
        for block in code(SQL, "console"):
            for shown in re.split(r"(?m)^\$ etl-assets ", block)[1:]:
                command, _, output = shown.partition("\n")
                assert CliRunner().invoke(main, shlex.split(command)).output == output, command


def test_every_property_of_a_connection_is_described_and_no_other() -> None:
    assert [word for cell in table(SQL, "Property").column() for word in words(cell)] == list(PROPERTIES)


def test_every_option_of_the_sql_command_is_described() -> None:
    options = {name for option in main.commands["sql"].params for name in option.opts if name.startswith("--")}
    described = {name for word in words(SQL) for name in re.findall(r"--[a-z-]+", word)}
    assert options <= described


def test_every_error_of_the_sql_page_is_one_of_the_module() -> None:
    named = [word for cell in table(SQL, "Error").column() for word in words(cell)]
    assert all(issubclass(getattr(dbapi, name), dbapi.Error) for name in named)
