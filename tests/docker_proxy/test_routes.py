"""Which requests are let through."""

from __future__ import annotations

from urllib.parse import parse_qs, quote

import pytest

from docker_proxy.errors import RefusedError
from docker_proxy.policy import Policy
from docker_proxy.routes import find_call

ID = "a" * 64
FILTER = quote('{"label": ["revops.handoff=revops_handoff"]}')


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("GET", "/_ping"),
        ("GET", "/version"),
        ("GET", "/v1.41/_ping"),
        ("GET", "/v1.41/info"),
        ("GET", "/v1.41/images/revops-embedding:latest/json"),
        ("GET", "/v1.41/volumes/revops_models"),
        ("GET", "/v1.41/volumes/revops_handoff"),
        ("POST", "/v1.41/containers/create"),
        ("POST", f"/v1.41/containers/{ID}/attach?stdin=1&stdout=1&stderr=1&stream=1"),
        ("POST", f"/v1.41/containers/{ID}/start"),
        ("POST", f"/v1.41/containers/{ID}/wait"),
        ("GET", f"/v1.41/containers/{ID}/json"),
        ("DELETE", f"/v1.41/containers/{ID}?v=False&link=False&force=True"),
    ],
)
def test_what_the_operator_asks_is_asked_of_the_engine(policy: Policy, method: str, address: str) -> None:
    call = find_call(policy, method, address)
    assert (call.method, call.address) == (method, address)


def test_only_its_own_containers_are_listed_whatever_was_asked(policy: Policy) -> None:
    for query in ("", "?all=1", "?limit=-1&all=1&size=0&trunc_cmd=0&filters=%7B%7D", f"?all=0&filters={FILTER}"):
        call = find_call(policy, "GET", f"/v1.41/containers/json{query}")
        assert parse_qs(call.query) == {"all": ["1"], "filters": ['{"label": ["revops.handoff=revops_handoff"]}']}


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("POST", f"/v1.41/containers/{ID}/exec"),
        ("POST", f"/v1.41/exec/{ID}/start"),
        ("GET", f"/v1.41/containers/{ID}/logs?stdout=1"),
        ("GET", f"/v1.41/containers/{ID}/archive?path=/"),
        ("PUT", f"/v1.41/containers/{ID}/archive?path=/"),
        ("GET", f"/v1.41/containers/{ID}/export"),
        ("GET", f"/v1.41/containers/{ID}/attach/ws?stream=1"),
        ("POST", f"/v1.41/containers/{ID}/update"),
        ("POST", f"/v1.41/containers/{ID}/rename?name=x"),
        ("POST", f"/v1.41/containers/{ID}/kill"),
        ("POST", f"/v1.41/containers/{ID}/stop"),
        ("POST", "/v1.41/containers/prune"),
        ("POST", "/v1.41/containers/create?name=x"),
        ("POST", "/v1.41/containers/create?platform=linux"),
        ("GET", "/v1.41/containers/revops-warehouse-1/json"),
        ("DELETE", "/v1.41/containers/revops-warehouse-1?force=True"),
        ("DELETE", f"/v1.41/containers/{ID}?v=True&force=True"),
        ("POST", f"/v1.41/containers/{ID}/attach?stdin=1&stdout=1&stderr=1&stream=1&logs=1"),
        ("POST", f"/v1.41/containers/{ID}/attach?stdout=1&stderr=1&stream=1"),
        ("POST", f"/v1.41/containers/{ID}/start?checkpoint=x"),
        ("GET", "/v1.41/images/json"),
        ("GET", "/v1.41/images/postgres:17/json"),
        ("POST", "/v1.41/images/create?fromImage=debian"),
        ("DELETE", "/v1.41/images/revops-embedding:latest"),
        ("POST", "/v1.41/build"),
        ("POST", "/v1.41/session"),
        ("GET", "/v1.41/volumes"),
        ("GET", "/v1.41/volumes/revops_warehouse"),
        ("POST", "/v1.41/volumes/create"),
        ("DELETE", "/v1.41/volumes/revops_models"),
        ("GET", "/v1.41/networks"),
        ("GET", "/v1.41/secrets"),
        ("POST", "/v1.41/swarm/init"),
        ("POST", "/v1.41/plugins/pull"),
        ("GET", "/v1.41/events"),
        ("GET", "/v1.41/system/df"),
        ("POST", "/v1.41/auth"),
        ("HEAD", f"/v1.41/containers/{ID}/archive?path=/"),
        ("POST", "/_ping"),
        ("get", "/_ping"),
        ("CONNECT", "/_ping"),
        # One path has one spelling.
        ("GET", "//_ping"),
        ("GET", "/v1.41/../_ping"),
        ("GET", "/v1.41/./info"),
        ("GET", "/v1.41//info"),
        ("GET", "/v1.41/info/"),
        ("GET", "/v1.41/%69nfo"),
        ("GET", "/v1.41/info%00"),
        ("GET", "/v2/info"),
        ("GET", "/v1.41/v1.41/info"),
        ("GET", "http://docker/v1.41/info"),
        ("GET", "/v1.41/info#x"),
        ("GET", "/v1.41/volumes/revops_models/../../info"),
        ("GET", f"/v1.41/containers/{ID}/json?size=1"),
        ("DELETE", f"/v1.41/containers/{ID}?force=True&force=False"),
        ("GET", "/v1.41/containers/json?all=1;limit=2"),
        ("GET", "/" + "a" * 4096),
        ("GET", ""),
        ("GET", "*"),
    ],
)
def test_nothing_else_is_let_through(policy: Policy, method: str, address: str) -> None:
    with pytest.raises(RefusedError) as refused:
        find_call(policy, method, address)
    assert refused.value.status in (400, 403)
