"""What belongs to an image alone, for any repository."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from app.cli.remove import find_unshared
from app.oci.reference import Digest

DIGESTS = [
    Digest.parse(f"sha256:{hashlib.sha256(bytes([number])).hexdigest()}") for number in range(9)
]
some = st.frozensets(st.sampled_from(DIGESTS), max_size=4)


@given(roots=some, named=st.dictionaries(st.sampled_from(DIGESTS), some))
def test_what_goes_is_needed_by_nothing_that_stays(
    roots: frozenset[Digest], named: dict[Digest, frozenset[Digest]]
) -> None:
    """However manifests name each other; only what was asked for may leave a hole."""
    gone = find_unshared(roots, named)
    assert roots <= gone
    for manifest in named.keys() - gone:
        assert not named[manifest] & (gone - roots)


@given(named=st.dictionaries(st.sampled_from(DIGESTS), some))
def test_nothing_asked_nothing_gone(named: dict[Digest, frozenset[Digest]]) -> None:
    """No root, no removal."""
    assert find_unshared(set(), named) == set()
