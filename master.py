"""gunicorn's master, where a reload holds up nothing and no signal to a new worker is lost.

Not part of `app`: gunicorn.conf.py loads it, where nothing that gevent patches may be imported yet.
"""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any, Final

_ENDS: Final = frozenset({signal.SIGTERM, signal.SIGQUIT, signal.SIGINT})


class Generations:
    """Tells the workers that serve from old ones, which finish their downloads and no more.

    gunicorn's own reload waits until the old ones have ended, for hours if they have downloads:
    it would obey no signal meanwhile, and replace no worker that died.
    """

    def __init__(self, arbiter: Any) -> None:  # noqa: ANN401 - gunicorn's Arbiter, not to be imported here
        self._arbiter = arbiter
        self._reload, self._manage = arbiter.reload, arbiter.manage_workers
        self._wait = arbiter.wait_for_signals
        self._last_old = 0
        """Up to this age they are old: the arbiter numbers its workers."""
        self._hidden: dict[int, Any] = {}
        arbiter.reload, arbiter.manage_workers = self.reload, self.manage_workers
        arbiter.wait_for_signals = self.wait_for_signals

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
        with self._old_aside() as old:
            self._reload()
        for pid in old:
            self._arbiter.kill_worker(pid, signal.SIGTERM)

    def manage_workers(self) -> None:
        """Start what is missing of those that serve, and end what is too many of them."""
        with self._old_aside():
            self._manage()

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
