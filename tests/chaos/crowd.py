"""The crowd: errands, sixteen at once, each with its faults."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.chaos.errands import REPOSITORY, Errand, Thing
from tests.chaos.raw import Outcome, RawClient
from tests.chaos.troubles import happen, happened
from tests.hub.hub import Hub

AT_ONCE = 16

Judge = Callable[[Errand, Outcome], str]
"""Tells what is wrong with an answer, "" for nothing."""


@dataclass(slots=True)
class Tally:
    """How errands with one kind of trouble went."""

    tried: int = 0
    met: int = 0
    """Requests at the hub that a fault has met."""
    lost: list[str] = field(default_factory=list)
    calm: list[str] = field(default_factory=list)
    """Errands of which a fault never came, and which so prove nothing."""

    @property
    def survived(self) -> int:
        """How many went as they should."""
        return self.tried - len(self.lost)


Tallies = dict[str, Tally]


def run(hub: Hub, host: str, errands: Sequence[Errand], judge: Judge) -> Tallies:
    """Run all errands, no two at a time for the same thing."""
    crowd = _Crowd(hub, host, judge)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(crowd.run, errands):
            pass
    return crowd.tallies


def lost(tallies: Iterable[Tally]) -> list[str]:
    """List all that went wrong, in the run or with the run."""
    return [line for tally in tallies for line in [*tally.lost, *tally.calm]]


class _Crowd:
    def __init__(self, hub: Hub, host: str, judge: Judge) -> None:
        self.tallies: Tallies = defaultdict(Tally)
        self._hub = hub
        self._host = host
        self._judge = judge
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._mine = threading.local()

    def run(self, errand: Errand) -> None:
        with self._turn(errand.thing):
            client = self._client()
            if not client.token:
                client.log_in()
            for fault in errand.faults:
                happen(self._hub, fault)
            answer = (
                client.log_in()
                if errand.what == "token"
                else client.ask(errand.method, errand.thing.path, errand.fields, old=errand.old)
            )
        wrong = self._judge(errand, answer)
        counts = [happened(fault) for fault in errand.faults]
        with self._lock:
            tally = self.tallies[errand.kind]
            tally.tried += 1
            tally.met += sum(counts)
            tally.lost += [f"{errand}: {wrong}"] if wrong else []
            tally.calm += [] if all(counts) else [f"{errand}: its faults came {counts} times"]

    def _turn(self, thing: Thing) -> threading.Lock:
        with self._lock:
            return self._turns[thing.digest]

    def _client(self) -> RawClient:
        if not hasattr(self._mine, "client"):
            self._mine.client = RawClient(self._host, REPOSITORY)
        client: RawClient = self._mine.client
        return client
