"""Which settings a worker starts with that takes the place of one that died."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import pytest

from tests.integration.logins import basic
from tests.servers import Docxy, docxy, docxy_on_its_own_socket, free_port, wait_until
from tests.wire.client import Client
from tests.wire.wires import MANIFEST, Certificates

DENY = '\n[[rules]]\naction = "deny"\nrepository = "library/**"\n'


@dataclass(frozen=True)
class Site:
    """A proxy with two workers, and every kind of file that its settings name."""

    folder: Path
    proxy: Docxy

    @property
    def config(self) -> Path:
        """The file of DOCXY_CONFIG."""
        return self.folder / "docxy.toml"

    def statuses(self) -> dict[int, int]:
        """Return what each worker answers to a request for a manifest."""
        found = {}
        for pid in self.proxy.workers:
            with self.proxy.only(pid), Client(self.proxy.host) as client:
                found[pid] = client.get(MANIFEST).status
        return found

    def replace(self, *pids: int) -> None:
        """Kill workers, one after another, and wait for each one's successor to answer."""
        for pid in pids:
            self._replace(pid)

    def _replace(self, pid: int) -> None:
        before = self.proxy.log.count("is ready")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.proxy.log.count("is ready") > before, what="a successor")
        wait_until(
            lambda: pid not in self.proxy.workers and len(self.proxy.workers) == 2,
            what="two workers again",
        )

    def reload(self) -> None:
        """Send SIGHUP, and wait until only new workers are left."""
        old, before = set(self.proxy.workers), self.proxy.log.count("is ready")
        self.proxy.server.process.send_signal(signal.SIGHUP)
        wait_until(
            lambda: len(self.proxy.workers) == 2 and not old & set(self.proxy.workers),
            what="new workers",
        )
        # The line of one that is slow would be taken for a successor's.
        wait_until(lambda: self.proxy.log.count("is ready") >= before + 2, what="both to be ready")

    def know(self, name: str) -> bool:
        """Tell whether both workers let a user in."""
        login = f"Authorization: {basic(name, name)}"
        answers = set()
        for pid in self.proxy.workers:
            with self.proxy.only(pid), Client(self.proxy.host) as client:
                answers.add(client.get("/v2/", login).status)
        assert answers <= {200, 401}
        return answers == {200}

    def refused_reload(self) -> None:
        """Send SIGHUP, and wait until it is refused."""
        count = self.proxy.log.count("Reload refused; workers keep the previous settings.")
        self.proxy.server.process.send_signal(signal.SIGHUP)
        wait_until(
            lambda: (
                self.proxy.log.count("Reload refused; workers keep the previous settings.") > count
            ),
            what="the refusal",
        )


def user(name: str) -> str:
    """Write a line of a file of users, whose password is their name."""
    return f"{name}:{bcrypt.hashpw(name.encode(), bcrypt.gensalt(4)).decode()}\n"


def config(folder: Path) -> str:
    """Write the table of a registry that nobody serves, with a file for all that may be one."""
    return f"""
[[registries]]
name = "docker.io"
url = "https://127.0.0.1:{free_port()}"
allow_private = true
credentials = "managed"
username = "own"
password_file = "{folder / "password"}"
ca_bundle = "{folder / "ca.pem"}"
"""


@pytest.fixture(scope="module")
def running(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Site, Callable[[], None]]]:
    folder = tmp_path_factory.mktemp("site")
    text = config(folder)

    def write() -> None:
        (folder / "docxy.toml").write_text(text)
        (folder / "password").write_text("secret-of-the-account")
        (folder / "ca.pem").write_bytes(certificates.ca_path.read_bytes())

    write()
    with docxy(
        DOCXY_CONFIG=str(folder / "docxy.toml"),
        DOCXY_CA_BUNDLE=str(folder / "ca.pem"),
        DOCXY_RETRY_BUDGET="0.1",
    ) as proxy:
        proxy.await_workers()
        yield Site(folder, proxy), write


@pytest.fixture
def site(running: tuple[Site, Callable[[], None]]) -> Site:
    """Return the site as it was at the start, whatever another test has done."""
    site, write = running
    if site.proxy.log.count("Booting worker") > 2:
        write()
        site.reload()
    return site


def test_an_edited_file_counts_from_the_reload_on(site: Site) -> None:
    """Both workers answer alike, before and after: a successor has what was accepted."""
    site.config.write_text(site.config.read_text() + DENY)
    site.replace(site.proxy.workers[0])
    assert set(site.statuses().values()) == {503}
    site.reload()
    assert set(site.statuses().values()) == {403}
    site.config.write_text(site.config.read_text().removesuffix(DENY))
    site.replace(*site.proxy.workers)
    assert set(site.statuses().values()) == {403}


def test_broken_files_stop_no_successor(site: Site) -> None:
    """They are refused at the reload, and do not matter until they are mended."""
    for content in (b"\xff", None):
        for name in ("docxy.toml", "password", "ca.pem"):
            (site.folder / name).unlink(missing_ok=True)
            if content is not None:
                (site.folder / name).write_bytes(content)
        site.refused_reload()
        site.replace(site.proxy.workers[0])
        assert set(site.statuses().values()) == {503}


def test_no_secret_is_where_others_can_read_it(site: Site) -> None:
    """What the master keeps is in its memory: not in arguments, variables or lines of the log."""
    site.replace(site.proxy.workers[0])
    for pid in (site.proxy.server.process.pid, *site.proxy.workers):
        for name in ("cmdline", "environ"):
            assert b"secret-of-the-account" not in Path(f"/proc/{pid}/{name}").read_bytes()
    assert "secret-of-the-account" not in site.proxy.log


@pytest.fixture
def users(tmp_path: Path) -> Iterator[Site]:
    """Run a proxy whose users are alice and carol."""
    (tmp_path / "users").write_text(user("alice") + user("carol"))
    with docxy(
        DOCXY_CREDENTIALS="managed",
        DOCXY_HTPASSWD_FILE=str(tmp_path / "users"),
        DOCXY_TOKEN_KEY="k" * 32,
        DOCXY_REGISTRY_URL=f"http://127.0.0.1:{free_port()}",
        DOCXY_ALLOW_PRIVATE_UPSTREAMS="true",
        DOCXY_RETRY_BUDGET="0.1",
    ) as proxy:
        proxy.await_workers()
        yield Site(tmp_path, proxy)


def test_a_successor_knows_the_users_that_the_others_know(users: Site) -> None:
    """The file of users is live: when it is gone, its last good content counts in each worker."""
    path = users.folder / "users"

    def write(*names: str) -> None:
        path.write_text("".join(map(user, names)))
        count = users.proxy.log.count("Users file reloaded.")

        def is_read() -> bool:
            assert users.know("carol")  # they look when somebody logs in
            return users.proxy.log.count("Users file reloaded.") == count + 2

        wait_until(is_read, what="both workers to read the file")

    assert users.know("alice")
    write("bob", "carol")
    path.unlink()
    users.replace(*users.proxy.workers)
    assert not users.know("alice")
    assert users.know("bob")
    write("alice", "carol")
    assert users.know("alice")
    assert not users.know("bob")


def refused(host: str) -> bool:
    """Tell whether a new connection is not let in."""
    try:
        Client(host, timeout=2).close()
    except OSError:
        return True
    return False


def test_one_worker_that_cannot_start(tmp_path: Path) -> None:
    """It is told, and the other one serves; the arbiter's tests have the pauses."""
    cache = tmp_path / "cache"
    with docxy_on_its_own_socket(DOCXY_CACHE_DIR=str(cache)) as proxy:
        cache.rename(tmp_path / "away")
        cache.touch()
        os.kill(proxy.workers[0], signal.SIGKILL)
        wait_until(lambda: "A worker cannot start;" in proxy.log, what="the line about it")
        with Client(proxy.host) as client:
            assert client.get("/health").status == 200


@pytest.mark.soak
def test_a_worker_that_cannot_start(tmp_path: Path) -> None:
    """It is tried again after pauses while another one serves; without one, everything ends."""
    cache = tmp_path / "cache"
    with docxy_on_its_own_socket(DOCXY_CACHE_DIR=str(cache)) as proxy:
        first, second = proxy.workers
        cache.rename(tmp_path / "away")
        cache.touch()
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: proxy.log.count("the cache cannot be used") >= 2, what="two attempts")
        with Client(proxy.host) as client:
            assert client.get("/health").status == 200
        assert proxy.log.count("A worker cannot start;") == 1
        assert proxy.log.count("Booting worker") <= 2 + 4  # 3 in the first 3 s, the next 4 s later
        cache.unlink()
        (tmp_path / "away").rename(cache)
        wait_until(lambda: "Workers can start again." in proxy.log, what="a successor")
        assert second in proxy.workers
        cache.rename(tmp_path / "away")
        cache.touch()
        for pid in proxy.workers:
            os.kill(pid, signal.SIGKILL)
        assert proxy.server.process.wait(30) == 3
        assert refused(proxy.host)
        assert "No worker is running and none can start; exiting." in proxy.log
