"""What an encoder prints and how it ends, as events and errors; and when a container is given a GPU."""

from __future__ import annotations

from typing import Any

import pytest
from docker.errors import APIError
from requests import Response
from requests.exceptions import ConnectionError as ConnectionBroken

from revops.embedding.engine import explained
from revops.embedding.gpu import gpu_requests
from revops.embedding.runner import EncoderError, EncoderInterruptedError, check_end, last_words, read_event
from revops.settings import Settings

SETTINGS = Settings.from_environment(
    {
        "AIRFLOW__SECRETS__BACKEND": "elsewhere",
        "REVOPS_ALERT_EMAIL": "data-team@example.com",
        "REVOPS_EMBEDDING_IMAGE": "revops-embedding",
        "REVOPS_EMBEDDING_MODEL": "/models/bge-m3",
        "REVOPS_EMBEDDING_HANDOFF": "/var/lib/revops/embedding",
    }
)


def test_an_event_is_a_json_object_with_a_kind() -> None:
    assert read_event(b'{"event": "start", "name": "\xc3\xa9"}\n') == {"event": "start", "name": "é"}


@pytest.mark.parametrize("line", [b"", b"secret text", b'"secret"', b'{"secret": 1}', b'{"event": 1}', b"\xff"])
def test_anything_else_is_refused_and_not_quoted(line: bytes) -> None:
    with pytest.raises(EncoderError, match="no event of its own") as caught:
        read_event(line)
    assert "secret" not in str(caught.value)


def test_a_good_end_is_no_error() -> None:
    check_end(0, "a warning")


@pytest.mark.parametrize("code", [2, 3, 4, 5])
def test_what_a_retry_does_not_mend(code: int) -> None:
    with pytest.raises(EncoderError, match=f"code {code} .*:\nits last words$"):
        check_end(code, "its last words")


@pytest.mark.parametrize("code", [1, 6, 7, 99, 134, 137, 139, 143])
def test_what_may_pass_is_tried_again(code: int) -> None:
    with pytest.raises(EncoderInterruptedError, match=f"code {code} .*:\nits last words\n.*last finished shard"):
        check_end(code, "its last words")


def test_last_words_are_the_end_of_what_was_said_and_not_too_long() -> None:
    said = last_words([f"line {number} {'x' * 10_000}" for number in range(100)])
    assert [line.split()[1] for line in said.splitlines()] == [str(number) for number in range(85, 100)]
    assert len(said) < 8_000


GPU_ALL = "nvidia.com/gpu=all"
ALL = [{"Driver": "", "Count": -1, "DeviceIDs": [], "Capabilities": [["gpu"]], "Options": {}}]
WITH_RUNTIME = {"Runtimes": {"runc": {}, "nvidia": {}}}
WITH_DEVICES = {
    "Runtimes": {"runc": {}},
    "DiscoveredDevices": [
        {"Source": "cdi", "ID": "nvidia.com/gpu=0"},
        {"Source": "cdi", "ID": "nvidia.com/gpu=GPU-1"},
        {"Source": "cdi", "ID": "vendor.com/net=0"},
    ],
}
WITHOUT = {"Runtimes": {"runc": {}}, "DiscoveredDevices": None}


def cdi(*devices: str) -> list[dict[str, Any]]:
    return [{"Driver": "cdi", "Count": 0, "DeviceIDs": [*devices], "Capabilities": [], "Options": {}}]


@pytest.mark.parametrize(
    ("wanted", "engine", "requests"),
    [
        ("auto", WITHOUT, None),
        ("auto", {}, None),
        ("auto", WITH_RUNTIME, ALL),
        ("auto", WITH_DEVICES, cdi("nvidia.com/gpu=0", "nvidia.com/gpu=GPU-1")),
        (
            "auto",
            {"DiscoveredDevices": [{"ID": "nvidia.com/gpu=0"}, {"ID": GPU_ALL}]},
            cdi(GPU_ALL),
        ),
        ("auto", {"DiscoveredDevices": [{"ID": "vendor.com/net=0"}]}, None),
        # The engine may have GPUs without saying so; asked, it refuses in its own words.
        ("require", WITHOUT, ALL),
        ("require", WITH_RUNTIME, ALL),
        ("require", WITH_DEVICES, cdi("nvidia.com/gpu=0", "nvidia.com/gpu=GPU-1")),
        ("off", WITH_RUNTIME, None),
        ("off", WITH_DEVICES, None),
    ],
)
def test_a_gpu_is_asked_for_where_there_is_one(wanted: str, engine: dict[str, Any], requests: Any) -> None:
    assert gpu_requests(wanted, engine) == requests


def answer(status: int, said: str) -> APIError:
    response = Response()
    response.status_code = status
    return APIError(said, response=response, explanation=said)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (answer(500, 'could not select device driver "" with capabilities: [[gpu]]'), EncoderError, "GPU=auto"),
        (answer(500, "nvidia-container-cli: initialization error"), EncoderError, "Container Toolkit"),
        (answer(400, "bind source path does not exist: /models"), EncoderError, "MODEL_VOLUME"),
        (answer(400, 'exec: "embed": executable file not found'), EncoderError, "built from include/embedding"),
        (answer(500, "no space left on device"), EncoderInterruptedError, "failed: no space left on device"),
        (ConnectionBroken("Connection aborted"), EncoderInterruptedError, "DOCKER_HOST"),
        (PermissionError(13, "Permission denied"), EncoderInterruptedError, "who may use its socket"),
    ],
)
def test_the_engines_errors_say_what_to_do(error: Exception, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught, explained(SETTINGS):
        raise error
    assert words in str(caught.value)
