"""Skopeo: copies every platform of an image and keeps the bytes as they came."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.clients.configuration import NO_MIRRORS, containers_environment
from tests.clients.process import file_digest, run


class Skopeo:
    """Skopeo with its own home. Without `ca` it speaks plain HTTP, with `ca` only TLS.

    `mirrors` maps a registry to the host that is asked first.
    """

    def __init__(
        self, home: Path, *, ca: Path | None = None, mirrors: Mapping[str, str] = NO_MIRRORS
    ) -> None:
        """Write the configuration that the commands below read."""
        self._home = home
        self._tls = f"tls-verify={str(ca is not None).lower()}"
        self._mirrors = mirrors
        self._env = containers_environment(home, ca=ca, mirrors=mirrors)
        # Unlike podman and buildah it ignores CONTAINERS_REGISTRIES_CONF.
        self._skopeo = ["skopeo", "--registries-conf", self._env["CONTAINERS_REGISTRIES_CONF"]]

    def copy_all(
        self, reference: str, directory: Path | None = None, *, creds: str | None = None
    ) -> frozenset[str]:
        """Copy an image with all its platforms and return the digests of the bytes that came."""
        if directory is None:
            directory = Path(tempfile.mkdtemp(dir=self._home))
        login = ["--src-creds", creds] if creds else []
        self.copy(reference, directory, "--all", *login)
        files = (path for path in directory.iterdir() if path.name != "version")
        return frozenset(map(file_digest, files))

    def copy(self, reference: str, directory: Path, *options: str) -> None:
        """Copy an image, for this platform if no option says else."""
        command = [*self._skopeo, "copy", *self._pull_tls("--src-"), *options]
        run([*command, f"docker://{reference}", f"dir:{directory}"], env=self._env)

    def inspect(self, reference: str, *, creds: str | None = None) -> dict[str, Any]:
        """Describe an image.

        Tags are left out: skopeo asks for them at the registry itself, never at its mirror.
        """
        login = ["--creds", creds] if creds else []
        command = [*self._skopeo, "inspect", "--no-tags", *self._pull_tls("--"), *login]
        written = run([*command, f"docker://{reference}"], env=self._env)
        described: dict[str, Any] = json.loads(written)
        return described

    def list_tags(self, repository: str, *, creds: str | None = None) -> list[str]:
        """List the tags of a repository."""
        login = ["--creds", creds] if creds else []
        command = [*self._skopeo, "list-tags", f"--{self._tls}", *login, f"docker://{repository}"]
        tags: list[str] = json.loads(run(command, env=self._env))["Tags"]
        return tags

    def login(self, host: str, username: str, password: str) -> None:
        """Log in and store it in the auth file of this home."""
        command = [*self._skopeo, "login", f"--{self._tls}", "--username", username]
        run([*command, "--password-stdin", host], env=self._env, stdin=password)

    def logout(self, host: str) -> None:
        """Forget a stored login."""
        run([*self._skopeo, "logout", host], env=self._env)

    def _pull_tls(self, prefix: str) -> list[str]:
        # A mirror's own "insecure" must be enough, as it is for those who only write the file.
        return [] if self._mirrors else [prefix + self._tls]
