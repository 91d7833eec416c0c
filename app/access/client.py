"""Who asks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Client:
    """An address; one that is not known may be anybody's, and counts for nobody's good."""

    address: str
    is_known: bool = True
