"""The scopes of a token, `repository:<name>:<actions>` (distribution's `spec/auth/scope.md`)."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self


class Action(StrEnum):
    """An action of a client on a repository, as scopes and access claims name it."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"

    @classmethod
    def of_method(cls, method: str) -> Self:
        """Return what a request with this HTTP method does; an unknown method counts as a push."""
        if method in {"GET", "HEAD"}:
            return cls("pull")
        return cls("delete" if method == "DELETE" else "push")


@dataclass(frozen=True, slots=True)
class Scope:
    """One scope of a token: a resource and the actions that are allowed on it.

    The grammar is `type[(class)]:name:action[,action]`. A name may contain `host:port`, so the type
    ends at the first colon and the actions begin after the last.
    """

    type: str
    name: str
    actions: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the scope in `text`, or None if it is not one: a token service may know others."""
        type_, first, rest = text.partition(":")
        name, last, actions = rest.rpartition(":")
        if not (first and last and type_ and name):
            return None
        return cls(type_, name, actions)

    @classmethod
    def of_repository(cls, name: str, action: Action = Action.PULL) -> Self:
        """Return the scope of one action on a repository."""
        return cls("repository", name, action)

    def allows(self, action: Action) -> bool:
        """Return whether the actions include this one; `*` includes all."""
        return not {action, "*"}.isdisjoint(self.actions.split(","))

    @property
    def is_repository(self) -> bool:
        """Whether the type is `repository`, with or without a class as in `repository(plugin)`."""
        return self.type.partition("(")[0] == "repository"

    def with_name(self, name: str) -> Self:
        """Return a copy of the scope with another name."""
        return replace(self, name=name)

    def __str__(self) -> str:
        return f"{self.type}:{self.name}:{self.actions}"
