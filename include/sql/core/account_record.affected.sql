-- Purpose: which records an incremental run computes anew.
-- An AWS account that moved away does not say where it was: the lists of accounts themselves are compared.

with odoo_aws as (
    select
        coalesce(p.commercial_partner_id, p.id)::text as source_id,
        array_agg(distinct core.trimmed(a.name) order by core.trimmed(a.name)) as aws_account_ids
    from odoo_c_aws_accounts as a
    inner join odoo_res_partner as p on a.c_aws_company_id = p.id
    where core.is_aws_account_id(a.name) and a._deleted_at is null
    group by coalesce(p.commercial_partner_id, p.id)
),

ace_aws as (
    select
        o.company_id as source_id,
        array_agg(distinct core.trimmed(o.aws_account) order by core.trimmed(o.aws_account)) as aws_account_ids
    from ace_apn_opportunity as o
    where core.is_aws_account_id(o.aws_account) and o._deleted_at is null
    group by o.company_id
),

made as (
    select
        source_system,
        source_id,
        aws_account_ids
    from core.account_record
    where source_system = %(source)s and source_id not like 'opportunity:%%'
)

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
    'odoo_res_partner' as input,
    p.id::text as key
from odoo_res_partner as p
inner join odoo_res_country_state_changed as s on p.state_id = s.id
union all
select
    'odoo_res_partner' as input,
    coalesce(made.source_id, odoo_aws.source_id) as key
from odoo_aws
full join made on odoo_aws.source_id = made.source_id
where
    %(source)s = 'odoo' and coalesce(made.aws_account_ids, '{}') <> coalesce(odoo_aws.aws_account_ids, '{}')
union all
select
    'ace_apn_companies' as input,
    c.id as key
from ace_apn_companies_changed as c
union all
select
    'ace_apn_companies' as input,
    coalesce(made.source_id, ace_aws.source_id) as key
from ace_aws
full join made on ace_aws.source_id = made.source_id
where %(source)s = 'ace' and coalesce(made.aws_account_ids, '{}') <> coalesce(ace_aws.aws_account_ids, '{}')
union all
select
    'ace_apn_opportunity' as input,
    o.id as key
from ace_apn_opportunity_changed as o
