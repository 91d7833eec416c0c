from collections.abc import Iterator

import pytest

from tests import programs
from tests.hub.accounts import default_users
from tests.hub.content import default_content
from tests.hub.hub import Hub
from tests.hub.images import OCI_INDEX, Image, digest_of
from tests.integration.asking import ALPINE, LATEST, PRIVATE, Client, stranger_at

pytestmark = [pytest.mark.integration, pytest.mark.rig]

ELSEWHERE = "https://elsewhere.test:1234"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """Give a hub that wants no credentials and sends manifests to its region."""
    programs.require("docker-registry")
    with Hub(login="none") as hub:
        hub.front.redirect_manifests_to = hub.region_url
        yield hub


@pytest.fixture
def client(hub: Hub) -> Iterator[Client]:
    hub.reset()
    with stranger_at(hub) as client:
        yield client


@pytest.fixture
def image(hub: Hub) -> Image:
    return hub.image("library/alpine", "latest")


def follow(client: Client, target: str) -> str:
    """Return where a target leads, to the same place for GET and HEAD."""
    answers = [client.ask(method, target) for method in ("HEAD", "GET")]
    assert [answer.status_code for answer in answers] == [307, 307]
    (location,) = {answer.headers["Location"] for answer in answers}
    return location


# The region


@pytest.mark.parametrize("reference", ["latest", "3.19", "digest"])
def test_manifest_is_in_the_region(client: Client, image: Image, reference: str) -> None:
    """It has the same path there, on another host, and is the same to the byte."""
    target = f"{ALPINE}/manifests/{image.digest if reference == 'digest' else reference}"
    location = follow(client, target)
    assert location == f"{client.hub.region_url}{target}"
    assert client.hub.region_url.startswith("https://localhost:")
    for method, body in (("GET", image.body), ("HEAD", b"")):
        answer = client.ask(method, location)
        assert (answer.status_code, answer.content) == (200, body)
        assert answer.headers["Content-Length"] == str(image.size)
        assert answer.headers["Content-Type"] == OCI_INDEX
        assert answer.headers["Docker-Content-Digest"] == image.digest
        assert answer.headers["ETag"] == f'"{image.digest}"'
    assert client.hub.count("region", status=200) == 2
    assert client.hub.pulls == 0


def test_query_goes_along(client: Client) -> None:
    """What was asked is asked there."""
    assert follow(client, f"{LATEST}?ns=a.test").endswith(f"{LATEST}?ns=a.test")


def test_region_refuses_tokens(client: Client) -> None:
    """Nobody has a login there, and nobody is challenged."""
    answer = client.get(follow(client, LATEST), Authorization="Bearer x")
    assert answer.status_code == 401
    assert "WWW-Authenticate" not in answer.headers


def test_region_that_refuses_head(
    client: Client, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a URL that is signed for GET, of which the first byte tells the size."""
    monkeypatch.setattr(client.hub.region, "refuse_head", True)
    location = follow(client, LATEST)
    assert client.ask("HEAD", location).status_code == 403
    assert client.get(location).content == image.body
    answer = client.get(location, Range="bytes=0-0")
    assert (answer.status_code, answer.content) == (206, image.body[:1])
    assert answer.headers["Content-Range"] == f"bytes 0-0/{image.size}"
    assert answer.headers["Docker-Content-Digest"] == image.digest


def test_condition_in_the_region(client: Client, image: Image) -> None:
    """What a client has need not be sent."""
    answer = client.get(follow(client, LATEST), If_None_Match=f'"{image.digest}"')
    assert answer.status_code == 304


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", f"{ALPINE}/manifests/nothing", "MANIFEST_UNKNOWN"),
        ("GET", f"{ALPINE}/blobs/sha256:{'0' * 64}", "BLOB_UNKNOWN"),
        ("GET", f"{ALPINE}/tags/list", "UNSUPPORTED"),
        ("POST", f"{ALPINE}/blobs/uploads/", "UNSUPPORTED"),
        ("GET", "/v2/", "UNSUPPORTED"),
    ],
)
def test_what_the_region_has_not(client: Client, method: str, path: str, code: str) -> None:
    """It has manifests and blobs, and nothing else."""
    answer = client.ask(method, f"{client.hub.region_url}{path}")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, code)


def test_blobs_go_to_the_cdn_or_to_the_region(
    client: Client, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Manifests do not take their blobs along, unless these are told to go."""
    digest = next(iter(image.all_blobs))
    target = f"{ALPINE}/blobs/{digest}"
    assert client.get(target).headers["Location"].startswith(client.hub.cdn_url)
    monkeypatch.setattr(client.hub.front, "redirect_blobs_to", client.hub.region_url)
    assert digest_of(client.get(follow(client, target)).content) == digest


# Who is sent on


def test_unknown_is_sent_on(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not here may be there."""
    monkeypatch.setattr(client.hub.front, "redirect_manifests_to", ELSEWHERE)
    for target in (f"{ALPINE}/manifests/nothing", "/v2/no/thing/manifests/1"):
        assert follow(client, target) == f"{ELSEWHERE}{target}"


def test_private_is_not_sent_on(client: Client) -> None:
    """What is hidden here is not shown by way of the region."""
    assert client.get(PRIVATE).status_code == 404
    assert client.get(LATEST, Authorization="Bearer x").status_code == 401


def test_sent_on_with_a_token() -> None:
    """A hub with a token server sends on only those who have a token, for private ones a good one.

    For a repository that it does not know any token of its own will do.
    """
    programs.require("docker-registry")
    with Hub() as hub, stranger_at(hub) as client:
        hub.front.redirect_manifests_to = ELSEWHERE
        unknown = "/v2/no/thing/manifests/1"
        for target in (LATEST, PRIVATE, unknown):
            answer = client.get(target)
            assert answer.status_code == 401
            assert hub.token_url in answer.headers["WWW-Authenticate"]
        client.log_in()
        assert [client.get(target).status_code for target in (LATEST, PRIVATE, unknown)] == [
            307,
            401,
            307,
        ]
        client.log_in("alice/private", auth=("alice", "alicepw"))
        assert follow(client, PRIVATE) == f"{ELSEWHERE}{PRIVATE}"


def test_from_hub_to_hub() -> None:
    """The front door holds nothing; the other hub challenges, for a token that is its own."""
    programs.require("docker-registry")
    with (
        Hub(login="none", content=tuple) as door,
        Hub(
            authority=door.authority,
            listen="127.0.0.2",
            users=default_users("ghcr"),
            content=lambda: default_content("ghcr"),
        ) as house,
        stranger_at(door) as client,
        stranger_at(house) as guest,
    ):
        door.front.redirect_manifests_to = door.front.redirect_blobs_to = house.url
        location = follow(client, LATEST)
        assert location == f"{house.url}{LATEST}"
        assert location.startswith("https://127.0.0.2:")
        answer = client.get(location)
        assert answer.status_code == 401
        assert f'realm="{house.token_url}"' in answer.headers["WWW-Authenticate"]
        client.log_in()
        assert client.get(location).status_code == 401
        guest.log_in()
        assert guest.get(location).content == house.image("library/alpine", "latest").body
        assert guest.get(LATEST).status_code == 200
        assert (door.count("registry"), house.count("cdn")) == (2, 0)
