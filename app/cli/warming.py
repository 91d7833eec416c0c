"""Fetch the manifests and blobs of images through the cache, and count the pulls it costs."""

import hashlib
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
from app.cli.reading import Exhausted, NotRead, Operator, Repository, check_kept, is_kept, whole
from app.oci import headers, manifest
from app.oci.errors import RegistryError, TooManyRequests
from app.oci.manifest import Descriptor, Platform
from app.oci.reference import Digest, Reference, Tag
from app.source import BodyBroken, Reply, Source
from app.store.store import Store

# Handling Ctrl-C while threads are working.


@contextmanager
def told(leave: Callable[[], None]) -> Iterator[None]:
    """Call `leave` in the main thread on the first Ctrl-C; a second one raises as usual.

    KeyboardInterrupt can be raised just after the interpreter has taken one of its own locks
    (`Condition.__enter__`), and then the lock is never released. The next thread that wants it
    would wait for ever, and so would the end of the process.
    """

    def interrupted(number: int, frame: FrameType | None) -> None:
        del number, frame
        signal.signal(signal.SIGINT, before)
        leave()

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_DEEPEST: Final = 4
"""The deepest nesting of indexes; an index in an index is rare, and a long chain a bad joke."""

_LATEST: Final = Tag("latest")


class BudgetSpent(NotRead):
    """Raised if one more pull would exceed the budget."""


@dataclass
class Pulls:
    """A count of the pulls spent, and their budget; None means no limit."""

    budget: int | None = None
    spent: int = 0

    @property
    def are_left(self) -> bool:
        """Whether the budget allows one more pull."""
        return self.budget is None or self.spent < self.budget


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob, and the first image that was found to need it."""

    image: Image
    repository: Repository
    descriptor: Descriptor


@dataclass
class Plan:
    """The blobs to fetch, and the reason for each image that cannot be complete.

    `failed` holds the images with an error, `undone` those that were not tried any further
    because of the budget or a 429.
    """

    blobs: dict[tuple[str, str, Digest], Wanted] = field(default_factory=dict)
    needs: dict[Image, list[Wanted]] = field(default_factory=dict)
    failed: dict[Image, str] = field(default_factory=dict)
    undone: dict[Image, str] = field(default_factory=dict)

    def need(self, image: Image, repository: Repository, blob: Descriptor) -> None:
        """Record that an image needs a blob; a blob that several images need is wanted once."""
        key = (image.registry, image.repository, blob.digest)
        wanted = self.blobs.setdefault(key, Wanted(image, repository, blob))
        self.needs.setdefault(image, []).append(wanted)

    def miss(self, missed: Mapping[Wanted, str]) -> None:
        """Record as failed the images that need any of these blobs, with the reason for each."""
        for image, needed in self.needs.items():
            for one in needed:
                if one in missed:
                    self.failed.setdefault(image, f"{one.descriptor.digest}: {missed[one]}")


class Warming:
    """Reads manifests through the cache, which stores them, and collects the blobs they name."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        store: Store,
        platforms: Iterable[Platform],
        pulls: Pulls,
        operator: Operator,
    ) -> None:
        """Read for these platforms, or for all if there are none."""
        self.pulls = pulls
        self.plan = Plan()
        self._sources = sources
        self._store = store
        self._platforms = tuple(platforms)
        self._operator = operator
        self._repositories: dict[tuple[str, str], Repository] = {}
        self._exhausted: dict[str, str] = {}

    def add(self, image: Image) -> None:
        """Read the manifests of an image, and add the blobs that they name to the plan.

        Errors do not propagate: they are recorded in the plan.
        """
        if image.registry in self._exhausted:
            self.plan.undone[image] = self._exhausted[image.registry]
            return
        try:
            self._walk(image, image.reference or _LATEST, set())
        except BudgetSpent as error:
            self.plan.undone[image] = str(error)
        except (Exhausted, TooManyRequests) as error:
            self._exhausted[image.registry] = self.plan.undone[image] = str(error)
        except (NotRead, RegistryError, BodyBroken) as error:
            self.plan.failed[image] = str(error)

    def _walk(
        self, image: Image, reference: Reference, seen: set[Reference], depth: int = 0
    ) -> None:
        if depth == _DEEPEST:
            message = "its indexes are nested too deeply"
            raise NotRead(message)
        if reference in seen:
            return
        seen.add(reference)
        try:
            named = manifest.named(self._document(image, reference))
        except ValueError as error:
            message = f"{reference} is no manifest: {error}"
            raise NotRead(message) from error
        for blob in named.blobs:
            if not blob.elsewhere:
                self.plan.need(image, self._repository(image), blob)
        if named.manifests:
            for child in self._chosen(named.manifests):
                self._walk(image, child.digest, seen, depth + 1)

    def _chosen(self, children: Iterable[Descriptor]) -> list[Descriptor]:
        chosen = [child for child in children if self._suits(child)]
        if not chosen:
            wanted = ", ".join(map(str, self._platforms))
            message = f"it is not there for {wanted}"
            raise NotRead(message)
        return chosen

    def _suits(self, child: Descriptor) -> bool:
        if not self._platforms or child.platform is None:
            return True
        return any(child.platform.suits(wanted) for wanted in self._platforms)

    def _document(self, image: Image, reference: Reference) -> bytes:
        repository = self._repository(image)
        if not self.pulls.are_left:
            reference = self._kept(image, repository, reference)
        with closing(repository.manifest(reference)) as reply:
            data = whole(reply, manifest.LARGEST)
            if _was_pulled(reply):
                self.pulls.spent += 1
            if reply.header("Warning"):
                message = "the registry does not answer; what is kept of it may be old"
                raise NotRead(message)
        if not isinstance(reference, Digest):
            reference = Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")
        check_kept(self._store, image, reference, len(data))
        return data

    def _kept(self, image: Image, repository: Repository, reference: Reference) -> Digest:
        """Return the digest of a reference whose manifest is stored; raise BudgetSpent if not.

        This costs no pull: a tag is resolved with a HEAD.
        """
        if isinstance(reference, Digest):
            found = reference
        else:
            with closing(repository.manifest(reference, "HEAD")) as reply:
                found = Digest(reply.header("Docker-Content-Digest"))
        if not is_kept(self._store, image, found):
            message = "the budget is spent"
            raise BudgetSpent(message)
        return found

    def _repository(self, image: Image) -> Repository:
        key = (image.registry, image.repository)
        if key not in self._repositories:
            source = self._sources[image.registry]
            self._repositories[key] = Repository(source, image.repository, self._operator)
        return self._repositories[key]


def _was_pulled(reply: Reply) -> bool:
    """Return whether this reply cost a GET at the registry, judged by Cache-Status (RFC 9211).

    `fwd=stale` means a HEAD, and `collapsed` means that another client's request was shared.
    """
    for status in headers.values(reply.headers, "cache-status"):
        cache, *parts = (part.strip() for part in status.split(";"))
        if cache == "docxy":
            return not {"hit", "fwd=stale", "collapsed"} & {*parts}
    return True


# Reading blobs to their ends, several at a time, so that the cache stores them.


class Fetching:
    """Reads blobs and discards them, while the cache stores them.

    `fetched` counts the bytes read from replies; `failed` has the reason for each failed blob.
    """

    def __init__(self, store: Store, tell: Callable[[int], None], operator: Operator) -> None:
        """Call `tell`, from one thread at a time, with each number of bytes that became available.

        That includes the blobs that were stored before.
        """
        self.fetched = 0
        self.failed: dict[Wanted, str] = {}
        self._store = store
        self._tell = tell
        self._exhausted: set[str] = set()
        self._telling = threading.Lock()
        self._operator = operator

    def fetch(self, wanted: Iterable[Wanted], at_once: int) -> None:
        """Read all these blobs with `at_once` threads; a failed blob does not stop the others.

        Raise click.Abort within seconds of Ctrl-C, without waiting for the layers to end.
        """
        with told(self._operator.leave), ThreadPoolExecutor(at_once) as threads:
            try:
                for done in [threads.submit(self._one, one) for one in wanted]:
                    done.result()
            except BaseException:
                self._operator.leave()
                raise
        if self._operator.gone():
            raise click.Abort

    def _one(self, wanted: Wanted) -> None:
        if self._operator.gone():
            return
        try:
            self._have(wanted)
        except (Exhausted, TooManyRequests) as error:
            with self._telling:
                self._exhausted.add(wanted.image.registry)
                self.failed[wanted] = str(error)
        except (NotRead, RegistryError, BodyBroken) as error:
            with self._telling:
                self.failed[wanted] = str(error)

    def _have(self, wanted: Wanted) -> None:
        digest = wanted.descriptor.digest
        if self._is_kept(wanted):
            content = self._store.open(wanted.image.registry, digest)  # counts as a use
            if content is not None:
                content.file.close()
            self._add(wanted.descriptor.size)
            return
        if self._store.has(wanted.image.registry, digest):
            # It is stored for another repository: the registry must confirm that this one has it.
            wanted.repository.blob(digest, "HEAD").close()
        if self._is_kept(wanted):
            self._add(wanted.descriptor.size)
            return
        if wanted.image.registry in self._exhausted:
            raise Exhausted
        self._read(wanted)

    def _read(self, wanted: Wanted) -> None:
        size = 0
        with closing(wanted.repository.blob(wanted.descriptor.digest)) as reply:
            for piece in reply.body:
                if self._operator.gone():
                    return
                self._add(len(piece), len(piece))
                size += len(piece)
        check_kept(self._store, wanted.image, wanted.descriptor.digest, size)

    def _is_kept(self, wanted: Wanted) -> bool:
        return is_kept(self._store, wanted.image, wanted.descriptor.digest)

    def _add(self, size: int, fetched: int = 0) -> None:
        with self._telling:
            self.fetched += fetched
            self._tell(size)
