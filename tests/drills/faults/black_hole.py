"""The network between worker and servers swallows everything, without a word to either side."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.drills.databases import Databases
from tests.drills.drill import Drill
from tests.drills.load import Load
from tests.drills.network import Network, network
from tests.drills.proxy import Proxy
from tests.drills.worker import Job
from tests.drills.world import DrillError, World

# The sessions' own limit is tcp_user_timeout = 30 s; four seeds of five have a tenth of it, and so have the servers,
# whose settings free the locks of a worker that is gone.
SHORT = {"tcp_user_timeout": "3000", "keepalives_idle": "3", "keepalives_interval": "1"}
SERVER_SETTINGS = {"tcp_user_timeout": "3000", "tcp_keepalives_idle": "3", "tcp_keepalives_interval": "1"}
LONGEST_S = 45.0
LONGEST_SHORT_S = 15.0

_networks: list[Network] = []


@contextmanager
def surroundings(databases: Databases) -> Iterator[None]:
    """A network that can go black, and servers that give up on vanished clients ten times sooner than configured."""
    servers = (databases.source, databases.warehouse)
    with network(databases) as made:
        _networks.append(made)
        for server in servers:
            with server.connect("postgres") as connection:
                for name, value in SERVER_SETTINGS.items():
                    connection.execute(f"alter system set {name} = '{value}'".encode())
                connection.execute("select pg_reload_conf()")
        try:
            yield
        finally:
            _networks.clear()
            for server in servers:
                server.start()
                with server.connect("postgres") as connection:
                    for name in SERVER_SETTINGS:
                        connection.execute(f"alter system reset {name}".encode())


def go_black(world: World) -> None:
    """Packets vanish at a random moment: the worker must end by itself within the limit that its sessions set."""
    made = _networks[0]
    is_short = world.rng.random() < 0.8
    world.prepare(loads=1)
    for side in world.detours:
        world.detours[side] = {"hostaddr": made.server_address, **(SHORT if is_short else {})}

    def inject(_: Load) -> bool:
        made.go_black()
        return True

    def start(job: Job) -> Load:
        return Load(job, prefix=made.prefix)

    try:
        outcome = world.disturb(inject, start=start, limit=LONGEST_SHORT_S if is_short else LONGEST_S)
        world.log.append(
            f"the worker ended {outcome.seconds:.1f} s after its start ({'short' if is_short else 'own'} limits)"
        )
    finally:
        made.mend()
    world.detours = {"source": {}, "warehouse": {}}
    world.settle()


def freeze(world: World) -> None:
    """A proxy takes everything and passes nothing on: TCP is alive, so no timer of TCP helps, and the worker hangs.

    What is proven: the task's own time-out (here: the drill kills the worker) is enough, and nothing is lost.
    """
    world.prepare()
    with (
        Proxy(int(world.databases.source.postgres.port() or 0)) as source,
        Proxy(int(world.databases.warehouse.postgres.port() or 0)) as warehouse,
    ):
        world.detours = {"source": {"port": source.port}, "warehouse": {"port": warehouse.port}}

        def inject(load: Load) -> bool:
            source.is_frozen = warehouse.is_frozen = True
            time.sleep(1)
            if not load.is_alive:
                raise DrillError("the worker ended though nothing can have told it anything")
            load.kill()
            return True

        world.disturb(inject)
    world.detours = {"source": {}, "warehouse": {}}
    world.settle()


def cut(world: World) -> None:
    """All connections are reset at a random moment, as by a firewall that has lost its table."""
    world.prepare()
    with (
        Proxy(int(world.databases.source.postgres.port() or 0)) as source,
        Proxy(int(world.databases.warehouse.postgres.port() or 0)) as warehouse,
    ):
        world.detours = {"source": {"port": source.port}, "warehouse": {"port": warehouse.port}}

        def inject(_: Load) -> bool:
            for proxy in world.rng.choice(([source], [warehouse], [source, warehouse])):
                proxy.cut()
            return True

        world.disturb(inject)
    world.detours = {"source": {}, "warehouse": {}}
    world.settle()


DRILLS = (
    Drill("black-hole", "packets between worker and servers vanish (network namespace)", 6, go_black, surroundings),
    Drill("frozen-line", "a proxy passes nothing on, TCP stays alive; the worker is killed", 3, freeze),
    Drill("connections-reset", "a proxy resets all connections", 5, cut),
)
