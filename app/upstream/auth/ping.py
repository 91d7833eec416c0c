"""Anonymous pings: how a registry answers them, and whether it answers at all."""

from http import HTTPStatus
from typing import Final

import requests

from app.oci import headers
from app.oci.errors import ErrorCode
from app.registries import Registry
from app.upstream import replies
from app.upstream.auth import service
from app.upstream.auth.remembered import RefreshingCache, ThrottledCheck
from app.upstream.auth.service import PingResult
from app.upstream.http import redirects
from app.upstream.http.body import discard, read_whole
from app.upstream.http.deadlines import NO_LIMIT, Call
from app.upstream.http.known_registries import RedirectsToRegistry
from app.upstream.http.redirects import Redirects
from app.upstream.http.retries import Retrier
from app.version import VERSION

_LIFETIME: Final = 600.0
_REACH_LIFETIME: Final = 2.0
_REACH_TIMEOUT: Final = 6.0
_LIMIT: Final = 64 * 1024

_OWN_HEADERS: Final = [("User-Agent", f"docxy/{VERSION}"), ("Accept-Encoding", "identity")]
"""The headers of requests that this proxy makes on its own behalf."""


class PingClient:
    """Sends anonymous `GET /v2/` requests to a registry, and remembers the answer."""

    def __init__(self, registry: Registry, redirects: Redirects, retrier: Retrier) -> None:
        self._registry = registry
        self._redirects = redirects
        self._retrier = retrier
        self._url = f"{registry.url}/v2/"
        self._ping = RefreshingCache(self._fetch_ping, lambda ping: ping.is_lasting, _LIFETIME)
        self._reachability = ThrottledCheck(self._check_reachable, _REACH_LIFETIME)

    def get(self, call: Call = NO_LIMIT) -> PingResult:
        """Return the answer to the ping, from memory if it is there, to the caller of `call`.

        An answer older than ten minutes is still returned, but is refreshed in the background.
        Raise RegistryError if the registry gives no answer and none is remembered.
        """
        return self._ping.get(call)

    def check_reachable(self) -> None:
        """Return None if the registry gives any answer; raise RegistryError if it gives none.

        The registry is asked at most once every few seconds, however often this is called.
        """
        self._reachability.check()

    def _check_reachable(self, call: Call) -> None:
        call = call.limit_time(_REACH_TIMEOUT)
        discard(self._redirects.session.send("GET", self._url, _OWN_HEADERS, call=call), call)

    def _fetch_ping(self, call: Call) -> PingResult:
        content = b""
        total_timeout = self._redirects.session.total_timeout

        def fetch(call: Call) -> requests.Response:
            nonlocal content
            response = self._redirects.fetch("GET", self._url, _OWN_HEADERS, call)
            if response.status_code == HTTPStatus.OK:
                content = read_whole(response, _LIMIT, call.limit_time(total_timeout))
            return response

        try:
            response = self._retrier(fetch, call)
        except RedirectsToRegistry:
            # The client needs no token: this proxy gets one from the registry redirected to.
            return PingResult(HTTPStatus.OK.value, [], b"", ())
        redirects.refuse_unfollowed_redirect(response)
        status = response.status_code
        if status < HTTPStatus.BAD_REQUEST:
            response.close()
            return PingResult(
                status, headers.filter_response_headers(response.raw.headers.items()), content, ()
            )
        challenges = service.parse_trusted_challenges(self._registry, response)
        call = call.limit_time(total_timeout)
        reply = replies.build_refusal("GET", response, ErrorCode.UNKNOWN, challenges, call)
        return PingResult(reply.status, reply.headers, reply.read(), reply.challenges)
