"""The warehouse's disk is full: the load fails, what was there stays, and the next one succeeds once there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from revops.local.paths import server_account, state_home
from tests.drills.databases import HOME, Databases
from tests.drills.drill import Drill, Skipped
from tests.drills.load import Load
from tests.drills.world import World

TABLESPACE = "small_disk"
SIZE_MB = 160
DISK_FULL = "53100"
CHUNK = 1 << 16


@contextmanager
def surroundings(databases: Databases) -> Iterator[None]:
    """Put the warehouse on a small file system in memory; its log of changes stays on the real disk."""
    folder = state_home() / HOME / "small-disk"
    if os.geteuid() != 0 or shutil.which("mount") is None:
        raise Skipped("needs root to mount a small file system (tmpfs)")
    folder.mkdir(exist_ok=True)
    # What a run that was killed has left behind.
    subprocess.run(["umount", str(folder)], check=False, capture_output=True)
    with databases.warehouse.connect("postgres") as connection:
        connection.execute(f"drop tablespace if exists {TABLESPACE}".encode())
    options = f"size={SIZE_MB}m,mode=0700,uid={server_account().uid},gid={server_account().gid}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=False, capture_output=True, text=True
    )
    if mounted.returncode != 0:
        raise Skipped(f"no small file system can be mounted: {mounted.stderr.strip()}")
    try:
        with databases.warehouse.connect("postgres") as connection:
            connection.execute(f"create tablespace {TABLESPACE} location '{folder}'".encode())
        databases.recreate_warehouse(tablespace=TABLESPACE)
        yield
    finally:
        _ballast().unlink(missing_ok=True)
        databases.warehouse.start()
        databases.recreate_warehouse()
        with databases.warehouse.connect("postgres") as connection:
            connection.execute(f"drop tablespace {TABLESPACE}".encode())
        subprocess.run(["umount", str(folder)], check=False)


def fill_disk(world: World) -> None:
    """Fill the disk at a random moment of a load, all of it or nearly."""
    _ballast().unlink(missing_ok=True)
    world.prepare(rows=(3000, 12_000))
    room = world.rng.choice((0, 0, 50_000, 500_000))

    def fill(_: Load) -> bool:
        _fill(room=room)
        return True

    world.disturb(fill, permitted=(DISK_FULL,))
    # A load that found room enough was not hit.
    world.hits = world.broken
    world.load_in_vain(permitted=(DISK_FULL,))
    _ballast().unlink()
    world.settle()


def _ballast() -> Path:
    return state_home() / HOME / "small-disk" / "ballast"


def _fill(*, room: int) -> None:
    """Write until the file system is full, then free a little."""
    with _ballast().open("ab", buffering=0) as file:
        size = CHUNK
        while size >= 1:
            try:
                file.write(b"\0" * size)
            except OSError:
                size //= 16
        file.truncate(max(0, file.tell() - room))


DRILLS = (Drill("disk-full", "the warehouse's file system is full (tmpfs)", 6, fill_disk, surroundings),)
