"""The corpus: wrong rows of every kind that transforms and checks know, in each table that core is made from."""

from __future__ import annotations

from tests.corpus.item import Catch, Item, Model, check, mark, reject

FIVE_MEGABYTES = "repeat('five megabytes ', 350000)"
PAST = "timestamp '2026-11-01 10:00:00'"

# A copy of the first such row is good; the tests hold that against it.
MODELS = {
    ("odoo", "crm_lead"): Model(
        "active and type = 'opportunity' and probability between 1 and 99 and user_id is not null "
        "and company_id is not null and stage_id in (select id from crm_stage where not is_won) "
        "and partner_id in (select id from res_partner where id = commercial_partner_id and btrim(name) <> '' "
        "and active)",
        {
            "name": "'A good deal'",
            "description": "'short'",
            "expected_revenue": "1200",
            "date_deadline": "date '2026-12-31'",
            "aws_ace_id": "null",
            "c_aws_account_id": "null",
            '"c_aws_ace_awsAccountId"': "'123456789012'",
            '"c_aws_ace_customerDuns"': "'123456789'",
            '"c_aws_ace_expectedMonthlyAwsRevenue"': "100",
            "create_date": PAST,
            "write_date": PAST,
        },
    ),
    ("odoo", "res_partner"): Model(
        "active and is_company and id = commercial_partner_id and parent_id is null and user_id is null",
        {
            "website": "null",
            "vat": "null",
            "country_id": "null",
            "state_id": "null",
            "email": "null",
            "write_date": PAST,
        },
    ),
    ("odoo", "c_aws_accounts"): Model(
        "active and c_aws_company_id in (select id from res_partner where id = commercial_partner_id)",
        {
            "name": "'900000000000'",
            "joined_date": "date '2026-01-01'",
            "left_date": "null",
            "end_user_country_id": "null",
            "write_date": PAST,
        },
    ),
    ("odoo", "c_billing_internal_cur"): Model(
        "cost > 0 and account_id in (select id from c_aws_accounts where name ~ '^[0-9]{12}$') and payer_id in "
        "(select id from c_aws_accounts)",
        {"period": "'2026-10'", "period_date": "date '2026-10-01'", "cost": "1.25", "write_date": PAST},
    ),
    ("odoo", "c_billing_bill_line"): Model(
        "bill_id in (select id from c_billing_bill where period_date is not null and account_id is not null) and "
        "product_id in (select id from product_template)",
        {"cost": "2.50", "usage": "3", "date": "date '2026-10-31'", "write_date": PAST},
    ),
    ("ace", "apn_opportunity"): Model(
        "company_id is not null and contact_id is not null and owner_id is not null",
        {
            "name": "'A good opportunity'",
            "stage_name": "'Qualified'",
            "status": "'Approved'",
            "close_date": "date '2026-12-31'",
            "aws_account": "'123456789012'",
            "project_budget": "1200",
            "project_budget_currency": "'USD'",
            "expected_customer_spend": "'[]'",
            "industry": "'Education'",
            "customer_country": "'DE'",
            "customer_duns": "null",
            "customer_website": "null",
            "aws_create_date": PAST,
            "aws_last_modified_date": PAST,
            "created_at": PAST,
            "updated_at": PAST,
        },
    ),
    ("ace", "apn_companies"): Model(
        "true",
        {"name": "'A good company'", "website": "null", "duns": "null", "country_code": "'DE'", "updated_at": PAST},
    ),
}


def _lead(what: str, caught: set[Catch], **values: str) -> Item:
    quoted = {f'"{name}"' if name != name.lower() else name: value for name, value in values.items()}
    return Item(what, "odoo", "crm_lead", quoted, frozenset(caught))


def _odoo(table: str, what: str, caught: set[Catch], **values: str) -> Item:
    return Item(what, "odoo", table, values, frozenset(caught))


def _ace(what: str, caught: set[Catch], *, key: str | None = None, **values: str) -> Item:
    return Item(what, "ace", "apn_opportunity", values, frozenset(caught), key)


RAW_LEAD, LEAD = "raw.odoo_crm_lead", "odoo_opportunities"
RAW_ACE, ACE = "raw.ace_apn_opportunity", "ace_opportunities"
RAW_USAGE, RAW_LINE = "raw.odoo_c_billing_internal_cur", "raw.odoo_c_billing_bill_line"
RAW_PARTNER, RAW_AWS = "raw.odoo_res_partner", "raw.odoo_c_aws_accounts"

LEADS = (
    _lead("no title", {check(RAW_LEAD, "name is present"), reject(LEAD, "title is missing")}, name="null"),
    _lead(
        "a title of blanks of all kinds",
        {check(RAW_LEAD, "name is not blank"), reject(LEAD, "title is missing")},
        name="E' \\u00a0\\t '",
    ),
    _lead("five megabytes of title", {mark(LEAD, "title is longer than 1,000 characters")}, name=FIVE_MEGABYTES),
    _lead(
        "five megabytes of description",
        {mark(LEAD, "text is longer than 100,000 characters")},
        description=FIVE_MEGABYTES,
    ),
    _lead(
        "an invalid enum",
        {check(RAW_LEAD, "type is lead or opportunity"), reject(LEAD, "type is neither lead nor opportunity")},
        type="'oportunity'",
    ),
    _lead(
        "no type",
        {check(RAW_LEAD, "type is present"), reject(LEAD, "type is neither lead nor opportunity")},
        type="null",
    ),
    *(
        _lead(
            f"a revenue of {value}",
            {check(RAW_LEAD, "expected_revenue is a number and not negative"), mark(LEAD, "revenue is not a number")},
            expected_revenue=f"'{value}'",
        )
        for value in ("NaN", "Infinity", "-Infinity")
    ),
    _lead(
        "a negative revenue",
        {
            check(RAW_LEAD, "expected_revenue is a number and not negative"),
            mark(LEAD, "revenue is negative"),
            check(f"core.{LEAD}", "annual_revenue is a number and not negative"),
        },
        expected_revenue="-5",
    ),
    _lead(
        "a monthly spend of NaN",
        {mark(LEAD, "monthly spend is not a number")},
        c_aws_ace_expectedMonthlyAwsRevenue="'NaN'",
    ),
    _lead(
        "a probability of 150 %",
        {check(RAW_LEAD, "probability is a percentage"), check(f"core.{LEAD}", "probability is a percentage")},
        probability="150",
    ),
    *(
        _lead(
            f"a deadline of {value}",
            {check(RAW_LEAD, "date_deadline is a day of this century"), mark(LEAD, "date is out of any calendar")},
            date_deadline=f"date '{value}'",
        )
        for value in ("infinity", "-infinity", "3021-01-01", "0021-01-01")
    ),
    _lead(
        "written in the future",
        {check(RAW_LEAD, "write_date is in the past"), check(f"core.{LEAD}", "updated_at is in the past")},
        write_date="now() + interval '3 days'",
    ),
    _lead(
        "written at infinity",
        {check(RAW_LEAD, "write_date is in the past"), mark(LEAD, "time is infinite")},
        write_date="timestamp 'infinity'",
    ),
    _lead(
        "closed in the future",
        {check(RAW_LEAD, "date_closed is in the past"), check(f"core.{LEAD}", "closed_at is in the past")},
        date_closed="now() + interval '3 days'",
    ),
    _lead(
        "an orphan of its stage",
        {check(RAW_LEAD, "stage_id refers to odoo_crm_stage"), check(f"core.{LEAD}", "stage is present")},
        stage_id="999999",
    ),
    _lead(
        "an orphan of its company",
        {
            check(RAW_LEAD, "partner_id refers to odoo_res_partner"),
            check(f"core.{LEAD}", "account_source_id is present"),
        },
        partner_id="999999",
    ),
    _lead("an orphan of its team", {check(RAW_LEAD, "team_id refers to odoo_crm_team")}, team_id="999999"),
    _lead(
        "an orphan of its owner",
        {
            check(RAW_LEAD, "user_id refers to odoo_res_users"),
            check(f"core.{LEAD}", "owner_source_id refers to app_user"),
        },
        user_id="999999",
    ),
    _lead(
        "an account number of eleven digits",
        {
            check(RAW_LEAD, "account number has 12 digits"),
            mark(LEAD, "AWS account number is malformed"),
            check(f"core.{LEAD}", "account number has 12 digits"),
        },
        c_aws_ace_awsAccountId="'12345678901'",
    ),
    _lead(
        "an account number with a letter",
        {
            check(RAW_LEAD, "account number has 12 digits"),
            mark(LEAD, "AWS account number is malformed"),
            check(f"core.{LEAD}", "account number has 12 digits"),
        },
        c_aws_ace_awsAccountId="'12345678901O'",
    ),
    _lead(
        "a DUNS number of eight digits",
        {check(RAW_LEAD, "DUNS has 9 digits"), check(f"core.{LEAD}", "DUNS has 9 digits")},
        c_aws_ace_customerDuns="'12345678'",
    ),
    _lead(
        "an ACE id that is none",
        {check(RAW_LEAD, "aws_ace_id looks like one"), mark(LEAD, "ACE id is malformed")},
        aws_ace_id="'see mail'",
    ),
)

PARTIES = (
    _odoo("res_partner", "a company without a name", {reject("account_record", "name is missing")}, name="'  '"),
    _odoo(
        "res_partner",
        "five megabytes of name",
        {mark("account_record", "name is longer than 1,000 characters")},
        name=FIVE_MEGABYTES,
    ),
    _odoo(
        "res_partner",
        "a website that is a page of a social network",
        {mark("account_record", "website without a domain of its own")},
        website="'https://www.linkedin.com/company/acme'",
    ),
    _odoo(
        "res_partner",
        "an orphan of its country",
        {check(RAW_PARTNER, "country_id refers to odoo_res_country")},
        country_id="999999",
    ),
    _odoo(
        "res_partner",
        "a company written at infinity",
        {check(RAW_PARTNER, "write_date is in the past"), mark("account_record", "time is infinite")},
        write_date="timestamp '-infinity'",
    ),
    _odoo(
        "c_aws_accounts",
        "an AWS account without a number",
        {
            check(RAW_AWS, "name is present"),
            mark("aws_account", "AWS account number is missing"),
            check("core.aws_account", "aws_account_id is present"),
        },
        name="null",
    ),
    _odoo(
        "c_aws_accounts",
        "an AWS account with a number of dashes",
        {
            check(RAW_AWS, "account number has 12 digits"),
            mark("aws_account", "AWS account number is malformed"),
            check("core.aws_account", "account number has 12 digits"),
        },
        name="'1234-5678-90AB'",
    ),
    _odoo(
        "c_aws_accounts",
        "an AWS account that left before it joined",
        {
            check(RAW_AWS, "an account left after it joined"),
            mark("aws_account", "left before it joined"),
            check("core.aws_account", "an account left after it joined"),
        },
        name="'900000000001'",
        left_date="date '2025-01-01'",
    ),
    _odoo(
        "c_aws_accounts",
        "an orphan of its company",
        {check(RAW_AWS, "c_aws_company_id refers to odoo_res_partner"), mark("aws_account", "no company")},
        name="'900000000002'",
        c_aws_company_id="999999",
    ),
    _odoo(
        "c_aws_accounts",
        "a number that another has between blanks",
        {check("core.aws_account", "account number is unique")},
        name="'900000000003'",
    ),
    _odoo(
        "c_aws_accounts",
        "the same number between blanks",
        {check("core.aws_account", "account number is unique")},
        name="E' 900000000003\\u00a0'",
    ),
    Item(
        "an ACE company of blanks",
        "ace",
        "apn_companies",
        {"name": "'  '"},
        frozenset({check("raw.ace_apn_companies", "name is not blank"), reject("account_record", "name is missing")}),
    ),
    Item(
        "a DUNS number with a letter",
        "ace",
        "apn_companies",
        {"name": "'Duns & Co'", "duns": "'12345678X'"},
        frozenset(
            {
                check("raw.ace_apn_companies", "DUNS has 9 digits"),
                mark("account_record", "DUNS number is malformed"),
                check("core.account_record", "DUNS has 9 digits"),
                check("core.account", "DUNS has 9 digits"),
            }
        ),
    ),
)

BILLING = (
    *(
        _odoo(
            "c_billing_internal_cur",
            f"a cost of {value}",
            {check(RAW_USAGE, "cost is a number"), reject("billing_usage", "cost is not a number")},
            cost=f"'{value}'",
        )
        for value in ("NaN", "Infinity")
    ),
    _odoo(
        "c_billing_internal_cur",
        "no cost",
        {
            check(RAW_USAGE, "cost is present"),
            mark("billing_usage", "cost is missing"),
            check("core.billing_usage", "cost is present"),
        },
        cost="null",
    ),
    _odoo(
        "c_billing_internal_cur",
        "no period",
        {check(RAW_USAGE, "period_date is present"), reject("billing_usage", "period is missing")},
        period_date="null",
    ),
    _odoo(
        "c_billing_internal_cur",
        "a period of infinity",
        {check(RAW_USAGE, "period_date is a day of that month"), reject("billing_usage", "period is missing")},
        period_date="date 'infinity'",
    ),
    _odoo(
        "c_billing_internal_cur",
        "a month that has not begun",
        {
            check(RAW_USAGE, "period_date is a day of that month"),
            check("core.billing_usage", "billing_month has begun"),
        },
        period="'2031-01'",
        period_date="date '2031-01-01'",
    ),
    _odoo(
        "c_billing_internal_cur",
        "an orphan of its AWS account",
        {
            check(RAW_USAGE, "account_id refers to odoo_c_aws_accounts"),
            mark("billing_usage", "AWS account is unknown"),
            check("core.billing_usage", "aws_account_source_id refers to aws_account"),
        },
        account_id="999999",
    ),
    _odoo(
        "c_billing_bill_line",
        "a line that costs NaN",
        {check(RAW_LINE, "cost is a number"), reject("bill_line", "cost is not a number")},
        cost="'NaN'",
    ),
    _odoo(
        "c_billing_bill_line",
        "an infinite usage",
        {check(RAW_LINE, "usage is a number"), mark("bill_line", "usage is not a number")},
        usage="'Infinity'",
    ),
    _odoo(
        "c_billing_bill_line",
        "a line without a bill",
        {
            check(RAW_LINE, "bill_id is present"),
            mark("bill_line", "no bill"),
            check("core.bill_line", "a line has a bill"),
        },
        bill_id="null",
    ),
    _odoo(
        "c_billing_bill_line",
        "an orphan of its bill",
        {
            check(RAW_LINE, "bill_id refers to odoo_c_billing_bill"),
            mark("bill_line", "no bill"),
            check("core.bill_line", "a line has a bill"),
        },
        bill_id="999999",
    ),
    _odoo(
        "c_billing_bill_line",
        "a line without a cost",
        {
            check(RAW_LINE, "cost is present"),
            mark("bill_line", "cost is missing"),
            check("core.bill_line", "cost is present"),
        },
        cost="null",
    ),
    _odoo(
        "c_billing_bill_line",
        "a line of another century",
        {check(RAW_LINE, "date is a day of this century")},
        date="date '1021-10-31'",
    ),
)

OPPORTUNITIES = (
    _ace("a key of its own", set(), key="O9000001"),
    _ace("the same key in small letters", {check(RAW_ACE, "id looks like one")}, key="o9000001"),
    _ace("the same key and a blank", {check(RAW_ACE, "id looks like one")}, key="O9000001 "),
    _ace("no title", {check(RAW_ACE, "name is present"), reject(ACE, "title is missing")}, name="null"),
    _ace("a title of blanks", {check(RAW_ACE, "name is not blank"), reject(ACE, "title is missing")}, name="'   '"),
    _ace("five megabytes of title", {mark(ACE, "title is longer than 1,000 characters")}, name=FIVE_MEGABYTES),
    _ace(
        "five megabytes of need",
        {mark(ACE, "text is longer than 100,000 characters")},
        project_description_business_need=FIVE_MEGABYTES,
    ),
    _ace(
        "a stage that AWS does not have",
        {check(RAW_ACE, "stage is one of AWS's seven"), mark(ACE, "stage is unknown")},
        stage_name="'Almost won'",
    ),
    _ace(
        "a review status that AWS does not have",
        {check(RAW_ACE, "review status is known"), mark(ACE, "review status is unknown")},
        status="'Perhaps'",
    ),
    _ace("an industry that AWS does not have", {mark(ACE, "industry is unknown")}, industry="'Alchemy'"),
    _ace(
        "an account number with blanks within",
        {
            check(RAW_ACE, "account number has 12 digits"),
            mark(ACE, "AWS account number is malformed"),
            check(f"core.{ACE}", "account number has 12 digits"),
        },
        aws_account="'1234 5678 9'",
    ),
    _ace(
        "launched without an account",
        {
            check(RAW_ACE, "a launched opportunity names its account"),
            mark(ACE, "launched without a valid AWS account"),
        },
        stage_name="'Launched'",
        aws_account="null",
    ),
    _ace(
        "a budget of NaN",
        {check(RAW_ACE, "project_budget is a number and not negative"), mark(ACE, "monthly spend is not a number")},
        project_budget="'NaN'",
    ),
    _ace(
        "a negative budget",
        {
            check(RAW_ACE, "project_budget is a number and not negative"),
            mark(ACE, "spend is negative"),
            check(f"core.{ACE}", "monthly_aws_spend is a number and not negative"),
        },
        project_budget="-5",
    ),
    _ace(
        "a currency that is none",
        {check(RAW_ACE, "currency is an ISO code"), check(f"core.{ACE}", "currency is an ISO code")},
        project_budget_currency="'US$'",
    ),
    *(
        _ace(
            f"a close date of {value}",
            {check(RAW_ACE, "close_date is a day of this century"), mark(ACE, "date is out of any calendar")},
            close_date=f"date '{value}'",
        )
        for value in ("infinity", "3021-01-01")
    ),
    _ace(
        "modified in the future",
        {
            check(RAW_ACE, "aws_last_modified_date is in the past"),
            check(f"core.{ACE}", "aws_updated_at is in the past"),
        },
        aws_last_modified_date="now() + interval '3 days'",
    ),
    _ace(
        "updated at infinity",
        {check(RAW_ACE, "updated_at is in the past"), mark(ACE, "time is infinite")},
        updated_at="timestamptz 'infinity'",
    ),
    _ace(
        "an orphan of its company",
        {
            check(RAW_ACE, "company_id refers to ace_apn_companies"),
            check(f"core.{ACE}", "account_source_id refers to account_record"),
        },
        company_id="'ACC-GONE'",
    ),
)

ITEMS = (*LEADS, *PARTIES, *BILLING, *OPPORTUNITIES)
