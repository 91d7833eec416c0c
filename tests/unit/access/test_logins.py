"""Logins: right and wrong ones, floods of them, and how long they take."""

import threading
import time
from pathlib import Path

import bcrypt
import pytest

from app.access.htpasswd import Htpasswd
from app.access.logins import FREE, LoginChecker
from app.access.turns import LoginQueue
from app.access.users import SharedSecret
from app.oci.errors import LoginInvalid, LoginsBusy, LoginsThrottled
from tests.servers import wait_until

SECRET = "a secret of some length"  # noqa: S105 - of these tests only


class Counted:
    """One user, alice, whose password takes as long to check as one lets it."""

    is_slow = True

    def __init__(self) -> None:
        self.checked: list[bytes] = []
        self.known = "wonder"
        self.go = threading.Event()
        self.go.set()

    def lookup_secret(self, name: str) -> str | None:
        """Return alice's."""
        return self.known if name == "alice" else None

    def get_decoy_secret(self, name: str) -> str:
        """Return what somebody might guess."""
        del name
        return "nothing"

    def matches(self, secret: str, password: bytes) -> bool:
        """Compare, when it is let."""
        self.checked.append(password)
        assert self.go.wait(30)
        # The stand-in matches whoever says what it is: that must open nothing.
        return secret.encode() == password


@pytest.fixture
def users() -> Counted:
    return Counted()


@pytest.fixture
def logins(users: Counted) -> LoginChecker:
    return LoginChecker(users)


def test_a_user(logins: LoginChecker) -> None:
    """The right password returns, whatever else raises."""
    logins.check("alice", "wonder", "192.0.2.1")
    for name, password in [
        ("alice", "wrong"), ("alice", ""), ("bob", "wonder"), ("", ""), ("bob", "nothing"),
    ]:  # fmt: skip
        with pytest.raises(LoginInvalid):
            logins.check(name, password, "192.0.2.2")


def test_a_right_password_is_remembered(logins: LoginChecker, users: Counted) -> None:
    """A pull asks for several tokens: only the first costs a hash, until the password changes."""
    for _ in range(3):
        logins.check("alice", "wonder", "192.0.2.1")
    assert len(users.checked) == 1
    with pytest.raises(LoginInvalid):
        logins.check("alice", "wrong", "192.0.2.1")
    users.known = "other"
    with pytest.raises(LoginInvalid):
        logins.check("alice", "wonder", "192.0.2.1")
    assert len(users.checked) == 3


def test_it_is_not_remembered_for_ever(users: Counted) -> None:
    """After some minutes it is hashed again."""
    now = [0.0]
    logins = LoginChecker(users, clock=lambda: now[0])
    logins.check("alice", "wonder", "192.0.2.1")
    now[0] = 301
    logins.check("alice", "wonder", "192.0.2.1")
    assert len(users.checked) == 2


def test_guessing_is_slowed(logins: LoginChecker, users: Counted) -> None:
    """Also for the right password, remembered or not: else who guesses would see it at once."""
    logins.check("alice", "wonder", "192.0.2.9")
    for _ in range(FREE):
        with pytest.raises(LoginInvalid):
            logins.check("alice", "wrong", "192.0.2.1")
    checked = len(users.checked)
    for password in ("wrong", "wonder"):
        with pytest.raises(LoginsThrottled) as refused:
            logins.check("alice", password, "192.0.2.1")
        assert refused.value.extra_headers == {"Retry-After": "5"}
    assert len(users.checked) == checked
    logins.check("alice", "wonder", "192.0.2.9")


def test_the_same_again_is_no_guessing(logins: LoginChecker, users: Counted) -> None:
    """Others behind an address do not wait for a client that has an old password."""
    for _ in range(FREE):
        with pytest.raises(LoginInvalid):
            logins.check("bob", "an old one", "192.0.2.1")
    with pytest.raises(LoginsThrottled):
        logins.check("bob", "an old one", "192.0.2.1")
    logins.check("alice", "wonder", "192.0.2.1")
    # Each is looked at all the same, or how long it takes would tell what was tried before.
    assert len(users.checked) == FREE + 1


@pytest.mark.parametrize("guess", [("alice", "wrong {}"), ("user{}", "wrong")])
def test_another_one_is(logins: LoginChecker, guess: tuple[str, str]) -> None:
    """Many passwords of one name, or one password of many: everybody there waits."""
    for number in range(FREE):
        with pytest.raises(LoginInvalid):
            logins.check(guess[0].format(number), guess[1].format(number), "192.0.2.1")
    for name in ("alice", "carol", "user0"):
        with pytest.raises(LoginsThrottled):
            logins.check(name, "wonder", "192.0.2.1")
    logins.check("alice", "wonder", "192.0.2.2")


def test_the_same_password_is_another_one_later(logins: LoginChecker, users: Counted) -> None:
    """Where the user's has changed meanwhile, to try it again is a guess."""
    for number in range(FREE):
        users.known = f"wonder {number}"
        with pytest.raises(LoginInvalid):
            logins.check("alice", "wrong", "192.0.2.1")
    with pytest.raises(LoginsThrottled):
        logins.check("carol", "x", "192.0.2.1")


class Flood:
    """Logins that come one after the other while one is checked, and what becomes of each."""

    def __init__(self, users: Counted) -> None:
        self.turns = LoginQueue()
        self.slept: list[float] = []
        self.logins = LoginChecker(users, queue=self.turns, sleep=self.slept.append)
        self._users = users
        self._outcomes: list[tuple[str, str]] = []
        self._threads: list[threading.Thread] = []

    def hold(self) -> None:
        """Let one be checked until all may go on."""
        self._users.go.clear()
        before = len(self._users.checked)
        self._begin("mallory", "wrong", "203.0.113.254")
        wait_until(lambda: len(self._users.checked) > before, 10, "the first one")

    def add(self, name: str, password: str, address: str) -> None:
        """Let one more wait behind it."""
        before = self.turns.waiting_count
        self._begin(name, password, address)
        wait_until(lambda: self.turns.waiting_count > before, 10, "one more")

    def _begin(self, name: str, password: str, address: str) -> None:
        thread = threading.Thread(target=self._log_in, args=(name, password, address))
        thread.start()
        self._threads.append(thread)

    def _log_in(self, name: str, password: str, address: str) -> None:
        outcome = "right"
        try:
            self.logins.check(name, password, address)
        except (LoginInvalid, LoginsBusy, LoginsThrottled) as error:
            outcome = type(error).__name__
        self._outcomes.append((address, outcome))

    def let_go(self) -> list[tuple[str, str]]:
        """Let all be checked; return the addresses and outcomes of those that waited."""
        self._users.go.set()
        for thread in self._threads:
            thread.join(30)
        return [one for one in self._outcomes if one[0] != "203.0.113.254"]

    @property
    def order(self) -> list[bytes]:
        """The passwords in the order in which they were hashed."""
        return self._users.checked


@pytest.fixture
def flood(users: Counted) -> Flood:
    return Flood(users)


def test_a_flood_from_one_address(flood: Flood, users: Counted) -> None:
    """A few are checked, and the others are told to wait: no guess runs ahead of those before."""
    flood.hold()
    for number in range(60):
        flood.add("alice", f"wrong {number}", "192.0.2.1")
    outcomes = [outcome for _, outcome in flood.let_go()]
    assert outcomes.count("LoginInvalid") == FREE
    assert outcomes.count("LoginsThrottled") == 60 - FREE
    assert len(users.checked) == FREE + 1


def test_a_flood_from_one_network(flood: Flood, users: Counted) -> None:
    """The same where each comes from another site of a /48."""
    flood.hold()
    for number in range(60):
        flood.add("alice", f"wrong {number}", f"2001:db8:1:{number:x}00::1")
    outcomes = [outcome for _, outcome in flood.let_go()]
    assert (outcomes.count("LoginInvalid"), outcomes.count("LoginsThrottled")) == (20, 40)
    assert len(users.checked) == 21


def test_one_wrong_login_from_a_network(logins: LoginChecker, users: Counted) -> None:
    """The same login from ever another site is no way round: each costs a hash."""
    outcomes = [
        outcome(logins, "bob", "an old one", f"2001:db8:1:{number:x}00::1") for number in range(60)
    ]
    assert outcomes == ["LoginInvalid"] * 20 + ["LoginsThrottled"] * 40
    assert len(users.checked) == 20


def outcome(logins: LoginChecker, name: str, password: str, address: str) -> str:
    """Return how a login ends."""
    try:
        logins.check(name, password, address)
    except (LoginInvalid, LoginsBusy, LoginsThrottled) as error:
        return type(error).__name__
    return "right"


@pytest.mark.parametrize("is_slow", [True, False])
def test_who_was_right_waits_for_no_neighbour(users: Counted, *, is_slow: bool) -> None:
    """Whatever others in the same /24 do; somebody new there has to wait."""
    users.is_slow = is_slow
    logins = LoginChecker(users)
    logins.check("alice", "wonder", "192.0.2.1")
    for number in range(40):
        assert (
            outcome(logins, "bob", f"wrong {number}", f"192.0.2.{100 + number}") == "LoginInvalid"
        )
    assert outcome(logins, "alice", "wonder", "192.0.2.1") == "right"
    assert outcome(logins, "alice", "wonder", "192.0.2.2") == "LoginsThrottled"
    assert outcome(logins, "bob", "wrong", "192.0.2.1") == "LoginsThrottled"


def test_a_right_login_in_a_flood_from_anywhere(flood: Flood) -> None:
    """More wait than before, and each has its turn."""
    flood.hold()
    for number in range(60):
        flood.add("alice", f"wrong {number}", f"10.{number}.0.1")
    flood.add("alice", "wonder", "198.51.100.1")
    assert ("198.51.100.1", "right") in flood.let_go()
    assert flood.order[61] == b"wonder"


def test_a_returning_user_does_not_queue(flood: Flood, users: Counted) -> None:
    """Nor does somebody new at the same address wait long; the flood does."""
    flood.logins.check("alice", "wonder", "198.51.100.1")
    users.known = "new password"  # so that it is hashed once more
    users.checked.clear()
    flood.hold()
    for number in range(10):
        flood.add("alice", f"wrong {number}", f"10.{number}.0.1")
    flood.add("bob", "a neighbour", "198.51.100.1")
    flood.add("alice", "new password", "198.51.100.1")
    flood.let_go()
    assert flood.order[1:3] == [b"new password", b"a neighbour"]


def test_a_first_login_goes_before_those_who_were_wrong(flood: Flood, users: Counted) -> None:
    """Also where they have waited longer; and one right login opens the way for an office."""
    for number in range(10):
        assert outcome(flood.logins, "bob", "wrong", f"10.{number}.0.1") == "LoginInvalid"
    users.checked.clear()
    flood.hold()
    for number in range(10):
        flood.add("bob", f"wrong {number}", f"10.{number}.0.2")
    for number in range(4):
        flood.add("bob" if number else "alice", f"{number}" if number else "wonder", "198.51.100.1")
    flood.let_go()
    # Each fourth turn is for whoever has waited longest.
    assert flood.order[1:7] == [b"wonder", b"1", b"2", b"wrong 0", b"3", b"wrong 1"]


def test_it_is_known_for_a_day(users: Counted) -> None:
    """Afterwards a user is as new as others."""
    now = [1000.0]
    logins = LoginChecker(users, clock=lambda: now[0])
    logins.check("alice", "wonder", "192.0.2.1")
    now[0] += 25 * 60 * 60
    for number in range(40):
        assert (
            outcome(logins, "bob", f"wrong {number}", f"192.0.2.{100 + number}") == "LoginInvalid"
        )
    assert outcome(logins, "alice", "wonder", "192.0.2.1") == "LoginsThrottled"


def test_wrong_logins_of_a_flood_are_held(flood: Flood) -> None:
    """While many wait, a wrong one is answered after some seconds, and holds no turn meanwhile."""
    flood.logins.check("alice", "wonder", "198.51.100.1")
    flood.hold()
    for number in range(12):
        flood.add("alice", f"wrong {number}", f"10.{number}.0.1")
    flood.add("alice", "a slip", "198.51.100.1")
    flood.let_go()
    # Those with whom eight more waited; somebody was right where the slip came from.
    assert len(flood.slept) == 4
    assert all(0 < seconds <= 8 for seconds in flood.slept)


def test_a_wrong_login_alone_is_not_held(users: Counted) -> None:
    """Neither of a user nor of nobody."""
    slept: list[float] = []
    logins = LoginChecker(users, sleep=slept.append)
    for name in ("alice", "nobody"):
        assert outcome(logins, name, "wrong", "192.0.2.1") == "LoginInvalid"
    assert slept == []


def test_one_secret() -> None:
    """Any name that is one will do, with the one password."""
    logins = LoginChecker(SharedSecret(SECRET))
    logins.check("alice", SECRET, "192.0.2.1")
    logins.check("anybody else", SECRET, "192.0.2.1")
    for number, (name, password) in enumerate([
        ("alice", SECRET[:-1]), ("alice", f"{SECRET} "), ("alice", ""), ("", SECRET),
        ("a\nb", SECRET), ("a" * 256, SECRET), ("alice", "\udcff"),
    ]):  # fmt: skip
        with pytest.raises(LoginInvalid):
            logins.check(name, password, f"192.0.2.{number}")


def test_wrong_users_take_as_long_as_wrong_passwords(tmp_path: Path) -> None:
    """In pairs, since the machine is busy with other things: which of two takes longer is chance.

    Of 40 fair coins fewer than 7, or more than 33, are heads once in 50,000 times.
    """
    path = tmp_path / "users"
    hashes = [bcrypt.hashpw(b"wonder", bcrypt.gensalt(8)).decode() for _ in range(3)]
    path.write_text("".join(f"user{n}:{hashed}\n" for n, hashed in enumerate(hashes)))
    logins = LoginChecker(Htpasswd(path, path.read_bytes()))
    spent = {"user0": 0.0, "nobody": 0.0}
    longer = 0
    for number in range(40):
        took = {}
        for name in [*spent] if number % 2 else [*reversed(spent)]:
            began = time.process_time()
            with pytest.raises(LoginInvalid):
                logins.check(name, "wrong", f"10.0.{number}.1")
            took[name] = time.process_time() - began
            spent[name] += took[name]
        longer += took["user0"] > took["nobody"]
    assert 7 <= longer <= 33
    assert 0.7 < spent["user0"] / spent["nobody"] < 1.4
