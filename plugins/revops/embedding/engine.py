"""The Docker engine's answers as an encoder's errors: each names the thing, the setting and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from docker import APIClient
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from requests.exceptions import RequestException

from revops.embedding.runner import EncoderError, EncoderInterruptedError
from revops.settings import Settings


@contextmanager
def explained(settings: Settings) -> Iterator[None]:
    """Turn the engine's errors into EncoderError, or EncoderInterruptedError where they may pass by themselves."""
    try:
        yield
    except APIError as error:
        raise _explain(str(error.explanation or error), error, settings) from error
    except (DockerException, RequestException, OSError) as error:
        raise no_answer(error) from error


def no_answer(error: object) -> EncoderInterruptedError:
    """Return the error for an engine that can't be reached."""
    return EncoderInterruptedError(
        f"the Docker engine does not answer: {error}. "
        "Remedy: start it, and look at DOCKER_HOST and at who may use its socket."
    )


def check_parts(client: APIClient, settings: Settings, *, with_handoff: bool) -> None:
    """Raise EncoderError where the engine lacks the image or a volume.

    Asked to create a container it would make missing volumes, empty. Nothing is pulled: on Docker Hub the image's name
    may be anybody's.
    """
    image = str(settings.embedding_image)
    try:
        client.inspect_image(image)
    except ImageNotFound as error:
        raise EncoderError(
            f"the Docker engine has no image {image} (REVOPS_EMBEDDING_IMAGE). "
            f"Remedy: docker build -t {image} include/embedding"
        ) from error
    wanted = {"REVOPS_EMBEDDING_MODEL_VOLUME": (settings.embedding_model_volume, "`make model` fills one.")}
    if with_handoff:
        remedy = f"mount one where Airflow's tasks run, at {settings.embedding_handoff}."
        wanted["REVOPS_EMBEDDING_HANDOFF_VOLUME"] = (settings.embedding_handoff_volume, remedy)
    for setting, (volume, remedy) in wanted.items():
        try:
            if volume:
                client.inspect_volume(volume)
        except NotFound as error:
            raise EncoderError(f"the Docker engine has no volume {volume} ({setting}). Remedy: {remedy}") from error


def _explain(said: str, error: APIError, settings: Settings) -> Exception:
    if "capabilities: [[gpu]]" in said or "nvidia" in said.lower():
        return EncoderError(
            f"the Docker engine gives no GPU (REVOPS_EMBEDDING_GPU={settings.embedding_gpu}): {said}. "
            "Remedy: install NVIDIA's driver and Container Toolkit on its machine and restart it, "
            "or set REVOPS_EMBEDDING_GPU=off."
        )
    if "bind source path does not exist" in said:
        return EncoderError(
            f"{said}. Remedy: REVOPS_EMBEDDING_MODEL and REVOPS_EMBEDDING_HANDOFF are folders of the engine's machine, "
            "unless REVOPS_EMBEDDING_MODEL_VOLUME and REVOPS_EMBEDDING_HANDOFF_VOLUME name volumes."
        )
    if error.is_client_error():
        return EncoderError(
            f"the Docker engine refused the encoder's container: {said}. "
            "Remedy: look at the REVOPS_EMBEDDING_ settings; is REVOPS_EMBEDDING_IMAGE built from include/embedding?"
        )
    return EncoderInterruptedError(f"the Docker engine failed: {said}")
