"""The images of Airflow and PostgreSQL: what is in them, what is not, and whom the servers let in."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from revops.certificates import Authority, certificate_to_pem
from revops.compose import secrets
from tests.docker.checkout import copy_checkout

ROOT = Path(__file__).resolve().parents[2]
AIRFLOW = "revops-airflow:test"
POSTGRES = "revops-postgres:test"
CANARY = "canary-7f3b1c9e-not-for-any-layer"
HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp:mode=1777")
READY_S = 60


def docker(*arguments: str | Path, check: bool = True, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["docker", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=timeout
    )
    assert not check or done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def build(context: Path, tag: str) -> str:
    """Build an image and return what the builder says of each step."""
    return docker("build", "--progress", "plain", "--tag", tag, context).stderr


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with secrets where people keep them."""
    copy = tmp_path_factory.mktemp("checkout")
    copy_checkout(copy)
    for name in (".env", "plugins/.env", "dags/.env", "secrets/airflow/fernet_key", "connections.yaml", ".git/config"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(f"PASSWORD={CANARY}\n")
    return copy


@pytest.fixture(scope="session")
def airflow(checkout: Path) -> str:
    build(checkout, AIRFLOW)
    return AIRFLOW


@pytest.fixture(scope="session")
def postgres(checkout: Path) -> str:
    (checkout / "include" / "postgres" / ".env").write_text(CANARY)
    build(checkout / "include" / "postgres", POSTGRES)
    return POSTGRES


@pytest.fixture(params=["airflow", "postgres"])
def any_image(request: pytest.FixtureRequest) -> str:
    image: str = request.getfixturevalue(request.param)
    return image


# --- Both ------------------------------------------------------------------------------------------------------------


def test_it_runs_as_no_root_and_holds_no_compiler(any_image: str) -> None:
    code = "id -u; id -g; for name in gcc cc g++ c++ clang tcc make ld as rustc go; do command -v $name || true; done"
    assert docker("run", "--rm", "--entrypoint", "sh", any_image, "-c", code).stdout.split() == ["50000", "0"]
    config = json.loads(docker("image", "inspect", any_image).stdout)[0]["Config"]
    assert config["User"] == "50000:0"


def test_no_layer_and_no_setting_holds_what_lies_beside_the_code(any_image: str) -> None:
    told = docker("history", "--no-trunc", any_image).stdout + docker("image", "inspect", any_image).stdout
    assert CANARY not in told
    with subprocess.Popen(["docker", "save", any_image], stdout=subprocess.PIPE) as saved:
        assert saved.stdout is not None
        size, tail = 0, b""
        while block := saved.stdout.read(1 << 20):
            assert CANARY.encode() not in tail + block
            size, tail = size + len(block), block[-len(CANARY) :]
    assert size > 100_000_000


def test_a_second_build_takes_seconds_and_a_change_of_code_installs_nothing(checkout: Path, airflow: str) -> None:
    started = time.monotonic()
    assert build(checkout, airflow).count("CACHED") > 10
    assert time.monotonic() - started < 30
    dag = checkout / "dags" / "odoo.py"
    written = dag.read_text()
    dag.write_text(f"{written}\n# {uuid.uuid4()}\n")
    try:
        said = build(checkout, f"{airflow}-changed")
    finally:
        dag.write_text(written)
        docker("image", "rm", "--force", f"{airflow}-changed")
    step = {what: number for number, what in re.findall(r"^(#\d+) \[.*(pip install|COPY dags)", said, re.MULTILINE)}
    assert f"\n{step['pip install']} CACHED\n" in said
    assert f"\n{step['COPY dags']} DONE " in said


# --- Airflow ---------------------------------------------------------------------------------------------------------


def test_every_package_is_the_locks(airflow: str) -> None:
    code = "python lock/unlocked.py lock/constraints.txt && pip check"
    said = docker("run", "--rm", airflow, "bash", "-c", code).stdout
    assert said == "No broken requirements found.\n"


def test_any_account_of_group_0_runs_it_on_a_read_only_root(airflow: str) -> None:
    code = (
        "import airflow, revops.settings, revops.sources, sys; from pathlib import Path; "
        "print(airflow.__version__, [table.name for table in revops.sources.load_source('odoo').tables][:1]); "
        "sources = [*Path('/opt/airflow/plugins').rglob('*.py'), *Path('/opt/airflow/dags').rglob('*.py')]; "
        "print(len(sources) > 50, [str(path) for path in sources "
        "if not list((path.parent / '__pycache__').glob(f'{path.stem}.*.pyc'))]); "
        "print(Path('/opt/airflow/include/embedding').exists(), Path('/opt/airflow/tests').exists())"
    )
    run = ("run", "--rm", "--user", "1234:0", "--network", "none", *HARDENED)
    lines = docker(*run, airflow, "python", "-W", "ignore", "-c", code).stdout.splitlines()
    assert lines[-3].startswith("3.3.2 ['")
    assert lines[-2:] == ["True []", "False False"]


def test_fresh_volumes_can_be_written_by_any_account_of_group_0(airflow: str) -> None:
    volume = f"revops-test-{uuid.uuid4().hex[:8]}"
    folders = ("/var/lib/revops/embedding", "/var/lib/revops/reports", "/opt/airflow/logs")
    try:
        for folder in folders:
            for account in ("1234:0", "50000:0"):
                mount = ("--volume", f"{volume}{folder.replace('/', '-')}:{folder}")
                docker(
                    *("run", "--rm", "--user", account, *HARDENED, *mount, "--entrypoint", "mkdir"),
                    airflow,
                    f"{folder}/{account[:4]}",
                )
    finally:
        docker("volume", "rm", "--force", *(f"{volume}{folder.replace('/', '-')}" for folder in folders))


def test_nothing_that_is_secret_was_made_with_the_image(airflow: str) -> None:
    code = "cat airflow.cfg; grep -rlE 'fernet_key *=|secret_key *=' /opt/airflow --include=*.cfg || true; ls -a ~"
    said = docker("run", "--rm", airflow, "bash", "-c", code).stdout
    assert "fernet_key" not in said
    assert "airflow\n" not in said.splitlines()


# --- make secrets ----------------------------------------------------------------------------------------------------


def test_secrets_are_made_with_docker_alone(airflow: str, checkout: Path, tmp_path: Path) -> None:
    folder, bundle = tmp_path / "made here", tmp_path / "source ca.pem"
    bundle.write_bytes(certificate_to_pem(Authority.create("theirs").certificate))
    quoted = str(bundle).replace(" ", "%20")
    (checkout / ".env").write_text(
        f"PASSWORD={CANARY}\n"
        f"AIRFLOW_CONN_ODOO_SOURCE=postgresql://r:hunter2@odoo.example.com/odoo?sslmode=verify-full&sslrootcert={quoted}\n"
    )
    command = [checkout / "include" / "compose" / "make-secrets", "--demo"]
    environment = {**os.environ, "REVOPS_SECRETS": str(folder), "REVOPS_TAG": "test"}
    for expected in ("secrets/warehouse: wrote", "nothing to do"):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
        assert "hunter2" not in done.stdout + done.stderr
    found = json.loads((folder / "airflow" / "connections.json").read_text())
    assert "sslrootcert=/run/secrets/airflow/ca-odoo_source.pem" in found["odoo_source"]
    assert "@samples:5432/c303_prod_apn_01" in found["ace_source"]
    assert (folder / "airflow" / "ca-odoo_source.pem").read_bytes() == bundle.read_bytes()
    bundle.unlink()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode != 0
    assert str(bundle) in done.stderr


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


@dataclass
class Server:
    """One container of the image with a volume of its own, hardened as docker-compose.yaml has it."""

    use: str
    secrets: Path
    name: str = field(default_factory=lambda: f"revops-test-{uuid.uuid4().hex[:8]}")

    def start(self, *options: str, name: str | None = None) -> None:
        account = self.secrets.stat().st_uid
        docker(
            *("run", "--detach", "--name", name or self.name, "--user", f"{account}:0", *HARDENED, "--memory", "1g"),
            *("--env", f"REVOPS_SERVER={self.use}", "--publish", "127.0.0.1::5432", *options),
            *("--volume", f"{self.secrets / self.use}:/run/secrets/{self.use}:ro"),
            *("--volume", f"{self.name}:/var/lib/postgresql/data", POSTGRES),
        )

    def wait(self) -> None:
        """Wait until it counts as healthy; never before it listens for clients."""
        deadline = time.monotonic() + READY_S
        while docker("exec", self.name, "revops-postgres-health", check=False).returncode != 0:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.3)
        assert "listening on IPv4 address" in self.log.rpartition("starting PostgreSQL")[2]

    @property
    def log(self) -> str:
        done = docker("logs", self.name, check=False)
        return done.stdout + done.stderr

    def password(self, login: str) -> str:
        return (self.secrets / self.use / f"{login}_password").read_text()

    def conninfo(self, login: str, database: str, **changes: str) -> str:
        port = docker("port", self.name, "5432/tcp").stdout.strip().rpartition(":")[2]
        defaults = {
            "host": "127.0.0.1",
            "sslmode": "verify-full",
            "sslrootcert": str(self.secrets / "ca" / "ca.crt"),
            "channel_binding": "require",
            **({} if "password" in changes else {"password": self.password(login)}),
        }
        return make_conninfo(port=port, user=login, dbname=database, connect_timeout=10, **{**defaults, **changes})

    def psql(self, statement: str) -> str:
        """Run a statement as the superuser, inside the container."""
        return docker("exec", self.name, "revops-psql", "-XAtqc", statement).stdout.strip()

    def remove(self) -> None:
        docker("rm", "--force", "--volumes", self.name, check=False)
        docker("volume", "rm", "--force", self.name, check=False)


@pytest.fixture(scope="session")
def made_secrets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A factory of folders of secrets."""

    def make() -> Path:
        folder = tmp_path_factory.mktemp("stack") / "secrets"
        assert secrets.main([str(folder), "--demo"]) == 0
        return folder

    return make


@pytest.fixture(scope="module")
def warehouse(postgres: str, made_secrets: Callable[[], Path]) -> Iterator[Server]:
    server = Server("warehouse", made_secrets())
    server.start()
    server.wait()
    yield server
    server.remove()


@pytest.fixture
def new_server(postgres: str, made_secrets: Callable[[], Path]) -> Iterator[Callable[[str], Server]]:
    """A factory of servers that are not started yet; removed after the test."""
    made: list[Server] = []

    def create(use: str) -> Server:
        made.append(Server(use, made_secrets()))
        return made[-1]

    yield create
    for server in made:
        server.remove()


def refusal(conninfo: str) -> str:
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect(conninfo).close()
    return str(refused.value)


def test_the_login_gets_in_over_tls_with_a_password_alone(warehouse: Server) -> None:
    with psycopg.connect(warehouse.conninfo("revops", "revops_core")) as connection:
        statement = "select ssl, version from pg_stat_ssl where pid = pg_backend_pid()"
        assert connection.execute(statement).fetchone() == (True, "TLSv1.3")
        assert connection.execute("show password_encryption").fetchone() == ("scram-sha-256",)
    assert "password authentication failed" in refusal(warehouse.conninfo("revops", "revops_core", password="x"))


def test_a_session_that_is_not_encrypted_is_refused(warehouse: Server) -> None:
    said = refusal(warehouse.conninfo("revops", "revops_core", sslmode="disable", channel_binding="disable"))
    assert "no pg_hba.conf entry" in said
    assert "no encryption" in said


def test_a_server_of_another_ca_or_under_another_name_is_refused(warehouse: Server, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(certificate_to_pem(Authority.create("Revops Compose CA").certificate))
    said = refusal(warehouse.conninfo("revops", "revops_core", sslrootcert=str(tmp_path / "ca.crt")))
    assert "certificate verify failed" in said
    said = refusal(warehouse.conninfo("revops", "revops_core", host="metadata", hostaddr="127.0.0.1"))
    assert 'does not match host name "metadata"' in said


def test_the_superuser_gets_in_from_inside_the_container_alone(warehouse: Server) -> None:
    assert "pg_hba.conf rejects connection" in refusal(
        warehouse.conninfo("postgres", "revops_core", password=warehouse.password("superuser"))
    )
    assert warehouse.psql("select current_user, ssl from pg_stat_ssl where pid = pg_backend_pid()") == "postgres|t"


def test_the_owner_sets_up_vectors_and_the_rest_without_being_a_superuser(warehouse: Server) -> None:
    with psycopg.connect(warehouse.conninfo("revops", "revops_core"), autocommit=True) as connection:
        for extension in ("vector", "pg_trgm", "unaccent"):
            connection.execute(f"create extension if not exists {extension}")
        assert connection.execute("select '[1,2]'::halfvec(2) <-> '[1,2]'").fetchone() == (0.0,)
        rights = connection.execute(
            "select rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls from pg_roles "
            "where rolname = current_user"
        ).fetchone()
        assert rights == (False, True, True, False, False)
        for statement in ("set pgaudit.log = none", "select pg_read_file('/etc/passwd')", "create extension file_fdw"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_statements_are_in_the_log_with_those_that_were_denied_and_without_passwords(warehouse: Server) -> None:
    with psycopg.connect(warehouse.conninfo("revops", "revops_core"), autocommit=True) as connection:
        connection.execute("create table if not exists audited (id int)")
        connection.execute("insert into audited values (%s)", (4711,))
        connection.execute("select * from audited")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select * from pg_authid")
        connection.execute("create role someone login password 'canary-of-a-password'")
        connection.execute("drop role someone")
    log = warehouse.log
    for line in (
        "AUDIT: SESSION,1,1,DDL,CREATE TABLE,TABLE,public.audited",
        "WRITE,INSERT,TABLE,public.audited",
        "READ,SELECT,TABLE,public.audited",
        "ROLE,CREATE ROLE",
        "ERROR:  permission denied for table pg_authid",
        "STATEMENT:  select * from pg_authid",
    ):
        assert line in log, line
    assert "4711" not in log
    assert "canary-of-a-password" not in log + warehouse.psql("select query from pg_stat_statements")


def test_no_password_is_in_the_log_the_settings_or_the_statistics(warehouse: Server) -> None:
    told = warehouse.log + docker("inspect", warehouse.name).stdout + warehouse.psql("table pg_stat_statements")
    assert len(told) > 1000
    for login in ("superuser", "revops"):
        assert warehouse.password(login) not in told
    assert "SCRAM-SHA-256$" not in told


def test_settings_are_those_of_a_server_that_outlives_its_clients(warehouse: Server) -> None:
    wanted = {
        "ssl_min_protocol_version": "TLSv1.2",
        "client_connection_check_interval": "5s",
        "tcp_keepalives_idle": "60",
        "log_error_verbosity": "terse",
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
        "pgaudit.log": "all,-misc",
        "pg_stat_statements.track_utility": "off",
        "unix_socket_directories": "",
        "data_checksums": "on",
        "fsync": "on",
        # A quarter of the container's memory.
        "shared_buffers": "256MB",
    }
    assert {name: warehouse.psql(f"show {name}") for name in wanted} == wanted


def test_a_second_container_does_not_touch_the_volume(warehouse: Server) -> None:
    name = f"{warehouse.name}-second"
    try:
        warehouse.start(name=name)
        assert docker("wait", name, timeout=60).stdout.strip() == "1"
        assert "another container uses the volume" in docker("logs", name).stderr
    finally:
        docker("rm", "--force", name)
    psycopg.connect(warehouse.conninfo("revops", "revops_core")).close()


def test_data_and_a_renewed_password_outlive_kill_and_restart(new_server: Callable[[str], Server]) -> None:
    server = new_server("warehouse")
    server.start()
    server.wait()
    with psycopg.connect(server.conninfo("revops", "revops_core")) as connection:
        connection.execute("create table kept as select generate_series(1, 1000) as id")
    docker("kill", server.name)
    old = server.password("revops")
    (server.secrets / "warehouse" / "revops_password").unlink()
    assert secrets.main([str(server.secrets), "--demo", "--name", "warehouse=db.example.com"]) == 0
    docker("start", server.name)
    server.wait()
    with psycopg.connect(server.conninfo("revops", "revops_core", host="db.example.com", hostaddr="127.0.0.1")) as new:
        assert new.execute("select count(*) from kept").fetchone() == (1000,)
    assert "password authentication failed" in refusal(server.conninfo("revops", "revops_core", password=old))


@pytest.mark.parametrize("stage", ["creating the data directory", "listening on Unix socket", "shutting down"])
def test_a_first_start_that_is_killed_is_done_again(new_server: Callable[[str], Server], stage: str) -> None:
    server = new_server("samples")
    server.start()
    deadline = time.monotonic() + READY_S
    while stage not in server.log:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.02)
    docker("kill", server.name)
    docker("start", server.name)
    server.wait()
    for login, database in (("odoo_reader", "odoo"), ("ace_reader", "c303_prod_apn_01")):
        psycopg.connect(server.conninfo(login, database)).close()


def test_sample_readers_read_what_owners_make_and_no_more(new_server: Callable[[str], Server]) -> None:
    server = new_server("samples")
    server.start()
    server.wait()
    for owner, reader, database in (("odoo", "odoo_reader", "odoo"), ("ace", "ace_reader", "c303_prod_apn_01")):
        with psycopg.connect(server.conninfo(owner, database)) as connection:
            connection.execute("create table deal as select 1 as id")
        with psycopg.connect(server.conninfo(reader, database), autocommit=True) as connection:
            assert connection.execute("select id from deal").fetchall() == [(1,)]
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                connection.execute("insert into deal values (2)")
            connection.execute("set default_transaction_read_only = off")
            for statement in (
                "insert into deal values (2)",
                "create table mine (id int)",
                "create temp table t (id int)",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)
    assert "permission denied for database" in refusal(server.conninfo("ace_reader", "odoo"))


def test_airflows_database_is_airflows(new_server: Callable[[str], Server]) -> None:
    server = new_server("metadata")
    server.start()
    server.wait()
    with psycopg.connect(server.conninfo("airflow", "airflow")) as connection:
        connection.execute("create table mine (id int)")
        owned = connection.execute("select pg_get_userbyid(datdba) from pg_database where datname = 'airflow'")
        assert owned.fetchone() == ("airflow",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda folder: (folder / "revops_password").unlink(),
            r"revops_password is missing. Remedy: run `make secrets`",
        ),
        (lambda folder: (folder / "server.key").unlink(), r"server.key is missing"),
        (lambda folder: (folder / "revops_password").write_text(""), r"revops_password is empty"),
        (lambda folder: os.chown(folder / "server.key", 4242, 0), r"belongs to account 4242.*REVOPS_UID"),
    ],
)
def test_a_secret_that_is_missing_or_closed_is_told(
    new_server: Callable[[str], Server], change: Callable[[Path], None], said: str
) -> None:
    server = new_server("warehouse")
    with contextlib.suppress(PermissionError):  # only root gives files away
        change(server.secrets / "warehouse")
        server.start()
        assert docker("wait", server.name, timeout=READY_S).stdout.strip() == "1"
        assert re.search(said, server.log)
        return
    pytest.skip("only root gives files away")


def test_a_server_of_no_known_use_says_which_there_are(postgres: str) -> None:
    done = docker("run", "--rm", postgres, check=False)
    assert done.returncode == 1
    assert "Remedy: set it to warehouse, metadata or samples" in done.stderr
