"""Check how the proxy is reached: its name, its addresses and its certificate."""

import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.doctor.findings import StepResult
from app.doctor.http import describe_error
from app.doctor.target import Endpoint

PATIENCE: Final = 10.0
_AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
_MAX_SOON: Final = 14 * 24 * 3600.0
_DAY: Final = 24 * 3600

# OpenSSL's X509_V_ERR_... codes.
_FINDINGS_BY_VERIFY_CODE: Final = {
    9: "tls-early",
    10: "tls-expired",
    62: "tls-name",
    64: "tls-name",
}


@dataclass(frozen=True, slots=True)
class ConnectResults:
    """The addresses of a name, each with the reason why it cannot be reached, or ""."""

    addresses: tuple[tuple[str, str], ...]
    dns_error: str = ""
    """Why the name has no addresses, or ""."""

    @property
    def is_reachable(self) -> bool:
        """Whether any of the addresses accepts connections."""
        return any(not error for _, error in self.addresses)


@dataclass(frozen=True, slots=True)
class TlsHandshake:
    """The result of a TLS handshake; `valid_from` is the start of the certificate's validity."""

    version: str = ""
    valid_from: float = 0.0
    valid_until: float | None = None
    """When the certificate expires, in seconds since 1970 (as is `valid_from`)."""
    verify_code: int = 0
    """OpenSSL's code for why the certificate is not trusted; 0 for any other result."""
    error: str = ""

    @property
    def is_trusted(self) -> bool:
        """Whether clients would accept the certificate."""
        return not self.verify_code and not self.error


def connect_to_all(endpoint: Endpoint) -> ConnectResults:
    """Resolve the name of an endpoint, connect to each address, and return the results."""
    try:
        address_infos = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return ConnectResults((), describe_error(error))
    addresses = {str(entry[4][0]): entry for entry in address_infos}
    return ConnectResults(tuple((name, _try_connect(entry)) for name, entry in addresses.items()))


def _try_connect(entry: _AddressInfo) -> str:
    family, kind, protocol, _, address = entry
    try:
        with socket.socket(family, kind, protocol) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(address)
    except TimeoutError:
        return f"no answer within {PATIENCE:.0f} s"
    except OSError as error:
        return describe_error(error)
    return ""


def judge_connections(endpoint: Endpoint, results: ConnectResults) -> Iterator[StepResult]:
    """Yield the steps for DNS and TCP, and for TLS if the endpoint has none."""
    action = f"DNS: {endpoint.host}"
    if not results.addresses:
        yield StepResult(action, results.dns_error, "dns")
        return
    yield StepResult(action, ", ".join(address for address, _ in results.addresses))
    silent = [f"{address}: {error}" for address, error in results.addresses if error]
    finding = "" if not silent else "tcp-some" if results.is_reachable else "tcp"
    # A loopback name usually resolves to both loopback addresses, and one is enough.
    if finding == "tcp-some" and endpoint.is_loopback:
        finding = ""
    summary = f"{len(results.addresses) - len(silent)} of {len(results.addresses)} addresses answer"
    yield StepResult(f"TCP: port {endpoint.port}", "; ".join([summary, *silent]), finding)
    if not endpoint.is_tls:
        outcome = "passwords and tokens cross the network in the clear"
        if endpoint.is_loopback:
            yield StepResult("TLS", "plain http, which clients accept on loopback only")
        else:
            yield StepResult("TLS", outcome, "plain-http")


def build_tls_context(authorities: Sequence[Path]) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities and those in these PEM files.

    Raise OSError if a file cannot be read or has no certificate.
    """
    context = ssl.create_default_context()
    # Since Python 3.13, the default is stricter than any client.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    for path in authorities:
        context.load_verify_locations(path)
    return context


def build_insecure_context() -> ssl.SSLContext:
    """Return a context that accepts any certificate, for requests that carry no secret."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def try_handshake(endpoint: Endpoint, context: ssl.SSLContext) -> TlsHandshake:
    """Make a TLS handshake as a client does, and return its result, even if it fails."""
    try:
        with (
            socket.create_connection((endpoint.host, endpoint.port), timeout=PATIENCE) as sock,
            context.wrap_socket(sock, server_hostname=endpoint.host) as tls_sock,
        ):
            certificate = tls_sock.getpeercert() or {}
            valid_from, valid_until = (
                float(ssl.cert_time_to_seconds(str(certificate[name])))
                for name in ("notBefore", "notAfter")
            )
            return TlsHandshake(tls_sock.version() or "", valid_from, valid_until)
    except ssl.SSLCertVerificationError as error:
        return TlsHandshake(verify_code=error.verify_code, error=error.verify_message)
    except ssl.SSLError as error:
        return TlsHandshake(
            error=(error.reason or "the handshake failed").replace("_", " ").lower()
        )
    except OSError as error:
        return TlsHandshake(error=describe_error(error))


def judge_handshake(handshake: TlsHandshake, now: float) -> StepResult:
    """Judge the certificate at time `now`, in wall-clock seconds since 1970.

    It expires soon if fewer than 14 days are left, or less than a quarter of its validity.
    """
    if handshake.verify_code:
        return StepResult(
            "TLS", handshake.error, _FINDINGS_BY_VERIFY_CODE.get(handshake.verify_code, "tls-chain")
        )
    if handshake.error or handshake.valid_until is None:
        return StepResult("TLS", handshake.error, "tls")
    remaining = handshake.valid_until - now
    expiry = time.strftime("%Y-%m-%d", time.gmtime(handshake.valid_until))
    outcome = (
        f"{handshake.version}, a trusted certificate until {expiry} ({remaining / _DAY:.0f} days)"
    )
    # Authorities with automatic renewal issue certificates that last for days, or hours.
    threshold = min(_MAX_SOON, (handshake.valid_until - handshake.valid_from) / 4)
    return StepResult("TLS", outcome, "tls-soon" if remaining < threshold else "")
