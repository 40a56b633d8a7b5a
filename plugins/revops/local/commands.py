"""The commands of the embedded stack, as the Makefile calls them."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
from rich.console import Console

from revops.local.airflow_server import AirflowServer, Running, ServerError
from revops.local.digest import wait_for_digests
from revops.local.embedding_server import EmbeddingServer
from revops.local.model_supply import ensure_model, fetch_model
from revops.local.progress import step
from revops.local.sample import SEED
from revops.local.search_arguments import read_asked
from revops.local.searching import Queries, queries_meanwhile, show_searches, show_similar
from revops.local.show import show_report, show_trace
from revops.local.stack import WEB_PORT, Stack, adopt_warehouse, own_settings, set_connections
from revops.local.watch import watch_runs
from revops.report import RunReport, read_report
from revops.settings import Settings
from revops.sources import INCLUDE
from revops.warehouse_setup import read_migrations, set_up_warehouse

SEARCHES = (
    "moving a data centre to the cloud before the lease ends",
    "réduire la facture AWS",
    "machine learning to detect fraud in payments",
)
ALREADY_RUNNING = 75  # EX_TEMPFAIL of sysexits.h: try again later


# Everything that the stack and its tests make in their folder.
STATE = (
    *("postgres", "postgres-install*", "credentials.*", "airflow", "mail", "model*", ".model*", "sample"),
    *("embedding", "embedding-service"),
    *("reports", "demo.lock", "test-*", "e2e"),
)


class CommandError(RuntimeError):
    """A command can't go on; the message says why and what to do."""


def demo(console: Console) -> int:
    """Run everything from a bare checkout on sample sources; 0 when both runs succeeded."""
    stack = Stack.of_checkout()
    with _only_one(stack, "demo"):
        started = time.monotonic()
        _prepare(stack, console, advance=True)
        with _airflow(stack, console, own={}) as (server, running):
            states, reports = _run_dags(stack, server, running, ["odoo", "ace"], console)
        for report in reports:
            show_report(report, console)
        _show_lineage(reports, console)
        if set(states.values()) == {"success"}:
            settings = Settings.from_environment(_environment(stack, {}))
            with queries_meanwhile(stack, settings, console) as queries:
                show_searches(stack, settings, list(SEARCHES), queries, console)
        console.rule(align="left")
        read = sum(report.rows_read for report in reports)
        changed = sum(report.rows_changed for report in reports)
        seconds = time.monotonic() - started
        console.print(f"{read:,} rows read, {changed:,} changed in raw; {seconds:.0f} s in all", highlight=False)
        console.print(f"Reports: {stack.report_folder}   Mails: {stack.mail_folder}", highlight=False)
        console.print(
            f"Web UI: [bold]make start[/], then http://localhost:{WEB_PORT} (user admin; it prints the password)"
        )
        console.print('Search: [bold]make search Q="kubernetes for a bank"[/]   SQL: [bold]make psql[/]')
        if set(states.values()) != {"success"}:
            console.print(f"[red]failed:[/] {states}; the tasks' logs: {stack.airflow_home / 'logs'}")
            return 1
        return 0


def run(console: Console, dag_id: str) -> int:
    """Run one DAG in the foreground, with the user's connections where set, else the sample sources."""
    stack = Stack.of_checkout()
    own = own_settings()
    with _only_one(stack, "demo"):
        _prepare(stack, console, advance=False, own=own)
        with _airflow(stack, console, own=own) as (server, running):
            states, reports = _run_dags(stack, server, running, [dag_id], console, own=own)
    for report in reports:
        show_report(report, console)
    if states[dag_id] != "success":
        console.print(f"[red]the run of {dag_id} failed[/]; the tasks' logs: {stack.airflow_home / 'logs'}")
        return 1
    return 0


def start(console: Console, web_port: int) -> int:
    """Start the stack with Airflow's web UI in the background."""
    stack = Stack.of_checkout()
    own = own_settings()
    with _only_one(stack, "demo"):
        _prepare(stack, console, advance=False, own=own)
        settings = Settings.from_environment(_environment(stack, own))
        services = settings.embedding_urls
        if settings.embedding_python is not None:
            services = Queries(stack, settings, console).ready_settings().embedding_urls
        with console.status("starting Airflow"):
            running = AirflowServer(stack).start(own, web_port=web_port)
    console.print(f"Web UI:   [bold]http://localhost:{running.web_port}[/]")
    console.print(f"User:     admin   Password: {stack.passwords['web_admin']}", highlight=False)
    console.print(f"Mails:    {stack.mail_folder}", highlight=False)
    console.print(f"Queries:  {', '.join(services) or 'REVOPS_EMBEDDING_URL is not set'}", highlight=False)
    console.print("Stop:     make stop")
    return 0


def stop(console: Console) -> int:
    """Stop Airflow, the mail sink, the embedding service and the embedded PostgreSQL."""
    stack = Stack.of_checkout()
    for name, ended in (
        ("Airflow", AirflowServer(stack).stop()),
        ("Embedding service", EmbeddingServer(stack.embedding_service).stop()),
        ("PostgreSQL", stack.postgres.stop()),
    ):
        console.print(f"{name}: {'stopped' if ended else 'was not running'}")
    return 0


def clean(console: Console) -> int:
    """Stop the stack and remove what it has made, nothing else that may lie in its folder."""
    stack = Stack.of_checkout()
    if not stack.home.exists():
        return 0
    stop(console)
    for name in STATE:
        for path in stack.home.glob(name):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    with contextlib.suppress(OSError):  # something of somebody else's is left there
        stack.home.rmdir()
    return 0


def task(console: Console, dag_id: str, task_id: str) -> int:
    """Run one task by `airflow tasks test`."""
    stack = Stack.of_checkout()
    own = own_settings()
    with _only_one(stack, "demo"):
        _prepare(stack, console, advance=False, own=own)
    server = AirflowServer(stack)
    with server.mail_sink() as mail_port:
        environment = stack.environment(mail_port=mail_port, web_port=WEB_PORT, own=own)
        airflow = str(Path(sys.executable).with_name("airflow"))
        with console.status("preparing Airflow's database"):
            migrated = subprocess.run(
                [airflow, "db", "migrate"], env=environment, capture_output=True, text=True, check=False
            )
        if migrated.returncode != 0:
            raise CommandError(f"airflow db migrate failed:\n{migrated.stderr[-2000:]}")
        return subprocess.run([airflow, "tasks", "test", dag_id, task_id], env=environment, check=False).returncode


def setup(console: Console) -> int:
    """Create and migrate the warehouse that the connection revops_core names."""
    stack = Stack.of_checkout()
    own = own_settings()
    if "AIRFLOW_CONN_REVOPS_CORE" not in set_connections(own):
        stack.start_postgres()
    _set_up_warehouse(stack, console, own)
    return 0


def psql(arguments: list[str]) -> int:
    """Open psql on the embedded warehouse as its owner."""
    stack = Stack.of_checkout()
    stack.start_postgres()
    # The password travels in the environment: everybody may read a command line.
    environment = {**os.environ, **stack.postgres.client_environment, "PGPASSWORD": stack.passwords["revops"]}
    conninfo = stack.postgres.conninfo("revops_core", user="revops", password="")
    return subprocess.run([str(stack.postgres.psql), conninfo, *arguments], env=environment, check=False).returncode


def search(console: Console, arguments: argparse.Namespace) -> int:
    """Search the embedded warehouse, or the user's own; arguments: of search_arguments.py."""
    if (arguments.query is None) == (arguments.like is None):
        raise CommandError("a search needs a query or --like ENTITY:ID, one of both")
    stack = Stack.of_checkout()
    own = own_settings()
    if stack.postgres.port() is None:
        stack.start_postgres()
    environment = _environment(stack, own)
    settings = Settings.from_environment(environment)
    adopt_warehouse(environment)
    asked = read_asked(arguments)
    if arguments.like:
        entity, entity_id = arguments.like
        show_similar(stack, settings, entity, entity_id, console, asked)
    else:
        show_searches(stack, settings, [arguments.query], Queries(stack, settings, console), console, asked)
    return 0


def model(console: Console, source: str | None, endpoint: str | None) -> int:
    """Fetch BGE-M3 into the folder that the settings name."""
    return fetch_model(console, own_settings(), source=source, endpoint=endpoint)


def _prepare(stack: Stack, console: Console, *, advance: bool, own: Mapping[str, str] | None = None) -> None:
    settings = own or {}
    with step(console, "PostgreSQL 18 with pgvector, TLS") as done:
        done(f"port {stack.start_postgres()}")
    # All that is wrong with the settings, before anything is built on them.
    Settings.from_environment(_environment(stack, settings))
    connections = set_connections(settings)
    if {"AIRFLOW_CONN_ODOO_SOURCE", "AIRFLOW_CONN_ACE_SOURCE"} - connections:
        _prepare_samples(stack, console, advance=advance)
    if "AIRFLOW_CONN_REVOPS_CORE" not in connections:
        _set_up_warehouse(stack, console, settings)
    ensure_model(stack, console, settings)


def _prepare_samples(stack: Stack, console: Console, *, advance: bool) -> None:
    from revops.local import sample

    today = dt.datetime.now(dt.UTC).date()
    is_new = not stack.has_samples()
    if is_new:
        stack.reset_sample_databases()
    with (
        psycopg.connect(stack.uri("odoo", "odoo")) as odoo,
        psycopg.connect(stack.uri("c303_prod_apn_01", "ace")) as ace,
    ):
        if is_new:
            with step(console, "sample sources, made from a seed") as done:
                stack.truth.parent.mkdir(parents=True, exist_ok=True)
                scale = float(os.environ.get("REVOPS_SAMPLE_SCALE", "1"))
                rows = sample.create(odoo, ace, seed=SEED, today=today, scale=scale, truth_path=stack.truth)
                done(f"{sum(rows.values()):,} rows in {len(rows)} tables")
        elif advance:
            with step(console, "a day passes in the sample sources") as done:
                changes = sample.advance(odoo, ace, seed=SEED, today=today, truth_path=stack.truth)
                moved = sum(
                    kinds.get(kind, 0)
                    for kinds in changes.values()
                    for kind in ("inserted", "updated", "silent", "deleted")
                )
                done(f"{moved:,} rows changed in {len(changes)} tables")


def _set_up_warehouse(stack: Stack, console: Console, own: Mapping[str, str]) -> None:
    from revops.hooks.warehouse import warehouse_conninfo

    embedded = {} if "AIRFLOW_CONN_REVOPS_CORE" in set_connections(own) else stack.sample_connections()
    adopt_warehouse({**embedded, **own})
    migrations = read_migrations(INCLUDE / "sql" / "migrations")
    with step(console, "warehouse revops_core") as done:
        applied = set_up_warehouse(
            warehouse_conninfo(None, task="setup"), migrations, progress=lambda text: _say(console, text)
        )
        done(f"{len(applied)} of {len(migrations)} migrations applied" if applied else "up to date")


def _environment(stack: Stack, own: Mapping[str, str]) -> dict[str, str]:
    running = AirflowServer(stack).running()
    mail_port = running.mail_port if running else 25
    web_port = running.web_port if running else WEB_PORT
    return stack.environment(mail_port=mail_port, web_port=web_port, own=own)


@contextlib.contextmanager
def _airflow(stack: Stack, console: Console, *, own: Mapping[str, str]) -> Iterator[tuple[AirflowServer, Running]]:
    """Yield a running Airflow; end it afterwards when it was not running before."""
    server = AirflowServer(stack)
    with step(console, "Airflow: scheduler, DAG processor, API server, triggerer") as done:
        running = server.start(own)
        done(f"http://localhost:{running.web_port}")
    try:
        yield server, running
    finally:
        if running.is_new:
            with console.status("stopping Airflow"):
                server.stop()


def _run_dags(
    stack: Stack,
    server: AirflowServer,
    running: Running,
    dag_ids: list[str],
    console: Console,
    *,
    own: Mapping[str, str] | None = None,
) -> tuple[dict[str, str], list[RunReport]]:
    from revops.hooks.warehouse import connect_warehouse

    with server.api(running) as api:
        for dag_id in dag_ids:
            api.wait_for_dag(dag_id)
            if running.is_new:
                for run_id in api.end_unfinished_runs(dag_id):
                    console.print(
                        f"[yellow]{dag_id} {run_id} was interrupted; it is marked as failed[/]",
                        highlight=False,
                    )
        runs = {dag_id: api.trigger(dag_id) for dag_id in dag_ids}
        console.print(f"triggered {', '.join(runs)}")
        states = watch_runs(api, runs, console)
        failed = {run_id for dag_id, run_id in runs.items() if states[dag_id] != "success"}
        if running.is_new and failed and "AIRFLOW_CONN_SMTP_DEFAULT" not in set_connections(own or {}):
            with console.status("waiting for the mail about the failure"):
                unmailed = wait_for_digests(stack.mail_folder, failed)
            for run_id in unmailed:
                console.print(f"[yellow]no mail came about {run_id}[/]", highlight=False)
    adopt_warehouse(_environment(stack, own or {}))
    with connect_warehouse("revops_quality", task="report") as warehouse:
        return states, [
            read_report(warehouse, source=dag_id, run_id=run_id)
            for dag_id, run_id in runs.items()
            if dag_id in ("odoo", "ace")
        ]


def _show_lineage(reports: list[RunReport], console: Console) -> None:
    """Show where an opportunity of these runs comes from: the one that is written last."""
    from revops.hooks.warehouse import connect_warehouse
    from revops.lineage.trace import read_trace

    with connect_warehouse("revops_quality", task="lineage") as warehouse:
        row = warehouse.execute(
            "select o.source_id from core.odoo_opportunities o join ops.transform_run t using (transform_run_id) "
            "where t.run_id = any(%s) order by o.updated_at desc nulls last, o.source_id limit 1",
            ([report.run_id for report in reports],),
        ).fetchone()
        if row is not None:
            table = "core.odoo_opportunities"
            show_trace(table, row[0], read_trace(warehouse, table, row[0]), console)


@contextlib.contextmanager
def _only_one(stack: Stack, name: str) -> Iterator[None]:
    path = stack.home / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise CommandError(
                f"another make demo, run or start of this checkout is at work (process {holder}). "
                "Remedy: wait for it, or end it; then try again."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _say(console: Console, text: str) -> None:
    console.print(f"          [dim]{text}[/]", highlight=False)


EXPECTED_ERRORS = (CommandError, ServerError)
