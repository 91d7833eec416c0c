"""What the workers of a machine tell each other about a blob that is being fetched.

It lies in the chunk map, behind the head: the place that serves the bytes, and which callers the
registry has let read them. So a worker that a client reaches need not ask what another knows. Only
this user may read the directory (`files.py`), and all of it ends with the fetch.
"""

import hashlib
import json
import struct
from typing import Final

from app.source import Place
from app.transfer.chunk_map import FACTS_OFFSET, current_boot
from app.transfer.shared_file import SharedFile, write_at

_PLACE_LENGTH: Final = 7 * 1024
"""Bytes for the place; a longer URL is not shared."""

_CALLERS_OFFSET: Final = FACTS_OFFSET + _PLACE_LENGTH
_SLOT: Final = struct.Struct("=16sdd")
_SLOTS: Final = 4096 // _SLOT.size
"""A caller's slot is chosen by a hash, and a later caller takes it over: then the first one's right
is asked for again."""


def write_place(file: SharedFile, place: Place | None) -> None:
    """Overwrite the place; None if none is known. Raise OSError."""
    data = json.dumps([place.url, place.etag] if place else []).encode()
    if len(data) <= _PLACE_LENGTH:
        write_at(file, data.ljust(_PLACE_LENGTH), FACTS_OFFSET)


def read_place(file: SharedFile) -> Place | None:
    """Return the place, or None if none is known; raise OSError."""
    try:
        url, etag = json.loads(file.pread(_PLACE_LENGTH, FACTS_OFFSET).rstrip(b"\0"))
    except ValueError:  # none, or one that is being written
        return None
    return Place(str(url), str(etag))


class Confirmations:
    """Whom the registry has let read the blob, and when; every method may raise OSError.

    A caller is named by any texts. Moments are seconds since boot.
    """

    def __init__(self, file: SharedFile) -> None:
        self._file = file

    def record(self, caller: tuple[str, ...], asked_at: float) -> None:
        """Record that the registry has let a caller read the blob, when it was asked then.

        Refusals that were recorded for a later moment count more.
        """
        name, offset = _find_slot(caller)
        _, refused_at = self._read(name, offset)
        write_at(self._file, _SLOT.pack(name, asked_at, refused_at), offset)

    def refuse(self, caller: tuple[str, ...], now: float) -> None:
        """Record that the registry has refused a caller."""
        name, offset = _find_slot(caller)
        write_at(self._file, _SLOT.pack(name, 0.0, now), offset)

    def find(self, caller: tuple[str, ...], since: float) -> float | None:
        """Return when the registry was asked and said yes, if that was after `since`.

        Return None if it has said no to a later question.
        """
        asked_at, refused_at = self._read(*_find_slot(caller))
        return asked_at if asked_at > max(since, refused_at) else None

    def _read(self, name: bytes, offset: int) -> tuple[float, float]:
        data = self._file.pread(_SLOT.size, offset)
        if len(data) < _SLOT.size:
            return 0.0, 0.0
        found, asked_at, refused_at = _SLOT.unpack(data)
        return (asked_at, refused_at) if found == name else (0.0, 0.0)


def _find_slot(caller: tuple[str, ...]) -> tuple[bytes, int]:
    """Return the name of a caller in this boot, and the offset of its slot."""
    text = "\0".join((str(current_boot()), *caller)).encode(errors="surrogateescape")
    name = hashlib.blake2b(text, digest_size=16).digest()
    return name, _CALLERS_OFFSET + int.from_bytes(name[:4]) % _SLOTS * _SLOT.size
