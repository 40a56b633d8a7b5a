"""Deciding on an anomaly: who may, what is recorded, and what can't be decided."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from anomaly_history import night, remember_rows, review
from builders import query
from psycopg import errors

pytestmark = pytest.mark.db

STATES = "select anomaly_id, state, reviewed_by, note, reviewed_at is not null from ops.anomaly order by anomaly_id"
DECISIONS = (
    "select anomaly_id, state_before, state, value, reviewer, note, login from ops.anomaly_review "
    "order by anomaly_review_id"
)


@pytest.fixture
def owner(warehouse_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(warehouse_dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def quality(as_role: Callable[[str], psycopg.Connection]) -> psycopg.Connection:
    return as_role("revops_quality")


@pytest.fixture
def anomaly(owner: psycopg.Connection, quality: psycopg.Connection) -> int:
    """An open anomaly: 5,000 rows where 1,000 are usual."""
    remember_rows(owner, [1000] * 20)
    (found,) = night(owner, quality, 5000, days=0)
    return found.anomaly_id


def test_every_decision_is_kept_and_the_last_one_counts(
    owner: psycopg.Connection, quality: psycopg.Connection, anomaly: int
) -> None:
    row = quality.execute(
        "select anomaly_id, state, reviewed_by, note, reviewed_at > seen_at "
        "from ops.review_anomaly(%s, 'accepted', ' Ada ', 'import')",
        (anomaly,),
    ).fetchone()
    assert row == (anomaly, "accepted", "Ada", "import", True)
    quality.execute("select ops.review_anomaly(%s, 'dismissed', 'Grace')", (anomaly,))
    quality.execute("select ops.review_anomaly(%s, 'open', 'Ada', 'look again')", (anomaly,))
    quality.execute("select ops.review_anomaly(%s, 'open', 'Ada', 'and again')", (anomaly,))
    quality.commit()
    assert query(owner, STATES) == [(anomaly, "open", "Ada", "and again", True)]
    assert query(owner, DECISIONS) == [
        (anomaly, "open", "accepted", 5000, "Ada", "import", "revops"),
        (anomaly, "accepted", "dismissed", 5000, "Grace", None, "revops"),
        (anomaly, "dismissed", "open", 5000, "Ada", "look again", "revops"),
        (anomaly, "open", "open", 5000, "Ada", "and again", "revops"),
    ]


def test_what_was_decided_on_stays_readable_when_the_value_changes(
    owner: psycopg.Connection, quality: psycopg.Connection, anomaly: int
) -> None:
    review(quality, anomaly, "accepted")
    review(quality, anomaly, "open")
    night(owner, quality, 9000, days=1)
    assert query(owner, "select value from ops.anomaly") == [(9000,)]
    assert [row[3] for row in query(owner, DECISIONS)] == [5000, 5000]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("{id}", "'ignored'", "'Ada'"), errors.InvalidParameterValue, "state ignored is unknown: it must be accepted"),
        (("{id}", "null", "'Ada'"), errors.InvalidParameterValue, "is unknown"),
        (("{id}", "'accepted'", "'  '"), errors.InvalidParameterValue, "say who decides"),
        (("{id}", "'accepted'", "null"), errors.InvalidParameterValue, "say who decides"),
        (("987654", "'accepted'", "'Ada'"), errors.NoDataFound, "there is no anomaly 987654"),
        (("null", "'accepted'", "'Ada'"), errors.NoDataFound, "there is no anomaly"),
    ],
)
def test_decisions_that_say_nothing_are_refused(
    owner: psycopg.Connection,
    quality: psycopg.Connection,
    anomaly: int,
    arguments: tuple[str, ...],
    error: type[psycopg.Error],
    message: str,
) -> None:
    before = query(owner, STATES)
    with pytest.raises(error, match=message):
        quality.execute(f"select ops.review_anomaly({', '.join(arguments)})".replace("{id}", str(anomaly)))
    quality.rollback()
    assert (query(owner, STATES), query(owner, DECISIONS)) == (before, [])


def test_an_anomaly_is_not_opened_beside_another_open_one(
    owner: psycopg.Connection, quality: psycopg.Connection, anomaly: int
) -> None:
    review(quality, anomaly, "dismissed")
    (other,) = night(owner, quality, 5000, days=1)
    assert other.anomaly_id != anomaly
    with pytest.raises(
        errors.UniqueViolation, match=f"{anomaly} can not be opened again: anomaly {other.anomaly_id} is"
    ):
        review(quality, anomaly, "open")
    quality.rollback()
    review(quality, other.anomaly_id, "dismissed")
    review(quality, anomaly, "open")
    assert [row[1] for row in query(owner, STATES)] == ["open", "dismissed"]


@pytest.mark.parametrize(
    "statement",
    [
        "update ops.anomaly set state = 'accepted'",
        "update ops.anomaly set reviewed_by = 'nobody', reviewed_at = now()",
        "update ops.anomaly set note = 'x'",
        "update ops.anomaly set first_seen_run = 'x'",
        "insert into ops.anomaly_review (anomaly_id, state_before, state, value, reviewer) values (1, '', '', 1, '')",
        "update ops.anomaly_review set reviewer = 'x'",
        "delete from ops.anomaly_review",
        "truncate ops.anomaly_review",
    ],
)
def test_there_is_no_way_round_the_function(quality: psycopg.Connection, anomaly: int, statement: str) -> None:
    review(quality, anomaly, "dismissed")
    with pytest.raises(errors.InsufficientPrivilege):
        quality.execute(statement)


def test_a_decided_anomaly_can_not_be_removed(quality: psycopg.Connection, anomaly: int) -> None:
    review(quality, anomaly, "dismissed")
    quality.execute("update ops.quality_metric set anomaly_id = null")
    with pytest.raises(errors.ForeignKeyViolation):
        quality.execute("delete from ops.anomaly")


@pytest.mark.parametrize("role", ["revops_api", "revops_ingest", "revops_transform", "revops_embed", "revops_audit"])
def test_the_other_roles_read_but_do_not_decide(
    as_role: Callable[[str], psycopg.Connection], anomaly: int, role: str
) -> None:
    session = as_role(role)
    assert query(session, "select anomaly_id from ops.anomaly") == [(anomaly,)]
    assert query(session, "select count(*) from ops.anomaly_review") == [(0,)]
    for statement in (
        f"select ops.review_anomaly({anomaly}, 'accepted', 'Ada')",
        "update ops.anomaly set severity = 'warning'",
        "delete from ops.quality_metric",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute(statement)
        session.rollback()
