-- Purpose: who owns deals.
-- Grain: one row per user of Odoo and of ACE, deactivated and deleted ones included.
-- Reads: odoo_res_users, odoo_res_partner, ace_apn_users.
-- Writes: core.app_user.
-- Privacy: no login and no address; the blind index of the address joins the users of both systems.
-- Re-run: safe; the rows below are the wanted state, and only rows that differ are written.

with users as (
    select
        'odoo' as source_system,
        u.id::text as source_id,
        -- Odoo's users have neither name nor address; their partner has.
        p.name,
        null as role,
        u.active is not false as is_active,
        u.share is not true as is_internal,
        u.login in ('__system__', 'default', 'public', 'portaltemplate') as is_technical,
        u.partner_id::text as contact_source_id,
        coalesce(p.email_normalized_blind_index, p.email_blind_index) as email_blind_index,
        u.create_date as created_at,
        u.write_date as updated_at,
        u._deleted_at,
        u._load_id
    from scoped_odoo_res_users as u
    left join odoo_res_partner as p on u.partner_id = p.id
    union all
    select
        'ace' as source_system,
        a.id as source_id,
        null as name,
        a.role,
        a.is_active is not false as is_active,
        true as is_internal,
        false as is_technical,
        null as contact_source_id,
        a.email_blind_index,
        a.created_at,
        a.updated_at,
        a._deleted_at,
        a._load_id
    from scoped_ace_apn_users as a
)

select
    source_system,
    source_id,
    core.trimmed(name) as name,
    core.trimmed(role) as role,
    is_active,
    is_internal,
    coalesce(is_technical, false) as is_technical,
    contact_source_id,
    email_blind_index,
    created_at,
    updated_at,
    _deleted_at as deleted_at,
    _load_id as raw_load_id
from users
where source_system = %(source)s
