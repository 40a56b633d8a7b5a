-- Purpose: one spelling for what people spell in many ways: sites, company names, ACE's values, texts with markup.
-- What the functions know is in four tables, filled from include/seeds (see plugins/revops/seeds.py). A function that
-- reads a table or calls unaccent is stable, the others are immutable; all are parallel safe and give null for null.
--
-- A look-up costs five times as much when the small table behind it is scanned, and twenty times as much when it is
-- planned anew for each call: functions that read tables switch both off.

set local role revops_owner;

-- Upper and lower case of all scripts, whatever the locale of the database: in "C" lower() knows ASCII only.
do $$
begin
    if current_setting('server_version_num')::int >= 170000 then
        create collation core.unicode (provider = builtin, locale = 'C.UTF-8');
    else
        create collation core.unicode (provider = icu, locale = 'und');
    end if;
end
$$;

create function core.small_letters(words text) returns text
language sql
immutable
parallel safe
return translate(lower(words collate core.unicode), 'ς', 'σ');
comment on function core.small_letters(text) is 'A text in small letters, the two small sigmas as one.';

create table core.public_suffix (
    ending text not null,
    kind text not null check (kind in ('rule', 'wildcard', 'exception')),
    suffix_labels integer not null,
    is_private boolean not null,
    primary key (ending, kind)
);
comment on table core.public_suffix is
'The public suffix list: endings below which different owners register names. From include/seeds.';
comment on column core.public_suffix.ending is
'As DNS has it, IDN in punycode; of a wildcard what follows "*.", of an exception what follows "!".';
comment on column core.public_suffix.suffix_labels is
'Labels of the public suffix by this rule: of a wildcard one more than of the ending, of an exception one less.';
comment on column core.public_suffix.is_private is
'An owner of a domain gives out names below it (github.io), not a registry.';

create table core.shared_domain (
    domain text primary key,
    kind text not null
);
comment on table core.shared_domain is
'Domains that say nothing about who uses them, such as free mail; names below them neither. From include/seeds.';

create table core.legal_form (
    place text not null check (place in ('start', 'end')),
    form text not null,
    is_exact boolean not null,
    characters integer not null generated always as (length(form)) stored,
    word text not null generated always as (
        core.small_letters(split_part(form, ' ', case place when 'end' then -1 else 1 end))
    ) stored,
    is_attached boolean not null generated always as (
        form ~ '^[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{2,}$'
    ) stored,
    primary key (place, form)
);
create index legal_form_word_idx on core.legal_form (place, word, characters desc);
create index legal_form_attached_idx on core.legal_form (form) where is_attached;
comment on table core.legal_form is 'Legal forms that are no part of a company''s name. From include/seeds.';
comment on column core.legal_form.form is
'In the words of core.name_words, and in small letters unless is_exact.';
comment on column core.legal_form.is_exact is 'Only in this very case: "SpA" is a legal form, "spa" a bath.';
comment on column core.legal_form.word is 'The outermost word of the form, by which it is found.';
comment on column core.legal_form.is_attached is 'Written without a blank between it and the name: 株式会社.';

create function core.spelling_key(spelling text) returns text
language sql
immutable
parallel safe
return lower(
    replace(
        -- Dashes become one dash; blanks, and the underscores of selection keys, go.
        translate(
            spelling,
            U&'\2010\2011\2012\2013\2014\2015\2212\FE58\FE63\FF0D' || U&' _\0009\000A\000D\00A0\2009\202F\200B\FEFF',
            '----------'
        ),
        '&', 'and'
    ) collate core.unicode
);
comment on function core.spelling_key(text) is
'Equal for spellings that differ in case, the kind of dash, blanks, underscores, or "&" for "and".';

create table core.ace_value_map (
    field text not null,
    spelling text not null,
    value text not null,
    spelling_key text not null generated always as (core.spelling_key(spelling)) stored,
    primary key (field, spelling_key)
);
create index ace_value_map_value_idx on core.ace_value_map (field, value);
comment on table core.ace_value_map is
'Spellings of the values of ACE''s fields: API, older exchange and CRM differ. From include/seeds.';
comment on column core.ace_value_map.value is 'The spelling that core uses, which is that of AWS''s API.';

create table ops.seed (
    table_name text primary key,
    checksum text not null,
    rows bigint not null,
    loaded_at timestamptz not null default now()
);
comment on table ops.seed is 'Which state of the files of include/seeds the tables filled from them have.';
grant insert, update, delete on ops.seed to revops_transform;

-- Names of companies.

create function core.word_separators() returns text
language sql
immutable
parallel safe
as $$
-- Everything but letters, digits and marks: Unicode's categories P, S, Z and C, as they are after NFKC. Spelled out,
-- for what [[:alnum:]] covers depends on the locale: in "C" it would remove every Japanese name, with ICU every vowel
-- sign of Hindi.
select '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u00d7\u00f7\u02c2-\u02c5\u02d2-\u02eb\u02ed\u02ef-\u02ff'
    '\u0375\u03f6\u0482\u055a-\u055f\u0589-\u058f\u05be\u05c0\u05c3\u05c6\u05f3-\u060f\u061b-\u061f\u066a-\u066d\u06d4'
    '\u06dd-\u06de\u06e9\u06fd-\u06fe\u0700-\u070f\u07f6-\u07f9\u07fe-\u07ff\u0830-\u083e\u085e\u0888\u0890-\u0891\u08e2'
    '\u0964-\u0965\u0970\u09f2-\u09f3\u09fa-\u09fb\u09fd\u0a76\u0af0-\u0af1\u0b70\u0bf3-\u0bfa\u0c77\u0c7f\u0c84\u0d4f'
    '\u0d79\u0df4\u0e3f\u0e4f\u0e5a-\u0e5b\u0f01-\u0f17\u0f1a-\u0f1f\u0f34\u0f36\u0f38\u0f3a-\u0f3d\u0f85\u0fbe-\u0fc5'
    '\u0fc7-\u0fda\u104a-\u104f\u109e-\u109f\u10fb\u1360-\u1368\u1390-\u1399\u1400\u166d-\u166e\u1680\u169b-\u169c'
    '\u16eb-\u16ed\u1735-\u1736\u17d4-\u17d6\u17d8-\u17db\u1800-\u180a\u180e\u1940-\u1945\u19de-\u19ff\u1a1e-\u1a1f'
    '\u1aa0-\u1aa6\u1aa8-\u1aad\u1b5a-\u1b6a\u1b74-\u1b7e\u1bfc-\u1bff\u1c3b-\u1c3f\u1c7e-\u1c7f\u1cc0-\u1cc7\u1cd3'
    '\u2000-\u20cf\u2104-\u212e\u213a-\u214d\u214f\u218a-\u244a\u2500-\u2775\u2794-\u2bff\u2ce5-\u2cea\u2cf9-\u2cfc'
    '\u2cfe-\u2cff\u2d70\u2e00-\u2e2e\u2e30-\u3004\u3008-\u3020\u3030\u3037\u303d-\u303f\u30a0\u30fb\u3190-\u3191'
    '\u31c0-\u31ef\u327f\u4dc0-\u4dff\ua490-\ua4c6\ua4fe-\ua4ff\ua60d-\ua60f\ua673\ua67e\ua6f2-\ua716\ua720-\ua721'
    '\ua789-\ua78a\ua828-\ua82b\ua836-\ua839\ua874-\ua877\ua8ce-\ua8cf\ua8f8-\ua8fa\ua8fc\ua92e-\ua92f\ua95f'
    '\ua9c1-\ua9cd\ua9de-\ua9df\uaa5c-\uaa5f\uaa77-\uaa79\uaade-\uaadf\uaaf0-\uaaf1\uab5b\uab6a-\uab6b\uabeb'
    '\ue000-\uf8ff\ufbb2-\ufdff\ufe45-\ufe46\uff00-\uff0f\ufff0-\uffff'
    -- Beyond the first plane: musical notation, dominoes to emoji, tags and private use.
    '\U0001cf00-\U0001d15d\U0001d200-\U0001d2df\U0001d300-\U0001d356\U0001eef0-\U0001f10a\U0001f10d-\U0001fbef'
    '\U000e0000-\U000e00ff\U000f0000-\U0010ffff]'
$$;
comment on function core.word_separators() is 'A bracket expression of the characters that stand between words.';

create function core.name_words(name text) returns text
language plpgsql
stable
strict
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    -- No name is longer; what Unicode needs for a long row of marks grows with the square of its length.
    most constant integer := 1000;
    words text := left(name, most);
begin
    if octet_length(words) = length(words) then
        words := regexp_replace(replace(translate(words, '''`', ''), '&', ' and '), '[^a-zA-Z0-9]+', ' ', 'g');
        return btrim(left(btrim(words), most));
    end if;
    -- Signs that the steps below would take for letters go first: (R), TM, SM, (C), (P). So do apostrophes.
    words := translate(
        words, U&'\00AE\2122\2120\00A9\2117' || U&'''\2019\2018\02BC\02BB\00B4\0060\2032\FF07', '     '
    );
    -- Marks above and below Latin, Greek and Cyrillic letters go, and what is not seen: joiners, directions, variants.
    words := regexp_replace(
        normalize(words, NFKD),
        '[\u00ad\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20d0-\u20f0'
        '\ufe00-\ufe0f\ufe20-\ufe2f\ufeff]+',
        '', 'g'
    );
    words := replace(normalize(words, NFC), '&', ' and ');
    words := regexp_replace(words, core.word_separators() || '+', ' ', 'g');
    if octet_length(words) <> length(words) then
        -- What is one letter and no letter with a mark, such as ø, ł, æ or ß.
        words := regexp_replace(
            public.unaccent('public.unaccent', words), core.word_separators() || '+', ' ', 'g'
        );
    end if;
    return btrim(left(btrim(words), most));
end
$$;
comment on function core.name_words(text) is
'A name''s words with one blank between them: compatible characters as one (NFKC), without accents, apostrophes and '
'punctuation, "&" as "and"; case stays. The first 1,000 characters count.';

create function core.normalised_name(name text) returns text
language plpgsql
stable
strict
parallel safe
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    -- Two forms of the same words: small letters, which are returned, and as typed, for the legal forms "SpA" and such.
    typed text := core.name_words(name);
    words text := core.small_letters(typed);
    is_cjk boolean := octet_length(words) > length(words) and words ~ '[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]';
    single constant text := '(?<![^ ])([^ ]) (?=[^ ](?![^ ]))';
    outermost text;
    cut integer;
begin
    if octet_length(words) > length(words) then
        -- Some small letters lose what their capitals keep (Ʀ, ʀ).
        words := core.small_letters(public.unaccent('public.unaccent', words));
    end if;
    if words ~ '^[^ ]( [^ ])+$' then
        perform from core.legal_form as f where f.form = words;
        if found then
            return replace(words, ' ', ''); -- "S.p.A." and no more is no S. of legal form P.A.
        end if;
    end if;
    -- At first for legal forms in single letters (S.p.A.), then, with single letters joined, again.
    loop
        loop
            if left(words, 4) = 'the ' then
                words := substr(words, 5);
                typed := substr(typed, 5);
                continue;
            end if;
            if is_cjk then
                -- Where a blank is to be put in: behind the form at the start, or before the one at the end.
                select case f.place when 'start' then f.characters else length(words) - f.characters end into cut
                from core.legal_form as f
                where f.is_attached and case f.place
                    when 'start' then words like f.form || '_%' and substr(words, f.characters + 1, 1) <> ' '
                    else words like '%_' || f.form and substr(words, length(words) - f.characters, 1) <> ' '
                end
                order by f.characters desc
                limit 1;
                if found then
                    words := left(words, cut) || ' ' || substr(words, cut + 1);
                    typed := left(typed, cut) || ' ' || substr(typed, cut + 1);
                end if;
            end if;
            exit when strpos(words, ' ') = 0;
            outermost := split_part(words, ' ', -1);
            select f.characters + 1 into cut
            from core.legal_form as f
            where f.place = 'end' and f.word = outermost
                and right(case when f.is_exact then typed else words end, f.characters + 1) = ' ' || f.form
            order by f.characters desc
            limit 1;
            if found then
                words := left(words, -cut);
                typed := left(typed, -cut);
                continue;
            end if;
            outermost := split_part(words, ' ', 1);
            select f.characters + 1 into cut
            from core.legal_form as f
            where f.place = 'start' and f.word = outermost
                and left(case when f.is_exact then typed else words end, f.characters + 1) = f.form || ' '
            order by f.characters desc
            limit 1;
            exit when not found;
            words := substr(words, cut + 1);
            typed := substr(typed, cut + 1);
        end loop;
        exit when words !~ '(^| )[^ ] [^ ]( |$)';
        words := regexp_replace(words, single, '\1', 'g');
        typed := regexp_replace(typed, single, '\1', 'g');
    end loop;
    return words;
end
$$;
comment on function core.normalised_name(text) is
'A company''s name for comparison: the words of core.name_words in small letters, single letters joined, without a '
'leading "the" and without legal forms, as long as a word is left. Empty for a name of nothing but signs; gives itself '
'for its own result.';

-- Hosts and domains.

create function core.ascii_label(label text) returns text
language plpgsql
immutable
strict
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    points integer[] := array(
        select ascii(c) from string_to_table(label, null) with ordinality as s (c, position) order by s.position
    );
    encoded text := '';
    basic integer := 0;
    handled integer;
    point integer := 128;
    next_point integer;
    delta bigint := 0;
    bias integer := 72;
    rest bigint;
    digit bigint;
    threshold integer;
    damp integer := 700;
    steps integer;
    p integer;
begin
    foreach p in array points loop
        if p < 128 then
            encoded := encoded || chr(p);
            basic := basic + 1;
        end if;
    end loop;
    handled := basic;
    if handled = cardinality(points) then
        return label;
    end if;
    if basic > 0 then
        encoded := encoded || '-';
    end if;
    -- Punycode as in RFC 3492, section 6.3; the names there are n, delta, bias, q, t and k.
    while handled < cardinality(points) loop
        next_point := (select min(c) from unnest(points) as u (c) where c >= point);
        delta := delta + (next_point - point)::bigint * (handled + 1);
        point := next_point;
        foreach p in array points loop
            if p < point then
                delta := delta + 1;
            elsif p = point then
                rest := delta;
                steps := 36;
                loop
                    threshold := least(greatest(steps - bias, 1), 26);
                    exit when rest < threshold;
                    digit := threshold + (rest - threshold) % (36 - threshold);
                    encoded := encoded || chr((case when digit < 26 then 97 + digit else 22 + digit end)::integer);
                    rest := (rest - threshold) / (36 - threshold);
                    steps := steps + 36;
                end loop;
                encoded := encoded || chr((case when rest < 26 then 97 + rest else 22 + rest end)::integer);
                handled := handled + 1;
                delta := delta / damp + delta / damp / handled;
                damp := 2;
                bias := 0;
                while delta > 455 loop
                    delta := delta / 35;
                    bias := bias + 36;
                end loop;
                bias := bias + (36 * delta / (delta + 38))::integer;
                delta := 0;
            end if;
        end loop;
        delta := delta + 1;
        point := point + 1;
    end loop;
    return 'xn--' || encoded;
end
$$;
comment on function core.ascii_label(text) is
'One label of a host as DNS has it: xn-- and punycode where it is not ASCII. The label is in small letters already.';

create function core.web_host(website text) returns text
language plpgsql
immutable
strict
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    -- A host has 253 characters at most, and stands at the beginning.
    typed text := lower(btrim(left(website, 2000), U&' \0009\000A\000D\00A0') collate core.unicode);
    valid constant text := '^([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)+([a-z][a-z]+|xn--[a-z0-9-]*[a-z0-9])$';
    part constant text := '[^\s\u0080-\u00a0<>()\[\]{}"''|,;*]';
    label constant text := '[^\s\u0080-\u00a0<>()\[\]{}"''|,;*.]';
    host text := typed;
begin
    -- As most are typed: scheme, user, host, port, path.
    if strpos(host, '://') > 0 and strpos(host, '://') < strpos(host, '.') then
        host := substr(host, strpos(host, '://') + 3);
    end if;
    host := split_part(split_part(split_part(host, '/', 1), '?', 1), '#', 1);
    host := rtrim(split_part(split_part(host, '@', -1), ':', 1), '.');
    if host !~ valid then
        -- Several words: the first that may be a host. Its letters as IDNA maps them (UTS 46, in short: NFKC and small
        -- letters, full stops of other scripts as dots, nothing invisible).
        host := normalize(left(typed, 500), NFKC);
        host := translate(
            lower(host collate core.unicode), U&'\3002\FF0E\FF61' || U&'\00AD\200B\200C\200D\2060\FEFF', '...'
        );
        host := substring(host from part || '*\.' || label || '+' || part || '*');
        host := regexp_replace(host, '^((https?|ftps?|mailto):/*|https?/+|/+)+', '');
        host := split_part(substring(host from '^[^/?#\\]*'), '@', -1);
        host := btrim(regexp_replace(host, ':[0-9]*$', ''), '.');
        -- The two middle dots stand in names of Catalonia and Japan.
        if octet_length(host) <> length(host)
            and regexp_replace(host, '[\u0001-\u007f\u00b7\u30fb]', '', 'g') !~ core.word_separators()
        then
            host := (
                select string_agg(core.ascii_label(s.label), '.' order by s.position)
                from string_to_table(host, '.') with ordinality as s (label, position)
            );
        end if;
        if host is null or host !~ valid then
            return null;
        end if;
    end if;
    if length(host) > 63 and (length(host) > 253 or host ~ '[^.]{64}') then
        return null;
    end if;
    return host;
end
$$;
comment on function core.web_host(text) is
'The host of a site, an e-mail address or a bare host as people type them, in small letters and punycode; null where '
'there is none, for IP addresses and for hosts without a dot.';

create function core.registrable_domain(website text) returns text
language plpgsql
stable
strict
parallel safe
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    -- What is looked for never has more labels; plugins/revops/seeds.py holds both files to it.
    most constant integer := 9;
    host text := core.web_host(website);
    labels text[] := string_to_array(host, '.');
    count_of_labels integer := cardinality(labels);
    ending text := labels[count_of_labels];
    endings text[] := array[ending];
    suffix_length integer;
    domain text;
begin
    if host is null then
        return null;
    end if;
    for back in 1..least(count_of_labels, most) - 1 loop
        ending := labels[count_of_labels - back] || '.' || ending;
        endings := endings || ending;
    end loop;
    perform from core.shared_domain as d where d.domain = any(endings);
    if found then
        return null;
    end if;
    -- An exception before all others, then the rule with the most labels; an ending that the list does not know counts
    -- as a rule, as the list's own rules say.
    select coalesce(min(s.suffix_labels) filter (where s.kind = 'exception'), max(s.suffix_labels), 1)
    into suffix_length
    from core.public_suffix as s
    where s.ending = any(endings) and s.suffix_labels <= count_of_labels;
    if suffix_length >= count_of_labels then
        return null;
    end if;
    domain := endings[suffix_length + 1];
    if strpos(domain, '_') > 0 then
        return null; -- can't be registered
    end if;
    if left(domain, 4) = 'www.' then
        -- Below somebody's domain it is the owner's own site (www.github.io).
        perform from core.public_suffix as s where s.ending = endings[suffix_length] and s.is_private;
        if found then
            return null;
        end if;
    end if;
    return domain;
end
$$;
comment on function core.registrable_domain(text) is
'The domain that was registered for a site, an e-mail address or a host: one label more than the ending by the public '
'suffix list, whose private part counts as well. IDN is given in punycode (xn--), as which both spellings are one. '
'Null for an IP address, a host without a dot, a bare ending, and below the domains of core.shared_domain.';

-- Values of ACE.

create function core.ace_value(field text, spelling text) returns text
language plpgsql
stable
strict
parallel safe
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    found_value text;
begin
    select m.value into found_value
    from core.ace_value_map as m
    where m.field = ace_value.field and m.spelling_key = core.spelling_key(ace_value.spelling);
    if found then
        return found_value;
    end if;
    if not exists (select from core.ace_value_map as m where m.field = ace_value.field) then
        raise exception 'core.ace_value_map has no field %', ace_value.field
            using errcode = 'invalid_parameter_value', hint = 'Add its values to include/seeds/ace_value.csv.';
    end if;
    return nullif(btrim(spelling, U&' \0009\000A\000D\00A0'), '');
end
$$;
comment on function core.ace_value(text, text) is
'The spelling of an ACE value that core uses; one that the map does not know as it is, without blanks around it; null '
'for blanks. Raises for a field that the map does not know.';

create function core.is_ace_value(field text, value text) returns boolean
language plpgsql
stable
strict
parallel safe
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
begin
    if exists (
        select from core.ace_value_map as m where m.field = is_ace_value.field and m.value = is_ace_value.value
    ) then
        return true;
    end if;
    if not exists (select from core.ace_value_map as m where m.field = is_ace_value.field) then
        raise exception 'core.ace_value_map has no field %', is_ace_value.field
            using errcode = 'invalid_parameter_value', hint = 'Add its values to include/seeds/ace_value.csv.';
    end if;
    return false;
end
$$;
comment on function core.is_ace_value(text, text) is
'Whether a text is a value of the field, in the very spelling that core uses. Raises for a field that the map does not '
'know.';

create function core.trimmed(value text) returns text
language sql
immutable
parallel safe
return nullif(
    btrim(
        value,
        U&' \0009\000A\000B\000C\000D\0085\00A0\1680\2000\2001\2002\2003\2004\2005\2006\2007\2008\2009\200A'
        '\200B\2028\2029\202F\205F\3000\FEFF'
    ),
    ''
);
comment on function core.trimmed(text) is
'A text without the blanks around it, those of Unicode and of no width included; null where nothing else is there.';

create function core.is_aws_account_id(value text) returns boolean
language sql
immutable
parallel safe
return core.trimmed(value) ~ '^[0-9]{12}$';
comment on function core.is_aws_account_id(text) is
'Whether a text is 12 digits, blanks around it left out; null for null and blanks.';

-- Texts with markup.

create function core.html_character(body text) returns text
language plpgsql
immutable
strict
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    point bigint;
begin
    if left(body, 1) <> '#' then
        -- The names of HTML 4, and apos.
        return '{
            "quot": "\"", "amp": "&", "apos": "''", "lt": "<", "gt": ">", "nbsp": "\u00a0", "iexcl": "¡", "cent": "¢",
            "pound": "£", "curren": "¤", "yen": "¥", "brvbar": "¦", "sect": "§", "uml": "¨", "copy": "©", "ordf": "ª",
            "laquo": "«", "not": "¬", "shy": "\u00ad", "reg": "®", "macr": "¯", "deg": "°", "plusmn": "±",
            "sup2": "²", "sup3": "³", "acute": "´", "micro": "µ", "para": "¶", "middot": "·", "cedil": "¸",
            "sup1": "¹", "ordm": "º", "raquo": "»", "frac14": "¼", "frac12": "½", "frac34": "¾", "iquest": "¿",
            "Agrave": "À", "Aacute": "Á", "Acirc": "Â", "Atilde": "Ã", "Auml": "Ä", "Aring": "Å", "AElig": "Æ",
            "Ccedil": "Ç", "Egrave": "È", "Eacute": "É", "Ecirc": "Ê", "Euml": "Ë", "Igrave": "Ì", "Iacute": "Í",
            "Icirc": "Î", "Iuml": "Ï", "ETH": "Ð", "Ntilde": "Ñ", "Ograve": "Ò", "Oacute": "Ó", "Ocirc": "Ô",
            "Otilde": "Õ", "Ouml": "Ö", "times": "×", "Oslash": "Ø", "Ugrave": "Ù", "Uacute": "Ú", "Ucirc": "Û",
            "Uuml": "Ü", "Yacute": "Ý", "THORN": "Þ", "szlig": "ß", "agrave": "à", "aacute": "á", "acirc": "â",
            "atilde": "ã", "auml": "ä", "aring": "å", "aelig": "æ", "ccedil": "ç", "egrave": "è", "eacute": "é",
            "ecirc": "ê", "euml": "ë", "igrave": "ì", "iacute": "í", "icirc": "î", "iuml": "ï", "eth": "ð",
            "ntilde": "ñ", "ograve": "ò", "oacute": "ó", "ocirc": "ô", "otilde": "õ", "ouml": "ö", "divide": "÷",
            "oslash": "ø", "ugrave": "ù", "uacute": "ú", "ucirc": "û", "uuml": "ü", "yacute": "ý", "thorn": "þ",
            "yuml": "ÿ", "OElig": "Œ", "oelig": "œ", "Scaron": "Š", "scaron": "š", "Yuml": "Ÿ", "fnof": "ƒ",
            "circ": "ˆ", "tilde": "˜", "Alpha": "Α", "Beta": "Β", "Gamma": "Γ", "Delta": "Δ", "Epsilon": "Ε",
            "Zeta": "Ζ", "Eta": "Η", "Theta": "Θ", "Iota": "Ι", "Kappa": "Κ", "Lambda": "Λ", "Mu": "Μ", "Nu": "Ν",
            "Xi": "Ξ", "Omicron": "Ο", "Pi": "Π", "Rho": "Ρ", "Sigma": "Σ", "Tau": "Τ", "Upsilon": "Υ", "Phi": "Φ",
            "Chi": "Χ", "Psi": "Ψ", "Omega": "Ω", "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ",
            "epsilon": "ε", "zeta": "ζ", "eta": "η", "theta": "θ", "iota": "ι", "kappa": "κ", "lambda": "λ",
            "mu": "μ", "nu": "ν", "xi": "ξ", "omicron": "ο", "pi": "π", "rho": "ρ", "sigmaf": "ς", "sigma": "σ",
            "tau": "τ", "upsilon": "υ", "phi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "thetasym": "ϑ",
            "upsih": "ϒ", "piv": "ϖ", "ensp": "\u2002", "emsp": "\u2003", "thinsp": "\u2009", "zwnj": "\u200c",
            "zwj": "\u200d", "lrm": "\u200e", "rlm": "\u200f", "ndash": "–", "mdash": "—", "lsquo": "‘", "rsquo": "’",
            "sbquo": "‚", "ldquo": "“", "rdquo": "”", "bdquo": "„", "dagger": "†", "Dagger": "‡", "bull": "•",
            "hellip": "…", "permil": "‰", "prime": "′", "Prime": "″", "lsaquo": "‹", "rsaquo": "›", "oline": "‾",
            "frasl": "⁄", "euro": "€", "image": "ℑ", "weierp": "℘", "real": "ℜ", "trade": "™", "alefsym": "ℵ",
            "larr": "←", "uarr": "↑", "rarr": "→", "darr": "↓", "harr": "↔", "crarr": "↵", "lArr": "⇐", "uArr": "⇑",
            "rArr": "⇒", "dArr": "⇓", "hArr": "⇔", "forall": "∀", "part": "∂", "exist": "∃", "empty": "∅",
            "nabla": "∇", "isin": "∈", "notin": "∉", "ni": "∋", "prod": "∏", "sum": "∑", "minus": "−", "lowast": "∗",
            "radic": "√", "prop": "∝", "infin": "∞", "ang": "∠", "and": "∧", "or": "∨", "cap": "∩", "cup": "∪",
            "int": "∫", "there4": "∴", "sim": "∼", "cong": "≅", "asymp": "≈", "ne": "≠", "equiv": "≡", "le": "≤",
            "ge": "≥", "sub": "⊂", "sup": "⊃", "nsub": "⊄", "sube": "⊆", "supe": "⊇", "oplus": "⊕", "otimes": "⊗",
            "perp": "⊥", "sdot": "⋅", "lceil": "⌈", "rceil": "⌉", "lfloor": "⌊", "rfloor": "⌋", "lang": "⟨",
            "rang": "⟩", "loz": "◊", "spades": "♠", "clubs": "♣", "hearts": "♥", "diams": "♦"
        }'::jsonb ->> body;
    end if;
    if lower(substr(body, 2, 1)) = 'x' then
        point := ('x' || lpad(ltrim(substr(body, 3), '0'), 16, '0'))::bit(64)::bigint;
    else
        point := substr(body, 2)::bigint;
    end if;
    -- 128 to 159 are what Windows has there, as browsers read them.
    if point between 128 and 159 then
        point := (array[
            8364, 129, 8218, 402, 8222, 8230, 8224, 8225, 710, 8240, 352, 8249, 338, 141, 381, 143,
            144, 8216, 8217, 8220, 8221, 8226, 8211, 8212, 732, 8482, 353, 8250, 339, 157, 382, 376
        ])[point - 127];
    end if;
    if point = 0 or point > 1114111 or point between 55296 and 57343 then
        point := 65533;
    end if;
    return chr(point::integer);
end
$$;
comment on function core.html_character(text) is
'The character of an entity, given without & and ; (amp, #38, #x26); null for a name that HTML 4 does not have.';

create function core.plain_text(html text) returns text
language plpgsql
immutable
strict
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    plain text := html;
    -- Attributes may hold a >. No < in them: a text of many < would take the square of its length.
    attributes constant text := '([^<>"'']|=\s*"[^"<]*"|=\s*''[^''<]*'')*>';
    blanks constant text :=
        '\u0001-\u001f\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000';
    hidden text;
begin
    if strpos(plain, '<') > 0 then
        plain := regexp_replace(plain, '<!--.*?(-->|$)', '', 'g');
        foreach hidden in array array['script', 'style', 'title', 'template'] loop
            plain := regexp_replace(
                plain, '<' || hidden || '\M[^<>]*?>.*?(</' || hidden || '\M[^<>]*>|$)', ' ', 'gi'
            );
        end loop;
        -- Within a line a tag divides no word.
        plain := regexp_replace(
            plain,
            '</?(a|abbr|acronym|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|ins|kbd|label|mark|o:p|q|s|samp|small|'
            'span|strike|strong|sub|sup|time|tt|u|var|wbr)\M' || attributes,
            '', 'gi'
        );
        plain := regexp_replace(plain, '<[a-z/!?]' || attributes, ' ', 'gi');
        plain := regexp_replace(plain, '<[a-z/!?][^<>]*>', ' ', 'gi');
    end if;
    if strpos(plain, '&') > 0 then
        -- Those that editors write. None of their characters can be a part of another entity.
        plain := replace(replace(replace(replace(replace(
            plain, '&nbsp;', ' '), '&lt;', '<'), '&gt;', '>'), '&quot;', '"'), '&#39;', ''''
        );
    end if;
    if plain !~ '&(?!amp;)(#[0-9a-fA-FxX]+|[a-zA-Z][a-zA-Z0-9]+);' then
        plain := replace(plain, '&amp;', '&');
    else
        -- In one pass, for "&amp;lt;" means "&lt;".
        plain := (
            select string_agg(
                case
                    when p.position = 1 then p.part
                    else coalesce(
                        core.html_character(e.body) || substr(p.part, length(e.body) + 2),
                        '&' || p.part
                    )
                end,
                '' order by p.position
            )
            from string_to_table(plain, '&') with ordinality as p (part, position)
            cross join lateral (
                select substring(
                    left(p.part, 34) from '^(#[0-9]{1,9}|#[xX][0-9a-fA-F]{1,8}|[a-zA-Z][a-zA-Z0-9]{1,30});'
                )
            ) as e (body)
        );
    end if;
    if octet_length(plain) <> length(plain) then
        plain := translate(plain, U&'\00AD\200B\2060\FEFF', '');
    end if;
    -- A blank that stands alone is left as it is: most do, and each replacement costs.
    return nullif(btrim(regexp_replace(
        plain, ' [ ' || blanks || ']+|[' || blanks || '][ ' || blanks || ']*', ' ', 'g'
    )), '');
end
$$;
comment on function core.plain_text(text) is
'What a text says when it may be HTML: without tags, comments, scripts and styles, entities as their characters, '
'blanks folded; null where nothing is left.';

grant execute on function
core.small_letters(text), core.spelling_key(text), core.word_separators(), core.name_words(text),
core.normalised_name(text), core.ascii_label(text), core.web_host(text), core.registrable_domain(text),
core.ace_value(text, text), core.is_ace_value(text, text), core.trimmed(text), core.is_aws_account_id(text),
core.html_character(text), core.plain_text(text)
to revops_transform, revops_embed, revops_quality, revops_api;
