"""Time that neither a reboot nor a set clock can lengthen."""

import time
from pathlib import Path
from typing import Final, Protocol
from uuid import uuid4

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """A clock that starts at each boot, and the name of that boot."""

    @property
    def boot(self) -> str:
        """What tells this boot of the machine from every other one."""

    def now(self) -> float:
        """Return the seconds since then; they count while the machine sleeps."""


class BootClock:
    """The machine's: CLOCK_BOOTTIME and the kernel's boot id (random(4))."""

    def __init__(self) -> None:
        try:
            self.boot = _BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            # Nothing is shared then, and nothing lives longer than this process.
            self.boot = str(uuid4())

    def now(self) -> float:
        """Return the seconds since the machine was started."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)
