-- Purpose: which lines of bills an incremental run computes anew.

select
    'odoo_c_billing_bill_line' as input,
    l.id::text as key
from odoo_c_billing_bill_line_changed as l
union all
select
    'odoo_c_billing_bill_line' as input,
    l.id::text as key
from odoo_c_billing_bill_line as l
inner join odoo_c_billing_bill_changed as b on l.bill_id = b.id
union all
-- A partner's account, where its bills say another one.
select
    'odoo_c_billing_bill_line' as input,
    l.source_id as key
from odoo_res_partner_changed as p
inner join odoo_c_billing_bill as b on p.id = b.partner_id
inner join core.bill_line as l on l.bill_source_id = b.id::text
where l.account_source_id is distinct from coalesce(p.commercial_partner_id, p.id)::text
union all
select
    'odoo_c_billing_bill_line' as input,
    l.id::text as key
from odoo_c_billing_bill_line as l
inner join odoo_product_template_changed as p on l.product_id = p.id
union all
select
    'odoo_c_billing_bill_line' as input,
    l.id::text as key
from odoo_c_billing_bill_line as l
left join odoo_c_billing_bill as b on l.bill_id = b.id
inner join odoo_res_currency_changed as cur on coalesce(l.currency_id, b.currency_id) = cur.id
