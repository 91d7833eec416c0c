"""POST /page/rewrite and GET /page/tags: the endpoints behind the boxes of the page."""

import re
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from flask import Blueprint, Response, jsonify

from app.oci import documents, tokens
from app.oci.errors import (
    Denied,
    NameInvalid,
    NameUnknown,
    RegistryError,
    TooManyRequests,
    UpstreamMisbehaved,
    UpstreamUnavailable,
)
from app.oci.reference import Operation, RepositoryName
from app.registries import RepositoryAddress
from app.routes.addressing import resolve_name
from app.routes.context import RequestContext, get_context
from app.routes.token import read_form
from app.source import Client, Reply, Request, Source, TokenRequest
from app.web.config import build_proxy
from app.web.images import parse_image_name
from app.web.proxy import Proxy
from app.web.rewriting import LONGEST, rewrite_text

# Listing the tags of an image, without credentials.

_PAGE_QUERY: Final = "n=1000"
_MAX_ANSWER_SIZE: Final = 1024 * 1024
_DIGITS: Final = re.compile(r"(\d{1,18})")


@dataclass(frozen=True, slots=True)
class TagList:
    """Tags, newest first as far as their names show, and whether the registry has more."""

    names: tuple[str, ...]
    has_more: bool


def list_tags(source: Source, name: RepositoryName, client: Client) -> TagList:
    """Return up to 1000 tags of a repository, read with an anonymous token if one is needed.

    Raise RegistryError if the registry refuses, or if its answer is unusable.
    """
    operation = Operation.tags(name)
    reply = source.answer(operation, Request(method="GET", query=_PAGE_QUERY, client=client))
    if reply.status == HTTPStatus.UNAUTHORIZED and any(
        challenge.is_bearer for challenge in reply.challenges
    ):
        reply.close()
        login = [("Authorization", f"Bearer {_fetch_token(source, operation.scope, client)}")]
        request = Request(method="GET", headers=login, query=_PAGE_QUERY, client=client)
        reply = source.answer(operation, request)
    with closing(reply):
        names = _read_document(reply, "the registry does not know this image").get("tags") or ()
        tag_names = (
            [tag_name for tag_name in names if isinstance(tag_name, str)]
            if isinstance(names, list)
            else []
        )
        return TagList(tuple(sorted(tag_names, key=_build_sort_key)), reply.next_query is not None)


def _fetch_token(source: Source, scope: str, client: Client) -> str:
    request = TokenRequest(method="GET", parameters=[("scope", scope)], client=client)
    with closing(source.token(request)) as reply:
        if token := tokens.get_token(_read_document(reply, Denied.message)):
            return token
    message = "the registry's token service gave no token"
    raise UpstreamMisbehaved(message)


def _read_document(reply: Reply, unknown_message: str) -> dict[str, object]:
    """Return the JSON object in a reply.

    Raise RegistryError if the reply is an error; `unknown_message` is the message for a 404. Raise
    UpstreamMisbehaved if the body is not a JSON object or is longer than 1 MiB.
    """
    if reply.is_error:
        raise _build_error(reply, unknown_message)
    data = documents.read_up_to(reply.chunks(), _MAX_ANSWER_SIZE)
    if data is None:
        message = "the registry's answer is too long"
        raise UpstreamMisbehaved(message)
    try:
        return documents.parse_object(data)
    except ValueError as error:
        raise UpstreamMisbehaved from error


def _build_error(reply: Reply, unknown_message: str) -> RegistryError:
    match reply.status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            message = "there is no such image, or the registry requires a login for it"
            return Denied(message)
        case HTTPStatus.NOT_FOUND:
            return NameUnknown(unknown_message)
        case HTTPStatus.TOO_MANY_REQUESTS:
            message = "the registry answered 429; try again later"
            return TooManyRequests(message, headers=_copy_retry_after(reply))
    message = f"the registry answered {reply.status}"
    return UpstreamUnavailable(message, headers=_copy_retry_after(reply))


def _copy_retry_after(reply: Reply) -> dict[str, str]:
    retry_after = reply.header("retry-after")
    return {"Retry-After": retry_after} if retry_after else {}


def _build_sort_key(tag: str) -> tuple[bool, bool, list[tuple[int, str]]]:
    """Return a sort key: `latest` first, then versions in descending order, then words."""
    parts = _DIGITS.split(tag)
    # Every second part is a number. It is negated so that the higher one sorts first.
    version = [(-int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)]
    return tag != "latest", bool(parts[0]) and parts[0] != "v", version


bp = Blueprint("box", __name__, url_prefix="/page")


@bp.post("/rewrite")
def rewrite() -> Response:
    """Rewrite the image names in the body, whether plain names, commands or whole files.

    Return JSON with the new text, the changes, and the names that stay with the reason.
    """
    context = get_context()
    context.request.max_content_length = LONGEST
    rewriting = rewrite_text(read_form(context).decode(errors="replace"), build_proxy(context))
    return _build_json(
        {"text": rewriting.text, "changes": rewriting.changes, "skipped": rewriting.left}
    )


@bp.get("/tags")
def tags() -> Response:
    """List the tags that `image` has for an anonymous client.

    `image` is a name as users write it, of its registry or of this proxy. Return JSON with the
    image's full name, its address here (null if it has none), its tags, and whether there are
    more. May raise RegistryError.
    """
    context = get_context()
    proxy = build_proxy(context)
    address = _resolve_address(context, context.request.args.get("image", ""), proxy)
    row, repository = address.registry, address.repository
    tag_list = list_tags(context.services.get_source(row), repository, context.connection)
    return _build_json(
        {
            "image": f"{row.name}/{repository}",
            "address": proxy.build_name(row, repository),
            "tags": tag_list.names,
            "more": tag_list.has_more,
        }
    )


def _resolve_address(context: RequestContext, text: str, proxy: Proxy) -> RepositoryAddress:
    """Return the registry and repository that an image name stands for.

    Raise NameInvalid if it is not an image name, NameUnknown if its registry is not served.
    """
    image = parse_image_name(text.strip())
    if image is None:
        raise NameInvalid
    name = RepositoryName.parse(image.repository)
    if proxy.is_own(image.registry):
        host = image.registry.rpartition(":")[0] or image.registry
        return resolve_name(context, name, ns=None, host=host)
    return resolve_name(context, name, ns=proxy.get_registry(image.registry).name, host="")


def _build_json(document: dict[str, object]) -> Response:
    response = jsonify(document)
    response.headers["Cache-Control"] = "no-store"
    return response
