"""Every client of the table: by name, by short name, as mirror, logged in and not.

By name and as mirror every client takes every way. What else it does is seen on one of them, on
another one in each test, since neither a name nor a login is anything to a server in front.
"""

import re

import pytest

from tests.clients.process import CommandFailed
from tests.hub.hub import Hub
from tests.integration.pulling import (
    COSTS,
    PRIVATE,
    TABLE,
    Cost,
    Start,
    WayName,
    each_client,
    rows,
)

pytestmark = pytest.mark.integration

REFUSED = re.compile(
    r"denied|unauthorized|insufficient_scope|authentication required", re.IGNORECASE
)
WRONG_PASSWORD = re.compile(
    r"incorrect username or password|invalid username/password|unauthorized"
    # dockerd counts a loopback address as insecure: refused over TLS, it asks nginx without.
    r"|login attempt to http://localhost:\d+/v2/ failed with status: 400",
    re.IGNORECASE,
)
DIALLED = re.compile(r"dial tcp (\S+): ")
DEAD = "127.0.0.1:9"


def spent(hub: Hub) -> Cost:
    """Return what Docker Hub has counted."""
    return Cost(
        pulls=hub.pulls,
        heads=hub.count("registry", "HEAD", "/manifests/", 200),
        blobs=hub.count("registry", "GET", "/blobs/", 307),
    )


@pytest.mark.parametrize(("name", "way"), rows("by name"))
def test_by_name(name: str, way: WayName, start: Start, hub: Hub) -> None:
    """A public image comes whole, and costs on Docker Hub what it costs without Docxy."""
    client, there = start(name, way, "by name")
    image = hub.image("library/alpine", "3.19")
    assert client.pull(f"{there.host}/library/alpine:3.19") == client.kept(image)
    assert spent(hub) == COSTS[name]


@pytest.mark.parametrize(("name", "way"), each_client("by name", first=1))
def test_by_short_name(name: str, way: WayName, start: Start, hub: Hub) -> None:
    """HOST/nginx means library/nginx, in the path and in the scope of the token."""
    client, there = start(name, way, "by name")
    image = hub.image("library/nginx", "latest")
    assert client.pull(f"{there.host}/nginx:latest") == client.kept(image)
    assert hub.count("registry", path="^/v2/nginx/") == 0
    scopes = {scope for asked in hub.select("token") for scope in asked.query.get("scope", [])}
    assert scopes == {"repository:library/nginx:pull"}


@pytest.mark.parametrize(("name", "way"), each_client("by name", first=0))
def test_by_prefix(name: str, way: WayName, start: Start, hub: Hub) -> None:
    """HOST/docker.io/nginx means Docker Hub's, too; the token is asked for by the same name.

    So does the name with library/ in it.
    """
    client, there = start(name, way, "by name")
    image = hub.image("library/nginx", "latest")
    is_short = [*TABLE].index(name) % 2
    repository = "docker.io/nginx" if is_short else "docker.io/library/nginx"
    assert client.pull(f"{there.host}/{repository}:latest") == client.kept(image)
    scopes = {scope for asked in hub.select("token") for scope in asked.query.get("scope", [])}
    assert scopes == {"repository:library/nginx:pull"}


@pytest.mark.parametrize(("name", "way"), rows("as mirror"))
def test_as_mirror(name: str, way: WayName, start: Start, hub: Hub) -> None:
    """An image of Docker Hub comes through the mirror, and Docker Hub itself is not tried."""
    client, _ = start(name, way, "as mirror")
    image = hub.image("library/alpine", "3.19")
    assert client.pull("docker.io/library/alpine:3.19") == client.kept(image)
    assert spent(hub) == COSTS[name]
    assert DEAD not in client.log()


@pytest.mark.parametrize(("name", "way"), each_client("by name", first=1))
def test_private(name: str, way: WayName, start: Start, hub: Hub) -> None:
    """A private image is refused to a stranger, who is told so, and comes once they log in.

    It comes on that user's account.
    """
    client, there = start(name, way, "by name")
    with pytest.raises(CommandFailed) as failure:
        client.pull(f"{there.host}/{PRIVATE}")
    assert REFUSED.search(failure.value.output)
    assert hub.count("registry", path="/alice/private/manifests/", status=401) > 0
    assert hub.pulls == hub.count("cdn") == 0
    image = hub.image(*PRIVATE.split(":"))
    hub.remaining = 0
    client.log_in("alice", "alicepw")
    assert client.pull(f"{there.host}/{PRIVATE}") == client.kept(image)
    assert hub.pulls == COSTS[name].pulls


@pytest.mark.parametrize(("name", "way"), each_client("by name", first=2))
def test_private_for_bob(name: str, way: WayName, start: Start, hub: Hub) -> None:
    """A private image is refused to a user who has logged in but may not read it."""
    client, there = start(name, way, "by name")
    client.log_in("bob", "bobpw")
    with pytest.raises(CommandFailed) as failure:
        client.pull(f"{there.host}/{PRIVATE}")
    assert REFUSED.search(failure.value.output)
    assert hub.count("registry", path="/alice/private/manifests/", status=401) > 0
    assert hub.pulls == hub.count("cdn") == 0


@pytest.mark.parametrize(("name", "way"), each_client("by name", first=1, but=("ctr",)))
def test_login_with_a_wrong_password(name: str, way: WayName, start: Start, hub: Hub) -> None:
    """A login with a wrong password fails, and the client says why."""
    client, _ = start(name, way, "by name")
    with pytest.raises(CommandFailed) as failure:
        client.log_in("alice", "wrong-password")
    assert WRONG_PASSWORD.search(failure.value.output)
    assert hub.count("token", status=401) > 0


def test_ctr_with_a_wrong_password(start: Start, hub: Hub) -> None:
    """Ctr has no login; its pull with a wrong password fails, of a public image too."""
    client, there = start("ctr", "nginx", "by name")
    client.log_in("alice", "wrong-password")
    with pytest.raises(CommandFailed, match="401 UNAUTHORIZED"):
        client.pull(f"{there.host}/library/alpine:3.19")
    assert hub.count("registry", "GET") == 0


@pytest.mark.parametrize(
    ("name", "way"), each_client("as mirror", first=1, but=("docker-containerd",))
)
def test_private_by_mirror(name: str, way: WayName, start: Start, hub: Hub) -> None:
    """A private image comes through a mirror to who has logged in.

    skopeo, podman and buildah log in at the mirror; Docker sends it the login of Docker Hub.
    """
    client, _ = start(name, way, "as mirror")
    image = hub.image(*PRIVATE.split(":"))
    client.log_in("alice", "alicepw")
    assert client.pull(f"docker.io/{PRIVATE}") == client.kept(image)
    assert hub.pulls == COSTS[name].pulls
    assert DEAD not in client.log()


@pytest.mark.parametrize(("name", "way"), rows("as mirror", but=("buildah",), only="plain"))
def test_private_by_mirror_for_strangers(name: str, way: WayName, start: Start, hub: Hub) -> None:
    """Refused by the mirror, a client goes on to Docker Hub: here to a dead proxy, and no other."""
    client, _ = start(name, way, "as mirror")
    with pytest.raises(CommandFailed) as failure:
        client.pull(f"docker.io/{PRIVATE}")
    told = failure.value.output + client.log()
    assert set(DIALLED.findall(told)) == {DEAD}
    assert hub.count("registry", path="/alice/private/manifests/", status=401) > 0
    assert hub.pulls == hub.count("cdn") == 0
