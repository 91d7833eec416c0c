"""Fetch the manifests and blobs of images through the cache, and count the pulls it costs."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

import click

from app.cli.images import Image
from app.cli.reading import (
    Operator,
    RateLimited,
    ReadError,
    RepositoryReader,
    is_kept,
    read_body,
    wait_until_kept,
)
from app.oci import headers, manifest
from app.oci.errors import RegistryError, TooManyRequests
from app.oci.manifest import Descriptor, Platform
from app.oci.reference import Digest, Reference, Tag
from app.source import BodyBroken, Reply, Source
from app.store.storage import Storage

# Handling Ctrl-C while threads are working.


@contextmanager
def handle_interrupt(cancel: Callable[[], None]) -> Iterator[None]:
    """Call `cancel` in the main thread on the first Ctrl-C; a second one raises as usual.

    KeyboardInterrupt can be raised just after the interpreter has taken one of its own locks
    (`Condition.__enter__`), and then the lock is never released. The next thread that wants it
    would wait for ever, and so would the end of the process.
    """

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        signal.signal(signal.SIGINT, previous)
        cancel()

    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


_MAX_DEPTH: Final = 4
"""The deepest nesting of indexes that is followed; even an index in an index is rare."""

_DEFAULT_TAG: Final = Tag("latest")


class BudgetSpent(ReadError):
    """Raised if one more pull would exceed the budget."""


@dataclass
class PullBudget:
    """A count of the pulls spent, and their budget; None means no limit."""

    budget: int | None = None
    spent: int = 0

    @property
    def has_pulls_left(self) -> bool:
        """Whether the budget allows one more pull."""
        return self.budget is None or self.spent < self.budget


@dataclass(frozen=True, slots=True)
class WantedBlob:
    """A blob, and the first image that was found to need it."""

    image: Image
    repository: RepositoryReader
    descriptor: Descriptor


@dataclass
class Plan:
    """The blobs to fetch, and the reason for each image that cannot be complete.

    `failed` holds the images with an error, `skipped` those that were not tried any further
    because of the budget or a 429.
    """

    blobs: dict[tuple[str, str, Digest], WantedBlob] = field(default_factory=dict)
    blobs_by_image: dict[Image, list[WantedBlob]] = field(default_factory=dict)
    failed: dict[Image, str] = field(default_factory=dict)
    skipped: dict[Image, str] = field(default_factory=dict)

    def add_blob(self, image: Image, repository: RepositoryReader, blob: Descriptor) -> None:
        """Record that an image needs a blob; a blob that several images need is wanted once."""
        key = (image.registry, image.repository, blob.digest)
        wanted_blob = self.blobs.setdefault(key, WantedBlob(image, repository, blob))
        self.blobs_by_image.setdefault(image, []).append(wanted_blob)

    def record_failures(self, failures: Mapping[WantedBlob, str]) -> None:
        """Record as failed the images that need any of these blobs, with the reason for each."""
        for image, blobs in self.blobs_by_image.items():
            for blob in blobs:
                if blob in failures:
                    self.failed.setdefault(image, f"{blob.descriptor.digest}: {failures[blob]}")


class Planner:
    """Reads manifests through the cache, which stores them, and collects the blobs they name."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        storage: Storage,
        platforms: Iterable[Platform],
        pulls: PullBudget,
        operator: Operator,
    ) -> None:
        """Read for these platforms, or for all if there are none."""
        self.pulls = pulls
        self.plan = Plan()
        self._sources = sources
        self._storage = storage
        self._platforms = tuple(platforms)
        self._operator = operator
        self._repositories: dict[tuple[str, str], RepositoryReader] = {}
        self._exhausted: dict[str, str] = {}

    def add(self, image: Image) -> None:
        """Read the manifests of an image, and add the blobs that they name to the plan.

        Errors do not propagate: they are recorded in the plan.
        """
        if image.registry in self._exhausted:
            self.plan.skipped[image] = self._exhausted[image.registry]
            return
        try:
            self._walk(image, image.reference or _DEFAULT_TAG, set())
        except BudgetSpent as error:
            self.plan.skipped[image] = str(error)
        except (RateLimited, TooManyRequests) as error:
            self._exhausted[image.registry] = self.plan.skipped[image] = str(error)
        except (ReadError, RegistryError, BodyBroken) as error:
            self.plan.failed[image] = str(error)

    def _walk(
        self, image: Image, reference: Reference, seen: set[Reference], depth: int = 0
    ) -> None:
        if depth == _MAX_DEPTH:
            message = "its indexes are nested too deeply"
            raise ReadError(message)
        if reference in seen:
            return
        seen.add(reference)
        try:
            descriptors = manifest.parse_descriptors(self._read_manifest(image, reference))
        except ValueError as error:
            message = f"{reference} is not a manifest: {error}"
            raise ReadError(message) from error
        for blob in descriptors.blobs:
            if not blob.is_foreign:
                self.plan.add_blob(image, self._get_repository(image), blob)
        if descriptors.manifests:
            for child in self._choose_manifests(descriptors.manifests):
                self._walk(image, child.digest, seen, depth + 1)

    def _choose_manifests(self, children: Iterable[Descriptor]) -> list[Descriptor]:
        chosen = [child for child in children if self._is_wanted(child)]
        if not chosen:
            platforms = ", ".join(map(str, self._platforms))
            message = f"it has no image for {platforms}"
            raise ReadError(message)
        return chosen

    def _is_wanted(self, child: Descriptor) -> bool:
        if not self._platforms or child.platform is None:
            return True
        return any(child.platform.satisfies(platform) for platform in self._platforms)

    def _read_manifest(self, image: Image, reference: Reference) -> bytes:
        repository = self._get_repository(image)
        if not self.pulls.has_pulls_left:
            reference = self._resolve_kept(image, repository, reference)
        with closing(repository.fetch_manifest(reference)) as reply:
            data = read_body(reply, manifest.LARGEST)
            if _was_pulled(reply):
                self.pulls.spent += 1
            if reply.header("Warning"):
                message = "the registry does not answer, and the cached copy may be old"
                raise ReadError(message)
        if not isinstance(reference, Digest):
            reference = Digest.compute(data)
        wait_until_kept(self._storage, image, reference, len(data))
        return data

    def _resolve_kept(
        self, image: Image, repository: RepositoryReader, reference: Reference
    ) -> Digest:
        """Return the digest of a reference whose manifest is stored; raise BudgetSpent if not.

        This costs no pull: a tag is resolved with a HEAD.
        """
        if isinstance(reference, Digest):
            digest = reference
        else:
            with closing(repository.fetch_manifest(reference, "HEAD")) as reply:
                digest = Digest(reply.header("Docker-Content-Digest"))
        if not is_kept(self._storage, image, digest):
            message = "the budget is spent"
            raise BudgetSpent(message)
        return digest

    def _get_repository(self, image: Image) -> RepositoryReader:
        key = (image.registry, image.repository)
        if key not in self._repositories:
            source = self._sources[image.registry]
            self._repositories[key] = RepositoryReader(source, image.repository, self._operator)
        return self._repositories[key]


def _was_pulled(reply: Reply) -> bool:
    """Return whether this reply cost a GET at the registry, judged by Cache-Status (RFC 9211).

    `fwd=stale` means a HEAD, and `collapsed` means that another client's request was shared.
    """
    for status in headers.get_all(reply.headers, "cache-status"):
        cache, *parts = (part.strip() for part in status.split(";"))
        if cache == "docxy":
            return not {"hit", "fwd=stale", "collapsed"} & {*parts}
    return True


# Reading blobs to their ends, several at a time, so that the cache stores them.


class BlobFetcher:
    """Reads blobs and discards them, while the cache stores them.

    `fetched` counts the bytes read from replies; `failed` has the reason for each failed blob.
    """

    def __init__(self, storage: Storage, report: Callable[[int], None], operator: Operator) -> None:
        """Call `report`, from one thread at a time, with each number of bytes that is available.

        That includes the blobs that were stored before.
        """
        self.fetched = 0
        self.failed: dict[WantedBlob, str] = {}
        self._storage = storage
        self._report_progress = report
        self._exhausted: set[str] = set()
        self._lock = threading.Lock()
        self._operator = operator

    def fetch(self, blobs: Iterable[WantedBlob], concurrency: int) -> None:
        """Read all these blobs with `concurrency` threads; a failed blob does not stop the others.

        Raise click.Abort within seconds of Ctrl-C, without waiting for the layers to end.
        """
        with handle_interrupt(self._operator.cancel), ThreadPoolExecutor(concurrency) as threads:
            try:
                for future in [threads.submit(self._try_fetch, blob) for blob in blobs]:
                    future.result()
            except BaseException:
                self._operator.cancel()
                raise
        if self._operator.is_gone():
            raise click.Abort

    def _try_fetch(self, blob: WantedBlob) -> None:
        if self._operator.is_gone():
            return
        try:
            self._ensure_kept(blob)
        except (RateLimited, TooManyRequests) as error:
            with self._lock:
                self._exhausted.add(blob.image.registry)
                self.failed[blob] = str(error)
        except (ReadError, RegistryError, BodyBroken) as error:
            with self._lock:
                self.failed[blob] = str(error)

    def _ensure_kept(self, blob: WantedBlob) -> None:
        digest = blob.descriptor.digest
        if self._is_kept(blob):
            content = self._storage.blobs.open(blob.image.registry, digest)  # counts as a use
            if content is not None:
                content.blob.close()
            self._record_progress(blob.descriptor.size)
            return
        if self._storage.blobs.stat(blob.image.registry, digest) is not None:
            # It is stored for another repository: the registry must confirm that this one has it.
            blob.repository.fetch_blob(digest, "HEAD").close()
        if self._is_kept(blob):
            self._record_progress(blob.descriptor.size)
            return
        if blob.image.registry in self._exhausted:
            raise RateLimited
        self._read_body(blob)

    def _read_body(self, blob: WantedBlob) -> None:
        size = 0
        with closing(blob.repository.fetch_blob(blob.descriptor.digest)) as reply:
            for chunk in reply.chunks():
                if self._operator.is_gone():
                    return
                self._record_progress(len(chunk), len(chunk))
                size += len(chunk)
        wait_until_kept(self._storage, blob.image, blob.descriptor.digest, size)

    def _is_kept(self, blob: WantedBlob) -> bool:
        return is_kept(self._storage, blob.image, blob.descriptor.digest)

    def _record_progress(self, size: int, fetched: int = 0) -> None:
        with self._lock:
            self.fetched += fetched
            self._report_progress(size)
