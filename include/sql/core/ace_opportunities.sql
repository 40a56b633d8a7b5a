-- Purpose: ACE opportunities in business terms.
-- Grain: one row per ACE opportunity, deleted ones included.
-- Reads: ace_apn_opportunity, ace_apn_companies.
-- Writes: core.ace_opportunities.
-- Spellings: AWS's own sources spell some values differently; core.ace_value_map (include/seeds/ace_value.csv) says
--            which are one.
-- Re-run: safe; the rows below are the wanted state, and only rows that differ are written.

select
    'ace' as source_system,
    o.id as source_id,
    coalesce(core.trimmed(o.name), '') as title,
    -- Without a company the opportunity's own customer is the record, see account_record.sql.
    coalesce(
        o.company_id,
        case when core.trimmed(o.customer_company_name) is not null then 'opportunity:' || o.id end
    ) as account_source_id,
    o.contact_id as contact_source_id,
    coalesce(
        core.trimmed(o.customer_company_name), core.trimmed(c.name)
    ) as company_name,
    coalesce(core.registrable_domain(o.customer_website), core.registrable_domain(c.website)) as domain,
    core.ace_value('stage', o.stage_name) as stage,
    core.ace_value('aws_stage', o.aws_stage) as aws_stage,
    core.ace_value('review_status', o.status) as review_status,
    core.ace_value('acceptance_status', o.partner_acceptance_status) as acceptance_status,
    core.ace_value('opportunity_type', o.opportunity_type) as opportunity_type,
    core.ace_value('ownership', o.opportunity_ownership) as ownership,
    core.ace_value('closed_lost_reason', o.closed_lost_reason) as closed_lost_reason,
    core.ace_value('industry', coalesce(core.trimmed(o.industry), c.industry)) as industry,
    core.trimmed(o.use_case) as use_case,
    coalesce(
        (
            select array_agg(distinct core.ace_value('delivery_model', d.model))
            from unnest(coalesce(nullif(o.delivery_models, '{}'), string_to_array(o.delivery_model, ';'))) as d (model)
            where core.trimmed(d.model) is not null
        ), '{}'
    ) as delivery_models,
    -- Amounts are text in ACE; a list may hold several target companies, of which AWS is the one that counts.
    coalesce(spend.amount, o.project_budget) as monthly_aws_spend,
    upper(coalesce(
        case when spend.amount is not null then spend.currency_code end, core.trimmed(o.project_budget_currency)
    )) as currency_code,
    upper(coalesce(core.trimmed(o.customer_country), core.trimmed(c.country_code))) as country_code,
    coalesce(core.trimmed(o.customer_state), core.trimmed(c.state_or_region)) as region,
    coalesce(core.trimmed(o.customer_city), core.trimmed(c.city)) as city,
    coalesce(core.trimmed(o.customer_postal_code), core.trimmed(c.postal_code)) as postal_code,
    coalesce(
        nullif(regexp_replace(o.customer_duns, '[^0-9]', '', 'g'), ''),
        nullif(regexp_replace(c.duns, '[^0-9]', '', 'g'), '')
    ) as duns,
    o.owner_id as owner_source_id,
    core.trimmed(o.aws_account) as aws_account_id,
    core.is_aws_account_id(o.aws_account) as is_aws_account_id_valid,
    core.trimmed(o.partner_crm_id) as odoo_opportunity_id,
    core.trimmed(o.project_description_business_need) as business_problem,
    core.trimmed(o.next_step) as next_step,
    o.close_date as target_close_date,
    coalesce(o.aws_create_date, o.created_at) as created_at,
    o.updated_at,
    o.aws_last_modified_date as aws_updated_at,
    o._deleted_at as deleted_at,
    o._load_id as raw_load_id
from scoped_ace_apn_opportunity as o
left join ace_apn_companies as c on o.company_id = c.id
left join lateral (
    select
        (list.entry ->> 'Amount')::numeric as amount,
        list.entry ->> 'CurrencyCode' as currency_code
    from
        jsonb_array_elements(
            case when jsonb_typeof(o.expected_customer_spend) = 'array' then o.expected_customer_spend else '[]' end
        ) with ordinality as list (entry, place)
    where
        list.entry ->> 'Amount' ~ '^[0-9]{1,18}(\.[0-9]+)?$'
        and coalesce(list.entry ->> 'Frequency', 'Monthly') = 'Monthly'
    order by coalesce(list.entry ->> 'TargetCompany', 'AWS') <> 'AWS', list.place
    limit 1
) as spend on true
