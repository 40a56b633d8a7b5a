"""The checks of core on a good warehouse, and on one row of each kind that must not be there."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from core_rows import Core, not_passed

pytestmark = pytest.mark.db


@pytest.fixture
def core(warehouse_dsn: str, as_role: Callable[[str], psycopg.Connection]) -> Core:
    return Core(warehouse_dsn, as_role)


# What is done to core, and what is found then: table, check, outcome, keys. What stands in one list is done at once.
BAD_ROWS = [
    [
        (
            """
            update core.account_record set name = E' \\u00a0', domain = 'acme', country_code = 'de', duns = '12345678',
            aws_account_ids = '{12,123456789012}', updated_at = '-infinity' where source_id = '1'
            """,
            [
                ("account_record", "name is not blank", "fail", ("1",)),
                ("account_record", "domain looks like one", "warn", ("1",)),
                ("account_record", "country code has two letters", "warn", ("1",)),
                ("account_record", "DUNS has 9 digits", "warn", ("1",)),
                ("account_record", "account numbers have 12 digits", "warn", ("1",)),
                ("account_record", "updated_at is in the past", "warn", ("1",)),
            ],
        ),
        (
            "update core.account_link set account_id = 'odoo:9', linked_to = 'ace:C9' where source_id = '1'",
            [
                ("account_link", "the account of a link exists", "fail", ("1",)),
                ("account_link", "a link leads to a record", "warn", ("1",)),
            ],
        ),
        (
            "update core.account set source_id = '9', records = 0 where source_id = '1'",
            [
                ("account", "the leading record exists", "fail", ("9",)),
                ("account", "an account has a record", "fail", ("9",)),
            ],
        ),
        (
            """
            update core.aws_account set aws_account_id = '12345', is_aws_account_id_valid = false,
            account_source_id = '9', payer_source_id = '9', joined_on = '2026-02-01', left_on = '2026-01-01'
            """,
            [
                ("aws_account", "account number has 12 digits", "warn", ("1",)),
                ("aws_account", "account_source_id refers to account_record", "warn", ("1",)),
                ("aws_account", "payer_source_id refers to aws_account", "warn", ("1",)),
                ("aws_account", "an account left after it joined", "warn", ("1",)),
            ],
        ),
        (
            """
            update core.contact set account_source_id = '9', name = null, email_blind_index = null
            where source_system = 'odoo'
            """,
            [
                ("contact", "account_source_id refers to account_record", "warn", ("2",)),
                ("contact", "a contact can be reached or named", "warn", ("2",)),
            ],
        ),
        (
            "update core.app_user set contact_source_id = '9' where source_system = 'odoo'",
            [("app_user", "contact_source_id refers to a partner", "warn", ("2",))],
        ),
        (
            """
            update core.odoo_opportunities set updated_at = case source_id when '1' then 'infinity'
            else now() + interval '2 days' end,
            annual_revenue = (case source_id when '1' then 'NaN' else 'Infinity' end)::numeric,
            created_at = 'infinity'
            """,
            [
                ("odoo_opportunities", "updated_at is in the past", "warn", ("1", "2")),
                ("odoo_opportunities", "created_at is in the past", "warn", ("1", "2")),
                ("odoo_opportunities", "annual_revenue is a number and not negative", "warn", ("1", "2")),
            ],
        ),
        (
            """
            update core.odoo_opportunities set target_close_date = '0202-12-01', probability = 'NaN',
            currency_code = null, owner_source_id = '9', contact_source_id = '9', account_source_id = '3',
            stage = null, monthly_aws_spend = -1, country_code = 'deu', domain = 'a b.c', closed_at = 'infinity',
            aws_account_id = '1', title = E'\\t' where source_id = '2'
            """,
            [
                ("odoo_opportunities", "target_close_date is a day of this century", "warn", ("2",)),
                ("odoo_opportunities", "probability is a percentage", "warn", ("2",)),
                ("odoo_opportunities", "an amount has a currency", "warn", ("2",)),
                ("odoo_opportunities", "owner_source_id refers to app_user", "warn", ("2",)),
                ("odoo_opportunities", "contact_source_id refers to contact", "warn", ("2",)),
                # That record is gone from the source.
                ("odoo_opportunities", "account_source_id refers to account_record", "warn", ("2",)),
                ("odoo_opportunities", "stage is present", "warn", ("2",)),
                ("odoo_opportunities", "monthly_aws_spend is a number and not negative", "warn", ("2",)),
                ("odoo_opportunities", "country code has two letters", "warn", ("2",)),
                ("odoo_opportunities", "domain looks like one", "warn", ("2",)),
                ("odoo_opportunities", "closed_at is in the past", "warn", ("2",)),
                ("odoo_opportunities", "a number that counts as valid has 12 digits", "fail", ("2",)),
                ("odoo_opportunities", "title is not blank", "fail", ("2",)),
            ],
        ),
        (
            """
            update core.bill_line set has_bill = false, aws_account_source_id = '9', account_source_id = '9',
            cost = 'NaN', billing_month = '2026-10-02', currency_code = 'usd' where source_id = '2'
            """,
            [
                ("bill_line", "a line has a bill", "warn", ("2",)),
                ("bill_line", "aws_account_source_id refers to aws_account", "warn", ("2",)),
                ("bill_line", "account_source_id refers to account_record", "warn", ("2",)),
                # One of three lines is more than a hundredth.
                ("bill_line", "cost is a number", "fail", ("2",)),
                ("bill_line", "billing_month is the first of a month", "warn", ("2",)),
                ("bill_line", "currency is an ISO code", "warn", ("2",)),
            ],
        ),
        (
            """
            update core.billing_usage set payer_source_id = '9', aws_account_source_id = '9', cost = null,
            service = null where source_id = '2'
            """,
            [
                ("billing_usage", "payer_source_id refers to aws_account", "warn", ("2",)),
                ("billing_usage", "aws_account_source_id refers to aws_account", "warn", ("2",)),
                ("billing_usage", "cost is present", "fail", ("2",)),
                ("billing_usage", "service is present", "warn", ("2",)),
            ],
        ),
    ],
    [
        (
            """
            update core.account_link set source_id = '9', deleted_at = null, account_id = 'odoo:3', state = 'live'
            where source_id = '3'
            """,
            [
                ("account_link", "a link is that of a record", "fail", ("9",)),
                # A record that still lives must not belong to an account that is gone.
                ("account_link", "the account of a link exists", "fail", ("9",)),
            ],
        ),
        (
            "delete from core.account_link where source_id = '1'",
            [("account_record", "each record belongs to an account", "fail", ("1",))],
        ),
        (
            "update core.aws_account set aws_account_id = '12345'",
            [("aws_account", "a number that counts as valid has 12 digits", "fail", ("1",))],
        ),
        ("update core.odoo_opportunities set deleted_at = now()", [("odoo_opportunities", "has rows", "fail", ())]),
    ],
]


@pytest.mark.parametrize("changes", BAD_ROWS, ids=["values", "links"])
def test_each_bad_row_is_found_by_its_check_and_by_no_other(
    core: Core, changes: list[tuple[str, list[tuple[str, str, str, tuple[str, ...]]]]]
) -> None:
    for statement, _ in changes:
        core.change(statement)
    report = core.scan("odoo")
    found = {
        (result.check.table, result.check.name, result.outcome, tuple(sorted(result.keys)))
        for result in report.results
        if result.outcome != "pass"
    }
    assert found == {expected for _, listed in changes for expected in listed}
    assert (report.errors, report.gate) == ("", "shut")
    assert all(result.rows_failed == len(result.keys) for result in report.results if result.keys)
    # The run of the other source goes on.
    assert core.scan("ace").gate == "open"


def test_the_other_source_s_bad_rows_are_no_business_of_this_run(core: Core) -> None:
    core.change("update core.account_record set name = ' ' where source_id = 'C1'")
    core.change("update core.ace_opportunities set account_source_id = 'C9', title = '' where source_id = 'O2'")
    core.change("update core.contact set account_source_id = 'C9' where source_system = 'ace'")
    assert not_passed(core.scan("odoo")) == set()
    assert not_passed(core.scan("ace")) == {
        ("account_record", "name is not blank", "fail"),
        ("ace_opportunities", "account_source_id refers to account_record", "warn"),
        ("ace_opportunities", "title is not blank", "fail"),
        ("contact", "account_source_id refers to account_record", "warn"),
    }


def test_links_whose_accounts_are_still_to_be_computed_are_left_to_the_run_that_does_it(core: Core) -> None:
    """Both sources compute links and accounts: while Odoo's run is between the two, ACE's must not fail for it."""
    between = (
        "insert into ops.transform_run (run_id, source, target, status, rows_read, inserted, updated, unchanged, "
        "quarantined) values ('{run}', 'odoo', 'core.{target}', 'succeeded', 0, 0, 0, 0, 0)"
    )
    core.change(between.format(run="next", target="account_link"))
    core.change("update core.account_link set account_id = 'odoo:9', transform_run_id = 16 where source_id = 'C1'")
    assert not_passed(core.scan("ace")) == set()
    # The same link is wrong once that run has computed the accounts, which were then to have it.
    core.change(between.format(run="next", target="account"))
    assert not_passed(core.scan("ace")) == {("account_link", "the account of a link exists", "fail")}
    # An account that a rule keeps in quarantine is told there.
    core.change(
        "insert into ops.quarantine (target, source, source_key, rule, reason, first_run_id, last_run_id) "
        "values ('core.account', 'odoo', 'odoo:9', 'r', 'r', 'next', 'next')"
    )
    assert not_passed(core.scan("ace")) == set()
