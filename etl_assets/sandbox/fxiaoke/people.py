"""The people and departments of Fxiaoke's simulated tenant, and the address book that shows them.

Employees have two ids: a number within the CRM, and an FSUID outside of it.
"""

from collections.abc import Iterable, Mapping

import msgspec

from etl_assets.sandbox.fxiaoke.fields import Row
from etl_assets.sandbox.times import DAY, at
from etl_assets.sandbox.world import FIRST_DAY, secret

COMPANY = "999999"
SYSTEM = "-10000"
ADMIN = "1000"
TENANT_ID = "700001"

_FIRST = 1000
_COUNT = 40
_STOPPED = frozenset({1007, 1033})
_ZONE = "Asia/Shanghai"

_SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗"
_GIVEN = ("伟", "芳", "娜", "秀英", "敏", "静", "强", "磊", "军", "洋", "勇", "艳", "杰")
_POSITIONS = ("销售代表", "销售经理", "仓库主管", "客服", '工程师 "A"')


class Department(msgspec.Struct, frozen=True):
    """A department. The company is the root."""

    id: str
    name: str
    parent_id: str | None
    manager_id: str
    stopped: bool = False


class Employee(msgspec.Struct, frozen=True):
    """Somebody who may own rows and act for the API."""

    id: str
    open_id: str
    name: str
    sex: str
    mobile: str
    email: str
    department_id: str
    vice_department_ids: tuple[str, ...]
    leader_id: str | None
    position: str
    hired: int
    stopped: bool

    @property
    def is_admin(self) -> bool:
        """Whether they see everybody's rows."""
        return self.id == ADMIN


class People:
    """Everybody, by both ids, and all departments."""

    def __init__(self, seed: int) -> None:
        self.departments = {department.id: department for department in _departments()}
        self.employees = {str(number): _employee(number, seed) for number in range(_FIRST, _FIRST + _COUNT)}
        self._by_open_id = {employee.open_id: employee for employee in self.employees.values()}
        # The same object for every row a person owns: rows are rendered by the hundred thousand.
        self._persons = {employee.id: self._person(employee) for employee in self.employees.values()}
        self._persons[SYSTEM] = {"id": SYSTEM, "name": "系统"}
        self._units = {
            unit.id: {"deptId": unit.id, "deptName": unit.name, "status": int(unit.stopped)}
            for unit in self.departments.values()
        }

    def by_open_id(self, open_id: str) -> Employee | None:
        """An employee by FSUID."""
        return self._by_open_id.get(open_id)

    def internal(self, person_id: str) -> str:
        """The CRM's id of somebody given by either id; other texts as they are."""
        employee = self._by_open_id.get(person_id)
        return employee.id if employee else person_id

    def external(self, person_id: str) -> str:
        """The FSUID of an employee; ids of nobody in particular as they are."""
        employee = self.employees.get(person_id)
        return employee.open_id if employee else person_id

    def person(self, person_id: str) -> Row:
        """Who an id means, as companions `__r` and `__l` show it."""
        return self._persons.get(person_id) or {"id": person_id, "name": person_id}

    def unit(self, department_id: str) -> Row:
        """Which department an id means, as companions show it."""
        return self._units.get(department_id) or {"deptId": department_id, "deptName": department_id}

    def inside(self, department_id: str, *, below: bool) -> list[Employee]:
        """Who works in a department, or also in those `below` it."""
        wanted = {department_id}
        if below:
            for unit in self.departments.values():  # parents come before children
                if unit.parent_id in wanted:
                    wanted.add(unit.id)
        return [
            employee
            for employee in self.employees.values()
            if employee.department_id in wanted or not wanted.isdisjoint(employee.vice_department_ids)
        ]

    def user(self, employee: Employee, *, detailed: bool = False) -> Row:
        """An employee as `user/list` and `user/get` show them."""
        main = int(employee.department_id)
        row: Row = {
            "openUserId": employee.open_id,
            "name": employee.name,
            "nickName": employee.name,
            "isStop": employee.stopped,
            "email": employee.email,
            "mobile": employee.mobile,
            "gender": employee.sex,
            "position": employee.position,
            "departmentIds": [main, *map(int, employee.vice_department_ids)],
            "employeeNumber": f"E{employee.id}",
            "hireDate": employee.hired,
            "birthDate": None,
            "createTime": employee.hired,
            "leaderId": employee.leader_id and self.external(employee.leader_id),
        }
        if detailed:
            row |= {
                "mainDepartmentId": main,
                "attachingDepartmentIds": list(map(int, employee.vice_department_ids)),
            }
        return row

    def _person(self, employee: Employee) -> Row:
        return {
            "id": employee.id,
            "name": employee.name,
            "dept": employee.department_id,
            "status": int(employee.stopped),
            "tenantId": TENANT_ID,
        }


def simple_user(employee: Employee) -> Row:
    """An employee as `user/simpleList` shows them."""
    return {"openUserId": employee.open_id, "name": employee.name, "nickName": employee.name}


def listed_departments(departments: Mapping[str, Department]) -> Iterable[Row]:
    """Departments as `department/list` shows them."""
    return (
        {
            "id": int(unit.id),
            "name": unit.name,
            "parentId": int(unit.parent_id or 0),
            "isStop": unit.stopped,
            "order": number,
        }
        for number, unit in enumerate(departments.values())
    )


def _departments() -> tuple[Department, ...]:
    return (
        Department(COMPANY, "演示集团", None, ADMIN),
        Department("1000", "总经办", COMPANY, ADMIN),
        Department("1001", "华东销售部", COMPANY, "1001"),
        Department("1002", "华南销售部", COMPANY, "1002"),
        Department("1003", "仓储,物流部", COMPANY, "1003"),
        Department("1004", '"创新"业务部🚀', COMPANY, "1004"),
        Department("1005", "华东一组", "1001", "1005"),
        Department("1006", "停用部门", "1002", "1002", stopped=True),
    )


def _employee(number: int, seed: int) -> Employee:
    index = number - _FIRST
    sales = 1001 + index % 5
    return Employee(
        id=str(number),
        open_id=f"FSUID_{secret('fxiaoke', seed, 'user', number)[:32].upper()}",
        name=_SURNAMES[index % len(_SURNAMES)] + _GIVEN[index * 7 % len(_GIVEN)],
        sex="F" if index % 3 == 1 else "M",
        mobile=f"1380000{number:04}",
        email=f"user{number}@example.com",
        department_id="1000" if number == _FIRST else str(sales),
        vice_department_ids=("1003",) if index % 6 == 5 else (),
        leader_id=None if number == _FIRST else ADMIN if index <= 5 else str(sales),
        position="总经理" if number == _FIRST else _POSITIONS[index % len(_POSITIONS)],
        hired=1000 * (at(_ZONE, FIRST_DAY) - DAY * (40 + 17 * index)),
        stopped=number in _STOPPED,
    )
