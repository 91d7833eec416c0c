"""Who may pull what: client, login, address form and rule against each other, at both workers.

What each answer has to be is worked out from the settings (verdicts.py), everything that is asked
for is in the cache, and what a refusal costs the hubs is counted: nothing.
"""

import base64
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode

import jwt
import pytest

from app.access.htpasswd import Htpasswd
from app.access.tokens import Tokens
from tests import programs
from tests.hub.hub import Hub
from tests.integration.access_cells import Cell, cells, forms
from tests.integration.access_site import (
    KEY,
    PASSWORDS,
    REGISTRIES,
    REPOSITORIES,
    Setup,
    Site,
    both_hubs,
    serving,
)
from tests.integration.both_workers import DIRECT, Answer, Origin
from tests.integration.logins import LOGINS, PATH, Form, TokenRefused, Visit, basic, challenged
from tests.integration.verdicts import Asked, Policy, Refusal

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("access-matrix")]

INSIDE: Final = Origin(forwarded="10.2.3.4")
GUEST: Final = Origin(forwarded="203.0.113.9")
ELSEWHERE: Final = Origin(forwarded="198.51.100.7")

MEMBERS = Setup(
    policy=Policy(
        rules=[
            {"action": "allow", "users": ["admin"]},
            {"action": "deny", "networks": ["203.0.113.0/24"], "message": "not for guests"},
            {
                "action": "deny",
                "registry": "ghcr.io",
                "repository": "team/**",
                "users": ["dave"],
                "message": "ask the team for this",
            },
            {"action": "deny", "registry": "docker.io", "repository": "nginx", "users": ["dave"]},
            {
                "action": "allow",
                "registry": "docker.io",
                "repository": "team/*",
                "users": ["carol"],
                "digest_only": True,
            },
            {"action": "deny", "registry": "docker.io", "repository": "te?m/*"},
            {"action": "deny", "tag": "*-rc", "message": "no candidates here"},
            {"action": "allow", "networks": ["10.0.0.0/8"]},
            {"action": "deny", "registry": "ghcr.io"},
        ]
    ),
    environment={"DOCXY_CREDENTIALS": "managed", "DOCXY_TOKEN_KEY": KEY},
    passwords=PASSWORDS,
)


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
]
USERS: Final = ("carol", "dave", "erin")


@pytest.fixture(scope="module")
def hubs() -> Iterator[Mapping[str, Hub]]:
    programs.require("docker-registry")
    with both_hubs() as hubs:
        yield hubs


@pytest.fixture(scope="module")
def members(hubs: Mapping[str, Hub], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a Docxy with users, and rules for them."""
    with serving(MEMBERS, hubs, tmp_path_factory.mktemp("members")) as site:
        yield site


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, from where, and what they show."""

    user: str
    origin: Origin = INSIDE
    address: str | None = INSIDE.forwarded
    """The one that counts."""
    authorization: str = ""


def known(user: str) -> Caller:
    """Return a user who shows the password itself."""
    return Caller(user=user, authorization=basic(user, PASSWORDS[user]))


def ask(site: Site, wanted: Wanted, cell: Cell, caller: Caller) -> Answer:
    """Ask for one part of an image."""
    fields = dict(cell.fields)
    if caller.authorization:
        fields["Authorization"] = caller.authorization
    target, host = wanted.form.target(cell.rest), wanted.form.host
    return site.both.ask(cell.method, target, origin=caller.origin, host=host, fields=fields)


def judged(site: Site, wanted: Wanted, caller: Caller) -> list[tuple[Cell, Refusal | None]]:
    """Return all that one can ask for, with what has to come of it; what is refused is first."""
    image = site.image(wanted.registry, wanted.repository)

    def refusal(cell: Cell) -> Refusal | None:
        asked = Asked(
            registry=wanted.registry,
            repository=wanted.repository,
            tag=cell.tag,
            user=caller.user,
            address=caller.address,
        )
        return site.setup.policy.refusal(asked)

    found = [(cell, refusal(cell)) for cell in cells(image)]
    return sorted(found, key=lambda one: one[1] is None)


def see(site: Site, wanted: Wanted, caller: Caller) -> None:
    """See that everything is answered, or refused, as the rules say."""
    site.forget()
    for cell, refusal in judged(site, wanted, caller):
        answer = ask(site, wanted, cell, caller)
        if refusal is None:
            cell.check(answer)
            continue
        see_refused(site, wanted, cell, answer, refusal)
        assert site.asked == []
    site.assert_own(wanted.registry, wanted.repository)


def see_refused(site: Site, wanted: Wanted, cell: Cell, answer: Answer, refusal: Refusal) -> None:
    """See that a rule says no, and that nothing else is said."""
    assert answer.status == 403, (cell.part, cell.method, refusal, answer)
    if cell.method == "GET":
        (error,) = json.loads(answer.body)["errors"]
        assert error["code"] == "DENIED"
        assert refusal.message in error["message"]
        assert (error["detail"] or {}).get("rule", 0) == refusal.rule
    site.assert_tells_nothing(answer, wanted.registry, wanted.repository)


@pytest.mark.parametrize("wanted", FEW_FORMS, ids=str)
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("client", LOGINS)
def test_each_client_and_user(members: Site, client: str, user: str, wanted: Wanted) -> None:
    """However one logs in, and whatever one calls it: the rules decide, and nothing else."""
    visit = Visit(
        both=members.both,
        form=wanted.form,
        origin=INSIDE,
        name=user,
        password=PASSWORDS[user],
    )
    see(members, wanted, Caller(user=user, authorization=LOGINS[client](visit)))


@pytest.mark.parametrize("wanted", ALL_FORMS, ids=str)
@pytest.mark.parametrize("user", USERS)
def test_each_form(members: Site, user: str, wanted: Wanted) -> None:
    """All the ways to write an address, of what is denied and of what is not."""
    see(members, wanted, known(user))


@pytest.mark.parametrize("wanted", FEW_FORMS, ids=str)
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(
    ("origin", "address"),
    [
        pytest.param(GUEST, "203.0.113.9", id="a guest"),
        pytest.param(Origin(forwarded="::ffff:203.0.113.9"), "203.0.113.9", id="a guest, mapped"),
        pytest.param(Origin(forwarded="10.2.3.4, 203.0.113.9"), "203.0.113.9", id="pretends"),
        pytest.param(ELSEWHERE, "198.51.100.7", id="elsewhere"),
        pytest.param(Origin(peer=DIRECT), DIRECT, id="directly"),
        pytest.param(Origin(peer=DIRECT, forwarded="10.2.3.4"), None, id="by an unknown front"),
        pytest.param(Origin(forwarded="10.2.3.4, unknown"), None, id="hidden"),
    ],
)
def test_each_network(
    members: Site, origin: Origin, address: str | None, user: str, wanted: Wanted
) -> None:
    """The address that counts is the last one that somebody who is trusted has seen."""
    see(members, wanted, replace(known(user), origin=origin, address=address))


def forgeries(site: Site, wanted: Wanted) -> Mapping[str, tuple[str, str]]:
    """Return what opens nothing, with the error of its challenge."""
    name = f"{wanted.registry}/{wanted.repository}"
    others = [f"{one}/{other}" for one in REGISTRIES for other in REPOSITORIES]
    others.remove(name)
    users = Htpasswd(site.folder / "users")
    ours = Tokens(KEY.encode(), users)
    good = ours.access("carol", [name])
    head, claims, signature = good.split(".")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")

    def at(clock: float) -> str:
        return Tokens(KEY.encode(), users, lambda: time.time() + clock).access("carol", [name])

    invalid = {
        "expired": at(-310),
        "of tomorrow": at(86400),
        "of another key": Tokens(b"another key, of 32 bytes and more", users).access(
            "carol", [name]
        ),
        "of a user who is not there": ours.access("mallory", [name]),
        "of another password": Tokens(KEY.encode(), _OtherUsers()).access("carol", [name]),
        "a refresh token": ours.refresh("carol"),
        "by the key itself": jwt.encode(
            jwt.decode(good, options={"verify_signature": False}), KEY, algorithm="HS256"
        ),
        "unsigned": f"{unsigned}.{claims}.",
        "called unsigned": f"{unsigned}.{claims}.{signature}",
        "of another signature": f"{head}.{claims}.{signature[:-4]}AAAA",
        "a stand-in": "docxy.none",
        "another stand-in": "docxy.stale",
        "the registry's name before it": f"{wanted.registry}~{good}",
        "a password": basic("carol", PASSWORDS["carol"]).partition(" ")[2],
    }
    insufficient = {
        "of other repositories": ours.access("carol", others),
        "of none": ours.access("carol", []),
    }
    return {
        "nobody": ("", ""),
        "a wrong password": (basic("carol", "wrong"), ""),
        "another's password": (basic("dave", PASSWORDS["carol"]), ""),
        "a user who is not there": (basic("mallory", PASSWORDS["carol"]), ""),
        "no name": (basic("", PASSWORDS["carol"]), ""),
        "no password": (basic("carol", ""), ""),
        "no scheme": (good, ""),
        "another scheme": (f"Token {good}", ""),
        "two": (f"Bearer {good}, {basic('carol', PASSWORDS['carol'])}", "invalid_token"),
        **{what: (f"Bearer {token}", "invalid_token") for what, token in invalid.items()},
        **{what: (f"Bearer {token}", "insufficient_scope") for what, token in insufficient.items()},
    }


class _OtherUsers:
    """A carol with another hash."""

    is_slow = False

    def secret_of(self, name: str) -> str:
        """Return what is in no file."""
        return f"of {name}"

    stand_in = secret_of

    def matches(self, secret: str, password: bytes) -> bool:
        """Be nobody's."""
        del secret, password
        return False


_ADDRESSES: Final = (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in itertools.count(1 << 20))
"""Of each comes one wrong password at the most, or it would have to wait."""


@pytest.mark.parametrize("wanted", FEW_FORMS, ids=str)
def test_who_has_not_logged_in(members: Site, wanted: Wanted) -> None:
    """Nothing but a login of somebody who is there, and for this repository, is one."""
    host = wanted.form.host or members.proxy.host
    realm = f"http://{host}/auth/token"
    realm += f"?ns={wanted.registry}" if wanted.form.ns else ""
    members.forget()
    for what, (authorization, error) in forgeries(members, wanted).items():
        for cell in cells(members.image(wanted.registry, wanted.repository)):
            origin = Origin(forwarded=next(_ADDRESSES))
            caller = Caller(user="", origin=origin, authorization=authorization)
            answer = ask(members, wanted, cell, caller)
            told = challenged(answer)
            assert told["realm"] == realm, what
            assert (told["service"], told["scope"]) == ("docxy", wanted.form.scope)
            assert told.get("error", "") == error, what
            if cell.method == "GET":
                assert json.loads(answer.body)["errors"][0]["code"] == "UNAUTHORIZED"
            members.assert_tells_nothing(answer, wanted.registry, wanted.repository)
    assert members.asked == []


@pytest.mark.parametrize("client", [client for client in LOGINS if client != "curl"])
@pytest.mark.parametrize(
    ("user", "password"),
    [
        pytest.param("carol", "wrong", id="a wrong password"),
        pytest.param("carol", PASSWORDS["dave"], id="another's password"),
        pytest.param("mallory", "wrong", id="a user who is not there"),
        pytest.param("", "", id="nobody"),
    ],
)
def test_who_gets_no_token(members: Site, client: str, user: str, password: str) -> None:
    """By no client's way to ask for one."""
    members.forget()
    for wanted in FEW_FORMS:
        visit = Visit(
            both=members.both,
            form=wanted.form,
            origin=Origin(forwarded=next(_ADDRESSES)),
            name=user,
            password=password,
        )
        with pytest.raises(TokenRefused) as refused:
            LOGINS[client](visit)
        answer = refused.value.answer
        assert answer.status == 401
        assert json.loads(answer.body)["errors"][0]["code"] == "UNAUTHORIZED"
        assert answer.value("WWW-Authenticate").startswith("Basic ")
        members.assert_tells_nothing(answer, wanted.registry, wanted.repository)
    assert members.asked == []


NO_ADDRESSES: Final = (
    "/v2/{upper}/{rest}",
    "/v2//{name}/{rest}",
    "/v2/{name}//{rest}",
    "/v2/{first}//{last}/{rest}",
    "/v2/{first}/./{last}/{rest}",
    "/v2/x/../{name}/{rest}",
    "/v2/{name}/../{last}/{rest}",
    "/v2/%2e%2e/v2/{name}/{rest}",
    "/v2/x%2f..%2f{name}/{rest}",
    "/x/../v2/{name}/{rest}",
    "/v2/./{name}/{rest}",
    "/v2/{name}/{rest}/",
    "/v2/{name}/{rest}//",
    "/v2/{name}%00/{rest}",
    "/v2/{name}%20/{rest}",
    "/v2/{name}%0a/{rest}",
    "/v2/{name};x=1/{rest}",
    "/v2/{name}:1/{rest}",
    "/v2/{name}@sha256:1/{rest}",
    "/v2/{first}%252F{last}/{rest}",
    "/v2/{first}%5c{last}/{rest}",
    "/v2/{first}\\{last}/{rest}",
    "/v2/{name}%3F/{rest}",
    "/v2/%EF%BC%8F{name}/{rest}",
    "/v2/{first}%C3%A9/{last}/{rest}",
    "/V2/{name}/{rest}",
    "/v1/{name}/{rest}",
    "/v2/{name}/{loud}",
    "/v2/{name}/{rest}%00",
    "/v2/docker.io/docker.io/{name}/{rest}",
    "/v2/docker.io/ghcr.io/{name}/{rest}",
    "/v2/DOCKER.IO/{name}/{rest}",
    "/v2/docker.io:443/{name}/{rest}",
    "/v2/elsewhere.example/{name}/{rest}",
    "/v2/{name}/{rest}?ns=elsewhere.example",
    "/v2/{name}/{rest}?ns=docker.io%00",
    "/v2/{name}/{rest}?ns=docker.io/",
)
"""What a careless reader might take for a repository; `{loud}` is `{rest}` in capitals."""


@pytest.mark.parametrize("pattern", NO_ADDRESSES)
def test_what_is_no_address(members: Site, pattern: str) -> None:
    """It leads nowhere, whoever asks, and no hub hears of it."""
    members.forget()
    for registry, repository in itertools.product(REGISTRIES, REPOSITORIES):
        first, _, last = repository.partition("/")
        for cell in cells(members.image(registry, repository)):
            target = pattern.format(
                name=repository,
                upper=repository.upper(),
                first=first,
                last=last,
                rest=cell.rest,
                loud=cell.rest.upper(),
            )
            for user in ("carol", "dave"):
                fields = {**cell.fields, "Authorization": known(user).authorization}
                answer = members.both.ask(cell.method, target, origin=INSIDE, fields=fields)
                assert answer.status in {400, 404}, (target, answer)
                members.assert_tells_nothing(answer, registry, repository)
    assert members.asked == []


NO_SCOPES: Final = (
    "repository:{name}:push",
    "repository:{name}:delete",
    "repository:{name}:",
    "repository:{name}",
    "repository:{upper}:pull",
    "repository:{name}/:pull",
    "repository:/{name}:pull",
    "repository:x/../{name}:pull",
    "repository:{name}%00:pull",
    "repository:*:pull",
    "repository:{first}/*:pull",
    "repository:**:*",
    "repository::pull",
    "repository:{name}:1.4:pull",
    "repository:elsewhere.example/{name}:pull",
    "repository:DOCKER.IO/{name}:pull",
    "registry:catalog:*",
    "registry:{name}:pull",
    "*:{name}:pull",
    "*",
    "",
)


@pytest.mark.parametrize("pattern", NO_SCOPES)
def test_what_is_no_scope(members: Site, pattern: str) -> None:
    """A token for it opens no repository, also none that its user may have."""
    members.forget()
    for wanted in FEW_FORMS:
        first = wanted.repository.partition("/")[0]
        scope = pattern.format(name=wanted.repository, upper=wanted.repository.upper(), first=first)
        answer = members.both.ask(
            "GET",
            f"/auth/token?{urlencode({'service': 'docxy', 'scope': scope})}",
            origin=INSIDE,
            fields={"Authorization": known("carol").authorization},
        )
        assert answer.status == 200
        token = json.loads(answer.body)["token"]
        caller = Caller(user="carol", authorization=f"Bearer {token}")
        for cell in cells(members.image(wanted.registry, wanted.repository)):
            answer = ask(members, wanted, cell, caller)
            assert challenged(answer)["error"] == "insufficient_scope"
    assert members.asked == []
