-- Purpose: which leads an incremental run computes anew.

select
    'odoo_crm_lead' as input,
    l.id::text as key
from odoo_crm_lead_changed as l
union all
select
    'odoo_crm_lead' as input,
    r.lead_id::text as key
from odoo_crm_tag_rel_changed as r
union all
select
    'odoo_crm_lead' as input,
    r.lead_id::text as key
from odoo_crm_tag_rel as r
inner join odoo_crm_tag_changed as t on r.tag_id = t.id
union all
select
    'odoo_crm_lead' as input,
    l.id::text as key
from odoo_crm_lead as l
inner join odoo_crm_stage_changed as s on l.stage_id = s.id
union all
select
    'odoo_crm_lead' as input,
    l.id::text as key
from odoo_crm_lead as l
inner join odoo_crm_team_changed as t on l.team_id = t.id
union all
select
    'odoo_crm_lead' as input,
    l.id::text as key
from odoo_crm_lead as l
inner join odoo_crm_lost_reason_changed as r on coalesce(l.lost_reason_id, l.lost_reason) = r.id
union all
select
    'odoo_crm_lead' as input,
    l.id::text as key
from odoo_crm_lead as l
inner join odoo_res_company_changed as c on l.company_id = c.id
union all
select
    'odoo_crm_lead' as input,
    l.id::text as key
from odoo_crm_lead as l
inner join odoo_res_company as c on l.company_id = c.id
inner join odoo_res_currency_changed as cur on c.currency_id = cur.id
union all
select
    'odoo_crm_lead' as input,
    l.id::text as key
from odoo_crm_lead as l
inner join odoo_c_aws_accounts_changed as a on l.c_aws_account_id = a.id
union all
-- The partner itself, and everybody whose company has changed.
select
    'odoo_crm_lead' as input,
    l.id::text as key
from odoo_crm_lead as l
inner join odoo_res_partner_changed as p on l.partner_id = p.id
union all
select
    'odoo_crm_lead' as input,
    l.id::text as key
from odoo_crm_lead as l
inner join odoo_res_partner as p on l.partner_id = p.id
inner join odoo_res_partner_changed as account on coalesce(p.commercial_partner_id, p.id) = account.id
union all
select
    'odoo_crm_lead' as input,
    l.id::text as key
from odoo_crm_lead as l
left join odoo_res_partner as p on l.partner_id = p.id
left join odoo_res_partner as account on coalesce(p.commercial_partner_id, p.id) = account.id
inner join odoo_res_country_changed as c on c.id in (l.country_id, account.country_id)
union all
select
    'odoo_crm_lead' as input,
    l.id::text as key
from odoo_crm_lead as l
left join odoo_res_partner as p on l.partner_id = p.id
left join odoo_res_partner as account on coalesce(p.commercial_partner_id, p.id) = account.id
inner join odoo_res_country_state_changed as s on s.id in (l.state_id, account.state_id)
