"""`python -m revops.compose.api_server`: Airflow's API server, which believes a proxy with TLS that its users have TLS.

Airflow marks its cookies as Secure where the request came by https, which only the proxy knows.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

ADDRESS = "AIRFLOW__API__BASE_URL"
TRUSTED = "REVOPS_TRUSTED_PROXIES"
ROUTES = Path("/proc/net/route")
# Of a route: it leads by a gateway.
RTF_GATEWAY = 0x2


def behind_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what the environment lacks where people reach the web UI by https, hence through a proxy; else nothing.

    Whom uvicorn trusts could say of each request where it came from, such as of one that guesses passwords: by default
    it is this host alone, whose processes come to the published port from the gateway of the container's network.
    Raises SystemExit where there is none.
    """
    if urlsplit(environment.get(ADDRESS, "")).scheme != "https":
        return {}
    trusted = environment.get(TRUSTED, "").strip() or gateway(ROUTES.read_text())
    if trusted is None:
        raise SystemExit(
            f"error: this container has no gateway, and {TRUSTED} is not set, so that nobody knows where the proxy "
            f"before {environment[ADDRESS]} comes from. Remedy: its address in {TRUSTED} (.env)"
        )
    # The session's cookie heeds no header, but this.
    return {"FORWARDED_ALLOW_IPS": trusted, "AIRFLOW__FAB__COOKIE_SECURE": "True"}


def gateway(routes: str) -> str | None:
    """Return the address of the default gateway from the text of /proc/net/route, None where there is none."""
    for line in routes.splitlines()[1:]:
        _, destination, address, flags, *_ = line.split()
        if int(destination, 16) == 0 and int(flags, 16) & RTF_GATEWAY:
            # In the processor's order of bytes.
            return socket.inet_ntoa(struct.pack("=L", int(address, 16)))
    return None


def main() -> None:
    """Become the API server."""
    settings = behind_proxy(os.environ)
    if settings:
        event = f"behind a proxy at {settings['FORWARDED_ALLOW_IPS']}"
        sys.stdout.write(json.dumps({"event": event, "level": "info", "logger": "revops.api_server"}) + "\n")
        sys.stdout.flush()
    os.environ.update(settings)
    os.execvp("airflow", ["airflow", "api-server", *(["--proxy-headers"] if settings else [])])  # noqa: S606, S607


if __name__ == "__main__":
    main()
