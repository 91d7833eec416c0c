"""The files of deploy/ and what a platform reads of the root: they parse, and they agree."""

import http.server
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from gunicorn.config import Config

from app.config.load import load
from app.config.settings import Settings
from app.factory import MAX_TOKEN_REQUEST, create_app
from server.request import get_head_timeout
from tests import programs, proxies
from tests.servers import ROOT, clean_environment, free_port

DEPLOY = ROOT / "deploy"
COMPOSE_FILES = ["compose.yaml", "compose.caddy.yaml"]
HTTP2_WARNING = 'the "listen ... http2" directive is deprecated'
"""What nginx from 1.25.1 on says of the only way that older ones know."""


@pytest.fixture(scope="module")
def gunicorn() -> dict[str, Any]:
    """Return the settings in gunicorn.conf.py."""
    return runpy.run_path(str(ROOT / "gunicorn.conf.py"))


def seconds(text: str) -> int:
    """Read a length of time as nginx, Caddy, compose and systemd write it: 60s, 4h1m, 4h 1min."""
    units = {"h": 3600, "min": 60, "m": 60, "s": 1}
    parts = re.findall(r"(\d+)\s*(h|min|m|s)", text)
    assert re.fullmatch(r"(\d+\s*(h|min|m|s)\s*)+", text), text
    return sum(int(number) * units[unit] for number, unit in parts)


def uncommented(path: Path) -> str:
    """Return a file without its comments."""
    return re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)


# nginx


def directive(name: str) -> str:
    """Return the value of a directive that stands once in nginx.conf."""
    values = directives(name, uncommented(proxies.NGINX_CONF))
    assert len(values) == 1, f"{name}: {values}"
    return values[0]


def directives(name: str, text: str) -> list[str]:
    """Return the values of a directive in a part of nginx.conf."""
    return re.findall(rf"^\s*{name}\s+([^;]+);", text, re.MULTILINE)


def locations() -> dict[str, str]:
    """Return what stands in each location of nginx.conf."""
    text = uncommented(proxies.NGINX_CONF)
    return dict(re.findall(r"^ {8}location (.+) \{\n((?:.*\n)*?) {8}\}$", text, re.MULTILINE))


def test_nginx_accepts_its_file(tmp_path: Path) -> None:
    """`nginx -t` passes, of 1.22 and of 1.26, with no warning but the one about HTTP/2."""
    done = nginx_tests(rendered(tmp_path), tmp_path)
    assert done.returncode == 0, done.stderr
    warnings = re.findall(r".*\[(?:warn|error|alert|crit|emerg)\].*", done.stderr)
    assert all(HTTP2_WARNING in line for line in warnings), warnings


def test_nginx_accepts_the_other_way_to_http2(tmp_path: Path) -> None:
    """What the comment in the file says to do about the warning gets rid of it."""
    programs.require("nginx")
    if version_of(programs.path("nginx") or "nginx", "-v") < (1, 25, 1):
        pytest.skip("nginx has `http2 on` since 1.25.1")
    edited = re.sub(r"(.* ssl) http2;\n(.* ssl) http2;", r"\1;\n\2;\nhttp2 on;", rendered(tmp_path))
    assert "http2 on;" in edited
    done = nginx_tests(edited, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def rendered(folder: Path) -> str:
    """Return nginx.conf as the tests run it."""
    return proxies.nginx_conf("127.0.0.1:1", folder, http=free_port(), https=free_port())


def nginx_tests(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `nginx -t`."""
    programs.require("nginx")
    (folder / "temporary").mkdir()
    proxies.write_certificate(folder)
    configuration = folder / "nginx.conf"
    configuration.write_text(text)
    command = proxies.nginx_command(configuration, "-t")
    return subprocess.run(command, capture_output=True, text=True, check=False)


def version_of(*command: str) -> tuple[int, ...]:
    """Return the version that a program tells, such as (1, 26, 3)."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"\d+(?:\.\d+)+", done.stdout + done.stderr)
    assert found
    return tuple(map(int, found[0].split(".")))


def test_nginx_waits_longer_than_docxy(gunicorn: dict[str, Any]) -> None:
    """Docxy gives up first, and can say why; nginx is only the last resort."""
    settings = Settings.model_fields
    for name in ("proxy_read_timeout", "proxy_send_timeout", "send_timeout"):
        assert seconds(directive(name)) >= 10 * settings["read_timeout"].default
        assert seconds(directive(name)) >= 10 * settings["write_timeout"].default
    assert seconds(directive("keepalive_timeout")) < gunicorn["keepalive"]
    assert seconds(directive("worker_shutdown_timeout")) >= gunicorn["graceful_timeout"]


def test_nginx_takes_headers_as_long_as_docxy(gunicorn: dict[str, Any]) -> None:
    """One buffer holds the longest header that gunicorn takes."""
    size = directive("large_client_header_buffers").split()[1]
    assert int(size.removesuffix("k")) * 1024 >= gunicorn["limit_request_field_size"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("proxy_buffering", "off"),
        ("proxy_max_temp_file_size", "0"),
        ("gzip", "off"),
        ("server_tokens", "off"),
        ("proxy_http_version", "1.1"),
        ("proxy_intercept_errors", "off"),
        ("ssl_protocols", "TLSv1.2 TLSv1.3"),
    ],
)
def test_nginx_passes_bytes_on(name: str, value: str) -> None:
    """Nothing is buffered, compressed, limited or replaced."""
    assert directive(name) == value


def test_nginx_waits_for_forms_alone() -> None:
    """Nobody else's body is held back or limited: a push is refused at its first byte."""
    (forms,) = [name for name, text in locations().items() if "proxy_request_buffering" in text]
    rules = list(create_app(load()).url_map.iter_rules())
    read = {str(rule) for rule in rules if rule.methods and "POST" in rule.methods}
    # The rest of the registries' API, whose pushes are refused without their body.
    read.remove("/v2/<rest:rest>")
    pattern = forms.removeprefix("~ ")
    assert pattern != forms
    assert {path for path in map(str, rules) if re.search(pattern, path)} == read
    assert not re.search(pattern, "/v2/a/blobs/uploads/")
    inside, text = locations()[forms], uncommented(proxies.NGINX_CONF)
    outside = text.replace(inside, "")
    for name, there, elsewhere in (
        ("proxy_request_buffering", "on", "off"),
        ("client_max_body_size", "1m", "0"),
        ("client_body_buffer_size", "1040k", None),
    ):
        assert directives(name, inside) == [there]
        assert directives(name, outside) == ([elsewhere] if elsewhere else [])
    assert MAX_TOKEN_REQUEST == 1 << 20


def test_nginx_shares_out_connections() -> None:
    """All that is passed on counts, but for what tells that Docxy is there."""
    default: int = Settings.model_fields["client_connections"].default
    passing = {name: text for name, text in locations().items() if "proxy_pass" in text}
    shares = {name: directives("limit_conn", text) for name, text in passing.items()}
    # What is asked once more has been counted.
    assert [name for name, share in shares.items() if not share] == ["= /health", "@docxy"]
    assert {tuple(share) for share in shares.values() if share} == {(f"clients {default}",)}


def test_nginx_buffer_is_large_enough() -> None:
    """The default of 4 KB halves the speed of large layers (measured; docs/deployment.md)."""
    assert int(directive("proxy_buffer_size").removesuffix("k")) >= 64


def test_nginx_logs_no_query() -> None:
    """The query of a token request holds account names."""
    log_format = directive("log_format")
    assert "$asked" in log_format
    assert '"~^(?<path>[^?]*)" $path;' in uncommented(proxies.NGINX_CONF)
    assert not re.search(r"\$(request|request_uri|args|query_string|is_args)\b", log_format)


# Caddy


@pytest.fixture(scope="module")
def adapted() -> dict[str, Any]:
    """Return the Caddyfile as Caddy understands it."""
    programs.require("caddy")
    done = caddy("adapt", CADDY_DOMAIN="proxy.example.com")
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr, done.stderr
    return dict(json.loads(done.stdout))


def caddy(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of Caddy's on the shipped file."""
    return subprocess.run(
        [programs.path("caddy") or "caddy", command, "--config", str(proxies.CADDYFILE)],
        env=clean_environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )


def test_caddy_accepts_its_file(tmp_path: Path) -> None:
    """`caddy validate` passes, as shipped and with the tests' options."""
    programs.require("caddy")
    homes = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    assert caddy("validate", CADDY_DOMAIN="proxy.example.com", **homes).returncode == 0
    env = proxies.caddy_environment("127.0.0.1:1", tmp_path, http=free_port(), https=free_port())
    done = caddy("validate", **env)
    assert done.returncode == 0, done.stderr


def test_caddy_fetches_certificates(adapted: dict[str, Any]) -> None:
    """One site on port 443, for the given name, with Caddy's own management of certificates."""
    (server,) = adapted["apps"]["http"]["servers"].values()
    assert server["listen"] == [":443"]
    assert server["routes"][0]["match"] == [{"host": ["proxy.example.com"]}]
    assert "automatic_https" not in server
    assert "tls" not in adapted["apps"]


def test_caddy_passes_bytes_on(adapted: dict[str, Any], gunicorn: dict[str, Any]) -> None:
    """Nothing is compressed or held back; a client that leaves ends the download."""
    proxy = reverse_proxy(adapted)
    assert proxy["upstreams"] == [{"dial": "127.0.0.1:8000"}]
    # Negative would go on fetching for a client that has left.
    assert 0 < proxy["flush_interval"] <= 1e9
    transport = proxy["transport"]
    assert transport["compression"] is False
    assert "read_timeout" not in transport
    assert "response_header_timeout" not in transport
    assert transport["keep_alive"]["idle_timeout"] < gunicorn["keepalive"] * 1e9
    assert adapted["apps"]["http"]["grace_period"] >= gunicorn["graceful_timeout"] * 1e9
    assert '"encode"' not in json.dumps(adapted)


def test_fronts_wait_for_a_head_as_long_as_docxy(
    adapted: dict[str, Any], gunicorn: dict[str, Any]
) -> None:
    """No longer: whatever waits there takes a connection, too."""
    cfg = Config()
    cfg.set("keepalive", gunicorn["keepalive"])
    (server,) = adapted["apps"]["http"]["servers"].values()
    assert server["read_header_timeout"] == get_head_timeout(cfg) * 1e9
    assert seconds(directive("client_header_timeout")) == get_head_timeout(cfg)


def test_caddy_removes_what_gunicorn_would_believe(adapted: dict[str, Any]) -> None:
    """Of the headers that a front may set, a client's own never arrive."""
    removed = reverse_proxy(adapted)["headers"]["request"]["delete"]
    names = {"X-Forwarded-Protocol", "X-Forwarded-Ssl", "Forwarded", "Script_name", "Path_info"}
    assert names <= set(removed)


def reverse_proxy(adapted: dict[str, Any]) -> dict[str, Any]:
    """Return the handler that passes requests on."""
    (server,) = adapted["apps"]["http"]["servers"].values()
    (site,) = server["routes"]
    return dict(site["handle"][0]["routes"][0]["handle"][0])


def test_caddys_variables_are_not_docxys() -> None:
    """Docxy does not start with an unknown DOCXY_ name, and the two may share an environment."""
    text = proxies.CADDYFILE.read_text() + (DEPLOY / "compose.caddy.yaml").read_text()
    assert not re.findall(r"[${]DOCXY_", text)


# Containers


def services(name: str) -> dict[str, dict[str, Any]]:
    """Return the services of a compose file, with what they extend."""
    found: dict[str, dict[str, Any]] = {}
    for key, own in yaml.safe_load((DEPLOY / name).read_text())["services"].items():
        origin = own.get("extends")
        inherited = services(origin["file"])[origin["service"]] if origin else {}
        found[key] = inherited | own
    return found


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_compose_lets_downloads_finish(name: str, gunicorn: dict[str, Any]) -> None:
    """Stopping waits longer than the slowest download may take; nginx gets its own signal."""
    for service in services(name).values():
        assert seconds(service["stop_grace_period"]) > gunicorn["graceful_timeout"]
    if "nginx" in services(name):
        assert services(name)["nginx"]["stop_signal"] == "SIGQUIT"


@pytest.mark.parametrize("name", ["Dockerfile", "docs/deployment.md"])
def test_commands_let_downloads_finish(name: str, gunicorn: dict[str, Any]) -> None:
    """What users are told to type or to set in Kubernetes is as long as it has to be."""
    text = (ROOT / name).read_text()
    found = re.findall(r"(?:--stop-timeout|terminationGracePeriodSeconds:) (\d+)", text)
    assert found
    assert all(int(patience) > gunicorn["graceful_timeout"] for patience in found)


def test_documents_name_the_patience_of_the_files(gunicorn: dict[str, Any]) -> None:
    """The table of who stops Docxy says what the files say, and what gunicorn has."""
    text = (ROOT / "docs/deployment.md").read_text()
    (patience,) = unit()["TimeoutStopSec"]
    assert f"| `TimeoutStopSec={patience}` in `docxy.service` |" in text
    grace = services("compose.yaml")["docxy"]["stop_grace_period"]
    assert f"| `stop_grace_period: {grace}` |" in text
    hours = gunicorn["graceful_timeout"] // 3600
    assert f"`graceful_timeout` is {hours} h" in text
    assert f"`graceful_timeout` ({hours} h)" in (ROOT / "docs/operations.md").read_text()


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_compose_is_hardened(name: str) -> None:
    """No service can write its image, gain rights, or keep those that it was not given."""
    for service in services(name).values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["restart"] == "unless-stopped"
        assert service["ulimits"]["nofile"] >= 65536
        assert "privileged" not in service
    docxy = services(name)["docxy"]
    assert "cap_add" not in docxy
    assert docxy["user"].split(":")[0] not in {"0", "root"}
    assert docxy["healthcheck"]["test"] == ["CMD", "python", "/app/deploy/healthcheck.py"]


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_compose_trusts_only_its_front(name: str) -> None:
    """Everybody is believed, so nobody but the front may reach Docxy: it publishes no port."""
    found = services(name)
    assert found["docxy"]["environment"]["FORWARDED_ALLOW_IPS"] == "*"
    assert "ports" not in found["docxy"]
    assert "network_mode" not in found["docxy"]
    front = next(service for key, service in found.items() if key != "docxy")
    assert front["ports"] == ["80:80", "443:443"]


def test_compose_mounts_what_nginx_reads() -> None:
    """The certificate, the challenges and the file itself are there, and only to be read."""
    mounts = [volume.split(":") for volume in services("compose.yaml")["nginx"]["volumes"]]
    assert all(mode == "ro" for _, _, mode in mounts)
    targets = [target for _, target, _ in mounts]
    for path in (directive("ssl_certificate"), directive("ssl_certificate_key"), directive("root")):
        assert any(path.startswith(target) for target in targets)


def test_compose_finds_docxy_for_nginx() -> None:
    """The one address that nginx.conf names is the one that compose.yaml replaces."""
    script = services("compose.yaml")["nginx"]["command"][2]
    expression = shlex.split(script)[1]
    done = subprocess.run(
        ["sed", expression, proxies.NGINX_CONF], capture_output=True, text=True, check=True
    )
    changed = set(done.stdout.splitlines()) - set(proxies.NGINX_CONF.read_text().splitlines())
    assert "        server docxy:8000;" in changed
    assert not any("127.0.0.1" in line for line in uncommented_lines(done.stdout))


def uncommented_lines(text: str) -> list[str]:
    """Return the lines that are no comments."""
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_docker_compose_accepts_the_file(name: str) -> None:
    """`docker compose config` passes, where the plugin is installed."""
    if not shutil.which("docker-compose"):
        pytest.skip("docker-compose is not installed; only this check needs it")
    if version_of("docker-compose", "version", "--short") < (2, 24):
        pytest.skip("docker-compose knows env_file with `required` since 2.24")
    done = subprocess.run(
        ["docker-compose", "--file", str(DEPLOY / name), "config", "--quiet"],
        env=clean_environment(CADDY_DOMAIN="proxy.example.com"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions and their arguments."""
    text = uncommented(ROOT / "Dockerfile").replace("\\\n", " ")
    return [
        (name, value.strip())
        for name, _, value in (line.partition(" ") for line in text.splitlines() if line.strip())
    ]


def only(instruction: str) -> str:
    """Return the argument of an instruction that stands once."""
    (value,) = [value for name, value in instructions() if name == instruction]
    return value


def test_image_runs_gunicorn_itself() -> None:
    """Exec form, so that the signal reaches gunicorn; no arguments, its file says all."""
    assert json.loads(only("CMD")) == ["python", "serve.py"]
    assert only("STOPSIGNAL") == "SIGTERM"
    assert not [value for name, value in instructions() if name == "ENTRYPOINT"]


def test_image_runs_as_nobody() -> None:
    """A numeric user other than root, set after everything was installed."""
    user = only("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    names = [name for name, _ in instructions()]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name in {"RUN", "COPY"})
    assert services("compose.yaml")["docxy"]["user"] == user


def test_image_listens_on_all_addresses() -> None:
    """Without PORT gunicorn listens on loopback, where no published port leads."""
    assert "PORT=8000" in only("ENV").split()
    assert only("EXPOSE") == "8000"


def test_image_keeps_no_caches() -> None:
    """Neither pip's cache, nor a compiler, nor .pyc files written at run time."""
    install = next(value for name, value in instructions() if name == "RUN" and "pip" in value)
    assert "--no-cache-dir" in install
    assert "--only-binary :all:" in install
    assert "PYTHONDONTWRITEBYTECODE=1" in only("ENV").split()


def test_image_has_what_gunicorn_imports(gunicorn: dict[str, Any]) -> None:
    """.dockerignore lets through the application, its server's parts and nothing secret."""
    patterns = uncommented(ROOT / ".dockerignore").split()
    assert patterns[0] == "*"
    allowed = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    programs = {"*.py", "app", "server", "deploy/healthcheck.py"}
    assert allowed == {*programs, "requirements.txt", "LICENSE"}
    worker = gunicorn["worker_class"].rpartition(".")[0].replace(".", "/")
    for name in (gunicorn["wsgi_app"].split(":")[0], worker):
        assert (ROOT / f"{name}.py").exists()


def test_python_is_the_same_everywhere() -> None:
    """The image and the platforms run one version, and pyproject.toml allows it."""
    version = (ROOT / ".python-version").read_text().strip()
    assert only("FROM") == f"python:{version}-slim"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=")
    assert tuple(map(int, version.split("."))) >= tuple(map(int, oldest.split(".")))


class Health(http.server.BaseHTTPRequestHandler):
    """Answers as a Docxy that is well."""

    def do_GET(self) -> None:
        """Know one page."""
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Illness(Health):
    """Answers as a Docxy that is not."""

    def do_GET(self) -> None:
        """Know no page."""
        self.send_response(500)
        self.end_headers()


def checked(port: int) -> subprocess.CompletedProcess[str]:
    """Run the image's health check, in an environment with an outbound proxy."""
    return subprocess.run(
        [sys.executable, DEPLOY / "healthcheck.py"],
        env=clean_environment(PORT=str(port), HTTP_PROXY="http://127.0.0.1:9"),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("handler", "status"), [(Health, 0), (Illness, 1)], ids=["well", "ill"])
def test_healthcheck(handler: type[Health], status: int) -> None:
    """It ends as /health answers, and does not ask through the proxy that leads to the registry."""
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        done = checked(server.server_port)
        thread.join()
    assert done.returncode == status, done.stderr


def test_healthcheck_without_a_server() -> None:
    """It ends with 1 and one line."""
    done = checked(free_port())
    assert done.returncode == 1
    assert done.stderr.startswith("Docxy does not answer on port")
    assert done.stderr.count("\n") == 1


# systemd


def unit() -> dict[str, list[str]]:
    """Return the directives of the unit."""
    found: dict[str, list[str]] = {}
    for line in uncommented(DEPLOY / "docxy.service").splitlines():
        name, equals, value = line.partition("=")
        if equals:
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def folder_on_disk() -> Iterator[Path]:
    """Return a folder outside /dev, where systemd lets no service work."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


def test_systemd_accepts_the_unit(folder_on_disk: Path) -> None:
    """`systemd-analyze verify` has nothing to say."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed; only this check needs it")
    programs_folder = folder_on_disk / ".venv" / "bin"
    programs_folder.mkdir(parents=True)
    for name in ("gunicorn", "python"):
        (programs_folder / name).symlink_to("/bin/true")
    text = (DEPLOY / "docxy.service").read_text().replace("/opt/docxy", str(folder_on_disk))
    (folder_on_disk / "docxy.service").write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(folder_on_disk / "docxy.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Other units of the machine may be complained about.
    assert "docxy.service" not in done.stderr


def test_systemd_lets_downloads_finish(gunicorn: dict[str, Any]) -> None:
    """SIGTERM to gunicorn alone, and patience longer than the slowest download."""
    found = unit()
    assert found["KillMode"] == ["mixed"]
    assert seconds(found["TimeoutStopSec"][0]) > gunicorn["graceful_timeout"]
    for unwanted in ("KillSignal", "SendSIGHUP", "FinalKillSignal", "RuntimeMaxSec", "ExecStop"):
        assert unwanted not in found
    interpreter, script, *_ = found["ExecStart"][0].split()
    assert found["ExecReload"][0] == f"{interpreter} {script} --check-config"
    assert found["ExecReload"][-1].endswith("kill -s HUP $MAINPID")
    assert "graceful" not in "".join(found["ExecStart"] + found["Environment"])
    assert found["Restart"] == ["on-failure"]
    # gunicorn.conf.py ends a start with wrong settings so.
    assert found["RestartPreventExitStatus"] == ["1 2"]
    assert int(found["LimitNOFILE"][0]) >= 3 * gunicorn["worker_connections"] + 128


def test_systemd_unit_is_hardened() -> None:
    """No rights, no writing, no home, no users but its own."""
    expected = {
        "DynamicUser": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
        "MemoryDenyWriteExecute": "yes",
        "EnvironmentFile": "-/etc/docxy/docxy.env",
    }
    found = unit()
    assert {name: found[name] for name in expected} == {
        name: [value] for name, value in expected.items()
    }
    assert found["SystemCallFilter"][0] == "@system-service"
    assert found["ExecStart"][0].endswith("--bind 127.0.0.1:8000")


# The cache


CACHE = "/var/cache/docxy"


def test_a_place_for_the_cache() -> None:
    """It is the same everywhere, closed to others, and only a setting makes use of it."""
    assert unit()["CacheDirectory"] == [Path(CACHE).name]
    assert unit()["CacheDirectoryMode"] == ["0750"]
    installs = [value.split() for name, value in instructions() if name == "RUN"]
    (install,) = [words for words in installs if words[0] == "install"]
    owner, group = only("USER").split(":")
    assert install == [
        *("install", "--directory", "--owner", owner, "--group", group, "--mode", "0750", CACHE)
    ]
    assert "DOCXY_CACHE_DIR" not in only("ENV") + "".join(unit()["Environment"])


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_compose_keeps_the_cache(name: str) -> None:
    """In a volume that outlives the container, as its root file system is read-only."""
    docxy = services(name)["docxy"]
    assert docxy["volumes"] == [f"cache:{CACHE}"]
    assert "cache" in yaml.safe_load((DEPLOY / name).read_text())["volumes"]
    assert "DOCXY_CACHE_DIR" not in docxy["environment"]


def test_documents_name_the_place_of_the_cache() -> None:
    """What users are told to set is what the files have made."""
    for path in ("docs/cache.md", "docs/deployment.md", "Dockerfile"):
        assert f"DOCXY_CACHE_DIR={CACHE}" in (ROOT / path).read_text(), path


# Platforms


def test_procfile() -> None:
    """The web process is gunicorn, which reads PORT and WEB_CONCURRENCY by itself."""
    assert yaml.safe_load((ROOT / "Procfile").read_text()) == {"web": "python serve.py"}


def test_app_json() -> None:
    """The router's X-Forwarded-Proto is believed, and no setting is named that does not exist."""
    app = json.loads((ROOT / "app.json").read_text())
    assert app["env"]["FORWARDED_ALLOW_IPS"]["value"] == "*"
    known = {Settings.variable(field) for field in Settings.model_fields}
    assert set(app["env"]) <= known
    assert list(app["formation"]) == ["web"]
    assert app["healthchecks"]["web"][0]["path"] == "/health"


def test_platforms_find_the_requirements() -> None:
    """Buildpacks install this file, which pins every version."""
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line]
    assert all(re.fullmatch(r"[\w.-]+(\[\w+\])?==[\w.]+", line) for line in lines)


@pytest.mark.parametrize("path", ["LICENSE", ".dockerignore", "deploy/docxy.service"])
def test_files_are_there(path: str) -> None:
    """What the documents name exists and ends with a line end."""
    assert (ROOT / path).read_text().endswith("\n")
