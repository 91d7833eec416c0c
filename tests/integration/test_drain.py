"""Stops and reloads in the midst of downloads: what runs is completed, or seen to be broken."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hub.gates import Gate
from tests.hub.hub import Hub
from tests.hub.images import Blob
from tests.integration.pulling import Way, client, ours
from tests.integration.survival import Survivor, blob_path, layer
from tests.servers import READY_TIMEOUT, Docxy, docxy_on_its_own_socket, running, wait_until
from tests.tables import write_config
from tests.wire.client import Answer, Client, Ending

pytestmark = pytest.mark.integration

SOME = 8
MANY = 50
HELD = 300_000
"""Bytes that pass before the gate: more than Docxy gathers in a piece."""


@dataclass(frozen=True)
class Held:
    """Downloads of one layer, each of which the CDN holds in its midst."""

    clients: list[Client]
    blob: Blob
    gate: Gate

    def answers(self) -> list[Answer]:
        """Read all answers to their ends, each as far as it comes."""
        with ThreadPoolExecutor(len(self.clients)) as pool:
            return list(pool.map(Client.answer, self.clients))


@contextlib.contextmanager
def held(
    proxy: Docxy, hub: Hub, count: int = SOME, *, chunked: bool = False, version: str = "HTTP/1.1"
) -> Iterator[Held]:
    """Begin downloads, and wait until all are in their midst."""
    blob = layer(hub)
    authorization = Survivor(hub, proxy).login()
    with contextlib.ExitStack() as stack:
        gate = stack.enter_context(Gate())
        path = blob.digest.partition(":")[2]
        hub.fail(part="cdn", path=path, times=count, gate=gate, hold_after=HELD, chunked=chunked)
        clients = [stack.enter_context(Client(proxy.host)) for _ in range(count)]
        for one in clients:
            one.ask(blob_path(blob.digest), authorization, version=version)
        wait_until(lambda: gate.arrived == count, what="all downloads at the gate")
        for one in clients:
            assert b"200 OK" in one.ahead(100_000)
        yield Held(clients, blob, gate)


def workers(proxy: Docxy) -> set[int]:
    """Return the processes below gunicorn's master."""
    return set(proxy.workers)


def refused(host: str) -> bool:
    """Tell whether a new connection is not let in."""
    try:
        Client(host, timeout=2).close()
    except OSError:
        return True
    return False


def assert_whole(held: Held) -> None:
    """Every download brings the layer, and says so."""
    for answer in held.answers():
        assert (answer.status, answer.complete) == (200, True)
        assert answer.body == held.blob.data


def assert_broken(held: Held, proxy: Docxy) -> None:
    """Every download ends before its end, what came is the layer's beginning, the log knows."""
    for answer in held.answers():
        assert (answer.status, answer.complete) == (200, False)
        assert HELD // 2 < len(answer.body) < held.blob.size
        assert held.blob.data.startswith(answer.body)

    def lines() -> list[str]:
        return [line for line in proxy.log.splitlines() if held.blob.digest in line]

    wait_until(lambda: len(lines()) >= len(held.clients), what="the lines of what was cut")
    assert len(lines()) == len(held.clients)
    assert all("incomplete=True" in line for line in lines())


@pytest.mark.parametrize("count", [SOME, pytest.param(MANY, marks=pytest.mark.soak)])
def test_a_stop_lets_downloads_finish(bad_day: Hub, count: int) -> None:
    """SIGTERM, once or twice: nobody is let in, all is completed, the end follows soon."""
    with (
        docxy_on_its_own_socket(**bad_day.settings) as proxy,
        held(proxy, bad_day, count) as downloads,
    ):
        process = proxy.server.process
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: refused(proxy.host), what="the end of listening")
        process.send_signal(signal.SIGTERM)  # Heroku may send several
        assert workers(proxy)  # one that has no download may have ended
        downloads.gate.open()
        assert_whole(downloads)
        assert process.wait(READY_TIMEOUT) == 0
        assert "Traceback" not in proxy.log


@pytest.mark.parametrize("count", [SOME, pytest.param(MANY, marks=pytest.mark.soak)])
def test_a_reload_breaks_no_download(bad_day: Hub, count: int) -> None:
    """SIGHUP: new workers answer at once, the old ones end with their last download."""
    with (
        docxy_on_its_own_socket(**bad_day.settings) as proxy,
        held(proxy, bad_day, count) as downloads,
    ):
        old = workers(proxy)
        with ThreadPoolExecutor(1) as pool:
            reloading = pool.submit(reload, proxy, ready=4)
            while not reloading.done():  # no connection is lost between the old and the new
                assert Survivor(bad_day, proxy).get("/health").status == 200
            reloading.result()
        assert old & workers(proxy)  # one that has no download may have ended
        assert len(workers(proxy) - old) == 2
        assert Survivor(bad_day, proxy).login()
        downloads.gate.open()
        assert_whole(downloads)
        wait_until(lambda: not old & workers(proxy), what="the end of the old workers")
        assert len(workers(proxy)) == 2
        assert Survivor(bad_day, proxy).login()
        assert "Traceback" not in proxy.log


def reload(proxy: Docxy, ready: int) -> None:
    """Send SIGHUP, and wait until so many workers have been ready since the start."""
    proxy.server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: proxy.log.count("is ready") == ready, what="new workers")


@pytest.mark.parametrize(
    "name",
    ["skopeo", *(pytest.param(name, marks=pytest.mark.soak) for name in ("podman", "ctr"))],
)
def test_a_reload_breaks_no_pull(bad_day: Hub, tmp_path: Path, name: str) -> None:
    """Clients get the layer from the old worker, and what they ask next from a new one."""
    image = bad_day.image("library/alpine", "3.19")
    path = ours(image).layers[1].digest.partition(":")[2]
    with docxy_on_its_own_socket(**bad_day.settings) as proxy, Gate() as gate:
        bad_day.fail(part="cdn", path=path, gate=gate, hold_after=HELD)
        way = Way("plain", proxy.url, proxy.host, None, lambda: proxy.log)
        with client(name, way, "by name", tmp_path) as puller, ThreadPoolExecutor(1) as pool:
            old = workers(proxy)
            pulling = pool.submit(puller.pull, f"{proxy.host}/library/alpine:3.19")
            wait_until(lambda: gate.arrived == 1, what="the layer at the gate")
            reload(proxy, ready=4)
            gate.open()
            assert pulling.result() == puller.kept(image)
        wait_until(lambda: not old & workers(proxy), what="the end of the old workers")
        assert "incomplete" not in proxy.log


def test_a_reload_takes_in_settings_while_old_downloads_run(bad_day: Hub, tmp_path: Path) -> None:
    """What was added to the table is served at once, however long the downloads take."""
    config = tmp_path / "docxy.toml"
    write_config(config, [bad_day.row("docker.io")])
    with (
        docxy_on_its_own_socket(DOCXY_CONFIG=str(config)) as proxy,
        held(proxy, bad_day, 4) as downloads,
    ):
        survivor = Survivor(bad_day, proxy)
        added = "/v2/library/alpine/tags/list?ns=added.test"
        assert survivor.get(added).status == 404
        write_config(config, [bad_day.row("docker.io"), bad_day.row("added.test")])
        reload(proxy, ready=4)
        wait_until(
            lambda: {survivor.get(added).status for _ in range(20)} == {401}, 5, "new settings"
        )
        downloads.gate.open()
        assert_whole(downloads)


@pytest.mark.soak
def test_a_reload_holds_up_nothing(bad_day: Hub) -> None:
    """Old downloads run, and a worker that dies is replaced, a reload repeated, a stop heeded."""
    with docxy_on_its_own_socket(**bad_day.settings) as proxy, held(proxy, bad_day, 4) as downloads:
        oldest = workers(proxy)
        reload(proxy, ready=4)
        for pid in workers(proxy) - oldest:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: proxy.log.count("is ready") == 6, what="workers in their place")
        second = workers(proxy) - oldest
        assert Survivor(bad_day, proxy).login()
        reload(proxy, ready=8)
        wait_until(lambda: not second & workers(proxy), what="the end of workers without downloads")
        assert len(workers(proxy) - oldest) == 2
        proxy.server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refused(proxy.host), what="the end of listening")
        downloads.gate.open()
        assert_whole(downloads)
        assert proxy.server.process.wait(READY_TIMEOUT) == 0


@pytest.mark.soak
def test_new_workers_that_cannot_start_beside_old_downloads(bad_day: Hub, tmp_path: Path) -> None:
    """The port stays open, and Docxy serves again as soon as what was wrong is put right."""
    cache, away = tmp_path / "cache", tmp_path / "away"
    settings = {**bad_day.settings, "DOCXY_CACHE_DIR": str(cache)}
    with docxy_on_its_own_socket(**settings) as proxy, held(proxy, bad_day, 1) as downloads:
        oldest = workers(proxy)
        reload(proxy, ready=4)
        cache.rename(away)
        cache.touch()
        for pid in workers(proxy) - oldest:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: "No worker accepts connections" in proxy.log, what="the line about it")
        failures = proxy.log.count("the cache cannot be used")
        wait_until(
            lambda: proxy.log.count("the cache cannot be used") > failures, what="one more attempt"
        )
        assert not refused(proxy.host)
        cache.unlink()
        away.rename(cache)
        wait_until(lambda: "Workers can start again." in proxy.log, what="new workers")
        assert Survivor(bad_day, proxy).get("/health").status == 200
        assert proxy.log.count("No worker accepts connections") == 1
        downloads.gate.open()
        assert_whole(downloads)


def test_a_stop_during_a_reload(bad_day: Hub) -> None:
    """Workers that are only just being started end like the others."""
    with docxy_on_its_own_socket(**bad_day.settings) as proxy, held(proxy, bad_day, 4) as downloads:
        proxy.server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: proxy.log.count("Booting worker") == 4, what="new workers")
        proxy.server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refused(proxy.host), what="the end of listening")
        downloads.gate.open()
        assert_whole(downloads)
        assert proxy.server.process.wait(READY_TIMEOUT) == 0


SLOW_TO_START = """
import time
from server import worker


class Worker(worker.Worker):
    def patch(self):
        time.sleep(1)
        super().patch()
"""


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGQUIT, marks=pytest.mark.soak)]
)
def test_a_stop_of_workers_without_handlers(tmp_path: Path, number: signal.Signals) -> None:
    """A worker that is told to end before it can listen to signals ends nevertheless."""
    (tmp_path / "slow_to_start.py").write_text(SLOW_TO_START)
    arguments = ["--worker-class", "slow_to_start.Worker", "--pythonpath", str(tmp_path)]
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", *arguments]
    with running(command) as server:
        wait_until(lambda: server.log.count("Booting worker") == 2, what="two workers")
        server.process.send_signal(number)
        assert server.process.wait(READY_TIMEOUT) == 0  # the longest stop takes four hours


@pytest.mark.parametrize(
    "number", [signal.SIGQUIT, pytest.param(signal.SIGINT, marks=pytest.mark.soak)]
)
def test_a_quick_stop_breaks_downloads(bad_day: Hub, number: signal.Signals) -> None:
    """The end comes at once, and no client takes what it has for all."""
    with docxy_on_its_own_socket(**bad_day.settings) as proxy, held(proxy, bad_day) as downloads:
        proxy.server.process.send_signal(number)
        assert_broken(downloads, proxy)
        assert proxy.server.process.wait(READY_TIMEOUT) == 0
        assert "Traceback" not in proxy.log


def test_a_stop_that_becomes_urgent(bad_day: Hub) -> None:
    """SIGQUIT ends what SIGTERM lets run."""
    with docxy_on_its_own_socket(**bad_day.settings) as proxy, held(proxy, bad_day) as downloads:
        proxy.server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refused(proxy.host), what="the end of listening")
        proxy.server.process.send_signal(signal.SIGQUIT)
        assert_broken(downloads, proxy)
        assert proxy.server.process.wait(READY_TIMEOUT) == 0


@pytest.mark.parametrize(
    ("number", "chunked"), [(signal.SIGTERM, False), (signal.SIGHUP, True)], ids=["stop", "reload"]
)
def test_a_stop_whose_time_is_over(bad_day: Hub, number: signal.Signals, *, chunked: bool) -> None:
    """What still runs is cut; a request that waits behind it is not answered into its midst."""
    with (
        docxy_on_its_own_socket("--graceful-timeout", "2", **bad_day.settings) as proxy,
        held(proxy, bad_day, chunked=chunked) as downloads,
    ):
        old = workers(proxy)
        for one in downloads.clients:
            one.ask("/health")
        proxy.server.process.send_signal(number)
        assert_broken(downloads, proxy)
        wait_until(lambda: not old & workers(proxy), what="the end of the workers")
        assert proxy.log.count("Graceful shutdown timed out.") in {1, 2}
        assert "Traceback" not in proxy.log


def test_a_stop_whose_time_is_over_for_http_1_0(bad_day: Hub) -> None:
    """Without chunks and without a length, a body that is cut ends in a reset."""
    with (
        docxy_on_its_own_socket("--graceful-timeout", "2", **bad_day.settings) as proxy,
        held(proxy, bad_day, 4, chunked=True, version="HTTP/1.0") as downloads,
    ):
        proxy.server.process.send_signal(signal.SIGTERM)
        assert_broken(downloads, proxy)
        assert {one.ending for one in downloads.clients} == {Ending.RESET}
