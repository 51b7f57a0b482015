"""What Fxiaoke's users may change through the API: make, change, invalidate and delete rows.

Changes that no user could make are `fxiaoke_data.Changes`.
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from etl_assets.sandbox.fxiaoke.access import Caller
from etl_assets.sandbox.fxiaoke.data import Table, Tenant
from etl_assets.sandbox.fxiaoke.fields import COMPUTED, DECIMALS, OBJECTS, TIMES, CrmObject, Field, Row
from etl_assets.sandbox.fxiaoke.query import SHAPE, VALUE, ApiError, Sight

NO_RIGHT = 20014

_NAMING = frozenset({"dataObjectApiName", "object_describe_api_name", "_id"})
_SPECIFIED = {"create_time": "hasSpecifyTime", "created_by": "hasSpecifyCreatedBy"}


class Writer:
    """Writes rows as the API's users do."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._numbers = 0

    def create(self, kind: CrmObject, body: Mapping[str, Any], data: Mapping[str, Any], caller: Caller) -> Row:
        """Make a row and its detail rows; all or nothing. Without an owner it is the caller's."""
        if caller.employee is None:
            raise no_right()
        given = _object(data, "object_data")
        details = data.get("details") or {}
        if not isinstance(details, dict) or not all(isinstance(rows, list) for rows in details.values()):
            raise ApiError(SHAPE, "details 必须是列表的对象")
        if strange := details.keys() - set(kind.details):
            raise ApiError(VALUE, f"{kind.name} 没有从对象 {', '.join(sorted(strange))}")
        master = self._new(kind, given, body, caller.employee.id)
        made: list[tuple[Table, Row]] = [(self._tenant.tables[kind.name], master)]
        for name, rows in details.items():
            detail = OBJECTS[name]
            link = next(field.name for field in detail.fields.values() if field.type == "master_detail")
            for row in rows:
                made.append(
                    (
                        self._tenant.tables[name],
                        self._new(detail, {**row, link: master["_id"]}, body, caller.employee.id),
                    )
                )
        for table, row in made:
            table.put(row)
        result: Row = {"dataId": master["_id"]}
        if body.get("includeDetailIds"):
            result["details"] = {
                name: [row["_id"] for table, row in made if table.kind.name == name] for name in details
            }
        return result

    def update(self, kind: CrmObject, data: Mapping[str, Any], sight: Sight | None) -> Row:
        """Change fields of a row. The owner stays who they are."""
        given = _object(data, "object_data")
        table = self._tenant.tables[kind.name]
        row = self._seen(table, given.get("_id"), sight)
        fields = {
            name: self._stored(_writable(kind, name), value)
            for name, value in given.items()
            if name not in _NAMING and name != "owner"
        }
        table.put(self._tenant.changed(row, fields))
        return {}

    def invalidate(self, kind: CrmObject, data: Mapping[str, Any], sight: Sight | None) -> Row:
        """Move rows to the recycle bin, all or none."""
        table = self._tenant.tables[kind.name]
        for row in [self._seen(table, row_id, sight) for row_id in _ids(data)]:
            table.put(self._tenant.invalidated(row))
        return {}

    def delete(self, kind: CrmObject, data: Mapping[str, Any], sight: Sight | None) -> Row:
        """Delete rows from the recycle bin for good, all or none."""
        table = self._tenant.tables[kind.name]
        rows = [self._seen(table, row_id, sight) for row_id in _ids(data)]
        if alive := [row["_id"] for row in rows if row["life_status"] != "invalid"]:
            raise ApiError(VALUE, f"数据未作废，不能删除: {', '.join(alive)}")
        for row in rows:
            table.remove(row["_id"])
        return {}

    def _seen(self, table: Table, row_id: Any, sight: Sight | None) -> Row:
        row = table.get(row_id) if isinstance(row_id, str) else None
        if row is None:
            raise ApiError(VALUE, f"数据 {row_id} 不存在")
        if sight is not None and not sight(row):
            raise no_right()
        return row

    def _new(self, kind: CrmObject, given: Mapping[str, Any], body: Mapping[str, Any], caller_id: str) -> Row:
        fields: Row = {}
        for name, value in given.items():
            if name in _NAMING or (name in _SPECIFIED and not body.get(_SPECIFIED[name])):
                continue
            fields[name] = self._stored(_writable(kind, name, at_birth=True), value)
        for field in kind.fields.values():
            if field.type == "auto_number":
                self._numbers += 1
                fields.setdefault(field.name, f"NEW{self._numbers:07}")
            elif field.required and field.name != "owner" and fields.get(field.name) is None:
                raise ApiError(VALUE, f"{field.label} 不能为空")
        owner = next(iter(fields.get("owner") or []), caller_id)
        return self._tenant.new_row(kind, owner, fields)

    def _stored(self, field: Field, value: Any) -> Any:
        """A value as rows hold it."""
        if value is None:
            return None
        try:
            return self._converted(field, value)
        except (ValueError, TypeError, InvalidOperation) as error:
            raise ApiError(VALUE, f"{field.label} 的值不合法") from error

    def _converted(self, field: Field, value: Any) -> Any:
        if field.is_list:
            if not isinstance(value, list):
                raise TypeError(field.type)
            return [item if isinstance(item, dict) else self._tenant.people.internal(str(item)) for item in value]
        if field.type in DECIMALS:
            return f"{Decimal(str(value)).quantize(Decimal(1).scaleb(-(field.places or 0))):f}"
        if field.type in TIMES:
            return int(value)
        if field.type == "true_or_false":
            return bool(value)
        if field.type == "select_one" and value not in {option for option, _ in field.options}:
            raise ValueError(value)
        return str(value)


def no_right() -> ApiError:
    """The refusal of a row that the acting employee may not see."""
    return ApiError(NO_RIGHT, "无此操作的数据权限")


def _writable(kind: CrmObject, name: str, *, at_birth: bool = False) -> Field:
    field = kind.fields.get(name)
    if field is None:
        raise ApiError(VALUE, f"字段 {name} 不存在")
    free = name in {"record_type", "data_own_department"} or (at_birth and (name == "owner" or name in _SPECIFIED))
    if (field.system and not free) or field.type in COMPUTED:
        raise ApiError(VALUE, f"字段 {name} 不可写")
    return field


def _object(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = data.get(name)
    if not isinstance(value, dict):
        raise ApiError(SHAPE, f"{name} 必须是对象")
    return value


def _ids(data: Mapping[str, Any]) -> list[Any]:
    """One id, or a list of them."""
    ids = data.get("idList", [data["object_data_id"]] if "object_data_id" in data else None)
    if not isinstance(ids, list) or not ids:
        raise ApiError(SHAPE, "object_data_id 或 idList 不能为空")
    return ids
