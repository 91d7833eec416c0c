"""Buildah: pulls, and starts a build, in a storage of its own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.clients.configuration import NO_MIRRORS, containers_environment
from tests.clients.mounts import with_mounted_root
from tests.clients.process import run


class Buildah:
    """Buildah with its own home. Without `ca` it speaks plain HTTP, with `ca` only TLS.

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
        command = [
            "buildah", "--root", str(home / "storage"), "--runroot", str(home / "run"),
            "--storage-driver", "vfs",
        ]  # fmt: skip
        self._buildah = with_mounted_root(command)

    def pull(self, reference: str, *, creds: str | None = None) -> frozenset[str]:
        """Pull an image for this machine's platform and return the digests that buildah knows.

        They are those of the manifest, the config, and the layers packed and unpacked.
        """
        login = ["--creds", creds] if creds else []
        command = [*self._buildah, "pull", "--quiet", *self._pull_tls, *login, reference]
        identity = run(command, env=self._env).strip()
        return self.digests(identity)

    def from_image(self, reference: str, *, creds: str | None = None) -> str:
        """Start a working container from an image, pulling it, and return the container's name."""
        login = ["--creds", creds] if creds else []
        command = [*self._buildah, "from", "--quiet", *self._pull_tls, *login, reference]
        return run(command, env=self._env).strip()

    def digests(self, reference: str) -> frozenset[str]:
        """Return the digests of an image in the storage."""
        image = self.inspect(reference)
        manifest = json.loads(image["Manifest"])
        return frozenset(
            [
                image["FromImageDigest"],
                manifest["config"]["digest"],
                *(layer["digest"] for layer in manifest["layers"]),
                *image["OCIv1"]["rootfs"]["diff_ids"],
            ]
        )

    def inspect(self, reference: str) -> dict[str, Any]:
        """Describe an image in the storage."""
        command = [*self._buildah, "inspect", "--type", "image", reference]
        image: dict[str, Any] = json.loads(run(command, env=self._env))
        return image

    def remove_all(self) -> None:
        """Remove all containers and images, so that the next pull is a cold one."""
        run([*self._buildah, "rm", "--all"], env=self._env)
        run([*self._buildah, "rmi", "--all", "--force"], env=self._env)

    def login(self, host: str, username: str, password: str) -> None:
        """Log in and store it in the auth file of this home."""
        command = [*self._buildah, "login", self._tls, "--username", username]
        run([*command, "--password-stdin", host], env=self._env, stdin=password)

    def logout(self, host: str) -> None:
        """Forget a stored login."""
        run([*self._buildah, "logout", host], env=self._env)
