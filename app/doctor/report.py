"""Format the doctor's report: coloured lines for people, JSON for programs."""

import json
from collections.abc import Sequence
from typing import Final

from app.doctor.findings import Finding, Level, Step
from app.version import VERSION

_MARKS: Final = {"ok": "ok  ", "skipped": "-   ", "warning": "WARN", "error": "FAIL"}
_COLOURS: Final = {"ok": "32", "skipped": "2", "warning": "33", "error": "31;1"}
_INDENT: Final = " " * 6


def state(step: Step) -> str:
    """Return the state of a step: `ok`, `skipped`, `warning` or `error`."""
    if step.finding:
        return str(step.finding.level)
    return "skipped" if step.skipped else "ok"


def printable(text: str) -> str:
    """Return a text with `?` for unprintable characters, so that it cannot control a terminal.

    Parts of the text come from servers.
    """
    return "".join(one if one.isprintable() else "?" for one in text)


class Lines:
    """Formats steps for people, with colours if `coloured`."""

    def __init__(self, *, coloured: bool) -> None:
        self._coloured = coloured

    def step(self, step: Step) -> str:
        """Return the lines for a step, with what to change if something is wrong."""
        how = state(step)
        mark = self._painted(_MARKS[how], _COLOURS[how])
        came = f"not tried: {step.skipped}" if step.skipped else step.came
        lines = [f"{mark}  {step.tried}: {printable(came)}"]
        if step.finding:
            lines += self._finding(step.finding)
        return "\n".join(lines)

    def _finding(self, finding: Finding) -> list[str]:
        title = self._painted(finding.title, "1")
        return [
            f"{_INDENT}{title}.",
            *(f"{_INDENT}-> {change}" for change in finding.change),
            f"{_INDENT}   {finding.anchor}",
        ]

    def end(self, steps: Sequence[Step]) -> str:
        """Return the last line: the numbers of errors and warnings."""
        errors, warnings = count(steps)
        if not errors and not warnings:
            return self._painted("Nothing is wrong.", _COLOURS["ok"])
        colour = _COLOURS["error" if errors else "warning"]
        return self._painted(f"Errors: {errors}. Warnings: {warnings}.", colour)

    def _painted(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured else text


def count(steps: Sequence[Step]) -> tuple[int, int]:
    """Return the number of errors and the number of warnings."""
    levels = [step.finding.level for step in steps if step.finding]
    return levels.count(Level.ERROR), levels.count(Level.WARNING)


def document(steps: Sequence[Step], address: str, image: str) -> str:
    """Return the whole report as a JSON document."""
    errors, warnings = count(steps)
    read = {
        "doctor": VERSION,
        "address": address,
        "image": image,
        "errors": errors,
        "warnings": warnings,
        "steps": [_row(step) for step in steps],
    }
    return json.dumps(read, indent=2)


def _row(step: Step) -> dict[str, object]:
    finding = step.finding
    row: dict[str, object] = {
        "tried": step.tried,
        "state": state(step),
        "came": step.skipped or step.came,
    }
    if finding:
        row |= {
            "finding": finding.name,
            "title": finding.title,
            "change": list(finding.change),
            "more": finding.anchor,
        }
    return row
