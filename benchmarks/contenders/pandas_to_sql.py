"""pandas as most scripts use it: read_sql in chunks through a server-side cursor, to_sql."""

from __future__ import annotations

from benchmarks.contenders import Command, Contender, Job, program

CHUNK_ROWS = 10_000


def load(job: Job) -> Command:
    """Replace the table."""
    return program("benchmarks.contenders.pandas_to_sql", job)


def main() -> None:
    """Move the job's table."""
    from typing import Literal

    import pandas
    from sqlalchemy import create_engine

    job = Job.given()
    source = create_engine(job.source).connect().execution_options(stream_results=True)
    target = create_engine(job.target)
    how: Literal["replace", "append"] = "replace"
    for chunk in pandas.read_sql_table(job.table, source, columns=list(job.columns), chunksize=CHUNK_ROWS):
        chunk.to_sql(job.table, target, if_exists=how, index=False)
        how = "append"


CONTENDER = Contender("pandas to_sql", load)

if __name__ == "__main__":
    main()
