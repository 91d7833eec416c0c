"""What the project wants to reach, and what to say where it does not."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.figures import Figure


@dataclass(frozen=True, slots=True)
class Target:
    """One target, what was reached, and what to say where that is missed."""

    what: str
    wanted: str
    reached: Figure
    digits: int
    met: bool
    reason: str

    def row(self) -> str:
        """Write it as a line of the table."""
        verdict = "met" if self.met else "**missed**"
        return f"| {self.what} | {self.wanted} | {self.reached.text(self.digits)} | {verdict} |"


def table(targets: Iterable[Target]) -> Iterator[str]:
    """Write all of them, and an empty line after them."""
    yield "| what | target | measured | |"
    yield "| --- | --- | --- | --- |"
    yield from (target.row() for target in targets)
    yield ""


def reasons(targets: Iterable[Target]) -> Iterator[str]:
    """Say of each target that is missed why it is, and leave an empty line."""
    missed = [target for target in targets if not target.met]
    if not missed:
        yield "All targets are met.\n"
        return
    yield "Why targets are missed:\n"
    for target in missed:
        yield f"- {target.what}: {target.reason}"
    yield ""
