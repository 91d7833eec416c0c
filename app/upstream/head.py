"""The head of an upstream's answer, read strictly.

The standard library's parser forgives: what is no field ends the head, and so hides a length.
Whoever stands behind this proxy may read such an answer otherwise, so it is refused; and reading
less, this takes a third of the time.
"""

import http.client
import io
import re
from http import HTTPStatus
from typing import Final

HTTP_1_0: Final = 10
HTTP_1_1: Final = 11

_LINE_LIMIT: Final = 64 * 1024
_FIELD_LIMIT: Final = 256
_HEAD_LIMIT: Final = 256 * 1024
"""Bytes; a folded line is no new field, and joining many of them costs the square."""
_INTERIM_LIMIT: Final = 16

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([0-9]) ([1-5][0-9]{2})(?: ([^\r\n\x00]*))?\r?\n")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\x00]*)\r?\n")
_FOLDED: Final = re.compile(rb"[ \t]([^\r\n\x00]*)\r?\n")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
"""An exabyte less one at the most."""


class Malformed(http.client.HTTPException):
    """An answer that others may read otherwise, or that has no end."""


def read_status(reader: io.BufferedIOBase) -> tuple[int, int, str]:
    """Read version, status and reason of the final answer; raise HTTPException.

    Interim answers are skipped (RFC 9110, section 15.2); 101 is none, and nobody has asked for it.
    """
    for _ in range(_INTERIM_LIMIT):
        version, status, reason = _read_status_line(reader)
        if status >= HTTPStatus.OK:
            return version, status, reason
        if status == HTTPStatus.SWITCHING_PROTOCOLS:
            message = "another protocol"
            raise Malformed(message)
        read_fields(reader)
    message = "no final answer"
    raise Malformed(message)


def _read_status_line(reader: io.BufferedIOBase) -> tuple[int, int, str]:
    line = reader.readline(_LINE_LIMIT + 1)
    if len(line) > _LINE_LIMIT:
        message = "the head is too large"
        raise Malformed(message)
    if not line.endswith(b"\n") and line[:7] == b"HTTP/1."[: len(line)]:
        message = "the answer is cut" if line else "no answer"
        raise http.client.RemoteDisconnected(message)
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise http.client.BadStatusLine(line[:80].decode("latin-1"))
    version = HTTP_1_0 if found[1] == b"0" else HTTP_1_1
    return version, int(found[2]), (found[3] or b"").decode("latin-1").strip()


def read_fields(
    reader: io.BufferedIOBase, *, most: int = _FIELD_LIMIT, limit: int = _HEAD_LIMIT
) -> http.client.HTTPMessage:
    """Read the fields up to the empty line (RFC 9112, section 5); raise HTTPException.

    `most` fields of together `limit` bytes, that is.
    A folded line is joined with a space to the one before it (section 5.2).
    """
    fields: list[tuple[str, str]] = []
    left = limit
    while (line := reader.readline(_LINE_LIMIT + 1)) not in {b"\r\n", b"\n"}:
        left -= len(line)
        if len(line) > _LINE_LIMIT or len(fields) >= most or left < 0:
            message = "the head is too large"
            raise Malformed(message)
        if not line.endswith(b"\n"):
            message = "the head is cut"
            raise http.client.RemoteDisconnected(message)
        if field := _FIELD.fullmatch(line):
            fields.append((field[1].decode("ascii"), _text(field[2])))
        elif fields and (folded := _FOLDED.fullmatch(line)):
            name, value = fields[-1]
            fields[-1] = name, f"{value} {_text(folded[1])}".strip()
        else:
            message = "a line of the head is no field"
            raise Malformed(message)
    head = http.client.HTTPMessage()
    for name, value in fields:
        head[name] = value
    return head


def _text(value: bytes) -> str:
    """Return a value without the spaces around it; in a pattern they would cost the square."""
    return value.strip(b" \t").decode("latin-1")


def framing(version: int, head: http.client.HTTPMessage) -> tuple[bool, int | None]:
    """Tell whether a body is chunked, and the length that is declared (RFC 9112, section 6.3).

    Raise HTTPException for whatever leaves a doubt where the body ends, also where there is none:
    lengths that are repeated or no plain number, a length beside a coding, codings other than
    chunked, and any of them in HTTP/1.0, which has none.
    """
    codings = head.get_all("Transfer-Encoding", [])
    lengths = head.get_all("Content-Length", [])
    if codings and (version == HTTP_1_0 or [one.lower() for one in codings] != ["chunked"]):
        raise http.client.UnknownTransferEncoding
    if lengths and (codings or len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0])):
        message = "its length leaves a doubt"
        raise Malformed(message)
    return bool(codings), int(lengths[0]) if lengths else None


def closes(version: int, head: http.client.HTTPMessage) -> bool:
    """Tell whether the upstream closes after this answer (RFC 9112, section 9.3)."""
    options = ",".join(head.get_all("Connection", [])).lower().split(",")
    said = {option.strip() for option in options}
    return "close" in said or (version == HTTP_1_0 and "keep-alive" not in said)
