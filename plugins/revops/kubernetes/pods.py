"""Task pods of KubernetesExecutor: those that run the encoder get its image, its model and a GPU.

Airflow calls `pod_mutation_hook` for each pod before it is made, where airflow_local_settings.py imports it
(deploy/helm/values.yaml). The DAGs say nothing of pods, so that they are the same on every executor.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubernetes.client import V1Pod

# What is different about their pods: deploy/helm/embedding-pod.yaml, mounted into the scheduler's pod.
EMBEDDING_POD = Path("/etc/revops/embedding-pod.yaml")
EMBEDDING_TASKS = frozenset({"embed.model", "embed.encode"})


class PodError(RuntimeError):
    """What a task's pod needs is missing; the message names the remedy."""


def pod_mutation_hook(pod: V1Pod) -> None:
    """Give the pods of `embed.model` and `embed.encode` what EMBEDDING_POD says; leave all others as they are."""
    if (pod.metadata.annotations or {}).get("task_id") in EMBEDDING_TASKS:
        lay_over(pod, EMBEDDING_POD)


def lay_over(pod: V1Pod, file: Path) -> None:
    """Lay the pod of a file over another, in place: lists grow, and of two variables of one name the file's counts."""
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

    if not file.exists():
        raise PodError(
            f"{file} is missing in the scheduler's pod. Remedy: kubectl create configmap revops-embedding-pod "
            "--from-file=deploy/helm/embedding-pod.yaml, and mount it there as deploy/helm/values.yaml does."
        )
    merged = PodGenerator.reconcile_pods(pod, PodGenerator.deserialize_model_file(str(file)))
    for container in merged.spec.containers:
        container.env = list({variable.name: variable for variable in container.env or []}.values())
    pod.metadata, pod.spec = merged.metadata, merged.spec
