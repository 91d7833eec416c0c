"""Who may pull what: client, login, address form and rule against each other, at both workers.

What each answer has to be is worked out from the settings (verdicts.py), everything that is asked
for is in the cache, and what a refusal costs the hubs is counted: nothing.

The decision is a function of its own, which tests/unit/access/test_rules.py has tables for. What
is seen here is that whatever a client sends reaches it: each address form, network and way to log
in, and each two of them, but not their whole product.
"""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests import programs
from tests.clients.process import CommandFailed
from tests.hub.hub import Hub
from tests.integration.access_callers import (
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
    refusal,
    see,
    see_what_is_refused,
    visit,
    written,
)
from tests.integration.access_cells import CANDIDATE, TAG, Cell, cells
from tests.integration.access_site import (
    KEY,
    PASSWORDS,
    REGISTRIES,
    REPOSITORIES,
    Setup,
    Site,
    both_hubs,
    serving,
    write_users,
)
from tests.integration.both_workers import Answer, Origin
from tests.integration.forgeries import forgeries
from tests.integration.logins import LOGINS, TokenRefused, basic, challenged
from tests.integration.pulling import Way, client
from tests.integration.verdicts import Asked, Policy
from tests.pairs import pairs
from tests.servers import wait_until

pytestmark = pytest.mark.integration

MEMBERS = Setup(
    policy=Policy(
        rules=[
            {"action": "allow", "users": ["admin"]},
            {"action": "deny", "networks": ["203.0.113.0/24"], "message": "not for guests"},
            {
                "action": "deny",
                "registry": "ghcr.io",
                "repository": "team/**",
                "users": ["nobody-else", "@others"],
                "message": "ask the team for this",
            },
            {"action": "deny", "registry": "docker.io", "repository": "nginx", "users": ["dave"]},
            {
                "action": "allow",
                "registry": "docker.io",
                "repository": "team/*",
                "users": ["@staff"],
                "digest_only": True,
            },
            {"action": "deny", "registry": "docker.io", "repository": "te?m/*"},
            {"action": "deny", "tag": "*-rc", "message": "no candidates here"},
            {"action": "allow", "networks": ["10.0.0.0/8", "127.0.0.1"]},
            {"action": "deny", "registry": "ghcr.io"},
        ],
        groups={"staff": ["erik", "carol"], "others": ["dave"]},
    ),
    environment={"DOCXY_TOKEN_KEY": KEY},
    passwords=PASSWORDS,
)


USERS: Final = ("carol", "dave", "erin")
TOKEN_LOGINS: Final = [client for client in LOGINS if client != "curl"]
MAIN: Final = frozenset({"tag", "digest", "blob", "tags"})
"""The parts that matter where a name is none at all."""
DENIED_TO_DAVE: Final = (
    ("docker.io", "library/nginx"),
    ("docker.io", "team/app"),
    ("ghcr.io", "team/app"),
)


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


@pytest.mark.parametrize(
    ("client", "user", "wanted"), pairs(TOKEN_LOGINS, USERS, FEW_FORMS), ids=str
)
def test_each_client_and_user(members: Site, client: str, user: str, wanted: Wanted) -> None:
    """However one logs in, and whatever one calls it: the rules decide, and nothing else."""
    members.forget()
    authorization = LOGINS[client](visit(members, wanted, user, PASSWORDS[user]))
    assert members.asked == []
    see(members, wanted, Caller(user=user, authorization=authorization))


@pytest.mark.parametrize("registry", REGISTRIES)
@pytest.mark.parametrize("repository", REPOSITORIES)
def test_each_form(members: Site, registry: str, repository: str) -> None:
    """All the ways to write an address; whom it is denied to is denied it in each of them."""
    users = itertools.cycle(USERS[:2])
    for wanted in written(registry, repository):
        see(members, wanted, known(next(users)))
        if (registry, repository) in DENIED_TO_DAVE:
            see_what_is_refused(members, wanted, known("dave"), MAIN)


@pytest.mark.parametrize(
    ("place", "user", "wanted"), pairs(PLACES, USERS[:2], FEW_FORMS[::2]), ids=str
)
def test_each_network(members: Site, place: Place, user: str, wanted: Wanted) -> None:
    """The address that counts is the last one that somebody who is trusted has seen."""
    see(members, wanted, replace(known(user), origin=place.origin, address=place.address))


def a_third(members: Site, wanted: Wanted, at: int) -> list[Cell]:
    """Return a third of the parts of an image, another one for each number and each form.

    All forms together have every part asked for with each number.
    """
    return [*parts(members, wanted)][(at + FEW_FORMS.index(wanted)) % 3 :: 3]


@pytest.mark.parametrize("wanted", FEW_FORMS[::2], ids=str)
def test_who_has_not_logged_in(members: Site, wanted: Wanted) -> None:
    """Nothing but a login of somebody who is there, and for this repository, is one."""
    host = wanted.form.host or members.proxy.host
    realm = f"http://{host}/auth/token"
    realm += f"?ns={wanted.registry}" if wanted.form.ns else ""
    members.forget()
    for at, (what, (authorization, error)) in enumerate(forgeries(members, wanted).items()):
        for cell in a_third(members, wanted, at):
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


@pytest.mark.parametrize("wanted", FEW_FORMS[::2], ids=str)
def test_a_token_of_each_other_repository(members: Site, wanted: Wanted) -> None:
    """As this proxy gives it: what has the same name elsewhere is another one."""
    members.forget()
    target = wanted.registry, wanted.repository
    for at, other in enumerate(FEW_FORMS):
        if (other.registry, other.repository) == target:
            continue
        authorization = LOGINS["podman"](visit(members, other, "carol", PASSWORDS["carol"]))
        for cell in a_third(members, wanted, at):
            answer = ask(members, wanted, cell, Caller(authorization=authorization))
            assert challenged(answer)["error"] == "insufficient_scope"
            members.assert_tells_nothing(answer, *target)
    assert members.asked == []


@pytest.mark.parametrize("wanted", FEW_FORMS, ids=str)
def test_tags_of_the_page(members: Site, wanted: Wanted) -> None:
    """The page's own address for them is decided as the registry's is, and takes no token."""
    form = wanted.form
    before = form.host or (form.ns and wanted.registry)
    target = f"/page/tags?image={before}/{form.name}" if before else f"/page/tags?image={form.name}"

    def asked(authorization: str, origin: Origin = INSIDE) -> Answer:
        fields = {"Authorization": authorization} if authorization else {}
        return members.both.ask("GET", target, origin=origin, host=form.host, fields=fields)

    members.forget()
    token = LOGINS["podman"](visit(members, wanted, "carol", PASSWORDS["carol"]))
    for authorization in ("", basic("", ""), token):
        answer = asked(authorization, newcomer())
        assert answer.status == 401
        assert answer.value("WWW-Authenticate").startswith("Basic ")
        members.assert_tells_nothing(answer, wanted.registry, wanted.repository)
    (lists, *_) = [cell for cell in parts(members, wanted) if cell.part == "tags"]
    for user in USERS:
        answer = asked(known(user).authorization)
        refused = refusal(members, wanted, lists, known(user))
        if refused is None:
            assert json.loads(answer.body)["tags"] == [CANDIDATE, TAG]
        else:
            assert (answer.status, refused.message in answer.text) == (403, True)
            members.assert_tells_nothing(answer, wanted.registry, wanted.repository)


@pytest.mark.parametrize("client", TOKEN_LOGINS)
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


def test_what_is_no_address(members: Site) -> None:
    """It leads nowhere, whoever asks, and no hub hears of it."""
    for pattern in NO_ADDRESSES:
        members.forget()
        users = ("carol", "dave", "dave", "carol")
        images = itertools.product(REGISTRIES, REPOSITORIES)
        for (registry, repository), user in zip(images, users, strict=True):
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
        assert members.asked == [], pattern


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


def test_what_is_no_scope(members: Site) -> None:
    """A token for it opens no repository, also none that its user may have."""
    for at, pattern in enumerate(NO_SCOPES):
        members.forget()
        for wanted in FEW_FORMS[at % 3 :: 3]:
            first = wanted.repository.partition("/")[0]
            name = wanted.repository
            scope = pattern.format(name=name, upper=name.upper(), first=first)
            answer = members.both.ask(
                "GET",
                f"/auth/token?{urlencode({'service': 'docxy', 'scope': scope})}",
                origin=INSIDE,
                fields={"Authorization": known("carol").authorization},
            )
            assert answer.status == 200, pattern
            token = json.loads(answer.body)["token"]
            caller = Caller(user="carol", authorization=f"Bearer {token}")
            for cell in a_third(members, wanted, at // 3):
                answer = ask(members, wanted, cell, caller)
                assert challenged(answer)["error"] == "insufficient_scope", pattern
        assert members.asked == [], pattern


SEGMENTS: Final = st.sampled_from(
    [
        *("docker.io", "index.docker.io", "ghcr.io", "GHCR.io", "hub.proxy.test", "elsewhere.test"),
        *("library", "nginx", "team", "app", "NGINX", "v2", "manifests", "blobs", "tags", "list"),
        *("", ".", "..", "%2e%2e", "%2E", "%00", "nginx%00", "%6Eginx", "team%2Fapp", "te%61m"),
        *("library%2fnginx", "team%252Fapp", "nginx;x", "nginx%20", "%ef%bd%8eginx", "n%C3%AFginx"),
        *("\\", "nginx:1.4", "nginx@sha256", "library/nginx", "team/app", "~", "docker.io~x"),
    ]
)
NAMESPACES: Final = st.sampled_from(
    [
        *("", "ns=ghcr.io", "ns=GHCR.IO", "ns=ghcr.io:443", "ns=docker.io", "ns=", "NS=ghcr.io"),
        *("ns=ghcr.proxy.test", "ns=docker.io&ns=ghcr.io", "ns=ghcr.io&ns=docker.io"),
        *("ns=gh%63r.io", "ns=docker%2Eio", "n%73=ghcr.io", "ns=ghcr.io%00", "ns=*"),
    ]
)
HOSTS: Final = st.sampled_from(
    [
        *("", "hub.proxy.test", "ghcr.proxy.test", "GHCR.proxy.test.", "ghcr.proxy.test:8443"),
        *("ghcr.io", "docker.io", "elsewhere.test"),
    ]
)
STARTS: Final = st.sampled_from(["/v2/", "//v2/", "/v2//", "/V2/", "/%762/", "/v2/../v2/", "/"])
PATHS: Final = st.lists(SEGMENTS, min_size=1, max_size=4)
ACTIONS: Final = st.sampled_from(["pull", "push,pull", "*", "", "delete", "pull:pull"])


NAMED: Final = re.compile("/v2/(.+)/(?:manifests|blobs|tags|referrers)/")


def test_nothing_reaches_what_is_denied(members: Site) -> None:
    """No name, encoding, `ns`, host or scope: what gets through is something else."""
    images = {one: members.image(*one) for one in DENIED_TO_DAVE}
    manifests = [one for image in images.values() for one in (image, *image.platforms.values())]
    secret = {
        *(one.body for one in manifests),
        *(blob.data for one in manifests for blob in one.blobs),
    }
    digests = {one.digest for one in manifests}
    statuses = Counter[int]()

    def token(path: list[str], actions: str, query: str, host: str) -> str:
        scope = urlencode({"scope": f"repository:{unquote('/'.join(path))}:{actions}"})
        fields = {"Authorization": known("dave").authorization}
        target = f"/auth/token?{scope}&{query}"
        answer = members.both.ask("GET", target, origin=INSIDE, host=host, fields=fields)
        told = json.loads(answer.body)
        return f"Bearer {told['token']}" if answer.status == 200 else ""

    @given(
        start=STARTS,
        path=PATHS,
        denied=st.sampled_from(DENIED_TO_DAVE),
        part=st.integers(0, 17),
        query=NAMESPACES,
        host=HOSTS,
        scoped=st.none() | st.tuples(PATHS, ACTIONS, NAMESPACES),
    )
    @example(
        start="/v2/",
        path=["ghcr.io", "library", "nginx"],
        denied=("ghcr.io", "team/app"),
        part=0,
        query="",
        host="",
        scoped=None,
    )
    @settings(max_examples=150)
    def reach(  # noqa: PLR0913 - what is drawn
        *,
        start: str,
        path: list[str],
        denied: tuple[str, str],
        part: int,
        query: str,
        host: str,
        scoped: tuple[list[str], str, str] | None,
    ) -> None:
        members.forget()
        login = token(*scoped, host) if scoped else known("dave").authorization
        cell = [*cells(images[denied])][part]
        answer = members.both.ask(
            cell.method,
            f"{start}{'/'.join(path)}/{cell.rest}?{query}",
            origin=INSIDE,
            host=host,
            fields={**cell.fields, "Authorization": login},
        )
        statuses[answer.status] += 1
        assert answer.body not in secret
        assert answer.value("Docker-Content-Digest") not in digests
        for registry, hub in members.hubs.items():
            for record in hub.requests:
                asked = NAMED.match(record.path)
                assert asked is None or (registry, asked[1]) not in DENIED_TO_DAVE
                for scope in record.query.get("scope", []):
                    assert (registry, scope.split(":")[1]) not in DENIED_TO_DAVE

    reach()
    # What is drawn comes near enough to be refused for what it is, and is let through elsewhere.
    assert {200, 401, 403, 404} <= statuses.keys()


def test_while_the_hubs_are_away(members: Site) -> None:
    """What is denied is not served stale, and is refused as before."""
    with members.away():
        for wanted, user in itertools.product(FEW_FORMS, USERS):
            see_what_is_refused(members, wanted, known(user))


CLIENTS: Final = ("skopeo", "podman", "buildah", "docker", "docker-containerd", "ctr", "oras")
THESE: Final[Mapping[str, Sequence[tuple[str, str, str]]]] = {
    "dave": [
        ("docker.io", "library/nginx", "nginx:{tag}"),
        ("ghcr.io", "team/app", "ghcr.io/team/app@{digest}"),
        ("ghcr.io", "library/nginx", "ghcr.io/library/nginx:{tag}"),
    ],
    "carol": [
        ("docker.io", "team/app", "docker.io/team/app:{tag}"),
        ("docker.io", "team/app", "team/app@{digest}"),
        ("ghcr.io", "team/app", "ghcr.io/team/app:{tag}"),
    ],
}
"""What each pulls, and how it is called below the proxy's name."""


@pytest.mark.parametrize(("name", "user"), [*zip(CLIENTS, itertools.cycle(THESE), strict=False)])
def test_real_clients(members: Site, name: str, user: str, tmp_path: Path) -> None:
    """They log in and pull what the rules allow; of the rest they show that it is denied."""
    way = Way("plain", members.proxy.url, members.proxy.host, None, lambda: members.proxy.log)
    with client(name, way, "by name", tmp_path) as one:
        one.log_in(user, PASSWORDS[user])
        for registry, repository, pattern in THESE[user]:
            image = members.image(registry, repository)
            reference = f"{way.host}/{pattern.format(tag=TAG, digest=image.digest)}"
            refused = members.setup.policy.refusal(
                Asked(
                    registry=registry,
                    repository=repository,
                    tag=None if "@" in pattern else TAG,
                    user=user,
                    address="127.0.0.1",
                )
            )
            members.forget()
            if refused is None:
                assert one.pull(reference) == one.kept(image)
                continue
            with pytest.raises(CommandFailed) as failure:
                one.pull(reference)
            assert re.search(f"{refused.message}|403", failure.value.output)
            assert members.asked == []


@pytest.mark.parametrize("name", ["docker", "skopeo"])
def test_a_client_whose_user_is_gone(members: Site, name: str, tmp_path: Path) -> None:
    """What it keeps opens nothing any more, be it a lasting token or the password."""

    def wait_for(status: int) -> None:
        """Ask both workers, in turn, until each has read the file."""
        fields = {"Authorization": basic("frank", "frank's password")}

        def answered() -> bool:
            asked = [
                members.both.ask("GET", "/v2/", origin=newcomer(), fields=fields) for _ in range(2)
            ]
            return {answer.status for answer in asked} == {status}

        wait_until(answered, what=f"both workers to answer {status}")

    write_users(members.folder, {**PASSWORDS, "frank": "frank's password"})
    wait_for(200)
    way = Way("plain", members.proxy.url, members.proxy.host, None, lambda: members.proxy.log)
    with client(name, way, "by name", tmp_path) as one:
        one.log_in("frank", "frank's password")
        image = members.image("docker.io", "library/nginx")
        assert one.pull(f"{way.host}/nginx:{TAG}") == one.kept(image)
        write_users(members.folder, PASSWORDS)
        wait_for(401)
        members.forget()
        with pytest.raises(CommandFailed):
            one.pull(f"{way.host}/ghcr.io/team/app:{TAG}")
    assert members.asked == []
