"""What an encoder's container may be: the operator's own description, and no other."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from docker_proxy.errors import RefusedError
from docker_proxy.policy import Policy
from tests.docker_proxy.conftest import ENVIRONMENT, body_of_the_operator


@pytest.mark.parametrize("gpu", ["none", "nvidia", "cdi"])
@pytest.mark.parametrize("command", ["describe", "batch"])
def test_what_the_operator_asks_for_is_let_through_unchanged(policy: Policy, command: str, gpu: str) -> None:
    body = body_of_the_operator(command, gpu)
    assert json.loads(policy.rewrite(body)) == json.loads(body)


FORBIDDEN: dict[str, tuple[str, Any]] = {
    "another image": ("Image", "debian:trixie-slim"),
    "the image by digest": ("Image", "sha256:" + "0" * 64),
    "another program": ("Entrypoint", ["sh"]),
    "an empty program": ("Entrypoint", []),
    "another command": ("Cmd", ["--end-with-stdin", "fetch-model"]),
    "a command without its leash": ("Cmd", ["batch"]),
    "a command as a string": ("Cmd", "--end-with-stdin batch"),
    "root": ("User", "0:10001"),
    "root's group": ("User", "10001:0"),
    "no user": ("User", ""),
    "a user by name": ("User", "root:10001"),
    "a user with a line end": ("User", "10001:10001\n"),
    "environment": ("Env", ["LD_PRELOAD=/var/lib/revops/embedding/x.so"]),
    "a volume of the old kind": ("Volumes", {"/": {}}),
    "a health check, which is a command": ("Healthcheck", {"Test": ["CMD", "sh"]}),
    "another runtime": ("Runtime", "nvidia"),
    "a network": ("NetworkingConfig", {"EndpointsConfig": {"host": {}}}),
    "input that stays": ("StdinOnce", False),
    "a terminal": ("Tty", True),
    "true as a number": ("OpenStdin", 1),
    "no label of the installation": ("Labels", {"revops.dag": "odoo"}),
    "another installation": ("Labels", {"revops.handoff": "other"}),
    "a label of Compose": ("Labels", {"revops.handoff": "revops_handoff", "com.docker.compose.project": "revops"}),
    "a label that is no text": ("Labels", {"revops.handoff": "revops_handoff", "revops.dag": {}}),
    "privileges": ("HostConfig.Privileged", True),
    "privileges in small letters": ("HostConfig.privileged", True),
    "privileges in capitals": ("HostConfig.PRIVILEGED", True),
    "a bind": ("HostConfig.Binds", ["/:/host"]),
    "an empty list of binds": ("HostConfig.Binds", []),
    "another container's volumes": ("HostConfig.VolumesFrom", ["revops-warehouse-1"]),
    "the host's network": ("HostConfig.NetworkMode", "host"),
    "another container's network": ("HostConfig.NetworkMode", "container:revops-warehouse-1"),
    "the host's processes": ("HostConfig.PidMode", "host"),
    "the host's memory": ("HostConfig.IpcMode", "host"),
    "the host's name": ("HostConfig.UTSMode", "host"),
    "the host's users": ("HostConfig.UsernsMode", "host"),
    "the host's cgroups": ("HostConfig.CgroupnsMode", "host"),
    "a parent of its cgroup": ("HostConfig.CgroupParent", "/"),
    "a capability": ("HostConfig.CapAdd", ["SYS_ADMIN"]),
    "capabilities kept": ("HostConfig.CapDrop", []),
    "no seccomp": ("HostConfig.SecurityOpt", ["no-new-privileges:true", "seccomp=unconfined"]),
    "new privileges": ("HostConfig.SecurityOpt", []),
    "a device": ("HostConfig.Devices", [{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/sda"}]),
    "a rule for devices": ("HostConfig.DeviceCgroupRules", ["a *:* rwm"]),
    "a request for another device": ("HostConfig.DeviceRequests", [{"Driver": "x", "Count": -1}]),
    "a named device that is no GPU": (
        "HostConfig.DeviceRequests",
        [{"Driver": "cdi", "Count": 0, "DeviceIDs": ["x.com/disk=1"], "Capabilities": [], "Options": {}}],
    ),
    "a writable root": ("HostConfig.ReadonlyRootfs", False),
    "scratch that runs programs": ("HostConfig.Tmpfs", {"/tmp": "rw,exec"}),
    "scratch elsewhere": ("HostConfig.Tmpfs", {"/etc": "rw,noexec,nosuid,nodev,size=256m,mode=1777"}),
    "more memory": ("HostConfig.Memory", 2**40),
    "memory without a limit": ("HostConfig.Memory", 0),
    "swap": ("HostConfig.MemorySwap", -1),
    "more processes": ("HostConfig.PidsLimit", -1),
    "a log driver that sends": ("HostConfig.LogConfig", {"Type": "syslog", "Config": {}}),
    "a restart policy": ("HostConfig.RestartPolicy", {"Name": "always"}),
    "a port": ("HostConfig.PortBindings", {"80/tcp": [{}]}),
    "kernel settings": ("HostConfig.Sysctls", {"kernel.msgmax": "1"}),
    "masked paths": ("HostConfig.MaskedPaths", []),
    "no mounts": ("HostConfig.Mounts", []),
    "a folder of the host": (
        "HostConfig.Mounts",
        [{"Target": "/models", "Source": "/", "Type": "bind", "ReadOnly": True}],
    ),
    "the engine's socket": (
        "HostConfig.Mounts",
        [{"Target": "/models", "Source": "/var/run/docker.sock", "Type": "bind"}],
    ),
    "something unheard of": ("HostConfig.Whatever", None),
    "a key beside them": ("Hostconfig", {"Privileged": True}),
    "a key that Go folds to another": ("HoſtConfig", {"Privileged": True}),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_anything_else_is_refused(policy: Policy, description: dict[str, Any], name: str) -> None:
    path, value = FORBIDDEN[name]
    *above, key = path.split(".")
    changed = description
    for part in above:
        changed = changed[part]
    changed[key] = value
    with pytest.raises(RefusedError) as refused:
        policy.rewrite(json.dumps(description).encode())
    assert refused.value.status == 403
    assert key.encode("ascii", "backslashreplace").decode().lower() in str(refused.value).lower()


@pytest.mark.parametrize(
    "change",
    [
        {"Source": "revops_warehouse"},
        {"Target": "/etc"},
        {"Type": "bind"},
        {"ReadOnly": False},
        {"BindOptions": {"Propagation": "shared"}},
        # The volume's name with a driver's options is another volume: here, a folder of the host.
        {"VolumeOptions": {"NoCopy": True, "DriverConfig": {"Options": {"type": "none", "device": "/", "o": "bind"}}}},
        {"VolumeOptions": {}},
    ],
)
def test_a_mount_is_one_of_two(policy: Policy, description: dict[str, Any], change: dict[str, Any]) -> None:
    description["HostConfig"]["Mounts"][0].update(change)
    with pytest.raises(RefusedError, match=r"HostConfig\.Mounts"):
        policy.rewrite(json.dumps(description).encode())


def test_a_third_mount_is_refused(policy: Policy, description: dict[str, Any]) -> None:
    mounts = description["HostConfig"]["Mounts"]
    mounts.append(dict(mounts[0]))
    with pytest.raises(RefusedError, match=r"HostConfig\.Mounts"):
        policy.rewrite(json.dumps(description).encode())


@pytest.mark.parametrize("key", ["HostConfig", "Image", "Cmd", "User", "OpenStdin", "Labels"])
def test_nothing_may_be_left_to_the_engines_defaults(policy: Policy, description: dict[str, Any], key: str) -> None:
    del description[key]
    with pytest.raises(RefusedError, match=f"{key} is missing"):
        policy.rewrite(json.dumps(description).encode())


@pytest.mark.parametrize(
    "key", ["NetworkMode", "CapDrop", "SecurityOpt", "ReadonlyRootfs", "Memory", "PidsLimit", "Mounts"]
)
def test_nothing_of_the_host_may_be_left_out(policy: Policy, description: dict[str, Any], key: str) -> None:
    del description["HostConfig"][key]
    with pytest.raises(RefusedError, match=f"HostConfig.{key} is missing"):
        policy.rewrite(json.dumps(description).encode())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # Which of two would the engine take? The last. And another parser? Nobody needs to know.
        ('"HostConfig": {', '"HostConfig": {"Privileged": true}, "HostConfig": {'),
        ('"HostConfig": {', r'"\u0048ostConfig": {"Privileged": true}, "HostConfig": {'),
        ('"NetworkMode": "none"', '"NetworkMode": "host", "NetworkMode": "none"'),
        ('"Memory": 8589934592', '"Memory": 8589934592.0'),
        ('"Memory": 8589934592', '"Memory": 8.589934592e9'),
        ('"Memory": 8589934592', '"Memory": NaN'),
        ('"Memory": 8589934592', '"Memory": 1' + "0" * 5000),
        ('"Tty": false', '"Tty": 0'),
    ],
)
def test_what_two_parsers_may_read_differently_is_refused(policy: Policy, before: str, after: str) -> None:
    body = body_of_the_operator().decode()
    assert before in body
    with pytest.raises(RefusedError):
        policy.rewrite(body.replace(before, after, 1).encode())


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b'"x"', b"{", b'{"a": 1} {"b": 2}', b"\xff\xfe{}", b"{'a': 1}", b"[" * 60_000, b"\x00"],
)
def test_a_body_that_is_no_object_is_refused(policy: Policy, body: bytes) -> None:
    with pytest.raises(RefusedError):
        policy.rewrite(body)


def test_the_engine_gets_our_own_text(policy: Policy) -> None:
    written = body_of_the_operator().decode().replace('"Image"', r'"\u0049mage"', 1).replace("{", "{ \t\n", 1)
    assert policy.rewrite(written.encode()) == policy.rewrite(body_of_the_operator())


def test_without_a_gpu_none_is_given(policy: Policy) -> None:
    off = dataclasses.replace(policy, has_gpu=False)
    assert off.rewrite(body_of_the_operator())
    with pytest.raises(RefusedError, match="DeviceRequests"):
        off.rewrite(body_of_the_operator(gpu="nvidia"))


@pytest.mark.parametrize(
    ("config", "is_ours"),
    [
        ({"Image": "revops-embedding:latest", "Labels": {"revops.handoff": "revops_handoff"}}, True),
        ({"Image": "revops-embedding:latest", "Labels": {"revops.handoff": "other"}}, False),
        ({"Image": "revops-postgres", "Labels": {"revops.handoff": "revops_handoff"}}, False),
        ({"Image": "revops-embedding:latest", "Labels": None}, False),
        (None, False),
    ],
)
def test_whose_container_it_is(policy: Policy, config: dict[str, Any] | None, is_ours: bool) -> None:
    assert policy.owns({"Config": config}) is is_ours


@pytest.mark.parametrize(
    ("name", "value"),
    [("REVOPS_EMBEDDING_MEMORY", "much"), ("REVOPS_EMBEDDING_PIDS", "x"), ("REVOPS_EMBEDDING_IMAGE", "a%2fb")],
)
def test_a_malformed_setting_is_named_at_the_start(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="invalid literal" if name.endswith("PIDS") else name):
        Policy.from_environment({**ENVIRONMENT, name: value})
