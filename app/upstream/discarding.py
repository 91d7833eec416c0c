"""An answer that nobody reads: its connection is kept if that costs little."""

from typing import Final

import requests

_DRAIN_LIMIT: Final = 64 * 1024


def discard(response: requests.Response) -> None:
    """Give the connection back if the rest of the answer is short, or else close it."""
    remaining = response.raw.length_remaining
    if remaining is not None and remaining <= _DRAIN_LIMIT:
        response.raw.drain_conn()
    response.close()
