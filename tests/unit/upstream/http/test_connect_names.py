"""One question for each name, however many want it."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.oci.errors import RegistryError, UpstreamDown, UpstreamUnreachable, UpstreamUnresolved
from app.threads import ResolutionTimeout, Resolver
from app.upstream.http.body import discard
from app.upstream.http.connect import Connector
from app.upstream.http.deadlines import NO_LIMIT
from app.upstream.http.retries import Retrier
from app.upstream.http.session import Session
from app.upstream.http.urls import OutboundProxies
from tests.servers import wait_until
from tests.unit.network import PUBLIC, Network
from tests.unit.upstream.clock import Clock
from tests.unit.upstream.hurry import listening
from tests.unit.upstream.server import PATIENCE, answering, serving

URL = "http://slow.example/v2/"
HTTP_PROXY = "http://slow.example:3128"


class SlowDNS:
    """Answers when it is told to, and counts what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.answer = threading.Event()
        self.failure: OSError | None = None
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._resolve)

    def _resolve(self, host: str, *arguments: object) -> object:
        self.asked.append(host)
        assert host != "slow.example" or self.answer.wait(PATIENCE)
        if self.failure:
            raise self.failure
        return self._real("127.0.0.1", *arguments)  # type: ignore[arg-type] # as they came


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> SlowDNS:
    """Return a resolver of which nobody knows anything."""
    return SlowDNS(monkeypatch)


def test_sixty_at_once(resolver: SlowDNS) -> None:
    """They wait for one answer, and whoever comes later asks anew."""
    names = Resolver()
    with ThreadPoolExecutor(60) as pool:
        waiting = [pool.submit(names.resolve, "slow.example", 443, PATIENCE) for _ in range(60)]
        wait_until(lambda: len(resolver.asked) == 1)
        resolver.answer.set()
        for one in waiting:
            assert one.result(PATIENCE)
    asked = len(resolver.asked)
    assert asked < 10, "those who began after the answer may have asked anew"
    assert names.resolve("slow.example", 443, PATIENCE)
    assert len(resolver.asked) == asked + 1


def test_a_name_that_hangs_keeps_one_thread(resolver: SlowDNS) -> None:
    """Others are answered meanwhile, however often it is asked for."""
    names = Resolver()
    for _ in range(20):
        with pytest.raises(ResolutionTimeout, match=r"slow\.example"):
            names.resolve("slow.example", 443, 0.01)
    assert names.resolve("quick.example", 443, PATIENCE)
    assert resolver.asked == ["slow.example", "quick.example"]
    resolver.answer.set()
    assert names.resolve("slow.example", 443, PATIENCE)


def test_a_failure_is_everybodys_and_is_not_kept(resolver: SlowDNS) -> None:
    """As an answer is."""
    names = Resolver()
    resolver.failure = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    for _ in range(2):
        with pytest.raises(socket.gaierror):
            names.resolve("quick.example", 443, PATIENCE)
    resolver.failure = None
    assert names.resolve("quick.example", 443, PATIENCE)
    assert len(resolver.asked) == 3


def hurried_session(proxy: str | None = None) -> Session:
    """Return one that has hardly any time to connect."""
    return Session(
        ca_bundles=(),
        proxies=OutboundProxies(https=None, http=proxy, no_proxy=""),
        connect_timeout=0.02,
        read_timeout=PATIENCE,
        connector=Connector(allow_private=True, prefer_ipv4=False),
    )


@pytest.mark.parametrize("proxy", [None, "socks5://127.0.0.1:9", HTTP_PROXY])
def test_a_name_that_is_not_answered(
    resolver: SlowDNS, monkeypatch: pytest.MonkeyPatch, proxy: str | None
) -> None:
    """It has an error of its own, which is told once an attempt, whoever resolves it."""
    monkeypatch.setattr("app.upstream.http.retries._PAUSES", (0, 0.001, 0.002))
    own = hurried_session(proxy)
    with (
        listening() as lines,
        pytest.raises(UpstreamUnresolved, match=r"^slow\.example: ") as caught,
    ):
        Retrier(PATIENCE)(lambda call: own.send("GET", URL, [], call=call), NO_LIMIT)
    resolver.answer.set()
    assert caught.value.status == 504
    said = f"WARNING Upstream name lookup timed out. url={URL} error=ResolutionTimeout"
    assert lines == [said] * 4


class Unanswered:
    """Names that are answered when a test says so; the time is only the clock's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lasts = True
        resolve = Resolver.resolve

        def resolved(names: Resolver, host: str, port: int, timeout: float | None) -> object:
            if self.lasts:
                raise ResolutionTimeout
            return resolve(names, host, port, timeout)

        monkeypatch.setattr(Resolver, "resolve", resolved)


def failure(own: Session) -> type[RegistryError]:
    """Ask, and return what fails."""
    with pytest.raises(RegistryError) as caught:
        own.send("GET", URL, [])
    return type(caught.value)


def test_it_opens_no_breaker(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """However often and however long: nothing is known of the host."""
    Unanswered(monkeypatch)
    own = hurried_session()
    for _ in range(20):
        assert failure(own) is UpstreamUnresolved
        clock.pass_by(1)


def test_it_closes_no_breaker(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, network: Network
) -> None:
    """A probe whose name is not answered has found out nothing; the next one may."""
    names = Unanswered(monkeypatch)
    names.lasts = False
    network.resolves("slow.example", *[[PUBLIC]] * 20)
    network.routed(PUBLIC, ConnectionRefusedError())
    own = hurried_session()
    for _ in range(5):
        assert failure(own) is UpstreamUnreachable
        clock.pass_by(0.9)
    assert failure(own) is UpstreamDown
    clock.pass_by(1)
    names.lasts = True
    with listening() as lines:
        assert [failure(own) for _ in range(2)] == [UpstreamUnresolved] * 2
        names.lasts = False
        assert failure(own) is UpstreamUnreachable
        assert failure(own) is UpstreamDown, "that was still a probe"
        assert not [line for line in lines if "Circuit breaker closed" in line]
    clock.pass_by(2)
    with serving(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as server:
        network.routed(PUBLIC, server.port)
        discard(own.send("GET", URL, []))
