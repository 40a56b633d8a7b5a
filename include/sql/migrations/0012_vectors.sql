-- Purpose: vectors in one partition a model, built aside and put in place whole.
-- Vectors are dropped, not moved: they are derived data, and the encoder that comes with this version has another
-- model key, so that no query could be compared with the old ones. The next run fills search.embedding anew.

set local role revops_owner;

drop function search.hybrid(text, halfvec, sparsevec, integer, integer, text[]);
drop table search.embedding;

alter table search.embedding_model
add column was_current boolean not null default false,
add column last_used_at timestamptz not null default now(),
add constraint embedding_model_dimensions_fit check (dimensions <= 1024) not valid,
add constraint embedding_model_sparse_dimensions_fit check (sparse_dimensions between 1 and 250002) not valid;
comment on column search.embedding_model.was_current is
'Whether searches used it until another took over: its vectors answer queries that it encoded until they are dropped.';
comment on column search.embedding_model.last_used_at is
'When a run wrote vectors with it, or searches changed over to another one.';
-- No model has vectors now, and the first that has some serves searches at once.
update search.embedding_model set is_current = false;

-- Keyed by the text, not by the document: equal texts are encoded once, and a text that comes back costs nothing.
create table search.embedding (
    model_id integer not null,
    text_hash bytea not null,
    dense halfvec(1024) not null,
    sparse sparsevec(250002) not null,
    token_ids integer[] not null,
    tokens integer not null,
    is_truncated boolean not null,
    encoded_at timestamptz not null default now(),
    primary key (model_id, text_hash)
) partition by list (model_id);
alter table search.embedding alter column dense set storage plain;
comment on table search.embedding is
'Vectors of texts, one partition a model: search.embedding_<model_id>, made and swapped by functions of this schema.';
comment on column search.embedding.dense is
'Of unit length. A model of fewer dimensions has zeros behind them, which change no cosine.';
comment on column search.embedding.token_ids is 'The tokens that sparse has a weight for, counted from 0.';

create function search.begin_load(model integer) returns text
language plpgsql
security definer
set search_path = pg_catalog, public, pg_temp
as $$
declare
    aside text := format('embedding_%s_next', model);
begin
    if not exists (select from search.embedding_model as m where m.model_id = model) then
        raise exception 'search.embedding_model has no model %', model using errcode = 'no_data_found';
    end if;
    -- What a load left behind that was killed.
    execute format('drop table if exists search.%I', aside);
    -- Sparse weights and tokens stay beside the dense vector: two rows a page, and nothing to fetch from elsewhere.
    execute format(
        'create table search.%I (like search.embedding including defaults including storage, '
        'constraint embedding_model_id check (model_id = %s)) with (toast_tuple_target = 8160)',
        aside, model
    );
    return aside;
end
$$;
comment on function search.begin_load(integer) is
'Make the empty table search.embedding_<model>_next, in which a load builds the model''s vectors anew.';

create function search.index_load(model integer) returns void
language plpgsql
security definer
set search_path = pg_catalog, public, pg_temp
as $$
declare
    aside text := format('embedding_%s_next', model);
begin
    execute format('alter table search.%I add constraint %I primary key (model_id, text_hash)', aside, aside || '_pkey');
    execute format(
        'create index %I on search.%I using hnsw (dense halfvec_cosine_ops) with (m = 16, ef_construction = 64)',
        aside || '_dense_idx', aside
    );
    execute format(
        'create index %I on search.%I using gin (token_ids) with (fastupdate = off)', aside || '_token_ids_idx', aside
    );
    execute format('analyze search.%I', aside);
end
$$;
comment on function search.index_load(integer) is
'Give search.embedding_<model>_next its key and indexes; maintenance_work_mem and parallel workers are the caller''s.';

create function search.finish_load(model integer) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, public, pg_temp
as $$
declare
    ours text := format('embedding_%s', model);
    aside text := ours || '_next';
    suffix text;
    returned bigint;
begin
    -- An export that runs now decides by the old vectors which texts lack one; it is short.
    perform set_config('lock_timeout', '10min', true);
    perform pg_advisory_xact_lock(hashtextextended('search.embedding texts', 0));
    -- A text that had no document when the load looked may have one again: the export counts on its vector.
    execute format(
        'insert into search.%I select e.* from search.embedding as e where e.model_id = %s '
        'and exists (select from search.document as d where d.text_hash = e.text_hash) '
        'and not exists (select from search.%I as n where n.text_hash = e.text_hash)', aside, model, aside
    );
    get diagnostics returned = row_count;
    -- Behind this lock every new search waits: better to fail and come back than to wait for a long one.
    perform set_config('lock_timeout', '500ms', true);
    lock table search.embedding in access exclusive mode;
    if to_regclass(format('search.%I', ours)) is not null then
        execute format('drop table search.%I', ours);
    end if;
    execute format('alter table search.%I rename to %I', aside, ours);
    foreach suffix in array array['_pkey', '_dense_idx', '_token_ids_idx'] loop
        execute format('alter index search.%I rename to %I', aside || suffix, ours || suffix);
    end loop;
    -- The check constraint says that the rows are the model's, so nothing is scanned.
    execute format('alter table search.embedding attach partition search.%I for values in (%s)', ours, model);
    return returned;
end
$$;
comment on function search.finish_load(integer) is
'Put search.embedding_<model>_next in the place of the model''s partition. '
'Fails with lock_not_available after half a second where a search holds the table: try again. '
'Returns how many vectors came back because their text has a document again.';

create function search.drop_vectors(model integer) returns void
language plpgsql
security definer
set search_path = pg_catalog, public, pg_temp
as $$
begin
    if exists (select from search.embedding_model as m where m.model_id = model and m.is_current) then
        raise exception 'searches use model %', model using errcode = 'object_in_use';
    end if;
    perform set_config('lock_timeout', '10min', true);
    perform pg_advisory_xact_lock(hashtextextended('search.embedding texts', 0));
    perform set_config('lock_timeout', '500ms', true);
    lock table search.embedding in access exclusive mode;
    execute format('drop table if exists search.%I, search.%I',
        format('embedding_%s', model), format('embedding_%s_next', model));
    update search.embedding_model as m set was_current = false where m.model_id = model;
    delete from search.token_frequency as f where f.model_id = model;
    delete from search.query_vector as q where q.model_id = model;
    delete from search.frequency_count as c where c.model_id = model;
end
$$;
comment on function search.drop_vectors(integer) is 'Remove all vectors of a model that searches do not use.';

grant execute on function search.begin_load(integer), search.index_load(integer), search.finish_load(integer),
search.drop_vectors(integer) to revops_embed;
