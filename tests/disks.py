"""Where tests write: memory in place of the disk, and small file systems that root can mount."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

_MEMORY: Final = "/dev/shm"  # noqa: S108 - every file there is made by tempfile or pytest
_ROOM: Final = 4_000_000_000


def prefer_memory() -> None:
    """Let temporary files be in memory where it has 4 GB to spare and TMPDIR is not set.

    Databases and registries wait for the disk at each step (fsync). The tests of app/store and
    app/transfer take a third of the time without it.
    """
    with contextlib.suppress(OSError):
        memory = os.statvfs(_MEMORY)
        has_room = memory.f_bavail * memory.f_frsize >= _ROOM
        runs_programs = not memory.f_flag & os.ST_NOEXEC
        if has_room and runs_programs and os.access(_MEMORY, os.W_OK):
            tempfile.tempdir = os.environ.setdefault("TMPDIR", _MEMORY)


@contextlib.contextmanager
def mounted(folder: Path, size: int) -> Iterator[Path]:
    """Mount a file system of so many bytes, or skip the test."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder.mkdir()
    options = f"size={size},nr_inodes=0"
    command = ["mount", "-t", "tmpfs", "-o", options, "docxy-test", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
