"""Limits on requests, concurrent downloads, bytes and pulls, for each user or each address."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """The limits that apply to each client; None means unlimited."""

    requests: int | None = None
    """Requests per minute."""
    downloads: int | None = None
    """Concurrent downloads."""
    size: int | None = None
    """Bytes per day."""
    pulls: int | None = None
    """Pulls per day."""

    @property
    def is_all(self) -> bool:
        """Whether nothing is limited."""
        limits = (self.requests, self.downloads, self.size, self.pulls)
        return all(limit is None for limit in limits)


_SOON: Final = 10
"""`Retry-After` in seconds when all downloads are taken; a guess, since any may take longer."""
_LONGEST: Final = 60
"""The largest `Retry-After` in seconds; clients show nothing while they wait, some for hours."""


class Limits:
    """Counts what each client uses, in memory or in Redis; raises LimitReached above a limit.

    If `users_are_known`, clients that have logged in with their own password count by user. All
    others count by address.
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
        """Return the name under which the limits count a client: a user or a site.

        A site is an IPv4 address or an IPv6 network of 64 bits. A client whose address is unknown
        shares the limits of the server in front.
        """
        if client.user and self._users_are_known:
            return f"user {client.user}"
        return f"address {site_of(client.address)}"

    def request(self, who: str) -> None:
        """Count a request; raise RequestsReached if it exceeds the limit."""
        if self._requests and not self._windows.count(self._requests, who):
            raise self._reached(RequestsReached, self._requests, who)

    def manifest(self, who: str) -> None:
        """Count a pull; raise PullsReached or BytesReached if it exceeds a limit.

        The pull counts from its request on, not from its answer. Otherwise many concurrent pulls
        would all find room for the last one.
        """
        self._bytes_left(who)
        if self._pulls and not self._windows.count(self._pulls, who):
            self.not_pulled(who)
            raise self._reached(PullsReached, self._pulls, who)

    def blob(self, who: str, name: str, instead_of: str = "") -> None:
        """Begin a download called `name`, in place of the one called `instead_of` if it runs.

        Raise DownloadsReached or BytesReached if it exceeds a limit.
        """
        self._bytes_left(who)
        if self._places is not None and not self._places.take(who, name, instead_of):
            kind = DownloadsReached
            raise kind(headers={"Retry-After": str(_SOON)}, rule=kind.refused_by)

    def has_bytes_left(self, who: str) -> bool:
        """Return True unless the client has used all bytes of its day."""
        return not self._size or self._windows.has_room(self._size, who)

    def _bytes_left(self, who: str) -> None:
        if self._size and not self.has_bytes_left(who):
            raise self._reached(BytesReached, self._size, who)

    def _reached(self, kind: type[LimitReached], limit: RateLimitItem, who: str) -> LimitReached:
        wait = self._windows.wait(limit, who)
        told = {"Retry-After": str(min(wait, _LONGEST))}
        return kind(headers=told, rule=kind.refused_by, seconds=wait)

    def not_pulled(self, who: str) -> None:
        """Give back a pull that was counted but yielded no manifest."""
        if self._pulls:
            self._windows.spend(self._pulls, who, -1)

    def sent(self, who: str, size: int) -> None:
        """Count bytes that were sent to a client, or fetched for it alone; never refuse them."""
        if self._size and size:
            self._windows.spend(self._size, who, size)

    def goes_on(self, who: str, name: str) -> None:
        """Renew the place of a download, or of a fetch without readers, that is still running."""
        if self._places is not None:
            self._places.keep(who, name)

    def ended(self, who: str, name: str) -> None:
        """End a download, and free its place."""
        if self._places is not None:
            self._places.give(who, name)


# Bodies on their way to clients. Each is counted while it is being sent.

_OFTEN: Final = 20.0
"""Seconds between two looks at the running transfers: a third of the lease of a download."""


def _place_of(digest: str) -> str:
    """Return the name of the place of a fetch without readers; a client has one for each blob."""
    return f"unread {digest}"


class Transfer:
    """One body on its way to a client, with the fetches that its request has begun.

    A blob takes a place among the downloads; a manifest does not. The transfer is the payer of its
    request: the client is charged for the bytes that it was sent or for the bytes that its fetches
    received while nobody else read them, whichever is more.
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
        """Returns how many bytes have been sent so far."""
        self.is_over = False

    @property
    def identity(self) -> str:
        """The name under which the limits count this client."""
        return self.who

    def begin_fetch(self, digest: str) -> FetchAccount:
        """Return a new account for a fetch that this request has begun."""
        fetch = _Fetch(self, self._limits, _place_of(digest))
        self._fetches.add(fetch)
        return fetch

    def begin_manifest(self) -> None:
        """Count the transfer as a pull; raise PullsReached or BytesReached above a limit."""
        self._limits.manifest(self.who)
        self._is_pull = True

    def begin_blob(self, digest: str) -> None:
        """Take a place among the downloads; raise DownloadsReached or BytesReached above a limit.

        A client that returns to a blob which it has left takes over the place that its fetch holds.
        """
        self.name = secrets.token_hex(8)
        self._limits.blob(self.who, self.name, _place_of(digest))
        self._has_place = True

    def fails(self) -> None:
        """Give the pull back, if one was counted, because the client gets no manifest."""
        if self._is_pull:
            self._is_pull = False
            self._limits.not_pulled(self.who)

    def look(self) -> None:
        """Count the bytes sent since the last look, and renew the place."""
        if self._has_place:
            self._limits.goes_on(self.who, self.name)
        self.count()
        if self.is_over:  # it ended while Redis was asked, and the place was taken again
            self._leave()

    def fetched(self, count: int) -> None:
        """Add `count` bytes that a fetch received for this client alone; `count()` charges them."""
        self._fetched += count

    def forget(self, fetch: "_Fetch") -> None:
        """Drop a fetch that is over."""
        self._fetches.discard(fetch)

    def count(self) -> None:
        """Charge the bytes sent, or those fetched for this client alone, whichever is more."""
        had = max(self.sent(), self._fetched)
        more, self._counted = had - self._counted, had
        self._limits.sent(self.who, more)

    def end(self) -> None:
        """Charge the remaining bytes and free the place.

        Each fetch that the client leaves behind takes a place of its own first.
        """
        self.is_over = True
        for fetch in list(self._fetches):
            fetch.hold()
        self.count()
        self._leave()

    def _leave(self) -> None:
        if self._has_place:
            self._limits.ended(self.who, self.name)


class _Fetch:
    """The account of one fetch: its bytes, and its place among the downloads while unread.

    The fetch renews that place itself, because its client has left.
    """

    def __init__(self, transfer: Transfer, limits: Limits, place: str) -> None:
        self._transfer = transfer
        self._limits = limits
        self._place = place
        self._is_held = False
        self._is_over = False
        # Redis may answer late: a place must not be taken after it was given back.
        self._one_at_a_time = threading.Lock()

    def received(self, count: int) -> None:
        """Charge `count` bytes that the fetch received while nobody else read along."""
        self._transfer.fetched(count)

    def go_on_unread(self) -> bool:
        """Hold a place; return False if the client has no bytes left and the fetch has to stop."""
        self.hold()
        self._transfer.count()
        return self._limits.has_bytes_left(self._transfer.who)

    def hold(self) -> None:
        """Hold a place, even if none is free, because the fetch is running already."""
        with self._one_at_a_time:
            if not self._is_over:
                self._is_held = True
                self._limits.goes_on(self._transfer.who, self._place)

    def release(self) -> None:
        """Give the place back, if the fetch holds one."""
        with self._one_at_a_time:
            if self._is_held:
                self._is_held = False
                self._limits.ended(self._transfer.who, self._place)

    def end(self) -> None:
        """Charge the remaining bytes, and give the place back."""
        self._is_over = True
        self._transfer.forget(self)
        self._transfer.count()
        self.release()


class Transfers:
    """The transfers of this process; a timer looks at them regularly while any is running."""

    def __init__(self, every: float = _OFTEN) -> None:
        self._every = every
        self._running: set[Transfer] = set()
        self._is_coming = False

    def add(self, transfer: Transfer) -> None:
        """Look at a transfer regularly until it ends."""
        self._running.add(transfer)
        self._come_again()

    def end(self, transfer: Transfer) -> None:
        """End a transfer, and stop looking at it."""
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
