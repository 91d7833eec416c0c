"""A Docxy with a cache before a hub: what the tests of the cache share."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.hub.content import multi_arch
from tests.hub.hub import Hub
from tests.hub.images import OCI_INDEX, OCI_KIND, OCI_MANIFEST, Image
from tests.hub.record import Record
from tests.integration.pulling import Client, Use, Way, client
from tests.integration.survival import Survivor
from tests.servers import ROOT, Docxy, clean_environment, docxy, wait_until

ACCEPT = f"Accept: {OCI_INDEX}, {OCI_MANIFEST}"
PARTS = ("registry", "token", "cdn")
SETTINGS = {
    "DOCXY_CACHE_MIN_FREE": "1MB",
    "DOCXY_RETRY_BUDGET": "0.5",
    "DOCXY_RESUME_BUDGET": "3",
    "DOCXY_LOG_LEVEL": "debug",
}
"""Bad days are shorter here, and a test's disk may be small."""


@dataclass(frozen=True)
class Cached(Survivor):
    """A Docxy that keeps what passes."""

    directory: Path
    settings: dict[str, str]

    @property
    def way(self) -> Way:
        """How container clients reach it."""
        return Way("plain", self.proxy.url, self.proxy.host, None, lambda: self.proxy.log)

    @property
    def files(self) -> list[Path]:
        """The content that it keeps."""
        return [path for path in (self.directory / "content").rglob("*") if path.is_file()]

    def file(self, digest: str) -> Path:
        """Return where content lies; fail where it does not."""
        (found,) = (path for path in self.files if path.name == digest.partition(":")[2])
        return found

    @contextlib.contextmanager
    def fresh(self, name: str, home: Path, use: Use = "by name") -> Iterator[Client]:
        """Start a client that has pulled nothing and knows nobody."""
        with client(name, self.way, use, home) as started:
            yield started

    def pull(self, name: str, home: Path, repository: str, tag: str = "1") -> None:
        """Pull with a fresh client, and see that all is there."""
        image = self.hub.image(repository, tag)
        with self.fresh(name, home) as one:
            assert one.pull(f"{self.way.host}/{repository}:{tag}") == one.kept(image)

    def command(self, name: str) -> int:
        """Run one of Docxy's own commands on its cache, and return how it ended."""
        settings = self.settings | {"DOCXY_CACHE_DIR": str(self.directory)}
        command = [sys.executable, "-m", "flask", "--app", "wsgi", "cache", name]
        env = clean_environment(**settings)
        return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode

    def kill(self, pid: int) -> None:
        """Kill a worker, and wait until another one has taken its place."""
        ready = self.proxy.log.count("is ready")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.proxy.log.count("is ready") > ready, what="another worker")


@contextlib.contextmanager
def caching(hub: Hub, directory: Path, **settings: str) -> Iterator[Cached]:
    """Run Docxy with two workers and a cache; settings in place of the hub's own come last."""
    own = {} if "DOCXY_CONFIG" in settings else hub.settings
    everything = own | SETTINGS | settings
    with docxy(**everything, DOCXY_CACHE_DIR=str(directory)) as proxy:
        yield Cached(hub, proxy, directory, everything)


@contextlib.contextmanager
def switched_off(hub: Hub) -> Iterator[None]:
    """Let nothing of a hub be there."""
    with contextlib.ExitStack() as stack:
        for part in PARTS:
            stack.enter_context(hub.away(part))
        yield


def push(hub: Hub, name: str, size: int = 300_000) -> Image:
    """Push an image of two platforms that is like no other one, as tag 1."""
    return hub.push(name, multi_arch(name, OCI_KIND, size), ["1"])


def with_token(
    proxy: Docxy,
    path: str,
    name: str,
    method: str = "GET",
    fields: Mapping[str, str] | None = None,
) -> requests.Response:
    """Ask with a token from there for a repository, on connections of its own."""
    sent = {"Accept": ACCEPT.removeprefix("Accept: "), **(fields or {})}
    scope = {"scope": f"repository:{name}:pull"}
    answer = requests.get(f"{proxy.url}/auth/token", params=scope, headers=sent, timeout=30)
    sent["Authorization"] = f"Bearer {answer.json()['token']}"
    return requests.request(method, f"{proxy.url}{path}", headers=sent, timeout=30)


def asked(hub: Hub) -> list[Record]:
    """Return what a hub was asked, but for Docxy's own look at how it lets clients in."""
    return [record for record in hub.requests if record.path != "/v2/"]


@pytest.fixture
def kept_hub(busy_hub: Hub) -> Iterator[Hub]:
    """Return the hub of the pulls, which nobody has asked yet, and from which all may pull."""
    busy_hub.reset()
    limit, busy_hub.limit = busy_hub.limit, None
    yield busy_hub
    busy_hub.limit = limit
    busy_hub.reset()


@pytest.fixture(scope="session")
def cached_docxy(busy_hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cached]:
    """Run the Docxy that keeps what passes, for all tests that leave it as it is."""
    with caching(busy_hub, tmp_path_factory.mktemp("cache") / "kept") as cached:
        yield cached


@pytest.fixture
def cached(kept_hub: Hub, cached_docxy: Cached) -> Cached:
    """Return it, before a hub that nobody has asked yet."""
    del kept_hub
    return cached_docxy
