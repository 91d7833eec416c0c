"""A registry behind a cache, as `warm` sees it: what is read to its end is kept."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from app.oci.challenge import Challenge
from app.oci.headers import Headers
from app.oci.reference import Digest, Reference, RepositoryName, Tag
from app.source import Reply, Request, Source, TokenRequest, build_reply
from app.store.ledger import Member
from app.store.store import Store
from tests.unit.cli.parts import Document, digest_of
from tests.unit.fake_source import ByKind
from tests.unit.store.parts import record_member

NAME = "docker.io"
BEARER = Challenge("Bearer", {"realm": "https://auth.example/token"})


@dataclass
class CachedRegistry(ByKind):
    """A Source with one repository for everybody, and its cache; tests change what it answers."""

    store: Store
    tagged: dict[str, Document] = field(default_factory=dict)
    documents: dict[Digest, Document] = field(default_factory=dict)
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    wants_token: bool = False
    token_answer: bytes = b""
    statuses: dict[str, int] = field(default_factory=dict)
    """By reference, or "token": what is answered in place of what is there."""
    keeps: frozenset[str] = frozenset({"manifests", "blobs"})
    stale: bool = False
    asked: list[str] = field(default_factory=list)
    """What reached the registry itself: `GET sha256:...`, `HEAD latest`, `token library/a`."""
    meanwhile: Callable[[], None] = lambda: None
    """Called in the middle of each blob."""
    good: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def has(self, tag: str, *documents: Document, blobs: tuple[bytes, ...] = ()) -> None:
        """Give the first document a tag, and have the others and blobs beside it."""
        self.tagged[tag] = documents[0]
        self.documents |= {document.digest: document for document in documents}
        self.blobs |= {digest_of(blob): blob for blob in blobs}

    def pulls(self) -> int:
        """Return how many manifests the registry was asked for by GET."""
        digests = {f"GET {digest}" for digest in self.documents}
        return sum(one in digests or one[4:] in self.tagged for one in self.asked if one[0] == "G")

    def ping(self, request: Request) -> Reply:
        """Ask for a token, if one is wanted."""
        del request
        return self._unauthorized() if self.wants_token else build_reply(200, [], b"{}")

    def reach(self) -> None:
        """Be reached."""

    def token(self, request: TokenRequest) -> Reply:
        """Give a token that is good from now on."""
        ((_, scope),) = request.parameters
        if status := self._asks(f"token {scope.split(':')[1]}", "token"):
            return build_reply(status, [], b"")
        self.good.add(f"Bearer {len(self.asked)}")
        answer = self.token_answer or json.dumps({"token": str(len(self.asked))}).encode()
        return build_reply(200, [], answer)

    def manifest(self, name: RepositoryName, reference: Reference, request: Request) -> Reply:
        """Answer as the cache does."""
        if (refusal := self._refusal(request)) is not None:
            return refusal
        by_tag = isinstance(reference, Tag)
        document = self.tagged.get(reference) if by_tag else self.documents.get(Digest(reference))
        if by_tag and (status := self._asks(f"HEAD {reference}", reference)):
            return build_reply(status, [], b"")
        if document is None:
            return build_reply(404, [], b"")
        fields = [("Docker-Content-Digest", str(document.digest))]
        if request.method == "HEAD":
            return Reply(status=200, headers=fields, length=len(document.data))
        return self._manifest(name, document, fields, str(reference))

    def blob(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Answer as the cache does."""
        if (refusal := self._refusal(request)) is not None:
            return refusal
        if status := self._asks(f"{request.method} {digest}", digest):
            return build_reply(status, [], b"")
        data = self.blobs[digest]
        if request.method == "HEAD":
            record_member(self.store.ledger, NAME, name, digest, asked=self.store.clock.now())
            return Reply(status=200, length=len(data))
        return Reply(status=200, length=len(data), body=self._read(name, data))

    def _manifest(
        self, name: RepositoryName, document: Document, fields: Headers, reference: str
    ) -> Reply:
        if self.store.stat(NAME, document.digest) is not None:
            how = "hit" if ":" in reference else "fwd=stale; fwd-status=200"
            fields += [("Cache-Status", f"docxy; {how}")]
            fields += [("Warning", '299 - "stale"')] if self.stale else []
            return build_reply(200, fields, document.data)
        if status := self._asks(f"GET {reference}", reference):
            return build_reply(status, [], b"")
        self._keep(name, document.data, document.media_type)
        fields += [("Cache-Status", "docxy; fwd=uri-miss; stored")]
        return build_reply(200, fields, document.data)

    def _read(self, name: RepositoryName, data: bytes) -> Iterator[bytes]:
        half = len(data) // 2
        yield data[:half]
        self.meanwhile()
        yield data[half:]
        self._keep(name, data, "")

    def _keep(self, name: RepositoryName, data: bytes, media_type: str) -> None:
        if ("manifests" if media_type else "blobs") in self.keeps:
            self.store.keep(data, NAME, digest_of(data), media_type)
            record_member(
                self.store.ledger,
                NAME,
                name,
                digest_of(data),
                Member(media_type, is_public=False),
                asked=self.store.clock.now(),
            )

    def _asks(self, what: str, reference: str) -> int:
        with self._lock:
            self.asked.append(what)
        return self.statuses.get(reference, 0)

    def _refusal(self, request: Request) -> Reply | None:
        if self.wants_token and request.authorization not in self.good:
            return self._unauthorized()
        return None

    def _unauthorized(self) -> Reply:
        return Reply(status=401, challenges=[BEARER])


def satisfies_the_protocol(registry: CachedRegistry) -> Source:
    """Let mypy prove that it is a Source."""
    return registry
