"""The objects of Fxiaoke's simulated tenant and their fields, and how `object/describe` shows them.

Declarations only. Values belong to `fxiaoke_rows`, companions of values (`__r`, `__l`) to `fxiaoke_shapes`.
"""

from typing import Any

import msgspec

Row = dict[str, Any]
Options = tuple[tuple[str, str], ...]

INVENTORY = "object_inventory_report__c"

PEOPLE = frozenset({"employee", "employee_many"})
DEPARTMENTS = frozenset({"department", "department_many"})
REFERENCES = frozenset({"object_reference", "master_detail"})
DECIMALS = frozenset({"number", "currency", "percentile"})
COMPUTED = frozenset({"formula", "count", "quote"})
TIMES = frozenset({"date", "date_time", "time"})

_LISTS = PEOPLE | DEPARTMENTS | {"select_many", "image"}
_FORMATS = {"date": "yyyy-MM-dd", "date_time": "yyyy-MM-dd HH:mm", "time": "HH:mm"}
_LENGTHS = {"text": 256, "long_text": 2000}
_SYSTEM_ICON = "https://example.com/icons/{}.png"


class Field(msgspec.Struct, frozen=True):
    """A field. `result` is what a computed field comes to; `target` the object a reference points at."""

    name: str
    type: str
    label: str
    options: Options = ()
    places: int | None = None
    target: str | None = None
    required: bool = False
    unique: bool = False
    system: bool = False
    result: str | None = None

    @property
    def value_type(self) -> str:
        """The type of the values, also of a computed field."""
        return self.result or self.type

    @property
    def is_list(self) -> bool:
        """Whether values are lists."""
        return self.type in _LISTS

    @property
    def define_type(self) -> str:
        """Who made the field: system, the vendor's package, or the tenant."""
        return "system" if self.system else "custom" if self.name.endswith("__c") else "package"

    def described(self) -> Row:
        """The field as `object/describe` shows it."""
        row: Row = {
            "api_name": self.name,
            "type": self.type,
            "label": self.label,
            "define_type": self.define_type,
            "is_required": self.required,
            "is_unique": self.unique,
            "is_active": True,
            "is_index": True,
            "status": "new" if self.define_type == "custom" else "released",
        }
        if self.options:
            row["options"] = [{"label": label, "value": value} for value, label in self.options]
        if self.places is not None:
            row |= {"decimal_places": self.places, "length": 30 - self.places}
        if self.type in _LENGTHS:
            row["max_length"] = _LENGTHS[self.type]
        if self.type in _FORMATS:
            row |= {"date_format": _FORMATS[self.type], "time_zone": "GMT+8"}
        if self.target:
            row["target_api_name"] = self.target
        if self.result:
            row["return_type"] = self.result
        return row


class CrmObject(msgspec.Struct, frozen=True):
    """An object: its API name, what people call it, its fields by name, and its detail objects."""

    name: str
    label: str
    fields: dict[str, Field]
    details: tuple[str, ...] = ()

    @property
    def is_custom(self) -> bool:
        """Whether the tenant made it, which decides the paths it is served under."""
        return self.name.endswith("__c")

    def listed(self) -> Row:
        """The object as `object/list` shows it."""
        return {
            "describeApiName": self.name,
            "describeDisplayName": self.label,
            "defineType": "custom" if self.is_custom else "package",
            "isActive": True,
            "iconPath": _SYSTEM_ICON.format(self.name),
            "publicObject": False,
        }

    def described(self) -> Row:
        """The object with all fields, as `object/describe` shows it."""
        return {
            "api_name": self.name,
            "display_name": self.label,
            "define_type": "custom" if self.is_custom else "package",
            "is_active": True,
            "fields": {name: field.described() for name, field in self.fields.items()},
        }


def _of_system(*fields: Field) -> tuple[Field, ...]:
    return tuple(msgspec.structs.replace(field, system=True) for field in fields)


_SYSTEM = _of_system(
    Field("_id", "text", "数据ID", unique=True),
    Field("tenant_id", "text", "企业ID"),
    Field("object_describe_api_name", "text", "对象API名称"),
    Field("record_type", "record_type", "业务类型", (("default__c", "预设业务类型"),)),
    Field(
        "life_status", "select_one", "生命状态",
        (("ineffective", "未生效"), ("normal", "正常"), ("in_change", "变更中"), ("invalid", "作废")),
    ),
    Field("life_status_before_invalid", "text", "作废前生命状态"),
    Field("lock_status", "select_one", "锁定状态", (("0", "未锁定"), ("1", "锁定"))),
    Field("owner", "employee", "负责人", required=True),
    Field("owner_department", "text", "负责人主属部门"),
    Field("owner_department_id", "text", "负责人主属部门ID"),
    Field("data_own_department", "department", "归属部门"),
    Field("data_own_organization", "department", "归属组织"),
    Field("created_by", "employee", "创建人"),
    Field("create_time", "date_time", "创建时间"),
    Field("last_modified_by", "employee", "最后修改人"),
    Field("last_modified_time", "date_time", "最后修改时间"),
    Field("is_deleted", "true_or_false", "是否删除"),
    Field("version", "number", "版本", places=0),
    Field("relevant_team", "embedded_object_list", "相关团队"),
    Field("extend_obj_data_id", "text", "扩展数据ID"),
    Field("package", "text", "包"),
    Field("order_by", "number", "排序", places=0),
    Field("mc_currency", "select_one", "币种", (("CNY", "人民币"), ("USD", "美元"))),
    Field("mc_exchange_rate", "number", "汇率", places=6),
    Field("mc_functional_currency", "select_one", "本位币", (("CNY", "人民币"),)),
    Field("mc_exchange_rate_version", "text", "汇率版本"),
    Field("out_tenant_id", "text", "外部企业"),
    Field("out_owner", "employee", "外部负责人"),
)  # fmt: skip


def _object(name: str, label: str, *fields: Field, details: tuple[str, ...] = ()) -> CrmObject:
    return CrmObject(name, label, {field.name: field for field in (*_SYSTEM, *fields)}, details)


OBJECTS = {
    kind.name: kind
    for kind in (
        _object(
            "AccountObj", "客户",
            Field("name", "text", "客户名称", required=True),
            Field("account_no", "auto_number", "客户编号", unique=True),
            Field("account_type", "select_one", "客户类型", (("1", "直销"), ("2", "渠道"), ("other", "其他"))),
            Field("account_level", "select_one", "客户级别", (("1", "重点"), ("2", "普通"), ("3", "低价值"))),
            Field("account_source", "select_one", "来源", (("1", "搜索引擎"), ("2", "客户介绍"), ("3", "展会"))),
            Field("account_status", "select_one", "状态", (("1", "未分配"), ("2", "已分配"))),
            Field("deal_status", "select_one", "成交状态", (("1", "未成交"), ("2", "已成交"), ("3", "多次成交"))),
            Field("industry_level1", "select_one", "1级行业", (("1", "制造业"), ("2", "零售业"), ("3", "IT服务"))),
            Field("industry_level2", "select_one", "2级行业", (("11", "电子"), ("21", "批发"), ("31", "软件"))),
            Field("tel", "phone_number", "电话"),
            Field("fax", "text", "传真"),
            Field("email", "email", "邮件"),
            Field("url", "url", "网址"),
            Field("address", "text", "详细地址"),
            Field("location", "location", "定位"),
            Field("country", "country", "国家", (("248", "中国"),)),
            Field("province", "province", "省", (("264", "上海市"), ("249", "北京市"), ("267", "广东省"))),
            Field("city", "city", "市", (("500", "上海市"), ("485", "北京市"), ("560", "深圳市"))),
            Field("district", "district", "区"),
            Field("remark", "long_text", "备注"),
            Field("high_seas_id", "text", "所属公海"),
            Field("high_seas_name", "text", "公海名称"),
            Field("back_reason", "text", "退回原因"),
            Field("recycled_reason", "text", "收回原因"),
            Field("remaining_time", "number", "剩余保有时间", places=0),
            Field("transfer_count", "number", "转手次数", places=0),
            Field("is_remind_recycling", "true_or_false", "收回提醒"),
            Field("completion_rate", "percentile", "资料完善度", places=2),
            Field("filling_checker_id", "employee", "报备审核人"),
            Field("partner_id", "text", "合作伙伴"),
            Field("out_resources", "select_one", "外部来源", (("partner", "合作伙伴"),)),
            Field("last_followed_time", "date_time", "最后跟进时间"),
            Field("last_deal_closed_time", "date_time", "最后成交时间"),
            Field("last_deal_closed_amount", "currency", "最后成交金额", places=2),
            Field("total_refund_amount", "currency", "退款总额", places=2),
            Field("pin_yin", "text", "拼音"),
            Field("UDSText1__c", "text", "旧系统编号"),
            Field("UDMSel1__c", "select_many", "关注产品", (("a", "硬件"), ("b", "软件"), ("c", "服务"))),
            Field("field_cOd4K__c", "count", "联系人数", places=0, result="number"),
        ),
        _object(
            "ContactObj", "联系人",
            Field("name", "text", "姓名", required=True),
            Field("account_id", "object_reference", "客户名称", target="AccountObj"),
            Field("job_title", "text", "职务"),
            Field("department", "text", "部门"),
            Field("mobile1", "phone_number", "手机"),
            Field("tel1", "phone_number", "电话"),
            Field("email", "email", "邮件"),
            Field("gender", "select_one", "性别", (("M", "男"), ("F", "女"))),
            Field("date_of_birth", "date", "生日"),
            Field("primary_contact", "true_or_false", "主要联系人"),
            Field("remark", "long_text", "备注"),
        ),
        _object(
            "SalesOrderObj", "销售订单",
            Field("name", "auto_number", "销售订单编号", unique=True),
            Field("account_id", "object_reference", "客户名称", target="AccountObj", required=True),
            Field("order_time", "date", "下单日期", required=True),
            Field("order_amount", "currency", "销售订单金额(元)", places=2),
            Field("discount", "percentile", "整单折扣", places=2),
            Field(
                "order_status", "select_one", "状态",
                (("6", "确认中"), ("7", "已确认"), ("8", "已驳回"), ("10", "已发货"), ("99", "已作废")),
            ),
            Field("receipt_type", "select_one", "收款类型", (("1", "预收款"), ("2", "回款"))),
            Field("price_book_id", "text", "价目表"),
            Field("quote_id", "text", "报价单"),
            Field("ship_to_id", "object_reference", "收货人", target="ContactObj"),
            Field("ship_to_add", "text", "收货地址"),
            Field("ship_to_tel", "phone_number", "收货人电话"),
            Field("delivery_date", "date", "交货日期"),
            Field("remark", "long_text", "备注"),
            Field("submit_time", "date_time", "提交时间"),
            Field("field_qLv1A__c", "quote", "客户级别", result="select_one"),
            details=("SalesOrderProductObj",),
        ),
        _object(
            "SalesOrderProductObj", "订单产品",
            Field("name", "auto_number", "订单产品编号", unique=True),
            Field("order_id", "master_detail", "销售订单编号", target="SalesOrderObj", required=True),
            Field("product_id", "object_reference", "产品名称", target="ProductObj", required=True),
            Field("product_price", "currency", "价格", places=2),
            Field("sales_price", "currency", "销售单价", places=2),
            Field("quantity", "number", "数量", places=2),
            Field("discount", "percentile", "折扣", places=2),
            Field("subtotal", "currency", "小计", places=2),
            Field("unit", "select_one", "单位", (("1", "个"), ("2", "箱"), ("3", "套"))),
            Field("price_book_product_id", "text", "价目表产品"),
            Field("remark", "long_text", "备注"),
        ),
        _object(
            "ProductObj", "产品",
            Field("name", "text", "产品名称", required=True),
            Field("product_code", "text", "产品编码"),
            Field("category", "select_one", "分类", (("1", "电子"), ("2", "家居"), ("3", "食品"))),
            Field("price", "currency", "标准价格", places=2),
            Field("unit", "select_one", "单位", (("1", "个"), ("2", "箱"), ("3", "套"))),
            Field("product_status", "select_one", "上下架", (("1", "已上架"), ("2", "已下架"))),
            Field("product_spec", "text", "规格属性"),
            Field("barcode", "text", "条形码"),
            Field("picture_path", "image", "产品图片"),
            Field("remark", "long_text", "备注"),
        ),
        _object(
            "PersonnelObj", "人员",
            Field("name", "text", "姓名", required=True),
            Field("user_id", "text", "员工ID", unique=True),
            Field("full_name", "text", "全名"),
            Field("sex", "select_one", "性别", (("M", "男"), ("F", "女"))),
            Field("phone", "phone_number", "手机"),
            Field("email", "email", "邮箱"),
            Field("main_department", "department", "主属部门"),
            Field("vice_departments", "department_many", "附属部门"),
            Field("leader", "employee", "汇报对象"),
            Field("position", "text", "职位"),
            Field("employee_number", "text", "员工编号"),
            Field("date_of_joining", "date", "入职日期"),
            Field("status", "select_one", "状态", (("0", "启用"), ("1", "停用"))),
        ),
        _object(
            "DepartmentObj", "部门",
            Field("name", "text", "部门名称", required=True),
            Field("dept_id", "text", "部门ID", unique=True),
            Field("dept_code", "text", "部门编码"),
            Field("parent_id", "department", "上级部门"),
            Field("manager_id", "employee", "部门负责人"),
            Field("dept_order", "number", "排序", places=0),
            Field("status", "select_one", "状态", (("0", "启用"), ("1", "停用"))),
        ),
        _object(
            INVENTORY, "库存报告",
            Field("name", "text", "仓库名称", required=True),
            Field("field_wH7cD__c", "text", "仓库编码"),
            Field("field_Q1w2E__c", "currency", "库存金额", places=2),
            Field("field_date__c", "date", "盘点日期"),
            Field(
                "field_sel__c", "select_one", "仓库状态",
                (("option1", "正常"), ("option2", "盘点中"), ("option3", "停用"), ("other", "其他")),
            ),
            Field("account_id__c", "object_reference", "所属客户", target="AccountObj"),
            Field("field_cAp3T__c", "number", "库容", places=0),
            Field("field_sTk8N__c", "number", "当前库存", places=4),
            Field("field_uTl9P__c", "formula", "库容利用率", places=2, result="percentile"),
            Field("field_cNt4R__c", "count", "出库单数", places=0, result="number"),
            Field("field_cTy2B__c", "text", "所在城市"),
            Field("field_lOc5A__c", "location", "仓库位置"),
            Field("field_aRr6M__c", "select_many", "存储品类", (("dry", "常温"), ("cold", "冷藏"), ("frozen", "冷冻"))),
            Field("field_kPr1U__c", "employee_many", "仓管员"),
            Field("field_dPt0V__c", "department", "管理部门"),
            Field("field_cHk2W__c", "date_time", "最近盘点时间"),
            Field("field_oPn6X__c", "time", "开仓时间"),
            Field("field_bOn5Y__c", "true_or_false", "保税仓"),
            Field("field_rEm3Z__c", "long_text", "备注"),
            Field("field_iMg8Q__c", "image", "现场照片"),
            Field("UDSText1__c", "text", "旧编码"),
        ),
    )
}  # fmt: skip
