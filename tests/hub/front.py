"""The registry as clients see it: docker-registry, with what Docker Hub does around it."""

import html
import json
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import quote

import urllib3
from werkzeug.datastructures import Headers

from tests.hub.accounts import ANONYMOUS, Accounts
from tests.hub.budget import Budget
from tests.hub.faults import refusal
from tests.hub.images import OCI_INDEX, Image
from tests.hub.links import Links
from tests.hub.messages import Answer, Request
from tests.hub.registry import Registry
from tests.hub.relaying import Relayed, outgoing, relayed, without_conditions
from tests.hub.tokens import bearer, claims_of

_RESOURCE = re.compile(r"/v2/(.+)/(manifests|blobs|tags|referrers)/([^/]+)")
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
    accounts: Accounts
    referrers: dict[tuple[str, str], list[Image]] = field(default_factory=dict)
    """By repository and digest of the subject."""
    lists_referrers: bool = True
    """Without it, docker-registry answers, which knows no referrers."""
    absolute_links: bool = False
    """Write the whole URL into the Link of a page of tags."""
    redirect_head: bool = False
    """Send HEAD of a blob to the CDN as well, with a URL that is signed for HEAD."""
    page_size: int | None = None
    """The most tags in one answer, whatever a client asks for; None: no such limit."""
    redirect_manifests_to: str | None = None
    """The base URL of another host, to which GET and HEAD of manifests are sent by 307."""
    redirect_blobs_to: str | None = None
    """The same for blobs."""

    def answer(self, request: Request) -> Answer:
        """Answer one request."""
        match = _RESOURCE.fullmatch(request.path)
        kind = match[2] if match else ""
        elsewhere = self._elsewhere.get(kind)
        if match and elsewhere and request.method in {"GET", "HEAD"}:
            return self._send_elsewhere(request, match[1], elsewhere)
        if match and kind == "blobs" and request.method in self._redirected:
            return self._blob(request, match[3])
        if match and kind == "manifests" and request.method in {"GET", "HEAD"}:
            return self._manifest(request)
        if match and kind == "referrers" and self.lists_referrers and request.method == "GET":
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

    @property
    def _elsewhere(self) -> dict[str, str | None]:
        return {"manifests": self.redirect_manifests_to, "blobs": self.redirect_blobs_to}

    def _send_elsewhere(self, request: Request, name: str, base: str) -> Answer:
        """Send on whom docker-registry lets in, and to no repository of ours that it refuses.

        What is not here may be there: a registry's front door need not hold anything.
        """
        target = request.target if self.accounts.knows(name) else "/v2/"
        probe = self.registry.ask("HEAD", target, without_conditions(request))
        Relayed(probe).close()
        if probe.status == HTTPStatus.UNAUTHORIZED:
            return self._pass(request)
        return _moved(f"{base}{request.target}")

    def _blob(self, request: Request, digest: str) -> Answer:
        probe = self.registry.ask("HEAD", request.target, without_conditions(request))
        Relayed(probe).close()
        if probe.status != HTTPStatus.OK:
            return self._pass(request)
        return _moved(self.links.url(digest, request.method))

    def _manifest(self, request: Request) -> Answer:
        answer = self._pass(request)
        if answer.status != HTTPStatus.OK:
            return answer
        account = str(claims_of(bearer(request)).get("sub", ANONYMOUS))
        if request.method == "GET" and not self.budget.spend(account):
            answer.close()
            headers = self.budget.headers(account)
            return refusal(HTTPStatus.TOO_MANY_REQUESTS, "TOOMANYREQUESTS", headers, _TOO_MANY)
        answer.headers.update(self.budget.headers(account))
        return answer

    def _list_referrers(self, request: Request, name: str, digest: str) -> Answer:
        """List referrers to whom docker-registry would show the repository's tags."""
        tags = self.registry.ask("GET", f"/v2/{name}/tags/list", outgoing(request))
        if tags.status == HTTPStatus.UNAUTHORIZED:
            return relayed(tags)
        Relayed(tags).close()
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
        listed = self.registry.ask("GET", request.path, outgoing(request))
        if listed.status != HTTPStatus.OK:
            return relayed(listed)
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
        headers, body = outgoing(request), request.body if request.body.present else None
        try:
            answer = self.registry.ask(request.method, request.target, headers, body)
        except urllib3.exceptions.HTTPError as error:
            return refusal(HTTPStatus.BAD_GATEWAY, "UNKNOWN", message=str(error))
        return relayed(answer)


def _moved(location: str) -> Answer:
    # As Go writes it: the signed URL stands in the body, too.
    body = f'<a href="{html.escape(location)}">Temporary Redirect</a>.\n\n'.encode()
    headers = {
        "Location": location,
        "Content-Type": "text/html; charset=utf-8",
        "Content-Length": str(len(body)),
        "Docker-Distribution-Api-Version": "registry/2.0",
    }
    return Answer(HTTPStatus.TEMPORARY_REDIRECT, Headers(headers), [body])


def _json(document: object, media_type: str) -> Answer:
    body = json.dumps(document).encode()
    headers = Headers({"Content-Type": media_type, "Content-Length": str(len(body))})
    headers["Docker-Distribution-Api-Version"] = "registry/2.0"
    return Answer(HTTPStatus.OK, headers, [body])
