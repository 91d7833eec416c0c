"""The specification's error codes, and a class for each of Docxy's errors.

RegistryError
+-- NameInvalid                     400  a repository name or tag outside the grammar
+-- DigestInvalid                   400  a digest outside the grammar
+-- HostInvalid                     400  a Host header that cannot be part of a URL
+-- Unauthorized                    401  a token for another registry; raised with the challenge
+-- Denied                          403  the registry does not allow this without a login
|   +-- NetworkDenied               403  the client's network is not served
|   +-- RuleDenied                  403  a rule of this proxy denies the request
|   +-- ClientAddressUnknown        403  the decision needs the client's address, which is unknown
|   +-- FiguresRefused              403  the client may not see the figures
+-- NameUnknown                     404  a registry that this proxy does not serve
+-- Unsupported                     404  no such endpoint
|   +-- MethodUnsupported           405  pushes and deletions
+-- TooManyRequests                 429  the registry's token service limits this proxy
|   +-- LoginsThrottled             429  wrong passwords from this address or its network
|   +-- LimitReached                429  a user or an address has reached a limit
|       +-- RequestLimitReached     429  requests per minute
|       +-- DownloadLimitReached    429  concurrent downloads
|       +-- ByteLimitReached        429  bytes per day
|       +-- PullLimitReached        429  pulls per day
|       +-- ConnectionLimitReached  429  concurrent connections from one address
+-- UpstreamMisbehaved              502  an answer that cannot be relayed; a retry would not help
|   +-- AccountRefused              502  the registry rejects this proxy's own account
|   +-- UpstreamForbidden           502  an address that this proxy must not connect to
+-- UpstreamUnavailable             503  no connection, or one that broke before the answer
|   +-- UpstreamUntrusted           503  TLS failed, or the certificate is not trusted
|   +-- OutboundProxyFails          503  the outbound proxy does not reach the registry
|   +-- UpstreamUnreachable         503  no connection
|   +-- UpstreamDown                503  the circuit breaker is open: no attempt for some seconds
|   +-- UpstreamTimeout             504  no answer in time
|   +-- UpstreamUnresolved          504  the name lookup did not finish in time
+-- LoopDetected                    508  the request has come back to this proxy
+-- ClientGone                      499  the client has closed its connection
+-- LoginRequired                   401  neither a token nor a password; raised with the challenge
|   +-- LoginMissing                401  a token request without a login
|   +-- LoginInvalid                401  a wrong user name or password, without saying which
|   +-- TokenInvalid                401  a token that is not ours, or no longer valid
|   +-- ScopeInsufficient           401  a token for another repository
+-- LoginsBusy                      503  too many logins are waiting to be checked
"""

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any, ClassVar


class ErrorCode(StrEnum):
    """The codes of OCI distribution-spec, "Error Codes"; the last two are common additions."""

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
    """Return the JSON object of an error response (OCI distribution-spec, "Error Codes")."""
    return {"errors": [{"code": code, "message": message, "detail": detail}]}


class RegistryError(Exception):
    """An error that the client receives as OCI JSON.

    `detail` becomes the `detail` of that JSON. `extra_headers` are sent in addition to the
    `headers` of the class.
    """

    code: ClassVar[ErrorCode] = ErrorCode.UNKNOWN
    status: ClassVar[int] = HTTPStatus.INTERNAL_SERVER_ERROR
    message: ClassVar[str] = "internal error"
    headers: ClassVar[Mapping[str, str]] = {}
    reason: ClassVar[str] = ""
    """The reason phrase of the status line (RFC 9112, section 4), or "" for the standard one."""
    refused_by: ClassVar[str] = ""
    """One word for the part of this proxy that refuses access, used in metrics; "" if none does."""

    def __init__(
        self,
        message: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        **detail: Any,  # noqa: ANN401 - any JSON value
    ) -> None:
        super().__init__(message or self.message)
        self.extra_headers = headers or {}
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
    """The token was issued for a registry other than the one it was sent to."""

    code = ErrorCode.UNAUTHORIZED
    status = HTTPStatus.UNAUTHORIZED
    message = "this token is for another registry"


class Denied(RegistryError):
    """The registry does not allow the request without a login."""

    code = ErrorCode.DENIED
    status = HTTPStatus.FORBIDDEN
    message = "the registry requires a login for this"


class NameUnknown(RegistryError):
    """The request addresses a registry that this proxy does not serve."""

    code = ErrorCode.NAME_UNKNOWN
    status = HTTPStatus.NOT_FOUND
    message = "this proxy does not serve that registry"


class Unsupported(RegistryError):
    """The proxy has no such endpoint."""

    code = ErrorCode.UNSUPPORTED
    status = HTTPStatus.NOT_FOUND
    message = "this proxy has no such endpoint"


class MethodUnsupported(Unsupported):
    """A push or a deletion: this proxy only serves pulls.

    podman and buildah try an "unsupported" request four times, but a "denied" one only once.
    python-dxf and `docker buildx imagetools` show the status line, but not the body.
    """

    code = ErrorCode.DENIED
    status = HTTPStatus.METHOD_NOT_ALLOWED
    message = "this proxy only serves pulls"
    reason = "This proxy only serves pulls"
    headers: ClassVar[Mapping[str, str]] = {"Allow": "GET, HEAD"}


class TooManyRequests(RegistryError):
    """The registry's token service answered 429 to this proxy."""

    code = ErrorCode.TOOMANYREQUESTS
    status = HTTPStatus.TOO_MANY_REQUESTS
    message = "the registry's token service answered 429"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "30"}


class UpstreamMisbehaved(RegistryError):
    """The registry's answer cannot be relayed.

    The status is 502, which containerd does not retry: a retry would not help.
    """

    code = ErrorCode.UNAVAILABLE
    status = HTTPStatus.BAD_GATEWAY
    message = "the registry sent an invalid response"


class AccountRefused(UpstreamMisbehaved):
    """The registry rejects this proxy's own account: the user is unknown or the password wrong."""

    message = "the registry rejected this proxy's own credentials"


class UpstreamForbidden(UpstreamMisbehaved):
    """The registry, or the host that it redirects to, has an address that is not public."""

    message = (
        "its address is not public; DOCXY_ALLOW_PRIVATE_UPSTREAMS allows that "
        "(allow_private for one registry)"
    )


class UpstreamUnavailable(RegistryError):
    """The registry cannot be reached.

    The status is 503 because containerd retries 500, 503 and 504 on its last host, but never 502.
    """

    code = ErrorCode.UNAVAILABLE
    status = HTTPStatus.SERVICE_UNAVAILABLE
    message = "cannot be reached"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "5"}


class UpstreamUntrusted(UpstreamUnavailable):
    """The TLS handshake with the registry failed, or its certificate is not trusted."""

    message = "its certificate is not trusted, or the TLS handshake failed"


class OutboundProxyFails(UpstreamUnavailable):
    """The outbound proxy cannot be reached, or refuses the connection."""

    message = "the outbound proxy failed"


class UpstreamUnreachable(UpstreamUnavailable):
    """No connection to the registry could be made."""


class UpstreamDown(UpstreamUnavailable):
    """The circuit breaker is open: after failures, the registry is not tried for some seconds."""

    message = "could not be reached recently; try again in a few seconds"


class UpstreamTimeout(UpstreamUnavailable):
    """The registry did not answer in time."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    message = "did not answer in time"


class UpstreamUnresolved(UpstreamUnavailable):
    """The registry's name was not resolved in time, which says nothing about the registry."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    message = "its name lookup timed out"


class LoopDetected(RegistryError):
    """The request has passed through this proxy, or another Docxy, several times already."""

    code = ErrorCode.UNAVAILABLE
    status = HTTPStatus.LOOP_DETECTED
    message = "the registry, or one of its redirects, leads back to this proxy"


class ClientGone(RegistryError):
    """The client closed its connection; nginx logs this as 499."""

    status = 499
    message = "the client closed the connection"


# Access: networks, rules and figures


class NetworkDenied(Denied):
    """The client is in a network that this proxy does not serve."""

    message = "this proxy does not serve your network"
    refused_by = "networks"


class RuleDenied(Denied):
    """A rule denies the request; `detail["rule"]` replaces `refused_by` in logs and metrics."""

    message = "a rule of this proxy denies it"
    refused_by = "rule"


class ClientAddressUnknown(Denied):
    """The client is behind a server that is not trusted, or that does not say who the client is."""

    message = (
        "this proxy serves only some networks, and cannot tell which one you are in: "
        "FORWARDED_ALLOW_IPS must name the servers in front of it"
    )
    refused_by = "hidden"


class FiguresRefused(Denied):
    """The client is outside the networks that may see the figures."""

    message = "only the networks of DOCXY_FIGURES_NETWORKS may see the figures"
    refused_by = "figures"


# Logins to this proxy itself


class LoginRequired(RegistryError):
    """The request has neither a token nor a password, like the first request of every client."""

    code = ErrorCode.UNAUTHORIZED
    status = HTTPStatus.UNAUTHORIZED
    message = "log in to this proxy first"


class LoginMissing(LoginRequired):
    """The client asks for a token without a login, so its pull ends here."""

    refused_by = "login"


class LoginInvalid(LoginRequired):
    """The user does not exist, or the password is wrong."""

    message = "wrong user name or password for this proxy"
    refused_by = "password"


class TokenInvalid(LoginRequired):
    """The token is not from this proxy or has expired, or its user has changed."""

    message = "this token is invalid or has expired"
    refused_by = "token"


class ScopeInsufficient(LoginRequired):
    """The token was issued for other repositories."""

    message = "this token is for another repository"
    refused_by = "scope"


class LoginsThrottled(TooManyRequests):
    """The client has to wait: its address or network has sent too many wrong passwords."""

    message = "too many wrong passwords from your address or network; wait before the next one"
    refused_by = "slowed"


class LoginsBusy(RegistryError):
    """Passwords are checked one at a time, and too many logins are waiting already."""

    code = ErrorCode.UNAVAILABLE
    status = HTTPStatus.SERVICE_UNAVAILABLE
    message = "too many logins at once; try again in a moment"
    refused_by = "busy"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "5"}


# Limits: each of these errors is sent with `Retry-After`


class LimitReached(TooManyRequests):
    """A user or an address has reached a limit of this proxy."""

    message = "you have reached a limit of this proxy"
    refused_by = "limit"


class RequestLimitReached(LimitReached):
    """The limit of requests per minute has been reached."""

    refused_by = "limit-requests"
    message = "you have reached this proxy's limit of requests per minute"


class DownloadLimitReached(LimitReached):
    """The limit of concurrent downloads has been reached."""

    refused_by = "limit-downloads"
    message = "you have reached this proxy's limit of concurrent downloads"


class ByteLimitReached(LimitReached):
    """The limit of bytes per day has been reached."""

    refused_by = "limit-bytes"
    message = "you have reached this proxy's limit of bytes per day"


class PullLimitReached(LimitReached):
    """The limit of pulls per day has been reached."""

    refused_by = "limit-pulls"
    message = "you have reached this proxy's limit of pulls per day"


class ConnectionLimitReached(LimitReached):
    """One address has requests on as many connections as it is allowed."""

    refused_by = "limit-connections"
    message = "your address has reached the limit of concurrent requests of this proxy"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "5"}
