"""Spools beside a store: what was fetched whole becomes an entry."""

from functools import partial
from pathlib import Path

from app.cache.disk import Disk
from app.spools import unfinished
from app.spools.fetches import Fetches
from app.spools.terms import Terms, UnreadLimits, Whole
from app.store.entries import Described


def fetches_of(disk: Disk, directory: Path, registry: str, unread: UnreadLimits) -> Fetches:
    """Return the fetches of one registry, whose spools lie below the cache's directory."""
    below = directory / "spools" / registry
    keep, room = partial(_keep, disk, registry), partial(_room, disk)
    is_kept = partial(disk.store.has, registry)
    terms = Terms(
        keep=keep,
        room=room,
        is_kept=is_kept,
        unread=unread,
        tidy_others=partial(_tidy, directory),
        failed=disk.count,
    )
    return Fetches(below, terms)


def held(directory: Path) -> tuple[int, int]:
    """Return how many blobs are being fetched, or were begun, and how many bytes that is.

    Waits for the disk.
    """
    found = [unfinished.held(below) for below in _spools(directory)]
    return sum(number for number, _ in found), sum(size for _, size in found)


def drop_unfinished(directory: Path) -> int:
    """Remove what nobody is fetching, and return how many bytes that was; waits for the disk."""
    return _tidy(directory, 0)


def _tidy(directory: Path, idle: float) -> int:
    return sum(unfinished.tidy(below, idle) for below in _spools(directory))


def _spools(directory: Path) -> list[Path]:
    # Also of registries that are not configured any more.
    return sorted(path for path in (directory / "spools").glob("*") if path.is_dir())


def _keep(disk: Disk, registry: str, whole: Whole) -> None:
    # Without a media type: who could choose one for a blob would have a manifest.
    content = Described(registry=registry, digest=whole.digest, size=whole.size, media_type="")
    disk.move(disk.store.take, whole.path, content)


def _room(disk: Disk, size: int) -> None:
    disk.demand(disk.store.make_room, size)
