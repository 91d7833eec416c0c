"""How much each user, or each address, may ask of this proxy."""

from typing import Final

from limits import RateLimitItem

from app.access.allowance import Allowance
from app.access.client import Client
from app.access.networks import site_of
from app.access.own_counts import OwnCounts
from app.access.places import OwnPlaces, Places, SharedPlaces
from app.access.shared_redis import SharedRedis
from app.access.windows import Windows, a_day, a_minute
from app.oci.limit_errors import (
    BytesReached,
    DownloadsReached,
    LimitReached,
    PullsReached,
    RequestsReached,
)

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
