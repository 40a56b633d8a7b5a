"""Both servers are asked at once; what one of them refuses ends the other's work."""

from __future__ import annotations

import threading

import psycopg
import pytest
from builders import Extract

from revops.extract.at_once import at_once
from revops.extract.catalog import Relation
from revops.extract.merge import Pipe
from revops.extract.raw_table import RawTable

pytestmark = pytest.mark.db


@pytest.fixture
def pipe(extract: Extract) -> Pipe:
    relation = Relation(1, "public", "t", "r", (), (), "here", rows=0, pages=0)
    return Pipe(extract.reader, extract.ingest, relation, RawTable("odoo_t", {}), load_id=1)


def asked(connection: psycopg.Connection, statement: str) -> str:
    row = connection.execute(statement).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return str(row[-1])


def test_both_are_asked_before_either_has_answered(pipe: Pipe) -> None:
    both = threading.Barrier(2)

    def ask(connection: psycopg.Connection, answer: str) -> str:
        both.wait(timeout=10)
        return asked(connection, f"select '{answer}'")

    found = at_once(pipe, lambda: ask(pipe.source, "source"), lambda: ask(pipe.warehouse, "warehouse"))
    assert found == ("source", "warehouse")


def test_an_error_of_the_source_cancels_the_query_of_the_warehouse(pipe: Pipe) -> None:
    ended: list[Exception] = []

    def ask_for_long() -> str:
        try:
            return asked(pipe.warehouse, "select pg_sleep(60), 'never'")
        except psycopg.Error as error:
            ended.append(error)
            raise

    with pytest.raises(psycopg.errors.DivisionByZero):
        at_once(pipe, lambda: asked(pipe.source, "select pg_sleep(0.3), 1 / 0"), ask_for_long)
    assert [type(error) for error in ended] == [psycopg.errors.QueryCanceled]


def test_an_error_of_the_warehouse_is_raised(pipe: Pipe) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        at_once(pipe, lambda: asked(pipe.source, "select 1"), lambda: asked(pipe.warehouse, "select 1 / 0"))


def test_a_lost_warehouse_does_not_hide_the_error_of_the_source(pipe: Pipe) -> None:
    pipe.warehouse.close()
    with pytest.raises(psycopg.errors.DivisionByZero):
        at_once(pipe, lambda: asked(pipe.source, "select 1 / 0"), lambda: "nothing")
