import base64
import gzip
import io
import tarfile

import pytest

from tests.hub.accounts import Accounts, Scope, User
from tests.hub.content import default_content
from tests.hub.faults import Cut, Fault, Stall
from tests.hub.images import digest_of

pytestmark = pytest.mark.rig


def test_images_are_valid() -> None:
    """Descriptors, digests and diff_ids say what is there."""
    images = [push.image for push in default_content()]
    children = [child for image in images for child in image.platforms.values()]
    for image in images:
        for descriptor in image.document.get("manifests", []):
            assert descriptor["digest"] in {child.digest for child in children}
    for image in [*children, *images]:
        for blob, descriptor in zip(image.layers, image.document.get("layers", []), strict=True):
            assert descriptor == blob.descriptor()
            assert (blob.digest, blob.size) == (digest_of(blob.data), len(blob.data))
            if "tar" in blob.media_type:
                assert digest_of(gzip.decompress(blob.data)) == blob.diff_id


def test_layers_hold_files() -> None:
    """The first layer greets."""
    image = default_content()[0].image.platforms["linux/arm64"]
    with tarfile.open(fileobj=io.BytesIO(image.layers[0].data)) as archive:
        file = archive.extractfile("hello.txt")
        assert file is not None
        assert file.read() == b"hello from alpine\n"


def test_images_are_the_same_every_time() -> None:
    """A new process makes the same bytes."""
    before = [push.image.digest for push in default_content()]
    default_content.cache_clear()
    assert [push.image.digest for push in default_content()] == before


def test_seeds() -> None:
    """Another seed has the same names and tags, and no manifest nor layer of the first."""
    first, second = default_content(), default_content("2")
    assert [(push.name, push.tags) for push in first] == [(push.name, push.tags) for push in second]
    digests = [
        {image.digest for push in content for image in (push.image, *push.image.platforms.values())}
        | {blob.digest for push in content for blob in push.image.all_blobs.values()}
        for content in (first, second)
    ]
    assert digests[0] & digests[1] == {digest_of(b"{}")}  # the config of artifacts


@pytest.mark.parametrize(
    ("shown", "owner"),
    [
        (b"Basic alice:pw:\xc3\xa4", "alice"),
        (b"bAsIc alice:pw:\xc3\xa4", "alice"),
        (b"Basic alice:pw", None),
        (b"Basic alice", None),
        (b"Basic carol:pw", None),
        (b"Basic alice:\xff", None),
        (b"Bearer alice:pw:\xc3\xa4", None),
    ],
)
def test_basic(shown: bytes, owner: str | None) -> None:
    """A password may hold colons and anything else."""
    accounts = Accounts({"alice": User("pw:\N{LATIN SMALL LETTER A WITH DIAERESIS}")})
    kind, _, secret = shown.partition(b" ")
    header = f"{kind.decode()} {base64.b64encode(secret).decode()}"
    assert accounts.owner_of_basic(header) == owner


@pytest.mark.parametrize("header", [None, "", "Basic", "Basic !", "Basic \xe4", "Basic YQ"])
def test_basic_that_is_none(header: str | None) -> None:
    """What cannot be read is nobody's."""
    assert Accounts({"a": User("")}).owner_of_basic(header) is None


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("repository:a/b:pull", Scope("repository", "a/b", ("pull",))),
        ("repository:host:5000/a:pull,push", Scope("repository", "host:5000/a", ("pull", "push"))),
        ("repository(plugin):a:pull", Scope("repository", "a", ("pull",))),
        ("registry:catalog:*", Scope("registry", "catalog", ("*",))),
        ("repository:a:", Scope("repository", "a", ())),
        ("nonsense", None),
        ("repository:a", None),
    ],
)
def test_scope(text: str, scope: Scope | None) -> None:
    """The name may hold colons, the type a class."""
    assert Scope.from_text(text) == scope


@pytest.mark.parametrize(
    ("fault", "body", "ending"),
    [
        (Fault(), b"abcdef", None),
        (Fault(cut_after=0), b"", Cut),
        (Fault(cut_after=4), b"abcd", Cut),
        (Fault(cut_after=6), b"abcdef", Cut),
        (Fault(cut_after=7), b"abcdef", None),
        (Fault(stall_after=2, cut_after=4), b"ab", Stall),
        (Fault(flip_byte=3), b"abc" + bytes([ord("d") ^ 255]) + b"ef", None),
        (Fault(flip_byte=6), b"abcdef", None),
    ],
)
def test_pieces(fault: Fault, body: bytes, ending: type[Exception] | None) -> None:
    """The body goes as far as the fault lets it, whatever the pieces are."""
    for pieces in ([b"abcdef"], [b"ab", b"cd", b"ef"], [b"a", b"bcde", b"f"]):
        sent = b""
        end = None
        try:
            for piece in fault.pieces(pieces):
                sent += piece
        except (Cut, Stall) as raised:
            end = type(raised)
        assert (sent, end) == (body, ending)
