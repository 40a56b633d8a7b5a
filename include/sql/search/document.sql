-- Purpose: the texts that search can find.
-- Grain: one row per opportunity and account that is not deleted; an account stands under its leading record's system.
-- Reads: core.odoo_opportunities, core.ace_opportunities, core.account, core.contact, core.app_user.
-- Writes: search.document; documents whose entity is gone are removed.
-- Templates: one per entity; template_version goes up when one changes. Vectors belong to texts: documents whose text
--            stays the same under a new version are written, but not encoded.
-- Privacy: names of companies (never of people), titles and problem descriptions only; no contact, e-mail address,
--          phone number or owner. What people typed goes through search.redact, with the names of the account's
--          contacts and of the owner.
-- Re-run: safe; the rows below are the wanted state, and only rows that differ are written.

with people as (
    select
        source_system,
        account_source_id,
        array_agg(name order by name) as names
    from core.contact
    where name is not null and account_source_id is not null
    group by source_system, account_source_id
),

texts as (
    select
        o.source_system,
        'odoo_opportunity' as entity,
        o.source_id as entity_id,
        o.title,
        concat_ws(
            e'\n', o.title, o.company_name, o.industry, o.use_case, o.description,
            nullif(array_to_string(o.tags, ', '), '')
        ) as text,
        -- An address may be named after its company.
        array_remove(array_append(p.names, u.name), o.company_name) as names,
        array[o.source_id, o.ace_opportunity_id, o.aws_account_id] as identifiers,
        o.stage,
        o.status,
        o.team,
        o.country_code,
        o.annual_revenue as amount,
        o.target_close_date as close_date,
        2 as template_version
    from core.odoo_opportunities as o
    left join people as p on o.source_system = p.source_system and o.account_source_id = p.account_source_id
    left join core.app_user as u on o.source_system = u.source_system and o.owner_source_id = u.source_id
    where o.deleted_at is null
    union all
    select
        source_system,
        'ace_opportunity' as entity,
        source_id as entity_id,
        title,
        concat_ws(e'\n', title, company_name, industry, use_case, business_problem) as text,
        -- ACE's names of people are encrypted.
        null as names,
        array[source_id, odoo_opportunity_id, aws_account_id] as identifiers,
        stage,
        review_status as status,
        -- ACE knows no teams.
        null as team,
        country_code,
        monthly_aws_spend as amount,
        target_close_date as close_date,
        1 as template_version
    from core.ace_opportunities
    where deleted_at is null
    union all
    select
        source_system,
        'account' as entity,
        account_id as entity_id,
        name as title,
        concat_ws(e'\n', name, industry, domain) as text,
        null as names,
        array[account_id, source_id, duns] || aws_account_ids as identifiers,
        null as stage,
        case when is_archived then 'archived' else 'active' end as status,
        null as team,
        country_code,
        null as amount,
        null as close_date,
        1 as template_version
    from core.account
    where deleted_at is null and is_company
),

-- What people typed into titles and descriptions does not reach the model.
redacted as (
    select
        source_system,
        entity,
        entity_id,
        btrim(search.redact(title, names)) as title,
        normalize(btrim(search.redact(text, names)), nfc) as text,
        identifiers,
        stage,
        status,
        team,
        country_code,
        amount,
        close_date,
        template_version
    from texts
)

select
    source_system,
    entity,
    entity_id,
    title,
    text,
    sha256(convert_to(text, 'UTF8')) as text_hash,
    search.clean_identifiers(identifiers) as identifiers,
    stage,
    status,
    team,
    country_code,
    amount,
    close_date,
    template_version
from redacted
where source_system = %(source)s
