"""Logins: whether a name and a password are those of a user, at a rate that guessing cannot use."""

import hashlib
import hmac
import math
import random
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

from app.access.htpasswd import is_name
from app.access.networks import Prefix, prefixes_of
from app.access.turns import Turns
from app.access.users import Users
from app.oci.errors import LoginsSlowed, LoginWrong
from app.threads import RealThreads

# How long an address, and the networks that it is in, have to wait after wrong passwords.

FREE: Final = 5
"""Wrong passwords before a site has to wait."""
FIRST: Final = 5.0
LONGEST: Final = 15 * 60.0
_FORGOTTEN: Final = 60.0
"""Seconds after which they are forgotten, and twice the time that had to be waited."""
MOST: Final = 16_384
"""Networks, and names at sites, that are remembered; of more, those that failed last."""

EVERYBODY: Final = None
"""In place of a name: whoever is in a network."""


class _Bound(NamedTuple):
    """The wrong passwords that are free, and the longest wait in seconds after more."""

    free: int
    longest: float


_SITE: Final = _Bound(FREE, LONGEST)
_WIDER: Final = {
    56: _Bound(10, 5 * 60.0),
    48: _Bound(20, 60.0),
    24: _Bound(40, 60.0),
}
"""By the bits of a prefix that is wider than a site. One attacker alone at a site never gets as far
as to slow its neighbours; the more of them there may be, the shorter they wait for him."""

_Key = tuple[Prefix, str | None]


class Slowing:
    """Counts wrong passwords by network, and by name at a site; after a few, each doubles the wait.

    A right password takes nothing back: who has one account must not guess at others.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[_Key, tuple[int, float]] = OrderedDict()

    def wait(self, prefixes: Sequence[Prefix], name: str) -> float:
        """Return for how many seconds no password of a name is looked at there; 0 for none.

        `prefixes` are those of an address, or the first of them alone for someone whom what
        happens elsewhere in the wider ones does not concern.
        """
        keys: list[_Key] = [(prefixes[0], name), *((prefix, EVERYBODY) for prefix in prefixes)]
        return max(map(self._left, keys))

    def has_failed(self, prefixes: Sequence[Prefix]) -> bool:
        """Tell whether a wrong password came from one of these networks and is not forgotten."""
        return any(self._count((prefix, EVERYBODY))[0] for prefix in prefixes)

    def failed(self, prefix: Prefix, name: str | None) -> None:
        """Count a wrong password, for one name at a site or for everybody in a network."""
        key = (prefix, name)
        count = self._count(key)[0]
        self._failures.pop(key, None)
        self._failures[key] = (count + 1, self._clock())
        while len(self._failures) > MOST:
            self._failures.popitem(last=False)

    def _left(self, key: _Key) -> float:
        count, last = self._count(key)
        return max(last + _wait_after(count, key[0]) - self._clock(), 0.0)

    def _count(self, key: _Key) -> tuple[int, float]:
        """Return how many are not forgotten, and when the last one came."""
        count, last = self._failures.get(key, (0, 0.0))
        if self._clock() - last > _FORGOTTEN + 2 * _wait_after(count, key[0]):
            return 0, last
        return count, last


def _wait_after(count: int, prefix: Prefix) -> float:
    bound = _WIDER.get(prefix.bits, _SITE)
    if count < bound.free:
        return 0.0
    return min(FIRST * 2.0 ** min(count - bound.free, 20), bound.longest)


_REMEMBERED: Final = 300.0
"""Seconds for which a right password needs no hashing: as long as a token lives."""
_KNOWN: Final = 24 * 60 * 60.0
"""Seconds for which a site is known to have users: they come back every morning."""
_MOST: Final = 4096
"""Entries of each kind that are remembered; of more, the latest."""
_MANY: Final = 8
"""Logins that wait in a flood; a worker with a few threads never has so many."""
_HELD: Final = (4.0, 8.0)
"""Seconds from the arrival of a wrong login to its answer in a flood, the least and the most.

Whoever guesses on many connections guesses on each of them once in so long, and the queue stays
short. At random, so that they do not come back together.
"""


class Rank(IntEnum):
    """Who waits for whom; who was right before does not queue behind who never was."""

    RETURNING = 0
    """This user was right at this site before."""
    NEIGHBOUR = 1
    """Another user was."""
    NEW = 2
    SUSPECT = 3
    """Wrong passwords came from the same network lately, and none that was right from the site."""


class Logins:
    """Checks one password after the other, each on a real thread.

    A flood takes one core's time of many at the most, and delays those who were right before by
    one hash.
    """

    def __init__(
        self,
        users: Users,
        slowing: Slowing | None = None,
        clock: Callable[[], float] = time.monotonic,
        turns: Turns | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.users = users
        self._slowing = slowing or Slowing(clock)
        self._threads = RealThreads(1)
        self._clock, self._sleep = clock, sleep
        self._turns = turns or Turns()
        self._key = secrets.token_bytes(32)
        self._right = _Recent(_REMEMBERED, clock)
        self._wrong = _Recent(math.inf, clock)
        self._known = _Recent(_KNOWN, clock)

    def check(self, name: str, password: str, address: str) -> None:
        """Return if they are a user's; raise LoginWrong, LoginsSlowed or LoginsBusy."""
        attempt = self._attempt(name, password, address)
        self._refuse_slowed(attempt)
        if attempt.is_user and attempt.login in self._right:
            self._note_user(attempt)
            return
        began, in_flood = self._clock(), False
        try:
            with self._turns.turn(attempt) if self.users.is_slow else nullcontext():
                # Others of the same network may have been wrong meanwhile.
                self._refuse_slowed(attempt)
                in_flood = self._turns.waiting >= _MANY
                self._judge(attempt)
        except LoginWrong:
            if in_flood and self.rank(attempt) > Rank.NEIGHBOUR:
                until = began + random.uniform(*_HELD)  # noqa: S311 - no secret
                self._sleep(max(until - self._clock(), 0.0))
            raise

    def _attempt(self, name: str, password: str, address: str) -> "_Attempt":
        secret = self.users.secret_of(name)
        # The same work for a user that is not there: how long it takes must not tell.
        against = self.users.stand_in(name) if secret is None else secret
        given = password.encode(errors="surrogateescape")
        encoded = name.encode(errors="surrogateescape")
        prefixes = prefixes_of(address)
        site = prefixes[0].network.encode()
        login = self._digest(encoded, against.encode(), given)
        return _Attempt(
            # A form may have a megabyte of a name.
            name=name if is_name(name) else "",
            password=given,
            against=against,
            is_user=secret is not None,
            prefixes=prefixes,
            login=login,
            login_here=self._digest(login, site),
            user_here=self._digest(encoded, site),
            somebody_here=self._digest(site),
            logins=self,
        )

    def _refuse_slowed(self, attempt: "_Attempt") -> None:
        # What a neighbour in a wider network does is no concern of a user who was right here.
        is_returning = attempt.user_here in self._known
        prefixes = attempt.prefixes[:1] if is_returning else attempt.prefixes
        if wait := self._slowing.wait(prefixes, attempt.name):
            raise LoginsSlowed(headers={"Retry-After": str(math.ceil(wait))})

    def _judge(self, attempt: "_Attempt") -> None:
        if self.users.is_slow:
            begun = self._threads.begin(self.users.matches, attempt.against, attempt.password)
            matches = begun.result()
        else:
            matches = self.users.matches(attempt.against, attempt.password)
        if not (attempt.is_user and matches):
            self._note_wrong(attempt)
            raise LoginWrong
        self._right.add(attempt.login)
        self._note_user(attempt)

    def _note_user(self, attempt: "_Attempt") -> None:
        self._known.add(attempt.user_here)
        self._known.add(attempt.somebody_here)

    def _note_wrong(self, attempt: "_Attempt") -> None:
        """Count a wrong login, for everybody in its networks if the site has not tried it before.

        What has an old password sends it again and again, which is no guessing: others behind the
        same address shall not wait for it. From each further site it counts once more, since
        each of them can have it hashed as often as is free.
        """
        site = attempt.prefixes[0]
        self._slowing.failed(site, attempt.name)
        if attempt.login_here not in self._wrong:
            for prefix in attempt.prefixes:
                self._slowing.failed(prefix, EVERYBODY)
        self._wrong.add(attempt.login_here)

    def rank(self, attempt: "_Attempt") -> Rank:
        """Return who goes before whom while many wait."""
        if attempt.user_here in self._known:
            return Rank.RETURNING
        if attempt.somebody_here in self._known:
            return Rank.NEIGHBOUR
        return Rank.SUSPECT if self._slowing.has_failed(attempt.prefixes) else Rank.NEW

    def _digest(self, *parts: bytes) -> bytes:
        """Return what stands for something; the key is this process's, and in memory only."""
        lengths = ":".join(str(len(part)) for part in parts).encode()
        return hmac.digest(self._key, b"\0".join([lengths, *parts]), hashlib.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """A login that is to be checked, and digests of what is remembered of such."""

    name: str
    password: bytes = field(repr=False)
    against: str = field(repr=False)
    is_user: bool
    prefixes: Sequence[Prefix]
    login: bytes
    login_here: bytes
    user_here: bytes
    somebody_here: bytes
    logins: Logins

    @property
    def rank(self) -> Rank:
        """The class of the login now."""
        return self.logins.rank(self)


class _Recent:
    """Remembers what was added last, for a while."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds, self._clock = seconds, clock
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        return self._until.get(digest, 0.0) > self._clock()

    def add(self, digest: bytes) -> None:
        self._until[digest] = self._clock() + self._seconds
        self._until.move_to_end(digest)
        while len(self._until) > _MOST:
            self._until.popitem(last=False)
