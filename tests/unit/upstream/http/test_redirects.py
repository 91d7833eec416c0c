"""Redirects, followed by hand: credentials stay behind, and every chain ends."""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
import responses
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import parse_url

from app.oci.errors import RegistryError, UpstreamMisbehaved
from app.registries import Registry
from app.upstream.http.deadlines import NO_LIMIT, Call
from app.upstream.http.known_registries import KnownRegistries, RedirectsToRegistry
from app.upstream.http.redirects import Redirects, resolve_location
from app.upstream.http.session import Session
from app.upstream.http.urls import parse_origin

DIGEST = f"sha256:{'0' * 64}"
HERE = f"https://registry.example.com/v2/a/blobs/{DIGEST}"
FIELDS = [
    ("Authorization", "Bearer s3cr3t"),
    ("Cookie", "a=b"),
    ("Accept", "x"),
    ("Range", "bytes=5-"),
]


def redirect(upstream: responses.RequestsMock, url: str, to: str, status: int = 307) -> None:
    """Let a URL lead to another."""
    upstream.get(url, status=status, headers={"Location": to})


@pytest.mark.parametrize(
    "there",
    [
        pytest.param("https://cdn.example.com/x", id="another host"),
        pytest.param("https://registry.example.com.evil.net/x", id="a host that begins so"),
        pytest.param("https://registry.example.com:8443/x", id="another port"),
        pytest.param("http://registry.example.com/x", id="another scheme"),
        pytest.param("http://registry.example.com:443/x", id="another scheme, same port"),
        pytest.param("//cdn.example.com/x", id="without a scheme"),
    ],
)
def test_credentials_stay_behind(
    session: Session, upstream: responses.RequestsMock, there: str
) -> None:
    """Where scheme, host or port differ, nothing goes that identifies: a key may be in any header.

    What is asked for goes on as it is.
    """
    redirect(upstream, HERE, there)
    upstream.get(there if ":" in there else f"https:{there}", body=b"x")
    secrets = [("X-Api-Key", "k"), ("PRIVATE-TOKEN", "p"), ("X-JFrog-Art-Api", "j")]
    Redirects(session).fetch("GET", HERE, [*FIELDS, *secrets], NO_LIMIT)
    sent = upstream.calls[1].request.headers
    assert not {"Authorization", "Cookie", *dict(secrets)} & sent.keys()
    assert sent["Accept"] == "x"
    assert sent["Range"] == "bytes=5-"
    assert sent.keys() < upstream.calls[0].request.headers.keys()


@pytest.mark.parametrize(
    ("location", "there"),
    [
        pytest.param("/v2/other", "https://registry.example.com/v2/other", id="path"),
        pytest.param("other", "https://registry.example.com/v2/a/blobs/other", id="relative"),
        pytest.param("?a=b", f"{HERE}?a=b", id="query"),
        pytest.param(
            "https://registry.example.com:443/x", "https://registry.example.com:443/x", id="port"
        ),
        pytest.param("https://REGISTRY.example.com/x", "https://registry.example.com/x", id="case"),
        pytest.param(
            "https://registry.example.com/x#part", "https://registry.example.com/x", id="fragment"
        ),
    ],
)
def test_credentials_go_on_where_it_is_the_same(
    session: Session, upstream: responses.RequestsMock, location: str, there: str
) -> None:
    """A registry may move its own paths."""
    redirect(upstream, HERE, location)
    upstream.get(there, body=b"x")
    Redirects(session).fetch("GET", HERE, FIELDS, NO_LIMIT)
    request = upstream.calls[1].request
    assert request.headers["Authorization"] == "Bearer s3cr3t"
    assert "#" not in (request.url or "")


def test_credentials_do_not_come_back(session: Session, upstream: responses.RequestsMock) -> None:
    """A foreign host that leads back chooses what is asked: with nobody's credentials."""
    redirect(upstream, HERE, "https://evil.example.net/x")
    redirect(upstream, "https://evil.example.net/x", "https://registry.example.com/v2/private")
    upstream.get("https://registry.example.com/v2/private", body=b"x")
    Redirects(session).fetch("GET", HERE, FIELDS, NO_LIMIT)
    assert "Authorization" not in upstream.calls[2].request.headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_every_redirect_is_followed(
    session: Session, upstream: responses.RequestsMock, status: int
) -> None:
    """With the method as it was, to the last URL."""
    redirect(upstream, HERE, "https://cdn.example.com/x", status)
    upstream.get("https://cdn.example.com/x", body=b"x")
    response = Redirects(session).fetch("GET", HERE, [], NO_LIMIT)
    assert (response.status_code, response.url) == (200, "https://cdn.example.com/x")


def test_who_may_keep_it(session: Session, upstream: responses.RequestsMock) -> None:
    """What a CDN lets everybody keep under a URL that nobody can guess is not for ours."""
    said = {"Cache-Control": "public, max-age=14400", "Expires": "x", "ETag": "y"}
    there = "https://cdn.example.com/x?signature=1"
    redirect(upstream, HERE, there)
    upstream.get(there, body=b"x", headers=said)
    upstream.get(HERE, body=b"x", headers=said)
    redirected, direct = (Redirects(session).fetch("GET", HERE, FIELDS, NO_LIMIT) for _ in range(2))
    assert dict(said.items() & redirected.raw.headers.items()) == {"ETag": "y"}
    assert dict(said.items() & direct.raw.headers.items()) == said


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        pytest.param(304, {"Location": "https://cdn.example.com/x"}, id="not modified"),
        pytest.param(300, {"Location": "https://cdn.example.com/x"}, id="choices"),
        pytest.param(200, {"Location": "https://cdn.example.com/x"}, id="no redirect"),
        pytest.param(201, {"Location": "https://cdn.example.com/x"}, id="created"),
    ],
)
def test_what_is_no_redirect(
    session: Session, upstream: responses.RequestsMock, status: int, headers: dict[str, str]
) -> None:
    """A Location alone leads nowhere."""
    upstream.get(HERE, status=status, headers=headers)
    assert Redirects(session).fetch("GET", HERE, [], NO_LIMIT).status_code == status


def test_ten_redirects(session: Session, upstream: responses.RequestsMock) -> None:
    """As many as containerd follows."""
    for step in range(10):
        redirect(upstream, f"https://cdn.example.com/{step}", f"/{step + 1}")
    upstream.get("https://cdn.example.com/10", body=b"x")
    assert (
        Redirects(session).fetch("GET", "https://cdn.example.com/0", [], NO_LIMIT).status_code
        == 200
    )


def test_loops_end(session: Session) -> None:
    """A chain without end is the registry's fault, and is left."""
    with responses.RequestsMock() as upstream:
        upstream.get(HERE, status=307, headers={"Location": HERE})
        with pytest.raises(UpstreamMisbehaved, match="without end"):
            Redirects(session).fetch("GET", HERE, [], NO_LIMIT)
        assert len(upstream.calls) == 11


@pytest.mark.parametrize(
    "location",
    [
        pytest.param("ftp://cdn.example.com/x", id="scheme"),
        pytest.param("file:///etc/passwd", id="file"),
        pytest.param("javascript:alert(1)", id="javascript"),
        pytest.param("https://user:pw@cdn.example.com/x", id="userinfo"),
        pytest.param("https://:pw@cdn.example.com/x", id="password alone"),
        pytest.param("https://cdn.example.com:port/x", id="port"),
        pytest.param("https://cdn.example.com:99999/x", id="port beyond"),
        pytest.param("https://[::1/x", id="bracket"),
        pytest.param("https://[not-an-address]/x", id="a name in brackets"),
        pytest.param("https://", id="no host"),
        pytest.param("https:///x", id="no host but a path"),
        pytest.param("https://?x", id="no host but a query"),
        pytest.param("//", id="nothing"),
        pytest.param("///evil.example.net/x", id="three slashes"),
        pytest.param("////evil.example.net/x", id="four slashes"),
        pytest.param("https:/evil.example.net/x", id="one slash"),
        pytest.param("https:evil.example.net/x", id="no slash"),
        pytest.param("https:\\\\evil.example.net/x", id="backslashes"),
        pytest.param("/\\evil.example.net/x", id="slash and backslash"),
        pytest.param("\\\\evil.example.net/x", id="backslashes alone"),
        pytest.param("https://cdn.example.com\\@evil.example.net/x", id="backslash, userinfo"),
        pytest.param("https://cdn.example.com/a b", id="space"),
        pytest.param("https://cdn.example.com /x", id="space behind the host"),
        pytest.param("https://cdn.example.com\t/x", id="tab"),
        pytest.param("ht\ttps://cdn.example.com/x", id="tab in the scheme"),
        pytest.param("https://cdn.example.com/\x00", id="NUL"),
        pytest.param("https://cdn.example.com/\x7f", id="DEL"),
        pytest.param("https://cdn.example.com/\xe4", id="not ASCII"),
        pytest.param("https://\xe4.example.com/x", id="host not ASCII"),
        pytest.param("https://cdn\u3002example.com/x", id="a dot of another script"),
        pytest.param("https://cdn%2eexample.com/x", id="encoded host"),
        pytest.param("https://cdn.example.com%2f@evil.example.net/x", id="encoded slash"),
        pytest.param("https://a.example.com/x, https://b.example.com/x", id="two"),
        pytest.param("https://a.example.com:/x", id="empty port"),
        pytest.param("data:text/html,x", id="data"),
        pytest.param("urn:x", id="urn"),
    ],
)
def test_where_nobody_follows(
    session: Session, upstream: responses.RequestsMock, location: str
) -> None:
    """A Location that is no URL of the web is an error of the registry, and not ours."""
    redirect(upstream, HERE, location)
    with pytest.raises(UpstreamMisbehaved):
        Redirects(session).fetch("GET", HERE, [], NO_LIMIT)


def host_by_hand(url: str) -> str:
    """Return the host as the simplest of readers finds it, and as browsers do."""
    rest = url.replace("\\", "/").partition("://")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    return re.sub(r":[0-9]*$", "", authority).lower()


@given(
    st.one_of(
        st.text(alphabet="aB.:/\\?#@%[]1 \t-", max_size=20),
        st.text(alphabet="aB.:/\\?#@%[]1-", max_size=20).map(lambda text: f"https://a{text}"),
        st.text(max_size=20),
    )
)
def test_all_readers_find_the_same_host(location: str) -> None:
    """Where a redirect is followed, there is one way to read it; or nobody follows."""
    try:
        there = resolve_location(HERE, location)
    except UpstreamMisbehaved:
        return
    host = urlsplit(there).hostname or ""
    found = parse_url(there).host or ""
    assert {host, found.strip("[]").lower(), host_by_hand(there).strip("[]")} == {host}
    if absolute := re.match("(?:https?:)?//", location, re.IGNORECASE):
        assert host == host_by_hand(f"x://{location[absolute.end() :]}").strip("[]")
    else:
        assert host == "registry.example.com"


@pytest.mark.parametrize(
    "location",
    [
        pytest.param(f"http://{'a' * 64}.invalid/x", id="long label"),
        pytest.param("http://a..invalid/x", id="empty label"),
    ],
)
def test_hosts_that_cannot_exist(
    session: Session, upstream: responses.RequestsMock, location: str
) -> None:
    """They end as an error of the registry's, whatever library notices it."""
    upstream.add_passthru("http://")
    redirect(upstream, HERE, location)
    with pytest.raises(RegistryError):
        Redirects(session).fetch("GET", HERE, [], NO_LIMIT)


@pytest.mark.parametrize("status", [400, 401, 403, 405, 501])
def test_a_head_that_a_cdn_refuses(
    session: Session, upstream: responses.RequestsMock, status: int
) -> None:
    """It is asked for the first byte instead: its URL was signed for GET (moby#50065)."""
    there = "https://cdn.example.com/x?signature=abc"
    upstream.head(HERE, status=307, headers={"Location": there})
    upstream.head(there, status=status)
    upstream.get(there, status=206, body=b"x", headers={"Content-Range": "bytes 0-0/42"})
    response = Redirects(session).fetch("HEAD", HERE, FIELDS, NO_LIMIT)
    request = upstream.calls[2].request
    assert response.status_code == 206
    assert request.method == "GET"
    assert request.headers["Range"] == "bytes=0-0"
    assert "Authorization" not in request.headers


@pytest.mark.parametrize("status", [404, 429, 500, 503])
def test_a_head_that_a_cdn_answers(
    session: Session, upstream: responses.RequestsMock, status: int
) -> None:
    """What is not about the method is not asked again."""
    upstream.head(HERE, status=307, headers={"Location": "https://cdn.example.com/x"})
    upstream.head("https://cdn.example.com/x", status=status)
    assert Redirects(session).fetch("HEAD", HERE, [], NO_LIMIT).status_code == status


@pytest.mark.parametrize("status", [401, 403, 405])
def test_a_head_that_the_registry_refuses(
    session: Session, upstream: responses.RequestsMock, status: int
) -> None:
    """The registry's own refusal is the client's to see, and never becomes a GET (a pull)."""
    upstream.head(HERE, status=status)
    assert Redirects(session).fetch("HEAD", HERE, [], NO_LIMIT).status_code == status


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("https://a.example/x", "https://a.example/y", [True], id="path"),
        pytest.param("https://a.example", "https://A.EXAMPLE:443", [True], id="default port"),
        pytest.param("http://a.example:80", "http://a.example", [True], id="http's port"),
        pytest.param("https://a.example", "http://a.example", [False], id="scheme"),
        pytest.param("https://a.example", "https://b.example", [False], id="host"),
        pytest.param("https://a.example", "https://a.example:444", [False], id="port"),
        pytest.param("https://a.example:80", "http://a.example:80", [False], id="scheme, port"),
    ],
)
def test_origin(one: str, other: str, same: list[bool]) -> None:
    """Scheme, host and port, the port said or not."""
    assert [parse_origin(one) == parse_origin(other)] == same


NEIGHBOUR = "https://neighbour.example.net"
MOVED = f"{NEIGHBOUR}/v2/x/blobs/{DIGEST}"


@dataclass(frozen=True)
class Known:
    """A registry of the table that gives everybody the same token, and another when asked to."""

    session: Session
    calls: list[Call] = field(default_factory=list)

    def get_anonymous_token(self, scope: str, refused: str = "", call: Call = NO_LIMIT) -> str:
        """Return a token."""
        self.calls.append(call)
        return f"for {scope} after {refused}" if refused else f"for {scope}"


@pytest.fixture
def redirects(session: Session) -> Redirects:
    """Return what knows one neighbour."""
    neighbours = KnownRegistries()
    neighbours.add(Registry(name="neighbour.example.net", url=NEIGHBOUR), Known(session))
    own = Registry(name="registry.example.com", url="https://registry.example.com")
    neighbours.add(own, Known(session))
    return Redirects(session, own, neighbours)


def test_a_neighbours_token_is_for_the_same_call(
    session: Session, upstream: responses.RequestsMock
) -> None:
    """A caller with a fallback waits no longer for the token than for the rest."""
    known, neighbours = Known(session), KnownRegistries()
    neighbours.add(Registry(name="neighbour.example.net", url=NEIGHBOUR), known)
    redirect(upstream, HERE, MOVED)
    asks(upstream, MOVED)
    upstream.get(MOVED, body=b"x")
    call = Call(has_fallback=lambda: True)
    Redirects(session, known_registries=neighbours).fetch("GET", HERE, FIELDS, call)
    assert [one.has_fallback for one in known.calls] == [call.has_fallback]


def asks(upstream: responses.RequestsMock, url: str, method: str = "GET") -> None:
    """Let a URL ask for a token."""
    headers = {"WWW-Authenticate": 'Bearer realm="x",scope="s"'}
    upstream.add(method, url, status=401, headers=headers)


def test_a_neighbour_is_asked_once_more(
    redirects: Redirects, upstream: responses.RequestsMock
) -> None:
    """With a token for nobody, and what else the client asked with; nothing of its credentials."""
    redirect(upstream, HERE, MOVED)
    asks(upstream, MOVED)
    upstream.get(MOVED, body=b"x")
    response = redirects.fetch("GET", HERE, FIELDS, NO_LIMIT)
    assert (response.status_code, response.url) == (200, MOVED)
    headers = upstream.calls[2].request.headers
    assert headers["Authorization"] == "Bearer for s"
    assert "Cookie" not in headers
    assert (headers["Accept"], headers["Range"]) == ("x", "bytes=5-")


def test_the_token_of_a_neighbour_stays_there(
    redirects: Redirects, upstream: responses.RequestsMock
) -> None:
    """Its CDN, and whoever it leads back to, gets none."""
    redirect(upstream, HERE, MOVED)
    asks(upstream, MOVED)
    redirect(upstream, MOVED, "/v2/x/manifests/2")
    redirect(upstream, f"{NEIGHBOUR}/v2/x/manifests/2", HERE)
    upstream.get(HERE, body=b"x")
    redirects.fetch("GET", HERE, FIELDS, NO_LIMIT)
    sent = [call.request.headers.get("Authorization") for call in upstream.calls]
    assert sent == ["Bearer s3cr3t", None, "Bearer for s", "Bearer for s", None]


@pytest.mark.parametrize("status", [400, 403, 405, 501])
def test_a_neighbour_that_refuses(
    redirects: Redirects, upstream: responses.RequestsMock, status: int
) -> None:
    """Only a 401 asks for a token."""
    redirect(upstream, HERE, MOVED)
    upstream.get(MOVED, status=status, headers={"WWW-Authenticate": "Bearer scope=s"})
    assert redirects.fetch("GET", HERE, FIELDS, NO_LIMIT).status_code == status


def test_the_registrys_own_401(redirects: Redirects, upstream: responses.RequestsMock) -> None:
    """It is the client's to answer, wherever the way led through."""
    redirect(upstream, HERE, MOVED)
    redirect(upstream, MOVED, HERE)
    asks(upstream, HERE)
    assert redirects.fetch("GET", HERE, FIELDS, NO_LIMIT).status_code == 401


def test_a_head_at_a_neighbour(redirects: Redirects, upstream: responses.RequestsMock) -> None:
    """With its token it stays HEAD."""
    upstream.head(HERE, status=307, headers={"Location": MOVED})
    asks(upstream, MOVED, "HEAD")
    upstream.head(MOVED, headers={"Content-Length": "42"})
    response = redirects.fetch("HEAD", HERE, FIELDS, NO_LIMIT)
    assert (response.status_code, response.request.method) == (200, "HEAD")


def test_a_head_that_its_token_does_not_open(
    redirects: Redirects, upstream: responses.RequestsMock
) -> None:
    """What a registry refuses with a token is its word: no GET, which is billed, would help."""
    upstream.head(HERE, status=307, headers={"Location": MOVED})
    asks(upstream, MOVED, "HEAD")
    upstream.head(MOVED, status=403)
    response = redirects.fetch("HEAD", HERE, FIELDS, NO_LIMIT)
    assert (response.status_code, response.request.method) == (403, "HEAD")


@pytest.mark.parametrize(
    "there",
    [
        pytest.param(MOVED, id="neighbour"),
        pytest.param("https://stranger.example.org/v2/x", id="stranger"),
    ],
)
def test_a_head_that_no_token_opens(
    redirects: Redirects, upstream: responses.RequestsMock, there: str
) -> None:
    """It may be a URL that was signed for GET: the first byte is asked for, as nobody."""
    upstream.head(HERE, status=307, headers={"Location": there})
    upstream.head(there, status=401)
    upstream.get(there, status=206, body=b"x", headers={"Content-Range": "bytes 0-0/42"})
    response = redirects.fetch("HEAD", HERE, FIELDS, NO_LIMIT)
    assert response.status_code == 206
    assert "Authorization" not in upstream.calls[2].request.headers


def test_a_neighbour_that_asks_again(
    redirects: Redirects, upstream: responses.RequestsMock
) -> None:
    """Neither the token that it gave nor a new one is good there: no fourth time."""
    redirect(upstream, HERE, MOVED)
    for _ in range(3):
        asks(upstream, MOVED)
    assert redirects.fetch("GET", HERE, FIELDS, NO_LIMIT).status_code == 401
    sent = [call.request.headers.get("Authorization") for call in upstream.calls]
    assert sent == ["Bearer s3cr3t", None, "Bearer for s", "Bearer for s after for s"]


def test_a_remembered_token_that_a_neighbour_refuses(
    redirects: Redirects, upstream: responses.RequestsMock
) -> None:
    """It may have been revoked: another one is asked for, once."""
    redirect(upstream, HERE, MOVED)
    for _ in range(2):
        asks(upstream, MOVED)
    upstream.get(MOVED, body=b"x")
    assert redirects.fetch("GET", HERE, FIELDS, NO_LIMIT).status_code == 200


def test_loops_end_behind_a_token(redirects: Redirects) -> None:
    """A neighbour that leads to itself is left, whatever token it wanted."""
    with responses.RequestsMock(registry=responses.registries.OrderedRegistry) as upstream:
        redirect(upstream, HERE, MOVED)
        asks(upstream, MOVED)
        for _ in range(9):
            redirect(upstream, MOVED, MOVED)
        with pytest.raises(UpstreamMisbehaved, match="without end"):
            redirects.fetch("GET", HERE, FIELDS, NO_LIMIT)
        assert len(upstream.calls) == 11


@pytest.mark.parametrize("path", ["/v2", "/v2/", "/v2/_catalog", "/v2/x/tags/list"])
def test_no_redirect_to_what_is_of_no_repository(
    redirects: Redirects, upstream: responses.RequestsMock, path: str
) -> None:
    """A neighbour is asked for nothing else; the root of its API says who it is."""
    redirect(upstream, HERE, f"{NEIGHBOUR}{path}")
    with pytest.raises(UpstreamMisbehaved) as caught:
        redirects.fetch("GET", HERE, FIELDS, NO_LIMIT)
    assert isinstance(caught.value, RedirectsToRegistry) == (path in {"/v2", "/v2/"})
    assert len(upstream.calls) == 1


def test_no_token_for_a_page_of_a_neighbour(
    redirects: Redirects, upstream: responses.RequestsMock
) -> None:
    """What is not below `/v2/` is a stranger's: a token would open nothing."""
    redirect(upstream, HERE, f"{NEIGHBOUR}/elsewhere")
    asks(upstream, f"{NEIGHBOUR}/elsewhere")
    assert redirects.fetch("GET", HERE, FIELDS, NO_LIMIT).status_code == 401
