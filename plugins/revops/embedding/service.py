"""The embedding service (`embed serve`) as its clients see it: of several, one that answers with the wanted model."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from revops.settings import Settings

# A query waits for those before it, and a processor takes its time for a long text.
TIMEOUT = httpx.Timeout(60.0, connect=3.0)
# How long overloaded services are asked again.
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
    faults = []
    for url in _urls(settings):
        try:
            return _look_at(url, model_key)
        except _UnfitError as error:
            faults.append(str(error))
    raise _none_left(faults)


def ask_service(settings: Settings, path: str, body: dict[str, Any], *, model_key: str | None = None) -> Any:
    """POST to a service that has the wanted model and return its answer, which names that model.

    The service that answered last is asked first, at once. Where one is overloaded or fails, the next one is asked;
    when all that are left are overloaded, they are asked again for a while, as late as they say. Raises ServiceError:
    at once where the request itself is refused, else telling of each service what was wrong.
    """
    wanted = (settings.embedding_urls, model_key)
    found = {last.url: last} if (last := _answered.get(wanted)) else {}
    faults: dict[str, str] = {}
    # When each may be asked; among equals the first comes first.
    due = dict.fromkeys(sorted(_urls(settings), key=lambda url: url not in found), 0.0)
    deadline = time.monotonic() + PATIENCE_S
    pause = FIRST_PAUSE_S
    while due and min(due.values()) <= deadline:
        url = min(due, key=due.__getitem__)
        if (wait := due[url] - time.monotonic()) > 0:
            time.sleep(wait)
            pause = min(LONGEST_PAUSE_S, pause * 2)
        try:
            service = found.get(url) or _look_at(url, model_key)
            answer = _ask(service, path, body)
        except _OverloadedError as error:
            faults[url], found[url] = str(error), error.service
            # Those refused together must not come back together.
            due[url] = time.monotonic() + max(pause, error.retry_after) * random.uniform(1.0, 1.25)  # noqa: S311
        except _UnfitError as error:
            faults[url] = str(error)
            _answered.pop(wanted, None)
            if found.pop(url, None) and isinstance(error, _ChangedError):
                due[url] = time.monotonic()  # It may have what is wanted all the same: look at it after the others.
            else:
                del due[url]
        else:
            _answered[wanted] = service
            return answer
    raise _none_left(faults.values())


class _UnfitError(ServiceError):
    """This service can't be asked; another one may."""


class _ChangedError(_UnfitError):
    """The service is not what it was found to be."""


class _OverloadedError(ServiceError):
    """The service has no room now; it wants to be asked again after `retry_after` seconds, 0 where it does not say."""

    def __init__(self, service: Found, retry_after: float) -> None:
        super().__init__(
            f"{service.url} is overloaded and took nothing for {PATIENCE_S:.0f} s. Remedy: try again later, "
            "start another one and name both in REVOPS_EMBEDDING_URL, or raise its --queue-texts and --queue-tokens."
        )
        self.service = service
        self.retry_after = retry_after


_answered: dict[tuple[tuple[str, ...], str | None], Found] = {}


def _urls(settings: Settings) -> tuple[str, ...]:
    if not settings.embedding_urls:
        raise ServiceError("no embedding service is known. Remedy: set REVOPS_EMBEDDING_URL, e.g. http://host:8300.")
    return settings.embedding_urls


def _none_left(faults: Iterable[str]) -> ServiceError:
    return ServiceError("no embedding service can be asked:\n" + "\n".join(f"  {fault}" for fault in faults))


def _look_at(url: str, model_key: str | None) -> Found:
    """Return the service if it is ready and has the wanted model; raises _UnfitError."""
    try:
        with _client(url) as client:
            answer = client.get("/health")
        content = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise _UnfitError(
            f"{url} can't be reached ({_why(error)}). Remedy: start it with `embed serve`, or correct it."
        ) from error
    health = content if isinstance(content, dict) else {}
    if answer.status_code != httpx.codes.OK:
        status = health.get("status", answer.status_code)
        raise _UnfitError(f"{url} is not ready ({status}). Remedy: wait until its /health answers 200; see its log.")
    if model_key not in (None, health.get("model_key")):
        raise _UnfitError(
            f"{url} has model {health.get('model_key')}, wanted is {model_key}. "
            "Remedy: start `embed serve` with the model, --max-length and --dtype of the documents' vectors."
        )
    return Found(url, str(health.get("model_key")))


def _ask(service: Found, path: str, body: dict[str, Any]) -> Any:
    try:
        with _client(service.url) as client:
            answer = client.post(path, json=body)
    except httpx.ReadTimeout as error:
        raise _UnfitError(
            f"{service.url} did not answer within {TIMEOUT.read:.0f} s. "
            "Remedy: see its /metrics for what it is busy with."
        ) from error
    except httpx.HTTPError as error:
        raise _ChangedError(f"{service.url} broke off ({_why(error)}). Remedy: see its log, then try again.") from error
    return _content(answer, service)


def _content(answer: httpx.Response, service: Found) -> Any:
    try:
        content = answer.json()
    except ValueError:
        content = {}
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise _OverloadedError(service, _retry_after(answer))
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        raise _ChangedError(
            f"{service.url} is not ready any more. Remedy: wait until its /health answers 200; see its log."
        )
    if answer.status_code != httpx.codes.OK:
        error = content.get("error") if isinstance(content, dict) else None
        said = error.get("message") if isinstance(error, dict) else answer.reason_phrase
        refusal = f"{service.url} refused with {answer.status_code}: {said}."
        # What is wrong with the request is wrong with it everywhere.
        raise ServiceError(refusal) if answer.is_client_error else _UnfitError(f"{refusal} Remedy: see its log.")
    if not isinstance(content, dict) or content.get("model_key") != service.model_key:
        raise _ChangedError(
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
