"""Who asks what, and whether the answer is the one that the rules say."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.integration.access_cells import Cell, cells, forms
from tests.integration.access_site import DEEP, PASSWORDS, REGISTRIES, REPOSITORIES, Site
from tests.integration.both_workers import DIRECT, Answer, Origin
from tests.integration.logins import PATH, Form, Visit, basic
from tests.integration.verdicts import Asked, Refusal

INSIDE: Final = Origin(forwarded="10.2.3.4")
GUEST: Final = Origin(forwarded="203.0.113.9")
ELSEWHERE: Final = Origin(forwarded="198.51.100.7")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A repository, and how it is called."""

    registry: str
    repository: str
    form: Form

    def __str__(self) -> str:
        return f"{self.form} ({self.registry})"


ALL_FORMS: Final = [
    Wanted(registry, repository, form)
    for registry in REGISTRIES
    for repository in REPOSITORIES
    for form in forms(registry, repository)
]


def written(registry: str, repository: str) -> list[Wanted]:
    """Return all ways to write the address of one repository."""
    return [one for one in ALL_FORMS if (one.registry, one.repository) == (registry, repository)]


FEW_FORMS: Final = [
    wanted
    for wanted in ALL_FORMS
    if wanted.form.path == PATH
    and (wanted.form.name, wanted.form.ns, wanted.form.host)
    in {
        ("nginx", "", ""),
        ("docker.io/library/nginx", "", ""),
        ("nginx", "docker.io", ""),
        ("docker.io/library%2Fnginx", "", ""),
        ("team/app", "", ""),
        ("team/app", "", "hub.proxy.test"),
        ("ghcr.io/team/app", "", ""),
        ("team/app", "GHCR.IO", ""),
        ("team/app", "", "ghcr.proxy.test"),
        ("ghcr.io/%74eam/app", "", ""),
        ("ghcr.io/library/nginx", "", ""),
    }
] + [
    Wanted("docker.io", DEEP, Form(name=DEEP)),
    Wanted("ghcr.io", DEEP, Form(name=f"ghcr.io/{DEEP}")),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, from where, and what they show."""

    user: str = ""
    origin: Origin = INSIDE
    address: str | None = INSIDE.forwarded
    """The one that counts; None where it cannot be told."""
    authorization: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request comes from, and which address has to count."""

    name: str
    origin: Origin
    address: str | None

    def __str__(self) -> str:
        return self.name


PLACES: Final = [
    Place("a guest", GUEST, "203.0.113.9"),
    Place("a guest, mapped", Origin(forwarded="::ffff:203.0.113.9"), "203.0.113.9"),
    Place("pretends", Origin(forwarded="10.2.3.4, 203.0.113.9"), "203.0.113.9"),
    Place("elsewhere", ELSEWHERE, "198.51.100.7"),
    Place("directly", Origin(peer=DIRECT), DIRECT),
    Place("by an unknown front", Origin(peer=DIRECT, forwarded="10.2.3.4"), None),
    Place("hidden", Origin(forwarded="10.2.3.4, unknown"), None),
]

_ADDRESSES: Final = (
    f"10.{80 + (n >> 10)}.{n >> 2 & 255}.{n & 3}" for n in itertools.count() if n & 3
)
"""Few of a network of 256, since wrong passwords count for that one, too."""


def newcomer() -> Origin:
    """Return an address from which no wrong password has come: the next one would have to wait."""
    return Origin(forwarded=next(_ADDRESSES))


def known(user: str) -> Caller:
    """Return a user who shows the password itself."""
    return Caller(user=user, authorization=basic(user, PASSWORDS[user]))


def visit(site: Site, wanted: Wanted, user: str, password: str, origin: Origin = INSIDE) -> Visit:
    """Return what a client starts from."""
    return Visit(both=site.both, form=wanted.form, origin=origin, name=user, password=password)


def parts(site: Site, wanted: Wanted) -> Iterator[Cell]:
    """Return all that one can ask of an image."""
    return cells(site.image(wanted.registry, wanted.repository))


def ask(site: Site, wanted: Wanted, cell: Cell, caller: Caller) -> Answer:
    """Ask for one part of an image."""
    fields = dict(cell.fields)
    if caller.authorization:
        fields["Authorization"] = caller.authorization
    target, host = wanted.form.target(cell.rest), wanted.form.host
    return site.both.ask(cell.method, target, origin=caller.origin, host=host, fields=fields)


def refusal(site: Site, wanted: Wanted, cell: Cell, caller: Caller) -> Refusal | None:
    """Return what the settings say of a request."""
    asked = Asked(
        registry=wanted.registry,
        repository=wanted.repository,
        tag=cell.tag,
        platform=cell.platform,
        user=caller.user,
        address=caller.address,
    )
    return site.setup.policy.refusal(asked)


def see(site: Site, wanted: Wanted, caller: Caller) -> None:
    """See that everything is answered, or refused, as the rules say."""
    see_what_is_refused(site, wanted, caller)
    for cell in parts(site, wanted):
        if refusal(site, wanted, cell, caller) is None:
            cell.check(ask(site, wanted, cell, caller))
    site.assert_own(wanted.registry, wanted.repository)


def see_what_is_refused(
    site: Site, wanted: Wanted, caller: Caller, of: frozenset[str] = frozenset()
) -> None:
    """See that rules say no, that nothing else is said, and that no hub was asked.

    If `of` names parts of an image, no others are asked for.
    """
    site.forget()
    for cell in parts(site, wanted):
        refused = refusal(site, wanted, cell, caller)
        if refused is None or (of and cell.part not in of):
            continue
        answer = ask(site, wanted, cell, caller)
        assert answer.status == 403, (wanted, cell.part, cell.method, refused, answer)
        if cell.method == "GET":
            (error,) = json.loads(answer.body)["errors"]
            assert error["code"] == "DENIED"
            assert refused.message in error["message"]
            assert (error["detail"] or {}).get("rule", 0) == refused.rule
        site.assert_tells_nothing(answer, wanted.registry, wanted.repository)
    assert site.asked == []
