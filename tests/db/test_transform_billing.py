"""Billing: months restated as a whole, partitions as months appear, lines that belong nowhere, wrong amounts."""

from __future__ import annotations

from typing import Any

import pytest
from raw_tables import Warehouse, outcome

pytestmark = pytest.mark.db

CUR = "odoo_c_billing_internal_cur"
LINE = "odoo_c_billing_bill_line"
NOT_NUMBERS = ("NaN", "Infinity", "-Infinity")


@pytest.fixture
def billing(warehouse: Warehouse) -> Warehouse:
    """Odoo's tables with two payers of an AWS account each."""
    warehouse.create_odoo()
    for number in (1, 2):
        warehouse.insert("odoo_c_aws_accounts", id=number, name=str(number) * 12)
    warehouse.insert("odoo_res_currency", id=1, name="USD")
    return warehouse


def charge(billing: Warehouse, number: int, month: str | None, **values: Any) -> None:
    """A line of the cost roll-up, of payer 1 unless told."""
    line = {"payer_id": 1, "account_id": 2, "company_currency_id": 1, "service": "EC2", "cost": "1.00"}
    billing.insert(CUR, id=number, period_date=f"{month}-01" if month else None, **{**line, **values})


def usage(billing: Warehouse, columns: str = "billing_month::text, cost::text") -> list[tuple[Any, ...]]:
    return billing.rows(f"select source_id::int, {columns} from core.billing_usage order by 1")


def partitions(billing: Warehouse) -> list[str]:
    return [
        name
        for (name,) in billing.rows(
            "select inhrelid::regclass::text from pg_inherits where inhparent = 'core.billing_usage'::regclass "
            "and exists (select from core.billing_usage as u where u.tableoid = inhrelid) order by 1"
        )
    ]


def test_a_line_in_full(billing: Warehouse) -> None:
    charge(
        billing, 7, "2026-10", service=" EC2 ", charge_type=" ", cost="0.1234567890", write_date="2026-11-05 01:02:03"
    )
    load = billing.last_load()
    billing.transform("billing_usage")
    assert billing.rows(
        "select billing_month::text, source_system, source_id, payer_source_id, payer_aws_account_id, "
        "aws_account_source_id, aws_account_id, service, charge_type, cost::text, currency_code, "
        "(updated_at at time zone 'UTC')::text, issues, raw_load_id from core.billing_usage"
    ) == [
        (
            "2026-10-01", "odoo", "7", "1", "111111111111", "2", "222222222222", "EC2", None, "0.1234567890", "USD",
            "2026-11-05 01:02:03", None, load,
        )
    ]  # fmt: skip


def test_a_restated_month_of_a_payer_is_replaced_as_a_whole(billing: Warehouse) -> None:
    for number, (month, payer) in enumerate((("2026-09", 1), ("2026-10", 1), ("2026-10", 1), ("2026-10", 2)), start=1):
        charge(billing, number, month, payer_id=payer)
    assert outcome(billing.transform("billing_usage")) == (4, 4, 0, 0, 0, 0)
    billing.delete(CUR, "payer_id = 1 and period_date = '2026-10-01'")
    for number in (11, 12, 13):
        charge(billing, number, "2026-10", cost="2.00")
    # Of the four keys of payers and months one is computed.
    result = billing.transform("billing_usage")
    assert (result.full_reason, outcome(result)) == (None, (3, 3, 0, 0, 0, 2))
    assert usage(billing) == [
        (1, "2026-09-01", "1.00"),
        (4, "2026-10-01", "1.00"),
        (11, "2026-10-01", "2.00"),
        (12, "2026-10-01", "2.00"),
        (13, "2026-10-01", "2.00"),
    ]
    # Raw keeps the earlier statement.
    assert billing.rows(f"select count(*) from raw.{CUR}") == [(7,)]


def test_a_month_that_is_gone_altogether(billing: Warehouse) -> None:
    charge(billing, 1, "2026-09")
    charge(billing, 2, "2026-10")
    billing.transform("billing_usage")
    billing.delete(CUR, "id = 2")
    assert outcome(billing.transform("billing_usage")) == (0, 0, 0, 0, 0, 1)
    assert usage(billing) == [(1, "2026-09-01", "1.00")]


def test_each_month_has_a_partition(billing: Warehouse) -> None:
    """Also one that comes later, one before the others, and any day of a month."""
    charge(billing, 1, "2026-10")
    billing.insert(CUR, id=2, payer_id=1, account_id=2, cost=1, period_date="2026-10-31")
    billing.transform("billing_usage")
    assert partitions(billing) == ["core.billing_usage_2026_10"]
    charge(billing, 3, "2027-01")
    charge(billing, 4, "1999-12")
    billing.transform("billing_usage")
    assert partitions(billing) == [
        "core.billing_usage_1999_12",
        "core.billing_usage_2026_10",
        "core.billing_usage_2027_01",
    ]
    assert usage(billing, "billing_month::text, tableoid::regclass::text") == [
        (1, "2026-10-01", "core.billing_usage_2026_10"),
        (2, "2026-10-01", "core.billing_usage_2026_10"),
        (3, "2027-01-01", "core.billing_usage_2027_01"),
        (4, "1999-12-01", "core.billing_usage_1999_12"),
    ]


@pytest.mark.parametrize("full_refresh", [False, True])
def test_a_line_that_moves_to_another_month_or_payer(billing: Warehouse, full_refresh: bool) -> None:
    for number in (1, 2, 3):
        charge(billing, number, "2026-10")
    billing.transform("billing_usage")
    billing.update(CUR, "id = 1", period_date="2026-11-01")
    billing.update(CUR, "id = 2", payer_id=2)
    result = billing.transform("billing_usage", full_refresh=full_refresh)
    assert outcome(result) == (3, 1, 1, 1, 0, 1)
    assert usage(billing, "billing_month::text, payer_source_id") == [
        (1, "2026-11-01", "1"),
        (2, "2026-10-01", "2"),
        (3, "2026-10-01", "1"),
    ]


@pytest.mark.parametrize(
    "period", [None, "infinity", "-infinity", "1989-12-31", "2100-02-01", "0044-03-15 BC", "5874897-12-31"]
)
def test_a_line_without_a_month_is_rejected_and_counted_once_it_has_one(billing: Warehouse, period: str | None) -> None:
    charge(billing, 1, "2026-10")
    charge(billing, 2, "2026-10")
    billing.update(CUR, "id = 1", period_date=period)
    assert outcome(billing.transform("billing_usage")) == (2, 1, 0, 0, 1, 0)
    assert outcome(billing.transform("billing_usage")) == (1, 0, 0, 0, 1, 0)
    assert billing.rows("select source_key, rule from ops.quarantine where released_at is null") == [
        ("1", "period is missing")
    ]
    billing.update(CUR, "id = 1", period_date="2026-10-01")
    assert outcome(billing.transform("billing_usage")) == (2, 1, 0, 1, 0, 0)
    assert usage(billing) == [(1, "2026-10-01", "1.00"), (2, "2026-10-01", "1.00")]


@pytest.mark.parametrize("cost", NOT_NUMBERS)
def test_a_cost_that_is_no_number_is_rejected(billing: Warehouse, cost: str) -> None:
    """The rest of the month counts; so does the line again when it is mended."""
    for number in (1, 2):
        charge(billing, number, "2026-10")
    billing.transform("billing_usage")
    billing.update(CUR, "id = 1", cost=cost)
    assert outcome(billing.transform("billing_usage")) == (2, 0, 0, 1, 1, 1)
    assert usage(billing) == [(2, "2026-10-01", "1.00")]
    # It is tried again with all of its month.
    assert outcome(billing.transform("billing_usage")) == (2, 0, 0, 1, 1, 0)
    billing.update(CUR, "id = 1", cost="3")
    assert outcome(billing.transform("billing_usage")) == (2, 1, 0, 1, 0, 0)
    assert usage(billing) == [(1, "2026-10-01", "3"), (2, "2026-10-01", "1.00")]


@pytest.mark.parametrize(
    ("values", "issues"),
    [
        ({"cost": None}, ["cost is missing"]),
        ({"cost": "-1.50"}, None),
        ({"account_id": None}, ["AWS account is unknown"]),
        ({"account_id": 99}, ["AWS account is unknown"]),
        ({"account_id": 3}, ["AWS account number is malformed"]),
        ({"payer_id": None}, None),
        ({"payer_id": 99, "company_currency_id": 99}, None),
    ],
)
def test_wrong_lines_that_count(billing: Warehouse, values: dict[str, Any], issues: list[str] | None) -> None:
    billing.insert("odoo_c_aws_accounts", id=3, name="12345")
    charge(billing, 1, "2026-10", **values)
    assert outcome(billing.transform("billing_usage")) == (1, 1, 0, 0, 0, 0)
    assert usage(billing, "issues") == [(1, issues)]
    billing.update(CUR, "id = 1", service="S3")
    assert outcome(billing.transform("billing_usage")) == (1, 0, 1, 0, 0, 0)


def test_sums_per_month_are_raws_own(billing: Warehouse) -> None:
    for number in range(1, 101):
        charge(billing, number, f"2026-{number % 3 + 1:02}", cost=f"{number}.{number:03}")
    billing.transform("billing_usage")
    billing.delete(CUR, "id % 10 = 0")
    billing.transform("billing_usage")
    assert billing.rows("select billing_month, sum(cost)::text from core.billing_usage group by 1 order by 1") == (
        billing.rows(
            f"select period_date, sum(cost)::text from raw.{CUR} where _deleted_at is null group by 1 order by 1"
        )
    )


def bill_lines(billing: Warehouse, columns: str) -> list[tuple[Any, ...]]:
    return billing.rows(f"select source_id::int, {columns} from core.bill_line order by 1")


def test_a_bill_line_in_full(billing: Warehouse) -> None:
    billing.partner(10, name="Acme")
    billing.partner(11, name="Jane", commercial_partner_id=10)
    billing.insert("odoo_res_currency", id=2, name="EUR")
    billing.insert("odoo_product_template", id=5, name="Support")
    billing.insert(
        "odoo_c_billing_bill", id=1, name=" B1 ", partner_id=11, account_id=2, invoice_id=33, currency_id=1,
        period_date="2026-10-15", state="paid",
    )  # fmt: skip
    billing.insert(
        LINE, id=1, bill_id=1, product_id=5, line_type=" usage ", usage=1.5, cost="10.00", date="2026-11-02",
        write_date="2026-11-05 01:02:03",
    )  # fmt: skip
    load = billing.last_load()
    billing.insert(LINE, id=2, bill_id=1, currency_id=2, cost="1")
    billing.transform("bill_line")
    assert bill_lines(
        billing,
        "bill_source_id, bill_name, bill_state, has_bill, billing_month::text, account_source_id, "
        "aws_account_source_id, invoice_source_id, product_source_id, product_name, line_type, usage_amount::text, "
        "cost::text, currency_code, line_date::text, (updated_at at time zone 'UTC')::text, issues, deleted_at, "
        "raw_load_id",
    ) == [
        (
            1, "1", "B1", "paid", True, "2026-10-01", "10", "2", "33", "5", "Support", "usage", "1.5", "10.00", "USD",
            "2026-11-02", "2026-11-05 01:02:03", None, None, load,
        ),
        (
            2, "1", "B1", "paid", True, "2026-10-01", "10", "2", "33", None, None, None, None, "1", "EUR", None, None,
            None, None, load + 1,
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "issues", "month"),
    [
        ({"bill_id": None, "date": "2026-09-30"}, ["no bill"], "2026-09-01"),
        ({"bill_id": 99, "date": "2026-09-30"}, ["no bill"], "2026-09-01"),
        ({"bill_id": 2}, ["no bill"], "2026-10-01"),
        ({"bill_id": None}, ["no bill", "no billing month"], None),
        ({"bill_id": 1, "cost": None}, ["cost is missing"], "2026-10-01"),
        ({"bill_id": 1, "usage": "NaN"}, ["usage is not a number"], "2026-10-01"),
        ({"bill_id": 1, "usage": "Infinity"}, ["usage is not a number"], "2026-10-01"),
        ({"bill_id": 3}, ["no billing month"], None),
        ({"bill_id": None, "date": "-infinity"}, ["no bill", "no billing month"], None),
    ],
)
def test_wrong_bill_lines_that_are_kept(
    billing: Warehouse, values: dict[str, Any], issues: list[str], month: str | None
) -> None:
    """Lines without a bill are kept and say so; bill 2 is deleted, bill 3 has an infinite period."""
    for number, period in ((1, "2026-10-01"), (2, "2026-10-01"), (3, "infinity")):
        billing.insert("odoo_c_billing_bill", id=number, name=f"B{number}", period_date=period)
    billing.delete("odoo_c_billing_bill", "id = 2")
    billing.insert(LINE, id=1, **{"cost": 1, **values})
    assert outcome(billing.transform("bill_line")) == (1, 1, 0, 0, 0, 0)
    assert bill_lines(billing, "issues, billing_month::text") == [(1, issues, month)]


def test_a_bill_line_of_a_time_out_of_any_calendar(billing: Warehouse) -> None:
    """One date that nobody meant must not keep all other lines back."""
    billing.insert(LINE, id=1, cost=1, date="5874897-12-31")
    billing.insert(LINE, id=2, cost=1, date="2026-10-02")
    assert outcome(billing.transform("bill_line")) == (2, 2, 0, 0, 0, 0)


@pytest.mark.parametrize("cost", NOT_NUMBERS)
def test_a_bill_line_whose_cost_is_no_number_is_rejected(billing: Warehouse, cost: str) -> None:
    billing.insert(LINE, id=1, cost=cost)
    billing.insert(LINE, id=2, cost="2")
    assert outcome(billing.transform("bill_line")) == (2, 1, 0, 0, 1, 0)
    billing.update(LINE, "id = 1", cost="1")
    assert outcome(billing.transform("bill_line")) == (1, 1, 0, 0, 0, 0)


def test_deleted_bill_lines_stay_and_say_so(billing: Warehouse) -> None:
    billing.insert(LINE, id=1, cost=1)
    billing.transform("bill_line")
    billing.delete(LINE, "id = 1", at="2026-11-01 00:00:00+00")
    assert outcome(billing.transform("bill_line")) == (1, 0, 1, 0, 0, 0)
    assert bill_lines(billing, "deleted_at = '2026-11-01 00:00:00+00'") == [(1, True)]


def test_aws_accounts(billing: Warehouse) -> None:
    billing.partner(10, name="Acme")
    billing.partner(11, name="Jane", commercial_partner_id=10)
    billing.insert("odoo_res_country", id=1, code="DE")
    for number, values in {
        3: {
            "name": " 000000000001 ", "c_aws_account_name": " prod ", "c_aws_company_id": 11, "payer_id": 1,
            "is_payer": False, "state": " ", "active": False, "joined_date": "2026-01-01", "left_date": "2026-02-01",
            "end_user_country_id": 1,
        },
        4: {"name": "12345", "c_aws_company_id": 99},
        5: {"name": " ", "joined_date": "2026-02-01", "left_date": "2026-01-01", "c_aws_company_id": 10},
    }.items():  # fmt: skip
        billing.insert("odoo_c_aws_accounts", id=number, **values)
    billing.transform("aws_account")
    assert billing.rows(
        "select source_id, aws_account_id, is_aws_account_id_valid, name, account_source_id, payer_source_id, "
        "is_payer, state, is_archived, joined_on::text, left_on::text, end_user_country_code, issues "
        "from core.aws_account where source_id::int > 2 order by 1"
    ) == [
        ("3", "000000000001", True, "prod", "10", "1", False, None, True, "2026-01-01", "2026-02-01", "DE", None),
        (
            "4", "12345", False, None, None, None, None, None, False, None, None, None,
            ["AWS account number is malformed", "no company"],
        ),
        (
            "5", None, None, None, "10", None, None, None, False, "2026-02-01", "2026-01-01", None,
            ["AWS account number is missing", "left before it joined"],
        ),
    ]  # fmt: skip
