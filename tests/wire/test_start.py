import fcntl
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.servers import ROOT, clean_environment, docxy, free_port, wait_until
from tests.wire.client import Client
from tests.wire.wires import MANIFEST


def start(**settings: str) -> subprocess.CompletedProcess[str]:
    """Run gunicorn until it ends."""
    return subprocess.run(
        [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0"],
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
        wait_until(lambda: "Nothing was reloaded" in proxy.log, what="the refusal")
        wait_until(lambda: f"{path}: read_timeout: " in proxy.log, 5, "the fault")
        with Client(proxy.host) as client:
            assert client.get("/health").status == 200
        path.write_text("read_timeout = 40\n")
        hang_up()
        ready(4)
        with Client(proxy.host) as client:
            assert client.get("/health").status == 200
        assert proxy.log.count("Nothing was reloaded") == 1
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
        assert said.count(f"PROMETHEUS_MULTIPROC_DIR={place} is no directory") == 1
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

    with docxy(*options) as first:
        (lost,) = counts()
        assert is_held(lost)
        first.server.process.kill()
        wait_until(lambda: not is_held(lost), what="the end of its workers")
    os.utime(lost, (0, 0))
    with docxy(*options):
        (kept,) = counts()
        assert kept != lost
        os.utime(kept, (0, 0))
        with docxy(*options):
            assert kept in counts()
        assert counts() == {kept}
    assert counts() == set()


def test_a_parser_in_c_is_not_taken_for_being_there(tmp_path: Path) -> None:
    """Gunicorn would take gunicorn_h1c wherever it is installed; this one reads no request."""
    (tmp_path / "gunicorn_h1c.py").write_text("LimitRequestLine = LimitRequestHeaders = Exception")
    with docxy(PYTHONPATH=str(tmp_path)) as running, Client(running.host) as client:
        assert client.get("/health").status == 200
