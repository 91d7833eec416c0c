"""Who may pull what: client, login, address form and rule against each other, at both workers.

What each answer has to be is worked out from the settings (verdicts.py), everything that is asked
for is in the cache, and what a refusal costs the hubs is counted: nothing.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import urlencode

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
    known,
    newcomer,
    parts,
    see,
    visit,
)
from tests.integration.access_cells import cells
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
from tests.integration.forgeries import forgeries
from tests.integration.logins import LOGINS, TokenRefused, challenged
from tests.integration.verdicts import Policy

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("access-matrix")]

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
    environment={"DOCXY_TOKEN_KEY": KEY},
    passwords=PASSWORDS,
)


USERS: Final = ("carol", "dave", "erin")
MAIN: Final = frozenset({"tag", "digest", "blob", "tags"})
"""The parts that matter where a name is none at all."""


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


@pytest.mark.parametrize("wanted", FEW_FORMS, ids=str)
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("client", LOGINS)
def test_each_client_and_user(members: Site, client: str, user: str, wanted: Wanted) -> None:
    """However one logs in, and whatever one calls it: the rules decide, and nothing else."""
    members.forget()
    authorization = LOGINS[client](visit(members, wanted, user, PASSWORDS[user]))
    assert members.asked == []
    see(members, wanted, Caller(user=user, authorization=authorization))


@pytest.mark.parametrize("wanted", ALL_FORMS, ids=str)
@pytest.mark.parametrize("user", USERS)
def test_each_form(members: Site, user: str, wanted: Wanted) -> None:
    """All the ways to write an address, of what is denied and of what is not."""
    see(members, wanted, known(user))


@pytest.mark.parametrize("wanted", FEW_FORMS, ids=str)
@pytest.mark.parametrize("user", ["carol", "dave"])
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_each_network(members: Site, place: Place, user: str, wanted: Wanted) -> None:
    """The address that counts is the last one that somebody who is trusted has seen."""
    see(members, wanted, replace(known(user), origin=place.origin, address=place.address))


@pytest.mark.parametrize("wanted", FEW_FORMS[::2], ids=str)
def test_who_has_not_logged_in(members: Site, wanted: Wanted) -> None:
    """Nothing but a login of somebody who is there, and for this repository, is one."""
    host = wanted.form.host or members.proxy.host
    realm = f"http://{host}/auth/token"
    realm += f"?ns={wanted.registry}" if wanted.form.ns else ""
    members.forget()
    for what, (authorization, error) in forgeries(members, wanted).items():
        for cell in parts(members, wanted):
            caller = Caller(origin=newcomer(), authorization=authorization)
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
        with pytest.raises(TokenRefused) as refused:
            LOGINS[client](visit(members, wanted, user, password, newcomer()))
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
    for registry, repository, user in itertools.product(REGISTRIES, REPOSITORIES, USERS[:2]):
        first, _, last = repository.partition("/")
        for cell in cells(members.image(registry, repository)):
            if cell.part not in MAIN or cell.method != "GET":
                continue
            target = pattern.format(
                name=repository,
                upper=repository.upper(),
                first=first,
                last=last,
                rest=cell.rest,
                loud=cell.rest.upper(),
            )
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
        for cell in parts(members, wanted):
            if cell.part in MAIN:
                answer = ask(members, wanted, cell, caller)
                assert challenged(answer)["error"] == "insufficient_scope"
    assert members.asked == []
