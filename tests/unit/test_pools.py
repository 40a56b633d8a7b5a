"""Pools: each that a DAG names is in the file that the embedded stack and Airflow's own command read."""

from __future__ import annotations

from pathlib import Path

import pytest

from revops.pools import POOLS_FILE, PoolFileError, read_pools
from revops.sources import SOURCES_FOLDER


def test_every_source_and_the_encoder_have_a_pool() -> None:
    assert set(read_pools()) == {"embedding", *(f"{path.stem}_source" for path in SOURCES_FOLDER.glob("*.yaml"))}
    assert all(pool.description for pool in read_pools().values())


def test_airflows_own_command_reads_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.cli.commands import pool_command

    class Client:
        def create_pool(self, **pool: object) -> dict[str, object]:
            return pool

    monkeypatch.setattr(pool_command, "get_current_api_client", Client)
    pools, failed = pool_command.pool_import_helper(str(POOLS_FILE))
    assert failed == []
    assert {pool["name"]: pool["slots"] for pool in pools} == {name: pool.slots for name, pool in read_pools().items()}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Invalid JSON"),
        ('{"odoo_source": {"slots": 0, "description": "none"}}', "odoo_source.slots: "),
        ('{"odoo_source": {"slots": 4}}', "odoo_source.description: Field required"),
        ('{"odoo_source": {"slot": 4, "slots": 4, "description": "x"}}', "odoo_source.slot: "),
    ],
)
def test_a_malformed_file_is_named_with_its_fault(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "pools.json"
    path.write_text(text)
    with pytest.raises(PoolFileError) as caught:
        read_pools(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PoolFileError, match="No such file"):
        read_pools(tmp_path / "pools.json")
