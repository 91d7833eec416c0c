"""Several ranges of a blob in one answer, as podman asks for parts of `zstd:chunked` layers."""

import email
import email.policy
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cache.blobs.ranges import MultipartBody, SelectedRanges, merge_near, select_ranges
from app.oci.reference import Digest
from app.source import Request
from app.store.memory_blobs import MemoryBlobBody

DATA = bytes(range(256)) * 40
DIGEST = Digest("sha256:abc")


def select(header: str, method: str = "GET") -> SelectedRanges:
    """Return what a Range header selects."""
    request = Request(method=method, headers=[("Range", header)])
    return select_ranges(request, DIGEST, len(DATA))


@pytest.mark.parametrize(
    ("header", "status", "spans"),
    [
        ("bytes=0-9", 206, [(0, 10)]),
        ("bytes=0-9,20-29", 206, [(0, 10), (20, 30)]),
        ("bytes=20-29, 0-9", 206, [(20, 30), (0, 10)]),
        ("bytes=0-9,-10", 206, [(0, 10), (len(DATA) - 10, len(DATA))]),
        pytest.param("bytes=0-9,99999-", 206, [(0, 10)], id="one of them is past the end"),
        pytest.param("bytes=99999-,-0", 416, [], id="all are past the end"),
        pytest.param("bytes=0-9,5-14", 200, [(0, len(DATA))], id="overlapping"),
        pytest.param("bytes=0-9,x", 200, [(0, len(DATA))], id="malformed"),
        pytest.param(f"bytes={'0-0,' * 1025}", 200, [(0, len(DATA))], id="too many"),
    ],
)
def test_selection(header: str, status: int, spans: Sequence[tuple[int, int]]) -> None:
    """Those that exist count, in the order of the request."""
    selected = select(header)
    assert (selected.status, list(selected.spans)) == (status, spans)


def test_a_head_selects_the_whole() -> None:
    """Ranges are defined for GET alone."""
    assert select("bytes=0-9,20-29", "HEAD").is_whole


@given(
    st.lists(st.integers(0, len(DATA) - 1), min_size=4, max_size=20, unique=True),
    st.randoms(use_true_random=False),
)
def test_several_parts(positions: list[int], chance: st.DataObject) -> None:
    """Each is there with its place, and the length that was announced is that of the body."""
    ordered = sorted(positions)
    spans = list(zip(ordered[::2], ordered[1::2], strict=False))
    chance.shuffle(spans)  # type: ignore[attr-defined] # a Random
    selected = select("bytes=" + ",".join(f"{start}-{end - 1}" for start, end in spans))
    assert list(selected.spans) == spans
    body = b"".join(MultipartBody(selected, MemoryBlobBody(DATA, 0, 0)))
    assert len(body) == selected.length
    (content_type,) = [value for name, value in selected.headers if name == "Content-Type"]
    assert not [name for name, _ in selected.headers if name == "Content-Range"]
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    parts = list(message.iter_parts())
    assert [part["Content-Range"] for part in parts] == [
        f"bytes {start}-{end - 1}/{len(DATA)}" for start, end in spans
    ]
    assert [part.get_payload(decode=True) for part in parts] == [
        DATA[start:end] for start, end in spans
    ]


@pytest.mark.parametrize(
    ("spans", "merged"),
    [
        ([], []),
        ([(5, 6), (0, 1)], [(0, 6)]),
        ([(0, 1), (10, 11)], [(0, 11)]),
        ([(0, 1), (11, 12)], [(0, 1), (11, 12)]),
        ([(0, 20), (5, 6)], [(0, 20)]),
    ],
)
def test_near_parts_are_fetched_together(
    spans: list[tuple[int, int]], merged: list[tuple[int, int]]
) -> None:
    """A request costs more than the bytes between them."""
    assert merge_near(spans, 10) == merged
