"""The command line of the doctor.

The exit status is 0 if all is well, 1 if an error was found (or a warning, with `--strict`), 2 for
a wrong argument, and 130 after Ctrl-C.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.config.load import told
from app.doctor import network, target
from app.doctor.examination import Request, examine
from app.doctor.findings import Step
from app.doctor.machine import Machine, look, public_place
from app.doctor.report import Lines, count, document
from app.doctor.target import DEFAULT, Image, Place


def main() -> int:
    """Run the examination, print each step as it ends, and return the exit status."""
    parser = _parser()
    asked = parser.parse_args()
    try:
        user = target.read(asked.user) if asked.user else None
    except ValueError as error:
        parser.error(f"--user: {error}")
    except KeyboardInterrupt:
        return 130
    machine = Machine() if asked.from_outside else look()
    place = asked.address or public_place(machine)
    request = Request(
        place=place,
        plain=asked.http,
        image=asked.image,
        authorities=asked.ca,
        here=machine,
        login=user,
    )
    lines = Lines(coloured=sys.stdout.isatty() and not told("NO_COLOR"))
    steps: list[Step] = []
    try:
        for step in examine(request):
            steps.append(step)
            if not asked.json:
                _say(lines.step(step))
    except KeyboardInterrupt:
        return 130
    ended = document(steps, str(place or ""), str(asked.image))
    _say(ended if asked.json else lines.end(steps))
    errors, warnings = count(steps)
    return 1 if errors or (asked.strict and warnings) else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app.doctor",
        description="Look at a set-up of Docxy as container clients do, and say what is wrong and "
        "what to change. It spends one pull, or two, of the image.",
    )
    add = parser.add_argument
    add(
        "address",
        nargs="?",
        metavar="URL",
        type=_read(Place.parse),
        help="how clients reach the proxy, like https://proxy.example.com; DOCXY_PUBLIC_URL if it "
        "is not given",
    )
    add(
        "--image",
        default=DEFAULT,
        type=_read(Image.parse),
        help="a small image to pull, as it is written behind the proxy's address "
        "(default: %(default)s)",
    )
    add(
        "--user",
        type=_read(target.name),
        metavar="NAME",
        help="log in at the proxy as this user; the password is read from the variable "
        f"{target.VARIABLE}, or from the standard input",
    )
    add(
        "--ca",
        action="append",
        default=[],
        type=_read(_authorities),
        metavar="FILE",
        help="a PEM file with an authority to trust, besides the system's; may be repeated",
    )
    add(
        "--http",
        type=_read(Place.parse),
        metavar="URL",
        help="where plain http is, if not on port 80 of the same host",
    )
    add(
        "--from-outside",
        action="store_true",
        help="this is not the proxy's machine: leave its settings and its cache out",
    )
    add("--strict", action="store_true", help="end with status 1 for warnings, too")
    add("--json", action="store_true", help="write JSON")
    return parser


def _read(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return `parse` for argparse, which then shows the message of a ValueError."""

    def read(text: str) -> Any:  # noqa: ANN401 - whatever `parse` returns
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def _authorities(text: str) -> Path:
    """Return the path of a PEM file; raise ValueError if no certificate can be read from it."""
    path = Path(text)
    try:
        network.context([path])
    except OSError as error:
        message = f"{text}: no certificate can be read there"
        raise ValueError(message) from error
    return path


if __name__ == "__main__":
    sys.exit(main())
