"""Statements with the edges that they have: what reading and running them is tried against."""

from __future__ import annotations

from dataclasses import dataclass

from revops.lineage.edges import Edge

INPUTS = {
    "odoo_t": ("id", "a", "b", "n", "j", "arr", "at", "flag", "u_id"),
    "odoo_u": ("id", "x", "y", "t_id"),
    "odoo_v": ("id", "x", "k"),
    "core.thing": ("source_system", "source_id", "name"),
}
RELATIONS = {"t": "raw.odoo_t", "u": "raw.odoo_u", "v": "raw.odoo_v", "thing": "core.thing"}


@dataclass(frozen=True)
class Case:
    """A statement and its edges: by output column, the input columns whose values are in it, then `|`, then those that
    decide over it.

    unused: what PostgreSQL says that it reads, though nothing of it reaches the output. chooses: it takes some of
    several rows, so that what decides which rows there are changes the columns as well.
    """

    statement: str
    edges: dict[str, str]
    unused: str = ""
    chooses: bool = False


def short(edges: tuple[Edge, ...]) -> dict[str, str]:
    """Write edges as cases do."""
    names = {relation: name for name, relation in RELATIONS.items()}
    found: dict[str, tuple[list[str], list[str]]] = {}
    for edge in edges:
        kinds = found.setdefault(edge.output_column, ([], []))
        kinds[edge.kind == "condition"].append(f"{names[edge.input_relation]}.{edge.input_column}")
    return {
        column: " ".join([*sorted(values), *(["|", *sorted(conditions)] if conditions else [])])
        for column, (values, conditions) in sorted(found.items())
    }


CASES = {
    "plain columns": Case(
        "select t.id as source_id, t.a, upper(b) || n::text as both, 'x' as fixed, null::text as none, "
        "%(source)s as source from odoo_t as t",
        {
            "*": "| t.*",
            "a": "t.a",
            "both": "t.b t.n",
            "source_id": "t.id",
        },
    ),
    "where": Case(
        "select id as source_id, a from odoo_t where b <> 'b2' and (n > 1 or flag)",
        {
            "*": "| t.b t.flag t.n",
            "a": "t.a",
            "source_id": "t.id",
        },
    ),
    "left join": Case(
        "select t.id as source_id, t.a, u.x from odoo_t as t left join odoo_u as u on u.t_id = t.id",
        {
            "*": "| t.id u.t_id",
            "a": "t.a",
            "source_id": "t.id",
            "x": "u.x | t.id u.t_id",
        },
    ),
    "inner join": Case(
        "select t.id as source_id, t.a, u.x from odoo_t as t inner join odoo_u as u on u.t_id = t.id and u.y > 0",
        {
            "*": "| t.id u.t_id u.y",
            "a": "t.a",
            "source_id": "t.id",
            "x": "u.x | t.id u.t_id u.y",
        },
    ),
    "right join": Case(
        "select u.id as source_id, t.a, u.x from odoo_t as t right join odoo_u as u on u.t_id = t.id",
        {
            "*": "| t.id u.t_id",
            "a": "t.a | t.id u.t_id",
            "source_id": "u.id",
            "x": "u.x",
        },
    ),
    "full join": Case(
        "select coalesce(t.id, u.id) as source_id, t.a, u.x from odoo_t as t full join odoo_u as u on u.t_id = t.id",
        {
            "*": "| t.id u.t_id",
            "a": "t.a | t.id u.t_id",
            "source_id": "t.id u.id | u.t_id",
            "x": "u.x | t.id u.t_id",
        },
    ),
    "cross join": Case(
        "select t.id * 100 + u.id as source_id, u.x from odoo_t as t cross join odoo_u as u where t.n = u.y",
        {
            "*": "| t.n u.y",
            "source_id": "t.id u.id | t.n u.y",
            "x": "u.x | t.n u.y",
        },
    ),
    "comma join": Case(
        "select t.id * 100 + u.id as source_id, u.x from odoo_t as t, odoo_u as u where t.n = u.y",
        {
            "*": "| t.n u.y",
            "source_id": "t.id u.id | t.n u.y",
            "x": "u.x | t.n u.y",
        },
    ),
    "using": Case(
        "select id as source_id, t.a, v.k from odoo_t as t left join odoo_v as v using (id)",
        {
            "*": "| t.id v.id",
            "a": "t.a",
            "k": "v.k | t.id v.id",
            "source_id": "t.id",
        },
    ),
    "using, inner": Case(
        "select id as source_id, v.x from odoo_u as u join odoo_v as v using (id, x)",
        {
            "*": "| u.id u.x v.id v.x",
            "source_id": "u.id",
            "x": "v.x | u.id u.x v.id",
        },
    ),
    "using, full": Case(
        "select id as source_id, v.k from odoo_u as u full join odoo_v as v using (id)",
        {
            "*": "| u.id v.id",
            "k": "v.k | u.id v.id",
            "source_id": "u.id v.id",
        },
    ),
    "using, right": Case(
        "select id as source_id, u.y from odoo_u as u right join odoo_v as v using (id)",
        {
            "*": "| u.id v.id",
            "source_id": "v.id",
            "y": "u.y | u.id v.id",
        },
    ),
    "natural join": Case(
        "select id as source_id, y, k from (select id, y from odoo_u) as u natural join (select id, k "
        "from odoo_v) as v",
        {
            "*": "| u.id v.id",
            "k": "v.k | u.id v.id",
            "source_id": "u.id",
            "y": "u.y",
        },
    ),
    "star": Case(
        "select *, 1 as one from odoo_v as v",
        {
            "*": "| v.*",
            "_deleted_at": "v._deleted_at",
            "_load_id": "v._load_id",
            "id": "v.id",
            "k": "v.k",
            "x": "v.x",
        },
    ),
    "star of one": Case(
        "select u.*, t.a from odoo_u as u left join odoo_t as t on t.id = u.t_id",
        {
            "*": "| t.id u.t_id",
            "_deleted_at": "u._deleted_at",
            "_load_id": "u._load_id",
            "a": "t.a | t.id u.t_id",
            "id": "u.id",
            "t_id": "u.t_id",
            "x": "u.x",
            "y": "u.y",
        },
    ),
    "star over using": Case(
        "select * from (select id, y from odoo_u) as u join (select id, k from odoo_v) as v using (id)",
        {
            "*": "| u.id v.id",
            "id": "u.id",
            "k": "v.k | u.id v.id",
            "y": "u.y",
        },
    ),
    "nested joins": Case(
        "select t.id as source_id, v.k from odoo_t as t left join (odoo_u as u inner join odoo_v as v on "
        "v.id = u.id) on u.t_id = t.id",
        {
            "*": "| t.id u.id u.t_id v.id",
            "k": "v.k | t.id u.id u.t_id v.id",
            "source_id": "t.id",
        },
    ),
    "aliased join": Case(
        "select j.tid as source_id, j.x from (odoo_t as t inner join odoo_u as u on u.t_id = t.id) as j "
        "(tid, a, b, n, j, arr, at, flag, u_id, load_t, gone_t, uid, x)",
        {
            "*": "| t.id u.t_id",
            "source_id": "t.id",
            "x": "u.x | t.id u.t_id",
        },
    ),
    "case": Case(
        "select id as source_id, case when flag then a when n > 3 then b else 'x' end as c, case a when "
        "'a1' then b when b then a end as d from odoo_t",
        {
            "*": "| t.*",
            "c": "t.a t.b | t.flag t.n",
            "d": "t.a t.b",
            "source_id": "t.id",
        },
    ),
    "nullif coalesce greatest": Case(
        "select id as source_id, nullif(a, b) as c, coalesce(a, b, n::text) as d, greatest(n, u_id) as e from odoo_t",
        {
            "*": "| t.*",
            "c": "t.a | t.b",
            "d": "t.a t.b t.n",
            "e": "t.n t.u_id",
            "source_id": "t.id",
        },
    ),
    "cte": Case(
        "with c as (select t_id, max(y) as y, count(*) as number from odoo_u where x <> 'x1' group by "
        "t_id) select t.id as source_id, c.y, coalesce(c.number, 0) as number from odoo_t as t left join "
        "c on c.t_id = t.id",
        {
            "*": "| t.id u.t_id u.x",
            "number": "| t.id u.t_id u.x",
            "source_id": "t.id",
            "y": "u.y | t.id u.t_id u.x",
        },
    ),
    "cte with names": Case(
        "with c (p, q) as (select id, a from odoo_t) select p as source_id, q from c",
        {
            "*": "| t.*",
            "q": "t.a",
            "source_id": "t.id",
        },
    ),
    "cte in cte, same name as a table": Case(
        "with odoo_t as (select id, x as a from odoo_u), d as (with e as (select id, a from odoo_t) "
        "select id, a || '!' as a from e) select id as source_id, a from d",
        {
            "*": "| u.*",
            "a": "u.x",
            "source_id": "u.id",
        },
    ),
    "unused cte": Case(
        "with c as (select k from odoo_v) select id as source_id from odoo_t",
        {
            "*": "| t.*",
            "source_id": "t.id",
        },
        unused="v.k",
    ),
    "union": Case(
        "select id as source_id, a as c from odoo_t where flag union all select id + 1000, x from odoo_u where y > 1",
        {
            "*": "| t.flag u.y",
            "c": "t.a u.x",
            "source_id": "t.id u.id",
        },
    ),
    "union distinct": Case(
        "select a as source_id, 1 as one from odoo_t union select x, 2 from odoo_u",
        {
            "*": "| t.a u.x",
            "source_id": "t.a u.x",
        },
    ),
    "except": Case(
        "select id as source_id from odoo_t where flag except select t_id from odoo_u where y > 1",
        {
            "*": "| t.flag t.id u.t_id u.y",
            "source_id": "t.id",
        },
    ),
    "intersect": Case(
        "select id as source_id from odoo_t intersect all select t_id from odoo_u",
        {
            "*": "| t.id u.t_id",
            "source_id": "t.id",
        },
    ),
    "union with limit": Case(
        "(select id as source_id, a as c from odoo_t order by n, id limit 3) union all select id + 1000, x "
        "from odoo_u order by 2, 1 limit 5",
        {
            "*": "| t.a t.id t.n u.id u.x",
            "c": "t.a u.x",
            "source_id": "t.id u.id",
        },
        chooses=True,
    ),
    "aggregates": Case(
        "select u.t_id as source_id, count(*) as number, sum(u.y) as total, array_agg(u.x order by u.id) "
        "as xs, string_agg(distinct u.x, ',') as text, max(u.y) filter (where u.x = 'x1') as most, "
        "bool_or(u.y > 2) as some, jsonb_agg(u.x order by u.y) as json, jsonb_object_agg(u.id, u.x) as "
        "object from odoo_u as u where u.id > 1 group by u.t_id having count(u.y) > 0",
        {
            "*": "| u.id u.t_id u.y",
            "json": "u.x | u.id u.t_id u.y",
            "most": "u.y | u.id u.t_id u.x",
            "number": "| u.id u.t_id u.y",
            "object": "u.id u.x | u.t_id u.y",
            "some": "u.y | u.id u.t_id",
            "source_id": "u.t_id",
            "text": "u.x | u.id u.t_id u.y",
            "total": "u.y | u.id u.t_id",
            "xs": "u.x | u.id u.t_id u.y",
        },
    ),
    "aggregate without group": Case(
        "select count(*) as number, max(a) as most from odoo_t where flag",
        {
            "most": "t.a | t.flag",
            "number": "| t.flag",
        },
    ),
    "count of rows": Case(
        "select 1 as source_id, count(*) as number from odoo_t",
        {
            "number": "| t.*",
        },
    ),
    "ordered set": Case(
        "select t_id as source_id, percentile_cont(0.5) within group (order by y) as median, mode() "
        "within group (order by x) filter (where id > 2) as usual from odoo_u group by t_id",
        {
            "*": "| u.t_id",
            "median": "u.y | u.t_id",
            "source_id": "u.t_id",
            "usual": "u.x | u.id u.t_id",
        },
    ),
    "grouping sets": Case(
        "select t_id as source_id, x, sum(y) as total, grouping(x) as g from odoo_u group by grouping "
        "sets ((t_id, x), (t_id), ())",
        {
            "*": "| u.t_id u.x",
            "g": "u.x | u.t_id",
            "source_id": "u.t_id",
            "total": "u.y | u.t_id u.x",
            "x": "u.x",
        },
    ),
    "group by position and alias": Case(
        "select lower(x) as source_id, y % 2 as parity, count(*) as number from odoo_u group by 1, parity",
        {
            "*": "| u.x u.y",
            "number": "| u.x u.y",
            "parity": "u.y",
            "source_id": "u.x",
        },
    ),
    "windows": Case(
        "select id as source_id, row_number() over (partition by t_id order by y, id) as place, lag(x) "
        "over (order by id) as before, sum(y) over w as running, first_value(x) over (w order by y desc) "
        "as top from odoo_u where x <> 'x3' window w as (partition by t_id)",
        {
            "*": "| u.x",
            "before": "u.x | u.id",
            "place": "| u.id u.t_id u.x u.y",
            "running": "u.y | u.t_id u.x",
            "source_id": "u.id",
            "top": "u.x | u.t_id u.y",
        },
    ),
    "window over groups": Case(
        "select t_id as source_id, sum(count(*)) over (order by t_id) as running from odoo_u where y > 0 group by t_id",
        {
            "*": "| u.t_id u.y",
            "running": "| u.t_id u.y",
            "source_id": "u.t_id",
        },
    ),
    "distinct": Case(
        "select distinct x as source_id, y > 2 as many from odoo_u",
        {
            "*": "| u.x u.y",
            "many": "u.y",
            "source_id": "u.x",
        },
    ),
    "distinct on": Case(
        "select distinct on (t_id) t_id as source_id, x from odoo_u order by t_id, y desc, id",
        {
            "*": "| u.id u.t_id u.y",
            "source_id": "u.t_id",
            "x": "u.x",
        },
        chooses=True,
    ),
    "order and limit": Case(
        "select id as source_id, a from odoo_t order by n desc, source_id limit 4 offset 1",
        {
            "*": "| t.id t.n",
            "a": "t.a",
            "source_id": "t.id",
        },
    ),
    "order without limit": Case(
        "select id as source_id from odoo_t order by n",
        {
            "*": "| t.*",
            "source_id": "t.id",
        },
        unused="t.n",
    ),
    "fetch first": Case(
        "select id as source_id from odoo_t order by n, id fetch first 3 rows only",
        {
            "*": "| t.id t.n",
            "source_id": "t.id",
        },
    ),
    "scalar subquery": Case(
        "select t.id as source_id, (select max(u.y) from odoo_u as u where u.t_id = t.id and u.x <> 'x2') "
        "as most, array(select u.x from odoo_u as u where u.t_id = t.n order by u.id) as xs from odoo_t "
        "as t",
        {
            "*": "| t.*",
            "most": "u.y | t.id u.t_id u.x",
            "source_id": "t.id",
            "xs": "u.x | t.n u.id u.t_id",
        },
    ),
    "exists": Case(
        "select t.id as source_id, exists (select from odoo_u as u where u.t_id = t.id) as has_u from "
        "odoo_t as t where not exists (select 1 from odoo_v as v where v.id = t.n + 4)",
        {
            "*": "| t.n v.id",
            "has_u": "| t.id u.t_id",
            "source_id": "t.id",
        },
    ),
    "in": Case(
        "select t.id as source_id, t.a in (select u.x from odoo_u as u where u.y > 1) as known, t.n = any "
        "(select v.id from odoo_v as v) as one from odoo_t as t where (t.id, t.n) in (select u.id, u.y "
        "from odoo_u as u) or t.id in (1, 2, 3)",
        {
            "*": "| t.id t.n u.id u.y",
            "known": "t.a u.x | u.y",
            "one": "t.n v.id",
            "source_id": "t.id",
        },
    ),
    "subquery in from": Case(
        "select s.source_id, s.c from (select id as source_id, a || b as c, n from odoo_t where flag) as "
        "s where s.n > 1",
        {
            "*": "| t.flag t.n",
            "c": "t.a t.b",
            "source_id": "t.id",
        },
    ),
    "subquery with names": Case(
        "select s.p as source_id, s.q from (select id, a from odoo_t) as s (p, q)",
        {
            "*": "| t.*",
            "q": "t.a",
            "source_id": "t.id",
        },
    ),
    "lateral": Case(
        "select t.id as source_id, l.x from odoo_t as t left join lateral (select u.x, u.y from odoo_u as "
        "u where u.t_id = t.id order by u.y desc, u.id limit 1) as l on true",
        {
            "*": "| t.id u.id u.t_id u.y",
            "source_id": "t.id",
            "x": "u.x | t.id u.id u.t_id u.y",
        },
    ),
    "lateral values": Case(
        "select t.id as source_id, l.kind, l.value from odoo_t as t cross join lateral (values (t.a, "
        "'a'), (t.b, 'b')) as l (value, kind) where l.value is not null",
        {
            "*": "| t.a t.b",
            "kind": "| t.a t.b",
            "source_id": "t.id",
            "value": "t.a t.b",
        },
    ),
    "lateral unnest": Case(
        "select t.id as source_id, s.part, s.place from odoo_t as t cross join lateral unnest(t.arr) with "
        "ordinality as s (part, place) where s.part <> 'p1'",
        {
            "*": "| t.arr",
            "part": "t.arr",
            "place": "| t.arr",
            "source_id": "t.id",
        },
    ),
    "unnest of two": Case(
        "select t.id as source_id, s.p, s.q from odoo_t as t cross join unnest(t.arr, array[t.a, t.b]) as s (p, q)",
        {
            "*": "| t.a t.arr t.b",
            "p": "t.arr | t.a t.b",
            "q": "t.a t.b | t.arr",
            "source_id": "t.id",
        },
    ),
    "implicitly lateral": Case(
        "select t.id as source_id, part from odoo_t as t, unnest(t.arr) as part",
        {
            "*": "| t.arr",
            "part": "t.arr",
            "source_id": "t.id",
        },
    ),
    "function with column definitions": Case(
        "select t.id as source_id, r.p, r.q from odoo_t as t cross join lateral jsonb_to_record(t.j) as r "
        "(p text, q jsonb)",
        {
            "*": "| t.j",
            "p": "t.j",
            "q": "t.j",
            "source_id": "t.id",
        },
    ),
    "function of unknown columns": Case(
        "select t.id as source_id, e.key, e.value from odoo_t as t left join lateral jsonb_each_text(t.j) "
        "as e on e.key = t.a",
        {
            "*": "| t.a t.j",
            "key": "t.j | t.a",
            "source_id": "t.id",
            "value": "t.j | t.a",
        },
    ),
    "function of a subquery": Case(
        "select c.node as source_id, c.root from pairs((select array_agg(a order by id) from odoo_t), "
        "(select array_agg(x) from odoo_u)) as c",
        {
            "*": "| t.a t.id u.x",
            "root": "t.a u.x | t.id",
            "source_id": "t.a u.x | t.id",
        },
    ),
    "rows from": Case(
        "select t.id as source_id, f.p, f.q from odoo_t as t cross join rows from (unnest(t.arr), "
        "generate_series(1, t.n)) as f (p, q)",
        {
            "*": "| t.arr t.n",
            "p": "t.arr | t.n",
            "q": "t.n | t.arr",
            "source_id": "t.id",
        },
    ),
    "set in select": Case(
        "select id as source_id, unnest(arr) as part, a from odoo_t",
        {
            "*": "| t.arr",
            "a": "t.a",
            "part": "t.arr",
            "source_id": "t.id",
        },
    ),
    "split in select": Case(
        "select id as source_id, regexp_split_to_table(a, '') as letter from odoo_t",
        {
            "*": "| t.a",
            "letter": "t.a",
            "source_id": "t.id",
        },
    ),
    "values": Case(
        "select l.id as source_id, l.label, t.a from (values (1, 'one'), (2, 'two')) as l (id, label) "
        "left join odoo_t as t on t.id = l.id",
        {
            "*": "| t.id",
            "a": "t.a | t.id",
        },
    ),
    "series": Case(
        "select g.n as source_id, t.a from generate_series(1, 5) as g (n) left join odoo_t as t on t.id = g.n",
        {
            "*": "| t.id",
            "a": "t.a | t.id",
        },
    ),
    "recursive": Case(
        "with recursive up (id, top, depth) as (select id, a, 0 from odoo_t where u_id is null union all "
        "select t.id, up.top, up.depth + 1 from odoo_t as t inner join up on up.id = t.u_id where up.depth < 4) "
        "select id as source_id, top, depth from up",
        {
            "*": "| t.id t.u_id",
            "depth": "| t.id t.u_id",
            "source_id": "t.id",
            "top": "t.a | t.id t.u_id",
        },
    ),
    "mutual columns of a recursion": Case(
        "with recursive r as (select id, a as p, b as q, 1 as step from odoo_t union all select r.id, "
        "r.q, r.p, r.step + 1 from r inner join odoo_u as u on u.id = r.id where r.step < 3) select id as "
        "source_id, p from r where step = 2",
        {
            "*": "| t.id u.id",
            "p": "t.a t.b",
            "source_id": "t.id",
        },
    ),
    "json": Case(
        "select id as source_id, j ->> 'p' as p, coalesce(j -> 'q', '{}') as q, j #>> '{r,s}' as r, j ? a "
        "as has, (j -> 'l' -> 0)::text as l from odoo_t",
        {
            "*": "| t.*",
            "has": "t.a t.j",
            "l": "t.j",
            "p": "t.j",
            "q": "t.j",
            "r": "t.j",
            "source_id": "t.id",
        },
    ),
    "whole row": Case(
        "select t.id as source_id, to_jsonb(t) as record, row(t.*)::text as line from odoo_t as t",
        {
            "*": "| t.*",
            "line": "t._deleted_at t._load_id t.a t.arr t.at t.b t.flag t.id t.j t.n t.u_id",
            "record": "t._deleted_at t._load_id t.a t.arr t.at t.b t.flag t.id t.j t.n t.u_id",
            "source_id": "t.id",
        },
    ),
    "row fields": Case(
        "select (t).id as source_id, (t).a from odoo_t as t",
        {
            "*": "| t.*",
            "a": "t.a",
            "source_id": "t.id",
        },
    ),
    "times": Case(
        "select id as source_id, extract(epoch from at - now()) > 0 as future, date_trunc('month', at at "
        "time zone 'UTC')::date as month, at + n * interval '1 day' as later, make_interval(days => n) as "
        "span from odoo_t",
        {
            "*": "| t.*",
            "future": "t.at",
            "later": "t.at t.n",
            "month": "t.at",
            "source_id": "t.id",
            "span": "t.n",
        },
    ),
    "text": Case(
        "select id as source_id, btrim(a, e' \\t\\r\\n\\u00a0') as c, substring(b from '^[a-z]') as d, "
        "position('1' in a) as e, overlay(a placing b from 1) as f, trim(both 'x' from a) as g, a like b "
        "|| '%%' as h, a ~ '^a' as i, normalize(a, nfc) as k, a collate \"C\" as l, concat_ws('-', a, b) as "
        "m, a similar to 'a_' as o, format('%%s', b) as q from odoo_t",
        {
            "*": "| t.*",
            "c": "t.a",
            "d": "t.b",
            "e": "t.a",
            "f": "t.a t.b",
            "g": "t.a",
            "h": "t.a t.b",
            "i": "t.a",
            "k": "t.a",
            "l": "t.a",
            "m": "t.a t.b",
            "o": "t.a",
            "q": "t.b",
            "source_id": "t.id",
        },
    ),
    "arrays": Case(
        "select id as source_id, arr[1] as first, arr[1:2] as two, array_length(arr, 1) as size, a = any "
        "(arr) as inside, arr @> array[b] as holds, array[a, b] as both, (array_agg(a) over (order by "
        "id))[1] as top from odoo_t",
        {
            "*": "| t.*",
            "both": "t.a t.b",
            "first": "t.arr",
            "holds": "t.arr t.b",
            "inside": "t.a t.arr",
            "size": "t.arr",
            "source_id": "t.id",
            "top": "t.a | t.id",
            "two": "t.arr",
        },
    ),
    "comparisons": Case(
        "select id as source_id, a is distinct from b as differ, n between 1 and u_id as within, a is "
        "null as empty, not flag as off, flag is not true as no, (a, n) = (b, u_id) as same from odoo_t",
        {
            "*": "| t.*",
            "differ": "t.a t.b",
            "empty": "t.a",
            "no": "t.flag",
            "off": "t.flag",
            "same": "t.a t.b t.n t.u_id",
            "source_id": "t.id",
            "within": "t.n t.u_id",
        },
    ),
    "quoted names": Case(
        'select t."id" as source_id, t.a as "Mixed Name" from odoo_t as t',
        {
            "*": "| t.*",
            "Mixed Name": "t.a",
            "source_id": "t.id",
        },
    ),
    "scoped": Case(
        "select t.id as source_id, t.a, s.n from scoped_odoo_t as t left join odoo_t as s on s.id = t.u_id",
        {
            "*": "| t.id t.u_id",
            "a": "t.a",
            "n": "t.n | t.id t.u_id",
            "source_id": "t.id",
        },
    ),
    "metadata": Case(
        "select id as source_id, _load_id as raw_load_id, _deleted_at as deleted_at from odoo_t",
        {
            "*": "| t.*",
            "deleted_at": "t._deleted_at",
            "raw_load_id": "t._load_id",
            "source_id": "t.id",
        },
    ),
    "core table": Case(
        "select t.id as source_id, c.name from odoo_t as t left join core.thing as c on c.source_id = "
        "t.id::text and c.source_system = 'odoo'",
        {
            "*": "| t.id thing.source_id thing.source_system",
            "name": "thing.name | t.id thing.source_id thing.source_system",
            "source_id": "t.id",
        },
    ),
    "a table without an alias": Case(
        "select odoo_t.id as source_id, thing.name from odoo_t left join core.thing on thing.source_id = odoo_t.a",
        {
            "*": "| t.a thing.source_id",
            "name": "thing.name | t.a thing.source_id",
            "source_id": "t.id",
        },
    ),
    "correlated over two levels": Case(
        "select t.id as source_id, (select max((select count(*) from odoo_v as v where v.id = u.y and v.k "
        "<> t.b)) from odoo_u as u where u.t_id = t.id) as most from odoo_t as t",
        {
            "*": "| t.*",
            "most": "| t.b t.id u.t_id u.y v.id v.k",
            "source_id": "t.id",
        },
    ),
    "first of each of a union": Case(
        "with every as (select id, a as c, 'odoo' as system from odoo_t union all select id, x, 'ace' from "
        "odoo_u) select distinct on (id) id as source_id, c, system from every order by id, c",
        {
            "*": "| t.a t.id u.id u.x",
            "c": "t.a u.x",
            "source_id": "t.id u.id",
        },
        chooses=True,
    ),
    "reserved words": Case(
        "select id as source_id, user as who, current_date as today from odoo_t",
        {
            "*": "| t.*",
            "source_id": "t.id",
        },
    ),
    "qualified functions": Case(
        "select id as source_id, pg_catalog.upper(a) as c, pg_catalog.concat(variadic arr) as d from odoo_t",
        {
            "*": "| t.*",
            "c": "t.a",
            "d": "t.arr",
            "source_id": "t.id",
        },
    ),
    "casts": Case(
        "select id as source_id, cast(a as varchar(3)) as c, n::numeric(10, 2) as d, a::text::varchar as e from odoo_t",
        {
            "*": "| t.*",
            "c": "t.a",
            "d": "t.n",
            "e": "t.a",
            "source_id": "t.id",
        },
    ),
}
