"""Whether what was read through the cache is kept."""

import time
from typing import Final

from app.cli.images import Image
from app.cli.reading import NotRead
from app.oci.reference import Digest
from app.store.store import Store

_PATIENCE: Final = 5.0
_SLOWEST: Final = 20 * 1024 * 1024
"""Seconds until what was read has to be kept, and one more for each so many bytes.

It is on the disk and has its name only after its last byte was read.
"""

_PAUSE: Final = 0.02


def is_kept(store: Store, image: Image, digest: Digest) -> bool:
    """Tell whether content is there, and known to be held by the image's repository."""
    member = store.members.find(image.registry, image.repository, digest)
    return member is not None and store.has(image.registry, digest)


def check_kept(store: Store, image: Image, digest: Digest, size: int) -> None:
    """Raise NotRead if what was read to its end is not kept soon."""
    given_up = time.monotonic() + _PATIENCE + size / _SLOWEST
    while not is_kept(store, image, digest):
        if time.monotonic() > given_up:
            message = "it was read, but is not kept: is the disk full?"
            raise NotRead(message)
        time.sleep(_PAUSE)
