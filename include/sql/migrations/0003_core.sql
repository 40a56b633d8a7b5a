-- Purpose: the first core entities: accounts and the opportunities of both systems.
-- Every row carries source_system, source_id (the source's primary key as text) and raw_load_id (the load that
-- brought it last).

set local role revops_owner;

create table core.account (
    account_id bigint generated always as identity primary key,
    source_system text not null check (source_system in ('odoo', 'ace')),
    source_id text not null,
    name text not null,
    normalised_name text not null,
    website text,
    domain text,
    industry text,
    country_code text,
    is_company boolean not null,
    is_archived boolean not null,
    deleted_at timestamptz,
    raw_load_id bigint not null references ops.load (load_id),
    unique (source_system, source_id)
);
create index account_domain_idx on core.account (domain);
comment on table core.account is 'One row per Odoo commercial partner and per ACE company.';
comment on column core.account.is_company is
'False for a person: such a name is personal data and becomes no document.';
comment on column core.account.domain is 'Host of the website in lower case, without www; null when there is none.';

create table core.odoo_opportunities (
    source_system text not null default 'odoo' check (source_system = 'odoo'),
    source_id text not null,
    title text not null,
    lead_type text not null check (lead_type in ('lead', 'opportunity')),
    account_id bigint references core.account (account_id),
    company_name text,
    stage text,
    status text not null check (status in ('open', 'won', 'lost', 'archived')),
    probability numeric,
    annual_revenue numeric,
    currency_code text,
    country_code text,
    team text,
    owner_source_id text,
    ace_opportunity_id text,
    description text,
    tags text[] not null,
    target_close_date date,
    closed_at timestamptz,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    raw_load_id bigint not null references ops.load (load_id),
    primary key (source_system, source_id)
);
create index odoo_opportunities_account_id_idx on core.odoo_opportunities (account_id);
comment on table core.odoo_opportunities is 'One row per crm_lead, archived and deleted ones included.';
comment on column core.odoo_opportunities.annual_revenue is
'Expected revenue of the deal in the company''s currency, for a year; '
'not comparable with ACE''s monthly amounts without the factor 12.';
comment on column core.odoo_opportunities.status is
'won by stage; lost = archived with probability 0; archived = archived otherwise.';
comment on column core.odoo_opportunities.description is 'Plain text: markup removed, blanks folded.';

create table core.ace_opportunities (
    source_system text not null default 'ace' check (source_system = 'ace'),
    source_id text not null,
    title text not null,
    account_id bigint references core.account (account_id),
    company_name text,
    stage text,
    review_status text,
    opportunity_type text,
    ownership text,
    industry text,
    use_case text,
    monthly_spend numeric,
    currency_code text,
    country_code text,
    aws_account_id text,
    is_aws_account_id_valid boolean,
    odoo_opportunity_id text,
    business_problem text,
    next_step text,
    target_close_date date,
    created_at timestamptz,
    updated_at timestamptz,
    aws_updated_at timestamptz,
    deleted_at timestamptz,
    raw_load_id bigint not null references ops.load (load_id),
    primary key (source_system, source_id)
);
create index ace_opportunities_account_id_idx on core.ace_opportunities (account_id);
comment on table core.ace_opportunities is 'One row per ACE opportunity, deleted ones included.';
comment on column core.ace_opportunities.monthly_spend is 'Expected AWS spend of the customer for a month.';
comment on column core.ace_opportunities.odoo_opportunity_id is
'The partner''s own id as ACE holds it, unchecked: may be blank, stale or malformed.';
