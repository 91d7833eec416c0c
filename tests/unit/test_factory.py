"""create_app: the only wiring."""

import json
from pathlib import Path

import pytest
import responses
from flask import Flask

from app.config.load import load
from app.factory import create_app
from app.registries import HUB, WELL_KNOWN, Registries, Registry
from app.routes.context import Services
from app.upstream.client import Upstream
from app.upstream.managed import ManagedSource
from app.version import VERSION
from tests.lines import line_of
from tests.tables import write_config
from tests.unit.network import Network


def default(environment: pytest.MonkeyPatch, **variables: str) -> Registry:
    """Return the default registry of an application that is set up so."""
    for name, value in variables.items():
        environment.setenv(name, value)
    rooms = create_app(load()).extensions["docxy"]
    assert isinstance(rooms, Services)
    known = set() if variables else {*WELL_KNOWN}
    assert rooms.sources.keys() == {rooms.registries.default.name} | known
    return rooms.registries.default


def test_docker_hub(environment: pytest.MonkeyPatch) -> None:
    """Nothing set: Docker Hub, its token service pinned, its short names completed."""
    row = default(environment)
    assert (row.name, row.url) == ("docker.io", "https://registry-1.docker.io")
    assert (row.token_url, row.token_service) == (HUB.token_url, "registry.docker.io")
    assert row.library_prefix
    assert "index.docker.io" in row.names


def test_a_copy_of_docker_hub(environment: pytest.MonkeyPatch) -> None:
    """Only the URL set: the same names, and the token service is discovered."""
    row = default(environment, DOCXY_REGISTRY_URL="https://mirror.example")
    assert (row.name, row.url) == ("docker.io", "https://mirror.example")
    assert (row.token_url, row.token_service) == (None, None)
    assert row.library_prefix


def test_another_registry(environment: pytest.MonkeyPatch) -> None:
    """Nothing of Docker Hub's is left."""
    row = default(
        environment,
        DOCXY_REGISTRY_URL="https://registry.example",
        DOCXY_REGISTRY_NAME="registry.example",
        DOCXY_TOKEN_URL="https://auth.example/token",  # noqa: S106 - the address of a service
        DOCXY_TOKEN_SERVICE="s",  # noqa: S106 - the name of a service
    )
    assert row.name == "registry.example"
    assert (row.token_url, row.token_service) == ("https://auth.example/token", "s")
    assert not row.library_prefix
    assert "docker.io" not in row.names


@pytest.mark.parametrize("name", ["index.docker.io", "registry-1.docker.io", "DOCKER.IO"])
def test_every_name_of_docker_hub(environment: pytest.MonkeyPatch, name: str) -> None:
    """They are one registry."""
    assert default(environment, DOCXY_REGISTRY_NAME=name).name == "docker.io"


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        pytest.param("r.example", "r.example", id="name"),
        pytest.param("r.example", "r.example:443", id="default port asked"),
        pytest.param("r.example:5000", "R.example:5000", id="port"),
        pytest.param("r.example:443", "r.example:443", id="default port written"),
        pytest.param("r.example:443", "r.example", id="default port written only here"),
        pytest.param("docker.io:443", "docker.io", id="Docker Hub"),
    ],
)
def test_the_default_registry_answers_to_its_name(
    environment: pytest.MonkeyPatch, name: str, asked: str
) -> None:
    """However the operator and the client write the port, it is the one that is served."""
    row = default(environment, DOCXY_REGISTRY_NAME=name)
    assert Registries([row]).select(ns=asked, host="proxy.example").registry is row
    assert row.library_prefix == name.startswith("docker.io")


@pytest.mark.parametrize(
    "url", ["https://Registry-1.Docker.IO:443/", "https://registry-1.docker.io/"]
)
def test_docker_hub_however_it_is_written(environment: pytest.MonkeyPatch, url: str) -> None:
    """Its token service stays pinned."""
    row = default(environment, DOCXY_REGISTRY_URL=url)
    assert (row.url, row.token_url) == ("https://registry-1.docker.io", HUB.token_url)


def test_a_start_needs_no_upstream(environment: pytest.MonkeyPatch) -> None:
    """Nothing is asked before the first request, nor by /health."""
    del environment
    with responses.RequestsMock() as upstream:
        client = create_app(load()).test_client()
        assert client.get("/health").get_json()["version"] == VERSION
        assert len(upstream.calls) == 0


def test_public_url_and_peers_are_handed_on(environment: pytest.MonkeyPatch) -> None:
    """What the settings say about addresses, routes do."""
    environment.setenv("DOCXY_PUBLIC_URL", "https://p.example/x/")
    environment.setenv("FORWARDED_ALLOW_IPS", "192.0.2.0/24")
    rooms = create_app(load()).extensions["docxy"]
    asked = {"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": "203.0.113.1"}
    assert rooms.forwarded.build_base_url({}) == "https://p.example/x"
    assert rooms.forwarded.get_client_address(asked) == "203.0.113.1"


@pytest.mark.parametrize(
    ("switch", "status"), [pytest.param("", 502, id="off"), pytest.param("true", 503, id="on")]
)
def test_the_switch_for_private_upstreams_is_handed_on(
    environment: pytest.MonkeyPatch, switch: str, status: int
) -> None:
    """With it a private address is connected to, which here fails in another way."""
    network = Network(environment)
    network.resolves("mirror.example", ["10.0.0.7"])
    network.routed("10.0.0.7", ConnectionRefusedError())
    environment.setenv("DOCXY_REGISTRY_URL", "https://mirror.example")
    environment.setenv("DOCXY_ALLOW_PRIVATE_UPSTREAMS", switch)
    environment.setenv("DOCXY_RETRY_BUDGET", "0.001")
    answer = create_app(load()).test_client().get("/v2/nginx/manifests/latest")
    assert answer.status_code == status
    assert ("DOCXY_ALLOW_PRIVATE_UPSTREAMS" in answer.text) == (status == 502)
    assert network.connected == ([] if status == 502 else ["10.0.0.7"])


def test_one_registry_may_be_private(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its row says so, and no other row gains by it."""
    network = Network(environment)
    rows: list[dict[str, object]] = [
        {"name": "near.example", "allow_private": True},
        {"name": "other.example"},
    ]
    for row in rows:
        network.resolves(str(row["name"]), ["10.0.0.7"])
    network.routed("10.0.0.7", ConnectionRefusedError())
    environment.setenv("DOCXY_RETRY_BUDGET", "0.001")
    environment.setenv("DOCXY_CONFIG", str(write_config(tmp_path / "docxy.toml", rows)))
    client = create_app(load()).test_client()
    answers = [client.get(f"/v2/{row['name']}/a/manifests/latest") for row in rows]
    assert [answer.status_code for answer in answers] == [503, 502]
    assert network.connected == ["10.0.0.7"]


def test_the_version_is_told_at_the_start(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The start line says what runs, and for which registry; no password of a proxy."""
    caplog.set_level("INFO")
    environment.setenv("HTTPS_PROXY", "http://user:s3cr3t@proxy.example:1")
    create_app(load())
    assert VERSION in caplog.text
    assert "registry-1.docker.io" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_a_pull_goes_the_whole_way(environment: pytest.MonkeyPatch) -> None:
    """From the client's URL to the registry's, through every room, and back."""
    environment.setenv("DOCXY_REGISTRY_URL", "https://mirror.example")
    client = create_app(load()).test_client()
    with responses.RequestsMock() as upstream:
        upstream.get(
            "https://mirror.example/v2/library/nginx/manifests/latest",
            body=b"{}",
            content_type="application/vnd.oci.image.index.v1+json",
            headers={"X-Accel-Redirect": "/secret", "Set-Cookie": "a=b"},
        )
        answer = client.get("/v2/nginx/manifests/latest", headers={"Cookie": "c=d"}, buffered=True)
        assert (answer.status_code, answer.data) == (200, b"{}")
        assert answer.content_type == "application/vnd.oci.image.index.v1+json"
        assert not {"X-Accel-Redirect", "Set-Cookie"} & set(answer.headers.keys())
        assert "Cookie" not in upstream.calls[0].request.headers


def several(
    environment: pytest.MonkeyPatch, tmp_path: Path, *rows: dict[str, object], **above: object
) -> Flask:
    """Return the application of a file with these tables."""
    path = write_config(tmp_path / "docxy.toml", rows, **above)
    environment.setenv("DOCXY_CONFIG", str(path))
    return create_app(load())


OPEN: dict[str, object] = {"name": "a.example"}
MANAGED: dict[str, object] = {"name": "b.example", "credentials": "managed"}
LOGIN: dict[str, object] = {**MANAGED, "name": "c.example", "username": "me", "password": "s3cr3t"}


def test_a_source_for_each_registry(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each has its own client; a managed one gets its tokens from this proxy."""
    rooms = several(environment, tmp_path, OPEN, MANAGED, LOGIN).extensions["docxy"]
    kinds = {name: type(source) for name, source in rooms.sources.items()}
    assert kinds == {"a.example": Upstream, "b.example": ManagedSource, "c.example": ManagedSource}
    upstreams = [getattr(source, "inner", source) for source in rooms.sources.values()]
    assert len({id(one.session) for one in upstreams}) == 3


def test_what_the_start_tells_of_several(
    environment: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is served; whose own account everybody may use; nobody's password."""
    caplog.set_level("INFO")
    several(environment, tmp_path, OPEN, MANAGED, LOGIN)
    assert "default=https://a.example registries=a.example,b.example,c.example" in caplog.text
    warnings = [line_of(record) for record in caplog.records if record.levelname == "WARNING"]
    (warning,) = warnings
    assert warning.startswith("WARNING Any client can pull what this proxy's own account may read")
    assert warning.endswith("registry=c.example")
    assert "s3cr3t" not in caplog.text


def test_a_default_that_hides_the_challenge_of_others(
    environment: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Docker and podman ask for tokens only where the default's `/v2/` does: it is told."""
    several(environment, tmp_path, MANAGED, OPEN)
    (warning,) = [line_of(record) for record in caplog.records]
    assert 'set its credentials to "managed"' in warning
    assert warning.endswith("registry=a.example")


def test_a_challenge_that_is_not_hidden(
    environment: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A registry with a host of its own asks for tokens there: nothing is to be done."""
    several(environment, tmp_path, MANAGED, {**OPEN, "hosts": ["a.proxy.example"]})
    assert caplog.records == []


def test_a_pull_by_prefix_goes_the_whole_way(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The challenge, the token and the manifest: in the client's naming down, in the other's up."""
    client = several(environment, tmp_path, OPEN, {"name": "d.example"}).test_client()
    url = "/v2/d.example/x/y/manifests/latest"
    manifest = "https://d.example/v2/x/y/manifests/latest"
    bearer = 'Bearer realm="https://d.example/t",service="d"'
    with responses.RequestsMock(registry=responses.registries.OrderedRegistry) as upstream:
        told = {"WWW-Authenticate": f'{bearer},scope="repository:x/y:pull"'}
        upstream.get(manifest, status=401, headers=told)
        answer = client.get(url, headers={"Authorization": "Basic YTpi"}, buffered=True)
        assert answer.headers["WWW-Authenticate"] == (
            'Bearer realm="http://localhost/auth/token",service="d",'
            'scope="repository:d.example/x/y:pull"'
        )
        upstream.get("https://d.example/v2/", status=401, headers={"WWW-Authenticate": bearer})
        upstream.get("https://d.example/t", body=b'{"token":"t"}')
        query = "service=d&scope=repository:d.example/x/y:pull&account=a"
        headers = {"Authorization": "Basic YTpi"}
        answer = client.get(f"/auth/token?{query}", headers=headers, buffered=True)
        token = json.loads(answer.data)["token"]
        upstream.get(manifest, body=b"{}")
        headers = {"Authorization": f"Bearer {token}"}
        assert client.get(url, headers=headers, buffered=True).data == b"{}"
        assert upstream.calls[2].request.url == (
            "https://d.example/t?scope=repository%3Ax%2Fy%3Apull&service=d"
        )
        sent = [call.request.headers.get("Authorization") for call in upstream.calls]
        assert sent == [None, None, None, "Bearer t"]


def test_neighbours_know_each_other(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A managed registry is a neighbour as any other, and its account stays its own."""
    login = {**LOGIN, "token_url": "https://c.example/t", "token_service": "c"}
    client = several(environment, tmp_path, OPEN, login).test_client()
    there = "https://c.example/v2/x/manifests/1"
    with responses.RequestsMock(registry=responses.registries.OrderedRegistry) as upstream:
        upstream.get("https://a.example/v2/x/manifests/1", status=307, headers={"Location": there})
        upstream.get(there, status=401, headers={"WWW-Authenticate": 'Bearer realm="x"'})
        upstream.get("https://c.example/t", body=b'{"token":"t"}')
        upstream.get(there, body=b"{}")
        assert client.get("/v2/x/manifests/1", buffered=True).data == b"{}"
        sent = [call.request.headers.get("Authorization") for call in upstream.calls]
        assert sent == [None, None, None, "Bearer t"]


def test_rules_are_asked_where_redirects_lead(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A registry that is allowed may keep its images at one that is not: they are refused there."""
    login = {**LOGIN, "token_url": "https://c.example/t", "token_service": "c"}
    denied = {"action": "deny", "registry": "c.example"}
    client = several(environment, tmp_path, OPEN, login, rules=[denied]).test_client()
    there = "https://c.example/v2/x/manifests/1"
    for path in ("/v2/c.example/x/manifests/1", "/v2/x/manifests/1?ns=c.example"):
        with responses.RequestsMock():  # nothing is asked
            assert client.get(path, buffered=True).status_code == 403
    with responses.RequestsMock() as upstream:
        upstream.get("https://a.example/v2/x/manifests/1", status=307, headers={"Location": there})
        answer = client.get(
            "/v2/x/manifests/1", headers={"Authorization": "Bearer a"}, buffered=True
        )
        assert answer.status_code == 403
        assert (answer.json or {})["errors"][0]["detail"] == {"rule": 1}
