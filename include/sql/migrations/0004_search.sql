-- Purpose: documents, embedding models, vectors and the hybrid search over them.
-- Vectors of different models never mix: the model is part of the key, and every query names one model.

set local role revops_owner;

create table search.document (
    document_id bigint generated always as identity primary key,
    source_system text not null,
    entity text not null,
    entity_id text not null,
    title text not null,
    text text not null,
    text_hash bytea not null,
    stage text,
    status text,
    country_code text,
    amount numeric,
    close_date date,
    text_vector tsvector generated always as (to_tsvector('simple', text)) stored,
    unique (source_system, entity, entity_id)
);
create index document_text_hash_idx on search.document (text_hash);
create index document_text_vector_idx on search.document using gin (text_vector);
create index document_title_trgm_idx on search.document using gin (title gin_trgm_ops);
comment on table search.document is 'What search can find: one text per core entity, without personal data.';

create table search.embedding_model (
    model_id integer generated always as identity primary key,
    model_key text not null unique,
    name text not null,
    dimensions integer not null check (dimensions between 1 and 4000),
    sparse_dimensions integer not null,
    is_current boolean not null default false,
    registered_at timestamptz not null default now()
);
create unique index embedding_model_current_idx on search.embedding_model (is_current) where is_current;

-- Keyed by the text, not by the document: equal texts are encoded once, and a text that comes back costs nothing.
create table search.embedding (
    text_hash bytea not null,
    model_id integer not null references search.embedding_model (model_id),
    dense halfvec not null,
    sparse sparsevec not null,
    tokens integer not null,
    is_truncated boolean not null,
    encoded_at timestamptz not null default now(),
    primary key (model_id, text_hash)
);
alter table search.embedding alter column dense set storage plain;

create function search.redact(value text) returns text
language sql
immutable
parallel safe
return regexp_replace(
    regexp_replace(
        regexp_replace(value, '[^\s<>"]+@[^\s<>"]+\.[^\s<>"]+', ' ', 'g'),
        '\+[0-9][0-9 ().\-/]{6,17}[0-9]', ' ', 'g'
    ),
    '\(?\m[0-9]{3,4}\)?[ .\-][0-9]{3}[ .\-][0-9]{3,4}\M', ' ', 'g'
);
comment on function search.redact(text) is
'A text without the e-mail addresses and phone numbers that people type into titles and descriptions. '
'Dates and 12-digit account numbers stay.';
grant execute on function search.redact(text) to revops_embed;

create function search.hybrid(
    query text,
    query_dense halfvec,
    query_sparse sparsevec,
    model integer,
    result_limit integer default 10,
    entities text[] default null
) returns table (
    document_id bigint,
    entity text,
    entity_id text,
    title text,
    score double precision,
    dense_rank bigint,
    sparse_rank bigint,
    text_rank bigint,
    title_rank bigint
)
language sql
stable
parallel safe
set search_path = search, public, pg_temp
as $$
    -- Reciprocal rank fusion with k = 60 (Cormack, Clarke, Buettcher 2009) over four rankings of 100 candidates each.
    -- Weights: meaning and title lead; sparse 0.3 as in BGE-M3's own mix of scores; single words are noisy across languages.
    with eligible as materialized (
        select d.document_id, d.text_hash, d.title, d.text_vector
        from search.document as d
        where hybrid.entities is null or d.entity = any(hybrid.entities)
    ),
    dense as (
        select c.document_id, row_number() over (order by c.distance, c.document_id) as position
        from (
            select d.document_id, e.dense <=> hybrid.query_dense as distance
            from eligible as d
            inner join search.embedding as e on e.text_hash = d.text_hash and e.model_id = hybrid.model
            order by distance, d.document_id
            limit 100
        ) as c
    ),
    sparse as (
        select c.document_id, row_number() over (order by c.distance, c.document_id) as position
        from (
            select d.document_id, e.sparse <#> hybrid.query_sparse as distance
            from eligible as d
            inner join search.embedding as e on e.text_hash = d.text_hash and e.model_id = hybrid.model
            order by distance, d.document_id
            limit 100
        ) as c
        where c.distance < 0
    ),
    -- Words that stand in more than a tenth of all documents tell nothing, in whatever language.
    query_words as (
        select string_agg(quote_literal(w.lexeme), ' | ')::tsquery as tsquery
        from unnest(to_tsvector('simple', hybrid.query)) as w
        where (
            select count(*) from search.document as d where d.text_vector @@ quote_literal(w.lexeme)::tsquery
        ) <= greatest(10, (select count(*) from search.document) / 10)
    ),
    words as (
        select c.document_id, row_number() over (order by c.relevance desc, c.document_id) as position
        from (
            select d.document_id, ts_rank_cd(d.text_vector, q.tsquery) as relevance
            from eligible as d
            cross join query_words as q
            where d.text_vector @@ q.tsquery
            order by relevance desc, d.document_id
            limit 100
        ) as c
    ),
    titles as (
        select c.document_id, row_number() over (order by c.similarity desc, c.document_id) as position
        from (
            select d.document_id, word_similarity(hybrid.query, d.title) as similarity
            from eligible as d
            where word_similarity(hybrid.query, d.title) > 0.3
            order by similarity desc, d.document_id
            limit 100
        ) as c
    )
    select
        d.document_id,
        d.entity,
        d.entity_id,
        d.title,
        coalesce(1.0 / (60 + dense.position), 0) + coalesce(0.3 / (60 + sparse.position), 0)
        + coalesce(0.3 / (60 + words.position), 0) + coalesce(1.0 / (60 + titles.position), 0) as score,
        dense.position as dense_rank,
        sparse.position as sparse_rank,
        words.position as text_rank,
        titles.position as title_rank
    from search.document as d
    left join dense on d.document_id = dense.document_id
    left join sparse on d.document_id = sparse.document_id
    left join words on d.document_id = words.document_id
    left join titles on d.document_id = titles.document_id
    where coalesce(dense.position, sparse.position, words.position, titles.position) is not null
    order by score desc, d.document_id
    limit hybrid.result_limit
$$;
comment on function search.hybrid(text, halfvec, sparsevec, integer, integer, text[]) is
'The documents that match a query best, with their rank by meaning, by weighted words, by full text and by title. '
'Null vectors leave those rankings out.';
grant execute on function search.hybrid(text, halfvec, sparsevec, integer, integer, text[]) to
revops_api, revops_embed, revops_quality;
