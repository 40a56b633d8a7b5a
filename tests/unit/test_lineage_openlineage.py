"""OpenLineage facets: what an event says of a transform and of an extract."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values
from openlineage.client.serde import Serde
from openlineage.client.transport import get_default_factory

from revops.lineage.edges import Edge
from revops.lineage.openlineage import Copied, Database, extract_facets, openlineage_facets
from revops.setting_transport import CONFIG_PATH, TRANSPORT, transport_faults
from tests.conftest import ROOT

WAREHOUSE = Database("postgres://warehouse.example:5433", "revops_core")
SOURCE = Database("postgres://odoo.example:5432", "odoo")
MADE = "core.made"
EDGES = (
    Edge("raw.odoo_t", "id", MADE, "source_id", "value"),
    Edge("raw.odoo_t", "b", MADE, "*", "condition"),
    Edge("raw.odoo_u", "x", MADE, "title", "value"),
    Edge("raw.odoo_t", "a", MADE, "title", "value"),
    Edge("raw.odoo_u", "id", MADE, "title", "condition"),
    Edge("core.thing", "*", MADE, "title", "condition"),
)


def as_json(item: Any) -> Any:
    """What is sent, without the addresses of the schemas."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items() if key not in ("_producer", "_schemaURL")}
        return [plain(part) for part in value] if isinstance(value, list) else value

    return plain(json.loads(Serde.to_json(item)))


def field(name: str, column: str, kind: str) -> dict[str, Any]:
    return {
        "namespace": WAREHOUSE.namespace,
        "name": f"revops_core.{name}",
        "field": column,
        "transformations": [{"type": kind}],
    }


def test_a_transform_tells_its_inputs_columns_and_rows() -> None:
    found = openlineage_facets(EDGES, target=MADE, warehouse=WAREHOUSE, written=5)
    assert [as_json(item) for item in found.inputs] == [
        {"namespace": WAREHOUSE.namespace, "name": f"revops_core.{name}", "facets": {}, "inputFacets": {}}
        for name in ("core.thing", "raw.odoo_t", "raw.odoo_u")
    ]
    assert [as_json(item) for item in found.outputs] == [
        {
            "namespace": WAREHOUSE.namespace,
            "name": "revops_core.core.made",
            "facets": {
                "columnLineage": {
                    "fields": {
                        "source_id": {"inputFields": [field("raw.odoo_t", "id", "DIRECT")]},
                        "title": {
                            "inputFields": [
                                field("raw.odoo_t", "a", "DIRECT"),
                                field("raw.odoo_u", "id", "INDIRECT"),
                                field("raw.odoo_u", "x", "DIRECT"),
                            ]
                        },
                    },
                    "dataset": [field("raw.odoo_t", "b", "INDIRECT")],
                }
            },
            "outputFacets": {"outputStatistics": {"rowCount": 5}},
        }
    ]


def test_an_extract_tells_every_table_that_it_copied() -> None:
    copied = [
        Copied("public.crm_lead", "raw.odoo_crm_lead", 3, ("id", "name")),
        Copied("public.crm_stage", "raw.odoo_crm_stage", 0),
    ]
    found = extract_facets(copied, source=SOURCE, warehouse=WAREHOUSE)
    assert [(item.namespace, item.name) for item in found.inputs] == [
        (SOURCE.namespace, "odoo.public.crm_lead"),
        (SOURCE.namespace, "odoo.public.crm_stage"),
    ]
    first, second = (as_json(item) for item in found.outputs)
    assert first == {
        "namespace": WAREHOUSE.namespace,
        "name": "revops_core.raw.odoo_crm_lead",
        "facets": {
            "columnLineage": {
                "fields": {
                    column: {
                        "inputFields": [
                            {
                                "namespace": SOURCE.namespace,
                                "name": "odoo.public.crm_lead",
                                "field": column,
                                "transformations": [{"type": "DIRECT", "subtype": "IDENTITY"}],
                            }
                        ]
                    }
                    for column in ("id", "name")
                },
                "dataset": [],
            }
        },
        "outputFacets": {"outputStatistics": {"rowCount": 3}},
    }
    assert (second["facets"], second["outputFacets"]) == ({}, {"outputStatistics": {"rowCount": 0}})


@pytest.mark.parametrize(
    ("conninfo", "namespace", "name"),
    [
        ("host=db.example port=5433 dbname=core user=u password=p4ss", "postgres://db.example:5433", "core"),
        ("postgresql://u:p4ss@db.example/odoo?sslmode=require", "postgres://db.example:5432", "odoo"),
        ("dbname=odoo", "postgres://localhost:5432", "odoo"),
    ],
)  # fmt: skip
def test_a_database_is_named_without_its_login(conninfo: str, namespace: str, name: str) -> None:
    database = Database.of(conninfo)
    assert database == Database(namespace, name)
    assert "p4ss" not in repr(database)
    assert database.dataset("core.contact") == {"namespace": namespace, "name": f"{name}.core.contact"}


@pytest.fixture
def examples() -> list[dict[str, Any]]:
    """The transports that .env.example shows."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    written = [line.removeprefix("#") for line in lines if line.startswith(f"#{TRANSPORT}=")]
    settings = [dotenv_values(stream=io.StringIO(line), interpolate=False) for line in written]
    return [json.loads(value or "") for setting in settings for value in setting.values()]


def test_the_examples_of_settings_are_transports_without_a_key(examples: list[dict[str, Any]]) -> None:
    assert [get_default_factory().create(config).kind for config in examples] == ["http", "file"]
    assert [list(transport_faults({TRANSPORT: json.dumps(config)})) for config in examples] == [[], []]


def test_the_file_of_events_can_be_written_in_every_container(examples: list[dict[str, Any]]) -> None:
    """Their roots are read-only; what x-airflow mounts, all of them have."""
    volumes = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["x-airflow"]["volumes"]
    writable = [volume.split(":")[1] for volume in volumes if isinstance(volume, str) and volume.count(":") == 1]
    assert str(Path(examples[1]["log_file_path"]).parent) in writable


def test_the_file_that_the_guide_shows_holds_a_transport(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "lineage.md").read_text(), re.DOTALL)
    path = tmp_path / "openlineage.yml"
    path.write_text(shown)
    assert list(transport_faults({CONFIG_PATH: str(path)})) == []
    assert get_default_factory().create(yaml.safe_load(shown)["transport"]).kind == "http"
