"""Podman: pulls into a storage of its own."""

import json
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.clients.configuration import NO_MIRRORS, containers_environment
from tests.clients.mounts import with_mounted_root
from tests.clients.process import run


class Podman:
    """Podman with its own home. Without `ca` it speaks plain HTTP, with `ca` only TLS.

    `mirrors` maps a registry to the host that is asked first.
    """

    def __init__(
        self, home: Path, *, ca: Path | None = None, mirrors: Mapping[str, str] = NO_MIRRORS
    ) -> None:
        """Write the configuration that the commands below read."""
        self._tls = f"--tls-verify={str(ca is not None).lower()}"
        # A mirror's own "insecure" must be enough, as it is for those who only write the file.
        self._pull_tls = [] if mirrors else [self._tls]
        self._env = containers_environment(home, ca=ca, mirrors=mirrors)
        # Podman 4 refuses a runroot of more than 50 characters.
        run_root = tempfile.mkdtemp(prefix="docxy-")
        weakref.finalize(self, shutil.rmtree, run_root, ignore_errors=True)
        command = [
            "podman", "--root", str(home / "storage"), "--runroot", run_root,
            "--tmpdir", str(home / "libpod"), "--storage-driver", "vfs",
            "--cgroup-manager", "cgroupfs", "--events-backend", "none",
        ]  # fmt: skip
        self._podman = with_mounted_root(command)

    def pull(self, reference: str, *, creds: str | None = None) -> frozenset[str]:
        """Pull an image for this machine's platform and return the digests that podman knows.

        They are those of the index, the manifest, the config and the unpacked layers.
        """
        self.fetch(reference, creds=creds)
        return self.digests(reference)

    def fetch(self, reference: str, *, creds: str | None = None) -> None:
        """Pull an image, and do not look at it."""
        login = ["--creds", creds] if creds else []
        command = [*self._podman, "pull", "--quiet", *self._pull_tls, *login, reference]
        run(command, env=self._env)

    def push(self, reference: str, there: str) -> None:
        """Push an image of the storage to somewhere else."""
        run([*self._podman, "push", "--quiet", self._tls, reference, there], env=self._env)

    def digests(self, reference: str) -> frozenset[str]:
        """Return the digests of an image in the storage."""
        image = self.inspect(reference)
        return frozenset(
            [
                f"sha256:{image['Id']}",
                image["Digest"],
                *(name.rpartition("@")[2] for name in image["RepoDigests"]),
                *image["RootFS"]["Layers"],
            ]
        )

    def inspect(self, reference: str) -> dict[str, Any]:
        """Describe an image in the storage."""
        described = json.loads(run([*self._podman, "image", "inspect", reference], env=self._env))
        image: dict[str, Any] = described[0]
        return image

    def remove(self, *references: str) -> None:
        """Remove images, so that the next pull is a cold one."""
        run([*self._podman, "rmi", "--force", *references], env=self._env)

    def login(self, host: str, username: str, password: str) -> None:
        """Log in and store it in the auth file of this home."""
        command = [*self._podman, "login", self._tls, "--username", username]
        run([*command, "--password-stdin", host], env=self._env, stdin=password)

    def logout(self, host: str) -> None:
        """Forget a stored login."""
        run([*self._podman, "logout", host], env=self._env)
