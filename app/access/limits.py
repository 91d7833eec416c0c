"""Limits on requests, concurrent downloads, bytes and pulls, for each user or each address."""

import secrets
import threading
from collections.abc import Callable
from typing import Final

from limits import RateLimitItem

from app.access.downloads import Allowance, ConcurrencyLimiter, LocalConcurrencyLimiter
from app.access.networks import ClientIdentity, derive_site
from app.access.shared_redis import RedisConcurrencyLimiter, SharedRedis
from app.access.windows import LocalStorage, WindowCounters, build_day_limit, build_minute_limit
from app.oci.errors import (
    ByteLimitReached,
    DownloadLimitReached,
    LimitReached,
    PullLimitReached,
    RequestLimitReached,
)
from app.source import FetchAccount

_DOWNLOAD_RETRY_AFTER: Final = 10
"""`Retry-After` in seconds when all downloads are taken; a guess, since any may take longer."""
_MAX_RETRY_AFTER: Final = 60
"""The largest `Retry-After` in seconds; clients show nothing while they wait, some for hours."""


class ClientLimits:
    """Counts what each client uses, in memory or in Redis; raises LimitReached above a limit.

    If `users_are_known`, clients that have logged in with their own password count by user. All
    others count by address.
    """

    def __init__(
        self, allowance: Allowance, redis: SharedRedis | None = None, *, users_are_known: bool
    ) -> None:
        self._users_are_known = users_are_known
        self._windows = (
            WindowCounters(redis.storage, redis.call) if redis else WindowCounters(LocalStorage())
        )
        self._requests = build_minute_limit(allowance.requests, "requests")
        self._size = build_day_limit(allowance.size, "bytes")
        self._pulls = build_day_limit(allowance.pulls, "pulls")
        self._downloads: ConcurrencyLimiter | None = None
        if max_downloads := allowance.downloads:
            self._downloads = (
                RedisConcurrencyLimiter(redis, max_downloads)
                if redis
                else LocalConcurrencyLimiter(max_downloads)
            )

    def identify(self, client: ClientIdentity) -> str:
        """Return the name under which the limits count a client: a user or a site.

        A site is an IPv4 address or an IPv6 network of 64 bits. A client whose address is unknown
        shares the limits of the server in front.
        """
        if client.user and self._users_are_known:
            return f"user {client.user}"
        return f"address {derive_site(client.address)}"

    def charge_request(self, identity: str) -> None:
        """Count a request; raise RequestLimitReached if it exceeds the limit."""
        if self._requests and not self._windows.try_charge(self._requests, identity):
            raise self._build_limit_error(RequestLimitReached, self._requests, identity)

    def charge_pull(self, identity: str) -> None:
        """Count a pull; raise PullLimitReached or ByteLimitReached if it exceeds a limit.

        The pull counts from its request on, not from its answer. Otherwise many concurrent pulls
        would all find room for the last one.
        """
        self._require_bytes_left(identity)
        if self._pulls and not self._windows.try_charge(self._pulls, identity):
            self.refund_pull(identity)
            raise self._build_limit_error(PullLimitReached, self._pulls, identity)

    def begin_download(self, identity: str, name: str, replaced_name: str = "") -> None:
        """Begin a download called `name`, in place of the one called `replaced_name` if it runs.

        Raise DownloadLimitReached or ByteLimitReached if it exceeds a limit.
        """
        self._require_bytes_left(identity)
        if self._downloads is not None and not self._downloads.try_acquire(
            identity, name, replaced_name
        ):
            kind = DownloadLimitReached
            raise kind(headers={"Retry-After": str(_DOWNLOAD_RETRY_AFTER)}, rule=kind.refused_by)

    def has_bytes_left(self, identity: str) -> bool:
        """Return True unless the client has used all bytes of its day."""
        return not self._size or self._windows.has_room(self._size, identity)

    def _require_bytes_left(self, identity: str) -> None:
        if self._size and not self.has_bytes_left(identity):
            raise self._build_limit_error(ByteLimitReached, self._size, identity)

    def _build_limit_error(
        self, kind: type[LimitReached], limit: RateLimitItem, identity: str
    ) -> LimitReached:
        seconds = self._windows.seconds_left(limit, identity)
        headers = {"Retry-After": str(min(seconds, _MAX_RETRY_AFTER))}
        return kind(headers=headers, rule=kind.refused_by, reset_seconds=seconds)

    def refund_pull(self, identity: str) -> None:
        """Give back a pull that was counted but yielded no manifest."""
        if self._pulls:
            self._windows.charge(self._pulls, identity, -1)

    def charge_bytes(self, identity: str, size: int) -> None:
        """Count bytes that were sent to a client, or fetched for it alone; never refuse them."""
        if self._size and size:
            self._windows.charge(self._size, identity, size)

    def renew_download(self, identity: str, name: str) -> None:
        """Renew the place of a download, or of a fetch without readers, that is still running."""
        if self._downloads is not None:
            self._downloads.renew(identity, name)

    def end_download(self, identity: str, name: str) -> None:
        """End a download, and free its place."""
        if self._downloads is not None:
            self._downloads.release(identity, name)


# Bodies on their way to clients. Each is counted while it is being sent.

_UPDATE_INTERVAL: Final = 20.0
"""Seconds between two updates of the running transfers: a third of the lease of a download."""


def _name_unread_download(digest: str) -> str:
    """Return the name of the place of a fetch without readers; a client has one for each blob."""
    return f"unread {digest}"


class Transfer:
    """One body on its way to a client, with the fetches that its request has begun.

    A blob takes a place among the downloads; a manifest does not. The transfer is the payer of its
    request: the client is charged for the bytes that it was sent or for the bytes that its fetches
    received while nobody else read them, whichever is more.
    """

    def __init__(self, limits: ClientLimits, identity: str) -> None:
        self.who = identity
        self.name = ""
        self._limits = limits
        self._fetches: set[_TransferFetch] = set()
        self._fetched = 0
        self._charged = 0
        self._is_download = False
        self._is_pull = False
        self.count_sent: Callable[[], int] = int
        """Returns how many bytes have been sent so far."""
        self.is_over = False

    @property
    def identity(self) -> str:
        """The name under which the limits count this client."""
        return self.who

    def open_account(self, digest: str) -> FetchAccount:
        """Return a new account for a fetch that this request has begun."""
        fetch = _TransferFetch(self, self._limits, _name_unread_download(digest))
        self._fetches.add(fetch)
        return fetch

    def begin_manifest(self) -> None:
        """Count a pull; raise PullLimitReached or ByteLimitReached above a limit."""
        self._limits.charge_pull(self.who)
        self._is_pull = True

    def begin_blob(self, digest: str) -> None:
        """Take a place; raise DownloadLimitReached or ByteLimitReached above a limit.

        A client that returns to a blob which it has left takes over the place that its fetch holds.
        """
        self.name = secrets.token_hex(8)
        self._limits.begin_download(self.who, self.name, _name_unread_download(digest))
        self._is_download = True

    def refund_pull(self) -> None:
        """Give the pull back, if one was counted, because the client gets no manifest."""
        if self._is_pull:
            self._is_pull = False
            self._limits.refund_pull(self.who)

    def update(self) -> None:
        """Count the bytes sent since the last update, and renew the place."""
        if self._is_download:
            self._limits.renew_download(self.who, self.name)
        self.charge()
        if self.is_over:  # it ended while Redis was asked, and the place was taken again
            self._release_download()

    def record_fetched(self, count: int) -> None:
        """Add bytes that a fetch received for this client alone; `charge` charges them."""
        self._fetched += count

    def discard_fetch(self, fetch: "_TransferFetch") -> None:
        """Drop a fetch that is over."""
        self._fetches.discard(fetch)

    def charge(self) -> None:
        """Charge the bytes sent, or those fetched for this client alone, whichever is more."""
        total = max(self.count_sent(), self._fetched)
        uncharged, self._charged = total - self._charged, total
        self._limits.charge_bytes(self.who, uncharged)

    def end(self) -> None:
        """Charge the remaining bytes and free the place.

        First, each fetch that the client leaves behind takes its own place.
        """
        self.is_over = True
        for fetch in list(self._fetches):
            fetch.hold()
        self.charge()
        self._release_download()

    def _release_download(self) -> None:
        if self._is_download:
            self._limits.end_download(self.who, self.name)


class _TransferFetch:
    """The account of one fetch: its bytes, and its place among the downloads while unread.

    The fetch renews that place itself, because its client has left.
    """

    def __init__(self, transfer: Transfer, limits: ClientLimits, download_name: str) -> None:
        self._transfer = transfer
        self._limits = limits
        self._download_name = download_name
        self._is_held = False
        self._is_over = False
        # Redis may answer late: a place must not be taken after it was given back.
        self._lock = threading.Lock()

    def charge(self, count: int) -> None:
        """Charge `count` bytes that the fetch received while nobody else was reading it."""
        self._transfer.record_fetched(count)

    def try_acquire(self) -> bool:
        """Hold a place; return False if the client has no bytes left and the fetch has to stop."""
        self.hold()
        self._transfer.charge()
        return self._limits.has_bytes_left(self._transfer.who)

    def hold(self) -> None:
        """Hold a place, even if none is free, because the fetch is running already."""
        with self._lock:
            if not self._is_over:
                self._is_held = True
                self._limits.renew_download(self._transfer.who, self._download_name)

    def release(self) -> None:
        """Give the place back, if the fetch holds one."""
        with self._lock:
            if self._is_held:
                self._is_held = False
                self._limits.end_download(self._transfer.who, self._download_name)

    def settle(self) -> None:
        """Charge the remaining bytes, and give the place back."""
        self._is_over = True
        self._transfer.discard_fetch(self)
        self._transfer.charge()
        self.release()


class Transfers:
    """The transfers of this process; a timer updates them regularly while any is running."""

    def __init__(self, interval: float = _UPDATE_INTERVAL) -> None:
        self._interval = interval
        self._running: set[Transfer] = set()
        self._is_scheduled = False

    def add(self, transfer: Transfer) -> None:
        """Update a transfer regularly until it ends."""
        self._running.add(transfer)
        self._schedule_update()

    def end(self, transfer: Transfer) -> None:
        """End a transfer, and stop updating it."""
        self._running.discard(transfer)
        transfer.end()

    def _schedule_update(self) -> None:
        if self._running and not self._is_scheduled:
            self._is_scheduled = True
            timer = threading.Timer(self._interval, self._update_all)
            timer.daemon = True
            timer.start()

    def _update_all(self) -> None:
        try:
            for transfer in list(self._running):
                if not transfer.is_over:
                    transfer.update()
        finally:
            self._is_scheduled = False
            self._schedule_update()
