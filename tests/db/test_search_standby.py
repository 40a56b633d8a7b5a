"""Searches on a hot standby, which takes no writes at all: not even those of a session that asks for them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs
from vectors import SMALL, add_documents, load_texts, query_of

from revops.embedding.models import register_model, switch_model
from revops.embedding.query_cache import vectors_of_queries
from revops.local.paths import server_account, state_home
from revops.local.postgres import EmbeddedPostgres
from revops.search import find_documents
from revops.warehouse_setup import read_migrations, set_up_warehouse
from tests.conftest import MIGRATIONS, WORKER

pytestmark = pytest.mark.db

PASSWORD = "only-for-this-test"
TEXTS = ["Kubernetes for a bank\nContainers on EKS", "Data centre exit\nServers move before the lease ends"]


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A server of the test's own, whose account may enter its folder as it may not enter pytest's."""
    home = state_home() / f"standby-{WORKER}"
    shutil.rmtree(home, ignore_errors=True)
    made = EmbeddedPostgres(home, state_home() / "postgres-install", PASSWORD)
    yield made
    made.stop()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def standby(server: EmbeddedPostgres, tmp_path: Path) -> str:
    """The connection string of a warehouse on a standby, as searches connect: its primary has ended."""
    server.start()
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("alter system set fsync = off")
        connection.execute("select pg_reload_conf()")
        connection.execute(f"create role revops login password '{PASSWORD}' createdb createrole")
    dsn = server.conninfo("revops_core", user="revops", password=PASSWORD)
    set_up_warehouse(dsn, read_migrations(MIGRATIONS), progress=lambda _: None)
    with psycopg.connect(make_conninfo(dsn, options="-c role=revops_embed")) as embed:
        add_documents(embed, TEXTS)
        load_texts(embed, tmp_path, TEXTS)
        switch_model(embed, register_model(embed, SMALL))
    server.stop()
    signal = server.data / "standby.signal"
    signal.touch(mode=0o600)
    if os.geteuid() == 0:
        account = server_account()
        os.chown(signal, account.uid, account.gid)
    return make_conninfo(dsn, port=server.start(), options="-c role=revops_api -c default_transaction_read_only=on")


def test_a_search_on_a_standby_finds_and_keeps_nothing(standby: str) -> None:
    with psycopg.connect(standby) as api:
        assert api.execute("select pg_is_in_recovery()").fetchone() == (True,)
        for _ in range(2):
            with capture_logs() as logs:
                (vectors,) = vectors_of_queries(api, [TEXTS[1]], lambda texts: [*map(query_of, texts)])
            assert vectors == query_of(TEXTS[1])
            why = "cannot set transaction read-write mode during recovery"
            assert [(entry["event"], entry["why"]) for entry in logs] == [("query vectors are not kept", why)]
            hits = find_documents(api, "data centre", vectors)
            assert [hit.entity_id for hit in hits] == ["2", "1"]
            assert hits[0].ranks == {"dense": 1, "sparse": 1, "text": 1, "title": 1}
