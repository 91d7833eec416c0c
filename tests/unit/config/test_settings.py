"""From settings to the table of registries: what is served, and with whose credentials."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.config.registries import LOGIN_WITHOUT_MANAGED
from app.config.settings import Settings
from app.registries import HUB, WELL_KNOWN, Account, Registry

OWN = {"name": "own.example"}
HALF = (
    "username, password: set both or neither (DOCXY_USERNAME and DOCXY_PASSWORD for the default "
    "registry)"
)
LEAVE_OUT = "remove it from one of the tables"
MANAGED = {**OWN, "credentials": "managed", "username": "file", "password": "f"}


@pytest.fixture(autouse=True)
def nothing_set(environment: pytest.MonkeyPatch) -> None:
    """Take away the settings of this machine."""
    del environment


def read(**written: Any) -> Settings:
    """Return settings as load() makes them of the file."""
    return Settings(**written)


def served(**written: Any) -> dict[str, Registry]:
    """Return the rows of what is set so, the first one first."""
    return {row.name: row for row in read(**written).build_registries().rows}


def refused(**written: Any) -> str:
    """Return what is told of settings that cannot be used together."""
    with pytest.raises(ValidationError) as caught:
        read(**written)
    (fault,) = caught.value.errors()
    return str(fault["msg"]).removeprefix("Value error, ")


def test_nothing_set() -> None:
    """Docker Hub is the default, and every well-known registry is there as it is known."""
    assert served() == WELL_KNOWN
    assert read().build_registries().default == HUB


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param({"well_known": "all"}, [*WELL_KNOWN], id="all"),
        pytest.param({"well_known": "ALL"}, [*WELL_KNOWN], id="all, in upper case"),
        pytest.param({"well_known": "none"}, ["docker.io"], id="none"),
        pytest.param({"well_known": []}, ["docker.io"], id="an empty list"),
        pytest.param(
            {"well_known": "quay.io, GHCR.io,"}, ["docker.io", "quay.io", "ghcr.io"], id="names"
        ),
        pytest.param({"well_known": ["gcr.io"]}, ["docker.io", "gcr.io"], id="a list"),
        pytest.param({"well_known": "docker.io"}, ["docker.io"], id="the default itself"),
        pytest.param(
            {"well_known": "quay.io,ghcr.io,QUAY.io"},
            ["docker.io", "quay.io", "ghcr.io"],
            id="one of them twice",
        ),
        pytest.param(
            {"registry_name": "own.example", "registry_url": "https://own.example"},
            ["own.example"],
            id="another default",
        ),
        pytest.param({"registry_url": HUB.url}, ["docker.io"], id="Docker Hub, set"),
        pytest.param({"token_service": "s"}, ["docker.io"], id="a part of the default, set"),
        pytest.param(
            {"registry_name": "own.example", "well_known": "all"},
            ["own.example", *WELL_KNOWN],
            id="another default and all",
        ),
        pytest.param(
            {"registry_name": "quay.io", "well_known": "all"},
            ["quay.io", *[name for name in WELL_KNOWN if name != "quay.io"]],
            id="one of them is the default",
        ),
        pytest.param({"registries": [OWN]}, ["own.example"], id="a table is all"),
        pytest.param(
            {"registries": [OWN], "well_known": "none"}, ["own.example"], id="a table and none"
        ),
        pytest.param(
            {"registries": [OWN], "well_known": "all"},
            ["own.example", *WELL_KNOWN],
            id="a table and all",
        ),
        pytest.param(
            {"registries": [OWN, {"name": "index.docker.io"}], "well_known": "docker.io,quay.io"},
            ["own.example", "docker.io", "quay.io"],
            id="a table that has one of them",
        ),
    ],
)
def test_what_is_served(written: dict[str, object], expected: list[str]) -> None:
    """The table or the default registry first, then the well-known ones that are not there yet."""
    assert list(served(**written)) == expected


@pytest.mark.parametrize(
    ("value", "told"),
    [
        pytest.param("docker.hub", "docker.hub is not among docker.io, ghcr.io, ", id="unknown"),
        pytest.param("ghcr.io,docker.hub", "docker.hub is not among ", id="one of two"),
        pytest.param("index.docker.io", "index.docker.io is not among ", id="an alias"),
        pytest.param("all,ghcr.io", "all is not among ", id="all, and one"),
        pytest.param(["none", "ghcr.io"], "none is not among ", id="none, and one"),
        pytest.param(7, "write all, none, or names", id="a number"),
        pytest.param(True, "write all, none, or names", id="a boolean"),
        pytest.param(["ghcr.io", 7], "write all, none, or names", id="a number in a list"),
        pytest.param({"ghcr.io": 1}, "write all, none, or names", id="a table"),
    ],
)
def test_no_well_known(value: object, told: str) -> None:
    """What may be written is told, and where any other registry is described."""
    assert refused(well_known=value).startswith(told)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        pytest.param("docker.io", HUB.url, id="Docker Hub"),
        pytest.param("quay.io", "https://quay.io", id="another well-known one"),
        pytest.param("r.example:5000", "https://r.example:5000", id="any other"),
    ],
)
def test_a_default_by_its_name(name: str, url: str) -> None:
    """A name is enough to say where it is."""
    assert read(registry_name=name).build_registries().default.url == url


def test_a_row_of_the_table_is_not_replaced() -> None:
    """What the operator wrote of a well-known registry counts."""
    written = [{"name": "ghcr.io", "url": "https://mirror.example"}, OWN]
    rows = served(registries=written, well_known="all")
    assert rows["ghcr.io"].url == "https://mirror.example"
    assert rows["docker.io"] == HUB


@pytest.mark.parametrize(
    ("written", "default"),
    [
        pytest.param({}, "own.example", id="the first"),
        pytest.param({"default": "ghcr.io"}, "ghcr.io", id="named"),
        pytest.param({"default": "GHCR.io:443"}, "ghcr.io", id="named, case and port"),
        pytest.param({"default": "github"}, "ghcr.io", id="by its alias"),
    ],
)
def test_default(written: dict[str, object], default: str) -> None:
    """The first of the table, unless another is named."""
    table = [OWN, {"name": "ghcr.io", "aliases": ["github"]}]
    assert read(registries=table, **written).build_registries().default.name == default


def test_the_default_by_another_name_of_docker_hub() -> None:
    """Docker Hub is one registry, however it is called."""
    table = [OWN, {"name": "registry-1.docker.io"}]
    settings = read(registries=table, default="index.docker.io")
    assert settings.build_registries().default == HUB


@pytest.mark.parametrize(
    ("written", "told"),
    [
        pytest.param(
            {"registries": [OWN], "default": "ghcr.io"},
            "default: no registry of the table is named ghcr.io",
            id="a default that is not in the table",
        ),
        pytest.param(
            {"registries": [OWN], "default": "ghcr.io", "well_known": "all"},
            "default: no registry of the table is named ghcr.io",
            id="a well-known default that is not in the table",
        ),
        pytest.param(
            {"default": "ghcr.io"},
            "default: it names a registry of the table [[registries]], which is missing",
            id="a default without a table",
        ),
        pytest.param(
            {"registries": [OWN, {"name": "x.example", "aliases": ["Own.example"]}]},
            f"registries: own.example stands for both own.example and x.example; {LEAVE_OUT}",
            id="one name for two",
        ),
        pytest.param(
            {
                "registries": [
                    {**OWN, "hosts": ["p.example"]},
                    {"name": "x", "hosts": ["P.example"]},
                ]
            },
            f"registries: p.example stands for both own.example and x; {LEAVE_OUT}",
            id="one host for two",
        ),
        pytest.param(
            {"registries": [{**OWN, "aliases": ["index.docker.io"]}], "well_known": "docker.io"},
            f"registries: index.docker.io stands for both own.example and docker.io; {LEAVE_OUT}",
            id="a well-known name for another",
        ),
        pytest.param(
            {"registries": [OWN, {"name": "Own.example:443"}]},
            "registries: two tables are named own.example; remove one",
            id="one name twice",
        ),
    ],
)
def test_what_is_ambiguous_is_refused(written: dict[str, object], told: str) -> None:
    """Both names are told, and what to do."""
    assert refused(**written) == told


@pytest.mark.parametrize("field", ["registry_url", "registry_name", "token_url", "token_service"])
def test_a_default_registry_twice(field: str) -> None:
    """It stands in the table, or in these; which of two counts nobody should have to guess."""
    told = refused(registries=[OWN], **{field: "https://r.example" if "url" in field else "r"})
    assert told.startswith(
        f"DOCXY_{field.upper()}: the default registry is defined in the file's table"
    )


def test_a_default_registry_twice_in_every_way() -> None:
    """One message tells all that has to go."""
    told = refused(registries=[OWN], registry_name="r", token_service="s", registry_url=HUB.url)  # noqa: S106 - the name of a service
    assert told.startswith(
        "DOCXY_REGISTRY_NAME, DOCXY_REGISTRY_URL, DOCXY_TOKEN_SERVICE: "
        "the default registry is defined"
    )


@pytest.mark.parametrize(
    ("written", "managed", "account"),
    [
        pytest.param({}, ["managed"], Account("file", "f"), id="as the file says"),
        pytest.param(
            {"credentials": "managed", "username": "env", "password": "e"},
            ["managed"],
            Account("env", "e"),
            id="another login",
        ),
        pytest.param({"credentials": "passthrough"}, [], None, id="the clients' own"),
        pytest.param({"credentials": "managed"}, ["managed"], Account("file", "f"), id="the mode"),
        pytest.param({"password": "e"}, ["managed"], Account("file", "e"), id="the password alone"),
        pytest.param({"username": "env"}, ["managed"], Account("env", "f"), id="the user alone"),
    ],
)
def test_credentials_beside_a_table(
    written: dict[str, object], managed: list[str], account: Account | None
) -> None:
    """Each variable takes the place of the default row's own key, and of no other row's."""
    other = {**MANAGED, "name": "x.example", "hosts": ["x.proxy.example"]}
    rows = served(registries=[other, MANAGED], default="own.example", **written)
    assert rows["own.example"].managed == bool(managed)
    assert rows["own.example"].account == account
    assert rows["x.example"].managed
    assert rows["x.example"].account == Account("file", "f")


def test_a_password_that_need_not_stand_in_the_file() -> None:
    """The file says whose it is (docs/configuration.md), or nothing but that it is managed."""
    for written, login in (
        ({"credentials": "managed"}, {"username": "me", "password": "s3cr3t"}),
        ({}, {"credentials": "managed", "username": "me", "password": "s3cr3t"}),
    ):
        row = served(registries=[{**OWN, **written}], **login)["own.example"]
        assert row.managed
        assert row.account == Account("me", "s3cr3t")


def test_a_password_in_place_of_a_file(tmp_path: Path) -> None:
    """The variable wins over the file that holds one."""
    path = tmp_path / "password"
    path.write_text("f")
    table = {**OWN, "credentials": "managed", "username": "me", "password_file": str(path)}
    assert served(registries=[table])["own.example"].account == Account("me", "f")
    row = served(registries=[table], password="e")["own.example"]  # noqa: S106 - of nobody
    assert row.account == Account("me", "e")


def test_credentials_take_the_place_of_nothing_else() -> None:
    """What else the table says of the default registry stays."""
    table = [{**OWN, "hosts": ["p.example"], "aliases": ["o"], "prefix_login": True}]
    login = {"credentials": "managed", "username": "env", "password": "e"}
    row = served(registries=table, **login)["own.example"]
    assert [*row.hosts, *row.aliases] == ["p.example", "o"]
    assert row.prefix_login
    assert row.managed


@pytest.mark.parametrize(
    ("written", "managed"),
    [
        pytest.param({}, [], id="passthrough"),
        pytest.param({"credentials": "managed"}, ["managed"], id="nobody"),
        pytest.param(
            {"credentials": "managed", "username": "me", "password": "s3cr3t"},
            ["managed"],
            id="a login",
        ),
        pytest.param({"registries": [MANAGED], "well_known": "all"}, ["managed"], id="a table's"),
        pytest.param({"registries": [OWN], "well_known": "all"}, [], id="a table without"),
        pytest.param(
            {"registries": [MANAGED], "well_known": "all", "credentials": "passthrough"},
            [],
            id="a table's, taken back",
        ),
        pytest.param(
            {"registries": [OWN, {**MANAGED, "name": "x"}], "well_known": "all"},
            [],
            id="only the default counts",
        ),
    ],
)
def test_the_well_known_are_managed_when_the_default_is(
    written: dict[str, object], managed: list[str]
) -> None:
    """Clients that need no token here would ask for none there; the login is not theirs."""
    rows = served(**written)
    for name in WELL_KNOWN.keys() - {next(iter(rows))}:
        assert rows[name].managed == bool(managed)
        assert rows[name].account is None


@pytest.mark.parametrize(
    ("written", "told"),
    [
        pytest.param({"username": "me"}, HALF, id="no password"),
        pytest.param(
            {"credentials": "managed", "password": "s3cr3t"},
            HALF,
            id="no username",
        ),
        pytest.param({"username": "me", "password": "s3cr3t"}, LOGIN_WITHOUT_MANAGED, id="mode"),
        pytest.param(
            {"credentials": "passthrough", "username": "me", "password": "s3cr3t"},
            LOGIN_WITHOUT_MANAGED,
            id="passthrough",
        ),
        pytest.param(
            {"registries": [OWN], "username": "me", "password": "s3cr3t"},
            LOGIN_WITHOUT_MANAGED,
            id="beside a table",
        ),
    ],
)
def test_logins_that_make_no_sense(written: dict[str, object], told: str) -> None:
    """Half a login, or one for nobody, stops the start."""
    assert refused(**written) == told


def test_no_secret_shows() -> None:
    """Wherever a password is set, nothing that is printed tells it."""
    settings = read(
        credentials="managed",
        username="me",
        password="s3cr3t",  # noqa: S106 - of nobody
        registries=[{**MANAGED, "password": "0th3r"}],
    )
    table = settings.build_registries()
    told = [settings, settings.model_dump(), settings.model_dump_json(), settings.registries]
    shown = "".join(f"{one} {one!r}" for one in [*told, table.default, table.rows])
    assert "s3cr3t" not in shown
    assert "0th3r" not in shown
    assert table.default.account == Account("me", "s3cr3t")


SECRET = {"shared_secret": "s" * 16}
USERS = {**SECRET, "token_key": "k" * 32, "credentials": "managed"}


def test_users_need_managed_registries() -> None:
    """One message tells which are not, and what to set."""
    own = {"name": "own.example", "credentials": "managed"}
    told = refused(registries=[own, {"name": "x.example"}, {"name": "y.example"}], **SECRET)
    assert told.startswith("DOCXY_SHARED_SECRET: ")
    assert told.endswith("These are passthrough: x.example, y.example")
    assert "DOCXY_CREDENTIALS=managed" in told
    assert 'credentials = "managed"' in told
    assert all(row.managed for row in served(**USERS).values())


def test_users_need_a_key_that_stays(tmp_path: Path) -> None:
    """From the setting, or from the cache's directory."""
    keyless = {**SECRET, "credentials": "managed"}
    assert "set DOCXY_TOKEN_KEY, or DOCXY_CACHE_DIR" in refused(**keyless)
    assert read(**keyless, cache_dir=str(tmp_path)).token_key is None


def test_one_kind_of_users(tmp_path: Path) -> None:
    """A file and a secret beside it would leave a door open that nobody thinks of."""
    path = tmp_path / "users"
    path.write_text(f"a:$2y$10${'e' * 53}\n")
    assert "set one, not both" in refused(**USERS, htpasswd_file=str(path))
    told = repr(read(**USERS))
    assert "s" * 16 not in told
    assert "k" * 32 not in told


@pytest.mark.parametrize(
    ("variable", "wrong"),
    [
        pytest.param("PORT", ["65536", "80000", "http", "-1", "8000x"], id="port"),
        pytest.param("WEB_CONCURRENCY", ["0", "-1", "1.5", "65", "100000", "two"], id="workers"),
    ],
)
def test_what_gunicorn_reads(
    environment: pytest.MonkeyPatch, variable: str, wrong: list[str]
) -> None:
    """Its own variables are checked with ours, also where their digits are none to it."""
    for value in [*wrong, "1" * 5000, "\N{ARABIC-INDIC DIGIT THREE}"]:
        environment.setenv(variable, value)
        with pytest.raises(ValidationError, match=f"{variable}\n.*write "):
            read()
    environment.setenv(variable, " 64 ")
    read()
