-- Purpose: loads that resume, that tell where they are, and that say how they were checked.

set local role revops_owner;

alter table ops.load
add column attempt integer not null default 1,
add column phase text,
add column expected_rows bigint,
add column repaired bigint,
add column format text check (format in ('binary', 'text')),
add column ranges integer,
add column check_seconds double precision,
add column deletions_accepted boolean not null default false;
comment on column ops.load.attempt is
'A first load in ranges goes on where it stopped, under the same load_id; other loads are tried under a new one.';
comment on column ops.load.phase is
'What a running load is doing: reading, merging, comparing, indexing, checking.';
comment on column ops.load.expected_rows is
'How many rows a running load will read, as the source estimates.';
comment on column ops.load.repaired is
'Rows that a periodic comparison found different and read again; counted in updated as well.';
comment on column ops.load.check_seconds is
'How much of seconds went into comparing raw with the source.';

create table ops.load_range (
    source text not null,
    table_name text not null,
    first_page bigint not null,
    last_page bigint not null,
    load_id bigint not null references ops.load (load_id),
    identity text not null,
    horizon jsonb not null,
    rows bigint not null,
    bytes bigint not null,
    committed_at timestamptz not null default clock_timestamp(),
    primary key (source, table_name, first_page)
);
comment on table ops.load_range is
'Ranges of an unfinished first load that are committed; emptied when the load is complete.';

create table ops.period_restatement (
    source text not null,
    table_name text not null,
    load_id bigint not null references ops.load (load_id),
    period jsonb not null,
    rows_before bigint not null,
    rows_after bigint not null,
    primary key (load_id, period)
);
comment on table ops.period_restatement is
'Periods that a load replaced as a whole (mode replace_period), with their live rows before and after.';

alter table ops.source_snapshot
add column cursor_bound timestamptz,
add column finished text[] not null default '{}';
comment on column ops.source_snapshot.cursor_bound is
'Every transaction that began before this moment had ended when the snapshot was taken; null where the source '
'does not tell.';
comment on column ops.source_snapshot.finished is
'Tasks of the run that need the snapshot no more.';

alter table ops.schema_change
drop constraint schema_change_change_check,
add constraint schema_change_change_check check (change in (
    'table_created', 'table_absent', 'table_returned', 'key_changed', 'column_added', 'column_dropped',
    'column_returned', 'column_excluded', 'column_ignored', 'column_encrypted', 'type_widened'
));

grant insert, update, delete on ops.load_range to revops_ingest;
grant insert on ops.period_restatement to revops_ingest;

-- Deleted rows of raw are found by an index; tables of older versions get theirs here, new ones when they are made.
reset role;
set local role revops_ingest;
do $$
declare
    raw_table regclass;
begin
    for raw_table in
        select a.attrelid::regclass
        from pg_attribute as a
        inner join pg_class as c on c.oid = a.attrelid
        where c.relnamespace = 'raw'::regnamespace and c.relkind = 'r' and a.attname = '_deleted_at'
            and pg_has_role(current_user, c.relowner, 'usage')
    loop
        execute format('create index on %s (_deleted_at) where _deleted_at is not null', raw_table);
    end loop;
end
$$;
