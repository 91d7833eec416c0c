"""Turns: who hashes next, and who is refused where too many wait."""

import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import pytest

from app.access.networks import Prefix, derive_prefixes
from app.access.turns import LoginQueue
from app.oci.errors import LoginsBusy
from tests.servers import ROOT, wait_until

OFFICE = "198.51.100.1"


@dataclass
class Login:
    """Somebody of a class, at an address."""

    address: str
    rank: int = 2
    prefixes: Sequence[Prefix] = field(init=False)

    def __post_init__(self) -> None:
        self.prefixes = derive_prefixes(self.address)


class Queue:
    """Logins that come one after the other while a turn is held, and what becomes of each."""

    def __init__(self, turns: LoginQueue) -> None:
        self.turns = turns
        self.served: list[Login] = []
        self.refused: list[Login] = []
        self._threads: list[threading.Thread] = []
        self._held = ExitStack()
        self._held.enter_context(turns.hold_turn(Login("203.0.113.1")))

    def add(self, *logins: Login) -> None:
        """Let logins wait, each behind the one before, as long as there is room."""
        for login in logins:
            expected = self.turns.waiting_count + len(self.refused) + 1
            thread = threading.Thread(target=self._wait, args=(login,))
            thread.start()
            self._threads.append(thread)
            wait_until(partial(self._are, expected), 10, "one more")

    def _are(self, count: int) -> bool:
        """Tell whether so many wait or were refused."""
        return self.turns.waiting_count + len(self.refused) == count

    def _wait(self, login: Login) -> None:
        try:
            with self.turns.hold_turn(login):
                self.served.append(login)
        except LoginsBusy:
            self.refused.append(login)

    def let_go(self) -> list[Login]:
        """Let all have their turns; return them in order."""
        self._held.close()
        for thread in self._threads:
            thread.join(30)
        return self.served


@pytest.fixture
def queue() -> Queue:
    return Queue(LoginQueue(max_waiting=100, timeout=30))


def test_first_come_first_served(queue: Queue) -> None:
    """Among networks that have one login each."""
    logins = [Login(f"192.0.2.{number}") for number in range(10)]
    queue.add(*logins)
    assert queue.let_go() == logins


def test_networks_take_turns(queue: Queue) -> None:
    """Many logins from one network come one at a time between those of the others."""
    many = [Login(OFFICE) for _ in range(6)]
    others = [Login(f"192.0.2.{number}") for number in range(3)]
    queue.add(*many, *others)
    served = queue.let_go()
    assert served[:4] == [many[0], *others]
    assert served[4:] == many[1:]


def test_a_network_is_not_overtaken_for_ever(queue: Queue) -> None:
    """After its turn it is behind those who wait, and before those who come later."""
    first, second = Login(OFFICE), Login(OFFICE)
    other, later = Login("192.0.2.1"), Login("192.0.2.2")

    class Served(list[Login]):
        """Lets one more come while the other one is served."""

        def append(self, login: Login) -> None:
            super().append(login)
            if login is other:
                queue.add(later)

    queue.served = Served()
    queue.add(first, second, other)
    assert queue.let_go() == [first, other, second, later]


def test_a_site_of_ipv6_is_one(queue: Queue) -> None:
    """Who has a /64 has one turn at a time."""
    many = [Login(f"2001:db8::{number}") for number in range(3)]
    other = Login("2001:db8:0:1::1")
    queue.add(*many, other)
    assert queue.let_go() == [many[0], other, *many[1:]]


def test_the_better_class_goes_first(queue: Queue) -> None:
    """But for each fourth turn, which is for whoever has waited longest."""
    worse = [Login(f"192.0.2.{number}", rank=3) for number in range(4)]
    better = [Login(f"198.51.100.{number}", rank=0) for number in range(6)]
    queue.add(*worse, *better)
    assert queue.let_go() == [*better[:3], worse[0], *better[3:], *worse[1:]]


def test_a_class_may_change_meanwhile(queue: Queue) -> None:
    """It is asked for at each turn: somebody at the same address may have been right."""
    logins = [Login(f"192.0.2.{number}") for number in range(3)]
    queue.add(*logins)
    logins[2].rank = 1
    assert queue.let_go() == [logins[2], logins[0], logins[1]]


FULL = [
    pytest.param(["192.0.2.1", "198.51.100.1", "203.0.113.9"], "203.0.113.9", id="all alike"),
    pytest.param(["192.0.2.1", "192.0.2.1", "203.0.113.9"], "192.0.2.1", id="one address"),
    pytest.param(["192.0.2.1", "192.0.2.2", "203.0.113.9"], "192.0.2.2", id="one /24"),
    pytest.param(
        ["2001:db8:1:100::1", "2001:db8:1:200::1", "2001:db8:2::1"], "2001:db8:1:200::1", id="/48"
    ),
    pytest.param(
        ["2001:db8:1:101::1", "2001:db8:1:102::1", "2001:db8:1:200::1"],
        "2001:db8:1:102::1",
        id="in a /48 the fullest /56",
    ),
    pytest.param(["2001:db8::1", "2001:db8::2", "192.0.2.1", ""], "2001:db8::2", id="mixed"),
]


@pytest.mark.parametrize(("addresses", "refused"), FULL)
def test_who_is_refused(addresses: list[str], refused: str) -> None:
    """The newest of the network that has most in the queue, however late the others came."""
    queue = Queue(LoginQueue(max_waiting=len(addresses) - 1, timeout=30))
    queue.add(*map(Login, addresses))
    wait_until(lambda: bool(queue.refused), 10, "the refusal")
    assert [login.address for login in queue.refused] == [refused]
    queue.let_go()
    assert len(queue.served) == len(addresses) - 1


def test_the_worst_class_is_refused_first() -> None:
    """Also where one of a better class has come last, and from a network with many."""
    queue = Queue(LoginQueue(max_waiting=3, timeout=30))
    queue.add(Login("192.0.2.1", 3), Login(OFFICE, 1), Login(OFFICE, 1), Login(OFFICE, 1))
    wait_until(lambda: bool(queue.refused), 10, "the refusal")
    assert [login.rank for login in queue.refused] == [3]
    queue.let_go()


def test_patience_ends() -> None:
    """Who waits too long is refused, and takes nobody's turn."""
    turns = LoginQueue(timeout=0.01)
    with turns.hold_turn(Login(OFFICE)), pytest.raises(LoginsBusy), turns.hold_turn(Login(OFFICE)):
        pass
    assert turns.waiting_count == 0
    with turns.hold_turn(Login(OFFICE)):
        pass


def test_who_fails_gives_the_turn_back() -> None:
    """Whatever is raised in it."""
    turns = LoginQueue()
    with pytest.raises(ZeroDivisionError), turns.hold_turn(Login(OFFICE)):
        raise ZeroDivisionError
    with turns.hold_turn(Login(OFFICE)):
        pass


_KILLED = """
from gevent import monkey
monkey.patch_all()
import gevent
from app.access.networks import derive_prefixes
from app.access.turns import LoginQueue

class Login:
    prefixes, rank = derive_prefixes("192.0.2.1"), 0

turns, served = LoginQueue(), []

def wait(name):
    with turns.hold_turn(Login()):
        served.append(name)

with turns.hold_turn(Login()):
    waiting = [gevent.spawn(wait, name) for name in "abc"]
    gevent.sleep(0)
    assert turns.waiting_count == 3
    waiting[0].kill()
    assert turns.waiting_count == 2
    waiting[1].kill(block=False)  # it comes once this one is given the turn, and before it runs
gevent.joinall(waiting, timeout=10, raise_error=True)
wait("d")
assert served == ["c", "d"], served
"""


def test_who_is_killed_gives_the_turn_on() -> None:
    """Waiting, or with the turn already: a worker that ends cuts its greenlets anywhere."""
    subprocess.run([sys.executable, "-c", _KILLED], cwd=ROOT, check=True, timeout=60)
