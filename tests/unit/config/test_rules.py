"""Rules, as they are written: each fault with its position and key."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from app.access.rules import Condition, DigestSet
from app.config.load import SettingsError, load
from app.oci.manifest import Platform
from app.oci.reference import Digest


@pytest.fixture
def config(environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the path of a file that DOCXY_CONFIG names."""
    path = tmp_path / "docxy.toml"
    environment.setenv("DOCXY_CONFIG", str(path))
    return path


def test_written_in_full(config: Path) -> None:
    """In the order of the file."""
    config.write_text("""
[[rules]]
action = "deny"
registry = "GHCR.io"
repository = "team/**"
tag = "v?.*"
networks = ["192.0.2.0/24", "2001:db8::1"]
message = "ask the platform team"

[[rules]]
action = "allow"
digest_only = true
""")
    settings = load()
    first, second = [one.build_rule(at, {}) for at, one in enumerate(settings.rules, 1)]
    assert (first.number, first.allows, first.registry) == (1, False, "ghcr.io")
    assert (first.repository, first.tag) == ("team/**", "v?.*")
    assert first.networks is not None
    assert "2001:db8::1" in first.networks
    assert "192.0.3.1" not in first.networks
    assert first.message == "ask the platform team"
    assert (second.number, second.allows, second.digest_only) == (2, True, True)
    assert second.networks is None


ALLOW, DENY = 'action = "allow"', 'action = "deny"'


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        pytest.param("", "action: field required", id="no action"),
        pytest.param('action = "block"', "action: input should be 'allow' or", id="action"),
        pytest.param(
            f'{DENY}\nregistry = "quai.io"',
            "registry: this proxy serves no registry",
            id="registry",
        ),
        pytest.param(f'{DENY}\nregistry = "a b"', "registry: write the registry's", id="no name"),
        pytest.param(
            f'{DENY}\nrepository = "*"', "repository: * does not match a slash", id="star"
        ),
        pytest.param(f'{DENY}\nrepository = "Team/app"', "repository: write a", id="upper case"),
        pytest.param(f'{DENY}\nrepository = "team/app:1"', "repository: write a", id="with a tag"),
        pytest.param(f'{DENY}\nrepository = "/team"', "repository: write a", id="slash"),
        pytest.param(f'{DENY}\nrepository = ""', "repository: write a", id="empty"),
        pytest.param(f'{DENY}\ntag = "a/b"', "tag: write a tag", id="tag"),
        pytest.param(f"{DENY}\ndigest_only = true", "digest_only: use it with", id="digest_only"),
        pytest.param(
            'action = "allow"\ndigest_only = true\ntag = "1"', "digest_only: remove tag", id="both"
        ),
        pytest.param(
            f'{DENY}\ndigests = ["latest"]',
            "digests 1: write a sha256 or sha512 digest",
            id="no digest",
        ),
        pytest.param(
            f'{DENY}\ndigests = ["md5:a"]',
            "digests 1: write a sha256 or sha512 digest",
            id="algorithm",
        ),
        pytest.param(f"{DENY}\ndigests = []", "digests: it is empty", id="no digests"),
        pytest.param(f'{DENY}\ntag = "1"\ndigests = ["*"]', "digests: remove tag", id="by both"),
        pytest.param(
            f'{DENY}\nnetworks = ["lan"]', "networks 1: lan is not an address", id="network"
        ),
        pytest.param(f"{DENY}\nnetworks = []", "networks: it is empty", id="no network"),
        pytest.param(f'{DENY}\nnetworks = "::1"', "networks: write a list", id="no list"),
        pytest.param(f'{DENY}\nmessage = " "', "message: write one line", id="message"),
        pytest.param(f'{DENY}\nmessage = "a\\nb"', "message: write one line", id="lines"),
        pytest.param(
            f'{DENY}\nrepositories = "a"',
            "repositories: there is no such key; did you mean repository?",
            id="unknown",
        ),
        pytest.param(f'{DENY}\nusers = ["a"]', "users: set DOCXY_HTPASSWD_FILE", id="users"),
        pytest.param(f"{DENY}\nusers = []", "users: it is empty", id="no user"),
        pytest.param(
            f'{DENY}\nusers = ["a:b"]', "users 1: a user name must not contain a colon", id="colon"
        ),
        pytest.param(f"{DENY}\nmin_age_days = 3", "min_age_days: use it with", id="deny by age"),
        pytest.param(f'{DENY}\nplatforms = ["a/b"]', "platforms: use it with", id="deny by it"),
        pytest.param(f"{ALLOW}\nmin_age_days = 0", "min_age_days: ", id="no age"),
        pytest.param(f'{ALLOW}\nmin_age_days = "3"', "min_age_days: ", id="age in words"),
        pytest.param(
            f'{ALLOW}\ntag = "v*"\nmin_age_days = 3',
            "min_age_days: remove tag: requests by digest",
            id="age by tag",
        ),
        pytest.param(
            f'{ALLOW}\ntag = "v*"\nplatforms = ["linux/amd64"]',
            "platforms: remove tag",
            id="platforms by tag",
        ),
        pytest.param(f"{ALLOW}\nplatforms = []", "platforms: it is empty", id="no platform"),
        pytest.param(f'{ALLOW}\nplatforms = ["amd64"]', "platforms 1: amd64 is no", id="platform"),
        pytest.param(
            f'{ALLOW}\nplatforms = ["linux/amd64", "linux/*"]',
            "platforms 2: linux/* is not a platform like linux/amd64 or linux/arm/v7",
            id="platforms by a pattern",
        ),
    ],
)
def test_faults(config: Path, rule: str, told: str) -> None:
    """The start ends with the file, the position and the key."""
    config.write_text(f'[[rules]]\naction = "allow"\nrepository = "a/b"\n[[rules]]\n{rule}\n')
    with pytest.raises(SettingsError) as caught:
        load()
    assert f"\n  {config}: rule 2: {told}" in str(caught.value)
    assert "one setting is wrong" in str(caught.value)


def test_digests(config: Path) -> None:
    """Some, or all."""
    one = f"sha256:{'a' * 64}"
    config.write_text(
        f'[[rules]]\n{DENY}\ndigests = ["{one}"]\n[[rules]]\n{DENY}\ndigests = ["*"]\n'
    )
    some, every = load().rules
    assert some.build_rule(1, {}).digests == DigestSet(frozenset({Digest(one)}))
    assert every.build_rule(2, {}).digests == DigestSet(includes_all=True)


def test_conditions(config: Path) -> None:
    """Platforms as people write them, and whole days."""
    config.write_text(
        f'[[rules]]\n{ALLOW}\nplatforms = ["Linux/ARM64", "linux/x86_64"]\nmin_age_days = 7\n'
    )
    (one,) = load().rules
    named = Platform("linux", "arm64"), Platform("linux", "amd64")
    assert one.build_rule(1, {}).condition == Condition(named, timedelta(days=7))


def test_users(config: Path, tmp_path: Path) -> None:
    """A rule is for some of the file's, and nobody can take a name with one secret for all."""
    users = tmp_path / "users"
    users.write_text(f"alice:$2y$10${'e' * 53}\n")
    base = f'credentials = "managed"\ntoken_key = "{"k" * 32}"\n'
    rule = '[[rules]]\naction = "allow"\nusers = ["alice", "bob"]\n'
    config.write_text(f'{base}htpasswd_file = "{users}"\n{rule}')
    assert load().rules[0].build_rule(1, {}).users == frozenset({"alice", "bob"})
    config.write_text(f'{base}shared_secret = "{"s" * 16}"\n{rule}')
    with pytest.raises(SettingsError, match="rule 1: users: set DOCXY_HTPASSWD_FILE"):
        load()


@pytest.fixture
def with_users(config: Path, tmp_path: Path) -> Callable[[str], None]:
    """Return what writes the file, beside the settings for alice and bob."""
    users = tmp_path / "users"
    hashed = f"$2y$10${'e' * 53}"
    users.write_text(f"alice:{hashed}\nbob:{hashed}\n@platform:{hashed}\n")
    base = f'credentials = "managed"\ntoken_key = "{"k" * 32}"\nhtpasswd_file = "{users}"\n'

    def write(text: str) -> None:
        config.write_text(base + text)

    return write


def users_of(number: int) -> frozenset[str] | None:
    """Return whom a rule is for."""
    settings = load()
    return settings.rules[number - 1].build_rule(number, settings.groups).users


def test_groups(with_users: Callable[[str], None]) -> None:
    """A rule is for who is in one, beside others; who is called like one is not in it."""
    with_users("""
[[rules]]
action = "allow"
users = ["@platform", "carol"]
[[rules]]
action = "deny"
users = ["@a-1.b_2", "@platform"]
[groups]
platform = ["alice", "bob"]
"a-1.b_2" = ["bob", "dave@example.com"]
unused = ["erin"]
""")
    assert users_of(1) == frozenset({"alice", "bob", "carol"})
    assert users_of(2) == frozenset({"alice", "bob", "dave@example.com"})
    assert sorted(load().iter_named_users()) == [
        ("groups.a-1.b_2", "bob"),
        ("groups.a-1.b_2", "dave@example.com"),
        ("groups.platform", "alice"),
        ("groups.platform", "bob"),
        ("groups.unused", "erin"),
        ("rule 1", "carol"),
    ]


RULE = '[[rules]]\naction = "deny"\nusers = '


@pytest.mark.parametrize(
    ("written", "told"),
    [
        pytest.param(
            f'{RULE}["@platfrom"]\n[groups]\nplatform = ["a"]\nother = ["b"]',
            "rule 1: users: there is no group platfrom; [groups] has platform, other\n",
            id="no such group",
        ),
        pytest.param(
            f'{RULE}["alice"]\n{RULE}["bob", "@platform"]',
            "rule 2: users: there is no group platform; write a table [groups]\n",
            id="no table",
        ),
        pytest.param(f'{RULE}["a", "@"]', "rule 1: users 2: write a group name of", id="no name"),
        pytest.param(f'{RULE}["@a b"]', "rule 1: users 1: write a group name of", id="odd"),
        pytest.param(f'{RULE}["@@a"]', "rule 1: users 1: write a group name of", id="twice"),
        pytest.param(f'{RULE}[""]', "rule 1: users 1: not a valid user name\n", id="empty user"),
        pytest.param(
            f'{RULE}["a\\n"]', "rule 1: users 1: not a valid user name\n", id="user of two lines"
        ),
        pytest.param("[groups]\na = []", "groups.a: it is empty; write at least", id="empty"),
        pytest.param(
            '[groups]\na = ["x", "@b"]\nb = ["y"]',
            "groups.a 2: a group cannot contain groups",
            id="in a group",
        ),
        pytest.param('[groups]\na = ["x:y"]', "groups.a 1: a user name must not", id="colon"),
        pytest.param('[groups]\na = ["x", ""]', "groups.a 2: not a valid user name", id="nobody"),
        pytest.param("[groups]\na = [1]", "groups.a 1: input should be a valid str", id="number"),
        pytest.param('[groups]\na = "x"', 'groups.a: write a list, like ["one"', id="text"),
        pytest.param('[groups.a]\nb = ["x"]', "groups.a: write a list, like", id="table"),
        pytest.param('[groups]\n"a b" = ["x"]', 'groups."a b": write a group name', id="odd group"),
        pytest.param(
            '[groups]\n"a\\u001b\\n" = ["x"]', r'groups."a\u001b\n": write a group', id="control"
        ),
        pytest.param('[groups]\n"@a" = ["x"]', 'groups."@a": write a group name of', id="sign"),
        pytest.param('[groups]\n"" = ["x"]', 'groups."": write a group name of', id="nameless"),
        pytest.param('[[groups]]\na = ["x"]', "groups: write a table [groups]\n", id="list"),
        pytest.param('groups = "a"', "groups: write a table [groups]\n", id="no table at all"),
    ],
)  # fmt: skip
def test_faulty_groups(
    with_users: Callable[[str], None], config: Path, written: str, told: str
) -> None:
    """The start ends with the file, the position and the key."""
    with_users(f"{written}\n")
    with pytest.raises(SettingsError) as caught:
        load()
    assert f"\n  {config}: {told}" in str(caught.value)
    assert "one setting is wrong" in str(caught.value)


@pytest.mark.parametrize("more", ["", f'shared_secret = "{"s" * 16}"\ntoken_key = "{"k" * 32}"\n'])
def test_a_group_without_users(config: Path, more: str) -> None:
    """It is for nobody in particular either."""
    groups = '[groups]\nplatform = ["alice"]\n'
    config.write_text(f'credentials = "managed"\n{more}{RULE}["@platform"]\n{groups}')
    with pytest.raises(SettingsError, match="rule 1: users: set DOCXY_HTPASSWD_FILE"):
        load()


@pytest.mark.parametrize("written", ['rules = "deny"', "rules = [1]", "[rules]\naction = 'deny'"])
def test_another_shape(config: Path, written: str) -> None:
    """What is no list of tables is told how to become one."""
    config.write_text(f"{written}\n")
    with pytest.raises(SettingsError, match=r"\[\[rules\]\]"):
        load()


def test_no_variable(environment: pytest.MonkeyPatch) -> None:
    """They stand in the file only."""
    environment.setenv("DOCXY_RULES", "deny")
    with pytest.raises(SettingsError, match="DOCXY_RULES: set it in the file"):
        load()
