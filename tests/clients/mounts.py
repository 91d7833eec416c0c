"""The mounts of container programs: the one they need, and those they leave behind."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.clients.process import run

# /proc is a mount in every chroot, and so can be kept from telling other namespaces.
_ENTER = (
    'mount --make-private /proc && mount --rbind --make-rprivate / /proc && exec chroot /proc "$@"'
)


def with_mounted_root(command: Sequence[str | Path]) -> list[str | Path]:
    """Return a command that runs where / is a mount, which unpacking a layer needs.

    It is one everywhere but in a chroot. There the program gets a mount namespace of its own; it
    keeps its process id, its files and its sockets.
    """
    if Path("/") in _mount_points() or os.geteuid() != 0:
        return [*command]
    unshare = ["unshare", "--mount", "--propagation", "unchanged"]
    return [*unshare, "sh", "-c", _ENTER, "sh", *command]


@contextlib.contextmanager
def unmount_below(folder: Path) -> Iterator[None]:
    """Unmount whatever is mounted below a folder when the block ends, so that it can be removed."""
    try:
        yield
    finally:
        left = [point for point in _mount_points() if folder.resolve() in point.parents]
        for point in reversed(left):
            run(["umount", "--lazy", point], env=dict(os.environ))


def _mount_points() -> list[Path]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [Path(line.split()[4]) for line in lines]
