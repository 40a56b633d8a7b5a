-- Purpose: which months of which payers an incremental run computes anew.

select
    'odoo_c_billing_internal_cur' as input,
    concat(u.payer_id, '|', extract(year from u.period_date), '-', extract(month from u.period_date)) as key
from odoo_c_billing_internal_cur_changed as u
union all
-- Where a changed line was before.
select
    'odoo_c_billing_internal_cur' as input,
    concat(t.payer_source_id, '|', extract(year from t.billing_month), '-', extract(month from t.billing_month)) as key
from odoo_c_billing_internal_cur_changed as u
inner join core.billing_usage as t on t.source_id = u.id::text
union all
-- Numbers of AWS accounts that core has otherwise.
select
    'odoo_c_billing_internal_cur' as input,
    concat(t.payer_source_id, '|', extract(year from t.billing_month), '-', extract(month from t.billing_month)) as key
from odoo_c_aws_accounts_changed as a
inner join core.billing_usage as t on t.aws_account_source_id = a.id::text
where t.aws_account_id is distinct from core.trimmed(a.name)
union all
select
    'odoo_c_billing_internal_cur' as input,
    concat(t.payer_source_id, '|', extract(year from t.billing_month), '-', extract(month from t.billing_month)) as key
from odoo_c_aws_accounts_changed as a
inner join core.billing_usage as t on t.payer_source_id = a.id::text
where t.payer_aws_account_id is distinct from core.trimmed(a.name)
union all
select
    'odoo_c_billing_internal_cur' as input,
    concat(u.payer_id, '|', extract(year from u.period_date), '-', extract(month from u.period_date)) as key
from odoo_c_billing_internal_cur as u
inner join odoo_res_currency_changed as cur on u.company_currency_id = cur.id
