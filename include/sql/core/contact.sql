-- Purpose: people and addresses of accounts.
-- Grain: one row per Odoo partner that is not its own commercial partner, and per ACE contact; deleted ones included.
-- Reads: odoo_res_partner, odoo_res_country, ace_apn_contacts.
-- Writes: core.contact.
-- Privacy: e-mail addresses and phone numbers are not here, only their blind indexes; the tokens stay in raw.
-- Re-run: safe; the rows below are the wanted state, and only rows that differ are written.

with contacts as (
    select
        'odoo' as source_system,
        p.id::text as source_id,
        p.commercial_partner_id::text as account_source_id,
        p.name,
        p.function as job_title,
        p.type as contact_type,
        c.code as country_code,
        p.active is false as is_archived,
        coalesce(p.email_normalized_blind_index, p.email_blind_index) as email_blind_index,
        coalesce(p.phone_blind_index, p.mobile_blind_index) as phone_blind_index,
        p.create_date as created_at,
        p.write_date as updated_at,
        p._deleted_at,
        p._load_id
    from scoped_odoo_res_partner as p
    left join odoo_res_country as c on p.country_id = c.id
    where p.commercial_partner_id <> p.id
    union all
    select
        'ace' as source_system,
        a.id as source_id,
        a.company_id as account_source_id,
        null as name,
        a.business_title as job_title,
        'contact' as contact_type,
        null as country_code,
        false as is_archived,
        a.email_blind_index,
        a.phone_blind_index,
        a.created_at,
        a.updated_at,
        a._deleted_at,
        a._load_id
    from scoped_ace_apn_contacts as a
)

select
    source_system,
    source_id,
    account_source_id,
    core.trimmed(name) as name,
    core.trimmed(job_title) as job_title,
    contact_type,
    country_code,
    is_archived,
    email_blind_index,
    phone_blind_index,
    created_at,
    updated_at,
    _deleted_at as deleted_at,
    _load_id as raw_load_id
from contacts
where source_system = %(source)s
