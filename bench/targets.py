"""The performance targets, and the reasons for those that are missed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.figures import Figure


@dataclass(frozen=True, slots=True)
class Target:
    """One target, the figure that was reached, and the reason if the target is missed."""

    what: str
    wanted: str
    reached: Figure
    digits: int
    met: bool
    reason: str

    def row(self) -> str:
        """Return the target as a row of the table."""
        verdict = "met" if self.met else "**missed**"
        return f"| {self.what} | {self.wanted} | {self.reached.text(self.digits)} | {verdict} |"


def format_table(targets: Iterable[Target]) -> Iterator[str]:
    """Yield the table of all targets, and an empty line."""
    yield "| what | target | measured | |"
    yield "| --- | --- | --- | --- |"
    yield from (target.row() for target in targets)
    yield ""


def format_reasons(targets: Iterable[Target]) -> Iterator[str]:
    """Yield the reason for each missed target, and an empty line."""
    missed_targets = [target for target in targets if not target.met]
    if not missed_targets:
        yield "All targets are met.\n"
        return
    yield "Why targets are missed:\n"
    for target in missed_targets:
        yield f"- {target.what}: {target.reason}"
    yield ""
