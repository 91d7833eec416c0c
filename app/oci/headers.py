"""Lists the headers that pass up to a registry and down to a client; parses Link, marks Via."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from app.oci.errors import LoopDetected

Headers = list[tuple[str, str]]
"""Header fields as pairs of name and value, in order; repeated fields stay repeated."""

PARTIAL: Final = frozenset({
    "range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since",
})  # fmt: skip
"""Headers of range and conditional requests (RFC 9110, sections 13 and 14)."""

ELSEWHERE: Final = PARTIAL | frozenset({
    "accept",
    # always `identity`, at a registry and where it redirects to
    "accept-encoding",
    # Some registries require it: Quay refuses old versions of Docker, GitHub clients without one.
    "user-agent",
    # only this proxy's own marks (see `mark_via`)
    "via",
})  # fmt: skip
"""Headers of a client's request that go to any server, in lower case.

Any other header may contain a key, a user or an address: identity-aware proxies, CI systems and
clouds have dozens of such headers, and keep adding new ones.
"""

UP: Final = ELSEWHERE | frozenset({"authorization"})
"""Headers of a client's request that go to the registry and its token service, in lower case."""

DOWN: Final = frozenset({
    # the content (OCI distribution-spec, "Pull"; RFC 9110, sections 8 and 14)
    "content-type", "content-encoding", "content-range", "accept-ranges", "docker-content-digest",
    "etag", "last-modified",
    # rate limits, and when to retry
    "ratelimit", "ratelimit-policy", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset",
    "retry-after",
    # caching (RFC 9111; RFC 9211)
    "cache-control", "expires", "pragma", "age", "vary", "cache-status",
    # messages for people
    "warning",
    # referrers (OCI distribution-spec, "Listing Referrers")
    "oci-filters-applied", "oci-subject",
})  # fmt: skip
"""Headers of a registry's answer that go to the client, in lower case.

A registry does not speak for this proxy's host: cookies, browser policies and commands to servers
in front (`X-Accel-Redirect`) are dropped. The relay writes its own Content-Length, Link,
WWW-Authenticate and OCI-Namespace.
"""

FOR_CACHES: Final = ("cache-control", "expires", "pragma")
"""Headers that say which caches along the way may keep an answer, and for how long."""

# A valid field value: visible ASCII, obs-text, space and tab (RFC 9110, section 5.5).
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

_TARGET: Final = re.compile(r"[\x21-\x7e]+")
# An unterminated string extends to the end of the header. If it did not match, the search for its
# end would start again at the next "<": 64 KiB of a registry's Link took 14 seconds.
_LINK: Final = re.compile(r'<([^<>]*)>((?:[^,"]|"(?:[^"\\]|\\.)*+(?:"|\\?\Z))*+)', re.DOTALL)
_PARAMETER: Final = re.compile(
    r';[ \t]*([^=;,"\s]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^;,"\s]*))'
)


def filter_request_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return the headers of a client's request that go to its registry.

    Accept-Encoding becomes `identity`, because sizes and digests are those of the stored content,
    and containerd asks for gzip.
    """
    filtered = without(_select_fields(headers, UP), "accept-encoding")
    return [*filtered, ("Accept-Encoding", "identity")]


def filter_redirect_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return the headers of a request that may go to any host: none identifies the client."""
    return _select_fields(headers, ELSEWHERE)


def filter_response_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return the headers of a registry's answer that go to the client and have a valid value."""
    return [header for header in _select_fields(headers, DOWN) if _FIELD_VALUE.fullmatch(header[1])]


def get_all(headers: Iterable[tuple[str, str]], name: str) -> list[str]:
    """Return all values of a field in order; its name is matched without regard to case."""
    lower_name = name.lower()
    return [value for field, value in headers if field.lower() == lower_name]


def get_first(headers: Iterable[tuple[str, str]], name: str) -> str:
    """Return the first value of a field, or "" if it is absent."""
    lower_name = name.lower()
    for field, value in headers:  # called often for each request; a generator takes twice as long
        if field.lower() == lower_name:
            return value
    return ""


def without(headers: Iterable[tuple[str, str]], *names: str) -> Headers:
    """Return the fields except those with the given names, which are in lower case."""
    return [(field, value) for field, value in headers if field.lower() not in names]


def parse_next_link(links: Iterable[str]) -> str:
    """Return the target of the first Link with rel="next" (RFC 8288), or "" if there is none."""
    for link in links:
        for target, parameters in _LINK.findall(link):
            if "next" in _parse_relations(parameters) and _TARGET.fullmatch(target.strip()):
                return str(target).strip()
    return ""


def parse_next_query(links: Iterable[str]) -> str | None:
    """Return the query of the Link with rel="next", or None if it is missing or malformed."""
    link = parse_next_link(links)
    try:
        return urlsplit(link).query if link else None
    except ValueError:
        return None


def _parse_relations(parameters: str) -> list[str]:
    """Return the relation types of a link; only its first `rel` counts (RFC 8288, section 3.3)."""
    for name, quoted, bare in _PARAMETER.findall(parameters):
        if name.lower() == "rel":
            return str(quoted or bare).lower().split()
    return []


def _select_fields(headers: Iterable[tuple[str, str]], names: frozenset[str]) -> Headers:
    """Return the fields with these names, except those that Connection names.

    Such fields are hop-by-hop (RFC 9110, section 7.6.1).
    """
    fields = list(headers)
    hop_by_hop = {
        option.strip().lower()
        for value in get_all(fields, "connection")
        for option in value.split(",")
    }
    kept_names = names - hop_by_hop if hop_by_hop else names
    return [(name, value) for name, value in fields if name.lower() in kept_names]


# Via (RFC 9110, section 7.6.3) counts how often a request has passed through a Docxy.
#
# A redirect, or a configured registry, may lead back to this proxy. Without a count, the request
# would loop forever.

_MARK: Final = "1.1 docxy"

_MAX_VIA: Final = 4
"""The maximum number of marks in a request: a few proxies may be chained, and a registry may
redirect to one."""


def mark_via(fields: Headers) -> Headers:
    """Return a request's headers with one mark more in Via; raise LoopDetected if it has 4 already.

    Any other Via is removed, because it could identify the client.
    """
    via = ",".join(get_all(fields, "via")).split(",")
    marks = [_MARK for member in via if member.strip() == _MARK]
    if len(marks) >= _MAX_VIA:
        raise LoopDetected
    return [*without(fields, "via"), ("Via", ", ".join([*marks, _MARK]))]


def parse_retry_after(retry_after: str) -> float:
    """Return the seconds of a Retry-After (RFC 9110, section 10.2.3): 0 if it is empty.

    Return infinity for a date, which always means too long, and for anything else.
    """
    retry_after = retry_after.strip()
    if not retry_after:
        return 0
    return (
        float(retry_after[:9])
        if retry_after.isascii() and retry_after.isdecimal()
        else float("inf")
    )
