"""Docker Hub's limits as clients see them."""

from pathlib import Path

import pytest

from tests import programs
from tests.clients.process import CommandFailed
from tests.clients.skopeo import Skopeo
from tests.hub.hub import Hub
from tests.integration.pulling import Start, Use, Way, WayName
from tests.integration.raw import RawBy

pytestmark = pytest.mark.integration


@pytest.fixture
def exhausted(hub: Hub) -> Hub:
    """Leave strangers no pull."""
    hub.remaining = 0
    return hub


@pytest.mark.parametrize("use", ["by name", "as mirror"])
@pytest.mark.parametrize("name", ["docker", "docker-containerd", "ctr"])
def test_a_client_tells_of_the_limit(name: str, use: Use, start: Start, exhausted: Hub) -> None:
    """Without a pull left, the client shows what Docker Hub says about it.

    With a mirror, a dockerd with the classic store logs it, and goes on to Docker Hub.
    """
    client, there = start(name, "plain", use)
    host = there.host if use == "by name" else "docker.io"
    with pytest.raises(CommandFailed) as failure:
        client.pull(f"{host}/library/alpine:3.19")
    told = failure.value.output
    if (name, use) == ("docker", "as mirror"):
        assert "proxyconnect tcp: dial tcp 127.0.0.1:9" in told
        told = client.log()
    assert "toomanyrequests: You have reached your pull rate limit" in told
    assert exhausted.count("registry", "GET", "/manifests/", 429) > 0
    assert exhausted.count("cdn") == 0


@pytest.mark.parametrize("way", ["plain", "nginx", "caddy"])
def test_the_answer_says_when_to_come_again(way: WayName, raw_by: RawBy, exhausted: Hub) -> None:
    """The 429 is Docker Hub's own, with a Retry-After that no client waits for hours on."""
    raw = raw_by(way)
    raw.log_in("library/alpine")
    answer = raw.ask("GET", "/v2/library/alpine/manifests/3.19")
    assert answer.status_code == 429
    assert answer.json()["errors"][0]["code"] == "TOOMANYREQUESTS"
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert answer.headers["Content-Type"] == "application/json"
    assert exhausted.pulls == 0


def test_head_is_free(raw_by: RawBy, exhausted: Hub) -> None:
    """Without a pull left, a version check still works: a HEAD goes up as a HEAD."""
    raw = raw_by("plain")
    raw.log_in("library/alpine")
    answer = raw.ask("HEAD", "/v2/library/alpine/manifests/3.19")
    image = exhausted.image("library/alpine", "3.19")
    assert answer.status_code == 200
    assert answer.headers["Docker-Content-Digest"] == image.digest
    assert int(answer.headers["Content-Length"]) == image.size
    assert [asked.method for asked in exhausted.select("registry", path="/manifests/")] == ["HEAD"]


def test_who_logs_in_has_pulls_of_their_own(start: Start, exhausted: Hub) -> None:
    """A limit of strangers is none for a user."""
    client, there = start("docker", "plain", "by name")
    client.log_in("bob", "bobpw")
    image = exhausted.image("library/alpine", "3.19")
    assert client.pull(f"{there.host}/alpine:3.19") == client.kept(image)


def test_skopeo_waits_as_it_is_told(plain: Way, hub: Hub, tmp_path: Path) -> None:
    """A short Retry-After of Docker Hub reaches skopeo, which tries again after it.

    Without one, it would wait two seconds.
    """
    programs.require("skopeo")
    wait = {"Retry-After": "3"}
    hub.fail(part="registry", path="/manifests/", status=429, headers=wait, times=1)
    image = hub.image("library/alpine", "3.19")
    assert image.digest in Skopeo(tmp_path).copy_all(f"{plain.host}/library/alpine:3.19")
    refused, again = hub.select("registry", "GET", "/manifests/3.19")
    assert (refused.status, again.status) == (429, 200)
    assert again.at - refused.at >= 3
