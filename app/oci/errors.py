"""The specification's error codes, and our errors as declarations.

RegistryError
+-- NameInvalid                 400  a repository name or tag that the grammar refuses
+-- DigestInvalid               400  a digest that the grammar refuses
+-- HostInvalid                 400  a Host header that cannot be part of a URL
+-- Unauthorized                401  a token that is another registry's; raised with the challenge
+-- Denied                      403  what the registry shows to nobody without a login
|   +-- ClientRefused           403  a client that this proxy is not for
|   +-- RuleRefused             403  what a rule of this proxy denies
|   +-- ClientHidden            403  one whose address cannot be told, where it decides
|   +-- FiguresRefused          403  one that may not see what is counted
+-- NameUnknown                 404  a registry that is not served here
+-- Unsupported                 404  no such endpoint here
|   +-- MethodUnsupported       405  pushes and deletions
+-- TooManyRequests             429  the registry's token service has had enough
|   +-- LoginsSlowed            429  wrong passwords from this address or its network
|   +-- LimitReached            429  a user, or an address, has had as much as it may
|       +-- RequestsReached     429  of requests in a minute
|       +-- DownloadsReached    429  of downloads at once
|       +-- BytesReached        429  of bytes in a day
|       +-- PullsReached        429  of pulls in a day
|       +-- ConnectionsReached  429  of connections of one address at once
+-- UpstreamMisbehaved          502  an answer that cannot be passed on; asking again will not help
|   +-- AccountRefused          502  the registry does not know this proxy's own account
|   +-- UpstreamForbidden       502  an address that this proxy must not connect to
+-- UpstreamUnavailable         503  no connection, or one that broke before the answer
|   +-- UpstreamUntrusted       503  no TLS that can be trusted
|   +-- OutboundProxyFails      503  the proxy that this proxy has to use does not lead there
|   +-- UpstreamUnreachable     503  no connection
|   +-- UpstreamDown            503  no connection lately, so none is tried for some seconds
|   +-- UpstreamTimeout         504  no answer in time
|   +-- UpstreamUnresolved      504  no answer in time to the question for its address
+-- LoopDetected                508  a question that leads back to this proxy
+-- ClientGone                  499  nobody waits for the answer any more
+-- LoginRequired               401  neither a token nor a password; raised with the challenge
|   +-- LoginMissing            401  the same of who asks for a token
|   +-- LoginWrong              401  a user or a password that is wrong, and not which
|   +-- TokenWrong              401  a token that is none of ours, or not any more
|   +-- ScopeInsufficient       401  a token for another repository
+-- LoginsBusy                  503  more logins at once than can be checked
"""

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any, ClassVar


class ErrorCode(StrEnum):
    """OCI distribution-spec, "Error Codes"; the last two are common practice beyond it."""

    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    DENIED = "DENIED"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    TOOMANYREQUESTS = "TOOMANYREQUESTS"
    UNAUTHORIZED = "UNAUTHORIZED"
    UNSUPPORTED = "UNSUPPORTED"
    UNAVAILABLE = "UNAVAILABLE"
    UNKNOWN = "UNKNOWN"


def error_document(code: ErrorCode, message: str, detail: object = None) -> dict[str, Any]:
    """Return what becomes an error body: OCI distribution-spec, "Error Codes"."""
    return {"errors": [{"code": code, "message": message, "detail": detail}]}


class RegistryError(Exception):
    """An answer to the client that is not the one it hoped for.

    `detail` becomes the error's `detail` in the OCI JSON, `added` headers come on top of `headers`.
    """

    code: ClassVar[ErrorCode] = ErrorCode.UNKNOWN
    status: ClassVar[int] = HTTPStatus.INTERNAL_SERVER_ERROR
    message: ClassVar[str] = "internal error"
    headers: ClassVar[Mapping[str, str]] = {}
    reason: ClassVar[str] = ""
    """The reason phrase of the status line (RFC 9112, section 4), or "" for the usual one."""
    refused_by: ClassVar[str] = ""
    """What of this proxy refuses, where it is about who may ask for what: one word, to count by."""

    def __init__(
        self,
        message: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        **detail: Any,  # noqa: ANN401 - any JSON value
    ) -> None:
        super().__init__(message or self.message)
        self.added = headers or {}
        self.detail = detail


class NameInvalid(RegistryError):
    """A repository name or tag outside the specification's grammar."""

    code = ErrorCode.NAME_INVALID
    status = HTTPStatus.BAD_REQUEST
    message = "invalid repository name"


class DigestInvalid(RegistryError):
    """A digest outside the specification's grammar."""

    code = ErrorCode.DIGEST_INVALID
    status = HTTPStatus.BAD_REQUEST
    message = "invalid digest"


class HostInvalid(RegistryError):
    """A Host or X-Forwarded-Host that cannot be part of a URL."""

    code = ErrorCode.UNKNOWN
    status = HTTPStatus.BAD_REQUEST
    message = "invalid Host header"


class Unauthorized(RegistryError):
    """A token that was not issued for the registry that it was sent to."""

    code = ErrorCode.UNAUTHORIZED
    status = HTTPStatus.UNAUTHORIZED
    message = "this token is for another registry"


class Denied(RegistryError):
    """What the registry shows to nobody without a login."""

    code = ErrorCode.DENIED
    status = HTTPStatus.FORBIDDEN
    message = "the registry wants a login for this"


class NameUnknown(RegistryError):
    """A registry that this proxy does not serve."""

    code = ErrorCode.NAME_UNKNOWN
    status = HTTPStatus.NOT_FOUND
    message = "this proxy does not serve that registry"


class Unsupported(RegistryError):
    """An endpoint that does not exist here."""

    code = ErrorCode.UNSUPPORTED
    status = HTTPStatus.NOT_FOUND
    message = "this proxy has no such endpoint"


class MethodUnsupported(Unsupported):
    """A push or a deletion: this proxy only reads.

    podman and buildah try whatever is "unsupported" four times, and what is "denied" once.
    python-dxf and `docker buildx imagetools` show the status line and not the body.
    """

    code = ErrorCode.DENIED
    status = HTTPStatus.METHOD_NOT_ALLOWED
    message = "this proxy only serves pulls"
    reason = "This proxy only serves pulls"
    headers: ClassVar[Mapping[str, str]] = {"Allow": "GET, HEAD"}


class TooManyRequests(RegistryError):
    """The registry's token service has had enough of this proxy."""

    code = ErrorCode.TOOMANYREQUESTS
    status = HTTPStatus.TOO_MANY_REQUESTS
    message = "the registry's token service answered 429"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "30"}


class UpstreamMisbehaved(RegistryError):
    """The registry's answer cannot be passed on.

    502, which containerd does not retry: asking again would not help.
    """

    code = ErrorCode.UNAVAILABLE
    status = HTTPStatus.BAD_GATEWAY
    message = "the registry gave an answer that cannot be passed on"


class AccountRefused(UpstreamMisbehaved):
    """The registry does not know this proxy's own account, or its password is wrong."""

    message = "the registry refuses this proxy's own credentials"


class UpstreamForbidden(UpstreamMisbehaved):
    """The registry, or where it redirects to, is on an address that is not public."""

    message = (
        "its address is not public; DOCXY_ALLOW_PRIVATE_UPSTREAMS allows that "
        "(allow_private for one registry)"
    )


class UpstreamUnavailable(RegistryError):
    """The registry cannot be reached.

    503, because containerd retries 500, 503 and 504 on its last host, but never 502.
    """

    code = ErrorCode.UNAVAILABLE
    status = HTTPStatus.SERVICE_UNAVAILABLE
    message = "cannot be reached"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "5"}


class UpstreamUntrusted(UpstreamUnavailable):
    """TLS with the registry failed."""

    message = "its certificate is not trusted, or TLS fails"


class OutboundProxyFails(UpstreamUnavailable):
    """The outbound proxy cannot be reached, or refuses."""

    message = "the outbound proxy does not lead there"


class UpstreamUnreachable(UpstreamUnavailable):
    """No connection could be made."""


class UpstreamDown(UpstreamUnavailable):
    """The registry could not be reached lately, and is not asked for some seconds."""

    message = "could not be reached lately, and is asked again in some seconds"


class UpstreamTimeout(UpstreamUnavailable):
    """The registry did not answer in time."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    message = "did not answer in time"


class UpstreamUnresolved(UpstreamUnavailable):
    """The registry's name was not answered in time, which says nothing about the registry."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    message = "its name was not answered in time"


class LoopDetected(RegistryError):
    """A question that has come by this proxy, or another Docxy, a few times already."""

    code = ErrorCode.UNAVAILABLE
    status = HTTPStatus.LOOP_DETECTED
    message = "the registry, or where it redirects to, leads back to this proxy"


class ClientGone(RegistryError):
    """The client closed its connection; 499 is what nginx writes into its log for that."""

    status = 499
    message = "the client closed the connection"


# Access: networks, rules and figures.


class ClientRefused(Denied):
    """A client in a network that this proxy is not for."""

    message = "this proxy does not serve your network"
    refused_by = "networks"


class RuleRefused(Denied):
    """What a rule of this proxy denies; its `detail` says which one, and stands for the word."""

    message = "a rule of this proxy denies it"
    refused_by = "rule"


class ClientHidden(Denied):
    """A client behind a server that is not believed, or that does not say for whom it asks."""

    message = (
        "this proxy serves some networks only, and cannot tell which one you are in: "
        "FORWARDED_ALLOW_IPS names the servers in front that it believes"
    )
    refused_by = "hidden"


class FiguresRefused(Denied):
    """A client that may not see what is counted."""

    message = "figures are for the networks of DOCXY_FIGURES_NETWORKS"
    refused_by = "figures"


# Logins at this proxy itself.


class LoginRequired(RegistryError):
    """A request that shows neither a token nor a password: each client's first one."""

    code = ErrorCode.UNAUTHORIZED
    status = HTTPStatus.UNAUTHORIZED
    message = "log in at this proxy first"


class LoginMissing(LoginRequired):
    """A client that knows where to log in, and has no login: its pull ends here."""

    refused_by = "login"


class LoginWrong(LoginRequired):
    """A user that is not there, or another password."""

    message = "wrong user name or password for this proxy"
    refused_by = "password"


class TokenWrong(LoginRequired):
    """A token that this proxy has not given, that is too old, or whose user has changed."""

    message = "this token is not, or no longer, good for this proxy"
    refused_by = "token"


class ScopeInsufficient(LoginRequired):
    """A token that was given for other repositories."""

    message = "this token is for another repository"
    refused_by = "scope"


class LoginsSlowed(TooManyRequests):
    """A network that has sent wrong passwords has to wait."""

    message = "too many wrong passwords from your address or network; wait before the next one"
    refused_by = "slowed"


class LoginsBusy(RegistryError):
    """Passwords are checked one after the other, and too many wait already."""

    code = ErrorCode.UNAVAILABLE
    status = HTTPStatus.SERVICE_UNAVAILABLE
    message = "too many logins at once; try again in a moment"
    refused_by = "busy"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "5"}


# Limits; each is raised with `Retry-After`.


class LimitReached(TooManyRequests):
    """As much as one may have of this proxy."""

    message = "this proxy lets you have no more"
    refused_by = "limit"


class RequestsReached(LimitReached):
    """As many requests as a minute may have."""

    refused_by = "limit-requests"
    message = "this proxy takes no more requests of you this minute"


class DownloadsReached(LimitReached):
    """As many downloads as may run at once."""

    refused_by = "limit-downloads"
    message = "this proxy lets you have no more downloads at once"


class BytesReached(LimitReached):
    """As many bytes as a day may have."""

    refused_by = "limit-bytes"
    message = "this proxy sends you no more bytes today"


class PullsReached(LimitReached):
    """As many pulls as a day may have."""

    refused_by = "limit-pulls"
    message = "this proxy lets you have no more pulls today"


class ConnectionsReached(LimitReached):
    """As many connections as one address may have a request on."""

    refused_by = "limit-connections"
    message = "this proxy serves your address no more requests at once"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "5"}
