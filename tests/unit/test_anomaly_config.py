"""include/anomaly.yaml: complete, explained, and refused with file, field and fault where it is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException

from revops.operators.failure import failing_fast
from revops.quality.anomaly_config import (
    ANOMALY_FILE,
    AnomalyConfig,
    AnomalyFileError,
    MetricName,
    Rule,
    read_anomaly_config,
)

SHIPPED = ANOMALY_FILE.read_text()
KEPT_ONLY = {"rows_gone"}


def write(path: Path, **changes: Any) -> Path:
    content = {**yaml.safe_load(SHIPPED), **changes}
    file = path / "anomaly.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return file


def test_every_metric_is_judged_and_every_field_explained() -> None:
    config = read_anomaly_config()
    assert set(config.metrics) == set(get_args(MetricName)) - KEPT_ONLY
    explained = set(re.findall(r"^#  ? ?([a-z_0-9, ]+?)  ", SHIPPED.replace("#   ", "#  "), re.MULTILINE))
    words = {word for names in explained for word in names.split(", ")}
    assert {*AnomalyConfig.model_fields, *Rule.model_fields, *config.metrics} <= words


def test_the_patterns_choose_columns() -> None:
    config = read_anomaly_config()
    assert config.freshness_column("odoo_crm_lead", ["create_date", "date_closed", "write_date"]) == "write_date"
    assert config.freshness_column("odoo_crm_lead", ["create_date", "date_closed"]) == "create_date"
    assert config.freshness_column("account", ["created_at", "updated_at"]) == "updated_at"
    assert config.freshness_column("ace_apn_opportunity", ["Updated_At", "write_date"]) == "Updated_At"
    assert config.freshness_column("bill_line", ["line_date"]) is None


def test_what_is_not_judged_is_named_by_table_column_and_metric(tmp_path: Path) -> None:
    patterns = ["raw.odoo_crm_lead.*.mean", "core.*.distinct_values", "*.ROWS"]
    config = read_anomaly_config(write(tmp_path, not_judged=patterns))
    judged: list[tuple[str, MetricName, str | None]] = [
        ("raw.odoo_crm_lead", "mean", "probability"),
        ("core.account", "distinct_values", "industry"),
        ("raw.odoo_crm_lead", "rows", None),
        ("raw.odoo_crm_lead", "p50", "probability"),
        ("raw.odoo_res_partner", "mean", "probability"),
        ("raw.odoo_crm_lead", "rows_gone", None),
    ]
    assert [config.rule(*number) is not None for number in judged] == [False, False, False, True, True, False]


def test_a_metric_has_limits_of_its_own(tmp_path: Path) -> None:
    metrics = {"rows": {"floor": 0.1, "warning": 5, "critical": 9}, "mean": {"floor": 1, "critical": 20}}
    config = read_anomaly_config(write(tmp_path, metrics=metrics))
    assert [config.limits(name) for name in ("rows", "mean", "p05", None)] == [(5, 9), (3.5, 20), (3.5, 6), (3.5, 6)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_rows": 10}, "sample_rows: Input should be greater than or equal to 1000"),
        ({"warning": 7}, "`warning` (7) must be below `critical` (6)"),
        (
            {"metrics": {"rows": {"floor": 0.1, "warning": 8}}},
            "metrics.rows: `warning` (8) must be below `critical` (6)",
        ),
        ({"metrics": {"rows": {}}}, "metrics.rows.floor: Field required"),
        ({"metrics": {"rows": {"floor": 0}}}, "metrics.rows.floor: Input should be greater than 0"),
        ({"metrics": {"rows": {"floor": 1, "offset": 5}}}, "metrics.rows: `offset` belongs to scale log"),
        ({"metrics": {"rows": {"floor": 1, "sides": "up"}}}, "metrics.rows.sides: Input should be 'both', 'high' or"),
        ({"metrics": {"row_count": {"floor": 1}}}, "metrics.row_count"),
        ({"least_runs": 6}, "least_runs: Input should be greater than or equal to 7"),
        ({"least_runs": 61}, "`least_runs` is more than `history_runs`"),
        ({"least_same_weekday": 3}, "least_same_weekday: Input should be greater than or equal to 4"),
        ({"history_dayz": 3}, "history_dayz: Extra inputs are not permitted"),
        ({"metrics": None}, "metrics: Field required"),
        ({"freshness": "write_date"}, "freshness: Input should be a valid tuple"),
    ],
)
def test_faults_name_file_and_field(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    file = write(tmp_path, **changes)
    with pytest.raises(AnomalyFileError) as failure:
        read_anomaly_config(file)
    assert message in str(failure.value)
    assert str(file) in str(failure.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SHIPPED + "warning: 4\n", "warning is given twice"),
        (SHIPPED.replace("  mean: {", "  mean: {floor: 1, "), "floor is given twice"),
        ("a: [", "anomaly.yaml:"),
        ("- a\n", "must be a mapping"),
        ("", "must be a mapping"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "anomaly.yaml"
    file.write_text(text)
    with pytest.raises(AnomalyFileError, match=re.escape(message)):
        read_anomaly_config(file)


def test_a_file_that_is_missing_or_not_text_fails_at_once(tmp_path: Path) -> None:
    file = tmp_path / "anomaly.yaml"
    with pytest.raises(AnomalyFileError, match="can't be read: No such file"):
        read_anomaly_config(file)
    file.write_bytes(b"warning: \xff")
    with pytest.raises(AirflowFailException, match="is not UTF-8"), failing_fast():
        read_anomaly_config(file)
