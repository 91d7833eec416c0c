"""The secret of a cache's directory: a random key that all its workers share."""

import errno
import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from app.store.errors import build_error, translate_errors
from app.store.layout import PRIVATE_FILE_MODE, close, open_descriptor

_NAME: Final = "secret"
_BYTES: Final = 32
_MODE_OF_OTHERS: Final = 0o007


def load_secret(directory: Path) -> bytes:
    """Return the key of a directory, and create it if it is missing; may raise StoreError.

    All workers use the same key, because they share grants.
    """
    path = directory / _NAME
    with translate_errors(f"read {path}"):
        try:
            key = _read_key(path)
        except FileNotFoundError:
            _create_key(path)
            key = _read_key(path)
    if len(key) != _BYTES:
        raise build_error(22, f"{path} holds no key; remove it")
    return key


def load_token_key(directory: Path) -> bytes:
    """Return the key that signs the tokens of users; raise StoreError if others may know it.

    Anybody who knows the key can make tokens, so the file must not be accessible to others. Access
    by a group is the operator's choice; Kubernetes' fsGroup is an example.
    """
    key, path = load_secret(directory), directory / _NAME
    with translate_errors(f"read {path}"):
        mode = stat.S_IMODE(path.lstat().st_mode)
    if mode & _MODE_OF_OTHERS:
        message = (
            f"{path} has the mode {mode:04o}, so others may know the key that signs tokens: "
            "remove it, and a new one is made"
        )
        raise build_error(errno.EACCES, message)
    return hmac.digest(key, b"tokens of users", "sha256")


def _read_key(path: Path) -> bytes:
    # O_NONBLOCK, because opening a named pipe in its place would block.
    with open_descriptor(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as descriptor:
        return os.read(descriptor, _BYTES + 1)


def _create_key(path: Path) -> None:
    """Create the key file atomically; if another process is first, its key stays."""
    temporary_path = path.with_name(f"secret.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(
        temporary_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE_MODE
    )
    try:
        os.write(descriptor, secrets.token_bytes(_BYTES))
        os.fsync(descriptor)
        try:
            os.link(temporary_path, path)
        except FileExistsError:
            return
    finally:
        close(descriptor)
        temporary_path.unlink(missing_ok=True)
