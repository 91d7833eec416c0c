"""A regional host: manifests and blobs for those whom a registry sends there, without a token."""

import re
from dataclasses import dataclass
from http import HTTPStatus

from tests.hub.accounts import Scope
from tests.hub.faults import refusal
from tests.hub.files import serve_file, xml
from tests.hub.messages import Answer, Request
from tests.hub.registry import Registry
from tests.hub.relaying import Relayed, relayed, without_conditions

_RESOURCE = re.compile(r"/v2/(.+)/(manifests|blobs)/([^/]+)")
_ACCOUNT = "region"


@dataclass(slots=True)
class Region:
    """Serves whatever docker-registry has: who may have it was decided by who sent the client."""

    registry: Registry
    refuse_head: bool = False
    """As if its URLs were signed for GET."""

    def answer(self, request: Request) -> Answer:
        """Answer one request."""
        if "Authorization" in request.headers:
            return refusal(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", message="nobody has a login")
        match = _RESOURCE.fullmatch(request.path)
        if match is None or request.method not in {"GET", "HEAD"}:
            return refusal(HTTPStatus.NOT_FOUND, "UNSUPPORTED")
        if request.method == "HEAD" and self.refuse_head:
            return xml(HTTPStatus.FORBIDDEN, "AccessDenied", "The URL is signed for GET")
        scope = Scope("repository", match[1], ("pull",))
        token = self.registry.issuer.sign(_ACCOUNT, [scope])
        request.headers["Authorization"] = f"Bearer {token}"
        headers = without_conditions(request)
        probe = self.registry.ask("HEAD", request.path, headers)
        Relayed(probe).close()
        if probe.status != HTTPStatus.OK:
            return relayed(self.registry.ask(request.method, request.path, headers))
        digest = probe.headers["Docker-Content-Digest"]
        shown = {
            name: probe.headers[name] for name in ("Content-Type", "Docker-Content-Digest", "ETag")
        }
        return serve_file(request, self.registry.blob_path(digest), shown["ETag"], shown)
