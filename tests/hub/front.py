"""The registry as clients see it: docker-registry, with what Docker Hub does around it."""

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import quote

import urllib3
from werkzeug.datastructures import Headers

from tests.hub.accounts import ANONYMOUS
from tests.hub.budget import Budget
from tests.hub.faults import refusal
from tests.hub.images import OCI_INDEX, Image
from tests.hub.links import Links
from tests.hub.messages import BLOCK, Answer, Request
from tests.hub.registry import Registry
from tests.hub.tokens import claims_of

_RESOURCE = re.compile(r"/v2/(.+)/(manifests|blobs|tags|referrers)/([^/]+)")
_HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
_EXPIRED = "Bearer expired"
_TOO_MANY = (
    "You have reached your pull rate limit. You may increase the limit by authenticating and "
    "upgrading: https://www.docker.com/increase-rate-limit"
)


@dataclass(slots=True)
class Front:
    """Passes requests on, sends blobs to the CDN, counts pulls and lists referrers."""

    base: str
    registry: Registry
    links: Links
    budget: Budget
    referrers: dict[tuple[str, str], list[Image]] = field(default_factory=dict)
    """By repository and digest of the subject."""
    absolute_links: bool = False
    """Write the whole URL into the Link of a page of tags."""
    redirect_head: bool = False
    """Send HEAD of a blob to the CDN as well, with a URL that is signed for HEAD."""
    page_size: int | None = None
    """The most tags in one answer, whatever a client asks for; None: no such limit."""

    def answer(self, request: Request) -> Answer:
        """Answer one request."""
        self._expire(request)
        match = _RESOURCE.fullmatch(request.path)
        kind = match[2] if match else ""
        if match and kind == "blobs" and request.method in self._redirected:
            return self._blob(request, match[3])
        if match and kind == "manifests" and request.method in {"GET", "HEAD"}:
            return self._manifest(request)
        if match and kind == "referrers" and request.method == "GET":
            return self._list_referrers(request, match[1], match[3])
        if match and kind == "tags" and request.method == "GET":
            return self._list_tags(request)
        return self._pass(request)

    def refer(self, name: str, subject: str, image: Image) -> None:
        """Note that an image refers to another one."""
        self.referrers.setdefault((name, subject), []).append(image)

    @property
    def _redirected(self) -> set[str]:
        return {"GET", "HEAD"} if self.redirect_head else {"GET"}

    def _expire(self, request: Request) -> None:
        """Spoil a token that is too old by the hub's clock: docker-registry has another one."""
        token = _token(request)
        if token and self.registry.issuer.has_expired(token):
            request.headers["Authorization"] = _EXPIRED

    def _blob(self, request: Request, digest: str) -> Answer:
        probe = self.registry.ask("HEAD", request.target, _without_conditions(request))
        _Relayed(probe).close()
        if probe.status != HTTPStatus.OK:
            return self._pass(request)
        location = self.links.url(digest, request.method)
        # As Go writes it: the signed URL stands in the body, too.
        body = f'<a href="{html.escape(location)}">Temporary Redirect</a>.\n\n'.encode()
        headers = {
            "Location": location,
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(body)),
            "Docker-Distribution-Api-Version": "registry/2.0",
        }
        return Answer(HTTPStatus.TEMPORARY_REDIRECT, Headers(headers), [body])

    def _manifest(self, request: Request) -> Answer:
        answer = self._pass(request)
        if answer.status != HTTPStatus.OK:
            return answer
        account = str(claims_of(_token(request)).get("sub", ANONYMOUS))
        if request.method == "GET" and not self.budget.spend(account):
            answer.close()
            headers = self.budget.headers(account)
            return refusal(HTTPStatus.TOO_MANY_REQUESTS, "TOOMANYREQUESTS", headers, _TOO_MANY)
        answer.headers.update(self.budget.headers(account))
        return answer

    def _list_referrers(self, request: Request, name: str, digest: str) -> Answer:
        """List referrers to whom docker-registry would show the repository's tags."""
        tags = self.registry.ask("GET", f"/v2/{name}/tags/list", _outgoing(request))
        if tags.status == HTTPStatus.UNAUTHORIZED:
            return _answer(tags)
        _Relayed(tags).close()
        wanted = request.query.get("artifactType")
        manifests = [
            image.descriptor()
            | {
                "artifactType": image.document["artifactType"],
                "annotations": image.document.get("annotations", {}),
            }
            for image in self.referrers.get((name, digest), [])
            if not wanted or image.document["artifactType"] in wanted
        ]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
        answer = _json(index, OCI_INDEX)
        if wanted:
            answer.headers["OCI-Filters-Applied"] = "artifactType"
        return answer

    def _list_tags(self, request: Request) -> Answer:
        """List tags in order and in pages: docker-registry 2.8 does neither."""
        listed = self.registry.ask("GET", request.path, _outgoing(request))
        if listed.status != HTTPStatus.OK:
            return _answer(listed)
        document = json.loads(listed.read())
        query = {name: values[0] for name, values in request.query.items()}
        tags = sorted(tag for tag in document["tags"] or [] if tag > query.get("last", ""))
        count = query.get("n", str(len(tags)))
        if not count.isdecimal():
            return refusal(HTTPStatus.BAD_REQUEST, "PAGINATION_NUMBER_INVALID")
        size = min(int(count), self.page_size or len(tags))
        page = tags[:size]
        answer = _json(document | {"tags": page}, "application/json")
        if page and len(page) < len(tags):
            base = self.base if self.absolute_links else ""
            target = f"{base}{request.path}?last={quote(page[-1])}&n={size}"
            answer.headers["Link"] = f'<{target}>; rel="next"'
        return answer

    def _pass(self, request: Request) -> Answer:
        headers, body = _outgoing(request), request.body if request.body.present else None
        try:
            answer = self.registry.ask(request.method, request.target, headers, body)
        except urllib3.exceptions.HTTPError as error:
            return refusal(HTTPStatus.BAD_GATEWAY, "UNKNOWN", message=str(error))
        return _answer(answer)


def _json(document: object, media_type: str) -> Answer:
    body = json.dumps(document).encode()
    headers = Headers({"Content-Type": media_type, "Content-Length": str(len(body))})
    headers["Docker-Distribution-Api-Version"] = "registry/2.0"
    return Answer(HTTPStatus.OK, headers, [body])


def _token(request: Request) -> str:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if kind.lower() == "bearer" else ""


def _outgoing(request: Request) -> urllib3.HTTPHeaderDict:
    headers = urllib3.HTTPHeaderDict({"X-Forwarded-Proto": "https"})
    for name, value in request.headers:
        if name.lower() not in _HOP_BY_HOP - {"transfer-encoding"}:
            headers.add(name, value)
    for name in ("Accept-Encoding", "User-Agent"):
        headers.setdefault(name, urllib3.util.SKIP_HEADER)
    return headers


def _without_conditions(request: Request) -> urllib3.HTTPHeaderDict:
    """Leave conditions and parts to the CDN: docker-registry 2.8.2 refuses a HEAD with some."""
    headers = _outgoing(request)
    for name in ("Range", "If-Range", "If-None-Match"):
        headers.discard(name)
    return headers


def _answer(answer: urllib3.BaseHTTPResponse) -> Answer:
    headers = Headers()
    for name, value in answer.headers.iteritems():
        if name.lower() not in _HOP_BY_HOP:
            headers.add(name, value)
    return Answer(answer.status, headers, _Relayed(answer))


class _Relayed:
    """The body of docker-registry's answer; not a generator, as an unstarted one closes nothing."""

    def __init__(self, answer: urllib3.BaseHTTPResponse) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return self._answer.stream(BLOCK, decode_content=False)

    def close(self) -> None:
        """Make the connection ready for the next request."""
        self._answer.drain_conn()
        self._answer.release_conn()
