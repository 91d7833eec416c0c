"""CNCF's docker-registry as a pull-through cache, the usual reference."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import urllib3

from tests.hub.registry import PROGRAM
from tests.servers import clean_environment, free_port, running, wait_until

NAME: Final = "docker-registry"

_STORED_TIMEOUT: Final = 120


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running docker-registry in front of another one."""

    port: int
    pid: int
    storage: Path

    def forget(self) -> None:
        """Delete all that it has stored; its memory holds locations only."""
        shutil.rmtree(self.storage / "docker", ignore_errors=True)

    def await_stored(self, blobs: int) -> None:
        """Wait until it has stored `blobs` blobs; it fetches each again after it has answered."""

        def stored() -> bool:
            folder = self.storage / "docker/registry/v2/blobs"
            return len(list(folder.glob("*/*/*/data"))) >= blobs

        wait_until(stored, _STORED_TIMEOUT, f"{NAME} to keep {blobs} blobs")


@contextlib.contextmanager
def proxy(folder: Path, remote: str, ca: Path) -> Iterator[Proxy]:
    """Run it with an empty storage in a folder; it trusts the certificate of the remote."""
    port, storage = free_port(), folder / "docker-registry"
    storage.mkdir()
    config = folder / "docker-registry.yml"
    # JSON is YAML.
    config.write_text(json.dumps(_build_config(port, storage, remote)))
    env = clean_environment(SSL_CERT_FILE=str(ca), OTEL_TRACES_EXPORTER="none")
    with running([PROGRAM, "serve", config], env=env) as server:
        wait_until(lambda: _is_up(port), what=NAME)
        yield Proxy(port, server.process.pid, storage)


def _is_up(port: int) -> bool:
    try:
        urllib3.request("GET", f"http://127.0.0.1:{port}/v2/", retries=False)
    except urllib3.exceptions.HTTPError:
        return False
    return True


def _build_config(port: int, storage: Path, remote: str) -> dict[str, object]:
    return {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(storage)},
            "delete": {"enabled": True},
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": "bench"},
        "proxy": {"remoteurl": remote},
    }
