"""Errors of the limits of this proxy; each is raised with `Retry-After`.

LimitReached             429  a user, or an address, has had as much as it may
+-- RequestsReached      429  of requests in a minute
+-- DownloadsReached     429  of downloads at once
+-- BytesReached         429  of bytes in a day
+-- PullsReached         429  of pulls in a day
"""

from typing import ClassVar

from app.oci.errors import TooManyRequests


class LimitReached(TooManyRequests):
    """As much as one may have of this proxy."""

    message = "this proxy lets you have no more"
    name: ClassVar[str] = "limit"
    """What refused, where refusals are counted and logged."""


class RequestsReached(LimitReached):
    """As many requests as a minute may have."""

    name = "limit-requests"
    message = "this proxy takes no more requests of you this minute"


class DownloadsReached(LimitReached):
    """As many downloads as may run at once."""

    name = "limit-downloads"
    message = "this proxy lets you have no more downloads at once"


class BytesReached(LimitReached):
    """As many bytes as a day may have."""

    name = "limit-bytes"
    message = "this proxy sends you no more bytes today"


class PullsReached(LimitReached):
    """As many pulls as a day may have."""

    name = "limit-pulls"
    message = "this proxy lets you have no more pulls today"
