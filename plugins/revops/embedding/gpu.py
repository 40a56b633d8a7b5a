"""Whether an encoder is given a GPU: what the setting wants, and what the Docker engine has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from docker.types import DeviceRequest

_VENDOR = "nvidia.com/gpu"


def gpu_requests(wanted: str, engine: Mapping[str, Any]) -> list[DeviceRequest] | None:
    """Return what to ask of an engine, whose `docker info` is given, or None for a container without a GPU.

    A container can't be started with a GPU that its engine lacks: auto asks only where the engine names NVIDIA's
    runtime or CDI devices. require asks in any case, for an engine may have GPUs without saying so.
    """
    if wanted == "off":
        return None
    if devices := _cdi_devices(engine.get("DiscoveredDevices") or ()):
        return [DeviceRequest(driver="cdi", device_ids=devices)]
    if wanted == "require" or "nvidia" in (engine.get("Runtimes") or {}):
        return [DeviceRequest(count=-1, capabilities=[["gpu"]])]
    return None


def _cdi_devices(discovered: Sequence[Mapping[str, Any]]) -> list[str]:
    found = sorted(str(device["ID"]) for device in discovered if str(device.get("ID", "")).startswith(f"{_VENDOR}="))
    # `all` stands for every device, where the engine's specification has it.
    return [f"{_VENDOR}=all"] if f"{_VENDOR}=all" in found else found
