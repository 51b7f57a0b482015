"""How rows of Fxiaoke look in answers: people in two kinds of ids, companions of fields, what is left out.

`X__r` is the name of what X refers to, an object for people and departments and text for references; `X__l`
lists people or departments. Pure appearance: which rows there are belongs to `fxiaoke_data`.
"""

from functools import lru_cache

import msgspec

from etl_assets.sandbox.fxiaoke.data import Tenant
from etl_assets.sandbox.fxiaoke.fields import COMPUTED, DEPARTMENTS, OBJECTS, PEOPLE, REFERENCES, CrmObject, Field, Row

_COMPANIONS = ("__r", "__l", "__o", "__v")


class _Plan(msgspec.Struct, frozen=True):
    """The fields of one object that look different in answers, with the names of their companions."""

    people: tuple[tuple[str, str, str], ...]
    units: tuple[tuple[str, str, str], ...]
    references: tuple[tuple[str, str, str], ...]
    computed: frozenset[str]


class Shapes:
    """The looks of one tenant's rows."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._people = tenant.people
        self._plans = {kind.name: _plan(kind) for kind in OBJECTS.values()}

    def row(
        self,
        kind: CrmObject,
        stored: Row,
        *,
        open_ids: bool,
        nulls: bool,
        only: frozenset[str] | None = None,
        computed: bool = True,
    ) -> Row:
        """A row as the API sends it: `open_ids` for FSUIDs, `nulls` for empty fields, `only` some fields."""
        plan = self._plans[kind.name]
        row = stored | self._companions(plan, stored)
        if open_ids:
            row |= self._opened(plan, stored)
        if not nulls:
            row = {name: value for name, value in row.items() if value is not None}
        if only is not None:
            row = {name: value for name, value in row.items() if _field_of(name) in only}
        if not computed:
            row = {name: value for name, value in row.items() if _field_of(name) not in plan.computed}
        return row

    def flat(self, kind: CrmObject, stored: Row, *, open_ids: bool) -> Row:
        """A row as plain facts: every field, and the names of references."""
        plan = self._plans[kind.name]
        names = {
            of_one: self._tenant.name_of(target, stored[name]) if stored[name] else None
            for name, of_one, target in plan.references
        }
        return {**stored, **names, **(self._opened(plan, stored) if open_ids else {})}

    def _companions(self, plan: _Plan, stored: Row) -> Row:
        companions: Row = {}
        for look, names in ((self._people.person, plan.people), (self._people.unit, plan.units)):
            for name, of_one, of_all in names:
                if values := stored.get(name):
                    companions[of_all] = shown = [look(value) for value in values]
                    if of_one:
                        companions[of_one] = shown[0]
        for name, of_one, target in plan.references:
            if value := stored.get(name):
                companions[of_one] = self._tenant.name_of(target, value)
        if team := stored.get("relevant_team"):
            people = [person for member in team for person in member["teamMemberEmployee"]]
            companions["relevant_team__r"] = ",".join([self._people.person(person)["name"] for person in people])
        return companions

    def _opened(self, plan: _Plan, stored: Row) -> Row:
        external = self._people.external
        opened: Row = {}
        for name, _, _ in plan.people:
            if values := stored.get(name):
                opened[name] = [external(person) for person in values]
        if team := stored.get("relevant_team"):
            opened["relevant_team"] = [
                {**member, "teamMemberEmployee": [external(person) for person in member["teamMemberEmployee"]]}
                for member in team
            ]
        return opened


def _plan(kind: CrmObject) -> _Plan:
    fields = kind.fields.values()
    return _Plan(
        people=tuple(_with_companions(field) for field in fields if field.type in PEOPLE),
        units=tuple(_with_companions(field) for field in fields if field.type in DEPARTMENTS),
        references=tuple(
            (field.name, f"{field.name}__r", field.target)
            for field in fields
            if field.type in REFERENCES and field.target
        ),
        computed=frozenset(field.name for field in fields if field.type in COMPUTED),
    )


def _with_companions(field: Field) -> tuple[str, str, str]:
    """A field of people or departments and its companions: that of one value only if it can have no more."""
    return field.name, "" if field.type.endswith("_many") else f"{field.name}__r", f"{field.name}__l"


@lru_cache(maxsize=4096)
def _field_of(name: str) -> str:
    """The field that a name belongs to: its own, or the one that it is a companion of."""
    return name[:-3] if name.endswith(_COMPANIONS) else name
