-- Purpose: where core comes from: edges between columns for each run, and from a row of core back to its source record.

set local role revops_owner;

-- The same few hundred edges every night are stored once, under the hash of all of them.
create table ops.lineage_definition (
    definition_id bigint generated always as identity primary key,
    definition_hash text not null unique,
    target text not null,
    source text not null,
    recorded_at timestamptz not null default now(),
    last_transform_run_id bigint references ops.transform_run (transform_run_id) on delete set null
);
create index lineage_definition_target_idx on ops.lineage_definition (target, source);
comment on table ops.lineage_definition is
'How a table is made from its inputs in the runs of one source, as read from its SQL file.';
comment on column ops.lineage_definition.definition_hash is 'SHA-256 of target, source, edges and grains.';

create table ops.lineage_definition_edge (
    definition_id bigint not null references ops.lineage_definition (definition_id) on delete cascade,
    input_relation text not null,
    input_column text not null,
    output_column text not null,
    kind text not null check (kind in ('value', 'condition')),
    primary key (definition_id, output_column, input_relation, input_column)
);
create index lineage_definition_edge_input_idx on ops.lineage_definition_edge (input_relation, input_column);
comment on table ops.lineage_definition_edge is 'Which columns of its inputs a column is made from.';
comment on column ops.lineage_definition_edge.kind is
'value: the input''s value is in the output''s. condition: it only decides which value that is.';
comment on column ops.lineage_definition_edge.input_column is
'* where only the rows of the input count, as for count(*).';
comment on column ops.lineage_definition_edge.output_column is
'* for what decides which rows there are: joins, conditions, grouping.';

create table ops.lineage_definition_grain (
    definition_id bigint not null references ops.lineage_definition (definition_id) on delete cascade,
    position integer not null,
    relation text not null,
    input_columns text[] not null,
    output_columns text[] not null,
    prefix text not null,
    condition jsonb not null,
    primary key (definition_id, position),
    check (cardinality(input_columns) between 1 and 8 and cardinality(input_columns) = cardinality(output_columns)),
    check (prefix = '' or cardinality(input_columns) = 1)
);
create index lineage_definition_grain_relation_idx on ops.lineage_definition_grain (relation);
comment on table ops.lineage_definition_grain is
'Which record a row is made from: the rows of relation whose input_columns, as text and after prefix, equal the row''s '
'output_columns. Holds for rows whose columns are as condition says; of several prefixes that fit, the longest counts.';

create table ops.lineage_run (
    transform_run_id bigint primary key references ops.transform_run (transform_run_id) on delete cascade,
    definition_id bigint not null references ops.lineage_definition (definition_id)
);
create index lineage_run_definition_idx on ops.lineage_run (definition_id);
comment on table ops.lineage_run is 'By which definition a transform ran; written in the transaction of its rows.';

create view ops.lineage_edge with (security_invoker = true) as
select
    r.transform_run_id,
    t.run_id,
    t.source,
    e.input_relation,
    e.input_column,
    d.target as output_relation,
    e.output_column,
    e.kind,
    t.rows_read,
    t.inserted,
    t.updated,
    t.unchanged,
    t.quarantined,
    t.deleted
from ops.lineage_run as r
inner join ops.transform_run as t on r.transform_run_id = t.transform_run_id
inner join ops.lineage_definition as d on r.definition_id = d.definition_id
inner join ops.lineage_definition_edge as e on r.definition_id = e.definition_id;
comment on view ops.lineage_edge is
'Lineage of each run, column by column, with the row counts of the run. Ask for one run, or for those of '
'ops.lineage_current.';

create view ops.lineage_current with (security_invoker = true) as
select distinct on (target, source)
    target,
    source,
    definition_id,
    last_transform_run_id as transform_run_id
from ops.lineage_definition
where last_transform_run_id is not null
order by target asc, source asc, last_transform_run_id desc;
comment on view ops.lineage_current is 'The last run of each table and source that recorded its lineage.';

grant insert on ops.lineage_definition, ops.lineage_definition_edge, ops.lineage_definition_grain, ops.lineage_run
to revops_transform, revops_embed;
grant update (last_transform_run_id) on ops.lineage_definition to revops_transform, revops_embed;

create type ops.trace_step as (
    depth integer,
    relation text,
    key text,
    what text,
    load_id bigint,
    transform_run_id bigint,
    run_id text,
    at timestamptz,
    detail jsonb
);

-- Those who ask may read neither raw nor all of core, so the functions run with the rights of the role that reads
-- everything and writes next to nothing. They show keys, times and counts, never a value of a row.
grant create on schema ops to revops_quality;
reset role;
set local role revops_quality;

create function ops.trace_rows(of_relation text, wanted jsonb, shown text[]) returns setof jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
-- The columns `shown` of the rows whose columns are as wanted: a text, or one of an array of texts. Types of raw's
-- makers are left alone, for their functions would run with the rights of this one.
declare
    place regclass;
    columns text;
    condition text;
    found_columns bigint;
begin
    select c.oid into place
    from pg_class as c
    inner join pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = split_part(of_relation, '.', 1)
        and n.nspname in ('raw', 'core', 'search')
        and c.relname = substr(of_relation, strpos(of_relation, '.') + 1)
        and c.relkind in ('r', 'p');
    select
        string_agg(
            case
                when jsonb_typeof(w.value) = 'array'
                    then format('t.%1$I = any (array(select jsonb_array_elements_text($1 -> %1$L)))', a.attname)
                when a.atttypid = 'text'::regtype then format('t.%1$I = ($1 ->> %1$L)', a.attname)
                -- The type's own comparison finds the row by an index; its text must be the same as well: 42, not 042.
                else format(
                    't.%1$I = ($1 ->> %1$L)::%2$s and t.%1$I::text = ($1 ->> %1$L)',
                    a.attname, format_type(a.atttypid, a.atttypmod)
                )
            end,
            ' and '
        ),
        count(*)
    into condition, found_columns
    from jsonb_each(wanted) as w
    inner join pg_attribute as a
        on a.attrelid = place and a.attname = w.key and a.attnum > 0 and a.atttypid < 16384;
    if found_columns = 0 or found_columns <> (select count(*) from jsonb_object_keys(wanted)) then
        return;
    end if;
    select coalesce(string_agg(format('%1$L, t.%1$I', a.attname), ', '), '') into columns
    from pg_attribute as a
    where a.attrelid = place and a.attname = any (shown) and a.attnum > 0 and a.atttypid < 16384;
    return query execute format('select jsonb_build_object(%s) from %s as t where %s', columns, place, condition)
    using wanted;
exception
    -- A key that its column can't hold, such as a word for a number, is the key of no row.
    when data_exception then
        return;
end
$$;

create function ops.trace_key(of_relation text, of_row jsonb) returns text
language sql
stable
set search_path = pg_catalog, pg_temp
return case of_relation
    when 'core.account' then of_row ->> 'account_id'
    when 'search.document' then (of_row ->> 'entity') || ':' || (of_row ->> 'entity_id')
    else (of_row ->> 'source_system') || ':' || (of_row ->> 'source_id')
end;

create function ops.trace_wanted(of_relation text, of_key text) returns setof jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What a key may mean: source_id, system:source_id; account_id; document_id, entity:entity_id, system:entity:entity_id.
declare
    -- As the checks of core's tables have it.
    systems constant jsonb := '["odoo", "ace"]';
    first_part constant text := split_part(of_key, ':', 1);
    rest constant text := substr(of_key, length(first_part) + 2);
begin
    if of_relation = 'core.account' then
        return next jsonb_build_object('account_id', of_key);
    elsif of_relation = 'search.document' then
        if of_key ~ '^[0-9]+$' then
            return next jsonb_build_object('document_id', of_key);
        elsif systems ? first_part then
            return next jsonb_build_object(
                'source_system', first_part, 'entity', split_part(rest, ':', 1),
                'entity_id', substr(rest, length(split_part(rest, ':', 1)) + 2)
            );
        else
            return next jsonb_build_object('source_system', systems, 'entity', first_part, 'entity_id', rest);
        end if;
    else
        return next jsonb_build_object('source_system', systems, 'source_id', of_key);
        if systems ? first_part and of_key like '%:%' then
            return next jsonb_build_object('source_system', first_part, 'source_id', rest);
        end if;
    end if;
end
$$;

create function ops.trace_load(of_load bigint, at_depth integer, named text, of_key text)
returns setof ops.trace_step
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- A load, the record in its source, and the snapshot of the source that it was read in.
declare
    l ops.load;
    s ops.source_snapshot;
begin
    select * into l from ops.load as o where o.load_id = of_load;
    if l.load_id is null then
        return next row(at_depth, 'ops.load', of_load, 'missing load', of_load, null, null, null, null)::ops.trace_step;
        return;
    end if;
    return next row(
        at_depth, 'ops.load', l.load_id, named, l.load_id, null, l.run_id, l.finished_at,
        jsonb_build_object(
            'source', l.source, 'table', l.table_name, 'mode', l.mode, 'status', l.status, 'attempt', l.attempt,
            'rows_read', l.rows_read
        )
    )::ops.trace_step;
    return next row(
        at_depth + 1, l.source || '.' || l.table_name, of_key, 'source record', null, null, l.run_id, null, null
    )::ops.trace_step;
    select * into s from ops.source_snapshot as o where o.source = l.source and o.run_id = l.run_id;
    if l.is_shared_snapshot then
        return next row(
            at_depth + 1, 'ops.source_snapshot', l.snapshot, 'snapshot of the run', l.load_id, null, l.run_id,
            case when s.snapshot_name = l.snapshot then s.exported_at end, null
        )::ops.trace_step;
    else
        return next row(
            at_depth + 1, 'ops.load', l.snapshot, 'snapshot of the load', l.load_id, null, l.run_id, l.started_at, null
        )::ops.trace_step;
    end if;
end
$$;

create function ops.trace_raw(of_relation text, wanted jsonb, made_from bigint, at_depth integer)
returns setof ops.trace_step
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- A row of raw, the load that the row of core was made from, and the one that wrote raw's row since.
declare
    of_key constant text := (select string_agg(w.value, ':') from jsonb_each_text(wanted) as w);
    r jsonb;
begin
    select t.* into r
    from ops.trace_rows(of_relation, wanted, array['_load_id', '_loaded_at', '_deleted_at']) as t
    limit 1;
    if r is null then
        return next row(
            at_depth, of_relation, of_key, 'missing row', null, null, null, null, null
        )::ops.trace_step;
    else
        return next row(
            at_depth, of_relation, of_key, case when r ->> '_deleted_at' is null then 'row' else 'deleted row' end,
            (r ->> '_load_id')::bigint, null, null,
            coalesce(r ->> '_deleted_at', r ->> '_loaded_at')::timestamptz,
            jsonb_strip_nulls(
                jsonb_build_object('loaded_at', r -> '_loaded_at', 'deleted_at', r -> '_deleted_at')
            )
        )::ops.trace_step;
    end if;
    if made_from is not null then
        return query select * from ops.trace_load(made_from, at_depth + 1, 'load', of_key);
    end if;
    if r is not null and (r ->> '_load_id')::bigint is distinct from made_from then
        return query select * from ops.trace_load(
            (r ->> '_load_id')::bigint, at_depth + 1, case when made_from is null then 'load' else 'later load' end,
            of_key
        );
    end if;
end
$$;

create function ops.trace_quarantine(of_relation text, of_source text, of_key text, at_depth integer)
returns setof ops.trace_step
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select row(
        at_depth,
        'ops.quarantine',
        q.source || ':' || q.source_key,
        case when q.released_at is null then 'quarantined' else 'was quarantined' end,
        null,
        null,
        q.last_run_id,
        q.last_seen_at,
        jsonb_strip_nulls(jsonb_build_object(
            'rule', q.rule, 'reason', q.reason, 'first_seen_at', q.first_seen_at, 'first_run_id', q.first_run_id,
            'released_at', q.released_at
        ))
    )::ops.trace_step
    from ops.quarantine as q
    where q.target = of_relation and q.source = of_source and q.source_key = of_key
    order by q.released_at is not null, q.rule
$$;

create function ops.trace_origin(of_relation text, of_definition bigint, of_row jsonb, at_depth integer)
returns setof ops.trace_step
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The records that a row is made from, and the relations that were joined to them.
declare
    g record;
begin
    for g in
        select
            d.relation,
            (
                select jsonb_object_agg(c.input, substr(of_row ->> c.output, length(d.prefix) + 1))
                from unnest(d.input_columns, d.output_columns) as c (input, output)
            ) as wanted
        from ops.lineage_definition_grain as d
        where d.definition_id = of_definition
            and of_row @> d.condition
            and starts_with(of_row ->> d.output_columns[1], d.prefix)
            and not exists (
                select from ops.lineage_definition_grain as o
                where o.definition_id = of_definition
                    and of_row @> o.condition
                    and length(o.prefix) > length(d.prefix)
                    and starts_with(of_row ->> o.output_columns[1], o.prefix)
            )
        order by d.position
    loop
        if g.relation like 'raw.%' then
            return query select * from ops.trace_raw(
                g.relation, g.wanted, (of_row ->> 'raw_load_id')::bigint, at_depth
            );
        elsif at_depth < 10 then
            return query select * from ops.trace_made(g.relation, g.wanted, at_depth);
        end if;
    end loop;
    return query
    select
        at_depth, e.input_relation, null::text, 'joined relation', null::bigint, null::bigint, null::text,
        null::timestamptz, jsonb_build_object('columns', jsonb_object_agg(e.input_column, e.outputs order by e.input_column))
    from (
        select i.input_relation, i.input_column, jsonb_agg(i.output_column order by i.output_column) as outputs
        from ops.lineage_definition_edge as i
        where i.definition_id = of_definition
            and i.input_relation not in (
                select d.relation from ops.lineage_definition_grain as d where d.definition_id = of_definition
            )
        group by i.input_relation, i.input_column
    ) as e
    group by e.input_relation
    order by e.input_relation;
end
$$;

create function ops.trace_made(of_relation text, wanted jsonb, at_depth integer) returns setof ops.trace_step
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Rows of core or search, the run that wrote each, its entries in quarantine, and what it was made from.
declare
    r jsonb;
    run ops.transform_run;
    own bigint;
    definition bigint;
    latest bigint;
    quarantine_key text;
begin
    for r in
        select t.* from ops.trace_rows(
            of_relation, wanted, array[
                'source_system', 'source_id', 'account_id', 'entity', 'entity_id', 'raw_load_id', 'transform_run_id',
                'deleted_at', 'issues', 'linked_to'
            ] || case when of_relation = 'core.account_link' then array['reason', 'state'] else '{}' end
        ) as t
        order by t ->> 'source_system', t ->> 'source_id'
    loop
        select o.definition_id into own
        from ops.lineage_run as o
        inner join ops.lineage_definition as d on o.definition_id = d.definition_id
        where o.transform_run_id = (r ->> 'transform_run_id')::bigint and d.target = of_relation;
        select c.definition_id, c.transform_run_id into definition, latest
        from ops.lineage_current as c
        where c.target = of_relation
        order by c.source = (r ->> 'source_system') desc, c.transform_run_id desc
        limit 1;
        select * into run
        from ops.transform_run as o
        where o.transform_run_id = coalesce((r ->> 'transform_run_id')::bigint, latest);
        return next row(
            at_depth, of_relation, ops.trace_key(of_relation, r),
            case when r ->> 'deleted_at' is null then 'row' else 'deleted row' end,
            (r ->> 'raw_load_id')::bigint, (r ->> 'transform_run_id')::bigint,
            case when r ? 'transform_run_id' then run.run_id end, (r ->> 'deleted_at')::timestamptz,
            nullif(jsonb_strip_nulls(jsonb_build_object(
                'issues', r -> 'issues', 'reason', r -> 'reason', 'state', r -> 'state', 'linked_to', r -> 'linked_to'
            )), '{}')
        )::ops.trace_step;
        return next row(
            at_depth + 1, 'ops.transform_run', coalesce(r ->> 'transform_run_id', latest::text),
            -- Documents do not say which run wrote them.
            case
                when run.transform_run_id is null then 'missing transform run'
                when r ? 'transform_run_id' then 'transform run'
                else 'latest transform run'
            end,
            null, coalesce((r ->> 'transform_run_id')::bigint, latest), run.run_id, run.started_at,
            jsonb_strip_nulls(jsonb_build_object(
                'source', run.source, 'status', run.status, 'rows_read', run.rows_read, 'inserted', run.inserted,
                'updated', run.updated, 'unchanged', run.unchanged, 'quarantined', run.quarantined,
                'deleted', run.deleted,
                'lineage', case
                    when definition is null then 'none is recorded'
                    when own is null and r ? 'transform_run_id' then format('of transform run %s', latest)
                end
            ))
        )::ops.trace_step;
        quarantine_key := coalesce(r ->> 'entity_id', r ->> 'source_id');
        if of_relation = 'core.account' then
            quarantine_key := r ->> 'account_id';
        end if;
        return query
        select q.*
        from ops.trace_quarantine(of_relation, r ->> 'source_system', quarantine_key, at_depth + 1) as q
        where q.what = 'quarantined';
        return query
        select * from ops.trace_origin(of_relation, coalesce(own, definition), r, at_depth + 1);
    end loop;
end
$$;

create function ops.trace_absent(of_relation text, of_key text) returns setof ops.trace_step
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- A key without a row: its entries in quarantine, and the records that it would be made from.
declare
    w jsonb;
    c record;
begin
    return next row(0, of_relation, of_key, 'not found', null, null, null, null, null)::ops.trace_step;
    for c in
        -- An account is of no single source.
        select distinct on (case when of_relation <> 'core.account' then l.source end) l.source, l.definition_id
        from ops.lineage_current as l
        where l.target = of_relation
        order by case when of_relation <> 'core.account' then l.source end, l.transform_run_id desc
    loop
        for w in select t.* from ops.trace_wanted(of_relation, of_key) as t loop
            continue when jsonb_typeof(w -> 'source_system') = 'string' and w ->> 'source_system' <> c.source;
            w := w || jsonb_build_object('source_system', c.source);
            return query
            select q.* from ops.trace_quarantine(
                of_relation, c.source, coalesce(w ->> 'source_id', w ->> 'account_id'), 1
            ) as q;
            return query
            select o.* from ops.trace_origin(of_relation, c.definition_id, w, 1) as o
            where o.depth > 1 or o.what not in ('missing row', 'joined relation');
        end loop;
    end loop;
end
$$;

create function ops.trace_uses(of_relation text, of_row jsonb, at_depth integer) returns setof ops.trace_step
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The rows that are made from a row of raw or core, and those made from them.
declare
    g record;
    r jsonb;
begin
    for g in
        select distinct c.target, d.relation, d.input_columns, d.output_columns, d.prefix, d.condition
        from ops.lineage_definition_grain as d
        inner join ops.lineage_current as c on d.definition_id = c.definition_id
        where d.relation = of_relation
        order by c.target, d.prefix
    loop
        for r in
            select t.*
            from ops.trace_rows(
                g.target,
                jsonb_build_object('source_system', jsonb_build_array('odoo', 'ace')) || g.condition || (
                    select jsonb_object_agg(c.output, g.prefix || (of_row ->> c.input))
                    from unnest(g.input_columns, g.output_columns) as c (input, output)
                ),
                array[
                    'source_system', 'source_id', 'account_id', 'entity', 'entity_id', 'raw_load_id',
                    'transform_run_id', 'deleted_at'
                ]
            ) as t
            -- A row whose key begins with a longer prefix is made from another relation.
            where not exists (
                select from ops.lineage_definition_grain as o
                inner join ops.lineage_current as c on o.definition_id = c.definition_id
                where c.target = g.target
                    and t @> o.condition
                    and length(o.prefix) > length(g.prefix)
                    and starts_with(t ->> o.output_columns[1], o.prefix)
            )
            order by t ->> 'source_system', t ->> 'source_id'
        loop
            return next row(
                at_depth, g.target, ops.trace_key(g.target, r),
                case when r ->> 'deleted_at' is null then 'row' else 'deleted row' end,
                (r ->> 'raw_load_id')::bigint, (r ->> 'transform_run_id')::bigint,
                (select o.run_id from ops.transform_run as o where o.transform_run_id = (r ->> 'transform_run_id')::bigint),
                (r ->> 'deleted_at')::timestamptz, null
            )::ops.trace_step;
            if at_depth < 10 then
                return query select * from ops.trace_uses(g.target, r, at_depth + 1);
            end if;
        end loop;
    end loop;
end
$$;

create function ops.trace_readers(of_relation text, at_depth integer) returns setof ops.trace_step
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select row(
        at_depth, e.target, null, 'read by', null, null, null, null,
        jsonb_build_object('columns', jsonb_object_agg(e.input_column, e.outputs order by e.input_column))
    )::ops.trace_step
    from (
        select c.target, i.input_column, jsonb_agg(distinct i.output_column order by i.output_column) as outputs
        from ops.lineage_definition_edge as i
        inner join ops.lineage_current as c on i.definition_id = c.definition_id
        where i.input_relation = of_relation
            and not exists (
                select from ops.lineage_definition_grain as d
                where d.definition_id = i.definition_id and d.relation = of_relation
            )
        group by c.target, i.input_column
    ) as e
    group by e.target
    order by e.target
$$;

create function ops.trace_back_steps(of_relation text, of_key text) returns setof ops.trace_step
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    w jsonb;
    r jsonb;
    is_there boolean := false;
    candidates jsonb[];
begin
    if of_relation like 'raw.%' then
        -- By the columns that core knows its records by, else by its primary key.
        select array_agg(distinct jsonb_build_object(k.name, of_key)) into candidates
        from (
            select d.input_columns[1] as name
            from ops.lineage_definition_grain as d
            where d.relation = of_relation and cardinality(d.input_columns) = 1
            union
            select a.attname
            from pg_index as i
            inner join pg_class as c on c.oid = i.indrelid and c.relnamespace = 'raw'::regnamespace
            inner join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
            where i.indisprimary and i.indnkeyatts = 1 and 'raw.' || c.relname = of_relation
        ) as k;
    else
        select array_agg(t.*) into candidates from ops.trace_wanted(of_relation, of_key) as t;
    end if;
    foreach w in array coalesce(candidates, '{}') loop
        for r in
            select t.* from ops.trace_rows(
                of_relation, w, array[
                    'source_system', 'source_id', 'account_id', 'entity', 'entity_id', 'raw_load_id', 'transform_run_id',
                    'deleted_at', '_load_id', '_loaded_at', '_deleted_at'
                ]
            ) as t
        loop
            is_there := true;
            return next row(
                0, of_relation,
                case when of_relation like 'raw.%' then of_key else ops.trace_key(of_relation, r) end,
                case when coalesce(r ->> 'deleted_at', r ->> '_deleted_at') is null then 'row' else 'deleted row' end,
                coalesce(r ->> '_load_id', r ->> 'raw_load_id')::bigint, (r ->> 'transform_run_id')::bigint, null,
                coalesce(r ->> '_deleted_at', r ->> 'deleted_at', r ->> '_loaded_at')::timestamptz, null
            )::ops.trace_step;
            return query select * from ops.trace_uses(of_relation, w || r, 1);
        end loop;
    end loop;
    if not is_there then
        return next row(0, of_relation, of_key, 'not found', null, null, null, null, null)::ops.trace_step;
        -- What was made from a record that raw has no more is still there.
        foreach w in array coalesce(candidates, '{}') loop
            return query select * from ops.trace_uses(of_relation, w, 1);
        end loop;
    end if;
    return query select * from ops.trace_readers(of_relation, 1);
end
$$;

create function ops.trace_known(schemas text[]) returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(n.nspname || '.' || c.relname order by n.nspname, c.relname), '{}')
    from pg_class as c
    inner join pg_namespace as n on c.relnamespace = n.oid
    where
        n.nspname = any (schemas) and c.relkind in ('r', 'p') and not c.relispartition
        and (
            n.nspname = 'raw' or n.nspname || '.' || c.relname = 'search.document'
            or exists (
                select from pg_attribute as a
                where a.attrelid = c.oid and a.attname = 'transform_run_id' and not a.attisdropped
            )
        )
$$;

create function ops.trace(traced text, traced_key text)
returns table (
    step bigint,
    depth integer,
    relation text,
    key text,
    what text,
    load_id bigint,
    transform_run_id bigint,
    run_id text,
    at timestamptz,
    detail jsonb
)
language plpgsql
stable
strict
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
begin
    if traced <> all (ops.trace_known(array['core', 'search'])) then
        raise exception using
            errcode = 'undefined_table',
            message = format('%L is no table that can be traced', left(traced, 100)),
            hint = format(
                'Known are %s; for a record of raw there is ops.trace_back.',
                array_to_string(ops.trace_known(array['core', 'search']), ', ')
            );
    end if;
    return query
    with made as (
        select t.*, row_number() over (order by w.number, t.ordinality) as number
        from ops.trace_wanted(traced, traced_key) with ordinality as w (wanted, number)
        cross join lateral ops.trace_made(traced, w.wanted, 0) with ordinality as t
    )

    -- Records of one account are made with the same joins: they are told once.
    select row_number() over (order by m.number), m.depth, m.relation, m.key, m.what, m.load_id, m.transform_run_id,
        m.run_id, m.at, m.detail
    from made as m
    where m.what <> 'joined relation' or not exists (
        select from made as o
        where o.what = m.what and o.relation = m.relation and o.detail = m.detail and o.number < m.number
    )
    order by m.number;
    if not found then
        return query
        select row_number() over (order by t.ordinality), t.depth, t.relation, t.key, t.what, t.load_id,
            t.transform_run_id, t.run_id, t.at, t.detail
        from ops.trace_absent(traced, traced_key) with ordinality as t
        order by t.ordinality;
    end if;
end
$$;
comment on function ops.trace(text, text) is
'From a row of core or search back to its source, step by step: the run that wrote it, the rows that it was made from '
'down to raw, their loads and snapshots of the source; depth tells which step leads on from which.';

create function ops.trace_back(traced text, traced_key text)
returns table (
    step bigint,
    depth integer,
    relation text,
    key text,
    what text,
    load_id bigint,
    transform_run_id bigint,
    run_id text,
    at timestamptz,
    detail jsonb
)
language plpgsql
stable
strict
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
begin
    if traced <> all (ops.trace_known(array['raw', 'core', 'search'])) then
        raise exception using
            errcode = 'undefined_table',
            message = format('%L is no table that can be traced', left(traced, 100)),
            hint = 'Name a table of raw or core, such as raw.odoo_res_partner.';
    end if;
    return query
    select row_number() over (order by t.ordinality), t.depth, t.relation, t.key, t.what, t.load_id, t.transform_run_id,
        t.run_id, t.at, t.detail
    from ops.trace_back_steps(traced, traced_key) with ordinality as t
    order by t.ordinality;
end
$$;
comment on function ops.trace_back(text, text) is
'From a record of raw, or a row of core, to the rows that are made from it, and the tables that read its relation.';

revoke execute on function
ops.trace(text, text), ops.trace_back(text, text), ops.trace_back_steps(text, text), ops.trace_absent(text, text),
ops.trace_uses(text, jsonb, integer), ops.trace_readers(text, integer), ops.trace_known(text[]),
ops.trace_made(text, jsonb, integer), ops.trace_origin(text, bigint, jsonb, integer),
ops.trace_quarantine(text, text, text, integer), ops.trace_raw(text, jsonb, bigint, integer),
ops.trace_load(bigint, integer, text, text), ops.trace_wanted(text, text), ops.trace_key(text, jsonb),
ops.trace_rows(text, jsonb, text[])
from public;
grant execute on function ops.trace(text, text), ops.trace_back(text, text)
to revops_api, revops_transform, revops_audit;

reset role;
set local role revops_owner;
revoke create on schema ops from revops_quality;
