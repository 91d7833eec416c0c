"""A small Docker Hub of the project's own: registry, token server and CDN, all on loopback.

with Hub() as hub, docxy(**hub.settings) as proxy:
    hub.fail(part="cdn", cut_after=100_000)
    ...
    assert hub.count("registry", "GET", "/manifests/") == 2
"""

import contextlib
import ssl
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from tests.hub.accounts import ANONYMOUS, DEFAULT_USERS, Accounts, User
from tests.hub.budget import Budget
from tests.hub.cdn import Cdn
from tests.hub.clock import Clock
from tests.hub.content import Push, default_content
from tests.hub.faults import Fault
from tests.hub.front import Front
from tests.hub.images import Image, noise
from tests.hub.links import Links
from tests.hub.pushing import Pusher
from tests.hub.record import Record
from tests.hub.registry import docker_registry
from tests.hub.tokens import Issuer, TokenServer
from tests.hub.web import Server, Stage

_NAMES = ("127.0.0.1", "::1", "localhost")
_CHUNK = 1 << 20
_PUSHES = 6


class Hub:
    """Docker Hub on loopback, from `with Hub() as hub:` to the end of the block."""

    def __init__(
        self,
        *,
        users: Mapping[str, User] = DEFAULT_USERS,
        content: Callable[[], Iterable[Push]] = default_content,
        service: str = "registry.test",
        listen: str = "127.0.0.1",
        authority: trustme.CA | None = None,
    ) -> None:
        self.service = service
        self.authority = authority or trustme.CA()
        """Give it to another hub, and one bundle is good for both."""
        self._content = content
        self._listen = listen
        self._stack = contextlib.ExitStack()
        self._stage = Stage()
        self._clock = Clock()
        self._accounts = Accounts(dict(users))
        self._issuer = Issuer(service=service, clock=self._clock)
        self._budget = Budget()
        self._images: dict[tuple[str, str], Image] = {}
        self.fail = self._stage.faults.planner(Fault)
        """Let something go wrong: takes the fields of `Fault`."""

    def __enter__(self) -> Self:
        with self._stack:
            self._start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def _start(self) -> None:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="docxy-hub-")))
        self.ca_bundle = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca_bundle)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*_NAMES).configure_cert(context)
        front, token, cdn = (
            self._stack.enter_context(
                contextlib.closing(Server(part, self._stage, context, self._listen))
            )
            for part in ("registry", "token", "cdn")
        )
        literal = f"[{self._listen}]" if ":" in self._listen else self._listen
        self.host = f"{literal}:{front.port}"
        self.url = f"https://{self.host}"
        self.token_url = f"https://{literal}:{token.port}/token"
        self.cdn_url = f"https://localhost:{cdn.port}"
        self._links = Links(self.cdn_url, self._clock)
        self._registry = self._stack.enter_context(
            docker_registry(folder, self._issuer, self.token_url)
        )
        # Last in, first out: whoever waits is woken, the servers close, then docker-registry ends.
        for server in (front, token, cdn):
            self._stack.callback(server.close)
        self._stack.callback(self._stage.closing.set)
        self.front = Front(self.url, self._registry, self._links, self._budget)
        self.cdn = Cdn(self._registry, self._links)
        self._fill()
        front.start(self.front.answer)
        token.start(TokenServer(self._issuer, self._accounts).answer)
        cdn.start(self.cdn.answer)

    def _fill(self) -> None:
        """Push into several repositories at a time, as docker-registry waits for the disk often.

        One after the other within a repository: two uploads of one blob into it disturb each other.
        """
        repositories: dict[str, list[Push]] = {}
        for push in self._content():
            repositories.setdefault(push.name, []).append(push)

        def put(pushes: list[Push]) -> None:
            for push in pushes:
                self.push(push.name, push.image, push.tags)
                if push.private:
                    self.make_private(push.name)

        with ThreadPoolExecutor(_PUSHES) as pool:
            for _ in pool.map(put, repositories.values()):
                pass

    @property
    def settings(self) -> dict[str, str]:
        """The environment of a Docxy that takes this hub for Docker Hub."""
        return {
            "DOCXY_REGISTRY_URL": self.url,
            "DOCXY_TOKEN_URL": self.token_url,
            "DOCXY_TOKEN_SERVICE": self.service,
            "DOCXY_CA_BUNDLE": str(self.ca_bundle),
        }

    @property
    def users(self) -> dict[str, User]:
        """The users by name; a test may add some."""
        return self._accounts.users

    # What lies in it

    def push(self, name: str, image: Image, tags: Iterable[str] = ()) -> Image:
        """Put an image into a repository, which is public if it is new; return the image."""
        tags = tuple(tags)
        self._accounts.add(name)
        Pusher(self._registry, name).push(image, tags)
        for reference in (image.digest, *tags):
            self._images[name, reference] = image
        if "subject" in image.document:
            subject = image.document["subject"]["digest"]
            self.front.refer(name, subject, image)
        return image

    def push_blob(self, name: str, data: bytes | int, seed: str = "") -> str:
        """Put a blob into a repository and return its digest; a number means so much noise."""
        self._accounts.add(name)
        chunks = _noise_chunks(data, seed) if isinstance(data, int) else iter([data])
        return Pusher(self._registry, name).push_blob(chunks)

    def make_private(self, name: str) -> None:
        """Close a repository to all but the users who may read it."""
        self._accounts.make_private(name)

    def make_public(self, name: str) -> None:
        """Open a repository to everybody."""
        self._accounts.make_public(name)

    def image(self, name: str, reference: str) -> Image:
        """Return what was pushed as this tag or digest."""
        return self._images[name, reference]

    # What it saw

    @property
    def requests(self) -> list[Record]:
        """All requests so far, also those that are still being answered."""
        return self._stage.recorder.all()

    def select(
        self,
        part: str | None = None,
        method: str | None = None,
        path: str | None = None,
        status: int | None = None,
    ) -> list[Record]:
        """Return the requests that fit; `path` is a regular expression to be found in the path."""
        return self._stage.recorder.select(part, method, path, status)

    def count(
        self,
        part: str | None = None,
        method: str | None = None,
        path: str | None = None,
        status: int | None = None,
    ) -> int:
        """Count the requests that fit."""
        return len(self.select(part, method, path, status))

    def forget(self) -> None:
        """Drop the record of requests."""
        self._stage.recorder.forget()

    # What it lets happen

    def heal(self) -> None:
        """Let nothing more go wrong."""
        self._stage.faults.heal()

    def reset(self) -> None:
        """Forget, heal and begin a new window of pulls: a hub for the next test."""
        self.forget()
        self.heal()
        self._budget.restore()

    def advance(self, seconds: float) -> None:
        """Move the hub's clock on: signed URLs expire, and the front refuses tokens as expired."""
        self._clock.advance(seconds)

    def expire_urls_after(self, seconds: float) -> None:
        """Sign URLs from now on for so long."""
        self._links.lifetime = seconds

    def expire_tokens_after(self, seconds: int) -> None:
        """Sign tokens from now on for so long."""
        self._issuer.lifetime = seconds

    def revoke(self, account: str) -> None:
        """Make a user's refresh tokens worthless."""
        self._accounts.revoke(account)

    # What it allows

    @property
    def pulls(self) -> int:
        """The pulls spent, by all accounts."""
        return self._budget.pulls

    @property
    def limit(self) -> int | None:
        """The pulls of anonymous clients in a window; None is no limit, and no headers."""
        return self._budget.limit

    @limit.setter
    def limit(self, limit: int | None) -> None:
        self._budget.limit = limit

    @property
    def user_limit(self) -> int | None:
        """The pulls of each user in a window; None is no limit, and no headers."""
        return self._budget.user_limit

    @user_limit.setter
    def user_limit(self, limit: int | None) -> None:
        self._budget.user_limit = limit

    @property
    def remaining(self) -> int:
        """The pulls that anonymous clients have left."""
        return self._budget.remaining(ANONYMOUS)

    @remaining.setter
    def remaining(self, remaining: int) -> None:
        self._budget.set_remaining(ANONYMOUS, remaining)

    def set_remaining(self, account: str, remaining: int) -> None:
        """Let a user have so many pulls left."""
        self._budget.set_remaining(account, remaining)


def _noise_chunks(size: int, seed: str) -> Iterator[bytes]:
    for number, start in enumerate(range(0, size, _CHUNK)):
        yield noise(min(_CHUNK, size - start), f"{seed} {number}")
