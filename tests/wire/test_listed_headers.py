"""Only listed headers cross this proxy, in either direction, with a cache and without one."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from app.oci import headers
from app.version import VERSION
from tests.servers import Docxy, docxy
from tests.wire.caching import digest_of
from tests.wire.client import Answer, Client
from tests.wire.upstream import Asked, Connection, Upstream, playing, response
from tests.wire.wires import location, upstream_settings

SECRET: Final = "s3cr3t-of-the-client"  # noqa: S105 - it must never be seen
STRANGE_UP: Final = (
    # identity-aware fronts
    "X-Amzn-Oidc-Accesstoken", "X-Amzn-Oidc-Identity", "X-Amzn-Oidc-Data", "X-Amzn-Trace-Id",
    "X-Goog-Iap-Jwt-Assertion", "X-Goog-Authenticated-User-Email", "X-Goog-Authenticated-User-Id",
    "X-Serverless-Authorization", "Cf-Access-Jwt-Assertion", "Cf-Access-Client-Secret",
    "Cf-Access-Authenticated-User-Email", "X-Auth-Request-User", "X-Auth-Request-Email",
    "X-Auth-Request-Access-Token", "X-Ms-Client-Principal", "X-Ms-Token-Aad-Access-Token",
    "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Access-Token", "X-Pomerium-Jwt-Assertion",
    "X-Authentik-Jwt", "Tailscale-User-Login", "Remote-User", "Remote-Groups", "X-Remote-User",
    # client certificates
    "X-Ssl-Client-Cert", "X-Ssl-Client-Dn", "Ssl-Client-Cert", "X-Client-Cert", "Client-Cert",
    "X-Forwarded-Client-Cert", "X-Forwarded-Tls-Client-Cert", "X-Arr-Clientcert",
    # CI systems, clouds, API keys
    "Private-Token", "Job-Token", "Deploy-Token", "X-Api-Key", "Apikey", "X-Auth-Token",
    "X-Vault-Token", "X-JFrog-Art-Api", "X-Amz-Security-Token", "X-Goog-Api-Key", "X-Csrf-Token",
    # clients
    "X-Registry-Auth", "X-Registry-Config", "X-Docker-Token", "X-Meta-Source-Client",
    "Docker-Upload-UUID", "Cookie", "Cookie2", "Proxy-Authorization",
    # addresses, ways and pages
    "X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Azure-Clientip",
    "X-Envoy-External-Address", "X-Forwarded-For", "X-Forwarded-Host", "Forwarded",
    "X-Original-Url", "X-Rewrite-Url", "Referer", "Origin", "From", "Sec-Fetch-Site",
    "Sec-Ch-Ua-Platform", "Accept-Language", "X-Requested-With", "X-Http-Method-Override",
    # traces
    "Traceparent", "Tracestate", "Baggage", "X-B3-Traceid", "X-Request-Id", "X-Correlation-Id",
    "X-Cloud-Trace-Context",
    # what nobody has thought of
    "X-Anything-New",
)  # fmt: skip
STRANGE_DOWN: Final = (
    "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials",
    "Access-Control-Expose-Headers", "Origin-Trial", "Origin-Agent-Cluster", "Permissions-Policy",
    "Feature-Policy", "Document-Policy", "Cross-Origin-Opener-Policy",
    "Cross-Origin-Embedder-Policy", "Cross-Origin-Resource-Policy", "X-Frame-Options",
    "X-XSS-Protection", "X-Permitted-Cross-Domain-Policies", "X-Dns-Prefetch-Control",
    "Referrer-Policy", "Content-Security-Policy-Report-Only", "SourceMap", "X-SourceMap",
    "Content-Disposition", "Content-Location", "Content-Language", "Service-Worker-Allowed",
    "Speculation-Rules", "Accept-CH", "Critical-CH", "Set-Login", "Authentication-Info",
    "Proxy-Authentication-Info", "OCI-Namespace", "X-Forwarded-For", "X-Forwarded-Host",
    "X-Forwarded-Proto", "Via", "X-Powered-By", "X-Cache", "X-Served-By", "Server-Timing",
    "X-Amz-Request-Id", "X-Amz-Meta-Owner", "X-Goog-Hash", "X-Docker-Registry-Standalone",
    "X-Docker-Token", "X-Docker-Endpoints", "Docker-Ratelimit-Source", "Set-Cookie", "Set-Cookie2",
    "Authorization", "X-Api-Key", "X-Accel-Redirect", "X-Accel-Charset", "X-Sendfile",
    "X-LIGHTTPD-send-file", "X-Reproxy-URL", "Surrogate-Control", "Alt-Svc",
    "Strict-Transport-Security", "Clear-Site-Data", "Refresh", "NEL", "Report-To", "Location",
    "X-Anything-New",
)  # fmt: skip

NAME: Final = "library/alpine"
LAYER: Final = b"layer" * 1000
PART: Final = b"parts" * 1000
REMOTE: Final = b"remote" * 1000
DOCUMENT: Final = b'{"schemaVersion":2}'
MEDIA_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
STRANGE: Final = tuple(f"{name}: strange" for name in STRANGE_DOWN)
LISTED: Final = ("ratelimit-limit: 100;w=21600", "ratelimit-remaining: 76;w=21600")

BEARER: Final = "Authorization: Bearer a.b.c"
BASIC: Final = "Authorization: Basic YTpi"
SCOPE: Final = f"scope=repository:{NAME}:pull"
FORM: Final = f"grant_type=refresh_token&refresh_token=r&client_id=docker&{SCOPE}".encode()
ASKS: Final = {
    "ping": ("GET", "/v2/", BEARER),
    "manifest": ("GET", f"/v2/{NAME}/manifests/latest", BEARER),
    "manifest-head": ("HEAD", f"/v2/{NAME}/manifests/latest", BEARER),
    "manifest-digest": ("GET", f"/v2/{NAME}/manifests/{digest_of(DOCUMENT)}", "If-Match: *"),
    "blob": ("GET", f"/v2/{NAME}/blobs/{digest_of(LAYER)}", BASIC),
    "blob-part": ("GET", f"/v2/{NAME}/blobs/{digest_of(PART)}", "Range: bytes=0-"),
    "cdn-head": ("HEAD", f"/v2/{NAME}/blobs/{digest_of(REMOTE)}", BEARER),
    "cdn": ("GET", f"/v2/{NAME}/blobs/{digest_of(REMOTE)}", BEARER),
    "tags": ("GET", f"/v2/{NAME}/tags/list", BEARER),
    "referrers": ("GET", f"/v2/{NAME}/referrers/{digest_of(DOCUMENT)}", BEARER),
    "token": ("GET", f"/auth/token?{SCOPE}"),
    "token-login": ("GET", f"/auth/token?{SCOPE}&account=a", BASIC),
    "token-post": ("POST", "/auth/token", "Content-Type: application/x-www-form-urlencoded"),
    "search": ("GET", "/v1/search?q=alpine", BASIC),
}


@dataclass
class Site:
    """A registry with its token service and index, the host of its blobs, and a proxy."""

    registry: Upstream
    cdn: Upstream
    proxy: Docxy
    broken: threading.Event = field(default_factory=threading.Event)

    def answer(self, asked: Asked) -> bytes:
        """Answer as a registry, its token service and its index do."""
        path = asked.target.partition("?")[0]
        if path == "/token":
            return response(b'{"token":"t"}', "Content-Type: application/json", *STRANGE, *LISTED)
        if path == "/v1/search":
            return response(b'{"results":[]}', "Content-Type: application/json", *STRANGE, *LISTED)
        if path.endswith(digest_of(REMOTE)):
            return location(f"{self.cdn.url}/remote?signature=1")
        if "/blobs/" in path:
            return _blob(asked)
        if path == "/v2/":
            challenge = f'WWW-Authenticate: Bearer realm="{self.registry.url}/token",service="s"'
            return response(b"{}", challenge, *STRANGE, *LISTED, status="401 Unauthorized")
        kind, body = ("application/json", b"{}")
        if "/manifests/" in path:
            kind, body = MEDIA_TYPE, DOCUMENT
        return _without_body(asked, response(body, f"Content-Type: {kind}", *STRANGE, *LISTED))

    def play(self) -> None:
        """Let everything be as at first."""
        self.broken.clear()
        self.registry.play(self._script)
        self.cdn.play(self._cdn)

    def _script(self, connection: Connection) -> None:
        while True:
            asked = connection.head()
            if asked.method == "POST":
                connection.body(int(asked.value("Content-Length")))
            connection.send(self.answer(asked))

    def _cdn(self, connection: Connection) -> None:
        """Break off once in the midst, and go on from there when asked to."""
        while True:
            asked = connection.head()
            kind = "Content-Type: application/octet-stream"
            if begin := asked.value("Range").removeprefix("bytes=").partition("-")[0]:
                part = REMOTE[int(begin) :]
                told = f"Content-Range: bytes {begin}-{len(REMOTE) - 1}/{len(REMOTE)}"
                connection.send(response(part, kind, told, *STRANGE, status="206 Partial Content"))
            elif asked.method == "GET" and not self.broken.is_set():
                self.broken.set()
                connection.send(response(REMOTE, kind, *STRANGE)[: -len(REMOTE) // 2])
                return
            else:
                connection.send(_without_body(asked, response(REMOTE, kind, *STRANGE)))

    def ask(self, method: str, path: str, *fields: str) -> Answer:
        """Ask with every header that nobody should get."""
        strange = (f"{name}: {SECRET}" for name in STRANGE_UP)
        own = ("User-Agent: docker/26.1.5", "Accept: */*", "Accept-Encoding: gzip")
        body = FORM if method == "POST" else b""
        with Client(self.proxy.host) as client:
            return client.get(path, *strange, *own, *fields, method=method, body=body)

    @property
    def asked(self) -> list[Asked]:
        """Everything that has come, wherever."""
        return [*self.registry.asked, *self.cdn.asked]


def _blob(asked: Asked) -> bytes:
    data = PART if asked.target.endswith(digest_of(PART)) else LAYER
    fields = ["Content-Type: application/octet-stream", *STRANGE]
    if not asked.value("Range"):
        return _without_body(asked, response(data, *fields))
    fields.append(f"Content-Range: bytes 0-{len(data) - 1}/{len(data)}")
    return response(data, *fields, status="206 Partial Content")


def _without_body(asked: Asked, answer: bytes) -> bytes:
    end = answer.index(b"\r\n\r\n") + 4
    return answer[:end] if asked.method == "HEAD" else answer


@pytest.fixture(scope="module", params=["plain", "cached"])
def shared(
    request: pytest.FixtureRequest, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Return a proxy without a cache, and one with a cache."""
    with Upstream() as registry, Upstream() as cdn:
        more = {"DOCXY_INDEX_URL": registry.url, "DOCXY_RESUME_BUDGET": "20"}
        if request.param == "cached":
            more["DOCXY_CACHE_DIR"] = str(tmp_path_factory.mktemp("listed") / "cache")
        with docxy(**upstream_settings(registry, home, **more)) as proxy:
            yield Site(registry, cdn, proxy)


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    with playing(shared.registry), playing(shared.cdn):
        shared.play()
        yield shared


@pytest.mark.parametrize("what", ASKS)
def test_nothing_crosses_but_what_is_listed(site: Site, what: str) -> None:
    """What fronts, CI systems and clients add stays here, and what a registry says of our host."""
    answer = site.ask(*ASKS[what])
    assert answer.complete
    assert answer.status == {"ping": 401, "blob-part": 206}.get(what, 200)
    assert site.asked, "no registry was asked"
    own = {"host", "accept-encoding", "connection"}
    if what == "token-post":
        own |= {"content-type", "content-length"}
    for asked in site.asked:
        assert SECRET.encode() not in asked.raw
        assert {name.lower() for name, _ in asked.fields} <= headers.UP | own
        assert asked.values("Accept-Encoding") == ["identity"]
        assert asked.values("Via") == ["1.1 docxy"]
        agent = f"docxy/{VERSION}" if what == "search" else "docker/26.1.5"
        assert asked.values("User-Agent") == [agent]
    assert [one for asked in site.cdn.asked for one in asked.values("Authorization")] == []
    if what == "cdn":
        assert answer.body == REMOTE
        assert len(site.cdn.asked) == 2  # it broke off once
    assert b"strange" not in answer.head.raw


@pytest.mark.parametrize("what", ["manifest", "tags", "token-login"])
def test_what_clients_use_comes_down(site: Site, what: str) -> None:
    """How many pulls are left, and what the answer depends on."""
    answer = site.ask(*ASKS[what])
    assert answer.head.values("ratelimit-limit") == ["100;w=21600"]
    assert answer.head.values("ratelimit-remaining") == ["76;w=21600"]
