"""What an encoder's container may be: every key of its description, and the value that it must have.

The description is read strictly, compared with a list of all that is allowed, and written anew from what was read.
What the engine gets is our own text: a second `HostConfig`, `hostconfig` in other letters (which Go takes for the same)
or a number that two parsers read differently never reaches it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from docker_proxy.errors import RefusedError

# revops/embedding/container.py: which installation a container belongs to, and which task.
INSTALLATION = "revops.handoff"
LABELS = frozenset({"revops.dag", "revops.task", "revops.map_index", "revops.run", "revops.try"})
COMMANDS = ("describe", "batch")
# include/embedding/Dockerfile: the group of the encoder's account, for which the hand-off is opened.
GROUP = 10001
_LEASH = "--end-with-stdin"
_SCRATCH = "rw,noexec,nosuid,nodev,size=256m,mode=1777"
_LONGEST = 4096
_MOST_ARGUMENTS = 64
_UNITS = {"k": 1024, "m": 1024**2, "g": 1024**3}

Check = Callable[[Any], bool]


@dataclass(frozen=True)
class Policy:
    """The encoder of one installation. folders: where the volumes are mounted."""

    image: str
    model_volume: str
    model_folder: str
    handoff_volume: str
    handoff_folder: str
    memory: int
    pids: int
    has_gpu: bool

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Policy:
        """Read the settings that the tasks have too; raises KeyError or ValueError naming the one at fault."""
        memory = re.fullmatch(r"([1-9][0-9]*)([kmg])", environment["REVOPS_EMBEDDING_MEMORY"])
        if memory is None:
            raise ValueError("REVOPS_EMBEDDING_MEMORY is not an amount of memory, such as 8g")
        if not re.fullmatch(r"[A-Za-z0-9_./:-]+", environment["REVOPS_EMBEDDING_IMAGE"]):
            raise ValueError("REVOPS_EMBEDDING_IMAGE is not a name, with a tag at the most")
        return cls(
            image=environment["REVOPS_EMBEDDING_IMAGE"],
            model_volume=environment["REVOPS_EMBEDDING_MODEL_VOLUME"],
            model_folder=str(PurePosixPath(environment["REVOPS_EMBEDDING_MODEL"]).parent),
            handoff_volume=environment["REVOPS_EMBEDDING_HANDOFF_VOLUME"],
            handoff_folder=environment["REVOPS_EMBEDDING_HANDOFF"],
            memory=int(memory[1]) * _UNITS[memory[2]],
            pids=int(environment["REVOPS_EMBEDDING_PIDS"]),
            has_gpu=environment["REVOPS_EMBEDDING_GPU"] != "off",
        )

    @property
    def volumes(self) -> tuple[str, str]:
        return self.model_volume, self.handoff_volume

    def owns(self, container: Mapping[str, Any]) -> bool:
        """Tell whether a container, as the engine describes it, is an encoder of this installation."""
        config = container.get("Config") or {}
        labels = config.get("Labels") or {}
        return config.get("Image") == self.image and labels.get(INSTALLATION) == self.handoff_volume

    def rewrite(self, body: bytes) -> bytes:
        """Return the description of a container as our own text; raises RefusedError naming what is not allowed."""
        description = read_strictly(body)
        _compare(self._container(), description, "")
        return json.dumps(description).encode()

    def _container(self) -> dict[str, Any]:
        # None: may be missing, and must be null. Anything else must be there.
        nothing = dict.fromkeys(
            (
                *("Hostname", "Domainname", "ExposedPorts", "Env", "Volumes", "Entrypoint", "WorkingDir"),
                *("NetworkingConfig", "MacAddress", "StopSignal", "Healthcheck", "StopTimeout", "Runtime"),
            )
        )
        return {
            **nothing,
            "Image": self.image,
            "Cmd": _is_command,
            "User": _is_user,
            "Tty": False,
            "NetworkDisabled": False,
            # Its input is the leash: the encoder ends when the task that is attached to it goes away.
            "OpenStdin": True,
            "StdinOnce": True,
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "Labels": self._has_labels,
            "HostConfig": self._host(),
        }

    def _host(self) -> dict[str, Any]:
        return {
            "NetworkMode": "none",
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "Init": True,
            "Tmpfs": {"/tmp": _SCRATCH},  # noqa: S108 - the container's own
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "1"}},
            "Memory": self.memory,
            "MemorySwap": self.memory,
            "PidsLimit": self.pids,
            "Mounts": self._has_mounts,
            "DeviceRequests": _Optional(self._has_devices),
        }

    def _has_mounts(self, mounts: Any) -> bool:
        model = _volume(self.model_volume, self.model_folder, read_only=True)
        handoff = _volume(self.handoff_volume, self.handoff_folder, read_only=False)
        return _same(mounts, [model]) or _same(mounts, [model, handoff])

    def _has_devices(self, requests: Any) -> bool:
        if not self.has_gpu or not isinstance(requests, list) or len(requests) != 1:
            return requests is None
        any_gpu = {"Driver": "", "Count": -1, "DeviceIDs": [], "Capabilities": [["gpu"]], "Options": {}}
        named = {"Driver": "cdi", "Count": 0, "DeviceIDs": _are_gpus, "Capabilities": [], "Options": {}}
        return _same(requests[0], any_gpu) or _fits(named, requests[0])

    def _has_labels(self, labels: Any) -> bool:
        return (
            isinstance(labels, dict)
            and labels.get(INSTALLATION) == self.handoff_volume
            and labels.keys() <= LABELS | {INSTALLATION}
            and all(_is_text(value) for value in labels.values())
        )


@dataclass(frozen=True)
class _Optional:
    """A value that may be missing."""

    check: Check


def read_strictly(body: bytes) -> dict[str, Any]:
    """Parse a JSON object of which no two parsers can think differently; raises RefusedError."""
    try:
        found = json.loads(
            body.decode("utf-8", "strict"),
            object_pairs_hook=_each_key_once,
            parse_float=_refuse,
            parse_constant=_refuse,
        )
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"the body is not plain JSON ({type(error).__name__})", 400) from error
    if not isinstance(found, dict):
        raise RefusedError("the body is no JSON object", 400)
    return found


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RefusedError("the body has a key twice")
    return found


def _refuse(written: str) -> Any:
    raise RefusedError(f"the body has the number {written[:20]}")


def _compare(wanted: Mapping[str, Any], given: Mapping[str, Any], where: str) -> None:
    for key in given:
        if key not in wanted:
            raise RefusedError(f"{where}{key[:80]!a} is not allowed")
    for key, value in wanted.items():
        name = f"{where}{key}"
        if key not in given:
            if value is not None and not isinstance(value, _Optional):
                raise RefusedError(f"{name} is missing")
        elif isinstance(value, dict) and isinstance(given[key], dict):
            _compare(value, given[key], f"{name}.")
        elif not _is(value, given[key]):
            raise RefusedError(f"{name} is not what an encoder's container has")


def _is(wanted: Any, given: Any) -> bool:
    if isinstance(wanted, _Optional):
        wanted = wanted.check
    return bool(wanted(given)) if callable(wanted) else _same(wanted, given)


def _same(left: Any, right: Any) -> bool:
    # Of Python's values 1 and True are equal; of JSON's they are not.
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def _fits(wanted: Mapping[str, Any], given: Any) -> bool:
    return (
        isinstance(given, dict)
        and wanted.keys() == given.keys()
        and all(_is(value, given[key]) for key, value in wanted.items())
    )


def _volume(name: str, folder: str, *, read_only: bool) -> dict[str, Any]:
    return {
        "Target": folder,
        "Source": name,
        "Type": "volume",
        "ReadOnly": read_only,
        "VolumeOptions": {"NoCopy": True},
    }


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST


def _is_command(command: Any) -> bool:
    return (
        isinstance(command, list)
        and 2 <= len(command) <= _MOST_ARGUMENTS
        and all(_is_text(argument) for argument in command)
        and command[0] == _LEASH
        and command[1] in COMMANDS
    )


def _is_user(user: Any) -> bool:
    return isinstance(user, str) and re.fullmatch(rf"[1-9][0-9]{{0,9}}:{GROUP}", user, re.ASCII) is not None


def _are_gpus(names: Any) -> bool:
    return (
        isinstance(names, list)
        and 1 <= len(names) <= _MOST_ARGUMENTS
        and all(isinstance(name, str) and re.fullmatch(r"nvidia\.com/gpu=[A-Za-z0-9:_-]+", name) for name in names)
    )
