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
from typing import Final

from app.transfer.files import Claim
from tests.chunk_maps import count_arrived
from tests.servers import Docxy, docxy, wait_until
from tests.wire.client import Answer, Client
from tests.wire.upstream import Asked, Connection, Upstream, head, response
from tests.wire.wires import location, upstream_settings

PIECE: Final = 64 * 1024
NAME: Final = "library/alpine"
REFUSAL: Final = b'{"errors":[{"code":"DENIED","message":"this is not yours"}]}'
_LOCK: Final = re.compile(r"^lock:.* OFDLCK +ADVISORY +WRITE .* (\d+) \d+$", re.MULTILINE)
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Shelf:
    """Blobs by digest; each body waits at `stop_at` until it may go on.

    The same script can be a registry and the CDN that it redirects to.
    """

    blobs: dict[str, bytes] = field(default_factory=dict)
    stop_at: int | None = None
    going_on: threading.Event = field(default_factory=threading.Event)
    elsewhere: str = ""
    """The base URL of the CDN; without one, blobs come from here."""
    reader: str = ""
    """The only Authorization that is let in; without one, everybody is."""
    pause: float = 0.0
    """Seconds after each 64 KiB of a connection."""
    pieces: list[int] = field(default_factory=list)
    """The sizes of what has been sent of bodies."""

    @property
    def sent(self) -> int:
        """The bytes of all bodies that have been sent."""
        return sum(self.pieces)

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
        is_registry = asked.target.startswith("/v2/")
        if is_registry and self.reader not in {"", asked.value("Authorization")}:
            refusal = response(REFUSAL, "Content-Type: application/json", status="403 Forbidden")
            connection.send(refusal if asked.method == "GET" else refusal.removesuffix(REFUSAL))
            return
        if is_registry and self.elsewhere and asked.method == "GET":
            connection.send(location(f"{self.elsewhere}/data/{asked.target.rpartition('/')[2]}"))
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
            self.pieces.append(len(data[at : at + PIECE]))
            if self.pause:
                threading.Event().wait(self.pause)


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

    def starts(self) -> list[int]:
        """Return the first byte that each GET asked for."""
        return [_part(wanted, 0)[0] for wanted in self.gets()]

    def count_arrived(self) -> int:
        """Return how many bytes of blobs that are not verified yet are in their files."""
        return count_arrived(self.cache / "unfinished")

    def filler(self) -> int:
        """Return a process that fetches, once there is one."""
        wait_until(lambda: bool(fillers(self.cache)), what="a process that fetches")
        return fillers(self.cache)[0]


@contextlib.contextmanager
def shelved(cache: Path, home: Path) -> Iterator[Cached]:
    """Return a registry of blobs and a place for a cache."""
    shelf = Shelf()
    with Upstream() as upstream:
        upstream.play(shelf.script)
        yield Cached(upstream, shelf, cache, home)
        shelf.going_on.set()


def users(cache: Path) -> list[int]:
    """Return the processes that fetch or read blobs which are not verified yet."""
    return [int(descriptor.parent.parent.name) for descriptor in _list_open_maps(cache)]


def fillers(cache: Path) -> list[int]:
    """Return the processes that fetch chunks now, once for each blob: they have locked them.

    /proc/locks does not say who has such a lock; the kernel shows it with the open file
    (proc_pid_fdinfo(5)).
    """
    return [
        int(descriptor.parent.parent.name)
        for descriptor in _list_open_maps(cache)
        if _has_lease(descriptor.parent.parent / "fdinfo" / descriptor.name)
    ]


def _list_open_maps(cache: Path) -> list[Path]:
    """Return the descriptors, below /proc, of chunk maps that processes have open."""
    found: list[Path] = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            found += [one for one in (process / "fd").iterdir() if _is_map(one, cache)]
    return found


def _is_map(descriptor: Path, cache: Path) -> bool:
    with contextlib.suppress(OSError):  # it was closed
        path = descriptor.readlink()
        return path.suffix == ".map" and path.is_relative_to(cache)
    return False


def _has_lease(info: Path) -> bool:
    with contextlib.suppress(OSError):
        starts = map(int, _LOCK.findall(info.read_text("ascii")))
        return any(Claim.CHUNKS <= start < Claim.VERIFICATION for start in starts)
    return False


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
