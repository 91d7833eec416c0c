"""Request, Reply and the Source protocol: all that crosses between the rooms."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from errno import ECONNRESET
from http import HTTPStatus
from typing import Final, Protocol

from app.oci import headers
from app.oci.challenge import Challenge
from app.oci.errors import DigestInvalid
from app.oci.headers import Headers
from app.oci.reference import Digest, Reference, RepositoryName

_EMPTY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class BodyBroken(ConnectionResetError):
    """A body ended before its end.

    A ConnectionResetError, because that is what the client must come to see, and because WSGI
    servers close the client's connection on one without writing a traceback.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(ECONNRESET, reason)


class Client(Protocol):
    """The connection of the client that waits for the answer."""

    def gone(self) -> bool:
        """Tell, without waiting, whether the client has closed its connection."""


class Permit(Protocol):
    """Decides what a client may have from a registry that another one redirects to."""

    def __call__(self, registry: str, name: RepositoryName, reference: Reference | None) -> None:
        """Return if it may; raise RegistryError with what the client is told if it may not.

        `registry` is its name in the table, `reference` a manifest's, None for all else.
        May be called by any thread, also after the client has its answer.
        """


class FetchAccount(Protocol):
    """What one fetch costs the client that began it. No method raises anything.

    `go_on_unread` and `end` may wait for a moment, as a Redis is asked.
    """

    def received(self, count: int) -> None:
        """Charge bytes that came while no other client read along."""

    def go_on_unread(self) -> bool:
        """Take a place for a fetch that nobody reads; return False if it has to stop."""

    def release(self) -> None:
        """Give that place back, because somebody reads again."""

    def end(self) -> None:
        """Settle the account when the fetch is over."""


class Payer(Protocol):
    """The client to which fetches are charged that nobody else reads."""

    @property
    def identity(self) -> str:
        """The name of this client, which is the same for all of its requests."""

    def begin_fetch(self, digest: str) -> FetchAccount:
        """Open the account of one fetch."""


class Uncharged:
    """A payer, and its account, where no limits are set: only its fetches are counted."""

    def __init__(self, identity: str) -> None:
        self.identity = identity

    def begin_fetch(self, digest: str) -> FetchAccount:
        """Charge nothing."""
        del digest
        return self

    def received(self, count: int) -> None:
        """Charge nothing."""

    def go_on_unread(self) -> bool:
        """Return True: nothing is limited."""
        return True

    def release(self) -> None:
        """Take no place, and give none back."""

    def end(self) -> None:
        """Settle nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asks of a source.

    `method` is GET or HEAD, and HEAD stays HEAD on the whole way: a GET of a manifest is billed.
    `query` is passed only where the registry's answer depends on it: tags and referrers.
    `payer` is charged for what is fetched on its behalf and read by nobody; None is nobody.
    `renewed` gives an Authorization in place of one that is refused while a body is read, where
    that is this proxy's to get.
    `permit` is None if the client may have everything.
    `has_fallback` tells whether the caller can answer without the registry; it is called when an
    attempt has failed, and may wait for the disk. Nobody then waits for more attempts than the
    failure deserves. None means that there is nothing to fall back on.
    """

    method: str
    headers: Headers = field(default_factory=list)
    query: str = ""
    client: Client | None = None
    payer: Payer | None = None
    renewed: Callable[[str], str] | None = None
    permit: Permit | None = None
    has_fallback: Callable[[], bool] | None = None

    @property
    def authorization(self) -> str:
        """The credentials as the client sent them; "" for none."""
        return headers.value(self.headers, "authorization")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What a client asks of a registry's token service.

    `parameters` are the query's or the form's, in order, scopes in the registry's own naming, bytes
    that are not UTF-8 as surrogates; `service` is not among them: it is the source's to name.
    `has_fallback` is that of `Request`.
    """

    method: str
    parameters: list[tuple[str, str]]
    headers: Headers = field(default_factory=list)
    client: Client | None = None
    has_fallback: Callable[[], bool] | None = None


class FileBody(ABC):
    """A body that lies in a file, which a server may send without having it read here."""

    @abstractmethod
    def __iter__(self) -> Iterator[bytes]:
        """Yield what was not sent yet."""

    @abstractmethod
    def sent_by(self, send: Callable[[int, int, int], None]) -> int:
        """Have the next part sent, by descriptor, offset and count; return its count.

        After 0 there may be more to iterate over, which lies in no file.
        """


def has_body(method: str, status: int) -> bool:
    """Tell whether an answer carries a body (RFC 9112, section 6.3)."""
    return method != "HEAD" and status not in _EMPTY


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A response whose body is unread.

    `challenges` (WWW-Authenticate) and `next_query` (the query of the Link to the next page) are in
    the registry's naming: whoever relays them knows the client's.
    `length` is the exact length of the body (of the GET's body, where this answers a HEAD), or
    None where the registry did not say. An answer that is `handed_over` has no body here: the
    server in front sends so many bytes of the file that X-Accel-Redirect names to it.
    `led_to` names the other repositories of the table that redirects led to, by registry and name.
    Whoever takes a reply closes it, read or unread; iterating `body` raises BodyBroken, unless it
    is a tuple, whose pieces are at hand.
    """

    status: int
    headers: Headers = field(default_factory=list)
    challenges: Sequence[Challenge] = ()
    next_query: str | None = None
    length: int | None = None
    body: Iterable[bytes] = ()
    close: Callable[[], None] = _nothing
    led_to: Sequence[tuple[str, RepositoryName]] = ()

    def header(self, name: str) -> str:
        """Return the first value of one header, or ""."""
        return headers.value(self.headers, name)

    @property
    def digest(self) -> Digest | None:
        """What `Docker-Content-Digest` says; None where it says nothing, or no digest."""
        try:
            return Digest.parse(self.header("docker-content-digest"))
        except DigestInvalid:
            return None

    @property
    def handed_over(self) -> bool:
        """Whether the server in front sends the body: no upstream's header gets so far."""
        return bool(self.header("x-accel-redirect"))

    @property
    def is_error(self) -> bool:
        """Whether the registry refused or failed."""
        return self.status >= HTTPStatus.BAD_REQUEST


def replied(status: int, fields: Headers, body: bytes) -> Reply:
    """Return a reply whose body is at hand."""
    return Reply(status=status, headers=fields, length=len(body), body=(body,))


class Source(Protocol):
    """One registry, as something to read from; wrappers call what they wrap `inner`.

    Every method may raise RegistryError.
    """

    def ping(self, request: Request) -> Reply:
        """Answer `GET /v2/`: whether these credentials, or none, open the registry."""

    def reach(self) -> None:
        """Return if the registry answers now; raise RegistryError if it does not."""

    def token(self, request: TokenRequest) -> Reply:
        """Pass a request to the registry's token service."""

    def manifest(self, name: RepositoryName, reference: Reference, request: Request) -> Reply:
        """Fetch a manifest."""

    def blob(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Fetch a blob or a range of it."""

    def tags(self, name: RepositoryName, request: Request) -> Reply:
        """List tags, a page at a time."""

    def referrers(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """List the manifests that refer to a digest."""


class Event(StrEnum):
    """What happens inside a source and is worth counting; what `about` and `amount` then are."""

    ASKED = "asked"
    """A request went to an upstream, be it a registry, its token service or its CDN."""
    ANSWERED = "answered"
    """The head of its answer came: its status, and the seconds that it took."""
    FAILED = "failed"
    """None came: the kind of the error."""
    RECEIVED = "received"
    """So many bytes of a body came."""
    RETRIED = "retried"
    """It is asked again."""
    RESUMED = "resumed"
    """A body broke, and goes on."""
    OPENED = "opened"
    """A host is left alone for a while."""
    CLOSED = "closed"
    """It answers again."""
    TOKEN = "token"  # noqa: S105 - no password
    """A token service answered: its status."""
    PULL_SPENT = "pull spent"
    """A registry gave a manifest to a GET, which Docker Hub counts as a pull."""
    PULL_SAVED = "pull saved"
    """A client's GET of a manifest was answered without that."""
    CACHE = "cache"
    """The cache answered: how, as `Cache-Status` has it."""
    EVICTED = "evicted"
    """So many entries went to make room."""
    CACHE_FAILED = "cache failed"
    """The cache could not keep or find something: the fault, in one word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a registry says of the pulls that one identity has left.

    `identity` tells identities apart and nothing of who they are; `window` is in seconds.
    """

    identity: str
    limit: int
    remaining: int
    window: int


class Observer(Protocol):
    """Is told what happens in the source of one registry, once each, where it happens.

    Neither method raises anything or waits for anything.
    """

    def happened(self, event: Event, about: str = "", amount: float = 1) -> None:
        """Note an event; `about` is one of few words, whatever clients and registries send."""

    def told(self, budget: Budget) -> None:
        """Note what a registry has just said of an identity's pulls."""


class _Nobody:
    """An observer for where nobody looks."""

    def happened(self, event: Event, about: str = "", amount: float = 1) -> None:
        """Note nothing."""

    def told(self, budget: Budget) -> None:
        """Note nothing."""


NOBODY: Final[Observer] = _Nobody()


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheState:
    """Whether the cache of this machine can keep anything now, and what room it has, in bytes.

    `fault` is one of few words, "" for none, and `reason` says the same to people. `unfinished` are
    fetches that are running or were broken off. `max_size` is None where there is none.
    """

    fault: str = ""
    reason: str = ""
    free: int = 0
    min_free: int = 0
    max_size: int | None = None
    unfinished: int = 0


class Holder(Protocol):
    """The cache, to those who look at it. Neither method raises anything; both ask the disk."""

    def held(self) -> tuple[int, int]:
        """Return how many entries are kept, of all registries, and of how many bytes."""

    def state(self) -> CacheState:
        """Return whether it can keep anything, as it was found out some seconds ago at most."""


class Index(Protocol):
    """Where the images of the default registry are searched."""

    def search(self, request: Request) -> Reply:
        """Answer `GET /v1/search`; nobody's login goes there. Raise RegistryError."""
