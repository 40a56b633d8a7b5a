-- Purpose: foreign keys and indexes of the sample Odoo database, added after the rows: Odoo's tables refer to each
-- other in circles (a company has a partner, a partner a company), and checking once is faster than per row.
-- On delete: as Odoo makes them; links between tables go with either side (cascade), most others become null.
-- Re-run: no; it follows odoo.sql in the same transaction.
-- noqa: disable=RF04

alter table res_currency
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table res_country
add foreign key (currency_id) references res_currency (id) on delete set null,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table res_country_state
add foreign key (country_id) references res_country (id) on delete restrict,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table res_company
add foreign key (partner_id) references res_partner (id) on delete restrict,
add foreign key (currency_id) references res_currency (id) on delete restrict,
add foreign key (parent_id) references res_company (id) on delete set null,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table res_partner
add foreign key (company_id) references res_company (id) on delete set null,
add foreign key (parent_id) references res_partner (id) on delete set null,
add foreign key (commercial_partner_id) references res_partner (id) on delete set null,
add foreign key (user_id) references res_users (id) on delete set null,
add foreign key (team_id) references crm_team (id) on delete set null,
add foreign key (state_id) references res_country_state (id) on delete restrict,
add foreign key (country_id) references res_country (id) on delete restrict,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table res_users
add foreign key (company_id) references res_company (id) on delete restrict,
add foreign key (partner_id) references res_partner (id) on delete restrict,
add foreign key (sale_team_id) references crm_team (id) on delete set null,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table crm_team
add foreign key (company_id) references res_company (id) on delete set null,
add foreign key (user_id) references res_users (id) on delete set null,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table crm_stage
add foreign key (team_id) references crm_team (id) on delete set null,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table crm_lost_reason
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table crm_tag
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table c_aws_accounts
add foreign key (c_aws_company_id) references res_partner (id) on delete set null,
add foreign key (payer_id) references c_aws_accounts (id) on delete set null,
add foreign key (company_id) references res_company (id) on delete set null,
add foreign key (currency_id) references res_currency (id) on delete set null,
add foreign key (account_manager_id) references res_users (id) on delete set null,
add foreign key (end_user_country_id) references res_country (id) on delete set null,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table crm_lead
add foreign key (user_id) references res_users (id) on delete set null,
add foreign key (company_id) references res_company (id) on delete set null,
add foreign key (team_id) references crm_team (id) on delete set null,
add foreign key (stage_id) references crm_stage (id) on delete restrict,
add foreign key (partner_id) references res_partner (id) on delete set null,
add foreign key (state_id) references res_country_state (id) on delete set null,
add foreign key (country_id) references res_country (id) on delete set null,
add foreign key (lost_reason) references crm_lost_reason (id) on delete restrict,
add foreign key (c_aws_account_id) references c_aws_accounts (id) on delete set null,
add foreign key (x_payer_id) references c_aws_accounts (id) on delete set null,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table crm_tag_rel
add foreign key (lead_id) references crm_lead (id) on delete cascade,
add foreign key (tag_id) references crm_tag (id) on delete cascade;

alter table product_template
add foreign key (company_id) references res_company (id) on delete set null,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table project_project
add foreign key (partner_id) references res_partner (id) on delete set null,
add foreign key (company_id) references res_company (id) on delete restrict,
add foreign key (user_id) references res_users (id) on delete set null,
add foreign key (subtask_project_id) references project_project (id) on delete restrict,
add foreign key (x_lead_id) references crm_lead (id) on delete set null,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table sale_order
add foreign key (user_id) references res_users (id) on delete set null,
add foreign key (partner_id) references res_partner (id) on delete restrict,
add foreign key (partner_invoice_id) references res_partner (id) on delete restrict,
add foreign key (partner_shipping_id) references res_partner (id) on delete restrict,
add foreign key (currency_id) references res_currency (id) on delete set null,
add foreign key (company_id) references res_company (id) on delete restrict,
add foreign key (team_id) references crm_team (id) on delete set null,
add foreign key (opportunity_id) references crm_lead (id) on delete set null,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table sale_order_line
add foreign key (order_id) references sale_order (id) on delete cascade,
add foreign key (salesman_id) references res_users (id) on delete set null,
add foreign key (currency_id) references res_currency (id) on delete set null,
add foreign key (company_id) references res_company (id) on delete set null,
add foreign key (order_partner_id) references res_partner (id) on delete set null,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table account_move
add foreign key (company_id) references res_company (id) on delete set null,
add foreign key (currency_id) references res_currency (id) on delete restrict,
add foreign key (partner_id) references res_partner (id) on delete set null,
add foreign key (commercial_partner_id) references res_partner (id) on delete set null,
add foreign key (reversed_entry_id) references account_move (id) on delete set null,
add foreign key (invoice_user_id) references res_users (id) on delete set null,
add foreign key (team_id) references crm_team (id) on delete set null,
add foreign key (partner_shipping_id) references res_partner (id) on delete set null,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table account_move_line
add foreign key (move_id) references account_move (id) on delete cascade,
add foreign key (company_id) references res_company (id) on delete set null,
add foreign key (company_currency_id) references res_currency (id) on delete set null,
add foreign key (currency_id) references res_currency (id) on delete restrict,
add foreign key (partner_id) references res_partner (id) on delete restrict,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table c_aws_funding_request
add foreign key (lead_id) references crm_lead (id) on delete set null,
add foreign key (partner_id) references res_partner (id) on delete set null,
add foreign key (account_id) references c_aws_accounts (id) on delete set null,
add foreign key (company_id) references res_company (id) on delete set null,
add foreign key (currency_id) references res_currency (id) on delete set null,
add foreign key (user_id) references res_users (id) on delete set null,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table c_billing_internal_cur
add foreign key (payer_id) references c_aws_accounts (id) on delete set null,
add foreign key (account_id) references c_aws_accounts (id) on delete set null,
add foreign key (company_id) references res_company (id) on delete set null,
add foreign key (company_currency_id) references res_currency (id) on delete set null,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table c_billing_bill
add foreign key (partner_id) references res_partner (id) on delete set null,
add foreign key (account_id) references c_aws_accounts (id) on delete set null,
add foreign key (invoice_id) references account_move (id) on delete set null,
add foreign key (company_id) references res_company (id) on delete set null,
add foreign key (currency_id) references res_currency (id) on delete set null,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table c_billing_bill_line
add foreign key (bill_id) references c_billing_bill (id) on delete cascade,
add foreign key (product_id) references product_template (id) on delete set null,
add foreign key (currency_id) references res_currency (id) on delete set null,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

alter table c_billing_spp_bill
add foreign key (payer_id) references c_aws_accounts (id) on delete set null,
add foreign key (account_id) references c_aws_accounts (id) on delete set null,
add foreign key (company_id) references res_company (id) on delete set null,
add foreign key (currency_id) references res_currency (id) on delete set null,
add foreign key (create_uid) references res_users (id) on delete set null,
add foreign key (write_uid) references res_users (id) on delete set null;

create index on crm_lead (user_id);
create index on crm_lead (company_id);
create index on crm_lead (team_id);
create index on crm_lead (stage_id);
create index on crm_lead (partner_id);
create index on crm_lead (active);
create index on crm_tag_rel (tag_id);
create index on res_partner (parent_id);
create index on res_partner (commercial_partner_id);
create index on res_partner (name);
create index on res_partner (active);
create index on c_aws_accounts (name);
create index on sale_order_line (order_id);
create index on account_move_line (move_id);
create index on account_move (partner_id);
create index on c_billing_internal_cur (payer_id);
create index on c_billing_internal_cur (account_id);
create index on c_billing_internal_cur (company_id);
create index on c_billing_internal_cur (period);
create index on c_billing_bill (account_id);
create index on c_billing_bill (partner_id);
create index on c_billing_bill_line (bill_id);
create index on c_billing_spp_bill (account_id);
