"""Rules about what an image is: over a running Docxy with two workers and a cache."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from tests import programs
from tests.clients.process import CommandFailed
from tests.hub.hub import Hub
from tests.hub.images import (
    OCI_MANIFEST,
    Blob,
    Image,
    artifact,
    image,
    index,
    layer,
)
from tests.integration.caching import Cached, caching, switched_off, with_token
from tests.integration.pulling import OURS
from tests.servers import Docxy, docxy, wait_until

pytestmark = pytest.mark.integration

NAME = "library/judged"
RULES = f"""
[[rules]]
action = "allow"
platforms = ["{OURS}"]
min_age_days = 7
"""
TIMES = 6
"""Questions, on connections of their own, so that both workers are asked."""


def made(platform: str, days: int, name: str) -> Image:
    """Return an image that says it was made so many days ago."""
    base = image([layer({"/name.txt": name.encode()})], platform=platform)
    assert base.config is not None
    created = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    said = json.loads(base.config.data) | {"created": created}
    config = Blob(base.config.media_type, json.dumps(said).encode())
    document = base.document | {"config": config.descriptor()}
    return Image(base.media_type, json.dumps(document).encode(), config, base.layers)


OLD, YOUNG = made(OURS, 30, "old"), made(OURS, 1, "young")
FOREIGN, FUTURE = made("linux/s390x", 30, "foreign"), made(OURS, -30, "future")
ATTESTATION = made("unknown/unknown", 30, "attestation")  # as BuildKit puts one beside an image
ALL = index({OURS: OLD, "linux/s390x": FOREIGN, "unknown/unknown": ATTESTATION})
SIGNATURE = artifact("application/vnd.example.signature", b"signed", "text/plain", OLD)
SERVED = {"old": OLD, "all": ALL}
REFUSED = {
    "young": (YOUNG, "7 days old or more, and this one says 20"),
    "foreign": (FOREIGN, f"for {OURS} only, and this one is for linux/s390x"),
    "future": (FUTURE, "7 days old or more, and this one says 20"),
    "attestation": (ATTESTATION, "this one is for unknown/unknown"),
    "signature": (SIGNATURE, "this one does not name its platform"),
}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    programs.require("docker-registry")
    with Hub() as hub:
        for tag, one in [*SERVED.items(), *((tag, one) for tag, (one, _) in REFUSED.items())]:
            hub.push(NAME, one, [tag])
        yield hub


@pytest.fixture(scope="module", params=["passthrough", "managed"])
def judging(
    hub: Hub, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cached]:
    """Return a Docxy with such a rule."""
    folder = tmp_path_factory.mktemp("judging")
    config = folder / "docxy.toml"
    config.write_text(RULES)
    settings = {
        **hub.settings,
        "DOCXY_CONFIG": str(config),
        "DOCXY_CREDENTIALS": request.param,
        "DOCXY_TAG_TTL": "0",
    }
    if request.param == "managed":  # nothing that is read here shall be nginx's to send
        settings["DOCXY_ACCEL_LOCATION"] = "/docxy-cache/"
    with caching(hub, folder / "cache", **settings) as cached:
        yield cached


def ask(proxy: Docxy, what: str, reference: str, method: str) -> requests.Response:
    """Ask with a token from there."""
    return with_token(proxy, f"/v2/{NAME}/{what}/{reference}", NAME, method)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("tag", SERVED)
def test_what_is_served(judging: Cached, tag: str, method: str) -> None:
    """By tag and by digest, by both workers, from the hub and out of the cache."""
    one = SERVED[tag]
    for reference in (tag, one.digest):
        for _ in range(TIMES):
            answer = ask(judging.proxy, "manifests", reference, method)
            assert answer.status_code == 200
            assert answer.headers["Docker-Content-Digest"] == one.digest
            assert answer.content == (one.body if method == "GET" else b"")


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("tag", REFUSED)
def test_what_is_refused(judging: Cached, tag: str, method: str) -> None:
    """Wherever it comes from; the cache has it, since it was read to decide."""
    one, told = REFUSED[tag]
    for reference in (tag, one.digest):
        for _ in range(TIMES):
            answer = ask(judging.proxy, "manifests", reference, method)
            assert answer.status_code == 403
            assert method == "HEAD" or told in answer.text
            assert "Docker-Content-Digest" not in answer.headers


def test_the_line_of_a_refusal(judging: Cached) -> None:
    """It has who, what, why and which rule, as that of any other one."""
    before = len(judging.proxy.log)
    ask(judging.proxy, "manifests", "foreign", "HEAD")

    def told() -> bool:
        lines = judging.proxy.log[before:].splitlines()
        (line,) = [line for line in lines if "Request refused." in line] or [""]
        parts = (f"for {OURS} only", "client=127.0.0.1", f"repository={NAME}", "rule=1")
        return all(part in line for part in parts)

    wait_until(told, what="the line")


def test_blobs_are_not_stopped(judging: Cached) -> None:
    """The page says so."""
    for blob in YOUNG.blobs:
        assert ask(judging.proxy, "blobs", blob.digest, "GET").status_code == 200


def test_what_is_not_there(judging: Cached) -> None:
    """The registry's own words."""
    answer = ask(judging.proxy, "manifests", "nowhere", "GET")
    assert (answer.status_code, "MANIFEST_UNKNOWN" in answer.text) == (404, True)


def test_a_burst(hub: Hub, judging: Cached) -> None:
    """Whoever asks for the same at once, at either worker: it costs one pull, or one a worker."""
    burst(hub, judging.proxy, "burst", most=1)


def test_a_burst_without_a_cache(hub: Hub, tmp_path: Path) -> None:
    """Each worker finds out for itself, once, and never again."""
    config = tmp_path / "docxy.toml"
    config.write_text(RULES)
    with docxy(**hub.settings, DOCXY_CONFIG=str(config)) as proxy:
        burst(hub, proxy, "uncached", most=2)


def burst(hub: Hub, proxy: Docxy, name: str, most: int) -> None:
    """Ask for an image that nobody knows with many HEADs at once, and once more."""
    new = hub.push(NAME, made(OURS, 30, f"{name} of {proxy.url}"), [name])
    hub.reset()
    for _ in range(2):
        with ThreadPoolExecutor(16) as pool:
            asking = [pool.submit(ask, proxy, "manifests", name, "HEAD") for _ in range(32)]
            assert {one.result(60).status_code for one in asking} == {200}
        for path in (f"/manifests/{new.digest}", f"/blobs/{new.blobs[0].digest}"):
            assert 1 <= hub.count("registry", "GET", path) <= most
        assert hub.count("registry", "GET", f"/manifests/{name}") == 0


@pytest.mark.parametrize("judging", ["passthrough"], indirect=True)  # the other one has no nginx
@pytest.mark.parametrize(
    ("client", "shown"),
    [
        pytest.param("podman", "7 days old or more", id="podman"),
        pytest.param("ctr", "403 F", id="ctr"),  # it asks with HEAD, whose answer has no body
    ],
)
def test_a_client(judging: Cached, tmp_path: Path, client: str, shown: str) -> None:
    """It pulls what it may out of an index, whatever else is in that, and shows a refusal."""
    host = judging.way.host
    with judging.fresh(client, tmp_path) as one:
        assert one.pull(f"{host}/{NAME}:all") == one.kept(ALL)
        with pytest.raises(CommandFailed) as failure:
            one.pull(f"{host}/{NAME}:young")
    assert shown in failure.value.output


def test_what_is_private(hub: Hub, judging: Cached) -> None:
    """Who may not read it learns nothing of it, though workers know what it is."""
    hub.push("alice/judged", YOUNG, ["1"])
    hub.make_private("alice/judged")
    url = f"{judging.proxy.url}/v2/alice/judged/manifests/{YOUNG.digest}"
    for _ in range(TIMES):
        assert "days old" in ask(judging.proxy, "manifests", YOUNG.digest, "GET").text
        answer = requests.get(url, headers={"Accept": OCI_MANIFEST}, timeout=30)
        assert answer.status_code in {401, 403}
        assert "days old" not in answer.text
        assert "rule" not in answer.text


def test_while_the_hub_is_away(judging: Cached) -> None:
    """What is kept is judged as ever, and nobody is asked."""
    images = SERVED | {tag: one for tag, (one, _) in REFUSED.items()}
    questions = [
        (tag, reference, method)
        for tag in images
        for reference in (tag, images[tag].digest)
        for method in ("HEAD", "GET")
    ]

    def answers(times: int, warning: str) -> None:
        for tag, reference, method in questions * times:
            answer = ask(judging.proxy, "manifests", reference, method)
            assert answer.status_code == (200 if tag in SERVED else 403), (tag, reference, method)
            if tag in SERVED and reference == tag:  # what has a digest is not out of date
                assert answer.headers.get("Warning", "").startswith(warning), (tag, method)
            elif tag in REFUSED:
                assert "Warning" not in answer.headers

    answers(1, warning="")
    with switched_off(judging.hub):
        answers(TIMES, warning="299 ")  # be it from a worker that has not seen the image before

    # Nobody after this shall find the registry left alone still.
    def is_back() -> bool:
        answers = [ask(judging.proxy, "manifests", "nowhere", "GET") for _ in range(TIMES)]
        return {answer.status_code for answer in answers} == {404}

    wait_until(is_back, what="the registry")
