"""Check the way to the proxy: its name, its addresses and its certificate."""

import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.doctor.findings import Step
from app.doctor.http import told
from app.doctor.target import Place

PATIENCE: Final = 10.0
_Found = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
_SOON: Final = 14 * 24 * 3600.0
_DAY: Final = 24 * 3600

# OpenSSL's X509_V_ERR_... codes.
_CODES: Final = {9: "tls-early", 10: "tls-expired", 62: "tls-name", 64: "tls-name"}


@dataclass(frozen=True, slots=True)
class Reached:
    """The addresses of a name, each with why it could not be connected to, or ""."""

    addresses: tuple[tuple[str, str], ...]
    trouble: str = ""
    """Why the name has no addresses, or ""."""

    @property
    def some(self) -> bool:
        """Whether any of the addresses accepts connections."""
        return any(not trouble for _, trouble in self.addresses)


@dataclass(frozen=True, slots=True)
class Shown:
    """The result of a TLS handshake; `since` is the start of the certificate's validity."""

    version: str = ""
    since: float = 0.0
    until: float | None = None
    """When the certificate expires, in seconds since 1970 (as is `since`)."""
    code: int = 0
    """OpenSSL's code for why the certificate is not trusted; 0 if that is not the trouble."""
    trouble: str = ""

    @property
    def trusted(self) -> bool:
        """Whether clients would accept the certificate."""
        return not self.code and not self.trouble


def reach(place: Place) -> Reached:
    """Resolve the name of a place, connect to each address, and return the results."""
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return Reached((), told(error))
    addresses = {str(entry[4][0]): entry for entry in found}
    return Reached(tuple((name, _tried(entry)) for name, entry in addresses.items()))


def _tried(entry: _Found) -> str:
    family, kind, protocol, _, address = entry
    try:
        with socket.socket(family, kind, protocol) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(address)
    except TimeoutError:
        return f"no answer within {PATIENCE:.0f} s"
    except OSError as error:
        return told(error)
    return ""


def judge_reached(place: Place, reached: Reached) -> Iterator[Step]:
    """Yield the steps for DNS and TCP, and for TLS if the place has none."""
    tried = f"DNS: {place.host}"
    if not reached.addresses:
        yield Step(tried, reached.trouble, "dns")
        return
    yield Step(tried, ", ".join(address for address, _ in reached.addresses))
    deaf = [f"{address}: {trouble}" for address, trouble in reached.addresses if trouble]
    wrong = "" if not deaf else "tcp-some" if reached.some else "tcp"
    # A loopback name usually resolves to both loopback addresses, and one is enough.
    if wrong == "tcp-some" and place.is_loopback:
        wrong = ""
    answer = f"{len(reached.addresses) - len(deaf)} of {len(reached.addresses)} addresses answer"
    yield Step(f"TCP: port {place.port}", "; ".join([answer, *deaf]), wrong)
    if not place.is_tls:
        came = "passwords and tokens cross the network in the clear"
        if place.is_loopback:
            yield Step("TLS", "plain http, which clients take on loopback only")
        else:
            yield Step("TLS", came, "plain-http")


def context(authorities: Sequence[Path]) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities and those in these PEM files.

    Raise OSError if a file cannot be read or has no certificate.
    """
    made = ssl.create_default_context()
    # Since Python 3.13, the default is stricter than any client.
    made.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    for path in authorities:
        made.load_verify_locations(path)
    return made


def trusting_context() -> ssl.SSLContext:
    """Return a context that accepts any certificate, for requests that carry no secret."""
    made = ssl.create_default_context()
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


def show(place: Place, trusting: ssl.SSLContext) -> Shown:
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
            return Shown(shaken.version() or "", since, until)
    except ssl.SSLCertVerificationError as error:
        return Shown(code=error.verify_code, trouble=error.verify_message)
    except ssl.SSLError as error:
        return Shown(trouble=(error.reason or "the handshake fails").replace("_", " ").lower())
    except OSError as error:
        return Shown(trouble=told(error))


def judge_shown(shown: Shown, now: float) -> Step:
    """Judge the certificate at time `now`, in wall-clock seconds since 1970.

    It expires soon if fewer than 14 days are left, or less than a quarter of its validity.
    """
    if shown.code:
        return Step("TLS", shown.trouble, _CODES.get(shown.code, "tls-chain"))
    if shown.trouble or shown.until is None:
        return Step("TLS", shown.trouble, "tls")
    left = shown.until - now
    day = time.strftime("%Y-%m-%d", time.gmtime(shown.until))
    came = f"{shown.version}, a trusted certificate until {day} ({left / _DAY:.0f} days)"
    # Authorities with automatic renewal issue certificates that last for days, or hours.
    soon = min(_SOON, (shown.until - shown.since) / 4)
    return Step("TLS", came, "tls-soon" if left < soon else "")
