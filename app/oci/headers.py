"""Which headers pass up to a registry, which pass down to a client, and Link."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

Headers = list[tuple[str, str]]
"""Fields in order, repeated ones repeated."""

HOP_BY_HOP: Final = frozenset({
    # RFC 9110, section 7.6.1, and the older names that some still send
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    "proxy-authenticate", "proxy-authorization",
})  # fmt: skip

_NOT_UP: Final = frozenset({
    "host",
    # a request to a registry has no body of the client's
    "content-length", "content-type", "content-encoding", "expect",
    # answers must come as they are stored: sizes and digests count (containerd asks for gzip)
    "accept-encoding",
    # nothing that one client sent is another registry's business
    "cookie",
    # who the client is, and by which way it came
    "forwarded", "x-original-forwarded-for", "x-real-ip", "x-client-ip", "x-cluster-client-ip",
    "true-client-ip", "fastly-client-ip", "fly-client-ip", "x-request-id", "x-request-start",
})  # fmt: skip
_NOT_UP_PREFIXES: Final = ("x-forwarded-", "x-accel-", "cf-")

_ELSEWHERE: Final = frozenset({
    "accept", "accept-encoding", "user-agent", "range", "if-range", "if-match", "if-none-match",
    "if-modified-since", "if-unmodified-since",
    # only this proxy's own marks: app/oci/via.py
    "via",
})  # fmt: skip

_NOT_DOWN: Final = frozenset({
    # the server in front of the client writes these itself
    "date", "server",
    # given anew by the relay
    "content-length", "www-authenticate", "link", "location",
    "content-security-policy", "x-content-type-options", "docker-distribution-api-version",
    "x-request-id",
    # an upstream does not speak for this proxy's host (design.md, section 4)
    "set-cookie", "set-cookie2", "x-sendfile", "alt-svc", "strict-transport-security",
    "clear-site-data", "public-key-pins", "refresh", "service-worker-allowed", "nel", "report-to",
    "reporting-endpoints", "expect-ct",
    # an upstream's word to its own CDN (RFC 9213), not to one in front of this proxy
    "surrogate-control", "surrogate-key", "cdn-cache-control", "cloudflare-cdn-cache-control",
    "edge-control", "cache-tag",
    # tells this proxy's address or account
    "docker-ratelimit-source",
})  # fmt: skip
_NOT_DOWN_PREFIX: Final = "x-accel-"

FOR_CACHES: Final = ("cache-control", "expires", "pragma")
"""What says who on the way may keep an answer, and how long."""

# What a client may be sent: visible ASCII, obs-text, space and tab (RFC 9110, section 5.5).
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_TARGET: Final = re.compile(r"[\x21-\x7e]+")
_LINK: Final = re.compile(r'<([^<>]*)>((?:[^,"]|"(?:[^"\\]|\\.)*")*)')
_PARAMETER: Final = re.compile(
    r';[ \t]*([^=;,"\s]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^;,"\s]*))'
)


def pass_up(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return what of a client's request a registry gets; `Accept-Encoding: identity` is added."""
    kept = _end_to_end(headers)
    passed = [
        (name, value)
        for name, value in kept
        if name.lower() not in _NOT_UP and not name.lower().startswith(_NOT_UP_PREFIXES)
    ]
    passed.append(("Accept-Encoding", "identity"))
    return passed


def pass_elsewhere(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return what of a request may follow a redirect to another host: nothing that identifies."""
    return [(name, value) for name, value in headers if name.lower() in _ELSEWHERE]


def pass_down(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return what of a registry's answer a client gets."""
    return [
        (name, value)
        for name, value in _end_to_end(headers)
        if name.lower() not in _NOT_DOWN
        and not name.lower().startswith(_NOT_DOWN_PREFIX)
        and _NAME.fullmatch(name)
        and _VALUE.fullmatch(value)
    ]


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


def _end_to_end(headers: Iterable[tuple[str, str]]) -> Headers:
    fields = list(headers)
    dropped = set(HOP_BY_HOP)
    for name in values(fields, "connection"):
        dropped.update(option.strip().lower() for option in name.split(","))
    return [(name, value) for name, value in fields if name.lower() not in dropped]
