"""Answers from cached content, wherever it is kept."""

from contextlib import closing
from typing import Any

import pytest

from app.cache.authz.gate import AuthorizedContent
from app.cache.blobs import serve
from app.cache.blobs.request import BlobRequest
from app.source import HandedOver, Reply, Request
from app.store.memory_blobs import MemoryBlobStore
from tests.unit.cache.world import NAME, request
from tests.unit.store.parts import REGISTRY, digest_of

DATA = bytes(range(256)) * 1000
DIGEST = digest_of(DATA)
UNUSED: Any = None


def answer(asked: Request, accel_location: str | None = None) -> Reply:
    """Answer from a store in memory, of which nginx can send nothing."""
    store = MemoryBlobStore()
    store.keep(DATA, REGISTRY, DIGEST, "")
    content = store.open(REGISTRY, DIGEST)
    assert content is not None
    asking = BlobRequest(
        inner=UNUSED,
        gate=UNUSED,
        caller=UNUSED,
        name=NAME,
        digest=DIGEST,
        request=asked,
        requested_at=0.0,
    )
    opened = AuthorizedContent.from_content(content, "", 60.0, 0.0)
    return serve.build_cached_reply(
        asking, opened, [("Cache-Status", "docxy; hit")], accel_location
    )


@pytest.mark.parametrize(
    ("asked", "status", "body"),
    [
        pytest.param(request(), 200, DATA, id="whole"),
        pytest.param(request(range="bytes=5-9"), 206, DATA[5:10], id="range"),
        pytest.param(request(range="bytes=-3"), 206, DATA[-3:], id="end"),
        pytest.param(request(range="bytes=256000-"), 416, b"", id="behind it"),
        pytest.param(request(if_none_match=f'"{DIGEST}"'), 304, b"", id="known"),
    ],
)
def test_it_is_a_stream(asked: Request, status: int, body: bytes) -> None:
    """What no kernel can send is read; nginx is told nothing of what it cannot find."""
    for location in (None, "/internal/"):
        reply = answer(asked, location)
        with closing(reply):
            assert reply.status == status
            assert reply.read() == body
            assert reply.header("cache-status") == "docxy; hit"
            assert not isinstance(reply.body, HandedOver)
            if status < 300:
                assert reply.length == len(body)


def test_a_head_has_no_body() -> None:
    """But the length of one."""
    reply = answer(request(method="HEAD"))
    with closing(reply):
        assert (reply.status, reply.length) == (200, len(DATA))
        assert reply.read() == b""
