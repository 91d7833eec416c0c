"""Additions to gunicorn's master: accepted settings, and reloads that wait for no download.

The master checks the settings before it uses them and hands the accepted ones to its workers. A
reload does not block the master, a new worker loses no signal, and the master retries a worker
that cannot start after growing pauses instead of at once.

This module is not part of `app`: gunicorn.conf.py loads it in the master, which may import
little: see server/__init__.py.
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

_METRICS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_CHECK_PROGRAM: Final = """
import gc, os
gc.disable()
settings = os.dup(1)
os.dup2(2, 1)  # whatever an import prints is not to get into the settings
from app import startup
startup.check(settings)
"""
_MAX_PORT: Final = 65535
_STOP_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGQUIT, signal.SIGINT})
_MAX_PAUSE: Final = 60
_MAX_OUTAGE_PAUSE: Final = 10
"""The longest pause, in seconds, when no worker serves: new clients wait for the next attempt.

`_MAX_PAUSE` is the limit, in seconds, when at least one worker serves.
"""
_MAX_FAILURES: Final = 3
"""Failed attempts in a row after which the master exits, if no worker is left."""
_HALT_STATUS: Final = 3
"""The exit status in that case, the same as gunicorn's own for workers that fail to boot."""
_DIGITS: Final = re.compile("[0-9]{1,5}")
"""One to five ASCII digits. No port has more; int() also accepts the digits of other scripts, and
raises ValueError from 4,301 digits on."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check: either a message that lists every fault, or the accepted settings."""

    status: int
    """The exit status for a start: 0 if nothing is wrong, 3 if the machine is at fault."""
    faults: str
    settings: bytes
    """The contents of the settings files, secrets included, as `startup.check` writes them."""


def check(
    workers: int | None = None, addresses: Sequence[object] = (), *, reuse_port: bool = False
) -> CheckResult:
    """Check the current settings, and that gunicorn can listen on `addresses`.

    Return a `CheckResult`; faults are reported in it, not raised. The check runs in a process of
    its own, because the master must not import what the application imports: gevent has yet to
    patch the workers. `workers` overrides WEB_CONCURRENCY, since gunicorn's arguments may have set
    the number of workers; `None` leaves the variable as it is.
    """
    environment = {name: value for name, value in os.environ.items() if name != _METRICS_VARIABLE}
    if workers is not None:
        environment[WORKERS] = str(workers)
    listen_options = json.dumps({"addresses": addresses, "reuse_port": reuse_port})
    try:
        completed = subprocess.run(
            [sys.executable, "-c", _CHECK_PROGRAM, listen_options],
            env=environment,
            pass_fds=[
                address for address in addresses if isinstance(address, int) and _is_open(address)
            ],
            capture_output=True,
            check=False,
        )
    except OSError as error:  # the machine has no process or no memory to spare
        return _build_failed_check(str(error))
    if completed.returncode < 0:
        return _build_failed_check(f"signal {-completed.returncode} ended the process that does it")
    if completed.returncode:
        return CheckResult(
            completed.returncode, completed.stderr.decode(errors="replace").rstrip(), b""
        )
    return CheckResult(0, "", completed.stdout)


def _build_failed_check(reason: str) -> CheckResult:
    message = f"Docxy cannot start: the settings cannot be checked ({reason})"
    return CheckResult(_HALT_STATUS, message, b"")


def refuse(result: CheckResult) -> NoReturn:
    """Write the faults of a check to standard error and raise SystemExit with its status."""
    sys.stderr.write(f"{result.faults}\n")
    sys.exit(result.status)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


_accepted = b""


def accept(settings: bytes) -> None:
    """Store the settings for all workers that are started from now on."""
    global _accepted  # noqa: PLW0603 - a master has one set of settings
    _accepted = settings


def get_accepted() -> bytes:
    """Return the accepted settings, or `b""` if a worker has to read the settings itself."""
    return _accepted


def read_log_format() -> str:
    """Return the log format as the environment or the configuration file sets it now.

    The value is not validated: `check` reports one that is neither "text" nor "json". Return "text"
    if none is set or the file cannot be read.
    """
    if form := os.environ.get("DOCXY_LOG_FORMAT"):
        return form
    try:
        path = Path(os.environ.get("DOCXY_CONFIG") or os.devnull)
        return str(tomllib.loads(path.read_text(encoding="utf-8")).get("log_format", "text"))
    except (OSError, ValueError):
        return "text"


def is_port(text: str) -> bool:
    """Return whether gunicorn accepts `text` as PORT: a decimal number up to 65,535."""
    return bool(_DIGITS.fullmatch(text.strip())) and int(text) <= _MAX_PORT


def is_worker_count(text: str) -> bool:
    """Return whether gunicorn can parse `text` as WEB_CONCURRENCY; the settings check its range."""
    return bool(_DIGITS.fullmatch(text.strip()))


class Generations:
    """Separates the workers that serve from old ones, which only finish their downloads.

    gunicorn's own reload waits until the old workers have ended, which takes hours if they have
    downloads. Meanwhile it would obey no signal and replace no worker that died. This class
    replaces four methods of gunicorn's arbiter. `clock` returns monotonic seconds.
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
        """The number (gunicorn's `age`) of the youngest old worker."""
        self._hidden: dict[int, Any] = {}
        self._reap = arbiter.reap_workers
        self._last_started = 0
        self._starting: set[int] = set()
        """The numbers (gunicorn's `age`) of workers started but not serving yet."""
        self._was_serving = False
        self._failures, self._pause_ends = 0, 0.0
        self._is_outage_logged = False
        arbiter.reload, arbiter.manage_workers = self.reload, self.manage_workers
        arbiter.wait_for_signals, arbiter.reap_workers = self.wait_for_signals, self.reap_workers

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        """Return the stop signals that arrived; if none did, the others, with one SIGHUP at most.

        `timeout` is in seconds. Each reload takes seconds, and gunicorn would obey a stop only
        after every reload that arrived before it.
        """
        signals: list[int] = self._wait(timeout=timeout)
        if stops := [number for number in signals if number in _STOP_SIGNALS]:
            return stops
        others = [number for number in signals if number != signal.SIGHUP]
        return [*others, signal.SIGHUP] if signal.SIGHUP in signals else others

    def reload(self) -> None:
        """Start new workers and send SIGTERM to the old ones, without waiting for either."""
        self._last_old = self._arbiter.worker_age
        self._failures, self._pause_ends = 0, 0.0
        with self._hide_old_workers() as old_workers:
            self._reload()
        for pid in old_workers:
            self._arbiter.kill_worker(pid, signal.SIGTERM)

    def manage_workers(self) -> None:
        """Start missing workers and end surplus ones; old workers do not count.

        A worker that cannot start is retried after growing pauses. Raise HaltServer if three
        attempts in a row have failed and no worker is left, not even an old one: clients are then
        refused instead of waiting in vain, and the supervisor of this process notices.
        """
        self._count_failures()
        with self._hide_old_workers() as old_workers:
            is_missing = len(self._arbiter.WORKERS) < self._arbiter.num_workers
            if self._failures >= _MAX_FAILURES and not self._arbiter.WORKERS:
                self._log_outage_or_halt(is_draining=bool(old_workers))
            if is_missing and self._clock() < self._pause_ends:
                return
            try:
                self._manage()
            except (OSError, RuntimeError) as error:
                # The fork or the heartbeat file failed. gunicorn would cut all downloads and exit.
                # It has already numbered the worker, so `_count_failures` counts the failure.
                fields = {"error": str(error)}
                self._arbiter.log.error("Cannot fork a worker.", extra={"fields": fields})  # noqa: TRY400 - no traceback helps

    def _log_outage_or_halt(self, *, is_draining: bool) -> None:
        """Log that no worker serves; raise HaltServer unless old workers still have downloads.

        A halt would wait hours for those downloads while nothing listens. The error is logged
        before the halt, because a halt logs nothing until all workers have ended.
        """
        if not is_draining:
            self._arbiter.log.error("No worker is running and none can start; exiting.")
            reason = "no worker can start"
            raise HaltServer(reason, _HALT_STATUS)
        if not self._is_outage_logged:
            self._is_outage_logged = True
            self._arbiter.log.error(
                "No worker accepts connections; old workers finish their downloads, and new "
                "clients wait.",
                extra={"fields": {"max_pause_seconds": _MAX_OUTAGE_PAUSE}},
            )

    def reap_workers(self) -> None:
        """Reap the workers that have ended; never raise HaltServer.

        gunicorn would stop everything, serving workers included, because of one worker that does
        not start. The cause may pass: new code is still being copied, or memory is short.
        """
        while True:
            with contextlib.suppress(HaltServer):
                self._reap()
                return

    def _count_failures(self) -> None:
        """Find the workers that have begun to serve since the last call, and those that failed.

        Set the pause before the next attempt: 1, 2, 4 seconds and so on, up to the limit.
        """
        last, self._last_started = self._last_started, self._arbiter.worker_age
        self._starting |= set(range(last + 1, self._last_started + 1))
        alive = {worker.age for worker in self._arbiter.WORKERS.values()}
        booted = {age for age in self._starting if shared_memory.has_booted(age)}
        failed = {age for age in self._starting - booted - alive if age > self._last_old}
        self._starting &= alive - booted
        if booted and self._failures:
            self._arbiter.log.info("Workers can start again.")
        is_serving = any(age > self._last_old and shared_memory.has_booted(age) for age in alive)
        # When the last serving worker is gone, the longer pauses no longer fit: start over.
        if booted or (self._was_serving and not is_serving):
            self._failures, self._pause_ends = 0, 0.0
            self._is_outage_logged = False
        self._was_serving = is_serving
        if failed:
            max_pause = _MAX_PAUSE if is_serving else _MAX_OUTAGE_PAUSE
            if not self._failures:
                self._arbiter.log.error(
                    "A worker cannot start; retrying after increasing pauses.",
                    extra={"fields": {"max_pause_seconds": max_pause}},
                )
            pause = min(2**self._failures, max_pause)
            self._failures += 1
            self._pause_ends = self._clock() + pause

    def prepare_new_worker(self, worker: Any) -> None:  # noqa: ANN401 - gunicorn's Worker
        """Make a new worker obey stop signals at once, and close the files of hidden siblings.

        Until the worker installs its own handlers it has the master's, which put signals into a
        queue that no code reads in the worker. gunicorn sends a stop only once, and would wait for
        such a worker until `graceful_timeout` is over.
        """

        def end(*_: object) -> None:
            worker.alive = False

        for number in _STOP_SIGNALS:
            signal.signal(number, end)
        queue = self._arbiter.SIG_QUEUE
        while not queue.empty():
            if queue.get_nowait() in _STOP_SIGNALS:
                end()
        for sibling in self._hidden.values():
            sibling.tmp.close()

    @contextlib.contextmanager
    def _hide_old_workers(self) -> Iterator[dict[int, Any]]:
        """Hide the old workers from the arbiter, which then neither counts nor awaits them.

        Yield the hidden workers by process id.
        """
        workers: dict[int, Any] = self._arbiter.WORKERS
        old = {pid: worker for pid, worker in workers.items() if worker.age <= self._last_old}
        self._arbiter.WORKERS = {pid: workers[pid] for pid in workers.keys() - old.keys()}
        previously_hidden, self._hidden = self._hidden, self._hidden | old
        try:
            yield old
        finally:
            self._arbiter.WORKERS |= old
            self._hidden = previously_hidden
