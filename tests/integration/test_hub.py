import itertools
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from tests import programs
from tests.hub.content import SBOM_TYPE, SIGNATURE_TYPE, single
from tests.hub.hub import Hub
from tests.hub.images import DOCKER_LIST, OCI_INDEX, digest_of
from tests.hub.lines import Line
from tests.integration.asking import ALPINE, LATEST, Client
from tests.servers import clean_environment, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.rig]

SIZE = 300_000


@pytest.fixture(scope="module")
def shared_hub() -> Iterator[Hub]:
    programs.require("docker-registry")
    with Hub() as hub:
        yield hub


@pytest.fixture
def hub(shared_hub: Hub) -> Iterator[Hub]:
    shared_hub.reset()
    yield shared_hub
    shared_hub.reset()


@pytest.fixture
def stranger(hub: Hub) -> Iterator[Client]:
    client = Client(hub)
    with client.session:
        yield client


@pytest.fixture
def client(stranger: Client) -> Client:
    stranger.log_in()
    stranger.hub.forget()
    return stranger


@pytest.fixture
def blob(hub: Hub) -> str:
    return hub.push_blob("library/alpine", SIZE, seed="blob")


@pytest.fixture
def signed(client: Client, blob: str) -> str:
    answer = client.get(f"{ALPINE}/blobs/{blob}")
    client.log_out()
    return answer.headers["Location"]


# The registry and its tokens


def test_anonymous_dance(stranger: Client, hub: Hub) -> None:
    """Without a token there is a challenge, which names what to ask for; with one there is data."""
    answer = stranger.get(LATEST)
    assert answer.status_code == 401
    assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"
    assert answer.headers["WWW-Authenticate"] == (
        f'Bearer realm="{hub.token_url}",service="registry.test",'
        'scope="repository:library/alpine:pull"'
    )
    stranger.log_in()
    answer = stranger.get(LATEST)
    image = hub.image("library/alpine", "latest")
    assert (answer.status_code, answer.content) == (200, image.body)
    assert answer.headers["Docker-Content-Digest"] == image.digest
    assert answer.headers["Content-Type"] == OCI_INDEX
    assert [(r.part, r.method, r.path, r.status) for r in hub.requests] == [
        ("registry", "GET", LATEST, 401),
        ("token", "GET", "/token", 200),
        ("registry", "GET", LATEST, 200),
    ]
    assert hub.requests[1].query == {
        "service": ["registry.test"],
        "scope": ["repository:library/alpine:pull"],
    }


def test_token_reply(stranger: Client) -> None:
    """The reply has all fields of the specification, and a refresh token only on request."""
    reply = stranger.token("repository:library/alpine:pull").json()
    assert reply["token"] == reply["access_token"]
    assert reply["expires_in"] == 300
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", reply["issued_at"])
    assert "refresh_token" not in reply


@pytest.mark.parametrize("auth", [None, ("bob", "bobpw")], ids=["anonymous", "bob"])
def test_private_is_refused(stranger: Client, auth: tuple[str, str] | None) -> None:
    """Who may not read a private repository gets a token all the same, and then 401."""
    stranger.log_in("alice/private", auth=auth)
    answer = stranger.get("/v2/alice/private/manifests/1")
    assert answer.status_code == 401
    assert "insufficient_scope" in answer.headers["WWW-Authenticate"]


def test_private_is_served_to_its_user(stranger: Client, hub: Hub) -> None:
    """The one who may read it gets it."""
    stranger.log_in("alice/private", auth=("alice", "alicepw"))
    answer = stranger.get("/v2/alice/private/manifests/1")
    assert answer.content == hub.image("alice/private", "1").body


def test_made_private(stranger: Client, hub: Hub) -> None:
    """A repository can be closed and opened again."""
    hub.push("owner/closed", single("closed"), ["1"])
    hub.make_private("owner/closed")
    stranger.log_in("owner/closed")
    assert stranger.get("/v2/owner/closed/manifests/1").status_code == 401
    hub.make_public("owner/closed")
    stranger.log_in("owner/closed")
    assert stranger.get("/v2/owner/closed/manifests/1").status_code == 200


def test_what_does_not_exist(stranger: Client) -> None:
    """An unknown repository looks like a private one; an unknown tag is a 404."""
    stranger.log_in("library/nothing")
    assert stranger.get("/v2/library/nothing/manifests/1").status_code == 401
    stranger.log_in()
    answer = stranger.get(f"{ALPINE}/manifests/nothing")
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["code"] == "MANIFEST_UNKNOWN"


@pytest.mark.parametrize(
    "scopes",
    [
        ("repository:library/alpine:pull", "repository:owner/app:pull"),
        ("repository:library/alpine:pull repository:owner/app:pull,push",),
    ],
    ids=["several", "list"],
)
def test_scopes(stranger: Client, scopes: tuple[str, ...]) -> None:
    """Scopes come as several fields or as a list, and both are granted."""
    stranger.bear(stranger.token(*scopes).json()["token"])
    assert stranger.get(LATEST).status_code == 200
    assert stranger.get("/v2/owner/app/manifests/1").status_code == 200
    assert stranger.ask("POST", "/v2/owner/app/blobs/uploads/").status_code == 401


def test_bad_password(stranger: Client) -> None:
    """It is refused by the token server."""
    answer = stranger.token(auth=("alice", "wrong"))
    assert answer.status_code == 401
    assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"


def test_wrong_service(stranger: Client, hub: Hub) -> None:
    """A service of another name is not ours."""
    answer = stranger.session.get(hub.token_url, params={"service": "other"}, timeout=10)
    assert answer.status_code == 400


def test_forged_token(client: Client) -> None:
    """docker-registry itself checks the signature."""
    token = str(client.session.headers["Authorization"]).removeprefix("Bearer ")
    head, claims, signature = token.split(".")
    client.bear(f"{head}.{claims}.{signature[::-1]}")
    answer = client.get(LATEST)
    assert answer.status_code == 401


def test_login(stranger: Client, hub: Hub) -> None:
    """The token of a login, without scopes, is good for /v2/."""
    fields = {
        "service": hub.service,
        "account": "bob",
        "client_id": "docker",
        "offline_token": "true",
    }
    reply = stranger.session.get(
        hub.token_url, params=fields, auth=("bob", "bobpw"), timeout=10
    ).json()
    assert reply["refresh_token"]
    stranger.bear(reply["token"])
    assert stranger.get("/v2/").status_code == 200


def test_post_flow(stranger: Client, hub: Hub) -> None:
    """A password buys a refresh token, which buys tokens until it is revoked."""
    scope = {"service": hub.service, "client_id": "t", "scope": "repository:alice/private:pull"}
    form = scope | {
        "grant_type": "password",
        "username": "alice",
        "password": "alicepw",
        "access_type": "offline",
    }
    first = stranger.session.post(hub.token_url, data=form, timeout=10).json()
    assert first["scope"] == "repository:alice/private:pull"
    form = scope | {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = stranger.session.post(hub.token_url, data=form, timeout=10)
    assert second.status_code == 200
    stranger.bear(second.json()["access_token"])
    assert stranger.get("/v2/alice/private/manifests/1").status_code == 200
    assert hub.requests[0].body["grant_type"] == ["password"]
    assert hub.requests[1].body["refresh_token"] == [first["refresh_token"]]
    hub.revoke("alice")
    assert stranger.session.post(hub.token_url, data=form, timeout=10).status_code == 401


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"client_id": "t", "grant_type": "password", "username": "alice", "password": "x"}, 401),
        ({"client_id": "t", "grant_type": "refresh_token", "refresh_token": "x"}, 401),
        ({"client_id": "t", "grant_type": "other"}, 400),
        ({"grant_type": "password", "username": "alice", "password": "alicepw"}, 400),
    ],
)
def test_post_refused(stranger: Client, hub: Hub, form: dict[str, str], status: int) -> None:
    """Wrong credentials and wrong forms are told apart."""
    assert stranger.session.post(hub.token_url, data=form, timeout=10).status_code == status


def test_token_expires_with_the_hubs_clock(client: Client, hub: Hub) -> None:
    """Nobody has to sleep for it, and a new token is good."""
    hub.advance(299)
    assert client.get(LATEST).status_code == 200
    hub.advance(1)
    answer = client.get(LATEST)
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    client.log_in()
    assert client.get(LATEST).status_code == 200


# Manifests, tags, referrers, limits


def test_conditional_manifest(client: Client, hub: Hub) -> None:
    """docker-registry's own 304 comes through."""
    etag = f'"{hub.image("library/alpine", "latest").digest}"'
    assert client.get(LATEST, If_None_Match=etag).status_code == 304


def test_manifest_list(client: Client, hub: Hub) -> None:
    """The other family of media types is there, too."""
    client.log_in("library/nginx")
    answer = client.ask("HEAD", "/v2/library/nginx/manifests/latest")
    image = hub.image("library/nginx", "latest")
    assert answer.headers["Content-Type"] == DOCKER_LIST
    assert answer.headers["Content-Length"] == str(image.size)
    assert answer.headers["Docker-Content-Digest"] == image.digest
    assert set(image.platforms) == {"linux/amd64", "linux/arm64"}
    first, second = (child.layers for child in image.platforms.values())
    assert [a.digest == b.digest for a, b in zip(first, second, strict=True)] == [
        True,
        False,
        False,
    ]


def test_pulls_are_counted(client: Client, hub: Hub) -> None:
    """GET costs a pull and HEAD does not; when none is left, GET is refused."""
    hub.remaining = 2
    remaining = [
        client.ask(method, LATEST).headers["ratelimit-remaining"]
        for method in ("HEAD", "GET", "HEAD", "GET")
    ]
    assert remaining == [f"{left};w=21600" for left in (2, 1, 1, 0)]
    answer = client.get(LATEST)
    assert answer.status_code == 429
    assert answer.json()["errors"][0]["code"] == "TOOMANYREQUESTS"
    assert answer.headers["ratelimit-limit"] == "100;w=21600"
    assert answer.headers["docker-ratelimit-source"] == "203.0.113.7"
    assert client.ask("HEAD", LATEST).status_code == 200
    assert (hub.pulls, hub.remaining) == (2, 0)
    client.log_in(auth=("alice", "alicepw"))
    assert client.get(LATEST).headers["ratelimit-remaining"] == "199;w=21600"


def test_no_limit(client: Client, hub: Hub) -> None:
    """Without a limit there are no headers of it."""
    hub.limit = None
    try:
        assert "ratelimit-limit" not in client.get(LATEST).headers
    finally:
        hub.limit = 100


def test_tags_come_in_pages(client: Client, hub: Hub) -> None:
    """In order, with a Link to the next page until the last one."""
    target: str | None = f"{ALPINE}/tags/list?n=10"
    pages = []
    while target:
        answer = client.get(target)
        pages.append(answer.json()["tags"])
        target = answer.links.get("next", {}).get("url")
    assert [len(page) for page in pages] == [10, 10, 7]
    tags = list(itertools.chain(*pages))
    assert tags == sorted({"3.19", "latest", *(f"v{number}" for number in range(1, 26))})
    assert client.get(f"{ALPINE}/tags/list").json()["tags"] == tags
    assert client.get(f"{ALPINE}/tags/list?n=0").json()["tags"] == []
    assert client.get(f"{ALPINE}/tags/list?n=x").status_code == 400
    assert hub.count(path="/tags/list$", status=400) == 1


def test_referrers(stranger: Client, hub: Hub) -> None:
    """They are listed to those who may read the repository, filtered on request."""
    subject = hub.image("library/alpine", "latest").digest
    target = f"{ALPINE}/referrers/{subject}"
    assert stranger.get(target).status_code == 401
    stranger.log_in()
    answer = stranger.get(target)
    assert answer.headers["Content-Type"] == OCI_INDEX
    types = {found["artifactType"]: found for found in answer.json()["manifests"]}
    assert set(types) == {SIGNATURE_TYPE, SBOM_TYPE}
    assert stranger.get(f"{ALPINE}/manifests/{types[SBOM_TYPE]['digest']}").status_code == 200
    answer = stranger.get(f"{target}?artifactType={quote(SBOM_TYPE)}")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert answer.json()["manifests"] == [types[SBOM_TYPE]]
    nothing = stranger.get(f"{ALPINE}/referrers/sha256:{'0' * 64}")
    assert (nothing.status_code, nothing.json()["manifests"]) == (200, [])


# Blobs and the CDN


def test_blob_is_on_the_cdn(client: Client, hub: Hub, blob: str) -> None:
    """GET leads to another host, whose URL is enough; HEAD is answered at once."""
    answer = client.get(f"{ALPINE}/blobs/{blob}")
    assert answer.status_code == 307
    location = answer.headers["Location"]
    assert location.startswith(f"{hub.cdn_url}/")
    assert hub.cdn_url.startswith("https://localhost:")
    with requests.Session() as other:
        other.trust_env = False
        data = other.get(location, verify=str(hub.ca_bundle), timeout=10)
    assert digest_of(data.content) == blob
    assert data.headers["Content-Type"] == "application/octet-stream"
    assert data.headers["Content-Length"] == str(SIZE)
    assert client.ask("HEAD", f"{ALPINE}/blobs/{blob}").headers["Content-Length"] == str(SIZE)


def test_blob_is_refused(stranger: Client, client: Client, blob: str) -> None:
    """Without a right to it, or without it, there is no URL."""
    missing = client.get(f"{ALPINE}/blobs/sha256:{'0' * 64}")
    assert (missing.status_code, missing.json()["errors"][0]["code"]) == (404, "BLOB_UNKNOWN")
    stranger.log_out()
    assert stranger.get(f"{ALPINE}/blobs/{blob}").status_code == 401


def test_authorization_at_the_cdn(client: Client, signed: str) -> None:
    """A signed URL and a token are one too many."""
    answer = client.get(signed, Authorization="Bearer x")
    assert answer.status_code == 400
    assert "Only one auth mechanism allowed" in answer.text


def test_signature(client: Client, hub: Hub, signed: str) -> None:
    """It covers the expiry, the blob and the method, and it does expire."""
    assert client.get(signed[:-1] + ("0" if signed[-1] != "0" else "1")).status_code == 403
    assert client.get(signed.replace("expires=1", "expires=2")).status_code == 403
    assert client.get(signed.partition("?")[0]).status_code == 403
    assert client.ask("HEAD", signed).status_code == 403
    hub.advance(1199)
    assert client.get(signed).status_code == 200
    hub.advance(2)
    assert client.get(signed).status_code == 403


def test_expire_urls_after(client: Client, hub: Hub, blob: str) -> None:
    """The lifetime of a URL can be chosen."""
    hub.expire_urls_after(5)
    try:
        location = client.get(f"{ALPINE}/blobs/{blob}").headers["Location"]
    finally:
        hub.expire_urls_after(1200)
    client.log_out()
    assert client.get(location).status_code == 200
    hub.advance(6)
    assert client.get(location).status_code == 403


def test_head_at_the_cdn(client: Client, hub: Hub, signed: str) -> None:
    """It can be allowed."""
    hub.cdn.refuse_head = False
    try:
        assert client.ask("HEAD", signed).headers["Content-Length"] == str(SIZE)
    finally:
        hub.cdn.refuse_head = True


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=1000-", 1000, SIZE - 1),
        ("bytes=-1", SIZE - 1, SIZE - 1),
        (f"bytes=5-{SIZE}", 5, SIZE - 1),
        (f"bytes=-{SIZE * 2}", 0, SIZE - 1),
    ],
)
def test_range(client: Client, signed: str, asked: str, first: int, last: int) -> None:
    """A part is served as asked, or as far as there is something."""
    whole = client.get(signed).content
    answer = client.get(signed, Range=asked)
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer.content == whole[first : last + 1]


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=-0"])
def test_range_beyond_the_end(client: Client, signed: str, asked: str) -> None:
    """It is refused with the size."""
    answer = client.get(signed, Range=asked)
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize("asked", ["bytes=5-1", "bytes=-", "bytes=0-1,5-9", "lines=1-2"])
def test_range_without_meaning(client: Client, signed: str, asked: str) -> None:
    """The whole is served."""
    assert client.get(signed, Range=asked).status_code == 200


def test_conditions_at_the_cdn(client: Client, signed: str) -> None:
    """Its ETag is strong."""
    etag = client.get(signed).headers["ETag"]
    assert client.get(signed, If_None_Match=etag).status_code == 304
    assert client.get(signed, Range="bytes=1-", If_Range=etag).status_code == 206
    assert client.get(signed, Range="bytes=1-", If_Range='"other"').status_code == 200


# Faults


def test_fault_status(client: Client, hub: Hub) -> None:
    """It happens as often as planned, to whom it is planned for, and costs no pull."""
    hub.fail(
        part="registry",
        path=r"/manifests/",
        status=503,
        times=2,
        headers={"Retry-After": "1"},
        body="sorry",
    )
    assert client.get(f"{ALPINE}/tags/list").status_code == 200
    answers = [client.get(LATEST) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert (answers[0].text, answers[0].headers["Retry-After"]) == ("sorry", "1")
    assert hub.pulls == 1


def test_fault_is_permanent_until_heal(client: Client, hub: Hub) -> None:
    """Without a number of times it stays."""
    hub.fail(part="registry", method="HEAD", status=500, times=None)
    assert [client.ask("HEAD", LATEST).status_code for _ in range(3)] == [500] * 3
    assert client.get(LATEST).status_code == 200
    hub.heal()
    assert client.ask("HEAD", LATEST).status_code == 200


def test_fault_skips(client: Client, hub: Hub) -> None:
    """It can spare the first ones."""
    hub.fail(part="registry", status=500, skip=1)
    assert [client.get(LATEST).status_code for _ in range(3)] == [200, 500, 200]


@pytest.mark.parametrize("after", [0, 1, 100_000])
def test_cut(client: Client, hub: Hub, signed: str, after: int) -> None:
    """The connection ends after exactly so many bytes."""
    hub.fail(part="cdn", cut_after=after)
    with pytest.raises(requests.exceptions.RequestException) as error:
        client.get(signed)
    assert f"{after} bytes read" in str(error.value)
    wait_until(lambda: hub.select("cdn")[-1].sent == after)
    assert client.get(signed).status_code == 200


def test_reset(client: Client, hub: Hub, signed: str) -> None:
    """It can end with a reset."""
    hub.fail(part="cdn", cut_after=1000, reset=True)
    with pytest.raises(requests.exceptions.RequestException):
        client.get(signed)


def test_hang_up(client: Client, hub: Hub) -> None:
    """A connection can close without a word."""
    hub.fail(part="registry", hang_up=True)
    with pytest.raises(requests.exceptions.ConnectionError):
        client.get(LATEST)
    assert [record.status for record in hub.requests] == [0]


def test_cut_of_a_chunked_body(client: Client, hub: Hub, signed: str) -> None:
    """The last chunk is missing, too."""
    hub.fail(part="cdn", cut_after=1000, chunked=True)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        client.get(signed)


def test_stall(client: Client, hub: Hub, signed: str) -> None:
    """Bytes stop, the connection stays, and the hub notices that the client goes."""
    hub.fail(part="cdn", stall_after=1000)
    with client.session.get(signed, stream=True, timeout=0.3) as answer:
        assert answer.raw.read(1000)
        with pytest.raises(Exception, match="timed out"):
            answer.raw.read(1)
    wait_until(lambda: hub.select("cdn")[-1].sent == 1000)


def test_delay(client: Client, hub: Hub) -> None:
    """The answer comes later."""
    hub.fail(part="registry", delay=0.2)
    begin = time.monotonic()
    assert client.get(LATEST).status_code == 200
    assert time.monotonic() - begin >= 0.2


def test_bytes_per_second(client: Client, hub: Hub, signed: str) -> None:
    """The body trickles."""
    hub.fail(part="cdn", bytes_per_second=SIZE * 4)
    begin = time.monotonic()
    assert len(client.get(signed).content) == SIZE
    assert time.monotonic() - begin >= 0.2


def test_line(client: Client, hub: Hub, signed: str) -> None:
    """Bodies that share a line take as long together as one after the other."""
    hub.fail(part="cdn", times=None, line=Line(SIZE * 8))
    begin = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        bodies = pool.map(lambda _: client.get(signed).content, range(4))
        assert [len(body) for body in bodies] == [SIZE] * 4
    assert time.monotonic() - begin >= 0.4


def test_headers_dropped_and_added(client: Client, hub: Hub) -> None:
    """Headers go missing or come twice."""
    hub.fail(
        part="registry",
        drop_headers=("docker-content-digest",),
        add_headers=(("X-Twice", "1"), ("X-Twice", "2")),
    )
    answer = client.get(LATEST)
    assert "Docker-Content-Digest" not in answer.headers
    assert answer.raw.headers.getlist("X-Twice") == ["1", "2"]


def test_chunked(client: Client, hub: Hub, signed: str) -> None:
    """A body can come without its length."""
    hub.fail(part="cdn", chunked=True)
    answer = client.get(signed)
    assert "Content-Length" not in answer.headers
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert len(answer.content) == SIZE


def test_ignore_range(client: Client, hub: Hub, signed: str) -> None:
    """A Range can be overlooked."""
    hub.fail(part="cdn", ignore_range=True)
    assert client.get(signed, Range="bytes=5-").status_code == 200
    assert client.get(signed, Range="bytes=5-").status_code == 206
    assert [record.headers["Range"] for record in hub.select("cdn")] == ["bytes=5-"] * 2


@pytest.mark.parametrize("at", [0, 70_000, SIZE - 1])
def test_flip_byte(client: Client, hub: Hub, signed: str, at: int) -> None:
    """One byte is wrong, and only that."""
    right = client.get(signed).content
    hub.fail(part="cdn", flip_byte=at)
    wrong = client.get(signed).content
    assert [i for i in range(SIZE) if right[i] != wrong[i]] == [at]


def test_no_head(client: Client, hub: Hub) -> None:
    """HEAD can be refused."""
    hub.fail(part="registry", no_head=True, times=None)
    assert client.ask("HEAD", LATEST).status_code == 405
    assert client.get(LATEST).status_code == 200


# The hub as a whole


def test_hubs_side_by_side() -> None:
    """Two hubs have nothing in common, unless they share an authority."""
    programs.require("docker-registry")
    with Hub() as one, Hub(authority=one.authority, service="two.test") as two:
        assert one.ca_bundle.read_bytes() == two.ca_bundle.read_bytes()
        client = Client(two)
        with client.session:
            client.log_in()
            assert client.get(LATEST).status_code == 200
            client.hub = one
            assert client.get(LATEST).status_code == 401
        assert (one.count(), two.count()) == (1, 2)
        assert two.settings == {
            "DOCXY_REGISTRY_URL": two.url,
            "DOCXY_INDEX_URL": two.index_url,
            "DOCXY_TOKEN_URL": two.token_url,
            "DOCXY_TOKEN_SERVICE": "two.test",
            "DOCXY_CA_BUNDLE": str(two.ca_bundle),
            "DOCXY_ALLOW_PRIVATE_UPSTREAMS": "true",
        }


def test_end_leaves_nothing() -> None:
    """Waiting connections do not keep a hub from closing; threads and files are gone with it."""
    programs.require("docker-registry")
    before = set(threading.enumerate())
    with Hub(content=tuple) as hub, ThreadPoolExecutor(1) as pool:
        client = Client(hub)
        hub.fail(part="registry", delay=600)
        waiting = pool.submit(client.get, "/v2/")
        wait_until(lambda: hub.count("registry") == 1)
        begin = time.monotonic()
        hub.__exit__(None, None, None)
        assert time.monotonic() - begin < 5
        assert waiting.exception() is None or isinstance(
            waiting.exception(), requests.exceptions.ConnectionError
        )
        client.session.close()
    assert set(threading.enumerate()) <= before
    assert not hub.ca_bundle.parent.exists()


def test_ipv6() -> None:
    """A hub can live on ::1."""
    programs.require("docker-registry")
    with Hub(content=tuple, listen="::1") as hub:
        client = Client(hub)
        with client.session:
            assert hub.url.startswith("https://[::1]:")
            assert client.get("/v2/").status_code == 401
            assert client.token().status_code == 200


def test_many_at_once(hub: Hub) -> None:
    """Threads do not get into each other's way."""

    def pull(_: int) -> int:
        own = Client(hub)
        with own.session:
            own.log_in()
            return sum(own.ask("HEAD", LATEST).status_code == 200 for _ in range(10))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(pull, range(16))) == [10] * 16
    assert hub.count("registry", "HEAD", status=200) == 160


@pytest.mark.parametrize("name", ["library/alpine:3.19", "library/nginx:latest"])
def test_skopeo(hub: Hub, tmp_path: Path, name: str) -> None:
    """A real client takes both families of images, all platforms of them."""
    programs.require("skopeo")
    repository, _, tag = name.partition(":")
    command = ["skopeo", "copy", "--all", f"docker://{hub.host}/{name}", f"dir:{tmp_path}/copy"]
    env = clean_environment(SSL_CERT_FILE=str(hub.ca_bundle))
    subprocess.run(command, env=env, check=True, capture_output=True, timeout=60)
    copied = {digest_of(path.read_bytes()) for path in (tmp_path / "copy").iterdir()}
    image = hub.image(repository, tag)
    assert copied > {image.digest, *image.all_blobs}
    assert hub.count("cdn", "GET", status=200) == len(image.all_blobs)
    assert hub.pulls == 3
