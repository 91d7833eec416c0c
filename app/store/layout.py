"""The layout of the store's directory, and opening files in it.

content/<registry>/<algorithm>/<first two hex digits>/<hex digits>
aside/<one for each process>/    files that are being written
index.sqlite                     the index
signs                            an empty file; processes signal each other by locks on it
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
from app.store.errors import build_error
from app.threads import get_unpatched

# Use the original os.close. gevent's waits for the event loop, and the store's threads have none:
# the descriptor would leak, and its lock would be held forever.

close: Final[Callable[[int], None]] = get_unpatched("os", "close")


@contextmanager
def open_descriptor(path: Path, flags: int) -> Iterator[int]:
    """Yield a descriptor of a file, and close it after the block; raise OSError.

    Child programs do not inherit the descriptor (O_CLOEXEC).
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        close(descriptor)


DIRECTORY_MODE: Final = 0o750
FILE_MODE: Final = 0o640
"""A web server in the same group may read content, to serve hits (X-Accel-Redirect)."""

PRIVATE_DIRECTORY_MODE: Final = 0o700
PRIVATE_FILE_MODE: Final = 0o600
"""Only our user may read incomplete content, and the index, which says who may read what."""

_REGISTRY: Final = re.compile(r"[a-z0-9][a-z0-9.:-]{0,254}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentFile:
    """A content file found on the disk.

    `size` is in bytes, `mtime_ns` in wall-clock nanoseconds.
    """

    registry: str
    digest: Digest
    path: Path
    size: int
    mtime_ns: int


class Layout:
    """The paths in the store's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.content = self.directory / "content"
        self.staging = self.directory / "aside"
        self.index = self.directory / "index.sqlite"
        self.flags = self.directory / "signs"

    def prepare(self) -> None:
        """Create the directories that do not exist yet; raise OSError."""
        for directory in (self.directory, self.content):
            make_directory(directory)
        make_directory(self.staging, PRIVATE_DIRECTORY_MODE)

    def path(self, registry: str, digest: Digest) -> Path:
        """Return the path that content has, or would have.

        Raise StoreError if the digest cannot be verified or the registry's name is not allowed.
        """
        return self.content / format_location(registry, digest)

    @contextmanager
    def lock(self, operation: int) -> Iterator[None]:
        """Wait for the directory's lock (LOCK_SH or LOCK_EX) and hold it; raise OSError.

        The lock is on the directory itself, so that it needs no lock file.
        """
        with open_descriptor(self.directory, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
            fcntl.flock(descriptor, operation)
            yield

    def walk(self) -> Iterator[ContentFile]:
        """Yield every content file, and ignore files whose names do not follow the layout.

        Raise OSError if a directory cannot be read.
        """
        for registry in list_directories(self.content):
            for algorithm in list_directories(self.content / registry):
                for beginning in list_directories(self.content / registry / algorithm):
                    yield from self._walk_files(registry, algorithm, beginning)

    def _walk_files(self, registry: str, algorithm: str, beginning: str) -> Iterator[ContentFile]:
        for entry in _scan(self.content / registry / algorithm / beginning):
            try:
                digest = Digest.parse(f"{algorithm}:{entry.name}")
                expected = format_location(registry, digest)
                state = entry.stat(follow_symlinks=False)
            except (DigestInvalid, OSError):  # StoreError is one; `format_location` raises it
                continue
            if entry.is_file(follow_symlinks=False) and entry.path.endswith(f"/{expected}"):
                yield ContentFile(
                    registry=registry,
                    digest=digest,
                    path=Path(entry.path),
                    size=state.st_size,
                    mtime_ns=state.st_mtime_ns,
                )


def format_location(registry: str, digest: Digest) -> str:
    """Return the path of content, relative to `content/`.

    Raise StoreError if the digest cannot be verified or the registry's name is not allowed.
    """
    algorithm, _, encoded = digest.partition(":")
    if not digest.can_be_verified or not _REGISTRY.fullmatch(registry):
        raise build_error(EINVAL, f"{registry}: {digest} cannot be kept")
    return f"{registry}/{algorithm}/{encoded[:2]}/{encoded}"


def make_directory(path: Path, mode: int = DIRECTORY_MODE) -> None:
    """Create a directory and its missing parents, and sync them to the disk; raise OSError.

    If the directory exists, do nothing.
    """
    try:
        path.mkdir(mode)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_directory(path.parent)
        make_directory(path, mode)
        return
    path.chmod(mode)  # mkdir's mode is subject to the umask
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Wait until the entries of a directory are on the disk; raise OSError."""
    with open_descriptor(path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        os.fsync(descriptor)


def list_directories(path: Path) -> list[str]:
    """Return the names of the subdirectories of a directory; [] if it does not exist.

    Raise OSError if it cannot be read.
    """
    return [entry.name for entry in _scan(path) if entry.is_dir(follow_symlinks=False)]


def _scan(path: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
