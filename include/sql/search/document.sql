-- Purpose: the texts that search can find.
-- Grain: one row per opportunity and account that is not deleted; an account stands under its leading record's system.
-- Reads: core.odoo_opportunities, core.ace_opportunities, core.account.
-- Writes: search.document; documents whose entity is gone are removed.
-- Privacy: names of companies (never of people), titles and problem descriptions only;
--          no contact, e-mail address, phone number or owner.
-- Re-run: safe; the rows below are the wanted state, and only rows that differ are written.

with texts as (
    select
        source_system,
        'odoo_opportunity' as entity,
        source_id as entity_id,
        title,
        concat_ws(e'\n', title, company_name, description, nullif(array_to_string(tags, ', '), '')) as text,
        stage,
        status,
        country_code,
        annual_revenue as amount,
        target_close_date as close_date
    from core.odoo_opportunities
    where deleted_at is null
    union all
    select
        source_system,
        'ace_opportunity' as entity,
        source_id as entity_id,
        title,
        concat_ws(e'\n', title, company_name, industry, use_case, business_problem) as text,
        stage,
        review_status as status,
        country_code,
        monthly_aws_spend as amount,
        target_close_date as close_date
    from core.ace_opportunities
    where deleted_at is null
    union all
    select
        source_system,
        'account' as entity,
        account_id as entity_id,
        name as title,
        concat_ws(e'\n', name, industry, domain) as text,
        null as stage,
        case when is_archived then 'archived' else 'active' end as status,
        country_code,
        null as amount,
        null as close_date
    from core.account
    where deleted_at is null and is_company
),

-- What people typed into titles and descriptions does not reach the model.
redacted as (
    select
        source_system,
        entity,
        entity_id,
        btrim(search.redact(title)) as title,
        normalize(btrim(search.redact(text)), nfc) as text,
        stage,
        status,
        country_code,
        amount,
        close_date
    from texts
)

select
    source_system,
    entity,
    entity_id,
    title,
    text,
    sha256(convert_to(text, 'UTF8')) as text_hash,
    stage,
    status,
    country_code,
    amount,
    close_date
from redacted
where source_system = %(source)s
