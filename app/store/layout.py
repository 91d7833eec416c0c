"""Where everything lies in the store's directory.

content/<registry>/<algorithm>/<first two of the hex>/<hex>
aside/<one for each process>/    what is being written
index.sqlite                     what is known of it
signs                            empty; what processes tell each other by locks
"""

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EINVAL
from pathlib import Path
from typing import Final

from app.oci.errors import DigestInvalid
from app.oci.reference import Digest
from app.store.errors import refused
from app.threads import original

# File descriptors that are closed at once.
#
# gevent's `os.close` waits for the event loop, which the threads that the store is used on do not
# have: a lock would be held, and a descriptor lost, for ever.

close: Final[Callable[[int], None]] = original("os", "close")


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """Open a file, which no other program inherits, and close it in the end; raise OSError."""
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        close(descriptor)


DIRECTORY_MODE: Final = 0o750
FILE_MODE: Final = 0o640
"""A web server in the same group may read: it serves hits (X-Accel-Redirect)."""

PRIVATE_DIRECTORY_MODE: Final = 0o700
PRIVATE_FILE_MODE: Final = 0o600
"""Nobody else may: what is no whole content, and who may read what."""

_REGISTRY: Final = re.compile(r"[a-z0-9][a-z0-9.:-]{0,254}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file of content, as it lies there; `changed` is in nanoseconds of the wall clock."""

    registry: str
    digest: Digest
    path: Path
    size: int
    changed: int


class Places:
    """The paths below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.content = self.directory / "content"
        self.aside = self.directory / "aside"
        self.index = self.directory / "index.sqlite"
        self.signs = self.directory / "signs"

    def prepare(self) -> None:
        """Make the directories; raise OSError."""
        for directory in (self.directory, self.content):
            make_directory(directory)
        make_directory(self.aside, PRIVATE_DIRECTORY_MODE)

    def path(self, registry: str, digest: Digest) -> Path:
        """Return where content lies, or would; raise StoreError if it never can."""
        return self.content / location(registry, digest)

    @contextmanager
    def locked(self, operation: int) -> Iterator[None]:
        """Hold the directory's lock, LOCK_SH or LOCK_EX, after waiting for it; raise OSError.

        The directory itself is locked, so that no file has to be kept for it.
        """
        with opened(self.directory, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
            fcntl.flock(descriptor, operation)
            yield

    def walk(self) -> Iterator[Found]:
        """Yield every file of content; what has no such name is not ours."""
        for registry in directories(self.content):
            for algorithm in directories(self.content / registry):
                for beginning in directories(self.content / registry / algorithm):
                    yield from self._files(registry, algorithm, beginning)

    def _files(self, registry: str, algorithm: str, beginning: str) -> Iterator[Found]:
        for entry in _entries(self.content / registry / algorithm / beginning):
            try:
                digest = Digest.parse(f"{algorithm}:{entry.name}")
                expected = location(registry, digest)
                state = entry.stat(follow_symlinks=False)
            except (DigestInvalid, OSError):  # a StoreError for what could never be kept here
                continue
            if entry.is_file(follow_symlinks=False) and entry.path.endswith(f"/{expected}"):
                yield Found(
                    registry=registry,
                    digest=digest,
                    path=Path(entry.path),
                    size=state.st_size,
                    changed=state.st_mtime_ns,
                )


def location(registry: str, digest: Digest) -> str:
    """Return where content lies below `content/`; raise StoreError if it never can."""
    algorithm, _, encoded = digest.partition(":")
    if not digest.can_be_verified or not _REGISTRY.fullmatch(registry):
        raise refused(EINVAL, f"{registry}: {digest} cannot be kept")
    return f"{registry}/{algorithm}/{encoded[:2]}/{encoded}"


def make_directory(path: Path, mode: int = DIRECTORY_MODE) -> None:
    """Make a directory, and what lacks above it, such that they stay; raise OSError."""
    try:
        path.mkdir(mode)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_directory(path.parent)
        make_directory(path, mode)
        return
    path.chmod(mode)  # whatever the umask
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk; raise OSError."""
    with opened(path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        os.fsync(descriptor)


def directories(path: Path) -> list[str]:
    """Return the names of the directories in one; none where there is none."""
    return [entry.name for entry in _entries(path) if entry.is_dir(follow_symlinks=False)]


def _entries(path: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
