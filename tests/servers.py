"""Real servers for the tests: started on a free port, awaited, ended by their process id."""

import contextlib
import errno
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import cast

ROOT = Path(__file__).resolve().parent.parent
READY_TIMEOUT = 30
_BARE = Path(__file__).resolve().with_name("bare")
_PAUSE = threading.Event()
_LISTENING = re.compile(r"http://(127\.0\.0\.1:\d+)")


def clean_environment(**extra: str) -> dict[str, str]:
    """Return this process's environment without settings and proxies, plus `extra`.

    Bytecode may be written: without it each process of a server compiles what it imports, which
    takes as long as the imports themselves. Python imports only what requirements.txt installs.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DOCXY_")
        and not name.lower().endswith("_proxy")
        and name
        not in {
            "PORT",
            "WEB_CONCURRENCY",
            "FORWARDED_ALLOW_IPS",
            "GUNICORN_CMD_ARGS",
            "PROMETHEUS_MULTIPROC_DIR",
            "PYTHONDONTWRITEBYTECODE",
        }
    }
    return kept | {"PYTHONPATH": str(_BARE)} | extra


@dataclass(frozen=True)
class Process:
    """A running server and the file it logs to."""

    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def log(self) -> str:
        """All that the server has written so far."""
        return self.log_path.read_text(errors="replace")


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    stop_signal: int = signal.SIGTERM,
) -> Iterator[Process]:
    """Run a server until the block ends; print its log when the block fails."""
    with tempfile.NamedTemporaryFile(prefix="docxy-log-", suffix=".txt") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=clean_environment() if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
        )
        server = Process(process, Path(log.name))
        try:
            yield server
        except BaseException:
            sys.stderr.write(f"--- log of {command[0]}\n{server.log}\n")
            raise
        finally:
            _stop(process, stop_signal)


def _stop(process: subprocess.Popen[bytes], stop_signal: int) -> None:
    if process.poll() is None:
        process.send_signal(stop_signal)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def wait_until(
    condition: Callable[[], bool], timeout: float = READY_TIMEOUT, what: str = "the condition"
) -> None:
    """Poll `condition` until it is true; raise after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            message = f"timed out waiting for {what}"
            raise TimeoutError(message)
        _PAUSE.wait(0.02)


def free_port() -> int:
    """Return a port that was free a moment ago, for programs that cannot take a socket.

    It lies below the ports that the system gives to connections (ip_local_port_range), so that
    none of those takes it meanwhile.
    """
    while True:
        port = random.randrange(15000, 32000)  # noqa: S311 - no secret
        if _is_free(socket.AF_INET, "127.0.0.1", port) and _is_free(socket.AF_INET6, "::1", port):
            return port


def _is_free(family: int, host: str, port: int) -> bool:
    with socket.socket(family) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE  # a machine without IPv6 has nothing there
    return True


@dataclass(frozen=True)
class Docxy:
    """A running Docxy: real gunicorn in front of the real application."""

    server: Process
    host: str
    """host:port, as a container client writes it."""

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://{self.host}"

    @property
    def log(self) -> str:
        """All that it has logged so far; requests that ended just now may not be in it yet."""
        return self.server.log

    @property
    def workers(self) -> list[int]:
        """The process ids of what gunicorn's master has started."""
        pid = self.server.process.pid
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def end(self) -> None:
        """Let everything end at once; a test of how Docxy stops sends its own signals.

        SIGQUIT lets the master tidy up. The workers would do so as well, each for a third of a
        second, so they are killed.
        """
        process = self.server.process
        if process.poll() is None:
            process.send_signal(signal.SIGQUIT)
            for pid in self.workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def await_workers(self, count: int = 2) -> None:
        """Wait until so many workers have begun: one that answers is enough for `docxy`."""
        wait_until(lambda: self.log.count("is ready") >= count, what="all workers")

    @contextlib.contextmanager
    def only(self, worker: int) -> Iterator[None]:
        """Let one worker alone take what connects meanwhile: the others stand still.

        Who of them takes a connection is a race.
        """
        others = [pid for pid in self.workers if pid != worker]
        try:
            for pid in others:
                os.kill(pid, signal.SIGSTOP)
            wait_until(lambda: all(map(_stands_still, others)), what="the others to stand still")
            yield
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)


def _stands_still(pid: int) -> bool:
    """Tell whether a process is stopped (proc_pid_stat(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@contextlib.contextmanager
def docxy(
    *arguments: str,
    workers: int | str = 2,
    listen: str = "127.0.0.1",
    files: str = "",
    **settings: str,
) -> Iterator[Docxy]:
    """Run Docxy with two gevent workers, as production does, on a socket that cannot be taken.

    `settings` are environment variables; `arguments` go to gunicorn; `files` is how many open ones
    it may have.
    """
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((listen, 0))
        listener.listen(512)
        port = listener.getsockname()[1]
        host = f"[{listen}]:{port}" if ":" in listen else f"{listen}:{port}"
        command = [
            sys.executable, "-m", "gunicorn", "--bind", f"fd://{listener.fileno()}", *arguments,
        ]  # fmt: skip
        if files:
            command = ["sh", "-c", f'ulimit -n {files} && exec "$0" "$@"', *command]
        env = clean_environment(WEB_CONCURRENCY=str(workers)) | settings
        with running(
            command, env=env, pass_fds=[listener.fileno()], stop_signal=signal.SIGQUIT
        ) as server:
            proxy = Docxy(server, host)
            with _ended(proxy):
                _await_health(proxy)
                yield proxy


@contextlib.contextmanager
def docxy_on_its_own_socket(*arguments: str, **settings: str) -> Iterator[Docxy]:
    """Run Docxy as `docxy` does, but refusing when it refuses: it alone holds the socket."""
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", *arguments]
    env = clean_environment(WEB_CONCURRENCY="2") | settings
    with running(command, env=env, stop_signal=signal.SIGQUIT) as server:
        wait_until(lambda: server.log.count("is ready") == 2, what="two workers")
        found = _LISTENING.search(server.log)
        assert found
        proxy = Docxy(server, found[1])
        with _ended(proxy):
            yield proxy


@contextlib.contextmanager
def _ended(proxy: Docxy) -> Iterator[None]:
    try:
        yield
    finally:
        proxy.end()


def _await_health(proxy: Docxy) -> None:
    def healthy() -> bool:
        if proxy.server.process.poll() is not None:
            message = f"Docxy ended with status {proxy.server.process.returncode}"
            raise RuntimeError(message)
        with contextlib.suppress(OSError), _open(f"{proxy.url}/health") as answer:
            return bool(answer.status == 200)
        return False

    wait_until(healthy, what="Docxy's /health")


def _open(url: str) -> HTTPResponse:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return cast("HTTPResponse", opener.open(url, timeout=30))
