"""Scopes, `repository:<name>:<actions>`: distribution's `spec/auth/scope.md`."""

from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token is asked to allow.

    The grammar is `type[(class)]:name:action[,action]`; a name may hold `host:port`,
    so the type ends at the first colon and the actions begin at the last.
    """

    type: str
    name: str
    actions: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the scope, or None for text that is none: a token service may know other forms."""
        type_, first, rest = text.partition(":")
        name, last, actions = rest.rpartition(":")
        if not (first and last and type_ and name):
            return None
        return cls(type_, name, actions)

    @property
    def is_repository(self) -> bool:
        """Whether `name` is a repository name; `repository(plugin)` is one too."""
        return self.type.partition("(")[0] == "repository"

    def named(self, name: str) -> Self:
        """Return the same scope for another name."""
        return replace(self, name=name)

    def __str__(self) -> str:
        return f"{self.type}:{self.name}:{self.actions}"
