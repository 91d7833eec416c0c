"""A scripted registry of blobs that come as far as they are let, and a proxy with a cache."""

import contextlib
import hashlib
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import Docxy, docxy, wait_until
from tests.wire.client import Answer, Client
from tests.wire.upstream import Asked, Connection, Upstream, head, response
from tests.wire.wires import upstream_settings

PIECE = 64 * 1024
NAME = "library/alpine"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Shelf:
    """Blobs by digest; each body waits at `stop_at` until it may go on."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    stop_at: int | None = None
    going_on: threading.Event = field(default_factory=threading.Event)

    def put(self, data: bytes) -> str:
        """Hold a blob, and return its path."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return path_of(digest)

    def script(self, connection: Connection) -> None:
        """Serve one connection, until nothing is asked there for a while."""
        while True:
            try:
                asked = connection.head()
            except TimeoutError:
                if connection.unread:
                    raise
                connection.close()  # as registries do; other tests go on meanwhile
                return
            self._answer(connection, asked)

    def _answer(self, connection: Connection, asked: Asked) -> None:
        data = self.blobs.get(asked.target.rpartition("/")[2])
        if data is None:
            connection.send(response(b"{}", status="404 Not Found"))
            return
        start, end = _part(asked.value("Range"), len(data))
        fields = [f"Content-Length: {end - start}", "Content-Type: application/octet-stream"]
        if asked.value("Range"):
            fields.append(f"Content-Range: bytes {start}-{end - 1}/{len(data)}")
        status = "206 Partial Content" if asked.value("Range") else "200 OK"
        connection.send(head(*fields, status=status))
        if asked.method == "GET":
            self._send(connection, data[start:end], start)

    def _send(self, connection: Connection, data: bytes, offset: int) -> None:
        for at in range(0, len(data), PIECE):
            if self.stop_at is not None and offset + at >= self.stop_at:
                assert self.going_on.wait(60)
            connection.send(data[at : at + PIECE])


def _part(wanted: str, size: int) -> tuple[int, int]:
    found = _RANGE.fullmatch(wanted)
    if found is None:
        return 0, size
    return int(found[1]), min(int(found[2] or size) + 1, size)


def path_of(digest: str) -> str:
    """Return the path of a blob."""
    return f"/v2/{NAME}/blobs/{digest}"


@dataclass
class Cached:
    """A shelf, and proxies with a cache before it."""

    upstream: Upstream
    shelf: Shelf
    cache: Path
    home: Path

    @contextlib.contextmanager
    def proxy(self, workers: int = 2, **settings: str) -> Iterator[Docxy]:
        """Run a proxy; the cache outlives it."""
        known = {"DOCXY_CACHE_DIR": str(self.cache), "DOCXY_CACHE_MIN_FREE": "0"} | settings
        settings = upstream_settings(self.upstream, self.home, **known)
        with docxy(workers=workers, **settings) as proxy:
            yield proxy

    def gets(self) -> list[str]:
        """Return the Range of each GET that the upstream got."""
        return [asked.value("Range") for asked in self.upstream.asked if asked.method == "GET"]

    def spooled(self) -> int:
        """Return how many bytes lie there that are not verified yet."""
        return sum(path.stat().st_size for path in self.cache.glob("spools/*/*.data"))

    def filler(self) -> int:
        """Return the process that fetches, once there is one: it has the record's lock."""
        wait_until(lambda: bool(fillers(self.cache)), what="a process that fetches")
        return fillers(self.cache)[0]


def fillers(cache: Path) -> list[int]:
    """Return the processes that fetch a blob now, once for each blob."""
    inodes = {path.stat().st_ino for path in cache.glob("spools/*/*.record")}
    locks = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
    return [
        int(fields[4])
        for fields in locks
        if fields[1] == "FLOCK" and int(fields[5].rpartition(":")[2]) in inodes
    ]


def get(proxy: Docxy, path: str, *fields: str) -> Answer:
    """Ask for all or a part of a blob, on a connection of its own."""
    with Client(proxy.host) as client:
        return client.get(path, *fields, "Connection: close")


def whole(proxy: Docxy, path: str, size: int) -> bytes:
    """Pull as container clients do: what breaks off is asked for again from there."""
    got = b""
    for _ in range(10):
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = get(proxy, path, *([f"Range: bytes={len(got)}-"] if got else [])).body
        got += answer
        if len(got) >= size:
            return got
    return got


def together(count: int, work: Callable[[int], object]) -> list[object]:
    """Do something many times at once, and return what each gave or raised."""
    results: list[object] = [None] * count

    def run(number: int) -> None:
        try:
            results[number] = work(number)
        except Exception as error:  # noqa: BLE001 - the test compares
            results[number] = error

    threads = [threading.Thread(target=run, args=[number], daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def stop(proxy: Docxy) -> None:
    """End a proxy as a power cut would: the master first, and each worker."""
    master = proxy.server.process.pid
    children = Path(f"/proc/{master}/task/{master}/children").read_text(encoding="ascii").split()
    for pid in (master, *map(int, children)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
