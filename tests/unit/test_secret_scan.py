"""The search for secrets: found in the tree and in the history, also where they were removed since."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from revops.keyring import new_key
from revops.local.secret_scan import ScanError, read_allowed

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = "allowed:\n  - value: hunter2\n    why: the password of the tests\n"


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def scan(folder: Path) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-m", "revops.local.secret_scan", str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not ended.stderr, ended.stderr
    return ended.returncode, ended.stdout


def password() -> str:
    """One as people's password managers make them: letters of both cases and digits."""
    return f"Aa1{secrets.token_hex(3)}9Zx{secrets.token_urlsafe(9)}"


def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode().strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository without secrets, and with the rules of this one."""
    folder = tmp_path / "repository"
    shutil.copytree(ROOT / ".kingfisher", folder / ".kingfisher", ignore=shutil.ignore_patterns("cache"))
    (folder / ".kingfisher" / "allowed.yaml").write_text(ALLOWED)
    (folder / ".gitignore").write_text("/.env\n")
    (folder / "README.md").write_text("postgresql://reader:hunter2@db.cloud303.io/odoo\n")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Begin")
    return folder


def test_a_tree_without_secrets_passes_and_what_git_ignores_is_not_looked_at(repository: Path) -> None:
    (repository / ".env").write_text(f"REVOPS_DATA_KEYS=1:{new_key()}\n")
    assert scan(repository) == (0, "")


def test_secrets_are_found_in_the_tree_and_in_what_was_removed_since(repository: Path) -> None:
    planted = {
        "settings.env": (f"REVOPS_DATA_KEYS=2:{new_key()}", "revops.key"),
        "fernet.env": (f"FERNET={base64.urlsafe_b64encode(os.urandom(32)).decode()}", "revops.key"),
        "connections.json": (f'{{"odoo_source": {{"password": "{password()}"}}}}', "revops.assigned"),
        "code.py": (f'API_KEY = "{password()}"', "revops.assigned"),
        "uri.txt": (f"postgresql://reader:{password()}@db.cloud303.io:5432/odoo", "generic-credential-uri"),
        "server.key": (private_key(), "private-key"),
    }
    for name, (text, _) in planted.items():
        (repository / name).write_text(f"# a file\n{text}\n")
    (repository / "README.md").write_text("nothing\n")
    code, told = scan(repository)
    assert code == 1
    for name, (text, rule) in planted.items():
        (line,) = [line for line in told.splitlines() if line.startswith(f"secrets: {name}:2: ")]
        assert rule in line
        assert line.endswith("in the tree")
        # Who reads the log of a build must not read the secret.
        assert text[-12:] not in told
    assert "Remedy" in told

    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "Plant")
    for name in planted:
        (repository / name).unlink()
    git(repository, "commit", "--quiet", "--all", "--message", "Remove")
    code, told = scan(repository)
    assert code == 1
    for name in planted:
        (line,) = [line for line in told.splitlines() if line.startswith(f"secrets: {name}:2: ")]
        assert "in the history, commit " in line


@pytest.mark.long
def test_another_branch_is_not_this_ones_history(repository: Path) -> None:
    git(repository, "switch", "--quiet", "--create", "other")
    (repository / "settings.env").write_text(f"REVOPS_INDEX_KEY={new_key()}\n")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "Plant")
    assert scan(repository)[0] == 1
    git(repository, "switch", "--quiet", "-")
    assert scan(repository) == (0, "")


def test_a_shallow_clone_and_an_archive_are_searched_and_say_what_they_lack(repository: Path, tmp_path: Path) -> None:
    (repository / "settings.env").write_text(f"REVOPS_INDEX_KEY={new_key()}\n")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "Plant")
    shallow, archive = tmp_path / "shallow", tmp_path / "archive"
    git(tmp_path, "clone", "--quiet", "--depth=1", repository.as_uri(), str(shallow))
    code, told = scan(shallow)
    assert code == 1
    assert "cut off (a shallow clone)" in told
    assert "settings.env:1: revops.key" in told

    archive.mkdir()
    git(repository, "archive", "--output", str(tmp_path / "all.tar"), "HEAD")
    subprocess.run(["tar", "-xf", str(tmp_path / "all.tar"), "-C", str(archive)], check=True)
    (archive / ".env").write_text(f"REVOPS_DATA_KEYS=1:{new_key()}\n")
    code, told = scan(archive)
    assert code == 1
    assert "there is no history here; the tree alone was searched" in told
    assert "settings.env:1: revops.key" in told
    assert ".env:1: " not in told.replace("settings.env", "")
    (archive / "settings.env").unlink()
    assert scan(archive)[0] == 0


@pytest.mark.long
def test_an_allowed_value_that_is_gone_is_to_be_removed_from_the_list(repository: Path) -> None:
    (repository / ".kingfisher" / "allowed.yaml").write_text(ALLOWED + "  - value: another\n    why: it was there\n")
    code, told = scan(repository)
    assert code == 1
    assert "'another' is found no more: remove it" in told


@pytest.mark.parametrize(
    "text",
    [
        "hunter2",
        "allowed:\n  - hunter2\n",
        "allowed:\n  - value: hunter2\n",
        "allowed:\n  - value: hunter2\n    why: ''\n",
        "allowed:\n  - value: 12345\n    why: a number\n",
        "allowed:\n  - {value: a, why: b}\n  - {value: a, why: c}\n",
        "allowed: [",
    ],
)
def test_a_list_without_reasons_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "allowed.yaml"
    path.write_text(text)
    with pytest.raises(ScanError):
        read_allowed(path)


def test_every_value_that_is_allowed_here_is_no_secret() -> None:
    """The list is short and obviously harmless: nothing random is on it."""
    for value in read_allowed(ROOT / ".kingfisher" / "allowed.yaml"):
        assert len(value) < 16 or value.startswith("canary-"), value
