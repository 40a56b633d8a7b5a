"""The drills, one kind of fault in a file."""

from __future__ import annotations

from tests.drills.drill import Drill
from tests.drills.faults import (
    black_hole,
    clocks,
    commit_lost,
    full_disk,
    modes,
    scheduler_killed,
    servers_down,
    sessions,
    slow_source,
    snapshots,
    source_changes,
    twins,
    worker_killed,
)

DRILLS: tuple[Drill, ...] = (
    *sessions.DRILLS,
    *worker_killed.DRILLS,
    *servers_down.DRILLS,
    *commit_lost.DRILLS,
    *black_hole.DRILLS,
    *full_disk.DRILLS,
    *slow_source.DRILLS,
    *twins.DRILLS,
    *snapshots.DRILLS,
    *modes.DRILLS,
    *clocks.DRILLS,
    *scheduler_killed.DRILLS,
    *source_changes.DRILLS,
)
