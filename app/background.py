"""Work in the background: a few threads, a bounded queue, and nobody who waits for it."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial


@dataclass(frozen=True, slots=True, order=True)
class _Job:
    """Waiting work, ordered by when it is due (monotonic seconds), then by arrival."""

    due: float
    number: int
    work: Callable[[], object] = field(compare=False)
    is_delayed: bool = field(compare=False)


class BackgroundPool:
    """A bounded pool for one kind of work of this process, on threads of that name.

    Under gevent the threads are greenlets; work that blocks in the C library belongs on an
    `app.threads.NativeThreadPool`. They start with the first work, so that a process may fork
    before, end when there is nothing to do, and are daemons, so that no exit waits for them.
    """

    def __init__(self, name: str, *, threads: int = 1, capacity: int = 16) -> None:
        """Take the number of threads, and how many pieces of work may wait for one of them."""
        self._name = name
        self._threads = threads
        self._capacity = capacity
        self._condition = threading.Condition()
        self._waiting: list[_Job] = []
        self._numbers = itertools.count()
        self._running = 0

    def submit(self, work: Callable[[], object], delay: float = 0.0) -> bool:
        """Queue work to run after `delay` seconds or later; return False if the queue is full.

        The caller decides what then becomes of the work. Delayed work may take at most half of the
        queue, since it waits much longer than the rest.
        An error of the work ends its thread, which logs it; other work goes on.
        """
        with self._condition:
            delayed_count = sum(job.is_delayed for job in self._waiting)
            is_full = delay > 0 and delayed_count >= self._capacity // 2
            if is_full or len(self._waiting) >= self._capacity:
                return False
            job = _Job(time.monotonic() + delay, next(self._numbers), work, is_delayed=delay > 0)
            heapq.heappush(self._waiting, job)
            self._condition.notify()
            if self._running >= self._threads:
                return True
            self._running += 1
        self._start_thread()
        return True

    def _start_thread(self) -> None:
        # In a context of its own: the work does not belong to the request being served.
        run = partial(Context().run, self._run)
        try:
            threading.Thread(target=run, name=self._name, daemon=True).start()
        except BaseException:
            self._count_out()
            raise

    def _run(self) -> None:
        try:
            while (work := self._take_due()) is not None:
                work()
        except Exception:
            self._start_thread()  # in place of this one
            raise
        except BaseException:  # SystemExit, for example, with which a thread ends with the process
            self._count_out()
            raise

    def _count_out(self) -> None:
        with self._condition:
            self._running -= 1

    def _take_due(self) -> Callable[[], object] | None:
        """Wait for work that is due; return None, and count the thread out, if none is left."""
        with self._condition:
            while self._waiting:
                seconds_left = self._waiting[0].due - time.monotonic()
                if seconds_left <= 0:
                    return heapq.heappop(self._waiting).work
                self._condition.wait(seconds_left)
            self._count_out()
        return None
