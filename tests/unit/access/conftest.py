"""What tests of access share: a real Redis."""

from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer, redis_server


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """Return a Redis with nothing in it."""
    with redis_server() as server:
        yield server
