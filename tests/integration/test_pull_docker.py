"""What only Docker does: its own names, builds, logins that become refresh tokens, two stores."""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests import programs
from tests.clients.docker import Builder, Docker, ImageStore, docker
from tests.clients.process import CommandFailed
from tests.hub.hub import Hub
from tests.integration.pulling import DOCKER_HUB, PRIVATE, Way, WayName, WayNamed, ours
from tests.pairs import pairs

pytestmark = pytest.mark.integration

STORES: list[ImageStore] = ["classic", "containerd"]
DEAD = "127.0.0.1:9"
DIALLED = re.compile(r"dial tcp (\S+): ")

Dockerd = Callable[[ImageStore, WayName], tuple[Docker, Way]]


@pytest.fixture
def dockerd(way_named: WayNamed, hub: Hub) -> Iterator[Dockerd]:
    """Return what starts a cold dockerd that has Docxy for a mirror."""
    del hub
    with contextlib.ExitStack() as stack:

        def started(image_store: ImageStore, way_name: WayName) -> tuple[Docker, Way]:
            programs.require_dockerd(image_store=image_store)
            way = way_named(way_name)
            mirrored = docker(image_store=image_store, mirrors=[way.url], ca=way.ca)
            return stack.enter_context(mirrored), way

        yield started


@pytest.mark.parametrize("image_store", STORES)
def test_names_as_people_write_them(image_store: ImageStore, dockerd: Dockerd, hub: Hub) -> None:
    """`docker pull alpine:3.19` comes through the mirror, and nothing is asked elsewhere."""
    daemon, _ = dockerd(image_store, "plain")
    assert hub.image("library/alpine", "3.19").digest in daemon.pull("alpine:3.19")
    assert hub.pulls == 2
    assert DEAD not in daemon.server.log


@pytest.mark.parametrize("image_store", STORES)
@pytest.mark.parametrize("name", ["alpine:3.19", "HOST/alpine:3.19"])
def test_an_unchanged_image_costs_nothing(
    name: str, image_store: ImageStore, dockerd: Dockerd, hub: Hub
) -> None:
    """A second pull is a HEAD that stays one: no pull is counted, and no layer is fetched."""
    daemon, plain = dockerd(image_store, "plain")
    reference = name.replace("HOST", plain.host)
    daemon.pull(reference)
    hub.reset()
    daemon.pull(reference)
    assert hub.count("registry", "HEAD", "/library/alpine/manifests/3.19", 200) == 1
    assert hub.count("registry", "GET", "/manifests/") == hub.pulls == 0
    assert hub.count("cdn") == 0


@pytest.mark.parametrize("image_store", STORES)
def test_a_tag_that_has_moved(image_store: ImageStore, dockerd: Dockerd, hub: Hub) -> None:
    """A pull gets what the tag means now; Docxy remembers nothing of what it meant before."""
    daemon, plain = dockerd(image_store, "plain")
    old, new = hub.image("library/alpine", "3.19"), hub.image("library/nginx", "latest")
    hub.push("owner/moving", old, ["tag"])
    assert old.digest in daemon.pull(f"{plain.host}/owner/moving:tag")
    hub.push("owner/moving", new, ["tag"])
    assert new.digest in daemon.pull(f"{plain.host}/owner/moving:tag")


BASES: Final = [("nginx", "plain"), ("HOST/nginx", "plain"), ("HOST/library/nginx", "nginx")]
"""By the mirror and by name, and the way there."""


@pytest.mark.parametrize(
    ("base", "builder", "image_store"), pairs(BASES, ["classic", "buildkit"], STORES), ids=str
)
def test_build(
    base: tuple[str, WayName], builder: Builder, image_store: ImageStore, dockerd: Dockerd, hub: Hub
) -> None:
    """The base of a build comes through Docxy, by its name or by the mirror, and nothing else."""
    programs.require_dockerd(image_store=image_store, builder=builder)
    name, way = base
    if (builder, way) == ("buildkit", "nginx") and programs.docker_version() < (23,):
        pytest.skip("before version 23 Docker's BuildKit speaks plain HTTP to loopback")
    daemon, there = dockerd(image_store, way)
    dockerfile = f"FROM {name.replace('HOST', there.host)}\nLABEL built=yes\nCOPY file /file\n"
    built = daemon.build(dockerfile, "built", builder=builder, files={"file": b"content"})
    image = ours(hub.image("library/nginx", "latest"))
    assert {layer.diff_id for layer in image.layers} < built
    assert 0 < hub.pulls <= 2
    assert DEAD not in daemon.server.log


@pytest.mark.parametrize("image_store", STORES)
@pytest.mark.parametrize("builder", ["classic", "buildkit"])
def test_build_from_a_private_image(
    builder: Builder, image_store: ImageStore, dockerd: Dockerd, hub: Hub
) -> None:
    """A build may begin with a private image of who has logged in at Docxy, and of nobody else."""
    programs.require_dockerd(image_store=image_store, builder=builder)
    daemon, plain = dockerd(image_store, "plain")
    dockerfile = f"FROM {plain.host}/{PRIVATE}\nLABEL built=yes\n"
    with pytest.raises(CommandFailed, match=r"pull access denied|insufficient_scope"):
        daemon.build(dockerfile, "built", builder=builder)
    assert hub.pulls == 0
    daemon.login(plain.host, "alice", "alicepw")
    image = ours(hub.image(*PRIVATE.split(":")))
    assert {layer.diff_id for layer in image.layers} < daemon.build(
        dockerfile, "built", builder=builder
    )


@pytest.mark.parametrize("image_store", STORES)
def test_login_is_a_refresh_token(image_store: ImageStore, dockerd: Dockerd, hub: Hub) -> None:
    """`docker login` asks for a refresh token, and every pull after it is a POST with that."""
    daemon, plain = dockerd(image_store, "plain")
    daemon.login(plain.host, "alice", "alicepw")
    (login,) = hub.select("token", "GET", status=200)
    assert login.query["account"] == ["alice"]
    assert login.query["client_id"] == ["docker"]
    assert login.query["offline_token"] == ["true"]
    assert "scope" not in login.query
    assert "alicepw" not in (daemon.home / "cli/config.json").read_text()
    hub.forget()
    daemon.pull(f"{plain.host}/{PRIVATE}")
    (token,) = hub.select("token")
    assert token.method == "POST"
    assert token.body["grant_type"] == ["refresh_token"]
    assert token.body["service"] == ["registry.test"]
    assert token.body["client_id"][0] in {"docker", "containerd-client"}


@pytest.mark.parametrize("image_store", STORES)
def test_a_revoked_login(image_store: ImageStore, dockerd: Dockerd, hub: Hub) -> None:
    """A refresh token that Docker Hub has withdrawn opens nothing any more."""
    daemon, plain = dockerd(image_store, "plain")
    daemon.login(plain.host, "alice", "alicepw")
    hub.revoke("alice")
    with pytest.raises(CommandFailed, match=r"(?i)unauthorized"):
        daemon.pull(f"{plain.host}/{PRIVATE}")
    assert hub.pulls == 0


def test_the_login_of_docker_hub_goes_to_a_mirror(dockerd: Dockerd, hub: Hub) -> None:
    """README: up to Engine 28 (classic store) a mirror gets the login of Docker Hub.

    So private images come through it, and public ones on the user's account.
    """
    daemon, _ = dockerd("classic", "plain")
    daemon.store_login(DOCKER_HUB, "alice", "alicepw")
    image = hub.image(*PRIVATE.split(":"))
    assert image.digest in daemon.pull(PRIVATE)
    hub.remaining = 0
    assert hub.image("library/alpine", "3.19").digest in daemon.pull("alpine:3.19")
    assert {asked.query["account"][0] for asked in hub.select("token")} == {"alice"}
    assert DEAD not in daemon.server.log


def test_no_login_of_docker_hub_goes_to_a_mirror(dockerd: Dockerd, hub: Hub) -> None:
    """README: with the containerd image store a mirror is asked without credentials.

    A private image does not come through it, but by name after a login at Docxy.
    """
    daemon, plain = dockerd("containerd", "plain")
    daemon.store_login(DOCKER_HUB, "alice", "alicepw")
    with pytest.raises(CommandFailed, match="pull access denied"):
        daemon.pull(PRIVATE)
    assert {*DIALLED.findall(daemon.server.log)} == {DEAD}
    for asked in hub.select("token"):
        assert "Authorization" not in asked.headers
        assert asked.method == "GET"
    daemon.login(plain.host, "alice", "alicepw")
    with pytest.raises(CommandFailed, match="pull access denied"):
        daemon.pull(PRIVATE)
    assert hub.image(*PRIVATE.split(":")).digest in daemon.pull(f"{plain.host}/{PRIVATE}")


def test_a_login_at_the_mirror_is_not_used_for_it(dockerd: Dockerd, hub: Hub) -> None:
    """Docker does not use what `docker login proxy` stored when it pulls through the mirror."""
    daemon, plain = dockerd("classic", "plain")
    daemon.login(plain.host, "alice", "alicepw")
    hub.forget()
    with pytest.raises(CommandFailed, match=re.escape(DEAD)):
        daemon.pull(PRIVATE)
    assert all("Authorization" not in asked.headers for asked in hub.select("token"))


@pytest.mark.parametrize("image_store", STORES)
@pytest.mark.parametrize("status", [500, 404])
def test_a_mirror_that_fails(
    status: int, image_store: ImageStore, dockerd: Dockerd, hub: Hub
) -> None:
    """README: when the proxy fails, Docker goes on to Docker Hub; here that is port 9 alone."""
    daemon, _ = dockerd(image_store, "plain")
    hub.fail(part="registry", path="/manifests/", status=status, times=None)
    with pytest.raises(CommandFailed) as failure:
        daemon.pull("alpine:3.19")
    told = failure.value.output + daemon.server.log
    assert set(DIALLED.findall(told)) == {DEAD}
    assert "registry-1.docker.io" in told
    assert hub.pulls == 0


@pytest.mark.parametrize("image_store", STORES)
def test_by_digest(image_store: ImageStore, dockerd: Dockerd, hub: Hub) -> None:
    """An image pinned by its digest comes under every name, and the digest is what was pinned."""
    daemon, plain = dockerd(image_store, "plain")
    digest = hub.image("library/alpine", "3.19").digest
    for name in ("alpine", f"{plain.host}/alpine"):
        assert digest in daemon.pull(f"{name}@{digest}")
    assert hub.count("registry", path="/manifests/(?!sha256:)") == 0
