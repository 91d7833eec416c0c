"""Who may pull what where nobody has an account at the proxy: the matrix, for other set-ups.

One secret that all know, with lists of networks; and no login at all, where clients' logins are
the registries' own. What test_access_matrix.py sees of each two of client, network and form is not
seen again here: each of them is used, with the others in turn.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import quote

import pytest

from tests import programs
from tests.hub.hub import Hub
from tests.integration.access_callers import (
    ALL_FORMS,
    FEW_FORMS,
    INSIDE,
    PLACES,
    Caller,
    Place,
    Wanted,
    ask,
    parts,
    refusal,
    see,
    see_what_is_refused,
    visit,
    written,
)
from tests.integration.access_site import (
    ACCOUNT,
    REGISTRIES,
    REPOSITORIES,
    SECRET,
    Setup,
    Site,
    both_hubs,
    serving,
)
from tests.integration.both_workers import Origin
from tests.integration.logins import LOGINS, NotChallenged, TokenRefused, basic
from tests.integration.verdicts import Policy
from tests.pairs import pairs

pytestmark = pytest.mark.integration

ONE_SECRET = Setup(
    policy=Policy(
        rules=[
            {"action": "allow", "networks": ["10.1.1.1/32"]},
            {"action": "deny", "registry": "docker.io", "repository": "ng*", "tag": "1.5*"},
            {"action": "allow", "registry": "docker.io", "repository": "library/*"},
            {
                "action": "allow",
                "registry": "ghcr.io",
                "repository": "**/nginx",
                "platforms": ["linux/arm64", "linux/riscv64"],
            },
            {
                "action": "allow",
                "registry": "ghcr.io",
                "repository": "t*/app",
                "networks": ["10.0.0.0/8"],
                "min_age_days": 7,
                "message": "only what is a week old",
            },
            {"action": "deny", "message": "nothing else is served here"},
        ],
        allow_networks="10.0.0.0/8, 2001:db8::/32, 198.51.100.0/24",
        deny_networks="10.66.0.0/16",
    ),
    environment={"DOCXY_SHARED_SECRET": SECRET},
)
"""Without a key for its tokens: they are signed with the one of the cache's directory."""

NO_LOGIN = Setup(
    policy=Policy(
        rules=[
            {"action": "allow", "networks": ["10.1.1.1"]},
            {"action": "deny", "registry": "ghcr.io", "repository": "team/**"},
            {"action": "deny", "networks": ["203.0.113.0/24"], "message": "not for guests"},
            {"action": "allow", "repository": "team/app", "digest_only": True},
            {"action": "deny", "tag": "*-rc", "message": "no candidates here"},
            {
                "action": "deny",
                "registry": "docker.io",
                "repository": "ngin?",
                "networks": ["127.0.0.0/8"],
            },
        ]
    ),
    is_managed=False,
)


ACCOUNTS: Final = [ACCOUNT, ("bob", "bobpw"), ("alice", "wrong"), ("mallory", "x")]
"""Who may read everything at the registries, who may not, and two who are nobody there."""


@pytest.fixture(scope="module")
def hubs() -> Iterator[Mapping[str, Hub]]:
    programs.require("docker-registry")
    with both_hubs() as hubs:
        yield hubs


@pytest.fixture(scope="module")
def one_secret(hubs: Mapping[str, Hub], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a Docxy for whoever knows one secret, and is in its networks."""
    with serving(ONE_SECRET, hubs, tmp_path_factory.mktemp("secret")) as site:
        yield site


@pytest.fixture(scope="module")
def no_login(hubs: Mapping[str, Hub], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a Docxy that only has rules."""
    with serving(NO_LOGIN, hubs, tmp_path_factory.mktemp("open")) as site:
        yield site


NEIGHBOURS: Final = [
    Place("within", INSIDE, INSIDE.forwarded),
    Place("within, by IPv6", Origin(forwarded="2001:db8::7"), "2001:db8::7"),
    Place("denied", Origin(forwarded="10.66.0.1"), "10.66.0.1"),
    Place("denied, mapped", Origin(forwarded="::ffff:10.66.0.1"), "10.66.0.1"),
    *PLACES,
]


@pytest.mark.parametrize(
    ("place", "wanted"), [*zip(NEIGHBOURS * 2, itertools.cycle(FEW_FORMS), strict=False)], ids=str
)
def test_lists_and_rules(one_secret: Site, place: Place, wanted: Wanted) -> None:
    """The lists of networks come before the rules, and before a login."""
    caller = Caller(
        origin=place.origin, address=place.address, authorization=basic("anybody", SECRET)
    )
    see(one_secret, wanted, caller)
    one_secret.forget()
    refused = one_secret.setup.policy.refusal_of(place.address)
    for cell in parts(one_secret, wanted):
        answer = ask(one_secret, wanted, cell, replace(caller, authorization=""))
        assert answer.status == (401 if refused is None else 403), cell
        one_secret.assert_tells_nothing(answer, wanted.registry, wanted.repository)
    assert one_secret.asked == []


@pytest.mark.parametrize("registry", REGISTRIES)
@pytest.mark.parametrize("repository", REPOSITORIES)
def test_forms_with_the_secret(one_secret: Site, registry: str, repository: str) -> None:
    """A third of the ways to write an address."""
    for wanted in written(registry, repository)[::3]:
        see(one_secret, wanted, Caller(authorization=basic("somebody", SECRET)))


@pytest.mark.parametrize(
    ("client", "wanted"), [*zip(itertools.cycle(LOGINS), FEW_FORMS, strict=False)], ids=str
)
def test_each_client_with_the_secret(one_secret: Site, client: str, wanted: Wanted) -> None:
    """By any name, as each client logs in; and by none with another secret."""
    authorization = LOGINS[client](visit(one_secret, wanted, "anybody", SECRET))
    see(one_secret, wanted, Caller(authorization=authorization))


@pytest.mark.parametrize("registry", REGISTRIES)
@pytest.mark.parametrize("repository", REPOSITORIES)
def test_rules_without_a_login(no_login: Site, registry: str, repository: str) -> None:
    """What is denied is denied to everybody, whatever they show."""
    shown = itertools.cycle(["", basic(*ACCOUNT)])
    for wanted in written(registry, repository):
        see_what_is_refused(no_login, wanted, Caller(authorization=next(shown)))


@pytest.mark.parametrize(
    ("place", "wanted"), [*zip(itertools.cycle(PLACES), FEW_FORMS * 2, strict=False)], ids=str
)
def test_networks_without_a_login(no_login: Site, place: Place, wanted: Wanted) -> None:
    """Where somebody comes from is all that is known of them."""
    see_what_is_refused(no_login, wanted, Caller(origin=place.origin, address=place.address))


@pytest.mark.parametrize(
    ("client", "account", "wanted"),
    pairs([client for client in LOGINS if client != "curl"], ACCOUNTS, FEW_FORMS[1::2]),
    ids=str,
)
def test_accounts_of_the_registry(
    no_login: Site, client: str, account: tuple[str, str], wanted: Wanted
) -> None:
    """Rules first, and then the registry says who may read; what is kept makes no difference."""
    caller = Caller(authorization=token(no_login, client, *account, wanted))
    see_what_is_refused(no_login, wanted, caller)
    for cell in parts(no_login, wanted):
        if refusal(no_login, wanted, cell, caller) is not None:
            continue
        answer = ask(no_login, wanted, cell, caller)
        if account == ACCOUNT and caller.authorization and not is_by_prefix(wanted):
            cell.check(answer)
        else:
            assert answer.status in {401, 403, 404}, cell
    no_login.assert_own(wanted.registry, wanted.repository)


def token(site: Site, client: str, name: str, password: str, wanted: Wanted) -> str:
    """Return the Authorization that a client gets to, or "" where it gets to none."""
    try:
        return LOGINS[client](visit(site, wanted, name, password))
    except TokenRefused:
        assert password not in {ACCOUNT[1], "bobpw"}
    except NotChallenged:
        # Who looks at the manifest first is refused before there is anything to log in to.
        (tag, *_) = [cell for cell in parts(site, wanted) if cell.tag]
        assert refusal(site, wanted, tag, Caller()) is not None
    return ""


def is_by_prefix(wanted: Wanted) -> bool:
    """Tell whether a login for this proxy is none at the registry that is meant."""
    return wanted.registry == "ghcr.io" and not (wanted.form.ns or wanted.form.host)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_token_is_asked_for(no_login: Site, method: str) -> None:
    """Not for what rules deny as a whole: what comes opens nothing, and no hub heard of it."""
    for wanted in ALL_FORMS:
        if (wanted.registry, wanted.repository) != ("ghcr.io", "team/app"):
            continue
        no_login.forget()
        form = wanted.form
        asked = f"service=x&scope={quote(form.scope)}"
        target = "/auth/token" + (f"?ns={form.ns}" if form.ns else "")
        if method == "GET":
            target += f"{'&' if form.ns else '?'}{asked}"
        answer = no_login.both.ask(
            method,
            target,
            origin=INSIDE,
            host=form.host,
            fields={"Authorization": basic(*ACCOUNT)},
            form="" if method == "GET" else f"grant_type=password&username=alice&{asked}",
        )
        assert answer.status == 200
        assert json.loads(answer.body)["token"].rpartition("~")[2] == "docxy.none"
        assert no_login.asked == []


@pytest.mark.parametrize("setup", ["one secret", "no login"])
def test_while_the_hubs_are_away(setup: str, one_secret: Site, no_login: Site) -> None:
    """What is denied is not served stale either, and it is told so as before."""
    site = one_secret if setup == "one secret" else no_login
    with site.away():
        for wanted in FEW_FORMS:
            see_what_is_refused(site, wanted, Caller(authorization=basic("anybody", SECRET)))
