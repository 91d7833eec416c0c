"""What tests of the upstream share."""

import pytest

from app.registries import Registry
from app.upstream.client import Upstream
from app.upstream.http.connect import Connector
from app.upstream.http.known_registries import KnownRegistries
from app.upstream.http.retries import Reliability
from app.upstream.http.session import Session
from app.upstream.http.urls import OutboundProxies
from tests.unit.network import Network
from tests.unit.upstream.clock import Clock

REGISTRY = "https://registry.example.com"
TOKENS = "https://auth.example.com/token"
ONCE = Reliability(retry_budget=0, resume_budget=0)
"""Nothing is asked again: what that makes good is tested elsewhere."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the only clock that there is: it goes on when it is told to."""
    made = Clock()
    monkeypatch.setattr("time.monotonic", made)
    return made


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """Return what resolves and leads as a test says."""
    return Network(monkeypatch)


@pytest.fixture
def session() -> Session:
    """Return a Session with nothing special."""
    return Session(
        ca_bundles=(),
        proxies=OutboundProxies(https=None, http=None, no_proxy=""),
        connect_timeout=5,
        read_timeout=5,
        connector=Connector(allow_private=True, prefer_ipv4=False),
    )


@pytest.fixture
def discovering(session: Session) -> Upstream:
    """Return a registry that tells its token service itself."""
    return Upstream(
        Registry(name="registry.example.com", url=REGISTRY), session, KnownRegistries(), ONCE
    )


@pytest.fixture
def half_pinned(session: Session) -> Upstream:
    """Return a registry whose token service is configured, but not what to name there."""
    row = Registry(name="registry.example.com", url=REGISTRY, token_url=TOKENS)
    return Upstream(row, session, KnownRegistries(), ONCE)


@pytest.fixture
def pinned(session: Session) -> Upstream:
    """Return a registry whose token service is configured."""
    row = Registry(
        name="registry.example.com",
        url=REGISTRY,
        token_url=TOKENS,
        token_service="registry.example",  # noqa: S106 - the name of a service
    )
    return Upstream(row, session, KnownRegistries(), ONCE)
