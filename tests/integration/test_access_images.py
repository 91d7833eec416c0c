"""Rules about what an image is: over a running Docxy with two workers and a cache."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import requests

from tests import programs
from tests.hub.hub import Hub
from tests.hub.images import OCI_INDEX, OCI_MANIFEST, Blob, Image, image, index, layer
from tests.integration.caching import Cached, caching, switched_off
from tests.servers import wait_until

pytestmark = pytest.mark.integration

NAME = "library/judged"
RULES = """
[[rules]]
action = "allow"
platforms = ["linux/amd64"]
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


OLD, YOUNG = made("linux/amd64", 30, "old"), made("linux/amd64", 1, "young")
FOREIGN, FUTURE = made("linux/arm64", 30, "foreign"), made("linux/amd64", -30, "future")
BOTH = index({"linux/amd64": OLD, "linux/arm64": FOREIGN})
SERVED = {"old": OLD, "both": BOTH}
REFUSED = {
    "young": (YOUNG, "7 days old or more"),
    "foreign": (FOREIGN, "for linux/amd64 only"),
    "future": (FUTURE, "7 days old or more"),
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


def ask(cached: Cached, what: str, reference: str, method: str) -> requests.Response:
    """Ask with a token from there."""
    url = cached.proxy.url
    scope = {"scope": f"repository:{NAME}:pull"}
    token = requests.get(f"{url}/auth/token", params=scope, timeout=30).json()["token"]
    fields = {"Accept": f"{OCI_INDEX}, {OCI_MANIFEST}", "Authorization": f"Bearer {token}"}
    return requests.request(
        method, f"{url}/v2/{NAME}/{what}/{reference}", headers=fields, timeout=30
    )


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("tag", SERVED)
def test_what_is_served(judging: Cached, tag: str, method: str) -> None:
    """By tag and by digest, by both workers, from the hub and out of the cache."""
    one = SERVED[tag]
    for reference in (tag, one.digest):
        for _ in range(TIMES):
            answer = ask(judging, "manifests", reference, method)
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
            answer = ask(judging, "manifests", reference, method)
            assert answer.status_code == 403
            assert method == "HEAD" or told in answer.text
            assert "Docker-Content-Digest" not in answer.headers


def test_blobs_are_not_stopped(judging: Cached) -> None:
    """The page says so."""
    for blob in YOUNG.blobs:
        assert ask(judging, "blobs", blob.digest, "GET").status_code == 200


def test_what_is_not_there(judging: Cached) -> None:
    """The registry's own words."""
    answer = ask(judging, "manifests", "nowhere", "GET")
    assert (answer.status_code, "MANIFEST_UNKNOWN" in answer.text) == (404, True)


def test_what_is_private(hub: Hub, judging: Cached) -> None:
    """Who may not read it learns nothing of it, though workers know what it is."""
    hub.push("alice/judged", YOUNG, ["1"])
    hub.make_private("alice/judged")
    url = f"{judging.proxy.url}/v2/alice/judged/manifests/{YOUNG.digest}"
    for _ in range(TIMES):
        assert "days old" in ask(judging, "manifests", YOUNG.digest, "GET").text
        answer = requests.get(url, headers={"Accept": OCI_MANIFEST}, timeout=30)
        assert answer.status_code in {401, 403}
        assert "days old" not in answer.text
        assert "rule" not in answer.text


def test_while_the_hub_is_away(judging: Cached) -> None:
    """What is kept is judged as ever, and nobody is asked."""
    statuses = dict.fromkeys(SERVED, 200) | dict.fromkeys(REFUSED, 403)
    images = SERVED | {tag: one for tag, (one, _) in REFUSED.items()}
    questions = [
        (tag, reference, method)
        for tag in statuses
        for reference in (tag, images[tag].digest)
        for method in ("HEAD", "GET")
    ]

    def answers() -> list[tuple[str, int]]:
        return [
            (tag, ask(judging, "manifests", reference, method).status_code)
            for tag, reference, method in questions
            for _ in range(TIMES)
        ]

    expected = [(tag, statuses[tag]) for tag, *_ in questions for _ in range(TIMES)]
    assert answers() == expected
    with switched_off(judging.hub):
        assert answers() == expected
    # Nobody after this shall find the registry left alone still.
    wait_until(
        lambda: (
            {ask(judging, "manifests", "nowhere", "GET").status_code for _ in range(TIMES)} == {404}
        ),
        what="the registry",
    )
