"""An answer that nobody reads: its connection is kept if that costs little."""

from typing import Final

import requests

from app.upstream.body import Body
from app.upstream.reading import within

_DRAIN_LIMIT: Final = 64 * 1024
_PATIENCE: Final = 1.0
"""Seconds for all of it: a new connection is made faster."""


def discard(response: requests.Response) -> None:
    """Give the connection back if the rest of the answer is short, or else close it."""
    remaining = response.raw.length_remaining
    if remaining is not None and remaining <= _DRAIN_LIMIT:
        with within(_PATIENCE):
            Body(response).skip(_DRAIN_LIMIT)
    response.close()
