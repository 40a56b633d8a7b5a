"""From empty volumes: every service healthy, in time and in order."""

from __future__ import annotations

import socket

from tests.docker.compose_stack import DATABASES, PATIENCE, ComposeStack, is_one_shot, service_of, show_json

# Container startup time shall not exceed 30 seconds (requirements, Performance): on two cores with nothing else to do.
START_S = 30


def test_all_are_healthy(stack: ComposeStack) -> None:
    states = {str(container["Name"]): container["State"] for container in stack.containers()}
    for container in stack.containers():
        state = container["State"]
        if is_one_shot(container):
            assert (state["Status"], state["ExitCode"]) == ("exited", 0), show_json(states)
        else:
            assert state["Health"]["Status"] == "healthy", show_json(states)
    assert {service_of(container) for container in stack.containers()} == {
        *DATABASES,
        *("airflow-init", "airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"),
        *("model", "embedding", "docker-proxy", "mail", "samples-init"),
    }


def test_each_starts_in_time_and_in_order(stack: ComposeStack) -> None:
    began = min(start.began for start in stack.starts.values())
    print(f"\n{'service':26}{'began':>8}{'ready after':>13}{'processor':>11}")
    for name, start in sorted(stack.starts.items(), key=lambda item: item[1].began):
        cpu = "" if start.cpu is None else f"{start.cpu:9.1f} s"
        print(f"{name:26}{start.began - began:6.1f} s{start.seconds:11.1f} s{cpu:>11}")
    starts = {name.rsplit("-", 1)[0]: start for name, start in stack.starts.items()}
    for container in stack.containers():
        start = starts[service_of(container)]
        if not is_one_shot(container):
            assert start.seconds < START_S * PATIENCE, service_of(container)
    # The warehouse first, and nothing before what it needs.
    assert starts["warehouse"].ready < min(starts["metadata"].began, starts["samples"].began)
    assert max(starts[name].ready for name in (*DATABASES, "docker-proxy", "model")) < starts["airflow-init"].began
    for name in ("airflow-api-server", "airflow-dag-processor"):
        assert starts["airflow-init"].ready < starts[name].began
    for name in ("airflow-scheduler", "airflow-triggerer"):
        assert starts["airflow-api-server"].ready < starts[name].began


def test_ports_are_published_to_this_machine_alone(stack: ComposeStack) -> None:
    published = {
        (service_of(container), inner, binding["HostIp"], binding["HostPort"])
        for container in stack.containers()
        for inner, bindings in (container["NetworkSettings"]["Ports"] or {}).items()
        for binding in bindings or ()
    }
    assert published == {
        ("warehouse", "5432/tcp", "127.0.0.1", str(stack.warehouse_port)),
        ("airflow-api-server", "8080/tcp", "127.0.0.1", str(stack.web_port)),
        ("mail", "8025/tcp", "127.0.0.1", str(stack.mail_port)),
    }
    for port in (stack.warehouse_port, stack.web_port, stack.mail_port):
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            pass
