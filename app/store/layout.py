"""The store's directory: its paths, and the locks by which processes know of each other.

content/<registry>/<algorithm>/<first two hex digits>/<hex digits>
aside/<one for each process>/    files that are being written
index.sqlite                     the index
signs                            an empty file; processes signal each other by locks on it
"""

import fcntl
import hashlib
import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import EINVAL
from pathlib import Path
from typing import Final
from uuid import uuid4

from app.oci.errors import DigestInvalid
from app.oci.reference import Digest
from app.store.errors import build_error
from app.threads import get_unpatched

# Use the original os.close. gevent's waits for the event loop, and the store's threads have none:
# the descriptor would leak, and its lock would be held forever.

close: Final[Callable[[int], None]] = get_unpatched("os", "close")


@contextmanager
def open_descriptor(path: Path, flags: int) -> Iterator[int]:
    """Yield a descriptor of a file, and close it after the block; may raise OSError.

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
        """Create the directories that do not exist yet; may raise OSError."""
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
        """Wait for the directory's lock (LOCK_SH or LOCK_EX) and hold it; may raise OSError.

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
                for prefix in list_directories(self.content / registry / algorithm):
                    yield from self._walk_files(registry, algorithm, prefix)

    def _walk_files(self, registry: str, algorithm: str, prefix: str) -> Iterator[ContentFile]:
        for entry in _scan(self.content / registry / algorithm / prefix):
            try:
                digest = Digest.parse(f"{algorithm}:{entry.name}")
                location = format_location(registry, digest)
                status = entry.stat(follow_symlinks=False)
            except (DigestInvalid, OSError):  # StoreError is one; `format_location` raises it
                continue
            if entry.is_file(follow_symlinks=False) and entry.path.endswith(f"/{location}"):
                yield ContentFile(
                    registry=registry,
                    digest=digest,
                    path=Path(entry.path),
                    size=status.st_size,
                    mtime_ns=status.st_mtime_ns,
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
    """Create a directory and its missing parents, and sync them to the disk; may raise OSError.

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
    """Wait until the entries of a directory are on the disk; may raise OSError."""
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


def get_identity(path: Path) -> tuple[int, int] | None:
    """Return the device and inode number of a file, or None if it does not exist.

    They distinguish the file from a later one of the same name.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - for each use of the index, and twice as fast
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


# Staging: a folder for each process, for files that are still being written.
#
# A process holds a lock on its folder for as long as it lives. An unlocked folder was therefore
# left by a dead process.


@dataclass(frozen=True, slots=True)
class _Folder:
    path: Path
    identity: tuple[int, int]
    descriptor: int
    process: int


class Staging:
    """The staging folder of this process, and those that dead processes have left."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._folders: list[_Folder] = []

    def get_owner(self) -> str:
        """Return this process's name, which is the name of its folder; may raise OSError.

        A forked process gets a folder of its own, and a process whose folder was deleted gets a new
        one.
        """
        return self._get_folder().name

    def build_path(self) -> Path:
        """Return the path for a new file in this process's folder; may raise OSError.

        The file itself is not created.
        """
        return self._get_folder() / uuid4().hex

    def iterate_dead(self) -> Iterator[Path]:
        """Yield the folder of each dead process, and hold its lock meanwhile; may raise OSError."""
        for name in list_directories(self._layout.staging):
            path = self._layout.staging / name
            descriptor = _try_lock(path)
            if descriptor is not None:
                try:
                    yield path
                finally:
                    close(descriptor)

    def close(self) -> None:
        """Release this process's folders; other processes then take them for a dead process's."""
        for folder in self._folders:
            close(folder.descriptor)
        self._folders.clear()

    def _get_folder(self) -> Path:
        for folder in reversed(self._folders):
            if folder.process != os.getpid():
                self.close()  # closes our copies; the parent keeps its lock
                break
            if get_identity(folder.path) == folder.identity:
                return folder.path
        return self._create_folder()

    def _create_folder(self) -> Path:
        while True:
            path = self._layout.staging / uuid4().hex
            make_directory(path, PRIVATE_DIRECTORY_MODE)
            descriptor = _try_lock(path)
            identity = get_identity(path)
            if descriptor is not None and identity is not None:
                # Two threads may both get here at once; then both folders are in use.
                self._folders.append(_Folder(path, identity, descriptor, os.getpid()))
                return path


def _try_lock(path: Path) -> int | None:
    """Lock a folder and return the descriptor; None if it is locked or does not exist any more."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        state = os.fstat(descriptor)
        if get_identity(path) == (state.st_dev, state.st_ino):
            return descriptor
    close(descriptor)
    return None


# Flags that all processes on a machine see, even when the disk cannot be written.

_LOCK_FORMAT: Final = "hhqqi4x"
"""struct flock: type, whence, start, length, process (fcntl(2))."""

_BITS: Final = 62

_ANY_LOCK: Final = struct.pack(_LOCK_FORMAT, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
"""Every byte; packed once, since each request asks for it."""


class Flags:
    """Named flags: each one is a lock on a byte of a file, and its name chooses the byte.

    A lock takes no space on the disk and needs no write access, and the kernel drops it when the
    process that holds it ends. "Open file description locks" (fcntl(2)) can be tested for without
    taking them. On a system without such locks, no process sees another one's flags.

    If the system refuses a lock, the flag is not shown, and nothing is raised.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptors: dict[int, int] = {}

    def set_flag(self, text: str) -> None:
        """Show a flag to the other processes."""
        self._lock(fcntl.F_RDLCK, text)

    def clear_flag(self, text: str) -> None:
        """Stop showing a flag. Other processes may still show the same one."""
        self._lock(fcntl.F_UNLCK, text)

    def is_set_elsewhere(self, text: str) -> bool:
        """Return whether another process shows a flag."""
        return self._is_locked_elsewhere(_pack_lock(fcntl.F_WRLCK, text))

    def is_any_set_elsewhere(self) -> bool:
        """Return whether another process shows any flag; this costs one system call."""
        return self._is_locked_elsewhere(_ANY_LOCK)

    def close(self) -> None:
        """Stop showing all of this process's flags."""
        descriptor = self._descriptors.pop(os.getpid(), None)
        if descriptor is not None:
            close(descriptor)

    def _is_locked_elsewhere(self, lock: bytes) -> bool:
        with suppress(OSError):
            result = fcntl.fcntl(self._open_descriptor(), fcntl.F_OFD_GETLK, lock)
            kind: int = struct.unpack_from("h", result)[0]
            return kind != fcntl.F_UNLCK
        return False

    def _lock(self, kind: int, name: str) -> None:
        with suppress(OSError):
            fcntl.fcntl(self._open_descriptor(), fcntl.F_OFD_SETLK, _pack_lock(kind, name))

    def _open_descriptor(self) -> int:
        """Return this process's descriptor of the file; may raise OSError.

        An inherited descriptor would share its locks with the parent process. All threads use the
        same descriptor, since a lock held through another one looks like another process's.
        """
        process = os.getpid()
        descriptor = self._descriptors.get(process)
        if descriptor is None:
            new_descriptor = _open(self._path)
            descriptor = self._descriptors.setdefault(process, new_descriptor)
            if descriptor != new_descriptor:
                close(new_descriptor)
        return descriptor


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _pack_lock(kind: int, name: str) -> bytes:
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return struct.pack(_LOCK_FORMAT, kind, os.SEEK_SET, number >> (64 - _BITS), 1, 0)
