-- Purpose: Odoo's leads and opportunities in business terms.
-- Grain: one row per crm_lead, archived and deleted ones included.
-- Reads: odoo_crm_lead, odoo_crm_stage, odoo_crm_team, odoo_crm_tag, odoo_crm_tag_rel, odoo_crm_lost_reason,
--          odoo_res_partner,
--        odoo_res_company, odoo_res_currency, odoo_res_country, odoo_res_country_state, odoo_c_aws_accounts.
-- Writes: core.odoo_opportunities.
-- Re-run: safe; the rows below are the wanted state, and only rows that differ are written.

with tags as (
    select
        r.lead_id,
        array_agg(t.name order by t.name) as names
    from odoo_crm_tag_rel as r
    inner join odoo_crm_tag as t on r.tag_id = t.id
    where r._deleted_at is null and t._deleted_at is null
    group by r.lead_id
)

select
    'odoo' as source_system,
    l.id::text as source_id,
    coalesce(core.trimmed(l.name), '') as title,
    l.type as lead_type,
    -- A lead's partner is often a contact; the account is its commercial partner.
    coalesce(p.commercial_partner_id, p.id)::text as account_source_id,
    case when p.commercial_partner_id <> p.id then p.id::text end as contact_source_id,
    -- An account may be a person: its name is a company's only where it is one.
    coalesce(
        case when account.is_company then core.trimmed(account.name) end, core.trimmed(l.partner_name)
    ) as company_name,
    coalesce(core.registrable_domain(l.website), core.registrable_domain(account.website)) as domain,
    s.name as stage,
    -- Odoo has no column for it: won is the stage's property, lost is an archived lead without any chance.
    case
        when s.is_won then 'won'
        when l.active is false and coalesce(l.probability, 0) = 0 then 'lost'
        when l.active is false then 'archived'
        else 'open'
    end as status,
    reason.name as lost_reason,
    l.probability,
    l.expected_revenue as annual_revenue,
    cur.name as currency_code,
    l."c_aws_ace_expectedMonthlyAwsRevenue" as monthly_aws_spend,
    coalesce(c.code, account_country.code) as country_code,
    coalesce(region.name, account_region.name) as region,
    coalesce(core.trimmed(l.city), core.trimmed(account.city)) as city,
    coalesce(core.trimmed(l.zip), core.trimmed(account.zip)) as postal_code,
    team.name as team,
    l.user_id::text as owner_source_id,
    core.trimmed(l.aws_ace_id) as ace_opportunity_id,
    coalesce(core.trimmed(aws.name), core.trimmed(l."c_aws_ace_awsAccountId")) as aws_account_id,
    core.is_aws_account_id(coalesce(core.trimmed(aws.name), l."c_aws_ace_awsAccountId"))
        as is_aws_account_id_valid,
    coalesce(
        nullif(regexp_replace(l."c_aws_ace_customerDuns", '[^0-9]', '', 'g'), ''),
        nullif(regexp_replace(account.x_duns, '[^0-9]', '', 'g'), '')
    ) as duns,
    core.ace_value('industry', l.c_aws_ace_industry) as industry,
    core.trimmed(l."c_aws_ace_useCase") as use_case,
    core.ace_value('ownership', l."c_aws_ace_opportunityOwnership") as ownership,
    core.ace_value('acceptance_status', l."c_aws_ace_partnerAcceptanceStatus") as acceptance_status,
    -- Plain text or HTML in Odoo.
    core.plain_text(l.description) as description,
    coalesce(tags.names, '{}') as tags,
    l.date_deadline as target_close_date,
    l.date_closed as closed_at,
    l.create_date as created_at,
    l.write_date as updated_at,
    l._deleted_at as deleted_at,
    l._load_id as raw_load_id
from scoped_odoo_crm_lead as l
left join odoo_crm_stage as s on l.stage_id = s.id
left join odoo_crm_team as team on l.team_id = team.id
-- The column lost its old name with Odoo 17.
left join odoo_crm_lost_reason as reason on coalesce(l.lost_reason_id, l.lost_reason) = reason.id
left join odoo_res_company as co on l.company_id = co.id
left join odoo_res_currency as cur on co.currency_id = cur.id
left join odoo_res_country as c on l.country_id = c.id
left join odoo_res_country_state as region on l.state_id = region.id
left join odoo_c_aws_accounts as aws on l.c_aws_account_id = aws.id
left join odoo_res_partner as p on l.partner_id = p.id
left join odoo_res_partner as account on coalesce(p.commercial_partner_id, p.id) = account.id
left join odoo_res_country as account_country on account.country_id = account_country.id
left join odoo_res_country_state as account_region on account.state_id = account_region.id
left join tags on l.id = tags.lead_id
