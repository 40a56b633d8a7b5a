-- Purpose: Odoo's leads and opportunities in business terms.
-- Grain: one row per crm_lead, archived and deleted ones included.
-- Reads: odoo_crm_lead, odoo_crm_stage, odoo_crm_team, odoo_crm_tag, odoo_crm_tag_rel, odoo_res_partner,
--        odoo_res_company, odoo_res_currency, odoo_res_country; core.account.
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
    coalesce(btrim(l.name), '') as title,
    l.type as lead_type,
    a.account_id,
    -- An account may be a person: a name of the company field only where it is one.
    coalesce(case when a.is_company then a.name end, nullif(btrim(l.partner_name), '')) as company_name,
    s.name as stage,
    -- Odoo has no column for it: won is the stage's property, lost is an archived lead without any chance.
    case
        when s.is_won then 'won'
        when l.active is false and coalesce(l.probability, 0) = 0 then 'lost'
        when l.active is false then 'archived'
        else 'open'
    end as status,
    l.probability,
    l.expected_revenue as annual_revenue,
    cur.name as currency_code,
    coalesce(c.code, a.country_code) as country_code,
    team.name as team,
    l.user_id::text as owner_source_id,
    nullif(btrim(l.aws_ace_id), '') as ace_opportunity_id,
    -- Descriptions are plain text or HTML: tags and entities go, blanks are folded.
    nullif(btrim(regexp_replace(
        replace(replace(replace(replace(
            regexp_replace(l.description, '<[^<>]*>', ' ', 'g'),
            '&nbsp;', ' '
        ), '&lt;', '<'), '&gt;', '>'), '&amp;', '&'),
        '[\s\u00a0]+', ' ', 'g'
    )), '') as description,
    coalesce(tags.names, '{}') as tags,
    l.date_deadline as target_close_date,
    l.date_closed as closed_at,
    l.create_date as created_at,
    l.write_date as updated_at,
    l._deleted_at as deleted_at,
    l._load_id as raw_load_id,
    case
        when nullif(btrim(l.name), '') is null then 'title is missing'
        when l.type not in ('lead', 'opportunity') then 'type is neither lead nor opportunity'
    end as _reject
from odoo_crm_lead as l
left join odoo_crm_stage as s on l.stage_id = s.id
left join odoo_crm_team as team on l.team_id = team.id
left join odoo_res_company as co on l.company_id = co.id
left join odoo_res_currency as cur on co.currency_id = cur.id
left join odoo_res_country as c on l.country_id = c.id
left join odoo_res_partner as p on l.partner_id = p.id
-- A lead's partner is often a contact; the account is its commercial partner.
left join core.account as a on a.source_system = 'odoo' and a.source_id = p.commercial_partner_id::text
left join tags on l.id = tags.lead_id
where 'odoo' = %(source)s
