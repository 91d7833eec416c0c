"""One `[[registries]]` table: what it says, and what a well-known registry's name says for it."""

import re
from pathlib import Path

import certifi
import pytest
from pydantic import SecretStr, ValidationError

from app.config.registries import LOGIN_WITHOUT_MANAGED, Credentials, RegistrySettings
from app.registries import HUB, WELL_KNOWN, Account, Registry

HALF = (
    "username, password: set both or neither (DOCXY_USERNAME and DOCXY_PASSWORD for the default "
    "registry)"
)


def read(**written: object) -> RegistrySettings:
    """Return a table as it is read from the file."""
    return RegistrySettings.model_validate(written)


def row(**written: object) -> Registry:
    """Return the row that a table becomes."""
    return read(**written).build_registry()


def refused(**written: object) -> dict[str, str]:
    """Return what is told about a table that is refused, by the place of each fault."""
    with pytest.raises(ValidationError) as caught:
        read(**written)
    return {
        ".".join(map(str, fault["loc"])): str(fault["msg"]).removeprefix("Value error, ")
        for fault in caught.value.errors()
    }


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param({"name": "docker.io"}, HUB, id="Docker Hub"),
        pytest.param({"name": "index.docker.io"}, HUB, id="its first alias"),
        pytest.param({"name": "registry-1.docker.io"}, HUB, id="its second alias"),
        pytest.param({"name": "Docker.IO:443"}, HUB, id="case and port"),
        pytest.param({"name": "ghcr.io"}, WELL_KNOWN["ghcr.io"], id="another well-known one"),
        pytest.param({"name": "docker.io", "url": HUB.url}, HUB, id="its URL"),
        pytest.param(
            {"name": "docker.io", "url": "HTTPS://registry-1.docker.io:443/"}, HUB, id="as it is"
        ),
        pytest.param(
            {"name": "r.example"},
            Registry(name="r.example", url="https://r.example"),
            id="any other: its name is its host",
        ),
        pytest.param(
            {"name": "R.example:5000"},
            Registry(name="r.example:5000", url="https://r.example:5000"),
            id="with its port",
        ),
        pytest.param(
            {"name": "r.example:443"},
            Registry(name="r.example", url="https://r.example"),
            id="without the default port",
        ),
        pytest.param(
            {"name": "hub", "url": HUB.url},
            Registry(name="hub", url=HUB.url),
            id="another name for Docker Hub's URL",
        ),
    ],
)
def test_what_is_unset_is_the_well_known_ones(
    written: dict[str, object], expected: Registry
) -> None:
    """A name is enough; Docker Hub's has aliases, a token service and `library/` as well."""
    assert row(**written) == expected


def test_every_key() -> None:
    """What is written counts, whatever is known by that name."""
    authorities = Path(certifi.where())
    assert row(
        name="ghcr.io",
        url="http://mirror.example:8080/",
        token_url="https://auth.example/token/",  # noqa: S106 - the address of a service
        token_service="s",  # noqa: S106 - the name of a service
        hosts=["GHCR.proxy.example", "g.proxy.example"],
        aliases=["GitHub", "github.example:8443"],
        library_prefix=True,
        credentials="managed",
        prefix_login=True,
        username="me",
        password="s3cr3t",  # noqa: S106 - of nobody
        ca_bundle=str(authorities),
        allow_private=True,
        redirects_from=["Other.example"],
    ) == Registry(
        name="ghcr.io",
        url="http://mirror.example:8080",
        token_url="https://auth.example/token",  # noqa: S106 - the address of a service
        token_service="s",  # noqa: S106 - the name of a service
        hosts=frozenset({"ghcr.proxy.example", "g.proxy.example"}),
        aliases=frozenset({"github", "github.example:8443"}),
        library_prefix=True,
        managed=True,
        account=Account("me", "s3cr3t"),
        prefix_login=True,
        ca_bundle=authorities.read_text(),
        allow_private=True,
        redirects_from=frozenset({"other.example"}),
    )


def test_a_copy_of_docker_hub() -> None:
    """Its names and `library/` stay; the token service is Docker Hub's own, and learned anew."""
    copy = row(name="docker.io", url="https://mirror.example", aliases=["hub"])
    assert (copy.token_url, copy.token_service) == (None, None)
    assert copy.library_prefix
    assert copy.names == HUB.names | {"hub"}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param({"token_service": "s"}, (HUB.token_url, "s"), id="service"),
        pytest.param(
            {"token_url": "https://a.example"}, ("https://a.example", HUB.token_service), id="URL"
        ),
        pytest.param(
            {"token_service": "s", "url": "https://m.example"}, (None, "s"), id="service, elsewhere"
        ),
        pytest.param(
            {"token_url": "https://a.example", "url": "https://m.example"},
            ("https://a.example", None),
            id="URL, elsewhere",
        ),
    ],
)
def test_half_of_a_token_service(
    written: dict[str, object], expected: tuple[str | None, str | None]
) -> None:
    """What is written is pinned, and Docker Hub's rest only while it is Docker Hub."""
    pinned = row(name="docker.io", **written)
    assert (pinned.token_url, pinned.token_service) == expected


@pytest.mark.parametrize(
    ("name", "written", "expected"),
    [
        pytest.param("docker.io", {}, ["library"], id="Docker Hub"),
        pytest.param("docker.io", {"library_prefix": False}, [], id="Docker Hub without"),
        pytest.param("r.example", {}, [], id="another"),
        pytest.param("r.example", {"library_prefix": True}, ["library"], id="another with"),
    ],
)
def test_library_prefix(name: str, written: dict[str, object], expected: list[str]) -> None:
    """Only Docker Hub completes short names, unless the table says else."""
    assert row(name=name, **written).complete_name("nginx").split("/")[:-1] == expected


@pytest.mark.parametrize(
    ("written", "managed", "account"),
    [
        pytest.param({}, [], None, id="unset"),
        pytest.param({"credentials": "passthrough"}, [], None, id="passthrough"),
        pytest.param({"credentials": "managed"}, ["managed"], None, id="managed, as nobody"),
        pytest.param(
            {"credentials": "managed", "username": "me", "password": " pw "},
            ["managed"],
            Account("me", " pw "),
            id="managed, with a login",
        ),
    ],
)
def test_credentials(
    written: dict[str, object], managed: list[str], account: Account | None
) -> None:
    """Clients bring their own, or this proxy has some, or none."""
    found = row(name="r.example", **written)
    assert found.managed == bool(managed)
    assert found.account == account


@pytest.mark.parametrize(
    ("content", "password"),
    [
        pytest.param(b"s3cr3t", "s3cr3t", id="as it is"),
        pytest.param(b"s3cr3t\n", "s3cr3t", id="with a line's end"),
        pytest.param(b"s3cr3t\r\n", "s3cr3t", id="with Windows' end"),
        pytest.param(b" s3cr3t \n", " s3cr3t ", id="spaces are its own"),
        pytest.param(b"s3\ncr3t\n", "s3\ncr3t", id="several lines"),
        pytest.param("gehe\u00efm".encode(), "gehe\u00efm", id="UTF-8"),
    ],
)
def test_password_file(tmp_path: Path, content: bytes, password: str) -> None:
    """The file holds the password, without the line's end that editors leave."""
    path = tmp_path / "password"
    path.write_bytes(content)
    found = row(name="r", credentials="managed", username="me", password_file=str(path))
    assert found.account == Account("me", password)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(None, "the file cannot be read (No such file or directory)", id="missing"),
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"\n", "the file is empty", id="a line's end alone"),
        pytest.param(b"s3cr3t\xff", "the file is not UTF-8", id="not UTF-8"),
    ],
)
def test_no_password_file(tmp_path: Path, content: bytes | None, told: str) -> None:
    """What is wrong with it is told, and nothing that stands in it."""
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    written = {"credentials": "managed", "username": "me", "password_file": str(path)}
    assert refused(name="r", **written) == {"password_file": told}


def test_a_directory_as_password_file(tmp_path: Path) -> None:
    """It cannot be read."""
    told = refused(name="r", password_file=str(tmp_path))
    assert told == {"password_file": "the file cannot be read (Is a directory)"}


def test_a_password_twice(tmp_path: Path) -> None:
    """Nobody could say which counts."""
    path = tmp_path / "password"
    path.write_text("s3cr3t")
    login = {"username": "me", "password": "s3cr3t", "password_file": str(path)}
    told = refused(name="r", credentials="managed", **login)
    assert told == {"": "set password or password_file, not both"}


@pytest.mark.parametrize(
    ("written", "told"),
    [
        pytest.param({"username": "me"}, HALF, id="no password"),
        pytest.param({"password": "s3cr3t"}, HALF, id="no username"),
        pytest.param({"password_file": __file__}, HALF, id="no username for a file"),
        pytest.param({"username": "me", "credentials": "managed"}, HALF, id="managed"),
        pytest.param({"password": "s3cr3t", "credentials": "managed"}, HALF, id="managed too"),
        pytest.param(
            {"username": "me", "password": "s3cr3t"}, LOGIN_WITHOUT_MANAGED, id="no managed"
        ),
        pytest.param(
            {"username": "me", "password": "s3cr3t", "credentials": "passthrough"},
            LOGIN_WITHOUT_MANAGED,
            id="passthrough",
        ),
        pytest.param(
            {"username": "me", "password_file": __file__}, LOGIN_WITHOUT_MANAGED, id="a file"
        ),
    ],
)
def test_logins_that_make_no_sense(written: dict[str, object], told: str) -> None:
    """Half a login, or one for nobody, is a mistake that is told at the start."""
    assert refused(name="r", **written) == {"": told}


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        pytest.param("name", "https://r.example", "name", id="a URL as name"),
        pytest.param("name", "r.example/a", "name", id="a path in a name"),
        pytest.param("name", "", "name", id="no name"),
        pytest.param("name", "..", "name", id="dots alone"),
        pytest.param("name", "a..b", "name", id="two dots in a name"),
        pytest.param("name", ".a", "name", id="a dot in front"),
        pytest.param("aliases", ["-a"], "aliases.0", id="a dash in front"),
        pytest.param("name", "library", "name", id="library, which hides official images"),
        pytest.param("name", "Library:443", "name", id="library, as a name is read"),
        pytest.param("name", 5, "name", id="a number as name"),
        pytest.param("url", "r.example", "url", id="no URL"),
        pytest.param("url", "https://user:s3cr3t@r.example", "url", id="a password in a URL"),
        pytest.param("url", "https://r.example/v2/", "url", id="v2"),
        pytest.param("url", True, "url", id="a boolean as URL"),
        pytest.param("token_url", "ftp://a.example", "token_url", id="another scheme"),
        pytest.param("token_service", 5, "token_service", id="a number as service"),
        pytest.param("hosts", "p.example", "hosts", id="one host as text"),
        pytest.param("hosts", ["p.example", "p.example:8443"], "hosts.1", id="a host with a port"),
        pytest.param("hosts", ["https://p.example"], "hosts.0", id="a URL as host"),
        pytest.param("hosts", [""], "hosts.0", id="no host"),
        pytest.param("aliases", "a", "aliases", id="one alias as text"),
        pytest.param("aliases", ["library"], "aliases.0", id="library"),
        pytest.param("aliases", ["a", "Library:443"], "aliases.1", id="library, as it is read"),
        pytest.param("aliases", ["a/b"], "aliases.0", id="a path as alias"),
        pytest.param("aliases", [5], "aliases.0", id="a number as alias"),
        pytest.param("library_prefix", "perhaps", "library_prefix", id="no boolean"),
        pytest.param("credentials", "none", "credentials", id="another mode"),
        pytest.param("credentials", True, "credentials", id="a boolean as mode"),
        pytest.param("prefix_login", 2, "prefix_login", id="a number as boolean"),
        pytest.param("username", "", "username", id="an empty username"),
        pytest.param("username", "a:b", "username", id="a colon in a username"),
        pytest.param("password", "", "password", id="an empty password"),
        pytest.param("password", 5333, "password", id="a number as password"),
        pytest.param("password_file", 5, "password_file", id="a number as file"),
        pytest.param("ca_bundle", "/nowhere/ca.pem", "ca_bundle", id="no authorities"),
        pytest.param("ca_bundle", __file__, "ca_bundle", id="no certificates"),
        pytest.param("allow_private", "perhaps", "allow_private", id="no boolean again"),
        pytest.param("urls", "https://r.example", "urls", id="no such key"),
    ],
)
def test_wrong_values(key: str, value: object, place: str) -> None:
    """Each fault is told at its place, without what was written there."""
    told = refused(**{"name": "r.example", key: value})
    assert list(told) == [place]
    assert "s3cr3t" not in told[place]
    assert "5333" not in told[place]


def test_a_table_without_a_name() -> None:
    """Nobody could ask for it."""
    assert list(refused(url="https://r.example")) == ["name"]


SECRET = SecretStr("env")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param((None, None, None), Account("file", "f"), id="nothing"),
        pytest.param(("managed", None, None), Account("file", "f"), id="the mode it has"),
        pytest.param((None, "env", None), Account("env", "f"), id="another user"),
        pytest.param((None, None, SECRET), Account("file", "env"), id="another password"),
        pytest.param(("managed", "env", SECRET), Account("env", "env"), id="all"),
        pytest.param(("passthrough", None, None), None, id="the clients' own"),
    ],
)
@pytest.mark.parametrize("where", ["password", "password_file"])
def test_with_login(
    tmp_path: Path,
    where: str,
    told: tuple[Credentials | None, str | None, SecretStr | None],
    expected: Account | None,
) -> None:
    """Each takes the place of the table's own, a password that of its file too."""
    path = tmp_path / "password"
    path.write_text("f")
    written = {"password": "f"} if where == "password" else {"password_file": str(path)}
    table = read(name="r", hosts=["p.example"], credentials="managed", username="file", **written)
    changed = table.with_login(*told).build_registry()
    assert changed.account == expected
    assert changed.managed == (expected is not None)
    assert changed.hosts == {"p.example"}
    assert table.build_registry().account == Account("file", "f")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        pytest.param((None, "env", None), HALF, id="half a login"),
        pytest.param(("passthrough", "env", SECRET), LOGIN_WITHOUT_MANAGED, id="no managed"),
        pytest.param((None, "env", SECRET), LOGIN_WITHOUT_MANAGED, id="no mode at all"),
    ],
)
def test_with_a_login_that_makes_no_sense(
    told: tuple[Credentials | None, str | None, SecretStr | None], message: str
) -> None:
    """It is checked as that of a table."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read(name="r").with_login(*told)


def test_no_secret_shows(tmp_path: Path) -> None:
    """Neither the table nor its row tells the password, wherever it was written."""
    path = tmp_path / "password"
    path.write_text("s3cr3t")
    for login in ({"password": "s3cr3t"}, {"password_file": str(path)}):
        table = read(name="r.example", credentials="managed", username="me", **login)
        told = [
            table,
            table.model_dump(),
            table.model_dump_json(),
            table.build_registry(),
            table.build_registry().account,
        ]
        assert "s3cr3t" not in "".join(f"{one} {one!r}" for one in told)


def test_no_refusal_tells_a_secret() -> None:
    """What a table says besides is wrong: its password is not for the log."""
    for wrong in ({"url": "x"}, {"credentials": "passthrough"}, {"password_file": __file__}):
        written = {"credentials": "managed", "username": "me", "password": "s3cr3t", **wrong}
        assert "s3cr3t" not in str(refused(name="r.example", **written))


def test_a_table_is_frozen() -> None:
    """Nothing changes it after the start."""
    table = read(name="r.example")
    with pytest.raises(ValidationError):
        table.url = "https://elsewhere.example"


def test_every_key_is_described() -> None:
    """The table of the documents is made of these."""
    for field in RegistrySettings.model_fields:
        description = RegistrySettings.model_fields[field].description
        assert description, field
        assert description.endswith("."), field
