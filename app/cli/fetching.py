"""Blobs are read to their ends, several at a time, so that they are kept."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import click

from app.cli import interrupts
from app.cli.keeping import check_kept, is_kept
from app.cli.reading import Exhausted, NotRead, Operator
from app.cli.warming import Wanted
from app.content import BodyBroken
from app.oci.errors import RegistryError, TooManyRequests
from app.store.store import Store


class Fetching:
    """Reads what is wanted and throws it away: the cache keeps it meanwhile."""

    def __init__(self, store: Store, tell: Callable[[int], None], operator: Operator) -> None:
        """`tell` hears, from one thread at a time, of so many bytes more that are there."""
        self.fetched = 0
        self.failed: dict[Wanted, str] = {}
        self._store = store
        self._tell = tell
        self._exhausted: set[str] = set()
        self._telling = threading.Lock()
        self._operator = operator

    def fetch(self, wanted: Iterable[Wanted], at_once: int) -> None:
        """Read all of it; what fails stops nothing else.

        Raise click.Abort after Ctrl-C, within seconds and not with the last layer.
        """
        with interrupts.told(self._operator.leave), ThreadPoolExecutor(at_once) as threads:
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
            content = self._store.open(wanted.image.registry, digest)  # it is used now
            if content is not None:
                content.file.close()
            self._add(wanted.descriptor.size)
            return
        if self._store.has(wanted.image.registry, digest):
            # Kept for another repository: the registry has to say that this one holds it too.
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
