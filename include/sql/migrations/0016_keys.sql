-- Purpose: which columns are encrypted, with which keys; rotations of keys, readings of values; pruning of records.

set local role revops_owner;

create table ops.encrypted_column (
    raw_table text not null,
    column_name text not null,
    source text not null,
    table_name text not null,
    kind text not null,
    index_fingerprint text not null,
    registered_at timestamptz not null default clock_timestamp(),
    primary key (raw_table, column_name)
);
comment on table ops.encrypted_column is
'Columns of raw that hold tokens, each with <column>_blind_index beside it. Keys are never here, nor anywhere else in '
'this database.';
comment on column ops.encrypted_column.kind is
'What blind indexes are comparable within, as include/sources had it when they were computed.';
comment on column ops.encrypted_column.index_fingerprint is
'What tells the index key that all blind indexes of the column were computed with from another one.';

create table ops.data_key_use (
    raw_table text not null,
    column_name text not null,
    key_id integer not null check (key_id between 0 and 65535),
    key_fingerprint text,
    since timestamptz not null default clock_timestamp(),
    primary key (raw_table, column_name, key_id),
    foreign key (raw_table, column_name) references ops.encrypted_column (raw_table, column_name) on delete cascade
);
comment on table ops.data_key_use is
'With which keys tokens of a column may have been written. A load adds its key before it writes; a rotation takes a '
'key away once no token of it is left. So a key whose id is not here reads nothing of raw.';
comment on column ops.data_key_use.key_fingerprint is
'What tells the key from another one under the same id; null where the key was not at hand.';

create table ops.key_rotation (
    key_rotation_id bigint generated always as identity primary key,
    run_id text not null,
    raw_table text not null,
    writing_key_id integer not null,
    with_index boolean not null,
    status text not null check (status in ('running', 'succeeded', 'failed')),
    rows_expected bigint,
    rows_renewed bigint not null default 0,
    tokens_checked bigint,
    tokens_left bigint,
    seconds double precision not null default 0,
    rows_per_second double precision generated always as (
        case when seconds > 0 then rows_renewed / seconds end
    ) stored,
    error text,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    check (status <> 'succeeded' or tokens_left = 0)
);
create index key_rotation_table_idx on ops.key_rotation (raw_table, key_rotation_id desc);
comment on table ops.key_rotation is
'One row a table and rotation of keys; rows_renewed moves while it runs, with each batch that commits.';
comment on column ops.key_rotation.with_index is 'Blind indexes were computed anew as well.';
comment on column ops.key_rotation.tokens_checked is 'All tokens of the table, counted at the end.';
comment on column ops.key_rotation.tokens_left is 'Those of them that the writing key has not written.';

create table ops.value_reading (
    value_reading_id bigint generated always as identity primary key,
    raw_table text not null,
    column_name text not null,
    row_key text not null,
    person text not null,
    read_at timestamptz not null default clock_timestamp(),
    login text not null default session_user
);
comment on table ops.value_reading is
'Values that `make decrypt` has shown: which and to whom, never the value. It is a record, no lock: who holds the keys '
'can do without that command.';

create table ops.pruning (
    pruning_id bigint generated always as identity primary key,
    run_id text not null,
    relation text not null,
    kept_days integer not null,
    rows bigint not null,
    pruned_at timestamptz not null default clock_timestamp()
);
comment on table ops.pruning is 'What the care of the warehouse has deleted of ops, and by which setting.';

grant insert, update, delete on ops.encrypted_column, ops.data_key_use to revops_ingest;
grant insert, update on ops.key_rotation to revops_ingest;
grant insert on ops.value_reading to revops_ingest;
-- A table whose tokens nobody can read any more is read again from the start.
grant delete on ops.watermark to revops_ingest;

-- Who writes a record may not delete it: this function deletes old ones only, whoever asks.
create function ops.prune(record text, kept_days integer, most_rows integer) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    before constant timestamptz := now() - make_interval(days => kept_days);
    pruned bigint;
begin
    if kept_days is null or kept_days < 30 then
        raise exception 'records are kept for 30 days at least, not for %', kept_days
        using errcode = 'invalid_parameter_value';
    end if;
    case record
        when 'quality_metric' then
            -- Whether a table was emptied is told by the last run in which it had rows, however long ago.
            delete from ops.quality_metric as d where d.ctid = any (array(
                select t.ctid from ops.quality_metric as t
                where t.measured_at < before and exists (
                    select from ops.quality_metric as n
                    where n.source = t.source and n.dataset = t.dataset and n.metric = 'rows' and n.value > 0
                        and n.measured_at > t.measured_at
                )
                limit most_rows
            ));
        when 'quality_run' then
            delete from ops.quality_run as d where d.quality_run_id in (
                select t.quality_run_id from ops.quality_run as t where t.finished_at < before limit most_rows
            );
        when 'quality_failed_key' then
            delete from ops.quality_failed_key as d where d.ctid = any (array(
                select t.ctid from ops.quality_failed_key as t
                inner join ops.quality_run as q on q.quality_run_id = t.quality_run_id
                where q.finished_at < before limit most_rows
            ));
        when 'released_quarantine' then
            delete from ops.quarantine as d where d.ctid = any (array(
                select t.ctid from ops.quarantine as t where t.released_at < before limit most_rows
            ));
        when 'rule_result' then
            delete from ops.rule_result as d where d.ctid = any (array(
                select t.ctid from ops.rule_result as t
                inner join ops.transform_run as r on r.transform_run_id = t.transform_run_id
                where r.started_at < before limit most_rows
            ));
        when 'period_restatement' then
            delete from ops.period_restatement as d where d.ctid = any (array(
                select t.ctid from ops.period_restatement as t
                inner join ops.load as l on l.load_id = t.load_id
                where l.started_at < before limit most_rows
            ));
        else
            raise exception 'there is no record % with an end', record using errcode = 'invalid_parameter_value';
    end case;
    get diagnostics pruned = row_count;
    return pruned;
end
$$;
comment on function ops.prune is
'Delete at most so many records that are older; plugins/revops/retention.py calls it until none is left.';
grant execute on function ops.prune to revops_quality;
grant insert on ops.pruning to revops_quality;
