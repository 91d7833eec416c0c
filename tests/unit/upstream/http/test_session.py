"""The Session: no netrc, no cookies, and errors that are ours."""

import logging
import socket
import ssl
import struct
from functools import partial
from http.client import BadStatusLine, RemoteDisconnected
from pathlib import Path

import pytest
import requests
import responses
import trustme
import urllib3
from urllib3.util import SKIP_HEADER

from app.oci.errors import (
    OutboundProxyFails,
    RegistryError,
    UpstreamMisbehaved,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnreachable,
    UpstreamUntrusted,
)
from app.upstream.http.body import discard
from app.upstream.http.connect import Connector
from app.upstream.http.deadlines import NO_LIMIT, ClientDisconnected
from app.upstream.http.errors import redact_url
from app.upstream.http.pools import build_trusted_context
from app.upstream.http.retries import Retrier
from app.upstream.http.session import Session
from app.upstream.http.urls import OutboundProxies
from tests.lines import line_of
from tests.unit.upstream.server import Script, Server, request, serving

URL = "https://registry.example.com/v2/"
SIGNED = "https://user:pw@cdn.example.com/blob?signature=s3cr3t"


def through(proxy: str) -> Session:
    """Return a Session that fetches everything through a proxy."""
    return Session(
        ca_bundles=(),
        proxies=OutboundProxies(https=proxy, http=proxy, no_proxy=""),
        connect_timeout=5,
        read_timeout=5,
        connector=Connector(allow_private=True, prefer_ipv4=False),
    )


@pytest.fixture
def closed_port() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("header", ["Basic Y2xpZW50", None], ids=["credentials", "none"])
def test_netrc_takes_no_part(
    session: Session,
    upstream: responses.RequestsMock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    header: str | None,
) -> None:
    """Whoever runs this proxy may have a ~/.netrc; no client speaks with what is in it."""
    (tmp_path / ".netrc").write_text("machine registry.example.com login root password s3cr3t\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    assert requests.utils.get_netrc_auth(URL) == ("root", "s3cr3t")
    upstream.get(URL)
    session.send("GET", URL, [("Authorization", header)] if header else [])
    assert upstream.calls[0].request.headers.get("Authorization") == header


def test_cookies_are_not_kept(session: Session, upstream: responses.RequestsMock) -> None:
    """What one answer sets is not sent with the next request, whoever makes it."""
    upstream.get(URL, headers={"Set-Cookie": "session=alice; Path=/"})
    upstream.get(URL)
    session.send("GET", URL, [])
    session.send("GET", URL, [])
    assert "Cookie" not in upstream.calls[1].request.headers


def test_the_environment_takes_no_part(
    session: Session, upstream: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies and CAs come from the settings; requests reads no variable itself."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    upstream.get(URL)
    session.send("GET", URL, [])
    call = upstream.calls[0]
    assert isinstance(call, responses.Call)
    assert call.request.req_kwargs["proxies"] == {}  # type: ignore[attr-defined]


def test_what_is_sent(session: Session, upstream: responses.RequestsMock) -> None:
    """Exactly what was asked: requests adds no Accept, no encoding; urllib3 is told no agent."""
    upstream.post(URL)
    fields = [("Accept", "a"), ("accept", "b"), ("X-One", "1"), ("Content-Length", "4")]
    session.send("POST", URL, fields, body=b"body")
    request = upstream.calls[0].request
    assert dict(request.headers) == {
        "Accept": "a, b",
        "X-One": "1",
        "Content-Length": "4",
        "User-Agent": SKIP_HEADER,
    }
    assert request.body == b"body"


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param(
            [("Accept", "a"), ("accept", "b"), ("X", "1")], [b"Accept: a, b", b"X: 1"], id="some"
        ),
        pytest.param([("user-agent", "docker/26")], [b"user-agent: docker/26"], id="agent"),
        pytest.param([("Accept-Encoding", "gzip")], [b"Accept-Encoding: gzip"], id="encoding"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_written(
    session: Session, method: str, fields: list[tuple[str, str]], written: list[bytes]
) -> None:
    """On the wire is what was asked, the Host, and at the most an Accept-Encoding: no agent."""
    seen = []

    def script(peer: socket.socket, server: Server) -> None:
        del server
        seen.append(request(peer))
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with serving(script) as server:
        session.send(method, server.url, fields).close()
    first, host, *rest = seen[0].removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert first == f"{method} / HTTP/1.1".encode()
    assert host == f"Host: 127.0.0.1:{server.port}".encode()
    assert [line for line in rest if line != b"Accept-Encoding: identity"] == written


@pytest.mark.parametrize("name", ["X", "Accept", "Authorization"])
def test_what_urllib3_takes_for_its_own(session: Session, closed_port: int, name: str) -> None:
    """A client that sends urllib3's word for "no header" breaks nothing of ours."""
    with pytest.raises(RegistryError):
        session.send("GET", f"http://127.0.0.1:{closed_port}/", [(name, SKIP_HEADER)])


def cut(cause: BaseException, kind: type[requests.ConnectionError]) -> requests.ConnectionError:
    """Return what requests raises for a cause."""
    error = kind("cut")
    error.__cause__ = urllib3.exceptions.ProtocolError("Connection aborted.", cause)
    error.__cause__.__cause__ = cause
    return error


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return an authority that nobody trusts unless told to."""
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """Return what a server on loopback needs for TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def tls_session(authority: trustme.CA) -> Session:
    """Return a Session that trusts the authority."""
    return Session(
        ca_bundles=[authority.cert_pem.bytes().decode()],
        proxies=OutboundProxies(https=None, http=None, no_proxy=""),
        connect_timeout=5,
        read_timeout=5,
        connector=Connector(allow_private=True, prefer_ipv4=False),
    )


CUTS = [
    pytest.param(cut(ConnectionResetError(), requests.ConnectionError), id="reset"),
    pytest.param(cut(BrokenPipeError(), requests.ConnectionError), id="broken pipe"),
    pytest.param(cut(RemoteDisconnected(""), requests.ConnectionError), id="closed"),
    pytest.param(cut(ssl.SSLEOFError(), requests.exceptions.SSLError), id="TLS cut"),
    pytest.param(cut(ssl.SSLZeroReturnError(), requests.exceptions.SSLError), id="TLS closed"),
]
OTHERS = [
    pytest.param(cut(ConnectionRefusedError(), requests.ConnectionError), id="refused"),
    pytest.param(cut(socket.gaierror(), requests.ConnectionError), id="no such name"),
    pytest.param(cut(BadStatusLine("x"), requests.ConnectionError), id="no HTTP"),
    pytest.param(cut(ssl.SSLCertVerificationError(), requests.exceptions.SSLError), id="untrusted"),
    pytest.param(cut(ClientDisconnected(), requests.ConnectionError), id="the client left"),
    pytest.param(cut(TimeoutError(), requests.ConnectTimeout), id="connect timeout"),
    pytest.param(requests.ReadTimeout(), id="read timeout"),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("error", CUTS)
def test_a_cut_connection_is_tried_once_more(
    session: Session, upstream: responses.RequestsMock, method: str, error: Exception
) -> None:
    """It may have been kept too long; the client notices nothing."""
    upstream.add(method, URL, body=error)
    upstream.add(method, URL, status=404)
    ask = partial(session.send, method, URL, [("X", "1")])
    assert Retrier(budget=10)(lambda call: ask(call=call), NO_LIMIT).status_code == 404
    assert [call.request.headers["X"] for call in upstream.calls] == ["1", "1"]


@pytest.mark.parametrize("error", CUTS)
def test_a_connection_that_is_cut_again(
    session: Session, upstream: responses.RequestsMock, error: Exception
) -> None:
    """Too often is no accident: 503, for the client to try later."""
    upstream.get(URL, body=error)
    with pytest.raises(UpstreamUnavailable, match=r"^registry\.example\.com: "):
        Retrier(budget=0)(lambda call: session.send("GET", URL, [], call=call), NO_LIMIT)
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("error", CUTS)
def test_a_post_is_never_sent_again(
    session: Session, upstream: responses.RequestsMock, error: Exception
) -> None:
    """It may have had its effect."""
    upstream.post(URL, body=error)
    with pytest.raises(UpstreamUnavailable):
        session.send("POST", URL, [("Content-Length", "1")], body=b"x")
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("error", OTHERS)
def test_what_is_no_cut_is_not_tried_again(
    session: Session, upstream: responses.RequestsMock, error: Exception
) -> None:
    """What failed for a reason fails again; a client that left waits for nothing."""
    upstream.get(URL, body=error)
    with pytest.raises(RegistryError):
        session.send("GET", URL, [])
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("end", ["closed", "reset"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_kept_connection_that_ends(
    tls: ssl.SSLContext, tls_session: Session, method: str, end: str, scheme: str
) -> None:
    """On the wire: it is read, and not answered; the second try has a connection of its own."""
    session = tls_session
    asked: list[bytes] = []

    def script(peer: socket.socket, server: Server) -> None:
        while head := request(peer):
            if len(asked) == 1 and end == "reset":
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            asked.append(head)
            if len(asked) == 2:
                return
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        del server

    fields = [("Content-Length", "0")] if method == "POST" else []
    body = b"" if method == "POST" else None
    with serving(script, tls if scheme == "https" else None) as server:
        discard(session.send(method, server.url, fields, body=body))
        if method == "POST":
            with pytest.raises(UpstreamUnavailable):
                session.send(method, server.url, fields, body=body)
            assert (len(asked), len(server.peers)) == (2, 1)
        else:
            ask = partial(session.send, method, server.url, fields, body=body)
            response = Retrier(budget=10)(lambda call: ask(call=call), NO_LIMIT)
            discard(response)
            assert response.status_code == 200
            assert (len(asked), len(server.peers)) == (3, 2)
            assert len(set(asked)) == 1


def test_nothing_is_followed(session: Session, upstream: responses.RequestsMock) -> None:
    """Redirects are for redirects.py."""
    upstream.get(URL, status=307, headers={"Location": "https://cdn.example.com/"})
    assert session.send("GET", URL, []).status_code == 307


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        pytest.param(requests.ConnectTimeout("t"), UpstreamTimeout, id="connect timeout"),
        pytest.param(requests.ReadTimeout("t"), UpstreamTimeout, id="read timeout"),
        pytest.param(requests.ConnectionError("c"), UpstreamUnavailable, id="connection"),
        pytest.param(requests.exceptions.SSLError("s"), UpstreamUntrusted, id="TLS"),
        pytest.param(requests.exceptions.ProxyError("p"), OutboundProxyFails, id="proxy"),
        pytest.param(requests.exceptions.InvalidProxyURL("p"), OutboundProxyFails, id="proxy URL"),
        pytest.param(
            requests.exceptions.ChunkedEncodingError("c"), UpstreamUnavailable, id="chunks"
        ),
        pytest.param(requests.exceptions.InvalidURL("u"), UpstreamMisbehaved, id="URL"),
        pytest.param(requests.exceptions.InvalidHeader("h"), UpstreamMisbehaved, id="header"),
    ],
)
def test_errors_become_ours(
    session: Session,
    upstream: responses.RequestsMock,
    caplog: pytest.LogCaptureFixture,
    *,
    raised: Exception,
    expected: type[RegistryError],
) -> None:
    """The client is told the host and nothing more, and no secret of the URL is logged."""
    caplog.set_level(logging.DEBUG)
    upstream.get(SIGNED, body=raised)
    with pytest.raises(RegistryError) as caught:
        session.send("GET", SIGNED, [])
    assert type(caught.value) is expected
    what = " cannot be asked" if expected is UpstreamMisbehaved else f": {expected.message}"
    assert str(caught.value) == f"cdn.example.com{what}"
    told = [str(caught.value), *(line_of(record) for record in caplog.records)]
    assert not [text for text in told if "s3cr3t" in text or "pw@" in text]


def test_nobody_listens(session: Session, closed_port: int) -> None:
    """A refused connection is 503."""
    with pytest.raises(UpstreamUnavailable) as caught:
        session.send("GET", f"http://127.0.0.1:{closed_port}/", [])
    assert type(caught.value) is UpstreamUnreachable
    assert str(caught.value) == "127.0.0.1: cannot be reached"


def closing(peer: socket.socket, server: Server) -> None:
    """End at once, in the midst of a TLS handshake."""
    del server
    peer.recv(65536)


def resetting(peer: socket.socket, server: Server) -> None:
    """Throw the connection away."""
    closing(peer, server)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("script", [closing, resetting])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_handshake_that_is_cut(session: Session, method: str, script: Script) -> None:
    """Nothing was sent, so that even a POST may be sent again."""
    with serving(script) as server, pytest.raises(UpstreamUnreachable):
        session.send(method, server.url.replace("http:", "https:"), [])


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
@pytest.mark.parametrize("url", ["https://r.example/", "http://r.example/"])
def test_an_outbound_proxy_that_is_away(closed_port: int, scheme: str, url: str) -> None:
    """Every kind of proxy is really used: if it is away, the registry cannot be reached."""
    with pytest.raises(UpstreamUnavailable, match=r"^r\.example: "):
        through(f"{scheme}://user:s3cr3t@127.0.0.1:{closed_port}").send("GET", url, [])


def test_a_proxy_password_stays_here(closed_port: int, caplog: pytest.LogCaptureFixture) -> None:
    """It is in no message and no line of the log."""
    caplog.set_level(logging.DEBUG)
    proxy = f"http://user:s3cr3t@127.0.0.1:{closed_port}"
    with pytest.raises(UpstreamUnavailable) as caught:
        through(proxy).send("GET", "https://r.example/", [])
    assert "s3cr3t" not in str(caught.value)
    assert "s3cr3t" not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"http://{'a' * 64}.invalid/x", id="long label"),
        pytest.param("http://a..invalid/x", id="empty label"),
    ],
)
def test_urls_that_nobody_can_ask(session: Session, url: str) -> None:
    """Whatever library notices it, the error is one of ours."""
    with pytest.raises(RegistryError):
        session.send("GET", url, [])


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("https://r.example/v2/", "https://r.example/v2/", id="plain"),
        pytest.param(SIGNED, "https://cdn.example.com/blob", id="signed, with a user"),
        pytest.param("https://u@r.example:5000/x", "https://r.example:5000/x", id="user, port"),
        pytest.param("https://u:p@p@r.example/x", "https://r.example/x", id="two ats"),
        pytest.param("https://[::1]:5000/x?y#z", "https://[::1]:5000/x", id="IPv6, fragment"),
        pytest.param("https://r.example/a@b", "https://r.example/a@b", id="at in the path"),
        pytest.param("https://r.example", "https://r.example", id="no path"),
    ],
)
def test_redacted(url: str, expected: str) -> None:
    """Userinfo, query and fragment are left out."""
    assert redact_url(url) == expected


def test_the_bundle_is_added() -> None:
    """The usual authorities stay trusted beside it."""
    bundle = trustme.CA().cert_pem.bytes().decode()
    usual = len(build_trusted_context().get_ca_certs())
    assert usual > 10
    assert len(build_trusted_context(bundle).get_ca_certs()) == usual + 1
