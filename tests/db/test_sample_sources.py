"""The sample sources: the same for a seed, shaped like real ones, and truthful about their changes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import psycopg
import pytest

from revops.local.sample import advance, create

pytestmark = pytest.mark.db

TODAY = date(2026, 11, 22)
SEED = 7
SCALE = 0.1
ODOO_TABLES = (
    "account_move", "account_move_line", "c_aws_accounts", "c_aws_funding_request", "c_billing_bill",
    "c_billing_bill_line", "c_billing_internal_cur", "c_billing_spp_bill", "crm_lead", "crm_lost_reason",
    "crm_stage", "crm_tag", "crm_tag_rel", "crm_team", "product_template", "project_project", "res_company",
    "res_country", "res_country_state", "res_currency", "res_partner", "res_users", "sale_order",
    "sale_order_line",
)  # fmt: skip
ACE_TABLES = ("_sqlx_migrations", "apn_companies", "apn_contacts", "apn_opportunity", "apn_users")

ODOO_TRAPS = (
    # what a lead's state is
    "select count(*) from crm_lead where active is false and probability = 0 and lost_reason is not null",
    "select count(*) from crm_lead where active is false and probability > 0",
    "select count(*) from crm_lead where active is null",
    "select count(*) from crm_lead l join crm_stage s on s.id = l.stage_id where s.is_won and l.active",
    "select count(*) from crm_lead where company_id is null",
    # texts
    "select count(*) from crm_lead where description = ''",
    "select count(*) from crm_lead where description is null",
    "select count(*) from crm_lead where description like '<p>%'",
    "select count(*) from crm_lead where description like E'%\\r\\n%'",
    "select count(*) from crm_lead where description like E'%\\t%'",
    "select count(*) from crm_lead where description like E'%\\u00a0%'",
    "select count(*) from crm_lead where description ~ '[一-龥]'",
    "select count(*) from crm_lead where description like '%🚀%'",
    # money
    "select count(*) from crm_lead where scale(expected_revenue) = 0",
    "select count(*) from crm_lead where scale(expected_revenue) > 6",
    "select count(distinct currency_id) - 1 from account_move",
    # ids
    "select max(id) - min(id) + 1 - count(*) from crm_lead",
    "select count(*) from crm_lead where id <> 0 and aws_ace_id ~ '^O[0-9]{7,}$'",
    "select count(*) from crm_lead where length(aws_ace_id) = 6",
    # times
    "select max(n) - 2 from (select count(*) n from crm_lead group by write_date) x",
    "select count(*) from crm_lead where write_date <> date_trunc('second', write_date)",
    "select case when bool_and(date_open = date_trunc('second', date_open)) then 1 else 0 end from crm_lead",
    # accounts and billing
    "select count(*) from c_aws_accounts where name !~ '^[0-9]{12}$' or name is null",
    "select count(*) - count(distinct name) from c_aws_accounts where name ~ '^[0-9]{12}$'",
    "select count(*) from c_billing_bill_line where bill_id is null",
    (
        "select count(*) from (select 1 from c_billing_internal_cur"
        " group by payer_id, account_id, service, charge_type, period_date having count(*) > 1) x"
    ),
    "select count(*) from c_billing_internal_cur where cost < 0",
    # people and secrets
    "select count(*) from res_users where id <= 5 and not active and login <> 'admin'",
    "select count(*) from res_users where password like '$pbkdf2%'",
    "select count(*) from crm_lead where user_id in (select id from res_users where not active)",
    "select count(*) from res_partner where name is null and type in ('invoice', 'delivery')",
    "select count(*) from res_partner where commercial_partner_id <> id",
    "select count(*) from account_move where access_token is not null",
    "select count(*) from account_move_line where display_type like 'line_%' and account_id is null",
    "select count(*) from account_move where name is null or name = '/'",
    "select count(*) from sale_order_line where product_id not in (select id from product_template)",
)


ACE_TRAPS = (
    "select count(*) from apn_opportunity where industry like '% & %'",
    "select count(*) from apn_opportunity where industry like '% and %'",
    "select count(*) from apn_opportunity where status = 'Draft'",
    "select count(*) from apn_opportunity where status = 'Pending Submission'",
    "select count(*) from apn_opportunity where closed_lost_reason like '%–%'",
    "select count(*) from apn_opportunity where closed_lost_reason like '%Competitor - %'",
    "select count(*) from apn_opportunity where partner_crm_id ~ '^[0-9]+$' and length(partner_crm_id) < 6",
    "select count(*) from apn_opportunity where partner_crm_id like 'crm.lead,%'",
    "select count(*) from apn_opportunity where partner_crm_id like '8%' and length(partner_crm_id) = 7",
    "select count(*) from apn_opportunity where partner_crm_id = ''",
    "select count(*) from apn_opportunity where partner_crm_id is null",
    "select count(*) from apn_opportunity where aws_account ~ '^[0-9]{12}$'",
    "select count(*) from apn_opportunity where aws_account !~ '^[0-9]{12}$'",
    "select count(*) from apn_opportunity where aws_last_modified_date <> updated_at",
    "select count(*) from apn_opportunity where cardinality(delivery_models) > 1",
    "select count(*) from apn_opportunity where expected_customer_spend = '[]'",
    "select count(*) from apn_opportunity where aws_last_modified_date is null",
    "select count(*) from apn_opportunity where customer_company_name <> trim(customer_company_name)",
    # one name, two companies
    (
        "select count(*) from (select 1 from apn_companies where duns is not null"
        " group by lower(split_part(name, ' ', 1)) having count(distinct duns) > 1) x"
    ),
    # ids that differ in the case of a letter only
    "select count(*) - count(distinct lower(id)) from apn_companies",
)

Connection = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True)
class Sample:
    """One pair of sample databases, open in autocommit, and where its true matches are."""

    odoo: Connection
    ace: Connection
    truth_path: Path

    def create(self, *, seed: int = SEED, scale: float = SCALE) -> dict[str, int]:
        return create(self.odoo, self.ace, seed=seed, today=TODAY, scale=scale, truth_path=self.truth_path)

    def advance(self, *, today: date = TODAY, seed: int = SEED) -> dict[str, dict[str, int]]:
        return advance(self.odoo, self.ace, seed=seed, today=today, truth_path=self.truth_path)

    def truth(self) -> list[tuple[str, int, str]]:
        with self.truth_path.open(newline="") as file:
            rows = list(csv.reader(file))
        assert rows[0] == ["ace_opportunity_id", "odoo_lead_id", "kind"]
        return [(ace, int(lead), kind) for ace, lead, kind in rows[1:]]

    def digests(self) -> dict[str, object]:
        return {
            f"odoo.{table}": digest(self.odoo, table) for table in (*ODOO_TABLES, "sample.day", "sample.last_id")
        } | {f"ace.{table}": digest(self.ace, table) for table in (*ACE_TABLES, "sample.day")}


@pytest.fixture
def new_sample(empty_database: Callable[[], str], tmp_path: Path) -> Iterator[Callable[[], Sample]]:
    opened: list[Connection] = []

    def make() -> Sample:
        pair = [psycopg.connect(empty_database(), autocommit=True) for _ in range(2)]
        opened.extend(pair)
        return Sample(*pair, truth_path=tmp_path / f"truth{len(opened)}.csv")

    yield make
    for connection in opened:
        connection.close()


@pytest.fixture
def sample(new_sample: Callable[[], Sample]) -> Sample:
    made = new_sample()
    made.create()
    return made


def value(connection: Connection, query: str) -> object:
    row = connection.execute(query).fetchone()  # type: ignore[call-overload]
    assert row is not None
    return row[0]


def column(connection: Connection, query: str) -> list[object]:
    return [row[0] for row in connection.execute(query)]  # type: ignore[call-overload]


def digest(connection: Connection, table: str) -> object:
    return value(connection, f"select md5(string_agg(h, '' order by h)) from (select md5(t::text) h from {table} t) x")


def tables(connection: Connection) -> list[object]:
    return column(
        connection,
        "select tablename from pg_tables where schemaname = 'public' order by tablename collate \"C\"",
    )


def rows_of(connection: Connection, table: str, clock: str) -> dict[object, tuple[object, object]]:
    """Return the content and the modification time of each row by key; a new empty column is no change."""
    key = "(lead_id, tag_id)::text" if table == "crm_tag_rel" else "id::text"
    clock = "null" if table == "crm_tag_rel" else clock
    found = connection.execute(f"select {key}, md5(jsonb_strip_nulls(to_jsonb(t))::text), {clock} from {table} t")  # type: ignore[call-overload]
    return {name: (content, at) for name, content, at in found}


def test_rows_are_the_same_for_a_seed_and_others_for_another(new_sample: Callable[[], Sample]) -> None:
    first, second, third = new_sample(), new_sample(), new_sample()
    first.create()
    second.create()
    third.create(seed=SEED + 1)
    assert first.digests() == second.digests()
    assert first.truth() == second.truth()
    for table in ("crm_lead", "res_partner", "c_billing_internal_cur", "c_billing_bill_line"):
        assert digest(first.odoo, table) != digest(third.odoo, table)
    assert digest(first.ace, "apn_opportunity") != digest(third.ace, "apn_opportunity")


def test_create_reports_the_rows_of_each_table_and_scale_multiplies_them(
    new_sample: Callable[[], Sample],
) -> None:
    small, large = new_sample(), new_sample()
    few, many = small.create(scale=0.05), large.create(scale=0.2)
    assert tables(small.odoo) == sorted(ODOO_TABLES)
    assert tables(small.ace) == sorted(ACE_TABLES)
    for connection in (small.odoo, small.ace):
        for table in tables(connection):
            assert value(connection, f"select count(*) from {table}") == few[str(table)]
    assert many["c_billing_internal_cur"] == 30_000
    for table in (
        "crm_lead",
        "apn_opportunity",
        "c_billing_internal_cur",
        "c_billing_bill_line",
        "c_billing_bill",
    ):
        assert many[table] == pytest.approx(4 * few[table], rel=0.02)
    assert many["res_partner"] > 3 * few["res_partner"]


def test_odoo_has_the_shapes_of_odoo(sample: Sample) -> None:
    count = "select count(*) from information_schema.columns where table_schema = 'public' and "
    assert value(sample.odoo, count + "table_name = 'crm_lead'") == 91
    assert value(sample.odoo, count + "table_name = 'crm_lead' and column_name <> lower(column_name)") == 19
    assert value(sample.odoo, count + "table_name = 'c_billing_internal_cur'") == 14
    assert value(sample.odoo, count + "table_name = 'c_billing_bill_line'") == 13
    assert value(sample.odoo, count + "data_type = 'timestamp with time zone'") == 0
    assert value(sample.odoo, count + "data_type = 'numeric' and numeric_scale is not null") == 0
    assert value(sample.odoo, count + "table_name = 'c_billing_internal_cur' and is_nullable = 'NO'") == 1
    indexes = column(sample.odoo, "select indexdef from pg_indexes where schemaname = 'public'")
    assert indexes
    assert not [index for index in indexes if "write_date" in str(index)]
    rules = dict(
        sample.odoo.execute(
            "select conrelid::regclass || '.' || attname, confdeltype::text from pg_constraint"
            " join pg_attribute on attrelid = conrelid and attnum = conkey[1] where contype = 'f'"
        ).fetchall()
    )
    for key, rule in {
        "crm_lead.partner_id": "n", "crm_lead.x_payer_id": "n", "crm_lead.stage_id": "r",
        "crm_lead.lost_reason": "r",
        "crm_tag_rel.tag_id": "c", "account_move_line.move_id": "c", "account_move_line.partner_id": "r",
        "res_users.partner_id": "r", "c_billing_bill_line.bill_id": "c",
        "c_billing_internal_cur.payer_id": "n",
        "crm_lead.write_uid": "n",
    }.items():  # fmt: skip
        assert rules[key] == rule, key


def test_ace_has_shapes_unlike_odoo(sample: Sample) -> None:
    types = dict(
        sample.ace.execute(
            "select column_name, udt_name from information_schema.columns  where table_name = 'apn_opportunity'"
        ).fetchall()
    )
    assert len(types) == 76
    assert types["id"] == "varchar"
    assert types["stage_name"] == "apn_stage"
    assert types["delivery_models"] == "_text"
    assert types["expected_customer_spend"] == "jsonb"
    assert types["aws_last_modified_date"] == types["updated_at"] == "timestamptz"
    # Text order of the ids is not the order of their numbers.
    assert (
        value(sample.ace, "select max(id collate \"C\") <> 'O' || max(substr(id, 2)::int) from apn_opportunity") is True
    )


def test_traps_of_real_sources_are_there(new_sample: Callable[[], Sample]) -> None:
    made = new_sample()
    made.create(scale=1)
    # Each trap is a count of the rows that have it.
    for connection, traps in ((made.odoo, ODOO_TRAPS), (made.ace, ACE_TRAPS)):
        found = {trap: value(connection, trap) for trap in traps}
        assert [trap for trap, count in found.items() if not isinstance(count, int) or count <= 0] == []


def test_times_end_before_today(sample: Sample) -> None:
    for table in set(ODOO_TABLES) - {"crm_tag_rel"}:
        assert value(sample.odoo, f"select max(write_date) < '{TODAY}' or count(*) = 0 from {table}") is True, table
        assert value(sample.odoo, f"select count(*) from {table} where write_date < create_date") == 0, table
    assert (
        value(
            sample.odoo,
            f"select max(period_date) = date_trunc('month', date '{TODAY}') from c_billing_internal_cur",
        )
        is True
    )
    assert value(sample.odoo, "select count(distinct period) from c_billing_internal_cur") == 22


def test_truth_refers_to_rows_and_is_in_no_database(sample: Sample) -> None:
    pairs = sample.truth()
    leads = set(column(sample.odoo, "select id from crm_lead"))
    opportunities = column(sample.ace, "select id from apn_opportunity")
    assert {lead for _, lead, _ in pairs} <= leads
    assert {found for found, _, _ in pairs} <= set(opportunities)
    assert len({found for found, _, _ in pairs}) == len(pairs)
    # Some opportunities are referrals without a lead, some leads have none, some have several.
    assert len(pairs) < len(opportunities)
    assert len({lead for _, lead, _ in pairs}) < min(len(pairs), len(leads))
    assert {kind for _, _, kind in pairs} == {"keyed", "unkeyed", "split_keyed", "split_unkeyed"}
    keyed = [(found, lead) for found, lead, kind in pairs if kind == "keyed"]
    stored = dict(sample.ace.execute("select id, partner_crm_id from apn_opportunity").fetchall())
    linked = dict(sample.odoo.execute("select id, upper(trim(aws_ace_id)) from crm_lead").fetchall())
    for found, lead in keyed:
        assert linked[lead] == found or str(stored[found]).strip().removeprefix("crm.lead,") == str(lead)


@pytest.mark.parametrize("days", [1, 4])
def test_advance_changes_what_it_says(sample: Sample, days: int) -> None:
    for _ in range(days - 1):
        sample.advance()
    clocks = [(sample.odoo, table, "write_date") for table in ODOO_TABLES]
    clocks += [(sample.ace, table, "updated_at") for table in ACE_TABLES[1:]]
    before = {table: rows_of(connection, table, clock) for connection, table, clock in clocks}
    counts = sample.advance()
    for connection, table, clock in clocks:
        old, new = before[table], rows_of(connection, table, clock)
        common = old.keys() & new.keys()
        found = {
            "inserted": len(new.keys() - old.keys()),
            "deleted": len(old.keys() - new.keys()),
            "updated": sum(old[key][1] != new[key][1] for key in common),
            "silent": sum(old[key][0] != new[key][0] and old[key][1] == new[key][1] for key in common),
        }
        said = {kind: counts.get(table, {}).get(kind, 0) for kind in found}
        assert said == found, table
    leads = counts["crm_lead"]
    assert min(leads[kind] for kind in ("inserted", "deleted", "updated", "silent", "merged", "won", "lost")) > 0
    assert leads["column_added"] == 1
    assert counts["crm_tag"] == {"inserted": 1, "deleted": 1}
    assert counts["crm_tag_rel"]["deleted"] > 0
    assert counts["res_partner"]["merged"] == 1
    assert counts["c_billing_internal_cur"]["restated_months"] == 1
    assert counts["apn_contacts"]["deleted"] == 1
    assert counts["apn_opportunity"]["silent"] > 0


def test_advance_adds_a_custom_field_and_fills_some_rows(sample: Sample) -> None:
    sample.advance()
    assert (
        value(
            sample.odoo,
            "select count(*) > 0 and count(*) < 100 from crm_lead where x_partner_program is not null",
        )
        is True
    )


def test_merge_loser_is_gone_and_its_matches_follow(sample: Sample) -> None:
    for _ in range(5):
        sample.advance()
    merged = sample.odoo.execute("select table_name, loser from sample.merged").fetchall()
    assert len(merged) == 10
    for table, loser in merged:
        assert value(sample.odoo, f"select count(*) from {table} where id = {loser}") == 0
    leads = set(column(sample.odoo, "select id from crm_lead"))
    opportunities = set(column(sample.ace, "select id from apn_opportunity"))
    for found, lead, _ in sample.truth():
        assert lead in leads
        assert found in opportunities


def test_restated_month_has_the_same_keys_new_ids_and_other_costs(sample: Sample) -> None:
    keys = (
        "select id, (payer_id, account_id, service, charge_type, period_date)::text, cost"
        f" from c_billing_internal_cur where period_date < '{TODAY.replace(day=1)}'"
    )
    before = {row[0]: row[1:] for row in sample.odoo.execute(keys)}
    sample.advance()
    after = {row[0]: row[1:] for row in sample.odoo.execute(keys)}
    gone, fresh = before.keys() - after.keys(), after.keys() - before.keys()
    assert gone
    assert min(map(int, map(str, fresh))) > max(map(int, map(str, before)))
    old_keys, new_keys = ({before[row][0] for row in gone}, {after[row][0] for row in fresh})
    assert new_keys <= old_keys
    assert len({str(key).split(",")[0] + str(key).split(",")[-1] for key in new_keys}) == 1
    assert {before[row] for row in gone}.isdisjoint({after[row] for row in fresh})


def test_advance_is_the_same_for_a_seed_and_day(new_sample: Callable[[], Sample]) -> None:
    first, second = new_sample(), new_sample()
    for made in (first, second):
        made.create()
        for day in (22, 22, 23):
            made.advance(today=TODAY.replace(day=day))
    assert first.digests() == second.digests()
    assert first.truth() == second.truth()
    moments = column(first.odoo, "select at from sample.day order by number")
    assert moments == sorted(set(moments))


def test_advance_starts_a_new_month(sample: Sample) -> None:
    sample.advance(today=date(2026, 12, 1))
    assert value(sample.odoo, "select count(*) from c_billing_internal_cur where period = '2026-12'") == 23


@contextmanager
def failing_commit(connection: Connection) -> Iterator[None]:
    """Let the next commit on `connection` fail, after everything before it went well."""
    connection.execute(
        "create function sample.fail() returns trigger language plpgsql as $$ begin raise 'cut off'; end $$;"
        " create constraint trigger cut after insert on sample.day deferrable initially deferred"
        " for each row execute function sample.fail()"
    )
    yield
    connection.execute("drop trigger cut on sample.day; drop function sample.fail")


def test_a_day_cut_off_between_the_databases_is_finished_by_the_next_call(
    new_sample: Callable[[], Sample],
) -> None:
    whole, cut = new_sample(), new_sample()
    whole.create()
    cut.create()
    whole.advance()
    with failing_commit(cut.ace), pytest.raises(psycopg.errors.RaiseException, match="cut off"):
        cut.advance()
    assert value(cut.odoo, "select max(number) from sample.day") == 1
    assert value(cut.ace, "select max(number) from sample.day") == 0
    assert set(cut.advance()) <= set(ACE_TABLES)
    assert cut.digests() == whole.digests()
    assert cut.truth() == whole.truth()


def test_a_day_that_fails_leaves_nothing_behind(new_sample: Callable[[], Sample]) -> None:
    whole, cut = new_sample(), new_sample()
    whole.create()
    cut.create()
    with failing_commit(cut.odoo), pytest.raises(psycopg.errors.RaiseException, match="cut off"):
        cut.advance()
    assert value(cut.odoo, "select max(number) from sample.day") == 0
    whole.advance()
    cut.advance()
    assert cut.digests() == whole.digests()
    assert cut.truth() == whole.truth()


def test_create_refuses_databases_with_tables(sample: Sample, new_sample: Callable[[], Sample]) -> None:
    with pytest.raises(ValueError, match="tables already"):
        sample.create()
    other = new_sample()
    other.ace.execute("create table something (id integer)")
    with pytest.raises(ValueError, match=r"ACE database .* has 1 tables already"):
        other.create()
    assert tables(other.odoo) == []
    assert not other.truth_path.exists()


def test_create_refuses_a_scale_of_nothing(new_sample: Callable[[], Sample]) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        new_sample().create(scale=0)


def test_advance_refuses_other_databases_and_other_seeds(sample: Sample, new_sample: Callable[[], Sample]) -> None:
    with pytest.raises(LookupError, match="not a sample source"):
        new_sample().advance()
    with pytest.raises(ValueError, match="seed"):
        sample.advance(seed=SEED + 1)


@pytest.mark.parametrize("scale", [0.001, 0.01])
def test_small_samples_live_through_many_days(new_sample: Callable[[], Sample], scale: float) -> None:
    made = new_sample()
    made.create(scale=scale)
    for _ in range(10):
        made.advance()
    assert value(made.odoo, "select count(*) > 10 from crm_lead") is True
