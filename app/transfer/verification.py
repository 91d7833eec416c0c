"""Hashes a blob in order while its chunks arrive in any order."""

import hashlib
from typing import Any, Final

from app.oci.reference import Digest
from app.threads import NativeThreadPool, get_unpatched
from app.transfer.chunk_map import ChunkMap
from app.transfer.files import Claim, Files

_PIECE: Final = 1024 * 1024
"""Bytes that are read and hashed at once."""

_STEP: Final = 16 * 1024 * 1024
"""Bytes that are hashed before other work gets the thread."""

_THREADS: Final = NativeThreadPool(2)


class Verifier:
    """The hash of the bytes from the first one on that have arrived without a gap.

    One process at a time has the claim to verify a blob. The state of a hash cannot be handed on,
    so another process begins again with the first byte. The methods may raise OSError.
    """

    def __init__(self, digest: Digest, files: Files, chunk_map: ChunkMap) -> None:
        self._expected = digest.partition(":")[2]
        self._hash = hashlib.new(digest.algorithm)
        self._files = files
        self._map = chunk_map
        # A real lock, because writers feed the hash on real threads.
        self._lock: Any = get_unpatched("_thread", "allocate_lock")()
        self._is_claimed = False
        self.position = 0
        """The number of bytes that have been hashed."""

    def feed(self, offset: int, data: bytes | bytearray) -> None:
        """Hash bytes that have just been written, if they follow those that have been hashed.

        This saves reading them again. It never waits: if the hash is in use, `advance` reads the
        bytes later. Call it on a real thread.
        """
        if (
            offset != self.position
            or not self._is_claimed
            or not self._lock.acquire(blocking=False)
        ):
            return
        try:
            if offset == self.position:
                self._hash.update(data)
                self.position += len(data)
        finally:
            self._lock.release()

    def claim(self) -> bool:
        """Return whether this process verifies the blob; try to get the claim if it does not."""
        if not self._is_claimed:
            self._is_claimed = self._files.claim(Claim.VERIFICATION)
        return self._is_claimed

    def release(self) -> None:
        """Let another process verify the blob. The hash stays, for when this one gets the claim."""
        if self._is_claimed:
            self._is_claimed = False
            self._files.release(Claim.VERIFICATION)

    def advance(self) -> bool:
        """Hash what has arrived, and return whether the whole blob has been hashed.

        Waits on a real thread.
        """
        size = self._map.chunks.size
        while self._is_claimed and self.position < size:
            end = self._map.readable_end(self.position, min(size, self.position + _STEP))
            if end <= self.position:
                return False
            _THREADS.submit(self._hash_until, end).result()
        return self._is_claimed

    def matches(self) -> bool:
        """Return whether the digest is right, once `advance` has returned True."""
        return self._hash.hexdigest() == self._expected

    def _hash_until(self, end: int) -> None:
        with self._lock:
            while self.position < end:
                data = self._files.data.pread(min(_PIECE, end - self.position), self.position)
                if not data:
                    message = "the file has become shorter"
                    raise OSError(message)
                self._hash.update(data)
                self.position += len(data)
