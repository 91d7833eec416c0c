"""What rules deny: over a running Docxy with a cache, counting what reached the hub."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests import programs
from tests.clients.process import CommandFailed
from tests.hub.content import multi_arch
from tests.hub.hub import Hub
from tests.hub.images import OCI_KIND, Image
from tests.integration.caching import Cached, asked, caching, switched_off, with_token
from tests.integration.pulling import Use
from tests.lines import all_lines
from tests.servers import ROOT, clean_environment, wait_until

pytestmark = pytest.mark.integration

OPEN, SECRET, PINNED = "library/open", "library/secret", "library/pinned"
INSIDE, OUTSIDE = "198.51.100.7", "203.0.113.9"
MESSAGE = "ask the platform team for this image"
RULES = f"""
[[rules]]
action = "allow"
networks = ["{INSIDE}"]

[[rules]]
action = "deny"
registry = "docker.io"
repository = "secret"
message = "{MESSAGE}"

[[rules]]
action = "allow"
repository = "**pinned"
digest_only = true

[[rules]]
action = "deny"
tag = "unstable*"
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    programs.require("docker-registry")
    with Hub() as hub:
        for name in (OPEN, SECRET, PINNED):
            hub.push(name, multi_arch(name, OCI_KIND, 3000), ["1", "unstable-1"])
        yield hub


@pytest.fixture(scope="module", params=["passthrough", "managed"])
def ruled(
    hub: Hub, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cached]:
    """Return a Docxy with rules, which has all images in its cache."""
    folder = tmp_path_factory.mktemp("ruled")
    config = folder / "docxy.toml"
    config.write_text(RULES)
    settings = {
        **hub.settings,
        "DOCXY_CONFIG": str(config),
        "DOCXY_CREDENTIALS": request.param,
        "DOCXY_WELL_KNOWN": "ghcr.io",
        "DOCXY_TAG_TTL": "3600",
    }
    with caching(hub, folder / "cache", **settings) as cached:
        for name in (OPEN, SECRET, PINNED):
            for path in paths(name, hub.image(name, "1")):
                assert ask(cached, path, name, client=INSIDE).status_code == 200
        yield cached


def ask(
    cached: Cached, path: str, name: str, method: str = "GET", client: str = OUTSIDE
) -> requests.Response:
    """Ask as a client behind a front, with a token from there, on connections of its own."""
    return with_token(cached.proxy, path, name, method, {"X-Forwarded-For": client})


def paths(name: str, image: Image) -> list[str]:
    """Return all that one can ask of an image."""
    return [
        f"/v2/{name}/manifests/1",
        f"/v2/{name}/manifests/{image.digest}",
        f"/v2/{name}/blobs/{min(image.all_blobs)}",
        f"/v2/{name}/tags/list",
        f"/v2/{name}/referrers/{image.digest}",
        f"/page/tags?image={name}",
    ]


NAMES = [
    SECRET,
    "secret",
    "docker.io/library/secret",
    "docker.io/secret",
    "index.docker.io/secret",
    "registry-1.docker.io/library/secret",
    "%73ecret",
    "library%2Fsecret",
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_reaches_the_hub(ruled: Cached, method: str) -> None:
    """By no name, and not out of the cache either; not even a token is asked for."""
    hub = ruled.hub
    hub.reset()
    for name in NAMES:
        for path in paths(name, hub.image(SECRET, "1")):
            answer = ask(ruled, path, unquote(name), method)
            assert answer.status_code == 403, path
            assert method == "HEAD" or MESSAGE in answer.text, path
            assert "Docker-Content-Digest" not in answer.headers, path
    assert hub.requests == []


def test_nothing_is_served_while_the_hub_is_away(ruled: Cached) -> None:
    """What is denied is not served stale."""
    image = ruled.hub.image(SECRET, "1")
    with switched_off(ruled.hub):
        for path in paths(SECRET, image):
            assert ask(ruled, path, SECRET).status_code == 403


def test_no_ns_leads_around_it(ruled: Cached) -> None:
    """However the registry is called; one that is not served is none."""
    ruled.hub.reset()
    for path in (
        "/v2/library/secret/manifests/1?ns=docker.io",
        "/v2/secret/tags/list?ns=DOCKER.IO",
    ):
        assert MESSAGE in ask(ruled, path, SECRET).text
    assert ruled.hub.requests == []
    elsewhere = ask(ruled, "/v2/nowhere.example/library/secret/manifests/1", SECRET)
    assert elsewhere.status_code == 404
    assert asked(ruled.hub) == []


def test_by_digest_only(ruled: Cached) -> None:
    """By tag the rule refuses; by digest the image is there, with its layers."""
    image = ruled.hub.image(PINNED, "1")
    ruled.hub.reset()
    by_tag = ask(ruled, f"/v2/{PINNED}/manifests/1", PINNED)
    assert (by_tag.status_code, "by digest only" in by_tag.text) == (403, True)
    assert ruled.hub.count("registry", "GET", "/manifests/") == 0
    for path in paths(PINNED, image)[1:]:
        assert ask(ruled, path, PINNED).status_code == 200


def test_by_tag(ruled: Cached) -> None:
    """The tag that a rule names, and none beside it."""
    assert ask(ruled, f"/v2/{OPEN}/manifests/unstable-1", OPEN).status_code == 403
    for path in paths(OPEN, ruled.hub.image(OPEN, "1")):
        assert ask(ruled, path, OPEN).status_code == 200


def test_by_network(ruled: Cached) -> None:
    """The first rule that matches decides; who hides is in no network."""
    path = f"/v2/{SECRET}/manifests/1"
    assert ask(ruled, path, SECRET, client=INSIDE).status_code == 200
    assert ask(ruled, path, SECRET, client=f"{INSIDE}, unknown").status_code == 403


def test_the_log_says_which_rule(ruled: Cached) -> None:
    """One line has who, what and which rule."""
    before = len(ruled.proxy.log)
    ask(ruled, "/v2/secret/manifests/1", SECRET)
    told = f"client={OUTSIDE} registry=docker.io repository={SECRET} reference=1 rule=2"
    wait_until(lambda: told in ruled.proxy.log[before:], what="the line of the refusal")


def test_refusals_are_counted(ruled: Cached) -> None:
    """By rule, and by all workers together."""
    all_lines(ruled.proxy)  # or what was refused before is counted after that
    before = refusals(ruled)
    for _ in range(8):
        ask(ruled, "/v2/secret/manifests/1", SECRET)
    ask(ruled, f"/v2/{PINNED}/manifests/1", PINNED)

    def counted() -> bool:
        return refusals(ruled) == before + Counter({"2": 8, "3": 1})

    wait_until(counted, what="the counts of all workers")


def test_the_command_says_what_is_decided(ruled: Cached) -> None:
    """In a process of its own, from the same settings, and nobody is asked."""
    ruled.hub.reset()
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "access", "check", "--network"]
    env = clean_environment(**ruled.settings)
    done = subprocess.run(
        [*command, OUTSIDE, "secret:1"],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        f"{SECRET} of docker.io, for {OUTSIDE}",
        f"the manifest by the tag 1: denied by rule 2: {MESSAGE}",
        f"other requests by digest, and lists: denied by rule 2: {MESSAGE}",
    ]
    assert (done.returncode, ruled.hub.requests) == (1, [])


def refusals(ruled: Cached) -> Counter[str]:
    """Return how many requests each rule has refused."""
    text = requests.get(f"{ruled.proxy.url}/metrics", timeout=30).text
    return Counter(
        {
            sample.labels["rule"]: int(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "docxy_refusals_total"
        }
    )


SHOWN: Mapping[str, str] = {
    "skopeo": MESSAGE,
    "podman": MESSAGE,
    "docker": MESSAGE,
    # They ask with HEAD first, whose answer has no body.
    "docker-containerd": "403 F",
    "ctr": "403 F",
}


@pytest.mark.parametrize("client", SHOWN)
def test_what_clients_show(ruled: Cached, tmp_path: Path, client: str) -> None:
    """The operator's own words, where a client shows any; by name at one Docxy, as mirror at one.

    Which of the two is a matter of turns: both refuse before any login is looked at.
    """
    uses: tuple[Use, Use] = ("by name", "as mirror")
    is_managed = ruled.settings["DOCXY_CREDENTIALS"] == "managed"
    use = uses[([*SHOWN].index(client) + is_managed) % 2]
    ruled.hub.reset()
    host = ruled.way.host if use == "by name" else "docker.io"
    with ruled.fresh(client, tmp_path, use) as one:
        with pytest.raises(CommandFailed) as failure:
            one.pull(f"{host}/{SECRET}:1")
        told = failure.value.output
        if (client, use) == ("docker", "as mirror"):
            told = one.log()  # and goes on to Docker Hub
    assert SHOWN[client] in told
    assert asked(ruled.hub) == []
