"""The key by which callers are told apart, in a file of the cache's directory."""

import errno
import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from app.store.descriptors import close, opened
from app.store.errors import refused, translated

_NAME: Final = "secret"
_BYTES: Final = 32
_MODE: Final = 0o600
_OTHERS: Final = 0o007


def secret_of(directory: Path) -> bytes:
    """Return the key of a directory, made where there is none; raise StoreError.

    All workers have the same: grants are shared by them.
    """
    path = directory / _NAME
    with translated(f"read {path}"):
        try:
            key = _read(path)
        except FileNotFoundError:
            _make(path)
            key = _read(path)
    if len(key) != _BYTES:
        raise refused(22, f"{path} holds no key; remove it")
    return key


def token_key_of(directory: Path) -> bytes:
    """Return the key for the tokens of users; raise StoreError for one that others may know.

    Whoever knows it makes tokens. A group is the operator's choice; Kubernetes' fsGroup is one.
    """
    key, path = secret_of(directory), directory / _NAME
    with translated(f"read {path}"):
        mode = stat.S_IMODE(path.lstat().st_mode)
    if mode & _OTHERS:
        message = (
            f"{path} has the mode {mode:04o}, so others may know the key that signs tokens: "
            "remove it, and a new one is made"
        )
        raise refused(errno.EACCES, message)
    return hmac.digest(key, b"tokens of users", "sha256")


def _read(path: Path) -> bytes:
    # Without O_NONBLOCK a pipe in its place would be waited for.
    with opened(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as descriptor:
        return os.read(descriptor, _BYTES + 1)


def _make(path: Path) -> None:
    """Write the key beside, so that nobody reads half of it; who comes second has the first's."""
    beside = path.with_name(f"secret.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    try:
        os.write(descriptor, secrets.token_bytes(_BYTES))
        os.fsync(descriptor)
        try:
            os.link(beside, path)
        except FileExistsError:
            return
    finally:
        close(descriptor)
        beside.unlink(missing_ok=True)
