"""`python -m revops.rotation rotate` and `decrypt` in a container of the stack, with its own settings."""

from __future__ import annotations

import argparse
import sys

import psycopg
from rich.console import Console

from revops.errors import describe
from revops.hooks.postgres import ConnectionSettingError
from revops.keyring import Keyring, KeyringError, TokenError
from revops.rotation.errors import RotationBusyError, RotationError
from revops.rotation.shell import show_rotation, show_value
from revops.sources import SourceFileError

EXPECTED = (ConnectionSettingError, KeyringError, RotationBusyError, RotationError, SourceFileError, TokenError)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; expected failures end in a sentence and exit code 1."""
    parser = argparse.ArgumentParser(prog="revops.rotation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    rotate = commands.add_parser("rotate", help="bring all tokens to the writing key")
    rotate.add_argument("--forget", type=int, metavar="ID", help="give up what only this lost key reads")
    decrypt = commands.add_parser("decrypt", help="show one value")
    for name in ("table", "column", "key"):
        decrypt.add_argument(name)
    given = parser.parse_args(arguments)
    console = Console(soft_wrap=True)
    try:
        keyring = Keyring.from_environment()
        if given.command == "rotate":
            return show_rotation(console, keyring, forgotten=given.forget)
        return show_value(console, keyring, table=given.table, column=given.column, key=given.key)
    except EXPECTED as error:
        console.print(f"error: {error}", markup=False, highlight=False)
    except psycopg.Error as error:
        told = str(error) if error.sqlstate is None else describe(error)
        console.print(f"error: {told}", markup=False, highlight=False)
    return 1


if __name__ == "__main__":
    sys.exit(main())
