"""A plain client of a registry that fetches a blob in parallel ranges, or its first byte.

python -m bench.ranges URL CA REPOSITORY DIGEST SIZE downloads a blob in ranges, as `aria2c -x8` and
containerd 2 do, and prints the seconds that it took. CA is empty for plain HTTP.
"""

import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import urllib3

CONNECTIONS: Final = 8

_PIECE: Final = 1 << 18
_RETRIES: Final = urllib3.Retry(None, connect=0, read=0, redirect=3)
_FIELD: Final = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Registry:
    """A repository of a registry or of Docxy."""

    url: str
    ca: str
    """The file of its certificate authority; empty for plain HTTP."""
    repository: str

    def download(self, digest: str, size: int) -> float:
        """Download a blob in ranges, each on its own connection; return the seconds after login."""
        token = self._log_in(self._build_pool())
        starts = range(0, size, -(-size // CONNECTIONS))
        ends = [*starts[1:], size]
        started = time.perf_counter()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            ranges = zip(starts, ends, strict=True)
            parts = [pool.submit(self._download_range, token, digest, *one) for one in ranges]
        if sum(part.result() for part in parts) != size:
            message = "the ranges are not the blob"
            raise RuntimeError(message)
        return time.perf_counter() - started

    def time_first_byte(self, digest: str) -> float:
        """Fetch a blob on the connection of the login; return the seconds to the first byte."""
        with self._build_pool() as connections:
            token = self._log_in(connections)
            started = time.perf_counter()
            answer = connections.request(
                "GET", self._build_url(digest), headers=_build_headers(token), preload_content=False
            )
            _check_status(answer, HTTPStatus.OK)
            answer.read(1)
            seconds = time.perf_counter() - started
            answer.drain_conn()
        return seconds

    def _download_range(self, token: str, digest: str, start: int, end: int) -> int:
        headers = _build_headers(token) | {"Range": f"bytes={start}-{end - 1}"}
        with self._build_pool() as connections:
            answer = connections.request(
                "GET", self._build_url(digest), headers=headers, preload_content=False
            )
            _check_status(answer, HTTPStatus.PARTIAL_CONTENT)
            return sum(map(len, answer.stream(_PIECE)))

    def _log_in(self, connections: urllib3.PoolManager) -> str:
        asked = connections.request("GET", f"{self.url}/v2/")
        challenge = dict(_FIELD.findall(asked.headers["WWW-Authenticate"]))
        query = {"service": challenge["service"], "scope": f"repository:{self.repository}:pull"}
        answer = connections.request("GET", challenge["realm"], fields=query)
        _check_status(answer, HTTPStatus.OK)
        return str(answer.json()["token"])

    def _build_pool(self) -> urllib3.PoolManager:
        return urllib3.PoolManager(ca_certs=self.ca or None, retries=_RETRIES)

    def _build_url(self, digest: str) -> str:
        return f"{self.url}/v2/{self.repository}/blobs/{digest}"


def _build_headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _check_status(answer: urllib3.BaseHTTPResponse, status: HTTPStatus) -> None:
    if answer.status != status:
        message = f"{answer.status} instead of {status.value}"
        raise RuntimeError(message)


if __name__ == "__main__":
    _url, _ca, _repository, _digest, _size = sys.argv[1:]
    sys.stdout.write(f"{Registry(_url, _ca, _repository).download(_digest, int(_size))}\n")
