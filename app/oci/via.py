"""Via: how often a question has come by a proxy of this kind (RFC 9110, section 7.6.3).

A redirect, or a registry of the table, may lead back to this proxy, whose questions would then
lead back here again and again.
"""

from typing import Final

from app.oci.errors import LoopDetected
from app.oci.headers import Headers, values, without

_MARK: Final = "1.1 docxy"

_MOST: Final = 4
"""Some stand one behind another, and a registry may send on to the proxy before it."""


def marked(fields: Headers) -> Headers:
    """Return a question's header with one mark more, and no other Via; raise LoopDetected.

    By which other ways it came tells who the client is.
    """
    ways = ",".join(values(fields, "via")).split(",")
    marks = [_MARK for way in ways if way.strip() == _MARK]
    if len(marks) >= _MOST:
        raise LoopDetected
    return [*without(fields, "via"), ("Via", ", ".join([*marks, _MARK]))]
