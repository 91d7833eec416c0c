"""The file of users: what may stand in it, and that it is read again when it changes."""

import contextlib
import logging
import os
from pathlib import Path

import bcrypt
import pytest

from app.access.htpasswd import Htpasswd, parse_users_file, read_users_file
from tests.lines import line_of


def line(name: str, password: str, kind: str = "2y", cost: int = 4) -> str:
    """Write a line as `htpasswd -B` does."""
    hashed = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(cost)).decode()
    return f"{name}:{hashed.replace('$2b', f'${kind}')}\n"


HASH = line("x", "x").strip().partition(":")[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


class Clock:
    """A clock that goes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.mark.parametrize("kind", ["2a", "2b", "2y"])
def test_a_right_password(path: Path, kind: str) -> None:
    """Every spelling of bcrypt is read; comments, empty lines and what Windows writes are too."""
    path.write_text(f"\ufeff# team\r\n\r\n{line('alice', 'wonder', kind)}{line('bøb', 'x')}")
    users = Htpasswd(path, path.read_bytes())
    secret = users.lookup_secret("alice")
    assert secret
    assert users.matches(secret, b"wonder")
    assert not users.matches(secret, b"wonde")
    assert not users.matches(secret, b"")
    assert not users.matches(secret, b"wonder\0")
    assert users.lookup_secret("bøb")
    assert users.lookup_secret("carol") is None


def test_a_long_password(path: Path) -> None:
    """Bcrypt takes 72 bytes; a longer password is no error, as with Apache."""
    path.write_text(line("alice", "a" * 80))
    users = Htpasswd(path, path.read_bytes())
    secret = users.lookup_secret("alice") or ""
    assert users.matches(secret, b"a" * 80)
    assert not users.matches(secret, b"a" * 71)


NO_HASH = "line 1: this is not a bcrypt hash; htpasswd -B"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("", "contains no user", id="empty"),
        pytest.param("# nobody\n", "contains no user", id="only a comment"),
        pytest.param("alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n", NO_HASH, id="SHA"),
        pytest.param("alice:$apr1$x$0123456789012345678901\n", NO_HASH, id="MD5"),
        pytest.param("alice:rqXexS6ZhobKA\n", NO_HASH, id="crypt"),
        pytest.param(f"bob:{HASH}\nalice:secret\n", "line 2: this is not a bcrypt", id="plain"),
        pytest.param(f"a:{HASH}\nb:{HASH[:-1]}\n", "line 2: this is not a bcrypt", id="short"),
        pytest.param(f"a:{HASH} # x\n", NO_HASH, id="a comment behind"),
        pytest.param(f"a:{HASH[:28]}/{HASH[29:]}\n", NO_HASH, id="a salt of too many bits"),
        pytest.param(f"a:{HASH.replace('$2y', '$2x')}\n", NO_HASH, id="2x"),
        pytest.param(f"a:{HASH.replace('$04', '$17')}\n", "line 1: a cost of 17", id="cost"),
        pytest.param(f"a:{HASH.replace('$04', '$03')}\n", "line 1: a cost of 03", id="low cost"),
        pytest.param("alice\n", "line 1: write name:hash", id="no colon"),
        pytest.param(f":{HASH}\n", "line 1: write name:hash", id="no name"),
        pytest.param(f"alice :{HASH}\n", "line 1: write name:hash", id="a space behind a name"),
        pytest.param(f"a\x07:{HASH}\n", "line 1: write name:hash", id="a bell"),
        pytest.param(f"{'a' * 256}:{HASH}\n", "line 1: write name:hash", id="a long name"),
        pytest.param(f"a:{HASH}\n\na:{HASH}\n", "line 3: this user is listed above", id="twice"),
        pytest.param("#" * (1 << 20) + "\n", "larger than 1 MiB", id="large"),
    ],
)  # fmt: skip
def test_a_fault(path: Path, text: str, fault: str) -> None:
    """The line and what is wrong with it are told, and nothing of what stands there."""
    path.write_text(text)
    with pytest.raises(ValueError, match=fault) as raised:
        parse_users_file(read_users_file(path))
    assert "secret" not in str(raised.value)
    assert HASH[10:20] not in str(raised.value)


def test_what_cannot_be_read(path: Path) -> None:
    """A file that is not there, and one that is no text."""
    with pytest.raises(ValueError, match="cannot be read"):
        parse_users_file(read_users_file(path))
    path.write_bytes(b"alice:\xff\n")
    with pytest.raises(ValueError, match="not UTF-8"):
        parse_users_file(read_users_file(path))
    with pytest.raises(ValueError, match="cannot be read"):
        read_users_file(path.parent)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="not a regular file"):
        parse_users_file(read_users_file(path))


def test_no_hash_fails_where_it_is_checked(path: Path) -> None:
    """What is read is compared with any password; that of nobody too."""
    read = 0
    for last in "./ABCDOPQRefghuvwxyz0123456789":
        path.write_text(f"alice:{HASH[:28]}{last}{HASH[29:]}\n")
        with contextlib.suppress(ValueError):
            hashes = parse_users_file(read_users_file(path))
            read += 1
            assert not Htpasswd.matches(hashes["alice"], b"any"), last
    assert read


def test_a_changed_file(path: Path) -> None:
    """It is looked at once a second at the most, and read again when it is another one."""
    path.write_text(line("alice", "a"))
    users = Htpasswd(path, path.read_bytes(), clock := Clock())
    path.write_text(line("bob", "b"))
    clock.now = 0.9
    assert users.lookup_secret("alice")
    clock.now = 1.0
    assert users.lookup_secret("alice") is None
    assert users.lookup_secret("bob")
    other = path.with_name("other")
    other.write_text(line("carol", "c"))
    other.replace(path)
    clock.now = 2.0
    assert users.lookup_secret("carol")


def test_another_password_of_the_same_length(path: Path) -> None:
    """Not the size tells, nor the time to the second."""
    path.write_text(line("alice", "a"))
    users = Htpasswd(path, path.read_bytes(), clock := Clock())
    before, status = users.lookup_secret("alice"), path.stat()
    path.write_text(line("alice", "b"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    clock.now = 1.0
    assert users.lookup_secret("alice") != before


@pytest.mark.parametrize("fault", ["alice:plain\n", "", None])
def test_a_faulty_new_file(path: Path, fault: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """The users stay as they were, which is said once; a good file counts again."""
    path.write_text(line("alice", "a"))
    users = Htpasswd(path, path.read_bytes(), clock := Clock())
    path.unlink() if fault is None else path.write_text(fault)
    for second in range(1, 4):
        clock.now = float(second)
        assert users.lookup_secret("alice")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "Users file not reloaded" in line_of(record)
    assert "plain" not in line_of(record)
    path.write_text(line("bob", "b"))
    clock.now = 9.0
    assert users.lookup_secret("alice") is None


def test_a_file_that_is_faulty_when_a_worker_begins(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What any worker has last read counts, and for the first one what the settings accepted."""
    accepted = line("alice", "a").encode()
    assert Htpasswd(path, accepted).lookup_secret("alice")
    path.write_text(line("bob", "b"))
    assert Htpasswd(path, accepted).lookup_secret("alice") is None
    path.unlink()
    users = Htpasswd(path, accepted, clock := Clock())
    assert users.lookup_secret("alice") is None
    assert users.lookup_secret("bob")
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    reloaded = Htpasswd(path, line("carol", "c").encode())
    assert reloaded.lookup_secret("carol")
    assert reloaded.lookup_secret("bob") is None
    path.write_text(line("dave", "d"))
    clock.now = 1.0
    assert users.lookup_secret("dave")


def test_a_stand_in(path: Path) -> None:
    """For a user that is not there another's hash is checked, always the same."""
    path.write_text(line("alice", "a", cost=4) + line("bob", "b", cost=5))
    users = Htpasswd(path, path.read_bytes())
    found = {users.get_decoy_secret(f"user{n}") for n in range(100)}
    assert found == {users.lookup_secret("alice"), users.lookup_secret("bob")}
    assert users.get_decoy_secret("mallory") == users.get_decoy_secret("mallory")
