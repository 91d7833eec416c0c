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
"""The last character of the salt carries two bits; bcrypt raises an exception for any other."""
_COSTS: Final = range(4, 15)
"""Each step doubles the time; 14 takes some two seconds of a core for each login."""
_HASHED_BYTES: Final = 72
"""Bytes of a password that bcrypt hashes; Apache and others ignore the rest as well."""
_MAX_FILE_SIZE: Final = 1 << 20
"""Bytes of the largest file that is accepted."""
_CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks for a change of the file."""

_State = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class UsersFile:
    """The file of users that the settings name."""

    path: Path
    accepted: bytes
    """Its content when the settings were checked."""


class Htpasswd:
    """The users of a file, which is read again when it changes.

    If the new content is faulty, the users stay as they are and the fault is logged once. The
    workers share the last good content, so a worker that replaces a dead one knows the same users
    as the others, even if the file has since been broken or removed. `clock` is monotonic.
    """

    is_slow = True

    def __init__(
        self, path: Path, accepted: bytes, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the file; if it is faulty, use what a worker read last, or else `accepted`."""
        self._path, self._clock = path, clock
        # A reload accepts new content; what workers have read before it no longer counts.
        self._name = f"{path}\n{hashlib.sha256(accepted).hexdigest()}".encode()
        self._hashes = parse_users_file(shared_memory.USERS.get(self._name) or accepted)
        self._state: _State = ()
        self._checked_at = clock()
        self._reload()

    def lookup_secret(self, name: str) -> str | None:
        """Return the bcrypt hash of a user's password, or None if there is no such user.

        Read the file again first if it has changed; it is checked at most once a second.
        """
        self._reload_if_changed()
        return self._hashes.get(name)

    def get_decoy_secret(self, name: str) -> str:
        """Return the hash of some user, always the same one for a name.

        Checking a password against it takes as long as for an existing user, whatever the costs of
        the hashes.
        """
        hashes = list(self._hashes.values())
        return hashes[hash(name) % len(hashes)]

    @staticmethod
    def matches(secret: str, password: bytes) -> bool:
        """Return True if `password` matches the hash `secret`; this occupies a core for a while."""
        return bcrypt.checkpw(password[:_HASHED_BYTES], secret.encode())

    def _reload_if_changed(self) -> None:
        if (now := self._clock()) - self._checked_at < _CHECK_INTERVAL:
            return
        self._checked_at = now
        if _compute_state(self._path) == self._state:
            return
        if self._reload():
            fields = {"users": len(self._hashes)}
            logger.info("Users file reloaded.", extra={"fields": fields})

    def _reload(self) -> bool:
        """Read the file; return False, and change nothing, if it is faulty."""
        # Taken before the read, so that a change during the read is noticed at the next check.
        self._state = _compute_state(self._path)
        try:
            content = read_users_file(self._path)
            self._hashes = parse_users_file(content)
        except ValueError as fault:
            fields = {"file": str(self._path), "error": str(fault)}
            logger.error(  # noqa: TRY400 - no traceback helps
                "Users file not reloaded; the previous users remain.", extra={"fields": fields}
            )
            return False
        shared_memory.USERS.put(self._name, content)
        return True


def _compute_state(path: Path) -> _State:
    """Return a value that differs if the file or its content is a different one."""
    try:
        status = os.stat(path)  # noqa: PTH116 - on the hot path
    except OSError:
        return ()
    return (status.st_ino, status.st_dev, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def read_users_file(path: Path) -> bytes:
    """Return the content of a file; raise ValueError if it cannot be read or is not regular.

    Read at most one byte more than `parse_users_file` accepts, which is enough to show that it is
    too large.
    """
    try:
        return _read_regular_file(path)
    except OSError as error:
        message = f"the file cannot be read ({error.strerror})"
        raise ValueError(message) from error


def parse_users_file(content: bytes) -> Mapping[str, str]:
    """Return the bcrypt hash of each user, by name; raise ValueError for the first fault."""
    try:
        text = content.decode("utf-8-sig")  # editors on Windows write a byte order mark
    except UnicodeDecodeError:
        message = "the file is not UTF-8"
        raise ValueError(message) from None
    if len(content) > _MAX_FILE_SIZE:
        message = "the file is larger than 1 MiB"
        raise ValueError(message)
    hashes: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if (line := line.strip()) and not line.startswith("#"):
            name, bcrypt_hash = _parse_line(line, number)
            if name in hashes:
                message = f"line {number}: this user is listed above already"
                raise ValueError(message)
            hashes[name] = bcrypt_hash
    if not hashes:
        message = "it contains no user; htpasswd -B adds one"
        raise ValueError(message)
    return hashes


def _read_regular_file(path: Path) -> bytes:
    """Return the content of a regular file; a pipe is refused, since reading it could block."""
    with open(path, "rb", opener=_open_nonblocking) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            message = "it is not a regular file, so it cannot be read again"
            raise ValueError(message)
        return file.read(_MAX_FILE_SIZE + 1)


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _parse_line(line: str, number: int) -> tuple[str, str]:
    """Return the name and the hash on a line; raise ValueError for a fault.

    The message quotes nothing of the line except the cost, since it may hold a password.
    """
    name, _, bcrypt_hash = line.partition(":")
    if not (bcrypt_hash and is_user_name(name) and name == name.strip()):
        message = f"line {number}: write name:hash, as htpasswd -B does"
        raise ValueError(message)
    match = _HASH.fullmatch(bcrypt_hash)
    if match is None:
        message = f"line {number}: this is not a bcrypt hash; htpasswd -B writes one"
        raise ValueError(message)
    if int(match["cost"]) not in _COSTS:
        message = (
            f"line {number}: a cost of {match['cost']} is not from {_COSTS[0]} to {_COSTS[-1]}; "
            "use htpasswd -B -C 10"
        )
        raise ValueError(message)
    return name, bcrypt_hash


_MAX_NAME_LENGTH: Final = 255


def is_user_name(text: str) -> bool:
    """Return True if a text can be the name of a user: 1 to 255 printable characters.

    Such a name fits on one line of the log.
    """
    return 0 < len(text) <= _MAX_NAME_LENGTH and text.isprintable()
