"""What the database tests build on: a source beside a warehouse, and whole row sets to compare them by."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from revops.extract.load import LoadResult, load_table
from revops.extract.sessions import Route
from revops.extract.snapshot import SharedSnapshot
from revops.keyring import Keyring
from revops.sources import Source

Rows = Counter[tuple[str | None, ...]]
METADATA = {"_loaded_at", "_load_id", "_deleted_at"}
PEOPLE = (
    "create table t (id integer primary key, name text, written timestamp default now());"
    "insert into t (id, name) select n, 'name ' || n from generate_series(1, 10) n"
)
# Enough rows that another session can step in while they are read.
BIG = (
    "create table t (id integer primary key, text text);"
    "insert into t select n, md5(n::text) || repeat('x', 300) from generate_series(1, 60000) n"
)
OWN_WRITERS = "select backend_xid::text::bigint from pg_stat_activity where datname = current_database()"


class Extract:
    """A source database and a warehouse: `source` is the application that writes, `warehouse` the owner's eyes."""

    def __init__(self, source_dsn: str, warehouse_dsn: str) -> None:
        self.source_dsn = source_dsn
        self.warehouse_dsn = warehouse_dsn
        self.source = psycopg.connect(source_dsn, autocommit=True)
        self.warehouse = psycopg.connect(warehouse_dsn, autocommit=True)
        self._opened: list[psycopg.Connection] = [self.source, self.warehouse]
        self._runs = itertools.count(1)
        self.reader = self.connect_reader()
        self.ingest = self.connect_ingest()

    def close(self) -> None:
        for connection in self._opened:
            connection.close()

    def connect_source(self, *, autocommit: bool = False) -> psycopg.Connection:
        return self._keep(psycopg.connect(self.source_dsn, autocommit=autocommit))

    def connect_reader(self) -> psycopg.Connection:
        return self._keep(psycopg.connect(self.source_dsn, application_name="reader"))

    def connect_ingest(self) -> psycopg.Connection:
        dsn = make_conninfo(self.warehouse_dsn, options="-c role=revops_ingest", application_name="ingest")
        return self._keep(psycopg.connect(dsn))

    def run(self, statement: str) -> None:
        """Change the source; each call is one transaction."""
        self.source.execute(statement)

    def load(
        self,
        name: str = "t",
        *,
        snapshot: str | SharedSnapshot | None = None,
        full_refresh: bool = False,
        accept_deletions: bool = False,
        keyring: Keyring | None = None,
        route: Route | None = None,
        exclude_everywhere: tuple[str, ...] = (),
        of_source: dict[str, Any] | None = None,
        **settings: Any,
    ) -> LoadResult:
        """Load one table as a task does; settings are those of the table in the source's YAML."""
        config = source_config(name, exclude_everywhere=exclude_everywhere, of_source=of_source, **settings)
        self._outlast_others()
        return load_table(
            route or self.route,
            config=config,
            table=config.tables[0],
            run_id=f"run-{next(self._runs)}",
            snapshot=SharedSnapshot(snapshot) if isinstance(snapshot, str) else snapshot,
            full_refresh=full_refresh,
            accept_deletions=accept_deletions,
            keyring=keyring,
        )

    @property
    def route(self) -> Route:
        return Route(source=self.connect_reader, warehouse=self.connect_ingest)

    def raw(self, name: str = "t", *, where: str = "_deleted_at is null") -> Rows:
        """The rows of a raw table as text, source columns only, those that live unless told."""
        return text_rows(self.warehouse, sql.Identifier("raw", f"odoo_{name}"), where=where)

    def in_source(self, name: str = "t", *, without: tuple[str, ...] = ()) -> Rows:
        """The rows of a source table as text, without those of tables that inherit from it."""
        kind = self.source.execute("select relkind::text from pg_class where relname = %s", (name,)).fetchone()
        only = sql.SQL("only ") if kind == ("r",) else sql.SQL("")
        return text_rows(self.source, only + sql.Identifier("public", name), without=set(without))

    def assert_same(self, name: str = "t", *, without: tuple[str, ...] = ()) -> None:
        assert self.raw(name) == self.in_source(name, without=without)

    def raw_types(self, name: str = "t") -> dict[str, str]:
        return dict(
            self.warehouse.execute(
                "select attname, format_type(atttypid, atttypmod) from pg_attribute "
                "where attrelid = to_regclass(format('raw.%%I', %s::text)) and attnum > 0 and not attisdropped "
                "order by attnum",
                (f"odoo_{name}",),
            ).fetchall()
        )

    def changes(self) -> list[tuple[Any, ...]]:
        """What ops.schema_change holds, oldest first."""
        return self.warehouse.execute(
            "select change, column_name, type_before, type_after from ops.schema_change order by schema_change_id"
        ).fetchall()

    def last_load(self) -> dict[str, Any]:
        with self.warehouse.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            row = cursor.execute("select * from ops.load order by load_id desc limit 1").fetchone()
        assert row is not None
        return row

    def watermark(self, name: str = "t") -> Any:
        row = self.warehouse.execute("select watermark from ops.watermark where table_name = %s", (name,)).fetchone()
        return row[0] if row else None

    def everything(self, name: str = "t") -> Rows:
        """The raw table with its metadata: equal before and after where nothing may have been written."""
        return text_rows(
            self.warehouse, sql.Identifier("raw", f"odoo_{name}"), where="true", without=set(), metadata=True
        )

    def _outlast_others(self) -> None:
        """Wait for what other test sessions are writing on the same server: it would hold back this load's horizon."""
        now = query(self.source, "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint")[0][0]
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            own = {xid for connection in (self.source, self.warehouse) for (xid,) in query(connection, OWN_WRITERS)}
            running = {
                xid for (xid,) in query(self.source, "select pg_snapshot_xip(pg_current_snapshot())::text::bigint")
            }
            if all(xid >= now or xid % (1 << 32) in own for xid in running):
                return
            time.sleep(0.01)

    def _keep(self, connection: psycopg.Connection) -> psycopg.Connection:
        self._opened.append(connection)
        return connection


def source_config(
    name: str = "t",
    *,
    exclude_everywhere: tuple[str, ...] = (),
    of_source: dict[str, Any] | None = None,
    **settings: Any,
) -> Source:
    """A source `odoo` with one table."""
    return Source.model_validate(
        {
            "source": "odoo",
            "connection": "odoo_source",
            "schedule": "0 2 * * *",
            "lock_timeout_s": 5,
            "statement_timeout_s": 60,
            "exclude_columns": exclude_everywhere,
            "tables": [{"name": name, **settings}],
            **(of_source or {}),
        }
    )


def counts(result: LoadResult) -> tuple[int, int, int, int, int]:
    """(read, inserted, updated, unchanged, deleted) of a load."""
    return (result.read, result.inserted, result.updated, result.unchanged, result.deleted)


def text_rows(
    connection: psycopg.Connection,
    relation: sql.Composable,
    *,
    where: str = "true",
    without: set[str] = frozenset(),  # type: ignore[assignment]
    metadata: bool = False,
) -> Rows:
    """Return a table's rows as a multiset, every value in the text that PostgreSQL prints for it."""
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("select * from {} limit 0").format(relation))
        assert cursor.description is not None
        hidden = without if metadata else without | METADATA
        names = [column.name for column in cursor.description if column.name not in hidden]
        query = sql.SQL("select {} from {} where {}").format(
            sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names),
            relation,
            sql.SQL(where),  # type: ignore[arg-type]
        )
        return Counter(cursor.execute(query).fetchall())


def query(connection: psycopg.Connection, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows."""
    return connection.execute(statement, parameters or None).fetchall()  # type: ignore[arg-type]
