"""ingestr, its last release whose wheel holds the program."""

from __future__ import annotations

from benchmarks.contenders import RIVALS, Command, Contender, Job, environment


def load(job: Job) -> Command:
    """Replace the table."""
    return _ingest(job, "--incremental-strategy", "replace")


def increment(job: Job) -> Command:
    """Merge what was written since; ingestr keeps no watermark, so it is told."""
    return _ingest(
        job,
        *("--incremental-strategy", "merge", "--incremental-key", job.cursor, "--primary-key", job.key),
        *("--interval-start", job.since),
    )


def _ingest(job: Job, *arguments: str) -> Command:
    return Command(
        [
            str(RIVALS / "bin" / "ingestr"),
            *("ingest", "--yes", "--progress", "log"),
            *("--source-table", f"public.{job.table}", "--dest-table", f"public.{job.table}", *arguments),
        ],
        environment(job, SOURCE_URI=job.source, DESTINATION_URI=job.target, INGESTR_DISABLE_TELEMETRY="true"),
    )


CONTENDER = Contender("ingestr", load, increment)
