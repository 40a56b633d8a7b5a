-- Purpose: companies as one source has them, cleaned and made comparable.
-- Grain: one row per Odoo commercial partner (a company, or a person without one), per ACE company, and per ACE
--        opportunity that names a customer but no company (some ACE databases have no table of companies).
-- Reads: odoo_res_partner, odoo_res_country, odoo_res_country_state, odoo_c_aws_accounts, ace_apn_companies,
--          ace_apn_opportunity.
-- Writes: core.account_record.
-- Re-run: safe; the rows below are the wanted state, and only rows that differ are written.

with odoo_aws as (
    select
        coalesce(p.commercial_partner_id, p.id) as partner_id,
        array_agg(distinct core.trimmed(a.name) order by core.trimmed(a.name)) as aws_account_ids
    from odoo_c_aws_accounts as a
    inner join odoo_res_partner as p on a.c_aws_company_id = p.id
    where core.is_aws_account_id(a.name) and a._deleted_at is null
    group by coalesce(p.commercial_partner_id, p.id)
),

ace_aws as (
    select
        o.company_id,
        array_agg(distinct core.trimmed(o.aws_account) order by core.trimmed(o.aws_account)) as aws_account_ids
    from ace_apn_opportunity as o
    where core.is_aws_account_id(o.aws_account) and o._deleted_at is null
    group by o.company_id
),

companies as (
    select
        'odoo' as source_system,
        p.id::text as source_id,
        p.name,
        p.website,
        null::text as industry,
        c.code as country_code,
        s.name as region,
        p.city,
        p.zip as postal_code,
        p.x_duns as duns,
        nullif(upper(p.vat), '/') as vat,
        w.aws_account_ids,
        p.is_company is true as is_company,
        p.active is false as is_archived,
        p.create_date as created_at,
        p.write_date as updated_at,
        p._deleted_at,
        p._load_id
    from scoped_odoo_res_partner as p
    left join odoo_res_country as c on p.country_id = c.id
    left join odoo_res_country_state as s on p.state_id = s.id
    left join odoo_aws as w on p.id = w.partner_id
    where coalesce(p.commercial_partner_id, p.id) = p.id
    union all
    select
        'ace' as source_system,
        a.id as source_id,
        a.name,
        a.website,
        core.ace_value('industry', a.industry) as industry,
        a.country_code,
        a.state_or_region as region,
        a.city,
        a.postal_code,
        a.duns,
        null as vat,
        w.aws_account_ids,
        true as is_company,
        false as is_archived,
        a.created_at,
        a.updated_at,
        a._deleted_at,
        a._load_id
    from scoped_ace_apn_companies as a
    left join ace_aws as w on a.id = w.company_id
    union all
    select
        'ace' as source_system,
        'opportunity:' || o.id as source_id,
        o.customer_company_name as name,
        o.customer_website as website,
        core.ace_value('industry', o.industry) as industry,
        o.customer_country as country_code,
        o.customer_state as region,
        o.customer_city as city,
        o.customer_postal_code as postal_code,
        o.customer_duns as duns,
        null as vat,
        case when core.is_aws_account_id(o.aws_account) then array[core.trimmed(o.aws_account)] end as aws_account_ids,
        true as is_company,
        false as is_archived,
        o.created_at,
        o.updated_at,
        o._deleted_at,
        o._load_id
    from scoped_ace_apn_opportunity as o
    where o.company_id is null and core.trimmed(o.customer_company_name) is not null
)

select
    source_system,
    source_id,
    -- Blanks of every kind count as nothing.
    coalesce(core.trimmed(name), '') as name,
    coalesce(core.normalised_name(name), '') as normalised_name,
    is_company,
    is_archived,
    core.trimmed(website) as website,
    core.registrable_domain(website) as domain,
    core.trimmed(industry) as industry,
    upper(core.trimmed(country_code)) as country_code,
    core.trimmed(region) as region,
    core.trimmed(city) as city,
    core.trimmed(postal_code) as postal_code,
    nullif(regexp_replace(duns, '[^0-9]', '', 'g'), '') as duns,
    nullif(regexp_replace(vat, '[^[:alnum:]]', '', 'g'), '') as vat,
    coalesce(aws_account_ids, '{}') as aws_account_ids,
    created_at,
    updated_at,
    _deleted_at as deleted_at,
    _load_id as raw_load_id
from companies
where source_system = %(source)s
