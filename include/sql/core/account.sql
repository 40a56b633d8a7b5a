-- Purpose: the companies of both systems.
-- Grain: one row per Odoo commercial partner (a company, or a person without one) and per ACE company.
-- Reads: odoo_res_partner, odoo_res_country, ace_apn_companies.
-- Writes: core.account.
-- Re-run: safe; the rows below are the wanted state, and only rows that differ are written.

with companies as (
    select
        'odoo' as source_system,
        p.id::text as source_id,
        p.name,
        p.website,
        null::text as industry,
        c.code as country_code,
        p.is_company is true as is_company,
        p.active is false as is_archived,
        p._deleted_at,
        p._load_id
    from odoo_res_partner as p
    left join odoo_res_country as c on p.country_id = c.id
    where p.commercial_partner_id = p.id
    union all
    select
        'ace' as source_system,
        a.id as source_id,
        a.name,
        a.website,
        a.industry,
        a.country_code,
        true as is_company,
        false as is_archived,
        a._deleted_at,
        a._load_id
    from ace_apn_companies as a
),

-- Blanks of every kind count as nothing.
cleaned as (
    select
        source_system,
        source_id,
        nullif(btrim(name, e' \t\r\n\u00a0'), '') as name,
        nullif(btrim(website, e' \t\r\n\u00a0'), '') as website,
        nullif(btrim(industry), '') as industry,
        upper(nullif(btrim(country_code), '')) as country_code,
        is_company,
        is_archived,
        _deleted_at as deleted_at,
        _load_id as raw_load_id
    from companies
)

select
    source_system,
    source_id,
    coalesce(name, '') as name,
    btrim(regexp_replace(lower(unaccent(normalize(coalesce(name, ''), nfkc))), '[^[:alnum:]]+', ' ', 'g'))
        as normalised_name,
    website,
    lower(substring(regexp_replace(website, '^\s*([a-zA-Z]+://)?(www\.)?', '') from '^[^/:?#\s]+')) as domain,
    industry,
    country_code,
    is_company,
    is_archived,
    deleted_at,
    raw_load_id,
    case when name is null then 'name is missing' end as _reject
from cleaned
where source_system = %(source)s
