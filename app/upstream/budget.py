"""Docker Hub says with each manifest how many pulls an identity has left, and whose they are."""

import hashlib
import hmac
import ipaddress
import re
from typing import Final

import requests

import shared
from app.content import Budget

_LIMIT: Final = re.compile(r"(\d{1,9})(?:;w=(\d{1,9}))?")
"""`100;w=21600`: so many in so many seconds."""

_SHORT: Final = 8
_USUAL_WINDOW: Final = 21600


def told(response: requests.Response) -> Budget | None:
    """Read what an answer says of pulls, or None for nothing.

    The identity is named by an HMAC under the key of this run, and by whether pulls are counted
    for an address or an account.
    """
    fields = response.headers
    limit = _LIMIT.match(fields.get("ratelimit-limit", ""))
    remaining = _LIMIT.match(fields.get("ratelimit-remaining", ""))
    if limit is None or remaining is None:
        return None
    window = remaining[2] or limit[2] or _USUAL_WINDOW
    return Budget(
        identity=_identity(fields.get("docker-ratelimit-source", "")),
        limit=int(limit[1]),
        remaining=int(remaining[1]),
        window=int(window),
    )


def _identity(source: str) -> str:
    if not source:
        return "unknown"
    digest = hmac.digest(shared.KEY, source.encode(errors="surrogateescape"), hashlib.sha256)
    return f"{_kind(source)}-{digest.hex()[:_SHORT]}"


def _kind(source: str) -> str:
    try:
        ipaddress.ip_address(source.strip())
    except ValueError:
        return "account"
    return "address"
