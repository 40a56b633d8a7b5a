-- Purpose: the tables of the sample ACE database, loaded before ace_keys.sql adds keys to other tables.
-- Shapes: a Rust application's schema, unlike Odoo's on purpose: varchar keys, timestamptz, arrays, jsonb, an
-- enum, and two modification clocks (updated_at is the row's own, aws_last_modified_date is AWS's).
-- Re-run: no; the generator refuses a database that has these tables.
-- The names are the source's own, reserved words included.
-- noqa: disable=RF04

create type apn_stage as enum (
    'Prospect', 'Qualified', 'Technical Validation', 'Business Validation', 'Committed', 'Launched', 'Closed Lost'
);

create table _sqlx_migrations (
    version bigint primary key,
    description text not null,
    installed_on timestamptz not null default now(),
    success boolean not null,
    checksum bytea not null,
    execution_time bigint not null
);

create table apn_users (
    id varchar(18) primary key,
    email varchar(320) not null unique,
    first_name varchar(80),
    last_name varchar(80),
    role varchar(40),
    is_active boolean not null default true,
    password_hash varchar(255),
    api_token varchar(64),
    last_login_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table apn_companies (
    id varchar(18) primary key,
    name varchar(255) not null,
    website varchar(255),
    duns varchar(9),
    industry varchar(80),
    street text,
    city varchar(120),
    state_or_region varchar(120),
    postal_code varchar(20),
    country_code varchar(2),
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table apn_contacts (
    id varchar(18) primary key,
    company_id varchar(18) not null,
    first_name varchar(80),
    last_name varchar(80),
    email varchar(320),
    phone varchar(40),
    business_title varchar(120),
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table apn_opportunity (
    id varchar(20) primary key,
    name varchar(255) not null,
    stage_name apn_stage not null,
    close_date date,
    project_description_business_need text,
    project_budget numeric(14, 2),
    project_budget_currency varchar(3),
    expected_customer_spend jsonb not null default '[]',
    company_id varchar(18),
    contact_id varchar(18),
    owner_id varchar(18),
    customer_company_name varchar(120),
    customer_website varchar(255),
    customer_duns varchar(9),
    customer_first_name varchar(80),
    customer_last_name varchar(80),
    customer_email varchar(320),
    customer_phone varchar(40),
    customer_title varchar(120),
    customer_street text,
    customer_city varchar(120),
    customer_state varchar(120),
    customer_postal_code varchar(20),
    customer_country varchar(2),
    aws_account varchar(12),
    industry varchar(80),
    other_industry varchar(120),
    national_security boolean,
    use_case varchar(120),
    delivery_model varchar(255),
    delivery_models text[] not null default '{}',
    primary_needs_from_aws text[] not null default '{}',
    sales_activities text[],
    aws_products text[],
    solutions_offered text[],
    apn_programs text[],
    competitor_name varchar(80),
    other_competitor_names varchar(255),
    opportunity_type varchar(40),
    opportunity_ownership varchar(40),
    origin varchar(40),
    involvement_type varchar(40),
    visibility varchar(40),
    status varchar(40),
    aws_status varchar(80),
    aws_stage varchar(80),
    aws_close_date date,
    partner_acceptance_status varchar(40),
    review_comments text,
    review_status_reason text,
    closed_lost_reason varchar(80),
    aws_closed_lost_reason varchar(120),
    next_step varchar(255),
    next_step_history jsonb,
    additional_comments varchar(255),
    partner_crm_id varchar(64),
    partner_sales_rep_name varchar(160),
    partner_sales_rep_email varchar(320),
    aws_sales_rep_name varchar(160),
    aws_sales_rep_email varchar(320),
    aws_account_owner_name varchar(160),
    aws_account_owner_email varchar(320),
    aws_pdm_name varchar(160),
    aws_pdm_email varchar(320),
    opportunity_team jsonb,
    engagement_score varchar(10),
    campaign_name varchar(255),
    is_marketing_development_funded boolean,
    software_revenue jsonb,
    related_opportunity_id varchar(20),
    expected_contract_months smallint,
    accept_by timestamptz,
    aws_create_date timestamptz,
    aws_last_modified_date timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
