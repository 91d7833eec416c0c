"""A question that leads back to this proxy: by a redirect, or by the table of registries."""

import time

import pytest

from tests.wire.upstream import answering
from tests.wire.wires import BLOB, MANIFEST, Wire, location, manifest

LOST = f"{BLOB[:-1]}4"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", [MANIFEST, BLOB, "/auth/token?scope=repository:a/b:pull"])
def test_a_redirect_to_this_proxy_ends(wire: Wire, path: str, method: str) -> None:
    """It comes by here a few times, and not until all connections of the proxy are taken."""
    if "token" in path and method == "HEAD":
        path = manifest("other")
    wire.play(answering(lambda _: location(f"{wire.proxy.url}{path}")))
    began = time.monotonic()
    with wire.client(timeout=10) as client:
        answer = client.get(path, method=method)
    assert answer.status == 508
    assert answer.complete
    assert len(wire.upstream.asked) < 8
    assert time.monotonic() - began < 5


def test_a_redirect_to_this_proxy_may_lead_on(wire: Wire) -> None:
    """Where it is not about the same, it is a way like any other."""
    redirect = location(f"{wire.proxy.url}{BLOB}")
    wire.play(
        answering(
            lambda asked: (
                b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nblob"
                if asked.target == BLOB
                else redirect
            )
        )
    )
    with wire.client(timeout=10) as client:
        assert client.get(LOST).body == b"blob"
    assert [asked.value("Via") for asked in wire.upstream.asked] == [
        "1.1 docxy", "1.1 docxy, 1.1 docxy",
    ]  # fmt: skip
