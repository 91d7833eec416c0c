"""Commands of container clients, in an environment of their own without the internet."""

import hashlib
import os
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

DEAD_PROXY = "http://127.0.0.1:9"
"""Clients fall back to Docker Hub when a mirror fails; through this proxy they fail at once."""

TIMEOUT = 120


class CommandFailed(Exception):
    """A client ended with an error; the message holds all that it wrote."""

    def __init__(self, command: Sequence[str], status: int, output: str) -> None:
        """Remember the output, which tests search for what the client was told."""
        super().__init__(f"{shlex.join(command)}\nended with status {status}:\n{output}")
        self.output = output


def hermetic(home: Path, *, ca: Path | None = None) -> dict[str, str]:
    """Return an environment that holds nothing of this machine's user but the search path.

    `ca` becomes the only certificate authority that the client trusts.
    """
    home.mkdir(parents=True, exist_ok=True)
    environment = {
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin",
        "TMPDIR": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "NO_PROXY": "127.0.0.1,localhost,::1",
        "HTTP_PROXY": DEAD_PROXY,
        "HTTPS_PROXY": DEAD_PROXY,
    }
    if ca:
        environment["SSL_CERT_FILE"] = str(ca)
    return environment


def run(
    command: Iterable[str | Path],
    *,
    env: Mapping[str, str],
    stdin: str = "",
    timeout: float = TIMEOUT,
) -> str:
    """Run a command to its end and return what it wrote to its standard output."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        env=dict(env),
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise CommandFailed(words, done.returncode, done.stdout + done.stderr)
    return done.stdout


def file_digest(path: Path) -> str:
    """Return the digest of the bytes in a file, whatever name the client gave it."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
