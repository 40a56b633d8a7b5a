"""Nobody on the server can decrypt: no key and no value ever reaches it, whatever it records of its sessions."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from builders import Extract, query
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from rotating import Keys, rotate

from revops.keyring import KeyringError, TokenError
from revops.local.postgres import EmbeddedPostgres
from revops.rotation.errors import RotationError
from revops.rotation.reading import read_value

pytestmark = pytest.mark.db

PEOPLE = (
    "create table t (id integer primary key, name text, email text);"
    "insert into t select n, 'plain ' || n, 'Secret-' || n || '@example.com' from generate_series(1, 300) n"
)
SECRET: dict[str, Any] = {"encrypt": ["email"]}
OF: list[dict[str, Any]] = [{"name": "t", **SECRET}]
ROLES = ("revops_ingest", "revops_transform", "revops_embed", "revops_quality", "revops_api", "revops_audit")


@pytest.fixture
def keys() -> Keys:
    return Keys()


def needles(keys: Keys) -> list[str]:
    """Every form in which a key or a value could be written down."""
    texts = [*keys.data.values(), *keys.indexes]
    raw = [base64.b64decode(text) for text in texts]
    values = ["secret-7@example", "Secret-7@example", b"Secret-7@example".hex(), b"secret-7@example".hex()]
    return [*texts, *(key.hex() for key in raw), *values]


def told_by(postgres: EmbeddedPostgres, database: str) -> str:
    """What the server's log has of a database: messages, details, statements."""
    lines = (line for path in postgres.access_logs for line in path.read_text(errors="replace").splitlines())
    entries = (json.loads(line) for line in lines if f'"dbname":"{database}"' in line)
    return "\n".join(str(value) for entry in entries for value in entry.values())


def test_the_server_sees_neither_key_nor_value(extract: Extract, keys: Keys, postgres: EmbeddedPostgres) -> None:
    """With all of its statements and parameters logged, and its sessions watched."""
    superuser = psycopg.connect(postgres.conninfo(extract.warehouse.info.dbname), autocommit=True)
    database = sql.Identifier(extract.warehouse.info.dbname)
    noted = {
        "log_statement": "all",
        "log_parameter_max_length": "-1",
        "log_min_duration_statement": "0",
        "log_error_verbosity": "default",
    }
    for name, value in noted.items():
        superuser.execute(
            sql.SQL("alter database {} set {} = {}").format(database, sql.Identifier(name), sql.Literal(value))
        )
    activity: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            activity.update(text for (text,) in superuser.execute("select query from pg_stat_activity"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        # The owner's and the loads' sessions begin anew, so that they are logged.
        extract.run(PEOPLE)
        extract.load(keyring=keys.ring(1), **SECRET)
        extract.run("update t set email = email || '.at' where id < 5; delete from t where id = 9")
        extract.load(keyring=keys.ring(2, 1), **SECRET)
        rotate(extract, keys.ring(2, 1), of=OF)
        rotate(extract, keys.ring(2, index=1), of=OF)
        ring = keys.ring(2, index=1)
        value = read_value(extract.connect_ingest(), ring, table="odoo_t", column="email", key="7", person="anna")
        assert value == "Secret-7@example.com"
    finally:
        over.set()
        watcher.join()
        for name in noted:
            superuser.execute(sql.SQL("alter database {} reset {}").format(database, sql.Identifier(name)))
        superuser.close()
    logged = told_by(postgres, str(conninfo_to_dict(extract.warehouse_dsn)["dbname"]))
    # It did log what was done, with parameters; and the sessions were seen at work.
    assert 'update "raw"."odoo_t" as t set' in logged
    assert "arameters: $1 = '{" in logged
    assert any("renewal" in text or "odoo_t" in text for text in activity)
    everything = logged + "\n".join(activity)
    assert [needle for needle in needles(keys) if needle in everything] == []


@pytest.mark.parametrize("role", ROLES)
def test_no_role_of_the_warehouse_reads_a_value(extract: Extract, keys: Keys, as_role: Any, role: str) -> None:
    """Roles that may read raw read tokens; that the server can't do more is that it has no key, not that it is told."""
    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), **SECRET)
    session = psycopg.connect(extract.warehouse_dsn, options=f"-c role={role}", autocommit=True)
    with session:
        try:
            tokens = query(session, "select email from raw.odoo_t where id = 7")
        except psycopg.errors.InsufficientPrivilege:
            assert role in ("revops_embed", "revops_api", "revops_audit")
            return
        assert role in ("revops_ingest", "revops_transform", "revops_quality")
        assert b"ecret" not in tokens[0][0]
        # Nothing that this role can call has the key, also not what the register has of it.
        for column in ("key_fingerprint", "index_fingerprint"):
            table = "data_key_use" if column == "key_fingerprint" else "encrypted_column"
            for (fingerprint,) in query(session, f"select {column} from ops.{table}"):
                assert len(bytes.fromhex(fingerprint)) == 8
        extensions = {name for (name,) in query(session, "select extname from pg_extension")}
        assert "pgcrypto" not in extensions


def test_who_holds_the_keys_reads_a_value_and_that_is_recorded(extract: Extract, keys: Keys) -> None:
    extract.run("create table t (a integer, b text, email text, primary key (b, a))")
    extract.run("insert into t values (1, 'x,y', 'anna@example.com'), (2, 'z', null)")
    extract.load(keyring=keys.ring(1), **SECRET)
    session = extract.connect_ingest()

    def read(key: str, *, table: str = "raw.odoo_t", column: str = "email", ring: tuple[int, ...] = (1,)) -> str | None:
        return read_value(session, keys.ring(*ring), table=table, column=column, key=key, person="anna")

    assert read('("x,y",1)') == "anna@example.com"
    assert read("(z,2)") is None
    told = "select raw_table, column_name, row_key, person, login from ops.value_reading order by value_reading_id"
    assert query(extract.warehouse, told) == [
        ("odoo_t", "email", '("x,y",1)', "anna", "revops"),
        ("odoo_t", "email", "(z,2)", "anna", "revops"),
    ]
    with pytest.raises(RotationError, match=r"raw\.odoo_t has no row with this key\. Its key is \(b,a\)"):
        read("1")
    with pytest.raises(RotationError, match=r"no encrypted column 'b'\. Encrypted columns there: email"):
        read("(z,2)", column="b")
    with pytest.raises(RotationError, match=r"raw\.odoo_u has no encrypted column .*tables with any: odoo_t"):
        read("(z,2)", table="odoo_u")
    with pytest.raises(KeyringError, match="REVOPS_DATA_KEYS lacks key 1"):
        read('("x,y",1)', ring=(2,))
    extract.warehouse.execute("update raw.odoo_t set email = set_byte(email, 20, 255 - get_byte(email, 20))")
    with pytest.raises(TokenError, match=r"odoo_t\.email: the token was altered"):
        read('("x,y",1)')


def test_the_log_of_the_tests_server_lies_where_it_is_read(postgres: EmbeddedPostgres) -> None:
    assert Path(postgres.log).stat().st_size > 0
