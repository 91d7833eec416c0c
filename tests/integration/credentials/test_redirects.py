"""Redirects: credentials stay behind, and another registry of the table is asked as nobody."""

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.hub.hub import Hub
from tests.integration.credentials.street import (
    BY_DEFAULT,
    DOCKER,
    GHCR,
    PRIVATE,
    PUBLIC,
    QUAY,
    Address,
    Ask,
    Street,
    by_host,
    by_ns,
    by_prefix,
)

pytestmark = pytest.mark.integration

STATUSES = [301, 302, 303, 307, 308]


def by_name(url: str) -> str:
    """Return the same server by another host name, which no row of the table has."""
    return f"https://localhost:{urlsplit(url).port}"


@pytest.fixture
def docker(street: Street) -> Hub:
    return street.hubs[DOCKER]


@pytest.fixture
def ghcr(street: Street) -> Hub:
    return street.hubs[GHCR]


Lead = Callable[[str], None]


@pytest.fixture
def lead(docker: Hub, monkeypatch: pytest.MonkeyPatch) -> Lead:
    """Return what makes Docker Hub send manifests and blobs to another place in this test."""

    def lead(base: str) -> None:
        monkeypatch.setattr(docker.front, "redirect_manifests_to", base)
        monkeypatch.setattr(docker.front, "redirect_blobs_to", base)

    return lead


@pytest.fixture
def token(street: Street) -> str:
    """Return what alice has for her private repository and a public one at Docker Hub."""
    scope = f"scope={BY_DEFAULT.scope(PRIVATE)}"
    token = street.token(BY_DEFAULT, "alice", scope)
    street.forget()
    return token


# Credentials stay behind


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("there", ["other port", "other name", "cdn", "region"])
def test_nothing_follows(street: Street, token: str, status: int, there: str) -> None:
    """No token, login or cookie goes to another origin, from whatever is asked."""
    docker = street.hubs[DOCKER]
    base = {
        "other port": street.hubs[GHCR].url,
        "other name": by_name(docker.url),
        "cdn": docker.cdn_url,
        "region": docker.region_url,
    }[there]
    for shown in (f"Bearer {token}", street.basic(DOCKER, "alice")):
        for ask in BY_DEFAULT.reads(docker)[1:]:
            street.forget()
            location = {"Location": f"{base}{ask.path}?from=redirect"}
            docker.fail(part="registry", status=status, headers=location, body="go")
            street.send(ask, Authorization=shown, Cookie="a=b")
            seen = [record for hub in street.hubs.values() for record in hub.requests]
            followed = [record for record in seen if record.query.get("from")]
            if (
                there == "other port"
            ):  # of a row of the table, which gets no query and lists no tags
                followed = street.hubs[GHCR].requests
                assert bool(followed) != ask.path.endswith("/tags/list"), ask
            else:
                assert followed, ask
            for record in followed:
                assert "Cookie" not in record.headers
                assert street.ledger.in_record(record) == []


def test_there_and_back(street: Street, docker: Hub, ghcr: Hub, token: str) -> None:
    """Credentials that were left behind are not taken up again at home."""
    home = {"Location": f"{docker.url}/v2/{PRIVATE}/manifests/1"}
    docker.fail(part="registry", status=307, headers={"Location": f"{ghcr.url}/x"}, body="")
    ghcr.fail(part="registry", status=307, headers=home, body="")
    read = BY_DEFAULT.read(PRIVATE, "manifests/1")
    answer = street.send(read, Authorization=f"Bearer {token}")
    assert answer.status_code == 401  # it is the registry's own, and the client may ask again
    first, second = docker.select("registry")
    assert "Authorization" in first.headers
    assert "Authorization" not in second.headers
    assert street.send(read, Authorization=f"Bearer {token}").status_code == 200


@pytest.mark.parametrize("status", STATUSES)
def test_a_token_service_that_moves(street: Street, docker: Hub, ghcr: Hub, status: int) -> None:
    """A login does not follow it to another server, and a POST follows nothing."""
    location = {"Location": f"{ghcr.token_url}?service={ghcr.service}"}
    for ask in (BY_DEFAULT.token(), BY_DEFAULT.post("grant_type=password", "username=alice")):
        street.forget()
        docker.fail(part="token", status=status, headers=location, body="")
        answer = street.send(ask, Authorization=street.basic(DOCKER, "alice"))
        assert answer.status_code == (200 if ask.method == "GET" else 404)
        assert ghcr.count("token") == (1 if ask.method == "GET" else 0)
        assert all("Authorization" not in record.headers for record in ghcr.requests)
        if answer.ok:
            street.note(answer, GHCR)


@pytest.mark.parametrize(
    "location",
    ["https://a:b@localhost:1/", "ftp://localhost/", "https://[", "file:///etc"],
)
def test_where_nobody_follows(street: Street, docker: Hub, token: str, location: str) -> None:
    """A place with credentials in it, or that is none, ends in 502 and in no request."""
    docker.fail(part="registry", status=307, headers={"Location": location}, body="")
    ask = BY_DEFAULT.read(PUBLIC, "manifests/1")
    answer = street.send(ask, Authorization=f"Bearer {token}")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (502, "UNAVAILABLE")
    assert "a:b" not in answer.text
    assert len(street.asked()) == 1


# To another registry of the table


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_to_a_neighbour(street: Street, ghcr: Hub, lead: Lead, token: str, method: str) -> None:
    """It gets a token for nobody, and what is public there is read with it."""
    lead(ghcr.url)
    image = ghcr.image(PUBLIC, "1")
    read = BY_DEFAULT.read(PUBLIC, "manifests/1", method)
    for _ in range(2):
        answer = street.send(read, Authorization=f"Bearer {token}")
        assert answer.status_code == 200
        assert answer.content == (image.body if method == "GET" else b"")
        assert answer.headers["Content-Length"] == str(image.size)
        assert answer.headers["Docker-Content-Digest"] == image.digest
    assert all("Authorization" not in record.headers for record in ghcr.select("token"))
    assert not any("account" in record.query for record in ghcr.select("token"))
    for digest, blob in image.all_blobs.items():
        read = BY_DEFAULT.read(PUBLIC, f"blobs/{digest}")
        assert street.send(read, Authorization=f"Bearer {token}").content == blob.data


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("row", [GHCR, QUAY])
def test_nothing_private_of_a_neighbour(
    street: Street, lead: Lead, token: str, method: str, row: str
) -> None:
    """What a login opens here opens nothing there; the refusal starts no token dance."""
    there = street.hubs[row]
    lead(there.url)
    blob = f"blobs/{next(iter(there.image(PRIVATE, '1').all_blobs))}"
    for rest in ("manifests/1", f"manifests/{there.image(PRIVATE, '1').digest}", blob):
        answer = street.send(
            BY_DEFAULT.read(PRIVATE, rest, method), Authorization=f"Bearer {token}"
        )
        assert answer.status_code == 403
        assert "WWW-Authenticate" not in answer.headers
        assert there.image(PRIVATE, "1").body not in answer.content
        if method == "GET":
            assert answer.json()["errors"][0]["code"] in {"DENIED", "UNAUTHORIZED"}
    assert there.count("registry", status=200) == 0


@pytest.mark.parametrize("way", [by_prefix, by_ns, by_host], ids=lambda way: way.__name__)
def test_the_other_way_round(
    street: Street, docker: Hub, ghcr: Hub, way: Callable[[str], Address]
) -> None:
    """A registry that is not the default one leads to the default one, as nobody too."""
    address = way(GHCR)
    token = street.token(address, "" if address.prefix else "alice")
    street.forget()
    body = docker.image(PUBLIC, "1").body
    for name, expected in ((PUBLIC, 200), (PRIVATE, 403)):
        location = {"Location": f"{docker.url}/v2/{name}/manifests/1"}
        ghcr.fail(part="registry", status=307, headers=location, body="")
        answer = street.send(address.read(PUBLIC, "manifests/1"), Authorization=f"Bearer {token}")
        assert answer.status_code == expected
        assert (answer.content == body) == (expected == 200)
    assert all("Authorization" not in record.headers for record in docker.select("token"))


# To anybody else


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_to_a_stranger(street: Street, ghcr: Hub, lead: Lead, token: str, method: str) -> None:
    """A registry under an origin that no row has is asked for no token: 403."""
    lead(by_name(ghcr.url))
    for shown in (token, street.token(BY_DEFAULT)):
        answer = street.send(
            BY_DEFAULT.read(PUBLIC, "manifests/1", method), Authorization=f"Bearer {shown}"
        )
        assert answer.status_code == 403
        assert "WWW-Authenticate" not in answer.headers
    assert ghcr.count("registry") >= 2
    assert ghcr.count("token") == 0


def test_a_challenge_of_somebody_else(street: Street, docker: Hub, ghcr: Hub, token: str) -> None:
    """A neighbour that asks for a token of another server gets none from there."""
    location = {"Location": f"{ghcr.url}/v2/{PUBLIC}/manifests/1"}
    docker.fail(part="registry", status=307, headers=location, body="")
    realm = f'Bearer realm="{docker.token_url}",service="x",scope="repository:evil/x:pull,push"'
    ghcr.fail(part="registry", status=401, headers={"WWW-Authenticate": realm}, times=None)
    ask = Ask("GET", f"/v2/{PUBLIC}/manifests/1")
    answer = street.send(ask, Authorization=f"Bearer {token}")
    assert answer.status_code == 403
    assert docker.count("token") == 0
    records = ghcr.select("token")  # the second is in the place of the first, which was refused
    assert len(records) == 2
    for record in records:
        assert record.query["service"] == [ghcr.service]
        assert "Authorization" not in record.headers


def test_a_neighbour_that_refuses_a_remembered_token(
    street: Street, ghcr: Hub, lead: Lead, token: str
) -> None:
    """A token for nobody that has had its day is got anew, and the client notices nothing."""
    lead(ghcr.url)
    read = BY_DEFAULT.read(PUBLIC, "manifests/1")
    for _ in range(6):  # each worker has one
        assert street.send(read, Authorization=f"Bearer {token}").status_code == 200
    ghcr.advance(100_000)
    assert street.send(read, Authorization=f"Bearer {token}").status_code == 200


def test_two_neighbours_that_lead_to_each_other(
    street: Street, docker: Hub, ghcr: Hub, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends after some ten requests, at the registry that was asked: it wants a token again."""
    monkeypatch.setattr(docker.front, "redirect_manifests_to", ghcr.url)
    monkeypatch.setattr(ghcr.front, "redirect_manifests_to", docker.url)
    before = len(street.proxy.log)
    read = BY_DEFAULT.read(PUBLIC, "manifests/1")
    answer = street.send(read, Authorization=f"Bearer {token}")
    assert answer.status_code in {401, 403, 502}
    assert len(street.asked()) <= 14  # with what the neighbour's token costs
    assert "Error" not in street.proxy.log[before:]


@pytest.mark.parametrize("field", ["X_Api_Key", "Private_Token", "X_JFrog_Art_Api"])
def test_other_headers_stay_here(street: Street, docker: Hub, token: str, field: str) -> None:
    """A header of the client's own may hold a secret: neither the registry nor its CDN gets it."""
    secret = street.ledger.note("key-in-a-header", DOCKER)
    blob = next(iter(docker.image(PUBLIC, "1").all_blobs))
    shown = {"Authorization": f"Bearer {token}", field: secret}
    answer = street.send(BY_DEFAULT.read(PUBLIC, f"blobs/{blob}"), **shown)
    assert answer.status_code == 200
    assert street.got(secret) == set()
    assert docker.count("cdn") == 1
