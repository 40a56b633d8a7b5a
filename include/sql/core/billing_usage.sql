-- Purpose: what AWS accounts cost, by month, service and kind of charge.
-- Grain: one row per line of the monthly roll-up that counts now.
-- Reads: odoo_c_billing_internal_cur, odoo_c_aws_accounts, odoo_res_currency.
-- Writes: core.billing_usage, a partition a month.
-- Restatement: a month of a payer is imported again under new ids; raw keeps the old lines as deleted, core has the
--          new ones only.
-- Re-run: safe; the rows below are the wanted state, and only rows that differ are written.

select
    case
        when isfinite(u.period_date)
            then make_date(extract(year from u.period_date)::integer, extract(month from u.period_date)::integer, 1)
    end as billing_month,
    'odoo' as source_system,
    u.id::text as source_id,
    u.payer_id::text as payer_source_id,
    core.trimmed(payer.name) as payer_aws_account_id,
    u.account_id::text as aws_account_source_id,
    core.trimmed(account.name) as aws_account_id,
    core.trimmed(u.service) as service,
    core.trimmed(u.charge_type) as charge_type,
    u.cost,
    cur.name as currency_code,
    u.company_id::text as company_source_id,
    u.write_date as updated_at,
    u._load_id as raw_load_id
from scoped_odoo_c_billing_internal_cur as u
left join odoo_c_aws_accounts as payer on u.payer_id = payer.id
left join odoo_c_aws_accounts as account on u.account_id = account.id
left join odoo_res_currency as cur on u.company_currency_id = cur.id
where u._deleted_at is null
