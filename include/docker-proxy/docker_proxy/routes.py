"""Which requests are let through, and how each is asked of the engine: by a line of our own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from docker_proxy.errors import RefusedError
from docker_proxy.policy import INSTALLATION, Policy

# No character that needs decoding, no empty and no dotted part: one path has one spelling.
_PATH = re.compile(r"(/v1\.[0-9]{2})?((?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9_.:-]+)+)")
_LONGEST = 2048
_ATTACHED = {"stdin": "1", "stdout": "1", "stderr": "1", "stream": "1"}
_FALSE_OR_TRUE = r"(?:[Ff]alse|[Tt]rue|0|1)"


@dataclass(frozen=True)
class Call:
    """One request as the engine is asked.

    container: whose owner is looked at before. creates: its body is a container's description. attaches: the connection
    becomes the container's input and output. tells: of the answer only these keys, None: all of it.
    """

    method: str
    version: str
    path: str
    query: str = ""
    container: str | None = None
    creates: bool = False
    attaches: bool = False
    tells: tuple[str, ...] | None = None

    @property
    def address(self) -> str:
        return f"{self.version}{self.path}" + (f"?{self.query}" if self.query else "")


@dataclass(frozen=True)
class _Route:
    method: str
    path: re.Pattern[str]
    make: Callable[[Policy, str, re.Match[str], dict[str, str]], Call]


def find_call(policy: Policy, method: str, address: str) -> Call:
    """Return what to ask of the engine for a client's request line; raises RefusedError."""
    path, _, query = address.partition("?")
    matched = _PATH.fullmatch(path) if len(address) <= _LONGEST else None
    if matched is None:
        raise RefusedError("this path is not let through")
    version, plain = matched[1] or "", matched[2]
    for route in _ROUTES:
        if route.method == method and (found := route.path.fullmatch(plain)):
            return route.make(policy, version, found, _parameters(query))
    raise RefusedError(f"{method} {plain[:200]} is not let through")


def _parameters(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict", max_num_fields=16)
    except ValueError as error:
        raise RefusedError("this query can't be read", 400) from error
    if len(dict(pairs)) != len(pairs):
        raise RefusedError("a parameter stands twice")
    return dict(pairs)


def _only(parameters: dict[str, str], **allowed: str) -> str:
    """Return parameters as a query again; allowed: a pattern for each that there may be."""
    for name, value in parameters.items():
        if name not in allowed or not re.fullmatch(allowed[name], value, re.ASCII):
            raise RefusedError(f"the parameter {name[:80]!a} is not let through")
    return urlencode(parameters)


def _plain(*tells: str) -> Callable[[Policy, str, re.Match[str], dict[str, str]], Call]:
    def make(_: Policy, version: str, found: re.Match[str], parameters: dict[str, str]) -> Call:
        _only(parameters)
        return Call("GET", version, found[0], tells=tells or None)

    return make


def _image(policy: Policy, version: str, found: re.Match[str], parameters: dict[str, str]) -> Call:
    _only(parameters)
    if found["name"] != policy.image:
        raise RefusedError(f"of images only {policy.image} is shown")
    return Call("GET", version, found[0])


def _volume(policy: Policy, version: str, found: re.Match[str], parameters: dict[str, str]) -> Call:
    _only(parameters)
    if found["name"] not in policy.volumes:
        raise RefusedError(f"of volumes only {' and '.join(policy.volumes)} are shown")
    return Call("GET", version, found[0])


def _list(policy: Policy, version: str, found: re.Match[str], parameters: dict[str, str]) -> Call:
    # Whatever was asked for: the containers of this installation.
    _only(parameters, all="1|0", limit="-1", size="0", trunc_cmd="0", filters=".*")
    filters = json.dumps({"label": [f"{INSTALLATION}={policy.handoff_volume}"]})
    return Call("GET", version, found[0], query=urlencode({"all": "1", "filters": filters}))


def _create(_: Policy, version: str, found: re.Match[str], parameters: dict[str, str]) -> Call:
    _only(parameters)
    return Call("POST", version, found[0], creates=True)


def _attach(_: Policy, version: str, found: re.Match[str], parameters: dict[str, str]) -> Call:
    if parameters != _ATTACHED:
        raise RefusedError("a container is attached with stdin, stdout, stderr and stream")
    return Call("POST", version, found[0], query=urlencode(_ATTACHED), container=found["container"], attaches=True)


def _of_container(method: str, **allowed: str) -> Callable[[Policy, str, re.Match[str], dict[str, str]], Call]:
    def make(_: Policy, version: str, found: re.Match[str], parameters: dict[str, str]) -> Call:
        return Call(method, version, found[0], query=_only(parameters, **allowed), container=found["container"])

    return make


_CONTAINER = "/containers/(?P<container>[0-9a-f]{12,64})"
_ROUTES = tuple(
    _Route(method, re.compile(path), make)
    for method, path, make in (
        ("GET", "/_ping", _plain()),
        ("GET", "/version", _plain()),
        # What a proxy, a registry or a swarm of the engine's machine is, is nobody's business here.
        ("GET", "/info", _plain("Runtimes", "DiscoveredDevices", "ServerVersion", "OperatingSystem")),
        ("GET", "/images/(?P<name>.+)/json", _image),
        ("GET", "/volumes/(?P<name>[^/]+)", _volume),
        ("GET", "/containers/json", _list),
        ("POST", "/containers/create", _create),
        ("POST", f"{_CONTAINER}/attach", _attach),
        ("POST", f"{_CONTAINER}/start", _of_container("POST")),
        ("POST", f"{_CONTAINER}/wait", _of_container("POST")),
        ("GET", f"{_CONTAINER}/json", _of_container("GET")),
        ("DELETE", _CONTAINER, _of_container("DELETE", force=_FALSE_OR_TRUE, v="(?:False|0)", link="(?:False|0)")),
    )
)
