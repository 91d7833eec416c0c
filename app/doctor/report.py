"""Format the doctor's report as coloured lines for people or JSON for programs."""

import json
from collections.abc import Sequence
from typing import Final

from app.doctor.findings import Finding, Level, StepResult
from app.version import VERSION

_MARKS: Final = {"ok": "ok  ", "skipped": "-   ", "warning": "WARN", "error": "FAIL"}
_COLOURS: Final = {"ok": "32", "skipped": "2", "warning": "33", "error": "31;1"}
_INDENT: Final = " " * 6


def classify(step: StepResult) -> str:
    """Return the state of a step: `ok`, `skipped`, `warning` or `error`."""
    if step.finding:
        return str(step.finding.level)
    return "skipped" if step.skip_reason else "ok"


def make_printable(text: str) -> str:
    """Return a text with `?` for unprintable characters, so that it cannot control a terminal.

    Parts of the text come from servers.
    """
    return "".join(character if character.isprintable() else "?" for character in text)


class TextReport:
    """Formats steps for people, with colours if `coloured`."""

    def __init__(self, *, coloured: bool) -> None:
        self._coloured = coloured

    def format_step(self, step: StepResult) -> str:
        """Return the lines for a step, with what to change if something is wrong."""
        state = classify(step)
        mark = self._paint(_MARKS[state], _COLOURS[state])
        outcome = f"skipped: {step.skip_reason}" if step.skip_reason else step.outcome
        lines = [f"{mark}  {step.action}: {make_printable(outcome)}"]
        if step.finding:
            lines += self._format_finding(step.finding)
        return "\n".join(lines)

    def _format_finding(self, finding: Finding) -> list[str]:
        title = self._paint(finding.title, "1")
        return [
            f"{_INDENT}{title}.",
            *(f"{_INDENT}-> {remedy}" for remedy in finding.remedies),
            f"{_INDENT}   {finding.anchor}",
        ]

    def format_summary(self, steps: Sequence[StepResult]) -> str:
        """Return the last line: the numbers of errors and warnings."""
        errors, warnings = count_findings(steps)
        if not errors and not warnings:
            return self._paint("No problems found.", _COLOURS["ok"])
        colour = _COLOURS["error" if errors else "warning"]
        return self._paint(f"Errors: {errors}. Warnings: {warnings}.", colour)

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured else text


def count_findings(steps: Sequence[StepResult]) -> tuple[int, int]:
    """Return the number of errors and the number of warnings."""
    levels = [step.finding.level for step in steps if step.finding]
    return levels.count(Level.ERROR), levels.count(Level.WARNING)


def format_json(steps: Sequence[StepResult], address: str, image: str) -> str:
    """Return the whole report as a JSON document."""
    errors, warnings = count_findings(steps)
    document = {
        "version": VERSION,
        "address": address,
        "image": image,
        "errors": errors,
        "warnings": warnings,
        "checks": [_build_row(step) for step in steps],
    }
    return json.dumps(document, indent=2)


def _build_row(step: StepResult) -> dict[str, object]:
    finding = step.finding
    row: dict[str, object] = {
        "check": step.action,
        "status": classify(step),
        "result": step.skip_reason or step.outcome,
    }
    if finding:
        row |= {
            "finding": finding.name,
            "title": finding.title,
            "changes": list(finding.remedies),
            "documentation": finding.anchor,
        }
    return row
