"""What manifests were found to say."""

from app.access.known_images import KnownImages
from app.oci.image import INDEX, Facts
from app.oci.reference import Digest

ONE, TWO, THREE = (Digest(f"sha256:{number:064}") for number in range(3))


def test_it_is_bounded() -> None:
    """What was asked for longest ago goes first."""
    known = KnownImages(2)
    known.note(ONE, INDEX)
    known.note(TWO, Facts())
    assert known.get(ONE) == INDEX
    known.note(THREE, Facts())
    assert [known.get(one) for one in (ONE, TWO, THREE)] == [INDEX, None, Facts()]
