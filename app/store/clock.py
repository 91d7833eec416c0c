"""The store's clock: neither a reboot nor setting the wall clock can prolong a deadline."""

import time
from pathlib import Path
from typing import Final, Protocol
from uuid import uuid4

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """A monotonic clock that starts anew at each boot, and the identity of that boot."""

    @property
    def boot(self) -> str:
        """A string that identifies this boot of the machine."""

    def now(self) -> float:
        """Return the seconds since that boot, including time that the machine was suspended."""


class BootClock:
    """The machine's clock: CLOCK_BOOTTIME and the kernel's boot id (random(4))."""

    def __init__(self) -> None:
        try:
            self.boot = _BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            # Without a boot id, this process shares no timed records with others, and none of its
            # own outlive it.
            self.boot = str(uuid4())

    def now(self) -> float:
        """Return the seconds since the machine booted, including time that it was suspended."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)
