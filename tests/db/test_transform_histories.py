"""Random histories of the sample sources: incremental core equals core rebuilt from scratch, row for row."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from datetime import date

import psycopg
import pytest
from psycopg import sql

from revops.keyring import Keyring
from revops.local.postgres import EmbeddedPostgres
from revops.local.sample import create
from tests.histories.core import CoreDiffersError
from tests.histories.nights import Nights, Places

pytestmark = pytest.mark.db

# More of them now and then: TRANSFORM_HISTORY_SEEDS=2:100 pytest tests/db/test_transform_histories.py
SEEDS = range(*map(int, os.environ.get("TRANSFORM_HISTORY_SEEDS", "0:2").split(":")))
STEPS = 8
TODAY = date(2026, 11, 22)
SCALE = 0.001

_numbers = itertools.count()


@pytest.fixture(scope="module")
def keyring() -> Keyring:
    return Keyring.generate()


@pytest.fixture(scope="module")
def beginning(
    postgres: EmbeddedPostgres,
    passwords: dict[str, str],
    _template: str,
    keyring: Keyring,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, str, str]]:
    """Both sources and a warehouse that has them in raw and core: the databases that every history begins with."""
    names = (f"history_odoo_{os.getpid()}", f"history_ace_{os.getpid()}", f"history_warehouse_{os.getpid()}")
    _copy(postgres, names, templates=("template0", "template0", _template))
    places = _places(postgres, passwords, names)
    with psycopg.connect(places.sources["odoo"]) as odoo, psycopg.connect(places.sources["ace"]) as ace:
        truth_path = tmp_path_factory.mktemp("sample") / "truth.csv"
        create(odoo, ace, seed=7, today=TODAY, scale=SCALE, truth_path=truth_path)
    first = Nights(places, random.Random(0), keyring=keyring, is_new=True)
    first.load()
    first.transform()
    first.close()
    yield names
    _drop(postgres, names)


@pytest.fixture(params=SEEDS, ids=lambda seed: f"seed-{seed}")
def nights(
    request: pytest.FixtureRequest,
    postgres: EmbeddedPostgres,
    passwords: dict[str, str],
    beginning: tuple[str, str, str],
    keyring: Keyring,
) -> Iterator[Nights]:
    names = tuple(f"{name}_{next(_numbers)}" for name in beginning)
    _copy(postgres, names, templates=beginning)
    made = Nights(_places(postgres, passwords, names), random.Random(request.param), keyring=keyring, is_new=False)
    yield made
    made.close()
    _drop(postgres, names)


def test_incremental_core_equals_core_rebuilt(nights: Nights, request: pytest.FixtureRequest) -> None:
    step = 0
    try:
        for step in range(STEPS):
            nights.log.append(f"step {step}")
            _live_through(nights, is_compared=step % 2 == 1)
    except Exception as error:
        error.add_note("\n".join(nights.log))
        if isinstance(error, CoreDiffersError):
            raise CoreDiffersError(f"{request.node.callspec.id}, step {step}: {error}") from error
        raise


def _live_through(nights: Nights, *, is_compared: bool) -> None:
    for _ in range(nights.rng.randint(5, 10)):
        nights.change()
        # Several loads between two transforms.
        if nights.rng.random() < 0.1:
            nights.load(left_out=0.3)
    if nights.rng.random() < 0.6:
        nights.load(left_out=0.1)
        nights.transform(left_out=0.15)
    if is_compared:
        nights.compare()


def _places(postgres: EmbeddedPostgres, passwords: dict[str, str], names: tuple[str, ...]) -> Places:
    odoo, ace = (postgres.conninfo(name, user="odoo", password=passwords["odoo"]) for name in names[:2])
    return Places({"odoo": odoo, "ace": ace}, postgres.conninfo(names[2], user="revops", password=passwords["revops"]))


def _copy(postgres: EmbeddedPostgres, names: tuple[str, ...], *, templates: tuple[str, ...]) -> None:
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        for name, template, owner in zip(names, templates, ("odoo", "odoo", "revops"), strict=True):
            connection.execute(
                sql.SQL("create database {} owner {} template {}").format(
                    sql.Identifier(name), sql.Identifier(owner), sql.Identifier(template)
                )
            )


def _drop(postgres: EmbeddedPostgres, names: tuple[str, ...]) -> None:
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        for name in names:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
