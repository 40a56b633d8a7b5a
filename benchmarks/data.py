"""The tables that are moved, made by SQL on the source: the same rows on every machine."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

# The words of people who sell cloud services: a column of one repeated character would compress to nothing.
WORDS = """
account annual architect assessment aurora availability aws backup bank billing budget business capacity case client
close cloud cluster commitment compliance compute contact container contract cost customer daily data database
deadline decision delivery deployment discount discovery disk email encryption engineer enterprise estimate existing
expected finance follow forecast funding gateway growth healthcare hosting hybrid incident insurance integration
interested invoice kubernetes lambda landing latency lead legacy licence managed manager manufacturer marketplace
meeting migration modern monitoring monthly network next onboarding operations opportunity partner payment pilot
pipeline planning platform pricing private production project proof proposal provider quarter question redshift
region renewal report requirement resale reseller retail review risk roadmap running saving schedule security server
service session snowflake solution sponsor stakeholder starting storage storefront strategy support system team
technical tenant timeline traffic training usage vendor virtual volume warehouse website weekly workload workshop
"""
PARAGRAPHS = 4000
PARAGRAPH_WORDS = 50
# Of every thousand rows so many are updated and inserted between two increments: one per cent together.
UPDATED_OF_1000 = 8
INSERTED_OF_1000 = 2


@dataclass(frozen=True)
class Table:
    """A table of the source. columns: name and type of each. rows: a select over `i`, the number of the row.

    sensitive: the columns to encrypt where that is measured.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    rows: str
    is_indexed_by_time: bool = False
    sensitive: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.columns)

    @property
    def definition(self) -> str:
        """The statement that creates it, with the key alone."""
        return (
            f"create table {self.name} ({', '.join(f'{name} {kind}' for name, kind in self.columns)}, primary key (id))"
        )

    def named(self, name: str) -> Table:
        """The same table under another name."""
        return Table(name, self.columns, self.rows, self.is_indexed_by_time, self.sensitive)


def _columns(text: str) -> tuple[tuple[str, str], ...]:
    """Read `type: name name ...` lines."""
    found = []
    for line in text.strip().splitlines():
        kind, _, names = line.strip().partition(": ")
        found += [(name, kind) for name in names.split()]
    return tuple(found)


# A monthly roll-up of usage as an AWS reseller keeps it: 40 columns, about 900 bytes a row.
BILLING = Table(
    "billing",
    _columns(
        """
        integer: id payer_id account_id company_id currency_id bill_id product_id partner_id
        varchar: service charge_type period region usage_type operation resource description invoice payer_number
        varchar: account_number account_name legal_entity availability_zone pricing_unit tags
        numeric: cost blended_cost net_cost discount usage rate tax
        date: period_date
        timestamp: usage_start usage_end
        boolean: is_final is_estimated
        integer: create_uid
        timestamp: create_date
        integer: write_uid
        timestamp: write_date
        """
    ),
    """
    select i, 1 + i % 37, 1 + i % 2399, 1 + i % 2, 1 + i % 3, 1 + i / 190, 1 + i % 44, 1 + i % 785,
      (array['AmazonEC2', 'AmazonRDS', 'AmazonS3', 'AWSLambda', 'AmazonCloudFront', 'AWSSupportBusiness'])[1 + i % 6],
      (array['Usage', 'RIFee', 'Discounted Usage', 'Solution Provider Program Discount', 'Tax'])[1 + i % 5],
      to_char(date '2023-01-01' + (i % 730), 'YYYY-MM'),
      (array['us-east-1', 'eu-central-1', 'ap-southeast-2', 'sa-east-1'])[1 + i % 4],
      'USE1-BoxUsage:m' || 4 + i % 4 || '.' || 1 + i % 16 || 'xlarge',
      'RunInstances:' || lpad(to_hex(i % 4096), 4, '0'),
      'arn:aws:ec2:us-east-1:' || lpad((i % 2399)::text, 12, '0') || ':instance/i-' || md5(i::text)
        || '/volume/vol-' || left(md5((i / 7)::text), 17),
      '$0.' || i % 9973 || ' per On Demand Linux instance hour, '
        || (array['compute', 'storage', 'data transfer'])[1 + i % 3] || ' for the workload '
        || md5((i % 7919)::text) || ', charged to cost centre ' || i % 311,
      case when i % 3 > 0 then 'EUINGB24-' || 100000 + i / 400 end, lpad((i % 37)::text, 12, '0'),
      lpad((i % 2399)::text, 12, '0'), 'Customer ' || i % 2399 || ' production and disaster recovery',
      'Amazon Web Services, Inc.', 'us-east-1' || chr(97 + i % 3), (array['Hrs', 'GB-Mo', 'Requests'])[1 + i % 3],
      '{"user:environment": "' || (array['production', 'staging', 'test'])[1 + i % 3] || '", "user:owner": "team-'
        || i % 97 || '", "user:application": "' || md5((i % 1009)::text) || '", "aws:createdBy": "AssumedRole:'
        || md5((i % 499)::text) || ':deployment", "user:cost-centre": "' || i % 311 || '"}',
      (i % 999983) / 10000.0, (i % 999979) / 1000000.0, (i % 99991) / 100.0, -(i % 997) / 1000.0, (i % 744)::numeric,
      (i % 9973) / 1000000000.0, case when i % 5 = 4 then (i % 1999) / 100.0 end,
      date '2023-01-01' + (i % 730), timestamp '2023-01-01' + (i % 17520) * interval '1 hour',
      timestamp '2023-01-01 01:00' + (i % 17520) * interval '1 hour', i % 7 > 0, i % 11 = 0,
      1 + i % 13, timestamp '2023-02-03' + i * interval '3 seconds 37 microseconds', 1 + i % 13, {written}
    """,
    is_indexed_by_time=True,
)

# Leads with what people paste into their description: 2.5 kB of HTML in each, which compresses about as text does.
LEAD = Table(
    "lead",
    _columns(
        """
        integer: id
        varchar: name partner_name contact_name email_from phone function street city zip type priority referred
        integer: country_id stage_id team_id user_id company_id partner_id
        boolean: active
        double precision: probability
        numeric: expected_revenue
        text: description
        date: date_deadline
        timestamp: date_open date_closed
        integer: create_uid
        timestamp: create_date
        integer: write_uid
        timestamp: write_date
        """
    ),
    """
    select i, 'Cloud migration for customer ' || i, 'Customer ' || i % 4999 || ' GmbH', 'Contact ' || i % 9973,
      'contact.' || i % 9973 || '@customer-' || i % 4999 || '.example', '+49 30 ' || 1000000 + i % 8999993,
      'Head of platform', i % 199 || ' Example Street', 'Town ' || i % 997, lpad((i % 99991)::text, 5, '0'),
      'opportunity', (i % 4)::text, case when i % 9 = 0 then 'AWS referral' end,
      1 + i % 250, 1 + i % 7, 1 + i % 8, 1 + i % 13, 1 + i % 2, 1 + i % 785, i % 19 > 0, (i % 101)::double precision,
      (i % 999983) / 100.0,
      (select string_agg('<p>' || p.words || '</p>', E'\\n' order by n.n) from generate_series(0, 5) as n (n)
       join paragraph as p on p.id = 1 + (i * 2654435761 + n.n * 40503) % {paragraphs}),
      date '2024-01-01' + (i % 700), timestamp '2024-01-01' + i * interval '7 seconds',
      case when i % 3 = 0 then timestamp '2024-03-01' + i * interval '7 seconds' end,
      1 + i % 13, timestamp '2024-01-01' + i * interval '7 seconds 11 microseconds', 1 + i % 13, {written}
    """,
    sensitive=("email_from", "phone"),
)

# Little in each row, so that many of them fit a benchmark: what counts is that memory does not follow their number.
NARROW = Table(
    "narrow",
    _columns(
        """
        integer: id account_id
        varchar: service
        numeric: cost
        timestamp: write_date
        """
    ),
    "select i, i % 2399, 'Service ' || i % 97, (i % 999983) / 10000.0, {written}",
)

_WRITTEN = "timestamp '2023-02-03' + i * interval '3 seconds 37 microseconds'"


def fill_source(connection: psycopg.Connection, table: Table, rows: int, *, reader: str) -> None:
    """Create and fill a table on the source, as it looks after years: indexed, vacuumed, readable for the reader."""
    if "paragraph" in table.rows:
        _write_paragraphs(connection)
    connection.execute(table.definition.encode())
    _insert(connection, table, 1, rows, written=_WRITTEN)
    if table.is_indexed_by_time:
        connection.execute(f"create index on {table.name} (write_date)".encode())
    connection.execute(sql.SQL("grant select on {} to {}").format(sql.Identifier(table.name), sql.Identifier(reader)))
    connection.execute(f"vacuum (freeze, analyze) {table.name}".encode())


def change_source(connection: psycopg.Connection, table: Table, rows: int, *, turn: int) -> tuple[str, int]:
    """Update rows all over the table and add some, one per cent together; return since when, and how many.

    rows: how many there were at first. Another turn changes other rows. Both are one transaction, as an import is.
    """
    every = 1000 // UPDATED_OF_1000
    inserted = rows * INSERTED_OF_1000 // 1000
    first = rows + (turn - 1) * inserted + 1
    with connection.transaction():
        row = connection.execute("select (now() at time zone 'UTC')::text").fetchone()
        assert row is not None
        updated = connection.execute(
            f"update {table.name} set cost = cost + 1, is_final = not is_final, write_uid = 2, "
            f"write_date = now() at time zone 'UTC' where id % {every} = {turn} and id <= {rows}".encode()
        ).rowcount
        _insert(connection, table, first, first + inserted - 1, written="now() at time zone 'UTC'")
    connection.execute(f"vacuum (analyze) {table.name}".encode())
    return str(row[0]), updated + inserted


def fingerprint(connection: psycopg.Connection, relation: str, names: tuple[str, ...], *, where: str = "true") -> str:
    """Return what two tables have in common only when they hold the same rows, whatever their order."""
    listed = ", ".join(f'"{name}"' for name in names)
    row = connection.execute(
        f"select count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) "
        f"from (select {listed} from {relation} where {where}) as t".encode()
    ).fetchone()
    assert row is not None
    return f"{row[0]} rows, {row[1]}"


def _insert(connection: psycopg.Connection, table: Table, first: int, last: int, *, written: str) -> None:
    rows = table.rows.replace("{written}", written).replace("{paragraphs}", str(PARAGRAPHS))
    connection.execute(f"insert into {table.name} {rows} from generate_series({first}, {last}) as i".encode())


def _write_paragraphs(connection: psycopg.Connection) -> None:
    """Write the paragraphs that descriptions are put together from; each word follows from the numbers alone."""
    words = WORDS.split()
    connection.execute("create table paragraph (id bigint primary key, words text)")
    connection.execute(
        "insert into paragraph "
        "select p, string_agg((%s::text[])[1 + abs(hashint4(p * 1000 + w)) %% %s], ' ' order by w) "
        "from generate_series(1, %s) as p, generate_series(1, %s) as w group by p",
        (words, len(words), PARAGRAPHS, PARAGRAPH_WORDS),
    )
    connection.execute("analyze paragraph")
