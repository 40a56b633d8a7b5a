-- Purpose: which ACE opportunities an incremental run computes anew.

select
    'ace_apn_opportunity' as input,
    o.id as key
from ace_apn_opportunity_changed as o
union all
select
    'ace_apn_opportunity' as input,
    o.id as key
from ace_apn_opportunity as o
inner join ace_apn_companies_changed as c on o.company_id = c.id
