"""What the encoder is asked for, and what it answers; how it is run is a runner's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from revops.embedding.runner import EncoderError, EncoderInterruptedError, Event, Runner
from revops.settings import Settings

__all__ = ["Encoded", "EncoderError", "EncoderInterruptedError", "Model", "describe_model", "encode_texts"]

log = structlog.get_logger(__name__)

# Documents between two lines of progress, and what a killed encoder has to do again at the most.
SHARD_ROWS = 512
# A log line with one of these kills an Airflow task.
_RESERVED = frozenset({"target", "level", "msg"})


@dataclass(frozen=True)
class Model:
    """An embedding model as the encoder describes it; vectors of different keys are never compared."""

    name: str
    key: str
    dimensions: int
    sparse_dimensions: int


@dataclass(frozen=True)
class Encoded:
    """What one encoder run did. seconds: wall time."""

    documents: int = 0
    tokens: int = 0
    truncated: int = 0
    seconds: float = 0.0
    device: str = "none"
    model_key: str = ""


def choose_runner(settings: Settings) -> Runner:
    """Return what runs the encoder outside of Airflow: containers where an image is named, else processes."""
    if settings.embedding_image is None:
        from revops.embedding.process import ProcessRunner

        return ProcessRunner(settings)
    from docker import APIClient
    from docker.errors import DockerException
    from docker.utils import kwargs_from_env

    from revops.embedding.container import ContainerRunner
    from revops.embedding.engine import no_answer

    try:
        return ContainerRunner(APIClient(**kwargs_from_env()), settings)
    except DockerException as error:
        raise no_answer(error) from error


def describe_model(settings: Settings, *, runner: Runner | None = None) -> Model:
    """Ask the encoder for name, key and dimensions of the configured model; raises EncoderError when it is missing."""
    described: Model | None = None
    for event in (runner or choose_runner(settings)).run(["describe", *model_options(settings)]):
        _show(event)
        if event["event"] == "model":
            described = Model(event["model_name"], event["model_key"], event["dim"], event["sparse_dim"])
    if described is None:
        raise EncoderError("the encoder described no model")
    return described


def encode_texts(
    settings: Settings,
    *,
    source: Path,
    output: Path,
    prompt: str = "passage",
    runner: Runner | None = None,
    model_key: str | None = None,
) -> Encoded:
    """Run the encoder over a folder of Parquet files; finished shards of an earlier try are kept.

    Its progress goes to the log. model_key: of the model that is expected; another is refused before it encodes.
    Raises EncoderError with the encoder's own last words, and EncoderInterruptedError where a retry goes on.
    """
    runner = runner or choose_runner(settings)
    runner.hand_over(source, output)
    arguments = ["batch", *model_options(settings), "--input", str(source), "--output", str(output)]
    arguments += ["--prompt", prompt, "--shard-rows", str(SHARD_ROWS)]
    device, key = "none", ""
    encoded: Encoded | None = None
    events = runner.run(arguments)
    try:
        for event in events:
            _show(event)
            device, key = event.get("device", device), event.get("model_key", key)
            if model_key and key != model_key:
                raise EncoderError(
                    f"the encoder has model {key}, and {model_key} was described: model, precision or maximum length "
                    "changed in between. Remedy: clear the task `embed.model` and those after it."
                )
            if event["event"] == "end":
                counts = {name: event[name] for name in ("documents", "tokens", "truncated", "seconds")}
                encoded = Encoded(**counts, device=device, model_key=key)
    finally:
        events.close()
    if encoded is None:
        raise EncoderError("the encoder ended without saying that it was done")
    return encoded


def model_options(settings: Settings) -> list[str]:
    """Return the options by which every command of the encoder uses the same model in the same way."""
    device = {"auto": [], "require": ["--require-gpu"], "off": ["--device", "cpu"]}[settings.embedding_gpu]
    return ["--model", str(settings.embedding_model), "--max-length", str(settings.embedding_max_length), *device]


def _show(event: Event) -> None:
    """Log an event under its own names, and the pace where it tells documents and seconds."""
    shown: dict[str, Any] = {f"{name}_" if name in _RESERVED else name: value for name, value in event.items()}
    kind = shown.pop("event")
    if shown.get("documents") and shown.get("seconds"):
        shown.setdefault("documents_per_second", round(shown["documents"] / shown["seconds"], 1))
    log.info(f"encoder {kind}", **shown)
