"""A blob whose end is held back until its digest is right."""

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.errors import UpstreamMisbehaved
from app.oci.headers import Headers
from app.oci.reference import Digest
from app.source import BodyBroken, Reply
from app.upstream import replies
from app.upstream.verified import VerifiedBody
from tests.unit.upstream.hurry import listening

CUT = "the registry broke off"


def digest_of(data: bytes, algorithm: str = "sha256") -> Digest:
    """Return the digest of a blob."""
    return Digest(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")


def closed() -> None:
    """Be closed."""


def read(body: VerifiedBody) -> tuple[bytes, bool]:
    """Return what came, and whether it ended well."""
    data = bytearray()
    try:
        for piece in body:
            assert piece, "an empty piece may be taken for the end"
            data += piece
    except BodyBroken:
        return bytes(data), False
    return bytes(data), True


pieces = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


@given(body=pieces, known=st.booleans(), algorithm=st.sampled_from(["sha256", "sha512"]))
def test_what_is_right_passes(body: list[bytes], algorithm: str, *, known: bool) -> None:
    """In whatever pieces it comes, with and without a length."""
    whole = b"".join(body)
    digest = digest_of(whole, algorithm)
    verified = VerifiedBody(body, digest, len(whole) if known else None, closed)
    assert read(verified) == (whole, True)


@given(body=pieces.filter(bool), known=st.booleans(), data=st.data())
def test_what_is_wrong_never_looks_whole(
    body: list[bytes], data: st.DataObject, *, known: bool
) -> None:
    """One byte anywhere: the last byte, at least, does not go out, and then the body breaks."""
    whole = b"".join(body)
    at = data.draw(st.integers(0, len(whole) - 1))
    right = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    verified = VerifiedBody(body, digest_of(right), len(whole) if known else None, closed)
    with listening() as lines:
        came, complete = read(verified)
    assert not complete
    assert whole.startswith(came)
    assert len(came) < len(whole)
    assert lines == [f"ERROR Blob digest mismatch. digest={digest_of(right)}"]


@pytest.mark.parametrize("length", [0, None])
def test_nothing_is_a_blob_too(length: int | None) -> None:
    """An empty one that should not be empty breaks as well."""
    assert read(VerifiedBody([], digest_of(b""), length, closed)) == (b"", True)
    assert read(VerifiedBody([], digest_of(b"x"), length, closed)) == (b"", False)


@pytest.mark.parametrize("length", [8, None])
def test_pieces_are_not_kept(length: int | None) -> None:
    """All but the end goes out as soon as it is there."""
    asked: list[bytes] = []

    def arriving() -> Iterator[bytes]:
        for piece in (b"abcd", b"efgh"):
            asked.append(piece)
            yield piece

    body = iter(VerifiedBody(arriving(), digest_of(b"abcdefgh"), length, closed))
    assert next(body).startswith(b"abc")
    assert asked == [b"abcd"]
    assert b"".join(body).endswith(b"efgh")


def test_what_breaks_below_breaks() -> None:
    """The reason stays what it was."""

    def breaking() -> Iterator[bytes]:
        yield b"half"
        raise BodyBroken(CUT)

    body = iter(VerifiedBody(breaking(), digest_of(b"halfhalf"), 8, closed))
    assert next(body) == b"half"
    with pytest.raises(BodyBroken, match=CUT):
        next(body)


@pytest.mark.parametrize(
    ("digest", "expected"),
    [
        ("sha256:" + "0" * 64, True),
        ("sha512:" + "0" * 128, True),
        ("sha384:" + "0" * 96, False),
        ("md5:" + "0" * 32, False),
        ("blake3:" + "0" * 64, False),
        ("shake_128:" + "0" * 32, False),
    ],
)
def test_verifies(digest: str, *, expected: bool) -> None:
    """Registered algorithms only: what others mean is not said."""
    assert Digest(digest).can_be_verified is expected


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (200, []),
        (206, [("Content-Range", "bytes 0-4/5")]),
        (206, [("Content-Range", " bytes 0-4/5 ")]),
    ],
)
def test_all_that_is_whole_is_verified(status: int, fields: Headers) -> None:
    """A part from the first byte to the last one too."""
    reply = Reply(status=status, headers=fields, length=5, body=[b"wrong"])
    with pytest.raises(BodyBroken):
        list(replies.with_verification(reply, digest_of(b"right")).chunks())


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (206, [("Content-Range", "bytes 0-4/6")]),
        (206, [("Content-Range", "bytes 1-5/6")]),
        (206, [("Content-Range", "bytes 0-4/*")]),
        (206, []),
        (404, []),
    ],
)
def test_what_is_no_whole_passes(status: int, fields: Headers) -> None:
    """Nobody knows the digest of a part."""
    reply = Reply(status=status, headers=fields, length=5, body=[b"wrong"])
    assert replies.with_verification(reply, digest_of(b"right")) is reply


@pytest.mark.parametrize(
    ("fields", "length"),
    [([], 0), ([("Content-Encoding", "gzip")], 5), ([("Content-Encoding", "br")], None)],
)
def test_what_is_wrong_before_it_begins(fields: Headers, length: int | None) -> None:
    """An empty body has no end to hold back, and an encoded one a digest that nobody knows."""
    closes: list[bool] = []
    reply = Reply(
        status=200, headers=fields, length=length, body=[b""], close=lambda: closes.append(True)
    )
    with pytest.raises(UpstreamMisbehaved):
        replies.with_verification(reply, digest_of(b"right"))
    assert closes == [True]


def test_an_empty_blob() -> None:
    """There is one, and it is well known."""
    reply = Reply(status=200, length=0, body=iter(()))
    assert list(replies.with_verification(reply, digest_of(b"")).chunks()) == []
