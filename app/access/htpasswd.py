"""The file of users and their bcrypt hashes, as `htpasswd -B` writes it."""

import hashlib
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import bcrypt

from app import shared_memory

logger = logging.getLogger(__name__)

_HASH: Final = re.compile(r"\$2[aby]\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
"""The salt's last character has two bits, and bcrypt refuses any other with an exception."""
_COSTS: Final = range(4, 15)
"""One more doubles the time; 14 takes some two seconds of a core for each login."""
_COUNTED: Final = 72
"""Bytes of a password that bcrypt hashes; Apache and others leave the rest out as well."""
_LARGEST: Final = 1 << 20
_LOOK: Final = 1.0
"""Seconds between two looks at whether the file is another one."""

_State = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class UsersFile:
    """The file of users as the settings name it."""

    path: Path
    accepted: bytes
    """Its content when the settings were checked."""


class Htpasswd:
    """The users of a file, which is read again when it changes.

    A new content that is faulty changes nothing, and is logged once. The workers share the last
    good one: a worker in the place of one that died knows the users that the others know, also
    when the file has been broken or removed meanwhile.
    """

    is_slow = True

    def __init__(
        self, path: Path, accepted: bytes, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the file, or else take what any worker has last read, or else what was accepted."""
        self._path, self._clock = path, clock
        # A reload accepts a content anew, and what was read before it counts no more.
        self._name = f"{path}\n{hashlib.sha256(accepted).hexdigest()}".encode()
        self._hashes = parse(shared_memory.USERS.get(self._name) or accepted)
        self._state: _State = ()
        self._looked = clock()
        self._read()

    def secret_of(self, name: str) -> str | None:
        """Return what a user's password is checked with, or None where there is no such user."""
        self._look()
        return self._hashes.get(name)

    def stand_in(self, name: str) -> str:
        """Return the hash of another user, always the same for a name.

        To check it takes as long as for a user that there is, whatever the hashes cost.
        """
        hashes = list(self._hashes.values())
        return hashes[hash(name) % len(hashes)]

    @staticmethod
    def matches(secret: str, password: bytes) -> bool:
        """Tell whether a password is the one; this takes a core a while."""
        return bcrypt.checkpw(password[:_COUNTED], secret.encode())

    def _look(self) -> None:
        if (now := self._clock()) - self._looked < _LOOK:
            return
        self._looked = now
        if _state(self._path) == self._state:
            return
        if self._read():
            fields = {"users": len(self._hashes)}
            logger.info("The file of users was read again.", extra={"fields": fields})

    def _read(self) -> bool:
        """Tell whether the file could be read; if not, nothing changes."""
        # Taken before the file is read: what changes meanwhile is another one the next time.
        self._state = _state(self._path)
        try:
            read = content(self._path)
            self._hashes = parse(read)
        except ValueError as fault:
            fields = {"file": str(self._path), "error": str(fault)}
            logger.error("The users are as before.", extra={"fields": fields})  # noqa: TRY400 - no traceback helps
            return False
        shared_memory.USERS.put(self._name, read)
        return True


def _state(path: Path) -> _State:
    """Return what is another for another file, or for another content of it."""
    try:
        found = os.stat(path)  # noqa: PTH116 - on the hot path
    except OSError:
        return ()
    return (found.st_ino, found.st_dev, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def content(path: Path) -> bytes:
    """Return what a file holds, and no more than shows that it is too large; raise ValueError."""
    try:
        return _bytes(path)
    except OSError as error:
        message = f"the file cannot be read ({error.strerror})"
        raise ValueError(message) from error


def parse(written: bytes) -> Mapping[str, str]:
    """Return the hashes of a file by their users' names; raise ValueError for the first fault."""
    try:
        text = written.decode("utf-8-sig")  # as Windows' editors write it
    except UnicodeDecodeError:
        message = "the file is not UTF-8"
        raise ValueError(message) from None
    if len(written) > _LARGEST:
        message = "the file is larger than 1 MiB"
        raise ValueError(message)
    hashes: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if (line := line.strip()) and not line.startswith("#"):
            name, hashed = _user(line, number)
            if name in hashes:
                message = f"line {number}: this user stands above already"
                raise ValueError(message)
            hashes[name] = hashed
    if not hashes:
        message = "there is no user in it; htpasswd -B adds one"
        raise ValueError(message)
    return hashes


def _bytes(path: Path) -> bytes:
    """Return what a file holds; a pipe in its place would be waited for."""
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            message = "this is no regular file, which could be read again"
            raise ValueError(message)
        return file.read(_LARGEST + 1)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _user(line: str, number: int) -> tuple[str, str]:
    """Read a line; a fault quotes nothing of it, since it may hold a password."""
    name, _, hashed = line.partition(":")
    if not (hashed and is_name(name) and name == name.strip()):
        message = f"line {number}: write name:hash, as htpasswd -B does"
        raise ValueError(message)
    found = _HASH.fullmatch(hashed)
    if found is None:
        message = f"line {number}: this is no bcrypt hash; htpasswd -B writes one"
        raise ValueError(message)
    if int(found["cost"]) not in _COSTS:
        message = (
            f"line {number}: a cost of {found['cost']} is not among {_COSTS[0]} to {_COSTS[-1]}; "
            "htpasswd -B -C 10 is a good one"
        )
        raise ValueError(message)
    return name, hashed


_LONGEST_NAME: Final = 255


def is_name(text: str) -> bool:
    """Tell whether a text can be the name of a user, and stand on a line of the log."""
    return 0 < len(text) <= _LONGEST_NAME and text.isprintable()
