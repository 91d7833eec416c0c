"""GET /config/<client>: the file that a client needs to pull through this proxy."""

from http import HTTPStatus
from urllib.parse import urlsplit

from flask import Blueprint, Response

from app.routes.context import RequestContext, get_context
from app.web import clients
from app.web.proxy import Proxy


def build_proxy(context: RequestContext) -> Proxy:
    """Return this proxy as the client of a request sees it.

    Its URL is DOCXY_PUBLIC_URL if that is set, and otherwise the one that the client used. A host
    that stands for one registry is kept in either case.

    Raise HostInvalid if the request's Host header is not valid.
    """
    services, url = context.services, context.base_url
    registries = services.registries
    host = urlsplit(url).hostname or ""
    only = registries.select(ns=None, host=host).registry if host in registries.hosts else None
    has_users = services.guard is not None
    return Proxy(url=url, registries=registries, only=only, has_users=has_users)


bp = Blueprint("config", __name__, url_prefix="/config")


@bp.get("/<name>")
def config(name: str) -> Response:
    """Serve one client's file; answer 404 with the list of files for an unknown name."""
    proxy = build_proxy(get_context())
    if name not in clients.CLIENTS:
        return _build_text(f"There is no file for that. {_list_files(proxy)}", HTTPStatus.NOT_FOUND)
    return _build_text(clients.build_file(name, proxy), HTTPStatus.OK)


@bp.get("/")
def known() -> Response:
    """List the URL of each client's file, and the path where the file goes."""
    return _build_text(_list_files(build_proxy(get_context())), HTTPStatus.OK)


def _list_files(proxy: Proxy) -> str:
    url = proxy.url
    width = max(map(len, clients.CLIENTS)) + len(f"{url}/config/")
    lines = (
        f"{f'{url}/config/{name}'.ljust(width)}  {client.title}: {client.path}\n"
        for name, client in clients.CLIENTS.items()
    )
    return f"The files that set up clients to pull through this proxy:\n\n{''.join(lines)}"


def _build_text(text: str, status: HTTPStatus) -> Response:
    response = Response(text, status, content_type="text/plain; charset=utf-8")
    # The text contains this proxy's address, which may depend on the request.
    response.headers["Cache-Control"] = "no-cache"
    return response
