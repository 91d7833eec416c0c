"""Follow real requests through Docxy: `make trace`.

A Docxy in this process answers a client over a real socket and asks the tests' own Docker Hub over
TLS. A profiling hook notes every function of `app/` that is entered on any thread, from the
client's request until the answer is read and everything in the background has ended.

`--update` writes the number of files of each request into docs/architecture.md.
"""

import argparse
import contextlib
import http.client
import json
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

from werkzeug.serving import WSGIRequestHandler, make_server

from app import logs
from app.config.load import load
from app.factory import create_app
from tests.hub.hub import Hub
from tests.servers import ROOT, clean_environment, wait_until

_APP: Final = f"{ROOT / 'app'}{os.sep}"
_PAGE: Final = ROOT / "docs" / "architecture.md"
_QUIET: Final = 15
"""Looks in a row, 20 ms apart, that find nothing called."""
_IMAGE: Final = "library/alpine"
_RULES: Final = '[[rules]]\naction = "deny"\nrepository = "library/forbidden"\n'


@dataclass
class Trace:
    """What one request entered, in order of first entry."""

    functions: dict[CodeType, int] = field(default_factory=dict)
    """Each function of `app/`, and how often it was called."""
    crossings: int = 0
    """Calls from one file of `app/` into another."""

    @property
    def files(self) -> list[str]:
        """The files below `app/`, in order of first entry."""
        return list(dict.fromkeys(_file(code) for code in self.functions))

    def describe(self) -> str:
        """Return the files in order, each with its functions."""
        lines = []
        for file in self.files:
            names = [c.co_qualname for c in self.functions if _file(c) == file]
            lines.append(f"  {file}: {', '.join(names)}")
        return "\n".join(lines)


def _file(code: CodeType) -> str:
    return code.co_filename.removeprefix(_APP)


class Tracer:
    """Notes what is entered while it is `on`, on all threads that begin after it was installed."""

    def __init__(self) -> None:
        self.trace: Trace | None = None
        self._calls = 0

    def settle(self) -> None:
        """Wait until nothing of `app/` has been called for a while."""
        calls, quiet = self._calls, 0

        def is_quiet() -> bool:
            nonlocal calls, quiet
            quiet = quiet + 1 if calls == self._calls else 0
            calls = self._calls
            return quiet >= _QUIET

        wait_until(is_quiet, what="quiet")

    def hook(self, frame: FrameType, event: str, _: Any) -> None:
        """Note a call (see sys.setprofile)."""
        if event != "call" or not frame.f_code.co_filename.startswith(_APP):
            return
        self._calls += 1
        trace = self.trace
        if trace is None:
            return
        trace.functions[frame.f_code] = trace.functions.get(frame.f_code, 0) + 1
        caller = frame.f_back
        if caller is not None and caller.f_code.co_filename.startswith(_APP):
            trace.crossings += caller.f_code.co_filename != frame.f_code.co_filename

    @contextlib.contextmanager
    def on(self) -> Iterator[Trace]:
        """Note everything until the block ends."""
        self.trace = trace = Trace()
        try:
            yield trace
        finally:
            self.trace = None


class _Handler(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        """Write no line: Docxy has its own."""


@contextlib.contextmanager
def serving(hub: Hub, tracer: Tracer, **settings: str) -> Iterator[int]:
    """Serve a Docxy from this process, and yield its port."""
    environment = clean_environment() | hub.settings | settings
    os.environ.clear()
    os.environ.update(environment)
    app = create_app(load())
    threading.setprofile(tracer.hook)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.port
    finally:
        server.shutdown()
        thread.join()
        threading.setprofile(None)


@dataclass(frozen=True, slots=True)
class Walk:
    """One traced request."""

    name: str
    trace: Trace


class Client:
    """A client of the traced Docxy, which asks for one thing at a time."""

    def __init__(self, port: int) -> None:
        self._port = port

    def get(self, path: str, **fields: str) -> tuple[int, bytes]:
        """Return status and body; the connection has ended on both sides by then."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Connection": "close", **fields})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def token(self) -> str:
        """Return an Authorization that anybody gets for the image."""
        scope = f"repository:{_IMAGE}:pull"
        status, body = self.get(f"/auth/token?service=registry.test&scope={scope}")
        assert status == http.HTTPStatus.OK, body
        return f"Bearer {json.loads(body)['token']}"


def walks(hub: Hub, tracer: Tracer) -> Iterator[Walk]:
    """Trace the requests, each the first of its kind."""
    image = hub.image(_IMAGE, "3.19")
    layer = max(image.all_blobs.values(), key=lambda blob: blob.size)
    blob = f"/v2/{_IMAGE}/blobs/{layer.digest}"
    tag = f"/v2/{_IMAGE}/manifests/3.19"
    accept = {"Accept": image.media_type}

    def walk(name: str, ask: Callable[[], tuple[int, bytes]], ended: Callable[[], bool]) -> Walk:
        tracer.settle()
        with tracer.on() as trace:
            status, body = ask()
            wait_until(ended, what=f"the end of {name}")
            tracer.settle()
        assert status == http.HTTPStatus.OK, body
        return Walk(name, trace)

    def always() -> bool:
        return True

    with serving(hub, tracer) as port:
        client = Client(port)
        login = {"Authorization": client.token()}
        yield walk("layer, no cache", lambda: client.get(blob, **login), always)
        yield walk("tag, no cache", lambda: client.get(tag, **login, **accept), always)
    with tempfile.TemporaryDirectory(prefix="docxy-trace-") as folder:
        config = Path(folder, "docxy.toml")
        config.write_text(_RULES, encoding="utf-8")
        cache = Path(folder, "cache")

        def is_kept() -> bool:
            kept = any(layer.digest.partition(":")[2] in path.name for path in cache.rglob("*"))
            return kept and not any(cache.rglob("*.data"))

        with serving(hub, tracer, DOCXY_CACHE_DIR=str(cache), DOCXY_CONFIG=str(config)) as port:
            client = Client(port)
            login = {"Authorization": client.token()}
            yield walk("layer, cold cache", lambda: client.get(blob, **login), is_kept)
            yield walk("layer, cached", lambda: client.get(blob, **login), always)
            yield walk("tag, cold cache", lambda: client.get(tag, **login, **accept), always)
            yield walk("tag, cached", lambda: client.get(tag, **login, **accept), always)


def table(traced: list[Walk]) -> str:
    """Return the table of docs/architecture.md."""
    rows = [
        f"| {walk.name} | {len(walk.trace.files)} | {len(walk.trace.functions)} |"
        for walk in traced
    ]
    return "\n".join(["| request | files | functions |", "| --- | --- | --- |", *rows])


def update(page: Path, traced: list[Walk]) -> None:
    """Put the table into a page, in place of the one between its marks."""
    text = page.read_text(encoding="utf-8")
    block = f"<!-- trace -->\n{table(traced)}\n<!-- /trace -->"
    text = re.sub(r"<!-- trace -->.*?<!-- /trace -->", lambda _: block, text, flags=re.DOTALL)
    page.write_text(text, encoding="utf-8")


def main() -> None:
    """Trace, and print what each request passes through."""
    parser = argparse.ArgumentParser(prog="python -m tests.trace", description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the numbers into docs")
    parser.add_argument("--json", action="store_true", help="print the files alone, as JSON")
    arguments = parser.parse_args()
    logs.configure("text", "ERROR")
    with Hub() as hub:
        traced = list(walks(hub, Tracer()))
    if arguments.json:
        sys.stdout.write(json.dumps({walk.name: walk.trace.files for walk in traced}))
        return
    for walk in traced:
        sys.stdout.write(f"{walk.name}\n{walk.trace.describe()}\n\n")
    sys.stdout.write(f"{table(traced)}\n")
    if arguments.update:
        update(_PAGE, traced)


if __name__ == "__main__":
    main()
