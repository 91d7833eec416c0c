"""A Docxy whose registry has a bad day: what the tests of survival share."""

import base64
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests import programs
from tests.hub.gates import Gate
from tests.hub.hub import Hub
from tests.hub.images import OCI_INDEX, Blob
from tests.servers import Docxy, docxy
from tests.tables import write_config
from tests.wire.client import Answer, Client

ALPINE = "library/alpine"
MANIFEST = f"/v2/{ALPINE}/manifests/3.19"
INDEX = f"Accept: {OCI_INDEX}"
ALICE = ("alice", "alicepw")
SETTINGS = {
    "DOCXY_READ_TIMEOUT": "1",
    "DOCXY_RESUME_BUDGET": "3",
    "DOCXY_RETRY_BUDGET": "8",
    "DOCXY_LOG_LEVEL": "debug",
}
"""Bad days are shorter here."""


@dataclass(frozen=True)
class Survivor:
    """A Docxy before a hub; every request has a connection of its own."""

    hub: Hub
    proxy: Docxy

    def get(self, path: str, *fields: str, **options: Any) -> Answer:
        """Send a request and read the answer as far as it comes."""
        with Client(self.proxy.host) as client:
            return client.get(path, *fields, **options)

    def client(self) -> Client:
        """Connect."""
        return Client(self.proxy.host)

    def login(self, name: str = ALPINE, auth: tuple[str, str] | None = None) -> str:
        """Return the line of a header with a new token."""
        basic = base64.b64encode(":".join(auth).encode()).decode() if auth else ""
        fields = [f"Authorization: Basic {basic}"] if auth else []
        path = f"/auth/token?service={self.hub.service}&scope=repository:{name}:pull"
        answer = self.get(path, *fields)
        assert answer.status == 200, answer
        return f"Authorization: Bearer {json.loads(answer.body)['token']}"

    def resumed(self, since: int) -> list[str]:
        """Return the lines of bodies that went on."""
        return [
            line for line in self.proxy.log[since:].splitlines() if "Resumed a broken body" in line
        ]


Surviving = Callable[..., Survivor]


def layer(hub: Hub) -> Blob:
    """Return a layer of two megabytes that is everybody's."""
    return hub.image(ALPINE, "3.19").platforms["linux/amd64"].layers[1]


def blob_path(digest: str, name: str = ALPINE) -> str:
    """Return the path of a blob."""
    return f"/v2/{name}/blobs/{digest}"


@pytest.fixture(scope="session")
def sturdy_hub() -> Iterator[Hub]:
    """Return a hub of its own: time passes here as it does nowhere else."""
    programs.require("docker-registry")
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="session")
def surviving(sturdy_hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surviving]:
    """Return what starts a Docxy with these settings and rows, or finds it started."""
    with contextlib.ExitStack() as stack:
        known: dict[object, Survivor] = {}

        def start(
            *, workers: int = 2, rows: tuple[dict[str, object], ...] = (), **settings: str
        ) -> Survivor:
            key = (workers, repr(rows), tuple(sorted(settings.items())))
            if key not in known:
                own = sturdy_hub.settings
                if rows:
                    config = tmp_path_factory.mktemp("survival") / "docxy.toml"
                    write_config(config, [sturdy_hub.row("docker.io"), *rows])
                    own = {"DOCXY_CONFIG": str(config)}
                proxy = stack.enter_context(docxy(workers=workers, **(own | SETTINGS | settings)))
                known[key] = Survivor(sturdy_hub, proxy)
            return known[key]

        yield start
        for survivor in known.values():
            survivor.proxy.end()


@pytest.fixture
def bad_day(sturdy_hub: Hub) -> Iterator[Hub]:
    """Return the hub, on which all is well again after the test."""
    sturdy_hub.reset()
    yield sturdy_hub
    sturdy_hub.reset()
    sturdy_hub.expire_urls_after(1200)


@pytest.fixture
def survivor(surviving: Surviving, bad_day: Hub) -> Iterator[Survivor]:
    """Return a Docxy as it runs; no secret of a URL and no token gets into its log."""
    del bad_day
    made = surviving()
    before = len(made.proxy.log)
    yield made
    log = made.proxy.log[before:]
    assert "signature=" not in log
    assert "Bearer " not in log


class LateServer:
    """A registry whose port is taken, and refuses, until it opens.

    Every answer waits at `gate`; then it is 200 to everything.
    """

    def __init__(self) -> None:
        self.gate = Gate()
        self.gate.open()
        self.bodies: list[bytes] = []
        late = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                """Answer."""
                late.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
                late.gate.arrive()
                while not late.gate.is_open and not late._closed.wait(0.02):
                    pass
                body = b'{"token":"late"}'
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - http.server's name

        self._closed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self._server.daemon_threads = True
        self._server.server_bind()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        """Return where it is going to be."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def row(self, name: str) -> dict[str, object]:
        """Return its row in the table of registries."""
        return {"name": name, "url": self.url, "allow_private": True}

    def open(self) -> None:
        """Listen from now on."""
        self._server.server_activate()
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._closed.set()
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def late_server() -> Iterator[LateServer]:
    """Take a port, and give it back in the end."""
    server = LateServer()
    try:
        yield server
    finally:
        server.close()


_HANGING = """
import _socket, os
from time import sleep

resolve = _socket.getaddrinfo


def getaddrinfo(host, *arguments, **options):
    name = host.decode() if isinstance(host, bytes) else host
    while name.endswith(".hanging.test") and not os.path.exists({released!r}):
        sleep(0.02)
    return resolve("127.0.0.1" if name.endswith(".test") else host, *arguments, **options)


_socket.getaddrinfo = getaddrinfo
"""


@contextlib.contextmanager
def hanging_names(folder: Path) -> Iterator[tuple[dict[str, str], Callable[[], None]]]:
    """Give the environment of a process that waits for names below hanging.test, and their release.

    They are released in the end, too.
    """
    released = folder / "released"
    (folder / "sitecustomize.py").write_text(_HANGING.replace("{released!r}", repr(str(released))))
    try:
        yield {"PYTHONPATH": str(folder)}, released.touch
    finally:
        released.touch()
