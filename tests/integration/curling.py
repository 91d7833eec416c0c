"""curl, and all that it saw."""

import subprocess
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser

from tests import programs
from tests.proxies import Front
from tests.servers import clean_environment


@dataclass(frozen=True)
class Answer:
    """What curl saw."""

    exit_status: int
    http_version: str
    status: int
    headers: Message
    body: bytes


def curl(front: Front, target: str, *arguments: str, given: bytes = b"") -> Answer:
    """Ask the front; `target` is a path, or a whole URL, and `given` is curl's standard input."""
    programs.require("curl")
    url = target if "://" in target else front.url + target
    command = ["curl", "-sS", "--max-time", "60", "--path-as-is", "--cacert", str(front.ca_path)]
    heads = "--head" not in arguments
    done = subprocess.run(
        [*command, *(["--dump-header", "-"] if heads else []), *arguments, url],
        env=clean_environment(),
        input=given,
        capture_output=True,
        check=False,
    )
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    first, _, lines = head.partition(b"\r\n")
    version, _, status = first.partition(b" ")
    return Answer(
        done.returncode,
        version.decode(),
        int(status[:3] or 0),
        BytesHeaderParser().parsebytes(lines),
        body,
    )
