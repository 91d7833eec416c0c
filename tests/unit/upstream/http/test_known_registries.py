"""Redirects from one registry of the table to another: asked as nobody, with its own session."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest
import requests
import responses
from hypothesis import given
from hypothesis import strategies as st

from app.oci import tokens
from app.oci.errors import Denied, RuleDenied, UpstreamMisbehaved, UpstreamUnavailable
from app.oci.headers import Headers
from app.oci.reference import Digest, Operation, Reference, RepositoryName, Tag
from app.registries import Account, Registry
from app.source import Place, PlaceForbidden, Reply, Request, TokenRequest
from app.upstream.client import Upstream
from app.upstream.http.connect import Connector
from app.upstream.http.deadlines import NO_LIMIT, Call
from app.upstream.http.known_registries import KnownRegistries, RequestTarget
from app.upstream.http.session import Session
from app.upstream.http.urls import OutboundProxies
from app.upstream.managed import ManagedSource
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

    def __init__(self, *, allow_private: bool = False) -> None:
        super().__init__(
            ca_bundles=(),
            proxies=OutboundProxies(https=None, http=None, no_proxy=""),
            connect_timeout=5,
            read_timeout=5,
            connector=Connector(allow_private=allow_private, prefer_ipv4=False),
        )
        self.asked: list[str] = []

    def send(
        self,
        method: str,
        url: str,
        headers: Headers,
        *,
        call: Call = NO_LIMIT,
        body: bytes | Iterable[bytes] | None = None,
    ) -> requests.Response:
        """Send one request."""
        self.asked.append(f"{method} {url.partition('?')[0]}")
        return super().send(method, url, headers, call=call, body=body)


@dataclass
class Pair:
    """Two registries of one table, the first of which sends on to the second."""

    neighbours: KnownRegistries = field(default_factory=KnownRegistries)
    sessions: dict[str, Recording] = field(default_factory=dict)

    def add(self, url: str) -> Upstream:
        """Add a registry, as create_app does."""
        self.sessions[url] = Recording()
        row = Registry(name=urlsplit(url).netloc, url=url)
        upstream = Upstream(row, self.sessions[url], self.neighbours, ONCE)
        self.neighbours.add(row, upstream)
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
    data = reply.read()
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
    reply = here.answer(Operation.manifest(NAME, LATEST), get(*LOGIN))
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
    assert here.answer(Operation.manifest(NAME, LATEST), get()).status == 200
    asked = dict(parse_qsl(urlsplit(sent(upstream, 3).url or "").query))
    assert asked["scope"] == scope


@pytest.mark.parametrize("path", ["/", "/elsewhere", "/c/d/manifests/1"])
def test_no_scope_at_all(here: Upstream, upstream: responses.RequestsMock, path: str) -> None:
    """A token for nothing would open nothing: it is refused."""
    leads(upstream, MANIFEST, THERE + path)
    challenges(upstream, THERE + path, UNSCOPED)
    assert here.answer(Operation.manifest(NAME, LATEST), get()).status == 403


def test_each_has_its_session(here: Upstream, pair: Pair, upstream: responses.RequestsMock) -> None:
    """What a registry's own knows of authorities and addresses, it knows of what lies behind."""
    blob = f"{THERE}/v2/c/d/blobs/{DIGEST}"
    cdn = "https://cdn.example.org/x"
    leads(upstream, f"{HERE}/v2/a/b/blobs/{DIGEST}", blob)
    challenges(upstream, blob, SCOPED)
    gives(upstream)
    leads(upstream, blob, cdn)
    upstream.get(cdn, body=b"x")
    here.answer(Operation.blob(NAME, DIGEST), get(*LOGIN)).close()
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
    here.answer(Operation.manifest(NAME, LATEST), get()).close()
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
        assert body(here.answer(Operation.manifest(NAME, LATEST), get(*LOGIN))) == b"x"
    assert sent(upstream, 7).headers["Authorization"] == "Bearer t"


def test_head_stays_head(here: Upstream, upstream: responses.RequestsMock) -> None:
    """A GET of a manifest is billed, at the neighbour's too."""
    leads(upstream, MANIFEST, MOVED, "HEAD")
    challenges(upstream, MOVED, SCOPED, method="HEAD")
    gives(upstream)
    upstream.head(MOVED, headers={"Content-Length": "1234"})
    reply = here.answer(Operation.manifest(NAME, LATEST), Request(method="HEAD", headers=LOGIN))
    assert (reply.status, reply.length, body(reply)) == (200, 1234, b"")


def test_a_range_goes_along(here: Upstream, upstream: responses.RequestsMock) -> None:
    """A download that is resumed is resumed there."""
    blob = f"{THERE}/v2/c/d/blobs/{DIGEST}"
    leads(upstream, f"{HERE}/v2/a/b/blobs/{DIGEST}", blob)
    challenges(upstream, blob, SCOPED)
    gives(upstream)
    upstream.get(blob, status=206, body=b"x", headers={"Content-Range": "bytes 5-5/6"})
    reply = here.answer(Operation.blob(NAME, DIGEST), get(("Range", "bytes=5-")))
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
    reply = here.answer(Operation.manifest(NAME, LATEST), get(*LOGIN))
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
    reply = here.answer(Operation.manifest(NAME, LATEST), get(*LOGIN))
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
        here.answer(Operation.manifest(NAME, LATEST), get())


def test_a_foreign_realm(here: Upstream, upstream: responses.RequestsMock) -> None:
    """A neighbour's challenge says the scope only: its token service is what its row says."""
    leads(upstream, MANIFEST, MOVED)
    evil = 'Bearer realm="https://evil.example.org/token",service="x",scope="repository:c/d:pull"'
    challenges(upstream, MOVED, evil)
    gives(upstream)
    upstream.get(MOVED, body=b"x")
    assert here.answer(Operation.manifest(NAME, LATEST), get()).status == 200
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
    reply = here.answer(Operation.manifest(NAME, LATEST), get(*LOGIN))
    assert (reply.status, list(reply.challenges)) == (403, [])
    assert "Authorization" not in sent(upstream, 1).headers


def test_a_neighbour_that_leads_to_itself(here: Upstream) -> None:
    """A chain without end is left, with a token as without."""
    with responses.RequestsMock() as upstream:
        leads(upstream, MANIFEST, MOVED)
        leads(upstream, MOVED, MOVED)
        with pytest.raises(UpstreamMisbehaved, match="without end"):
            here.answer(Operation.manifest(NAME, LATEST), get())
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
            reply = first.answer(Operation.manifest(NAME, LATEST), get(*LOGIN))
            assert (reply.status, list(reply.challenges)) == (403, [])
        else:
            with pytest.raises(UpstreamMisbehaved, match="without end"):
                first.answer(Operation.manifest(NAME, LATEST), get(*LOGIN))
    assert 4 < len(asked) <= 10


def test_a_neighbour_that_leads_back(here: Upstream, upstream: responses.RequestsMock) -> None:
    """What the client was allowed is not taken up again: the registry itself asks for a token."""
    leads(upstream, MANIFEST, MOVED)
    challenges(upstream, MOVED, SCOPED)
    gives(upstream)
    leads(upstream, MOVED, MANIFEST)
    own = f'Bearer realm="{HERE}/token",service="here",scope="repository:a/b:pull"'
    challenges(upstream, MANIFEST, own)
    reply = here.answer(Operation.manifest(NAME, LATEST), get(*LOGIN))
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
        assert body(here.answer(Operation.manifest(NAME, LATEST), get(*LOGIN))) == b"x"
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
    managed = ManagedSource(here, Registry(name="here", url=HERE, managed=True, account=account))
    assert body(managed.answer(Operation.manifest(NAME, LATEST), get(*LOGIN))) == b"x"
    sent_up = [sent(upstream, index).headers.get("Authorization") for index in range(7)]
    basic = "Basic bWU6czNjcjN0"
    assert sent_up == [None, basic, basic, None, None, None, "Bearer t"]


@pytest.mark.parametrize("root", ["/v2/", "/v2"])
def test_a_ping_that_leads_to_a_neighbour(
    here: Upstream, upstream: responses.RequestsMock, root: str
) -> None:
    """It needs no token of the client's: it is open, and gives whoever insists one for nothing.

    The neighbour is not asked: it is known who that is.
    """
    leads(upstream, f"{HERE}/v2/", f"{THERE}{root}")
    reply = here.answer(Operation.ping(), get())
    assert (reply.status, list(reply.challenges)) == (200, [])
    answer = here.token(TokenRequest(method="GET", parameters=[]))
    assert json.loads(body(answer))["token"] == tokens.PLACEHOLDER
    assert len(upstream.calls) == 1


def test_a_ping_with_a_token_that_leads_to_a_neighbour(
    here: Upstream, upstream: responses.RequestsMock
) -> None:
    """Nobody checks the token there, and none is needed."""
    for _ in range(2):
        leads(upstream, f"{HERE}/v2/", f"{THERE}/v2/")
    assert here.answer(Operation.ping(), get(("Authorization", "Bearer t"))).status == 200


def test_a_ping_that_leads_to_a_stranger(here: Upstream, upstream: responses.RequestsMock) -> None:
    """Nobody can get a token there: it is a refusal."""
    leads(upstream, f"{HERE}/v2/", "https://stranger.example.org/v2/")
    challenges(upstream, "https://stranger.example.org/v2/", UNSCOPED)
    reply = here.answer(Operation.ping(), get())
    assert (reply.status, list(reply.challenges)) == (403, [])


def test_a_managed_registry_that_leads_to_a_neighbour(
    here: Upstream, upstream: responses.RequestsMock
) -> None:
    """Its own ping is open, and so it is asked without a token; the neighbour gets one."""
    leads(upstream, f"{HERE}/v2/", f"{THERE}/v2/")
    leads(upstream, MANIFEST, MOVED)
    challenges(upstream, MOVED, SCOPED)
    gives(upstream)
    upstream.get(MOVED, body=b"x")
    managed = ManagedSource(here, Registry(name="here", url=HERE, managed=True))
    assert body(managed.answer(Operation.manifest(NAME, LATEST), get())) == b"x"


@dataclass
class Fake:
    """A registry of the table, of which only the session counts."""

    session: Session
    asked: list[str] = field(default_factory=list)

    def get_anonymous_token(self, scope: str, refused: str = "", call: Call = NO_LIMIT) -> str:
        """Return a token, and remember for what, and after which one."""
        del call
        self.asked.append(f"{scope} {refused}".rstrip())
        return "t"


# Where a redirect may lead, by itself

PRIVATE = Registry(
    name="private.example",
    url="https://private.example",
    aliases=frozenset({"vault"}),
    allow_private=True,
    redirects_from=frozenset({"named.example"}),
)
PUBLIC = Registry(name="public.example", url="https://public.example")
NAMED = Registry(name="other", url="https://named.example", aliases=frozenset({"named.example"}))
BELOW = Registry(name="below", url="https://b.example/below")
ABOVE = Registry(name="above", url="https://b.example")
BLOB = f"/v2/a/b/blobs/{DIGEST}"


@dataclass
class Table:
    """Registries, and what a client was asked about on the way to them."""

    neighbours: KnownRegistries = field(default_factory=KnownRegistries)
    sessions: dict[str, Session] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for row in (PRIVATE, PUBLIC, NAMED, BELOW, ABOVE):
            self.sessions[row.name] = session = Recording(allow_private=row.allow_private)
            self.neighbours.add(row, Fake(session))

    def permit(self, registry: str, name: RepositoryName, reference: object) -> None:
        """Remember what a rule would be asked."""
        self.asked.append((registry, name, None if reference is None else str(reference)))

    def lead(self, url: str, row: Registry = PUBLIC) -> RequestTarget:
        """Return where a redirect from a registry leads."""
        here = RequestTarget(
            url=f"{row.url}/v2/x/manifests/1",
            session=self.sessions[row.name],
            registry=row,
            may_be_private=row.allow_private,
        )
        return self.neighbours.resolve_redirect(here, url, self.permit)


@pytest.fixture
def table() -> Table:
    """Return a table of some public registries and a private one."""
    return Table()


@pytest.mark.parametrize(
    ("path", "asked", "reference"),
    [
        pytest.param("/v2/a/b/manifests/1", "/v2/a/b/manifests/1", "1", id="tag"),
        pytest.param(
            f"/v2/a/manifests/{DIGEST}", f"/v2/a/manifests/{DIGEST}", DIGEST, id="by digest"
        ),
        pytest.param(BLOB, BLOB, None, id="blob"),
        pytest.param(BLOB.replace(":", "%3A"), BLOB, None, id="encoded as needed"),
        pytest.param(BLOB.replace("/b/", "%252Fb%2F"), BLOB, None, id="encoded twice"),
        pytest.param(f"{BLOB}?ns=other&x=y", BLOB, None, id="a query is left out"),
        pytest.param(
            f"/v2/a/referrers/{DIGEST}?artifactType=x/y&ns=other",
            f"/v2/a/referrers/{DIGEST}?artifactType=x%2Fy",
            None,
            id="referrers",
        ),
    ],
)
def test_what_a_redirect_may_lead_to(
    table: Table, path: str, asked: str, reference: str | None
) -> None:
    """Manifests, blobs and referrers, asked for as they were judged, and no other way."""
    place = table.lead(f"https://private.example{path}")
    assert place.url == f"https://private.example{asked}"
    assert place.registry is PRIVATE
    assert [(one[0], one[2]) for one in table.asked] == [("private.example", reference)]


TRICKS = [
    pytest.param("/v2/_catalog", id="catalog"),
    pytest.param("/v2/a/tags/list", id="tags"),
    pytest.param("/v2/a/blobs/uploads/", id="upload"),
    pytest.param("/v2/token", id="token"),
    pytest.param("/V2/_catalog", id="case"),
    pytest.param("/V2/a/manifests/1", id="case of a manifest"),
    pytest.param("/v2/a/manifests/1/../../../_catalog", id="climbing"),
    pytest.param("/v2/a/manifests/%2e%2e/%2e%2e/_catalog", id="climbing, encoded"),
    pytest.param("/v2/a/%252e%252e/_catalog/manifests/1", id="climbing, encoded twice"),
    pytest.param("/v2/" + "%2525252525252525252e" * 2 + "/_catalog", id="encoded without end"),
    pytest.param("/x/../v2/_catalog", id="from beside it"),
    pytest.param("/x/%252e%252e/v2/a/manifests/1", id="from beside it, encoded"),
    pytest.param("//v2/_catalog", id="an empty segment"),
    pytest.param("/v2//_catalog", id="an empty segment below"),
    pytest.param("/./v2/_catalog", id="a dot"),
    pytest.param("/v2;x=1/_catalog", id="a parameter"),
    pytest.param("/v2%3bx/_catalog", id="a parameter, encoded"),
    pytest.param("/v2/a/manifests/1%3Fx", id="an encoded question mark"),
    pytest.param("/v2/a/manifests/1%23x", id="an encoded hash"),
    pytest.param("/v2%5c_catalog", id="a backslash"),
    pytest.param("/v2/a/manifests/1%00", id="NUL"),
    pytest.param("/v2/a/manifests/1%0d%0aX:y", id="a line"),
    pytest.param("/v2/a/manifests/%u002e", id="another encoding"),
    pytest.param("/v2/a/manifests/%c0%ae", id="overlong"),
    pytest.param("/v2/%EF%BC%8E%EF%BC%8E/manifests/1", id="full-width dots"),
    pytest.param("/v2/A/manifests/1", id="a name that is none"),
    pytest.param("/v2/a/manifests/.1", id="a tag that is none"),
    pytest.param("/v2/a/blobs/1", id="a digest that is none"),
    pytest.param(f"/v2/a/blobs/{DIGEST}/x", id="more than a blob"),
    pytest.param("/v2/a/manifests/", id="nothing"),
    pytest.param("/v2/manifests/1", id="no name"),
]


@pytest.mark.parametrize("path", TRICKS)
def test_what_no_redirect_may_lead_to(table: Table, path: str) -> None:
    """Nothing else, however it is written; no rule is asked, since nothing is."""
    for host in ["private.example", "named.example"]:
        with pytest.raises(UpstreamMisbehaved, match="to another registry"):
            table.lead(f"https://{host}{path}")
        assert table.asked == [], host


@given(st.text(alphabet="/v2ab.%25eE;\\:_manifests1", max_size=40), st.integers(0, 3))
def test_what_is_asked_is_what_was_judged(path: str, rounds: int) -> None:
    """Whatever a registry writes: a manifest, a blob or referrers in one spelling, or a stranger.

    A stranger's path is not in the API for any reader, and gets nothing of the registry's.
    """
    table = Table()
    for _ in range(rounds):
        path = quote(path)
    try:
        place = table.lead(f"https://private.example/{path}")
    except UpstreamMisbehaved:
        return
    if place.registry is PRIVATE:
        assert re.fullmatch(
            r"https://private\.example/v2/[a-z0-9._/-]+/manifests/[A-Za-z0-9_][\w.-]*", place.url
        )
        assert len(table.asked) == 1
    else:
        read = unquote(unquote(unquote(unquote(urlsplit(place.url).path))))
        assert not {"", ".", ".."} & set(read.strip("/").split("/")) or read == "/"
        assert not re.match(r"/v2(?:[/;]|$)", read, re.IGNORECASE)
        assert place.session is table.sessions["public.example"]


@pytest.mark.parametrize("path", ["/", "", "/x", "/v22/a", "/x/v2/_catalog", "/token"])
def test_a_stranger_at_the_same_host(table: Table, path: str) -> None:
    """What is beside a registry's API is asked like a CDN, with what the asked one is allowed."""
    place = table.lead(f"https://private.example{path}")
    assert place.registry is PUBLIC
    assert place.session is table.sessions["public.example"]
    assert (place.known_registry, place.repository, place.may_be_private) == (None, None, False)


@pytest.mark.parametrize(
    ("row", "asked_with"),
    [
        pytest.param(PUBLIC, "guarded", id="a public one"),
        pytest.param(NAMED, "own", id="one that redirects_from names, by an alias"),
        pytest.param(replace(PUBLIC, allow_private=True), "own", id="one that may be private"),
    ],
)
def test_who_may_lead_to_a_private_address(table: Table, row: Registry, asked_with: str) -> None:
    """Others reach it where it is public only, with what is known of its authorities."""
    place = table.lead(f"https://private.example{BLOB}", row)
    own = table.sessions["private.example"]
    assert place.session is {"own": own, "guarded": own.public_only}[asked_with]
    assert place.may_be_private == (asked_with == "own")


def test_no_private_address_by_way_of_another(table: Table) -> None:
    """Whoever is led to a registry at a public address leads no further than who led there."""
    first = table.lead(f"https://private.example{BLOB}")
    again = table.neighbours.resolve_redirect(first, f"https://private.example{BLOB}", None)
    assert again.session is table.sessions["private.example"].public_only
    elsewhere = table.neighbours.resolve_redirect(first, "https://cdn.example/x", None)
    assert elsewhere.session is first.session
    assert elsewhere.known_registry is None


@pytest.mark.parametrize("path", ["/v2/_catalog", "/v2/../x", "/v2/", "/x", "/v2/a/tags/list"])
def test_its_own_paths(table: Table, path: str) -> None:
    """A registry may move what it has, credentials and all."""
    place = table.lead(f"https://public.example{path}")
    assert place.url == f"https://public.example{path}"
    assert (place.registry, place.session) == (PUBLIC, table.sessions["public.example"])


def test_its_own_repositories(table: Table) -> None:
    """A rule may be about one of them, and not about the one that was asked for."""
    assert table.lead("https://public.example/v2/c/manifests/2?x=y").url.endswith("/2?x=y")
    assert table.asked == [("public.example", "c", "2")]


@pytest.mark.parametrize(
    ("path", "registry"),
    [
        pytest.param("/below/v2/a/manifests/1", BELOW, id="with a path of its own"),
        pytest.param("/v2/a/manifests/1", ABOVE, id="at the root of its host"),
        pytest.param("/v2/below/v2/manifests/1", ABOVE, id="v2 in a name"),
    ],
)
def test_registries_at_one_host(table: Table, path: str, registry: Registry) -> None:
    """The path tells them apart; another one is another one, if the host is the same."""
    assert table.lead(f"https://b.example{path}").registry is registry
    other = ABOVE if registry is BELOW else BELOW
    assert table.lead(f"https://b.example{path}", other).known_registry is not None


def test_two_rows_at_one_address(table: Table) -> None:
    """A rule about either counts; one that may be led to is met."""
    second = Recording(allow_private=True)
    row = replace(PRIVATE, name="second", redirects_from=frozenset({"public.example"}))
    table.neighbours.add(row, Fake(second))
    place = table.lead(f"https://private.example{BLOB}")
    assert [one[0] for one in table.asked] == ["private.example", "second"]
    assert place.session is second


def test_what_a_rule_says_goes_no_further(table: Table) -> None:
    """What it raises is raised."""

    def permit(registry: str, name: RepositoryName, reference: Reference | None) -> None:
        del registry, name, reference
        raise Denied

    here = table.lead("https://public.example/x")
    with pytest.raises(Denied):
        table.neighbours.resolve_redirect(here, f"https://named.example{BLOB}", permit)


def test_another_registry_at_the_same_host_gets_no_login(
    pair: Pair, upstream: responses.RequestsMock
) -> None:
    """A login is for a registry, and one host may have several."""
    pair.add(f"{HERE}/other")
    first = pair.add(HERE)
    there = f"{HERE}/other/v2/c/d/manifests/latest"
    leads(upstream, MANIFEST, there)
    upstream.get(there, body=b"x")
    first.answer(Operation.manifest(NAME, LATEST), get(*LOGIN)).close()
    assert sent(upstream, 0).headers["Authorization"] == "Bearer s3cr3t"
    assert "Authorization" not in sent(upstream, 1).headers


def test_authorization(table: Table, upstream: responses.RequestsMock) -> None:
    """The scope of the first challenge for a token counts, whichever line it is in."""
    lines = [("WWW-Authenticate", 'Basic realm="x"'), ("WWW-Authenticate", SCOPED)]
    place = table.lead("https://named.example/v2/c/d/manifests/1")
    upstream.get(place.url, status=401, headers=lines)
    response = place.session.send("GET", place.url, [])
    for refused in ("", "Bearer old"):
        assert place.fetch_authorization(response, refused) == "Bearer t"
    assert isinstance(place.known_registry, Fake)
    assert place.known_registry.asked == ["repository:c/d:pull", "repository:c/d:pull old"]


def test_where_redirects_have_led(here: Upstream, upstream: responses.RequestsMock) -> None:
    """A cache learns it, to ask the rules of who comes next."""
    leads(upstream, MANIFEST, MOVED)
    upstream.get(MOVED, body=b"x")
    asked: list[tuple[str, str]] = []

    def permit(registry: str, name: str, reference: object) -> None:
        asked.append((registry, f"{name}:{reference}"))

    reply = here.answer(Operation.manifest(NAME, LATEST), replace(get(), permit=permit))
    assert asked == [("there.example.net", "c/d:latest")]
    assert reply.redirect_targets == (("there.example.net", "c/d"),)


def test_a_place_that_a_rule_denies(here: Upstream, upstream: responses.RequestsMock) -> None:
    """It is nothing that the client has asked for: whoever remembers it may ask elsewhere."""

    def permit(registry: str, name: RepositoryName, reference: Reference | None) -> None:
        del registry, name, reference
        raise RuleDenied

    place = Place(f"{THERE}/v2/c/d/blobs/{DIGEST}")
    request = replace(get(("Range", "bytes=0-0")), permit=permit, place=place)
    with pytest.raises(PlaceForbidden):
        here.answer(Operation.blob(NAME, DIGEST), request)
    assert not upstream.calls


def test_a_host_with_a_public_registry_is_not_private() -> None:
    """What redirects there resolves a name itself only if every registry there is a private one."""
    table, session = KnownRegistries(), Recording()
    here = RequestTarget(
        url=HERE, session=session, registry=Registry(name="here", url=HERE), may_be_private=False
    )
    checked = []
    for path, allow_private in (("/private", True), ("/public", False)):
        row = Registry(name=path, url=f"{THERE}{path}", allow_private=allow_private)
        table.add(row, Upstream(row, session, table, ONCE))
        checked.append(table.resolve_redirect(here, f"{THERE}/blobs/1", None).must_be_checked)
    assert checked == [True, False]
