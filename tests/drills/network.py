"""A network of the drill's own between worker and servers, whose packets can be made to vanish without a word.

The worker lives in a network namespace; a pair of virtual interfaces leads out of it to an address that the servers
listen on too. The network goes black when both ends are told a wrong hardware address of the other: packets leave, and
nobody takes them. Neither side is told, as with a firewall that drops, and no program of this machine is needed
besides `ip`. Only root can do it.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from tests.drills.databases import Databases
from tests.drills.drill import Skipped
from tests.drills.server import Server

NOBODY = "02:00:00:00:00:99"


@dataclass(frozen=True)
class Network:
    """A namespace and the two ends of the way out of it."""

    namespace: str
    outside: str
    inside: str
    server_address: str
    worker_address: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """The command that runs a worker inside."""
        return ("ip", "netns", "exec", self.namespace)

    def go_black(self) -> None:
        """From now on no packet arrives, in either direction."""
        _ip("neigh", "replace", self.worker_address, "lladdr", NOBODY, "dev", self.outside, "nud", "permanent")
        self._inside("neigh", "replace", self.server_address, "lladdr", NOBODY, "dev", self.inside, "nud", "permanent")

    def mend(self) -> None:
        """Let packets through again."""
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("neigh", "del", self.worker_address, "dev", self.outside)
        with contextlib.suppress(subprocess.CalledProcessError):
            self._inside("neigh", "del", self.server_address, "dev", self.inside)

    def _inside(self, *arguments: str) -> None:
        _ip("-n", self.namespace, *arguments)


@contextlib.contextmanager
def network(databases: Databases) -> Iterator[Network]:
    """Make a network that both servers listen in; raises Skipped where that can't be done."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise Skipped("needs root and the program ip (iproute2) for a network namespace")
    number = random.SystemRandom().randrange(64, 128)
    third = random.SystemRandom().randrange(256)
    name = f"drill{os.getpid()}"
    made = Network(name, f"{name[:12]}o", f"{name[:12]}i", f"100.{number}.{third}.1", f"100.{number}.{third}.2")
    try:
        _build(made)
    except subprocess.CalledProcessError as error:
        _ip_quietly("netns", "del", name)
        raise Skipped(f"no network namespace can be made: {error.stderr.strip()}") from None
    try:
        for server in (databases.source, databases.warehouse):
            _listen(server, made)
        yield made
    finally:
        for server in (databases.source, databases.warehouse):
            _listen(server, None)
        _ip_quietly("netns", "del", name)
        _ip_quietly("link", "del", made.outside)


def _build(made: Network) -> None:
    _ip("netns", "add", made.namespace)
    _ip("link", "add", made.outside, "type", "veth", "peer", "name", made.inside, "netns", made.namespace)
    _ip("addr", "add", f"{made.server_address}/30", "dev", made.outside)
    _ip("link", "set", made.outside, "up")
    for arguments in (
        ("addr", "add", f"{made.worker_address}/30", "dev", made.inside),
        ("link", "set", made.inside, "up"),
        ("link", "set", "lo", "up"),
    ):
        _ip("-n", made.namespace, *arguments)


def _listen(server: Server, made: Network | None) -> None:
    """Let a server listen in the network as well, or no more; an address takes a restart."""
    rules = server.postgres.data / "pg_hba.conf"
    kept = [line for line in rules.read_text().splitlines() if not line.endswith("# drill")]
    addresses = "127.0.0.1"
    if made is not None:
        addresses += f",{made.server_address}"
        kept.append(f"hostssl all all {made.worker_address}/32 scram-sha-256 # drill")
    server.start()
    rules.write_text("\n".join(kept) + "\n")
    with server.connect("postgres") as connection:
        connection.execute(f"alter system set listen_addresses = '{addresses}'".encode())
    server.postgres.stop()
    server.start()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def _ip_quietly(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=False, capture_output=True)
