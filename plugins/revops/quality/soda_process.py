"""Run Soda in a process of its own: request as JSON on stdin, results as JSON in a file.

Soda reads .env files upwards from its package, writes to HOME, installs a tracer and captures logging; here
that harms nobody.

Each table is a scan of its own, so that what is wrong with one file hides no other's results. Where a scan has an
error, its checks are tried one by one: Soda computes the checks of a table in one query, and when that fails it still
reports some of them as passed.
"""

from __future__ import annotations

import json
import re
import sys
import traceback
from pathlib import Path
from typing import Any

import psycopg2
import yaml

from revops.hooks.pooler import check_settings, without_options

# A check that is added to every table and tells how many rows it has.
LIVE_ROWS = "__live_rows__"
# Of a query for failed rows the first come back, each with their true number.
TRUE_NUMBER = "_rows_failed"
# Exit codes of a scan: 0 passed, 1 warned, 2 failed; from 3 on something was not evaluated.
FIRST_ERROR_CODE = 3
_COUNTS_ROWS = ("missing_count", "invalid_count", "duplicate_count")
_QUOTED = re.compile(r'["«„“].*["»”“]', re.DOTALL)


def main() -> int:
    """Check each table of the request and write `{"tables": {name: {"checks", "errors"}}}` to the file that it names.

    Ends with 1 and a line on stderr where it can't, as when the warehouse is lost on the way.
    """
    request = json.load(sys.stdin)
    # The switch that works is a configuration file read at import; Scan.disable_telemetry() does nothing.
    configuration = Path.home() / ".soda" / "config.yml"
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text("send_anonymous_usage_stats: false\n")
    complain = sys.stderr
    try:
        connection = _connect(request["data_source"], request["libpq"], request["views"])
        found = {table["name"]: _check_table(request, table) for table in request["tables"]}
        if connection.closed:
            raise psycopg2.OperationalError("the connection to the warehouse was lost")
    except psycopg2.Error as error:
        print(_describe(error), file=complain)
        return 1
    except Exception as error:  # noqa: BLE001 - the parent is told, and fails
        # What a library says may quote a value: its kind and place have to do.
        place = traceback.extract_tb(error.__traceback__)[-1]
        print(f"{type(error).__name__} in {place.filename}:{place.lineno}", file=complain)
        return 1
    Path(request["output"]).write_text(json.dumps({"tables": found}))
    return 0


def _check_table(request: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """Return the checks that were evaluated, and what kept the others from it."""
    checks, errors = _scan(request, table, table["checks"])
    if not errors:
        return {"checks": checks, "errors": []}
    alone = [_scan(request, table, [check]) for check in table["checks"]]
    return {
        "checks": [check for found, wrong in alone if not wrong for check in found],
        "errors": list(dict.fromkeys(line for _, wrong in alone for line in wrong)),
    }


def _scan(
    request: dict[str, Any], table: dict[str, Any], checks: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[str]]:
    from soda.scan import Scan

    scan = Scan()
    scan.set_scan_definition_name(request["name"])
    scan.set_data_source_name("warehouse")
    scan.add_configuration_yaml_str(json.dumps({"data_source warehouse": request["data_source"]}))
    scan.add_sodacl_yaml_str(_sodacl(table, checks, kept_keys=request["kept_keys"]))
    scan.sampler = _key_sampler(table["key"])
    # Only the key is ever asked for: whole rows would bring personal data, and texts of any size.
    scan._configuration.samples_limit = request["kept_keys"] if table["key"] else 0
    _select_only(table["key"])
    exit_code = scan.execute()
    errors = [_error(log) for log in scan.get_error_logs()]
    if exit_code >= FIRST_ERROR_CODE:
        return [], errors or [f"Soda ended with code {exit_code}"]
    # Not the public result: that has no way from a check to its sample.
    return [_summary(check) for check in scan._checks], errors


def _sodacl(table: dict[str, Any], checks: list[dict[str, Any]], *, kept_keys: int) -> str:
    items: list[dict[str, Any]] = [{"row_count >= 0": {"name": LIVE_ROWS}}]
    for check in checks:
        settings = dict(check["settings"])
        query = settings.get("fail query")
        if condition := settings.pop("fail condition", None):
            query = f"select {_listed(table['key'])} from {table['name']} where {condition}"
        if query:
            # Soda would fetch every failed row; the comment's end of line keeps the bracket out of a comment.
            settings["fail query"] = (
                f"select *, count(*) over () as {TRUE_NUMBER} from (\n{query.strip().rstrip(';')}\n) as failed "
                f"limit {kept_keys}"
            )
        items.append({check["line"]: {"name": check["name"], **settings}})
    return yaml.safe_dump({f"checks for {table['name']}": items}, sort_keys=False, allow_unicode=True, width=10**6)


def _listed(key: list[str]) -> str:
    return ", ".join(f'"{column}"' for column in key) or "1 as failed"


def _select_only(key: list[str]) -> None:
    """Make Soda select these columns where it would select all."""
    from soda.data_sources.postgres_data_source import PostgresDataSource

    columns = [f'"{column}"' for column in key]
    PostgresDataSource.sql_select_all_column_names = lambda self, table_name: columns or ["*"]  # noqa: ARG005


def _key_sampler(key: list[str]) -> Any:
    from soda.sampler.sample_ref import SampleRef
    from soda.sampler.sampler import Sampler

    class KeySampler(Sampler):  # type: ignore[misc]
        """Keeps the key columns of the rows that failed, joined by colons, and no other column."""

        def store_sample(self, sample_context: Any) -> Any:
            names = [column.name for column in sample_context.sample.get_schema().columns]
            rows = sample_context.sample.get_rows()
            total = sample_context.sample.get_rows_count()
            if TRUE_NUMBER in names:
                total = int(rows[0][names.index(TRUE_NUMBER)]) if rows else 0
            places = [names.index(column) for column in key if column in names]
            has_key = bool(key) and len(places) == len(key)
            reference = SampleRef("keys", None, total, 0, SampleRef.TYPE_NOT_PERSISTED)
            reference.keys = [":".join(str(row[at]) for at in places) for row in rows] if has_key else []
            return reference

    return KeySampler()


def _connect(data_source: dict[str, Any], libpq: dict[str, str], views: list[str]) -> Any:
    """Connect with TLS verified, as the role given, and put the views to check before the tables; Soda does none of it.

    All scans share the session, and each reads one picture of the tables in a transaction that can't write.
    """
    options = f"{libpq.get('options', '')} -c search_path={data_source['schema']}".strip()
    asked, statement = without_options({**libpq, "dbname": data_source["database"], "options": options})
    parameters: dict[str, Any] = {**asked}
    connection = psycopg2.connect(**parameters)
    connection.autocommit = True
    with connection.cursor() as cursor:
        if statement:
            cursor.execute(statement)
        check_settings(options, lambda query: _first_value(cursor, query))
        for view in views:
            cursor.execute(view)
    connection.autocommit = False
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    psycopg2.connect = lambda *args, **kwargs: connection  # noqa: ARG005
    return connection


def _first_value(cursor: Any, query: str) -> str:
    cursor.execute(query)
    return str(cursor.fetchone()[0])


def _summary(check: Any) -> dict[str, Any]:
    value = getattr(check, "check_value", None)
    metric = getattr(check.check_cfg, "metric_name", None)
    counts_rows = metric in _COUNTS_ROWS or type(check).__name__ in ("ReferenceCheck", "UserDefinedFailedRowsCheck")
    sample = check.failed_rows_sample_ref
    return {
        "name": check.name,
        "outcome": check.outcome.value if check.outcome else None,
        "value": float(value) if isinstance(value, int | float) else None,
        "rows_failed": int(value) if counts_rows and value is not None else None,
        "keys": getattr(sample, "keys", []),
    }


def _error(log: Any) -> str:
    """Return an error of Soda's in one line. The server's own words may quote a value."""
    if isinstance(log.exception, psycopg2.Error):
        name = re.match(r"Query execution error in (\S+):", log.message)
        return f"{name[1]}: {_describe(log.exception)}" if name else _describe(log.exception)
    return " ".join(str(log.message).split("\n")[0].split())


def _describe(error: psycopg2.Error) -> str:
    message = error.diag.message_primary or str(error).split("\n")[0]
    # Data exceptions and broken constraints quote values.
    if (error.pgcode or "")[:2] in ("22", "23"):
        message = _QUOTED.sub('"..."', message)
    return f"{type(error).__name__} {error.pgcode or ''}: {message}".replace(" :", ":")


if __name__ == "__main__":
    sys.exit(main())
