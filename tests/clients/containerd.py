"""A containerd of our own, and ctr, which pulls into it."""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.clients.mounts import unmount_below
from tests.clients.process import CommandFailed, hermetic, run
from tests.servers import Process, running, wait_until


@dataclass(frozen=True)
class Containerd:
    """A running containerd, and ctr for it. Without `ca` ctr speaks plain HTTP, with `ca` TLS."""

    server: Process
    home: Path
    ca: Path | None

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.home / "c.sock"

    def pull(
        self, reference: str, *, user: str | None = None, mirrors: Mapping[str, str] | None = None
    ) -> frozenset[str]:
        """Pull an image for this machine's platform and return the digests of what it stored.

        `mirrors` maps a registry to the URL that is asked first, by a hosts.toml file, and so with
        the query `ns`. `user` is name:password, and goes to whatever host asks.
        """
        self.fetch(reference, user=user, mirrors=mirrors)
        return self.digests(reference)

    def fetch(
        self, reference: str, *, user: str | None = None, mirrors: Mapping[str, str] | None = None
    ) -> None:
        """Pull an image as `pull` does, and do not look at it."""
        if mirrors is None:
            options = ["--tlscacert", str(self.ca)] if self.ca else ["--plain-http"]
        else:
            options = ["--hosts-dir", str(self._hosts_dir(mirrors))]
        login = ["--user", user] if user else []
        self.ctr("images", "pull", "--snapshotter", "native", *options, *login, reference)

    def digests(self, reference: str) -> frozenset[str]:
        """Return the digests of an image's index, manifests, configs and layers that are here."""
        lines = (line.split() for line in self.ctr("images", "ls").splitlines())
        target = next(words[2] for words in lines if words[0] == reference)
        return frozenset(self._stored(target, set(self.ctr("content", "ls", "-q").split())))

    def remove_all(self) -> None:
        """Remove all images and their content, so that the next pull is a cold one."""
        if names := self.ctr("images", "ls", "-q").split():
            self.ctr("images", "rm", "--sync", *names)

    def ctr(self, *arguments: str) -> str:
        """Run a command of ctr."""
        return run(["ctr", "-a", self.socket, *arguments], env=hermetic(self.home, ca=self.ca))

    def ready(self) -> bool:
        """Tell whether it answers; fail when it has ended."""
        if self.server.process.poll() is not None:
            message = f"containerd ended:\n{self.server.log}"
            raise RuntimeError(message)
        with contextlib.suppress(CommandFailed):
            return bool(self.ctr("version"))
        return False

    def _stored(self, digest: str, present: set[str]) -> Iterator[str]:
        yield digest
        manifest = json.loads(self.ctr("content", "get", digest))
        if "manifests" not in manifest:
            yield manifest["config"]["digest"]
            yield from (layer["digest"] for layer in manifest["layers"])
            return
        for child in manifest["manifests"]:
            if child["digest"] in present:
                yield from self._stored(child["digest"], present)

    def _hosts_dir(self, mirrors: Mapping[str, str]) -> Path:
        directory = Path(tempfile.mkdtemp(prefix="hosts-", dir=self.home))
        authority = f'ca = "{self.ca}"\n' if self.ca else ""
        for registry, url in mirrors.items():
            server = "registry-1.docker.io" if registry == "docker.io" else registry
            (directory / registry).mkdir()
            (directory / registry / "hosts.toml").write_text(
                f'server = "https://{server}"\n[host."{url}"]\n'
                f'capabilities = ["pull", "resolve"]\n{authority}'
            )
        return directory


@contextlib.contextmanager
def containerd(*, ca: Path | None = None) -> Iterator[Containerd]:
    """Run a containerd that nobody else uses; needs root."""
    with tempfile.TemporaryDirectory(prefix="docxy-containerd-") as folder:
        home = Path(folder)
        (home / "config.toml").write_text(_configuration(home))
        command: list[str | Path] = ["containerd", "--config", home / "config.toml"]
        with unmount_below(home), running(command, env=hermetic(home, ca=ca)) as server:
            daemon = Containerd(server, home, ca)
            wait_until(daemon.ready, what="containerd")
            yield daemon


def _configuration(home: Path) -> str:
    return f"""\
version = 2
root = "{home}/root"
state = "{home}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "{home}/c.sock"
[ttrpc]
address = "{home}/t.sock"
"""
