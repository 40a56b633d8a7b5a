"""The embedding service (`embed serve`) as its clients see it: the one of several whose model is wanted."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from revops.settings import Settings

# A query waits for those before it, and a processor takes its time for a long text.
TIMEOUT = httpx.Timeout(60.0, connect=3.0)
# How long an overloaded service is asked again.
PATIENCE_S = 20.0
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ServiceError(RuntimeError):
    """No embedding service can be asked; the message says which, why and what to do. It never holds a text."""


@dataclass(frozen=True)
class Found:
    """A service that is ready, by its address and the key of its model."""

    url: str
    model_key: str


def find_service(settings: Settings, model_key: str | None = None) -> Found:
    """Return the first service that is ready and has the wanted model; None: any model.

    Raises ServiceError telling of each service why not.
    """
    if not settings.embedding_urls:
        raise ServiceError("no embedding service is known. Remedy: set REVOPS_EMBEDDING_URL, e.g. http://host:8300.")
    faults = []
    for url in settings.embedding_urls:
        try:
            with _client(url) as client:
                answer = client.get("/health")
            health = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            faults.append(f"{url} can't be reached ({_why(error)}). Remedy: start it with `embed serve`, or correct it")
            continue
        if answer.status_code != httpx.codes.OK:
            status = health.get("status", answer.status_code) if isinstance(health, dict) else answer.status_code
            faults.append(f"{url} is not ready ({status}). Remedy: wait until its /health answers 200; see its log")
        elif model_key not in (None, health.get("model_key")):
            faults.append(
                f"{url} has model {health.get('model_key')}, wanted is {model_key}. "
                "Remedy: start `embed serve` with the model, --max-length and --dtype of the documents' vectors"
            )
        else:
            return Found(url, str(health.get("model_key")))
    raise ServiceError("no embedding service can be asked:\n" + "\n".join(f"  {fault}" for fault in faults))


def ask_service(settings: Settings, path: str, body: dict[str, Any], *, model_key: str | None = None) -> Any:
    """POST to the service that has the wanted model and return its answer, which names that model.

    The service that answered last is asked at once; where it no longer does, another is looked for. An overloaded one
    is asked again for a while, as late as it says. Raises ServiceError.
    """
    wanted = (settings.embedding_urls, model_key)
    if (service := _answered.get(wanted)) is not None:
        try:
            return _ask(service, path, body)
        except _GoneError:
            del _answered[wanted]
    service = find_service(settings, model_key)
    answer = _ask(service, path, body)
    _answered[wanted] = service
    return answer


class _GoneError(ServiceError):
    """The service is not what it was found to be."""


_answered: dict[tuple[tuple[str, ...], str | None], Found] = {}


def _ask(service: Found, path: str, body: dict[str, Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    pause = FIRST_PAUSE_S
    with _client(service.url) as client:
        while True:
            answer = _post(client, service.url, path, body)
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                return _content(answer, service)
            # Those refused together must not come back together.
            wait = max(pause, _retry_after(answer)) * random.uniform(1.0, 1.25)  # noqa: S311
            if time.monotonic() + wait > deadline:
                raise ServiceError(
                    f"{service.url} is overloaded and took nothing for {PATIENCE_S:.0f} s. Remedy: try again later, "
                    "start another one and name both in REVOPS_EMBEDDING_URL, or raise its --queue-texts."
                )
            time.sleep(wait)
            pause = min(LONGEST_PAUSE_S, pause * 2)


def _post(client: httpx.Client, url: str, path: str, body: dict[str, Any]) -> httpx.Response:
    try:
        return client.post(path, json=body)
    except httpx.ReadTimeout as error:
        raise ServiceError(
            f"{url} did not answer within {TIMEOUT.read:.0f} s. Remedy: see its /metrics for what it is busy with."
        ) from error
    except httpx.HTTPError as error:
        raise _GoneError(f"{url} broke off ({_why(error)}). Remedy: see its log, then try again.") from error


def _content(answer: httpx.Response, service: Found) -> Any:
    try:
        content = answer.json()
    except ValueError:
        content = {}
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        raise _GoneError(
            f"{service.url} is not ready any more. Remedy: wait until its /health answers 200; see its log."
        )
    if answer.status_code != httpx.codes.OK:
        error = content.get("error") if isinstance(content, dict) else None
        said = error.get("message") if isinstance(error, dict) else answer.reason_phrase
        raise ServiceError(f"{service.url} refused with {answer.status_code}: {said}.")
    if not isinstance(content, dict) or content.get("model_key") != service.model_key:
        raise _GoneError(
            f"{service.url} had model {service.model_key} a moment ago and answers with another. Remedy: try again."
        )
    return content


def _client(url: str) -> httpx.Client:
    # A proxy from the environment is not for this machine; certificates are only loaded where they are checked.
    parts = urlsplit(url)
    return httpx.Client(
        base_url=url, timeout=TIMEOUT, trust_env=parts.hostname not in LOOPBACK, verify=parts.scheme == "https"
    )


def _retry_after(answer: httpx.Response) -> float:
    stated = answer.headers.get("retry-after", "")
    return min(float(stated), PATIENCE_S) if stated.isdecimal() else 0.0


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
