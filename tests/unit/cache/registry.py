"""A registry as a Source: it knows who may read what, and counts what it is asked."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from app.oci import media_types
from app.oci.challenge import Challenge
from app.oci.errors import RegistryError
from app.oci.headers import get_all, without
from app.oci.reference import Digest, Reference, RepositoryName, Tag
from app.source import Reply, Request, Source, TokenRequest, build_reply
from tests.unit.fake_source import ByKind

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

ANYBODY = "*"
"""Stands among the readers for any token that was issued."""


def digest_of(data: bytes) -> Digest:
    """Return the digest of some bytes."""
    return Digest.parse(f"sha256:{hashlib.sha256(data).hexdigest()}")


@dataclass
class Repository:
    """What one repository holds, and which Authorizations open it; "" is none."""

    readers: set[str] = field(default_factory=set)
    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def push(self, tag: str, data: bytes, media_type: str = MANIFEST) -> Digest:
        """Hold a manifest under a tag."""
        digest = digest_of(data)
        self.manifests[digest] = (data, media_type)
        self.tags[tag] = digest
        return digest

    def push_blob(self, data: bytes) -> Digest:
        """Hold a blob."""
        digest = digest_of(data)
        self.blobs[digest] = data
        return digest


class FakeRegistry(ByKind):
    """Answers as a registry of its kind does: 401 with a challenge, 404, or what is there."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []
        """`HEAD a/b:tag`, `GET a/b@sha256:...`, `GET token`, in their order."""
        self.requests: list[Request] = []
        self.token_requests: list[TokenRequest] = []
        self.trouble: RegistryError | int | None = None
        self.token_trouble: RegistryError | int | None = None
        self.tokens = 0
        self.lifetime: int | None = 300
        self.lies: dict[str, bytes] = {}
        """What is sent in place of the bytes of a digest."""
        self.during: Callable[[], None] = lambda: None
        """Happens while a question is being answered."""
        self.login_page = b""
        self.login_kind = "text/html; charset=utf-8"
        """What is shown, with 200, to those who may not read: as a server in front of it does."""
        self.cdn_kind = ""
        """What a CDN calls blobs, without their digest; "" where the registry sends them itself."""
        self.is_strict = False
        """Whether it says 404 to clients that do not take a manifest's type, as some do."""
        self.open: set[str] = set()
        self.closed = 0

    def repository(self, name: str, *readers: str) -> Repository:
        """Return a repository, made for these readers if it is not there."""
        if name not in self.repositories:
            self.repositories[name] = Repository(set(readers))
        return self.repositories[name]

    def count(self, beginning: str) -> int:
        """Return how many questions began so."""
        return sum(asked.startswith(beginning) for asked in self.asked)

    def ping(self, request: Request) -> Reply:
        """Answer `GET /v2/`."""
        self._note("ping", request)
        return self._troubled() or self._refused()

    def reach(self) -> None:
        """Be reached, unless there is an error to raise."""
        self.asked.append("reach")
        self._troubled()

    def token(self, request: TokenRequest) -> Reply:
        """Issue a token, whoever asks."""
        self.asked.append("token")
        self.token_requests.append(request)
        if isinstance(self.token_trouble, RegistryError):
            raise self.token_trouble
        if self.token_trouble:
            return build_reply(self.token_trouble, [], b"{}")
        self.tokens += 1
        token = f"token{self.tokens}"
        document: dict[str, object] = {"token": token}
        if self.lifetime is not None:
            document["expires_in"] = self.lifetime
        self.open.add(f"Bearer {token}")
        fields = [("Content-Type", "application/json")]
        return build_reply(HTTPStatus.OK, fields, json.dumps(document).encode())

    def manifest(self, name: RepositoryName, reference: Reference, request: Request) -> Reply:
        """Answer with a manifest."""
        separator = ":" if isinstance(reference, Tag) else "@"
        self._note(f"{request.method} {name}{separator}{reference}", request)
        if refusal := self._troubled() or self._denied(name, request):
            return refusal
        repository = self.repositories[name]
        digest = repository.tags.get(reference, reference)
        if digest not in repository.manifests:
            return _error(HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN")
        data, media_type = repository.manifests[digest]
        if self.is_strict and not media_types.is_acceptable(
            media_type, get_all(request.headers, "accept")
        ):
            return _error(HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN")
        return self._content(request, digest, data, media_type)

    def blob(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Answer with a blob."""
        self._note(f"{request.method} {name}/blobs/{digest}", request)
        if refusal := self._troubled() or self._denied(name, request):
            return refusal
        data = self.repositories[name].blobs.get(digest)
        if data is None:
            return _error(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN")
        reply = self._content(request, digest, data, self.cdn_kind or "application/octet-stream")
        fields = without(reply.headers, "docker-content-digest") if self.cdn_kind else reply.headers
        return replace(reply, headers=fields)

    def tags(self, name: RepositoryName, request: Request) -> Reply:
        """List tags."""
        self._note(f"{request.method} {name}/tags?{request.query}", request)
        if refusal := self._troubled() or self._denied(name, request):
            return refusal
        self.during()
        document = {"name": name, "tags": sorted(self.repositories[name].tags)}
        fields = [("Content-Type", "application/json")]
        return build_reply(HTTPStatus.OK, fields, json.dumps(document).encode())

    def referrers(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """List referrers."""
        self._note(f"{request.method} {name}/referrers/{digest}?{request.query}", request)
        if refusal := self._troubled() or self._denied(name, request):
            return refusal
        return build_reply(HTTPStatus.OK, [("Content-Type", INDEX)], b'{"manifests":[]}')

    def _note(self, asked: str, request: Request) -> None:
        self.asked.append(asked)
        self.requests.append(request)

    def _troubled(self) -> Reply | None:
        if isinstance(self.trouble, RegistryError):
            raise self.trouble
        return _error(self.trouble, "UNAVAILABLE") if self.trouble else None

    def _denied(self, name: str, request: Request) -> Reply | None:
        repository = self.repositories.get(name)
        shown = request.authorization
        if repository and shown in repository.readers:
            return None
        if repository and ANYBODY in repository.readers and shown in self.open:
            return None
        return self._shown(request) if self.login_page else self._refused()

    def _shown(self, request: Request) -> Reply:
        fields = [("Content-Type", self.login_kind)]
        reply = build_reply(HTTPStatus.OK, fields, self.login_page)
        return reply if request.method == "GET" else replace(reply, body=b"")

    def _refused(self) -> Reply:
        challenge = Challenge("Bearer", {"realm": "https://auth.example/token", "service": "s"})
        reply = _error(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED")
        return Reply(
            status=reply.status,
            headers=reply.headers,
            length=reply.length,
            body=reply.body,
            challenges=[challenge],
        )

    def _content(self, request: Request, digest: str, data: bytes, media_type: str) -> Reply:
        self.during()
        data = self.lies.get(digest, data)
        fields = [("Content-Type", media_type), ("Docker-Content-Digest", digest)]
        if request.method == "HEAD":
            return Reply(status=HTTPStatus.OK, headers=fields, length=len(data))
        return Reply(
            status=HTTPStatus.OK,
            headers=[*fields, ("Cache-Control", "max-age=99"), ("Age", "9")],
            length=len(data),
            body=iter([data]),
            close=self._close,
        )

    def _close(self) -> None:
        self.closed += 1


def _error(status: int, code: str) -> Reply:
    body = json.dumps({"errors": [{"code": code, "message": "", "detail": None}]}).encode()
    return build_reply(status, [("Content-Type", "application/json")], body)


def satisfies_the_protocol(registry: FakeRegistry) -> Source:
    """Let mypy prove that the fake is a Source."""
    return registry
