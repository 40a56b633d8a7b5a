"""Where a checkout keeps what it makes for itself."""

from __future__ import annotations

import hashlib
import os
import pwd
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Account:
    """The operating-system account that PostgreSQL runs as."""

    uid: int
    gid: int


def server_account() -> Account:
    """Return the caller's own account, or `nobody` for root, whom PostgreSQL refuses."""
    if os.geteuid() != 0:
        return Account(os.getuid(), os.getgid())
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def state_home() -> Path:
    """Return the folder that holds all local state of this checkout.

    `REVOPS_HOME` wins. Otherwise it is `.local` in the checkout, or, when root works below a folder that
    the PostgreSQL account may not enter, a folder in /var/tmp named after the checkout's path. Never shared by
    two checkouts.
    """
    if override := os.environ.get("REVOPS_HOME"):
        return Path(override).resolve()
    if os.geteuid() == 0 and not _others_may_enter(CHECKOUT):
        digest = hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:12]
        home = Path("/var/tmp") / f"revops-{digest}"  # noqa: S108 - its owner is checked
        home.mkdir(mode=0o755, exist_ok=True)
        if home.is_symlink() or home.stat().st_uid != 0:
            raise PermissionError(f"{home} belongs to somebody else. Remedy: set REVOPS_HOME to a folder of your own.")
        return home
    return CHECKOUT / ".local"


def _others_may_enter(folder: Path) -> bool:
    return all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents))
