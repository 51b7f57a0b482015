"""The model of a push file: what a target is, and which rows are written to it, and how.

One YAML file describes one target; docs/push.md explains every key.
What to put here: the vocabulary and its consistency rules. What to keep out: how any of it is carried out.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from etl_assets.spec import BUILT_IN, PLACEHOLDER, ColumnName, Duration, Errors, Model, Name, Service, UrlPath, Zone

ONLY_TO_SEND = frozenset({"write", "update", "delete", "look_up", "id_check", "idempotency"})
"""Keys of a push that have no meaning where nothing is sent."""

_OF_ONE = {"document", "id", "target_id"}
_OF_MANY = {"documents", "ids", "target_ids"}
_MOMENTS = ("date", "timestamp")
_TABLE = r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$"


def _short(key: str) -> BeforeValidator:
    """A text alone stands for the mapping with that key."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


class Origin(Model):
    """Where the rows come from: exactly one of the three."""

    table: str | None = Field(None, pattern=_TABLE, description="Warehouse table: `jushuitan.shops`, `mart.worklog`.")
    clean: str | None = Field(None, pattern=_TABLE, description="Clean files of a snapshot stream: `jushuitan.shops`.")
    sql: str | None = Field(None, description="One SELECT over warehouse tables, each named with its schema.")

    @model_validator(mode="after")
    def _one(self) -> "Origin":
        if sum(value is not None for value in (self.table, self.clean, self.sql)) != 1:
            raise ValueError("give exactly one of table, clean and sql")
        return self


class Default(Model):
    """What to send in place of a value that was not found."""

    value: Any = Field(description="Any value, also null.")


Unmatched = Literal["reject", "keep"] | Default


class Reference(Model):
    """A reference table in which values are looked up."""

    table: str = Field(pattern=_TABLE, description="Warehouse table.")
    key: ColumnName = Field(description="Its column that a value must equal, compared as text.")
    value: ColumnName = Field(description="Its column to take.")
    unmatched: Unmatched = Field(description="A value that is not there: reject the row, keep it, or `{value: …}`.")


class ValueMap(Model):
    """Our values, and what they are called at the target."""

    values: dict[str | int | bool, Any] = Field(description="`ours: theirs`; ours is compared as text.")
    unmatched: Unmatched = Field(description="A value that is not there: reject the row, keep it, or `{value: …}`.")


class TargetField(Model):
    """One field of the document: a column or a constant, looked up, mapped and written in a form, in this order."""

    column: ColumnName | None = Field(None, description="Column of the row.")
    value: Any = Field(None, description="A constant instead of a column.")
    lookup: Name | None = Field(None, description="Reference of `lookups` in which the value is looked up.")
    map: Name | None = Field(None, description="Value map of `maps` through which the value goes.")
    type: Literal["string", "integer", "number", "boolean", "date", "timestamp", "json"] | None = Field(
        None, description="What it must become; by default what the column is."
    )
    format: str = Field(
        "iso", description="How a date or timestamp is written: iso, date, epoch_s, epoch_ms or a strftime pattern."
    )
    decimals: int | None = Field(None, ge=0, le=20, description="Digits behind the point, for a string or number.")
    if_null: Literal["send", "omit", "reject"] = Field(
        "send", description="No value: send null, leave the field out, or reject the row."
    )

    @model_validator(mode="after")
    def _possible(self) -> "TargetField":
        if ("column" in self.model_fields_set) == ("value" in self.model_fields_set):
            raise ValueError("give either a column or a value")
        if self.column is None and self.model_fields_set - {"value"}:
            raise ValueError("value: a constant is sent as it is")
        if self.format not in ("iso", "date", "epoch_s", "epoch_ms") and "%" not in self.format:
            raise ValueError(f"format: {self.format!r} is none of iso, date, epoch_s, epoch_ms, nor a strftime pattern")
        if self.format != "iso" and self.type not in (*_MOMENTS, None):
            raise ValueError(f"format: a {self.type} has none; only a date or timestamp is written in several ways")
        if self.decimals is not None and self.type not in ("string", "number"):
            raise ValueError("decimals: needs type string or number")
        return self


class Results(Model):
    """What the answer to a request says about each of its records."""

    rows: str | None = Field(
        None, description="Path of the list with an entry per record. Without it the answer is about all of them."
    )
    id: str | None = Field(None, description="Path of the record's id in an entry. Without it, in the order sent.")
    code: str | None = Field(None, description="Path of an entry's error code. Without it every entry is a success.")
    ok: list[str | int | bool] = Field(default_factory=list, description="Codes that mean success, compared as text.")
    final: list[str | int] = Field(
        default_factory=list, description="Codes that no repetition mends: a dead letter at once."
    )
    message: str | None = Field(None, description="Path of an entry's message.")
    target_id: str | None = Field(None, description="Path of the target's own id of the record.")

    @model_validator(mode="after")
    def _codes(self) -> "Results":
        if bool(self.code) != bool(self.ok):
            raise ValueError("code: `code` and `ok` belong together")
        return self


class Call(Model):
    """A request about some records."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field("POST", description="HTTP method.")
    path: UrlPath = Field(description="Path; may hold placeholders.")
    params: dict[str, Any] = Field(default_factory=dict, description="Query parameters; a list repeats the key.")
    headers: dict[str, str] = Field(default_factory=dict, description="Further headers.")
    json_body: Any = Field(None, alias="json", description="JSON body.")
    size: int = Field(1, ge=1, le=10_000, description="Most records per request.")
    bucket: str = Field("default", description="Rate bucket of `limits.rates`.")

    @property
    def label(self) -> str:
        """Its name in texts."""
        return f"{self.method} {self.path}"

    @property
    def names_record(self) -> bool:
        """Whether the path is that of one record, so that what is not found there is that record."""
        return bool({"id", "target_id"} & _placeholders(self.path))


class Write(Call):
    """A request that changes records, and how its answer is read."""

    results: Results = Field(
        default_factory=lambda: Results.model_validate({}), description="Where the answer tells of each record."
    )


class LookUp(Call):
    """A request that asks the target for records by our id."""

    rows: str | None = Field(
        None, description="Path of the list of records found. Without it the answer is the one record."
    )
    absent: list[str | int] = Field(
        default=[404], description="HTTP status or error codes that mean that there is none."
    )
    id: str = Field(description="Path of our id in a record found.")
    target_id: str | None = Field(None, description="Path of the target's own id in a record found.")
    record: str = Field("", description="Path of the fields that were written; by default the record itself.")
    compare: list[str] | None = Field(
        None, description="Fields that tell whether a write has arrived; by default all of the document."
    )
    after: Duration = Field(
        timedelta(seconds=5), description="How long after a lost answer the target is asked at the earliest."
    )

    @model_validator(mode="after")
    def _one_at_a_time(self) -> "LookUp":
        if self.rows is None and self.size > 1:
            raise ValueError("rows: needed where several records are asked for at once")
        return self


class Idempotency(Model):
    """How the target recognises a repeated request: a key in a header, or one in each document."""

    header: str | None = Field(None, description="Header with a key per request.")
    field: str | None = Field(None, description="Field of each document with a key per record.")
    valid: Duration = Field(timedelta(hours=24), description="How long the target remembers a key.")

    @model_validator(mode="after")
    def _one(self) -> "Idempotency":
        if bool(self.header) == bool(self.field):
            raise ValueError("give either a header or a field")
        return self


class Removed(Model):
    """What becomes of a record at the target whose row is gone."""

    action: Literal["ignore", "delete"] = Field(description="Leave it, or make the `delete` call.")
    at_most: float = Field(
        0.5, gt=0, le=1, description="Share of the records that one run may delete; more, and nothing is sent."
    )


class Push(Model):
    """Rows, the documents they become, and the requests that carry these."""

    name: Name = Field(description="Name: the asset is `push/<target>/<name>`.")
    description: str = Field("", description="One sentence for the UI.")
    origin: Origin = Field(alias="from", description="Where the rows come from.")
    key: Annotated[list[ColumnName], Field(min_length=1)] = Field(description="Columns that make up a record's id.")
    mode: Literal["send", "land_only"] = Field(
        "send", description="land_only (写入空操作): the documents are written to the landing, and nothing is sent."
    )
    values: dict[Name, str] = Field(default_factory=dict, description="Placeholders of this push: `name: value`.")
    fields: Annotated[
        dict[str, Annotated[TargetField, _short("column")]],
        Field(min_length=1, description="The document: `path at the target: column`, or `path: {…}`."),
    ]
    lookups: dict[Name, Reference] = Field(default_factory=dict, description="Reference tables.")
    maps: dict[Name, ValueMap] = Field(default_factory=dict, description="Value maps.")
    write: Write | None = Field(None, description="Writes records, new and changed ones.")
    update: Write | None = Field(None, description="Writes records that the target has already; by default `write`.")
    delete: Write | None = Field(None, description="Deletes records.")
    look_up: LookUp | None = Field(None, description="Asks which records the target has.")
    id_check: Literal["update", "skip", "reject"] | None = Field(
        None,
        description="A record never sent before is looked up first: one that exists is updated, skipped or rejected.",
    )
    idempotency: Idempotency | None = Field(None, description="How the target recognises a repeated request.")
    in_doubt: Literal["report", "resend"] = Field(
        "report", description="After a lost answer, where neither a key nor a look-up decides: tell, or send again."
    )
    removed: Annotated[Removed, _short("action")] = Field(
        default=Removed(action="ignore", at_most=0.5), description="Rows that are gone."
    )
    attempts: int = Field(3, ge=1, le=100, description="How often a record is sent before it is a dead letter.")
    split_on: list[str | int] = Field(
        default=[400, 413, 422],
        description="HTTP status or error codes by which a whole request is refused for the sake of some records.",
    )
    dead_letters: Literal["warn", "error"] = Field("warn", description="Severity of the check `no_dead_letters`.")
    errors: Errors | None = Field(None, description="Errors inside HTTP 200 answers.")

    @model_validator(mode="after")
    def _consistent(self) -> "Push":
        for path, field in self.fields.items():
            for role, name, known in (("lookup", field.lookup, self.lookups), ("map", field.map, self.maps)):
                if name and name not in known:
                    raise ValueError(f"fields.{path}.{role}: there is no {name!r} under {role}s")
            if above := next((other for other in self.fields if path.startswith(f"{other}.")), None):
                raise ValueError(f"fields.{path}: {above!r} is a value and cannot hold another")
        if self.mode == "land_only":
            if given := sorted(ONLY_TO_SEND & self.model_fields_set):
                raise ValueError(f"{given[0]}: land_only sends nothing")
            return self
        if self.write is None:
            raise ValueError("write: needed unless mode is land_only")
        if self.removed.action == "delete" and self.delete is None:
            raise ValueError("removed: delete needs the `delete` call")
        if self.id_check and self.look_up is None:
            raise ValueError("id_check: needs the `look_up` call")
        for role, call in self.calls():
            self._check_call(role, call)
        return self

    def calls(self) -> Iterator[tuple[str, Call]]:
        """The requests that are declared, each with its key."""
        for role in ("write", "update", "delete", "look_up"):
            if call := getattr(self, role):
                yield role, call

    def _check_call(self, role: str, call: Call) -> None:
        used = _placeholders([call.path, call.params, call.headers, call.json_body])
        if call.size > 1 and (one := sorted(_OF_ONE & used)):
            raise ValueError(f"{role}.size: {{{one[0]}}} stands for one record; use {{{one[0]}s}}, or size 1")
        if role in ("write", "update") and not {"document", "documents"} & used:
            raise ValueError(f"{role}: neither {{document}} nor {{documents}} is sent")
        if role in ("delete", "look_up") and (sent := sorted({"document", "documents"} & used)):
            raise ValueError(f"{role}: {{{sent[0]}}} is not known there")
        if role in ("write", "look_up") and (unknown := sorted({"target_id", "target_ids"} & used)):
            raise ValueError(f"{role}: {{{unknown[0]}}} is not known there; declare `update`")


class Target(Service):
    """A push file: one target and what is pushed to it."""

    target: Name = Field(description="Name of the target: asset group, prefix of its variables.")
    timezone: Zone = Field(description="IANA zone in which instants are written.")
    defaults: dict[str, Any] = Field(
        default_factory=dict, description="Keys of every push that does not set them itself."
    )
    pushes: Annotated[list[Push], Field(min_length=1)] = Field(description="The pushes.")

    @model_validator(mode="after")
    def _consistent(self) -> "Target":
        names = [push.name for push in self.pushes]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"pushes: two pushes are named {name!r}")
        for push in self.pushes:
            known = _OF_ONE | _OF_MANY | BUILT_IN | set(self.settings) | set(push.values)
            for role, call in push.calls():
                where = f"pushes.{push.name}.{role}"
                used = _placeholders([call.path, call.params, call.headers, call.json_body])
                if unknown := sorted(used - known):
                    raise ValueError(
                        f"{where}: placeholder {{{unknown[0]}}} means nothing here; known: {sorted(known)}"
                    )
                if call.bucket != "default" and call.bucket not in self.limits.rates:
                    raise ValueError(f"{where}.bucket: {call.bucket!r} is not under limits.rates")
        return self

    @property
    def name(self) -> str:
        """The target's name."""
        return self.target

    def push(self, name: str) -> Push:
        """The push of that name; KeyError without one."""
        return {push.name: push for push in self.pushes}[name]


def _placeholders(tree: object) -> set[str]:
    if isinstance(tree, str):
        return set(PLACEHOLDER.findall(tree))
    if isinstance(tree, dict):
        tree = list(tree.values())
    return set().union(*map(_placeholders, tree)) if isinstance(tree, list) else set()
