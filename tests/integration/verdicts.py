"""What a proxy has to answer, worked out from its settings as an operator writes them.

It shares no code with Docxy, which would else be asked whether it agrees with itself.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Rule = Mapping[str, Any]

DENIED: Final = "a rule of this proxy denies it"
BY_DIGEST: Final = "this proxy serves it by digest only, not by tag"
HIDDEN: Final = "FORWARDED_ALLOW_IPS"
OUTSIDE: Final = "this proxy does not serve your network"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request is about, as the registry itself calls it, and who asks."""

    registry: str
    repository: str
    tag: str | None
    """None where no manifest is asked for by tag."""
    platform: str | None = None
    """Of the image whose manifest is asked for; None for an index, and for what is no manifest."""
    user: str
    address: str | None
    """None for one that hides."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused; a rule has a number, from one."""

    message: str
    rule: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The settings of who may ask."""

    rules: Sequence[Rule] = ()
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    allow_networks: str = ""
    deny_networks: str = ""

    def refusal(self, asked: Asked) -> Refusal | None:
        """Return why a request is refused, by whoever has logged in where that is needed."""
        return self.refusal_of(asked.address) or self._refusal_by_rule(asked)

    def refusal_of(self, address: str | None) -> Refusal | None:
        """Return why an address may ask for nothing at all."""
        if not self.allow_networks and not self.deny_networks:
            return None
        if address is None:
            return Refusal(HIDDEN)
        if _is_in(address, self.deny_networks.split(",")):
            return Refusal(OUTSIDE)
        if self.allow_networks and not _is_in(address, self.allow_networks.split(",")):
            return Refusal(OUTSIDE)
        return None

    def _refusal_by_rule(self, asked: Asked) -> Refusal | None:
        for number, rule in enumerate(self.rules, 1):
            if not self._matches(rule, asked):
                continue
            if rule["action"] == "deny":
                hides = "networks" in rule and asked.address is None
                return Refusal(HIDDEN if hides else rule.get("message", DENIED), number)
            if rule.get("digest_only") and asked.tag is not None:
                return Refusal(rule.get("message", BY_DIGEST), number)
            return _refusal_by_image(rule, number, asked)
        return None

    def _matches(self, rule: Rule, asked: Asked) -> bool:
        return (
            rule.get("registry", asked.registry) == asked.registry
            and ("repository" not in rule or _fits_repository(rule["repository"], asked))
            and ("tag" not in rule or (asked.tag is not None and _fits(rule["tag"], asked.tag)))
            and ("users" not in rule or asked.user in self._meant(rule["users"]))
            and ("networks" not in rule or _is_from(rule, asked.address))
        )

    def _meant(self, users: Sequence[str]) -> set[str]:
        named = {user for user in users if not user.startswith("@")}
        return named.union(*(self.groups[user[1:]] for user in users if user.startswith("@")))


def _refusal_by_image(rule: Rule, number: int, asked: Asked) -> Refusal | None:
    """Refuse what is not for a platform; images of tests are of 1970, and so of no age."""
    if asked.platform is None:
        return None
    if "platforms" in rule and asked.platform not in rule["platforms"]:
        return Refusal(rule.get("message", ", ".join(rule["platforms"])), number)
    if "min_age_days" in rule:
        return Refusal(rule.get("message", f"{rule['min_age_days']} days old"), number)
    return None


def _fits_repository(pattern: str, asked: Asked) -> bool:
    if asked.registry == "docker.io" and "/" not in pattern and "**" not in pattern:
        pattern = f"library/{pattern}"
    return _fits(pattern, asked.repository)


def _fits(pattern: str, text: str) -> bool:
    parts = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    expression = "".join(
        parts.get(part) or re.escape(part) for part in re.split(r"(\*\*|\*|\?)", pattern)
    )
    return re.fullmatch(expression, text) is not None


def _is_from(rule: Rule, address: str | None) -> bool:
    """Who hides may be anybody: no network allows it, and each denies it."""
    return rule["action"] == "deny" if address is None else _is_in(address, rule["networks"])


def _is_in(address: str, networks: Sequence[str]) -> bool:
    return any(
        ipaddress.ip_address(address) in ipaddress.ip_network(network.strip())
        for network in networks
        if network.strip()
    )
