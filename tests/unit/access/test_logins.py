"""Logins: right and wrong ones, floods of them, and how long they take."""

import threading
import time
from pathlib import Path

import bcrypt
import pytest

from app.access.htpasswd import Htpasswd
from app.access.logins import Logins
from app.access.slowing import FREE
from app.access.users import SharedSecret
from app.oci.login_errors import LoginsBusy, LoginsSlowed, LoginWrong

SECRET = "a secret of some length"  # noqa: S105 - of these tests only


class Counted:
    """One user, alice, whose password takes as long to check as one lets it."""

    is_slow = True

    def __init__(self) -> None:
        self.checked: list[bytes] = []
        self.known = "wonder"
        self.go = threading.Event()
        self.go.set()

    def secret_of(self, name: str) -> str | None:
        """Return alice's."""
        return self.known if name == "alice" else None

    def stand_in(self, name: str) -> str:
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
def logins(users: Counted) -> Logins:
    return Logins(users)


def test_a_user(logins: Logins) -> None:
    """The right password returns, whatever else raises."""
    logins.check("alice", "wonder", "192.0.2.1")
    for name, password in [
        ("alice", "wrong"), ("alice", ""), ("bob", "wonder"), ("", ""), ("bob", "nothing"),
    ]:  # fmt: skip
        with pytest.raises(LoginWrong):
            logins.check(name, password, "192.0.2.2")


def test_a_right_password_is_remembered(logins: Logins, users: Counted) -> None:
    """A pull asks for several tokens: only the first costs a hash, until the password changes."""
    for _ in range(3):
        logins.check("alice", "wonder", "192.0.2.1")
    assert len(users.checked) == 1
    with pytest.raises(LoginWrong):
        logins.check("alice", "wrong", "192.0.2.1")
    users.known = "other"
    with pytest.raises(LoginWrong):
        logins.check("alice", "wonder", "192.0.2.1")
    assert len(users.checked) == 3


def test_it_is_not_remembered_for_ever(users: Counted) -> None:
    """After some minutes it is hashed again."""
    now = [0.0]
    logins = Logins(users, clock=lambda: now[0])
    logins.check("alice", "wonder", "192.0.2.1")
    now[0] = 301
    logins.check("alice", "wonder", "192.0.2.1")
    assert len(users.checked) == 2


def test_guessing_is_slowed(logins: Logins, users: Counted) -> None:
    """Also for the right password, remembered or not: else who guesses would see it at once."""
    logins.check("alice", "wonder", "192.0.2.9")
    for _ in range(FREE):
        with pytest.raises(LoginWrong):
            logins.check("alice", "wrong", "192.0.2.1")
    checked = len(users.checked)
    for password in ("wrong", "wonder"):
        with pytest.raises(LoginsSlowed) as refused:
            logins.check("alice", password, "192.0.2.1")
        assert refused.value.added == {"Retry-After": "5"}
    assert len(users.checked) == checked
    logins.check("alice", "wonder", "192.0.2.9")


def test_the_same_again_is_no_guessing(logins: Logins, users: Counted) -> None:
    """Others behind an address do not wait for a client that has an old password."""
    for _ in range(FREE):
        with pytest.raises(LoginWrong):
            logins.check("bob", "an old one", "192.0.2.1")
    with pytest.raises(LoginsSlowed):
        logins.check("bob", "an old one", "192.0.2.1")
    logins.check("alice", "wonder", "192.0.2.1")
    # Each is looked at all the same, or how long it takes would tell what was tried before.
    assert len(users.checked) == FREE + 1


@pytest.mark.parametrize("guess", [("alice", "wrong {}"), ("user{}", "wrong")])
def test_another_one_is(logins: Logins, guess: tuple[str, str]) -> None:
    """Many passwords of one name, or one password of many: everybody there waits."""
    for number in range(FREE):
        with pytest.raises(LoginWrong):
            logins.check(guess[0].format(number), guess[1].format(number), "192.0.2.1")
    for name in ("alice", "carol", "user0"):
        with pytest.raises(LoginsSlowed):
            logins.check(name, "wonder", "192.0.2.1")
    logins.check("alice", "wonder", "192.0.2.2")


def test_the_same_password_is_another_one_later(logins: Logins, users: Counted) -> None:
    """Where the user's has changed meanwhile, to try it again is a guess."""
    for number in range(FREE):
        users.known = f"wonder {number}"
        with pytest.raises(LoginWrong):
            logins.check("alice", "wrong", "192.0.2.1")
    with pytest.raises(LoginsSlowed):
        logins.check("carol", "x", "192.0.2.1")


def outcomes(logins: Logins, users: Counted, count: int, address: str) -> list[str]:
    """Let many log in at once, with a wrong password, and none be checked before all are there."""
    users.go.clear()
    found: list[str] = []
    ready = threading.Semaphore(0)

    def one() -> None:
        try:
            logins.check("alice", "wrong", address)
        except (LoginWrong, LoginsBusy, LoginsSlowed) as error:
            found.append(type(error).__name__)
        ready.release()

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for _ in range(count - 17):  # all but one that is checked and sixteen that wait
        assert ready.acquire(timeout=30)
    users.go.set()
    for thread in threads:
        thread.join(30)
    return found


def test_a_flood(logins: Logins, users: Counted) -> None:
    """Few wait, the others are refused at once; and no guess runs ahead of those before it."""
    found = outcomes(logins, users, 60, "192.0.2.1")
    assert found.count("LoginsBusy") == 43
    assert found.count("LoginWrong") == FREE
    assert found.count("LoginsSlowed") == 17 - FREE
    assert len(users.checked) == FREE


def test_a_flood_is_over(logins: Logins, users: Counted) -> None:
    """Afterwards everybody gets in."""
    outcomes(logins, users, 30, "192.0.2.1")
    logins.check("alice", "wonder", "192.0.2.2")


def test_one_secret() -> None:
    """Any name that is one will do, with the one password."""
    logins = Logins(SharedSecret(SECRET))
    logins.check("alice", SECRET, "192.0.2.1")
    logins.check("anybody else", SECRET, "192.0.2.1")
    for number, (name, password) in enumerate([
        ("alice", SECRET[:-1]), ("alice", f"{SECRET} "), ("alice", ""), ("", SECRET),
        ("a\nb", SECRET), ("a" * 256, SECRET), ("alice", "\udcff"),
    ]):  # fmt: skip
        with pytest.raises(LoginWrong):
            logins.check(name, password, f"192.0.2.{number}")


def test_wrong_users_take_as_long_as_wrong_passwords(tmp_path: Path) -> None:
    """In pairs, since the machine is busy with other things: which of two takes longer is chance.

    Of 40 fair coins fewer than 7, or more than 33, are heads once in 50,000 times.
    """
    path = tmp_path / "users"
    hashes = [bcrypt.hashpw(b"wonder", bcrypt.gensalt(8)).decode() for _ in range(3)]
    path.write_text("".join(f"user{n}:{hashed}\n" for n, hashed in enumerate(hashes)))
    logins = Logins(Htpasswd(path))
    spent = {"user0": 0.0, "nobody": 0.0}
    longer = 0
    for number in range(40):
        took = {}
        for name in [*spent] if number % 2 else [*reversed(spent)]:
            began = time.process_time()
            with pytest.raises(LoginWrong):
                logins.check(name, "wrong", f"192.0.2.{number}")
            took[name] = time.process_time() - began
            spent[name] += took[name]
        longer += took["user0"] > took["nobody"]
    assert 7 <= longer <= 33
    assert 0.7 < spent["user0"] / spent["nobody"] < 1.4
