"""What has arrived of blobs that are being fetched, as their chunk maps say."""

import os
from dataclasses import replace
from pathlib import Path

from app.transfer.chunk_map import ChunkMap, read_head
from app.transfer.shared_file import SharedFile


def count_arrived(unfinished: Path) -> int:
    """Return how many bytes of the blobs below a directory are in their files.

    The size of such a file says nothing: it is that of the whole blob from the start.
    """
    return sum(map(_count_arrived, unfinished.rglob("*.map")))


def _count_arrived(path: Path) -> int:
    try:
        file = SharedFile.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return 0
    try:
        head = read_head(file)
        return 0 if head is None else ChunkMap(file, head.size).count_arrived()
    finally:
        file.close()


def reboot(unfinished: Path) -> None:
    """Let what has arrived be of an earlier boot."""
    for path in unfinished.rglob("*.map"):
        file = SharedFile.open(path, os.O_RDWR)
        try:
            head = read_head(file)
            assert head is not None
            chunk_map = ChunkMap(file, head.size)
            entries = chunk_map.read(0, chunk_map.chunks.count)
            chunk_map.write(0, [replace(entry, boot=entry.boot ^ 1) for entry in entries])
        finally:
            file.close()
