"""Builds of Docker from several registries behind one Docxy, and where its login goes."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests import programs
from tests.clients.docker import Builder, Docker, ImageStore, docker
from tests.clients.process import CommandFailed
from tests.integration.pulling import ours
from tests.integration.registry_table import CAROL, PRIVATE, REFUSED, Served, known_at

pytestmark = pytest.mark.integration

Dockerd = Callable[[ImageStore, Builder], Docker]


@pytest.fixture
def dockerd() -> Iterator[Dockerd]:
    """Return what starts a dockerd that has pulled nothing."""
    with contextlib.ExitStack() as stack:

        def started(image_store: ImageStore, builder: Builder) -> Docker:
            programs.require_dockerd(image_store=image_store, builder=builder)
            return stack.enter_context(docker(image_store=image_store))

        yield started


@pytest.mark.parametrize("image_store", ["classic", "containerd"])
@pytest.mark.parametrize("builder", ["classic", "buildkit"])
def test_build(builder: Builder, image_store: ImageStore, dockerd: Dockerd, served: Served) -> None:
    """The bases of one build come from two registries, each from its own.

    One is private at the default registry, and who has logged in there is nobody at the other.
    """
    daemon = dockerd(image_store, builder)
    daemon.login(served.host, *CAROL)
    dockerfile = (
        f"FROM {served.host}/{PRIVATE} AS mine\n"
        f"FROM {served.host}/ghcr.io/owner/app:1\n"
        "COPY --from=mine /etc/platform /mine\n"
    )
    built = daemon.build(dockerfile, "built", builder=builder)
    ghcr = served.hubs["ghcr.io"]
    assert {layer.diff_id for layer in ours(ghcr.image("owner/app", "1")).layers} < built
    assert served.hubs["docker.io"].count("registry", "GET", "/alice/private/blobs/") > 0
    assert known_at(ghcr) == set()
    served.assert_only("docker.io", "ghcr.io")


@pytest.mark.parametrize("image_store", ["classic", "containerd"])
def test_build_from_a_private_image_by_prefix(
    image_store: ImageStore, dockerd: Dockerd, served: Served
) -> None:
    """A login at the default registry opens no base of another one, nor is it shown there."""
    daemon = dockerd(image_store, "buildkit")
    daemon.login(served.host, *CAROL)
    served.forget()
    with pytest.raises(CommandFailed) as failure:
        daemon.build(f"FROM {served.host}/quay.io/{PRIVATE}\n", "built", builder="buildkit")
    assert REFUSED.search(failure.value.output)
    assert known_at(served.hubs["quay.io"]) == set()
    served.assert_only("quay.io")
