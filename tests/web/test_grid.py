"""The web UI in a real browser: both DAGs are triggered by clicks and end well."""

from __future__ import annotations

import pytest

from tests.second_night import CHROMIUM, SecondNight
from tests.stack import Commands

pytestmark = pytest.mark.web


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")
def test_both_dags_are_triggered_in_the_grid(commands: Commands, second_night: SecondNight) -> None:
    assert second_night.states == {"odoo": "success", "ace": "success"}
    assert (commands.stack.home / "screenshots" / "grid.png").stat().st_size > 10_000
