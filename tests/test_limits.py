"""The table of limits in docs/operations.md: each figure is the one that counts."""

import re
from pathlib import Path
from typing import Final

import gunicorn.config

from app.config.settings import Settings
from app.factory import MAX_TOKEN_REQUEST
from app.oci import challenge, headers, media_types
from app.routes import token
from app.upstream import client, replies
from app.upstream.auth import ping, service
from app.upstream.http import body, deadlines, redirects, response
from server import connections
from server import request as incoming

# ruff: noqa: SLF001 - the constants are their modules' own, and documented all the same

ROOT: Final = Path(__file__).resolve().parent.parent
OPERATIONS: Final = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def size(count: int) -> str:
    """Write bytes as the table does."""
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"


def setting(name: str) -> int:
    """Return what gunicorn is told."""
    told = (ROOT / "gunicorn.conf.py").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^{name} = (\d+)$", told, re.MULTILINE)
    return int(found)


def digits(pattern: str) -> str:
    """Return how many digits a pattern takes."""
    (most,) = re.findall(r"\{1,(\d+)\}", pattern)
    return f"{most} digits"


EIGHTH: Final = {8: "an eighth"}
TWICE: Final = "twice `DOCXY_READ_TIMEOUT` (or `DOCXY_CONNECT_TIMEOUT`, where that is longer)"

LIMITS: Final = {
    "the request line, path and query": size(incoming._LINE_LIMIT),
    "the path": f"{size(incoming._PATH_LIMIT)} as it is sent",
    "a header field of a request": size(incoming._LINE_LIMIT),
    "`Accept`, all its lines together, where the cache looks at it": (
        f"{size(media_types._MAX_ACCEPT_LENGTH)}; clients send some 500 bytes"
    ),
    "all header fields of a request, and a trailer": (
        f"{gunicorn.config.LimitRequestFields.default} fields, {size(incoming._HEAD_LIMIT)}"
    ),
    "the time that a head may take, on a new connection from its beginning": (
        f"{incoming._HEAD_TIMEOUT:g} s in all (gunicorn's `keepalive`, if that is shorter)"
    ),
    "the time between two requests on a connection": (
        f"{setting('keepalive')} s (gunicorn's `keepalive`)"
    ),
    "connections of one address without a whole request": (
        f"{EIGHTH[connections._SHARE_DIVISOR]} of a worker's places"
    ),
    "requests that a worker serves one address at once": (
        f"`DOCXY_CLIENT_CONNECTIONS`, {Settings.model_fields['client_connections'].default} "
        "([access.md](access.md#connections-of-one-address))"
    ),
    "requests that a worker serves at once": f"its places, {setting('worker_connections'):,}",
    "the form of a token request": (
        f"{size(MAX_TOKEN_REQUEST)}; where the proxy has users, {size(token._MAX_OWN_FORM)}"
    ),
    "the time that such a form may take": "`DOCXY_WRITE_TIMEOUT`",
    "parameters of a token request, and scopes in them": f"{token._MAX_PARAMETERS:,}",
    "the body of any other request": f"{size(incoming._UNREAD_LIMIT)} are skipped",
    "a line of the head of a registry's answer": size(response._LINE_LIMIT),
    "all header fields of that head": (
        f"{response._FIELD_LIMIT} fields, {size(response._HEAD_LIMIT)}"
    ),
    "the length that it declares": digits(response._LENGTH.pattern),
    "the line of a chunk of its body, with extensions": (
        f"{size(response._CHUNK_LINE_LIMIT)}, {digits(response._CHUNK_LINE.pattern.decode())}"
    ),
    "the trailer behind its chunks": (
        f"{response._TRAILER_FIELDS} fields, {size(response._TRAILER_LIMIT)}"
    ),
    "interim answers (1xx) before an answer": str(response._INTERIM_LIMIT),
    "the time that a head may take, with all redirects before it": TWICE,
    "the time that a manifest, a token answer or an error's body may take": "the same",
    "the rest of an answer that is of no use": (
        f"{size(body._DRAIN_LIMIT)} and {body._DRAIN_TIMEOUT:g} s are read"
    ),
    "redirects": str(redirects._LIMIT),
    "ways through Docxy, one behind another": f"{headers._MAX_VIA}, told by `Via: {headers._MARK}`",
    "challenges (`WWW-Authenticate`) of one answer": str(challenge._MAX_CHALLENGES),
    "the answer to `GET /v2/` without credentials": size(ping._LIMIT),
    "a token service's answer": size(service._ANSWER_LIMIT),
    "a manifest": size(client.MANIFEST_LIMIT),
    "an error's body": f"{size(replies.BODY_LIMIT)} are looked at",
    "a blob, a list of tags or of referrers": "none: they are passed on as they come",
}
"""Each thing that is limited, and its limit as the table should have it."""


def test_the_table_of_limits() -> None:
    """A figure that changes changes in the document too, and nothing is left out."""
    section = OPERATIONS.partition("\n## Limits\n")[2].partition("\n## ")[0]
    rows = [row.split(" | ") for row in re.findall(r"^\| (.*) \|$", section, re.MULTILINE)[2:]]
    assert {row[0]: row[1].removesuffix(" |") for row in rows} == LIMITS


def test_the_time_of_an_answer_that_floods() -> None:
    """The same, in the text below the table."""
    assert f"every {deadlines._YIELD_INTERVAL * 1000:g} ms" in OPERATIONS
