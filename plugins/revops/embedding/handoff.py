"""Texts handed to the encoder: those of a source that the model has not encoded yet, as Parquet."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import psycopg
import structlog

from revops.settings import Settings

log = structlog.get_logger(__name__)

EXPORT_ROWS = 20_000


def handoff_folder(settings: Settings, source_name: str, run_id: str) -> Path:
    """Return the folder in which a run hands texts to the encoder and takes vectors back."""
    return settings.embedding_handoff / source_name / re.sub(r"[^A-Za-z0-9_.-]", "_", run_id)


def remove_folder(folder: Path) -> None:
    """Remove a run's folder, which holds texts of deals; what can't be removed is told in the log, and stays."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("a folder with texts of deals can't be removed", folder=str(folder), reason=str(error))


def export_texts(warehouse: psycopg.Connection, *, model_id: int, source: str, folder: Path) -> int:
    """Write the texts of a source that lack a vector of the model as Parquet files; return how many.

    Columns: text_hash binary(32), text string. Equal texts are written once. Constant memory. An empty result
    makes an empty folder. Vectors of texts without a document stay while it decides: it counts on those that it sees.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)  # texts of deals
    schema = pa.schema([("text_hash", pa.binary(32)), ("text", pa.string())])
    total = 0
    warehouse.execute("select set_config('lock_timeout', '10min', true)")
    warehouse.execute("select pg_advisory_xact_lock_shared(hashtextextended('search.embedding texts', 0))")
    with warehouse.cursor("texts") as cursor:
        cursor.execute(
            "select distinct on (d.text_hash) d.text_hash, d.text from search.document d where d.source_system = %s "
            "and not exists (select from search.embedding e where e.text_hash = d.text_hash and e.model_id = %s) "
            "order by d.text_hash",
            (source, model_id),
        )
        while rows := cursor.fetchmany(EXPORT_ROWS):
            table = pa.table({"text_hash": [row[0] for row in rows], "text": [row[1] for row in rows]}, schema=schema)
            pq.write_table(table, folder / f"texts-{total:010d}.parquet", compression="zstd")
            total += len(rows)
    warehouse.rollback()
    return total
