"""What manifests were found to say, by their digests: content by digest never changes."""

from collections import OrderedDict
from typing import Final

from app.oci.image import Facts
from app.oci.reference import Digest

_MOST: Final = 4096


class KnownImages:
    """The latest ones; whoever asks for one has been given its manifest by the registry."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._facts: OrderedDict[Digest, Facts] = OrderedDict()

    def get(self, digest: Digest) -> Facts | None:
        """Return what is known of a manifest."""
        facts = self._facts.get(digest)
        if facts is not None:
            self._facts.move_to_end(digest)
        return facts

    def note(self, digest: Digest, facts: Facts) -> None:
        """Remember it; `digest` is that of bytes that were read here."""
        self._facts[digest] = facts
        while len(self._facts) > self._most:
            self._facts.popitem(last=False)
