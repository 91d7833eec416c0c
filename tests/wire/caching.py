"""A registry on raw sockets that issues tokens, counts what it is asked, and can go away."""

import base64
import contextlib
import hashlib
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.servers import Docxy, docxy
from tests.wire.client import Answer, Client
from tests.wire.upstream import Asked, Connection, Upstream, response
from tests.wire.wires import upstream_settings

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LOGINS = (
    ("text/html; charset=utf-8", b"<title>Log in</title>"),
    ("application/json", b'{"error":"log in at https://login.example/"}'),
)
"""What servers in front of a registry show to whoever is not logged in, with 200."""

ALICE = "Basic YWxpY2U6c2VjcmV0"
"""alice, who gets tokens for the private repository."""


def digest_of(data: bytes) -> str:
    """Return the digest of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _head_of(answer: bytes) -> bytes:
    """Return an answer without its body, as to a HEAD."""
    head, end, _ = answer.partition(b"\r\n\r\n")
    return head + end


def manifest_path(name: str, reference: str) -> str:
    """Return where a manifest is."""
    return f"/v2/{name}/manifests/{reference}"


def blob_path(name: str, digest: str) -> str:
    """Return where a blob is."""
    return f"/v2/{name}/blobs/{digest}"


@dataclass
class Registry:
    """Two repositories with the same content, one of which needs alice's token.

    `renew` makes them two others, such as nobody has seen.
    """

    upstream: Upstream
    public: str = ""
    private: str = ""
    data: bytes = b""
    layer: bytes = b""
    lists_referrers: bool = False
    """Whether it has the referrers API; without it, it says 404 in plain text."""
    lifetime: float = 300
    status: int = 0
    """What is answered in place of everything, if it is not 0."""
    token_status: int = 0
    slow: threading.Event = field(default_factory=threading.Event)
    """Until it is set, no manifest is sent."""
    issued: dict[str, str] = field(default_factory=dict)
    private_open: bool = True
    public_open: bool = True
    shows_login: bool = False
    """Whether those who may not read are sent to a page, as by a server in front of it."""
    login: tuple[str, bytes] = LOGINS[0]
    """What is there, and what it is called."""
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Be as at first, with two repositories and content that nobody has seen."""
        number = next(self.numbers)
        self.public, self.private = f"library/public{number}", f"team/private{number}"
        self.data = b'{"schemaVersion":2,"number":%d}' % number
        self.layer = b"layer %d" % number
        self.lists_referrers = False
        self.lifetime, self.shows_login = 300, False
        self.private_open = self.public_open = True
        self.status = self.token_status = 0
        self.slow.set()
        self.upstream.play(self.script)

    @property
    def digest(self) -> str:
        """The digest of the one manifest."""
        return digest_of(self.data)

    @property
    def content_asked(self) -> list[str]:
        """The methods of all requests since the last `renew` but pings and those for tokens."""
        asked = [one for one in list(self.upstream.asked) if one.target.startswith("/v2/")]
        return [one.method for one in asked if one.target != "/v2/"]

    def count(self, method: str, what: str = "/v2/") -> int:
        """Return how many requests there were for what has this in its target."""
        return sum(
            one.method == method and what in unquote(one.target)
            for one in list(self.upstream.asked)
        )

    def has_come(self, reference: str) -> bool:
        """Tell whether somebody has asked for a manifest."""
        return self.count("GET", reference) > 0

    def script(self, connection: Connection) -> None:
        """Answer whatever comes."""
        with contextlib.suppress(TimeoutError):  # a kept connection that nobody uses is closed
            while True:
                asked = connection.head()
                answer = self._answer(asked)
                connection.send(answer if asked.method == "GET" else _head_of(answer))

    def _answer(self, asked: Asked) -> bytes:
        if asked.target.startswith("/token"):
            return self._token(asked)
        if self.status:
            return response(b"", status=f"{self.status} Trouble")
        shown = self.issued.get(asked.value("Authorization").removeprefix("Bearer "))
        public = self.public in asked.target and self.public_open
        hers = self.private in asked.target and shown == "alice" and self.private_open
        pinged = asked.target == "/v2/"
        opened = shown is not None and (public or pinged or hers)
        if self.shows_login and not opened:
            return self._login(asked)
        if not opened:
            challenge = f'Bearer realm="{self.upstream.url}/token",service="registry.test"'
            fields = (f"WWW-Authenticate: {challenge}", "Content-Type: application/json")
            return response(b"{}", *fields, status="401 Unauthorized")
        return response(b"{}") if pinged else self._content(asked)

    def _content(self, asked: Asked) -> bytes:
        _, kind, what = asked.target.rsplit("/", 2)
        if kind == "manifests" and what in {"latest", self.digest}:
            return self._manifest()
        if kind == "blobs" and what == digest_of(self.layer):
            return response(self.layer, "Content-Type: application/octet-stream")
        if kind == "tags":
            return response(b'{"tags":["latest"]}', "Content-Type: application/json")
        if kind == "referrers" and self.lists_referrers:
            return response(b'{"manifests":[]}', f"Content-Type: {INDEX}")
        return response(b"404 page not found", "Content-Type: text/plain", status="404 Not Found")

    def _login(self, asked: Asked) -> bytes:
        if not asked.target.startswith("/login"):
            return response(b"", f"Location: {self.upstream.url}/login", status="302 Found")
        kind, page = self.login
        return response(page, f"Content-Type: {kind}")

    def _manifest(self) -> bytes:
        self.slow.wait(20)
        fields = (f"Content-Type: {MANIFEST}", f"Docker-Content-Digest: {self.digest}")
        return response(self.data, *fields)

    def _token(self, asked: Asked) -> bytes:
        if self.token_status:
            return response(b"", status=f"{self.token_status} Trouble")
        scopes = parse_qs(urlsplit(asked.target).query).get("scope", [])
        who = "alice" if asked.value("Authorization") == ALICE else ""
        claims = {"exp": time.time() + self.lifetime, "n": next(self.numbers), "scopes": scopes}
        parts = [
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
            for part in ({"alg": "none"}, claims, {"signed": True})
        ]
        token = ".".join(parts)
        self.issued[token] = who
        answer = json.dumps({"token": token, "expires_in": int(self.lifetime)}).encode()
        return response(answer, "Content-Type: application/json")


@dataclass
class Caching:
    """A registry, and Docxy with a cache before it."""

    registry: Registry
    proxy: Docxy
    directory: Path
    switch_off: Callable[[], None]
    """Let the registry refuse connections."""
    settings: dict[str, str]

    @property
    def attempts(self) -> list[int]:
        """How often an upstream was asked for each request that needed it, as the log has it."""
        return [*map(int, re.findall(r" attempts=(\d+)", self.proxy.log))]

    @contextlib.contextmanager
    def restarted(self) -> Iterator["Caching"]:
        """Run another Docxy over what this one has kept."""
        with docxy(workers=2, **self.settings) as proxy:
            yield replace(self, proxy=proxy)

    def hers(self) -> str:
        """Get alice's token for the private repository."""
        return str(self.token(self.registry.private, f"Authorization: {ALICE}")["token"])

    def ask(self, path: str, *fields: str, method: str = "GET") -> Answer:
        """Ask on a connection of its own, which any worker may get."""
        with Client(self.proxy.host) as client:
            client.ask(path, *fields, method=method)
            return client.answer(method)

    @contextlib.contextmanager
    def at(self, worker: int) -> Iterator[Client]:
        """Connect to one worker."""
        with contextlib.ExitStack() as stack:
            with self.proxy.only(worker):
                client = stack.enter_context(Client(self.proxy.host))
                client.ask("/health")
                assert client.answer().status == 200
            yield client

    def token(self, name: str = "", *fields: str) -> dict[str, Any]:
        """Get a token through Docxy."""
        answer = self.ask(
            f"/auth/token?service=x&scope=repository:{name or self.registry.public}:pull", *fields
        )
        assert answer.status == 200, answer
        document = json.loads(answer.body)
        assert isinstance(document, dict)
        return document

    def manifest(
        self, reference: str, token: str = "", name: str = "", method: str = "GET"
    ) -> Answer:
        """Ask for a manifest with a token."""
        fields = [f"Authorization: Bearer {token}"] if token else []
        path = manifest_path(name or self.registry.public, reference)
        return self.ask(path, f"Accept: {MANIFEST}", *fields, method=method)


@contextlib.contextmanager
def caching(home: Path, directory: Path, **settings: str) -> Iterator[Caching]:
    """Run Docxy with two workers and a cache before a registry, which may be switched off."""
    with contextlib.ExitStack() as stack:
        switch = stack.enter_context(contextlib.ExitStack())
        upstream = switch.enter_context(Upstream())
        registry = Registry(upstream)
        patient = {"DOCXY_RETRY_BUDGET": "1", "DOCXY_CACHE_MIN_FREE": "0"}
        settings = upstream_settings(
            upstream, home, DOCXY_CACHE_DIR=str(directory), **(patient | settings)
        )
        with docxy(workers=2, **settings) as proxy:
            yield Caching(registry, proxy, directory, switch.close, settings)
        upstream.check()
