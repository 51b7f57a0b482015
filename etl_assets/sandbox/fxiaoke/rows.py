"""What the rows of each object of Fxiaoke's simulated tenant hold: a function of seed and index.

Values are as the API's JSON has them: decimals as text, instants as epoch milliseconds, people as lists of
the CRM's own ids, None for what is empty. How rows come to be belongs to `fxiaoke_base`, changes to
`fxiaoke_data`.
"""

from etl_assets.sandbox.fxiaoke.base import DAY, SECOND, START, Daily, Fixed, Head, seconds_id, system_fields
from etl_assets.sandbox.fxiaoke.fields import INVENTORY, Row
from etl_assets.sandbox.fxiaoke.people import ADMIN, People
from etl_assets.sandbox.world import numbers

PRODUCT_COUNT = 120

_CITIES = (
    ("上海市", "264", "500", "121.4737", "31.2304"),
    ("北京市", "249", "485", "116.4074", "39.9042"),
    ("深圳市", "267", "560", "114.0579", "22.5431"),
)
_WAREHOUSES = (
    "一号仓", '"保税"仓', "中心仓,东区", "前海仓🚚", "Main Warehouse", "临时仓\n(二期)", "冷链仓；A区", "=1+1仓",
    "\t转运仓", "仓\\北", "O'Neil 仓", "  空格仓  ", "𠮷野仓",
)  # fmt: skip
_COMPANIES = (
    "星辰贸易有限公司", '"华东"商贸', "远航,物流集团", "绿洲\n食品(集团)", "Umbrella, Inc.", "量子科技🚀",
    "O'Brien & 子", "和\u2028信实业", "百分百%#股份", "山海\\文化",
)  # fmt: skip
_REMARKS = (
    None, None, "", "正常", "第一行\n第二行", '客户说:"尽快",谢谢', "急!🔥", "a\tb\r\nc", "NULL", "{\"json\": [1, 2]}",
    "1,234.50", "全角，标点。",
)  # fmt: skip
_NAMES = ("王小明", "李 雷", "韩梅梅", 'Anna "Ann" Wu', "欧阳,娜娜", "陈\n晨", "吉野🌸", "Zoë")
_PRODUCTS = (
    "智能音箱",
    "无线鼠标",
    '显示器 27"',
    "绿茶,特级",
    "收纳盒\n(三件套)",
    "LED 台灯💡",
    "C:\\Cable",
    "坚果礼盒",
)


class Accounts(Daily):
    """Customers."""

    def __init__(self, seed: int, days: int, per_day: int, people: People) -> None:
        super().__init__("AccountObj", seed, days, per_day)
        self._people = people

    def named(self, index: int) -> str:
        """The name of a customer, without the rest."""
        return f"{_CITIES[index % 3][0][:2]}{_COMPANIES[index % len(_COMPANIES)]}{index}"

    def level(self, index: int) -> str:
        """The level of a customer, without the rest."""
        return str(1 + self.words(index)[1] % 3)

    def row(self, head: Head) -> Row:
        """All fields of a customer."""
        modified, row_id, _, index = head
        who, what, which, amount, more, rest = self.words(index)
        place, province, city, longitude, latitude = _CITIES[index % 3]
        address = f'{place}人民路{1 + which % 999}号, "{chr(65 + which % 26)}" 座'
        dealt = which & 3
        return self.common(head, who, self._people) | {
            "name": self.named(index),
            "account_no": f"C{index + 1:09}",
            "account_type": ("1", "2", "other")[what % 3],
            "account_type__o": "战略合作" if what % 3 == 2 else None,
            "account_level": str(1 + what % 3),
            "account_source": None if what & 16 else str(1 + what % 3),
            "account_status": "2",
            "deal_status": ("1", "2", "3", "3")[dealt],
            "industry_level1": str(1 + what % 3),
            "industry_level2": f"{1 + what % 3}1",
            "tel": f"+86-21-{which % 10**8:08}" if which & 8 else None,
            "fax": None,
            "email": f"info{index}@example.com" if which & 16 else None,
            "url": f"https://example.com/{index}?a=1&b=2" if which & 32 else None,
            "address": address,
            "location": f"{longitude}#%${latitude}#%${address}",
            "country": "248",
            "province": province,
            "city": city,
            "district": None,
            "remark": _REMARKS[what % len(_REMARKS)],
            "high_seas_id": None,
            "high_seas_name": "公共,公海" if what & 64 else None,
            "back_reason": None,
            "recycled_reason": None,
            "remaining_time": None,
            "transfer_count": str(more % 5),
            "is_remind_recycling": bool(more & 8),
            "completion_rate": f"{more % 10001 // 100}.{more % 100:02}",
            "filling_checker_id": [ADMIN] if more & 16 else None,
            "partner_id": None,
            "out_resources": None,
            "last_followed_time": modified - rest % (9 * DAY) if rest & 1 else None,
            "last_deal_closed_time": modified - DAY if dealt else None,
            "last_deal_closed_amount": _money(amount) if dealt else None,
            "total_refund_amount": "0.00",
            "pin_yin": f"kehu{index}",
            "UDSText1__c": f"OLD-{index:06}" if len(row_id) > 24 else None,
            "UDMSel1__c": _choices(rest, as_text=len(row_id) > 24),
            "field_cOd4K__c": "1",
        }


class Contacts(Daily):
    """People who work for customers, one each."""

    def __init__(self, accounts: Accounts, per_day: int, people: People, *, seed: int) -> None:
        super().__init__("ContactObj", seed, accounts.days, per_day)
        self._accounts = accounts
        self._people = people

    def row(self, head: Head) -> Row:
        """All fields of a contact."""
        index = head[3]
        who, what, which, *_ = self.words(index)
        return self.common(head, who, self._people) | {
            "name": f"{_NAMES[what % len(_NAMES)]}{index}",
            "account_id": self._accounts.neighbour(self.day_of(index), index - self.first(self.day_of(index)))[1],
            "job_title": None if what & 8 else "采购,经理",
            "department": None if what & 16 else "采购部",
            "mobile1": f"139{which % 10**8:08}",
            "tel1": None,
            "email": f"c{index}@example.com" if what & 32 else None,
            "gender": None if what & 64 else "FM"[what >> 7 & 1],
            "date_of_birth": None if what & 256 else START - (8_000 + which % 9_000) * DAY,
            "primary_contact": bool(what & 512),
            "remark": _REMARKS[(what >> 10) % len(_REMARKS)],
        }


class Orders(Daily):
    """Sales orders."""

    def __init__(self, accounts: Accounts, contacts: Contacts, per_day: int, people: People, *, seed: int) -> None:
        super().__init__("SalesOrderObj", seed, accounts.days, per_day)
        self._accounts = accounts
        self._contacts = contacts
        self._people = people

    def row(self, head: Head) -> Row:
        """All fields of an order; its amount is the sum of its lines."""
        _, _, created, index = head
        who, what, which, *_ = self.words(index)
        account = self._accounts.neighbour(self.day_of(index), which)
        day = (created - START) // DAY
        cents = sum(price * quantity for _, price, quantity in self.lines(index))
        return self.common(head, who, self._people) | {
            "name": order_name(index),
            "account_id": account[1],
            "order_time": START + day * DAY,
            "order_amount": _cents(cents),
            "discount": "100.00",
            "order_status": ("6", "7", "7", "7", "8", "10", "10", "99")[what & 7],
            "receipt_type": None if what & 8 else "1",
            "price_book_id": None,
            "quote_id": None,
            "ship_to_id": None if what & 16 else self._contacts.neighbour(self.day_of(index), which)[1],
            "ship_to_add": f'上海市, "浦东"新区 {which % 500} 号',
            "ship_to_tel": f"139{which % 10**8:08}",
            "delivery_date": None if what & 32 else START + (day + 3 + what % 9) * DAY,
            "remark": _REMARKS[(what >> 6) % len(_REMARKS)],
            "submit_time": created,
            "field_qLv1A__c": ("重点", "普通", "低价值")[int(self._accounts.level(account[3])) - 1],
            "field_qLv1A__c__v": self._accounts.level(account[3]),
        }

    def lines(self, index: int) -> list[tuple[int, int, int]]:
        """Product number, price in cents and quantity of each line of an order: one to three."""
        words = self.words(index)[3:]
        return [(w % PRODUCT_COUNT, 1 + (w >> 8) % 9_999_999, 1 + (w >> 40) % 99) for w in words[: 1 + index % 3]]


class OrderLines(Daily):
    """The lines of orders, modified with them. Three orders have six lines."""

    has_old_ids = False

    def __init__(self, orders: Orders, products: "Products", people: People, *, seed: int) -> None:
        super().__init__("SalesOrderProductObj", seed, orders.days, 0)
        self._orders = orders
        self._products = products
        self._people = people

    def first(self, day: int) -> int:
        """The index of the first line of a day's first order."""
        return _first_line(self._orders.first(day))

    def day_of(self, index: int) -> int:
        """The day of the line's order."""
        return self._orders.day_of(_order_of(index)[0])

    def is_invalid(self, index: int) -> bool:
        """Lines are invalid with their order."""
        return self._orders.is_invalid(_order_of(index)[0])

    def row(self, head: Head) -> Row:
        """All fields of a line."""
        index = head[3]
        number, line = _order_of(index)
        product, price, quantity = self._orders.lines(number)[line]
        order = self._orders.head(number)
        what = self.words(index)[0]
        return self.common(head, what, self._people) | {
            "name": f"{order_name(number)}-{line + 1}",
            "order_id": order and order[1],
            "product_id": self._products.id_of(product),
            "product_price": _cents(price),
            "sales_price": _cents(price),
            "quantity": f"{quantity}.00",
            "discount": "100.00",
            "subtotal": _cents(price * quantity),
            "unit": str(1 + product % 3),
            "price_book_product_id": None,
            "remark": _REMARKS[(what >> 16) % len(_REMARKS)],
        }

    def _day(self, day: int) -> list[Head]:
        heads = []
        for modified, _, created, number in self._orders.day(day):
            for line in range(1 + number % 3):
                index = _first_line(number) + line
                heads.append((modified, seconds_id(created, self._machine, index), created, index))
        return heads


class Inventory(Daily):
    """Inventory reports: the tenant's own object, so all ids are of the newer kind."""

    stride = 5
    has_old_ids = False

    def __init__(self, accounts: Accounts, per_day: int, people: People, *, seed: int) -> None:
        super().__init__(INVENTORY, seed, accounts.days, per_day)
        self._accounts = accounts
        self._people = people

    def row(self, head: Head) -> Row:
        """All fields of a report."""
        modified, _, _, index = head
        who, what, amount, which, more = self.words(index)
        place, _, _, longitude, latitude = _CITIES[what % 3]
        capacity = 100 * (1 + which % 500)
        stock = (which >> 16) % (capacity * 10_000)
        used = stock // capacity  # hundredths of a percent
        status = ("option1", "option1", "option2", "option3", None, "other", "option1", "option2")[what >> 8 & 7]
        account = self._accounts.neighbour(self.day_of(index), which) if what & 3 else None
        return self.common(head, who, self._people) | {
            "name": f"{place[:2]}{_WAREHOUSES[what % len(_WAREHOUSES)]}",
            "field_wH7cD__c": f"WH{index:06}",
            "field_Q1w2E__c": _amount(amount, index),
            "field_date__c": None if what & 0x800 else (modified - START) // DAY * DAY + START,
            "field_sel__c": status,
            "field_sel__c__o": "租赁仓, 待定" if status == "other" else None,
            "account_id__c": account and account[1],
            "field_cAp3T__c": str(capacity),
            "field_sTk8N__c": f"{stock // 10_000}.{stock % 10_000:04}",
            "field_uTl9P__c": f"{used // 100}.{used % 100:02}",
            "field_cNt4R__c": str(more % 40),
            "field_cTy2B__c": place,
            "field_lOc5A__c": f"{longitude}#%${latitude}#%${place}仓储路{more % 300}号" if more & 64 else None,
            "field_aRr6M__c": _choices(more >> 8, as_text=False, names=("dry", "cold", "frozen")),
            "field_kPr1U__c": [str(1001 + more % 30), str(1031 + more % 9)] if more & 128 else None,
            "field_dPt0V__c": ["1003"],
            "field_cHk2W__c": modified - more % DAY if more & 0x1000 else None,
            "field_oPn6X__c": (more >> 20) % 96 * 900 * SECOND if more & 0x2000 else None,
            "field_bOn5Y__c": bool(more & 0x4000),
            "field_rEm3Z__c": _REMARKS[(more >> 32) % len(_REMARKS)],
            "field_iMg8Q__c": _images(index) if more & 0x38000 == 0 else None,
            "UDSText1__c": None,
        }


class Products(Fixed):
    """What orders are made of."""

    def __init__(self, seed: int, days: int, people: People) -> None:
        super().__init__("ProductObj", seed, PRODUCT_COUNT, days)
        self._people = people

    def row(self, head: Head) -> Row:
        """All fields of a product."""
        index = head[3]
        what, price = numbers(2, self._seed, self.name, index)
        return self.common(head, self._people) | {
            "name": f"{_PRODUCTS[index % len(_PRODUCTS)]}-{index + 1}",
            "product_code": f"P{index + 1:05}",
            "category": str(1 + what % 3),
            "price": _cents(1 + price % 9_999_999),
            "unit": str(1 + index % 3),
            "product_status": "2" if index % 10 == 9 else "1",
            "product_spec": None if what & 4 else "颜色:红;尺寸:L,XL",
            "barcode": f"69{what % 10**11:011}",
            "picture_path": _images(index) if what & 8 else None,
            "remark": _REMARKS[(what >> 8) % len(_REMARKS)],
        }


class Personnel(Fixed):
    """Employees as rows."""

    def __init__(self, seed: int, days: int, people: People) -> None:
        super().__init__("PersonnelObj", seed, len(people.employees), days)
        self._people = people
        self._employees = list(people.employees.values())

    def row(self, head: Head) -> Row:
        """All fields of an employee, who owns their own row."""
        employee = self._employees[head[3]]
        own = system_fields(self.name, head[1], employee, self._people.departments[employee.department_id])
        return self.common(head, self._people) | {
            **{name: own[name] for name in ("owner", "owner_department", "owner_department_id", "relevant_team")},
            "name": employee.name,
            "user_id": employee.id,
            "full_name": employee.name,
            "sex": employee.sex,
            "phone": employee.mobile,
            "email": employee.email,
            "main_department": [employee.department_id],
            "vice_departments": list(employee.vice_department_ids) or None,
            "leader": employee.leader_id and [employee.leader_id],
            "position": employee.position,
            "employee_number": f"E{employee.id}",
            "date_of_joining": employee.hired,
            "status": str(int(employee.stopped)),
        }


class Departments(Fixed):
    """Departments as rows."""

    def __init__(self, seed: int, days: int, people: People) -> None:
        super().__init__("DepartmentObj", seed, len(people.departments), days)
        self._people = people
        self._units = list(people.departments.values())

    def row(self, head: Head) -> Row:
        """All fields of a department."""
        unit = self._units[head[3]]
        return self.common(head, self._people) | {
            "name": unit.name,
            "dept_id": unit.id,
            "dept_code": f"D{unit.id}",
            "parent_id": unit.parent_id and [unit.parent_id],
            "manager_id": [unit.manager_id],
            "dept_order": str(head[3]),
            "status": str(int(unit.stopped)),
        }


def order_name(index: int) -> str:
    """The number of an order."""
    return f"SO{index + 1:010}"


def _first_line(order: int) -> int:
    return order // 3 * 6 + (0, 1, 3)[order % 3]


def _order_of(index: int) -> tuple[int, int]:
    """The order of a line, and which of its lines it is."""
    group, rest = divmod(index, 6)
    order, line = ((0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2))[rest]
    return 3 * group + order, line


def _cents(value: int) -> str:
    return f"{value // 100}.{value % 100:02}"


def _money(word: int) -> str:
    return _cents(word % 10**9)


def _amount(word: int, index: int) -> str | None:
    """Amounts with more digits than a float keeps, negative ones, zero, none, and usual ones."""
    kind = word % 16
    if kind == 0:
        return f"{word % 10**18:018}{index:04}.{word % 97:02}".lstrip("0")
    if kind == 1:
        return f"-{_money(word >> 8)}"
    if kind == 2:
        return None
    return "0.00" if kind == 3 else _money(word >> 8)


def _choices(word: int, *, as_text: bool, names: tuple[str, ...] = ("a", "b", "c")) -> list[str] | str | None:
    """Some of `names`, which old rows hold as text of JSON."""
    chosen = [name for bit, name in enumerate(names) if word >> bit & 1]
    if as_text and chosen:
        return "[" + ",".join(f'"{name}"' for name in chosen) + "]"
    return chosen or None


def _images(index: int) -> list[Row]:
    path = f"N_202601_05_{index:032x}"
    return [{"filename": f'照片,"{index}".png', "ext": "png", "path": path, "size": 1024 + index, "isImage": True}]
