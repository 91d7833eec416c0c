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
_SOON: Final = 14 * 24 * 3600.0
_DAY: Final = 24 * 3600

# OpenSSL's X509_V_ERR_... codes.
_CODES: Final = {9: "tls-early", 10: "tls-expired", 62: "tls-name", 64: "tls-name"}


@dataclass(frozen=True, slots=True)
class ConnectResults:
    """The addresses of a name, each with the reason why it cannot be reached, or ""."""

    addresses: tuple[tuple[str, str], ...]
    dns_error: str = ""
    """Why the name has no addresses, or ""."""

    @property
    def is_reachable(self) -> bool:
        """Whether any of the addresses accepts connections."""
        return any(not trouble for _, trouble in self.addresses)


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


def connect_to_all(place: Endpoint) -> ConnectResults:
    """Resolve the name of an endpoint, connect to each address, and return the results."""
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return ConnectResults((), describe_error(error))
    addresses = {str(entry[4][0]): entry for entry in found}
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


def judge_connections(place: Endpoint, reached: ConnectResults) -> Iterator[StepResult]:
    """Yield the steps for DNS and TCP, and for TLS if the endpoint has none."""
    tried = f"DNS: {place.host}"
    if not reached.addresses:
        yield StepResult(tried, reached.dns_error, "dns")
        return
    yield StepResult(tried, ", ".join(address for address, _ in reached.addresses))
    deaf = [f"{address}: {trouble}" for address, trouble in reached.addresses if trouble]
    wrong = "" if not deaf else "tcp-some" if reached.is_reachable else "tcp"
    # A loopback name usually resolves to both loopback addresses, and one is enough.
    if wrong == "tcp-some" and place.is_loopback:
        wrong = ""
    answer = f"{len(reached.addresses) - len(deaf)} of {len(reached.addresses)} addresses answer"
    yield StepResult(f"TCP: port {place.port}", "; ".join([answer, *deaf]), wrong)
    if not place.is_tls:
        came = "passwords and tokens cross the network in the clear"
        if place.is_loopback:
            yield StepResult("TLS", "plain http, which clients accept on loopback only")
        else:
            yield StepResult("TLS", came, "plain-http")


def build_tls_context(authorities: Sequence[Path]) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities and those in these PEM files.

    Raise OSError if a file cannot be read or has no certificate.
    """
    made = ssl.create_default_context()
    # Since Python 3.13, the default is stricter than any client.
    made.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    for path in authorities:
        made.load_verify_locations(path)
    return made


def build_insecure_context() -> ssl.SSLContext:
    """Return a context that accepts any certificate, for requests that carry no secret."""
    made = ssl.create_default_context()
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


def try_handshake(place: Endpoint, trusting: ssl.SSLContext) -> TlsHandshake:
    """Make a TLS handshake as a client does, and return its result, even if it fails."""
    try:
        with (
            socket.create_connection((place.host, place.port), timeout=PATIENCE) as plain,
            trusting.wrap_socket(plain, server_hostname=place.host) as shaken,
        ):
            certificate = shaken.getpeercert() or {}
            since, until = (
                float(ssl.cert_time_to_seconds(str(certificate[name])))
                for name in ("notBefore", "notAfter")
            )
            return TlsHandshake(shaken.version() or "", since, until)
    except ssl.SSLCertVerificationError as error:
        return TlsHandshake(verify_code=error.verify_code, error=error.verify_message)
    except ssl.SSLError as error:
        return TlsHandshake(
            error=(error.reason or "the handshake failed").replace("_", " ").lower()
        )
    except OSError as error:
        return TlsHandshake(error=describe_error(error))


def judge_handshake(shown: TlsHandshake, now: float) -> StepResult:
    """Judge the certificate at time `now`, in wall-clock seconds since 1970.

    It expires soon if fewer than 14 days are left, or less than a quarter of its validity.
    """
    if shown.verify_code:
        return StepResult("TLS", shown.error, _CODES.get(shown.verify_code, "tls-chain"))
    if shown.error or shown.valid_until is None:
        return StepResult("TLS", shown.error, "tls")
    left = shown.valid_until - now
    day = time.strftime("%Y-%m-%d", time.gmtime(shown.valid_until))
    came = f"{shown.version}, a trusted certificate until {day} ({left / _DAY:.0f} days)"
    # Authorities with automatic renewal issue certificates that last for days, or hours.
    soon = min(_SOON, (shown.valid_until - shown.valid_from) / 4)
    return StepResult("TLS", came, "tls-soon" if left < soon else "")
