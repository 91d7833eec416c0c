"""Logins: whether a name and a password are those of a user, at a rate that guessing cannot use."""

import hashlib
import hmac
import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from app.access.htpasswd import is_name
from app.access.slowing import EVERYBODY, Slowing
from app.access.users import Users
from app.oci.login_errors import LoginsBusy, LoginsSlowed, LoginWrong
from app.offloop import RealThreads

_PATIENCE: Final = 5.0
"""Seconds that a login waits for those before it."""
_MOST_WAITING: Final = 16
_REMEMBERED: Final = 300.0
"""Seconds for which a right password needs no hashing: as long as a token lives."""
_MOST_REMEMBERED: Final = 1024


class Logins:
    """Checks one password after the other, each on a real thread.

    A flood is refused, and takes one core's time of many at the most.
    """

    def __init__(
        self,
        users: Users,
        slowing: Slowing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.users = users
        self._slowing = slowing or Slowing()
        self._clock = clock
        self._threads = RealThreads(1)
        self._turn = threading.Lock()
        self._waiting = 0
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, float] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()

    def check(self, name: str, password: str, address: str) -> None:
        """Return if they are a user's; raise LoginWrong, LoginsSlowed or LoginsBusy."""
        self._refuse_slowed(name, address)
        given = password.encode(errors="surrogateescape")
        secret = self.users.secret_of(name)
        # The same work for a user that is not there: how long it takes must not tell.
        against = self.users.stand_in(name) if secret is None else secret
        is_user, is_remembered = secret is not None, self._is_remembered(name, against, given)
        if is_user and is_remembered:
            return
        if not self.users.is_slow:
            self._judge(name, against, given, address, is_user=is_user)
            return
        self._take_turn()
        try:
            # Others of the same address may have been wrong meanwhile.
            self._refuse_slowed(name, address)
            self._judge(name, against, given, address, is_user=is_user)
        finally:
            self._turn.release()

    def _refuse_slowed(self, name: str, address: str) -> None:
        if wait := self._slowing.wait(address, _key(name)):
            raise LoginsSlowed(headers={"Retry-After": str(math.ceil(wait))})

    def _take_turn(self) -> None:
        if self._waiting >= _MOST_WAITING:
            raise LoginsBusy
        self._waiting += 1
        try:
            if not self._turn.acquire(timeout=_PATIENCE):
                raise LoginsBusy
        finally:
            self._waiting -= 1

    def _judge(
        self, name: str, against: str, password: bytes, address: str, *, is_user: bool
    ) -> None:
        if self.users.is_slow:
            matches = self._threads.begin(self.users.matches, against, password).result()
        else:
            matches = self.users.matches(against, password)
        if not (is_user and matches):
            self._note_wrong(name, against, password, address)
            raise LoginWrong
        self._remember(name, against, password)

    def _note_wrong(self, name: str, against: str, password: bytes, address: str) -> None:
        """Count a wrong login, for everybody at the address where nobody has tried it before.

        What has an old password sends it again and again, which is no guessing: others behind the
        same address shall not wait for it.
        """
        self._slowing.failed(address, _key(name))
        login = self._print(name, against, password)
        if login not in self._wrong:
            self._slowing.failed(address, EVERYBODY)
        self._wrong.pop(login, None)
        self._wrong[login] = None
        while len(self._wrong) > _MOST_REMEMBERED:
            self._wrong.popitem(last=False)

    def _is_remembered(self, name: str, secret: str, password: bytes) -> bool:
        until = self._right.get(self._print(name, secret, password), 0.0)
        return until > self._clock()

    def _remember(self, name: str, secret: str, password: bytes) -> None:
        self._right[self._print(name, secret, password)] = self._clock() + _REMEMBERED
        while len(self._right) > _MOST_REMEMBERED:
            self._right.popitem(last=False)

    def _print(self, name: str, secret: str, password: bytes) -> bytes:
        """Return what stands for a login; the key is this process's, and in memory only."""
        parts = [name.encode(errors="surrogateescape"), secret.encode(), password]
        lengths = ":".join(str(len(part)) for part in parts).encode()
        return hmac.digest(self._key, b"\0".join([lengths, *parts]), hashlib.sha256)


def _key(name: str) -> str:
    """Return what is remembered of a name: a form may have a megabyte of one."""
    return name if is_name(name) else ""
