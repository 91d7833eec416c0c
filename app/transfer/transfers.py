"""The transfers of one registry: a client begins one, or joins one that is running."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from errno import ETIMEDOUT
from pathlib import Path
from typing import Final

from app.oci.errors import ClientGone
from app.oci.reference import Digest
from app.source import Client, Payer, do_nothing
from app.threads import NativeThreadPool
from app.transfer import files
from app.transfer.chunk_map import FetchState
from app.transfer.files import Files, Paths
from app.transfer.lease import Span
from app.transfer.partial_blob import PartialBlob
from app.transfer.place import KnownPlace
from app.transfer.readers import Slots
from app.transfer.shared_blob import BlobSource, FirstAnswer, SharedBlob, TransferOptions

_THREADS: Final = NativeThreadPool(4)
_BETWEEN_TIDYING: Final = 3600.0
"""Seconds between two searches for unfinished fetches to remove."""

_PATIENCE: Final = 60.0
"""Seconds that a client waits for the registry's answer to another client's request. After that it
asks the registry itself."""
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1
"""Seconds between two attempts to begin or join; each pause is twice the one before."""
_TAKES_LONG: Final = 0.25
"""Seconds of waiting after which each attempt also checks whether the client has left."""

CONNECTIONS_TO_HOST: Final = 16
UNREAD_OF_ONE: Final = 8
UNREAD_OF_ALL: Final = 32
"""The most fetches that may run unread at once, for one client and for all on this machine.

podman fetches six layers at once, Docker and containerd three, so one interrupted pull fits.
"""


class Transfers:
    """The blobs being fetched in one directory, which all processes of a machine share.

    Never call a method on a real thread. A method raises OSError only if its docstring says so.
    """

    def __init__(self, directory: Path, options: TransferOptions) -> None:
        self._directory = directory
        self._options = options
        self._lock = threading.Lock()
        self._shared: dict[int, SharedBlob] = {}
        self._beginnings: dict[Digest, Beginning] = {}
        self._tidied_at = float("-inf")
        self.report_failure = options.report_failure
        # The bounds are for the whole machine. The files are not beside the registries'
        # directories, because whoever names a registry chooses the names there.
        above = directory.parent.parent
        self.unread = Slots(above / "unread", for_one=UNREAD_OF_ONE, for_all=UNREAD_OF_ALL)
        self._to_host = Slots(above / "connections", for_one=CONNECTIONS_TO_HOST, for_all=1024)

    @staticmethod
    def can_fetch(digest: Digest) -> bool:
        """Return whether a blob can be fetched for many readers: its digest must be verifiable."""
        return digest.can_be_verified

    def is_running(self, digest: Digest) -> bool:
        """Return whether any process fetches or reads a blob, or waits for the first answer.

        Raise OSError.
        """
        here = digest in self._beginnings or any(
            shared.blob.digest == digest for shared in list(self._shared.values())
        )
        return here or bool(_THREADS.submit(files.is_in_use, self._build_paths(digest)).result())

    def find_confirmation(
        self, digest: Digest, caller: tuple[str, ...], since: float
    ) -> float | None:
        """Return when the registry was asked and let a caller read a blob that is being fetched.

        Return None if no worker knows of such an answer, to a question after `since`. Both moments
        are in seconds since boot. Raise OSError.
        """

        def look() -> float | None:
            with files.open_confirmations(self._build_paths(digest)) as confirmations:
                return confirmations.find(caller, since) if confirmations is not None else None

        found: float | None = _THREADS.submit(look).result()
        return found

    def record_refusal(self, digest: Digest, caller: tuple[str, ...], now: float) -> None:
        """Tell all workers that the registry has refused a caller a blob; raise OSError."""

        def write() -> None:
            with files.open_confirmations(self._build_paths(digest)) as confirmations:
                if confirmations is not None:
                    confirmations.refuse(caller, now)

        _THREADS.submit(write).result()

    def begin(self, digest: Digest) -> "Beginning | None":
        """Return the right to ask for a blob first; None if somebody else has it, or has asked.

        Raise OSError.
        """
        if digest in self._beginnings:
            return None
        self._remove_idle_periodically()
        paths = self._build_paths(digest)
        opened, is_cached = _THREADS.submit(self._create, digest, paths).result()
        if opened is None:
            return None
        beginning = Beginning(self, digest, paths, opened, is_cached=is_cached)
        self._beginnings[digest] = beginning
        return beginning

    def join(self, digest: Digest, payer: Payer | None) -> "Transfer | None":
        """Return a blob whose size is known, or None if there is nothing to read; raise OSError.

        `payer` is the client that reads. The caller closes the transfer.
        """
        paths = self._build_paths(digest)
        opened: Files | None = _THREADS.submit(files.open_running, paths).result()
        if opened is None:
            return None
        try:
            return self._enter(PartialBlob(digest, paths, opened), payer)
        except OSError:
            opened.close()
            raise

    def wait_for_answer(self, digest: Digest, client: Client | None) -> None:
        """Wait until nobody waits for the registry's first answer about a blob.

        Raise ClientGone if the client leaves meanwhile, and OSError if a file fails.
        """
        pause, waited = _FIRST_PAUSE, 0.0
        paths = self._build_paths(digest)
        while waited < _PATIENCE and _THREADS.submit(files.is_requested, paths).result():
            waited = self._pause(digest, client, pause, waited)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def begin_or_join(
        self, digest: Digest, client: Client | None, payer: Payer | None
    ) -> "Beginning | Transfer":
        """Wait until a blob can be asked for or read.

        Raise ClientGone if the client leaves meanwhile. Raise OSError if a file fails, or with
        ETIMEDOUT if neither is possible within 60 seconds.
        """
        pause, waited = _FIRST_PAUSE, 0.0
        while waited < _PATIENCE:
            if (transfer := self.join(digest, payer)) is not None:
                return transfer
            if (beginning := self.begin(digest)) is not None:
                return beginning
            waited = self._pause(digest, client, pause, waited)
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise OSError(ETIMEDOUT, "the one who asked first has no answer")

    def _pause(self, digest: Digest, client: Client | None, pause: float, waited: float) -> float:
        """Wait for a moment, or until this process has the answer; return the seconds so far."""
        known = self._beginnings.get(digest)
        (threading.Event() if known is None else known.ended).wait(pause)
        if waited + pause > _TAKES_LONG and client is not None and client.is_gone():
            raise ClientGone
        return waited + pause

    def remove_idle(self, idle: float | None = None) -> int:
        """Remove unfinished fetches that have been idle for so long; return the bytes freed.

        `idle` is in seconds; None means the `idle_seconds` of the options.
        """
        idle = self._options.idle_seconds if idle is None else idle
        removed: int = _THREADS.submit(self._remove_idle, idle).result()
        return removed

    # For Beginning and Transfer.

    def let_in(self, blob: PartialBlob, opened: Files, payer: Payer | None) -> "Transfer":
        """Return the transfer of a blob whose size has become known; raise OSError."""
        with ExitStack() as stack:
            # First, because a lease may have been taken of this object: whoever opens the files
            # next is to find it.
            transfer = self._enter(blob, payer)
            stack.callback(transfer.close)
            if not _THREADS.submit(files.let_in, opened, blob.paths).result():
                raise OSError(ETIMEDOUT, "the files were removed while the registry was asked")
            stack.pop_all()
        return transfer

    def end_beginning(self, beginning: "Beginning") -> None:
        """Forget the right to ask first, which has been used or given back."""
        if self._beginnings.get(beginning.digest) is beginning:
            del self._beginnings[beginning.digest]

    def _enter(self, blob: PartialBlob, payer: Payer | None) -> "Transfer":
        """Return the transfer of a blob; if this raises OSError, the caller closes the files."""
        with self._lock:
            shared = self._shared.get(blob.inode)
            if shared is not None and shared.enter(payer):
                blob.close()
                return Transfer(shared, payer)
            is_verified = blob.read_state() is FetchState.VERIFIED
            shared = SharedBlob(blob, self._options, self, self._forget)
            shared.enter(payer)
            self._shared[blob.inode] = shared
        if is_verified:
            threading.Thread(target=shared.complete, name="blob adoption", daemon=True).start()
        return Transfer(shared, payer)

    def _forget(self, shared: SharedBlob) -> None:
        with self._lock:
            if self._shared.get(shared.blob.inode) is shared:
                del self._shared[shared.blob.inode]

    def take_connection(self) -> Callable[[], None] | None:
        """Return how to give back a further connection to the registry, or None if all are used."""
        try:
            slot = self._to_host.try_acquire(self._directory.name)
        except OSError:
            return do_nothing  # without a file nobody counts
        return None if slot is None else slot.close

    def make(self, size: int) -> None:
        """Make room for `size` bytes, if need be by removing unfinished fetches; raise OSError."""
        try:
            self._options.make_room(size)
        except OSError:
            if not self.remove_idle(0):
                raise
            self._options.make_room(size)

    def _create(self, digest: Digest, paths: Paths) -> tuple[Files | None, bool]:
        opened = files.create(paths)
        return opened, opened is not None and self._options.is_cached(digest)

    def _remove_idle_periodically(self) -> None:
        now = time.monotonic()
        if now - self._tidied_at >= _BETWEEN_TIDYING:
            self._tidied_at = now
            _THREADS.submit(self._remove_idle, self._options.idle_seconds)

    def _remove_idle(self, idle: float) -> int:
        return files.remove_idle(self._directory, idle) + self._options.remove_other_idle(idle)

    def _build_paths(self, digest: Digest) -> Paths:
        return Paths.for_digest(self._directory, digest)


class Beginning:
    """The right to ask the registry for a blob first. It ends with `start` or `release`."""

    def __init__(
        self, transfers: Transfers, digest: Digest, paths: Paths, opened: Files, *, is_cached: bool
    ) -> None:
        self._transfers = transfers
        self._files = opened
        self.digest = digest
        self.paths = paths
        self.is_cached = is_cached
        """Whether another fetch has ended with the blob since the caller looked for it."""
        self.ended = threading.Event()

    def announce(self, size: int) -> PartialBlob:
        """Return the blob, whose size has become known; raise OSError.

        Nobody else sees it before `let_in`.
        """
        self._files = _THREADS.submit(files.announce, self._files, size).result()
        return PartialBlob(self.digest, self.paths, self._files)

    def let_in(self, blob: PartialBlob, payer: Payer | None) -> "Transfer":
        """Let others read the announced blob, and return it for its first reader; raise OSError."""
        transfer = self._transfers.let_in(blob, self._files, payer)
        self._end()
        return transfer

    def release(self) -> None:
        """Give the right back, without an answer. After `start`, do nothing."""
        if self.ended.is_set():
            return
        try:
            with suppress(OSError):
                _THREADS.submit(files.remove, self._files, self.paths).result()
            self._files.close()
        finally:
            self._end()

    def _end(self) -> None:
        self._transfers.end_beginning(self)
        self.ended.set()


class Transfer:
    """A blob being fetched, for one reader, who closes it."""

    def __init__(self, shared: SharedBlob, payer: Payer | None) -> None:
        self._shared = shared
        self._payer = payer
        self._is_closed = False

    @property
    def blob(self) -> PartialBlob:
        """The blob's bytes, as far as they have arrived."""
        return self._shared.blob

    @property
    def place(self) -> KnownPlace:
        """Where the registry's redirects have led for the blob."""
        return self._shared.place

    def fetch(
        self,
        source: BlobSource,
        wanted: Sequence[Span],
        *,
        whole: bool,
        first: FirstAnswer | None = None,
    ) -> None:
        """Do as `SharedBlob.fetch` does, for the blob of this reader."""
        self._shared.fetch(source, wanted, whole=whole, first=first)

    def close(self) -> None:
        """End this reader; may be called again."""
        is_closed, self._is_closed = self._is_closed, True
        if not is_closed:
            self._shared.leave(self._payer)
