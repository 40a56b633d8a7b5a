"""What a container of the stack may do, and what it lets others know."""

from __future__ import annotations

import json

from tests.docker.compose_stack import RUN_TASKS, ComposeStack, service_of


def test_containers_may_do_little(stack: ComposeStack) -> None:
    for container in stack.containers():
        name, host, config = service_of(container), container["HostConfig"], container["Config"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert host["SecurityOpt"] == ["no-new-privileges:true"], name
        assert not host["Privileged"], name
        assert host["Memory"] > 0, name
        assert 0 < host["PidsLimit"] <= 1024, name
        assert host["LogConfig"]["Config"]["max-size"], name
        assert host["RestartPolicy"]["Name"] in ("unless-stopped", "on-failure"), name
        if name == "docker-proxy":
            assert sorted(host["CapAdd"]) == ["SETGID", "SETUID"]
        else:
            assert host["CapAdd"] is None, name
            assert config["User"].split(":")[0] not in ("", "0", "root"), name


def test_no_process_is_root(stack: ComposeStack) -> None:
    for name, container in stack.services().items():
        told = stack.engine.top(container["Id"], "-eo pid,uid,args")
        # A health check is root's for the moment in which the engine brings it into the container.
        users = {user for _, user, arguments in told["Processes"] if not arguments.startswith("runc")}
        assert users, name
        assert "0" not in users, (name, told["Processes"])


def test_the_socket_is_in_one_container(stack: ComposeStack) -> None:
    with_socket = {
        service_of(container)
        for container in stack.containers()
        for mount in container["Mounts"]
        if "docker.sock" in mount["Source"] or mount["Source"] in ("/", "/var/run", "/run")
    }
    assert with_socket == {"docker-proxy"}


def test_tasks_have_their_folders_and_nothing_else(stack: ComposeStack) -> None:
    mounts = {mount["Destination"]: mount["RW"] for mount in stack.container(RUN_TASKS)["Mounts"]}
    assert mounts == {
        "/run/secrets/airflow": False,
        "/opt/airflow/include/sources": False,
        "/opt/airflow/logs": True,
        "/var/lib/revops/embedding": True,
        "/var/lib/revops/reports": True,
    }


def test_no_secret_is_in_what_the_engine_tells(stack: ComposeStack) -> None:
    secrets = {}
    for path in (stack.folder / "secrets").rglob("*"):
        if path.is_file() and path.suffix not in (".crt", ".lock") and path.name not in ("keys-made", ".lock"):
            secrets[str(path.relative_to(stack.folder))] = path.read_text().strip()
    assert len(secrets) > 15
    told = json.dumps(stack.containers())
    told += json.dumps([stack.engine.history(image) for image in {c["Image"] for c in stack.containers()}])
    told += stack.make("up", "--dry-run").stdout
    for name, value in secrets.items():
        for part in {value, *value.splitlines()}:
            assert len(part) < 16 or part not in told, name
