"""How much each may have: two workers that count together in a real Redis, before a hub."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import bcrypt
import pytest
import requests

from tests import programs
from tests.clients.process import CommandFailed
from tests.hub.hub import Hub
from tests.hub.images import OCI_INDEX, OCI_MANIFEST, Blob, Image
from tests.integration.caching import asked, push
from tests.integration.pulling import Way
from tests.integration.pulling import client as client_of
from tests.lines import all_lines, only
from tests.redis_server import RedisServer, redis_server
from tests.servers import ROOT, Docxy, clean_environment, docxy, wait_until
from tests.wire.names import pipe_of, resolving
from tests.wire.shelf import users

pytestmark = pytest.mark.integration

NAME = "library/limited"
REQUESTS, DOWNLOADS, PULLS = 40, 2, 5
FEW = 15.0
"""Seconds in which both workers have had all pulls of a test; a wait for each makes it 40."""
LARGE = 12_000_000
"""Bytes of a layer: more than the buffers of a connection hold."""
_NETWORKS = count(1)


@dataclass(frozen=True)
class Limited:
    """A Docxy with limits, behind this machine as the server in front."""

    proxy: Docxy
    hub: Hub
    redis: RedisServer

    def ask(
        self, path: str, client: str, method: str = "GET", part: str = "", **more: object
    ) -> requests.Response:
        """Ask on a connection of its own, so that either worker may be the one."""
        headers = {"X-Forwarded-For": client, "Accept": f"{OCI_INDEX}, {OCI_MANIFEST}"}
        if part:
            headers["Range"] = f"bytes={part}"
        url = f"{self.proxy.url}{path}"
        return requests.request(method, url, headers=headers, timeout=60, **more)  # type: ignore[arg-type]

    def sent(self, client: str) -> int:
        """Return how many bytes are counted for a client."""
        keys = self.redis.client.keys(f"*bytes*address {client}/*")
        return sum(int(self.redis.client.get(key) or 0) for key in keys)

    def downloads(self, client: str) -> int:
        """Return how many places a client has taken."""
        return int(self.redis.client.zcard(f"docxy:downloads:address {client}"))


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    programs.require("docker-registry")
    with Hub() as hub:
        hub.limit = None  # the only ones are Docxy's
        yield hub


@pytest.fixture(scope="module")
def image(hub: Hub) -> Image:
    """Return what is there to pull."""
    return push(hub, NAME, LARGE)


@pytest.fixture(scope="module")
def limited(hub: Hub, image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    """Return a Docxy of two workers that limits all it can, also what it has in its cache."""
    del image
    settings = {
        "DOCXY_LIMIT_BYTES": "30MB",
        "DOCXY_CACHE_DIR": str(tmp_path_factory.mktemp("limited") / "cache"),
        "DOCXY_CACHE_MIN_FREE": "1MB",
    }
    with redis_server() as redis, limiting(hub, redis, **settings) as found:
        yield found


@contextlib.contextmanager
def limiting(hub: Hub, redis: RedisServer, **settings: str) -> Iterator[Limited]:
    """Run one."""
    limits = {
        "DOCXY_CREDENTIALS": "managed",
        "DOCXY_LIMIT_REQUESTS": str(REQUESTS),
        "DOCXY_LIMIT_DOWNLOADS": str(DOWNLOADS),
        "DOCXY_LIMIT_PULLS": str(PULLS),
        "DOCXY_REDIS_URL": redis.url,
    }
    with docxy(**hub.settings | limits | settings) as proxy:
        yield Limited(proxy, hub, redis)


@pytest.fixture
def client() -> str:
    """Return an address that has had nothing yet."""
    return f"198.51.100.{next(_NETWORKS)}"


def largest(image: Image) -> Blob:
    """Return the layer that takes a while."""
    return max(image.all_blobs.values(), key=lambda blob: blob.size)


def layer(image: Image) -> str:
    """Return the path of the largest blob."""
    return f"/v2/{NAME}/blobs/{largest(image).digest}"


MANIFEST = f"/v2/{NAME}/manifests/1"


def is_refusal(answer: requests.Response, message: str) -> bool:
    """Tell whether clients read that they have had enough."""
    (error,) = answer.json()["errors"]
    return (
        (answer.status_code, error["code"]) == (429, "TOOMANYREQUESTS")
        and message in error["message"]
        and int(answer.headers["Retry-After"]) > 0
    )


def test_both_workers_count_requests(limited: Limited, client: str) -> None:
    """Many at once: exactly as many as a minute may have are answered, whoever answers them."""
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: limited.ask("/v2/", client), range(REQUESTS + 20)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(429)) == (REQUESTS, 20)
    limited.hub.reset()
    for worker in limited.proxy.workers:
        with only(limited.proxy, worker):
            assert is_refusal(limited.ask(MANIFEST, client), "limit of requests per minute")
            assert limited.ask("/health", client).status_code == 200
    assert asked(limited.hub) == []


def test_both_workers_count_pulls(limited: Limited, client: str) -> None:
    """Exactly so many of many at once; what is refused reaches no registry; HEAD is no pull."""
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: limited.ask(MANIFEST, client), range(PULLS + 15)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(429)) == (PULLS, 15)
    limited.hub.reset()
    for worker in limited.proxy.workers:
        with only(limited.proxy, worker):
            assert is_refusal(limited.ask(MANIFEST, client), "limit of pulls per day")
    assert asked(limited.hub) == []
    assert limited.ask(MANIFEST, client, "HEAD").status_code == 200


def test_downloads_of_both_workers(limited: Limited, image: Image, client: str) -> None:
    """One that stands still in one worker counts in the other; its end gives the place back."""
    with contextlib.ExitStack() as stack:
        running = []
        for worker in limited.proxy.workers:
            with only(limited.proxy, worker):
                answer = limited.ask(layer(image), client, stream=True)
            running.append(stack.enter_context(answer))
            assert answer.status_code == 200
        limited.hub.reset()
        for worker in limited.proxy.workers:
            with only(limited.proxy, worker):
                assert is_refusal(
                    limited.ask(layer(image), client), "limit of concurrent downloads"
                )
        assert asked(limited.hub) == []
        running[0].close()  # a client that goes away
        wait_until(lambda: limited.downloads(client) == 1, what="a place")
        whole = limited.ask(layer(image), client)
        assert (whole.status_code, len(whole.content)) == (200, largest(image).size)


def test_bytes(limited: Limited, image: Image, client: str) -> None:
    """Whoever has had them gets no more, and what has begun is whole."""
    for _ in range(3):
        answer = limited.ask(layer(image), client)
        assert (answer.status_code, len(answer.content)) == (200, largest(image).size)
    wait_until(
        lambda: limited.sent(client) == 3 * largest(image).size, what="the end of the last one"
    )
    limited.hub.reset()
    assert is_refusal(limited.ask(layer(image), client), "limit of bytes per day")
    assert is_refusal(limited.ask(MANIFEST, client), "limit of bytes per day")
    assert asked(limited.hub) == []


def test_bytes_that_were_sent(limited: Limited, image: Image, client: str) -> None:
    """A part counts as that part, what breaks off as what went, and a HEAD not at all."""
    path, size = layer(image), largest(image).size
    # What the client alone fetches would count too.
    wait_until(lambda: "hit" in limited.ask(path, "192.0.2.99").headers.get("Cache-Status", ""))
    assert limited.ask(path, client, "HEAD").status_code == 200
    part = limited.ask(path, client, part="1000-1999")
    assert (part.status_code, len(part.content)) == (206, 1000)
    wait_until(lambda: limited.sent(client) == 1000, what="the part")
    with limited.ask(path, client, stream=True) as answer:
        next(answer.iter_content(1000))
    wait_until(lambda: limited.downloads(client) == 0, what="its place")
    wait_until(lambda: limited.sent(client) >= 2000, what="what was sent of the whole")
    assert limited.sent(client) < size
    unsatisfiable = limited.ask(path, client, part=f"{size}-")
    assert unsatisfiable.status_code == 416
    wait_until(lambda: limited.downloads(client) == 0, what="its place")


def test_refusals_are_logged_and_counted(limited: Limited, client: str) -> None:
    """With who it was and which limit; no password of Redis is in the log."""
    for _ in range(PULLS + 1):
        limited.ask(MANIFEST, client)
    log = all_lines(limited.proxy)
    refusals = [line for line in log.splitlines() if "Request refused." in line]
    assert any(f"client={client}" in line and "rule=limit-pulls" in line for line in refusals)
    assert limited.redis.password not in log
    text = requests.get(f"{limited.proxy.url}/metrics", timeout=30).text
    assert 'docxy_refusals_total{rule="limit-pulls"}' in text


@pytest.mark.parametrize("name", ["docker", "docker-containerd", "ctr"])
def test_what_clients_show(limited: Limited, tmp_path: Path, name: str) -> None:
    """They come from this machine's own address, and say at once that it has had its pulls."""
    while limited.ask(MANIFEST, "").status_code == 200:
        pass
    host = limited.proxy.host
    way = Way("plain", limited.proxy.url, host, None, lambda: limited.proxy.log)
    limited.hub.reset()
    with client_of(name, way, "by name", tmp_path) as one, pytest.raises(CommandFailed) as failed:
        one.pull(f"{host}/{NAME}:1")
    assert (
        "toomanyrequests: you have reached this proxy's limit of pulls per day"
        in failed.value.output
    )
    assert {record.method for record in asked(limited.hub)} <= {"HEAD"}


def test_users_count_wherever_they_are(hub: Hub, image: Image, tmp_path: Path) -> None:
    """Two addresses of one user are one; two users at one address are two."""
    del image
    users, password = tmp_path / "users", "pw-of-both"
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    users.write_text(f"alice:{hashed}\nbob:{hashed}\n")
    settings = {"DOCXY_HTPASSWD_FILE": str(users), "DOCXY_TOKEN_KEY": "k" * 32}
    with redis_server() as redis, limiting(hub, redis, **settings) as club:

        def pulls(user: str, address: str) -> int:
            return club.ask(MANIFEST, address, auth=(user, password)).status_code

        assert [pulls("alice", f"203.0.113.{at}") for at in range(PULLS)] == [200] * PULLS
        assert pulls("alice", "203.0.113.99") == 429
        assert pulls("bob", "203.0.113.0") == 200


def test_without_redis(hub: Hub, image: Image, client: str) -> None:
    """Pulls go on without limits, and each worker says so once; how it comes back takes longer."""
    del image
    with redis_server() as redis, limiting(hub, redis) as found:
        for _ in range(PULLS):
            assert found.ask(MANIFEST, client).status_code == 200
        assert is_refusal(found.ask(MANIFEST, client), "limit of pulls per day")
        redis.stop()
        assert waited(found, client) < FEW
        assert found.proxy.log.count("Redis is unavailable") == 2


@pytest.mark.soak
def test_redis_goes_and_comes(hub: Hub, image: Image, client: str) -> None:
    """Pulls go on without it; each worker says so once, and counts again when it is back.

    At first it answers nobody, and then it is not there at all.
    """
    del image
    with redis_server() as redis, limiting(hub, redis) as found:
        for _ in range(PULLS):
            assert found.ask(MANIFEST, client).status_code == 200
        assert is_refusal(found.ask(MANIFEST, client), "limit of pulls per day")
        away = [(redis.freeze, redis.thaw), (redis.stop, redis.start)]
        for outages, (goes, comes) in enumerate(away, 1):
            goes()
            assert waited(found, client) < FEW
            assert found.proxy.log.count("Redis is unavailable") == 2 * outages
            comes()
            wait_until(partial(count_again, found, outages), what="both workers to count")
            remembers = outages == 1
            assert (found.ask(MANIFEST, client).status_code == 429) == remembers
        assert found.proxy.log.count("Redis is unavailable") == 2 * len(away)


def waited(found: Limited, client: str) -> float:
    """Return the seconds that many pulls take, by either worker, all at once and one by one."""
    began = time.monotonic()
    for worker in found.proxy.workers:
        with only(found.proxy, worker), ThreadPoolExecutor(30) as pool:
            answers = [*pool.map(lambda _: found.ask(MANIFEST, client), range(30))]
            answers += [found.ask(MANIFEST, client) for _ in range(10)]
            assert {answer.status_code for answer in answers} == {200}
    return time.monotonic() - began


def count_again(found: Limited, outages: int) -> bool:
    """Let both workers look, and tell whether they have said that Redis is back."""
    for worker in found.proxy.workers:
        with only(found.proxy, worker):
            found.ask("/v2/", "192.0.2.1")
    return found.proxy.log.count("Redis is available again") == 2 * outages


def test_the_name_of_redis_is_never_answered(
    hub: Hub, image: Image, client: str, tmp_path: Path
) -> None:
    """The event loop does not wait for it, and each request a second at most."""
    del image
    nowhere = RedisServer(Path("nowhere"))
    names = resolving(tmp_path, {}, unanswered=["redis.example"])
    settings = {"DOCXY_REDIS_URL": f"redis://:{nowhere.password}@redis.example"}
    with limiting(hub, nowhere, **settings, **names) as found, answered_at_last(tmp_path):
        assert waited(found, client) < FEW
        assert found.proxy.log.count("Redis is unavailable") == 2
        assert nowhere.password not in found.proxy.log


@contextlib.contextmanager
def answered_at_last(folder: Path) -> Iterator[None]:
    """Let those who wait for a name go on when the block ends: a stop waits for their threads."""
    try:
        yield
    finally:
        os.close(os.open(pipe_of(folder), os.O_WRONLY | os.O_NONBLOCK))


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        pytest.param([], {}, id="two of gunicorn.conf.py"),
        pytest.param(["-w", "2"], {"WEB_CONCURRENCY": "1"}, id="by argument in place of one"),
        pytest.param([], {"GUNICORN_CMD_ARGS": "--workers 2"}, id="by gunicorn's variable"),
    ],
)
def test_several_workers_need_a_redis(arguments: list[str], variables: dict[str, str]) -> None:
    """The start ends with one message that says what to set, wherever their number stands."""
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", *arguments]
    env = clean_environment(DOCXY_LIMIT_PULLS="5", **variables)
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert said.count("Docxy cannot start: one setting is wrong.") == 1
    assert "set DOCXY_REDIS_URL to let them count together, or run one worker" in said
    assert "Traceback" not in said


def test_one_worker_needs_none(hub: Hub, image: Image) -> None:
    """It counts in memory; an argument says that it is alone."""
    del image
    limits = {"DOCXY_CREDENTIALS": "managed", "DOCXY_LIMIT_PULLS": "1"}
    with docxy("--workers", "1", **hub.settings | limits) as proxy:
        found = Limited(proxy, hub, RedisServer(Path("nowhere")))
        assert found.ask(MANIFEST, "198.51.100.1").status_code == 200
        assert is_refusal(found.ask(MANIFEST, "198.51.100.1"), "limit of pulls per day")
        assert found.ask(MANIFEST, "198.51.100.2").status_code == 200


@pytest.fixture(scope="module")
def attacked(hub: Hub) -> list[str]:
    """Return the paths of four layers that take a while."""
    names = [f"library/attacked-{number}" for number in range(2)]
    images = {name: push(hub, name, LARGE) for name in names}
    return [
        f"/v2/{name}/blobs/{blob.digest}"
        for name, image in images.items()
        for blob in image.all_blobs.values()
        if blob.size >= LARGE
    ]


def received(proxy: Docxy) -> float:
    """Return how many bytes of bodies all workers have had from the registry."""
    text = requests.get(f"{proxy.url}/metrics", timeout=30).text
    found = re.findall(r"^docxy_upstream_response_bytes_total\{.*\} (.*)$", text, re.MULTILINE)
    return sum(map(float, found))


@pytest.mark.parametrize("workers", [1, 2], ids=["counted in memory", "counted in Redis"])
def test_fetches_that_nobody_reads(
    hub: Hub, attacked: list[str], tmp_path: Path, workers: int
) -> None:
    """Whoever asks for a byte of each of four layers pays for the chunks that come."""
    cache = tmp_path / "cache"
    settings = hub.settings | {
        "DOCXY_CREDENTIALS": "managed",
        "DOCXY_LIMIT_BYTES": "1MB",
        "DOCXY_LIMIT_DOWNLOADS": "1",
        "DOCXY_CACHE_DIR": str(cache),
        "DOCXY_CACHE_MIN_FREE": "1MB",
    }
    with redis_server() as redis:
        if workers > 1:
            settings["DOCXY_REDIS_URL"] = redis.url
        with docxy(workers=workers, **settings) as proxy:
            found = Limited(proxy, hub, redis)
            attacker, other = "198.51.100.1", "203.0.113.1"
            for path in attacked[:2]:
                assert found.ask(path, attacker, part="0-0").status_code == 206
                wait_until(lambda: not users(cache), what="the end of the fetch")
            assert received(proxy) >= 1_000_000
            for path in attacked:
                assert is_refusal(found.ask(path, attacker, part="0-0"), "limit of bytes per day")
            assert received(proxy) < LARGE / 2
            whole = found.ask(attacked[0], other)
            assert (whole.status_code, int(whole.headers["Content-Length"])) == (
                200,
                len(whole.content),
            )
