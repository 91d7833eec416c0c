"""Who asks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Client:
    """An address; one that is not known may be anybody's, and counts for nobody's good.

    `user` has logged in at this proxy; "" is nobody.
    """

    address: str
    is_known: bool = True
    user: str = ""
