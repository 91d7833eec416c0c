"""`flask access check`."""

from datetime import timedelta
from pathlib import Path

import pytest

from app.access.htpasswd import Htpasswd
from app.access.networks import NetworkPolicy, Networks
from app.access.rules import Condition, DigestSet, Rule, Rules
from app.config.load import load
from app.oci.manifest import Platform
from app.oci.reference import Digest
from app.registries import Registries
from tests.unit.cli.parts import GHCR, HUB, Run, running
from tests.unit.fake_source import FakeSource

BY_DIGEST = "other requests by digest, and lists"
DENIED = "a rule of this proxy denies it"
FREE = "allowed, because no rule matches"
BAD = Digest.parse(f"sha256:{'b' * 64}")
BY_DIGEST_ONLY = "this proxy serves it by digest only, not by tag"
IF_OLD = "allowed by rule 6, if it is an image for linux/amd64 and 7 days old or more"


@pytest.fixture
def source() -> FakeSource:
    """Return a registry, which is not to be asked."""
    return FakeSource()


@pytest.fixture
def run(source: FakeSource) -> Run:
    """Return what runs the command at a proxy with rules, which is for two networks."""
    rules = [
        Rule(number=1, allows=True, networks=Networks("10.1.0.0/16")),
        Rule(number=2, allows=True, repository="pinned", digest_only=True),
        Rule(number=3, allows=False, registry="ghcr.io", message="ask us"),
        Rule(
            number=6,
            allows=True,
            repository="aged",
            condition=Condition((Platform("linux", "amd64"),), timedelta(days=7)),
        ),
        Rule(number=4, allows=True, users=frozenset({"alice"})),
        Rule(number=5, allows=False, tag="latest"),
        Rule(number=7, allows=False, repository="held", networks=Networks("10.5.0.0/16")),
    ]
    return running(
        None,
        source,
        "access",
        lists=NetworkPolicy(allow="10.0.0.0/8,2001:db8:1::/48", deny="10.255.255.255"),
        rules=Rules(rules, Registries([HUB, GHCR])),
    )


@pytest.mark.parametrize(
    ("address", "image", "lines", "status"),
    [
        pytest.param(
            "10.1.2.3",
            "nginx",
            [
                "library/nginx of docker.io, for 10.1.2.3",
                "the manifest by the tag latest: allowed by rule 1",
                f"{BY_DIGEST}: allowed by rule 1",
            ],
            0,
            id="allowed",
        ),
        pytest.param(
            "10.2.2.3",
            "library/pinned:2",
            [
                "library/pinned of docker.io, for 10.2.2.3",
                f"the manifest by the tag 2: denied by rule 2: {BY_DIGEST_ONLY}",
                f"{BY_DIGEST}: allowed by rule 2",
            ],
            1,
            id="in part",
        ),
        pytest.param(
            "10.2.2.3",
            f"pinned@sha256:{'0' * 64}",
            ["library/pinned of docker.io, for 10.2.2.3", f"{BY_DIGEST}: allowed by rule 2"],
            0,
            id="by digest",
        ),
        pytest.param(
            "10.2.2.3",
            "ghcr.io/owner/app:1",
            [
                "owner/app of ghcr.io, for 10.2.2.3",
                "the manifest by the tag 1: denied by rule 3: ask us",
                f"{BY_DIGEST}: denied by rule 3: ask us",
            ],
            1,
            id="denied",
        ),
        pytest.param(
            "10.2.2.3",
            "nginx:1",
            [
                "library/nginx of docker.io, for 10.2.2.3",
                "the manifest by the tag 1: allowed, because no rule matches",
                f"{BY_DIGEST}: allowed, because no rule matches",
            ],
            0,
            id="no rule",
        ),
        pytest.param(
            "10.2.2.3",
            "aged:1",
            [
                "library/aged of docker.io, for 10.2.2.3",
                f"the manifest by the tag 1: {IF_OLD}",
                f"{BY_DIGEST}: {IF_OLD}",
            ],
            0,
            id="by what it is",
        ),
        pytest.param(
            "192.0.2.7",
            "nginx:1",
            [
                "library/nginx of docker.io, for 192.0.2.7",
                "denied by the lists of networks: only /health is answered",
            ],
            1,
            id="another network",
        ),
        pytest.param(
            "10.1.7.0/24",
            "nginx",
            [
                "library/nginx of docker.io, for 10.1.7.0/24",
                "the manifest by the tag latest: allowed by rule 1",
                f"{BY_DIGEST}: allowed by rule 1",
            ],
            0,
            id="a network within one",
        ),
        pytest.param(
            "::ffff:10.1.7.0/120",
            "nginx",
            [
                "library/nginx of docker.io, for ::ffff:10.1.7.0/120",
                "the manifest by the tag latest: allowed by rule 1",
                f"{BY_DIGEST}: allowed by rule 1",
            ],
            0,
            id="a network of IPv4 as IPv6",
        ),
        pytest.param(
            "10.0.0.0/14",
            "nginx",
            [
                "library/nginx of docker.io, for 10.0.0.0/14, by address",
                "10.0.0.0 to 10.0.255.255:",
                f"  the manifest by the tag latest: denied by rule 5: {DENIED}",
                f"  {BY_DIGEST}: allowed, because no rule matches",
                "10.1.0.0 to 10.1.255.255:",
                "  the manifest by the tag latest: allowed by rule 1",
                f"  {BY_DIGEST}: allowed by rule 1",
                "10.2.0.0 to 10.3.255.255:",
                f"  the manifest by the tag latest: denied by rule 5: {DENIED}",
                f"  {BY_DIGEST}: allowed, because no rule matches",
            ],
            1,
            id="a network that a rule cuts",
        ),
        pytest.param(
            "10.255.255.254/31",
            "nginx:1",
            [
                "library/nginx of docker.io, for 10.255.255.254/31, by address",
                "10.255.255.254:",
                f"  the manifest by the tag 1: {FREE}",
                f"  {BY_DIGEST}: {FREE}",
                "10.255.255.255:",
                "  denied by the lists of networks: only /health is answered",
            ],
            1,
            id="a network that a list cuts",
        ),
        pytest.param(
            "10.4.0.0/14",
            "nginx:1",
            [
                "library/nginx of docker.io, for 10.4.0.0/14",
                f"the manifest by the tag 1: {FREE}",
                f"{BY_DIGEST}: {FREE}",
            ],
            0,
            id="cut by a rule about another image",
        ),
        pytest.param(
            "0.0.0.0/0",
            "nginx:1",
            [
                "library/nginx of docker.io, for 0.0.0.0/0, by address",
                "0.0.0.0 to 9.255.255.255:",
                "  denied by the lists of networks: only /health is answered",
                "10.0.0.0 to 10.0.255.255:",
                f"  the manifest by the tag 1: {FREE}",
                f"  {BY_DIGEST}: {FREE}",
                "10.1.0.0 to 10.1.255.255:",
                "  the manifest by the tag 1: allowed by rule 1",
                f"  {BY_DIGEST}: allowed by rule 1",
                "10.2.0.0 to 10.255.255.254:",
                f"  the manifest by the tag 1: {FREE}",
                f"  {BY_DIGEST}: {FREE}",
                "10.255.255.255 to 255.255.255.255:",
                "  denied by the lists of networks: only /health is answered",
            ],
            1,
            id="all of IPv4",
        ),
        pytest.param(
            "2001:db8::/32",
            "nginx:1",
            [
                "library/nginx of docker.io, for 2001:db8::/32, by address",
                "2001:db8:: to 2001:db8:0:ffff:ffff:ffff:ffff:ffff:",
                "  denied by the lists of networks: only /health is answered",
                "2001:db8:1:: to 2001:db8:1:ffff:ffff:ffff:ffff:ffff:",
                f"  the manifest by the tag 1: {FREE}",
                f"  {BY_DIGEST}: {FREE}",
                "2001:db8:2:: to 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff:",
                "  denied by the lists of networks: only /health is answered",
            ],
            1,
            id="IPv6",
        ),
    ],
)
def test_what_is_decided(  # noqa: PLR0913 - fixtures and a table
    *, run: Run, source: FakeSource, address: str, image: str, lines: list[str], status: int
) -> None:
    """The rule of each kind of request, and no registry is asked."""
    result = run("check", "--network", address, image)
    assert result.stdout.splitlines() == lines
    assert result.exit_code == status
    assert source.calls == []


@pytest.mark.parametrize(
    ("image", "told", "status"),
    [
        pytest.param(
            f"nginx@{BAD}", f"the manifest by this digest: denied by rule 1: {DENIED}", 1, id="it"
        ),
        pytest.param(
            f"nginx@sha256:{'c' * 64}", f"the manifest by this digest: {FREE}", 0, id="another"
        ),
        pytest.param(
            "nginx:1",
            f"the manifest by the tag 1: {FREE}, unless an earlier rule names its digest",
            0,
            id="a tag",
        ),
    ],
)
def test_digests(source: FakeSource, image: str, told: str, status: int) -> None:
    """Where a tag leads only the registry knows, which is not asked."""
    rule = Rule(number=1, allows=False, digests=DigestSet(frozenset({BAD})))
    run = running(None, source, "access", rules=Rules([rule], Registries([HUB, GHCR])))
    ended = run("check", "--network", "10.2.2.3", image)
    assert (ended.output.splitlines()[1], ended.exit_code) == (told, status)
    assert not source.calls


@pytest.mark.parametrize(("user", "rule"), [("alice", "allowed by rule 4"), ("bob", "by rule 5")])
def test_a_user(run: Run, user: str, rule: str) -> None:
    """As if they had logged in."""
    assert rule in run("check", "--network", "10.2.2.3", "--user", user, "nginx").stdout


def test_who_hides(run: Run) -> None:
    """Nobody, where there is a list."""
    result = run("check", "nginx")
    assert (result.exit_code, "denied by the lists" in result.stdout) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["--network", "10.0.0.0/33", "nginx"], "is not an address", id="a network"),
        pytest.param(["--network", "", "nginx"], "is not an address", id="nothing"),
        pytest.param(["--network", "*", "nginx"], "is not an address", id="all"),
        pytest.param(["--network", "10.1.1.1", "Nginx"], "invalid repository name", id="a name"),
    ],
)
def test_what_cannot_be_asked(run: Run, arguments: list[str], told: str) -> None:
    """It is said, and nothing is decided."""
    result = run("check", *arguments)
    assert (result.exit_code, told in result.stderr) == (2, True)


@pytest.fixture
def with_users(environment: pytest.MonkeyPatch, tmp_path: Path, source: FakeSource) -> Run:
    """Return what runs the command at a proxy whose users are alice and bob."""
    users, config = tmp_path / "users", tmp_path / "docxy.toml"
    users.write_text("".join(f"{name}:$2y$10${'e' * 53}\n" for name in ("alice", "bob")))
    config.write_text(f"""
credentials = "managed"
htpasswd_file = "{users}"
token_key = "{"k" * 32}"
[groups]
platform = ["alice"]
[[rules]]
action = "deny"
users = ["@platform"]
""")
    environment.setenv("DOCXY_CONFIG", str(config))
    rules = load().build_rules(Registries([HUB]))
    return running(None, source, "access", rules=rules, users=Htpasswd(users, users.read_bytes()))


@pytest.mark.parametrize(
    ("arguments", "told", "status"),
    [
        pytest.param(["--user", "alice"], "denied by rule 1", 1, id="a member"),
        pytest.param(["--user", "bob"], "allowed, because no rule matches", 0, id="no member"),
        pytest.param([], "\ndenied without a login; name the user with --user", 1, id="nobody"),
        pytest.param(["--user", "bbo"], "\ndenied: there is no user bbo\n", 1, id="a typo"),
        pytest.param(["--user", "@platform"], "denied: there is no user @pl", 1, id="a group"),
    ],
)
def test_users_and_groups(with_users: Run, arguments: list[str], told: str, status: int) -> None:
    """Whoever has not logged in gets no further, and who is in a group is whom a rule names."""
    result = with_users("check", *arguments, "nginx")
    assert told in result.stdout
    assert result.exit_code == status
