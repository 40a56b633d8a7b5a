"""Random tables with random histories: after every load raw equals its source, row for row, and so do the deletions."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.histories.application import Application
from tests.histories.compare import Pair
from tests.histories.loads import is_mended_by_retry, load, source_config
from tests.histories.tables import forget_settings

pytestmark = pytest.mark.db

# More of them now and then: HISTORY_SEEDS=25:500 pytest tests/db/test_extract_histories.py
SEEDS = range(*map(int, os.environ.get("HISTORY_SEEDS", "0:25").split(":")))
TRIES = 8


class Story:
    """One table, who writes into it, and its loads."""

    def __init__(self, source_dsn: str, warehouse_dsn: str, seed: int) -> None:
        self.rng = random.Random(seed)
        self.source_dsn = source_dsn
        self.ingest_dsn = make_conninfo(warehouse_dsn, options="-c role=revops_ingest")
        self.application = Application(source_dsn, self.rng)
        self.application.create(rows=self.rng.choice((0, 1, 40, 400)))
        settings = self.rng.choice(({}, {}, {"mode": "full"}, {"ranged_above_mb": 0, "range_mb": 1, "workers": 2}))
        self.config = source_config(**settings)
        self.source = psycopg.connect(source_dsn, autocommit=True)
        self.warehouse = psycopg.connect(warehouse_dsn, autocommit=True)
        self.pair = Pair(self.source, self.warehouse, "t", "odoo_t")
        self.pair.prepare()
        self._runs = itertools.count(1)

    def close(self) -> None:
        self.application.close()
        forget_settings(self.source)
        self.source.close()
        self.warehouse.close()

    def load(self) -> None:
        """Load until a try succeeds, as the task's retries do."""
        for left in reversed(range(TRIES)):
            try:
                result = load(self.source_dsn, self.ingest_dsn, config=self.config, run_id=f"run-{next(self._runs)}")
            except Exception as error:
                self.application.log.append(f"load failed: {type(error).__name__}")
                if not is_mended_by_retry(error) or not left:
                    raise
            else:
                self.application.log.append(f"loaded: {result}")
                return

    def load_quietly(self) -> None:
        """Load while nobody commits; transactions may be open."""
        before = self.pair.keys()
        self.load()
        self.pair.assert_equal()
        self.pair.assert_deletions(before)


@pytest.fixture(params=SEEDS, ids=lambda seed: f"seed-{seed}")
def story(request: pytest.FixtureRequest, source_dsn: str, warehouse_dsn: str) -> Iterator[Story]:
    made = Story(source_dsn, warehouse_dsn, request.param)
    yield made
    made.close()


def test_raw_follows_its_source(story: Story) -> None:
    try:
        _live_through(story)
    except Exception as error:
        error.add_note("\n".join(story.application.log))
        raise


def _live_through(story: Story) -> None:
    rng, application = story.rng, story.application
    story.load_quietly()
    for _ in range(rng.randint(3, 7)):
        for _ in range(rng.randint(0, 3)):
            deeds = (application.write, application.write, application.open_late, application.alter, application.alter)
            rng.choice(deeds)()
        application.finish_late(chance=0.4)
        if rng.random() < 0.4:
            with application.writing(rng.randint(1, 3), alters=rng.random() < 0.4):
                story.load()
        else:
            story.load_quietly()
    application.finish_late()
    story.load_quietly()
