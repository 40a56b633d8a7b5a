-- Purpose: documents with every column that searches filter by, their identifiers, and what is taken out of texts.

set local role revops_owner;

alter table search.document drop column text_vector;
alter table search.document
add column team text,
-- What a search for an exact number or key means; not part of the text, so no model sees it.
add column identifiers text[] not null default '{}',
add column template_version integer not null default 1,
-- A tsvector ends at 1 MB; nothing that people search for stands behind 200,000 characters.
add column text_vector tsvector generated always as (
    to_tsvector('simple', left(text, 200000)) || array_to_tsvector(identifiers)
) stored,
-- The title, and who it is about: people name both in one breath.
add column heading text generated always as (left(translate(text, e'\n', ' '), 160)) stored,
add column word_count integer generated always as (
    length(to_tsvector('simple', left(text, 200000)))
) stored;
-- Long texts and their words stand aside: filters read shorter rows.
alter table search.document set (toast_tuple_target = 256);
comment on column search.document.team is 'The team that owns the deal; null where the source has none.';
comment on column search.document.identifiers is
'Keys by which people look for the record, in lower case: ids of both systems, AWS account ids.';
comment on column search.document.template_version is
'Version of the template in include/sql/search/document.sql that made the text.';

drop index search.document_title_trgm_idx;
drop index search.document_text_hash_idx;
-- A search asks of a text which documents have it, the oldest first.
create index document_text_hash_idx on search.document (text_hash, document_id);
create index document_text_vector_idx on search.document using gin (text_vector) with (fastupdate = off);
create index document_entity_idx on search.document (entity);
create index document_source_system_idx on search.document (source_system);
create index document_stage_idx on search.document (stage);
create index document_team_idx on search.document (team);
create index document_country_code_idx on search.document (country_code);
create index document_close_date_idx on search.document (close_date);
create index document_amount_idx on search.document (amount);

create or replace function search.redact(value text) returns text
language plpgsql
immutable
parallel safe
as $$
begin
    -- jane@example.com, jane (at) example.com
    value := regexp_replace(value, '[^\s<>"]+@[^\s<>"]+\.[^\s<>"]+', ' ', 'g');
    value := regexp_replace(value, '[^\s<>"]+\s?[\[({]\s?at\s?[\])}]\s?[^\s<>"]+', ' ', 'gi');
    -- After a word that announces it: tel. 5550109999
    value := regexp_replace(
        value,
        '(\m(?:tel|phone|telephone|fon|telefon|teléfono|téléphone|fax|mobile|mobil|cell|whatsapp)'
        '(?:\.|:|\s|no\.?|number)*)[+(]*[0-9][0-9 ().\-/]{5,18}[0-9]\M', '\1 ', 'gi'
    );
    -- +1 (555) 010-9999, 0049 30 123456
    value := regexp_replace(value, '(\+[0-9]|\m00[1-9])[0-9 ().\-/]{6,17}[0-9]', ' ', 'g');
    -- A leading zero and 9 to 11 digits in groups: 030/1234567, 01 23 45 67 89, (02) 9374 4000; no date, no account.
    value := regexp_replace(
        value,
        '(?![0-9]{1,2}[./\-][0-9]{1,2}[./\-][0-9]{2,4}(?![./\-0-9]))(?![0-9]{4}[ \-][0-9]{4}[ \-][0-9]{4}\M)(?![0-9]{9,}\M)'
        '(\(0|\m0)(?=([ ./()\-]{0,2}[0-9]){8,10}(?![0-9]))[0-9]{1,5}\)?([ ./\-]{1,2}[0-9]{2,8}){1,5}\M', ' ', 'g'
    );
    -- (11) 91234-5678; 98765 43210
    value := regexp_replace(value, '\([0-9]{2,3}\) ?[0-9]{4,5}[ \-][0-9]{4}\M', ' ', 'g');
    value := regexp_replace(value, '\m[6-9][0-9]{4}[ \-][0-9]{5}\M', ' ', 'g');
    -- (555) 010-9999, 555.010.9999, 612 345 678; no network address
    return regexp_replace(
        value, '(?<![0-9]\.)(?![0-9]{1,3}(\.[0-9]{1,3}){3}\M)\(?\m[0-9]{3,4}\)?[ .\-][0-9]{3}[ .\-][0-9]{3,4}\M', ' ', 'g'
    );
end
$$;
comment on function search.redact(text) is
'A text without the e-mail addresses and phone numbers that people type into titles and descriptions. '
'Dates, amounts and 12-digit account numbers stay.';

create function search.redact(value text, names text[]) returns text
language plpgsql
immutable
parallel safe
as $$
declare
    redacted text := search.redact(value);
    name text;
begin
    foreach name in array coalesce(names, '{}') loop
        -- One word may be a company or a product as well.
        if name ~ '\S\s+\S' and strpos(lower(redacted), lower(name)) > 0 then
            redacted := regexp_replace(
                redacted,
                '(?<![[:alnum:]])' || regexp_replace(name, '([^[:alnum:][:space:]])', '\\\1', 'g') || '(?![[:alnum:]])',
                ' ', 'gi'
            );
        end if;
    end loop;
    return redacted;
end
$$;
comment on function search.redact(text, text[]) is
'search.redact, and without these people: full names only.';
grant execute on function search.redact(text, text[]) to revops_embed;

create function search.clean_identifiers(identifiers text[]) returns text[]
language sql
immutable
parallel safe
return coalesce(
    (
        select array_agg(distinct lower(btrim(i.identifier)) order by lower(btrim(i.identifier)))
        from unnest(identifiers) as i (identifier)
        where btrim(i.identifier) <> '' and length(i.identifier) <= 64
    ),
    '{}'
);
comment on function search.clean_identifiers(text[]) is
'Keys in lower case, each once; what is blank or too long to be a key is left out. Null gives none.';
grant execute on function search.clean_identifiers(text[]) to revops_embed;
