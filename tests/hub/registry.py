"""The real docker-registry behind the hub, which checks the tokens by itself."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import urllib3

from tests.hub.tokens import Issuer
from tests.servers import Process, free_port, running, wait_until

PROGRAM = "docker-registry"
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Registry:
    """A running docker-registry, spoken to without TLS on its own port."""

    pool: urllib3.HTTPConnectionPool
    storage: Path
    issuer: Issuer

    def blob_path(self, digest: str) -> Path:
        """Return where the bytes of a blob lie."""
        algorithm, _, value = digest.partition(":")
        folder = self.storage / "docker/registry/v2/blobs" / algorithm / value[:2] / value
        return folder / "data"

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | urllib3.HTTPHeaderDict,
        body: Iterable[bytes] | bytes | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Send one request and return the answer, its body unread."""
        return self.pool.urlopen(
            method,
            target,
            headers=headers,
            body=body,
            preload_content=False,
            decode_content=False,
            redirect=False,
            retries=False,
        )


@contextlib.contextmanager
def docker_registry(folder: Path, issuer: Issuer, realm: str) -> Iterator[Registry]:
    """Run docker-registry, which sends clients to `realm` and believes the issuer's tokens."""
    certificate, storage = folder / "token.pem", folder / "storage"
    certificate.write_bytes(issuer.key.certificate)
    storage.mkdir()
    token = {
        "realm": realm,
        "service": issuer.service,
        "issuer": issuer.name,
        "rootcertbundle": str(certificate),
    }
    with _started(folder / "registry.yml", storage, token) as pool:
        yield Registry(pool, storage, issuer)


@contextlib.contextmanager
def _started(
    config: Path, storage: Path, token: Mapping[str, str]
) -> Iterator[urllib3.HTTPConnectionPool]:
    """Try again when somebody else takes the port first: docker-registry opens its own socket."""
    for _ in range(_TRIES):
        port = free_port()
        config.write_text(json.dumps(_config(port, storage, token)))
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(running([PROGRAM, "serve", config]))
            pool = urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=512)
            stack.callback(pool.close)
            if _listens(server, pool):
                yield pool
                return
    message = f"{PROGRAM} found no port in {_TRIES} tries"
    raise RuntimeError(message)


def _listens(server: Process, pool: urllib3.HTTPConnectionPool) -> bool:
    """Wait until it answers; return False when it ends because its port is in use."""

    def settled() -> bool:
        if server.process.poll() is not None:
            return True
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            answer = pool.request("GET", "/v2/", retries=False)
            return answer.status == HTTPStatus.UNAUTHORIZED
        return False

    wait_until(settled, what=PROGRAM)
    if server.process.poll() is None:
        return True
    if "address already in use" not in server.log:
        message = f"{PROGRAM} does not start"
        raise RuntimeError(message)
    return False


def _config(port: int, storage: Path, token: Mapping[str, str]) -> dict[str, object]:
    """Return the configuration; JSON is YAML."""
    return {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(storage)},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": "hub"},
        "auth": {"token": dict(token)},
    }
