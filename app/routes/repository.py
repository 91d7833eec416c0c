"""The endpoints that a pull reads: /v2/<name>/{manifests,blobs,tags,referrers}/... and /v2/."""

import json
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Final, NoReturn
from urllib.parse import parse_qsl, urlencode

from flask import Blueprint, Request, Response

from app.access.image_policy import ImageInspection
from app.oci.errors import Unsupported
from app.oci.reference import Digest, Operation, Reference, RepositoryName, parse_reference
from app.oci.scope import Action
from app.routes.addressing import authorize, require_pull, resolve, resolve_registry
from app.routes.context import get_context
from app.routes.credentials import build_source_request
from app.routes.relay import relay
from app.source import build_reply

# GET /v2/: the ping, which checks whether the client's credentials (or none) open the registry.

challenge_bp = Blueprint("challenge", __name__)

_PING_BODY: Final = json.dumps({}).encode()


@challenge_bp.get("/v2")
@challenge_bp.get("/v2/")
def challenge() -> Response:
    """Return the registry's answer to a ping, with its challenges in this proxy's naming.

    A 200 gets a JSON body; a 401 has the challenge that makes the client ask this proxy for a token
    (OCI distribution-spec, "Determining Support").
    """
    context = get_context()
    selection = resolve_registry(context)
    source = context.services.get_source(selection.registry)
    reply = source.answer(Operation.ping(), build_source_request(context, selection))
    if reply.status == HTTPStatus.OK:
        # Some registries answer "OK" as text, but clients expect JSON.
        reply.close()
        json_reply = build_reply(HTTPStatus.OK, [("Content-Type", "application/json")], _PING_BODY)
        reply = replace(json_reply, challenges=reply.challenges)
    return relay(context, reply, selection)


bp = Blueprint("repository", __name__, url_prefix="/v2")


@bp.get("/<repository:name>/manifests/<reference:reference>")
def manifest(name: RepositoryName, reference: Reference) -> Response:
    """Return a manifest by tag or digest; raise Denied if a rule forbids it."""
    return _answer(Operation.manifest(name, reference))


@bp.get("/<repository:name>/blobs/<digest:digest>")
def blob(name: RepositoryName, digest: Digest) -> Response:
    """Return a blob, a layer or a config, by digest; raise Denied if a rule forbids it."""
    return _answer(Operation.blob(name, digest))


@bp.get("/<repository:name>/tags/list")
def tags(name: RepositoryName) -> Response:
    """Return one page of the repository's tags; its Link header names the next page."""
    return _answer(Operation.tags(name), has_query=True)


@bp.get("/<repository:name>/referrers/<digest:digest>")
def referrers(name: RepositoryName, digest: Digest) -> Response:
    """Return one page of the manifests that refer to a digest, such as signatures."""
    return _answer(Operation.referrers(name, digest), has_query=True)


def _answer(requested: Operation, *, has_query: bool = False) -> Response:
    """Return the response to an operation that is in the client's naming."""
    context = get_context()
    address, decision = resolve(context, requested)
    operation = replace(requested, repository=address.repository)
    source = context.services.get_source(address.registry)
    query = _get_upstream_query(context.request) if has_query else ""
    request = build_source_request(context, address, query, operation)
    if decision is None:
        return relay(context, source.answer(operation, request), address)
    inspection = ImageInspection(
        source=source,
        operation=operation,
        request=request,
        facts_cache=context.services.image_facts,
        keep_outcome=context.exchange.keep_cache_outcome,
        decide=partial(authorize, context, address, operation),
    )
    return relay(context, inspection.inspect_manifest(decision), address)


@bp.route(
    "/<rest:rest>", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"]
)
def unmatched(rest: str) -> NoReturn:
    """Raise the error that explains why a path matched no route, without asking any upstream.

    Raise MethodUnsupported for a write, NameInvalid or DigestInvalid for a malformed name, tag or
    digest, and Unsupported for anything else.
    """
    require_pull(Action.of_method(get_context().request.method))
    if "/blobs/uploads" in rest:
        raise Unsupported
    for kind, parse in (
        ("manifests", parse_reference),
        ("blobs", Digest.parse),
        ("referrers", Digest.parse),
    ):
        name, separator, reference = rest.rpartition(f"/{kind}/")
        if separator:
            RepositoryName.parse(name)
            parse(reference)
    if rest.endswith("/tags/list"):
        RepositoryName.parse(rest.removesuffix("/tags/list"))
    raise Unsupported


def _get_upstream_query(request: Request) -> str:
    """Return the query without `ns`, which is meant for this proxy only."""
    query = request.query_string.decode(errors="surrogateescape")
    fields = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
    kept_fields = [(name, value) for name, value in fields if name != "ns"]
    return urlencode(kept_fields, errors="surrogateescape")
