"""Operator that runs a command of the encoder: in its image where one is named, else as a process of this machine."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from typing import Any, Literal

import structlog
from airflow.providers.docker.operators.docker import DockerOperator
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException

from revops.connection_stores import check_connection
from revops.embedding.encoder import Encoded, describe_model, encode_texts
from revops.embedding.handoff import handoff_folder
from revops.embedding.runner import Runner
from revops.operators.failure import failing_fast
from revops.settings import Settings

log = structlog.get_logger(__name__)

# How the engine is reached. All else of a container is fixed: embedding/container_config.py.
CONNECTION = frozenset({"docker_url", "docker_conn_id", "api_version", "timeout"})
_TLS = "tls_"


class EmbedOperator(DockerOperator):
    """Run `embed describe` or `embed batch` without network and credentials, and show its progress in the task's log.

    describe returns the fields of encoder.Model, batch those of encoder.Encoded; with no texts it starts nothing. A
    retry of batch encodes what no finished shard holds. The engine is DOCKER_HOST's, or docker_url's.

    Of DockerOperator this is the way to the engine. The container is ContainerRunner's: DockerOperator leaves the root
    writable and the capabilities as they are, mixes events with errors, and leaves containers behind when it is killed.
    """

    template_fields = ("texts", "model_key")

    def __init__(
        self,
        *,
        source_name: str,
        command: Literal["describe", "batch"],
        texts: Any = 0,
        model_key: Any = "",
        **kwargs: Any,
    ) -> None:
        unknown = {name for name in kwargs if name in _OF_CONTAINERS and not name.startswith(_TLS)} - CONNECTION
        if unknown:
            raise ValueError(f"{', '.join(sorted(unknown))}: what the encoder's container may do is fixed")
        # The settings say which image; they are read where the task runs, not where a DAG file is read.
        super().__init__(image="", command=[command], network_mode="none", mount_tmp_dir=False, **kwargs)
        self.source_name = source_name
        self.texts = texts
        self.model_key = model_key
        self._runner: Runner | None = None

    def execute(self, context: Context) -> Any:
        with failing_fast():
            settings = Settings.from_environment()
            if self.command == ["describe"]:
                self._runner = self._choose_runner(settings, context)
                return asdict(describe_model(settings, runner=self._runner))
            if int(self.texts) == 0:
                log.info("every text has a vector already")
                return asdict(Encoded())
            self._runner = self._choose_runner(settings, context)
            folder = handoff_folder(settings, self.source_name, context["run_id"])
            encoded = encode_texts(
                settings,
                source=folder / "in",
                output=folder / "out",
                runner=self._runner,
                model_key=str(self.model_key) or None,
            )
            return asdict(encoded)

    def on_kill(self) -> None:
        """End the encoder at once: five seconds after it asked, Airflow kills this process."""
        if self._runner is not None:
            self._runner.kill()

    def _choose_runner(self, settings: Settings, context: Context) -> Runner:
        if settings.embedding_image is None:
            from revops.embedding.process import ProcessRunner

            return ProcessRunner(settings)
        from revops.embedding.container import ContainerRunner
        from revops.embedding.engine import no_answer

        if self.docker_conn_id:
            check_connection(self.docker_conn_id)
        try:
            client = self.cli
        except AirflowException as error:
            raise no_answer(f"{self.docker_url} ({error})") from error
        ti = context["ti"]
        labels = {
            "revops.dag": ti.dag_id,
            "revops.task": ti.task_id,
            "revops.map_index": str(ti.map_index),
            "revops.run": ti.run_id,
            "revops.try": str(ti.try_number),
        }
        return ContainerRunner(client, settings, labels)


_OF_CONTAINERS = frozenset(inspect.signature(DockerOperator.__init__).parameters) - frozenset(
    inspect.signature(BaseOperator.__init__).parameters
)
