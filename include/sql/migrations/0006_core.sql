-- Purpose: core as a whole: accounts that are one company each, contacts, users, AWS accounts, opportunities and
--          billing.
-- Core is made from raw: the first tables of it are dropped here and come back, with more columns, in the next run.
--
-- Every row carries source_system, source_id (the source's primary key as text), raw_load_id (the load that brought
-- its main record last), transform_run_id (the run that wrote the row last) and issues (the names of the rules that
-- fixed the row or warn of it; null when there are none). Rows of entities stay when the source deletes the record,
--          with deleted_at.

set local role revops_owner;

drop table core.odoo_opportunities, core.ace_opportunities, core.account;

create table core.account_record (
    source_system text not null check (source_system in ('odoo', 'ace')),
    source_id text not null,
    name text not null,
    normalised_name text not null,
    is_company boolean not null,
    is_archived boolean not null,
    website text,
    domain text,
    industry text,
    country_code text,
    region text,
    city text,
    postal_code text,
    duns text,
    vat text,
    aws_account_ids text[] not null,
    created_at timestamptz,
    updated_at timestamptz,
    issues text[],
    deleted_at timestamptz,
    raw_load_id bigint not null references ops.load (load_id),
    transform_run_id bigint not null references ops.transform_run (transform_run_id),
    primary key (source_system, source_id)
);
create index account_record_transform_run_id_idx on core.account_record (transform_run_id);
comment on table core.account_record is
'One row per company as one source has it: an Odoo commercial partner, an ACE company, or the customer that an ACE '
'opportunity without a company names. core.account_link says which of them are one company.';
comment on column core.account_record.is_company is
'False for a person: such a name is personal data and becomes no document.';
comment on column core.account_record.domain is
'Registrable domain of the website by the public suffix list; null for free mail, shared hosts and social networks.';
comment on column core.account_record.normalised_name is
'Name for comparison: case, accents, punctuation, "the" and legal forms at the end removed.';

create table core.account_link (
    source_system text not null,
    source_id text not null,
    account_id text not null,
    reason text not null check (
        reason in ('only record', 'leading record', 'duns', 'vat', 'aws account', 'domain', 'name and country')
    ),
    evidence text,
    linked_to text,
    state text not null check (state in ('live', 'broken')),
    deleted_at timestamptz,
    raw_load_id bigint not null references ops.load (load_id),
    transform_run_id bigint not null references ops.transform_run (transform_run_id),
    primary key (source_system, source_id)
);
create index account_link_account_id_idx on core.account_link (account_id);
comment on table core.account_link is
'Which records form one account, and why: one row per row of core.account_record.';
comment on column core.account_link.account_id is
'source_system:source_id of the leading record: a live one before a deleted one, then an Odoo record before an ACE '
'one, then the oldest key.';
comment on column core.account_link.evidence is 'The value that both records share, such as the domain.';
comment on column core.account_link.linked_to is 'source_system:source_id of the record that shares it.';
comment on column core.account_link.state is
'broken: the record is gone from its source, by deletion or by a merge; it still shows which account it meant.';

create table core.account (
    account_id text primary key,
    source_system text not null,
    source_id text not null,
    name text not null,
    normalised_name text not null,
    is_company boolean not null,
    is_archived boolean not null,
    website text,
    domain text,
    industry text,
    country_code text,
    region text,
    city text,
    postal_code text,
    duns text,
    vat text,
    aws_account_ids text[] not null,
    records integer not null,
    systems text[] not null,
    created_at timestamptz,
    updated_at timestamptz,
    issues text[],
    deleted_at timestamptz,
    raw_load_id bigint not null references ops.load (load_id),
    transform_run_id bigint not null references ops.transform_run (transform_run_id)
);
create index account_domain_idx on core.account (domain);
create index account_aws_account_ids_idx on core.account using gin (aws_account_ids);
comment on table core.account is
'One row per company or person that is a customer, whatever number of records it has in the sources.';
comment on column core.account.records is 'Records that form it and are still in their sources.';

create table core.aws_account (
    source_system text not null default 'odoo' check (source_system = 'odoo'),
    source_id text not null,
    aws_account_id text,
    is_aws_account_id_valid boolean,
    name text,
    account_source_id text,
    is_payer boolean,
    payer_source_id text,
    state text,
    is_archived boolean not null,
    joined_on date,
    left_on date,
    is_spp_eligible boolean,
    support_plan text,
    end_user_type text,
    end_user_postal_code text,
    end_user_country_code text,
    is_government boolean,
    created_at timestamptz,
    updated_at timestamptz,
    issues text[],
    deleted_at timestamptz,
    raw_load_id bigint not null references ops.load (load_id),
    transform_run_id bigint not null references ops.transform_run (transform_run_id),
    primary key (source_system, source_id)
);
create index aws_account_aws_account_id_idx on core.aws_account (aws_account_id);
create index aws_account_account_source_id_idx on core.aws_account (account_source_id);
comment on table core.aws_account is 'One row per AWS account that Odoo knows.';
comment on column core.aws_account.account_source_id is
'The company that owns it: source_id in core.account_record and core.account_link.';
comment on column core.aws_account.aws_account_id is
'As typed, without blanks around it; text, for leading zeros count. Only valid ones have 12 digits.';

create table core.contact (
    source_system text not null check (source_system in ('odoo', 'ace')),
    source_id text not null,
    account_source_id text,
    name text,
    job_title text,
    contact_type text,
    country_code text,
    is_archived boolean not null,
    email_blind_index bytea,
    phone_blind_index bytea,
    created_at timestamptz,
    updated_at timestamptz,
    issues text[],
    deleted_at timestamptz,
    raw_load_id bigint not null references ops.load (load_id),
    transform_run_id bigint not null references ops.transform_run (transform_run_id),
    primary key (source_system, source_id)
);
create index contact_account_source_id_idx on core.contact (source_system, account_source_id);
create index contact_email_blind_index_idx on core.contact (email_blind_index);
comment on table core.contact is 'One row per person or address under a company, and per ACE contact.';
comment on column core.contact.name is 'Null where the source''s names are encrypted (ACE).';
comment on column core.contact.email_blind_index is
'Equal for equal addresses of both systems, by which they can be joined without being read.';

create table core.app_user (
    source_system text not null check (source_system in ('odoo', 'ace')),
    source_id text not null,
    name text,
    role text,
    is_active boolean not null,
    is_internal boolean not null,
    is_technical boolean not null,
    contact_source_id text,
    email_blind_index bytea,
    created_at timestamptz,
    updated_at timestamptz,
    issues text[],
    deleted_at timestamptz,
    raw_load_id bigint not null references ops.load (load_id),
    transform_run_id bigint not null references ops.transform_run (transform_run_id),
    primary key (source_system, source_id)
);
comment on table core.app_user is 'One row per user of either system; a user that was deactivated still owns deals.';

create table core.odoo_opportunities (
    source_system text not null default 'odoo' check (source_system = 'odoo'),
    source_id text not null,
    title text not null,
    lead_type text not null check (lead_type in ('lead', 'opportunity')),
    account_source_id text,
    contact_source_id text,
    company_name text,
    domain text,
    stage text,
    status text not null check (status in ('open', 'won', 'lost', 'archived')),
    lost_reason text,
    probability numeric,
    annual_revenue numeric,
    currency_code text,
    monthly_aws_spend numeric,
    country_code text,
    region text,
    city text,
    postal_code text,
    team text,
    owner_source_id text,
    ace_opportunity_id text,
    aws_account_id text,
    is_aws_account_id_valid boolean,
    duns text,
    industry text,
    use_case text,
    ownership text,
    acceptance_status text,
    description text,
    tags text[] not null,
    target_close_date date,
    closed_at timestamptz,
    created_at timestamptz,
    updated_at timestamptz,
    issues text[],
    deleted_at timestamptz,
    raw_load_id bigint not null references ops.load (load_id),
    transform_run_id bigint not null references ops.transform_run (transform_run_id),
    primary key (source_system, source_id)
);
create index odoo_opportunities_account_source_id_idx on core.odoo_opportunities (account_source_id);
create index odoo_opportunities_ace_opportunity_id_idx on core.odoo_opportunities (ace_opportunity_id);
comment on table core.odoo_opportunities is 'One row per crm_lead, archived and deleted ones included.';
comment on column core.odoo_opportunities.account_source_id is
'The commercial partner: source_id in core.account_record and core.account_link.';
comment on column core.odoo_opportunities.annual_revenue is
'Expected revenue of the deal in currency_code, the company''s currency, for a year; '
'not comparable with monthly amounts without the factor 12.';
comment on column core.odoo_opportunities.monthly_aws_spend is
'Expected AWS spend of the customer for a month in USD, as typed into the CRM for ACE.';
comment on column core.odoo_opportunities.status is
'won by stage; lost = archived with probability 0; archived = archived otherwise.';
comment on column core.odoo_opportunities.description is 'Plain text: markup removed, blanks folded.';

create table core.ace_opportunities (
    source_system text not null default 'ace' check (source_system = 'ace'),
    source_id text not null,
    title text not null,
    account_source_id text,
    contact_source_id text,
    company_name text,
    domain text,
    stage text,
    aws_stage text,
    review_status text,
    acceptance_status text,
    opportunity_type text,
    ownership text,
    closed_lost_reason text,
    industry text,
    use_case text,
    delivery_models text[] not null,
    monthly_aws_spend numeric,
    currency_code text,
    country_code text,
    region text,
    city text,
    postal_code text,
    duns text,
    owner_source_id text,
    aws_account_id text,
    is_aws_account_id_valid boolean,
    odoo_opportunity_id text,
    business_problem text,
    next_step text,
    target_close_date date,
    created_at timestamptz,
    updated_at timestamptz,
    aws_updated_at timestamptz,
    issues text[],
    deleted_at timestamptz,
    raw_load_id bigint not null references ops.load (load_id),
    transform_run_id bigint not null references ops.transform_run (transform_run_id),
    primary key (source_system, source_id)
);
create index ace_opportunities_account_source_id_idx on core.ace_opportunities (account_source_id);
create index ace_opportunities_odoo_opportunity_id_idx on core.ace_opportunities (odoo_opportunity_id);
create index ace_opportunities_aws_account_id_idx on core.ace_opportunities (aws_account_id);
comment on table core.ace_opportunities is 'One row per ACE opportunity, deleted ones included.';
comment on column core.ace_opportunities.account_source_id is
'The customer''s record: source_id in core.account_record and core.account_link.';
comment on column core.ace_opportunities.monthly_aws_spend is
'Expected AWS spend of the customer for a month in currency_code.';
comment on column core.ace_opportunities.odoo_opportunity_id is
'The partner''s own id as ACE holds it, unchecked: may be blank, stale or malformed.';

-- The two large tables have no foreign keys to ops: each would cost a lookup a row, and both are written by one
--          program only.
create table core.billing_usage (
    billing_month date not null,
    source_system text not null default 'odoo' check (source_system = 'odoo'),
    source_id text not null,
    payer_source_id text,
    payer_aws_account_id text,
    aws_account_source_id text,
    aws_account_id text,
    service text,
    charge_type text,
    cost numeric,
    currency_code text,
    company_source_id text,
    updated_at timestamptz,
    issues text[],
    raw_load_id bigint not null,
    transform_run_id bigint not null,
    primary key (source_id, billing_month)
) partition by range (billing_month);
create index billing_usage_payer_idx on core.billing_usage (payer_source_id, billing_month);
create index billing_usage_aws_account_id_idx on core.billing_usage (aws_account_id, billing_month);
comment on table core.billing_usage is
'One row per line of the monthly cost roll-up that counts now, a partition a month. A restated month of a payer is '
'replaced as a whole: its ids change. Lines of earlier statements are in raw only.';
comment on column core.billing_usage.cost is 'Unblended cost in currency_code, unrounded.';

create table core.bill_line (
    source_system text not null default 'odoo' check (source_system = 'odoo'),
    source_id text not null,
    bill_source_id text,
    bill_name text,
    bill_state text,
    has_bill boolean not null,
    billing_month date,
    account_source_id text,
    aws_account_source_id text,
    invoice_source_id text,
    product_source_id text,
    product_name text,
    line_type text,
    usage_amount numeric,
    cost numeric,
    currency_code text,
    line_date date,
    updated_at timestamptz,
    issues text[],
    deleted_at timestamptz,
    raw_load_id bigint not null,
    transform_run_id bigint not null,
    primary key (source_id)
);
create index bill_line_bill_source_id_idx on core.bill_line (bill_source_id);
comment on table core.bill_line is
'One row per line of a bill, deleted ones included; lines whose bill is missing are kept and say so.';
comment on column core.bill_line.billing_month is
'First day of the month of the bill''s period; of the line''s own date where it has no bill.';

-- Partitions are made as months appear, by the role that writes but does not own the table.
create function core.add_billing_months(months date[]) returns integer
language plpgsql
security definer
set search_path = pg_catalog
as $$
declare
    first_day date;
    made integer := 0;
    partition_name text;
begin
    foreach first_day in array months loop
        if first_day is null or first_day <> pg_catalog.date_trunc('month', first_day)::date then
            raise exception '% is not the first day of a month', first_day;
        end if;
        partition_name := 'billing_usage_' || pg_catalog.to_char(first_day, 'YYYY_MM');
        if pg_catalog.to_regclass('core.' || partition_name) is null then
            execute pg_catalog.format(
                'create table core.%I partition of core.billing_usage for values from (%L) to (%L)',
                partition_name, first_day, first_day + interval '1 month'
            );
            made := made + 1;
        end if;
    end loop;
    return made;
end
$$;
grant execute on function core.add_billing_months to revops_transform;

-- Groups of records that are connected by pairs, for the SQL files that join records to entities.
create function core.components(lefts text[], rights text[])
returns table (node text, root text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    moved bigint;
begin
    create temp table component_edge on commit drop as
    select e.l, e.r from unnest(lefts, rights) as e (l, r) where e.l <> e.r
    union
    select e.r, e.l from unnest(lefts, rights) as e (l, r) where e.l <> e.r;
    create temp table component on commit drop as
    select distinct e.l as n, e.l as m from component_edge as e;
    create index on component_edge (l);
    create unique index on component (n);
    analyze component_edge;
    analyze component;
    loop
        -- Each node takes the least mark of its neighbours, then the mark of its mark: the second halves the way to go.
        update component as c set m = s.m
        from (
            select e.l, min(o.m) as m from component_edge as e inner join component as o on o.n = e.r group by e.l
        ) as s
        where s.l = c.n and s.m < c.m;
        get diagnostics moved = row_count;
        exit when moved = 0;
        update component as c set m = o.m from component as o where o.n = c.m and o.m < c.m;
    end loop;
    return query select c.n, c.m from component as c;
    drop table component_edge, component;
end
$$;
comment on function core.components is
'Connected components of an undirected graph given as pairs: each node with the least node that it is connected to.';
grant execute on function core.components to revops_transform;

-- One place to ask what the company of a deal is, whichever system the deal is in.
create view core.opportunity with (security_invoker = true) as
select
    o.source_system,
    o.source_id,
    o.title,
    l.account_id,
    o.company_name,
    o.stage,
    o.status,
    o.monthly_aws_spend,
    o.annual_revenue,
    o.currency_code,
    o.country_code,
    o.aws_account_id,
    o.target_close_date,
    o.created_at,
    o.updated_at,
    o.issues,
    o.deleted_at
from core.odoo_opportunities as o
left join core.account_link as l on l.source_system = 'odoo' and o.account_source_id = l.source_id
union all
select
    o.source_system,
    o.source_id,
    o.title,
    l.account_id,
    o.company_name,
    o.stage,
    o.review_status,
    o.monthly_aws_spend,
    null::numeric,
    o.currency_code,
    o.country_code,
    o.aws_account_id,
    o.target_close_date,
    o.created_at,
    o.updated_at,
    o.issues,
    o.deleted_at
from core.ace_opportunities as o
left join core.account_link as l on l.source_system = 'ace' and o.account_source_id = l.source_id;
comment on view core.opportunity is 'The opportunities of both systems in their common columns, with their account.';

create view core.person with (security_invoker = true) as
select
    c.source_system,
    c.source_id,
    l.account_id,
    coalesce(
        min(c.source_system || ':' || c.source_id) filter (where c.deleted_at is null)
            over (partition by coalesce(encode(c.email_blind_index, 'hex'), c.source_system || ':' || c.source_id)),
        c.source_system || ':' || c.source_id
    ) as person_id,
    c.deleted_at
from core.contact as c
left join core.account_link as l on c.source_system = l.source_system and c.account_source_id = l.source_id;
comment on view core.person is
'Which contacts are one person: those with one e-mail address, by its blind index; a contact without address is a '
'person of its own.';

-- ops: what a transform read, what its rules did.
alter table ops.transform_run
add column full_reason text,
add column scope bigint,
add column warned bigint,
add column fixed bigint;
comment on column ops.transform_run.full_reason is 'Why everything was computed anew; null for an incremental run.';
comment on column ops.transform_run.scope is 'Keys whose rows an incremental run computed anew.';

create table ops.transform_state (
    target text not null,
    source text not null,
    transform_run_id bigint not null references ops.transform_run (transform_run_id),
    definition text not null,
    read_up_to jsonb not null,
    saved_at timestamptz not null default now(),
    primary key (target, source)
);
comment on table ops.transform_state is
'Where the next incremental transform of a table starts; saved in the transaction of the rows.';
comment on column ops.transform_state.definition is
'SHA-256 of the SQL files, rules and inputs; another definition computes everything anew.';
comment on column ops.transform_state.read_up_to is 'The last load whose rows were seen, by raw table.';

create table ops.rule_result (
    transform_run_id bigint not null references ops.transform_run (transform_run_id) on delete cascade,
    rule text not null,
    action text not null check (action in ('reject', 'fix', 'warn')),
    rows bigint not null,
    primary key (transform_run_id, rule)
);
comment on table ops.rule_result is
'How many of the rows that a transform computed broke a rule. core.<table>.issues says which.';

alter table ops.quarantine rename column source_table to target;
alter table ops.quarantine add column source text;
update ops.quarantine set
    source = split_part(target, ':', 2),
    target = split_part(target, ':', 1);
alter table ops.quarantine
alter column source set not null,
drop constraint quarantine_pkey,
add primary key (target, source, source_key, rule);

grant insert, update, delete on ops.transform_state to revops_transform, revops_embed;
grant insert on ops.rule_result to revops_transform, revops_embed;
