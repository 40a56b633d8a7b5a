-- Purpose: loads of vectors that wait for a dump and send an autovacuum away; searches within a wide filter that end in
-- time.

set local role revops_owner;

-- An extension defines its settings when it is loaded into a session; before that only a superuser may store them.
do $$
begin
    perform '[1]'::public.halfvec, public.show_limit();
end
$$;

create function search.analyze_load(model integer) returns void
language plpgsql
security definer
set search_path = pg_catalog, public, pg_temp
as $$
begin
    execute format('analyze search.%I', format('embedding_%s_next', model));
end
$$;
comment on function search.analyze_load(integer) is
'Let the planner know what was copied into search.embedding_<model>_next, which only its owner may.';

drop function search.finish_load(integer);

create function search.finish_load(model integer, patience text) returns bigint
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
    perform set_config('lock_timeout', patience, true);
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
comment on function search.finish_load(integer, text) is
'Put search.embedding_<model>_next in the place of the model''s partition. '
'Fails with lock_not_available where somebody holds the table for longer than the patience: try again. '
'Returns how many vectors came back because their text has a document again.';

grant execute on function search.analyze_load(integer), search.finish_load(integer, text) to revops_embed;

create or replace function search.hybrid(
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
    -- Candidates of each ranking: from twice as far down one alone brings nothing among the hits.
    depth integer;
    filter constant text := search.document_filter(
        entities, sources, stages, teams, countries, date_from, date_to, amount_from, amount_to
    );
    all_documents bigint;
    mean_length real;
    bound integer;
    estimated double precision;
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
    depth := least(1000, greatest(60, 2 * result_limit));
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
        estimated := search.estimated_documents(filter);
        if estimated <= 2 * bound then
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
            depth := greatest(50, result_limit);
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
            if filter <> '' and coalesce(cardinality(near), 0) < depth and estimated <= 100000 then
                -- What is within the filter lies far from the query, and the index gave up: all of it is compared, up to
                -- a second's worth. Of more it stays with those among the 20,000 nearest documents.
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
        candidates as (
            select
                coalesce(v.document_id, t.document_id) as document_id,
                v.dense_rank, v.dense_score, v.sparse_rank, v.sparse_score,
                t.position as text_rank, t.relevance as text_score,
                coalesce((
                    select d.identifiers && keys
                    from search.document as d
                    where keys is not null and d.document_id = coalesce(v.document_id, t.document_id)
                ), false) as is_named
            from by_vectors as v
            full join by_words as t on v.document_id = t.document_id
        ),
        -- A title adds 1/610 at most: it brings nothing up from so far behind.
        foremost as (
            select
                c.*,
                c.is_named::integer
                + coalesce(1.0::real / (60 + c.dense_rank), 0) + coalesce(0.3::real / (60 + c.sparse_rank), 0)
                + coalesce(0.5::real / (60 + c.text_rank), 0) as points
            from candidates as c
            order by points desc, c.document_id
            limit greatest(30, hybrid.result_limit + 20)
        ),
        titled as (
            select
                l.*, d.source_system, d.entity, d.entity_id, d.title, d.text_vector,
                word_similarity(left(hybrid.query, 200), d.heading)::double precision as title_score
            from foremost as l
            inner join search.document as d on l.document_id = d.document_id
        ),
        ranked as (
            select t.*, case when t.title_score > 0.3 then rank() over (order by t.title_score desc nulls last) end
                as title_rank
            from titled as t
        ),
        best as (
            select r.*, r.points + coalesce(0.1::real / (60 + r.title_rank), 0) as score
            from ranked as r
            order by score desc, r.document_id
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
                    from unnest(tsvector_to_array(b.text_vector)) as l (lexeme)
                    where l.lexeme = any(coalesce(words, all_words))
                ),
                '{}'
            )
        from best as b
        order by b.score desc, b.document_id;
end
$$;
