"""The networks whose clients may ask this proxy, and those whose may not."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from app.access.networks import Network, Networks, address_of

_REMEMBERED: Final = 1024


class Lists:
    """An allow list and a deny list, as settings write them; what is unset is None.

    Deny wins; where there is an allow list, only who is in it may.
    """

    def __init__(self, *, allow: str | None = None, deny: str | None = None) -> None:
        self._allow = None if allow is None else Networks(allow)
        self._deny = Networks(deny or "")
        self.are_open = allow is None and deny is None
        self._admits = lru_cache(_REMEMBERED)(self._judge)

    def admit(self, address: str) -> bool:
        """Tell whether an address may ask; what is no address may only where no list is set."""
        return self.are_open or self._admits(address)

    @property
    def named(self) -> Iterator[Network]:
        """The networks that either names."""
        for networks in (self._allow, self._deny):
            yield from networks.named if networks else ()

    def _judge(self, address: str) -> bool:
        if address_of(address) is None or address in self._deny:
            return False
        return self._allow is None or address in self._allow
