"""`make secrets`: make what the Compose stack lacks in its folder of secrets, and report what was made.

python -m revops.compose.secrets FOLDER [--env-file .env] [--demo]
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dotenv import dotenv_values

from revops.compose.connections import VARIABLES, bundle_of
from revops.compose.files import SecretFiles, SecretsError
from revops.compose.services import make_secrets

Progress = Callable[[str], None]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; expected failures end in a sentence and exit code 1, not in a traceback."""
    options = _parser().parse_args(arguments)
    # Messages name files as the host has them.
    seen_at = f"{options.host_root}/".replace("//", "/")
    try:
        given = read_dotenv(options.env_file and options.host_root / options.env_file.absolute().relative_to("/"))
        if options.list_bundles:
            _say_all(sorted({str(path) for path in bundles(given)}))
            return 0
        with SecretFiles.opened(options.host_root / options.folder.absolute().relative_to("/")) as files:
            try:
                notes = make_secrets(
                    files,
                    given,
                    names=_further_names(options.name),
                    demo=options.demo,
                    mail_sink=options.mail_sink,
                    host_root=options.host_root,
                )
            finally:
                _say_all(_report(files.made))
            _say_all(notes if files.made else [*notes, "secrets: complete, nothing to do"])
    except SecretsError as error:
        return _fail(str(error).replace(seen_at, "/"))
    except OSError as error:
        return _fail(f"{error.filename or ''} {error.strerror or error}".replace(seen_at, "/"))
    return 0


def read_dotenv(path: Path | None) -> dict[str, str]:
    """Return the variables of a .env file, none when there is no such file."""
    if path is None or not path.is_file():
        return {}
    # No interpolation: a password may hold ${...}.
    return {name: value for name, value in dotenv_values(path, interpolate=False).items() if value}


def bundles(given: Mapping[str, str]) -> list[Path]:
    """Return the certificate files of this machine that connections name; a malformed connection names none."""
    found = []
    for variable in VARIABLES.values():
        try:
            path = bundle_of(given.get(variable, ""))
        except ValueError:
            continue  # make_secrets tells what is wrong with it
        if path is not None and path.is_absolute():
            found.append(path)
    return found


def _report(made: Iterable[str]) -> list[str]:
    folders: dict[str, list[str]] = defaultdict(list)
    for name in made:
        folder, _, file = name.partition("/")
        folders[folder].append(file)
    return [f"secrets/{folder}: wrote {', '.join(files)}" for folder, files in folders.items()]


def _fail(reason: str) -> int:
    sys.stderr.write(f"error: {reason}\n")
    return 1


def _say_all(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _further_names(pairs: Iterable[str]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        service, equals, name = pair.partition("=")
        if not (service and equals and name):
            raise SecretsError(f"--name {pair} is not SERVICE=NAME, such as warehouse=db.example.com")
        names[service].append(name)
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="revops.compose.secrets", description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder of secrets; made where it is missing")
    parser.add_argument("--env-file", type=Path, help="the .env file, which may be missing")
    parser.add_argument("--demo", action="store_true", help="sample sources and mail sink for what .env lacks")
    parser.add_argument("--mail-sink", action="store_true", help="the mail sink, if .env names no mail server")
    parser.add_argument(
        "--name", action="append", default=[], metavar="SERVICE=NAME", help="a further name of a server"
    )
    parser.add_argument("--host-root", type=Path, default=Path("/"), help="where the host's files are seen")
    parser.add_argument("--list-bundles", action="store_true", help="only list the host's files that .env names")
    return parser


if __name__ == "__main__":
    sys.exit(main())
