"""Answers with a blob, or a part of it, from a file: one that is kept, or one that grows."""

from typing import Final

from app.cache import accel, marks
from app.cache.asking import Asking
from app.cache.kept import KeptBody
from app.cache.opened import Opened
from app.cache.parts import Part, part_for
from app.content import Reply
from app.oci.headers import Headers
from app.spools.reading import Reading
from app.spools.spool import Spool

_TYPE: Final = "application/octet-stream"
"""What a blob is called, whatever the registry calls it: its manifest says what it is."""


def kept(asking: Asking, opened: Opened, said: Headers, accel_location: str | None) -> Reply:
    """Answer from what is kept."""
    part = part_for(asking.request, asking.digest, opened.size)
    fields = _fields(asking, part, opened.public_left) + said
    if accel_location and accel.can_be(asking.request, part):
        opened.file.close()
        return accel.handed_over(_about(part, fields), f"{accel_location}{opened.location}")
    if asking.request.method == "HEAD" or not part.length:
        opened.file.close()
        return _about(part, fields)
    body = KeptBody(opened.file, part.start, part.end)
    return Reply(
        status=part.status, headers=fields, length=part.length, body=body, close=body.close
    )


def spooled(asking: Asking, spool: Spool, part: Part, said: Headers) -> Reply:
    """Answer a GET from what is being fetched."""
    fields = _fields(asking, part, asking.gate.public_left(asking.caller, asking.name)) + said
    if not part.has_bytes:
        spool.close()
        return _about(part, fields)
    body = Reading(spool, part.start, part.end, asking, asking.request.client)
    return Reply(
        status=part.status, headers=fields, length=part.length, body=body, close=body.close
    )


def _about(part: Part, fields: Headers) -> Reply:
    return Reply(status=part.status, headers=fields, length=part.length)


def _fields(asking: Asking, part: Part, public_left: float) -> Headers:
    described = [("Content-Type", _TYPE), ("Accept-Ranges", "bytes")] if part.has_bytes else []
    return [
        *described,
        ("Docker-Content-Digest", asking.digest),
        *part.fields,
        *marks.of_content(asking.digest, public_left),
    ]
