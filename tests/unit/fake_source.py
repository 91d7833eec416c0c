"""A Source that answers what it is told to and remembers what it was asked."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from app.oci.reference import Digest, Kind, Operation, Reference, RepositoryName, Tag
from app.source import Reply, Request, Source, TokenRequest


@dataclass(frozen=True, kw_only=True)
class Call:
    """One question that reached the source."""

    method: str
    name: str = ""
    reference: str = ""
    request: Request = field(default_factory=lambda: Request(method=""))
    token: TokenRequest = field(default_factory=lambda: TokenRequest(method="", parameters=[]))


class ByKind:
    """A Source with a method for each kind of operation; a test overrides those that it needs."""

    def answer(self, operation: Operation, request: Request) -> Reply:
        """Answer an operation."""
        name = operation.repository
        match operation.kind, operation.reference:
            case Kind.PING, _:
                return self.ping(request)
            case Kind.MANIFEST, Tag() | Digest() as reference:
                return self.manifest(name, reference, request)
            case Kind.BLOB, Digest() as digest:
                return self.blob(name, digest, request)
            case Kind.TAGS, _:
                return self.tags(name, request)
            case Kind.REFERRERS, Digest() as digest:
                return self.referrers(name, digest, request)
        raise NotImplementedError(operation)

    def ping(self, request: Request) -> Reply:
        """Answer `GET /v2/`."""
        raise NotImplementedError(request)

    def manifest(self, name: RepositoryName, reference: Reference, request: Request) -> Reply:
        """Answer with a manifest."""
        raise NotImplementedError(name, reference, request)

    def blob(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Answer with a blob."""
        raise NotImplementedError(name, digest, request)

    def tags(self, name: RepositoryName, request: Request) -> Reply:
        """Answer with tags."""
        raise NotImplementedError(name, request)

    def referrers(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Answer with referrers."""
        raise NotImplementedError(name, digest, request)


class FakeSource:
    """Answers every question with `reply`, or raises `error`; counts how often it was closed."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.reply = Reply(status=200, length=0)
        self.error: BaseException | None = None
        self.closed = 0
        self.read = 0

    def answers(self, *pieces: bytes, **changes: object) -> None:
        """Answer with this body from now on; its length is known unless `length` says else."""
        known = {"status": 200, "length": sum(map(len, pieces)), "body": self._counted(pieces)}
        self.reply = replace(self.reply, **{**known, **changes})  # type: ignore[arg-type]

    def _counted(self, pieces: tuple[bytes, ...]) -> Iterator[bytes]:
        for piece in pieces:
            self.read += 1
            yield piece

    def _close(self) -> None:
        self.closed += 1

    def _answer(self, call: Call) -> Reply:
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        return replace(self.reply, close=self._close)

    def answer(self, operation: Operation, request: Request) -> Reply:
        """Answer an operation."""
        call = Call(
            method=operation.kind,
            name=operation.repository,
            reference=operation.reference or "",
            request=request,
        )
        return self._answer(call)

    def reach(self) -> None:
        """Be reached, unless there is an error to raise."""
        self.calls.append(Call(method="reach"))
        if self.error is not None:
            raise self.error

    def token(self, request: TokenRequest) -> Reply:
        """Answer a token request."""
        return self._answer(Call(method="token", token=request))


def satisfies_the_protocol(source: FakeSource) -> Source:
    """Let mypy prove that the fake is a Source."""
    return source
