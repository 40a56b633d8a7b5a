"""What the Compose stack's own programs do in a database: heartbeats read, sample sources made once."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from revops.compose import health, samples

pytestmark = pytest.mark.db


def enter_conninfo(secrets: Path, database: str) -> None:
    parameters = psycopg.conninfo.conninfo_to_dict(database)
    query = "&".join(f"{name}={parameters[name]}" for name in ("sslmode", "sslrootcert", "channel_binding"))
    login = f"{parameters['user']}:{parameters['password']}@{parameters['host']}:{parameters['port']}"
    (secrets / "sql_alchemy_conn").write_text(f"postgresql+psycopg2://{login}/{parameters['dbname']}?{query}")


@pytest.fixture
def jobs(
    empty_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str, float], None]:
    """A function that enters a job of this machine, or of another, whose last heartbeat is so old."""
    database = empty_database()
    enter_conninfo(tmp_path, database)
    monkeypatch.setattr(health, "SECRETS", tmp_path)
    with psycopg.connect(database) as connection:
        connection.execute(
            "create table job (job_type text, hostname text, state text, latest_heartbeat timestamptz default now())"
        )

    def enter(state: str, hostname: str, age: float) -> None:
        with psycopg.connect(database) as connection:
            connection.execute(
                "insert into job values ('TriggererJob', %s, %s, now() - make_interval(secs => %s))",
                (hostname, state, age),
            )

    return enter


def test_a_job_is_healthy_by_its_own_heartbeat(jobs: Callable[[str, str, float], None]) -> None:
    here = health._hostname()
    assert here
    with pytest.raises(health.UnhealthyError, match="no TriggererJob runs here yet"):
        health.check_job("TriggererJob")
    jobs("running", "another", 1)
    jobs("failed", here, 1)
    with pytest.raises(health.UnhealthyError, match="no TriggererJob runs here yet"):
        health.check_job("TriggererJob")
    jobs("running", here, health.OLDEST_BEAT_S + 5)
    with pytest.raises(health.UnhealthyError, match="last sign of life 65 s ago"):
        health.check_job("TriggererJob")
    jobs("running", here, 2)
    assert health.check_job("TriggererJob") == "last sign of life 2 s ago"
    with pytest.raises(health.UnhealthyError, match="no DagProcessorJob"):
        health.check_job("DagProcessorJob")


def test_a_sign_of_life_from_before_the_start_is_none(
    jobs: Callable[[str, str, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed container starts again under its name; what it had entered is seconds old."""
    jobs("running", health._hostname(), 4)
    monkeypatch.setattr(health, "_age_s", lambda: 2.0)
    with pytest.raises(health.UnhealthyError, match="no TriggererJob runs here yet"):
        health.check_job("TriggererJob")
    jobs("running", health._hostname(), 1)
    assert health.check_job("TriggererJob") == "last sign of life 1 s ago"


@pytest.fixture
def ill_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "ill-since"
    monkeypatch.setattr(health, "ILL_SINCE", path)
    return path


def ask(part: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["health", part])
    return health.main()


@pytest.mark.usefixtures("jobs")
@pytest.mark.parametrize("part", ["triggerer", "api-server"])
def test_a_part_is_not_blamed_for_its_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ill_since: Path, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    """It is unhealthy, and is not ended."""
    monkeypatch.setattr(health, "API_SERVER", "http://127.0.0.1:1/health")
    (tmp_path / "sql_alchemy_conn").write_text("postgresql+psycopg2://a:b@127.0.0.1:1/c")
    assert ask(part, monkeypatch) == 1
    assert "the metadata database does not answer" in capsys.readouterr().out
    assert not ill_since.exists()


@pytest.mark.usefixtures("jobs")
@pytest.mark.parametrize("part", ["triggerer", "api-server"])
def test_a_database_that_is_being_restored_is_away(
    empty_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ill_since: Path, part: str
) -> None:
    """It lets everybody in, and has no tables yet."""
    monkeypatch.setattr(health, "API_SERVER", "http://127.0.0.1:1/health")
    enter_conninfo(tmp_path, empty_database())
    assert ask(part, monkeypatch) == 1
    assert not ill_since.exists()


@pytest.mark.usefixtures("jobs")
def test_an_api_server_that_does_not_answer_beside_its_database_is_ill(
    monkeypatch: pytest.MonkeyPatch, ill_since: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(health, "API_SERVER", "http://127.0.0.1:1/health")
    assert ask("api-server", monkeypatch) == 1
    assert "refused" in capsys.readouterr().out
    assert ill_since.exists()


def test_the_name_is_the_one_under_which_airflow_enters_jobs() -> None:
    from airflow.utils.net import getfqdn

    assert health._hostname() == getfqdn()
    assert socket.gethostname()


@pytest.fixture
def sources(empty_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Two empty databases in place of the container's."""
    found = {name: empty_database() for name in samples.SOURCES}
    monkeypatch.setattr(samples, "_connect", lambda name: psycopg.connect(found[name]))
    monkeypatch.setattr(samples, "TRUTH", tmp_path / "truth.csv")
    monkeypatch.setenv("REVOPS_SAMPLE_SCALE", "0.02")
    return found


def count(conninfo: str, table: str) -> int:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(f"select count(*) from {table}".encode()).fetchone()
        return int(row[0]) if row else 0


def test_sample_sources_are_made_once(sources: dict[str, str]) -> None:
    assert samples.main() == 0
    leads = count(sources["odoo"], "crm_lead")
    assert leads > 0
    with psycopg.connect(sources["odoo"]) as connection:
        connection.execute("delete from crm_tag_rel")
    assert samples.main() == 0
    assert count(sources["odoo"], "crm_tag_rel") == 0
    assert count(sources["odoo"], "crm_lead") == leads


def test_what_a_kill_left_half_done_is_made_anew(sources: dict[str, str]) -> None:
    assert samples.main() == 0
    opportunities = count(sources["c303_prod_apn_01"], "apn_opportunity")
    # As if the process had died between the two commits.
    with samples._connect("c303_prod_apn_01") as connection:
        samples._empty(connection)
    assert samples.main() == 0
    assert count(sources["c303_prod_apn_01"], "apn_opportunity") == opportunities
