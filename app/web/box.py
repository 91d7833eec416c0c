"""/page/...: what the boxes of the page ask for."""

from flask import Blueprint, Response, jsonify, request

from app.oci.errors import NameInvalid
from app.oci.reference import RepositoryName
from app.registries import Address
from app.routes.connection import ClientConnection
from app.routes.form import received
from app.routes.rooms import resolved, source
from app.web import listing
from app.web.images import image
from app.web.proxy import Proxy
from app.web.rewriting import LONGEST, rewritten
from app.web.seen import seen

bp = Blueprint("box", __name__, url_prefix="/page")


@bp.post("/rewrite")
def rewrite() -> Response:
    """Rewrite what the body says for this proxy: names, commands, whole files."""
    request.max_content_length = LONGEST
    done = rewritten(received().decode(errors="replace"), seen())
    return _fresh({"text": done.text, "changes": done.changes, "left": done.left})


@bp.get("/tags")
def tags() -> Response:
    """List the tags of an image that is called as one knows it, as nobody sees them."""
    proxy = seen()
    address = _address(request.args.get("image", ""), proxy)
    row, repository = address.registry, address.repository
    found = listing.tags(source(row), repository, ClientConnection(request.environ))
    return _fresh(
        {
            "image": f"{row.name}/{repository}",
            "address": proxy.name(row, repository),
            "tags": found.names,
            "more": found.more,
        }
    )


def _address(text: str, proxy: Proxy) -> Address:
    """Return which repository is meant; raise NameInvalid or NameUnknown."""
    meant = image(text.strip())
    if meant is None:
        raise NameInvalid
    asked = RepositoryName.parse(meant.repository)
    if proxy.is_own(meant.registry):
        host = meant.registry.rpartition(":")[0] or meant.registry
        return resolved(asked, ns=None, host=host)
    return resolved(asked, ns=proxy.row(meant.registry).name, host="")


def _fresh(document: dict[str, object]) -> Response:
    response = jsonify(document)
    response.headers["Cache-Control"] = "no-store"
    return response
