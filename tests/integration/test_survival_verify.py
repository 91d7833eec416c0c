"""DOCXY_VERIFY_BLOBS: no blob that is not what its digest says looks whole."""

import hashlib

import pytest

from tests.hub.hub import Hub
from tests.integration.survival import ALPINE, Surviving, Survivor, blob_path, layer

pytestmark = pytest.mark.integration

HALF = 1_000_000


@pytest.fixture
def verifying(surviving: Surviving, bad_day: Hub) -> Survivor:
    """Return a Docxy that hashes."""
    del bad_day
    return surviving(DOCXY_VERIFY_BLOBS="true")


def pushed(hub: Hub, data: bytes) -> str:
    """Put a blob into the hub and return its digest."""
    hub.push_blob(ALPINE, data)
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("at", [0, HALF, -1], ids=["first", "middle", "last"])
def test_a_byte_that_flips(verifying: Survivor, at: int, *, chunked: bool) -> None:
    """The end never goes out, wherever the byte is."""
    blob = layer(verifying.hub)
    at %= len(blob.data)
    authorization = verifying.login()
    verifying.hub.fail(part="cdn", flip_byte=at, chunked=chunked)
    answer = verifying.get(blob_path(blob.digest), authorization)
    assert (answer.status, answer.complete) == (200, False)
    assert len(answer.body) < len(blob.data)
    assert f"Blob digest mismatch. digest={blob.digest}" in verifying.proxy.log


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_tiny_blobs(verifying: Survivor, size: int, *, chunked: bool) -> None:
    """One byte is the first and the last one."""
    data = bytes([size % 251, int(chunked)] * size)[:size]
    digest = pushed(verifying.hub, data)
    authorization = verifying.login()
    verifying.hub.fail(part="cdn", flip_byte=size - 1, chunked=chunked)
    wrong = verifying.get(blob_path(digest), authorization)
    assert not wrong.complete
    assert len(wrong.body) < size
    right = verifying.get(blob_path(digest), authorization)
    assert (right.complete, right.body) == (True, data)


def test_what_is_right(verifying: Survivor) -> None:
    """It passes whole, empty blobs and bodies that broke on the way too."""
    blob, empty = layer(verifying.hub), pushed(verifying.hub, b"")
    authorization = verifying.login()
    verifying.hub.fail(part="cdn", cut_after=HALF)
    answer = verifying.get(blob_path(blob.digest), authorization)
    assert (answer.complete, answer.body == blob.data) == (True, True)
    answer = verifying.get(blob_path(empty), authorization)
    assert (answer.status, answer.complete, answer.body) == (200, True, b"")


def test_a_splice_that_is_wrong(verifying: Survivor) -> None:
    """A byte that flips in the second half, behind the break, is found as well."""
    blob = layer(verifying.hub)
    authorization = verifying.login()
    verifying.hub.fail(part="cdn", cut_after=HALF)
    verifying.hub.fail(part="cdn", flip_byte=10)
    answer = verifying.get(blob_path(blob.digest), authorization)
    assert not answer.complete
    assert len(answer.body) < len(blob.data)


def test_a_range_is_no_whole(verifying: Survivor) -> None:
    """A part has no digest: it passes as it is."""
    blob = layer(verifying.hub)
    authorization = verifying.login()
    verifying.hub.fail(part="cdn", flip_byte=0)
    answer = verifying.get(blob_path(blob.digest), authorization, "Range: bytes=0-9")
    assert (answer.status, answer.complete) == (206, True)
    assert answer.body[1:] == blob.data[1:10]


def test_without_the_setting(survivor: Survivor) -> None:
    """Clients look for themselves; nothing is hashed here."""
    blob = layer(survivor.hub)
    authorization = survivor.login()
    survivor.hub.fail(part="cdn", flip_byte=0)
    answer = survivor.get(blob_path(blob.digest), authorization)
    assert (answer.complete, answer.body[1:] == blob.data[1:]) == (True, True)
    assert answer.body[0] == blob.data[0] ^ 0xFF
