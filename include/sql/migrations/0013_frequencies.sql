-- Purpose: how often words and tokens occur, so that no search has to count, and a cache of the vectors of queries.

set local role revops_owner;

create table search.token_frequency (
    model_id integer not null,
    token integer not null,
    texts integer not null,
    primary key (model_id, token)
);
comment on table search.token_frequency is
'In how many texts a token has a weight, counted by loads; tokens of fewer than 20 texts are left out.';

create table search.lexeme (
    lexeme text primary key,
    documents integer not null
);
create index lexeme_lexeme_trgm_idx on search.lexeme using gin (lexeme gin_trgm_ops) with (fastupdate = off);
comment on table search.lexeme is 'In how many documents a word stands, counted by loads.';

-- One row a model, and one with model_id 0 for the words of documents.
create table search.frequency_count (
    model_id integer primary key,
    counted bigint not null,
    mean_words real not null,
    changed bigint not null,
    counted_at timestamptz not null default now()
);
comment on column search.frequency_count.changed is 'Texts that came or went since they were counted.';

create function search.count_lexemes() returns bigint
language plpgsql
set search_path = search, public, pg_temp
as $$
declare
    documents bigint;
begin
    create temp table counted on commit drop as
    select s.word as lexeme, s.ndoc as documents
    from ts_stat('select text_vector from search.document') as s;
    insert into search.lexeme as l (lexeme, documents)
    select c.lexeme, c.documents from pg_temp.counted as c
    on conflict (lexeme) do update set documents = excluded.documents where l.documents <> excluded.documents;
    delete from search.lexeme as l
    where not exists (select from pg_temp.counted as c where c.lexeme = l.lexeme);
    drop table pg_temp.counted;
    select count(*) into documents from search.document;
    insert into search.frequency_count (model_id, counted, mean_words, changed)
    select 0, documents, coalesce(avg(d.word_count), 1), 0 from search.document as d
    on conflict (model_id) do update
    set counted = excluded.counted, mean_words = excluded.mean_words, changed = 0, counted_at = now();
    return documents;
end
$$;
comment on function search.count_lexemes() is 'Bring search.lexeme to the documents that there are; returns how many.';

create function search.count_tokens(model integer) returns bigint
language plpgsql
set search_path = search, public, pg_temp
as $$
declare
    texts bigint;
    -- Of many texts a sample tells which tokens are common, and only that is asked.
    share double precision;
begin
    select count(*) into texts from search.embedding as e where e.model_id = count_tokens.model;
    share := least(1.0, 200000.0 / greatest(texts, 1));
    create temp table counted on commit drop as
    select t.token, round(count(*) / share)::integer as texts
    from search.embedding as e tablesample system (100 * share) repeatable (1)
    cross join unnest(e.token_ids) as t (token)
    where e.model_id = count_tokens.model
    group by t.token
    having count(*) / share >= 20;
    insert into search.token_frequency as f (model_id, token, texts)
    select count_tokens.model, c.token, c.texts from pg_temp.counted as c
    on conflict (model_id, token) do update set texts = excluded.texts where f.texts <> excluded.texts;
    delete from search.token_frequency as f
    where f.model_id = count_tokens.model and not exists (select from pg_temp.counted as c where c.token = f.token);
    drop table pg_temp.counted;
    insert into search.frequency_count (model_id, counted, mean_words, changed)
    values (count_tokens.model, texts, 0, 0)
    on conflict (model_id) do update set counted = excluded.counted, changed = 0, counted_at = now();
    return texts;
end
$$;
comment on function search.count_tokens(integer) is
'Bring search.token_frequency to the vectors that a model has; returns how many.';
grant execute on function search.count_lexemes(), search.count_tokens(integer) to revops_embed;


create table search.query_vector (
    model_id integer not null,
    query_hash bytea not null,
    dense halfvec(1024) not null,
    sparse sparsevec(250002) not null,
    used_at timestamptz not null default now(),
    primary key (model_id, query_hash)
);
create index query_vector_used_at_idx on search.query_vector (used_at);
comment on table search.query_vector is
'Vectors of the queries that were asked last, by SHA-256 of the query; the queries themselves are not kept.';

create function search.keep_query_vector(
    model integer, hash bytea, query_dense halfvec, query_sparse sparsevec, most integer default 10000
) returns void
language plpgsql
security definer
set search_path = pg_catalog, public, pg_temp
as $$
begin
    if length(hash) is distinct from 32 then
        raise exception 'a query is known by its SHA-256' using errcode = 'invalid_parameter_value';
    end if;
    insert into search.query_vector as q (model_id, query_hash, dense, sparse)
    select m.model_id, hash, query_dense, query_sparse from search.embedding_model as m where m.model_id = model
    on conflict (model_id, query_hash) do update set used_at = now();
    delete from search.query_vector as q
    where q.used_at < (
        select k.used_at from search.query_vector as k order by k.used_at desc
        offset greatest(least(most, 10000), 1) - 1 limit 1
    );
end
$$;
comment on function search.keep_query_vector(integer, bytea, halfvec, sparsevec, integer) is
'Keep the vectors of a query, or note that they were used; those that were used longest ago go.';
grant execute on function search.keep_query_vector(integer, bytea, halfvec, sparsevec, integer) to revops_api;
