"""Rotation of the index key: it is noticed before anything joins wrongly, and core's copies follow raw's."""

from __future__ import annotations

from typing import Any

import pytest
from builders import Extract, counts, query
from rotating import Keys, assert_indexes, decrypted, rotate

from revops.keyring import KeyringError
from revops.rotation.core import refresh_core
from revops.rotation.registry import require_all
from revops.rotation.run import rotate_keys
from revops.sources import INCLUDE, load_source
from revops.transform.run import transform_table
from revops.transform.targets import TARGETS
from tests.corpus.pipeline import Pipeline

pytestmark = [pytest.mark.db, pytest.mark.long]

PEOPLE = (
    "create table t (id integer primary key, name text, email text);"
    "insert into t select n, 'name ' || n, 'Mail-' || n || '@example.com' from generate_series(1, 10) n;"
    "insert into t values (11, 'nothing', null), (12, 'empty', ''), (13, 'same', 'mail-1@EXAMPLE.com ')"
)
MAIL = {"encrypt": [{"kind": "mail", "columns": ["*.email"]}]}
OF: list[dict[str, Any]] = [{"name": "t", "of_source": MAIL}]


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.mark.parametrize("ids", [(1,), (2, 1)], ids=["index key alone", "both keys"])
def test_a_new_index_key_is_noticed_and_its_indexes_are_computed_anew(
    extract: Extract, keys: Keys, ids: tuple[int, ...]
) -> None:
    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), of_source=MAIL)
    extract.run("delete from t where id = 3")
    extract.load(keyring=keys.ring(1), of_source=MAIL)
    hidden = ("email_blind_index",)
    before = decrypted(extract.warehouse, keys.ring(1), hidden=hidden)
    new = keys.ring(*ids, index=1)
    everything = extract.everything()
    wanted = (
        r"REVOPS_INDEX_KEY is not the key that the blind indexes of raw\.odoo_t were computed with.*make rotate-keys"
    )
    with pytest.raises(KeyringError, match=wanted):
        extract.load(keyring=new, full_refresh=True, of_source=MAIL)
    with pytest.raises(KeyringError, match=wanted):
        require_all(extract.connect_ingest(), new)
    assert extract.everything() == everything

    done = rotate(extract, new, of=OF)

    assert done.indexed == ["odoo_t"]
    assert_indexes(extract.warehouse, new, {"email": "mail"})
    assert decrypted(extract.warehouse, new, hidden=hidden) == before
    require_all(extract.connect_ingest(), new)
    assert counts(extract.load(keyring=new, full_refresh=True, of_source=MAIL)) == (12, 0, 0, 12, 0)
    # The old one is now the wrong one.
    with pytest.raises(KeyringError, match="REVOPS_INDEX_KEY is not the key"):
        extract.load(keyring=keys.ring(1, 2), of_source=MAIL)


def test_another_kind_in_the_source_file_is_noticed(extract: Extract, keys: Keys) -> None:
    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), of_source=MAIL)
    other = {"encrypt": [{"kind": "address", "columns": ["*.email"]}]}
    with pytest.raises(
        KeyringError, match=r"raw\.odoo_t\.email: .* of kind 'mail', and include/sources says 'address'"
    ):
        extract.load(keyring=keys.ring(1), of_source=other)
    rotate(extract, keys.ring(1), of=[{"name": "t", "of_source": other}])
    assert_indexes(extract.warehouse, keys.ring(1), {"email": "address"})
    assert counts(extract.load(keyring=keys.ring(1), of_source=other)) == (0, 0, 0, 0, 0)


def test_an_unfinished_first_load_with_the_old_index_key_begins_anew(extract: Extract, keys: Keys) -> None:
    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), of_source=MAIL)
    # What a kill leaves behind before raw has the table.
    extract.ingest.execute('alter table raw.odoo_t rename to "loading odoo_t"')
    extract.ingest.commit()
    with pytest.raises(KeyringError, match="REVOPS_INDEX_KEY is not the key"):
        extract.load(keyring=keys.ring(1, index=1), of_source=MAIL)
    rotate(extract, keys.ring(1, index=1), of=OF)
    assert query(extract.warehouse, "select to_regclass('raw.\"loading odoo_t\"')") == [(None,)]
    extract.load(keyring=keys.ring(1, index=1), of_source=MAIL)
    assert_indexes(extract.warehouse, keys.ring(1, index=1), {"email": "mail"})


def test_values_that_were_given_up_have_no_index_under_a_new_key(extract: Extract, keys: Keys) -> None:
    extract.run(PEOPLE)
    extract.load(keyring=keys.ring(1), of_source=MAIL)
    rotate(extract, keys.ring(2), of=OF, forgotten=1)
    rotate(extract, keys.ring(2, index=1), of=OF)
    assert query(extract.warehouse, "select count(email_blind_index) from raw.odoo_t") == [(0,)]


CONTACTS = (
    "select source_system, source_id, encode(email_blind_index, 'hex'), encode(phone_blind_index, 'hex') "
    "from core.contact order by 1, 2"
)
USERS = "select source_system, source_id, encode(email_blind_index, 'hex') from core.app_user order by 1, 2"
# Who is one person: their grouping must not depend on a key, its names do.
PERSONS = (
    "select array_agg(source_system || source_id order by source_system, source_id) from core.contact "
    "where email_blind_index is not null group by email_blind_index order by 1"
)


# Who has addresses; the rest of a night has nothing to do with keys.
LOADED = {
    "odoo": ("res_partner", "res_users", "res_country", "crm_lead"),
    "ace": ("apn_users", "apn_companies", "apn_contacts", "apn_opportunity"),
}
COMPUTED = ("account_record", "contact", "app_user")


def night(pipeline: Pipeline, *, gate: str = "open") -> None:
    for source, tables in LOADED.items():
        pipeline.load(source, *tables)
        with pipeline.as_role("revops_quality") as quality:
            quality.execute(
                "insert into ops.quality_run "
                "(run_id, source, layer, status, gate, expected, evaluated, seconds, engine) "
                "values ('night', %s, 'raw', 'passed', %s, 1, 1, 0, 'test')",
                (source, gate),
            )
        with pipeline.as_role("revops_transform") as worker:
            for name in COMPUTED:
                transform_table(worker, target=TARGETS[name], source=source, run_id="night", include=INCLUDE)


@pytest.mark.parametrize("gate", ["open", "shut"])
def test_core_has_the_new_indexes_afterwards(pipeline: Pipeline, keys: Keys, warehouse_dsn: str, gate: str) -> None:
    """With raw checked at once; where it is not, with the next run of each source."""
    pipeline.keyring = keys.ring(1)
    night(pipeline, gate=gate)
    with pipeline.as_role("revops_quality") as reader:
        reader.autocommit = True
        contacts, users, persons = (query(reader, statement) for statement in (CONTACTS, USERS, PERSONS))
        assert any(len(group) > 1 for (group,) in persons)
        load_ids = query(reader, "select source_system, source_id, raw_load_id from core.contact order by 1, 2")

        new = keys.ring(2, 1, index=1)
        sources = [load_source("odoo"), load_source("ace")]
        done = rotate_keys(lambda: pipeline.as_role("revops_ingest"), new, run_id="rotation", sources=sources)
        assert done is not None
        assert {"odoo_res_partner", "ace_apn_contacts", "odoo_crm_lead"} <= set(done.indexed)
        # Until they are brought over together, core's own are all of the old key.
        assert query(reader, CONTACTS) == contacts
        with pipeline.as_role("revops_transform") as worker:
            refreshed = [refresh_core(worker, source, run_id="rotation", include=INCLUDE) for source in sources]
        assert refreshed == [gate == "open"] * 2
        if gate == "shut":
            assert query(reader, CONTACTS) == contacts
            pipeline.keyring = new
            night(pipeline)

        for statement, old in ((CONTACTS, contacts), (USERS, users)):
            found = query(reader, statement)
            assert [row[:2] for row in found] == [row[:2] for row in old]
            # Every index is another one, and none has come or gone.
            for row, was in zip(found, old, strict=True):
                assert [
                    (index is None, index != before or index is None)
                    for index, before in zip(row[2:], was[2:], strict=True)
                ] == [(before is None, True) for before in was[2:]]
        assert sorted(query(reader, PERSONS)) == sorted(persons)
        found_ids = query(reader, "select source_system, source_id, raw_load_id from core.contact order by 1, 2")
        assert found_ids == load_ids
        address = query(
            reader,
            "select c.email_blind_index = p.email_normalized_blind_index from core.contact c "
            "join raw.odoo_res_partner p on c.source_system = 'odoo' and c.source_id = p.id::text "
            "where p.email_normalized_blind_index is not null",
        )
        assert set(address) == {(True,)}
        # Nothing else of core had to be computed anew.
        full = query(
            reader,
            "select distinct target from ops.transform_run where full_reason like '%%index key%%' order by 1",
        )
        assert full == [("core.app_user",), ("core.contact",)]


def test_the_night_after_a_rotation_of_data_keys_has_nothing_to_do(pipeline: Pipeline, keys: Keys) -> None:
    pipeline.keyring = keys.ring(1)
    night(pipeline)
    done = rotate_keys(
        lambda: pipeline.as_role("revops_ingest"),
        keys.ring(2, 1),
        run_id="rotation",
        sources=[load_source("odoo"), load_source("ace")],
    )
    assert done is not None
    assert len(done.rows) >= 4
    pipeline.keyring = keys.ring(2)
    with pipeline.as_role("revops_quality") as reader:
        reader.autocommit = True
        last = query(reader, "select max(load_id), max(transform_run_id) from ops.load, ops.transform_run")[0]
        night(pipeline)
        loads = "select sum(inserted), sum(updated), sum(deleted) from ops.load where load_id > %s"
        assert query(reader, loads, last[0]) == [(0, 0, 0)]
        assert query(
            reader,
            "select sum(inserted), sum(updated), sum(deleted) from ops.transform_run where transform_run_id > %s",
            last[1],
        ) == [(0, 0, 0)]
        # No token, of whatever key, lies anywhere but in raw: an index of 16 bytes is all that core copies.
        elsewhere = query(
            reader,
            "select table_schema || '.' || table_name, column_name from information_schema.columns "
            "where data_type = 'bytea' and table_schema in ('core', 'search', 'ops')",
        )
        assert elsewhere
        for table, column in elsewhere:
            longest = query(reader, f"select coalesce(max(octet_length({column})), 0) from {table}")
            assert longest[0][0] <= 16, (table, column)
