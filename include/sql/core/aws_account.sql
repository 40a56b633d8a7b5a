-- Purpose: AWS accounts and who owns them.
-- Grain: one row per AWS account in Odoo, deleted ones included.
-- Reads: odoo_c_aws_accounts, odoo_res_partner, odoo_res_country.
-- Writes: core.aws_account.
-- Re-run: safe; the rows below are the wanted state, and only rows that differ are written.

select
    'odoo' as source_system,
    a.id::text as source_id,
    -- Text: leading zeros count.
    core.trimmed(a.name) as aws_account_id,
    core.is_aws_account_id(a.name) as is_aws_account_id_valid,
    core.trimmed(a.c_aws_account_name) as name,
    coalesce(p.commercial_partner_id, p.id)::text as account_source_id,
    a.is_payer,
    a.payer_id::text as payer_source_id,
    core.trimmed(a.state) as state,
    a.active is false as is_archived,
    a.joined_date as joined_on,
    a.left_date as left_on,
    a.spp_eligible as is_spp_eligible,
    core.trimmed(a.support_plan) as support_plan,
    core.trimmed(a.end_user_type) as end_user_type,
    core.trimmed(a.end_user_zip) as end_user_postal_code,
    c.code as end_user_country_code,
    a.is_government,
    a.create_date as created_at,
    a.write_date as updated_at,
    a._deleted_at as deleted_at,
    a._load_id as raw_load_id
from scoped_odoo_c_aws_accounts as a
left join odoo_res_partner as p on a.c_aws_company_id = p.id
left join odoo_res_country as c on a.end_user_country_id = c.id
