"""The stack of profile demo, and its first night."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from docker import APIClient

from tests import canary
from tests.docker.compose.watched import Watched
from tests.docker.compose_stack import ComposeStack


@dataclass(frozen=True)
class Night:
    """The runs by DAG, and what was seen while they went on."""

    runs: dict[str, str]
    watched: Watched


@pytest.fixture(scope="package")
def stack(engine: APIClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeStack]:
    """Sample sources and everything else, from nothing: no secrets, no volumes."""
    with ComposeStack.started(tmp_path_factory.mktemp("checkout"), engine, "demo") as made:
        yield made


@pytest.fixture(scope="package")
def first_night(stack: ComposeStack, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Both DAGs, once, with canaries in the sources."""
    with stack.connect("odoo") as odoo, stack.connect("c303_prod_apn_01") as ace:
        canary.plant(odoo, ace)
    with Watched(stack, tmp_path_factory.mktemp("handed-over")) as watched:
        runs = stack.start_runs("odoo", "ace")
        stack.assert_succeeded(runs)
    return Night(runs, watched)
