"""A registry's token service: where it may be, and what it is asked."""

import json
import re
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
import requests
import responses
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import parse_url

from app.oci.challenge import Challenge
from app.oci.errors import UpstreamMisbehaved, UpstreamUnavailable
from app.registries import Registry
from app.source import Reply, TokenRequest
from app.upstream.auth.service import TokenService, exchange_token, parse_token_service
from app.upstream.http.retries import Retrier
from app.upstream.http.session import Session

TOKENS = "https://auth.example.com/token"
SERVICE = TokenService(TOKENS, "registry.example")
ONCE = Retrier(budget=0)
ANSWER = b'{ "token":"t", "access_token":"t","expires_in":300 }\n'


def row(url: str) -> Registry:
    """Return a registry of which nothing is known but where it is."""
    return Registry(name="r", url=url)


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        pytest.param("https://r.example.com", "https://r.example.com/token", id="same host"),
        pytest.param("https://r.example.com", "https://R.Example.COM/token", id="case"),
        pytest.param("https://r.example.com", "https://r.example.com:5001/t", id="another port"),
        pytest.param("https://r.example.com", "https://auth.example.com/t", id="same domain"),
        pytest.param("https://r.example.com", "https://example.com/t", id="the domain itself"),
        pytest.param("https://example.com", "https://auth.example.com/t", id="below it"),
        pytest.param("https://r.example.co.uk", "https://a.example.co.uk/t", id="public suffix"),
        pytest.param("http://r.example.com", "https://auth.example.com/t", id="up to https"),
        pytest.param("https://127.0.0.1:5000", "https://127.0.0.1:5001/t", id="loopback, port"),
        pytest.param("https://[::1]:5000", "https://[::1]:5001/t", id="IPv6"),
        pytest.param("http://localhost:5000", "https://localhost/t", id="localhost, https"),
    ],
)
def test_acceptable_realms(registry: str, realm: str) -> None:
    """The registry's own host, or over https its registrable domain."""
    challenge = Challenge("Bearer", {"realm": realm, "service": "s"})
    assert parse_token_service(row(registry), challenge) == TokenService(realm, "s")


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        pytest.param("https://r.example.com", "", id="none"),
        pytest.param("https://r.example.com", "https://auth.evil.example/t", id="another domain"),
        pytest.param("https://r.example.com", "https://r.example.com.evil.net/t", id="begins so"),
        pytest.param("https://r.example.com", "https://evilexample.com/t", id="ends so"),
        pytest.param("https://r.example.com", "http://r.example.com/t", id="down to http"),
        pytest.param("https://r.example.com", "http://auth.example.com/t", id="domain by http"),
        pytest.param("http://r.example.com", "http://auth.example.net/t", id="http, other host"),
        pytest.param("https://a.co.uk", "https://b.co.uk/t", id="public suffix"),
        pytest.param("https://a.github.io", "https://b.github.io/t", id="private suffix"),
        pytest.param("https://127.0.0.1", "https://127.0.0.2/t", id="another address"),
        pytest.param("https://10.0.0.1", "https://10.0.0.1.nip.io/t", id="address in a name"),
        pytest.param("https://r.example.com", "https://127.0.0.1/t", id="name to address"),
        pytest.param("https://127.0.0.1", "https://localhost/t", id="address to localhost"),
        pytest.param("https://registry", "https://auth/t", id="single labels"),
        pytest.param("https://com", "https://example.com/t", id="a suffix"),
        pytest.param("https://r.example.com", "https://u:p@r.example.com/t", id="userinfo"),
        pytest.param("https://r.example.com", "https://r.example.com@evil.net/t", id="user trick"),
        pytest.param("https://r.example.com", "https://evil.net\\.example.com/t", id="backslash"),
        pytest.param("https://r.example.com", "https://r.example.com:port/t", id="port"),
        pytest.param("https://r.example.com", "https://[::1/t", id="bracket"),
        pytest.param("https://r.example.com", "ftp://r.example.com/t", id="scheme"),
        pytest.param("https://r.example.com", "file:///etc/passwd", id="file"),
        pytest.param("https://r.example.com", "//r.example.com/t", id="no scheme"),
        pytest.param("https://r.example.com", "/token", id="a path"),
        pytest.param("https://r.example.com", "https:///t", id="no host"),
    ],
)
def test_realms_that_get_no_credentials(registry: str, realm: str) -> None:
    """Anywhere else an upstream could collect passwords; the error says what to set."""
    challenge = Challenge("Bearer", {"realm": realm, "service": "s"})
    with pytest.raises(UpstreamMisbehaved, match="DOCXY_TOKEN_URL"):
        parse_token_service(row(registry), challenge)


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        pytest.param("http://r.example.com", "http://r.example.com/t", id="same host"),
        pytest.param("http://r.example.com", "http://auth.example.com/t", id="same domain"),
        pytest.param("http://10.0.0.1:5000", "http://10.0.0.1:5001/t", id="address"),
        pytest.param("http://localhost:5000", "http://localhost:5001/t", id="localhost"),
    ],
)
def test_plain_realms(registry: str, realm: str) -> None:
    """Plain http is for registries that are plain http themselves, in a private network."""
    challenge = Challenge("Bearer", {"realm": realm, "service": "s"})
    allowed = Registry(name="r", url=registry, allow_private=True)
    assert parse_token_service(allowed, challenge) == TokenService(realm, "s")
    with pytest.raises(UpstreamMisbehaved):
        parse_token_service(row(registry), challenge)
    with pytest.raises(UpstreamMisbehaved):
        parse_token_service(
            Registry(name="r", url="https" + registry[4:], allow_private=True), challenge
        )


def host_by_hand(url: str) -> str:
    """Return the host as browsers find it, decoded as some libraries do."""
    rest = unquote(url.replace("\\", "/")).partition("://")[2].lstrip("/")
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0].rpartition("@")[2]
    return re.sub(r":[0-9]*$", "", authority).lower()


HOSTILE = st.text(alphabet="aB.:/\\?#@%[]25fF \t-", max_size=20)


@given(
    st.one_of(
        st.builds("https://{}example.com{}".format, HOSTILE, HOSTILE),
        st.builds("https://evil.net{}.example.com{}".format, HOSTILE, HOSTILE),
        st.text(max_size=30),
    )
)
def test_no_realm_leads_astray(realm: str) -> None:
    """Whoever reads an accepted realm finds the registry's domain."""
    try:
        service = parse_token_service(
            row("https://r.example.com"), Challenge("Bearer", {"realm": realm})
        )
    except UpstreamMisbehaved:
        return
    for host in (urlsplit(service.url).hostname, parse_url(service.url).host, host_by_hand(realm)):
        assert host is not None
        assert f".{host.rstrip('.')}".endswith(".example.com")
        assert "%" not in host


def test_no_realm_at_all() -> None:
    """A challenge without a realm names nothing."""
    with pytest.raises(UpstreamMisbehaved):
        parse_token_service(row("https://r.example.com"), Challenge("Bearer"))


def sent(upstream: responses.RequestsMock, index: int = 0) -> responses.Call:
    """Return one request that went up."""
    call = upstream.calls[index]
    assert isinstance(call, responses.Call)
    return call


def body(reply: Reply) -> bytes:
    """Read a reply."""
    return reply.read()


PARAMETERS = [
    ("scope", "repository:a/b:pull"),
    ("scope", "repository:c/d:pull repository:e/f:pull"),
    ("account", "alice"),
    ("client_id", "docker"),
    ("offline_token", "true"),
    ("password", "p&=+% ä"),
    ("empty", ""),
]


def test_get(session: Session, upstream: responses.RequestsMock) -> None:
    """Parameters go up as they came, in order, with the registry's service."""
    upstream.get(TOKENS, body=ANSWER, content_type="application/json")
    fields = [("Authorization", "Basic abc"), ("Accept-Encoding", "gzip"), ("Cookie", "a=b")]
    reply = exchange_token(
        session, ONCE, SERVICE, TokenRequest(method="GET", parameters=PARAMETERS, headers=fields)
    )
    request = sent(upstream).request
    query = urlsplit(request.url or "").query
    assert parse_qsl(query, keep_blank_values=True) == [
        *PARAMETERS,
        ("service", "registry.example"),
    ]
    assert request.headers["Authorization"] == "Basic abc"
    assert request.headers["Accept-Encoding"] == "identity"
    assert "Cookie" not in request.headers
    assert request.body is None
    assert (reply.status, body(reply), reply.length) == (200, ANSWER, len(ANSWER))
    assert reply.header("Content-Type") == "application/json"


def test_post(session: Session, upstream: responses.RequestsMock) -> None:
    """A form goes up as a form, and the URL holds nothing of it."""
    upstream.post(TOKENS, body=ANSWER, content_type="application/json")
    reply = exchange_token(
        session, ONCE, SERVICE, TokenRequest(method="POST", parameters=PARAMETERS)
    )
    request = sent(upstream).request
    assert request.url == TOKENS
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert isinstance(request.body, bytes)
    assert request.headers["Content-Length"] == str(len(request.body))
    assert parse_qsl(request.body.decode(), keep_blank_values=True) == [
        *PARAMETERS,
        ("service", "registry.example"),
    ]
    assert (reply.status, body(reply)) == (200, ANSWER)


@pytest.mark.parametrize(
    ("realm", "expected"),
    [
        pytest.param("https://auth.example.com/token", "?account=alice&service=s", id="plain"),
        pytest.param(
            "https://auth.example.com/token?a=b", "?a=b&account=alice&service=s", id="query"
        ),
    ],
)
def test_a_realm_with_a_query(
    session: Session, upstream: responses.RequestsMock, realm: str, expected: str
) -> None:
    """What the realm has already stays."""
    upstream.get(TOKENS, body=ANSWER)
    request = TokenRequest(method="GET", parameters=[("account", "alice")])
    exchange_token(session, ONCE, TokenService(realm, "s"), request)
    assert sent(upstream).request.url == TOKENS + expected


def test_no_service(session: Session, upstream: responses.RequestsMock) -> None:
    """A challenge that names no service gets none."""
    upstream.get(TOKENS, body=ANSWER)
    request = TokenRequest(method="GET", parameters=[("account", "alice")])
    exchange_token(session, ONCE, TokenService(TOKENS, ""), request)
    assert sent(upstream).request.url == f"{TOKENS}?account=alice"


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        pytest.param(403, b"", id="403"),
        pytest.param(404, b"", id="404"),
        pytest.param(405, b"", id="405"),
        pytest.param(415, b"", id="415"),
        pytest.param(500, b"oops", id="500"),
        pytest.param(501, b"", id="501"),
        pytest.param(400, b"<html>", id="400 with a page"),
        pytest.param(400, b"", id="400 with nothing"),
        pytest.param(400, b'{"error":"unsupported_grant_type"}', id="400, grant unknown"),
        pytest.param(400, b'{"errors":[{"code":"UNSUPPORTED"}]}', id="400, OCI JSON"),
        pytest.param(400, b'{"errors":[7,{"code":"X"},{"code":"UNSUPPORTED"}]}', id="400, last"),
        pytest.param(400, b"[" * 100_000, id="400 with depth"),
        pytest.param(301, b"", id="301"),
        pytest.param(302, b"", id="302"),
        pytest.param(307, b"", id="307"),
    ],
)
def test_a_post_that_cannot_be_done(
    session: Session, upstream: responses.RequestsMock, status: int, answer: bytes
) -> None:
    """Clients fall back to GET on a 404; 403 and 5xx would be their end (field.md, A.10)."""
    upstream.post(TOKENS, status=status, body=answer)
    reply = exchange_token(session, ONCE, SERVICE, TokenRequest(method="POST", parameters=[]))
    assert reply.status == 404


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        pytest.param(200, ANSWER, id="200"),
        pytest.param(400, b'{"error":"invalid_grant"}', id="invalid grant"),
        pytest.param(400, b'{"error":"invalid_request"}', id="invalid request"),
        pytest.param(400, b'{"errors":[{"code":"DENIED"}]}', id="OCI JSON, another code"),
        pytest.param(400, b'{"errors":["UNSUPPORTED"]}', id="no error at all"),
        pytest.param(400, b'{"errors":"UNSUPPORTED"}', id="errors as text"),
        pytest.param(401, b'{"details":"incorrect password"}', id="401"),
        pytest.param(429, b"slow down", id="429"),
        pytest.param(502, b"", id="502"),
        pytest.param(503, b"later", id="503"),
        pytest.param(504, b"", id="504"),
    ],
)
def test_a_post_that_was_answered(
    session: Session, upstream: responses.RequestsMock, status: int, answer: bytes
) -> None:
    """What the service says about the credentials comes back as it is."""
    upstream.post(TOKENS, status=status, body=answer)
    reply = exchange_token(session, ONCE, SERVICE, TokenRequest(method="POST", parameters=[]))
    assert (reply.status, body(reply)) == (status, answer)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 429, 500, 503])
def test_a_get_is_answered_as_it_is(
    session: Session, upstream: responses.RequestsMock, status: int
) -> None:
    """Nothing is below a GET to fall back to."""
    upstream.get(TOKENS, status=status, body=b"x")
    reply = exchange_token(session, ONCE, SERVICE, TokenRequest(method="GET", parameters=[]))
    assert (reply.status, body(reply)) == (status, b"x")


def test_credentials_do_not_follow_a_redirect(
    session: Session, upstream: responses.RequestsMock
) -> None:
    """A token service on another host gets the question, not the password."""
    upstream.get(TOKENS, status=307, headers={"Location": "https://evil.example.net/t?x=y"})
    upstream.get("https://evil.example.net/t?x=y", body=b"{}")
    fields = [("Authorization", "Basic abc")]
    exchange_token(
        session, ONCE, SERVICE, TokenRequest(method="GET", parameters=[], headers=fields)
    )
    assert sent(upstream, 0).request.headers["Authorization"] == "Basic abc"
    assert "Authorization" not in sent(upstream, 1).request.headers


def test_a_post_is_never_repeated(session: Session, upstream: responses.RequestsMock) -> None:
    """A password is sent once, to the service that is meant."""
    upstream.post(TOKENS, status=307, headers={"Location": "https://evil.example.net/t"})
    exchange_token(
        session, ONCE, SERVICE, TokenRequest(method="POST", parameters=[("password", "pw")])
    )
    assert len(upstream.calls) == 1


def test_an_answer_without_end(session: Session, upstream: responses.RequestsMock) -> None:
    """More than a token can be is not read into memory."""
    upstream.get(TOKENS, body=b"x" * (1024 * 1024 + 1))
    with pytest.raises(UpstreamMisbehaved, match="larger"):
        exchange_token(session, ONCE, SERVICE, TokenRequest(method="GET", parameters=[]))


def test_a_service_that_cannot_be_reached(
    session: Session, upstream: responses.RequestsMock
) -> None:
    """503, for the client to try again."""
    upstream.get(TOKENS, body=requests.ConnectionError("refused"))
    with pytest.raises(UpstreamUnavailable, match=r"auth\.example\.com"):
        exchange_token(session, ONCE, SERVICE, TokenRequest(method="GET", parameters=[]))


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param({"Retry-After": "3600"}, ["60"], id="an hour"),
        pytest.param({"Retry-After": "7"}, ["7"], id="seconds"),
        pytest.param({}, ["30"], id="nothing"),
    ],
)
def test_too_many_requests_for_a_token(
    session: Session,
    upstream: responses.RequestsMock,
    method: str,
    told: dict[str, str],
    expected: list[str],
) -> None:
    """A 429 tells when to come back, once, and never after more than a minute."""
    upstream.add(method, TOKENS, status=429, body=b"slow down", headers=told)
    reply = exchange_token(session, ONCE, SERVICE, TokenRequest(method=method, parameters=[]))
    assert (reply.status, body(reply)) == (429, b"slow down")
    assert [v for name, v in reply.headers if name.lower() == "retry-after"] == expected


def test_set_cookie_stays_here(session: Session, upstream: responses.RequestsMock) -> None:
    """A token service sets no cookie for our host, and none is kept for the next caller."""
    upstream.get(TOKENS, body=b"{}", headers={"Set-Cookie": "session=alice; Path=/"})
    upstream.get(TOKENS, body=b"{}")
    for _ in range(2):
        reply = exchange_token(session, ONCE, SERVICE, TokenRequest(method="GET", parameters=[]))
        assert not reply.header("Set-Cookie")
    assert "Cookie" not in sent(upstream, 1).request.headers


def test_the_fallback_is_oci_json(session: Session, upstream: responses.RequestsMock) -> None:
    """The 404 that stands for "no POST" says so."""
    upstream.post(TOKENS, status=405)
    reply = exchange_token(session, ONCE, SERVICE, TokenRequest(method="POST", parameters=[]))
    assert json.loads(body(reply))["errors"][0]["code"] == "UNSUPPORTED"
