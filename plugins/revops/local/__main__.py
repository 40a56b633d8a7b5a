"""Command line of the embedded stack: `python -m revops.local COMMAND`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable

import httpx
import psycopg
import structlog
from rich.console import Console

from revops.connections_file import ConnectionFileError
from revops.embedding.encoder import EncoderError
from revops.embedding.service import ServiceError
from revops.errors import describe
from revops.hooks.postgres import ConnectionSettingError
from revops.keyring import KeyringError, TokenError
from revops.local import commands, keys
from revops.local.checking import check
from revops.local.postgres import PostgresError
from revops.local.search_arguments import add_search_arguments
from revops.local.stack import WEB_PORT, Stack
from revops.pools import PoolFileError
from revops.rotation.errors import RotationBusyError, RotationError
from revops.search import SearchError
from revops.settings import SettingsError
from revops.sources import SourceFileError
from revops.warehouse_setup import SetupError

Call = Callable[[Console, argparse.Namespace], int]

PLAIN_WIDTH = 140
INTERRUPTED = 130

EXPECTED = (
    *commands.EXPECTED_ERRORS,
    ConnectionFileError,
    ConnectionSettingError,
    EncoderError,
    KeyringError,
    PoolFileError,
    PostgresError,
    RotationBusyError,
    RotationError,
    SearchError,
    ServiceError,
    SettingsError,
    SetupError,
    SourceFileError,
    TokenError,
)


def main() -> int:
    """Run one command; expected failures end in a sentence and exit code 1, not in a traceback."""
    # Progress is for people here; the records of the work are in ops and in Airflow's logs.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    arguments = _parser().parse_args()
    console = Console(soft_wrap=True) if sys.stdout.isatty() else Console(width=PLAIN_WIDTH, soft_wrap=True)
    try:
        return int(arguments.call(console, arguments))
    except EXPECTED as error:
        console.print("[red]error:[/] ", end="")
        console.print(str(error), highlight=False, markup=False)
    except psycopg.Error as error:
        console.print("[red]error:[/] ", end="")
        console.print(_explain(error), highlight=False, markup=False)
    except OSError as error:
        console.print(f"[red]error:[/] {error.filename or ''} {error.strerror or error}", highlight=False)
    except httpx.HTTPError as error:
        console.print(f"[red]error:[/] Airflow does not answer: {error}. Its log: {Stack.of_checkout().airflow_home}")
    except KeyboardInterrupt:
        console.print("interrupted; what was begun is undone, and the next run works")
        return INTERRUPTED
    return 1


def _explain(error: psycopg.Error) -> str:
    panic = Stack.of_checkout().postgres.last_panic() if error.sqlstate is None else None
    if panic is None:
        return describe(error)
    return (
        f"the embedded PostgreSQL went down: {panic}.\n"
        "Remedy: free disk space if it says so, then try again: the server recovers, and nothing was half applied."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="revops.local", description=__doc__)
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, text: str, call: Call) -> argparse.ArgumentParser:
        added = subcommands.add_parser(name, help=text)
        added.set_defaults(call=call)
        return added

    command("demo", "everything, on sample sources", lambda console, _: commands.demo(console))
    run = command("run", "one DAG run in the foreground", lambda console, a: commands.run(console, a.dag))
    run.add_argument("dag")
    start = command("start", "the stack with the web UI", lambda console, a: commands.start(console, a.web_port))
    start.add_argument("--web-port", type=int, default=WEB_PORT)
    command("stop", "stop the stack", lambda console, _: commands.stop(console))
    task = command("task", "one task by `airflow tasks test`", lambda console, a: commands.task(console, a.dag, a.task))
    task.add_argument("dag")
    task.add_argument("task")
    command("clean", "remove what the stack has made", lambda console, _: commands.clean(console))
    command("setup", "create and migrate the warehouse", lambda console, _: commands.setup(console))
    checks = command("check", "check settings and servers", lambda console, a: check(console, a.arguments))
    checks.add_argument("arguments", nargs="*")
    rotate = command("rotate", "rotate the keys of raw", lambda console, a: keys.rotate(console, a.forget))
    rotate.add_argument("--forget", type=int, metavar="ID", help="give up what only this lost key reads")
    decrypt = command("decrypt", "show one value", lambda console, a: keys.decrypt(console, a.table, a.column, a.key))
    for name in ("table", "column", "key"):
        decrypt.add_argument(name)
    psql = command("psql", "psql on the embedded warehouse", lambda _, a: commands.psql(a.arguments))
    psql.add_argument("arguments", nargs="*")
    search = command("search", "hybrid search", lambda console, a: commands.search(console, a))
    add_search_arguments(search)
    model = command("model", "fetch BGE-M3", lambda console, a: commands.model(console, a.source, a.endpoint))
    model.add_argument("--from", dest="source", help="a folder that holds the files")
    model.add_argument("--endpoint", help="a mirror of https://huggingface.co")
    return parser


if __name__ == "__main__":
    sys.exit(main())
