"""deploy/helm and deploy/kubernetes: task pods as the scheduler makes them, and nothing named that does not exist."""

from __future__ import annotations

import copy
import datetime as dt
import json
import os
import pkgutil
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from airflow import settings as airflow_settings
from airflow.configuration import conf
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from kubernetes.client import ApiClient, V1Pod

from revops.compose import init as compose
from revops.keyring import new_key
from revops.kubernetes import init, pods
from revops.operators.embed import EmbedOperator
from revops.settings import Settings, variable_names
from revops.source_dag import source_dag
from tests.conftest import ROOT

HELM = ROOT / "deploy" / "helm"
KUBERNETES = ROOT / "deploy" / "kubernetes"
VALUES: dict[str, Any] = yaml.safe_load((HELM / "values.yaml").read_text())
MANIFESTS = [
    pytest.param(document, id=f"{path.name}:{document['kind']}")
    for path in sorted(KUBERNETES.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
SECRETS = "/run/secrets/airflow/"
GUIDE = (ROOT / "docs" / "kubernetes.md").read_text()
# The chart, unpacked: helm pull apache-airflow/airflow --version 1.22.0 --untar
CHART = os.environ.get("HELM_CHART")


def task_pod(task_id: str, *, hook: bool = True) -> V1Pod:
    """A pod as KubernetesExecutor makes it, from a template with what the values say of all pods."""
    template = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "placeholder", "labels": {"tier": "airflow", "component": "worker"}},
        "spec": {
            "containers": [
                {
                    "name": "base",
                    "env": VALUES["env"],
                    "securityContext": VALUES["securityContexts"]["containers"],
                    "resources": VALUES["workers"]["kubernetes"]["resources"],
                    "volumeMounts": VALUES["volumeMounts"],
                }
            ],
            "securityContext": VALUES["securityContexts"]["pod"],
            "volumes": VALUES["volumes"],
        },
    }
    return PodGenerator.construct_pod(
        dag_id="odoo",
        task_id=task_id,
        pod_id="odoo-embed",
        try_number=1,
        kube_image=f"{VALUES['defaultAirflowRepository']}:{VALUES['defaultAirflowTag']}",
        date=dt.datetime(2026, 11, 23, tzinfo=dt.UTC),
        args=["python", "-m", "airflow.sdk.execution_time.execute_workload"],
        pod_override_object=None,
        base_worker_pod=PodGenerator.deserialize_model_dict(copy.deepcopy(template)),
        namespace="revops",
        scheduler_job_id="1",
        run_id="scheduled__2026-11-23",
        with_mutation_hook=hook,
    )


@pytest.fixture
def _hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's hook as airflowLocalSettings of the values sets it, and the file that the scheduler mounts."""
    local: dict[str, Any] = {}
    exec(VALUES["airflowLocalSettings"], local)
    monkeypatch.setattr(airflow_settings, "pod_mutation_hook", local["pod_mutation_hook"])
    monkeypatch.setattr(
        "airflow.providers.cncf.kubernetes.pod_generator.pod_mutation_hook", local["pod_mutation_hook"], raising=False
    )
    monkeypatch.setattr(pods, "EMBEDDING_POD", HELM / "embedding-pod.yaml")


def environment_of(pod: V1Pod) -> dict[str, str]:
    names = [variable.name for variable in pod.spec.containers[0].env]
    assert len(names) == len(set(names))
    return {variable.name: variable.value for variable in pod.spec.containers[0].env}


@pytest.mark.usefixtures("_hook")
@pytest.mark.parametrize("task_id", ["embed.model", "embed.encode"])
def test_a_pod_that_runs_the_encoder_has_its_image_a_gpu_and_the_model(task_id: str) -> None:
    pod = task_pod(task_id)
    (container,) = pod.spec.containers
    assert container.name == "base"
    assert container.image.startswith("registry.example.com/revops-airflow-embedding:")
    assert container.args[0] == "python"
    assert container.resources.limits["nvidia.com/gpu"] == "1"
    assert {mount.mount_path for mount in container.volume_mounts} >= {"/models", "/var/lib/revops/embedding", "/tmp"}
    assert container.security_context.read_only_root_filesystem is True
    claims = {
        volume.persistent_volume_claim.claim_name for volume in pod.spec.volumes if volume.persistent_volume_claim
    }
    assert claims == {"revops-handoff", "revops-reports", "revops-models"}
    assert pod.metadata.labels["revops/encoder"] == "true"
    assert pod.metadata.labels["tier"] == "airflow"
    assert pod.metadata.annotations["task_id"] == task_id
    environment = environment_of(pod)
    assert environment["REVOPS_EMBEDDING_PYTHON"] == "/opt/embedding/bin/python"
    assert environment["AIRFLOW_IS_K8S_EXECUTOR_POD"] == "True"


@pytest.mark.usefixtures("_hook")
@pytest.mark.parametrize("task_id", ["extract.crm_lead", "embed.export", "embed.load", "embed.documents"])
def test_the_other_pods_are_the_charts(task_id: str) -> None:
    assert task_pod(task_id).to_dict() == task_pod(task_id, hook=False).to_dict()


def test_the_encoders_tasks_are_those_of_the_dags() -> None:
    dag = source_dag("odoo", doc=None, assets={})
    assert {task.task_id for task in dag.tasks if isinstance(task, EmbedOperator)} == pods.EMBEDDING_TASKS


@pytest.mark.usefixtures("_hook")
def test_settings_of_both_kinds_of_pods_are_valid(tmp_path: Path) -> None:
    place = {"conn_type": "postgres", "host": "h.example.com", "schema": "d", "login": "u", "password": "long-enough"}
    connections = dict.fromkeys(("revops_core", "odoo_source", "ace_source"), place)
    connections["smtp_default"] = {"conn_type": "smtp", "host": "smtp.example.com", "port": 587}
    (tmp_path / "connections.json").write_text(json.dumps(connections))
    (tmp_path / "data_keys").write_text(f"1:{new_key()}")
    (tmp_path / "index_key").write_text(new_key())

    def environment(task_id: str) -> dict[str, str]:
        """The pod's, with the folder of its secrets here."""
        return {k: v.replace(SECRETS, f"{tmp_path}/") for k, v in environment_of(task_pod(task_id)).items()}

    assert Settings.from_environment(environment("embed.export")).embedding_image is not None
    encoder = environment("embed.encode")
    python = tmp_path / "python"
    python.touch()
    assert encoder["REVOPS_EMBEDDING_PYTHON"].startswith("/opt/embedding/")
    encoder["REVOPS_EMBEDDING_PYTHON"] = str(python)
    settings = Settings.from_environment(encoder)
    assert (settings.embedding_image, settings.embedding_python) == (None, python)
    assert settings.embedding_gpu == "require"


def test_a_scheduler_without_the_file_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pods, "EMBEDDING_POD", tmp_path / "embedding-pod.yaml")
    with pytest.raises(pods.PodError, match="kubectl create configmap revops-embedding-pod"):
        pods.pod_mutation_hook(task_pod("embed.encode", hook=False))


def test_variables_are_settings_of_revops_or_options_of_airflow() -> None:
    for name in (variable["name"] for variable in VALUES["env"]):
        if name.startswith("REVOPS_"):
            assert name in variable_names()
        elif name.startswith("AIRFLOW__"):
            section, option = name.removeprefix("AIRFLOW__").lower().removesuffix("_cmd").split("__")
            assert option in conf.configuration_description[section]["options"], name


def test_options_are_airflows() -> None:
    described = conf.configuration_description
    for section, options in VALUES["config"].items():
        for option in options:
            assert option in described.get(section, {}).get("options", {}), f"{section}.{option}"


def test_secret_files_are_those_that_make_secrets_makes() -> None:
    makers = "".join(path.read_text() for path in (ROOT / "plugins" / "revops" / "compose").glob("*.py"))
    named = set(re.findall(rf"{SECRETS}(\w+(?:\.json)?)", (HELM / "values.yaml").read_text()))
    assert named >= {"fernet_key", "jwt_secret", "api_secret_key", "sql_alchemy_conn", "connections.json", "data_keys"}
    assert {name for name in named if f"/{name}" not in makers and f'"{name}"' not in makers} == set()


def test_modules_that_the_cluster_runs_exist() -> None:
    written = "".join(path.read_text() for path in (*HELM.iterdir(), *KUBERNETES.iterdir())) + GUIDE
    modules = set(re.findall(r"\brevops(?:\.\w+)+", written.replace("revops.example.com", "")))
    assert "revops.kubernetes.init" in modules
    for module in modules:
        pkgutil.resolve_name(module)


def test_a_cluster_starts_without_what_one_host_starts_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source or a mail server that is down is told, and fails no `helm upgrade`."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert (compose.check_settings(), init.check_settings()) == ("passed", "passed")
    one_host, cluster = commands
    assert {"--wait", "--needed"} <= set(one_host)
    assert cluster[: len(one_host)] == one_host
    only = {name for option, name in pairwise(cluster) if option == "--only"}
    assert only >= {*compose.NEEDED, "odoo_source", "smtp_default"}
    assert not only & init.LATER


def test_the_ingress_is_believed_that_people_have_tls() -> None:
    """Else the cookie of a log-in, or the one that renews it, is not Secure."""
    assert VALUES["config"]["api"]["base_url"].startswith("https://")
    assert VALUES["config"]["fab"]["cookie_secure"] == "True"
    assert VALUES["apiServer"]["args"] == ["bash", "-c", "exec airflow api-server --proxy-headers"]
    assert {"name": "FORWARDED_ALLOW_IPS", "value": "*"} in VALUES["apiServer"]["env"]
    # All may say so, since few get there.
    assert VALUES["networkPolicies"]["enabled"]
    assert VALUES["apiServer"]["networkPolicy"]["ingress"]["from"]


def test_claims_secrets_and_images_are_made_somewhere() -> None:
    written = "".join(path.read_text() for path in (*HELM.glob("*.yaml"), *KUBERNETES.iterdir()))
    made = {document.values[0]["metadata"]["name"] for document in MANIFESTS}
    assert set(re.findall(r"(?:claimName|existingClaim): ([\w-]+)", written)) <= made
    secrets = set(re.findall(r"[sS]ecretName: ([\w-]+)", written)) | set(re.findall(r"SecretName: ([\w-]+)", written))
    maps = set(re.findall(r"configMap: \{name: ([\w-]+)", written))
    assert {name for name in secrets if not re.search(rf"create secret \S+ {name}\b", GUIDE)} == set()
    assert {name for name in maps if f"create configmap {name}" not in GUIDE} == set()
    images = set(re.findall(r"registry\.example\.com/([\w-]+)", written))
    assert images == {"revops-airflow-kubernetes", "revops-airflow-embedding", "revops-embedding"}
    for image in images:
        assert re.search(rf"docker build .*registry\.example\.com/{image}\b", GUIDE), image


@pytest.mark.parametrize(
    "document",
    [*MANIFESTS, pytest.param(yaml.safe_load((HELM / "embedding-pod.yaml").read_text()), id="embedding-pod")],
)
def test_a_manifest_says_nothing_that_kubernetes_does_not_know(document: dict[str, Any]) -> None:
    """Read into the client's models and written again it is the same: an unknown field would be gone."""
    client = ApiClient()
    model = client._ApiClient__deserialize(copy.deepcopy(document), f"V1{document['kind']}")
    assert client.sanitize_for_serialization(model) == document


def _pod_specs() -> Iterator[dict[str, Any]]:
    for parameter in MANIFESTS:
        (document,) = parameter.values
        if "template" in document.get("spec", {}):
            yield document["spec"]["template"]["spec"]


def test_pods_hold_no_right_that_they_do_not_need() -> None:
    specs = list(_pod_specs())
    assert len(specs) == 2
    contexts = [
        (spec["securityContext"], container["securityContext"]) for spec in specs for container in spec["containers"]
    ]
    contexts.append((VALUES["securityContexts"]["pod"], VALUES["securityContexts"]["containers"]))
    for pod, container in contexts:
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] > 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["allowPrivilegeEscalation"] is False
        assert container["readOnlyRootFilesystem"] is True
        assert container["capabilities"] == {"drop": ["ALL"]}
    assert all(spec["automountServiceAccountToken"] is False for spec in specs)
    assert VALUES["workers"]["kubernetes"]["serviceAccount"]["automountServiceAccountToken"] is False


def test_no_value_is_a_secret() -> None:
    assert not any(VALUES["enableBuiltInSecretEnvVars"].values())
    assert "password" not in json.dumps(VALUES).lower().replace("web_admin_password", "")


@pytest.mark.skipif(
    CHART is None, reason="HELM_CHART names no unpacked chart: helm pull apache-airflow/airflow --untar"
)
def test_the_charts_schema_takes_the_values() -> None:
    chart = Path(str(CHART))
    version = yaml.safe_load((chart / "Chart.yaml").read_text())["version"]
    assert f"--version {version} " in GUIDE
    jsonschema.validate(VALUES, json.loads((chart / "values.schema.json").read_text()))


@pytest.mark.skipif(CHART is None or shutil.which("helm") is None, reason="no helm, or HELM_CHART names no chart")
def test_helm_renders_the_chart() -> None:
    rendered = subprocess.run(
        ["helm", "template", "revops", str(CHART), "--namespace", "revops", "--values", str(HELM / "values.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert rendered.returncode == 0, rendered.stderr
    assert "run_airflow_migrations" in rendered.stdout or "revops.kubernetes.init" in rendered.stdout
