"""Why gunicorn could not listen on an address, and what a start does without.

tests/wire/test_start.py has the messages whole.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.startup import find_listen_faults
from tests.servers import ROOT, clean_environment, free_port

HERE = f"(process {os.getpid()})"

LISTENING = """
import socket, sys
with socket.socket() as listener:
    listener.bind((sys.argv[1], int(sys.argv[2])))
    listener.listen()
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def port() -> Iterator[int]:
    """Return a port at which this process listens, on 127.0.0.2."""
    port = free_port()
    with socket.socket() as listener:
        listener.bind(("127.0.0.2", port))
        listener.listen()
        yield port


@pytest.mark.parametrize("host", ["127.0.0.2", "0.0.0.0"])  # noqa: S104 - what a PORT means
def test_who_is_in_the_way(host: str, port: int) -> None:
    """The program that listens there, or where all addresses would include it."""
    (fault,) = find_listen_faults([[host, port]])
    assert fault.startswith(f"{host}:{port}: this port is in use by ")
    assert HERE in fault


def test_who_listens_elsewhere_is_not_in_the_way(port: int) -> None:
    """Another program has the port of this address; the one on 127.0.0.2 is not named."""
    assert find_listen_faults([["127.0.0.1", port]]) == []
    command = [sys.executable, "-c", LISTENING, "127.0.0.1", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"ready\n"
        (fault,) = find_listen_faults([["localhost", port]])
        assert f"(process {other.pid})" in fault
        other.communicate()


def test_a_port_that_is_shared(port: int) -> None:
    """With --reuse-port several programs may listen on one port, if all of them say so."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.3", port))
        other.listen()
        assert find_listen_faults([["127.0.0.3", port]], reuse_port=True) == []
        assert len(find_listen_faults([["127.0.0.3", port]])) == 1


@pytest.mark.parametrize("second", ["127.0.0.3", "0.0.0.0"])  # noqa: S104 - as above
def test_an_address_that_is_given_twice(second: str) -> None:
    """Gunicorn binds both, and can listen on one."""
    port = free_port()
    (fault,) = find_listen_faults([["127.0.0.3", port], [second, port]])
    assert fault.startswith(f"{second}:{port}: another listen address already uses this port")
    assert find_listen_faults([["127.0.0.3", port], ["127.0.0.4", port]]) == []
    assert find_listen_faults([["127.0.0.3", port], [second, port]], reuse_port=True) == []


def test_ipv6() -> None:
    """An address of IPv6 stands in brackets."""
    with socket.socket(socket.AF_INET6) as listener:
        try:
            listener.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        listener.listen()
        port = listener.getsockname()[1]
        for host in ("::1", "::"):
            (fault,) = find_listen_faults([[host, port]])
            assert fault.startswith(f"[{host}]:{port}: this port is in use by ")
            assert HERE in fault


def test_a_descriptor_makes_the_rest_nothing(port: int) -> None:
    """Gunicorn leaves out all addresses beside one."""
    with socket.socket() as listener:
        assert find_listen_faults([listener.fileno(), ["127.0.0.2", port]]) == []
    with open(os.devnull, "rb") as file:  # noqa: PTH123 - its descriptor is wanted
        descriptor = file.fileno()
        assert find_listen_faults([descriptor]) == [f"fd://{descriptor}: not an open socket"]


def test_where_nothing_is_wrong(tmp_path: Path) -> None:
    """Any free port, and a Unix socket, also one that an earlier process has left."""
    left = tmp_path / "left"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(left))
    paths = [str(left), str(tmp_path / "new"), "\0abstract"]
    assert find_listen_faults([["127.0.0.1", 0], ["localhost", 0], *paths]) == []


def outcome_of(program: str) -> str:
    """Return what a program writes that runs without settings."""
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=True
    ).stdout


def test_libraries_that_nothing_needs() -> None:
    """Those of limits take a fifth of the processor time of a start."""
    program = """
import sys
from app import startup
from app.config.types import SettingFiles
print("flask" in sys.modules)
startup.build_app(SettingFiles())
print(sorted({"flask", "limits", "redis"} & sys.modules.keys()))
"""
    assert outcome_of(program) == "False\n['flask']\n"
