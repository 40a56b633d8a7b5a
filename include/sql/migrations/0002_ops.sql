-- Purpose: the records of every run: loads, watermarks, schema changes, transforms, quality, quarantine, embeddings.

set local role revops_owner;

create table ops.migration (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default now(),
    applied_by text not null default session_user
);

create table ops.load (
    load_id bigint generated always as identity primary key,
    source text not null,
    table_name text not null,
    run_id text not null,
    mode text not null,
    status text not null check (status in ('running', 'succeeded', 'failed', 'absent')),
    snapshot text,
    is_shared_snapshot boolean not null default false,
    full_read_reason text,
    rows_read bigint,
    inserted bigint,
    updated bigint,
    unchanged bigint,
    deleted bigint,
    quarantined bigint,
    source_rows bigint,
    bytes bigint,
    seconds double precision,
    rows_per_second double precision generated always as (
        case when seconds > 0 then rows_read / seconds end
    ) stored,
    error text,
    is_final boolean not null default false,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    check (status <> 'succeeded' or rows_read = inserted + updated + unchanged + quarantined)
);
create index load_run_id_idx on ops.load (run_id);
create index load_table_idx on ops.load (source, table_name, load_id desc);
comment on column ops.load.is_final is
'The table was given up in this run: no further try follows.';
comment on table ops.load is
'One row a table and attempt. rows_read = inserted + updated + unchanged + quarantined; '
'deleted counts rows newly marked as gone; source_rows is the source''s own count in the same snapshot.';

create table ops.watermark (
    source text not null,
    table_name text not null,
    load_id bigint not null references ops.load (load_id),
    watermark jsonb not null,
    saved_at timestamptz not null default now(),
    primary key (source, table_name)
);
comment on table ops.watermark is
'Where the next incremental read of a table starts; saved in the transaction of the data.';

create table ops.schema_change (
    schema_change_id bigint generated always as identity primary key,
    source text not null,
    table_name text not null,
    column_name text,
    change text not null check (change in (
        'table_created', 'table_absent', 'table_returned', 'column_added', 'column_dropped', 'column_returned',
        'type_widened'
    )),
    type_before text,
    type_after text,
    run_id text not null,
    load_id bigint references ops.load (load_id),
    seen_at timestamptz not null default clock_timestamp()
);
create index schema_change_run_id_idx on ops.schema_change (run_id);

create table ops.source_snapshot (
    source text not null,
    run_id text not null,
    snapshot_name text not null,
    exported_at timestamptz not null default clock_timestamp(),
    released_at timestamptz,
    primary key (source, run_id)
);
comment on table ops.source_snapshot is
'The exported snapshot that all tables of one run are read from.';

create table ops.transform_run (
    transform_run_id bigint generated always as identity primary key,
    run_id text not null,
    source text not null,
    target text not null,
    status text not null check (status in ('running', 'succeeded', 'failed')),
    rows_read bigint,
    inserted bigint,
    updated bigint,
    unchanged bigint,
    quarantined bigint,
    deleted bigint,
    seconds double precision,
    error text,
    started_at timestamptz not null default clock_timestamp(),
    check (status <> 'succeeded' or rows_read = inserted + updated + unchanged + quarantined)
);
create index transform_run_run_id_idx on ops.transform_run (run_id);

create table ops.quarantine (
    source_table text not null,
    source_key text not null,
    rule text not null,
    reason text not null,
    first_seen_at timestamptz not null default now(),
    last_seen_at timestamptz not null default now(),
    first_run_id text not null,
    last_run_id text not null,
    released_at timestamptz,
    primary key (source_table, source_key, rule)
);
comment on table ops.quarantine is
'Rows that a reject rule keeps out of core, tried again each run. Keys only, never values.';

create table ops.quality_run (
    quality_run_id bigint generated always as identity primary key,
    run_id text not null,
    source text not null,
    layer text not null check (layer in ('raw', 'core', 'search')),
    status text not null check (status in ('passed', 'warned', 'failed', 'error')),
    expected integer not null,
    evaluated integer not null,
    score numeric,
    seconds double precision not null,
    engine text not null,
    error text,
    finished_at timestamptz not null default clock_timestamp(),
    check (score is null or evaluated = expected)
);
create index quality_run_run_id_idx on ops.quality_run (run_id);
comment on column ops.quality_run.score is
'Weighted share of checks passed, 0 to 1; null when not every check was evaluated.';

create table ops.quality_result (
    quality_run_id bigint not null references ops.quality_run (quality_run_id) on delete cascade,
    table_name text not null,
    check_name text not null,
    dimension text not null,
    severity text not null check (severity in ('critical', 'warning')),
    weight numeric not null,
    outcome text not null check (outcome in ('pass', 'warn', 'fail', 'not_evaluated')),
    value numeric,
    definition text not null,
    primary key (quality_run_id, table_name, check_name)
);

create table ops.embedding_run (
    embedding_run_id bigint generated always as identity primary key,
    run_id text not null,
    source text not null,
    model_key text not null,
    device text not null,
    documents bigint not null,
    encoded bigint not null,
    loaded bigint not null,
    tokens bigint not null,
    truncated bigint not null,
    seconds double precision not null,
    finished_at timestamptz not null default clock_timestamp()
);

grant insert, update on ops.load, ops.watermark, ops.schema_change, ops.source_snapshot to revops_ingest;
grant insert, update on ops.transform_run, ops.quarantine to revops_transform;
grant insert, update on ops.transform_run to revops_embed;
grant insert, update on ops.quality_run, ops.quality_result to revops_quality;
grant insert, update on ops.embedding_run to revops_embed;
