"""Errors of the limits of this proxy; each is raised with `Retry-After`.

LimitReached             429  a user, or an address, has had as much as it may
+-- RequestsReached      429  of requests in a minute
+-- DownloadsReached     429  of downloads at once
+-- BytesReached         429  of bytes in a day
+-- PullsReached         429  of pulls in a day
+-- ConnectionsReached   429  of connections of one address at once
"""

from collections.abc import Mapping
from typing import ClassVar

from app.oci.errors import TooManyRequests


class LimitReached(TooManyRequests):
    """As much as one may have of this proxy."""

    message = "this proxy lets you have no more"
    refused_by = "limit"


class RequestsReached(LimitReached):
    """As many requests as a minute may have."""

    refused_by = "limit-requests"
    message = "this proxy takes no more requests of you this minute"


class DownloadsReached(LimitReached):
    """As many downloads as may run at once."""

    refused_by = "limit-downloads"
    message = "this proxy lets you have no more downloads at once"


class BytesReached(LimitReached):
    """As many bytes as a day may have."""

    refused_by = "limit-bytes"
    message = "this proxy sends you no more bytes today"


class PullsReached(LimitReached):
    """As many pulls as a day may have."""

    refused_by = "limit-pulls"
    message = "this proxy lets you have no more pulls today"


class ConnectionsReached(LimitReached):
    """As many connections as one address may have a request on."""

    refused_by = "limit-connections"
    message = "this proxy serves your address no more requests at once"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "5"}
