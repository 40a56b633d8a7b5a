-- Purpose: search.hybrid, search.similar and what they are made of.

set local role revops_owner;

-- An extension defines its settings when it is loaded into a session; before that only a superuser may store them.
do $$
begin
    perform '[1]'::public.halfvec, public.show_limit();
end
$$;

create function search.document_filter(
    entities text[], sources text[], stages text[], teams text[], countries text[],
    date_from date, date_to date, amount_from numeric, amount_to numeric
) returns text
language sql
immutable
parallel safe
return concat(
    case when entities is not null then format(' and d.entity = any(%L::text[])', entities) end,
    case when sources is not null then format(' and d.source_system = any(%L::text[])', sources) end,
    case when stages is not null then format(' and d.stage = any(%L::text[])', stages) end,
    case when teams is not null then format(' and d.team = any(%L::text[])', teams) end,
    case when countries is not null then format(' and d.country_code = any(%L::text[])', countries) end,
    case when date_from is not null then format(' and d.close_date >= %L::date', date_from) end,
    case when date_to is not null then format(' and d.close_date <= %L::date', date_to) end,
    case when amount_from is not null then format(' and d.amount >= %L::numeric', amount_from) end,
    case when amount_to is not null then format(' and d.amount <= %L::numeric', amount_to) end
);
comment on function search.document_filter(text[], text[], text[], text[], text[], date, date, numeric, numeric) is
'Conditions over search.document as d, each after an "and"; a null filter is none, and bounds belong to the range.';

create function search.query_words(query text)
returns table (place integer, lexeme text, similarity real, documents integer)
language sql
stable
set search_path = search, public, pg_temp
set "pg_trgm.similarity_threshold" = 0.4
as $$
    -- AWS shows account numbers in groups of four digits.
    with cleaned as (
        select regexp_replace(left(query, 4000), '\m(\d{4})[- ](\d{4})[- ](\d{4})\M', '\1\2\3', 'g') as text
    ),
    typed as (
        select l.lexeme, l.positions[1]::bigint as place
        from cleaned as c
        cross join unnest(to_tsvector('simple', c.text)) as l
        union all
        -- Keys as they are typed: the parser would split them.
        select left(btrim(w.word, '.:?!#'), 64) as lexeme, w.place
        from cleaned as c
        cross join regexp_split_to_table(lower(c.text), '[\s,;()"'']+') with ordinality as w (word, place)
        where w.word ~ '[0-9]'
    ),
    words as (
        select t.lexeme, min(t.place)::integer as place
        from typed as t
        where t.lexeme <> ''
        group by t.lexeme
        order by 2, 1
        limit 32
    ),
    counted as (
        select w.place, w.lexeme, l.documents
        from words as w
        left join search.lexeme as l on w.lexeme = l.lexeme
    ),
    -- Words that no document has, or that stand in one or two, where they may be misspelt as well.
    doubtful as (
        select c.place, c.lexeme
        from counted as c
        where
            length(c.lexeme) between 4 and 64
            and (c.documents is null or (c.documents <= 2 and c.lexeme !~ '[0-9]'))
        order by c.place
        limit 8
    )
    select c.place, c.lexeme, 1::real, coalesce(c.documents, 0) from counted as c
    union all
    select d.place, n.lexeme, n.similarity, n.documents
    from doubtful as d
    cross join lateral (
        select s.lexeme, max(s.similarity) as similarity, s.documents
        from (
            select l.lexeme, similarity(l.lexeme, d.lexeme) as similarity, l.documents
            from search.lexeme as l
            where l.lexeme % d.lexeme and l.lexeme <> d.lexeme
            union all
            -- Two letters in the wrong order leave a short word hardly a trigram.
            select l.lexeme, 0.7::real, l.documents
            from generate_series(1, length(d.lexeme) - 1) as p (place)
            inner join search.lexeme as l
                on l.lexeme = overlay(d.lexeme placing reverse(substr(d.lexeme, p.place, 2)) from p.place for 2)
            where l.lexeme <> d.lexeme
        ) as s
        group by s.lexeme, s.documents
        order by 2 desc, s.documents desc, s.lexeme
        limit 3
    ) as n
$$;
comment on function search.query_words(text) is
'The first 32 words and keys of a query with the number of documents that have each, and beside words that hardly any '
'document has the most similar ones that occur.';

create function search.estimated_documents(filter text) returns double precision
language plpgsql
-- Else it might not ask for a plan; it changes nothing.
volatile
set search_path = search, public, pg_temp
as $$
declare
    plan json;
begin
    execute 'explain (format json) select from search.document as d where true' || filter into plan;
    return plan #>> '{0,Plan,Plan Rows}';
end
$$;
comment on function search.estimated_documents(text) is
'How many documents the planner expects within a filter of search.document_filter; nothing is counted.';

create function search.exact_texts(model integer, query_dense halfvec, query_sparse sparsevec, hashes bytea[])
returns table (text_hash bytea, distance double precision, product double precision)
language plpgsql
stable
set search_path = search, public, pg_temp
as $$
begin
    -- A statement with the array in it is planned for as many rows as it has.
    return query execute
        'select e.text_hash, e.dense <=> $1, e.sparse <#> $2 from (select distinct h from unnest($3) as h) as q '
        || format('inner join search.%I as e on e.text_hash = q.h', 'embedding_' || model)
        using query_dense, query_sparse, hashes;
end
$$;
comment on function search.exact_texts(integer, halfvec, sparsevec, bytea[]) is
'Cosine distance and negative inner product of the texts named, without an index.';

create function search.nearest_texts(model integer, query_dense halfvec, filter text, depth integer)
returns table (text_hash bytea, distance double precision)
language plpgsql
stable
set search_path = search, public, pg_temp
as $$
begin
    -- The partition by its name spares the planner a table of them. "offset 0" keeps the condition one that is asked of
    -- each text as the index brings it; without a filter none is asked: orphans are few, and joined with no document.
    return query execute
        format('select e.text_hash, e.dense <=> $1 from search.%I as e', 'embedding_' || model)
        || case when filter <> '' then
            ' where exists (select from search.document as d where d.text_hash = e.text_hash' || filter || ' offset 0)'
        else '' end
        || ' order by e.dense <=> $1 limit ' || depth
        using query_dense;
end
$$;
comment on function search.nearest_texts(integer, halfvec, text, integer) is
'The texts nearest to a vector, of those that have a document within the filter of search.document_filter.';

create function search.weighted_texts(model integer, query_sparse sparsevec, filter text, depth integer)
returns table (text_hash bytea, product double precision)
language plpgsql
stable
set search_path = search, public, pg_temp
-- To compare lists of tokens row by row costs more than the planner thinks.
set enable_seqscan = off
as $$
declare
    tokens integer[];
    all_texts bigint := coalesce((select c.counted from search.frequency_count as c where c.model_id = model), 0);
begin
    -- The text form counts tokens from 1. Those first that weigh most for the texts that they bring, until these are
    -- 2,500 together: a common one adds texts to look at and hardly any rank.
    select array_agg(r.token order by r.token)
    into tokens
    from (
        select
            w.token,
            w.texts,
            sum(w.texts) over (order by w.texts / (w.weight * w.weight), w.token) as together,
            row_number() over (order by w.texts / (w.weight * w.weight), w.token) as place
        from (
            select
                t.token,
                t.weight,
                -- Looked up one by one: nobody needs the others. Those of fewer than 20 texts are not kept.
                coalesce(
                    (select f.texts from search.token_frequency as f where f.model_id = model and f.token = t.token), 19
                ) as texts
            from (
                select split_part(p.pair, ':', 1)::integer - 1 as token, split_part(p.pair, ':', 2)::real as weight
                from string_to_table(btrim(split_part(query_sparse::text, '/', 1), '{}'), ',') as p (pair)
                where p.pair <> ''
            ) as t
        ) as w
    ) as r
    where (r.together <= 2500 and r.place <= 32) or (r.place = 1 and r.texts <= least(20000, greatest(2500, all_texts / 20)));
    if tokens is null then
        return;
    end if;
    return query execute
        'select z.text_hash, z.product from ('
        || format('select e.text_hash, e.sparse <#> $1 as product from search.%I as e', 'embedding_' || model)
        || ' where e.token_ids && $2 order by product, e.text_hash offset 0) as z where z.product < 0'
        || case when filter <> '' then
            ' and exists (select from search.document as d where d.text_hash = z.text_hash' || filter || ' offset 0)'
        else '' end
        || ' limit ' || depth
        using query_sparse, tokens;
end
$$;
comment on function search.weighted_texts(integer, sparsevec, text, integer) is
'The texts with the largest inner product, of those that share a token with the query that is not common.';

create function search.hybrid(
    query text,
    query_dense halfvec,
    query_sparse sparsevec,
    model integer,
    result_limit integer default 10,
    entities text[] default null,
    sources text[] default null,
    stages text[] default null,
    teams text[] default null,
    countries text[] default null,
    date_from date default null,
    date_to date default null,
    amount_from numeric default null,
    amount_to numeric default null
) returns table (
    document_id bigint,
    source_system text,
    entity text,
    entity_id text,
    title text,
    score double precision,
    dense_rank bigint,
    sparse_rank bigint,
    text_rank bigint,
    title_rank bigint,
    dense_score double precision,
    sparse_score double precision,
    text_score double precision,
    title_score double precision,
    matched_words text[]
)
language plpgsql
stable
set search_path = search, public, pg_temp
set "hnsw.iterative_scan" = relaxed_order
set "hnsw.ef_search" = 120
set "hnsw.max_scan_tuples" = 20000
set work_mem = '32MB'
set max_parallel_workers_per_gather = 0
set plan_cache_mode = force_generic_plan
set jit = off
as $$
#variable_conflict use_column
declare
    -- Candidates of each ranking.
    depth integer := 100;
    filter constant text := search.document_filter(
        entities, sources, stages, teams, countries, date_from, date_to, amount_from, amount_to
    );
    all_documents bigint;
    mean_length real;
    bound integer;
    eligible bytea[];
    near bytea[];
    distances double precision[];
    weighted bytea[];
    products double precision[];
    words text[];
    weights real[];
    all_words text[];
    keys text[];
    -- Documents that one word brings, should it have become common since words were counted.
    most integer := 20000;
begin
    if result_limit is null or result_limit not between 1 and 1000 then
        raise exception 'result_limit is %, it must be 1 to 1000', result_limit
        using errcode = 'invalid_parameter_value';
    end if;
    select c.counted, c.mean_words into all_documents, mean_length
    from search.frequency_count as c where c.model_id = 0;
    all_documents := coalesce(all_documents, 0);
    if (query_dense is not null or query_sparse is not null)
        and to_regclass(format('search.%I', 'embedding_' || model)) is null then
        raise exception 'search.embedding has no vectors of model %', coalesce(model::text, 'null')
        using errcode = 'no_data_found';
    end if;

    if filter <> '' and (query_dense is not null or query_sparse is not null) then
        -- To compare all n documents within the filter costs n times 12 µs, to walk the index until fifty of them came
        -- up to a hundred times 28 µs by the share that they are: they meet where n is the root of 230 times all.
        bound := least(15000, greatest(2000, sqrt(230.0 * all_documents)));
        -- The planner's own estimate spares counting what is many times more.
        if search.estimated_documents(filter) <= 2 * bound then
            execute 'select array_agg(z.text_hash) from (select d.text_hash from search.document as d where true'
                || filter || ' limit ' || bound + 1 || ') as z'
            into eligible;
            if eligible is null then
                return;
            end if;
            if cardinality(eligible) > bound then
                eligible := null;
            end if;
        end if;
        if eligible is null then
            depth := 50;
        end if;
    end if;

    if eligible is not null then
        select
            (array_agg(t.text_hash order by t.distance, t.text_hash) filter (where t.distance is not null))[:depth],
            (array_agg(t.distance order by t.distance, t.text_hash) filter (where t.distance is not null))[:depth],
            (array_agg(t.text_hash order by t.product, t.text_hash) filter (where t.product < 0))[:depth],
            (array_agg(t.product order by t.product, t.text_hash) filter (where t.product < 0))[:depth]
        into near, distances, weighted, products
        from search.exact_texts(model, query_dense, query_sparse, eligible) as t;
    else
        if query_dense is not null then
            select
                array_agg(t.text_hash order by t.distance, t.text_hash),
                array_agg(t.distance order by t.distance, t.text_hash)
            into near, distances
            from search.nearest_texts(model, query_dense, filter, depth) as t;
            if filter <> '' and coalesce(cardinality(near), 0) < depth then
                -- What is within the filter lies far from the query, and the index gave up: all of it is compared.
                execute 'select array_agg(d.text_hash) from search.document as d where true' || filter into eligible;
                select
                    array_agg(z.text_hash order by z.distance, z.text_hash),
                    array_agg(z.distance order by z.distance, z.text_hash)
                into near, distances
                from (
                    select t.text_hash, t.distance
                    from search.exact_texts(model, query_dense, null, eligible) as t
                    order by t.distance, t.text_hash
                    limit depth
                ) as z;
            end if;
        end if;
        if query_sparse is not null then
            select
                array_agg(t.text_hash order by t.product, t.text_hash),
                array_agg(t.product order by t.product, t.text_hash)
            into weighted, products
            from search.weighted_texts(model, query_sparse, filter, depth) as t;
        end if;
    end if;

    if query is not null then
        -- What a word tells is the logarithm of how rare it is. Words in more than a tenth of all documents tell nothing,
        -- in whatever language; of the others the rarest count, until together they stand in 2,000 documents.
        select
            array_agg(r.lexeme order by r.lexeme) filter (where r.is_telling),
            array_agg(r.weight order by r.lexeme) filter (where r.is_telling),
            array_agg(r.lexeme order by r.place, r.similarity desc),
            -- Of a longer query a short number is more likely an amount than somebody's key.
            array_agg(r.lexeme) filter (
                where r.similarity = 1 and (r.typed = 1 or (length(r.lexeme) >= 6 and r.lexeme ~ '[0-9]'))
            )
        into words, weights, all_words, keys
        from (
            select
                w.lexeme,
                w.place,
                w.similarity,
                count(*) filter (where w.similarity = 1) over () as typed,
                w.similarity * ln(1 + (greatest(all_documents, w.documents) + 0.5) / (w.documents + 0.5)) as weight,
                w.documents <= greatest(10, all_documents / 10)
                and (
                    sum(w.documents) over (order by w.documents, w.similarity desc, w.lexeme) <= 2000
                    or (row_number() over (order by w.documents, w.lexeme) = 1 and w.documents <= 20000)
                ) as is_telling
            from search.query_words(query) as w
        ) as r;
        if words is null and near is null and weighted is null and all_words is not null then
            -- Only common words, and no vectors: some documents that have one, ranked by title.
            words := all_words;
            weights := array_fill(1e-6::real, array[cardinality(all_words)]);
            most := 1000 / cardinality(all_words);
        end if;
    end if;

    -- Its conditions repeat the filter: as a statement of its own text it is planned once a session, which takes
    -- longer than it runs.
    return query
        with found_near as (
            select
                coalesce(a.text_hash, b.text_hash) as text_hash,
                a.position as dense_rank,
                1 - a.distance as dense_score,
                b.position as sparse_rank,
                -b.product as sparse_score
            from unnest(near, distances) with ordinality as a (text_hash, distance, position)
            full join unnest(weighted, products) with ordinality as b (text_hash, product, position)
                on a.text_hash = b.text_hash
        ),
        -- Documents that share a text share its rank.
        by_vectors as (
            select d.document_id, n.dense_rank, n.dense_score, n.sparse_rank, n.sparse_score
            from found_near as n
            cross join lateral (
                select d.document_id from search.document as d
                where d.text_hash = n.text_hash
                    and (hybrid.entities is null or d.entity = any(hybrid.entities))
                    and (hybrid.sources is null or d.source_system = any(hybrid.sources))
                    and (hybrid.stages is null or d.stage = any(hybrid.stages))
                    and (hybrid.teams is null or d.team = any(hybrid.teams))
                    and (hybrid.countries is null or d.country_code = any(hybrid.countries))
                    and (hybrid.date_from is null or d.close_date >= hybrid.date_from)
                    and (hybrid.date_to is null or d.close_date <= hybrid.date_to)
                    and (hybrid.amount_from is null or d.amount >= hybrid.amount_from)
                    and (hybrid.amount_to is null or d.amount <= hybrid.amount_to)
                order by d.document_id
                limit 100
            ) as d
        ),
        -- Each word's documents by index, so that no document's words are read.
        by_words as (
            select z.document_id, z.relevance, rank() over (order by z.relevance desc) as position
            from (
                select
                    d.document_id,
                    sum(w.weight) * 2.2 / (1.3 + 0.9 * min(d.word_count) / greatest(mean_length, 1)) as relevance
                from unnest(words, weights) as w (lexeme, weight)
                cross join lateral (
                    select d.document_id, d.word_count from search.document as d
                    where d.text_vector @@ quote_literal(w.lexeme)::tsquery
                    and (hybrid.entities is null or d.entity = any(hybrid.entities))
                    and (hybrid.sources is null or d.source_system = any(hybrid.sources))
                    and (hybrid.stages is null or d.stage = any(hybrid.stages))
                    and (hybrid.teams is null or d.team = any(hybrid.teams))
                    and (hybrid.countries is null or d.country_code = any(hybrid.countries))
                    and (hybrid.date_from is null or d.close_date >= hybrid.date_from)
                    and (hybrid.date_to is null or d.close_date <= hybrid.date_to)
                    and (hybrid.amount_from is null or d.amount >= hybrid.amount_from)
                    and (hybrid.amount_to is null or d.amount <= hybrid.amount_to)
                    limit most
                ) as d
                group by d.document_id
                order by relevance desc, d.document_id
                limit depth
            ) as z
        ),
        -- Reciprocal rank fusion with k = 60 (Cormack, Clarke, Buettcher 2009). Weights: meaning leads; sparse has 0.3 as
        -- in BGE-M3's own mix of scores; words 0.5, for one that fits is often one of another language or trade; titles
        -- decide between equals. `make bench BENCH=search-quality` judges them. A record's own key decides by itself.
        found as (
            select
                d.document_id, d.source_system, d.entity, d.entity_id, d.title,
                v.dense_rank, v.dense_score, v.sparse_rank, v.sparse_score,
                coalesce(d.identifiers && keys, false) as is_named,
                t.position as text_rank, t.relevance as text_score,
                -- Only of those that may come first: it is what costs most here.
                case
                    when v.dense_rank <= 30 or v.sparse_rank <= 30 or t.position <= 30
                        then word_similarity(left(hybrid.query, 200), d.heading)::double precision
                end as title_score
            from by_vectors as v
            full join by_words as t on v.document_id = t.document_id
            inner join search.document as d on coalesce(v.document_id, t.document_id) = d.document_id
        ),
        titled as (
            select f.*, case when f.title_score > 0.3 then rank() over (order by f.title_score desc nulls last) end
                as title_rank
            from found as f
        ),
        best as (
            select
                t.*,
                t.is_named::integer
                + coalesce(1.0::real / (60 + t.dense_rank), 0) + coalesce(0.3::real / (60 + t.sparse_rank), 0)
                + coalesce(0.5::real / (60 + t.text_rank), 0) + coalesce(0.1::real / (60 + t.title_rank), 0) as score
            from titled as t
            order by score desc, t.document_id
            limit hybrid.result_limit
        )
        select
            b.document_id, b.source_system, b.entity, b.entity_id, b.title, b.score,
            b.dense_rank, b.sparse_rank, b.text_rank, b.title_rank,
            b.dense_score, b.sparse_score, b.text_score,
            case when b.title_rank is not null then b.title_score end,
            coalesce(
                (
                    select array_agg(l.lexeme order by array_position(all_words, l.lexeme))
                    from search.document as d
                    cross join unnest(tsvector_to_array(d.text_vector)) as l (lexeme)
                    where d.document_id = b.document_id and l.lexeme = any(coalesce(words, all_words))
                ),
                '{}'
            )
        from best as b
        order by b.score desc, b.document_id;
end
$$;
comment on function search.hybrid(
    text, halfvec, sparsevec, integer, integer, text[], text[], text[], text[], text[], date, date, numeric, numeric
) is
'The documents that match a query best: by meaning, by weighted tokens, by words (misspelt ones corrected) and by the '
'trigrams of the title, fused by rank. Null vectors or a null query leave those rankings out; a rank is null where a '
'ranking does not have the document. dense_score is a cosine, sparse_score an inner product, text_score the sum of '
'what the words tell by document length, title_score the word similarity of query and heading. A document that the '
'query names by one of its identifiers comes first, with a score above 1.';

create function search.similar(
    of_entity text,
    of_entity_id text,
    result_limit integer default 10,
    entities text[] default null,
    sources text[] default null,
    stages text[] default null,
    teams text[] default null,
    countries text[] default null,
    date_from date default null,
    date_to date default null,
    amount_from numeric default null,
    amount_to numeric default null
) returns table (
    document_id bigint,
    source_system text,
    entity text,
    entity_id text,
    title text,
    score double precision,
    dense_rank bigint,
    sparse_rank bigint,
    dense_score double precision,
    sparse_score double precision
)
language plpgsql
stable
set search_path = search, public, pg_temp
as $$
declare
    of record;
begin
    select d.document_id, e.model_id, e.dense, e.sparse into of
    from search.document as d
    left join search.embedding_model as m on m.is_current
    left join search.embedding as e on m.model_id = e.model_id and d.text_hash = e.text_hash
    where d.entity = of_entity and d.entity_id = of_entity_id
    order by d.source_system
    limit 1;
    if not found then
        raise exception 'search.document has no % with this id', of_entity using errcode = 'no_data_found';
    end if;
    if of.dense is null then
        raise exception 'the document has no vector of the current model' using errcode = 'no_data_found';
    end if;
    return query
    select
        h.document_id, h.source_system, h.entity, h.entity_id, h.title, h.score, h.dense_rank, h.sparse_rank,
        h.dense_score, h.sparse_score
    from search.hybrid(
        null, of.dense, of.sparse, of.model_id, least(result_limit, 999) + 1, entities, sources, stages, teams, countries,
        date_from, date_to, amount_from, amount_to
    ) as h
    where h.document_id <> of.document_id
    order by h.score desc, h.document_id
    limit result_limit;
end
$$;
comment on function search.similar(
    text, text, integer, text[], text[], text[], text[], text[], date, date, numeric, numeric
) is
'The documents most like one, by the current model''s vectors of both; ranks count the document itself. '
'Fails with no_data_found where there is no such document, or it has no vector yet.';

grant execute on function
search.document_filter(text[], text[], text[], text[], text[], date, date, numeric, numeric),
search.query_words(text),
search.estimated_documents(text),
search.exact_texts(integer, halfvec, sparsevec, bytea[]),
search.nearest_texts(integer, halfvec, text, integer),
search.weighted_texts(integer, sparsevec, text, integer),
search.hybrid(
    text, halfvec, sparsevec, integer, integer, text[], text[], text[], text[], text[], date, date, numeric, numeric
),
search.similar(text, text, integer, text[], text[], text[], text[], text[], date, date, numeric, numeric)
to revops_api, revops_embed, revops_quality;
