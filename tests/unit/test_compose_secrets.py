"""Secrets of the Compose stack: made once, kept, completed after any crash, closed to others, and never shown."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from revops.certificates import Authority, certificate_to_pem, key_from_pem, names_of
from revops.compose import files as files_module
from revops.compose import secrets
from revops.compose.files import IMAGE_ACCOUNT, SecretFiles, SecretsError
from revops.compose.services import make_secrets
from revops.keyring import DATA_KEYS, INDEX_KEY, Keyring, new_key
from revops.setting_transport import CONFIG_PATH, TRANSPORT

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
# What the contract with docker-compose.yaml names.
EXPECTED = {
    "ca": {"ca.crt", "ca.key"},
    "warehouse": {"server.crt", "server.key", "ca.crt", "superuser_password", "revops_password"},
    "metadata": {"server.crt", "server.key", "ca.crt", "superuser_password", "airflow_password"},
    "samples": {
        *("server.crt", "server.key", "ca.crt", "superuser_password"),
        *("odoo_password", "ace_password", "odoo_reader_password", "ace_reader_password"),
    },
    "redis": {"server.crt", "server.key", "ca.crt", "password", "redis.conf"},
    "airflow": {
        *("ca.crt", "fernet_key", "jwt_secret", "api_secret_key", "web_admin_password", "data_keys", "index_key"),
        *("sql_alchemy_conn", "sql_alchemy_conn_async", "celery_broker_url", "celery_result_backend"),
        "connections.json",
    },
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


@pytest.fixture
def make(root: Path) -> Callable[..., list[str]]:
    def run(given: dict[str, str] | None = None, **options: object) -> list[str]:
        defaults = {"names": {}, "demo": True, "mail_sink": False, "host_root": Path("/")}
        with SecretFiles.opened(root) as files:
            make_secrets(files, given or {}, **{**defaults, **options})
            return files.made

    return run


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_every_service_finds_its_files_closed_to_all_but_their_owner(
    make: Callable[..., list[str]], root: Path
) -> None:
    make()
    assert {folder.name: {path.name for path in folder.iterdir()} for folder in root.iterdir() if folder.is_dir()} == (
        EXPECTED
    )
    owner = IMAGE_ACCOUNT if os.geteuid() == 0 else os.geteuid()
    for path in (root, *root.rglob("*")):
        status = path.stat()
        assert stat.S_IMODE(status.st_mode) == (0o700 if path.is_dir() else 0o600), path
        assert status.st_uid == owner, path


def test_a_second_run_changes_nothing(make: Callable[..., list[str]], root: Path) -> None:
    make()
    before = contents(root)
    assert make() == []
    assert contents(root) == before


def test_no_two_passwords_are_the_same(make: Callable[..., list[str]], root: Path) -> None:
    make()
    passwords = [path.read_text() for path in root.rglob("*password")]
    assert len(set(passwords)) == len(passwords) == 11
    assert min(map(len, passwords)) >= 24


def test_a_crash_at_any_write_is_recovered_from_and_replaces_nothing(
    make: Callable[..., list[str]], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write breaks off before the file is in its place, at every write in turn."""
    replace, seen = Path.replace, {}
    for crash_at in range(1, 200):
        count = 0

        def breaks_off(self: Path, target: Path, crash_at: int = crash_at) -> Path:
            nonlocal count
            count += 1
            # Two writes succeed after the point that the run before has reached, the third is the crash.
            if count == 3:
                raise KeyboardInterrupt
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", breaks_off)
        try:
            made = make()
        except KeyboardInterrupt:
            found = contents(root)
            assert {name: found[name] for name in seen} == seen
            seen = {name: data for name, data in found.items() if not name.endswith((".partial", "keys-made"))}
            continue
        assert len(made) < 3
        break
    monkeypatch.undo()
    assert crash_at > 10
    assert make() == []
    assert not list(root.rglob("*.partial"))
    assert {path.name for path in (root / "airflow").iterdir()} == EXPECTED["airflow"]


def test_runs_at_once_agree_and_a_killed_one_is_completed(root: Path) -> None:
    command = [sys.executable, "-m", "revops.compose.secrets", str(root), "--demo"]
    environment = {"PYTHONPATH": str(PLUGINS), "PATH": os.defpath}
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(3)
    ]
    while not (root / "warehouse").exists():
        assert processes[0].poll() is None or (root / "warehouse").exists()
        time.sleep(0.001)
    processes[0].send_signal(signal.SIGKILL)
    ended = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes[1:]] == [0, 0], ended
    report = "".join(out for out, _ in ended[1:])
    assert report.count("connections.json") <= 1
    found = contents(root)
    shown = "".join(out + err for out, err in ended)
    for name, data in found.items():
        if name.endswith(("password", "secret", "_key", "_keys", "conn", "url")):
            assert data.decode() not in shown, name
    uri = (root / "airflow" / "sql_alchemy_conn").read_text()
    assert (root / "metadata" / "airflow_password").read_text() in uri


def test_one_process_at_a_time_works_on_the_folder(root: Path) -> None:
    entered = threading.Event()

    def second() -> None:
        with SecretFiles.opened(root):
            entered.set()

    thread = threading.Thread(target=second)
    with SecretFiles.opened(root):
        thread.start()
        assert not entered.wait(0.3)
    assert entered.wait(10)
    thread.join()


def test_derived_files_follow_a_password_that_was_renewed(make: Callable[..., list[str]], root: Path) -> None:
    make()
    old = (root / "warehouse" / "revops_password").read_text()
    (root / "warehouse" / "revops_password").unlink()
    assert set(make()) == {"warehouse/revops_password", "airflow/connections.json"}
    assert old not in (root / "airflow" / "connections.json").read_text()


def test_a_lost_key_is_not_replaced_by_one_that_reads_nothing(make: Callable[..., list[str]], root: Path) -> None:
    make()
    for name in ("data_keys", "index_key", "fernet_key"):
        kept = (root / "airflow" / name).read_bytes()
        (root / "airflow" / name).unlink()
        with pytest.raises(SecretsError, match=rf"{name} was made before and is gone.*Remedy"):
            make()
        assert not (root / "airflow" / name).exists()
        descriptor = os.open(root / "airflow" / name, os.O_CREAT | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(kept)
    assert make() == []


def test_an_empty_file_is_told(make: Callable[..., list[str]], root: Path) -> None:
    make()
    (root / "airflow" / "jwt_secret").write_text("\n")
    with pytest.raises(SecretsError, match="jwt_secret is empty"):
        make()


@pytest.mark.parametrize("name", ["", "airflow", "airflow/data_keys"])
def test_a_folder_that_others_may_read_is_refused(make: Callable[..., list[str]], root: Path, name: str) -> None:
    make()
    path = root / name
    path.chmod(path.stat().st_mode | 0o040)
    with pytest.raises(SecretsError, match=r"may be read or entered by others.*chmod -R go-rwx"):
        make()


def test_a_folder_of_somebody_else_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir(mode=0o700)
    monkeypatch.setattr(files_module.os, "geteuid", lambda: root.stat().st_uid + 4711)
    with pytest.raises(SecretsError, match="belongs to account"), SecretFiles.opened(root):
        pass


def test_root_leaves_a_folder_with_the_account_that_has_it(make: Callable[..., list[str]], root: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root works on the folder of another account")
    root.mkdir(mode=0o700)
    os.chown(root, 1234, 0)
    make()
    assert {path.stat().st_uid for path in (root, *root.rglob("*"))} == {1234}


# --- Certificates ----------------------------------------------------------------------------------------------------


def certificate(root: Path, service: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((root / service / "server.crt").read_bytes())


def test_certificates_name_the_service_and_the_loopback(make: Callable[..., list[str]], root: Path) -> None:
    make()
    for service in ("warehouse", "metadata", "samples", "redis"):
        assert names_of(certificate(root, service)) == [service, "localhost", "127.0.0.1"]


def test_a_further_name_reissues_one_certificate_and_stays(make: Callable[..., list[str]], root: Path) -> None:
    make()
    key = (root / "warehouse" / "server.key").read_bytes()
    assert make(names={"warehouse": ["db.example.com"]}) == ["warehouse/server.crt"]
    assert make() == []
    assert make(names={"warehouse": ["10.1.2.3"]}) == ["warehouse/server.crt"]
    assert names_of(certificate(root, "warehouse")) == [
        *("warehouse", "localhost", "127.0.0.1", "10.1.2.3", "db.example.com")
    ]
    assert (root / "warehouse" / "server.key").read_bytes() == key


@pytest.mark.parametrize(("days", "renewed"), [(59, True), (62, False)])
def test_a_certificate_that_ends_soon_is_reissued_with_the_kept_keys(
    make: Callable[..., list[str]], root: Path, days: int, renewed: bool
) -> None:
    make()
    ca_key = key_from_pem((root / "ca" / "ca.key").read_bytes())
    authority = Authority(ca_key, x509.load_pem_x509_certificate((root / "ca" / "ca.crt").read_bytes()))
    key = key_from_pem((root / "redis" / "server.key").read_bytes())
    names = ["redis", "localhost", "127.0.0.1"]
    ending = authority.issue(key.public_key(), names, lifetime=dt.timedelta(days=days))
    (root / "redis" / "server.crt").write_bytes(certificate_to_pem(ending))
    assert make() == (["redis/server.crt"] if renewed else [])
    assert certificate(root, "redis").public_key() == key.public_key()
    assert authority.has_signed(certificate(root, "redis"))


def test_certificates_of_another_ca_or_key_are_reissued(make: Callable[..., list[str]], root: Path) -> None:
    make()
    (root / "warehouse" / "server.key").unlink()
    assert make() == ["warehouse/server.key", "warehouse/server.crt"]
    (root / "ca" / "ca.key").unlink()
    made = make()
    assert {"ca/ca.key", "ca/ca.crt", "warehouse/server.crt", "redis/server.crt", "airflow/ca.crt"} <= set(made)
    assert "warehouse/server.key" not in made


@pytest.mark.parametrize("names", [{"airflow": ["x"]}, {"warehouse": ["two words"]}, {"warehouse": ["bücher.example"]}])
def test_a_name_that_no_server_can_have_is_refused(make: Callable[..., list[str]], names: dict[str, list[str]]) -> None:
    with pytest.raises(SecretsError, match="Remedy"):
        make(names=names)


# --- Encryption of columns -------------------------------------------------------------------------------------------


def test_keys_of_encrypted_columns_are_valid(make: Callable[..., list[str]], root: Path) -> None:
    make()
    Keyring.parse((root / "airflow" / "data_keys").read_text(), (root / "airflow" / "index_key").read_text())


def test_keys_that_the_user_has_are_taken_and_a_rotated_file_stays(make: Callable[..., list[str]], root: Path) -> None:
    given = {DATA_KEYS: f"1:{new_key()}", INDEX_KEY: new_key()}
    make(given)
    assert (root / "airflow" / "data_keys").read_text() == given[DATA_KEYS]
    assert (root / "airflow" / "index_key").read_text() == given[INDEX_KEY]
    rotated = f"2:{new_key()},{given[DATA_KEYS]}"
    (root / "airflow" / "data_keys").write_text(rotated)
    assert make(given) == []
    assert (root / "airflow" / "data_keys").read_text() == rotated


@pytest.mark.parametrize("variable", [DATA_KEYS, INDEX_KEY])
def test_another_key_in_env_replaces_nothing(make: Callable[..., list[str]], root: Path, variable: str) -> None:
    make()
    before, key = contents(root), new_key()
    with pytest.raises(SecretsError, match=f"{variable} in .env is not what .* holds") as refused:
        make({variable: f"1:{key}" if variable == DATA_KEYS else key})
    assert key not in str(refused.value)
    assert contents(root) == before


def test_a_malformed_key_is_named_and_not_shown(make: Callable[..., list[str]]) -> None:
    with pytest.raises(SecretsError, match=DATA_KEYS) as refused:
        make({DATA_KEYS: "1:hunter2", INDEX_KEY: "hunter3"})
    assert INDEX_KEY in str(refused.value)
    assert "hunter" not in str(refused.value)


# --- Lineage ---------------------------------------------------------------------------------------------------------


def test_a_key_of_the_lineage_server_may_not_stand_in_env(make: Callable[..., list[str]], root: Path) -> None:
    """Compose would put it into the containers' environment, before init could refuse it."""
    transport = {"type": "http", "url": "https://h", "auth": {"type": "api_key", "apiKey": "hunter2"}}
    with pytest.raises(SecretsError, match=f"{TRANSPORT} holds a key.*secrets/airflow/openlineage.yml") as refused:
        make({TRANSPORT: json.dumps(transport)})
    assert "hunter2" not in str(refused.value)
    assert not (root / "airflow").exists()


def test_the_file_with_the_key_is_there_where_env_names_it(root: Path) -> None:
    file = root / "airflow" / "openlineage.yml"

    def notes(given: dict[str, str]) -> list[str]:
        with SecretFiles.opened(root) as files:
            return make_secrets(files, given, names={}, demo=True, mail_sink=False, host_root=Path("/"))

    with pytest.raises(SecretsError, match=rf"{CONFIG_PATH} is set in .env, and {file}.* is not there"):
        notes({CONFIG_PATH: str(file)})
    assert notes({}) == []
    descriptor = os.open(file, os.O_CREAT | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as written:
        written.write("transport: {type: console}\n")
    assert notes({CONFIG_PATH: str(file)}) == []
    (note,) = notes({})
    assert "nobody reads secrets/airflow/openlineage.yml" in note
    assert file.read_text() == "transport: {type: console}\n"


# --- The command -----------------------------------------------------------------------------------------------------


def test_the_command_reports_what_it_made_by_folder_and_no_secret(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_text("AIRFLOW_CONN_ODOO_SOURCE=postgresql://r:hunter2@odoo.example.com/odoo\n")
    arguments = [str(root), "--env-file", str(tmp_path / ".env")]
    assert secrets.main(arguments) == 0
    said = capsys.readouterr().out
    assert "secrets/warehouse: wrote ca.crt, server.key, server.crt, superuser_password, revops_password\n" in said
    assert "ace_source: not set. Set AIRFLOW_CONN_ACE_SOURCE in .env" in said
    assert "hunter2" not in said
    assert secrets.main(arguments) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_the_command_names_files_as_the_host_has_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen = tmp_path / "host"
    (seen / "srv" / "revops").mkdir(parents=True)
    (seen / "srv" / "revops" / "secrets").mkdir(mode=0o755)
    assert secrets.main(["/srv/revops/secrets", "--host-root", str(seen)]) == 1
    assert capsys.readouterr().err.startswith("error: /srv/revops/secrets may be read or entered by others")


def test_what_the_file_holds_is_airflows_and_ours(make: Callable[..., list[str]], root: Path) -> None:
    make()
    assert json.loads((root / "airflow" / "connections.json").read_text()).keys() == {
        *("odoo_source", "ace_source", "revops_core", "smtp_default")
    }
