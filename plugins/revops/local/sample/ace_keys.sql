-- Purpose: foreign keys and indexes of the sample ACE database, added after the rows.
-- On delete: contacts go with their company; an opportunity keeps its row, without moving updated_at.
-- Re-run: no; it follows ace.sql in the same transaction.

alter table apn_contacts
add foreign key (company_id) references apn_companies (id) on delete cascade;

alter table apn_opportunity
add foreign key (company_id) references apn_companies (id) on delete set null,
add foreign key (contact_id) references apn_contacts (id) on delete set null,
add foreign key (owner_id) references apn_users (id) on delete set null;

create index on apn_contacts (company_id);
create index on apn_opportunity (company_id);
create index on apn_opportunity (contact_id);
create index on apn_opportunity (owner_id);
create index on apn_opportunity (stage_name);
