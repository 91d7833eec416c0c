"""The record: the state of a fetch, in a file beside its bytes."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from app.spools.shared_file import SharedFile, write_at

_RECORD_LENGTH: Final = 1024
"""The constant size of the file in bytes, so that overwriting it needs no room on a full disk."""


class FetchState(StrEnum):
    """The state of a fetch."""

    REQUESTED = "asking"
    """The registry has not answered yet."""
    RUNNING = "running"
    VERIFIED = "verified"
    """All bytes are there, and they match the digest."""
    MISMATCHED = "wrong"
    """All bytes were there, but they do not match the digest."""
    GIVEN_UP = "given up"
    """The disk could not take the bytes. Readers continue without the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRecord:
    """The contents of a record.

    `size` is the size of the whole blob in bytes. `inode` distinguishes the data file from another
    one of the same name. `failures` is the number of fetchers in a row that brought no bytes.
    """

    state: FetchState = FetchState.REQUESTED
    size: int = 0
    inode: int = 0
    failures: int = 0


def write_record(file: SharedFile, record: FetchRecord) -> None:
    """Overwrite the record in a file; raise OSError."""
    write_at(file, json.dumps(asdict(record)).encode().ljust(_RECORD_LENGTH), 0)


def read_record(file: SharedFile) -> FetchRecord | None:
    """Return the record in a file; an empty file gives a new record. Raise OSError.

    Return None if the record cannot be parsed, perhaps because it is being written.
    """
    data = file.pread(_RECORD_LENGTH, 0)
    return _parse_record(data) if data else FetchRecord()


@lru_cache(maxsize=64)
def _parse_record(data: bytes) -> FetchRecord | None:
    # Cached, since a reader looks a thousand times for each GiB and hardly ever finds a new record.
    try:
        fields = json.loads(data)
        return FetchRecord(**fields | {"state": FetchState(fields["state"])})
    except (ValueError, KeyError, TypeError):
        return None
