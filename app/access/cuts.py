"""Networks in parts of which no list and no rule names a part again."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

from app.access.networks import Address, Network


def parts(network: Network, cuts: Iterable[Network]) -> Iterator[tuple[Address, Address]]:
    """Give the first and last address of each part, in order; a cut has all of a part or none."""
    kind = type(network.network_address)
    first, last = int(network.network_address), int(network.broadcast_address)
    edges = {first, last + 1}
    for cut in cuts:
        if cut.version == network.version:
            edges |= {int(cut.network_address), int(cut.broadcast_address) + 1}
    inside = sorted(edge for edge in edges if first <= edge <= last + 1)
    for begin, end in pairwise(inside):
        yield kind(begin), kind(end - 1)
