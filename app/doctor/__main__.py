"""The command line of the doctor.

The exit status is 0 if all is well, 1 if an error was found (or a warning, with `--strict`), 2 for
a wrong argument, and 130 after Ctrl-C.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.config.load import read_variable
from app.doctor import network, target
from app.doctor.examination import ExaminationOptions, examine
from app.doctor.findings import StepResult
from app.doctor.machine import Machine, inspect_machine, read_public_endpoint
from app.doctor.report import TextReport, count_findings, format_json
from app.doctor.target import DEFAULT, Endpoint, ImageReference


def main() -> int:
    """Run the examination, print each step as it ends, and return the exit status."""
    parser = _build_parser()
    arguments = parser.parse_args()
    try:
        credentials = target.read_credentials(arguments.user) if arguments.user else None
    except ValueError as error:
        parser.error(f"--user: {error}")
    except KeyboardInterrupt:
        return 130
    machine = Machine() if arguments.from_outside else inspect_machine()
    endpoint = arguments.address or read_public_endpoint(machine)
    options = ExaminationOptions(
        endpoint=endpoint,
        plain_http=arguments.http,
        image=arguments.image,
        authorities=arguments.ca,
        local_machine=machine,
        credentials=credentials,
    )
    text_report = TextReport(coloured=sys.stdout.isatty() and not read_variable("NO_COLOR"))
    steps: list[StepResult] = []
    try:
        for step in examine(options):
            steps.append(step)
            if not arguments.json:
                _print_line(text_report.format_step(step))
    except KeyboardInterrupt:
        return 130
    report = format_json(steps, str(endpoint or ""), str(arguments.image))
    _print_line(report if arguments.json else text_report.format_summary(steps))
    errors, warnings = count_findings(steps)
    return 1 if errors or (arguments.strict and warnings) else 0


def _print_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app.doctor",
        description="Test a set-up of Docxy as container clients use it, and report what is wrong "
        "and what to change. It spends one or two pulls of the image.",
    )
    add_argument = parser.add_argument
    add_argument(
        "address",
        nargs="?",
        metavar="URL",
        type=_wrap_parser(Endpoint.parse),
        help="the address by which clients reach the proxy, like https://proxy.example.com; "
        "default: DOCXY_PUBLIC_URL",
    )
    add_argument(
        "--image",
        default=DEFAULT,
        type=_wrap_parser(ImageReference.parse),
        help="a small image to pull, as it is written behind the proxy's address "
        "(default: %(default)s)",
    )
    add_argument(
        "--user",
        type=_wrap_parser(target.parse_username),
        metavar="NAME",
        help="log in to the proxy as this user; the password is read from the variable "
        f"{target.VARIABLE}, or from the standard input",
    )
    add_argument(
        "--ca",
        action="append",
        default=[],
        type=_wrap_parser(_parse_ca_file),
        metavar="FILE",
        help="a PEM file with an authority to trust, in addition to the system's; may be repeated",
    )
    add_argument(
        "--http",
        type=_wrap_parser(Endpoint.parse),
        metavar="URL",
        help="the address of plain http, if not port 80 of the same host",
    )
    add_argument(
        "--from-outside",
        action="store_true",
        help="do not check the settings and the cache, as on another machine",
    )
    add_argument("--strict", action="store_true", help="exit with status 1 for warnings, too")
    add_argument("--json", action="store_true", help="write JSON")
    return parser


def _wrap_parser(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return `parse` for argparse, which then shows the message of a ValueError."""

    def read(text: str) -> Any:  # noqa: ANN401 - whatever `parse` returns
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def _parse_ca_file(text: str) -> Path:
    """Return the path of a PEM file; raise ValueError if no certificate can be read from it."""
    path = Path(text)
    try:
        network.build_tls_context([path])
    except OSError as error:
        message = f"{text}: the file contains no readable certificate"
        raise ValueError(message) from error
    return path


if __name__ == "__main__":
    sys.exit(main())
