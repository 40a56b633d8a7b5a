-- Purpose: the companies that we deal with, once each.
-- Grain: one row per account of core.account_link; people without a company included.
-- Reads: core.account_record, core.account_link.
-- Writes: core.account.
-- Survivorship: name, normalised_name, is_company, source_system, source_id and raw_load_id are the leading record's.
--          Website,
--        domain, industry, country_code, region, city, postal_code, duns and vat come from the first record that has
--          one, in
--        the order of the leading record (in its source, Odoo before ACE, oldest key); country, region, city and
--        postal code may so come from different records. aws_account_ids are those of all records. is_archived when
--          all are; created_at is
--        the earliest, updated_at the latest. Records that are gone count only where all are.
-- Re-run: safe; the rows below are the wanted state, and only rows that differ are written.

with member as (
    select
        l.account_id,
        r.*,
        row_number() over (
            partition by l.account_id
            order by
                r.deleted_at is not null, r.source_system = 'ace', length(r.source_id), r.source_id
        ) as place,
        bool_and(r.deleted_at is not null) over (partition by l.account_id) as is_gone
    from core.account_link as l
    inner join core.account_record as r on l.source_system = r.source_system and l.source_id = r.source_id
),

counted as (
    select * from member
    where deleted_at is null or is_gone
),

aws as (
    select
        c.account_id,
        array_agg(distinct a.id order by a.id) as aws_account_ids
    from counted as c
    cross join unnest(c.aws_account_ids) as a (id)
    group by c.account_id
)

select
    c.account_id,
    (array_agg(c.source_system order by c.place))[1] as source_system,
    (array_agg(c.source_id order by c.place))[1] as source_id,
    (array_agg(c.name order by c.place))[1] as name,
    (array_agg(c.normalised_name order by c.place))[1] as normalised_name,
    (array_agg(c.is_company order by c.place))[1] as is_company,
    bool_and(c.is_archived) as is_archived,
    (array_agg(c.website order by c.place) filter (where c.website is not null))[1] as website,
    (array_agg(c.domain order by c.place) filter (where c.domain is not null))[1] as domain,
    (array_agg(c.industry order by c.place) filter (where c.industry is not null))[1] as industry,
    (array_agg(c.country_code order by c.place) filter (where c.country_code is not null))[1] as country_code,
    (array_agg(c.region order by c.place) filter (where c.region is not null))[1] as region,
    (array_agg(c.city order by c.place) filter (where c.city is not null))[1] as city,
    (array_agg(c.postal_code order by c.place) filter (where c.postal_code is not null))[1] as postal_code,
    (array_agg(c.duns order by c.place) filter (where c.duns is not null))[1] as duns,
    (array_agg(c.vat order by c.place) filter (where c.vat is not null))[1] as vat,
    coalesce(min(aws.aws_account_ids), '{}') as aws_account_ids,
    count(*) filter (where c.deleted_at is null)::integer as records,
    array_agg(distinct c.source_system order by c.source_system) as systems,
    min(c.created_at) as created_at,
    max(c.updated_at) as updated_at,
    case when bool_and(c.is_gone) then max(c.deleted_at) end as deleted_at,
    (array_agg(c.raw_load_id order by c.place))[1] as raw_load_id
from counted as c
left join aws on c.account_id = aws.account_id
group by c.account_id
