"""GET /page/static/<name>: the page's style sheets, scripts and icon, and no other file."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from flask import Blueprint, Response, request

from app.oci.errors import Unsupported

bp = Blueprint("assets", __name__, url_prefix="/page/static")

_FOLDER: Final = Path(__file__).parent / "assets"
_CSS_TYPE, _JAVASCRIPT_TYPE = "text/css; charset=utf-8", "text/javascript; charset=utf-8"

ASSETS: Final[Mapping[str, str]] = {
    "page.css": _CSS_TYPE,
    "figures.css": _CSS_TYPE,
    "theme.js": _JAVASCRIPT_TYPE,
    "copy.js": _JAVASCRIPT_TYPE,
    "tabs.js": _JAVASCRIPT_TYPE,
    "box.js": _JAVASCRIPT_TYPE,
    "search.js": _JAVASCRIPT_TYPE,
    "figures.js": _JAVASCRIPT_TYPE,
    "icon.svg": "image/svg+xml",
}
"""The Content-Type of each file."""

_IMMUTABLE: Final = "public, max-age=31536000, immutable"


@bp.get("/<name>")
def asset(name: str) -> Response:
    """Serve one file; raise Unsupported for an unknown name.

    Browsers may keep it for a year if `v` is the version of its content, and otherwise revalidate
    it.
    """
    if name not in ASSETS:
        raise Unsupported
    content, version = _read_asset(name)
    response = Response(content, content_type=ASSETS[name])
    response.set_etag(version)
    # During an upgrade, a page from the new release may request a file from an old worker.
    requested_version = request.args.get("v")
    response.headers["Cache-Control"] = _IMMUTABLE if requested_version == version else "no-cache"
    response.make_conditional(request)
    return response


def build_url(name: str) -> str:
    """Return a file's URL, relative to the page; it changes when the content does."""
    return f"page/static/{name}?v={_read_asset(name)[1]}"


@cache
def _read_asset(name: str) -> tuple[bytes, str]:
    content = (_FOLDER / name).read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:16]
