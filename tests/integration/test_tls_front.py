"""Docxy behind the shipped nginx.conf and Caddyfile, and what these two do to any answer."""

import hashlib
import json
import random
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests import programs, proxies
from tests.hub.hub import Hub
from tests.hub.images import OCI_INDEX
from tests.integration.curling import Answer, curl
from tests.proxies import Front
from tests.servers import clean_environment, docxy, wait_until

pytestmark = pytest.mark.integration

FRONTS = ["nginx", "caddy"]
HTTP_VERSIONS = ["--http1.1", "--http2"]
BROKEN = {"--http1.1": 18, "--http2": 92}
"""How curl ends when a body breaks: "transfer closed", "stream was not closed cleanly"."""

LARGE = random.Random(1).randbytes(32 << 20)  # noqa: S311 - no secret
PART = 1_000_000
REPOSITORY = "library/alpine"
LARGE_LAYER = 100 * (1 << 20)


class Backend(ThreadingHTTPServer):
    """A server behind the front that shows what the front sends, and misbehaves on demand."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.client_left = threading.Event()
        self.go_on = threading.Event()

    @property
    def host(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.server_port}"


class Conversation(BaseHTTPRequestHandler):
    """One connection from the front."""

    protocol_version = "HTTP/1.1"
    server: Backend
    pages: ClassVar[dict[str, Callable[["Conversation"], None]]] = {}

    def do_GET(self) -> None:
        """Answer by the path."""
        self.pages.get(self.path, Conversation.echo)(self)

    def do_HEAD(self) -> None:
        """Answer as GET does; `answer` leaves the body out."""
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def begin(self, *headers: tuple[str, str]) -> None:
        """Send the head of an answer."""
        self.send_response(200)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def answer(self, body: bytes, *headers: tuple[str, str]) -> None:
        """Send a whole answer."""
        self.begin(("Content-Length", str(len(body))), *headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def echo(self) -> None:
        """Tell the request as it arrived."""
        seen = {"line": self.requestline, "headers": self.headers.items()}
        self.answer(json.dumps(seen).encode(), ("Content-Type", "application/json"))

    def large(self) -> None:
        """Send something of a type that nginx and Caddy compress when they compress."""
        self.answer(LARGE, ("Content-Type", "application/json"))

    def broken(self) -> None:
        """Promise more than is sent."""
        self.begin(("Content-Length", str(len(LARGE))))
        self.wfile.write(LARGE[:PART])
        self.close_connection = True

    def broken_chunks(self) -> None:
        """Leave without the last chunk."""
        self.begin(("Transfer-Encoding", "chunked"))
        self.wfile.write(b"%x\r\n%s\r\n" % (PART, LARGE[:PART]))
        self.close_connection = True

    def silence(self) -> None:
        """Say little, then nothing until the other side has left."""
        self.begin(("Content-Length", "1000"))
        self.wfile.write(b"one\n")
        if self.connection.recv(1) == b"":
            self.server.client_left.set()
        self.close_connection = True

    def trickle(self) -> None:
        """Send a little, and the rest only when the test has seen it."""
        self.begin(("Content-Length", "8"))
        self.wfile.write(b"one\n")
        self.server.go_on.wait(30)
        self.wfile.write(b"two\n")

    def accelerate(self) -> None:
        """Try to make nginx serve another page."""
        self.answer(b"mine", ("X-Accel-Redirect", "/echo"), ("X-Accel-Limit-Rate", "1"))


Conversation.pages = {
    "/large": Conversation.large,
    "/broken": Conversation.broken,
    "/broken-chunks": Conversation.broken_chunks,
    "/silence": Conversation.silence,
    "/trickle": Conversation.trickle,
    "/accelerate": Conversation.accelerate,
}


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module", params=FRONTS)
def front(request: pytest.FixtureRequest, backend: Backend) -> Iterator[Front]:
    with getattr(proxies, request.param)(backend.host) as running:
        yield running


def arrived(front: Front, *arguments: str, target: str = "/echo") -> dict[str, list[str]]:
    """Return the headers that arrived behind the front, by lower-case name."""
    answer = curl(front, target, *arguments)
    assert answer.exit_status == 0
    assert answer.status == 200
    found: dict[str, list[str]] = {}
    for name, value in json.loads(answer.body)["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found


# What the front does to any request and answer


def test_http_leads_to_https(front: Front) -> None:
    """Plain http leads to the same path and query on https; 308 keeps the method of a POST."""
    answer = curl(front, f"{front.http_url}/v2/a?n=1", "--data", "x=y")
    assert answer.status == 308
    location = answer.headers["Location"]
    # Caddy 2.6 does not name a port other than 443, which only tests have.
    assert re.sub(r":\d+", "", location) == "https://localhost/v2/a?n=1"


def test_challenges_are_served_on_port_80(backend: Backend) -> None:
    """Certbot's webroot challenge is answered before the redirect; other files are not served."""
    with proxies.nginx(backend.host) as front:
        assert front.challenges
        folder = front.challenges / ".well-known" / "acme-challenge"
        folder.mkdir(parents=True)
        (folder / "token").write_text("key authorization")
        (front.challenges / "index.html").write_text("no page of ours")
        answer = curl(front, f"{front.http_url}/.well-known/acme-challenge/token")
        assert (answer.status, answer.body) == (200, b"key authorization")
        assert curl(front, f"{front.http_url}/index.html").status == 308


def test_http2_is_negotiated(front: Front) -> None:
    """A client that offers HTTP/2 gets it, one that does not gets HTTP/1.1."""
    assert curl(front, "/echo", "--http2").http_version == "HTTP/2"
    assert curl(front, "/echo", "--http1.1").http_version == "HTTP/1.1"


def test_front_is_reached_by_address(front: Front) -> None:
    """A client that names no server in its TLS hello, since it has an address, is served."""
    address = front.url.replace("localhost", "127.0.0.1")
    seen = json.loads(curl(front, f"{address}/echo").body)
    assert ["Host", address.removeprefix("https://")] in seen["headers"]


def test_old_tls_is_refused(front: Front) -> None:
    """TLS 1.2 is the oldest that is spoken."""
    # Security level 0, so that curl itself is willing.
    willing = ["--tlsv1.0", "--ciphers", "DEFAULT@SECLEVEL=0", "--tls-max"]
    assert curl(front, "/echo", *willing, "1.1").exit_status != 0
    assert curl(front, "/echo", *willing, "1.2").exit_status == 0


@pytest.mark.parametrize("version", HTTP_VERSIONS)
def test_what_a_client_says_about_itself_is_overwritten(front: Front, version: str) -> None:
    """The front's own word is the only one, for each header that gunicorn or Docxy believes."""
    spoofed = {
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Protocol": "ssl",
        "X-Forwarded-Ssl": "off",
        "X-Forwarded-Port": "1",
        "X-Forwarded-Prefix": "/evil",
        "Forwarded": "for=192.0.2.1;host=evil.example;proto=http",
        "SCRIPT_NAME": "/evil",
        "PATH_INFO": "/evil",
    }
    lines = [part for item in spoofed.items() for part in ("--header", ": ".join(item))]
    seen = arrived(front, version, *lines)
    assert seen["host"] == [front.host]
    assert seen["x-forwarded-proto"] == ["https"]
    assert seen["x-forwarded-host"] == [front.host]
    assert seen["x-forwarded-for"][0] in {"127.0.0.1", "::1"}
    assert len(seen["x-forwarded-for"]) == 1
    rest = {name.lower() for name in spoofed} - {
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-for",
    }
    assert not rest & seen.keys()


@pytest.mark.parametrize("version", HTTP_VERSIONS)
def test_long_headers_pass(front: Front, version: str) -> None:
    """Tokens of 20 KB and of 60 KB arrive whole."""
    for size in (20_000, 60_000):
        token = f"Bearer {'t' * size}"
        assert arrived(front, version, "--header", f"Authorization: {token}") == {
            **arrived(front, version),
            "authorization": [token],
        }


def test_long_request_line_passes(front: Front) -> None:
    """Many scopes in the query of a token request fit."""
    target = "/auth/token?scope=" + "s" * 20_000
    answer = curl(front, target)
    assert json.loads(answer.body)["line"] == f"GET {target} HTTP/1.1"


def test_request_line_is_not_touched(front: Front) -> None:
    """Escapes, double slashes and dots arrive as the client wrote them, for Docxy to judge."""
    target = "/v2/a//b/%2F/../c%2e?x=%2F"
    assert json.loads(curl(front, target).body)["line"] == f"GET {target} HTTP/1.1"


def test_accept_encoding_is_the_clients_own(front: Front) -> None:
    """The front asks for no compression that the client did not ask for."""
    assert "accept-encoding" not in arrived(front)


@pytest.mark.parametrize("version", HTTP_VERSIONS)
def test_nothing_is_compressed_or_changed(front: Front, version: str) -> None:
    """A client that would take gzip gets the bytes and the length that Docxy sent."""
    answer = curl(front, "/large", version, "--header", "Accept-Encoding: gzip, br, zstd")
    assert answer.exit_status == 0
    assert answer.headers["Content-Encoding"] is None
    assert answer.headers["Content-Length"] == str(len(LARGE))
    assert answer.body == LARGE


@pytest.mark.parametrize("version", HTTP_VERSIONS)
def test_head_keeps_the_length(front: Front, version: str) -> None:
    """HEAD arrives as HEAD, and its Content-Length comes back."""
    answer = curl(front, "/large", version, "--head")
    assert answer.headers["Content-Length"] == str(len(LARGE))
    assert answer.body == b""


@pytest.mark.parametrize("version", HTTP_VERSIONS)
def test_broken_body_stays_broken(front: Front, version: str) -> None:
    """A body that ends early behind the front ends in an error before it.

    A stream of HTTP/2 that is reset may lose what had come (RFC 9113, section 5.4.2).
    """
    answer = curl(front, "/broken", version)
    assert answer.exit_status == BROKEN[version]
    assert LARGE[:PART].startswith(answer.body)


@pytest.mark.parametrize("version", HTTP_VERSIONS)
def test_broken_chunks_stay_broken(front: Front, version: str) -> None:
    """The same without a length, where only the framing can tell."""
    answer = curl(front, "/broken-chunks", version)
    if front.name == "caddy" and answer.exit_status == 0:
        pytest.xfail("Caddy 2.6 ends a broken chunked body as if it were whole (caddy#5951)")
    assert answer.exit_status == BROKEN[version]


@pytest.mark.parametrize("version", HTTP_VERSIONS)
def test_little_goes_on_at_once(front: Front, backend: Backend, version: str) -> None:
    """A few bytes reach the client while the rest is still to come."""
    backend.go_on.clear()
    with started_curl(front, "/trickle", version) as process:
        assert process.stdout
        assert process.stdout.read(4) == b"one\n"
        backend.go_on.set()
        assert process.stdout.read() == b"two\n"


@pytest.mark.parametrize("version", HTTP_VERSIONS)
def test_client_that_leaves_is_noticed(front: Front, backend: Backend, version: str) -> None:
    """The connection behind the front ends at once, even if nothing is being sent."""
    backend.client_left.clear()
    with started_curl(front, "/silence", version) as process:
        assert process.stdout
        assert process.stdout.read(4) == b"one\n"
        process.kill()
    wait_until(backend.client_left.is_set, timeout=3, what="the front to leave")


def started_curl(front: Front, target: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start curl with its output as it comes."""
    programs.require("curl")
    command = ["curl", "-sS", "--no-buffer", "--max-time", "60", "--cacert", str(front.ca_path)]
    return subprocess.Popen(
        [*command, *arguments, front.url + target], env=clean_environment(), stdout=subprocess.PIPE
    )


def test_nginx_obeys_no_answer(backend: Backend) -> None:
    """An X-Accel-Redirect from behind does not make nginx serve another page."""
    with proxies.nginx(backend.host) as front:
        assert curl(front, "/accelerate").body == b"mine"


def test_nginx_writes_no_file(backend: Backend, tmp_path: Path) -> None:
    """Large bodies pass both ways although nginx has no folder for temporary files."""
    upload = tmp_path / "upload"
    upload.write_bytes(LARGE)
    with proxies.nginx(backend.host) as front:
        # The backend answers without reading it, as Docxy does to a push.
        curl(front, "/echo", "-X", "GET", "--upload-file", str(upload))
        assert curl(front, "/large", "--limit-rate", "50M").body == LARGE
        assert "[crit]" not in front.log
        assert "[emerg]" not in front.log


@pytest.mark.parametrize(
    ("holding", "asking", "is_one"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8:0:0:ffff:a:b:c", True),
        ("2001:db8:0:a0a::1", "2001:db8:0:a0b::1", False),
    ],
)
def test_nginx_gives_each_client_a_share(
    backend: Backend,
    holding: str,
    asking: str,
    is_one: bool,  # noqa: FBT001 - a column
) -> None:
    """It refuses more as a registry would, by address or by 64 bits of it; /health is free."""
    edited = {
        "server_tokens off;": "set_real_ip_from 127.0.0.1; set_real_ip_from ::1;",
        "limit_conn clients 500;": "limit_conn clients 2;",
    }
    as_holding, as_asking = (f"X-Real-IP: {one}" for one in (holding, asking))
    with (
        proxies.nginx(backend.host, mistakes=edited) as front,
        started_curl(front, "/silence", "--http1.1", "--header", as_holding) as one,
        started_curl(front, "/silence", "--http2", "--header", as_holding) as other,
    ):
        for process in (one, other):
            assert process.stdout
            assert process.stdout.read(4) == b"one\n"
        answer = curl(front, "/echo", "--header", as_asking)
        assert answer.status == (429 if is_one else 200)
        if is_one:
            assert json.loads(answer.body)["errors"][0]["code"] == "TOOMANYREQUESTS"
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.headers["Retry-After"] == "5"
        assert curl(front, "/health", "--header", as_asking).status == 200
        for process in (one, other):
            process.kill()


# Docxy behind the front


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    programs.require("docker-registry")
    with Hub() as running:
        yield running


@pytest.fixture(scope="module")
def large_layer(hub: Hub) -> str:
    """Return the digest of a blob that no buffer holds."""
    return hub.push_blob(REPOSITORY, LARGE_LAYER)


@pytest.fixture(scope="module")
def docxy_host(hub: Hub) -> Iterator[str]:
    settings: dict[str, Any] = {**hub.settings}
    with docxy(**settings, DOCXY_RESUME_BUDGET="0.001") as proxy:
        yield proxy.host


@pytest.fixture(scope="module", params=FRONTS)
def docxy_front(request: pytest.FixtureRequest, docxy_host: str) -> Iterator[Front]:
    with getattr(proxies, request.param)(docxy_host) as running:
        yield running


@pytest.fixture(autouse=True)
def _healed(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "hub" in request.fixturenames:
        request.getfixturevalue("hub").reset()


def token(front: Front) -> str:
    """Return an anonymous token, bought where the challenge says."""
    realm = challenged_realm(curl(front, "/v2/"))
    answer = curl(front, f"{realm}?service=registry.test&scope=repository:{REPOSITORY}:pull")
    return str(json.loads(answer.body)["token"])


def challenged_realm(answer: Answer) -> str:
    """Return the realm of a 401."""
    assert answer.status == 401
    found = re.search(r'realm="([^"]*)"', answer.headers["WWW-Authenticate"])
    assert found
    return found[1]


def pull(front: Front, path: str, *arguments: str) -> Answer:
    """Ask for something of the repository, with a token."""
    authorization = f"Authorization: Bearer {token(front)}"
    return curl(front, f"/v2/{REPOSITORY}/{path}", "--header", authorization, *arguments)


@pytest.mark.parametrize("version", HTTP_VERSIONS)
def test_realm_is_the_fronts(docxy_front: Front, version: str) -> None:
    """The challenge names https, the name and the port that the client used."""
    answer = curl(docxy_front, "/v2/", version)
    assert challenged_realm(answer) == f"{docxy_front.url}/auth/token"


def test_realm_is_not_the_clients_word(docxy_front: Front) -> None:
    """A client that claims http, another host or a prefix changes nothing."""
    spoofed = [
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Ssl: off",
        "Forwarded: host=evil.example;proto=http",
        "SCRIPT_NAME: /v2",
    ]
    answer = curl(docxy_front, "/v2/", *(part for line in spoofed for part in ("--header", line)))
    assert challenged_realm(answer) == f"{docxy_front.url}/auth/token"


@pytest.mark.parametrize("version", HTTP_VERSIONS)
def test_manifest_head(hub: Hub, docxy_front: Front, version: str) -> None:
    """HEAD of a manifest keeps length, type and digest: pulls begin with it."""
    image = hub.image(REPOSITORY, "latest")
    answer = pull(
        docxy_front, "manifests/latest", version, "--head", "--header", f"Accept: {OCI_INDEX}"
    )
    assert answer.status == 200
    assert answer.headers["Content-Length"] == str(len(image.body))
    assert answer.headers["Content-Type"] == OCI_INDEX
    assert answer.headers["Docker-Content-Digest"] == image.digest


@pytest.mark.parametrize(
    ("docxy_front", "version"), [*zip(FRONTS, HTTP_VERSIONS, strict=True)], indirect=["docxy_front"]
)
def test_large_layer(docxy_front: Front, large_layer: str, version: str) -> None:
    """A layer of 100 MiB arrives whole, uncompressed and with its length."""
    answer = pull(docxy_front, f"blobs/{large_layer}", version, "--header", "Accept-Encoding: gzip")
    assert answer.exit_status == 0
    assert answer.status == 200
    assert answer.headers["Content-Encoding"] is None
    assert answer.headers["Content-Length"] == str(LARGE_LAYER)
    assert f"sha256:{hashlib.sha256(answer.body).hexdigest()}" == large_layer


@pytest.mark.parametrize("version", HTTP_VERSIONS)
def test_range_of_a_layer(docxy_front: Front, large_layer: str, version: str) -> None:
    """A range is exact."""
    answer = pull(docxy_front, f"blobs/{large_layer}", version, "--range", "1000-1999")
    assert answer.status == 206
    assert answer.headers["Content-Range"] == f"bytes 1000-1999/{LARGE_LAYER}"
    assert len(answer.body) == 1000


@pytest.mark.parametrize("version", HTTP_VERSIONS)
def test_layer_that_breaks(hub: Hub, docxy_front: Front, large_layer: str, version: str) -> None:
    """A layer that the registry never finishes is seen as broken by the client."""
    hub.fail(part="cdn", times=None, cut_after=PART)
    answer = pull(docxy_front, f"blobs/{large_layer}", version)
    assert answer.exit_status == BROKEN[version]
    assert len(answer.body) < LARGE_LAYER


def test_long_token_reaches_the_registry(docxy_front: Front) -> None:
    """A token of 20 KB is refused by the registry, for what it is and not for its length."""
    authorization = f"Authorization: Bearer {'t' * 20_000}"
    answer = curl(docxy_front, f"/v2/{REPOSITORY}/manifests/latest", "--header", authorization)
    assert answer.status == 401
    assert challenged_realm(answer) == f"{docxy_front.url}/auth/token"


LOST_STREAM = 92
"""curl's exit status for an error in a stream of HTTP/2."""


def test_push_is_refused_before_its_body(docxy_front: Front, tmp_path: Path) -> None:
    """A push gets Docxy's own answer, at once, and not a page of the front.

    Clients begin one without a body. If the answer comes while the body is still being sent, Caddy
    and nginx 1.22 (Debian 12) give their own 502 when a write fails before they have read it, and
    curl 7.88 (Debian 12) may lose it (exit status 92).
    """
    path = f"/v2/{REPOSITORY}/blobs/uploads/"
    upload = tmp_path / "upload"
    upload.write_bytes(LARGE)
    answer = curl(docxy_front, path, "-X", "POST", "--upload-file", str(upload))
    assert answer.status in {405, 502} or answer.exit_status == LOST_STREAM
    answer = curl(docxy_front, path, "-X", "POST", "--data", "")
    assert answer.status == 405
    assert json.loads(answer.body)["errors"][0]["code"] == "DENIED"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--http1.1"], id="length"),
        pytest.param(["--http1.1", "--header", "Transfer-Encoding: chunked"], id="chunks"),
        pytest.param(["--http2"], id="HTTP/2"),
    ],
)
def test_nginx_needs_no_file_for_forms(docxy_host: str, arguments: list[str]) -> None:
    """The longest that pass it are Docxy's to refuse, though nginx waits for their end."""
    posting = ("--header", "Expect:", "--data-binary", "@-")
    with proxies.nginx(docxy_host) as front:
        for size, is_docxys in ((1 << 20, True), ((1 << 20) + 1, False)):
            answer = curl(front, "/page/rewrite", *arguments, *posting, given=b"a" * size)
            assert answer.status == 413
            assert answer.headers["Content-Type"] == "application/json"
            assert json.loads(answer.body)["errors"][0]["code"] == "UNKNOWN"
            assert ("X-Request-ID" in answer.headers) is is_docxys
        assert "[crit]" not in front.log
