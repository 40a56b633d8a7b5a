"""Rotation of data keys: every token comes to the new key, nothing else of any row changes, and loads stay right."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from builders import Extract, counts, query
from psycopg import sql
from rotating import Keys, decrypted, in_use, key_ids, rotate

from revops.keyring import KeyringError
from revops.rotation import table as table_module
from revops.rotation.errors import RotationBusyError, RotationError
from revops.rotation.record import Standing

pytestmark = pytest.mark.db

PEOPLE = (
    "create table t (id integer primary key, name text, email text, phone varchar(40));"
    "insert into t select n, 'name ' || n, 'Mail-' || n || '@example.com', '+43 ' || n from generate_series(1, 10) n;"
    "insert into t values (11, 'nothing', null, ''), (12, 'same', 'mail-1@EXAMPLE.com ', E'a\\t\\\\N\\n☎')"
)
SECRET: dict[str, Any] = {"encrypt": ["email", "phone"]}
METADATA = "select id, _load_id, _loaded_at, _deleted_at from raw.odoo_t order by id"


@pytest.fixture
def keys() -> Keys:
    return Keys()


def test_every_token_comes_to_the_writing_key_and_nothing_else_changes(extract: Extract, keys: Keys) -> None:
    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), **SECRET)
    extract.run("delete from t where id in (3, 4)")
    extract.load(keyring=keys.ring(1), **SECRET)
    before, metadata = decrypted(extract.warehouse, keys.ring(1)), query(extract.warehouse, METADATA)
    indexes = query(extract.warehouse, "select id, email_blind_index, phone_blind_index from raw.odoo_t order by id")
    assert key_ids(extract.warehouse) == {1: 23}

    done = rotate(extract, keys.ring(2, 1))

    # Deleted rows as well, and only the new key is needed.
    assert key_ids(extract.warehouse) == {2: 23}
    assert decrypted(extract.warehouse, keys.ring(2)) == before
    assert query(extract.warehouse, METADATA) == metadata
    assert (
        query(extract.warehouse, "select id, email_blind_index, phone_blind_index from raw.odoo_t order by id")
        == indexes
    )
    assert (done.rows, done.tokens, done.retired, done.kept) == ({"odoo_t": 12}, 23, [1], [])
    assert done.remedy.startswith("All 23 tokens are of key 2. Remove key 1 from REVOPS_DATA_KEYS; keep a copy")
    assert in_use(extract.warehouse) == [("odoo_t", "email", 2), ("odoo_t", "phone", 2)]
    assert query(
        extract.warehouse,
        "select run_id, raw_table, writing_key_id, with_index, status, rows_expected, rows_renewed, tokens_checked, "
        "tokens_left, error, seconds > 0, finished_at is not null from ops.key_rotation",
    ) == [("rotation", "odoo_t", 2, False, "succeeded", 12, 12, 23, 0, None, True, True)]
    # The source compared with raw: nothing has changed, whatever is read.
    assert counts(extract.load(keyring=keys.ring(2), **SECRET)) == (0, 0, 0, 0, 0)
    assert counts(extract.load(keyring=keys.ring(2), full_refresh=True, **SECRET)) == (10, 0, 0, 10, 0)
    # A second rotation has nothing to do, and counts none the less.
    again = rotate(extract, keys.ring(2, 1))
    assert (again.rows, again.tokens, again.retired) == ({}, 23, [1])
    assert query(extract.warehouse, "select count(*) from ops.key_rotation") == [(1,)]


@pytest.mark.parametrize("mode", ["xid", "cursor", "full", "replace_period"])
def test_a_load_with_half_of_the_rows_on_the_old_key_finds_what_has_changed_and_nothing_else(
    extract: Extract, keys: Keys, mode: str
) -> None:
    settings: dict[str, Any] = {"mode": mode, **SECRET}
    settings |= {"cursor": {"cursor": "at", "compare_every_h": 0}, "replace_period": {"period": ["month"]}}.get(
        mode, {}
    )
    extract.run(PEOPLE + "; alter table t add at timestamptz default now(), add month integer default 1")
    extract.load(keyring=keys.ring(1), **settings)
    # The new key is in front; half of the rows come to it, as in a rotation that was cut off.
    extract.run("update t set email = 'changed-' || email, at = now() where id <= 6")
    changed = extract.load(keyring=keys.ring(2, 1), **settings)
    assert (changed.inserted, changed.updated, changed.deleted) == (0, 6, 0)
    metadata = query(extract.warehouse, METADATA)
    extract.run("delete from t where id = 1; update t set phone = '+43 new', at = now() where id = 9")
    result = extract.load(keyring=keys.ring(2, 1), **settings)
    assert (result.inserted, result.updated, result.deleted) == (0, 1, 1)
    assert [row for row in query(extract.warehouse, METADATA) if row[0] not in (1, 9)] == [
        row for row in metadata if row[0] not in (1, 9)
    ]
    # Every load is right after the rotation too, and all of it is readable with the new key alone.
    rotate(extract, keys.ring(2, 1), of=[{"name": "t", **settings}])
    again = extract.load(keyring=keys.ring(2), full_refresh=True, **settings)
    assert (again.inserted, again.updated, again.deleted) == (0, 0, 0)
    assert set(key_ids(extract.warehouse)) == {2}
    live = "_deleted_at is null"
    shown = query(extract.warehouse, f"select id from raw.odoo_t where {live} order by id")
    assert shown == query(extract.source, "select id from t order by id")


def test_a_table_without_key_keeps_its_rows_when_it_is_read_with_a_new_key(extract: Extract, keys: Keys) -> None:
    extract.run(
        "create table t (name text, email text); insert into t select 'n', 'm' || n from generate_series(1, 9) n"
    )
    extract.run("insert into t values ('n', 'm1'), ('n', null)")
    extract.load(keyring=keys.ring(1), encrypt=["email"])
    extract.run("delete from t where email = 'm2'; insert into t values ('n', 'm10')")
    result = extract.load(keyring=keys.ring(2, 1), encrypt=["email"])
    assert (result.inserted, result.updated, result.unchanged, result.deleted) == (1, 0, 10, 1)
    before = decrypted(extract.warehouse, keys.ring(2, 1))
    rotate(extract, keys.ring(3, 2, 1), of=[{"name": "t", "encrypt": ["email"]}])
    assert decrypted(extract.warehouse, keys.ring(3)) == before
    assert counts(extract.load(keyring=keys.ring(3), full_refresh=True, encrypt=["email"])) == (11, 0, 0, 11, 0)


KEYS = {
    "composite": ("a integer, b text, primary key (b, a)", "(1, 'x,y'), (2, 'x\"y'), (3, ''), (4, '(')"),
    "text": ("a text primary key", "(E'tab\\t\\\\N'), (''), ('é🚀'), ('{}')"),
    "timestamptz": ("a timestamptz primary key", "('infinity'), ('2026-01-01 12:00+05:45')"),
    "enum": ("a mood primary key", "('so so'), ('ok')"),
    "none": ("a integer", "(1), (1), (null)"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_rows_with_keys_of_every_kind(extract: Extract, keys: Keys, kind: str) -> None:
    columns, values = KEYS[kind]
    extract.run("set timezone = 'Asia/Kathmandu'; create type mood as enum ('so so', 'ok')")
    extract.run(f'create table t ({columns}); insert into t values {values}; alter table t add "100 %s" text')
    extract.run("update t set \"100 %s\" = 'secret ' || coalesce(a::text, 'none')")
    extract.load(keyring=keys.ring(1), encrypt=["100*"])
    before = decrypted(extract.warehouse, keys.ring(1))
    rotate(extract, keys.ring(2, 1), of=[{"name": "t", "encrypt": ["100*"]}])
    assert decrypted(extract.warehouse, keys.ring(2)) == before
    assert extract.load(keyring=keys.ring(2), full_refresh=True, encrypt=["100*"]).unchanged == len(before) + (
        kind == "none"
    )


def test_columns_that_became_sensitive_later_or_went_from_the_source(extract: Extract, keys: Keys) -> None:
    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), encrypt=["email"])
    extract.load(keyring=keys.ring(2, 1), **SECRET)
    extract.run("alter table t drop column email")
    extract.load(keyring=keys.ring(2, 1), **SECRET)
    assert in_use(extract.warehouse) == [("odoo_t", "email", 1), ("odoo_t", "email", 2), ("odoo_t", "phone", 2)]
    before = decrypted(extract.warehouse, keys.ring(2, 1))
    done = rotate(extract, keys.ring(3, 2, 1))
    assert decrypted(extract.warehouse, keys.ring(3)) == before
    assert done.retired == [1, 2]


def test_tables_of_before_the_register_are_found(extract: Extract, keys: Keys) -> None:
    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), **SECRET)
    extract.run("create table odd (id integer primary key, x bytea, x_blind_index bytea)")
    extract.run("insert into odd values (1, '\\x41424344', '\\x00')")
    extract.load("odd")
    extract.warehouse.execute("delete from ops.encrypted_column")
    before = decrypted(extract.warehouse, keys.ring(1))
    assert rotate(extract, keys.ring(2, 1)).rows == {"odoo_t": 12}
    assert decrypted(extract.warehouse, keys.ring(2)) == before
    assert query(extract.warehouse, "select x from raw.odoo_odd") == [(b"ABCD",)]
    # So does a load, before it writes.
    extract.warehouse.execute("delete from ops.encrypted_column")
    extract.run("update t set name = 'other' where id = 1")
    extract.load(keyring=keys.ring(3, 2), **SECRET)
    assert in_use(extract.warehouse)[:2] == [("odoo_t", "email", 2), ("odoo_t", "email", 3)]


def test_a_lost_key_is_told_before_anything_is_written(extract: Extract, keys: Keys) -> None:
    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), **SECRET)
    extract.run("update t set email = 'new' where id = 1")
    before = extract.everything()
    lost = (
        r"REVOPS_DATA_KEYS lacks key 1, with which values of raw\.odoo_t \(email, phone\) were written\. Remedy: "
        r"append `1:KEY`.*lost for good, `make rotate-keys FORGET=1`"
    )
    with pytest.raises(KeyringError, match=lost):
        extract.load(keyring=keys.ring(2), **SECRET)
    assert extract.last_load()["status"] == "failed"
    assert "lacks key 1" in extract.last_load()["error"]
    with pytest.raises(KeyringError, match=lost):
        rotate(extract, keys.ring(2))
    # Another key under an id that is in use would write what nobody can tell apart.
    other = Keys()
    other.indexes = keys.indexes
    another = r"holds another key under the id 1 than the one that wrote values of raw\.odoo_t .*an id of its own"
    with pytest.raises(KeyringError, match=another):
        extract.load(keyring=other.ring(1), **SECRET)
    with pytest.raises(KeyringError, match=another):
        rotate(extract, other.ring(2, 1))
    assert extract.everything() == before


def test_what_only_a_lost_key_reads_can_be_given_up(extract: Extract, keys: Keys) -> None:
    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), **SECRET)
    extract.run("delete from t where id = 2")
    extract.load(keyring=keys.ring(1), **SECRET)
    indexes = query(extract.warehouse, "select id, email_blind_index from raw.odoo_t order by id")
    done = rotate(extract, keys.ring(2), forgotten=1)
    assert done.tokens == 0
    assert key_ids(extract.warehouse) == {}
    # What the source still has is read again, and only that is lost that nobody has.
    result = extract.load(keyring=keys.ring(2), **SECRET)
    assert (result.read, result.inserted, result.updated, result.deleted) == (11, 0, 11, 0)
    assert key_ids(extract.warehouse) == {2: 21}
    assert query(extract.warehouse, "select email, phone from raw.odoo_t where id = 2") == [(None, None)]
    assert query(extract.warehouse, "select id, email_blind_index from raw.odoo_t order by id") == indexes
    with pytest.raises(RotationError, match="key 2 is the one that writes"):
        rotate(extract, keys.ring(2), forgotten=2)


def test_tokens_that_were_altered_are_named_and_keep_their_key(extract: Extract, keys: Keys) -> None:
    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), **SECRET)
    extract.warehouse.execute(
        "update raw.odoo_t set email = set_byte(email, 20, (get_byte(email, 20) + 1) % 256) where id in (5, 6)"
    )
    with pytest.raises(RotationError, match=r"raw\.odoo_t: 2 token\(s\) of email, phone can't be read.* 5; 6; 2 are"):
        rotate(extract, keys.ring(2, 1))
    assert key_ids(extract.warehouse) == {1: 2, 2: 21}
    assert ("odoo_t", "email", 1) in in_use(extract.warehouse)
    assert query(extract.warehouse, "select status, tokens_left from ops.key_rotation") == [("failed", None)]
    # The remedy is one.
    extract.load(keyring=keys.ring(2, 1), full_refresh=True, **SECRET)
    assert rotate(extract, keys.ring(2, 1)).retired == [1]


def test_a_load_that_is_at_work_goes_first(extract: Extract, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "POLL_S", 0.05)
    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), **SECRET)
    holder = extract.connect_ingest()
    holder.execute("select pg_advisory_xact_lock(hashtextextended('load:odoo.t', 0))")
    with pytest.raises(RotationBusyError, match=r"raw\.odoo_t is held by somebody else for too long"):
        rotate(extract, keys.ring(2, 1), patience_s=0.3)
    assert key_ids(extract.warehouse) == {1: 23}
    holder.rollback()
    assert rotate(extract, keys.ring(2, 1)).retired == [1]


def test_only_one_rotation_at_a_time(extract: Extract, keys: Keys) -> None:
    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), **SECRET)
    told: list[Standing] = []

    def tell(standing: Standing) -> None:
        told.append(standing)
        with pytest.raises(RotationBusyError, match="another rotation of keys is at work"):
            rotate(extract, keys.ring(2, 1))

    rotate(extract, keys.ring(2, 1), tell=tell)
    assert [(standing.renewed, standing.remaining) for standing in told] == [(12, 0)]


def test_a_token_that_changed_since_it_was_read_is_not_overwritten(
    extract: Extract, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who does not take the table's lock, such as a person with psql, loses nothing either."""
    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), **SECRET)
    from revops.rotation import renewal

    line, written = renewal._line, []

    def written_by_another(*arguments: Any) -> Any:
        if not written:
            written.append(True)
            with psycopg.connect(extract.warehouse_dsn) as other:
                other.execute("update raw.odoo_t set email = null, name = 'by hand' where id = 7")
        return line(*arguments)

    monkeypatch.setattr(renewal, "_line", written_by_another)
    rotate(extract, keys.ring(2, 1))
    assert query(extract.warehouse, "select name, email from raw.odoo_t where id = 7") == [("by hand", None)]
    assert key_ids(extract.warehouse) == {2: 22}


def test_an_unfinished_first_load_keeps_its_key(extract: Extract, keys: Keys) -> None:
    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), **SECRET)
    extract.warehouse.execute('create table raw."loading odoo_u" (id integer, email bytea, email_blind_index bytea)')
    token = keys.ring(1).encrypt("v", table="odoo_u", column="email", key_text="1")
    extract.warehouse.execute('insert into raw."loading odoo_u" values (1, %s, null)', (token,))
    done = rotate(extract, keys.ring(2, 1))
    assert done.retired == []
    assert done.remedy.startswith("Keep all keys in REVOPS_DATA_KEYS: a first load is not finished")


def test_a_place_that_holds_another_token_by_now_is_left_alone(extract: Extract, keys: Keys) -> None:
    """A place alone tells no row for long: what is vacuumed is filled again."""
    from revops.rotation import renewal

    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), encrypt=["email"])
    place, token, index = query(extract.warehouse, "select ctid::text, email, email_blind_index from raw.odoo_t")[4]
    update = renewal._update(extract.ingest, sql.Identifier("raw", "odoo_t"), ("email",))
    for old, written in ((token + b"x", 0), (None, 0), (token, 1)):
        assert extract.ingest.execute(update, [[place], [old], [b"new"], [index]]).rowcount == written
