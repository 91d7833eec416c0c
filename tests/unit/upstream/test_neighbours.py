"""Redirects from one registry of the table to another: asked as nobody, with its own session."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
import responses

from app.content import Client, Reply, Request, TokenRequest
from app.oci.errors import Denied, UpstreamMisbehaved, UpstreamUnavailable
from app.oci.headers import Headers
from app.oci.reference import Digest, RepositoryName, Tag
from app.registries import Account, Registry
from app.upstream import stand_ins
from app.upstream.client import Upstream
from app.upstream.connecting import Connector
from app.upstream.managed import Managed
from app.upstream.neighbours import Neighbours
from app.upstream.outbound import OutboundProxies
from app.upstream.session import Session
from tests.unit.upstream.conftest import ONCE

HERE = "https://here.example.com"
THERE = "https://there.example.net"
TOKENS = f"{THERE}/token"
NAME = RepositoryName("a/b")
LATEST = Tag("latest")
DIGEST = Digest("sha256:" + "0" * 64)
MANIFEST = f"{HERE}/v2/a/b/manifests/latest"
MOVED = f"{THERE}/v2/c/d/manifests/latest"
SCOPED = f'Bearer realm="{TOKENS}",service="there",scope="repository:c/d:pull"'
UNSCOPED = f'Bearer realm="{TOKENS}",service="there"'
LOGIN = [("Authorization", "Bearer s3cr3t"), ("Cookie", "session=1"), ("Accept", "a/b")]


class Recording(Session):
    """A session that knows where it was used."""

    def __init__(self) -> None:
        super().__init__(
            ca_bundles=(),
            proxies=OutboundProxies(https=None, http=None, no_proxy=""),
            connect_timeout=5,
            read_timeout=5,
            connector=Connector(allow_private=False, prefer_ipv4=False),
        )
        self.asked: list[str] = []

    def send(
        self,
        method: str,
        url: str,
        headers: Headers,
        *,
        client: Client | None = None,
        body: bytes | None = None,
    ) -> requests.Response:
        """Send one request."""
        self.asked.append(f"{method} {url.partition('?')[0]}")
        return super().send(method, url, headers, client=client, body=body)


@dataclass
class Pair:
    """Two registries of one table, the first of which sends on to the second."""

    neighbours: Neighbours = field(default_factory=Neighbours)
    sessions: dict[str, Recording] = field(default_factory=dict)

    def add(self, url: str) -> Upstream:
        """Add a registry, as create_app does."""
        self.sessions[url] = Recording()
        row = Registry(name=urlsplit(url).netloc, url=url)
        upstream = Upstream(row, self.sessions[url], self.neighbours, ONCE)
        self.neighbours.add(url, upstream)
        return upstream


@pytest.fixture
def pair() -> Pair:
    """Return a table that holds nothing yet."""
    return Pair()


@pytest.fixture
def here(pair: Pair) -> Upstream:
    """Return a registry that sends on to another of its table."""
    pair.add(THERE)
    return pair.add(HERE)


def get(*fields: tuple[str, str]) -> Request:
    """Return a GET as a view makes it."""
    return Request(method="GET", headers=list(fields))


def body(reply: Reply) -> bytes:
    """Read a reply to its end and close it."""
    data = b"".join(reply.body)
    reply.close()
    return data


def challenges(
    upstream: responses.RequestsMock, url: str, challenge: str, method: str = "GET"
) -> None:
    """Let a URL ask for a token."""
    upstream.add(method, url, status=401, headers={"WWW-Authenticate": challenge})


def leads(upstream: responses.RequestsMock, url: str, to: str, method: str = "GET") -> None:
    """Let a URL lead to another."""
    upstream.add(method, url, status=307, headers={"Location": to})


def gives(upstream: responses.RequestsMock) -> None:
    """Let the second registry be asked where its token service is, and that give a token."""
    challenges(upstream, f"{THERE}/v2/", UNSCOPED)
    upstream.get(TOKENS, body=b'{"token":"t","expires_in":300}')


def sent(upstream: responses.RequestsMock, index: int) -> requests.PreparedRequest:
    """Return one request that went up."""
    call = upstream.calls[index]
    assert isinstance(call, responses.Call)
    return call.request


@pytest.mark.parametrize(
    ("challenge", "scope"),
    [
        pytest.param(SCOPED, "repository:c/d:pull", id="as the challenge says"),
        pytest.param(UNSCOPED, "repository:c/d:pull", id="as the path says"),
        pytest.param(
            f'{UNSCOPED[:-1]}",scope="aws"', "aws", id="a scope of no repository, as it is said"
        ),
        pytest.param(f'Basic realm="x", {SCOPED}', "repository:c/d:pull", id="behind another"),
    ],
)
def test_a_redirect_to_a_neighbour(
    here: Upstream, upstream: responses.RequestsMock, challenge: str, scope: str
) -> None:
    """It asks for a token, and gets one for nobody; nothing of the client's goes along."""
    leads(upstream, MANIFEST, MOVED)
    challenges(upstream, MOVED, challenge)
    gives(upstream)
    upstream.get(MOVED, body=b"manifest", headers={"ETag": '"x"'})
    reply = here.manifest(NAME, LATEST, get(*LOGIN))
    assert (reply.status, reply.header("etag"), body(reply)) == (200, '"x"', b"manifest")
    assert sent(upstream, 0).headers["Authorization"] == "Bearer s3cr3t"
    asked = dict(parse_qsl(urlsplit(sent(upstream, 3).url or "").query))
    assert asked == {"scope": scope, "client_id": "docxy", "service": "there"}
    for index in range(1, 5):
        headers = sent(upstream, index).headers
        assert headers.get("Authorization") == ("Bearer t" if index == 4 else None)
        assert "Cookie" not in headers
    assert sent(upstream, 4).headers["Accept"] == "a/b"


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        pytest.param("/v2/c/d/manifests/latest", "repository:c/d:pull", id="manifest"),
        pytest.param(f"/v2/c/d/blobs/{DIGEST}", "repository:c/d:pull", id="blob"),
        pytest.param(f"/v2/c/referrers/{DIGEST}", "repository:c:pull", id="referrers"),
        pytest.param("/v2/c/d/e/manifests/1", "repository:c/d/e:pull", id="nested"),
        pytest.param("/v2/c/v2/d/manifests/1", "repository:c/v2/d:pull", id="v2 in a name"),
        pytest.param("/v2/v2/manifests/1", "repository:v2:pull", id="called v2"),
        pytest.param("/v2/manifests/manifests/1", "repository:manifests:pull", id="a word"),
        pytest.param("/v2/c/d/manifests/latest?x=y", "repository:c/d:pull", id="query"),
    ],
)
def test_a_scope_from_a_path(
    here: Upstream, upstream: responses.RequestsMock, path: str, scope: str
) -> None:
    """Where the challenge names none, the path tells the repository."""
    leads(upstream, MANIFEST, THERE + path)
    challenges(upstream, THERE + path, UNSCOPED)
    gives(upstream)
    upstream.get(THERE + path, body=b"x")
    assert here.manifest(NAME, LATEST, get()).status == 200
    asked = dict(parse_qsl(urlsplit(sent(upstream, 3).url or "").query))
    assert asked["scope"] == scope


@pytest.mark.parametrize("path", ["/v2/", "/v2/c/d/tags/list", "/elsewhere", "/c/d/manifests/1"])
def test_no_scope_at_all(here: Upstream, upstream: responses.RequestsMock, path: str) -> None:
    """A token for nothing would open nothing: it is refused."""
    leads(upstream, MANIFEST, THERE + path)
    challenges(upstream, THERE + path, UNSCOPED)
    assert here.manifest(NAME, LATEST, get()).status == 403


def test_each_has_its_session(here: Upstream, pair: Pair, upstream: responses.RequestsMock) -> None:
    """What a registry's own knows of authorities and addresses, it knows of what lies behind."""
    blob = f"{THERE}/v2/c/d/blobs/{DIGEST}"
    cdn = "https://cdn.example.org/x"
    leads(upstream, f"{HERE}/v2/a/b/blobs/{DIGEST}", blob)
    challenges(upstream, blob, SCOPED)
    gives(upstream)
    leads(upstream, blob, cdn)
    upstream.get(cdn, body=b"x")
    here.blob(NAME, DIGEST, get(*LOGIN)).close()
    assert pair.sessions[HERE].asked == [f"GET {HERE}/v2/a/b/blobs/{DIGEST}"]
    assert pair.sessions[THERE].asked == [
        f"GET {blob}",
        f"GET {THERE}/v2/",
        f"GET {TOKENS}",
        f"GET {blob}",
        f"GET {cdn}",
    ]
    assert "Authorization" not in sent(upstream, 5).headers


def test_back_from_a_cdn(here: Upstream, pair: Pair, upstream: responses.RequestsMock) -> None:
    """Who is in the table is known wherever the way to it leads through."""
    leads(upstream, MANIFEST, "https://cdn.example.org/x")
    leads(upstream, "https://cdn.example.org/x", MOVED)
    upstream.get(MOVED, body=b"x")
    here.manifest(NAME, LATEST, get()).close()
    assert pair.sessions[HERE].asked == [f"GET {MANIFEST}", "GET https://cdn.example.org/x"]
    assert pair.sessions[THERE].asked == [f"GET {MOVED}"]


def test_the_token_is_kept(here: Upstream, upstream: responses.RequestsMock) -> None:
    """The next one who is sent on needs no new one."""
    leads(upstream, MANIFEST, MOVED)
    challenges(upstream, MOVED, SCOPED)
    gives(upstream)
    upstream.get(MOVED, body=b"x")
    leads(upstream, MANIFEST, MOVED)
    challenges(upstream, MOVED, SCOPED)
    upstream.get(MOVED, body=b"x")
    for _ in range(2):
        assert body(here.manifest(NAME, LATEST, get(*LOGIN))) == b"x"
    assert sent(upstream, 7).headers["Authorization"] == "Bearer t"


def test_head_stays_head(here: Upstream, upstream: responses.RequestsMock) -> None:
    """A GET of a manifest is billed, at the neighbour's too."""
    leads(upstream, MANIFEST, MOVED, "HEAD")
    challenges(upstream, MOVED, SCOPED, method="HEAD")
    gives(upstream)
    upstream.head(MOVED, headers={"Content-Length": "1234"})
    reply = here.manifest(NAME, LATEST, Request(method="HEAD", headers=LOGIN))
    assert (reply.status, reply.length, body(reply)) == (200, 1234, b"")


def test_a_range_goes_along(here: Upstream, upstream: responses.RequestsMock) -> None:
    """A download that is resumed is resumed there."""
    blob = f"{THERE}/v2/c/d/blobs/{DIGEST}"
    leads(upstream, f"{HERE}/v2/a/b/blobs/{DIGEST}", blob)
    challenges(upstream, blob, SCOPED)
    gives(upstream)
    upstream.get(blob, status=206, body=b"x", headers={"Content-Range": "bytes 5-5/6"})
    reply = here.blob(NAME, DIGEST, get(("Range", "bytes=5-")))
    assert (reply.status, reply.header("content-range")) == (206, "bytes 5-5/6")
    assert sent(upstream, 4).headers["Range"] == "bytes=5-"


@pytest.mark.parametrize(
    "challenge",
    [
        pytest.param('Basic realm="x"', id="Basic"),
        pytest.param("Negotiate abc==", id="another scheme"),
        pytest.param(None, id="none"),
    ],
)
def test_a_neighbour_that_wants_something_else(
    here: Upstream, upstream: responses.RequestsMock, challenge: str | None
) -> None:
    """It gets nothing, and the client is asked for nothing."""
    leads(upstream, MANIFEST, MOVED)
    upstream.get(MOVED, status=401, headers={"WWW-Authenticate": challenge} if challenge else {})
    reply = here.manifest(NAME, LATEST, get(*LOGIN))
    assert (reply.status, list(reply.challenges)) == (403, [])


def test_a_neighbour_that_shows_it_to_nobody(
    here: Upstream, upstream: responses.RequestsMock
) -> None:
    """The token that it gives opens nothing, nor does another one: no more of them."""
    leads(upstream, MANIFEST, MOVED)
    challenges(upstream, MOVED, SCOPED)
    gives(upstream)
    challenges(upstream, MOVED, SCOPED)
    upstream.get(TOKENS, body=b'{"token":"another","expires_in":300}')
    challenges(upstream, MOVED, SCOPED)
    reply = here.manifest(NAME, LATEST, get(*LOGIN))
    assert (reply.status, list(reply.challenges)) == (403, [])


@pytest.mark.parametrize(
    ("status", "error"),
    [
        pytest.param(401, Denied, id="401"),
        pytest.param(403, Denied, id="403"),
        pytest.param(500, UpstreamUnavailable, id="500"),
    ],
)
def test_a_token_that_is_not_given(
    here: Upstream, upstream: responses.RequestsMock, status: int, error: type[Exception]
) -> None:
    """Then the neighbour is not asked again, and the client is told why."""
    leads(upstream, MANIFEST, MOVED)
    challenges(upstream, MOVED, SCOPED)
    challenges(upstream, f"{THERE}/v2/", UNSCOPED)
    upstream.get(TOKENS, status=status)
    with pytest.raises(error):
        here.manifest(NAME, LATEST, get())


def test_a_foreign_realm(here: Upstream, upstream: responses.RequestsMock) -> None:
    """A neighbour's challenge says the scope only: its token service is what its row says."""
    leads(upstream, MANIFEST, MOVED)
    evil = 'Bearer realm="https://evil.example.org/token",service="x",scope="repository:c/d:pull"'
    challenges(upstream, MOVED, evil)
    gives(upstream)
    upstream.get(MOVED, body=b"x")
    assert here.manifest(NAME, LATEST, get()).status == 200
    assert (sent(upstream, 3).url or "").startswith(f"{TOKENS}?")


@pytest.mark.parametrize("challenge", [SCOPED, UNSCOPED, 'Basic realm="x"'])
@pytest.mark.parametrize(
    "there",
    [
        pytest.param("https://stranger.example.org/v2/c/d/manifests/latest", id="another host"),
        pytest.param("http://there.example.net/v2/c/d/manifests/latest", id="another scheme"),
        pytest.param("https://there.example.net:8443/v2/c/d/manifests/1", id="another port"),
        pytest.param("https://sub.there.example.net/v2/c/d/manifests/1", id="below it"),
    ],
)
def test_a_stranger(
    here: Upstream, upstream: responses.RequestsMock, there: str, challenge: str
) -> None:
    """Who is not in the table gets no token, and asks the client for none."""
    leads(upstream, MANIFEST, there)
    challenges(upstream, there, challenge)
    reply = here.manifest(NAME, LATEST, get(*LOGIN))
    assert (reply.status, list(reply.challenges)) == (403, [])
    assert "Authorization" not in sent(upstream, 1).headers


def test_a_neighbour_that_leads_to_itself(here: Upstream) -> None:
    """A chain without end is left, with a token as without."""
    with responses.RequestsMock() as upstream:
        leads(upstream, MANIFEST, MOVED)
        leads(upstream, MOVED, MOVED)
        with pytest.raises(UpstreamMisbehaved, match="without end"):
            here.manifest(NAME, LATEST, get())
        assert len(upstream.calls) == 11


Answer = tuple[int, dict[str, str], str]


@pytest.mark.parametrize("wanted", [["a token"], []], ids=["each wants a token", "nobody does"])
def test_two_neighbours_that_lead_to_each_other(pair: Pair, wanted: list[str]) -> None:
    """The chain ends, also where each link wants a token: refused, or told to be without end."""
    third = "https://third.example.org"
    for url in (THERE, third):
        pair.add(url)
    first = pair.add(HERE)
    asked: list[str] = []

    def behaving(own: str, other: str) -> Callable[[requests.PreparedRequest], Answer]:
        def answer(request: requests.PreparedRequest) -> Answer:
            asked.append(own)
            if request.headers.get("Authorization") or not wanted:
                return 307, {"Location": f"{other}/v2/c/d/manifests/latest"}, ""
            return 401, {"WWW-Authenticate": f'Bearer realm="{own}/token",service="x"'}, ""

        return answer

    with responses.RequestsMock(assert_all_requests_are_fired=False) as upstream:
        leads(upstream, MANIFEST, MOVED)
        for own, other in ((THERE, third), (third, THERE)):
            manifest: Any = behaving(own, other)
            upstream.add_callback("GET", f"{own}/v2/c/d/manifests/latest", manifest)
            challenges(upstream, f"{own}/v2/", f'Bearer realm="{own}/token",service="x"')
            upstream.get(f"{own}/token", body=b'{"token":"t","expires_in":300}')
        if wanted:
            reply = first.manifest(NAME, LATEST, get(*LOGIN))
            assert (reply.status, list(reply.challenges)) == (403, [])
        else:
            with pytest.raises(UpstreamMisbehaved, match="without end"):
                first.manifest(NAME, LATEST, get(*LOGIN))
    assert 4 < len(asked) <= 10


def test_a_neighbour_that_leads_back(here: Upstream, upstream: responses.RequestsMock) -> None:
    """What the client was allowed is not taken up again: the registry itself asks for a token."""
    leads(upstream, MANIFEST, MOVED)
    challenges(upstream, MOVED, SCOPED)
    gives(upstream)
    leads(upstream, MOVED, MANIFEST)
    own = f'Bearer realm="{HERE}/token",service="here",scope="repository:a/b:pull"'
    challenges(upstream, MANIFEST, own)
    reply = here.manifest(NAME, LATEST, get(*LOGIN))
    assert (reply.status, [str(one) for one in reply.challenges]) == (401, [own])
    assert "Authorization" not in sent(upstream, 5).headers


def test_a_remembered_token_that_is_refused(
    here: Upstream, upstream: responses.RequestsMock
) -> None:
    """It may have been revoked: it is got anew, once, and the next one has the new one."""
    leads(upstream, MANIFEST, MOVED)
    challenges(upstream, MOVED, SCOPED)
    gives(upstream)
    upstream.get(MOVED, body=b"x")
    for refused in (1, 0):
        leads(upstream, MANIFEST, MOVED)
        challenges(upstream, MOVED, SCOPED)
        if refused:
            challenges(upstream, MOVED, SCOPED)
            upstream.get(TOKENS, body=b'{"token":"new","expires_in":300}')
        upstream.get(MOVED, body=b"x")
    for _ in range(3):
        assert body(here.manifest(NAME, LATEST, get(*LOGIN))) == b"x"
    shown = [sent(upstream, index).headers.get("Authorization") for index in (4, 7, 9, 12)]
    assert shown == ["Bearer t", "Bearer t", "Bearer new", "Bearer new"]


def test_managed_credentials_stay_behind(here: Upstream, upstream: responses.RequestsMock) -> None:
    """What this proxy has for the one registry is not for the other either."""
    upstream.get(f"{HERE}/v2/", status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
    upstream.get(f"{HERE}/v2/", body=b"{}")
    leads(upstream, MANIFEST, MOVED)
    challenges(upstream, MOVED, SCOPED)
    gives(upstream)
    upstream.get(MOVED, body=b"x")
    account = Account("me", "s3cr3t")
    managed = Managed(here, Registry(name="here", url=HERE, managed=True, account=account))
    assert body(managed.manifest(NAME, LATEST, get(*LOGIN))) == b"x"
    sent_up = [sent(upstream, index).headers.get("Authorization") for index in range(7)]
    basic = "Basic bWU6czNjcjN0"
    assert sent_up == [None, basic, basic, None, None, None, "Bearer t"]


def test_a_ping_that_leads_to_a_neighbour(here: Upstream, upstream: responses.RequestsMock) -> None:
    """It needs no token of the client's: it is open, and gives whoever insists one for nothing."""
    leads(upstream, f"{HERE}/v2/", f"{THERE}/v2/")
    challenges(upstream, f"{THERE}/v2/", UNSCOPED)
    reply = here.ping(get())
    assert (reply.status, list(reply.challenges)) == (200, [])
    answer = here.token(TokenRequest(method="GET", parameters=[]))
    assert json.loads(body(answer))["token"] == stand_ins.NOTHING
    assert len(upstream.calls) == 2


def test_a_ping_that_leads_to_a_neighbour_with_a_scope(
    here: Upstream, upstream: responses.RequestsMock
) -> None:
    """Some name one in the challenge of their ping, as an example (ghcr.io): it is not for real.

    No token is asked for, which nobody might get.
    """
    leads(upstream, f"{HERE}/v2/", f"{THERE}/v2/")
    challenges(upstream, f"{THERE}/v2/", SCOPED)
    assert here.ping(get()).status == 200
    assert len(upstream.calls) == 2


def test_a_ping_that_leads_to_a_stranger(here: Upstream, upstream: responses.RequestsMock) -> None:
    """Nobody can get a token there: it is a refusal."""
    leads(upstream, f"{HERE}/v2/", "https://stranger.example.org/v2/")
    challenges(upstream, "https://stranger.example.org/v2/", UNSCOPED)
    reply = here.ping(get())
    assert (reply.status, list(reply.challenges)) == (403, [])


def test_a_managed_registry_that_leads_to_a_neighbour(
    here: Upstream, upstream: responses.RequestsMock
) -> None:
    """Its own ping is open, and so it is asked without a token; the neighbour gets one."""
    leads(upstream, f"{HERE}/v2/", f"{THERE}/v2/")
    challenges(upstream, f"{THERE}/v2/", UNSCOPED)
    leads(upstream, MANIFEST, MOVED)
    challenges(upstream, MOVED, SCOPED)
    gives(upstream)
    upstream.get(MOVED, body=b"x")
    managed = Managed(here, Registry(name="here", url=HERE, managed=True))
    assert body(managed.manifest(NAME, LATEST, get())) == b"x"


@dataclass
class Fake:
    """A registry of the table, of which only the session counts."""

    session: Session
    asked: list[str] = field(default_factory=list)

    def anonymous_token(self, scope: str, refused: str = "") -> str:
        """Return a token, and remember for what, and after which one."""
        self.asked.append(f"{scope} {refused}".rstrip())
        return "t"


@pytest.mark.parametrize(
    ("url", "known"),
    [
        pytest.param("https://r.example/v2/a", ["root"], id="its path"),
        pytest.param("https://R.example:443/v2/", ["root"], id="case and port"),
        pytest.param("https://r.example/v2/a?x=/../y", ["root"], id="a query climbs nowhere"),
        pytest.param("https://r.example/v2/a..b/...", ["root"], id="dots in names"),
        pytest.param("https://r.example/", [], id="above it"),
        pytest.param("https://r.example", [], id="nothing behind it"),
        pytest.param("https://r.example/v2", [], id="without its slash"),
        pytest.param("https://r.example/v22/a", [], id="begins so"),
        pytest.param("https://r.example/x/v2/a", [], id="below another path"),
        pytest.param("https://r.example/v2/../x", [], id="climbing"),
        pytest.param("https://r.example/v2/%2E%2e/x", [], id="climbing, encoded"),
        pytest.param("https://r.example/v2/a%2f..%2fx", [], id="climbing, slashes encoded"),
        pytest.param("https://r.example/v2/..\\x", [], id="climbing, backwards"),
        pytest.param("https://r.example/v2/./x", [], id="a dot"),
        pytest.param("http://r.example/v2/", [], id="scheme"),
        pytest.param("https://r.example:8443/v2/", [], id="port"),
        pytest.param("https://x.r.example/v2/", [], id="host"),
        pytest.param("https://b.example/below/v2/a", ["below"], id="with a path of its own"),
        pytest.param("https://b.example/v2/below/v2/a", [], id="at the root of its host"),
        pytest.param("https://b.example/below/x/v2/a", [], id="further below"),
    ],
)
def test_who_is_a_neighbour(session: Session, url: str, known: list[str]) -> None:
    """Scheme, host and port say so, and the path below which the registry is."""
    neighbours = Neighbours()
    own = {"root": Recording(), "below": Recording()}
    neighbours.add("https://r.example", Fake(own["root"]))
    neighbours.add("https://b.example/below", Fake(own["below"]))
    assert neighbours.has(url) == bool(known)
    assert neighbours.session(url, session) is (own[known[0]] if known else session)


def test_two_rows_at_one_address(session: Session) -> None:
    """The first of the table is the one that is met."""
    neighbours = Neighbours()
    first, second = Recording(), Recording()
    neighbours.add("https://r.example", Fake(first))
    neighbours.add("https://r.example", Fake(second))
    assert neighbours.session("https://r.example/v2/", session) is first


def test_no_neighbours(session: Session, upstream: responses.RequestsMock) -> None:
    """Who knows nobody opens nothing."""
    challenges(upstream, MOVED, SCOPED)
    response = session.send("GET", MOVED, [])
    assert Neighbours().authorization(response) == ""
    assert not Neighbours().has(MOVED)


def test_authorization(session: Session, upstream: responses.RequestsMock) -> None:
    """The scope of the first challenge for a token counts, whichever line it is in."""
    neighbours = Neighbours()
    fake = Fake(session)
    neighbours.add(THERE, fake)
    lines = [("WWW-Authenticate", 'Basic realm="x"'), ("WWW-Authenticate", SCOPED)]
    upstream.get(MOVED, status=401, headers=lines)
    upstream.get(MOVED, status=401, headers=lines)
    for refused in ("", "Bearer old"):
        response = session.send("GET", MOVED, [])
        assert neighbours.authorization(response, refused) == "Bearer t"
    assert fake.asked == ["repository:c/d:pull", "repository:c/d:pull old"]


@pytest.mark.parametrize(
    ("path", "scopes"),
    [
        pytest.param("/v2/c/d/manifests/1", ["repository:c/d:pull"], id="manifest"),
        pytest.param(f"/v2/c/blobs/{DIGEST}", ["repository:c:pull"], id="blob"),
        pytest.param(f"/v2/c/referrers/{DIGEST}?n=1", ["repository:c:pull"], id="referrers"),
        pytest.param("/v2/", [], id="ping"),
        pytest.param("/v2/_catalog", [], id="catalog"),
        pytest.param("/v2/c/d/tags/list", [], id="tags"),
        pytest.param("/v2/manifests/1", [], id="no name"),
        pytest.param("/v2/c/d/manifests/", [], id="no reference"),
        pytest.param("/v2/c/d/manifests/1/2", [], id="more than a reference"),
    ],
)
@pytest.mark.parametrize("base", [THERE, f"{THERE}/below"])
def test_what_a_token_is_got_for(
    session: Session, upstream: responses.RequestsMock, base: str, path: str, scopes: list[str]
) -> None:
    """What is of a repository, below the path of the registry, and nothing else."""
    neighbours = Neighbours()
    fake = Fake(session)
    neighbours.add(base, fake)
    challenges(upstream, base + path, UNSCOPED)
    found = neighbours.authorization(session.send("GET", base + path, []))
    assert found == ("Bearer t" if scopes else "")
    assert fake.asked == scopes
