"""The ordered list of rules: the first rule that matches a request decides it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from app.access.networks import ClientIdentity, Networks
from app.oci.image import ImageMetadata
from app.oci.manifest import Platform
from app.oci.reference import Digest, RepositoryName, Tag
from app.registries import Registries, Registry

# Conditions on the image itself, for rules that allow.


@dataclass(frozen=True, slots=True)
class Condition:
    """The requirements for an image: one of `platforms`, and a minimum age.

    None means that the property does not matter.
    """

    platforms: tuple[Platform, ...] | None = None
    min_age: timedelta | None = None

    def find_violation(self, facts: ImageMetadata, now: datetime) -> str:
        """Return why the image is refused, as text for the client, or "" if it is not.

        An image is also refused if its platform or creation date is required but unknown. An index
        is never refused: the client requests one of its images next. `now` is wall-clock time.
        """
        if facts.is_index:
            return ""
        if self.platforms is not None and not self._allows_platform(facts.platform):
            text = f"is for {facts.platform}" if facts.platform else "does not name its platform"
            return (
                f"this proxy serves images for {self._format_platforms()} only, and this one {text}"
            )
        if self.min_age is not None and not self._is_old_enough(facts.created, now):
            text = f"says {facts.created:%Y-%m-%d}" if facts.created else "has no date"
            return (
                f"this proxy serves images that are {self.min_age.days} days old or more, "
                f"and this one {text}"
            )
        return ""

    def _allows_platform(self, platform: Platform | None) -> bool:
        return platform is not None and any(map(platform.satisfies, self.platforms or ()))

    def _is_old_enough(self, created: datetime | None, now: datetime) -> bool:
        return created is not None and self.min_age is not None and now - created >= self.min_age

    def _format_platforms(self) -> str:
        return ", ".join(map(str, self.platforms or ()))

    def __str__(self) -> str:
        requirements = [f"for {self._format_platforms()}"] if self.platforms is not None else []
        if self.min_age is not None:
            requirements.append(f"{self.min_age.days} days old or more")
        return " and ".join(requirements)


# Manifests that a rule names by digest.

NO_DIGESTS: Final[frozenset[Digest]] = frozenset()


@dataclass(frozen=True, slots=True)
class DigestSet:
    """A set of digests; `includes_all` stands for every digest."""

    digests: frozenset[Digest] = NO_DIGESTS
    includes_all: bool = False

    def matches(self, digests: frozenset[Digest]) -> bool:
        """Return True if the set contains a manifest known by these `digests`.

        Return False if `digests` is empty.
        """
        return bool(digests) and (self.includes_all or not digests.isdisjoint(self.digests))

    def is_decidable_by(self, digests: frozenset[Digest]) -> bool:
        """Return True if `digests` cover every algorithm listed here.

        Each algorithm gives the same manifest a different digest, so only then is a non-match
        conclusive. Return False if `digests` is empty.
        """
        algorithms = {digest.algorithm for digest in digests}
        return bool(algorithms) and all(digest.algorithm in algorithms for digest in self.digests)


# Name patterns: `*` matches within one path component, `**` across components, and `?` matches
# one character that is not a slash.

_STAR_PATTERN: Final = re.compile(r"(\*\*+|\*)")


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return a regular expression that matches whole names and never backtracks into a star.

    Once a star has reached the first position where the text after it matches, no later position
    can do better, so the groups are atomic. Clients choose the names, and without this a name
    could make matching slow.
    """
    first, *pieces = _STAR_PATTERN.split(pattern)
    parts = [
        (pieces[index], _escape_literal(pieces[index + 1])) for index in range(0, len(pieces), 2)
    ]
    if parts:
        star, literal = parts[-1]
        parts[-1] = star, rf"{literal}\Z"
    else:
        return re.compile(rf"{_escape_literal(first)}\Z")
    text, open_groups = _escape_literal(first), 0
    for star, literal in parts:
        if star == "*":
            text += f"(?>[^/]*?{literal})"
        else:
            text += f"{')' * open_groups}(?>.*?{literal}"
            open_groups = 1
    return re.compile(text + ")" * open_groups)


def _escape_literal(text: str) -> str:
    return "".join("[^/]" if character == "?" else re.escape(character) for character in text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule that allows or denies what it matches; a criterion of None matches everything.

    `number` is the position of the rule in the list, counted from one. `tag` matches only requests
    for a manifest by tag. `digest_only` belongs to a rule that allows: it refuses manifests by tag
    and allows everything else. `digests` matches only manifests, either by digest or by a tag that
    points to one of them. `condition` is checked once the manifest of the image is available.
    """

    number: int
    allows: bool
    registry: str | None = None
    repository: str | None = None
    tag: str | None = None
    digests: DigestSet | None = None
    digest_only: bool = False
    networks: Networks | None = None
    users: frozenset[str] | None = None
    condition: Condition | None = None
    message: str = ""


class AccessRequest(NamedTuple):
    """A request as the rules see it, with the registry's own name for the repository.

    `tag` is set only if the client requests a manifest by tag. `digests` are the known digests of
    the requested manifest.
    """

    registry: Registry
    repository: RepositoryName
    client: ClientIdentity
    tag: Tag | None = None
    digests: frozenset[Digest] = NO_DIGESTS


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision on a request, and the rule that made it; None if no rule matched.

    If `is_provisional` is True, decide again with all digests of the manifest that the registry
    returns.
    """

    allowed: bool
    rule: Rule | None = None
    is_provisional: bool = False

    @property
    def depends_on_manifest(self) -> bool:
        """Whether the manifest must be inspected before it is sent to the client."""
        return self.is_provisional or (self.rule is not None and self.rule.condition is not None)

    @property
    def message(self) -> str:
        """The message for a client whose request is denied; "" if no rule matched."""
        if self.rule is None:
            return ""
        if self.rule.message:
            return self.rule.message
        return _DIGEST_ONLY_MESSAGE if self.rule.digest_only else _DENIED_MESSAGE


_CACHE_SIZE: Final = 4096
"""The most cached decisions; each part of a question is bounded, so they take 6 MiB at most."""

_DENIED_MESSAGE: Final = "a rule of this proxy denies it"
_DIGEST_ONLY_MESSAGE: Final = "this proxy serves it by digest only, not by tag"


class Rules:
    """The rules of this proxy; a request that no rule matches is allowed."""

    def __init__(self, rules: Sequence[Rule], registries: Registries) -> None:
        """Raise ValueError if a rule names an unknown registry, or names it in `repository`."""
        self.is_empty = not rules
        self.has_digests = any(rule.digests is not None for rule in rules)
        self.depends_on_client = any(entry.networks or entry.users for entry in rules)
        self.networks = [
            entry for rule in rules if rule.networks for entry in rule.networks.networks
        ]
        """The networks that the rules name."""
        for rule in rules:
            _check_names(rule, registries)
        self._by_registry = {
            row.name: [
                _CompiledRule(rule, row)
                for rule in rules
                if rule.registry is None or rule.registry in row.names
            ]
            for row in registries.rows
        }
        # The decision depends on nothing but the arguments, and every layer of an image repeats
        # the same question.
        self._decide_cached = lru_cache(_CACHE_SIZE)(self._decide)

    def decide(self, question: AccessRequest) -> Decision:
        """Return the decision of the first rule that matches; allow the request if none does."""
        registry, repository, client, tag, digests = question
        if not self.has_digests:
            digests = NO_DIGESTS
        return self._decide_cached(registry.name, repository, client, tag, digests)

    def has_same_matches(self, first: AccessRequest, second: AccessRequest) -> bool:
        """Return whether the same rules match two requests if `digests` are left out.

        A manifest then gets the same decision, whichever of the two requests asks for it.
        """
        return self._find_matches(first) == self._find_matches(second)

    def _find_matches(self, question: AccessRequest) -> list[Rule]:
        return [
            compiled.rule
            for compiled in self._by_registry[question.registry.name]
            if compiled.matches(question.repository, question.client, question.tag)
        ]

    def _decide(
        self,
        registry: str,
        repository: RepositoryName,
        client: ClientIdentity,
        tag: Tag | None,
        digests: frozenset[Digest],
    ) -> Decision:
        is_undecided = False
        for compiled in self._by_registry[registry]:
            rule = compiled.rule
            if not compiled.matches(repository, client, tag):
                continue
            if rule.digests is None or rule.digests.matches(digests):
                allowed = rule.allows and not (rule.digest_only and tag is not None)
                return Decision(allowed, rule, is_undecided and allowed)
            if tag is not None or digests:
                is_undecided = is_undecided or not rule.digests.is_decidable_by(digests)
        return Decision(allowed=True, is_provisional=is_undecided)


def _check_names(rule: Rule, registries: Registries) -> None:
    """Raise ValueError if the names in a rule are such that it could never match a request."""
    if rule.registry and not any(rule.registry in row.names for row in registries.rows):
        message = (
            f"rule {rule.number}: registry: this proxy serves no registry named {rule.registry}"
        )
        raise ValueError(message)
    prefix, slash, remainder = (rule.repository or "").partition("/")
    if not slash or "." not in prefix:  # a name without a dot may be a namespace
        return
    for row in registries.rows:
        # In another registry the prefix may be a namespace, such as in one that copies others.
        if prefix in row.names and (rule.registry is None or rule.registry in row.names):
            message = (
                f"rule {rule.number}: repository: {prefix} is the registry; write "
                f'registry = "{prefix}" and repository = "{remainder}"'
            )
            raise ValueError(message)


class _CompiledRule:
    """A rule for one registry; its repository pattern is completed as clients' names are."""

    def __init__(self, rule: Rule, row: Registry) -> None:
        self.rule = rule
        self._repository = self._tag = None
        if rule.repository is not None:
            is_name = "**" not in rule.repository
            pattern = row.complete_name(rule.repository) if is_name else rule.repository
            self._repository = compile_pattern(pattern)
        if rule.tag is not None:
            self._tag = compile_pattern(rule.tag)

    def matches(self, repository: RepositoryName, client: ClientIdentity, tag: Tag | None) -> bool:
        """Return True if all criteria of the rule except `digests` match this request."""
        return (
            _matches_pattern(self._repository, repository)
            and _matches_pattern(self._tag, tag)
            and (self.rule.users is None or client.user in self.rule.users)
            and self._matches_client(client)
        )

    def _matches_client(self, client: ClientIdentity) -> bool:
        networks = self.rule.networks
        if networks is None:
            return True
        # A client whose address is unknown could be anywhere: a rule that allows a network never
        # matches it, and a rule that denies one always does.
        return client.address in networks if client.is_known else not self.rule.allows


def _matches_pattern(pattern: re.Pattern[str] | None, text: str | None) -> bool:
    return pattern is None or (text is not None and pattern.match(text) is not None)
