"""The programs of include/compose on the host, with a docker that only writes down what it is asked for."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ("docker-compose.yaml", "docker-compose.gpu.yaml", "docker-compose.scale.yaml")
DOCKER = r"""#!/bin/bash
printf '%s\n' "$*" >>"$CALLS"
case "$*" in
    "compose version"*) echo 2.26.1 ;;
    info*) echo "$RUNTIMES" ;;
    build*) echo "an image is built" >&2 ;;
    "compose "*" ps --format"*) echo "revops-warehouse-1 healthy" ;;
    "compose "*" config"*) env ;;
esac
"""
SOURCES = (
    "AIRFLOW_CONN_ODOO_SOURCE=postgresql://r:p@odoo.example.com/odoo\nAIRFLOW_CONN_ACE_SOURCE=postgresql://r:p@h/d\n"
)
ARCHIVE = "services:\n  warehouse:\n    volumes: [/mnt/archive:/archive]\n"


@dataclass(frozen=True)
class Checkout:
    """A folder with what the scripts need of a checkout, and a PATH with that docker."""

    folder: Path
    calls_file: Path

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def run(self, *command: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the checkout; both streams are in stdout, in their order."""
        return subprocess.run(
            [str(self.folder / command[0]), *command[1:]],
            cwd=cwd or self.folder,
            env={
                "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.defpath}",
                "CALLS": str(self.calls_file),
                "RUNTIMES": "runc",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self) -> list[str]:
        """What docker was asked for, but for what the scripts want to know of the engine."""
        told = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        return [line for line in told if not re.match(r"info|ps |compose version", line)]

    def files(self, call: str) -> list[str]:
        return re.findall(r"--file (\S+)", call)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    folder = tmp_path / "checkout"
    for name in ("include/compose", "deploy/backup"):
        shutil.copytree(ROOT / name, folder / name)
    for name in FILES:
        shutil.copy2(ROOT / name, folder / name)
    made = Checkout(folder, tmp_path / "calls")
    made.write("bin/docker", DOCKER)
    (folder / "bin" / "docker").chmod(0o755)
    return made


# --- Files besides Revops' own ----------------------------------------------------------------------------------------


def test_the_stack_is_its_own_files_where_nothing_else_is_named(checkout: Checkout) -> None:
    assert checkout.run("include/compose/run", "ps").returncode == 0
    assert checkout.run("include/compose/run", "ps", PROFILE="scale", RUNTIMES="nvidia runc").returncode == 0
    plain, scale = checkout.calls()
    assert checkout.files(plain) == ["docker-compose.yaml"]
    assert checkout.files(scale) == ["docker-compose.yaml", "docker-compose.scale.yaml", "docker-compose.gpu.yaml"]


@pytest.mark.parametrize(
    "line",
    [
        "REVOPS_COMPOSE_FILES=docker-compose.archive.yaml:mine/more.yaml",
        "REVOPS_COMPOSE_FILES='docker-compose.archive.yaml mine/more.yaml'  # the archive, and more",
        'export REVOPS_COMPOSE_FILES="docker-compose.archive.yaml : mine/more.yaml:"',
        "REVOPS_COMPOSE_FILES=docker-compose.archive.yaml:mine/more.yaml # the archive",
    ],
)
def test_files_that_env_names_are_taken_by_every_script(checkout: Checkout, line: str) -> None:
    checkout.write(".env", f"{SOURCES}REVOPS_COMPOSE_FILES=\n{line}\n")
    checkout.write("docker-compose.archive.yaml", ARCHIVE)
    checkout.write("mine/more.yaml", ARCHIVE)
    (checkout.folder / "secrets").mkdir()
    elsewhere = checkout.folder.parent
    for command in (
        ("include/compose/up",),
        ("include/compose/down",),
        ("include/compose/run", "logs"),
        # It finds no container here.
        ("deploy/backup/compose", "warehouse", str(elsewhere / "backups"), "dump"),
    ):
        checkout.calls_file.unlink(missing_ok=True)
        told = checkout.run(*command, cwd=elsewhere, GPU="0", REVOPS_UID="50000", **free_ports()).stdout
        composed = [call for call in checkout.calls() if call.startswith("compose ")]
        assert composed, (command, told)
        for call in composed:
            files = [file for file in checkout.files(call) if file != "docker-compose.scale.yaml"]
            assert files == ["docker-compose.yaml", "docker-compose.archive.yaml", "mine/more.yaml"], (command, call)


def free_ports() -> dict[str, str]:
    """Ports that `up` finds free: a port that nobody listens on is needed, whoever else is at work here."""
    from revops.local.ports import free_port

    return {name: str(free_port()) for name in ("WEB_PORT", "REVOPS_WAREHOUSE_PORT", "REVOPS_MAIL_PORT")}


@pytest.mark.parametrize(
    "name",
    [
        *("compose.override.yml", "compose.override.yaml"),
        *("docker-compose.override.yml", "docker-compose.override.yaml"),
    ],
)
def test_composes_override_counts_as_with_compose_itself(checkout: Checkout, name: str) -> None:
    checkout.write(name, ARCHIVE)
    checkout.write("mine.yaml", ARCHIVE)
    checkout.run("include/compose/run", "ps", REVOPS_COMPOSE_FILES="mine.yaml")
    (call,) = checkout.calls()
    assert checkout.files(call) == ["docker-compose.yaml", name, "mine.yaml"]


def test_a_file_that_is_named_and_missing_is_an_error(checkout: Checkout) -> None:
    checkout.write(".env", "REVOPS_COMPOSE_FILES=docker-compose.archive.yaml\n")
    for command in ("include/compose/run", "include/compose/down"):
        done = checkout.run(command, "ps")
        assert done.returncode == 1
        assert (
            f"REVOPS_COMPOSE_FILES names the file docker-compose.archive.yaml, which is not in {checkout.folder}. "
            "Remedy: " in done.stdout
        )
    assert checkout.calls() == []


@pytest.mark.parametrize("in_env_file", [True, False])
def test_composes_own_variable_is_not_left_out_in_silence(checkout: Checkout, in_env_file: bool) -> None:
    named = "docker-compose.yaml:docker-compose.archive.yaml"
    if in_env_file:
        checkout.write(".env", f"COMPOSE_FILE={named}\n")
    done = checkout.run("include/compose/run", "ps", **({} if in_env_file else {"COMPOSE_FILE": named}))
    assert done.returncode == 1
    assert f"COMPOSE_FILE={named} would be left out here. Remedy: " in done.stdout
    assert "REVOPS_COMPOSE_FILES" in done.stdout
    assert checkout.calls() == []


# --- What a plain `docker compose` finds in .env ----------------------------------------------------------------------


@pytest.fixture
def complete(checkout: Checkout) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that completes .env for secrets of this account."""
    (checkout.folder / "secrets").mkdir(mode=0o700)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return checkout.run("include/compose/complete-env", str(checkout.folder / "secrets"), *arguments)

    return run


def owner(checkout: Checkout, account: int | None) -> int:
    """Give the secrets to an account, where this is root; return whose they are."""
    folder = checkout.folder / "secrets"
    if os.geteuid() == 0:
        os.chown(folder, account or 1000, 0)
    return folder.stat().st_uid


def test_make_secrets_writes_the_account_where_there_is_no_env(
    checkout: Checkout, complete: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    account = owner(checkout, 1000)
    told = complete()
    assert told.returncode == 0, told.stdout
    assert told.stdout == f".env: added REVOPS_UID={account}\n"
    assert stat.S_IMODE((checkout.folder / ".env").stat().st_mode) == 0o600
    first = checkout.read(".env")
    assert first.splitlines()[1:] == [f"REVOPS_UID={account}"]
    assert complete().stdout == ""
    assert checkout.read(".env") == first


def test_a_line_without_its_end_is_not_spoiled(
    checkout: Checkout, complete: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    account = owner(checkout, 1000)
    checkout.write(".env", "#REVOPS_UID=50000\nREVOPS_ALERT_EMAIL=a@example.com")
    assert complete("--demo").returncode == 0
    lines = ["#REVOPS_UID=50000", "REVOPS_ALERT_EMAIL=a@example.com", f"REVOPS_UID={account}"]
    assert checkout.read(".env").splitlines() == [*lines, "REVOPS_COMPOSE_MODEL=demo"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder to the account of the images")
def test_the_account_of_the_images_is_composes_default(
    checkout: Checkout, complete: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    owner(checkout, 50000)
    assert complete().stdout == ""
    assert not (checkout.folder / ".env").exists()


def test_another_account_in_env_is_an_error(
    checkout: Checkout, complete: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    account = owner(checkout, 1000)
    checkout.write(".env", f"REVOPS_UID={account + 1}\n")
    told = complete()
    assert told.returncode == 1
    assert f".env says REVOPS_UID={account + 1}, and " in told.stdout
    assert f"belongs to account {account}, who alone may read it. Remedy: REVOPS_UID={account}" in told.stdout
    assert checkout.read(".env") == f"REVOPS_UID={account + 1}\n"


def test_what_stands_in_for_a_demonstration_is_for_those_without_sources(
    checkout: Checkout, complete: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    account = owner(checkout, 1000)
    stands_in = ["REVOPS_COMPOSE_MODEL=demo", "REVOPS_ALERT_EMAIL=revops-alerts@example.com"]
    checkout.write(".env", "AIRFLOW_CONN_ODOO_SOURCE=postgresql://r:CHANGE_ME@h/odoo\n")
    assert complete("--demo").returncode == 0
    assert checkout.read(".env").splitlines()[1:] == [f"REVOPS_UID={account}", *stands_in]
    checkout.write(".env", f"{SOURCES}REVOPS_UID={account}\n")
    assert complete("--demo").stdout == ""


def test_the_model_of_a_demonstration_is_not_taken_over_in_silence(
    checkout: Checkout, complete: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    owner(checkout, 1000)
    assert complete("--demo").returncode == 0
    # Still a demonstration, whose secrets are made anew.
    assert complete().returncode == 0
    checkout.write(".env", checkout.read(".env") + SOURCES)
    told = complete()
    assert told.returncode == 1
    assert "names sources, and still REVOPS_COMPOSE_MODEL=demo" in told.stdout
    assert complete("--demo").returncode == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_file_that_cannot_be_written_is_named_with_its_line(
    checkout: Checkout, complete: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    checkout.write(".env", SOURCES)
    (checkout.folder / ".env").chmod(0o400)
    told = complete()
    assert told.returncode == 1
    assert f".env can't be written. Remedy: let it have the line REVOPS_UID={os.geteuid()}\n" in told.stdout


def test_make_secrets_completes_env_for_its_own_folder_only(checkout: Checkout) -> None:
    elsewhere = checkout.folder.parent / "elsewhere"
    made = checkout.run("include/compose/make-secrets", "--demo", REVOPS_SECRETS=str(elsewhere))
    assert made.returncode == 0, made.stdout
    assert not (checkout.folder / ".env").exists()
    (checkout.folder / "secrets").mkdir(mode=0o700)
    account = owner(checkout, 1000)
    made = checkout.run("include/compose/make-secrets", "--demo")
    assert made.returncode == 0, made.stdout
    assert f"REVOPS_UID={account}" in checkout.read(".env")
    assert "REVOPS_COMPOSE_MODEL=demo" in checkout.read(".env")


def test_up_asks_for_sources_although_a_demonstration_has_left_an_env(checkout: Checkout) -> None:
    checkout.write(".env", "REVOPS_UID=1000\n")
    told = checkout.run("include/compose/up")
    assert told.returncode == 1
    assert ".env names no source, so that nobody knows your sources. Remedy: cp .env.example .env" in told.stdout


def test_the_scripts_hand_on_what_env_lacks(checkout: Checkout) -> None:
    (checkout.folder / "secrets").mkdir()
    account = owner(checkout, 1000)
    told = checkout.run("include/compose/run", "config", PROFILE="demo").stdout.splitlines()
    assert {f"REVOPS_UID={account}", "REVOPS_COMPOSE_MODEL=demo"} <= set(told)
    assert "REVOPS_ALERT_EMAIL=revops-alerts@example.com" in told


# --- What is said -----------------------------------------------------------------------------------------------------


def test_a_build_that_takes_minutes_is_announced(checkout: Checkout) -> None:
    for command in ("include/compose/make-secrets", "include/compose/up"):
        told = checkout.run(command, PROFILE="demo", REVOPS_TAG="x", **free_ports()).stdout
        before, built, _ = told.partition("an image is built")
        assert built, told
        assert "the image revops-airflow:x, in which secrets are made (the first time this takes minutes)" in before


# --- docker-compose.yaml, as Compose reads it -------------------------------------------------------------------------


@pytest.fixture
def composed(checkout: Checkout) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that has the real Compose read the files; it needs no engine for that."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker with the plugin compose on this machine")

    def config(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(docker), "compose", *options, "config"],
            cwd=checkout.folder,
            # Where the plugin is, too.
            env={name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_CONFIG") if name in os.environ}
            | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return config


def test_compose_by_itself_refuses_to_leave_files_out(
    checkout: Checkout, composed: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    assert composed().returncode == 0, composed().stderr
    checkout.write(".env", "REVOPS_COMPOSE_FILES=docker-compose.archive.yaml\n")
    refused = composed()
    assert refused.returncode != 0
    assert "REVOPS_COMPOSE_FILES names files that docker compose by itself leaves out" in refused.stderr
    assert "Remedy: make up, or include/compose/run" in refused.stderr
    taken = composed(REVOPS_COMPOSE_FILES="")
    assert taken.returncode == 0, taken.stderr


def test_secrets_must_have_been_made(composed: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Docker makes a folder that is mounted and missing, as root's, unless it is told not to."""
    files = ["--file", "docker-compose.yaml", "--file", "docker-compose.scale.yaml", "--profile", "demo"]
    told = composed(*files)
    assert told.returncode == 0, told.stderr
    mounts = re.findall(r"- type: bind\n\s+source: \S+/secrets/\w+\n.*?(?=\n\s+- |\n\s{4}\w)", told.stdout, re.DOTALL)
    assert len(mounts) >= 10
    for mount in mounts:
        assert "read_only: true" in mount, mount
        assert "create_host_path: true" not in mount, mount


def test_the_access_log_is_as_long_as_env_says(
    checkout: Checkout, composed: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    checkout.write(".env", "REVOPS_ACCESS_LOG_SIZE=200m\nREVOPS_ACCESS_LOG_FILES=40\nREVOPS_LOG_SIZE=7m\n")
    told = composed().stdout
    assert re.search(r"max-file: \"40\"\n\s+max-size: 200m", told)
    assert told.count("max-size: 200m") == 1
    assert "max-size: 7m" in told


def test_the_demonstrations_model_is_what_env_says(
    checkout: Checkout, composed: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    assert "REVOPS_EMBEDDING_MODEL: /models/bge-m3" in composed().stdout
    checkout.write(".env", "REVOPS_COMPOSE_MODEL=demo\n")
    told = composed().stdout
    assert "REVOPS_EMBEDDING_MODEL: /models/demo" in told
    assert "/models/bge-m3" not in told
