"""Operators around the encoder: export the texts that have no vector, load the vectors."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog
from airflow.sdk import BaseOperator, Context

from revops.embedding.encoder import Model
from revops.embedding.handoff import export_texts, handoff_folder, remove_folder
from revops.embedding.models import drop_replaced_models, register_model, switch_model
from revops.embedding.recovery import recover_vectors
from revops.embedding.store import load_vectors
from revops.hooks.warehouse import connect_warehouse
from revops.operators.failure import failing_fast
from revops.settings import Settings

log = structlog.get_logger(__name__)


class ExportTextsOperator(BaseOperator):
    """Write the texts of a source that a model has not encoded; returns model id and number of texts.

    What runs had encoded that ended before they loaded it is loaded first, so that each night goes on where the last
    one stopped. model: what the encoder says of its model, the fields of revops.embedding.encoder.Model.
    abandoned_after: how long the folder of another run must have been left alone; no run lasts longer.
    """

    template_fields = ("model",)

    def __init__(self, *, source_name: str, model: Any, abandoned_after: timedelta, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source_name = source_name
        self.model = model
        self.abandoned_after = abandoned_after

    def execute(self, context: Context) -> dict[str, int]:
        with failing_fast():
            settings = Settings.from_environment()
            model = Model(**self.model)
            folder = handoff_folder(settings, self.source_name, context["run_id"])
            with connect_warehouse("revops_embed", task=f"embed:{self.source_name}") as warehouse:
                model_id = register_model(warehouse, model)
                recover_vectors(
                    warehouse,
                    model,
                    model_id=model_id,
                    own=folder,
                    abandoned_after=self.abandoned_after,
                    index_memory=settings.embedding_index_memory,
                )
                texts = export_texts(warehouse, model_id=model_id, source=self.source_name, folder=folder / "in")
            log.info("texts exported", model_name=model.name, model_key=model.key, texts=texts)
            return {"model_id": model_id, "texts": texts}


class LoadVectorsOperator(BaseOperator):
    """Load what the encoder wrote, change searches over to it, record the run, and remove the hand-off folder."""

    template_fields = ("model_id", "encoded")

    def __init__(self, *, source_name: str, model_id: Any, encoded: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source_name = source_name
        self.model_id = model_id
        self.encoded = encoded

    def execute(self, context: Context) -> dict[str, Any]:
        with failing_fast():
            settings = Settings.from_environment()
            folder = handoff_folder(settings, self.source_name, context["run_id"])
            model_id = int(self.model_id)
            with connect_warehouse("revops_embed", task=f"embed:{self.source_name}") as warehouse:
                loaded = load_vectors(
                    warehouse,
                    model_id=model_id,
                    folder=folder / "out",
                    index_memory=settings.embedding_index_memory,
                )
                if switch_model(warehouse, model_id):
                    drop_replaced_models(warehouse)
                else:
                    log.info("searches go on with the model before until this one has every document")
                warehouse.execute(
                    "insert into ops.embedding_run "
                    "(run_id, source, model_key, device, documents, encoded, loaded, tokens, truncated, seconds) "
                    "select %s, %s, model_key, %s, "
                    "(select count(*) from search.document where source_system = %s), %s, %s, %s, %s, %s "
                    "from search.embedding_model where model_id = %s",
                    (
                        context["run_id"],
                        self.source_name,
                        self.encoded["device"],
                        self.source_name,
                        self.encoded["documents"],
                        loaded.vectors,
                        self.encoded["tokens"],
                        self.encoded["truncated"],
                        self.encoded["seconds"],
                        model_id,
                    ),
                )
            remove_folder(folder)
            counts = {
                "source": self.source_name,
                "encoded": self.encoded["documents"],
                "loaded": loaded.vectors,
                "orphans": loaded.orphans,
            }
        for asset in self.outlets:
            context["outlet_events"][asset].extra = counts
        return counts
