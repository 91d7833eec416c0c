import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.servers import ROOT, clean_environment, docxy, free_port, running, wait_until
from tests.wire.client import Client
from tests.wire.wires import MANIFEST


def start(
    *arguments: str, program: Sequence[str] = ("-m", "gunicorn"), **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run gunicorn until it ends, on a port of its own where neither says anything else."""
    if not arguments and "PORT" not in settings:
        arguments = ("--bind", "127.0.0.1:0")
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=ROOT,
        env=clean_environment(**settings),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_wrong_settings_stop_the_start_with_one_message() -> None:
    """It names every fault, ends with status 1, and nothing is tried again."""
    ended = start(
        DOCXY_REGISTRY_URL="ftp://registry.example",
        DOCXY_REGISTRI_NAME="docker.io",
        DOCXY_READ_TIMEOUT="soon",
        DOCXY_WRITE_TIMEOUT="-1",
        DOCXY_CA_BUNDLE="/nonexistent/ca.pem",
        DOCXY_LOG_FORMAT="xml",
        DOCXY_PUBLIC_URL="https://user:secret-of-the-url@proxy.example",
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == 1
    assert said.count("Docxy cannot start: 7 settings are wrong.") == 1
    for name in (
        "DOCXY_REGISTRY_URL",
        "DOCXY_REGISTRI_NAME",
        "DOCXY_READ_TIMEOUT",
        "DOCXY_WRITE_TIMEOUT",
        "DOCXY_CA_BUNDLE",
        "DOCXY_LOG_FORMAT",
        "DOCXY_PUBLIC_URL",
    ):
        assert said.count(f"  {name}: ") == 1, name
    assert "did you mean DOCXY_REGISTRY_NAME?" in said
    assert "Traceback" not in said
    assert "Booting worker" not in said
    assert "secret-of-the-url" not in said


def test_a_wrong_file_stops_the_start_too(tmp_path: Path) -> None:
    """Its faults are told together with the environment's."""
    path = tmp_path / "docxy.toml"
    path.write_text('read_timeout = "soon"\nno_such_key = 1\n')
    ended = start(DOCXY_CONFIG=str(path), DOCXY_LOG_LEVEL="loud")
    said = ended.stdout + ended.stderr
    assert ended.returncode == 1
    assert "3 settings are wrong" in said
    assert f"{path}: read_timeout: " in said
    assert f"{path}: no_such_key: " in said
    assert "DOCXY_LOG_LEVEL: " in said
    assert "Traceback" not in said


def test_a_registry_on_this_machine_stops_the_start() -> None:
    """Nothing could ever be pulled from it, so it is told at once, and how to put it right."""
    ended = start(
        DOCXY_REGISTRY_URL="http://2130706433:5000",
        DOCXY_TOKEN_URL="http://token.localhost/token",  # noqa: S106 - the address of a service
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == 1
    assert said.count("Docxy cannot start: one setting is wrong.") == 1
    assert "docker.io at http://2130706433:5000, docker.io at http://token.localhost/token" in said
    assert said.count("set DOCXY_ALLOW_PRIVATE_UPSTREAMS=true") == 1
    assert "Traceback" not in said


SERVE = ("serve.py",)
GUNICORN = ("-m", "gunicorn")
BOTH = pytest.mark.parametrize("program", [SERVE, GUNICORN], ids=["serve.py", "gunicorn"])


def assert_refused(ended: subprocess.CompletedProcess[str], *faults: str) -> None:
    """See that a start ended with status 1, and with one message that has each fault once."""
    assert ended.returncode == 1
    assert_told(ended, *faults)


def assert_told(ended: subprocess.CompletedProcess[str], *faults: str) -> None:
    """See that a start ended with one message that has each fault once."""
    said = ended.stdout + ended.stderr
    assert "Traceback" not in said
    assert "Listening" not in said
    assert said.count("Docxy cannot start") == 1
    lines = said.splitlines()
    for fault in faults:
        assert sum(fault in line for line in lines) == 1, fault


@pytest.mark.parametrize(("program", "kind"), [(SERVE, "no directory"), (GUNICORN, "no key")])
def test_a_cache_that_cannot_be_used(program: Sequence[str], tmp_path: Path, kind: str) -> None:
    """The machine may be at fault, so the status is not that of a wrong setting: try again."""
    cache = tmp_path / "cache"
    if kind == "no directory":
        cache.touch()
    else:
        (cache / "secret").mkdir(parents=True)
    settings = {"DOCXY_CACHE_DIR": str(cache)}
    ended = start(program=program, **settings)
    assert ended.returncode == 3
    assert_told(ended, "the directory cannot be written" if cache.is_file() else "/secret: ")
    assert_refused(start(program=program, DOCXY_READ_TIMEOUT="soon", **settings), "READ_TIMEOUT: ")


def test_the_check_of_a_reload_takes_empty_variables() -> None:
    """The unit's ExecReload looks at the new version as its ExecStart would."""
    checked = start("--check-config", program=SERVE, WEB_CONCURRENCY="", PORT="")
    assert checked.returncode == 0
    assert "Traceback" not in checked.stderr


@pytest.mark.parametrize(
    ("program", "port"),
    [(SERVE, "http"), (GUNICORN, "80000"), (GUNICORN, "\N{ARABIC-INDIC DIGIT THREE}")],
    ids=ascii,
)
def test_a_port_that_is_none(program: Sequence[str], port: str) -> None:
    """Gunicorn ends with a traceback for some; the unit tests of the settings have more of them."""
    assert_refused(start(program=program, PORT=port), "PORT: write a port number")


def test_a_port_of_very_many_digits() -> None:
    """Python itself refuses to read more than 4,300 of them."""
    assert_refused(start(PORT="1" * 5000), "PORT: write a port number")


@pytest.mark.parametrize("number", ["two", "0", "1" * 5000], ids=lambda number: number[:10])
def test_a_number_of_workers_that_is_none(number: str) -> None:
    """Gunicorn reads it before any file of ours, so serve.py looks at it before gunicorn."""
    ended = start(program=SERVE, WEB_CONCURRENCY=number)
    assert_refused(ended, "WEB_CONCURRENCY: write the number of worker processes")


@BOTH
def test_no_workers(program: Sequence[str]) -> None:
    """Gunicorn would listen, and answer nobody."""
    assert_refused(
        start("--workers", "0", "--bind", "127.0.0.1:0", program=program),
        "WEB_CONCURRENCY: write the number of worker processes",
    )


def test_all_that_is_wrong_is_told_at_once() -> None:
    """What gunicorn reads, and what Docxy reads."""
    ended = start(program=SERVE, WEB_CONCURRENCY="two", PORT="http", DOCXY_READ_TIMEOUT="soon")
    assert_refused(ended, "3 settings are wrong", "PORT: ", "WEB_CONCURRENCY: ", "READ_TIMEOUT: ")


def test_arguments_without_the_end_of_a_quotation() -> None:
    """The message names the variable."""
    ended = start(program=SERVE, GUNICORN_CMD_ARGS="--bind '127.0.0.1:0")
    assert_refused(ended, "GUNICORN_CMD_ARGS: no closing quotation")


def test_empty_variables_count_as_unset() -> None:
    """As all other settings do; a compose file leaves them so."""
    command = [sys.executable, "serve.py", "--bind", "127.0.0.1:0"]
    env = clean_environment(PORT="", WEB_CONCURRENCY="", GUNICORN_CMD_ARGS="")
    with running(command, env=env, stop_signal=signal.SIGQUIT) as server:
        wait_until(lambda: server.log.count("is ready") == 2, what="two workers")


@BOTH
def test_a_port_that_is_in_use(program: Sequence[str]) -> None:
    """The message says by whom, and there is no second attempt."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = start("--bind", f"127.0.0.1:{port}", program=program)
    owner = f"(process {os.getpid()})"
    assert_refused(ended, f"127.0.0.1:{port}: this port is in use by")
    assert owner in ended.stderr
    assert "Connection in use" not in ended.stderr


def test_addresses_at_which_nobody_can_listen(tmp_path: Path) -> None:
    """All of them are told, with the settings that are wrong."""
    taken = tmp_path / "file"
    taken.touch()
    addresses = {
        "203.0.113.1:80": "this machine has no such address",
        "127.0.0.1:70000": "there is no port 70000",
        "no-such-host.invalid:80": "this name has no address",
        f"unix:{tmp_path}/none/socket": "there is no directory",
        f"unix:{taken}": "the path exists and is not a socket",
    }
    binds = [part for address in addresses for part in ("--bind", address)]
    ended = start(*binds, DOCXY_READ_TIMEOUT="soon")
    assert_refused(ended, "6 settings are wrong", *(f"{one}: " for one in addresses))
    for address, reason in addresses.items():
        assert f"{address}: {reason}" in ended.stderr


def test_a_descriptor_that_is_no_socket() -> None:
    """Gunicorn ends with a traceback."""
    assert_refused(start("--bind", "fd://99"), "fd://99: not an open socket")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_port_that_takes_a_right() -> None:
    """The message names the right."""
    script = (
        "import os; from app import startup; os.setuid(65534); "
        "print(*startup.find_listen_faults([['127.0.0.1', 1]]))"
    )
    command = [sys.executable, "-c", script]
    said = subprocess.run(
        command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=True
    ).stdout
    assert "127.0.0.1:1: a port below 1024 requires root" in said


def test_the_application_is_not_loaded_in_the_master() -> None:
    """Gevent could patch too little of it, and a reload would change nothing."""
    ended = start("--preload", "--bind", "127.0.0.1:0")
    assert_refused(ended, "--preload builds the application before gevent")


@pytest.mark.parametrize(
    "argument",
    [
        "--protocol uwsgi",
        "--http2-cleartext upgrade",
        "--http2-cleartext prior-knowledge",
        "--http-parser auto",
        "--http-parser fast",
        "--worker-class gthread --protocol uwsgi",
    ],
)
def test_requests_that_nothing_bounds(argument: str) -> None:
    """They are not made by the parser that Docxy's bounds are written for."""
    ended = start("--bind", "127.0.0.1:0", GUNICORN_CMD_ARGS=argument)
    name = argument.split()[-2]
    assert_refused(ended, f"{name}: Docxy's limits for requests are for HTTP/1 and")
    assert len((ended.stdout + ended.stderr).splitlines()) == 2  # the first says "Starting"


HAS_HTTP_2 = """
from gunicorn import http2
from gunicorn.app.wsgiapp import run

http2.is_http2_available = lambda: True
run()
"""


def test_http_2() -> None:
    """Gunicorn itself refuses it only where the h2 package is missing."""
    ended = start(program=("-c", HAS_HTTP_2), GUNICORN_CMD_ARGS="--http-protocols h2,h1")
    assert_refused(ended, "--http-protocols: Docxy's limits for requests are for HTTP/1 and")


PARSES_OTHERWISE = """
from gunicorn import http
from gunicorn.app.wsgiapp import run
from gunicorn.http.message import Request

class Parser(http.RequestParser):
    mesg_class = Request

http.RequestParser = Parser
run()
"""


def test_a_gunicorn_whose_parser_has_changed() -> None:
    """It would make requests without bounds, and nobody would notice."""
    ended = start("--bind", "127.0.0.1:0", program=("-c", PARSES_OTHERWISE))
    assert_refused(ended, "makes requests without Docxy's bounds; install the version in")


@pytest.mark.parametrize("name", ["--certfile", "--keyfile"])
def test_tls_is_for_the_front(name: str, tmp_path: Path) -> None:
    """Gunicorn's own has no time limit for a handshake, and no connection is counted before it."""
    path = tmp_path / "server.pem"
    path.touch()
    ended = start(name, str(path), "--bind", "127.0.0.1:0")
    assert_refused(ended, "--certfile and --keyfile: gunicorn's own TLS")


def test_the_start_needs_no_upstream() -> None:
    """Nobody listens there: it starts, is healthy, and answers 503 to who asks for more."""
    url = f"http://127.0.0.1:{free_port()}"
    settings = {"DOCXY_REGISTRY_URL": url, "DOCXY_ALLOW_PRIVATE_UPSTREAMS": "true"}
    with docxy(workers=1, DOCXY_SERVICE_HOST="10.0.0.1", **settings) as proxy:
        with Client(proxy.host) as client:
            assert client.get("/health").status == 200
            answer = client.get(MANIFEST)
            assert (answer.status, answer.head.value("Retry-After")) == (503, "5")
            assert client.get("/health?upstream").status == 503
            assert client.get("/v2/").status == 503
        assert "Traceback" not in proxy.log


def test_a_reload_with_a_wrong_file_changes_nothing(tmp_path: Path) -> None:
    """The workers go on, the log names the fault, and the next SIGHUP reloads what was mended."""
    path = tmp_path / "docxy.toml"
    path.write_text("read_timeout = 30\n")
    with docxy(workers=2, DOCXY_CONFIG=str(path)) as proxy:

        def ready(count: int) -> None:
            wait_until(lambda: proxy.log.count("is ready") >= count, what=f"{count} workers")

        def hang_up() -> None:
            proxy.server.process.send_signal(signal.SIGHUP)

        ready(2)
        path.write_text('read_timeout = "soon"\n')
        hang_up()
        wait_until(lambda: "Reload refused" in proxy.log, what="the refusal")
        wait_until(lambda: f"{path}: read_timeout: " in proxy.log, 5, "the fault")
        with Client(proxy.host) as client:
            assert client.get("/health").status == 200
        path.write_text("read_timeout = 40\n")
        hang_up()
        ready(4)
        with Client(proxy.host) as client:
            assert client.get("/health").status == 200
        assert proxy.log.count("Reload refused") == 1
        pids = re.findall(r"Booting worker with pid: (\d+)", proxy.log)
        assert len(pids) == len(set(pids)) == 4
        assert proxy.server.process.poll() is None
        assert "Traceback" not in proxy.log


def test_counts_that_have_no_place_stop_the_start(tmp_path: Path) -> None:
    """With one message as well."""
    for place in (tmp_path / "nowhere", Path(__file__)):
        ended = start(PROMETHEUS_MULTIPROC_DIR=str(place))
        said = ended.stdout + ended.stderr
        assert ended.returncode == 1
        assert said.count(f"PROMETHEUS_MULTIPROC_DIR={place} is not a writable directory") == 1
        assert "Traceback" not in said
        assert "Booting worker" not in said


def is_held(directory: Path) -> bool:
    """Tell whether a running Docxy counts there."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_what_a_killed_one_has_counted_is_removed(tmp_path: Path) -> None:
    """By the next one that starts; what another one counts is left to it."""
    options = ("--worker-tmp-dir", str(tmp_path))

    def counts() -> set[Path]:
        return set(tmp_path.glob("docxy-metrics-*"))

    with docxy(*options, workers=1) as first:
        (lost,) = counts()
        assert is_held(lost)
        first.server.process.kill()
        wait_until(lambda: not is_held(lost), what="the end of its workers")
    os.utime(lost, (0, 0))
    with docxy(*options, workers=1):
        (kept,) = counts()
        assert kept != lost
        os.utime(kept, (0, 0))
        with docxy(*options, workers=1):
            assert kept in counts()
        assert counts() == {kept}
    assert counts() == set()


def test_a_parser_in_c_is_not_taken_for_being_there(tmp_path: Path) -> None:
    """Gunicorn would take gunicorn_h1c wherever it is installed; this one reads no request."""
    (tmp_path / "gunicorn_h1c.py").write_text("LimitRequestLine = LimitRequestHeaders = Exception")
    with docxy(workers=1, PYTHONPATH=str(tmp_path)) as running, Client(running.host) as client:
        assert client.get("/health").status == 200
