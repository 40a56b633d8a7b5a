-- Purpose: what a check measured row by row, scores by table and dimension, gates, and sums compared with raw.

set local role revops_owner;

alter table ops.quality_run
add column gate text check (gate in ('open', 'shut'));
update ops.quality_run set gate = case when status in ('passed', 'warned') then 'open' else 'shut' end;
alter table ops.quality_run alter column gate set not null;
comment on column ops.quality_run.gate is
'shut: a critical check failed or a check was not evaluated, and the data went no further. Whatever the score.';
comment on column ops.quality_run.expected is
'Checks that apply; those on columns or tables that the source does not have are recorded as not_applicable.';
comment on column ops.quality_run.score is
'The row of ops.quality_score for all tables and dimensions.';

alter table ops.quality_result
add column rows_total bigint,
add column rows_failed bigint,
add column remedy text not null default '',
drop constraint quality_result_outcome_check,
add constraint quality_result_outcome_check check (
    outcome in ('pass', 'warn', 'fail', 'not_evaluated', 'not_applicable')
);
comment on column ops.quality_result.severity is
'critical as well where a warning became one because too large a share of the rows failed (critical_above).';
comment on column ops.quality_result.rows_total is
'What was looked at: live rows of the table, or periods where sums by period are compared; null where a check is about '
'the table as a whole.';
comment on column ops.quality_result.rows_failed is
'How many of rows_total failed, all of them, also where only the first keys are kept; for keys that must be unique, '
'how many occur more than once.';

create table ops.quality_failed_key (
    quality_run_id bigint not null,
    table_name text not null,
    check_name text not null,
    key text not null,
    primary key (quality_run_id, table_name, check_name, key),
    foreign key (quality_run_id, table_name, check_name)
    references ops.quality_result (quality_run_id, table_name, check_name) on delete cascade
);
comment on table ops.quality_failed_key is
'The first rows that failed a check, by key and never by value: in raw the primary key, in core source_id, several '
'columns joined by a colon; for sums by period the periods.';

create table ops.quality_score (
    quality_run_id bigint not null references ops.quality_run (quality_run_id) on delete cascade,
    table_name text,
    dimension text check (dimension in ('completeness', 'uniqueness', 'validity', 'consistency', 'timeliness')),
    score numeric check (score between 0 and 1),
    checks integer not null,
    evaluated integer not null,
    weight numeric not null,
    unique nulls not distinct (quality_run_id, table_name, dimension),
    check (score is null or evaluated = checks)
);
comment on table ops.quality_score is
'Scores by table and dimension; null stands for all tables or all dimensions. plugins/revops/quality/score.py says how '
'they are computed.';
comment on column ops.quality_score.score is
'0 to 1; null where a check was not evaluated or a table that must have rows is empty. 1 only where everything passed.';

create table ops.quality_total (
    quality_run_id bigint not null references ops.quality_run (quality_run_id) on delete cascade,
    table_name text not null,
    period text not null,
    raw_rows bigint not null,
    raw_amount numeric not null,
    core_rows bigint not null,
    core_amount numeric not null,
    quarantined_rows bigint not null,
    quarantined_amount numeric not null,
    primary key (quality_run_id, table_name, period)
);
comment on table ops.quality_total is
'Sums of raw and core by month, where raw must be core and quarantine together. All currencies in one number, to be '
'compared with nothing else.';

grant insert on
ops.quality_failed_key, ops.quality_score, ops.quality_total to revops_quality;
