"""What Docxy counts: exactly what was done, by all workers together, whichever of them lives."""

import contextlib
import operator
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests import programs
from tests.hub.budget import SOURCE
from tests.hub.content import multi_arch
from tests.hub.gates import Gate
from tests.hub.hub import Hub
from tests.hub.images import OCI_INDEX, OCI_KIND, OCI_MANIFEST
from tests.integration.caching import Cached, caching
from tests.lines import only
from tests.servers import wait_until

pytestmark = pytest.mark.integration

NAME = "library/counted"
ACCEPT = {"Accept": f"{OCI_INDEX}, {OCI_MANIFEST}"}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    programs.require("docker-registry")
    with Hub() as hub:
        hub.push(NAME, multi_arch(NAME, OCI_KIND, 300_000), ["1"])
        yield hub


@pytest.fixture
def counted(hub: Hub, tmp_path: Path) -> Iterator[Cached]:
    """Return a Docxy whose counts lie where the test can see them."""
    hub.reset()
    counts = tmp_path / "counts"
    counts.mkdir()
    with caching(
        hub,
        tmp_path / "cache",
        DOCXY_CREDENTIALS="managed",
        PROMETHEUS_MULTIPROC_DIR=str(counts),
    ) as cached:
        # One that is stopped while it starts would hold up those that read.
        wait_until(lambda: cached.proxy.log.count("is ready") == 2, what="two workers")
        yield cached


def ask(cached: Cached, path: str, method: str = "GET", **headers: str) -> requests.Response:
    """Ask on a connection of its own."""
    return requests.request(method, f"{cached.proxy.url}{path}", headers=headers, timeout=30)


def series(cached: Cached) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and the values of its labels, in the order of the names."""
    text = ask(cached, "/metrics").text
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def pull(cached: Cached) -> None:
    """Pull an image as a client does."""
    image = cached.hub.image(NAME, "1")
    assert ask(cached, "/v2/").status_code == 200
    assert ask(cached, f"/v2/{NAME}/manifests/1", "HEAD", **ACCEPT).status_code == 200
    index = ask(cached, f"/v2/{NAME}/manifests/1", **ACCEPT)
    first = index.json()["manifests"][0]["digest"]
    assert ask(cached, f"/v2/{NAME}/manifests/{first}", **ACCEPT).status_code == 200
    for digest, blob in image.all_blobs.items():
        assert len(ask(cached, f"/v2/{NAME}/blobs/{digest}").content) == blob.size


def expected(cached: Cached, pulls: int) -> dict[tuple[str, ...], float]:
    """Return what so many pulls come to, the first of which has brought all of it."""
    hub = cached.hub
    image, reached = hub.image(NAME, "1"), len(hub.requests)
    blobs, size = len(image.all_blobs), sum(blob.size for blob in image.all_blobs.values())
    manifests = sum(path.stat().st_size for path in cached.files) - size
    spent = hub.count("registry", "GET", "/manifests/")
    assert spent == 2
    hub_io = "docker.io"
    return {
        ("docxy_requests_total", "GET", hub_io, "ping", "2xx"): pulls,
        ("docxy_requests_total", "HEAD", hub_io, "manifest", "2xx"): pulls,
        ("docxy_requests_total", "GET", hub_io, "manifest", "2xx"): 2 * pulls,
        ("docxy_requests_total", "GET", hub_io, "blob", "2xx"): blobs * pulls,
        ("docxy_request_duration_seconds_count", hub_io, "blob"): blobs * pulls,
        ("docxy_time_to_first_byte_seconds_count", hub_io, "manifest"): 3 * pulls,
        ("docxy_response_bytes_total", hub_io): (size + manifests) * pulls + 2 * pulls,
        ("docxy_upstream_requests_total", hub_io): reached,
        ("docxy_upstream_response_header_seconds_count", hub_io): reached,
        ("docxy_upstream_token_responses_total", hub_io, "2xx"): hub.count("token", "GET", "/"),
        ("docxy_pulls_spent_total", hub_io): spent,
        ("docxy_pulls_saved_total", hub_io): 2 * pulls - spent,
        ("docxy_cache_responses_total", hub_io, "revalidated"): 2 * (pulls - 1),
        # Blobs may be there before the first client asks.
        ("docxy_cache_responses_total",): 3 + blobs + (blobs + 1) * (pulls - 1),
        ("docxy_cache_response_bytes_total",): (size + manifests) * pulls,
        ("docxy_upstream_retries_total", hub_io): 0,
        ("docxy_active_downloads", hub_io): 0,
        ("docxy_cache_entries",): blobs + 2,
        ("docxy_cache_size_bytes",): size + manifests,
        ("docxy_pulls_limit", identity(cached), hub_io): 100,
        ("docxy_pulls_remaining", identity(cached), hub_io): 98,
    }


def identity(cached: Cached) -> str:
    """Return what the address of this proxy is called."""
    (docker_hub,) = ask(cached, "/figures").json()["registries"]
    (budget,) = docker_hub["rate_limits"]
    assert budget["kind"] == "address"
    assert SOURCE not in budget["identity"]
    return str(budget["identity"])


def counts_to(cached: Cached, pulls: int) -> None:
    """Wait until the counts are those of so many pulls: a request is counted when it is over."""

    def counted() -> tuple[dict[tuple[str, ...], float], dict[tuple[str, ...], float]]:
        wanted = expected(cached, pulls)
        found = series(cached)
        for name, left_out in (
            ("docxy_cache_responses_total", "revalidated"),
            ("docxy_cache_response_bytes_total", ""),
        ):
            found[name,] = sum(
                count for key, count in found.items() if key[0] == name and left_out not in key
            )
        return {key: found.get(key, 0) for key in wanted}, wanted

    with contextlib.suppress(TimeoutError):
        wait_until(lambda: operator.eq(*counted()), 5)
    found, wanted = counted()
    assert found == wanted


def test_counts_are_exact(counted: Cached, tmp_path: Path) -> None:
    """A pull by each of two workers, one that dies, and a pull by the one in its place."""
    first, second = counted.proxy.workers
    with only(counted.proxy, first):
        pull(counted)
    counts_to(counted, 1)
    with only(counted.proxy, second):
        pull(counted)
    counts_to(counted, 2)
    assert (tmp_path / "counts" / f"counter_{first}.db").exists()
    counted.kill(first)
    counts_to(counted, 2)
    assert not (tmp_path / "counts" / f"counter_{first}.db").exists()
    (third,) = set(counted.proxy.workers) - {second}
    with only(counted.proxy, third):
        pull(counted)
    counts_to(counted, 3)
    programs.require("promtool")
    assert accepts("promtool", ask(counted, "/metrics").content)


def accepts(promtool: str, text: bytes) -> bool:
    """Tell whether Prometheus knows of no fault in a text."""
    command = [promtool, "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, check=False)
    return (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_trouble_is_counted(counted: Cached) -> None:
    """A retry, a resume and an error that was survived, each once."""
    hub = counted.hub
    blob = max(hub.image(NAME, "1").all_blobs.values(), key=lambda one: one.size)
    hub.fail(part="registry", method="GET", path="/manifests/", status=503)
    hub.fail(part="cdn", cut_after=1000)
    assert len(ask(counted, f"/v2/{NAME}/blobs/{blob.digest}").content) == blob.size
    assert ask(counted, f"/v2/{NAME}/manifests/1", **ACCEPT).status_code == 200
    found = series(counted)
    assert found["docxy_upstream_retries_total", "docker.io"] == 1
    assert found["docxy_upstream_resumes_total", "docker.io"] == 1
    assert found["docxy_upstream_responses_total", "docker.io", "5xx"] == 1


def test_clients_hear_of_few_pulls(counted: Cached) -> None:
    """As long as some are left nothing is said; never is it told whose they are."""
    hub = counted.hub
    answers = []
    for remaining in (50, 9, 8):
        hub.remaining = remaining
        answers.append(ask(counted, f"/v2/{NAME}/manifests/1", **ACCEPT))
    assert [answer.headers.get("Warning") for answer in answers] == [
        None,
        '299 - "docker.io has 9 of 100 pulls left for this client"',
        '299 - "docker.io has 8 of 100 pulls left for this client"',
    ]
    assert not any("docker-ratelimit-source" in answer.headers for answer in answers)
    assert SOURCE not in f"{[answer.headers for answer in answers]}"
    assert SOURCE not in ask(counted, "/metrics").text + ask(counted, "/figures").text


def test_a_download_is_seen_by_all_workers(counted: Cached) -> None:
    """How far it is, whichever worker has it and whichever is asked."""
    hub = counted.hub
    blob = max(hub.image(NAME, "1").all_blobs.values(), key=lambda one: one.size)
    first, second = counted.proxy.workers
    with Gate() as gate:
        hub.fail(part="cdn", gate=gate, hold_after=100_000)
        with only(counted.proxy, first):
            url = f"{counted.proxy.url}/v2/{NAME}/blobs/{blob.digest}"
            download = requests.get(url, stream=True, timeout=30)
        with only(counted.proxy, second):
            (shown,) = ask(counted, "/figures").json()["downloads"]
        gate.open()
        assert len(download.content) == blob.size
    assert (shown["repository"], shown["reference"]) == (NAME, blob.digest)
    assert shown["total"] == blob.size
