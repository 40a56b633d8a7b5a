"""A folder of secrets: for its owner only, each file whole or not there at all, keys made once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# The account of Airflow's image. Containers run as the folder's owner with the group 0.
IMAGE_ACCOUNT = 50000
IMAGE_GROUP = 0
# Names of keys that have been made: a lost one must not be replaced silently, for it loses what it encrypted.
KEYS_MADE = "keys-made"

_PARTIAL = ".partial"


class SecretsError(ValueError):
    """The secrets can't be made or completed; the message names the file and the remedy, never a secret."""


@dataclass(frozen=True)
class SecretFiles:
    """The folder below `root`, held by one process at a time: see `opened`. `made` names what was written."""

    root: Path
    owner: int
    made: list[str] = field(default_factory=list)

    @classmethod
    @contextlib.contextmanager
    def opened(cls, root: Path) -> Iterator[SecretFiles]:
        """Yield the folder, made where it is missing, when no other process works on it.

        Root gives it to the account of the image, or leaves it with the account that has it; any other account works
        on its own folder only. Raises SecretsError when it is somebody else's, or when others may read it.
        """
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = _owner(root)
        lock = root / ".lock"
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SecretsError(f"{lock} can't be opened: {error.strerror}. Remedy: see who owns {root}") from error
        with os.fdopen(descriptor, "w") as held:
            # Of two first runs at once the second takes what the first has made.
            fcntl.flock(held, fcntl.LOCK_EX)
            _refuse_open(root)
            files = cls(root, owner)
            files._tidy()
            yield files

    def read(self, name: str) -> bytes | None:
        """Return what a file holds, None when it is missing; raises SecretsError when it is empty."""
        path = self.root / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        if not data.strip():
            raise SecretsError(f"{path} is empty. Remedy: put its value back, or remove the file to have one made")
        return data

    def text(self, name: str) -> str | None:
        """Return what a file holds as text, without the line end that an editor adds."""
        data = self.read(name)
        return None if data is None else data.decode().strip()

    def keep(self, name: str, make: Callable[[], str]) -> str:
        """Return what a file holds; made and written where it is missing, and never replaced."""
        kept = self.text(name)
        if kept is None:
            kept = make()
            self.put(name, kept.encode())
        return kept

    def keep_key(self, name: str, make: Callable[[], str]) -> str:
        """Keep a key without which data can't be read again: raises SecretsError when one that was made is gone."""
        made_before = (self.text(KEYS_MADE) or "").split()
        if name in made_before and self.read(name) is None:
            raise SecretsError(
                f"{self.root / name} was made before and is gone; a new one could not read what it encrypted. Remedy: "
                f"put back your copy. If nothing was encrypted with it, remove its line in {self.root / KEYS_MADE}"
            )
        key = self.keep(name, make)
        if name not in made_before:
            self.put(KEYS_MADE, "".join(f"{item}\n" for item in sorted({*made_before, name})).encode(), quiet=True)
        return key

    def put(self, name: str, data: bytes, *, quiet: bool = False) -> None:
        """Write a file whole, unless it holds just that."""
        path = self.root / name
        self._make_folder(path.parent)
        if path.exists() and path.read_bytes() == data:
            return
        partial = path.with_name(f".{path.name}{_PARTIAL}")
        descriptor = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            self._give(descriptor)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        partial.replace(path)
        _sync_folder(path.parent)
        if not quiet:
            self.made.append(name)

    def _make_folder(self, folder: Path) -> None:
        if not folder.exists():
            folder.mkdir(mode=0o700)
            self._give(folder)

    def _give(self, path: Path | int) -> None:
        if os.geteuid() == 0:
            os.chown(path, self.owner, IMAGE_GROUP)

    def _tidy(self) -> None:
        """Remove what a killed run left, and give the rest to the owner, as root may have made some of it."""
        for path in (self.root, *self.root.rglob("*")):
            if path.name.endswith(_PARTIAL):
                path.unlink()
            elif not path.is_symlink() and path.stat().st_uid != self.owner:
                self._give(path)


def _owner(root: Path) -> int:
    account, found = os.geteuid(), root.stat().st_uid
    if account == 0:
        return found or IMAGE_ACCOUNT
    if found != account:
        raise SecretsError(
            f"{root} belongs to account {found}, and this is account {account}. Remedy: run `make secrets` as that "
            f"account or as root, or give the folder away: chown -R {account} {root}"
        )
    return account


def _refuse_open(root: Path) -> None:
    exposed = [
        path for path in (root, *root.rglob("*")) if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    if exposed:
        raise SecretsError(
            f"{exposed[0]} may be read or entered by others (mode {stat.S_IMODE(exposed[0].stat().st_mode):04o}). "
            f"Remedy: chmod -R go-rwx {root}; where strangers may have read it, remove the files and make new ones"
        )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
