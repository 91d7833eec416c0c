"""GET /config/<client>: the file that a client needs to pull through this proxy."""

from http import HTTPStatus

from flask import Blueprint, Response

from app.web import clients
from app.web.seen import seen

bp = Blueprint("config", __name__, url_prefix="/config")


@bp.get("/<name>")
def config(name: str) -> Response:
    """Give one client's file, or say which there are."""
    if name not in clients.CLIENTS:
        return _plain(f"There is no file for that. {_known()}", HTTPStatus.NOT_FOUND)
    return _plain(clients.text(name, seen()), HTTPStatus.OK)


@bp.get("/")
def known() -> Response:
    """Say which files there are, and where they go."""
    return _plain(_known(), HTTPStatus.OK)


def _known() -> str:
    url = seen().url
    width = max(map(len, clients.CLIENTS)) + len(f"{url}/config/")
    lines = (
        f"{f'{url}/config/{name}'.ljust(width)}  {client.title}: {client.path}\n"
        for name, client in clients.CLIENTS.items()
    )
    return f"The files to pull through this proxy:\n\n{''.join(lines)}"


def _plain(text: str, status: HTTPStatus) -> Response:
    response = Response(text, status, content_type="text/plain; charset=utf-8")
    # The address in it is the one that was asked.
    response.headers["Cache-Control"] = "no-cache"
    return response
