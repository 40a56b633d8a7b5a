"""Operator that runs the encoder over the texts that a run has exported."""

from __future__ import annotations

from typing import Any

import structlog
from airflow.sdk import BaseOperator, Context

from revops.embedding.encoder import encode_texts
from revops.embedding.handoff import handoff_folder
from revops.operators.failure import failing_fast
from revops.settings import Settings

log = structlog.get_logger(__name__)


class EncodeOperator(BaseOperator):
    """Run the encoder over the exported texts as a process without credentials; a retry resumes shard by shard."""

    template_fields = ("texts",)

    def __init__(self, *, source_name: str, texts: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source_name = source_name
        self.texts = texts

    def execute(self, context: Context) -> dict[str, Any]:
        with failing_fast():
            settings = Settings.from_environment()
            folder = handoff_folder(settings, self.source_name, context["run_id"])
            if int(self.texts) == 0:
                log.info("every text has a vector already")
                return {"documents": 0, "tokens": 0, "truncated": 0, "seconds": 0.0, "device": "none"}
            return vars(encode_texts(settings, source=folder / "in", output=folder / "out"))
