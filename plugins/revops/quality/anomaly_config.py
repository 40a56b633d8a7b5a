"""What is measured, and when a number is unlike its history: include/anomaly.yaml as a typed, validated object."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from revops.sources import INCLUDE

ANOMALY_FILE = INCLUDE / "anomaly.yaml"

MetricName = Literal[
    "rows",
    "rows_gone",
    "inserted",
    "updated",
    "deleted",
    "data_age_s",
    "load_age_s",
    "null_share",
    "unusable_share",
    "distinct_values",
    "mean",
    "p05",
    "p50",
    "p95",
]
# The least history that says anything; the file may ask for more.
LEAST_RUNS = 7
Limit = Annotated[float, Field(gt=0, le=1000)]
Part = Annotated[float, Field(ge=0, le=1)]


class AnomalyFileError(ValueError):
    """include/anomaly.yaml is malformed; the message names file, field and fault."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Strict):
    """How one metric is judged; include/anomaly.yaml explains every field.

    The floors keep the usual spread above 0, where a history never moved.
    """

    scale: Literal["linear", "log"] = "linear"
    offset: Annotated[float, Field(gt=0)] = 1.0
    sides: Literal["both", "high", "low"] = "both"
    floor: Annotated[float, Field(gt=0)]
    relative_floor: Part = 0.0
    still_floor: Part = 0.0
    row_floor: Annotated[float, Field(ge=0)] = 0.0
    steps: bool = False
    warning: Limit | None = None
    critical: Limit | None = None

    @model_validator(mode="after")
    def _offset_belongs_to_log(self) -> Self:
        if self.scale == "linear" and "offset" in self.model_fields_set:
            raise ValueError("`offset` belongs to scale log")
        return self


class AnomalyConfig(_Strict):
    """include/anomaly.yaml, which explains every field."""

    sample_rows: Annotated[int, Field(ge=1000, le=10_000_000)]
    least_values: Annotated[int, Field(ge=2)]
    history_runs: Annotated[int, Field(ge=LEAST_RUNS, le=1000)]
    history_days: Annotated[int, Field(ge=1, le=3660)]
    least_runs: Annotated[int, Field(ge=LEAST_RUNS)]
    least_same_weekday: Annotated[int, Field(ge=4)]
    warning: Limit
    critical: Limit
    freshness: tuple[str, ...] = ()
    null_share_only: tuple[str, ...] = ()
    not_measured: tuple[str, ...] = ()
    not_judged: tuple[str, ...] = ()
    metrics: dict[MetricName, Rule]

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> Self:
        if self.least_runs > self.history_runs:
            raise ValueError("`least_runs` is more than `history_runs`: nothing would ever be judged")
        for name in (None, *self.metrics):
            warning, critical = self.limits(name)
            if warning >= critical:
                where = f"metrics.{name}: " if name else ""
                raise ValueError(f"{where}`warning` ({warning:g}) must be below `critical` ({critical:g})")
        return self

    def limits(self, metric: MetricName | None) -> tuple[float, float]:
        """Return from which scores on a value of a metric is a warning, and critical."""
        rule = self.metrics.get(metric) if metric else None
        warning = rule.warning if rule and rule.warning else self.warning
        critical = rule.critical if rule and rule.critical else self.critical
        return warning, critical

    def rule(self, dataset: str, metric: MetricName, column: str | None) -> Rule | None:
        """Return how a number is judged; None when it is only kept."""
        number = ".".join(part for part in (dataset, column, metric) if part)
        return None if fits(number, self.not_judged) else self.metrics.get(metric)

    def freshness_column(self, table: str, columns: list[str]) -> str | None:
        """Return which of a table's columns tells when its rows were last changed; None when none does."""
        for pattern in self.freshness:
            for column in columns:
                if fits(f"{table}.{column}", (pattern,)):
                    return column
        return None


def fits(name: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether a name fits one of the patterns, with * and ? as wildcards, any case."""
    return any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


class _NoDoubledKeys(yaml.SafeLoader):
    """YAML would take the last of two equal keys and drop the other in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise yaml.constructor.ConstructorError(None, None, f"{doubled[0]} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_anomaly_config(path: Path = ANOMALY_FILE) -> AnomalyConfig:
    """Read and validate include/anomaly.yaml; raises AnomalyFileError with every fault and its field."""
    try:
        content = yaml.load(path.read_text(), Loader=_NoDoubledKeys)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise AnomalyFileError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AnomalyFileError(f"{path}: is not UTF-8: {error.reason} at byte {error.start}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise AnomalyFileError(f"{path}{line}: {getattr(error, 'problem', error)}") from error
    if not isinstance(content, dict):
        raise AnomalyFileError(f"{path}: must be a mapping with sample_rows, warning, critical, metrics and so on")
    try:
        return AnomalyConfig.model_validate(content)
    except ValidationError as error:
        faults = [
            f"{path}: {'.'.join(str(part) for part in fault['loc']) or '(whole file)'}: "
            f"{fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        ]
        raise AnomalyFileError("\n".join(faults)) from error
