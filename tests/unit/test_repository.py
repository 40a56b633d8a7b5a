"""The repository itself: what its pages and lists promise is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from revops.transform.definition import read_definition
from revops.transform.targets import TARGETS, Target

ROOT = Path(__file__).resolve().parents[2]
ALL_SQL = sorted([*(ROOT / "include/sql/core").glob("*.sql"), *(ROOT / "include/sql/search").glob("*.sql")])
SQL_FILES = [path for path in ALL_SQL if not path.name.endswith(".affected.sql")]
FIXED_PACKAGES = (
    "apache-airflow",
    "apache-airflow-providers-postgres",
    "apache-airflow-providers-docker",
    "psycopg2-binary",
    "pgvector",
    "pandas",
    "pyarrow",
    "soda-core-postgres",
)
REQUIREMENTS = (
    ("requirements.txt", "constraints.txt"),
    ("requirements-dev.txt", "constraints.txt"),
    ("include/embedding/requirements.txt", "include/embedding/constraints.txt"),
    ("include/embedding/requirements-dev.txt", "include/embedding/constraints.txt"),
)
LARGEST_FILE = 600_000
LONGEST_MODULE = 400


def tracked_files() -> list[Path]:
    """Files of the repository: known to git, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def pins(path: str) -> dict[str, str]:
    """Versions by normalised package name; a line without `==` is a fault."""
    found = {}
    for line in (ROOT / path).read_text().splitlines():
        requirement = line.split("#", 1)[0].split(";", 1)[0].strip()
        if not requirement or requirement.startswith("-"):
            continue
        name, separator, version = requirement.partition("==")
        assert separator, f"{path}: {requirement} is not pinned"
        found[re.sub(r"[-_.]+", "-", name.split("[", 1)[0]).lower()] = version
    return found


def targets_of_the_makefile() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize(
    "page", sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")]), ids=lambda page: page.name
)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"(?:^|`|\$ |&& |; )make ([a-z][a-z-]*)", page.read_text(), re.MULTILINE))
    assert named <= targets_of_the_makefile()
    if page.name == "README.md":
        assert {"demo", "test"} <= named


def test_every_command_is_listed_by_make() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  ([a-z-]+) ", listed, re.MULTILINE)) == {
        name for name in targets_of_the_makefile() if not name.startswith("_")
    }


def test_the_packages_that_were_asked_for_are_pinned() -> None:
    assert set(FIXED_PACKAGES) <= set(pins("requirements.txt"))
    assert {"flagembedding", "torch"} <= set(pins("include/embedding/requirements.txt"))


@pytest.mark.parametrize(("requirements", "constraints"), REQUIREMENTS)
def test_every_pin_agrees_with_the_constraints(requirements: str, constraints: str) -> None:
    wanted, fixed = pins(requirements), pins(constraints)
    assert wanted
    assert wanted == {name: fixed.get(name) for name in wanted}


@pytest.mark.parametrize("path", SQL_FILES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_every_table_says_what_it_is(path: Path) -> None:
    header = []
    for line in path.read_text().splitlines():
        if not line.startswith("--"):
            break
        header.append(line)
    words = [word for line in header if (word := line.removeprefix("-- ").split(":", 1)[0]) != "Privacy"]
    titles = [word for word in words if word in ("Purpose", "Grain", "Reads", "Writes", "Re-run")]
    assert titles == ["Purpose", "Grain", "Reads", "Writes", "Re-run"]
    assert f"-- Writes: {path.parent.name}.{path.stem}" in "\n".join(header)


def test_sql_files_and_targets_are_the_same_set() -> None:
    files = {(path.parent.name, path.stem) for path in SQL_FILES}
    assert files == {(target.schema, target.name) for target in TARGETS.values()}
    assert all(name == target.name for name, target in TARGETS.items())


def test_every_table_with_scopes_says_which_keys_a_change_concerns() -> None:
    affected = {path.name.removesuffix(".affected.sql") for path in ALL_SQL} - {path.name for path in SQL_FILES}
    assert affected == {target.name for target in TARGETS.values() if target.scopes}


@pytest.mark.parametrize("target", [target for target in TARGETS.values() if target.scopes], ids=lambda item: item.name)
def test_no_input_of_a_table_is_forgotten_by_its_affected_keys(target: Target) -> None:
    """A raw table that the select reads must be one whose changes are looked at."""
    definition = read_definition(target, ROOT / "include" / "sql")
    statement = re.sub(r"--.*", "", definition.statement)
    affected = re.sub(r"--.*", "", definition.affected or "")
    for item in definition.inputs:
        if re.search(rf"\b(scoped_)?{item.table}\b", statement):
            # Where a row's old place is not known, the stored result itself is compared.
            assert re.search(rf"\b{item.table}(_changed)?\b", affected), item.table


@pytest.mark.parametrize("layer", ["raw", "core"])
def test_every_check_file_is_of_a_table(layer: str) -> None:
    from revops.sources import load_source

    checked = {path.stem for path in (ROOT / "include" / "soda" / layer).glob("*.yml")}
    if layer == "core":
        assert checked == {target.name for target in TARGETS.values() if target.schema == "core"}
        return
    sources = [load_source(name) for name in ("odoo", "ace")]
    assert checked == {source.raw_table(table) for source in sources for table in source.tables}


def test_no_file_is_large() -> None:
    files = tracked_files()
    assert len(files) > 100
    assert [str(path) for path in files if path.stat().st_size > LARGEST_FILE] == []


def test_no_module_is_long() -> None:
    modules = [path for path in tracked_files() if path.is_relative_to(ROOT / "plugins") and path.suffix == ".py"]
    assert len(modules) > 40
    assert [path.name for path in modules if len(path.read_text().splitlines()) > LONGEST_MODULE] == []


@pytest.mark.parametrize("path", [".env", "secrets/connections.json", "connections.yaml", ".local/credentials.json"])
def test_secrets_and_local_state_stay_out_of_git(path: str) -> None:
    ignored = subprocess.run(["git", "check-ignore", "--quiet", "--no-index", path], cwd=ROOT, check=False)
    assert ignored.returncode == 0


def test_the_example_of_settings_is_in_git() -> None:
    ignored = subprocess.run(["git", "check-ignore", "--quiet", "--no-index", ".env.example"], cwd=ROOT, check=False)
    assert ignored.returncode == 1


def test_the_image_of_airflow_has_all_that_its_tasks_read() -> None:
    # Other folders are the contexts of other images, or programs of the host.
    elsewhere = {"compose", *(path.parent.name for path in (ROOT / "include").glob("*/Dockerfile"))}
    dockerfile = (ROOT / "Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (.*)", dockerfile, re.MULTILINE) for name in line.split()[:-1]}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for path in tracked_files():
        name = path.relative_to(ROOT)
        if name.parts[0] in ("dags", "plugins") or (name.parts[0] == "include" and name.parts[1] not in elsewhere):
            for listed in (copied, let_in):
                assert {str(name), *map(str, name.parents)} & listed, f"{name} is not in the image"
