"""The head of an upstream's answer, read strictly.

The standard library's parser forgives: what is no field ends the head, and so hides a length.
Whoever stands behind this proxy may read such an answer otherwise, so it is refused; and reading
less, this takes a third of the time.
"""

import http.client
import io
import re
from typing import Final

HTTP_1_0: Final = 10

_LINE_LIMIT: Final = 64 * 1024
_FIELD_LIMIT: Final = 256
_HEAD_LIMIT: Final = 256 * 1024
"""Bytes; a folded line is no new field, and joining many of them costs the square."""
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n]*)\r?\n")
_FOLDED: Final = re.compile(rb"[ \t]([^\r\n]*)\r?\n")


def read_fields(reader: io.BufferedIOBase) -> http.client.HTTPMessage:
    """Read the fields up to the empty line (RFC 9112, section 5); raise HTTPException.

    A folded line is joined with a space to the one before it (section 5.2).
    """
    fields: list[tuple[str, str]] = []
    left = _HEAD_LIMIT
    while (line := reader.readline(_LINE_LIMIT + 1)) not in {b"\r\n", b"\n"}:
        left -= len(line)
        if len(line) > _LINE_LIMIT or len(fields) >= _FIELD_LIMIT or left < 0:
            message = "the head is too large"
            raise http.client.HTTPException(message)
        if field := _FIELD.fullmatch(line):
            fields.append((field[1].decode("ascii"), _text(field[2])))
        elif fields and (folded := _FOLDED.fullmatch(line)):
            name, value = fields[-1]
            fields[-1] = name, f"{value} {_text(folded[1])}".strip()
        else:
            message = "a line of the head is no field" if line else "the head is cut"
            raise http.client.HTTPException(message)
    head = http.client.HTTPMessage()
    for name, value in fields:
        head[name] = value
    return head


def _text(value: bytes) -> str:
    """Return a value without the spaces around it; in a pattern they would cost the square."""
    return value.strip(b" \t").decode("latin-1")


def is_chunked(head: http.client.HTTPMessage) -> bool:
    """Tell whether the body is chunked; raise HTTPException for any other transfer coding."""
    codings = head.get_all("Transfer-Encoding", [])
    if codings and [coding.lower() for coding in codings] != ["chunked"]:
        raise http.client.UnknownTransferEncoding
    return bool(codings)


def closes(version: int, head: http.client.HTTPMessage) -> bool:
    """Tell whether the upstream closes after this answer (RFC 9112, section 9.3)."""
    options = ",".join(head.get_all("Connection", [])).lower().split(",")
    said = {option.strip() for option in options}
    return "close" in said or (version == HTTP_1_0 and "keep-alive" not in said)
