"""The settings of the embedded PostgreSQL, and its access log."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 120
ssl = on
ssl_cert_file = '{tls}/server.crt'
ssl_key_file = '{tls}/server.key'
ssl_min_protocol_version = 'TLSv1.2'
password_encryption = 'scram-sha-256'
shared_buffers = '256MB'
maintenance_work_mem = '256MB'
max_wal_size = '4GB'
default_toast_compression = 'lz4'
jit = off
# A worker that is killed or cut off must not go on writing, nor hold a lock for minutes.
client_connection_check_interval = '5s'
tcp_keepalives_idle = 60
tcp_keepalives_interval = 10
tcp_keepalives_count = 3
tcp_user_timeout = 30000
idle_in_transaction_session_timeout = '5min'
# The access log: every session, every statement, those that are denied included, one JSON object a line. This server
# has no pgaudit. Bound values never reach it, and of errors the first line only: the others quote rows.
logging_collector = on
log_destination = 'jsonlog'
log_directory = '{log}'
log_filename = 'access-%a.log'
log_file_mode = 0600
log_rotation_age = 1d
log_rotation_size = 0
log_truncate_on_rotation = on
log_statement = all
log_connections = on
log_disconnections = on
log_min_error_statement = error
log_error_verbosity = terse
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
log_min_duration_statement = -1
"""
# A file a weekday, begun anew after a week.
LOG_DAYS = 7
# The file beside postgresql.conf that all of this is in.
INCLUDED = "revops.conf"
TAIL_BYTES = 1 << 20

HOST_BASED_AUTHENTICATION = """
# Encrypted connections with a password only; there is no plain `host` line and no socket.
hostssl all all 127.0.0.1/32 scram-sha-256
"""


def write_configuration(home: Path, data: Path) -> list[Path]:
    """Write the settings of this version into a data directory, one of an older version's too; return what is new.

    What is returned must belong to the account of the server.
    """
    paths = {name: str(home / name).replace("'", "''") for name in ("tls", "log")}
    log, settings, main = home / "log", data / INCLUDED, data / "postgresql.conf"
    log.mkdir(mode=0o700, exist_ok=True)
    settings.write_text(CONFIGURATION.format(**paths))
    line = f"include '{INCLUDED}'"
    if line not in main.read_text().splitlines():
        with main.open("a") as file:
            file.write(f"\n{line}\n")
    return [log, settings]


def access_logs(home: Path) -> list[Path]:
    """Return the files of the access log, the oldest first."""
    return sorted((home / "log").glob("access-*.json"), key=lambda path: path.stat().st_mtime)


def remove_old_logs(home: Path) -> None:
    """Remove the files of a week ago, which a server that did not run meanwhile would go on with."""
    oldest = time.time() - (LOG_DAYS - 1) * 86400
    for path in (home / "log").glob("access-*"):
        if path.stat().st_mtime < oldest:
            path.unlink()


def read_messages(home: Path, most: int) -> list[str]:
    """Return the last messages of the server itself, errors of its sessions included, without statements."""
    told = []
    for path in access_logs(home)[-1:]:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        for line in lines:
            with contextlib.suppress(ValueError):  # cut off by a crash
                entry = json.loads(line)
                if entry["error_severity"] != "LOG" or "user" not in entry:
                    told.append(f"{entry['error_severity']}: {entry['message']}")
    return told[-most:]
