"""Lineage as OpenLineage events: the datasets of a task, their columns and row counts, for Airflow's own listener.

Nothing here is called unless OpenLineage is switched on by configuration (docs/lineage.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import conninfo_to_dict

from revops.lineage.edges import Edge
from revops.lineage.origin import ROWS

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

DEFAULT_PORT = 5432


@dataclass(frozen=True)
class Database:
    """A database as OpenLineage names it: `postgres://host:port` and, before schema and table, its name."""

    namespace: str
    name: str

    @classmethod
    def of(cls, conninfo: str) -> Database:
        """Return the database of a libpq connection string; login and password are left out."""
        parameters = conninfo_to_dict(conninfo)
        host, port = parameters.get("host") or "localhost", parameters.get("port") or DEFAULT_PORT
        return cls(f"postgres://{host}:{port}", str(parameters.get("dbname")))

    def dataset(self, relation: str) -> dict[str, Any]:
        """Return namespace and name of a relation such as core.contact."""
        return {"namespace": self.namespace, "name": f"{self.name}.{relation}"}


@dataclass(frozen=True)
class Copied:
    """One table that a task brought from a source to raw. written: rows inserted, updated or marked deleted."""

    relation: str
    raw_relation: str
    written: int
    columns: tuple[str, ...] = ()


def openlineage_facets(
    edges: Collection[Edge], *, target: str, warehouse: Database, written: int
) -> OperatorLineage[Any, Any]:
    """Return what a transform read and wrote, with column lineage and the rows that it wrote.

    Conditions of rows (edges to `*`) are those of the whole dataset; which rows an input has (edges from `*`) has no
    place in the format but the list of inputs.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import InputDataset, OutputDataset
    from openlineage.client.facet_v2 import column_lineage_dataset, output_statistics_output_dataset

    by_column: dict[str, list[Any]] = {}
    for edge in sorted(edges):
        if edge.input_column != ROWS:
            by_column.setdefault(edge.output_column, []).append(_field(edge, warehouse))
    lineage = column_lineage_dataset.ColumnLineageDatasetFacet(
        fields={
            column: column_lineage_dataset.Fields(inputFields=fields)
            for column, fields in by_column.items()
            if column != ROWS
        },
        dataset=by_column.get(ROWS, []),
    )
    return OperatorLineage(
        inputs=[
            InputDataset(**warehouse.dataset(relation)) for relation in sorted({edge.input_relation for edge in edges})
        ],
        outputs=[
            OutputDataset(
                **warehouse.dataset(target),
                facets={"columnLineage": lineage},
                outputFacets={
                    "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                        rowCount=written
                    )
                },
            )
        ],
    )


def extract_facets(copied: Iterable[Copied], *, source: Database, warehouse: Database) -> OperatorLineage[Any, Any]:
    """Return what an extract read and wrote; each column of raw is the source's column of the same name."""
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import InputDataset, OutputDataset
    from openlineage.client.facet_v2 import column_lineage_dataset, output_statistics_output_dataset

    found: OperatorLineage[Any, Any] = OperatorLineage()
    for table in copied:
        read = source.dataset(table.relation)
        fields = {
            column: column_lineage_dataset.Fields(
                inputFields=[
                    column_lineage_dataset.InputField(
                        **read,
                        field=column,
                        transformations=[column_lineage_dataset.Transformation(type="DIRECT", subtype="IDENTITY")],
                    )
                ]
            )
            for column in table.columns
        }
        found.inputs.append(InputDataset(**read))
        found.outputs.append(
            OutputDataset(
                **warehouse.dataset(table.raw_relation),
                facets={"columnLineage": column_lineage_dataset.ColumnLineageDatasetFacet(fields=fields)}
                if fields
                else {},
                outputFacets={
                    "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                        rowCount=table.written
                    )
                },
            )
        )
    return found


def _field(edge: Edge, warehouse: Database) -> Any:
    from openlineage.client.facet_v2 import column_lineage_dataset

    return column_lineage_dataset.InputField(
        **warehouse.dataset(edge.input_relation),
        field=edge.input_column,
        transformations=[column_lineage_dataset.Transformation(type="DIRECT" if edge.kind == "value" else "INDIRECT")],
    )
