"""Checks names and passwords, at a rate that makes guessing useless."""

import hashlib
import hmac
import math
import random
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

from cachetools import FIFOCache, TTLCache

from app.access.htpasswd import is_user_name
from app.access.networks import Prefix, derive_prefixes
from app.access.turns import LoginQueue
from app.access.users import Users
from app.oci.errors import LoginInvalid, LoginsThrottled
from app.threads import NativeThreadPool

# How long an address, and the networks that contain it, must wait after wrong passwords.

FREE: Final = 5
"""Wrong passwords after which a site has to wait."""
FIRST: Final = 5.0
"""Seconds of the first wait; each further wrong password doubles it."""
LONGEST: Final = 15 * 60.0
"""Seconds of the longest wait of a site."""
_FORGET_AFTER: Final = 60.0
"""Wrong passwords are forgotten this many seconds, plus twice the wait, after the last one."""
MOST: Final = 16_384
"""Networks, and names at sites, that are remembered; the most recent failures are kept."""

EVERYBODY: Final = None
"""Stands in place of a name for every client in a network."""


class _Backoff(NamedTuple):
    """The number of wrong passwords that cause no wait, and the longest wait in seconds."""

    free: int
    longest: float


_SITE_BACKOFF: Final = _Backoff(FREE, LONGEST)
_WIDER_BACKOFFS: Final = {
    56: _Backoff(10, 5 * 60.0),
    48: _Backoff(20, 60.0),
    24: _Backoff(40, 60.0),
}
"""The bounds of prefixes wider than a site, by their length in bits. A single attacker at one site
never slows its neighbours; the more neighbours a prefix may have, the shorter their wait."""

_Key = tuple[Prefix, str | None]


class LoginThrottle:
    """Counts wrong passwords by network, and by name at a site; after a few, each doubles the wait.

    A right password does not reset the count, so the owner of one account cannot guess at others.
    `clock` is monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = FIFOCache[_Key, tuple[int, float]](MOST)

    def seconds_left(self, prefixes: Sequence[Prefix], name: str) -> float:
        """Return the seconds for which passwords of `name` from there are refused unread, or 0.

        `prefixes` are those of an address, the site first. Pass only the site for a client that
        wrong passwords from its wider networks must not slow down.
        """
        keys: list[_Key] = [(prefixes[0], name), *((prefix, EVERYBODY) for prefix in prefixes)]
        return max(map(self._seconds_left, keys))

    def has_failed(self, prefixes: Sequence[Prefix]) -> bool:
        """Return True if a wrong password came from one of these networks and is not forgotten."""
        return any(self._lookup_failures((prefix, EVERYBODY))[0] for prefix in prefixes)

    def record_failure(self, prefix: Prefix, name: str | None) -> None:
        """Count a wrong password, for one name at a site or for EVERYBODY in a network."""
        key = (prefix, name)
        count = self._lookup_failures(key)[0]
        self._failures[key] = (count + 1, self._clock())

    def _seconds_left(self, key: _Key) -> float:
        count, last = self._lookup_failures(key)
        return max(last + _compute_wait(count, key[0]) - self._clock(), 0.0)

    def _lookup_failures(self, key: _Key) -> tuple[int, float]:
        """Return how many wrong passwords are not forgotten, and the time of the last one."""
        count, last = self._failures.get(key, (0, 0.0))
        if self._clock() - last > _FORGET_AFTER + 2 * _compute_wait(count, key[0]):
            return 0, last
        return count, last


def _compute_wait(count: int, prefix: Prefix) -> float:
    bound = _WIDER_BACKOFFS.get(prefix.bits, _SITE_BACKOFF)
    if count < bound.free:
        return 0.0
    return min(FIRST * 2.0 ** min(count - bound.free, 20), bound.longest)


_VERIFIED_TTL: Final = 300.0
"""Seconds for which a right password needs no second hashing: the lifetime of a token."""
_KNOWN_SITE_TTL: Final = 24 * 60 * 60.0
"""Seconds for which a site is known to have users; they come back every morning."""
_CACHE_SIZE: Final = 4096
"""Entries of each kind that are remembered; the latest are kept."""
_FLOOD_SIZE: Final = 8
"""Waiting logins that make a flood; a worker with a few threads never has so many."""
_FLOOD_DELAY: Final = (4.0, 8.0)
"""The shortest and longest time in seconds before a wrong login is answered in a flood.

An attacker with many connections can then guess on each of them only once in that time, and the
queue stays short. The time is random, so that the connections do not come back together.
"""


class Rank(IntEnum):
    """The classes of waiting logins; a lower one goes first.

    A user who logged in before does not queue behind clients that never did.
    """

    RETURNING = 0
    """This user has logged in from this site before."""
    NEIGHBOUR = 1
    """Another user has logged in from this site before."""
    NEW = 2
    """Nobody has logged in from this site, and its networks sent no wrong password recently."""
    SUSPECT = 3
    """Nobody has logged in from this site, and its networks recently sent wrong passwords."""


class LoginChecker:
    """Checks one password at a time; slow hashes run on a real thread, outside the event loop.

    A flood of logins can therefore occupy one core at most, and delays users who have logged in
    before by a single hash. `clock` is monotonic.
    """

    def __init__(
        self,
        users: Users,
        throttle: LoginThrottle | None = None,
        clock: Callable[[], float] = time.monotonic,
        queue: LoginQueue | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.users = users
        self._throttle = throttle or LoginThrottle(clock)
        self._threads = NativeThreadPool(1)
        self._clock, self._sleep = clock, sleep
        self._queue = queue or LoginQueue()
        self._key = secrets.token_bytes(32)
        self._verified_logins = TTLCache[bytes, None](_CACHE_SIZE, _VERIFIED_TTL, timer=clock)
        self._failed_logins = FIFOCache[bytes, None](_CACHE_SIZE)
        self._known_sites = TTLCache[bytes, None](_CACHE_SIZE, _KNOWN_SITE_TTL, timer=clock)

    def check(self, name: str, password: str, address: str) -> None:
        """Check a user's password, and wait for a turn first if hashing is slow.

        Raise LoginInvalid if the user does not exist or the password is wrong. Raise
        LoginsThrottled if too many wrong passwords came from one of the networks of `address`, and
        LoginsBusy if too many logins wait.
        """
        attempt = self._build_attempt(name, password, address)
        self._refuse_throttled(attempt)
        if attempt.is_user and attempt.login in self._verified_logins:
            self._record_success(attempt)
            return
        started_at, in_flood = self._clock(), False
        try:
            with self._queue.hold_turn(attempt) if self.users.is_slow else nullcontext():
                # Other logins from the same network may have failed while this one waited.
                self._refuse_throttled(attempt)
                in_flood = self._queue.waiting_count >= _FLOOD_SIZE
                self._verify_password(attempt)
        except LoginInvalid:
            if in_flood and self.compute_rank(attempt) > Rank.NEIGHBOUR:
                answer_at = started_at + random.uniform(*_FLOOD_DELAY)  # noqa: S311 - no secret
                self._sleep(max(answer_at - self._clock(), 0.0))
            raise

    def _build_attempt(self, name: str, password: str, address: str) -> "_Attempt":
        secret = self.users.lookup_secret(name)
        # An unknown user costs the same work, so that the time does not reveal who exists.
        checked_secret = self.users.get_decoy_secret(name) if secret is None else secret
        encoded_password = password.encode(errors="surrogateescape")
        encoded_name = name.encode(errors="surrogateescape")
        prefixes = derive_prefixes(address)
        site = prefixes[0].network.encode()
        login = self._digest(encoded_name, checked_secret.encode(), encoded_password)
        return _Attempt(
            # The name in a form may be a megabyte long.
            name=name if is_user_name(name) else "",
            password=encoded_password,
            secret=checked_secret,
            is_user=secret is not None,
            prefixes=prefixes,
            login=login,
            login_here=self._digest(login, site),
            user_here=self._digest(encoded_name, site),
            somebody_here=self._digest(site),
            logins=self,
        )

    def _refuse_throttled(self, attempt: "_Attempt") -> None:
        # Neighbours in a wider network must not slow a user who has logged in from here before.
        is_returning = attempt.user_here in self._known_sites
        prefixes = attempt.prefixes[:1] if is_returning else attempt.prefixes
        if wait := self._throttle.seconds_left(prefixes, attempt.name):
            raise LoginsThrottled(headers={"Retry-After": str(math.ceil(wait))})

    def _verify_password(self, attempt: "_Attempt") -> None:
        if self.users.is_slow:
            pending = self._threads.submit(self.users.matches, attempt.secret, attempt.password)
            matches = pending.result()
        else:
            matches = self.users.matches(attempt.secret, attempt.password)
        if not (attempt.is_user and matches):
            self._record_failure(attempt)
            raise LoginInvalid
        self._verified_logins[attempt.login] = None
        self._record_success(attempt)

    def _record_success(self, attempt: "_Attempt") -> None:
        self._known_sites[attempt.user_here] = None
        self._known_sites[attempt.somebody_here] = None

    def _record_failure(self, attempt: "_Attempt") -> None:
        """Count a wrong login; count it for EVERYBODY if the site has not tried it before.

        A client with an outdated password sends it again and again. That is not guessing, and
        others behind the same address should not wait for it. The same login counts once more from
        each further site, since each site can have it hashed a few times without a wait.
        """
        site = attempt.prefixes[0]
        self._throttle.record_failure(site, attempt.name)
        if attempt.login_here not in self._failed_logins:
            for prefix in attempt.prefixes:
                self._throttle.record_failure(prefix, EVERYBODY)
        self._failed_logins[attempt.login_here] = None

    def compute_rank(self, attempt: "_Attempt") -> Rank:
        """Return the class of a login, from the recent history of its user and its site."""
        if attempt.user_here in self._known_sites:
            return Rank.RETURNING
        if attempt.somebody_here in self._known_sites:
            return Rank.NEIGHBOUR
        return Rank.SUSPECT if self._throttle.has_failed(attempt.prefixes) else Rank.NEW

    def _digest(self, *parts: bytes) -> bytes:
        """Return a keyed digest of `parts`; the key exists only in the memory of this process."""
        lengths = ":".join(str(len(part)) for part in parts).encode()
        return hmac.digest(self._key, b"\0".join([lengths, *parts]), hashlib.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """A login to be checked, with the digests under which its outcome is remembered."""

    name: str
    password: bytes = field(repr=False)
    secret: str = field(repr=False)
    is_user: bool
    prefixes: Sequence[Prefix]
    login: bytes
    login_here: bytes
    user_here: bytes
    somebody_here: bytes
    logins: LoginChecker

    @property
    def rank(self) -> Rank:
        """The class of the login now."""
        return self.logins.compute_rank(self)
