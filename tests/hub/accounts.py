"""Who may do what: users, repositories, and the scopes that a token is asked for."""

import base64
import fnmatch
import secrets
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

ANONYMOUS = ""


@dataclass(frozen=True, slots=True)
class User:
    """A login; the patterns are of repository names, as in `alice/*`."""

    password: str
    reads: tuple[str, ...] = ()
    """Private repositories; public ones are everybody's."""
    writes: tuple[str, ...] = ()


def default_users(seed: str = "") -> Mapping[str, User]:
    """Return the users of a new hub; another seed gives them other passwords."""
    return {
        "alice": User(f"alicepw{seed}", reads=("*",), writes=("alice/*",)),
        "bob": User(f"bobpw{seed}"),
    }


DEFAULT_USERS = default_users()


@dataclass(frozen=True, slots=True)
class Scope:
    """`type:name:action,action`; the name may hold colons, the type a class in brackets."""

    kind: str
    name: str
    actions: tuple[str, ...]

    @classmethod
    def from_text(cls, text: str) -> Self | None:
        """Parse one scope; anything else asks for nothing."""
        kind, _, rest = text.partition(":")
        name, colon, actions = rest.rpartition(":")
        if not colon:
            return None
        return cls(kind.partition("(")[0], name, tuple(filter(None, actions.split(","))))

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{','.join(self.actions)}"


@dataclass(slots=True)
class Accounts:
    """The users and the repositories of one hub."""

    users: dict[str, User]
    private: dict[str, bool] = field(default_factory=dict)
    """Every repository that exists, and whether it is private."""
    _refresh_tokens: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str) -> None:
        """Make a repository known, as a public one if it is new."""
        with self._lock:
            self.private.setdefault(name, False)

    def knows(self, name: str) -> bool:
        """Tell whether there is such a repository."""
        with self._lock:
            return name in self.private

    def make_private(self, name: str) -> None:
        """Close a repository to all but the users who may read it."""
        with self._lock:
            self.private[name] = True

    def make_public(self, name: str) -> None:
        """Open a repository to everybody."""
        with self._lock:
            self.private[name] = False

    def admits(self, name: str, password: str) -> bool:
        """Tell whether the password is right."""
        user = self.users.get(name)
        if user is None:
            return False
        return secrets.compare_digest(user.password.encode(), password.encode())

    def owner_of_basic(self, authorization: str | None) -> str | None:
        """Return whose user and password this `Basic` is; None if it is nobody's."""
        kind, _, secret = (authorization or "").partition(" ")
        try:
            name, _, password = base64.b64decode(secret, validate=True).decode().partition(":")
        except ValueError:  # no base64, or no UTF-8 in it
            return None
        return name if kind.lower() == "basic" and self.admits(name, password) else None

    def refresh_token(self, account: str) -> str:
        """Return a new refresh token for a user."""
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._refresh_tokens[token] = account
        return token

    def owner_of(self, refresh_token: str) -> str | None:
        """Return whose refresh token this is."""
        with self._lock:
            return self._refresh_tokens.get(refresh_token)

    def revoke(self, account: str) -> None:
        """Drop all refresh tokens of a user."""
        with self._lock:
            for token, owner in list(self._refresh_tokens.items()):
                if owner == account:
                    del self._refresh_tokens[token]

    def granted(self, account: str, scopes: Iterable[Scope]) -> list[Scope]:
        """Return what is allowed of what was asked; the rest is left out without a word."""
        granted = []
        for scope in scopes:
            allowed = self._allowed(account, scope.name) if scope.kind == "repository" else set()
            actions = tuple(action for action in scope.actions if action in allowed)
            if actions:
                granted.append(Scope(scope.kind, scope.name, actions))
        return granted

    def _allowed(self, account: str, repository: str) -> set[str]:
        """Docker Hub does not tell a private repository from one that does not exist."""
        user = self.users.get(account, User(""))
        if any(fnmatch.fnmatchcase(repository, pattern) for pattern in user.writes):
            return {"pull", "push", "delete"}
        with self._lock:
            private = self.private.get(repository)
        if private is None:
            return set()
        readable = any(fnmatch.fnmatchcase(repository, pattern) for pattern in user.reads)
        return {"pull"} if readable or not private else set()
