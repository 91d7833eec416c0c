"""The key by which callers are told apart, in a file of the cache's directory."""

import logging
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from app.store.descriptors import close, opened
from app.store.errors import refused, translated

logger = logging.getLogger(__name__)

_BYTES: Final = 32
_MODE: Final = 0o600
_OTHERS: Final = 0o077


def secret_of(directory: Path) -> bytes:
    """Return the key of a directory, made where there is none; raise StoreError.

    All workers have the same: grants are shared by them. Others must not: it signs tokens too.
    """
    path = directory / "secret"
    with translated(f"read {path}"):
        try:
            key = _read(path)
        except FileNotFoundError:
            _make(path)
            key = _read(path)
    if len(key) != _BYTES:
        raise refused(22, f"{path} holds no key; remove it")
    return key


def _read(path: Path) -> bytes:
    # Without O_NONBLOCK a pipe in its place would be waited for.
    with opened(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as descriptor:
        _keep_from_others(descriptor, path)
        return os.read(descriptor, _BYTES + 1)


def _keep_from_others(descriptor: int, path: Path) -> None:
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    if not mode & _OTHERS:
        return
    try:
        os.fchmod(descriptor, _MODE)
    except OSError as error:
        message = f"{path} has the mode {mode:04o}, and so others may know the key; make it 0600"
        raise refused(error.errno or 0, message) from error
    logger.warning(
        "Others could read the key of this directory, and have what they need to make tokens if "
        "they did; now they cannot. Remove it, and the next start makes another one. "
        "path=%s mode=%04o",
        path,
        mode,
    )


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
