"""A small Docker Hub of the project's own: registry, token server, CDN and region, on loopback.

with Hub() as hub, docxy(**hub.settings) as proxy:
    hub.fail(part="cdn", cut_after=100_000)
    ...
    assert hub.count("registry", "GET", "/manifests/") == 2
"""

import contextlib
import ssl
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from tests.hub.accounts import ANONYMOUS, DEFAULT_USERS, Accounts, User
from tests.hub.budget import Budget
from tests.hub.clock import Clock
from tests.hub.content import Push, default_content
from tests.hub.door import Login
from tests.hub.faults import Fault
from tests.hub.parts import running_parts
from tests.hub.record import Record
from tests.hub.shelf import Shelf
from tests.hub.tokens import Issuer
from tests.hub.web import Stage

_NAMES = ("127.0.0.1", "::1", "localhost")


class Hub:
    """Docker Hub on loopback, from `with Hub() as hub:` to the end of the block."""

    def __init__(  # noqa: PLR0913 - each one has a default
        self,
        *,
        users: Mapping[str, User] = DEFAULT_USERS,
        content: Callable[[], Iterable[Push]] = default_content,
        login: Login = "token",
        service: str = "registry.test",
        listen: str = "127.0.0.1",
        authority: trustme.CA | None = None,
    ) -> None:
        self.login = login
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
        self.fail = self._stage.faults.planner(Fault)
        """Let something go wrong: takes the fields of `Fault`."""
        recorder = self._stage.recorder
        self.select, self.count, self.forget = recorder.select, recorder.count, recorder.forget

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
        self.authority.issue_cert(*{*_NAMES, self._listen}).configure_cert(context)
        parts = self._stack.enter_context(
            running_parts(
                folder=folder,
                listen=self._listen,
                context=context,
                stage=self._stage,
                clock=self._clock,
                login=self.login,
                issuer=self._issuer,
                accounts=self._accounts,
                budget=self._budget,
            )
        )
        self.host, self.url = parts.host, f"https://{parts.host}"
        self.token_url, self.cdn_url = parts.token_url, parts.cdn_url
        self.region_url = parts.region_url
        """Where `front.redirect_manifests_to` may lead; nothing else does."""
        self.index_url = parts.index_url
        self.front, self.cdn, self.region = parts.front, parts.cdn, parts.region
        self.index = parts.index
        self._tokens, self._links = parts.tokens, parts.links
        self.away = parts.away
        shelf = Shelf(parts.registry, self._accounts, parts.front)
        shelf.fill(self._content())
        self.push, self.push_blob, self.image = shelf.push, shelf.push_blob, shelf.image

    @property
    def settings(self) -> dict[str, str]:
        """The environment of a Docxy that takes this hub for Docker Hub."""
        settings = {
            "DOCXY_REGISTRY_URL": self.url,
            "DOCXY_INDEX_URL": self.index_url,
            "DOCXY_CA_BUNDLE": str(self.ca_bundle),
            "DOCXY_ALLOW_PRIVATE_UPSTREAMS": "true",
        }
        if self.login == "token":
            settings |= {
                "DOCXY_TOKEN_URL": self.token_url,
                "DOCXY_TOKEN_SERVICE": self.service,
            }
        return settings

    def row(self, name: str, *, discovered: bool = False, **keys: object) -> dict[str, object]:
        """Return this hub's row in Docxy's table of registries, with more keys or others.

        Where clients get tokens is said for a hub that has only that way, unless Docxy is to
        discover it.
        """
        row: dict[str, object] = {
            "name": name,
            "url": self.url,
            "ca_bundle": str(self.ca_bundle),
            "allow_private": True,
        }
        if self.login == "token" and not discovered:
            row |= {"token_url": self.token_url, "token_service": self.service}
        return row | keys

    @property
    def users(self) -> dict[str, User]:
        """The users by name; a test may add some."""
        return self._accounts.users

    # What lies in it

    def make_private(self, name: str) -> None:
        """Close a repository to all but the users who may read it."""
        self._accounts.make_private(name)

    def make_public(self, name: str) -> None:
        """Open a repository to everybody."""
        self._accounts.make_public(name)

    # What it saw

    @property
    def requests(self) -> list[Record]:
        """All requests so far, also those that are still being answered."""
        return self._stage.recorder.all()

    # What it lets happen

    def heal(self) -> None:
        """Let nothing more go wrong."""
        self._stage.faults.heal()

    def reset(self) -> None:
        """Forget, heal and begin a new window of pulls: a hub for the next test.

        What a test has set at the parts and at the hub is the test's to set back.
        """
        self.forget()
        self.heal()
        self._budget.restore()

    @property
    def cookie(self) -> str | None:
        """What every answer of every part sets, as in `seen=1; Path=/`; None: nothing."""
        return self._stage.cookie

    @cookie.setter
    def cookie(self, cookie: str | None) -> None:
        self._stage.cookie = cookie

    @property
    def token_fields(self) -> Collection[str] | None:
        """The fields in the answer to a GET of a token, of those that there are; None: all."""
        return self._tokens.fields

    @token_fields.setter
    def token_fields(self, fields: Collection[str] | None) -> None:
        self._tokens.fields = fields

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
