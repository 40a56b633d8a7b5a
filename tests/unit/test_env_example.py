""".env.example: it documents each variable that is read, and each that it documents is read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from revops.connection_stores import BACKEND_VARIABLES
from revops.setting_names import COMPOSE_VARIABLES, TOOL_VARIABLES
from revops.settings import CONNECTION_VARIABLES, EMBEDDING_PYTHON, OPTIONAL_VARIABLES, variable_names

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / ".env.example").read_text()
PYTHON = [path for folder in ("plugins", "dags", "include/embedding") for path in (ROOT / folder).rglob("*.py")]
COMPOSE_FILES = sorted(ROOT.glob("docker-compose*.yaml"))
OWN = re.compile(r"(REVOPS|AIRFLOW_CONN)_[A-Z0-9_]+")
# The machine's own, which every program heeds.
OF_THE_MACHINE = {"PATH", "HOME", "SUDO_USER", "NO_PROXY", "HTTPS_PROXY", "HF_ENDPOINT", "PGSSLROOTCERT"}
# Set for a process by whoever starts it, never by people.
OF_A_PROCESS = {"AIRFLOW_HOME", "AIRFLOW__API__BASE_URL", *BACKEND_VARIABLES}
# Of make: what to install with, and what a single call is about.
OF_MAKE = {"WEB_PORT", "TORCH_INDEX"}


def documented() -> list[str]:
    return re.findall(r"^#?([A-Z][A-Z0-9_]+)=", TEXT, re.MULTILINE)


def read_by_python() -> set[str]:
    """Names that stand in the code as whole texts, and those that os.environ is asked for."""
    found = set()
    for path in PYTHON:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and OWN.fullmatch(node.value):
                found.add(node.value)
            found |= set(_asked_for(node))
    return found


def _asked_for(node: ast.AST) -> Iterator[str]:
    """Yield the name in `os.environ["X"]` and `os.environ.get("X")`."""
    name: ast.AST | None = None
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        owner, name = node.value, node.slice
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
        owner, name = node.func.value, node.args[0]
    if (
        isinstance(name, ast.Constant)
        and isinstance(name.value, str)
        and isinstance(owner, ast.Attribute)
        and owner.attr == "environ"
    ):
        yield name.value


def read_by_compose() -> set[str]:
    return {name for path in COMPOSE_FILES for name in re.findall(r"(?<!\$)\$\{([A-Z][A-Z0-9_]*)", path.read_text())}


def read_by_make() -> set[str]:
    return set(re.findall(r"^([A-Z][A-Z0-9_]*) \?=", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_code_reads_what_the_settings_name() -> None:
    # The test's own eye: it sees every setting, and what is asked of the environment directly.
    composed = {f"{name}_FILE" for name in OPTIONAL_VARIABLES}
    assert set(variable_names()) - composed <= read_by_python()
    assert {"REVOPS_HOME", "REVOPS_INCLUDE", "HF_ENDPOINT"} <= read_by_python()


def test_every_variable_that_is_read_is_documented() -> None:
    read = (
        (read_by_python() - OF_THE_MACHINE - OF_A_PROCESS)
        | set(variable_names())
        | (read_by_make() & OF_MAKE)
        | set(COMPOSE_VARIABLES)
        | read_by_compose()
    )
    assert sorted(read - set(documented())) == []


def test_every_documented_variable_is_read() -> None:
    read = {*read_by_python(), *variable_names(), *read_by_make(), *COMPOSE_VARIABLES, *TOOL_VARIABLES}
    if COMPOSE_FILES:
        read |= read_by_compose()
    else:
        read |= set(documented_for_compose())
    unread = {name for name in documented() if name not in read and not name.startswith("AIRFLOW__")}
    assert unread == set()


def documented_for_compose() -> list[str]:
    section = TEXT[TEXT.index("# --- Docker Compose ---") :]
    return re.findall(r"^#?([A-Z][A-Z0-9_]+)=", section, re.MULTILINE)


@pytest.mark.skipif(not COMPOSE_FILES, reason="there is no docker-compose.yaml")
def test_the_settings_know_the_variables_of_compose() -> None:
    """One that they do not know would be taken for a misspelt one, where .env is shared."""
    own = {name for name in read_by_compose() if name.startswith("REVOPS_")}
    assert own - set(variable_names()) - set(TOOL_VARIABLES) == set(COMPOSE_VARIABLES)


@pytest.mark.skipif(not COMPOSE_FILES, reason="there is no docker-compose.yaml")
def test_the_defaults_that_are_shown_are_composes() -> None:
    defaults: dict[str, set[str]] = {}
    for path in COMPOSE_FILES:
        # Compose's own tags, by which one file replaces what another says.
        yaml.safe_load(re.sub(r"!(override|reset)\b", "", path.read_text()))
        for name, default in re.findall(r"(?<!\$)\$\{([A-Z][A-Z0-9_]*):-([^${}]+)\}", path.read_text()):
            defaults.setdefault(name, set()).add(default)
    shown = dict(re.findall(r"^#?([A-Z][A-Z0-9_]+)=(.*)$", TEXT, re.MULTILINE))
    compose_only = set(documented_for_compose())
    assert {name: values for name, values in defaults.items() if len(values) > 1} == {}
    assert {name: shown[name] for name in defaults if name in compose_only} == {
        name: next(iter(values)) for name, values in defaults.items() if name in compose_only
    }


@pytest.mark.skipif(not COMPOSE_FILES, reason="there is no docker-compose.yaml")
def test_compose_passes_on_what_airflow_reads() -> None:
    """What .env says and no container is told would be the default in silence."""
    environment = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["x-airflow"]["environment"]
    # These stand in files of secrets/airflow; and the encoder is a container.
    elsewhere = {*CONNECTION_VARIABLES, *OPTIONAL_VARIABLES, EMBEDDING_PYTHON}
    lineage = {name for name in documented() if name.startswith("AIRFLOW__OPENLINEAGE__")}
    assert (set(variable_names()) - elsewhere | lineage) - set(environment) == set()


def test_no_variable_is_shown_twice() -> None:
    twice = {name for name in documented() if documented().count(name) > 1}
    # Two ways of sending lineage events.
    assert twice == {"AIRFLOW__OPENLINEAGE__TRANSPORT"}


def test_each_variable_is_explained() -> None:
    """A comment stands above it, or above the others of its block."""
    for block in re.split(r"\n\n+", TEXT):
        if re.search(r"^#?[A-Z][A-Z0-9_]+=", block, re.MULTILINE):
            assert re.match(r"# \S", block), block


def test_no_secret_is_shown() -> None:
    for name, value in re.findall(r"^#?([A-Z][A-Z0-9_]+)=(.*)$", TEXT, re.MULTILINE):
        if re.search(r"://[^/]*:[^/]*@", value) or name.endswith(("_KEY", "_KEYS")):
            assert "CHANGE_ME" in value, name
