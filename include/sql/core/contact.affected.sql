-- Purpose: which contacts an incremental run computes anew.

select
    'odoo_res_partner' as input,
    p.id::text as key
from odoo_res_partner_changed as p
union all
select
    'odoo_res_partner' as input,
    p.id::text as key
from odoo_res_partner as p
inner join odoo_res_country_changed as c on p.country_id = c.id
union all
select
    'ace_apn_contacts' as input,
    a.id as key
from ace_apn_contacts_changed as a
