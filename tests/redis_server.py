"""A real Redis on a socket of its own, which can go away and come back."""

import contextlib
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests import programs
from tests.servers import running, wait_until


@dataclass
class RedisServer:
    """Runs where it is told to; with a password, as one that others reach has."""

    socket: Path
    options: Sequence[str | Path] = ()
    password: str = "s3cr3t-of-redis"  # noqa: S105 - of this one only
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What `DOCXY_REDIS_URL` is to be."""
        return f"unix://:{self.password}@{self.socket}"

    @property
    def client(self) -> Any:
        """What looks into it; its types are those of two clients at once."""
        return Redis(unix_socket_path=str(self.socket), password=self.password)

    def start(self) -> None:
        """Run, with nothing in memory, until it answers."""
        command: list[str | Path] = [
            programs.path("redis-server") or "", "--port", "0", "--save", "", "--appendonly", "no",
            "--unixsocket", self.socket, "--requirepass", self.password,
            *self.options,
        ]  # fmt: skip
        self._process = self._stack.enter_context(running(command)).process
        wait_until(self._answers, what="Redis")

    def _answers(self) -> bool:
        with contextlib.suppress(RedisError), self.client as client:
            return bool(client.ping())
        return False

    def stop(self) -> None:
        """Go away, and forget everything."""
        self._stack.close()

    def freeze(self) -> None:
        """Answer nobody; connections are still accepted."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Answer again, and know all."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextlib.contextmanager
def redis_server(*options: str | Path) -> Iterator[RedisServer]:
    """Run a Redis until the block ends; `options` as on its command line."""
    programs.require("redis-server")
    # The path of a socket has to be short.
    with tempfile.TemporaryDirectory(prefix="docxy-redis-") as directory:
        server = RedisServer(Path(directory) / "s", options)
        try:
            server.start()
            yield server
        finally:
            server.thaw()
            server.stop()
