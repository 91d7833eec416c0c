"""Work that does not stop the event loop: with gevent's patching, and without."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.threads import NativeThreadPool, get_unpatched
from tests.servers import ROOT

PATIENCE = 10.0


def boom() -> None:
    """Fail."""
    message = "boom"
    raise LookupError(message)


def test_results() -> None:
    """What work gives, and what it raises, comes back."""
    threads = NativeThreadPool(2)
    assert threads.submit(divmod, 7, 2).result(PATIENCE) == (3, 1)
    assert threads.submit(int, "11", 2).result() == 3
    with pytest.raises(LookupError, match="boom"):
        threads.submit(boom).result(PATIENCE)


def test_patience_ends() -> None:
    """The work goes on, and nobody waits for it any more."""
    threads, go_on = NativeThreadPool(1), threading.Event()
    try:
        with pytest.raises(TimeoutError):
            threads.submit(go_on.wait, PATIENCE).result(0.01)
    finally:
        go_on.set()
    assert threads.submit(int, "7").result(PATIENCE) == 7


def test_get_unpatched() -> None:
    """Without patching, a function is what it is."""
    assert get_unpatched("os", "getcwd") is __import__("os").getcwd


_PATCHED = """
from gevent import monkey
monkey.patch_all()
import gevent, os, select, socket, threading, time
from app.threads import NativeThreadPool, get_unpatched

assert get_unpatched("socket", "getaddrinfo") is not socket.getaddrinfo
real_read = get_unpatched("os", "read")
threads = NativeThreadPool(2)


def ticking(until):
    ticks = 0
    while not until():
        gevent.sleep(0.01)
        ticks += 1
    return ticks


def pipe():
    return os.pipe()
"""


def patched(tmp_path: Path, source: str) -> str:
    """Run a program under gevent's patching, and return what it says."""
    script = tmp_path / "program.py"
    script.write_text(_PATCHED + source)
    done = subprocess.run(
        [sys.executable, script], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_the_loop_goes_on(tmp_path: Path) -> None:
    """A call that waits in the C library is waited for by one greenlet alone."""
    source = """
ours, theirs = pipe()
pending = threads.submit(real_read, ours, 1)
other = gevent.spawn(lambda: (gevent.sleep(0.1), os.write(theirs, b"x")))
assert pending.result(30) == b"x"
try:
    threads.submit(lambda: 1 / 0).result(30)
except ZeroDivisionError:
    print("ok")
"""
    assert patched(tmp_path, source) == "ok"


def test_patience_ends_under_gevent(tmp_path: Path) -> None:
    """With Python's own error, and not gevent's, which is no Exception."""
    source = """
ours, theirs = pipe()
pending = threads.submit(real_read, ours, 1)
try:
    pending.result(0.05)
except TimeoutError as error:
    print(type(error).__name__)
os.write(theirs, b"x")
assert pending.result(30) == b"x"
"""
    assert patched(tmp_path, source) == "TimeoutError"


def test_patience_ends_while_all_threads_are_busy(tmp_path: Path) -> None:
    """Whoever comes when all of them hang has the same patience."""
    source = """
ours, theirs = pipe()
hanging = [threads.submit(real_read, ours, 1) for _ in range(2)]
began = time.monotonic()


def come():
    try:
        threads.submit(int, "7", patience=0.1).result(0.1)
    except TimeoutError:
        return time.monotonic() - began


late = [gevent.spawn(come) for _ in range(5)]
gevent.joinall(late, timeout=10)
print(all(one.ready() for one in late))
os.write(theirs, b"xx")
"""
    assert patched(tmp_path, source) == "True"


AT_THE_END = """
import threading
from app.threads import NativeThreadPool

threads = NativeThreadPool(1)
threads.submit(int, "7").result()

def go_on():
    while True:
        threads.submit(int, "7").result()

threading.Thread(target=go_on, daemon=True).start()
"""


def test_the_end_of_the_process() -> None:
    """What still wants something then ends without a traceback."""
    for _ in range(5):
        ended = subprocess.run(
            [sys.executable, "-c", AT_THE_END],
            cwd=ROOT,
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, b"")
