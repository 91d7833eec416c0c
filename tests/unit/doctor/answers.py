"""Answers as a proxy could have given them."""

import hashlib
import json
import time
from typing import Any

from app.doctor.http import ProbeResponse

UNAUTHORIZED = 'Bearer realm="{}",service="registry.test"'


def answer(
    status: int = 200, body: bytes = b"", /, *, cut: str = "", **headers: str
) -> ProbeResponse:
    """Return one; an underscore in a header's name is a hyphen."""
    return ProbeResponse(
        status=status,
        headers=[(name.replace("_", "-"), value) for name, value in headers.items()],
        body=body,
        length=len(body),
        digest=f"sha256:{hashlib.sha256(body).hexdigest()}",
        failure=cut,
        received_at=time.time(),
    )


def document(
    status: int = 200, read: dict[str, Any] | None = None, /, **headers: str
) -> ProbeResponse:
    """Return one in JSON."""
    return answer(status, json.dumps(read or {}).encode(), **headers)


def error(status: int, code: str, /, **headers: str) -> ProbeResponse:
    """Return one as registries write errors."""
    return document(status, {"errors": [{"code": code, "message": "no"}]}, **headers)


def challenged(realm: str) -> ProbeResponse:
    """Return a 401 whose tokens are there."""
    return error(401, "UNAUTHORIZED", WWW_Authenticate=UNAUTHORIZED.format(realm))
