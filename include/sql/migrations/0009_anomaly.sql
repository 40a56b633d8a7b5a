-- Purpose: what each run measured of each table, which of it was unlike the table's history, and what people decided.

set local role revops_owner;

create table ops.anomaly (
    anomaly_id bigint generated always as identity primary key,
    run_id text not null,
    source text not null,
    dataset text not null,
    metric text not null,
    column_name text,
    value double precision not null,
    expected_low double precision not null,
    expected_high double precision not null,
    score double precision,
    severity text not null check (severity in ('warning', 'critical')),
    state text not null default 'open' check (state in ('open', 'accepted', 'dismissed')),
    reason text not null,
    seen_at timestamptz not null default clock_timestamp(),
    first_seen_run text not null,
    last_seen_at timestamptz not null default clock_timestamp(),
    reviewed_by text,
    reviewed_at timestamptz,
    note text,
    check ((reviewed_by is null) = (reviewed_at is null)),
    check (state = 'open' or reviewed_by is not null)
);
create unique index anomaly_open_key on ops.anomaly (source, dataset, metric, column_name) nulls not distinct
where state = 'open';
create index anomaly_run_id_idx on ops.anomaly (run_id);
comment on table ops.anomaly is
'Values unlike the table''s own history, for people to review with ops.review_anomaly. One open row a source, '
'dataset, metric and column: a run that sees it again updates it.';
comment on column ops.anomaly.run_id is
'The last run that saw it; value, expected_*, score and reason are that run''s.';
comment on column ops.anomaly.dataset is 'Schema and name of the table, such as raw.odoo_crm_lead.';
comment on column ops.anomaly.score is
'Distance from what is usual in units of the usual spread; null where a fixed rule decided: a table that had rows '
'has none.';
comment on column ops.anomaly.state is
'open: not reviewed, its values stay out of what counts as usual. accepted: the values were right, or are the new '
'usual; they count, and values near them are no anomaly any more. dismissed: a fault of the data; its values stay out '
'for ever.';

create table ops.anomaly_review (
    anomaly_review_id bigint generated always as identity primary key,
    anomaly_id bigint not null references ops.anomaly (anomaly_id),
    state_before text not null,
    state text not null,
    value double precision not null,
    reviewer text not null,
    note text,
    decided_at timestamptz not null default clock_timestamp(),
    login text not null default session_user
);
create index anomaly_review_anomaly_id_idx on ops.anomaly_review (anomaly_id);
comment on table ops.anomaly_review is
'Every decision on an anomaly; rows are added by ops.review_anomaly only, and never changed.';
comment on column ops.anomaly_review.value is 'The value that was decided on: a later run may see another.';

create table ops.quality_metric (
    run_id text not null,
    source text not null,
    dataset text not null,
    metric text not null check (metric in (
        'rows', 'rows_gone', 'inserted', 'updated', 'deleted', 'data_age_s', 'load_age_s', 'null_share',
        'unusable_share', 'distinct_values', 'mean', 'p05', 'p50', 'p95'
    )),
    column_name text,
    value double precision,
    rows_measured bigint,
    expected_low double precision,
    expected_high double precision,
    score double precision,
    anomaly_id bigint references ops.anomaly (anomaly_id),
    measured_at timestamptz not null default now(),
    constraint quality_metric_key unique nulls not distinct (source, dataset, run_id, metric, column_name)
);
create index quality_metric_measured_at_idx on ops.quality_metric (source, dataset, measured_at) where metric = 'rows';
create index quality_metric_anomaly_id_idx on ops.quality_metric (anomaly_id) where anomaly_id is not null;
comment on table ops.quality_metric is
'What a run measured of a table''s live rows, in core of those of the source. A retry in the same run replaces the '
'run''s numbers.';
comment on column ops.quality_metric.value is
'Null where there was nothing to measure: no rows, only nulls, too few numbers, no load of the table in this run.';
comment on column ops.quality_metric.rows_measured is
'The rows that a column''s number was computed from: all, or a sample of a large table. Null for numbers of the table.';
comment on column ops.quality_metric.expected_low is
'With expected_high what was usual when the value was judged; both null where history was too short, or the metric is '
'not judged.';
comment on column ops.quality_metric.anomaly_id is
'The anomaly that this value is part of. While that is open or dismissed, the value does not count as usual.';

-- The only way to decide: judging writes anomalies but neither their state nor who reviewed them.
create function ops.review_anomaly(anomaly_id bigint, state text, reviewer text, note text default null)
returns ops.anomaly
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    known ops.anomaly;
    other bigint;
begin
    if review_anomaly.state is null or review_anomaly.state not in ('open', 'accepted', 'dismissed') then
        raise exception 'state % is unknown: it must be accepted, dismissed or open', review_anomaly.state
        using errcode = 'invalid_parameter_value';
    end if;
    if coalesce(btrim(review_anomaly.reviewer), '') = '' then
        raise exception 'anomaly %: say who decides: the third argument is the reviewer''s name', review_anomaly.anomaly_id
        using errcode = 'invalid_parameter_value';
    end if;
    select a.* into known from ops.anomaly as a where a.anomaly_id = review_anomaly.anomaly_id for update;
    if known.anomaly_id is null then
        raise exception 'there is no anomaly %: see select * from ops.anomaly where state = ''open''',
            review_anomaly.anomaly_id using errcode = 'no_data_found';
    end if;
    if review_anomaly.state = 'open' then
        select a.anomaly_id into other from ops.anomaly as a
        where a.state = 'open' and a.anomaly_id <> known.anomaly_id
            and (a.source, a.dataset, a.metric) = (known.source, known.dataset, known.metric)
            and a.column_name is not distinct from known.column_name;
        if other is not null then
            raise exception 'anomaly % can not be opened again: anomaly % is open for the same number; decide on that one',
                known.anomaly_id, other using errcode = 'unique_violation';
        end if;
    end if;
    insert into ops.anomaly_review (anomaly_id, state_before, state, value, reviewer, note)
    values (
        known.anomaly_id, known.state, review_anomaly.state, known.value, btrim(review_anomaly.reviewer),
        review_anomaly.note
    );
    update ops.anomaly as a set
        state = review_anomaly.state,
        reviewed_by = btrim(review_anomaly.reviewer),
        reviewed_at = clock_timestamp(),
        note = review_anomaly.note
    where a.anomaly_id = known.anomaly_id
    returning a.* into known;
    return known;
end
$$;
comment on function ops.review_anomaly is
'Decide on an anomaly: accepted, dismissed, or open again. Who and when stay in ops.anomaly_review.';
grant execute on function ops.review_anomaly to revops_quality;

grant insert, update, delete on ops.quality_metric to revops_quality;
grant
insert (
    run_id, source, dataset, metric, column_name, value, expected_low, expected_high, score, severity, reason,
    first_seen_run
),
update (run_id, value, expected_low, expected_high, score, severity, reason, last_seen_at),
delete
on ops.anomaly to revops_quality;
