"""Rejected rows: kept by key with the rule they broke, and released when they are mended or gone."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql

from revops.transform.merge import DESIRED
from revops.transform.rules import ISSUES, REJECTED, Rule
from revops.transform.targets import Target


def quarantine(
    warehouse: psycopg.Connection, target: Target, rules: Sequence[Rule], *, source: str, run_id: str
) -> int:
    """Put the rejected rows of pg_temp.desired into ops.quarantine; return how many rows. Does not commit.

    One entry a row and broken rule; entries of this table and source that were not rejected again are released: every
    run computes all rows in quarantine again, and a row that is no longer computed is gone from raw.
    """
    reasons = {rule.name: f"{rule.name}. {rule.remedy}" for rule in rules if rule.action == "reject"}
    if not reasons:
        _release(warehouse, target, source, run_id)
        return 0
    key = sql.SQL(" || ':' || ").join(sql.Identifier(name) for name in target.quarantine_key)
    pairs = sql.SQL(", ").join(
        sql.SQL("({}, {})").format(sql.Literal(name), sql.Literal(reason)) for name, reason in reasons.items()
    )
    warehouse.execute(
        sql.SQL(
            "insert into ops.quarantine as q (target, source, source_key, rule, reason, first_run_id, last_run_id) "
            "select {target}, {source}, {key}, r.rule, r.reason, {run}, {run} "
            "from {desired} cross join unnest({rejected}) as broken (rule) "
            "inner join (values {pairs}) as r (rule, reason) using (rule) "
            "where {rejected} is not null "
            "on conflict (target, source, source_key, rule) do update set reason = excluded.reason, "
            "last_seen_at = now(), last_run_id = excluded.last_run_id, released_at = null"
        ).format(
            target=sql.Literal(target.qualified),
            source=sql.Literal(source),
            key=key,
            run=sql.Literal(run_id),
            desired=DESIRED,
            rejected=sql.Identifier(REJECTED),
            pairs=pairs,
        )
    )
    _release(warehouse, target, source, run_id)
    row = warehouse.execute(
        sql.SQL("select count(*) from {} where {} is not null").format(DESIRED, sql.Identifier(REJECTED))
    ).fetchone()
    return int(row[0]) if row else 0


def _release(warehouse: psycopg.Connection, target: Target, source: str, run_id: str) -> None:
    warehouse.execute(
        "update ops.quarantine set released_at = now() where target = %s and source = %s and released_at is null "
        "and (last_run_id <> %s or last_seen_at <> now())",
        (target.qualified, source, run_id),
    )


def record_rules(warehouse: psycopg.Connection, rules: Sequence[Rule], *, transform_run_id: int) -> dict[str, int]:
    """Write to ops.rule_result how many computed rows broke each rule; return the same. Does not commit."""
    if not rules:
        return {}
    counted: dict[str, int] = dict(
        warehouse.execute(
            sql.SQL(
                "select broken.rule, count(*) from {} cross join unnest({} || {}) as broken (rule) "
                "where {} is not null or {} is not null group by broken.rule"
            ).format(
                DESIRED,
                sql.Identifier(ISSUES),
                sql.Identifier(REJECTED),
                sql.Identifier(ISSUES),
                sql.Identifier(REJECTED),
            )
        ).fetchall()
    )
    with warehouse.cursor() as cursor:
        cursor.executemany(
            "insert into ops.rule_result (transform_run_id, rule, action, rows) values (%s, %s, %s, %s)",
            [(transform_run_id, rule.name, rule.action, counted.get(rule.name, 0)) for rule in rules],
        )
    return {rule.name: counted.get(rule.name, 0) for rule in rules}
