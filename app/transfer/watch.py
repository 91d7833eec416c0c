"""Watches whether anybody reads a fetch, and charges its bytes to whoever began it if not."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from app.oci.reference import Digest
from app.source import FetchAccount, Payer
from app.transfer.chunk_map import CHUNK
from app.transfer.readers import NOBODYS, Readers, Slots
from app.transfer.shared_file import SharedFile

_LOOK: Final = 256 * 1024
"""Bytes between two checks whether anybody still reads. An eighth of the unread limit applies
instead if that is less."""

_LONG: Final = 10.0
"""Seconds after which the next bytes cause a check, however few they are."""

_BEGINNING: Final = 2 * CHUNK
"""Bytes that may come before any client asks for a blob, beside the slots for unread fetches."""

_WHOLE: Final = 1 << 30
_PART: Final = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadLimits:
    """How many bytes of a blob are fetched after its last reader has left.

    `whole` is for a fetch that began with a request for the whole blob, `part` for one that began
    with a `Range`: a client that wants one byte is no reason to fetch a gigabyte.
    """

    whole: int = _WHOLE
    part: int = _PART

    @classmethod
    def fixed(cls, size: int) -> Self:
        """Return limits that are both `size` bytes."""
        return cls(whole=size, part=size)

    @classmethod
    def for_limited_clients(cls) -> Self:
        """Return the limits to use if each client's traffic is limited: 16 MiB for both."""
        return cls.fixed(_PART)


class ReaderWatch:
    """Bounds and charges the bytes of one fetch that nobody reads.

    Each connection of the fetch calls it. While one checks, the others wait.
    """

    def __init__(
        self,
        digest: Digest,
        readers: Readers,
        slots: Slots,
        *,
        limit: int,
        payer: Callable[[], Payer | None],
    ) -> None:
        self._digest = digest
        self._readers = readers
        self._slots = slots
        self._limit = limit
        self._find_payer = payer
        self._lock = threading.Lock()
        self._payer: Payer | None = None
        self._account: FetchAccount | None = None
        self._slot: SharedFile | None = None
        self._step = min(_LOOK, limit // 8)
        self._received = 0
        self._unread = 0
        self._checked_at = time.monotonic()
        self._open_account()

    def raise_limit(self, limit: int) -> None:
        """Let at least `limit` bytes be fetched unread."""
        self._limit = max(self._limit, limit)

    def record_received(self, count: int) -> None:
        """Count bytes that have arrived since the last check."""
        with self._lock:
            self._received += count

    def may_continue(self) -> bool:
        """Return whether to fetch more, and check from time to time who reads; raise OSError."""
        with self._lock:
            return self._check()

    def close(self) -> None:
        """Charge the last bytes, and give back the slot and the account."""
        with suppress(OSError):
            self._charge()
        self._release_slot()
        if self._account is not None:
            self._account.settle()

    def _check(self) -> bool:
        now = time.monotonic()
        if self._received <= self._step and now - self._checked_at <= _LONG:
            return True
        self._checked_at = now
        count = self._charge()
        if self._readers:
            self._unread = 0
            self._release_slot()
            return True
        self._unread += count
        if self._unread > self._limit or not self._may_run_unread():
            return False
        return self._account is None or self._account.try_acquire()

    def _charge(self) -> int:
        """Charge the bytes since the last check unless another client reads; return their count."""
        count, self._received = self._received, 0
        self._open_account()
        if (
            self._payer is not None
            and self._account is not None
            and not self._readers.is_other(self._payer.identity)
        ):
            self._account.charge(count)
        return count

    def _open_account(self) -> None:
        """Open an account if the payer has changed, and settle the earlier one."""
        payer = self._find_payer()
        if payer is self._payer or payer is None:
            return
        if self._account is not None:
            self._account.settle()
        self._payer, self._account = payer, payer.open_account(self._digest)

    def _may_run_unread(self) -> bool:
        is_nobodys = self._payer is not None and self._payer.identity == NOBODYS
        return (is_nobodys and self._unread <= _BEGINNING) or self._acquire_slot()

    def _acquire_slot(self) -> bool:
        if self._slot is None:
            self._slot = self._slots.try_acquire(self._payer.identity if self._payer else "")
        return self._slot is not None

    def _release_slot(self) -> None:
        if self._slot is not None:
            self._slot.close()
            self._slot = None
        if self._account is not None:
            self._account.release()
