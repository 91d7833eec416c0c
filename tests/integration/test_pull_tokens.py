"""Tokens: challenges, POST and GET, and that nothing of them is logged."""

import pytest

from tests import programs
from tests.clients.docker import ImageStore, docker
from tests.hub.hub import Hub
from tests.integration.pulling import PRIVATE, Start, Use, Way, WayName, WayNamed
from tests.integration.raw import RawBy
from tests.integration.secrecy import secrets_of
from tests.lines import all_lines
from tests.servers import Docxy

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("way", ["plain", "nginx", "caddy"])
def test_a_challenge_leads_to_docxy(
    way: WayName, way_named: WayNamed, raw_by: RawBy, hub: Hub
) -> None:
    """A token that has expired is refused with a challenge in the client's own naming."""
    there, raw = way_named(way), raw_by(way)
    raw.log_in("alpine")
    path = "/v2/alpine/manifests/3.19"
    assert raw.ask("HEAD", path).status_code == 200
    hub.advance(3600)
    answer = raw.ask("HEAD", path)
    assert answer.status_code == 401
    challenge = answer.headers["WWW-Authenticate"]
    assert challenge.startswith("Bearer ")
    assert f'realm="{there.url}/auth/token"' in challenge
    assert 'service="registry.test"' in challenge
    assert 'scope="repository:alpine:pull"' in challenge
    raw.log_in("alpine")
    assert raw.ask("HEAD", path).status_code == 200


@pytest.mark.parametrize("use", ["by name", "as mirror"])
def test_ctr_asks_by_post(use: Use, start: Start, plain: Way, hub: Hub) -> None:
    """With a user, containerd asks for its tokens by POST, and Docker Hub gets it as it was."""
    client, _ = start("ctr", "plain", use)
    client.log_in("alice", "alicepw")
    host = plain.host if use == "by name" else "docker.io"
    client.pull(f"{host}/library/alpine:3.19")
    tokens = hub.select("token")
    assert {token.method for token in tokens} == {"POST"}
    for token in tokens:
        assert token.body["grant_type"] == ["password"]
        assert token.body["username"] == ["alice"]
        assert token.body["client_id"] == ["containerd-client"]
        assert token.body["scope"] == ["repository:library/alpine:pull"]


@pytest.mark.parametrize("status", [403, 404, 405, 500, 501])
def test_ctr_without_post(status: int, start: Start, hub: Hub) -> None:
    """Where the token service takes no POST, ctr falls back to GET and has its image."""
    client, there = start("ctr", "plain", "by name")
    client.log_in("alice", "alicepw")
    hub.fail(part="token", method="POST", status=status, times=None)
    image = hub.image(*PRIVATE.split(":"))
    assert client.pull(f"{there.host}/{PRIVATE}") == client.kept(image)
    assert hub.count("token", "POST", status=status) > 0
    assert hub.count("token", "GET", status=200) > 0


@pytest.mark.parametrize("status", [403, 404, 405])
@pytest.mark.parametrize("image_store", ["classic", "containerd"])
def test_docker_without_post(image_store: ImageStore, status: int, plain: Way, hub: Hub) -> None:
    """So does Docker with a stored password; the classic store asks by GET from the start."""
    programs.require_dockerd(image_store=image_store)
    hub.fail(part="token", method="POST", status=status, times=None)
    with docker(image_store=image_store) as daemon:
        daemon.store_login(plain.host, "alice", "alicepw")
        image = hub.image(*PRIVATE.split(":"))
        assert image.digest in daemon.pull(f"{plain.host}/{PRIVATE}")
    assert (hub.count("token", "POST", status=status) > 0) == (image_store == "containerd")
    (token,) = hub.select("token", "GET", status=200)
    assert token.headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("name", "way"), [("docker", "plain"), ("ctr", "plain"), ("skopeo", "nginx")]
)
def test_nothing_secret_is_logged(
    name: str, way: WayName, start: Start, hub: Hub, proxy: Docxy
) -> None:
    """No password, token or signature is in any log, of what really went to Docker Hub.

    The same is looked at after every test of pulls, by the fixture `hub`.
    """
    client, there = start(name, way, "by name")
    before = len(there.log())
    client.log_in("alice", "alicepw")
    client.pull(f"{there.host}/{PRIVATE}")
    all_lines(proxy)
    told = there.log()[before:]
    secrets = {secret for record in hub.requests for secret in secrets_of(record)}
    # Bearer tokens, what a login sends, and three or more signed URLs.
    assert len(secrets) >= 5
    assert [secret for secret in {*secrets, "signature=", "alicepw"} if secret in told] == []
    assert f"/v2/{PRIVATE.replace(':', '/manifests/')} " in told
    assert "/auth/token " in told
