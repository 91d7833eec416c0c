"""A registry redirects to another one of the table: what may be asked there, and for whom."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.servers import Docxy, docxy
from tests.tables import write_config
from tests.wire.caching import MANIFEST, digest_of
from tests.wire.client import Answer, Client
from tests.wire.outbound import HttpProxy
from tests.wire.upstream import Asked, Connection, Upstream, always, answering, playing, response
from tests.wire.wires import REPEATED, Certificates, location

RULES: Final = """
[[rules]]
action = "deny"
registry = "vault.test"
repository = "secret/**"
message = "secrets are not for this"

[[rules]]
action = "deny"
registry = "vault.test"
repository = "team/**"
networks = ["10.1.0.0/16"]
message = "not for the lab"

[[rules]]
action = "allow"
registry = "vault.test"
repository = "looked/**"
platforms = ["linux/amd64"]
"""
OFFICE: Final = "X-Forwarded-For: 10.2.0.5"
LAB: Final = "X-Forwarded-For: 10.1.0.5"
LOGIN: Final = "Authorization: Bearer a.b.c"
DOCUMENT: Final = b'{"schemaVersion":2}'
LAYER: Final = b"layer" * 1000
BLOB: Final = digest_of(LAYER)
TRICKS: Final = [
    "/v2/",
    "/v2/_catalog",
    "/v2/_catalog?n=1000",
    "/v2/team/app/tags/list",
    "/v2/team/app/manifests/%2e%2e/%2e%2e/%2e%2e/_catalog",
    "/v2/team/app/manifests/%252e%252e/%252e%252e/_catalog",
    "/v2/%25252e%25252e/v2/_catalog",
    "/v2/team/..%2f..%2f_catalog/manifests/1",
    "/v2/team/..%5c..%5c_catalog",
    "/v2//_catalog",
    "//v2/_catalog",
    "/V2/_catalog",
    "/v2;x=y/_catalog",
    "/x/../v2/_catalog",
    "/x/%252e%252e/v2/team/app/manifests/1",
    "/v2/team/app/manifests/1%3fx=y",
    "/v2/team/app/manifests/1%00",
    "/v2/team/app/blobs/uploads/",
    "/token?service=vault&scope=repository:team/app:pull",
    "/",
]


@dataclass
class Site:
    """Two public registries, the second of which may redirect to a private one, and a proxy."""

    public: Upstream
    named: Upstream
    vault: Upstream
    proxy: Docxy
    is_cached: bool

    def get(self, path: str, *fields: str, method: str = "GET") -> Answer:
        """Ask as a client in the office, unless another address is given."""
        shown = fields if any("Forwarded" in one for one in fields) else (*fields, OFFICE)
        with Client(self.proxy.host) as client:
            return client.get(path, *shown, method=method)

    def leads(self, registry: Upstream, target: str) -> None:
        """Let a registry answer everything with a redirect to a path of the private one."""
        registry.play(always(location(f"{self.vault.url}{target}")))


def vault(asked: Asked) -> bytes:
    """Answer as a registry that needs no token."""
    path = asked.target.partition("?")[0]
    body, kind = (LAYER, "application/octet-stream") if "/blobs/" in path else (DOCUMENT, MANIFEST)
    answer = response(body, f"Content-Type: {kind}")
    return answer[: -len(body)] if asked.method == "HEAD" else answer


@pytest.fixture(scope="module", params=["plain", "cached"])
def shared(
    request: pytest.FixtureRequest,
    certificates: Certificates,
    home: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """Run a proxy that reaches the public registries through another one, as if far away."""
    folder = tmp_path_factory.mktemp("neighbours")
    with contextlib.ExitStack() as stack:
        public, named = (
            stack.enter_context(Upstream(certificates.context, name="registry.test"))
            for _ in range(2)
        )
        near, way = stack.enter_context(Upstream()), stack.enter_context(HttpProxy())
        private = {"url": near.url, "allow_private": True, "redirects_from": ["named.test"]}
        rows: list[dict[str, object]] = [
            {"name": "public.test", "url": public.url},
            {"name": "named.test", "url": named.url},
            {"name": "vault.test", **private},
        ]
        path = write_config(folder / "docxy.toml", rows)
        path.write_text(path.read_text() + RULES)
        settings = {
            "HOME": str(home),
            "DOCXY_CONFIG": str(path),
            "DOCXY_CA_BUNDLE": str(certificates.ca_path),
            "DOCXY_RESUME_BUDGET": "20",
            "ALL_PROXY": f"http://127.0.0.1:{way.port}",
            "NO_PROXY": "127.0.0.1",
            **REPEATED,
        }
        if request.param == "cached":
            settings["DOCXY_CACHE_DIR"] = str(folder / "cache")
        proxy = stack.enter_context(docxy(**settings))
        yield Site(public, named, near, proxy, request.param == "cached")


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    with playing(shared.public), playing(shared.named), playing(shared.vault):
        shared.vault.play(answering(vault))
        yield shared


def error_of(answer: Answer) -> str:
    """Return the message of an answer that is an error."""
    (error,) = json.loads(answer.body)["errors"]
    return str(error["message"])


def test_nothing_but_content_is_reached(site: Site) -> None:
    """A redirect, however it is written, asks a registry for nothing else than its images."""
    for path in TRICKS:
        site.leads(site.public, path)
        answer = site.get("/v2/a/b/manifests/1", LOGIN)
        assert (answer.status, answer.complete) == (502, True), path
        assert site.vault.connections == [], path


def test_nothing_but_content_is_reached_by_one_that_may_redirect(site: Site) -> None:
    """`redirects_from` is about images too."""
    for path in TRICKS:
        if path in {"/", TRICKS[-2]}:
            continue
        site.leads(site.named, path)
        assert site.get("/v2/named.test/a/b/manifests/1").status == 502, path
        assert site.vault.connections == [], path


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("what", ["manifests/1", f"blobs/{BLOB}", f"referrers/{BLOB}"])
def test_a_public_registry_does_not_reach_a_private_one(site: Site, what: str, method: str) -> None:
    """Its row does not allow that, and the other's does not name it."""
    site.leads(site.public, f"/v2/team/app/{what}")
    answer = site.get(f"/v2/a/b/{what}", LOGIN, method=method)
    assert answer.status == 502
    if method == "GET":
        assert "redirects_from of vault.test does not name" in error_of(answer)
    assert site.vault.connections == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("what", ["manifests/1", f"blobs/{BLOB}", f"referrers/{BLOB}"])
def test_one_that_is_named_reaches_it(site: Site, what: str, method: str) -> None:
    """As nobody, for just what it names: a query could choose another registry there."""
    site.leads(site.named, f"/v2/team/app/{what}?ns=other.test")
    login = "Authorization: Bearer named.test~a.b.c"
    answer = site.get(f"/v2/named.test/a/{method.lower()}/{what}", login, method=method)
    assert answer.status == 200
    assert site.vault.asked
    for asked in site.vault.asked:
        assert asked.target == f"/v2/team/app/{what}"
        assert asked.values("Authorization") == []


def test_a_body_that_breaks_off_goes_on_there(site: Site) -> None:
    """It is asked for the rest, which is as allowed as the first part was."""
    data = b"again" * 100_000
    path = f"/v2/team/app/blobs/{digest_of(data)}"
    broken = threading.Event()

    def script(connection: Connection) -> None:
        while True:
            begin = connection.head().value("Range").removeprefix("bytes=").partition("-")[0]
            kind = "Content-Type: application/octet-stream"
            if not broken.is_set():
                broken.set()
                connection.send(response(data, kind)[: len(data) // 2])
                return
            told = f"Content-Range: bytes {begin}-{len(data) - 1}/{len(data)}"
            part = data[int(begin) :]
            connection.send(response(part, kind, told, status="206 Partial Content"))

    site.leads(site.named, path)
    site.vault.play(script)
    answer = site.get(f"/v2/named.test/broken/off/blobs/{digest_of(data)}")
    assert answer.body == data
    assert [asked.target for asked in site.vault.asked] == [path, path]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("what", ["manifests/1", f"manifests/{BLOB}", f"blobs/{BLOB}"])
def test_a_rule_that_denies_the_other_registry(site: Site, what: str, method: str) -> None:
    """What it says is what the client is told, and nobody is asked."""
    site.leads(site.named, f"/v2/secret/app/{what}")
    answer = site.get(f"/v2/named.test/a/rule/{what}", method=method)
    assert answer.status == 403
    if method == "GET":
        assert error_of(answer) == "secrets are not for this"
    assert site.vault.connections == []


def test_a_rule_that_looks_at_images(site: Site) -> None:
    """It is asked for where images are named so: what cannot be told is refused."""
    site.leads(site.named, "/v2/looked/app/manifests/1")
    answer = site.get("/v2/named.test/a/looked/manifests/1")
    assert (answer.status, "vault.test" in error_of(answer)) == (403, True)
    assert site.vault.connections == []


@pytest.mark.parametrize(
    "what", ["manifests/1", f"manifests/{digest_of(DOCUMENT)}", f"blobs/{BLOB}"]
)
def test_a_rule_is_about_whoever_asks(site: Site, what: str) -> None:
    """What one client was given, from wherever, is kept for no other whom a rule denies it."""
    site.leads(site.named, f"/v2/team/app/{what}")
    path = f"/v2/named.test/who/asks/{what}"
    answer = None
    for address, status in ((LAB, 403), (OFFICE, 200), (LAB, 403), (OFFICE, 200)):
        for method in ("GET", "HEAD"):
            answer = site.get(path, address, method=method)
            assert answer.status == status, (address, method)
    if site.is_cached:
        assert answer
        assert "docxy;" in answer.head.value("Cache-Status")


def test_a_rule_counts_while_the_registry_is_away(site: Site) -> None:
    """What is kept and public goes to whom the rules let have it."""
    path = f"/v2/named.test/is/away/manifests/{digest_of(DOCUMENT)}"
    site.leads(site.named, f"/v2/team/app/manifests/{digest_of(DOCUMENT)}")
    assert site.get(path).status == 200
    site.named.play(always(response(b"", status="503 Later")))
    assert site.get(path, LAB).status == 503
    assert site.get(path).status == (200 if site.is_cached else 503)


def test_an_outbound_proxy_does_not_lead_there_either(
    certificates: Certificates, home: Path, tmp_path: Path
) -> None:
    """It resolves the name of a private registry, so that nobody has looked at its address."""
    with contextlib.ExitStack() as stack:
        public, named = (
            stack.enter_context(Upstream(certificates.context, name="registry.test"))
            for _ in range(2)
        )
        private = stack.enter_context(Upstream(name="vault.test"))
        way = stack.enter_context(HttpProxy())
        for upstream in (public, named, private):
            stack.enter_context(playing(upstream))
        private.play(answering(vault))
        row = {"url": private.url, "allow_private": True, "redirects_from": ["named.test"]}
        rows: list[dict[str, object]] = [
            {"name": "public.test", "url": public.url},
            {"name": "named.test", "url": named.url},
            {"name": "vault.test", **row},
        ]
        settings = {
            "HOME": str(home),
            "DOCXY_CONFIG": str(write_config(tmp_path / "docxy.toml", rows)),
            "DOCXY_CA_BUNDLE": str(certificates.ca_path),
            "ALL_PROXY": way.url,
            **REPEATED,
        }
        proxy = stack.enter_context(docxy(workers=1, **settings))
        client = stack.enter_context(Client(proxy.host))
        for target in ("/v2/team/app/manifests/1", f"/v2/team/app/blobs/{BLOB}", "/", "/token?a=b"):
            public.play(always(location(f"{private.url}{target}")))
            answer = client.get("/v2/public.test/a/b/manifests/1")
            assert (answer.status, private.connections) == (502, [])
        for path in ("/v2/named.test/a/b/manifests/1", "/v2/vault.test/team/app/manifests/1"):
            named.play(always(location(f"{private.url}/v2/team/app/manifests/1")))
            assert client.get(path).body == DOCUMENT
