"""Docker Hub's search index, always queried anonymously."""

from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import requests

from app.oci import documents, headers
from app.oci.errors import ErrorCode, UpstreamMisbehaved
from app.source import Reply, Request, build_reply
from app.upstream import replies
from app.upstream.http import redirects
from app.upstream.http.backoff import RecentTooManyRequests
from app.upstream.http.body import read_whole
from app.upstream.http.deadlines import Call
from app.upstream.http.redirects import Redirects
from app.upstream.http.retries import Reliability, Retrier
from app.upstream.http.session import Session
from app.version import VERSION

_LIMIT: Final = 1024 * 1024
"""The maximum size of an answer. A hundred results with descriptions take a tenth of it."""

_OWN_HEADERS: Final = [
    ("User-Agent", f"docxy/{VERSION}"),
    ("Accept", "application/json"),
    ("Accept-Encoding", "identity"),
]
_JSON_HEADERS: Final = [("Content-Type", "application/json")]


class HubSearchIndex:
    """Queries the index at the operator's URL.

    Only the query and the Via headers of the client's request are passed on.
    """

    def __init__(self, url: str, session: Session, reliability: Reliability) -> None:
        self._url = f"{url}/v1/search"
        self._redirects = Redirects(session)
        self._retrier = Retrier.for_quick_requests(reliability.retry_budget)
        self._recent_429s = RecentTooManyRequests()

    def search(self, request: Request) -> Reply:
        """Return one page of results, or the index's refusal.

        Raise UpstreamMisbehaved if the answer has no list of results, or another RegistryError if
        the index cannot be read.
        """
        if recent_429 := self._recent_429s.lookup("", request.query):
            return recent_429
        url = f"{self._url}?{request.query}"
        via_fields = [("Via", value) for value in headers.get_all(request.headers, "via")]
        call = Call.for_request(request)
        total_timeout = self._redirects.session.total_timeout
        content = b""

        def fetch(call: Call) -> requests.Response:
            nonlocal content
            response = self._redirects.fetch("GET", url, [*_OWN_HEADERS, *via_fields], call)
            if response.status_code == HTTPStatus.OK:
                content = read_whole(response, _LIMIT, call.limit_time(total_timeout))
            return response

        response = self._retrier(fetch, call)
        redirects.refuse_unfollowed_redirect(response)
        if response.status_code != HTTPStatus.OK:
            limited_call = call.limit_time(total_timeout)
            reply = replies.build_refusal("GET", response, ErrorCode.UNKNOWN, (), limited_call)
            content_type = response.headers.get("Content-Type", "")
            return self._recent_429s.record("", request.query, reply, content_type)
        if not _has_results(content):
            message = f"{urlsplit(self._url).hostname} sent no search results"
            raise UpstreamMisbehaved(message)
        return build_reply(HTTPStatus.OK, list(_JSON_HEADERS), content)


def _has_results(content: bytes) -> bool:
    return isinstance(documents.parse_object_or_empty(content).get("results"), list)
