"""Blobs that are being fetched: where they lie, and how they move to the store."""

import shutil
from functools import partial
from pathlib import Path

from app.cache.disk import DiskExecutor
from app.cache.policy import CachePolicy
from app.events import NOBODY, Observer
from app.store.blobs import ContentInfo
from app.transfer import files
from app.transfer.shared_blob import CompleteBlob, TransferOptions
from app.transfer.transfers import Transfers


def build_transfers(
    disk: DiskExecutor,
    unfinished: Path,
    registry: str,
    policy: CachePolicy,
    observer: Observer = NOBODY,
) -> Transfers:
    """Return the transfers of one registry; `unfinished` holds a directory for each registry."""
    adopt, make_room = partial(_adopt, disk, registry), partial(_make_room, disk)
    options = TransferOptions(
        adopt=adopt,
        make_room=make_room,
        is_cached=lambda digest: disk.blobs.stat(registry, digest) is not None,
        unread_limits=policy.unread_limits,
        connections=policy.fetch_connections,
        patience=policy.resume_budget,
        observer=observer,
        remove_other_idle=partial(_remove_idle, unfinished),
        report_failure=disk.count_failure,
    )
    return Transfers(unfinished / registry, options)


def remove_spools(unfinished: Path) -> None:
    """Remove the unfinished downloads of version 0.1, which cannot be continued."""
    shutil.rmtree(unfinished.with_name("spools"), ignore_errors=True)


def measure_unfinished(unfinished: Path) -> tuple[int, int]:
    """Return the number of unfinished blobs, and their size in bytes; waits for the disk.

    Both running and abandoned fetches count.
    """
    measures = [files.measure(path) for path in _list_registries(unfinished)]
    return sum(number for number, _ in measures), sum(size for _, size in measures)


def drop_unfinished(unfinished: Path) -> int:
    """Remove abandoned fetches, and return their size in bytes; waits for the disk."""
    return _remove_idle(unfinished, 0)


def _remove_idle(unfinished: Path, idle: float) -> int:
    return sum(files.remove_idle(path, idle) for path in _list_registries(unfinished))


def _list_registries(unfinished: Path) -> list[Path]:
    # Includes registries that are no longer configured.
    return sorted(path for path in unfinished.glob("*") if path.is_dir())


def _adopt(disk: DiskExecutor, registry: str, blob: CompleteBlob) -> None:
    # No media type: anyone who could choose one for a blob could turn it into a manifest.
    content = ContentInfo(registry=registry, digest=blob.digest, size=blob.size, media_type="")
    disk.move(disk.blobs.adopt, blob.path, content)


def _make_room(disk: DiskExecutor, size: int) -> None:
    disk.move_or_raise(disk.blobs.make_room, size)
