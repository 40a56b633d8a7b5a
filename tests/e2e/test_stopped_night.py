"""A night that a check on raw stops: core is kept, the other source goes on, and one mail says why."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.e2e.stopped import Mails, group_states, html_body, read_core, task_states
from tests.stack import Commands

pytestmark = [pytest.mark.e2e, pytest.mark.long]


@pytest.fixture
def wrong_type(commands: Commands, second_night: object) -> Iterator[str]:
    """A lead of a type that Odoo does not know, as a script past its ORM leaves it; its id."""
    ((key, before),) = commands.query("odoo", "select id, type from crm_lead order by id desc limit 1")
    with psycopg.connect(commands.stack.postgres.conninfo("odoo")) as odoo:
        odoo.execute("update crm_lead set type = 'oportunity' where id = %s", (key,))
    yield str(key)
    with psycopg.connect(commands.stack.postgres.conninfo("odoo")) as odoo:
        odoo.execute("update crm_lead set type = %s where id = %s", (before, key))


def test_a_critical_check_on_raw_leaves_core_as_it_was(commands: Commands, wrong_type: str) -> None:
    core, mails = read_core(commands, "odoo"), Mails(commands.stack.mail_folder)
    finished = commands.run("demo")
    assert finished.returncode == 1
    groups = group_states(task_states(commands, "odoo"))
    assert groups["extract"] == {"success"}
    assert groups["check_raw"] == {"failed", "success"}
    assert groups["transform"] == groups["check_core"] == groups["embed"] == {"upstream_failed"}
    assert groups["report"] == {"success"}
    assert set(task_states(commands, "ace").values()) == {"success"}
    assert read_core(commands, "odoo") == core
    (mail,) = mails.wait_for("odoo")
    assert mail["Subject"] == "[revops] odoo: run FAILED (task_failure)"
    body = html_body(mail)
    row = body.split("type is lead or opportunity")[1].split("</tr>")[0]
    assert "raw.odoo_crm_lead" in body
    assert "1 of " in row
    assert wrong_type in row
    assert "core stays as it was before this run" in body
    assert len(list(mail.iter_attachments())) == 2
    assert mails.about("ace") == []
    ((gate,),) = commands.query(
        "revops_core",
        "select gate from ops.quality_run where source = 'odoo' and layer = 'raw' order by quality_run_id desc limit 1",
    )
    assert gate == "shut"
