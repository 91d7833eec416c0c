"""ORAS: copies images and artifacts, and lists what refers to them."""

import json
import tempfile
from pathlib import Path

from tests.clients.process import file_digest, hermetic, run


class Oras:
    """ORAS with its own home. Without `ca` it speaks plain HTTP, with `ca` only TLS."""

    def __init__(self, home: Path, *, ca: Path | None = None) -> None:
        """Keep logins below `home`."""
        self._home = home
        # Without a word, it speaks plain HTTP to localhost.
        self._plain = "plain-http=false" if ca else "plain-http"
        self._env = hermetic(home, ca=ca) | {"DOCKER_CONFIG": str(home / "docker")}

    def copy(
        self, reference: str, layout: Path | None = None, *, creds: str | None = None
    ) -> frozenset[str]:
        """Copy all platforms into an OCI layout and return the digests of the bytes that came."""
        if layout is None:
            layout = Path(tempfile.mkdtemp(dir=self._home))
        options = self._options("--from-", creds)
        command = ["oras", "copy", "--no-tty", *options, reference, "--to-oci-layout"]
        run([*command, f"{layout}:copied"], env=self._env)
        return frozenset(map(file_digest, (layout / "blobs/sha256").iterdir()))

    def pull(self, reference: str, directory: Path, *, creds: str | None = None) -> list[Path]:
        """Download the files of an artifact and return where they are."""
        command = ["oras", "pull", "--no-tty", *self._options("--", creds), reference]
        run([*command, "--output", directory], env=self._env)
        return sorted(path for path in directory.rglob("*") if path.is_file())

    def push_blob(self, repository: str, file: Path) -> None:
        """Push a file as a blob."""
        command = ["oras", "blob", "push", "--no-tty", *self._options("--")]
        run([*command, repository, file], env=self._env)

    def discover(self, reference: str, *, creds: str | None = None) -> list[str]:
        """Return the digests of the manifests that refer to an image."""
        options = ["--format", "json", *self._options("--", creds)]
        found = json.loads(run(["oras", "discover", *options, reference], env=self._env))
        return [referrer["digest"] for referrer in found["manifests"]]

    def login(self, host: str, username: str, password: str) -> None:
        """Log in and store it below this home."""
        command = ["oras", "login", *self._options("--"), "--username", username]
        run([*command, "--password-stdin", host], env=self._env, stdin=password)

    def logout(self, host: str) -> None:
        """Forget a stored login."""
        run(["oras", "logout", host], env=self._env)

    def _options(self, prefix: str, creds: str | None = None) -> list[str]:
        options = [prefix + self._plain]
        if creds:
            username, _, password = creds.partition(":")
            options += [f"{prefix}username", username, f"{prefix}password", password]
        return options
