"""How the warehouse's server logs what sessions do: read from its settings, recorded in ops.access_audit_mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg.types.json import Jsonb

Mode = Literal["pgaudit", "log_statement", "none"]

# Classes of pgaudit; MISC (fetch, checkpoint, vacuum, set) touches no data, and its EXECUTE quotes arguments.
CLASSES = frozenset({"read", "write", "function", "role", "ddl"})
# Setting -> the value by which no value of a row comes into the log, and what happens with another.
QUIET = {
    "log_parameter_max_length": ("0", "bound values are logged with their statements"),
    "log_parameter_max_length_on_error": ("0", "bound values are logged with the statements that fail"),
    "log_error_verbosity": ("terse", "rows are quoted in the details of errors"),
    "pgaudit.log_parameter": ("off", "bound values are logged by pgaudit"),
}
# The levels of log_min_error_statement at which a statement that is denied is still logged.
_DENIED_ARE_LOGGED = frozenset({
    "debug5", "debug4", "debug3", "debug2", "debug1", "info", "notice", "warning", "error",
})  # fmt: skip
_READ = (
    *QUIET,
    *("pgaudit.log", "pgaudit.log_relation", "pgaudit.log_catalog", "pgaudit.role", "log_statement"),
    *("log_connections", "log_disconnections", "log_min_error_statement", "log_min_duration_statement"),
)


@dataclass(frozen=True)
class AuditMode:
    """How a server logs statements; faults: what is missing from its log, or too much in it."""

    mode: Mode
    settings: dict[str, str]
    faults: tuple[str, ...]
    server_version: str


def read_audit_mode(warehouse: psycopg.Connection) -> AuditMode:
    """Read the mode from the server's settings, as any role. Ends no transaction."""
    # Only settings that the server knows are here: a session's own `set pgaudit.log` is not.
    rows = warehouse.execute(
        "select name, setting from pg_settings where name = any(%s) order by name", (list(_READ),)
    ).fetchall()
    settings = {str(name): str(setting) for name, setting in rows}
    mode = _mode(settings)
    version = warehouse.info.server_version
    return AuditMode(mode, settings, tuple(_faults(mode, settings)), f"{version // 10000}.{version % 10000}")


def record_audit_mode(warehouse: psycopg.Connection, found: AuditMode, *, run_id: str | None = None) -> None:
    """Write what was found to ops.access_audit_mode, a new row where it differs from the last. Does not commit."""
    updated = warehouse.execute(
        "update ops.access_audit_mode as a set first_run_id = coalesce(a.first_run_id, %(run)s), "
        "last_run_id = %(run)s, last_seen_at = clock_timestamp() "
        "where a.access_audit_mode_id = (select max(access_audit_mode_id) from ops.access_audit_mode) "
        "and (a.mode, a.settings, a.faults, a.server_version) "
        "= (%(mode)s, %(settings)s, %(faults)s::text[], %(version)s)",
        _parameters(found, run_id),
    ).rowcount
    if not updated:
        warehouse.execute(
            "insert into ops.access_audit_mode (mode, settings, faults, server_version, first_run_id, last_run_id) "
            "values (%(mode)s, %(settings)s, %(faults)s, %(version)s, %(run)s, %(run)s)",
            _parameters(found, run_id),
        )


def describe_audit_mode(mode: str, faults: list[str] | tuple[str, ...]) -> str:
    """Return in words what somebody should know of the access log; empty where all is as it should be."""
    if mode == "none":
        what = "the warehouse's server does not log what sessions do"
    elif faults:
        what = "the warehouse's access log is not as it should be"
    else:
        return ""
    return f"{what}: {'; '.join(faults)}. Remedy: docs/security.md, Access log."


def _parameters(found: AuditMode, run_id: str | None) -> dict[str, object]:
    return {
        "mode": found.mode,
        "settings": Jsonb(found.settings),
        "faults": list(found.faults),
        "version": found.server_version,
        "run": run_id,
    }


def _mode(settings: dict[str, str]) -> Mode:
    if _classes(settings.get("pgaudit.log", "")) & CLASSES:
        return "pgaudit"
    return "log_statement" if settings.get("log_statement") == "all" else "none"


def _faults(mode: Mode, settings: dict[str, str]) -> list[str]:
    faults = []
    if mode == "none":
        faults.append(
            f"neither pgaudit.log nor log_statement = all is set (log_statement = {settings['log_statement']})"
        )
    elif mode == "pgaudit" and (missing := sorted(CLASSES - _classes(settings["pgaudit.log"]))):
        faults.append(f"pgaudit.log leaves out {', '.join(missing)}")
    if settings.get("log_connections", "off") in ("off", ""):
        faults.append("log_connections is off: who connected, and how, is not logged")
    if settings.get("log_min_error_statement") not in _DENIED_ARE_LOGGED:
        faults.append(
            f"log_min_error_statement = {settings.get('log_min_error_statement')}: statements that are denied are not "
            "logged"
        )
    faults += [
        f"{name} = {settings[name]}: {why}"
        for name, (wanted, why) in QUIET.items()
        if name in settings and settings[name] != wanted
    ]
    return faults


def _classes(setting: str) -> frozenset[str]:
    """Return the classes that a value of pgaudit.log names, such as `all, -misc`."""
    chosen: set[str] = set()
    for word in setting.lower().replace(" ", "").split(","):
        named = CLASSES if word.lstrip("-") == "all" else {word.lstrip("-")}
        chosen = chosen - named if word.startswith("-") else chosen | named
    return frozenset(chosen)
