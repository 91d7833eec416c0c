"""gunicorn's master: it keeps the settings that were accepted, and the workers that serve.

A reload holds up nothing, no signal to a new worker is lost, and a worker that cannot start is
not started again and again.

Not part of `app`: gunicorn.conf.py loads it, where nothing that gevent patches may be imported yet.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from gunicorn.errors import HaltServer

from app import shared_memory

WORKERS: Final = "WEB_CONCURRENCY"

_COUNTS: Final = "PROMETHEUS_MULTIPROC_DIR"
_CHECK: Final = """
import gc, os
gc.disable()
settings = os.dup(1)
os.dup2(2, 1)  # whatever an import prints is not to get into the settings
from app import startup
startup.check(settings)
"""
_HIGHEST_PORT: Final = 65535
_ENDS: Final = frozenset({signal.SIGTERM, signal.SIGQUIT, signal.SIGINT})
_LONGEST_PAUSE: Final = 60
_LONGEST_OUTAGE: Final = 10
"""The longest pause, in seconds, when no worker serves: new clients wait for the next attempt."""
_MOST_FAILURES: Final = 3
"""So many attempts in a row that start no worker end the process, if none serves."""
_CANNOT_START: Final = 3
"""The status in that case, which is gunicorn's own for workers that do not boot."""
_DIGITS: Final = re.compile("[0-9]{1,5}")
"""No port has more, and int() raises ValueError from 4,301 on; it also takes other scripts'."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check has found: a message that lists every fault, or else what was accepted."""

    status: int
    """What a start has to end with: 0 if nothing is wrong, 3 for a fault of the machine."""
    faults: str
    settings: bytes
    """What the files of the settings hold, with their secrets, as startup.check writes it."""


def check(
    workers: int | None = None, addresses: Sequence[object] = (), *, reuse_port: bool = False
) -> Checked:
    """Check the settings as they are now, and that gunicorn can listen at addresses.

    In a process of its own: what the application imports must not be imported here, before
    gevent has patched the workers. An argument may have said how many of them there will be.
    """
    environment = {name: value for name, value in os.environ.items() if name != _COUNTS}
    if workers is not None:
        environment[WORKERS] = str(workers)
    given = json.dumps({"addresses": addresses, "reuse_port": reuse_port})
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHECK, given],
            env=environment,
            pass_fds=[one for one in addresses if isinstance(one, int) and _is_open(one)],
            capture_output=True,
            check=False,
        )
    except OSError as error:  # there is no process or no memory for it
        return _unchecked(str(error))
    if done.returncode < 0:
        return _unchecked(f"signal {-done.returncode} ended the process that does it")
    if done.returncode:
        return Checked(done.returncode, done.stderr.decode(errors="replace").rstrip(), b"")
    return Checked(0, "", done.stdout)


def _unchecked(reason: str) -> Checked:
    message = f"Docxy cannot start: the settings cannot be checked ({reason})"
    return Checked(_CANNOT_START, message, b"")


def refuse(checked: Checked) -> NoReturn:
    """End this process with what a check has found wrong."""
    sys.stderr.write(f"{checked.faults}\n")
    sys.exit(checked.status)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


_accepted = b""


def accept(settings: bytes) -> None:
    """Let workers that are started from now on have these settings."""
    global _accepted  # noqa: PLW0603 - a master has one set of settings
    _accepted = settings


def accepted() -> bytes:
    """Return the settings for a worker, or nothing if it has to read them itself."""
    return _accepted


def log_form() -> str:
    """Return the form of log lines as it is set now, "text" or "json"; check() tells faults."""
    if form := os.environ.get("DOCXY_LOG_FORMAT"):
        return form
    try:
        path = Path(os.environ.get("DOCXY_CONFIG") or os.devnull)
        return str(tomllib.loads(path.read_text(encoding="utf-8")).get("log_format", "text"))
    except (OSError, ValueError):
        return "text"


def is_port(text: str) -> bool:
    """Tell whether a PORT is one that gunicorn can take."""
    return bool(_DIGITS.fullmatch(text.strip())) and int(text) <= _HIGHEST_PORT


def is_count(text: str) -> bool:
    """Tell whether gunicorn can read a WEB_CONCURRENCY; the settings say which it may be."""
    return bool(_DIGITS.fullmatch(text.strip()))


class Generations:
    """Tells the workers that serve from old ones, which finish their downloads and no more.

    gunicorn's own reload waits until the old ones have ended, for hours if they have downloads:
    it would obey no signal meanwhile, and replace no worker that died.
    """

    def __init__(
        self,
        arbiter: Any,  # noqa: ANN401 - gunicorn's Arbiter, not to be imported here
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._arbiter, self._clock = arbiter, clock
        self._reload, self._manage = arbiter.reload, arbiter.manage_workers
        self._wait = arbiter.wait_for_signals
        self._last_old = 0
        """Up to this age they are old: the arbiter numbers its workers."""
        self._hidden: dict[int, Any] = {}
        self._reap = arbiter.reap_workers
        self._last_started = 0
        self._starting: set[int] = set()
        """Workers that have been started, and have not begun to serve."""
        self._have_served = False
        self._failures, self._pause_ends = 0, 0.0
        self._outage_is_told = False
        arbiter.reload, arbiter.manage_workers = self.reload, self.manage_workers
        arbiter.wait_for_signals, arbiter.reap_workers = self.wait_for_signals, self.reap_workers

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        """Return what has come meanwhile: nothing but the stops, or one reload for all of them.

        Each takes seconds, and gunicorn would obey a stop after all that came before it.
        """
        came: list[int] = self._wait(timeout=timeout)
        if ends := [number for number in came if number in _ENDS]:
            return ends
        others = [number for number in came if number != signal.SIGHUP]
        return [*others, signal.SIGHUP] if signal.SIGHUP in came else others

    def reload(self) -> None:
        """Start new workers, tell the old ones to finish, and wait for neither."""
        self._last_old = self._arbiter.worker_age
        self._failures, self._pause_ends = 0, 0.0
        with self._old_aside() as old:
            self._reload()
        for pid in old:
            self._arbiter.kill_worker(pid, signal.SIGTERM)

    def manage_workers(self) -> None:
        """Start what is missing of those that serve, and end what is too many of them.

        What cannot start is tried again after growing pauses. Raise HaltServer if several attempts
        have failed and no worker is left: clients are refused then, where they would wait for
        nothing, and whoever supervises this process knows.
        """
        self._count_failures()
        with self._old_aside() as old:
            is_missing = len(self._arbiter.WORKERS) < self._arbiter.num_workers
            if self._failures >= _MOST_FAILURES and not self._arbiter.WORKERS:
                self._tell_outage_or_halt(is_draining=bool(old))
            if is_missing and self._clock() < self._pause_ends:
                return
            try:
                self._manage()
            except (OSError, RuntimeError) as error:
                # There is no process for it, no memory or no heartbeat file; gunicorn would cut
                # all downloads and end. It has numbered the worker, which counts as a failure.
                fields = {"error": str(error)}
                self._arbiter.log.error("A worker cannot be made.", extra={"fields": fields})  # noqa: TRY400 - no traceback helps

    def _tell_outage_or_halt(self, *, is_draining: bool) -> None:
        """Go on while old workers have downloads: a halt would wait hours for them, and not listen.

        The log has to say so first, since a halt logs nothing until all workers have ended.
        """
        if not is_draining:
            self._arbiter.log.error("No worker can start, and none is left.")
            reason = "no worker can start"
            raise HaltServer(reason, _CANNOT_START)
        if not self._outage_is_told:
            self._outage_is_told = True
            self._arbiter.log.error(
                "No worker serves. Old ones finish their downloads, and new clients wait.",
                extra={"fields": {"longest_pause": _LONGEST_OUTAGE}},
            )

    def reap_workers(self) -> None:
        """Take note of workers that have ended.

        gunicorn would end everything, also the workers that serve, because of one that does not
        start: new code that is being copied may be why, or a machine without memory.
        """
        while True:
            with contextlib.suppress(HaltServer):
                self._reap()
                return

    def _count_failures(self) -> None:
        """See which workers have begun to serve since the last time, and which never will."""
        last, self._last_started = self._last_started, self._arbiter.worker_age
        self._starting |= set(range(last + 1, self._last_started + 1))
        alive = {worker.age for worker in self._arbiter.WORKERS.values()}
        begun = {age for age in self._starting if shared_memory.has_booted(age)}
        failed = {age for age in self._starting - begun - alive if age > self._last_old}
        self._starting &= alive - begun
        if begun and self._failures:
            self._arbiter.log.info("Workers can start again.")
        serve = any(age > self._last_old and shared_memory.has_booted(age) for age in alive)
        # When the last one that served is gone, the pauses are too long.
        if begun or (self._have_served and not serve):
            self._failures, self._pause_ends = 0, 0.0
            self._outage_is_told = False
        self._have_served = serve
        if failed:
            longest = _LONGEST_PAUSE if serve else _LONGEST_OUTAGE
            if not self._failures:
                self._arbiter.log.error(
                    "A worker cannot start. It is tried again, after longer and longer pauses.",
                    extra={"fields": {"longest_pause": longest}},
                )
            pause = min(2**self._failures, longest)
            self._failures += 1
            self._pause_ends = self._clock() + pause

    def in_new_worker(self, worker: Any) -> None:  # noqa: ANN401 - gunicorn's Worker
        """Heed what ends a worker while it has no handlers yet, and close what it inherited.

        Until then it has the master's, which put signals into a queue that nobody reads here.
        gunicorn sends them once, and would wait for such a worker until the time to stop is over.
        """

        def end(*_: object) -> None:
            worker.alive = False

        for number in _ENDS:
            signal.signal(number, end)
        queue = self._arbiter.SIG_QUEUE
        while not queue.empty():
            if queue.get_nowait() in _ENDS:
                end()
        for sibling in self._hidden.values():
            sibling.tmp.close()

    @contextlib.contextmanager
    def _old_aside(self) -> Iterator[dict[int, Any]]:
        """Hide the old workers from the arbiter: it neither counts them nor waits for them."""
        everyone: dict[int, Any] = self._arbiter.WORKERS
        old = {pid: worker for pid, worker in everyone.items() if worker.age <= self._last_old}
        self._arbiter.WORKERS = {pid: everyone[pid] for pid in everyone.keys() - old.keys()}
        hidden, self._hidden = self._hidden, self._hidden | old
        try:
            yield old
        finally:
            self._arbiter.WORKERS |= old
            self._hidden = hidden
