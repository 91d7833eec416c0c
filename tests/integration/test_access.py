"""Who may pull: over a running Docxy with a cache, counting what reached the hub."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import requests

from tests import programs
from tests.clients.process import CommandFailed
from tests.hub.hub import Hub
from tests.hub.images import OCI_INDEX, OCI_MANIFEST, Image
from tests.integration.caching import Cached, caching, push
from tests.servers import wait_until

pytestmark = pytest.mark.integration

NAME = "library/guarded"
ALLOWED, DENIED, ELSEWHERE = "198.51.100.7", "198.51.100.66", "203.0.113.9"
REFUSAL = "this proxy does not serve your network"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    programs.require("docker-registry")
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def image(hub: Hub) -> Image:
    """Return what is there to pull."""
    return push(hub, NAME)


@pytest.fixture(scope="module")
def guarded(hub: Hub, image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cached]:
    """Return a Docxy for one network less one address, which has the image in its cache.

    This machine is the server in front, and no client.
    """
    with caching(
        hub,
        tmp_path_factory.mktemp("guarded") / "cache",
        DOCXY_CREDENTIALS="managed",
        DOCXY_TAG_TTL="3600",
        DOCXY_ALLOW_NETWORKS="198.51.100.0/24, 2001:db8::/32",
        DOCXY_DENY_NETWORKS=DENIED,
        DOCXY_FIGURES_NETWORKS="198.51.100.8",
    ) as cached:
        for path in paths(image).values():
            assert ask(cached, path, X_Forwarded_For=ALLOWED).status_code in {200, 404}
        yield cached


def ask(cached: Cached, path: str, method: str = "GET", **headers: str) -> requests.Response:
    """Ask on a connection of its own, so that either worker may be the one."""
    fields = {"Accept": f"{OCI_INDEX}, {OCI_MANIFEST}"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.request(method, f"{cached.proxy.url}{path}", headers=fields, timeout=30)


def paths(image: Image) -> Mapping[str, str]:
    """Return all that one can ask of an image, and what belongs to it."""
    blob = min(image.all_blobs)
    return {
        "ping": "/v2/",
        "tag": f"/v2/{NAME}/manifests/1",
        "by ns": "/v2/guarded/manifests/1?ns=docker.io",
        "by prefix": "/v2/docker.io/library/guarded/manifests/1",
        "digest": f"/v2/{NAME}/manifests/{image.digest}",
        "blob": f"/v2/{NAME}/blobs/{blob}",
        "tags": f"/v2/{NAME}/tags/list",
        "referrers": f"/v2/{NAME}/referrers/{image.digest}",
        "token": f"/auth/token?scope=repository:{NAME}:pull",
        "search": "/v1/search?q=guarded",
        "tags of the page": f"/page/tags?image={NAME}",
        "page": "/",
        "config": "/config/docker",
    }


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nobody_on_the_way_keeps_it(guarded: Cached, image: Image, method: str) -> None:
    """The image is public, and this proxy is not: a cache in front would be for everybody."""
    for name, path in paths(image).items():
        said = ask(guarded, path, method, X_Forwarded_For=ALLOWED).headers.get("Cache-Control")
        if name in {"ping", "tag", "by ns", "by prefix", "digest", "blob", "tags", "search"}:
            assert said == "private, no-store", name
        assert "public" not in (said or ""), name


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "forwarded",
    [
        pytest.param(DENIED, id="denied"),
        pytest.param(f"::ffff:{DENIED}", id="denied, mapped"),
        pytest.param(ELSEWHERE, id="from elsewhere"),
        pytest.param(f"{ALLOWED}, {ELSEWHERE}", id="pretends"),
        pytest.param("unknown", id="hidden"),
        pytest.param("", id="the front itself"),
    ],
)
def test_nothing_reaches_the_hub(
    guarded: Cached, image: Image, method: str, forwarded: str
) -> None:
    """Whatever is asked: also what is kept goes to nobody who may not ask."""
    guarded.hub.reset()
    headers = {"X_Forwarded_For": forwarded} if forwarded else {}
    for name, path in paths(image).items():
        for _ in range(3):
            answer = ask(guarded, path, method, **headers)
            assert answer.status_code == 403, name
            assert "Docker-Content-Digest" not in answer.headers
            assert len(answer.content) < 300
    assert guarded.hub.requests == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods(guarded: Cached, method: str) -> None:
    """A login, a push: nothing is taken from who may not ask."""
    guarded.hub.reset()
    for path in ("/auth/token", f"/v2/{NAME}/blobs/uploads/", "/page/rewrite", "/"):
        answer = ask(guarded, path, method, X_Forwarded_For=ELSEWHERE)
        assert (answer.status_code, REFUSAL in answer.text) == (403, True)
    assert guarded.hub.requests == []


@pytest.mark.parametrize("forwarded", [ALLOWED, f"::ffff:{ALLOWED}", "2001:db8::7"])
def test_who_may_pulls(guarded: Cached, image: Image, forwarded: str) -> None:
    """The lists take nothing away from who is in them."""
    for path in paths(image).values():
        assert ask(guarded, path, X_Forwarded_For=forwarded).status_code in {200, 404}
    manifest = ask(guarded, paths(image)["tag"], X_Forwarded_For=forwarded)
    assert manifest.headers["Docker-Content-Digest"] == image.digest


def test_health_and_figures(guarded: Cached) -> None:
    """Balancers ask from anywhere; figures have their own setting besides."""
    assert ask(guarded, "/health").status_code == 200
    assert ask(guarded, "/health", X_Forwarded_For=ELSEWHERE).status_code == 200
    assert ask(guarded, "/metrics", X_Forwarded_For="198.51.100.8").status_code == 200
    assert "DOCXY_FIGURES_NETWORKS" in ask(guarded, "/metrics", X_Forwarded_For=ALLOWED).text
    assert REFUSAL in ask(guarded, "/metrics", X_Forwarded_For=ELSEWHERE).text


def test_the_log_says_who(guarded: Cached) -> None:
    """One line says why, and the request's own line says who, by the same id."""
    ask(guarded, "/v2/", X_Forwarded_For=ELSEWHERE, X_Request_ID="refused-1")

    def lines() -> list[str]:
        return [line for line in guarded.proxy.log.splitlines() if "request_id=refused-1" in line]

    wait_until(lambda: any(f"client={ELSEWHERE}" in line for line in lines()), what="its line")
    assert any(f'reason="{REFUSAL}"' in line and "code=DENIED" in line for line in lines())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        # Those of Debian 12 show the status of a ping alone.
        pytest.param("skopeo", f"{REFUSAL}|403 \\(Forbidden\\)", id="skopeo"),
        pytest.param("podman", f"{REFUSAL}|403 \\(Forbidden\\)", id="podman"),
        pytest.param("docker", REFUSAL, id="docker"),
        # They ask with HEAD first, whose answer has no body.
        pytest.param("docker-containerd", "403 FORBIDDEN", id="docker-containerd"),
        pytest.param("ctr", "403 FORBIDDEN", id="ctr"),
    ],
)
def test_what_clients_show(guarded: Cached, name: str, shown: str, tmp_path: Path) -> None:
    """Nobody is told that an image is missing."""
    guarded.hub.reset()
    with guarded.fresh(name, tmp_path) as client, pytest.raises(CommandFailed) as failure:
        client.pull(f"{guarded.way.host}/{NAME}:1")
    assert re.search(shown, failure.value.output)
    assert guarded.hub.requests == []
