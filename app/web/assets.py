"""GET /page/static/<name>: styles, scripts and pictures of the page; there are no others."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from flask import Blueprint, Response, request

from app.oci.errors import Unsupported

bp = Blueprint("assets", __name__, url_prefix="/page/static")

_FOLDER: Final = Path(__file__).parent / "assets"
_STYLE, _SCRIPT = "text/css; charset=utf-8", "text/javascript; charset=utf-8"

ASSETS: Final[Mapping[str, str]] = {
    "page.css": _STYLE,
    "figures.css": _STYLE,
    "theme.js": _SCRIPT,
    "copy.js": _SCRIPT,
    "tabs.js": _SCRIPT,
    "box.js": _SCRIPT,
    "search.js": _SCRIPT,
    "figures.js": _SCRIPT,
    "icon.svg": "image/svg+xml",
}
"""What each file is."""

_FOREVER: Final = "public, max-age=31536000, immutable"


@bp.get("/<name>")
def asset(name: str) -> Response:
    """Give one file, to keep for ever by the address that the page has for it."""
    if name not in ASSETS:
        raise Unsupported
    content, version = _read(name)
    response = Response(content, content_type=ASSETS[name])
    response.set_etag(version)
    # While a new release starts, its page may ask a worker of the old one.
    asked = request.args.get("v")
    response.headers["Cache-Control"] = _FOREVER if asked == version else "no-cache"
    response.make_conditional(request)
    return response


def address(name: str) -> str:
    """Return where a file is, from the page's own address: another one when it changes."""
    return f"page/static/{name}?v={_read(name)[1]}"


@cache
def _read(name: str) -> tuple[bytes, str]:
    content = (_FOLDER / name).read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:16]
