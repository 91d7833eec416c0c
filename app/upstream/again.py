"""The question for the rest of a blob: where it broke off, or at the registry."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import requests

from app.content import Client, Permit
from app.oci import headers
from app.oci.errors import Denied
from app.oci.headers import Headers
from app.upstream.discarding import discard
from app.upstream.origins import origin
from app.upstream.parts import Part
from app.upstream.redirects import Redirects

_RENEWALS = 2
"""The first token in place of the client's may be a remembered one, and refused as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobAgain:
    """The client's request for a blob, to be made once more for a part of it.

    `renewed` returns an Authorization in place of one that is refused, or "" where that is the
    client's to do.
    """

    redirects: Redirects
    url: str
    fields: Headers
    client: Client | None
    budget: float
    renewed: Callable[[str], str]
    permit: Permit | None = None

    def at_same_place(self, part: Part, broken: requests.Response) -> requests.Response | None:
        """Ask where the broken answer came from; None if that was the registry itself.

        A signed URL is good for some minutes, and no credentials go there.
        """
        if origin(broken.url) == origin(self.url):
            return None
        fields = headers.pass_elsewhere(self._for(part))
        etag = broken.headers.get("ETag", "")
        if etag.startswith('"'):
            fields.append(("If-Range", etag))  # a strong one only: RFC 9110, section 13.1.5
        return self.redirects.send_again(broken.url, fields, self.client, self.permit)

    def from_registry(self, part: Part) -> requests.Response:
        """Ask the registry, with a new token where the old one is refused and may be replaced.

        Raise Denied where only the client can get one.
        """
        fields = self._for(part)
        response = self._fetch(fields)
        for _ in range(_RENEWALS):
            if not self._is_refused(response):
                break
            discard(response)
            if not (renewed := self.renewed(headers.value(fields, "authorization"))):
                raise Denied
            fields = [*headers.without(fields, "authorization"), ("Authorization", renewed)]
            response = self._fetch(fields)
        return response

    def _fetch(self, fields: Headers) -> requests.Response:
        return self.redirects.fetch("GET", self.url, fields, self.client, self.permit)

    def _is_refused(self, response: requests.Response) -> bool:
        own = origin(response.url) == origin(self.url)
        return own and response.status_code == HTTPStatus.UNAUTHORIZED

    def _for(self, part: Part) -> Headers:
        last = "" if part.end is None else str(part.end - 1)
        wanted = ("Range", f"bytes={part.start}-{last}")
        return [*headers.without(self.fields, *headers.PARTIAL), wanted]
