"""How much each user, or each address, may ask of this proxy."""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from limits import RateLimitItem

from app.access.downloads import OwnPlaces, Places, SharedPlaces
from app.access.networks import Client, site_of
from app.access.shared_redis import SharedRedis
from app.access.windows import OwnCounts, Windows, a_day, a_minute
from app.oci.errors import (
    BytesReached,
    DownloadsReached,
    LimitReached,
    PullsReached,
    RequestsReached,
)
from app.source import FetchAccount

# How much each user, or each address, may have.


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What each may have; None is as much as it likes."""

    requests: int | None = None
    """A minute."""
    downloads: int | None = None
    """At once."""
    size: int | None = None
    """Bytes a day."""
    pulls: int | None = None
    """A day."""

    @property
    def is_all(self) -> bool:
        """Whether nothing is limited."""
        limits = (self.requests, self.downloads, self.size, self.pulls)
        return all(limit is None for limit in limits)


_SOON: Final = 10
"""Seconds after which a download may be over; nobody knows."""
_LONGEST: Final = 60
"""Seconds that a client is told to wait: it shows nothing meanwhile, and some wait for hours."""


class Limits:
    """Counts what each has, here or in a Redis, and refuses more by raising LimitReached.

    A user is who has logged in with a password of theirs, where `users_are_known`; everybody else
    is an address.
    """

    def __init__(
        self, allowance: Allowance, redis: SharedRedis | None = None, *, users_are_known: bool
    ) -> None:
        self._users_are_known = users_are_known
        self._windows = Windows(redis.storage, redis.ask) if redis else Windows(OwnCounts())
        self._requests = a_minute(allowance.requests, "requests")
        self._size = a_day(allowance.size, "bytes")
        self._pulls = a_day(allowance.pulls, "pulls")
        self._places: Places | None = None
        if most := allowance.downloads:
            self._places = SharedPlaces(redis, most) if redis else OwnPlaces(most)

    def whose(self, client: Client) -> str:
        """Return who a client is to them: a user, or all of a site's addresses.

        One whose address is not known shares what the server in front has.
        """
        if client.user and self._users_are_known:
            return f"user {client.user}"
        return f"address {site_of(client.address)}"

    def request(self, who: str) -> None:
        """Count a request, or refuse it."""
        if self._requests and not self._windows.count(self._requests, who):
            raise self._reached(RequestsReached, self._requests, who)

    def manifest(self, who: str) -> None:
        """Count a pull, or refuse it.

        Not only when it is answered: of many at once each would find room for the last one.
        """
        self._bytes_left(who)
        if self._pulls and not self._windows.count(self._pulls, who):
            self.not_pulled(who)
            raise self._reached(PullsReached, self._pulls, who)

    def blob(self, who: str, name: str, instead_of: str = "") -> None:
        """Begin a download by this name, or refuse it; it takes the place of another one."""
        self._bytes_left(who)
        if self._places is not None and not self._places.take(who, name, instead_of):
            kind = DownloadsReached
            raise kind(headers={"Retry-After": str(_SOON)}, rule=kind.refused_by)

    def has_bytes_left(self, who: str) -> bool:
        """Tell whether the bytes of a day have not all gone."""
        return not self._size or self._windows.has_room(self._size, who)

    def _bytes_left(self, who: str) -> None:
        if self._size and not self.has_bytes_left(who):
            raise self._reached(BytesReached, self._size, who)

    def _reached(self, kind: type[LimitReached], limit: RateLimitItem, who: str) -> LimitReached:
        wait = self._windows.wait(limit, who)
        told = {"Retry-After": str(min(wait, _LONGEST))}
        return kind(headers=told, rule=kind.refused_by, seconds=wait)

    def not_pulled(self, who: str) -> None:
        """Give a pull back of which nothing has come."""
        if self._pulls:
            self._windows.spend(self._pulls, who, -1)

    def sent(self, who: str, size: int) -> None:
        """Count bytes that went to a client, or were fetched for it alone."""
        if self._size and size:
            self._windows.spend(self._size, who, size)

    def goes_on(self, who: str, name: str) -> None:
        """Say that a download is still running, or a fetch that nobody reads."""
        if self._places is not None:
            self._places.keep(who, name)

    def ended(self, who: str, name: str) -> None:
        """End a download."""
        if self._places is not None:
            self._places.give(who, name)


# The bodies on their way to clients, each of which counts while it goes.

_OFTEN: Final = 20.0
"""Seconds between two looks at them: a third of what a download counts that nobody speaks of."""


def _place_of(digest: str) -> str:
    """Return the place of a fetch that nobody reads: of each blob a client has one."""
    return f"unread {digest}"


class Transfer:
    """One body on its way to somebody, and what is fetched for it; a manifest takes no place.

    It is the payer of its request: what its fetches bring while nobody else reads them is counted
    as if it had been sent, as far as it is more than that.
    """

    def __init__(self, limits: Limits, who: str) -> None:
        self.who = who
        self.name = ""
        self._limits = limits
        self._fetches: set[_Fetch] = set()
        self._fetched = 0
        self._counted = 0
        self._has_place = False
        self._is_pull = False
        self.sent: Callable[[], int] = int
        """Tells how many bytes went."""
        self.is_over = False

    @property
    def identity(self) -> str:
        """The name under which the limits count this client."""
        return self.who

    def begin_fetch(self, digest: str) -> FetchAccount:
        """Open the account of a fetch that this request has begun."""
        fetch = _Fetch(self, self._limits, _place_of(digest))
        self._fetches.add(fetch)
        return fetch

    def begin_manifest(self) -> None:
        """Count it as a pull; raise PullsReached or BytesReached."""
        self._limits.manifest(self.who)
        self._is_pull = True

    def begin_blob(self, digest: str) -> None:
        """Take a place for it; raise DownloadsReached or BytesReached.

        A client that comes back to what it has left takes the place that its fetch has.
        """
        self.name = secrets.token_hex(8)
        self._limits.blob(self.who, self.name, _place_of(digest))
        self._has_place = True

    def fails(self) -> None:
        """Take back that it is a pull: there is no manifest for the client."""
        if self._is_pull:
            self._is_pull = False
            self._limits.not_pulled(self.who)

    def look(self) -> None:
        """Count what went since the last look."""
        if self._has_place:
            self._limits.goes_on(self.who, self.name)
        self.count()
        if self.is_over:  # meanwhile
            self._leave()

    def fetched(self, count: int) -> None:
        """Note bytes that came for nobody else; they are counted later."""
        self._fetched += count

    def forget(self, fetch: "_Fetch") -> None:
        """Know that a fetch is over."""
        self._fetches.discard(fetch)

    def count(self) -> None:
        """Count what went, or came for it alone, whichever is more."""
        had = max(self.sent(), self._fetched)
        more, self._counted = had - self._counted, had
        self._limits.sent(self.who, more)

    def end(self) -> None:
        """Count the rest, and give the place to another, or to a fetch that it leaves behind."""
        self.is_over = True
        for fetch in list(self._fetches):
            fetch.hold()
        self.count()
        self._leave()

    def _leave(self) -> None:
        if self._has_place:
            self._limits.ended(self.who, self.name)


class _Fetch:
    """The account of one fetch: a place among the downloads while nobody reads it, and its bytes.

    The client has left, so nobody but the fetch itself can say that it goes on.
    """

    def __init__(self, transfer: Transfer, limits: Limits, place: str) -> None:
        self._transfer = transfer
        self._limits = limits
        self._place = place
        self._is_held = False
        self._is_over = False
        # A Redis may take its time: what is given back must not be taken afterwards.
        self._one_at_a_time = threading.Lock()

    def received(self, count: int) -> None:
        """Charge bytes that came while nobody else read along."""
        self._transfer.fetched(count)

    def go_on_unread(self) -> bool:
        """Hold a place, and tell whether there are bytes left to go on with."""
        self.hold()
        self._transfer.count()
        return self._limits.has_bytes_left(self._transfer.who)

    def hold(self) -> None:
        """Hold a place, also where there is none left: the fetch is running."""
        with self._one_at_a_time:
            if not self._is_over:
                self._is_held = True
                self._limits.goes_on(self._transfer.who, self._place)

    def release(self) -> None:
        """Give the place back."""
        with self._one_at_a_time:
            if self._is_held:
                self._is_held = False
                self._limits.ended(self._transfer.who, self._place)

    def end(self) -> None:
        """Count the rest, and give the place back."""
        self._is_over = True
        self._transfer.forget(self)
        self._transfer.count()
        self.release()


class Transfers:
    """Looks at those of this process while there are any."""

    def __init__(self, every: float = _OFTEN) -> None:
        self._every = every
        self._running: set[Transfer] = set()
        self._is_coming = False

    def add(self, transfer: Transfer) -> None:
        """Look at one until it is over."""
        self._running.add(transfer)
        self._come_again()

    def end(self, transfer: Transfer) -> None:
        """End one."""
        self._running.discard(transfer)
        transfer.end()

    def _come_again(self) -> None:
        if self._running and not self._is_coming:
            self._is_coming = True
            timer = threading.Timer(self._every, self._come)
            timer.daemon = True
            timer.start()

    def _come(self) -> None:
        try:
            for transfer in list(self._running):
                if not transfer.is_over:
                    transfer.look()
        finally:
            self._is_coming = False
            self._come_again()
