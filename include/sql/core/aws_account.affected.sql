-- Purpose: which AWS accounts an incremental run computes anew.

select
    'odoo_c_aws_accounts' as input,
    a.id::text as key
from odoo_c_aws_accounts_changed as a
union all
select
    'odoo_c_aws_accounts' as input,
    a.id::text as key
from odoo_c_aws_accounts as a
inner join odoo_res_partner_changed as p on a.c_aws_company_id = p.id
union all
select
    'odoo_c_aws_accounts' as input,
    a.id::text as key
from odoo_c_aws_accounts as a
inner join odoo_res_country_changed as c on a.end_user_country_id = c.id
