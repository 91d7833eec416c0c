"""An HTTP client that opens a connection for each request and records the unchanged answer."""

import hashlib
import http.client
import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from app.doctor.target import Endpoint
from app.oci import documents, media_types
from app.oci.headers import Headers, get_first
from app.oci.manifest import LARGEST
from app.version import VERSION

AGENT: Final = f"docxy-doctor/{VERSION}"
PATIENCE: Final = 60.0
"""Seconds to wait for an answer: Docxy retries a registry for up to 45 s."""
_CHUNK_SIZE: Final = 256 * 1024


class NoResponse(Exception):
    """Raised if a request has no answer that can be judged; the message says how it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResponse:
    """An answer whose body was read to its end."""

    status: int
    headers: Headers
    body: bytes = b""
    """The beginning of a large body, about as long as the largest manifest.

    `length` and `digest` are those of the whole body that arrived.
    """
    length: int = 0
    digest: str = ""
    failure: str = ""
    """How the body broke off, or "" if it is complete."""
    first_byte_seconds: float = 0.0
    """Seconds from the start of the request to the first byte of the body."""
    total_seconds: float = 0.0
    """Seconds from the start of the request to the end of the body."""
    received_at: float = 0.0
    """When the headers arrived, in seconds since 1970 by this machine's clock."""

    def header(self, name: str) -> str:
        """Return the first value of a header, or "" if it is missing."""
        return get_first(self.headers, name)

    @property
    def content_length(self) -> int | None:
        """The Content-Length in bytes, or None if it is missing or not a number."""
        text = self.header("content-length")
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def document(self) -> dict[str, Any]:
        """The body as a JSON object; an empty one if the body is something else."""
        return documents.parse_object_or_empty(self.body)

    @property
    def error_code(self) -> str:
        """The code of the first error in a registry's error document, or ""."""
        match self.document:
            case {"errors": [{"code": str(code)}, *_]}:
                return code
        return ""

    @property
    def error_message(self) -> str:
        """The message of the first error in a registry's error document, or ""."""
        match self.document:
            case {"errors": [{"message": str(message)}, *_]}:
                return message
        return ""

    def __str__(self) -> str:
        kind = media_types.essence(self.header("content-type"))
        detail = f"{self.error_code}: {self.error_message}" if self.error_code else kind
        return f"{self.status}" + (f" ({detail})" if detail else "")


class ProbeClient:
    """A client for one endpoint; `context` is used only if the endpoint has TLS."""

    def __init__(self, endpoint: Endpoint, context: ssl.SSLContext | None) -> None:
        self.endpoint = endpoint
        self._context = context if endpoint.is_tls else None

    def get(self, target: str, headers: Iterable[tuple[str, str]] = ()) -> ProbeResponse:
        """Send a GET and return the answer; may raise NoResponse."""
        return self.request("GET", target, headers)

    def request(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        *,
        patience: float = PATIENCE,
    ) -> ProbeResponse:
        """Send a request without a body and return the answer; may raise NoResponse.

        `patience` is the time-out in seconds for connecting and for each read.
        """
        started_at = time.monotonic()
        try:
            with self.connect(patience) as sock:
                connection = http.client.HTTPConnection(self.endpoint.host, timeout=patience)
                connection.sock = sock
                connection.putrequest(
                    method, self.endpoint.path + target, skip_host=True, skip_accept_encoding=True
                )
                connection.putheader("Host", self.endpoint.authority)
                connection.putheader("User-Agent", AGENT)
                for name, value in headers:
                    connection.putheader(name, value)
                connection.endheaders()
                with connection.getresponse() as response:
                    return _read_response(response, method, started_at)
        except TimeoutError as error:
            message = f"no response within {patience:.0f} s"
            raise NoResponse(message) from error
        except (OSError, http.client.HTTPException) as error:
            raise NoResponse(describe_error(error)) from error
        except ValueError as error:  # http.client refuses to send what a server gave us
            message = "a value that the server sent before is not valid in a request"
            raise NoResponse(message) from error

    def connect(self, patience: float) -> socket.socket:
        """Return a new connection, with TLS if the endpoint has it; may raise OSError.

        `patience` is the socket's time-out in seconds.
        """
        sock = socket.create_connection((self.endpoint.host, self.endpoint.port), timeout=patience)
        if self._context is None:
            return sock
        try:
            return self._context.wrap_socket(sock, server_hostname=self.endpoint.host)
        except OSError:
            sock.close()
            raise


def describe_error(error: Exception) -> str:
    """Return a phrase that explains a network exception to people."""
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed without a response"
    if isinstance(error, ConnectionResetError):
        return "the connection was reset"
    if isinstance(error, http.client.HTTPException):
        return f"the response is not HTTP ({type(error).__name__})"
    strerror = getattr(error, "strerror", None)
    return str(strerror or str(error) or type(error).__name__)


def _read_response(
    response: http.client.HTTPResponse, method: str, started_at: float
) -> ProbeResponse:
    received_at = time.time()
    body, length, sha256, first_byte_seconds, failure = b"", 0, hashlib.sha256(), 0.0, ""
    try:
        while chunk := response.read1(_CHUNK_SIZE):
            first_byte_seconds = first_byte_seconds or time.monotonic() - started_at
            length += len(chunk)
            sha256.update(chunk)
            if len(body) < LARGEST:
                body += chunk
    except TimeoutError:
        failure = "it fell silent"
    except (OSError, http.client.HTTPException) as error:
        failure = describe_error(error)
    probe_response = ProbeResponse(
        status=response.status,
        headers=response.getheaders(),
        body=body,
        length=length,
        digest=f"sha256:{sha256.hexdigest()}",
        failure=failure,
        first_byte_seconds=first_byte_seconds,
        total_seconds=time.monotonic() - started_at,
        received_at=received_at,
    )
    if method != "HEAD" and not failure and length < (probe_response.content_length or 0):
        return replace(
            probe_response, failure=f"{length} of {probe_response.content_length} bytes arrived"
        )
    return probe_response
