"""The Session: no netrc, no cookies, and errors that are ours."""

import logging
import socket
from pathlib import Path

import pytest
import requests
import responses
import trustme

from app.oci.errors import (
    RegistryError,
    UpstreamMisbehaved,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from app.upstream.outbound import OutboundProxies
from app.upstream.session import Session, redacted, trusted_context

URL = "https://registry.example.com/v2/"
SIGNED = "https://user:pw@cdn.example.com/blob?signature=s3cr3t"


def through(proxy: str) -> Session:
    """Return a Session that fetches everything through a proxy."""
    return Session(
        ca_bundle=None,
        proxies=OutboundProxies(https=proxy, http=proxy, no_proxy=""),
        connect_timeout=5,
        read_timeout=5,
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
    """Exactly what was asked: requests adds no Accept, no encoding, no agent."""
    upstream.post(URL)
    fields = [("Accept", "a"), ("accept", "b"), ("X-One", "1"), ("Content-Length", "4")]
    session.send("POST", URL, fields, body=b"body")
    request = upstream.calls[0].request
    assert dict(request.headers) == {"Accept": "a, b", "X-One": "1", "Content-Length": "4"}
    assert request.body == b"body"


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
        pytest.param(requests.exceptions.SSLError("s"), UpstreamUnavailable, id="TLS"),
        pytest.param(requests.exceptions.ProxyError("p"), UpstreamUnavailable, id="proxy"),
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
    assert "cdn.example.com" in str(caught.value)
    told = [str(caught.value), *(record.getMessage() for record in caplog.records)]
    assert not [text for text in told if "s3cr3t" in text or "pw@" in text]


def test_nobody_listens(session: Session, closed_port: int) -> None:
    """A refused connection is 503."""
    with pytest.raises(UpstreamUnavailable):
        session.send("GET", f"http://127.0.0.1:{closed_port}/", [])


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
@pytest.mark.parametrize("url", ["https://r.example/", "http://r.example/"])
def test_an_outbound_proxy_that_is_away(closed_port: int, scheme: str, url: str) -> None:
    """Every kind of proxy is really used: if it is away, the registry cannot be reached."""
    with pytest.raises(UpstreamUnavailable):
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
    assert redacted(url) == expected


def test_the_bundle_is_added(tmp_path: Path) -> None:
    """The usual authorities stay trusted beside it."""
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    usual = len(trusted_context(None).get_ca_certs())
    assert usual > 10
    assert len(trusted_context(bundle).get_ca_certs()) == usual + 1
