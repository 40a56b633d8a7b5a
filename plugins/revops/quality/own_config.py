"""What the quality step's own checks need to know: include/soda/own.yaml as a typed, validated object."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from revops.quality.checks import CheckFileError

Column = Annotated[str, Field(min_length=1, max_length=63)]
SourceName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Hours = Annotated[float, Field(gt=0, le=8760)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Accounting(_Strict):
    """A table of core that has one row for each live row of a raw table; key: what is source_id in core."""

    source: SourceName
    core: Column
    raw: Column
    key: Column
    raw_where: str | None = None
    core_where: str | None = None


class Total(_Strict):
    """An amount that must sum up to the same in raw and core for every month."""

    source: SourceName
    core: Column
    core_amount: Column
    core_date: Column
    raw: Column
    raw_amount: Column
    raw_date: Column
    key: Column


class OwnChecks(_Strict):
    """The content of include/soda/own.yaml."""

    fresh_within_h: Hours
    fresh_within_h_of: dict[Column, Hours] = Field(default_factory=dict)
    accounting: tuple[Accounting, ...] = ()
    totals: tuple[Total, ...] = ()

    def limit_h(self, table: str) -> float:
        """Return after how many hours a table is too old."""
        return self.fresh_within_h_of.get(table, self.fresh_within_h)


def read_own_checks(path: Path) -> OwnChecks:
    """Read the file. Raises CheckFileError naming every fault."""
    try:
        return OwnChecks.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise CheckFileError(f"{path}: can't be read: {error}") from error
    except ValidationError as error:
        faults = [f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise CheckFileError("\n".join(faults)) from error
