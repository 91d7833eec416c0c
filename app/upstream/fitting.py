"""Whether an answer is what a blob, or a part of it, was asked for."""

from http import HTTPStatus
from typing import Final

from app.content import Reply, Request
from app.oci import headers
from app.oci.ranges import Range, parse_range
from app.upstream.parts import Part, part_told

_OTHER_SUCCESSES: Final = frozenset(range(200, 300)) - {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}


def problem(request: Request, reply: Reply) -> str:
    """Return why an answer to a question for a blob must not pass for one, or ""."""
    asked = headers.value(request.headers, "range")
    if reply.status == HTTPStatus.PARTIAL_CONTENT and not asked:
        return "the registry sent a part of a blob that was asked for whole"
    if request.method != "GET":
        return ""
    # Of a 203, say, nobody knows whether its body is the blob (RFC 9110, section 15.3.4).
    if reply.status in _OTHER_SUCCESSES:
        return f"the registry answered {reply.status} instead of a blob"
    wanted = parse_range(asked)
    if reply.status == HTTPStatus.PARTIAL_CONTENT and wanted is not None:
        part = part_told(reply.header("content-range"), reply.length)
        # Not all clients look at what they were given before they join it to what they have.
        if part is None or not _fits(part, wanted):
            return "the registry sent another part of a blob than was asked for"
    return ""


def _fits(part: Part, wanted: Range) -> bool:
    """Tell whether a part begins where it should, and goes no further."""
    if wanted.first is None:
        total = part.end if part.total is None else part.total
        return part.end == total and part.start == max(0, (total or 0) - (wanted.last or 0))
    end = part.end or 0
    return part.start == wanted.first and (wanted.last is None or end <= wanted.last + 1)
