-- Purpose: what customers are billed, line by line.
-- Grain: one row per line of a bill, deleted ones included; lines without a bill occur and are kept.
-- Reads: odoo_c_billing_bill_line, odoo_c_billing_bill, odoo_res_partner, odoo_product_template, odoo_res_currency.
-- Writes: core.bill_line.
-- Joins: product_id points to product_template here, to product_product in Odoo's own tables.
-- Re-run: safe; the rows below are the wanted state, and only rows that differ are written.

select
    'odoo' as source_system,
    l.id::text as source_id,
    l.bill_id::text as bill_source_id,
    core.trimmed(b.name) as bill_name,
    b.state as bill_state,
    b.id is not null and b._deleted_at is null as has_bill,
    case
        when isfinite(coalesce(b.period_date, l.date))
            then make_date(
                extract(year from coalesce(b.period_date, l.date))::integer,
                extract(month from coalesce(b.period_date, l.date))::integer,
                1
            )
    end as billing_month,
    coalesce(p.commercial_partner_id, p.id)::text as account_source_id,
    b.account_id::text as aws_account_source_id,
    b.invoice_id::text as invoice_source_id,
    l.product_id::text as product_source_id,
    product.name as product_name,
    core.trimmed(l.line_type) as line_type,
    l.usage as usage_amount,
    l.cost,
    cur.name as currency_code,
    l.date as line_date,
    l.write_date as updated_at,
    l._deleted_at as deleted_at,
    l._load_id as raw_load_id
from scoped_odoo_c_billing_bill_line as l
left join odoo_c_billing_bill as b on l.bill_id = b.id
left join odoo_res_partner as p on b.partner_id = p.id
left join odoo_product_template as product on l.product_id = product.id
left join odoo_res_currency as cur on coalesce(l.currency_id, b.currency_id) = cur.id
