"""sling, its last release whose wheel holds the program."""

from __future__ import annotations

from benchmarks.contenders import RIVALS, Command, Contender, Job, environment


def load(job: Job) -> Command:
    """Replace the table, without sling's usual way through a temporary one, which takes half as long again."""
    return _run(job, "--mode", "full-refresh", SLING_DIRECT_INSERT="true")


def increment(job: Job) -> Command:
    """Merge what is newer than the target's newest row; sling finds out by itself."""
    return _run(job, "--mode", "incremental", "--primary-key", job.key, "--update-key", job.cursor)


def _run(job: Job, *arguments: str, **settings: str) -> Command:
    found = (RIVALS / "lib").glob("python3*/site-packages/sling_linux_amd64/bin/sling-linux-amd64")
    return Command(
        [
            str(next(found, RIVALS / "sling")),
            *("run", "--src-conn", "BENCH_SOURCE", "--src-stream", f"public.{job.table}"),
            *("--tgt-conn", "BENCH_TARGET", "--tgt-object", f"public.{job.table}", *arguments),
        ],
        environment(
            job,
            BENCH_SOURCE=job.source,
            BENCH_TARGET=job.target,
            SLING_DISABLE_TELEMETRY="TRUE",
            **settings,
        ),
    )


CONTENDER = Contender("sling", load, increment)
