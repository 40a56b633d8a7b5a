-- Purpose: which records of both systems are one company, and why.
-- Grain: one row per row of core.account_record.
-- Reads: core.account_record.
-- Writes: core.account_link.
-- Rules: two records are joined by the first of these that holds, and never when both have a DUNS number and these
--          differ:
--        1. one DUNS number;  2. one VAT number;
--        3. one AWS account, and names that are alike or one domain (account numbers are mistyped under wrong
--          companies);
--        4. one registrable domain (free mail and shared hosts have none);
--        5. one normalised name in one country, unless their domains differ (other companies have the same name).
--        A value that more than 20 records share tells nothing and joins none. People are never joined.
--        False joins are worse than missed ones. Being joined is passed on: a to b and b to c is one account.
-- Leading record: one that is in its source before a deleted one, then Odoo's before ACE's, then the oldest key.
-- Deleted records: stay linked by what they had, state broken.
-- Re-run: safe; the rows below are the wanted state, and only rows that differ are written.

with record as (
    select
        source_system || ':' || source_id as id,
        source_system,
        source_id,
        normalised_name,
        domain,
        case when duns ~ '^[0-9]{9}$' then duns end as duns,
        case when length(vat) >= 8 then vat end as vat,
        country_code,
        aws_account_ids,
        is_company,
        deleted_at,
        raw_load_id
    from core.account_record
),

shared_value as (
    select
        record.id,
        record.duns,
        record.domain,
        record.normalised_name,
        v.rank,
        v.reason,
        v.value
    from record
    cross join
        lateral (
            values
            (1, 'duns', record.duns),
            (2, 'vat', record.vat),
            (4, 'domain', record.domain),
            (5, 'name and country', nullif(record.normalised_name, '') || ', ' || record.country_code)
            union all
            select
                3 as rank,
                'aws account' as reason,
                a.value
            from unnest(record.aws_account_ids) as a (value)
        ) as v (rank, reason, value)
    where record.is_company and v.value is not null
),

counted as (
    select
        shared_value.*,
        count(*) over (partition by shared_value.rank, shared_value.value) as holders
    from shared_value
),

telling as (
    select * from counted
    where holders between 2 and 20
),

-- What is compared comes along with the value: the planner takes a look-up of both records for a join of all with all.
pair as (
    select
        a.id as l,
        b.id as r,
        a.rank,
        a.reason,
        a.value
    from telling as a
    inner join telling as b on a.rank = b.rank and a.value = b.value and a.id < b.id
    where
        (a.duns is null or b.duns is null or a.duns = b.duns)
        and case a.rank
            when 3 then a.domain = b.domain or similarity(a.normalised_name, b.normalised_name) >= 0.3
            when 5 then a.domain is null or b.domain is null or a.domain = b.domain
            else true
        end
),

component as (
    select
        node,
        root
    from core.components((select array_agg(l) from pair), (select array_agg(r) from pair))
),

member as (
    select
        record.*,
        count(*) over (partition by coalesce(component.root, record.id)) as members,
        first_value(record.id) over (
            partition by coalesce(component.root, record.id)
            order by
                record.deleted_at is not null, record.source_system = 'ace',
                length(record.source_id), record.source_id
        ) as account_id
    from record
    left join component on record.id = component.node
),

side as (
    select
        l as id,
        r as other,
        rank,
        reason,
        value
    from pair
    union all
    select
        r as id,
        l as other,
        rank,
        reason,
        value
    from pair
),

-- Of the reasons for a record, the one that joins it to the leading record, then the strongest.
reason_given as (
    select distinct on (member.id)
        member.id,
        side.other,
        side.reason,
        side.value
    from member
    inner join side on member.id = side.id
    order by member.id, side.other <> member.account_id, side.rank, side.value, side.other
)

select
    m.source_system,
    m.source_id,
    m.account_id,
    case
        when m.members = 1 then 'only record'
        when m.id = m.account_id then 'leading record'
        else g.reason
    end as reason,
    case when m.id <> m.account_id then g.value end as evidence,
    case when m.id <> m.account_id then g.other end as linked_to,
    case when m.deleted_at is null then 'live' else 'broken' end as state,
    m.deleted_at,
    m.raw_load_id
from member as m
left join reason_given as g on m.id = g.id
