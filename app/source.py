"""Source, Request and Reply: all that crosses between the rooms of docs/architecture.md."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from errno import ECONNRESET
from http import HTTPStatus
from typing import Final, Protocol

from app.oci import headers
from app.oci.challenge import Challenge
from app.oci.errors import DigestInvalid
from app.oci.headers import Headers
from app.oci.reference import Digest, Operation, Reference, RepositoryName

_EMPTY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class BodyBroken(ConnectionResetError):
    """A body broke off before its end.

    It is a ConnectionResetError because the client must see a reset connection, and because WSGI
    servers answer one by closing the client's connection without logging a traceback.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(ECONNRESET, reason)


class Client(Protocol):
    """The connection of the client that waits for the response."""

    def is_gone(self) -> bool:
        """Return whether the client has closed its connection. Does not block."""


class Permit(Protocol):
    """Decides what a client may read from a registry that another registry redirects to."""

    def __call__(self, registry: str, name: RepositoryName, reference: Reference | None) -> None:
        """Return None if the client may read it; if not, raise the RegistryError to report.

        `registry` is the registry's name in the table. `reference` is the reference of a
        manifest, or None for everything else. Any thread may call this, even after the client has
        received its response.
        """


class FetchAccount(Protocol):
    """The account that is charged for one fetch. No method raises.

    `try_acquire` and `settle` may block briefly, because they may query Redis.
    """

    def charge(self, count: int) -> None:
        """Charge `count` bytes that arrived while no other client was reading the fetch."""

    def try_acquire(self) -> bool:
        """Take a place for a fetch without readers; return False if the fetch must stop."""

    def release(self) -> None:
        """Give that place back, because the fetch has a reader again."""

    def settle(self) -> None:
        """Settle the account. Called when the fetch is over."""


class Payer(Protocol):
    """The client that pays for a fetch that no other client reads."""

    @property
    def identity(self) -> str:
        """The name of this client, the same in all of its requests."""

    def open_account(self, digest: str) -> FetchAccount:
        """Return a new account for the fetch of one digest."""


class Unmetered:
    """The payer of a client without limits: its fetches are counted, but nothing is charged."""

    def __init__(self, identify: Callable[[], str]) -> None:
        """`identify` returns the payer's name. It is called only if somebody asks for the name."""
        self._identify = identify

    @property
    def identity(self) -> str:
        """The name of this client, the same in all of its requests."""
        return self._identify()

    def open_account(self, digest: str) -> FetchAccount:
        """Return this object, which charges nothing."""
        del digest
        return self

    def charge(self, count: int) -> None:
        """Charge nothing."""

    def try_acquire(self) -> bool:
        """Return True, because nothing is limited."""
        return True

    def release(self) -> None:
        """Do nothing: `try_acquire` has taken no place."""

    def settle(self) -> None:
        """Do nothing: there is nothing to settle."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where redirects have led for some content, such as a signed URL of a CDN.

    `etag` is the ETag that the content has there, or "".
    """

    url: str = field(repr=False)
    etag: str = ""


class PlaceExpired(Exception):
    """A place no longer serves the content, as when a signed URL has expired."""


class PlaceForbidden(Exception):
    """A place is at a registry that this client may not read, though another client may."""


@dataclass(frozen=True, slots=True)
class RequestBody:
    """The body of a request: `length` bytes, which can be read once.

    So a request that has one is sent once: no failure is retried and no redirect followed.
    """

    chunks: Iterable[bytes]
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A client's request to a source.

    `method` is GET or HEAD, unless there is a body. A HEAD stays a HEAD all the way, because
    registries bill a GET of a manifest. `query` is set only if the registry's answer depends on it:
    for tags and referrers. `payer` is charged for bytes that are fetched on its behalf but that no
    client reads. If it is None, nobody is charged. `renew_authorization` takes an Authorization
    that the registry refused while a body was being read and returns a new one. It is set if this
    proxy gets the token itself. `permit` is None if the client may read everything. `has_fallback`
    returns whether the caller can answer without the registry. It is called after an attempt has
    failed and may block on the disk. If it returns True, the retries end early. None means that the
    caller has no fallback. `place` is asked instead of the registry, for more of the content that
    came from there; the source raises PlaceExpired if it no longer serves it, and PlaceForbidden if
    `permit` raises. `deadline` is the monotonic time at which waiting for the registry ends.
    `is_answered` says that the client has its status line already: it cannot react to a 401, so an
    anonymous token that the registry refuses is replaced.
    """

    method: str
    headers: Headers = field(default_factory=list)
    query: str = ""
    body: RequestBody | None = None
    client: Client | None = None
    payer: Payer | None = None
    renew_authorization: Callable[[str], str] | None = None
    permit: Permit | None = None
    has_fallback: Callable[[], bool] | None = None
    place: Place | None = None
    deadline: float = float("inf")
    is_answered: bool = False

    @property
    def authorization(self) -> str:
        """The client's Authorization header, unchanged; "" if it sent none."""
        return headers.get_first(self.headers, "authorization")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A client's request to a registry's token service.

    `parameters` are those of the query or the form, in order. Scopes are in the registry's own
    naming, and bytes that are not UTF-8 are kept as surrogates. `service` is not among the
    parameters, because the source adds it.
    `has_fallback` and `deadline` are the same as in `Request`.
    """

    method: str
    parameters: list[tuple[str, str]]
    headers: Headers = field(default_factory=list)
    client: Client | None = None
    has_fallback: Callable[[], bool] | None = None
    deadline: float = float("inf")


class FileBody(ABC):
    """A body in a file, which the server may send without reading it into Python."""

    @abstractmethod
    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes that have not been sent yet."""

    @abstractmethod
    def send_next(self, send: Callable[[int, int, int], None]) -> int:
        """Call `send(descriptor, offset, count)` for the next part; return the bytes it covers.

        0 means that nothing more can be sent from a file. Iterating may still yield more bytes.
        """


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A body that the server in front sends: nginx finds the file at `location` (X-Accel-Redirect).

    The reply's `length` is still the number of bytes that the client receives.
    """

    location: str


Body = bytes | FileBody | HandedOver | Iterable[bytes]
"""The kinds of body: bytes in memory, a file, a body that nginx sends, or a stream of chunks."""


def has_body(method: str, status: int) -> bool:
    """Return whether a response carries a body (RFC 9112, section 6.3)."""
    return method != "HEAD" and status not in _EMPTY


def do_nothing() -> None:
    """Do nothing, for a reply that holds nothing to close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A response whose body is unread.

    `challenges` (WWW-Authenticate), `next_query` (the query of the Link to the next page) and
    `location` (what follows `/v2/<name>/` in the Location, such as `blobs/uploads/1?state=x`) are
    in the registry's naming; the code that relays them translates them for the client. `length` is
    the exact length of the body in bytes, or None if the registry did not say. In the reply to a
    HEAD, it is the length of the body that a GET would get.
    `redirect_targets` lists the other repositories of the table that redirects led to, by registry
    and name. `place` is where redirects have led; None if the registry itself has answered.
    `is_remembered` says that the registry was not asked, and gave this answer before. The receiver
    of a reply must close it, whether or not it has read the body. Reading a body that is a file or
    a stream may raise BodyBroken, and is possible only once.
    """

    status: int
    headers: Headers = field(default_factory=list)
    challenges: Sequence[Challenge] = ()
    next_query: str | None = None
    location: str | None = None
    length: int | None = None
    body: Body = b""
    close: Callable[[], None] = do_nothing
    redirect_targets: Sequence[tuple[str, RepositoryName]] = ()
    place: Place | None = None
    is_remembered: bool = False

    def header(self, name: str) -> str:
        """Return the first value of a header, or "" if the reply has none."""
        return headers.get_first(self.headers, name)

    @property
    def digest(self) -> Digest | None:
        """The digest in `Docker-Content-Digest`; None if the header is missing or malformed."""
        try:
            return Digest.parse(self.header("docker-content-digest"))
        except DigestInvalid:
            return None

    def chunks(self) -> Iterator[bytes]:
        """Return an iterator over the body; it is empty if nginx sends the body.

        Iterating may raise BodyBroken.
        """
        match self.body:
            case bytes() as content:
                return iter((content,) if content else ())
            case HandedOver():
                return iter(())
            case body:
                return iter(body)

    def read(self) -> bytes:
        """Return the whole body, however long it is; raise BodyBroken if it breaks off."""
        return self.body if isinstance(self.body, bytes) else b"".join(self.chunks())

    @property
    def is_error(self) -> bool:
        """Whether the status is 400 or higher."""
        return self.status >= HTTPStatus.BAD_REQUEST


def build_reply(status: int, fields: Headers, body: bytes) -> Reply:
    """Return a reply whose body is already in memory."""
    return Reply(status=status, headers=fields, length=len(body), body=body)


class Source(Protocol):
    """One registry to read from. In a wrapper, the wrapped source is called `inner`.

    Every method may raise RegistryError.
    """

    def answer(self, operation: Operation, request: Request) -> Reply:
        """Return what the operation asks for, or the registry's refusal."""

    def token(self, request: TokenRequest) -> Reply:
        """Pass a request to the registry's token service and return its answer."""

    def reach(self) -> None:
        """Return None if the registry answers now; raise RegistryError if it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheState:
    """The state of this machine's cache: whether it can store anything, and its space in bytes.

    `fault` is one of a few words, or "" if there is no fault; `reason` explains it to people.
    `max_size` is None if the size of the cache is not limited. `unfinished` is the space taken by
    fetches that are running or have broken off.
    """

    fault: str = ""
    reason: str = ""
    free: int = 0
    min_free: int = 0
    max_size: int | None = None
    unfinished: int = 0


class MonitoredCache(Protocol):
    """The cache as monitoring sees it. Neither method raises; both access the disk."""

    def measure_usage(self) -> tuple[int, int]:
        """Return the number of cached entries of all registries, and their size in bytes."""

    def read_state(self) -> CacheState:
        """Return whether the cache can store anything; the result may be a few seconds old."""


class SearchIndex(Protocol):
    """The search index for the images of the default registry."""

    def search(self, request: Request) -> Reply:
        """Answer `GET /v1/search` without sending any credentials; may raise RegistryError."""
