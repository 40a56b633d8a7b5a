"""`python -m docker_proxy`: listen where the tasks are, as nobody but in the group that owns the engine's socket."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from docker_proxy.policy import Policy
from docker_proxy.server import Proxy

NOBODY = 65534
PORT = 2375


def main() -> int:
    """Serve until SIGTERM; returns an exit code."""
    socket = Path(os.environ.get("DOCKER_SOCKET", "/var/run/docker.sock"))
    try:
        policy = Policy.from_environment(os.environ)
    except (KeyError, ValueError) as error:
        print(f"docker-proxy: the setting {error} is missing or malformed", file=sys.stderr)
        return 2
    try:
        become_nobody(socket)
    except OSError as error:
        print(f"docker-proxy: {socket}: {error.strerror}; is it the Docker engine's, mounted here?", file=sys.stderr)
        return 2
    asyncio.run(_serve(Proxy(policy, socket), os.environ.get("DOCKER_PROXY_HOST", "0.0.0.0")))  # noqa: S104
    return 0


def become_nobody(socket: Path) -> None:
    """Give root up for good, keeping only the group that may use the socket."""
    group = socket.stat().st_gid
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(NOBODY, NOBODY, NOBODY)


async def _serve(proxy: Proxy, host: str) -> None:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    # An encoder may work for hours: who stops the proxy does not wait for it, and its task tries again.
    await asyncio.start_server(proxy.serve, host, PORT)
    print(json.dumps({"event": "ready", "port": PORT, "uid": os.geteuid(), "gid": os.getegid()}), flush=True)
    await ending.wait()


if __name__ == "__main__":
    sys.exit(main())
