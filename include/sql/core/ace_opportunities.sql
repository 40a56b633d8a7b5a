-- Purpose: ACE opportunities in business terms.
-- Grain: one row per ACE opportunity, deleted ones included.
-- Reads: ace_apn_opportunity; core.account.
-- Writes: core.ace_opportunities.
-- Re-run: safe; the rows below are the wanted state, and only rows that differ are written.

select
    'ace' as source_system,
    o.id as source_id,
    coalesce(btrim(o.name), '') as title,
    a.account_id,
    coalesce(nullif(btrim(o.customer_company_name), ''), a.name) as company_name,
    o.stage_name as stage,
    nullif(btrim(o.status), '') as review_status,
    o.opportunity_type,
    o.opportunity_ownership as ownership,
    nullif(btrim(o.industry), '') as industry,
    nullif(btrim(o.use_case), '') as use_case,
    o.project_budget as monthly_spend,
    upper(nullif(btrim(o.project_budget_currency), '')) as currency_code,
    upper(nullif(btrim(o.customer_country), '')) as country_code,
    nullif(btrim(o.aws_account), '') as aws_account_id,
    btrim(o.aws_account) ~ '^[0-9]{12}$' as is_aws_account_id_valid,
    nullif(btrim(o.partner_crm_id), '') as odoo_opportunity_id,
    nullif(btrim(o.project_description_business_need), '') as business_problem,
    nullif(btrim(o.next_step), '') as next_step,
    o.close_date as target_close_date,
    coalesce(o.aws_create_date, o.created_at) as created_at,
    o.updated_at,
    o.aws_last_modified_date as aws_updated_at,
    o._deleted_at as deleted_at,
    o._load_id as raw_load_id,
    case when nullif(btrim(o.name), '') is null then 'title is missing' end as _reject
from ace_apn_opportunity as o
left join core.account as a on a.source_system = 'ace' and o.company_id = a.source_id
where 'ace' = %(source)s
