"""Who asks."""

from typing import NamedTuple


class Client(NamedTuple):
    """An address; one that is not known may be anybody's, and counts for nobody's good.

    `user` has logged in at this proxy; "" is nobody. A tuple, since each request makes some, and
    asks for what was decided of it.
    """

    address: str
    is_known: bool = True
    user: str = ""
