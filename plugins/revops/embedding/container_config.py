"""What an encoder's container may do: nothing but read its model and read and write the hand-off."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docker import APIClient
from docker.types import LogConfig, Mount

from revops.embedding.gpu import gpu_requests
from revops.settings import Settings

# The account of the image (include/embedding/Dockerfile), for tasks that run as root themselves.
ACCOUNT = 10001
_SCRATCH = "rw,noexec,nosuid,nodev,size=256m,mode=1777"
_LOG = {"max-size": "10m", "max-file": "1"}


def encoder_uid() -> int:
    """Return the account that an encoder runs as: the caller's own, as both read each other's files; never root."""
    return os.geteuid() or ACCOUNT


def container_config(
    client: APIClient,
    settings: Settings,
    *,
    command: Sequence[str],
    folders: tuple[Path, Path] | None,
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """Return the arguments of `create_container`. folders: of the hand-off, which the command reads and writes."""
    host = client.create_host_config(
        network_mode="none",
        read_only=True,
        tmpfs={"/tmp": _SCRATCH},  # noqa: S108 - the container's own
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        pids_limit=settings.embedding_pids,
        mem_limit=settings.embedding_memory,
        # As much with swap as without: none.
        memswap_limit=settings.embedding_memory,
        init=True,
        mounts=[_model(settings), *_handoff(settings, folders)],
        device_requests=gpu_requests(settings.embedding_gpu, client.info()),
        log_config=LogConfig(type=LogConfig.types.JSON, config=_LOG),
    )
    return {
        "image": settings.embedding_image,
        "command": list(command),
        "user": f"{encoder_uid()}:{ACCOUNT}",
        "host_config": host,
        "stdin_open": True,
        "labels": dict(labels),
        # A proxy's address in the client's own configuration may hold a password.
        "use_config_proxy": False,
    }


def _model(settings: Settings) -> Mount:
    """Mount the model; a volume, which may hold several models, at the folder above."""
    path = settings.embedding_model
    if volume := settings.embedding_model_volume:
        return Mount(str(path.parent), volume, type="volume", read_only=True, no_copy=True)
    return Mount(str(path), str(path), type="bind", read_only=True)


def _handoff(settings: Settings, folders: tuple[Path, Path] | None) -> list[Mount]:
    """Mount folders where the caller sees them too: of a volume the whole, since not every engine can mount a part."""
    if folders is None:
        return []
    if volume := settings.embedding_handoff_volume:
        return [Mount(str(settings.embedding_handoff), volume, type="volume", no_copy=True)]
    source, output = map(str, folders)
    return [Mount(source, source, type="bind", read_only=True), Mount(output, output, type="bind")]
