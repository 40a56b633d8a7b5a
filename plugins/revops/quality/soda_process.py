"""Run one Soda scan in a process of its own: request as JSON on stdin, results as JSON in a file.

Soda reads .env files upwards from its package, writes to HOME, installs a tracer and captures logging; here
that harms nobody.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    """Scan and write `{"exit_code", "checks", "errors"}` to the file that the request names."""
    request = json.load(sys.stdin)
    _adopt_connection_settings(request["libpq"], request["views"])
    # The switch that works is a configuration file read at import; Scan.disable_telemetry() does nothing.
    configuration = Path.home() / ".soda" / "config.yml"
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text("send_anonymous_usage_stats: false\n")

    from soda.scan import Scan

    scan = Scan()
    scan.set_scan_definition_name(request["name"])
    scan.set_data_source_name("warehouse")
    scan.add_configuration_yaml_str(json.dumps({"data_source warehouse": request["data_source"]}))
    for file in request["files"]:
        scan.add_sodacl_yaml_file(file)
    exit_code = scan.execute()
    results = {
        "exit_code": exit_code,
        "checks": [_summary(check) for check in scan.get_scan_results()["checks"]],
        "errors": scan.get_error_logs_text() or "",
    }
    Path(request["output"]).write_text(json.dumps(results))
    return 0


def _adopt_connection_settings(libpq: dict[str, str], views: list[str]) -> None:
    """Make psycopg2 connect with TLS verified, as the role given and with the views to check; Soda does none of it."""
    import psycopg2

    connect = psycopg2.connect

    def with_settings(*args: Any, **kwargs: Any) -> Any:
        options = f"{kwargs.pop('options', None) or ''} {libpq['options']}".strip()
        connection = connect(*args, **{**kwargs, **libpq, "options": options})
        connection.autocommit = True
        with connection.cursor() as cursor:
            for view in views:
                # A table that is missing gets no view; its checks are then not evaluated, and say so.
                with contextlib.suppress(psycopg2.errors.UndefinedTable, psycopg2.errors.UndefinedColumn):
                    cursor.execute(view)
        connection.autocommit = False
        return connection

    psycopg2.connect = with_settings


def _summary(check: dict[str, Any]) -> dict[str, Any]:
    diagnostics = check.get("diagnostics") or {}
    return {
        "table": check["table"],
        "name": check["name"],
        "outcome": check["outcome"],
        "value": diagnostics.get("value"),
    }


if __name__ == "__main__":
    sys.exit(main())
