"""Docker Hub's pull limit: a number of manifest GETs for each account, and one for strangers."""

import threading
import uuid

from tests.hub.accounts import ANONYMOUS

WINDOW = 21600
SOURCE = "203.0.113.7"
_NAMESPACE = uuid.UUID("9f6d0c8e-6f0e-4a57-9a55-5a3a52f0c0de")


def source_of(account: str) -> str:
    """Return whose pulls are counted: the address of strangers, and an id of anybody else."""
    return SOURCE if account == ANONYMOUS else str(uuid.uuid5(_NAMESPACE, account))


class Budget:
    """What each account may still pull. A limit of None is none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.limit: int | None = 100
        self.user_limit: int | None = 200
        self._spent: dict[str, int] = {}
        self._pulls = 0

    def limit_of(self, account: str) -> int | None:
        """Return an account's limit."""
        return self.limit if account == ANONYMOUS else self.user_limit

    def remaining(self, account: str) -> int:
        """Return how many pulls an account has left."""
        with self._lock:
            return max(0, (self.limit_of(account) or 0) - self._spent.get(account, 0))

    def set_remaining(self, account: str, remaining: int) -> None:
        """Let an account have so many pulls left."""
        with self._lock:
            self._spent[account] = (self.limit_of(account) or 0) - remaining

    def spend(self, account: str) -> bool:
        """Spend one pull, unless nothing is left."""
        limit = self.limit_of(account)
        with self._lock:
            if limit is not None and self._spent.get(account, 0) >= limit:
                return False
            self._spent[account] = self._spent.get(account, 0) + 1
            self._pulls += 1
            return True

    @property
    def pulls(self) -> int:
        """The pulls that were spent, of all accounts."""
        with self._lock:
            return self._pulls

    def restore(self) -> None:
        """Begin a new window."""
        with self._lock:
            self._spent.clear()
            self._pulls = 0

    def headers(self, account: str) -> dict[str, str]:
        """Return what a manifest's answer tells about it."""
        limit = self.limit_of(account)
        if limit is None:
            return {}
        return {
            "ratelimit-limit": f"{limit};w={WINDOW}",
            "ratelimit-remaining": f"{self.remaining(account)};w={WINDOW}",
            "docker-ratelimit-source": source_of(account),
        }
