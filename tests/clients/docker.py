"""A dockerd of our own, and the docker command for it."""

import base64
import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.clients.containerd import containerd
from tests.clients.mounts import unmount_below, with_mounted_root
from tests.clients.process import CommandFailed, hermetic, run
from tests.servers import Process, running, wait_until

ImageStore = Literal["classic", "containerd"]
Builder = Literal["classic", "buildkit"]
_BUILDKIT: Mapping[Builder, str] = {"classic": "0", "buildkit": "1"}
NO_FILES: Mapping[str, bytes] = {}


@dataclass(frozen=True)
class Docker:
    """A running dockerd, and the docker command for it with logins of its own."""

    server: Process
    home: Path
    ca: Path | None = None
    """BuildKit lets the docker command fetch the tokens, so it must trust the same authority."""

    def pull(self, reference: str) -> frozenset[str]:
        """Pull an image for this machine's platform and return the digests that dockerd knows.

        They are those of the index or manifest, the config (the classic image store only) and the
        unpacked layers.
        """
        self.fetch(reference)
        return self.digests(reference)

    def fetch(self, reference: str) -> None:
        """Pull an image, and do not look at it."""
        self.docker("pull", "--quiet", reference)

    def digests(self, reference: str) -> frozenset[str]:
        """Return the digests of an image in the store."""
        image = self.inspect(reference)
        names = (name.rpartition("@")[2] for name in image["RepoDigests"])
        return frozenset([image["Id"], *names, *image["RootFS"]["Layers"]])

    def inspect(self, reference: str) -> dict[str, Any]:
        """Describe an image in the store."""
        image: dict[str, Any] = json.loads(self.docker("image", "inspect", reference))[0]
        return image

    def images(self) -> list[str]:
        """Return the identities of all images."""
        return sorted(set(self.docker("images", "--quiet", "--no-trunc").split()))

    def remove_all(self) -> None:
        """Remove all images and what builds keep, so that the next pull is a cold one."""
        self.docker("image", "prune", "--all", "--force")
        self.docker("builder", "prune", "--all", "--force")

    def build(
        self,
        dockerfile: str,
        tag: str,
        *,
        builder: Builder = "classic",
        files: Mapping[str, bytes] = NO_FILES,
    ) -> frozenset[str]:
        """Build an image, asking for its base anew, and return its digests.

        Without RUN instructions no container is started, so it works where none could run.
        """
        with tempfile.TemporaryDirectory(dir=self.home) as folder:
            for name, content in files.items():
                Path(folder, name).write_bytes(content)
            Path(folder, "Dockerfile").write_text(dockerfile)
            command = ["build", "--quiet", "--pull", "--tag", tag, folder]
            self.docker(*command, builder=builder)
        return self.digests(tag)

    def login(self, host: str, username: str, password: str) -> None:
        """Log in at a registry through dockerd and keep it, as everyone does."""
        command = ["login", "--username", username, "--password-stdin", host]
        self.docker(*command, stdin=password)

    def logout(self, host: str) -> None:
        """Forget a login."""
        self.docker("logout", host)

    def store_login(self, host: str, username: str, password: str) -> None:
        """Store a login without asking the registry, such as one of Docker Hub.

        dockerd gives the one of `https://index.docker.io/v1/` to its mirrors.
        """
        path = self.home / "cli/config.json"
        config = json.loads(path.read_text()) if path.exists() else {}
        encoded = base64.b64encode(f"{username}:{password}".encode()).decode()
        config.setdefault("auths", {})[host] = {"auth": encoded}
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(config))

    def docker(self, *arguments: str, stdin: str = "", builder: Builder = "classic") -> str:
        """Run a docker command."""
        env = hermetic(self.home, ca=self.ca) | {
            "DOCKER_CONFIG": str(self.home / "cli"),
            "DOCKER_BUILDKIT": _BUILDKIT[builder],
        }
        socket = f"unix://{self.home}/d.sock"
        return run(["docker", "--host", socket, *arguments], env=env, stdin=stdin)

    def ready(self) -> bool:
        """Tell whether it answers; fail when it has ended."""
        if self.server.process.poll() is not None:
            message = f"dockerd ended:\n{self.server.log}"
            raise RuntimeError(message)
        with contextlib.suppress(CommandFailed):
            return bool(self.docker("version"))
        return False


@contextlib.contextmanager
def docker(
    *,
    image_store: ImageStore = "classic",
    mirrors: Sequence[str] = (),
    insecure: Sequence[str] = (),
    ca: Path | None = None,
) -> Iterator[Docker]:
    """Run a dockerd that starts no containers and has no network to manage; needs root.

    `mirrors` are URLs, `insecure` hosts. It gets a containerd of its own, so that it neither uses
    this machine's nor leaves one running.
    """
    with (
        tempfile.TemporaryDirectory(prefix="docxy-dockerd-") as folder,
        unmount_below(Path(folder)),
        containerd(ca=ca) as content,
    ):
        home = Path(folder)
        settings = _settings(home, image_store) | {
            "containerd": str(content.socket),
            "registry-mirrors": list(mirrors),
            "insecure-registries": list(insecure),
        }
        (home / "daemon.json").write_text(json.dumps(settings))
        command = with_mounted_root(["dockerd", "--config-file", home / "daemon.json"])
        with running(command, env=hermetic(home, ca=ca)) as server:
            daemon = Docker(server, home, ca)
            wait_until(daemon.ready, what="dockerd")
            yield daemon


def _settings(home: Path, image_store: ImageStore) -> dict[str, Any]:
    stores: Mapping[ImageStore, dict[str, Any]] = {
        "classic": {"storage-driver": "vfs"},
        "containerd": {
            "storage-driver": "native",
            "features": {"containerd-snapshotter": True},
        },
    }
    return stores[image_store] | {
        "data-root": str(home / "data"),
        "exec-root": str(home / "exec"),
        "pidfile": str(home / "pid"),
        "hosts": [f"unix://{home}/d.sock"],
        "bridge": "none",
        "iptables": False,
        "ip6tables": False,
    }
