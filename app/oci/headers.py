"""Which headers pass up to a registry, which pass down to a client, and Link."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from app.oci.errors import LoopDetected

Headers = list[tuple[str, str]]
"""Fields in order, repeated ones repeated."""

PARTIAL: Final = frozenset({
    "range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since",
})  # fmt: skip
"""What asks for a part of an answer, or for an answer on a condition (RFC 9110, 13 and 14)."""

ELSEWHERE: Final = PARTIAL | frozenset({
    "accept",
    # `identity` at a registry and where it redirects to
    "accept-encoding",
    # Registries answer by it: Quay refuses old Docker by it, and GitHub whoever sends none.
    "user-agent",
    # only this proxy's own marks: `marked`
    "via",
})  # fmt: skip
"""What of a client's request goes to any server, in lower case.

A key, a user or an address may be in any other field: identity-aware fronts, CI systems and clouds
have dozens of them, and new ones come.
"""

UP: Final = ELSEWHERE | frozenset({"authorization"})
"""What of a client's request goes to the registry that it asks, and to its token service."""

DOWN: Final = frozenset({
    # the content (OCI distribution-spec, "Pull"; RFC 9110, sections 8 and 14)
    "content-type", "content-encoding", "content-range", "accept-ranges", "docker-content-digest",
    "etag", "last-modified",
    # how many may still be had, and when to ask again
    "ratelimit", "ratelimit-policy", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset",
    "retry-after",
    # how long it counts, and to whom (RFC 9111; RFC 9211)
    "cache-control", "expires", "pragma", "age", "vary", "cache-status",
    # for people
    "warning",
    # referrers (OCI distribution-spec, "Listing Referrers")
    "oci-filters-applied", "oci-subject",
})  # fmt: skip
"""What of a registry's answer goes to the client, in lower case.

A registry does not speak for this proxy's host: cookies, policies for browsers and orders to
servers in front (`X-Accel-Redirect`) stay here. The relay writes Content-Length, Link,
WWW-Authenticate and OCI-Namespace anew.
"""

FOR_CACHES: Final = ("cache-control", "expires", "pragma")
"""What says who on the way may keep an answer, and how long."""

# What a client may be sent: visible ASCII, obs-text, space and tab (RFC 9110, section 5.5).
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

_TARGET: Final = re.compile(r"[\x21-\x7e]+")
# A string without its end reaches to the end of the header. If it were no match, the next "<" would
# look for that end again: 64 KiB of a registry's Link took 14 seconds.
_LINK: Final = re.compile(r'<([^<>]*)>((?:[^,"]|"(?:[^"\\]|\\.)*+(?:"|\\?\Z))*+)', re.DOTALL)
_PARAMETER: Final = re.compile(
    r';[ \t]*([^=;,"\s]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^;,"\s]*))'
)


def pass_up(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return what of a client's request its registry gets, and `Accept-Encoding: identity`.

    Sizes and digests are of what is stored, and containerd asks for gzip.
    """
    passed = without(_only(headers, UP), "accept-encoding")
    return [*passed, ("Accept-Encoding", "identity")]


def pass_elsewhere(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return what of a request may go to any host: nothing that identifies whoever asks."""
    return _only(headers, ELSEWHERE)


def pass_down(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return what of a registry's answer a client gets."""
    return [one for one in _only(headers, DOWN) if _VALUE.fullmatch(one[1])]


def values(headers: Iterable[tuple[str, str]], name: str) -> list[str]:
    """Return every value of one field."""
    wanted = name.lower()
    return [value for field, value in headers if field.lower() == wanted]


def value(headers: Iterable[tuple[str, str]], name: str) -> str:
    """Return the first value of one field, or "": absent and empty are the same here."""
    wanted = name.lower()
    for field, first in headers:  # a generator takes twice as long, many times for each request
        if field.lower() == wanted:
            return first
    return ""


def without(headers: Iterable[tuple[str, str]], *names: str) -> Headers:
    """Return the fields that have none of these names (in lower case)."""
    return [(field, value) for field, value in headers if field.lower() not in names]


def next_link(links: Iterable[str]) -> str:
    """Return the target of the Link with rel="next" (RFC 8288), or ""."""
    for text in links:
        for target, parameters in _LINK.findall(text):
            if "next" in _relations(parameters) and _TARGET.fullmatch(target.strip()):
                return str(target).strip()
    return ""


def next_query(links: Iterable[str]) -> str | None:
    """Return the query of the Link with rel="next", or None for none that can be read."""
    link = next_link(links)
    try:
        return urlsplit(link).query if link else None
    except ValueError:
        return None


def _relations(parameters: str) -> list[str]:
    """Return what a link is; only its first `rel` counts (RFC 8288, section 3.3)."""
    for name, quoted, bare in _PARAMETER.findall(parameters):
        if name.lower() == "rel":
            return str(quoted or bare).lower().split()
    return []


def _only(headers: Iterable[tuple[str, str]], names: frozenset[str]) -> Headers:
    """Return the fields of these names, unless Connection names them (RFC 9110, section 7.6.1)."""
    fields = list(headers)
    dropped = {
        option.strip().lower()
        for value in values(fields, "connection")
        for option in value.split(",")
    }
    passed = names - dropped if dropped else names
    return [(name, value) for name, value in fields if name.lower() in passed]


# Via: how often a question has come by a proxy of this kind (RFC 9110, section 7.6.3).
#
# A redirect, or a registry of the table, may lead back to this proxy, whose questions would then
# lead back here again and again.

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
