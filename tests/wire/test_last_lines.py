"""What a worker has answered is counted and logged, however the worker ends."""

import contextlib
import itertools
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.servers import Docxy, docxy, wait_until
from tests.wire.client import Client

CLIENTS = 8
EACH = 25
_NUMBERS = itertools.count()
LOGGED = re.compile(r" path=/unheard .* request_id=(asked-\d+) ")
COUNTED = re.compile(
    r'^docxy_requests_total\{method="GET",registry="",route="other",status="4xx"\} ([\d.]+)$',
    re.MULTILINE,
)


def master(proxy: Docxy) -> int:
    """Return the process id of what starts the workers."""
    return proxy.server.process.pid


def worker(proxy: Docxy) -> int:
    """Return that of the only worker."""
    (pid,) = proxy.workers
    return pid


def ask(proxy: Docxy) -> list[str]:
    """Ask many times in one piece, so that one ends right after another; return what was answered.

    Where a worker ends meanwhile, not all is.
    """
    names = [f"asked-{next(_NUMBERS)}" for _ in range(EACH)]
    head = f"GET /unheard HTTP/1.1\r\nHost: {proxy.host}\r\nX-Request-ID: "
    answered = []
    with Client(proxy.host) as connection, contextlib.suppress(ConnectionError):
        connection.send("".join(f"{head}{name}\r\n\r\n" for name in names).encode())
        for name in names:
            assert connection.answer().status == 404
            answered.append(name)
    return answered


def ask_much(proxy: Docxy) -> list[str]:
    """Ask so on several connections at once."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        asked = pool.map(ask, [proxy] * CLIENTS)
        return [name for names in asked for name in names]


def counted(proxy: Docxy) -> int:
    """Return how many of these requests were counted by all workers that there were."""
    found = COUNTED.search(requests.get(f"{proxy.url}/metrics", timeout=30).text)
    return int(float(found[1])) if found else 0


def tells_all(proxy: Docxy, answered: list[str]) -> bool:
    """Tell whether each was logged, once, and as many were counted as were logged."""
    logged = Counter(LOGGED.findall(proxy.log))
    assert max(logged.values(), default=0) <= 1
    return logged.keys() >= {*answered} and counted(proxy) == len(logged)


@pytest.fixture(scope="module")
def proxy() -> Iterator[Docxy]:
    """Return one of a single worker; each test ends that, and leaves another one."""
    with docxy(workers=1) as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("whom", "number"),
    [
        pytest.param(worker, signal.SIGTERM, id="a worker stops"),
        pytest.param(worker, signal.SIGQUIT, id="a worker is cut"),
        pytest.param(master, signal.SIGHUP, id="a reload"),
    ],
)
def test_an_end_loses_nothing(
    proxy: Docxy, whom: Callable[[Docxy], int], number: signal.Signals
) -> None:
    """It comes right after the last answer."""
    old, ready = worker(proxy), proxy.log.count("is ready")
    answered = ask_much(proxy)
    os.kill(whom(proxy), number)
    assert len(answered) == CLIENTS * EACH
    wait_until(lambda: proxy.log.count("is ready") > ready, what="the next worker")
    wait_until(lambda: not Path(f"/proc/{old}").exists(), what="the end of the first")
    assert tells_all(proxy, answered)


def test_a_worker_that_ends_after_so_many_requests_loses_nothing() -> None:
    """Those that it answers on its way out are told, too."""
    with docxy("--max-requests", "60", workers=1) as proxy:
        answered = ask_much(proxy)
        assert len(answered) > EACH
        wait_until(lambda: proxy.log.count("is ready") >= 2, what="the next worker")
        wait_until(lambda: tells_all(proxy, answered), 10, "all lines and counts")


def test_a_worker_that_is_killed_has_told_what_is_older(proxy: Docxy) -> None:
    """What had waited for a moment was written, and so is not lost with it."""
    ready = proxy.log.count("is ready")
    answered = ask_much(proxy)
    wait_until(lambda: tells_all(proxy, answered), 5, "all lines and counts")
    os.kill(worker(proxy), signal.SIGKILL)
    wait_until(lambda: proxy.log.count("is ready") > ready, what="the next worker")
    assert tells_all(proxy, answered)
