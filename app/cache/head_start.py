"""Begin to fetch the blobs of an image when its manifest is served, before the client asks.

A client reads a manifest and then asks for each of its blobs, and each of these requests costs a
round trip to the registry and one to its CDN. So the first chunk of each blob is fetched at once,
with the caller's own right; the rest follows when the client asks for one of the layers.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from typing import Final

from app.background import BackgroundPool
from app.cache.authz.callers import Caller
from app.cache.authz.gate import Gate
from app.cache.authz.grants import BoundedMap
from app.cache.blobs.blobs import BlobCache
from app.events import Event, Observer
from app.oci import headers, manifest
from app.oci.conditional import build_range
from app.oci.errors import RegistryError
from app.oci.manifest import Descriptor
from app.oci.reference import Digest, Operation, Reference, RepositoryName
from app.source import Reply, Request, Unmetered
from app.transfer.chunk_map import CHUNK
from app.transfer.readers import NOBODYS
from app.transfer.reading import BlobBody

_THREADS: Final = 16
_CAPACITY: Final = 512
"""Blobs of a process that are begun at once, and that may wait for it; any more are not begun."""

_PATIENCE: Final = 10.0
"""Seconds in which the client has to ask for a layer, and after which a fetch that no
client reads any more is ended."""

_LOOK: Final = 0.1
"""Seconds between two looks whether a client reads. Locks on the files tell, in whichever worker it
does."""

_MOST_UNPROVEN: Final = 2
"""Head starts of a client that has not asked for a layer since, after which it gets no more of
them until it does. Scanners and version checkers read manifests only, or configs too."""

_REPEATED: Final = 10.0
"""Seconds in which the same manifest causes no other head start for the same caller."""


def build_pool() -> BackgroundPool:
    """Return the pool for the head starts of all registries of this process."""
    return BackgroundPool("head start", threads=_THREADS, capacity=_CAPACITY)


ClientKey = tuple[str, str]
"""A client, by its name and its User-Agent."""


def identify_client(request: Request) -> ClientKey:
    """Return what tells clients apart that read manifests only from those that pull."""
    name = request.payer.identity if request.payer is not None else ""
    return (name, headers.get_first(request.headers, "user-agent"))


@dataclass(slots=True)
class _Image:
    """An image whose blobs have begun; `bodies` hold what a client may ask for."""

    caller: Caller
    name: RepositoryName
    request: Request
    layers: Sequence[Digest]
    bodies: dict[Digest, BlobBody] = field(default_factory=dict)
    waiting: int = 0
    """Blobs that have not begun yet."""
    is_refused: bool = False
    is_used: bool = False
    """Whether the client has asked for a layer."""
    has_begun: bool = False
    """Whether anything was fetched."""
    read_at: float = field(default_factory=time.monotonic)
    """When a client was last seen to read a layer, or when the image began."""


class HeadStart:
    """The head starts of one registry."""

    def __init__(
        self, blobs: BlobCache, gate: Gate, pool: BackgroundPool, observer: Observer
    ) -> None:
        self._blobs = blobs
        self._gate = gate
        self._observer = observer
        self._pool = pool
        self._lock = threading.Lock()
        self._images: dict[Reference | None, _Image] = {}
        """The image of each blob that has begun and may still be used."""
        self._begun_at = BoundedMap[float]()
        self._unproven = BoundedMap[int]()

    def record_blob_request(self, caller: Caller, operation: Operation, request: Request) -> None:
        """Take note that a client was let read a blob: if it is a layer, it uses the head start."""
        image = self._images.get(operation.reference)
        asked = (caller.name, operation.repository)
        if image is not None and (image.caller.name, image.name) == asked:
            self._unproven.forget(identify_client(request))
            self._record_use(image)

    def schedule(
        self, caller: Caller, name: RepositoryName, request: Request, reply: Reply
    ) -> None:
        """Begin the blobs of a manifest that is being served; return at once.

        Other answers are ignored, and those to clients that read manifests only.
        """
        if request.method != "GET" or reply.status != HTTPStatus.OK:
            return
        if not isinstance(reply.body, bytes) or len(reply.body) > manifest.LARGEST_OF_IMAGE:
            return
        key, now = (caller.name, name, reply.header("etag")), time.monotonic()
        if now - (self._begun_at.get(key) or float("-inf")) < _REPEATED:
            return
        self._begun_at.put(key, now)
        client = identify_client(request)
        if (self._unproven.get(client) or 0) >= _MOST_UNPROVEN:
            return
        request = replace(
            request,
            headers=headers.without(request.headers, "accept", *headers.PARTIAL),
            client=None,
            payer=Unmetered(lambda: NOBODYS),
            has_fallback=None,
        )
        self._pool.submit(partial(self._begin_image, caller, name, client, request, reply.body))

    def _begin_image(
        self,
        caller: Caller,
        name: RepositoryName,
        client: ClientKey,
        request: Request,
        document: bytes,
    ) -> None:
        blobs = [blob for blob in manifest.parse_blobs(document) if blob.size]
        absent = set(self._gate.find_unconfirmed(caller, name, [one.digest for one in blobs])[1])
        wanted = [one for one in blobs if one.digest in absent]
        if not wanted:
            return
        self._unproven.put(client, (self._unproven.get(client) or 0) + 1)
        layers = [one.digest for one in wanted if one is not blobs[0]]
        image = _Image(caller, name, request, layers, waiting=len(wanted))
        self._images |= dict.fromkeys(layers, image)
        for blob in wanted:
            if not self._pool.submit(partial(self._begin_blob, image, blob)):
                self._count_begun(image)

    def _begin_blob(self, image: _Image, blob: Descriptor) -> None:
        try:
            if not image.is_refused:
                self._fetch_first_chunk(image, blob)
        finally:
            self._count_begun(image)

    def _fetch_first_chunk(self, image: _Image, blob: Descriptor) -> None:
        fields = [*image.request.headers, build_range(0, _choose_end(blob.size))]
        part = replace(image.request, headers=fields)
        try:
            reply = self._blobs.begin(image.caller, image.name, blob.digest, part)
        except RegistryError:
            image.is_refused = True
            return
        if isinstance(reply.body, BlobBody):
            image.bodies[blob.digest] = reply.body
            image.has_begun = True
            if image.is_used:
                reply.body.select_all()
            reply.body.prefetch()
            return
        # A refusal of one blob would be one of the others too.
        image.is_refused = image.is_refused or reply.is_error
        reply.close()

    def _count_begun(self, image: _Image) -> None:
        with self._lock:
            image.waiting -= 1
            is_last = not image.waiting
        if is_last:
            self._look(image)

    def _look(self, image: _Image) -> None:
        """Fetch the rest once a client reads a layer, and let go when none does."""
        for digest, body in list(image.bodies.items()):
            if not body.is_running():
                body.close()
                del image.bodies[digest]
        if any(
            digest in image.layers and body.has_other_readers()
            for digest, body in image.bodies.items()
        ):
            self._record_use(image)
        is_idle = time.monotonic() - image.read_at > _PATIENCE
        is_done = image.is_used and not image.bodies
        if is_idle or is_done or not self._pool.submit(partial(self._look, image), _LOOK):
            self._end(image)

    def _record_use(self, image: _Image) -> None:
        image.read_at = time.monotonic()
        if not image.is_used:
            image.is_used = True
            self._pool.submit(partial(_fetch_rest, image))

    def _end(self, image: _Image) -> None:
        for body in image.bodies.values():
            body.close()
        for digest in image.layers:
            if self._images.get(digest) is image:
                del self._images[digest]
        if image.has_begun:
            self._observer.observe(Event.HEAD_START, "used" if image.is_used else "wasted")


def _choose_end(size: int) -> int:
    """Return how many bytes begin: one chunk, or two if these are all."""
    return size if size <= 2 * CHUNK else CHUNK


def _fetch_rest(image: _Image) -> None:
    for body in list(image.bodies.values()):
        body.select_all()
        body.prefetch()
