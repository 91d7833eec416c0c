"""An ordered list of rules, and what it decides."""

from typing import Any

import pytest

from app.access.networks import ClientIdentity, Networks
from app.access.rules import NO_DIGESTS, AccessRequest, Decision, DigestSet, Rule, Rules
from app.oci.reference import Digest, RepositoryName, Tag
from app.registries import DOCKER_HUB_ALIASES, Registries, Registry

HUB = Registry(
    name="docker.io", url="https://hub.example", aliases=DOCKER_HUB_ALIASES, library_prefix=True
)
GHCR = Registry(name="ghcr.io", url="https://ghcr.example", aliases=frozenset({"github"}))
TABLE = Registries([HUB, GHCR])
NGINX, APP = "library/nginx", "team/app"
ANY = DigestSet(frozenset(), includes_all=True)


def rules(*written: dict[str, Any]) -> Rules:
    """Return rules, which deny unless they say otherwise."""
    numbered = enumerate(written, 1)
    return Rules([Rule(**{"allows": False, "number": at, **one}) for at, one in numbered], TABLE)


def decide(  # noqa: PLR0913 - each of them is a part of the question
    decider: Rules,
    repository: str,
    tag: str | None = None,
    *,
    registry: Registry = HUB,
    client: ClientIdentity | None = None,
    digests: frozenset[Digest] = NO_DIGESTS,
) -> Decision:
    """Return what is decided of a repository."""
    return decider.decide(
        AccessRequest(
            registry=registry,
            repository=RepositoryName(repository),
            client=client or ClientIdentity("192.0.2.7"),
            tag=None if tag is None else Tag(tag),
            digests=digests,
        )
    )


def test_without_a_match_all_is_allowed() -> None:
    """Rules take away what they name, and nothing else."""
    assert decide(rules(), NGINX) == Decision(allowed=True)
    assert decide(rules({"registry": "ghcr.io"}), NGINX) == Decision(allowed=True)


def test_the_first_match_decides() -> None:
    """What comes after it is not looked at."""
    decider = rules(
        {"repository": "team/secret"},
        {"repository": "team/**", "allows": True},
        {"message": "ask the platform team"},
    )
    secret, app = decide(decider, "team/secret"), decide(decider, APP)
    assert (secret.allowed, secret.rule and secret.rule.number) == (False, 1)
    assert (app.allowed, app.rule and app.rule.number) == (True, 2)
    assert secret.message == "a rule of this proxy denies it"
    assert decide(decider, NGINX).message == "ask the platform team"


@pytest.mark.parametrize(
    ("rule", "registry", "repository", "matches"),
    [
        pytest.param({}, HUB, NGINX, True, id="all"),
        pytest.param({"registry": "docker.io"}, HUB, NGINX, True, id="registry"),
        pytest.param({"registry": "docker.io"}, GHCR, NGINX, False, id="another registry"),
        pytest.param({"registry": "index.docker.io"}, HUB, NGINX, True, id="by an alias"),
        pytest.param({"registry": "github"}, GHCR, APP, True, id="by another alias"),
        pytest.param({"repository": "nginx"}, HUB, NGINX, True, id="an official image"),
        pytest.param({"repository": "nginx"}, GHCR, NGINX, False, id="not official elsewhere"),
        pytest.param({"repository": "nginx"}, GHCR, "nginx", True, id="a short name elsewhere"),
        pytest.param({"repository": "ngin*"}, HUB, NGINX, True, id="several official images"),
        pytest.param({"repository": "library/nginx"}, HUB, NGINX, True, id="completed"),
        pytest.param({"repository": "team/*"}, HUB, APP, True, id="a pattern"),
        pytest.param({"repository": "team/*"}, GHCR, "team/app/x", False, id="not below"),
        pytest.param({"repository": "team/**"}, GHCR, "team/app/x", True, id="below"),
        pytest.param({"repository": "**"}, HUB, NGINX, True, id="every name"),
        pytest.param({"repository": "**nginx"}, HUB, NGINX, True, id="every end"),
    ],
)
def test_what_a_rule_is_about(
    rule: dict[str, Any], registry: Registry, repository: str, *, matches: bool
) -> None:
    """The registry's own names."""
    decision = decide(rules(rule), repository, registry=registry)
    assert decision.allowed is not matches


@pytest.mark.parametrize(
    ("tag", "allowed"),
    [
        pytest.param("latest", False, id="the tag"),
        pytest.param("latest-2", True, id="another one"),
        pytest.param(None, True, id="no manifest by tag"),
    ],
)
def test_a_tag(tag: str | None, *, allowed: bool) -> None:
    """It decides manifests by tag only."""
    assert decide(rules({"tag": "latest"}), NGINX, tag).allowed is allowed


def test_digest_only() -> None:
    """By tag it is refused by the very rule; tags that an earlier one allows are not."""
    decider = rules({"allows": True, "tag": "sha256-*"}, {"allows": True, "digest_only": True}, {})
    assert decide(decider, NGINX).allowed
    assert decide(decider, NGINX, "sha256-0.sig").allowed
    by_tag = decide(decider, NGINX, "1")
    assert (by_tag.allowed, by_tag.rule and by_tag.rule.number) == (False, 2)
    assert by_tag.message == "this proxy serves it by digest only, not by tag"


@pytest.mark.parametrize(
    ("client", "allows", "allowed"),
    [
        pytest.param(ClientIdentity("192.0.2.7"), True, True, id="in an allowed network"),
        pytest.param(ClientIdentity("203.0.113.9"), True, False, id="not in it"),
        pytest.param(ClientIdentity("192.0.2.7", is_known=False), True, False, id="perhaps in it"),
        pytest.param(ClientIdentity("192.0.2.7"), False, False, id="in a denied network"),
        pytest.param(ClientIdentity("203.0.113.9"), False, True, id="not in that"),
        pytest.param(
            ClientIdentity("203.0.113.9", is_known=False), False, False, id="perhaps in that"
        ),
    ],
)
def test_networks(client: ClientIdentity, *, allows: bool, allowed: bool) -> None:
    """Who hides has the worse of both."""
    first = {"allows": allows, "networks": Networks("192.0.2.0/24")}
    decider = rules(first, {"allows": not allows})
    assert decide(decider, NGINX, client=client).allowed is allowed


def test_a_registry_that_is_not_served() -> None:
    """A rule about nothing is a mistake in its name."""
    with pytest.raises(ValueError, match=r"^rule 2: registry: .* no registry named quai.io$"):
        rules({}, {"registry": "quai.io"})


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ({"repository": "ghcr.io/team/app"}, "ghcr.io"),
        ({"repository": "index.docker.io/library/*"}, "index.docker.io"),
        ({"repository": "ghcr.io/**", "registry": "github"}, "ghcr.io"),
        ({"repository": "ghcr.io/**", "registry": "docker.io"}, None),
        ({"repository": "quay.io/**"}, None),
        ({"repository": "github/**"}, None),
        ({"repository": "ghcr.io*"}, None),
    ],
)
def test_a_registry_in_the_place_of_a_repository(
    written: dict[str, str], fault: str | None
) -> None:
    """It would match nothing: what it denies would be served."""
    if fault is None:
        rules({}, written)
        return
    with pytest.raises(ValueError, match=f'^rule 2: repository: {fault} is .*registry = "{fault}"'):
        rules({}, written)


def test_users() -> None:
    """A rule is for those that it names; who has not logged in is none of them."""
    decider = rules({"users": frozenset({"alice"}), "allows": True}, {})
    allowed = {
        user: decide(decider, APP, client=ClientIdentity("192.0.2.7", user=user)).allowed
        for user in ("alice", "Alice", "bob", "")
    }
    assert allowed == {"alice": True, "Alice": False, "bob": False, "": False}


def test_users_of_a_network() -> None:
    """All that a rule says has to fit."""
    decider = rules(
        {"users": frozenset({"alice"}), "networks": Networks("192.0.2.0/24"), "allows": True}, {}
    )
    assert decide(decider, APP, client=ClientIdentity("192.0.2.7", user="alice")).allowed
    assert not decide(decider, APP, client=ClientIdentity("198.51.100.7", user="alice")).allowed
    assert not decide(decider, APP, client=ClientIdentity("192.0.2.7", user="bob")).allowed
    hides = ClientIdentity("192.0.2.7", is_known=False, user="alice")
    assert not decide(decider, APP, client=hides).allowed


def test_one_answer_is_not_anothers() -> None:
    """What was decided for one is remembered, and only for who asks the same."""
    written: list[dict[str, Any]] = [
        {"tag": "v*", "allows": True},
        {"registry": "ghcr.io", "users": frozenset({"alice"})},
        {"networks": Networks("192.0.2.0/24"), "digest_only": True, "allows": True},
        {"repository": APP, "allows": True},
        {},
    ]
    remembering = rules(*written)
    questions = [
        AccessRequest(registry=registry, repository=RepositoryName(name), client=client, tag=tag)
        for registry in (HUB, GHCR)
        for name in (NGINX, APP)
        for tag in (None, Tag("v1"), Tag("latest"))
        for client in (
            ClientIdentity(address, is_known, user)
            for address in ("192.0.2.7", "198.51.100.7")
            for is_known in (True, False)
            for user in ("", "alice")
        )
    ]
    for question in [*questions, *reversed(questions)]:
        afresh = rules(*written).decide(question)
        decided = remembering.decide(question)
        assert (decided.allowed, decided.rule) == (afresh.allowed, afresh.rule), question


BAD, GOOD = (Digest.parse(f"sha256:{letter * 64}") for letter in "bc")
BAD_BY_SHA512 = Digest.parse(f"sha512:{'b' * 128}")
ONE = DigestSet(frozenset({BAD}))
ALL = DigestSet(includes_all=True)


@pytest.mark.parametrize(
    ("tag", "digests", "expected"),
    [
        pytest.param(None, {BAD}, (False, 1, False), id="by its digest"),
        pytest.param("1", {BAD, BAD_BY_SHA512}, (False, 1, False), id="by a tag of it"),
        pytest.param("1", {GOOD}, (True, None, False), id="by a tag of another"),
        pytest.param("1", set(), (True, None, True), id="by a tag of who knows what"),
        pytest.param(None, {GOOD}, (True, None, False), id="by another digest"),
        pytest.param(None, {BAD_BY_SHA512}, (True, None, True), id="by another algorithm"),
        pytest.param(None, set(), (True, None, False), id="a blob, or a list"),
    ],
)
def test_a_digest(
    tag: str | None, digests: set[Digest], expected: tuple[bool, int | None, bool]
) -> None:
    """It is denied by whatever leads to it, and what may be it is to be decided again."""
    decision = decide(rules({"digests": ONE}), APP, tag, digests=frozenset(digests))
    rule = decision.rule and decision.rule.number
    assert (decision.allowed, rule, decision.is_provisional) == expected


@pytest.mark.parametrize(
    ("tag", "digests", "expected"),
    [
        pytest.param(None, {GOOD}, True, id="by its digest"),
        pytest.param("1", {GOOD}, True, id="by a tag of it"),
        pytest.param("1", set(), True, id="by a tag of who knows what"),
        pytest.param("1", {BAD}, False, id="by a tag of another"),
        pytest.param(None, {BAD}, False, id="by another digest"),
        pytest.param(None, set(), True, id="a blob, or a list"),
    ],
)
def test_one_digest_and_no_other(tag: str | None, digests: set[Digest], *, expected: bool) -> None:
    """A rule for all of them is about manifests, and leaves blobs and lists."""
    one = {"allows": True, "digests": DigestSet(frozenset({GOOD}))}
    decision = decide(rules(one, {"digests": ALL}), APP, tag, digests=frozenset(digests))
    assert decision.allowed is expected


def test_a_rule_that_is_sure_leaves_another_open() -> None:
    """One that names another algorithm may still deny it, whatever the rules after it say."""
    unsure = {"digests": DigestSet(frozenset({BAD_BY_SHA512}))}
    for written in ([unsure, {"digests": ONE}], [{"digests": ONE}, unsure]):
        assert decide(rules(*written), APP, digests=frozenset({GOOD})).is_provisional


def test_what_is_denied_is_not_open() -> None:
    """No registry is asked for what a later rule denies, whatever it is called."""
    decision = decide(rules({"allows": True, "digests": ONE}, {}), APP, "1")
    assert (decision.allowed, decision.is_provisional) == (False, False)
    assert not decide(rules({"digests": ONE, "repository": "other/**"}), APP, "1").is_provisional


@pytest.mark.parametrize(
    ("written", "alike"),
    [
        pytest.param([], [True], id="no rules"),
        pytest.param([{"digests": ANY}], [True], id="a rule about both"),
        pytest.param([{"registry": "ghcr.io", "digests": ANY}], [False], id="about one"),
        pytest.param([{"repository": "team/*", "digests": ANY}], [False], id="about one name"),
        pytest.param(
            [{"registry": "ghcr.io", "digests": ANY}, {"registry": "docker.io", "digests": ANY}],
            [False],
            id="about each",
        ),
        pytest.param([{"tag": "1"}], [True], id="by tag"),
    ],
)
def test_rules_that_decide_alike(written: list[dict[str, Any]], alike: list[bool]) -> None:
    """Two questions that the same rules match have the same answer, whatever the manifest is."""
    decider = rules(*written)
    here = AccessRequest(HUB, RepositoryName(NGINX), ClientIdentity("192.0.2.7"), Tag("1"))
    there = AccessRequest(GHCR, RepositoryName(APP), ClientIdentity("192.0.2.7"), Tag("1"))
    assert [decider.has_same_matches(here, there)] == alike
