"""Rules about a manifest by its digest: over a running Docxy with two workers and a cache."""

from collections.abc import Iterator

import pytest
import requests

from tests import programs
from tests.clients.process import CommandFailed
from tests.hub.hub import Hub
from tests.hub.images import OCI_INDEX, OCI_MANIFEST, image, index, layer
from tests.integration.caching import Cached, caching, switched_off, with_token
from tests.integration.pulling import OURS

pytestmark = pytest.mark.integration

NAME, PINNED = "library/watched", "library/pinned"
BAD = image([layer({"/name.txt": b"bad"})], platform=OURS)
GOOD = image([layer({"/name.txt": b"good"})], platform=OURS)
ALL = index({OURS: GOOD, "linux/s390x": BAD})
TAGS = {"bad": BAD, "also": BAD, "good": GOOD, "all": ALL}
RULES = f"""
[[rules]]
action = "deny"
repository = "{NAME}"
digests = ["{BAD.digest}"]
message = "this image is known to be bad"

[[rules]]
action = "allow"
digests = ["{GOOD.digest}"]

[[rules]]
action = "deny"
repository = "{PINNED}"
digests = ["*"]
"""
TIMES = 4
"""Questions, on connections of their own, so that both workers are asked."""


@pytest.fixture(scope="module")
def watching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cached]:
    """Return a Docxy with such rules."""
    programs.require("docker-registry")
    folder = tmp_path_factory.mktemp("watching")
    config = folder / "docxy.toml"
    config.write_text(RULES)
    with Hub() as hub:
        for name in (NAME, PINNED):
            for tag, one in TAGS.items():
                hub.push(name, one, [tag])
        settings = {**hub.settings, "DOCXY_CONFIG": str(config), "DOCXY_TAG_TTL": "0"}
        with caching(hub, folder / "cache", **settings) as cached:
            yield cached


def ask(cached: Cached, path: str, method: str = "GET", name: str = NAME) -> requests.Response:
    """Ask with a token from there."""
    return with_token(cached.proxy, f"/v2/{name}/{path}", name, method)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("reference", ["bad", "also", BAD.digest])
def test_what_is_denied(watching: Cached, reference: str, method: str) -> None:
    """By each tag that leads to it, from the hub and out of the cache, and by its digest."""
    for _ in range(TIMES):
        answer = ask(watching, f"manifests/{reference}", method)
        assert answer.status_code == 403
        assert method == "HEAD" or "known to be bad" in answer.text
        assert "Docker-Content-Digest" not in answer.headers


def test_no_registry_is_asked_by_the_digest(watching: Cached) -> None:
    """What is denied by what a client asks for goes nowhere."""
    watching.hub.reset()
    assert ask(watching, f"manifests/{BAD.digest}").status_code == 403
    assert watching.hub.count("registry", "GET", BAD.digest) == 0
    assert watching.hub.pulls == 0


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("tag", ["good", "all"])
def test_what_is_not(watching: Cached, tag: str, method: str) -> None:
    """Others, by tag and by digest; an index has another digest than what it names."""
    one = TAGS[tag]
    for reference in (tag, one.digest):
        answer = ask(watching, f"manifests/{reference}", method)
        assert answer.status_code == 200
        assert answer.content == (one.body if method == "GET" else b"")


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_one_and_no_other(watching: Cached, method: str) -> None:
    """All but one are denied, by tag and by digest; blobs and lists are not."""
    for reference, status in (
        ("good", 200), (GOOD.digest, 200),
        ("bad", 403), (BAD.digest, 403), ("all", 403), (ALL.digest, 403),
    ):  # fmt: skip
        answer = ask(watching, f"manifests/{reference}", method, PINNED)
        assert (reference, answer.status_code) == (reference, status)
    assert ask(watching, f"blobs/{BAD.layers[0].digest}", method, PINNED).status_code == 200
    assert ask(watching, "tags/list", name=PINNED).status_code == 200


def test_while_the_registry_is_away(watching: Cached) -> None:
    """What is kept is decided as what comes."""
    assert ask(watching, "manifests/also").status_code == 403
    assert ask(watching, "manifests/good").status_code == 200
    with switched_off(watching.hub):
        url, fields = watching.proxy.url, {"Accept": f"{OCI_INDEX}, {OCI_MANIFEST}"}
        for tag, status in (("also", 403), ("good", 200)):
            path = f"{url}/v2/{NAME}/manifests/{tag}"
            answer = requests.get(path, headers=fields, timeout=30)
            assert (tag, answer.status_code) == (tag, status)


def test_a_client(watching: Cached, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It shows the rule's message, and pulls what is not denied."""
    programs.require("skopeo")
    for tag in ("good", "also"):
        with watching.fresh("skopeo", tmp_path_factory.mktemp(tag)) as one:
            reference = f"{watching.way.host}/{NAME}:{tag}"
            if tag == "good":
                one.pull(reference)
                continue
            with pytest.raises(CommandFailed, match="known to be bad"):
                one.pull(reference)
