"""One question for each name, however many want it."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.upstream.names import Names, NameUnanswered
from tests.servers import wait_until
from tests.unit.upstream.server import PATIENCE


class Resolver:
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
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Return a resolver of which nobody knows anything."""
    return Resolver(monkeypatch)


def test_sixty_at_once(resolver: Resolver) -> None:
    """They wait for one answer, and whoever comes later asks anew."""
    names = Names()
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


def test_a_name_that_hangs_keeps_one_thread(resolver: Resolver) -> None:
    """Others are answered meanwhile, however often it is asked for."""
    names = Names()
    for _ in range(20):
        with pytest.raises(NameUnanswered, match=r"slow\.example"):
            names.resolve("slow.example", 443, 0.01)
    assert names.resolve("quick.example", 443, PATIENCE)
    assert resolver.asked == ["slow.example", "quick.example"]
    resolver.answer.set()
    assert names.resolve("slow.example", 443, PATIENCE)


def test_a_failure_is_everybodys_and_is_not_kept(resolver: Resolver) -> None:
    """As an answer is."""
    names = Names()
    resolver.failure = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    for _ in range(2):
        with pytest.raises(socket.gaierror):
            names.resolve("quick.example", 443, PATIENCE)
    resolver.failure = None
    assert names.resolve("quick.example", 443, PATIENCE)
    assert len(resolver.asked) == 3
