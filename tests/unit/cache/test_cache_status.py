"""What the cache did, as metrics and logs tell it from our own Cache-Status."""

import pytest

from app.cache import cache_status
from app.oci.headers import Headers
from app.source import build_reply

UPSTREAM = ("Cache-Status", "cdn; hit")


@pytest.mark.parametrize(
    ("status", "fields", "outcome"),
    [
        pytest.param(200, cache_status.build_hit(1), "hit", id="hit"),
        pytest.param(200, cache_status.build_joined(), "collapsed", id="collapsed"),
        pytest.param(200, cache_status.build_stale(500, 1), "stale", id="stale"),
        pytest.param(200, cache_status.build_revalidated(), "revalidated", id="revalidated"),
        pytest.param(
            404, cache_status.build_forwarded(404, why="stale"), "miss", id="refused instead"
        ),
        pytest.param(200, cache_status.build_forwarded(200), "miss", id="miss"),
        pytest.param(200, [UPSTREAM], "miss", id="a hit of somebody else's"),
        pytest.param(200, [UPSTREAM, *cache_status.build_hit(1)], "hit", id="ours is the last"),
        pytest.param(200, [], "miss", id="nothing"),
    ],
)
def test_outcomes(status: int, fields: Headers, outcome: str) -> None:
    """An error is no confirmation, and what other caches say does not count."""
    assert cache_status.parse_outcome(build_reply(status, fields, b"")) == outcome
