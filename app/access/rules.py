"""An ordered list of rules: the first one that matches a request decides it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from app.access.networks import Client, Networks
from app.oci.image import Facts
from app.oci.manifest import Platform
from app.oci.reference import Digest, RepositoryName, Tag
from app.registries import Registries, Registry

# What a rule that allows wants of an image itself.


@dataclass(frozen=True, slots=True)
class Condition:
    """Platforms, and how long ago an image has to have been made; None is whatever."""

    platforms: tuple[Platform, ...] | None = None
    min_age: timedelta | None = None

    def objection(self, facts: Facts, now: datetime) -> str:
        """Return why an image is refused, or "".

        What cannot be told of it is refused too. An index is not: its images are asked for next.
        """
        if facts.is_index:
            return ""
        if self.platforms is not None and not self._has(facts.platform):
            said = f"is for {facts.platform}" if facts.platform else "does not say what it is for"
            return f"this proxy serves images for {self._written()} only, and this one {said}"
        if self.min_age is not None and not self._is_old(facts.created, now):
            said = f"says {facts.created:%Y-%m-%d}" if facts.created else "has no date"
            return (
                f"this proxy serves images that are {self.min_age.days} days old or more, "
                f"and this one {said}"
            )
        return ""

    def _has(self, platform: Platform | None) -> bool:
        return platform is not None and any(map(platform.suits, self.platforms or ()))

    def _is_old(self, created: datetime | None, now: datetime) -> bool:
        return created is not None and self.min_age is not None and now - created >= self.min_age

    def _written(self) -> str:
        return ", ".join(map(str, self.platforms or ()))

    def __str__(self) -> str:
        wanted = [f"for {self._written()}"] if self.platforms is not None else []
        if self.min_age is not None:
            wanted.append(f"{self.min_age.days} days old or more")
        return " and ".join(wanted)


# The manifests that a rule names by their digests.

NO_DIGESTS: Final[frozenset[Digest]] = frozenset()


@dataclass(frozen=True, slots=True)
class Digests:
    """Some digests, or all."""

    named: frozenset[Digest] = NO_DIGESTS
    are_all: bool = False

    def have(self, digests: frozenset[Digest]) -> bool:
        """Tell whether a manifest that is known by these names is among them."""
        return bool(digests) and (self.are_all or not digests.isdisjoint(self.named))

    def are_told_by(self, digests: frozenset[Digest]) -> bool:
        """Tell whether these names are enough to say that a manifest is not among them.

        The same manifest has another name by each algorithm.
        """
        known = {digest.algorithm for digest in digests}
        return bool(known) and all(digest.algorithm in known for digest in self.named)


# Patterns of names: `*` stays within one component, `**` does not, `?` is one character.

_STARS: Final = re.compile(r"(\*\*+|\*)")


def compiled(pattern: str) -> re.Pattern[str]:
    """Return what matches whole names, in a time that no name can make long.

    Where a star has found the first place at which what follows it fits, no later place would do
    better, so the groups are atomic: clients choose the names.
    """
    first, *rest = _STARS.split(pattern)
    parts = [(rest[at], _literal(rest[at + 1])) for at in range(0, len(rest), 2)]
    if parts:
        star, literal = parts[-1]
        parts[-1] = star, rf"{literal}\Z"
    else:
        return re.compile(rf"{_literal(first)}\Z")
    text, opened = _literal(first), 0
    for star, literal in parts:
        if star == "*":
            text += f"(?>[^/]*?{literal})"
        else:
            text += f"{')' * opened}(?>.*?{literal}"
            opened = 1
    return re.compile(text + ")" * opened)


def _literal(text: str) -> str:
    return "".join("[^/]" if character == "?" else re.escape(character) for character in text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What matches, and what then; None matches all. `number` is its place in the list, from one.

    A `tag` matches requests for a manifest by tag only. With `digest_only`, which allows, those are
    refused, and everything else is let through. `digests` matches manifests only, by digest or by a
    tag that leads to one of them. What a `condition` wants of an image is looked at once its
    manifest is there.
    """

    number: int
    allows: bool
    registry: str | None = None
    repository: str | None = None
    tag: str | None = None
    digests: Digests | None = None
    digest_only: bool = False
    networks: Networks | None = None
    users: frozenset[str] | None = None
    condition: Condition | None = None
    message: str = ""


class Question(NamedTuple):
    """What is asked for, in the registry's own naming.

    `tag` only where a manifest is, by tag; `digests` are the names that this manifest is known by.
    """

    registry: Registry
    repository: RepositoryName
    client: Client
    tag: Tag | None = None
    digests: frozenset[Digest] = NO_DIGESTS


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request may go on, and which rule says so; None where none matches.

    With `is_open` it is to be asked again with all names of the manifest that is the answer.
    """

    allowed: bool
    rule: Rule | None = None
    is_open: bool = False

    @property
    def depends_on_manifest(self) -> bool:
        """Whether the manifest has to be looked at before it is given out."""
        return self.is_open or (self.rule is not None and self.rule.condition is not None)

    @property
    def message(self) -> str:
        """What the client is told, where it may not."""
        if self.rule is None:
            return ""
        if self.rule.message:
            return self.rule.message
        return _BY_DIGEST if self.rule.digest_only else _DENIED


_REMEMBERED: Final = 4096
"""Answers; each part of a question has its longest form, so they take 6 MiB at the most."""

_DENIED: Final = "a rule of this proxy denies it"
_BY_DIGEST: Final = "this proxy serves it by digest only, not by tag"


class Rules:
    """The rules of a proxy; without a match all is allowed."""

    def __init__(self, rules: Sequence[Rule], registries: Registries) -> None:
        """Raise ValueError for a registry that is not in the table, or in the wrong key."""
        self.are_none = not rules
        self.name_digests = any(rule.digests is not None for rule in rules)
        self.tell_clients_apart = any(one.networks or one.users for one in rules)
        self.named = [one for rule in rules if rule.networks for one in rule.networks.named]
        """The networks that rules name."""
        for rule in rules:
            _check_names(rule, registries)
        self._of = {
            row.name: [
                _Applied(rule, row)
                for rule in rules
                if rule.registry is None or rule.registry in row.names
            ]
            for row in registries.rows
        }
        # Nothing else decides, and each layer of an image asks the same.
        self._decided = lru_cache(_REMEMBERED)(self._decide)

    def decide(self, question: Question) -> Decision:
        """Return what the first rule that matches says."""
        registry, repository, client, tag, digests = question
        if not self.name_digests:
            digests = NO_DIGESTS
        return self._decided(registry.name, repository, client, tag, digests)

    def are_alike(self, one: Question, other: Question) -> bool:
        """Tell whether the same rules match two questions, and so decide of any manifest alike."""
        return self._matching(one) == self._matching(other)

    def _matching(self, question: Question) -> list[Rule]:
        return [
            applied.rule
            for applied in self._of[question.registry.name]
            if applied.matches(question.repository, question.client, question.tag)
        ]

    def _decide(
        self,
        registry: str,
        repository: RepositoryName,
        client: Client,
        tag: Tag | None,
        digests: frozenset[Digest],
    ) -> Decision:
        is_open = False
        for applied in self._of[registry]:
            rule = applied.rule
            if not applied.matches(repository, client, tag):
                continue
            if rule.digests is None or rule.digests.have(digests):
                allowed = rule.allows and not (rule.digest_only and tag is not None)
                return Decision(allowed, rule, is_open and allowed)
            if tag is not None or digests:
                is_open = is_open or not rule.digests.are_told_by(digests)
        return Decision(allowed=True, is_open=is_open)


def _check_names(rule: Rule, registries: Registries) -> None:
    """Raise ValueError where a rule would match nothing that is asked for."""
    if rule.registry and not any(rule.registry in row.names for row in registries.rows):
        message = (
            f"rule {rule.number}: registry: no registry that is served is called {rule.registry}"
        )
        raise ValueError(message)
    first, slash, rest = (rule.repository or "").partition("/")
    if not slash or "." not in first:  # a name without a dot is a namespace as well
        return
    for row in registries.rows:
        # In another registry it may be a namespace: one that copies others has such.
        if first in row.names and (rule.registry is None or rule.registry in row.names):
            message = (
                f"rule {rule.number}: repository: {first} is the registry; write "
                f'registry = "{first}" and repository = "{rest}"'
            )
            raise ValueError(message)


class _Applied:
    """A rule at one registry, which completes patterns as it does names."""

    def __init__(self, rule: Rule, row: Registry) -> None:
        self.rule = rule
        self._repository = self._tag = None
        if rule.repository is not None:
            is_name = "**" not in rule.repository
            pattern = row.complete(rule.repository) if is_name else rule.repository
            self._repository = compiled(pattern)
        if rule.tag is not None:
            self._tag = compiled(rule.tag)

    def matches(self, repository: RepositoryName, client: Client, tag: Tag | None) -> bool:
        """Tell whether a rule is about this."""
        return (
            _fits(self._repository, repository)
            and _fits(self._tag, tag)
            and (self.rule.users is None or client.user in self.rule.users)
            and self._is_from_there(client)
        )

    def _is_from_there(self, client: Client) -> bool:
        networks = self.rule.networks
        if networks is None:
            return True
        # One that hides may be anybody: no network allows it, and each may deny it.
        return client.address in networks if client.is_known else not self.rule.allows


def _fits(pattern: re.Pattern[str] | None, text: str | None) -> bool:
    return pattern is None or (text is not None and pattern.match(text) is not None)
