"""One stack for all of these tests, and its first night."""

from __future__ import annotations

import pytest

from tests.stack import Commands


@pytest.fixture(scope="session")
def first_night(commands: Commands) -> str:
    """What `make demo` printed when it ran for the first time."""
    finished = commands.run("demo")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout
