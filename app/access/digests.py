"""The manifests that a rule names by their digests."""

from dataclasses import dataclass
from typing import Final

from app.oci.reference import Digest

NO_DIGESTS: Final[frozenset[Digest]] = frozenset()


@dataclass(frozen=True, slots=True)
class Digests:
    """Some digests, or all."""

    named: frozenset[Digest] = NO_DIGESTS
    are_all: bool = False

    def have(self, digests: frozenset[Digest]) -> bool:
        """Tell whether a manifest that is known by these names is among them."""
        return bool(digests) and (self.are_all or not digests.isdisjoint(self.named))

    def are_told_by(self, digests: frozenset[Digest]) -> bool:
        """Tell whether these names are enough to say that a manifest is not among them.

        The same manifest has another name by each algorithm.
        """
        known = {digest.algorithm for digest in digests}
        return bool(known) and all(digest.algorithm in known for digest in self.named)
