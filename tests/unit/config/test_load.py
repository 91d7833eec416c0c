"""Settings: from the environment and a file; every fault in one message, no secret in any."""

from pathlib import Path

import pydantic
import pytest
import trustme

from app.config.load import SettingsError, load
from app.config.settings import Settings
from app.config.types import SettingFiles
from app.registries import HUB, WELL_KNOWN, Account
from tests.tables import write_config

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def config(environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the path of an empty file that DOCXY_CONFIG names."""
    path = tmp_path / "docxy.toml"
    path.write_text("")
    environment.setenv("DOCXY_CONFIG", str(path))
    return path


def refused() -> str:
    """Return the message with which the settings are refused."""
    with pytest.raises(SettingsError) as caught:
        load()
    return str(caught.value)


def test_nothing_set(environment: pytest.MonkeyPatch) -> None:
    """Without any setting it is Docker Hub, and nothing is missing."""
    del environment
    settings = load()
    assert settings.registry_url == HUB.url
    assert settings.registry_name == "docker.io"
    assert settings.public_url is None
    assert settings.token_url is None
    assert settings.forwarded_allow_ips == "127.0.0.1,::1"


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        pytest.param(
            "DOCXY_PUBLIC_URL", "https://p.example/", "public_url", "https://p.example", id="slash"
        ),
        pytest.param(
            "DOCXY_PUBLIC_URL",
            "https://p.example/a/b//",
            "public_url",
            "https://p.example/a/b",
            id="path",
        ),
        pytest.param(
            "DOCXY_REGISTRY_URL", "http://[2600::1]:5", "registry_url", "http://[2600::1]:5",
            id="IPv6",
        ),
        pytest.param(
            "DOCXY_ALLOW_PRIVATE_UPSTREAMS", "true", "allow_private_upstreams", True, id="switch"
        ),
        pytest.param(
            "DOCXY_ALLOW_PRIVATE_UPSTREAMS", "", "allow_private_upstreams", False, id="empty switch"
        ),
        pytest.param("DOCXY_REGISTRY_NAME", "R.Example", "registry_name", "r.example", id="name"),
        pytest.param("DOCXY_TOKEN_URL", "https://a.org", "token_url", "https://a.org", id="token"),
        pytest.param("DOCXY_TOKEN_SERVICE", "s", "token_service", "s", id="service"),
        pytest.param("DOCXY_CONNECT_TIMEOUT", "2.5", "connect_timeout", 2.5, id="seconds"),
        pytest.param("DOCXY_READ_TIMEOUT", "600", "read_timeout", 600, id="whole seconds"),
        pytest.param("DOCXY_WRITE_TIMEOUT", "1", "write_timeout", 1, id="write"),
        pytest.param("DOCXY_LOG_FORMAT", "json", "log_format", "json", id="format"),
        pytest.param("DOCXY_LOG_LEVEL", "debug", "log_level", "debug", id="level"),
        pytest.param("NO_PROXY", "a.example", "no_proxy", "a.example", id="no_proxy"),
        pytest.param("no_proxy", "a.example", "no_proxy", "a.example", id="lower case"),
        pytest.param(
            "FORWARDED_ALLOW_IPS", "10.0.0.0/8, ::1,*", "forwarded_allow_ips", "10.0.0.0/8, ::1,*",
            id="peers",
        ),
        pytest.param("DOCXY_CA_BUNDLE", "", "ca_bundle", None, id="empty is unset"),
        pytest.param("DOCXY_REGISTRY_URL", "", "registry_url", HUB.url, id="empty means default"),
        pytest.param("DOCXY_CONFIG", "", "log_level", "info", id="no file"),
        pytest.param("DOCXY_CONNECT_TIMEOUT", "", "connect_timeout", 5, id="empty number"),
        pytest.param("HTTPS_PROXY", "", "https_proxy", None, id="empty secret"),
    ],
)  # fmt: skip
def test_environment(
    environment: pytest.MonkeyPatch, variable: str, value: str, field: str, expected: object
) -> None:
    """A variable sets its field; an empty one sets nothing."""
    environment.setenv(variable, value)
    assert getattr(load(), field) == expected


@pytest.mark.parametrize(
    ("variables", "https", "http"),
    [
        pytest.param({"HTTPS_PROXY": "http://a:1"}, "http://a:1", None, id="https"),
        pytest.param({"HTTP_PROXY": "http://a:1"}, None, "http://a:1", id="http"),
        pytest.param({"https_proxy": "http://a:1"}, "http://a:1", None, id="lower case"),
        pytest.param({"ALL_PROXY": "socks5h://a:1"}, "socks5h://a:1", "socks5h://a:1", id="all"),
        pytest.param(
            {"ALL_PROXY": "http://a:1", "HTTPS_PROXY": "http://b:2"},
            "http://b:2",
            "http://a:1",
            id="the nearer one",
        ),
    ],
)
def test_outbound_proxies(
    environment: pytest.MonkeyPatch,
    variables: dict[str, str],
    https: str | None,
    http: str | None,
) -> None:
    """The usual variables name the outbound proxies."""
    for name, value in variables.items():
        environment.setenv(name, value)
    settings = load()
    found = [
        secret.get_secret_value() if secret else None
        for secret in (settings.https_proxy, settings.http_proxy)
    ]
    assert found == [https, http]


def test_file(config: Path) -> None:
    """The file has the same settings under their names in lower case."""
    config.write_text(
        'registry_url = "https://r.example/"\nregistry_name = "r.example"\nread_timeout = 7\n'
    )
    settings = load()
    assert settings.registry_url == "https://r.example"
    assert settings.registry_name == "r.example"
    assert settings.read_timeout == 7


def test_environment_wins(config: Path, environment: pytest.MonkeyPatch) -> None:
    """What both set is as the environment says; an empty variable says nothing."""
    config.write_text('read_timeout = 7\nlog_level = "error"\nlog_format = "json"\n')
    environment.setenv("DOCXY_READ_TIMEOUT", "8")
    environment.setenv("DOCXY_LOG_LEVEL", "")
    settings = load()
    assert settings.read_timeout == 8
    assert settings.log_level == "error"
    assert settings.log_format == "json"


def test_environment_wins_over_what_is_wrong_in_the_file(
    config: Path, environment: pytest.MonkeyPatch
) -> None:
    """A value that does not count cannot be wrong."""
    config.write_text('read_timeout = "soon"\n')
    environment.setenv("DOCXY_READ_TIMEOUT", "8")
    assert load().read_timeout == 8


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        pytest.param("DOCXY_REGISTRY_URI", "DOCXY_REGISTRY_URL", id="a letter"),
        pytest.param("DOCXY_PUBLICURL", "DOCXY_PUBLIC_URL", id="an underscore"),
        pytest.param("DOCXY_HTTPS_PROXY", "HTTPS_PROXY", id="a prefix too many"),
        pytest.param("DOCXY_CONFIG_FILE", "DOCXY_CONFIG", id="the file"),
        pytest.param("docxy_log_levels", "DOCXY_LOG_LEVEL", id="lower case"),
    ],
)
def test_unknown_variables(environment: pytest.MonkeyPatch, variable: str, nearest: str) -> None:
    """A variable that is no setting stops the start, and the right name is told."""
    environment.setenv(variable, "x")
    assert f"{variable}: there is no such setting; did you mean {nearest}?" in refused()


def test_unknown_variable_like_none(environment: pytest.MonkeyPatch) -> None:
    """Where nothing is near, nothing is guessed."""
    environment.setenv("DOCXY_ZZZZZZ", "x")
    message = refused()
    assert "DOCXY_ZZZZZZ: there is no such setting" in message
    assert "did you mean" not in message


@pytest.mark.parametrize(
    "variable",
    [
        "DOCXY_SERVICE_HOST",
        "DOCXY_SERVICE_PORT",
        "DOCXY_SERVICE_PORT_HTTP",
        "DOCXY_PORT",
        "DOCXY_PORT_8000_TCP",
        "DOCXY_PORT_8000_TCP_ADDR",
        "DOCXYZ",
    ],
)
def test_names_of_others_are_ignored(environment: pytest.MonkeyPatch, variable: str) -> None:
    """Kubernetes injects names for a Service called docxy; a longer word is not ours."""
    environment.setenv(variable, "tcp://10.0.0.1:8000")
    assert load().registry_url == HUB.url


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        pytest.param("DOCXY_PUBLIC_URL", "p.example", "complete URL", id="no scheme"),
        pytest.param("DOCXY_PUBLIC_URL", "ftp://p.example", "complete URL", id="other scheme"),
        pytest.param("DOCXY_PUBLIC_URL", "https://", "complete URL", id="no host"),
        pytest.param("DOCXY_PUBLIC_URL", "https://p.example?x", "not contain \\?", id="query"),
        pytest.param("DOCXY_PUBLIC_URL", "https://p.example#x", "not contain \\?", id="fragment"),
        pytest.param("DOCXY_REGISTRY_URL", "https://u:p@r.example", "user name", id="userinfo"),
        pytest.param("DOCXY_REGISTRY_URL", "https://r.example:port", "[Pp]ort", id="port"),
        pytest.param("DOCXY_REGISTRY_URL", "https://r.example:99999", "[Pp]ort", id="port range"),
        pytest.param("DOCXY_REGISTRY_URL", "https://[::1", "IPv6", id="bracket"),
        pytest.param("DOCXY_REGISTRY_NAME", "https://r.example", "host name", id="a URL as name"),
        pytest.param("DOCXY_REGISTRY_NAME", " r", "host name", id="space"),
        pytest.param("DOCXY_CA_BUNDLE", "/nowhere/ca.pem", "cannot be read", id="no file"),
        pytest.param("DOCXY_CA_BUNDLE", "/", "cannot be read", id="directory"),
        pytest.param("DOCXY_CA_BUNDLE", __file__, "certificate", id="no certificate"),
        pytest.param("DOCXY_CONNECT_TIMEOUT", "0", "greater than 0", id="zero"),
        pytest.param("DOCXY_CONNECT_TIMEOUT", "-1", "greater than 0", id="negative"),
        pytest.param("DOCXY_READ_TIMEOUT", "inf", "", id="infinite"),
        pytest.param("DOCXY_READ_TIMEOUT", "nan", "", id="not a number"),
        pytest.param("DOCXY_READ_TIMEOUT", "60s", "number", id="unit"),
        pytest.param("DOCXY_LOG_FORMAT", "xml", "'text' or 'json'", id="format"),
        pytest.param("DOCXY_LOG_LEVEL", "LOUD", "'warning'", id="level"),
        pytest.param("FORWARDED_ALLOW_IPS", "10.0.0.1,nginx", "nginx is not an", id="peers"),
        pytest.param("DOCXY_ALLOW_NETWORKS", "10.0.0.1,lan", "lan is not an", id="networks"),
        pytest.param("DOCXY_DENY_NETWORKS", ",", "at least one", id="no network"),
        pytest.param("DOCXY_HTPASSWD_FILE", "/nowhere", "cannot be read", id="no users"),
        pytest.param("DOCXY_HTPASSWD_FILE", "/etc/passwd", "line 1: .*htpasswd -B", id="no bcrypt"),
        pytest.param("DOCXY_SHARED_SECRET", "x" * 15, "at least 16 bytes", id="short secret"),
        pytest.param("DOCXY_TOKEN_KEY", "x" * 31, "at least 32 bytes", id="short key"),
        pytest.param("DOCXY_TOKEN_KEY", "x" * 32, "it needs DOCXY_HTPASSWD_FILE", id="only a key"),
        pytest.param("DOCXY_CONFIG", "/nowhere/docxy.toml", "cannot be read", id="config"),
        pytest.param("HTTPS_PROXY", "ftp://proxy.example", "socks5", id="proxy scheme"),
    ],
)  # fmt: skip
def test_wrong_values(
    environment: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    """A wrong value is named by its variable, with what would be right."""
    environment.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"\n  {variable}[:=].*{reason}"):
        load()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        pytest.param("https_proxy", "ftp://proxy.example", id="lower case"),
        pytest.param("ALL_PROXY", "ftp://proxy.example", id="the other name"),
        pytest.param("docxy_log_level", "loud", id="ours in lower case"),
    ],
)
def test_a_fault_names_the_variable_that_was_set(
    environment: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """Whoever reads the message finds there what they wrote."""
    environment.setenv(variable, value)
    assert f"\n  {variable}: " in refused()


@pytest.mark.parametrize(
    ("variables", "urls"),
    [
        pytest.param(
            {"DOCXY_REGISTRY_URL": "http://[::ffff:10.0.0.1]:5000"},
            "http://[::ffff:10.0.0.1]:5000",
            id="registry",
        ),
        pytest.param(
            {"DOCXY_TOKEN_URL": "http://localhost:5001/t"}, "http://localhost:5001/t", id="token"
        ),
        pytest.param(
            {"DOCXY_REGISTRY_URL": "http://2130706433", "DOCXY_TOKEN_URL": "https://0x7f.1/t"},
            "http://2130706433, https://0x7f.1/t",
            id="both",
        ),
        pytest.param(
            {"DOCXY_REGISTRY_NAME": "localhost:5000"}, "https://localhost:5000", id="by its name"
        ),
    ],
)
def test_special_addresses_are_refused(
    environment: pytest.MonkeyPatch, variables: dict[str, str], urls: str
) -> None:
    """All are named, with the switch that allows them; and with it they are."""
    for name, value in variables.items():
        environment.setenv(name, value)
    message = refused()
    assert message.startswith("Docxy cannot start: one setting is wrong.\n")
    name = variables.get("DOCXY_REGISTRY_NAME", "docker.io")
    named = ", ".join(f"{name} at {url}" for url in urls.split(", "))
    assert f"\n  registries: {named}: a loopback, private or otherwise special " in message
    assert "set DOCXY_ALLOW_PRIVATE_UPSTREAMS=true" in message
    environment.setenv("DOCXY_ALLOW_PRIVATE_UPSTREAMS", "true")
    assert load().build_registries().default.allow_private


@pytest.mark.parametrize("url", ["https://8.8.8.8", "https://[2600::1]:5", "http://r.internal:5"])
def test_what_may_be_public_is_not_refused(environment: pytest.MonkeyPatch, url: str) -> None:
    """Names are resolved when they are needed."""
    environment.setenv("DOCXY_REGISTRY_URL", url)
    assert not load().build_registries().default.allow_private


def test_special_addresses_in_the_table(config: Path) -> None:
    """A row may be allowed alone, and the switch allows them all."""
    rows: list[dict[str, object]] = [
        {"name": "a.example", "url": "http://10.0.0.1", "allow_private": True},
        {"name": "b.example", "token_url": "http://10.0.0.2/t"},
        {"name": "localhost:5000"},
        {"name": "c.example"},
    ]
    write_config(config, rows)
    named = "b.example at http://10.0.0.2/t, localhost:5000 at https://localhost:5000"
    assert f"\n  {config}: registries: {named}: a loopback" in refused()
    write_config(config, rows, allow_private_upstreams=True)
    assert [row.allow_private for row in load().build_registries().rows] == [True] * 4
    write_config(config, [rows[0], rows[3]], well_known=["quay.io"])
    assert [row.allow_private for row in load().build_registries().rows] == [True, False, False]


def test_the_switch_is_for_every_registry(environment: pytest.MonkeyPatch) -> None:
    """The well-known ones too: a resolver may give all of them false addresses."""
    environment.setenv("DOCXY_ALLOW_PRIVATE_UPSTREAMS", "1")
    assert all(row.allow_private for row in load().build_registries().rows)


def test_this_proxy_itself_may_be_private(environment: pytest.MonkeyPatch) -> None:
    """Its own URL and the outbound proxy's are the operator's to choose."""
    environment.setenv("DOCXY_PUBLIC_URL", "http://10.0.0.1:8000")
    environment.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")
    assert load().public_url == "http://10.0.0.1:8000"


def test_every_fault_is_in_one_message(config: Path, environment: pytest.MonkeyPatch) -> None:
    """One start tells everything that has to be put right, and where it stands."""
    config.write_text('read_timeout = "soon"\nlog_levels = "info"\nlog_level = "info"\n')
    environment.setenv("DOCXY_PUBLIC_URL", "p.example")
    environment.setenv("DOCXY_CONNECT_TIMEOUT", "0")
    environment.setenv("DOCXY_REGISTRYURL", "https://r.example")
    message = refused()
    assert message.startswith("Docxy cannot start: 5 settings are wrong.\n")
    assert "\n  DOCXY_PUBLIC_URL: " in message
    assert "\n  DOCXY_CONNECT_TIMEOUT: " in message
    assert "\n  DOCXY_REGISTRYURL: there is no such setting; did you mean DOCXY_REGISTRY_URL?" in (
        message
    )
    assert f"\n  {config}: read_timeout: " in message
    assert f"\n  {config}: log_levels: there is no such setting; did you mean log_level?" in message
    assert "docs/configuration.md" in message


def test_one_fault_is_one(environment: pytest.MonkeyPatch) -> None:
    """The message counts."""
    environment.setenv("DOCXY_LOG_LEVEL", "loud")
    assert refused().startswith("Docxy cannot start: one setting is wrong.\n")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"not toml at all", id="not TOML"),
        pytest.param(b"a = ", id="half a line"),
        pytest.param(b'log_level = "\xff"', id="not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_understood(config: Path, content: bytes) -> None:
    """The message names the file."""
    config.write_bytes(content)
    assert f"\n  {config}: invalid TOML" in refused()


def test_variables_of_others_are_no_keys_of_the_file(config: Path) -> None:
    """Proxies and gunicorn's peers stand in the environment only, where others read them too."""
    config.write_text('https_proxy = "http://a:1"\nforwarded_allow_ips = "*"\n')
    message = refused()
    assert "https_proxy: there is no such setting" in message
    assert "forwarded_allow_ips: there is no such setting" in message


def test_no_secret_shows(environment: pytest.MonkeyPatch) -> None:
    """Neither str nor repr tells the password of the outbound proxy."""
    environment.setenv("HTTPS_PROXY", "http://user:s3cr3t@proxy.example:3128")
    settings = load()
    assert "s3cr3t" not in str(settings)
    assert "s3cr3t" not in repr(settings)
    assert "s3cr3t" not in str(settings.model_dump())


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        pytest.param("DOCXY_REGISTRY_URL", "https://user:s3cr3t@r.example", id="registry"),
        pytest.param("DOCXY_REGISTRY_URL", "https://user:s3cr3t/x@r.example", id="slash in it"),
        pytest.param("DOCXY_TOKEN_URL", "ftp://user:s3cr3t@r.example", id="scheme"),
        pytest.param("DOCXY_PUBLIC_URL", "https://user:s3cr3t@r.example:port", id="port"),
        pytest.param("HTTPS_PROXY", "ftp://user:s3cr3t@proxy.example", id="proxy"),
    ],
)
def test_no_message_tells_a_secret(
    environment: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """A message may end in a log: it says what is wrong, and not what was written."""
    environment.setenv(variable, value)
    assert "s3cr3t" not in refused()


def test_settings_are_frozen(settings: Settings) -> None:
    """Nothing changes a setting after the start."""
    with pytest.raises(pydantic.ValidationError):
        settings.registry_url = "https://elsewhere.example"


def test_every_setting_is_described() -> None:
    """The table of the documents is made of these."""
    for field in Settings.model_fields:
        description = Settings.model_fields[field].description
        assert description, field
        assert description.endswith("."), field


@pytest.mark.parametrize(
    ("field", "variable"),
    [
        pytest.param("public_url", "DOCXY_PUBLIC_URL", id="ours"),
        pytest.param("https_proxy", "HTTPS_PROXY", id="the first of two"),
        pytest.param("forwarded_allow_ips", "FORWARDED_ALLOW_IPS", id="gunicorn's"),
    ],
)
def test_variable(field: str, variable: str) -> None:
    """Every field has one variable to be named by."""
    assert Settings.variable(field) == variable


def test_tables(config: Path) -> None:
    """The file has what no variable could hold well: a table for each registry."""
    password = config.with_name("password")
    password.write_text("s3cr3t\n")
    write_config(
        config,
        [
            {"name": "r.example", "url": "https://r.example/x/", "hosts": ["r.proxy.example"]},
            {
                "name": "docker.io",
                "credentials": "managed",
                "username": "me",
                "password_file": str(password),
            },
        ],
        default="index.docker.io",
        read_timeout=7,
    )
    settings = load()
    table = settings.build_registries()
    assert [row.name for row in table.rows] == ["r.example", "docker.io"]
    assert table.rows[0].url == "https://r.example/x"
    assert table.rows[0].hosts == {"r.proxy.example"}
    assert table.default.account == Account("me", "s3cr3t")
    assert settings.read_timeout == 7


def test_the_file_that_is_ready_to_use(environment: pytest.MonkeyPatch) -> None:
    """It serves every well-known registry as it is known, Docker Hub by default."""
    environment.setenv("DOCXY_CONFIG", str(ROOT / "deploy" / "registries.toml"))
    table = load().build_registries()
    assert {row.name: row for row in table.rows} == WELL_KNOWN
    assert table.default == HUB


@pytest.mark.parametrize(
    ("row", "told"),
    [
        pytest.param({"url": "x.example"}, "url: write a complete URL, like ", id="value"),
        pytest.param({"url": 5}, "url: input should be a valid string", id="type"),
        pytest.param({"urll": "x"}, "urll: there is no such key; did you mean url?", id="key"),
        pytest.param({"zzzzzz": "x"}, "zzzzzz: there is no such key\n", id="a key like none"),
        pytest.param(
            {"read_timeout": 5}, "read_timeout: there is no such key\n", id="a key of elsewhere"
        ),
        pytest.param(
            {"hosts": ["a", "a:1"]}, "hosts 2: write a host name of this ", id="in a list"
        ),
        pytest.param({"aliases": ["library"]}, "aliases 1: library is the namespace ", id="alias"),
        pytest.param(
            {"credentials": "none"},
            "credentials: input should be 'passthrough' or 'managed'",
            id="mode",
        ),
        pytest.param(
            {"password_file": "/nowhere/s3cr3t"},
            "password_file: the file cannot be read (No such file or directory)",
            id="password file",
        ),
    ],
)
def test_a_fault_in_a_table(config: Path, row: dict[str, object], told: str) -> None:
    """It is told by the file, the table's number as people count, and the key."""
    write_config(config, [{"name": "a.example"}, {"name": "b.example", **row}])
    message = refused()
    assert message.startswith("Docxy cannot start: one setting is wrong.\n")
    assert f"\n  {config}: registries 2: {told}" in message
    assert "s3cr3t" not in message


@pytest.mark.parametrize(
    ("row", "told"),
    [
        pytest.param({"username": "me"}, "username, password: set both or neither (", id="half"),
        pytest.param(
            {"username": "me", "password": "s3cr3t"},
            "username, password: this proxy's own login needs credentials",
            id="no managed",
        ),
    ],
)
def test_a_table_that_makes_no_sense(config: Path, row: dict[str, object], told: str) -> None:
    """What is wrong with several of its keys is told of the table."""
    write_config(config, [{"name": "a.example", **row}])
    message = refused()
    assert f"\n  {config}: registries 1: {told}" in message
    assert "s3cr3t" not in message


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        pytest.param(
            [{"name": "a.example"}, {"name": "A.example:443"}],
            "registries: two tables are named a.example; remove one",
            id="one name twice",
        ),
        pytest.param(
            [{"name": "a.example"}, {"name": "b.example", "aliases": ["a.example"]}],
            "registries: a.example stands for both a.example and b.example; "
            "remove it from one of the tables",
            id="one name for two",
        ),
        pytest.param(
            [{"name": "a.example", "hosts": ["p"]}, {"name": "b.example", "hosts": ["P"]}],
            "registries: p stands for both a.example and b.example; "
            "remove it from one of the tables",
            id="one host for two",
        ),
        pytest.param(
            [
                {"name": "a.example", "aliases": ["a"]},
                {
                    "name": "b.example",
                    "allow_private": True,
                    "redirects_from": ["a", "d.example", "c.example"],
                },
            ],
            "registries: b.example: redirects_from: this proxy serves no registry named "
            "c.example, d.example",
            id="redirects from nobody",
        ),
        pytest.param(
            [{"name": "a.example"}, {"name": "b.example", "redirects_from": ["a.example"]}],
            "registries: b.example: redirects_from: it applies only to a registry with a "
            "private address; "
            "set allow_private = true in its table, or remove it",
            id="redirects to what is public",
        ),
    ],
)
def test_tables_that_make_no_sense_together(
    config: Path, rows: list[dict[str, object]], told: str
) -> None:
    """It is told by the file, and what to do."""
    write_config(config, rows)
    assert f"\n  {config}: {told}\n" in refused()


def test_redirects_from(config: Path) -> None:
    """A registry is named by any of its names; the switch for all makes it needless, not wrong."""
    rows: list[dict[str, object]] = [
        {"name": "a.example", "aliases": ["a"]},
        {"name": "b.example", "redirects_from": ["a"]},
    ]
    write_config(config, rows, allow_private_upstreams=True)
    assert load().build_registries().rows[1].redirects_from == {"a"}


def test_a_default_without_a_table(config: Path) -> None:
    """It is the file's as well, and told so."""
    config.write_text('default = "ghcr.io"')
    assert f"\n  {config}: default: it names a registry of the table" in refused()


def test_a_default_registry_twice_in_every_way(
    config: Path, environment: pytest.MonkeyPatch
) -> None:
    """What stands in the environment beside a table is told by its variables, at once."""
    write_config(config, [{"name": "a.example"}])
    environment.setenv("DOCXY_REGISTRY_URL", "https://a.example")
    environment.setenv("DOCXY_TOKEN_SERVICE", "s")
    message = refused()
    assert message.startswith("Docxy cannot start: one setting is wrong.\n")
    assert (
        "\n  DOCXY_REGISTRY_URL, DOCXY_TOKEN_SERVICE: the default registry is defined in "
        in message
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param('registries = "ghcr.io"', "registries: write a list, like ", id="text"),
        pytest.param(
            'registries = ["ghcr.io"]', "registries 1: write a table [[registries]]", id="a list"
        ),
        pytest.param("registries = []", "registries: it is empty; add a table ", id="empty"),
        pytest.param('[registries]\nname = "ghcr.io"', "registries: write a list, like ", id="one"),
        pytest.param("[[registries]]", "registries 1: name: field required", id="nothing in it"),
        pytest.param('default = "https://x"', "default: write the registry's host ", id="default"),
        pytest.param('well_known = "x"', "well_known: x is not among docker.io", id="well-known"),
        pytest.param(
            '[[registeries]]\nname = "ghcr.io"',
            "registeries: there is no such setting; did you mean registries?",
            id="another name",
        ),
        pytest.param(
            '[[registry]]\nname = "ghcr.io"',
            "registry: there is no such setting; did you mean [[registries]]?",
            id="one of them",
        ),
    ],
)
def test_no_tables(config: Path, content: str, told: str) -> None:
    """Whatever else the file says, it is told where."""
    config.write_text(content)
    assert f"\n  {config}: {told}" in refused()


def test_every_fault_of_tables_is_in_one_message(
    config: Path, environment: pytest.MonkeyPatch
) -> None:
    """One start tells what is wrong in the tables, above them, and in the environment."""
    write_config(
        config,
        [{"name": "a/b", "url": "x"}, {"urll": "https://b.example"}],
        default="a b",
        read_timeout="soon",
        log_levels="info",
    )
    environment.setenv("DOCXY_PUBLIC_URL", "p.example")
    environment.setenv("DOCXY_REGISTRYURL", "https://r.example")
    message = refused()
    assert message.startswith("Docxy cannot start: 9 settings are wrong.\n")
    for told in (
        "DOCXY_PUBLIC_URL: ",
        "DOCXY_REGISTRYURL: there is no such setting",
        f"{config}: registries 1: name: ",
        f"{config}: registries 1: url: ",
        f"{config}: registries 2: name: field required",
        f"{config}: registries 2: urll: there is no such key; did you mean url?",
        f"{config}: default: ",
        f"{config}: read_timeout: ",
        f"{config}: log_levels: there is no such setting",
    ):
        assert f"\n  {told}" in message


@pytest.mark.parametrize("variable", ["DOCXY_REGISTRIES", "DOCXY_DEFAULT", "docxy_registries"])
@pytest.mark.parametrize("value", ["[]", '[{"name":"ghcr.io"}]', "ghcr.io"])
def test_tables_stand_in_the_file_only(
    environment: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """A variable of that name is none, and the message says where it would be right."""
    environment.setenv(variable, value)
    key = variable.lower().removeprefix("docxy_")
    told = f"set it in the file of DOCXY_CONFIG instead, as {key}"
    assert f"\n  {variable}: {told}\n" in refused()


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        pytest.param(
            {"DOCXY_REGISTRY_NAME": "library"}, "DOCXY_REGISTRY_NAME: ", id="hides official images"
        ),
        pytest.param({"DOCXY_REGISTRY_NAME": ".."}, "DOCXY_REGISTRY_NAME: write the ", id="dots"),
        pytest.param(
            {"DOCXY_REGISTRY_NAME": "a..b"}, "DOCXY_REGISTRY_NAME: write the ", id="inside"
        ),
        pytest.param({"DOCXY_REGISTRY_NAME": "-a.b"}, "DOCXY_REGISTRY_NAME: write the ", id="dash"),
        pytest.param(
            {"DOCXY_USERNAME": "a:b"},
            "DOCXY_USERNAME: a user name must not contain a colon",
            id="username",
        ),
        pytest.param(
            {"DOCXY_USERNAME": "a"}, "username, password: set both or neither ", id="half"
        ),
    ],
)
def test_what_no_registry_takes(
    environment: pytest.MonkeyPatch, variables: dict[str, str], told: str
) -> None:
    """It is told at the start, and not by each pull that fails."""
    for name, value in variables.items():
        environment.setenv(name, value)
    assert f"\n  {told}" in refused()


def test_the_public_url_is_the_defaults(config: Path, environment: pytest.MonkeyPatch) -> None:
    """At a host of another registry, everything would be for that one."""
    rows: list[dict[str, object]] = [
        {"name": "docker.io", "hosts": ["hub.p.example"]},
        {"name": "ghcr.io", "hosts": ["ghcr.p.example"]},
    ]
    write_config(config, rows)
    for host in ("p.example", "hub.p.example"):
        environment.setenv("DOCXY_PUBLIC_URL", f"https://{host}")
        assert load().public_url == f"https://{host}"
    environment.setenv("DOCXY_PUBLIC_URL", "https://GHCR.p.example:8443")
    assert "\n  DOCXY_PUBLIC_URL: ghcr.p.example is among the hosts of ghcr.io, " in refused()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        pytest.param("DOCXY_REGISTRY_URL", "https://r.example", id="URL"),
        pytest.param("DOCXY_REGISTRY_URL", HUB.url, id="URL as it would be anyway"),
        pytest.param("DOCXY_REGISTRY_NAME", "r.example", id="name"),
        pytest.param("DOCXY_TOKEN_URL", "https://a.example", id="token service"),
        pytest.param("DOCXY_TOKEN_SERVICE", "s", id="service"),
    ],
)
def test_a_default_registry_twice(
    config: Path, environment: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """The variables of the default registry and a table stop the start."""
    write_config(config, [{"name": "r.example"}])
    environment.setenv(variable, value)
    assert f"\n  {variable}: the default registry is defined in the file's table" in refused()
    environment.setenv(variable, "")
    assert load().build_registries().default.name == "r.example"


def test_a_password_beside_the_file(config: Path, environment: pytest.MonkeyPatch) -> None:
    """No password need stand in a file: the variables are the default registry's."""
    write_config(config, [{"name": "a.example"}, {"name": "b.example"}], default="b.example")
    environment.setenv("DOCXY_CREDENTIALS", "managed")
    environment.setenv("DOCXY_USERNAME", "me")
    environment.setenv("DOCXY_PASSWORD", "s3cr3t")
    table = load().build_registries()
    assert table.default.account == Account("me", "s3cr3t")
    assert [row.managed for row in table.rows] == [False, True]


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"DOCXY_USERNAME": "me", "DOCXY_PASSWORD": "s3cr3t"}, id="no mode"),
        pytest.param({"DOCXY_CREDENTIALS": "managed", "DOCXY_PASSWORD": "s3cr3t"}, id="half"),
        pytest.param({"DOCXY_CREDENTIALS": "s3cr3t"}, id="another mode"),
        pytest.param({"DOCXY_WELL_KNOWN": "docker.hub"}, id="no such registry"),
    ],
)
def test_variables_that_make_no_sense(
    environment: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """They stop the start, and the message tells no password."""
    for name, value in variables.items():
        environment.setenv(name, value)
    message = refused()
    assert message.startswith("Docxy cannot start: one setting is wrong.\n")
    assert "s3cr3t" not in message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("all", tuple(WELL_KNOWN), id="all"),
        pytest.param("none", (), id="none"),
        pytest.param("quay.io, ghcr.io", ("quay.io", "ghcr.io"), id="between commas"),
        pytest.param("", None, id="empty is unset"),
    ],
)
def test_well_known(
    environment: pytest.MonkeyPatch, value: str, expected: tuple[str, ...] | None
) -> None:
    """A variable has no lists, so names stand between commas."""
    environment.setenv("DOCXY_WELL_KNOWN", value)
    assert load().well_known == expected


def test_no_password_shows(config: Path, environment: pytest.MonkeyPatch) -> None:
    """Neither str nor repr tells a password, of the environment or of a table."""
    login = {"credentials": "managed", "username": "me", "password": "0th3r"}
    write_config(config, [{"name": "a.example"}, {"name": "b.example", **login}])
    environment.setenv("DOCXY_CREDENTIALS", "managed")
    environment.setenv("DOCXY_USERNAME", "me")
    environment.setenv("DOCXY_PASSWORD", "s3cr3t")
    settings = load()
    shown = f"{settings} {settings!r} {settings.model_dump()} {settings.build_registries().rows}"
    assert "s3cr3t" not in shown
    assert "0th3r" not in shown


@pytest.fixture
def named(config: Path, environment: pytest.MonkeyPatch) -> Path:
    """Return a folder with a file for each setting that names one."""
    folder = config.parent
    (folder / "password").write_text("s3cr3t\r\n")
    authority = trustme.CA().cert_pem.bytes()
    # Bundles of distributions have comments in UTF-8 or Latin-1 between the certificates.
    (folder / "ca.pem").write_bytes(b"# Autorit\xe9\n" + authority)
    (folder / "users").write_text(f"alice:$2y$04${'a' * 21}.{'b' * 31}\n")
    write_config(
        config,
        [
            {
                "name": "r.example",
                "credentials": "managed",
                "username": "own",
                "password_file": str(folder / "password"),
                "ca_bundle": str(folder / "ca.pem"),
            }
        ],
        htpasswd_file=str(folder / "users"),
        token_key="k" * 32,
        cache_dir=str(folder / "cache"),
    )
    environment.setenv("DOCXY_CA_BUNDLE", str(folder / "ca.pem"))
    return folder


@pytest.mark.parametrize("content", [b"\xff", None], ids=["broken", "gone"])
def test_what_was_read_once_is_enough(named: Path, content: bytes | None) -> None:
    """Another process has the same settings from it, whatever is on the disk by then."""
    files = SettingFiles()
    settings = load(files)
    for path in [*named.iterdir()]:
        path.unlink()
        if content is not None:
            path.write_bytes(content)
    (named / "cache").touch()  # that it can be written was seen, and a full disk stops no worker
    assert load(SettingFiles.from_dump(files.dump())) == settings
    assert settings.build_registries().default.account == Account("own", "s3cr3t")
    assert "BEGIN CERTIFICATE" in (settings.ca_bundle or "")
    with pytest.raises(SettingsError):
        load()


def test_files_of_one_load_are_not_those_of_the_next(named: Path) -> None:
    """Each reads the disk anew, also after one that was refused."""
    (named / "password").write_text("")
    with pytest.raises(SettingsError, match="password_file: the file is empty"):
        load()
    (named / "password").write_text("other")
    assert load().build_registries().default.account == Account("own", "other")


def test_a_file_that_older_code_did_not_read(named: Path) -> None:
    """It is read then: a new release may have a setting that the old one had not."""
    files = SettingFiles()
    load(files)
    known = SettingFiles.from_dump(files.dump())
    (named / "new").write_bytes(b"content")
    assert known.read(named / "new") == b"content"
