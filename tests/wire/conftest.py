"""A proxy between a raw client and a raw upstream; the proxies are shared, the scripts are not."""

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.servers import docxy
from tests.wire.upstream import Upstream, playing
from tests.wire.wires import NETRC_PASSWORD, Certificates, Start, Wire, upstream_settings


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost", "registry.test").configure_cert(context)
    ca_path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_path))
    return Certificates(context, ca_path)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home whose ~/.netrc knows a password for every upstream here."""
    folder = tmp_path_factory.mktemp("home")
    entries = (
        f"machine {host} login netrc password {NETRC_PASSWORD}\n"
        for host in ("127.0.0.1", "localhost")
    )
    (folder / ".netrc").write_text("".join(entries))
    (folder / ".netrc").chmod(0o600)
    return folder


@pytest.fixture(scope="session")
def start(home: Path, certificates: Certificates) -> Iterator[Start]:
    """Return what starts a proxy and its upstream, or finds them started in this session."""
    with contextlib.ExitStack() as stack:
        wires: dict[object, Wire] = {}

        def start(*arguments: str, tls: bool = False, workers: int = 2, **settings: str) -> Wire:
            key = (arguments, tls, workers, tuple(sorted(settings.items())))
            if key not in wires:
                if tls:
                    settings["DOCXY_CA_BUNDLE"] = str(certificates.ca_path)
                context = certificates.context if tls else None
                upstream = stack.enter_context(Upstream(context))
                settings = upstream_settings(upstream, home, **settings)
                proxy = stack.enter_context(docxy(*arguments, workers=workers, **settings))
                wires[key] = Wire(upstream, proxy)
            return wires[key]

        yield start
        for wire in wires.values():
            wire.proxy.end()


def _lend(wire: Wire) -> Iterator[Wire]:
    with playing(wire.upstream):
        yield wire


@pytest.fixture
def wire(start: Start) -> Iterator[Wire]:
    """Return a proxy before a plain upstream."""
    yield from _lend(start())


@pytest.fixture
def tls_wire(start: Start) -> Iterator[Wire]:
    """Return a proxy before a TLS upstream."""
    yield from _lend(start(tls=True))


@pytest.fixture(params=["plain", "tls"])
def either_wire(request: pytest.FixtureRequest, start: Start) -> Iterator[Wire]:
    """Return a proxy before a plain, and once more before a TLS upstream."""
    yield from _lend(start(tls=request.param == "tls"))


@pytest.fixture
def impatient_wire(start: Start) -> Iterator[Wire]:
    """Return a proxy that waits a second for its TLS upstream, not much longer for a client."""
    yield from _lend(start(tls=True, workers=1, DOCXY_READ_TIMEOUT="1", DOCXY_WRITE_TIMEOUT="1.5"))


@pytest.fixture
def threaded_wire(start: Start) -> Iterator[Wire]:
    """Return a proxy that runs on threads instead of gevent."""
    yield from _lend(start("--worker-class", "gthread", "--threads", "4", workers=1))


@pytest.fixture(params=["gevent", "gthread"])
def any_worker_wire(request: pytest.FixtureRequest, start: Start) -> Iterator[Wire]:
    """Return a proxy as it runs, and once more on threads."""
    if request.param == "gevent":
        yield from _lend(start())
    else:
        yield from _lend(start("--worker-class", "gthread", "--threads", "4", workers=1))
