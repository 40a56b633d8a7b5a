-- Purpose: which users an incremental run computes anew.

select
    'odoo_res_users' as input,
    u.id::text as key
from odoo_res_users_changed as u
union all
select
    'odoo_res_users' as input,
    u.id::text as key
from odoo_res_users as u
inner join odoo_res_partner_changed as p on u.partner_id = p.id
union all
select
    'ace_apn_users' as input,
    a.id as key
from ace_apn_users_changed as a
