"""A raw HTTP client: one connection for a request, and no mending of its own."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from tests.hub.images import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

_TIMEOUT = 150
_ACCEPT = f"{OCI_INDEX}, {DOCKER_LIST}, {OCI_MANIFEST}, {DOCKER_MANIFEST}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came. `looks_complete`: nothing in the framing tells that something is missing."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    looks_complete: bool
    error: str = ""


def ask(
    host: str,
    method: str,
    path: str,
    fields: Mapping[str, str],
    *,
    old: bool = False,
) -> Outcome:
    """Send one request, by HTTP/1.0 where `old`, and read the answer as far as it goes."""
    connection = _Old(host, timeout=_TIMEOUT) if old else _New(host, timeout=_TIMEOUT)
    status, headers, body = 0, dict[str, str](), b""
    try:
        connection.request(method, path, headers={"Accept": _ACCEPT, **fields})
        answer = connection.getresponse()
        status = answer.status
        headers = {name.lower(): value for name, value in answer.getheaders()}
        body = answer.read()
    except http.client.IncompleteRead as error:
        return Outcome(status, headers, error.partial, looks_complete=False, error=repr(error))
    except (OSError, http.client.HTTPException) as error:
        return Outcome(status, headers, body, looks_complete=False, error=repr(error))
    finally:
        connection.close()
    return Outcome(status, headers, body, looks_complete=True)


class _New(http.client.HTTPConnection):
    pass


class _Old(http.client.HTTPConnection):
    _http_vsn = 10
    _http_vsn_str = "HTTP/1.0"


@dataclass(slots=True)
class RawClient:
    """Asks one Docxy as nobody, and gets a new token when the old one is refused, as clients do."""

    host: str
    repository: str
    token: str = ""

    def log_in(self) -> Outcome:
        """Get a token for the repository."""
        query = urlencode(
            {"service": "registry.test", "scope": f"repository:{self.repository}:pull"}
        )
        answer = ask(self.host, "GET", f"/auth/token?{query}", {})
        if answer.looks_complete and answer.status == http.client.OK:
            self.token = json.loads(answer.body)["token"]
        return answer

    def ask(
        self, method: str, path: str, fields: Mapping[str, str], *, old: bool = False
    ) -> Outcome:
        """Ask for something in the repository."""
        answer = self._ask(method, path, fields, old=old)
        if answer.status != http.client.UNAUTHORIZED:
            return answer
        refused = self.log_in()
        if refused.status != http.client.OK:
            return refused
        return self._ask(method, path, fields, old=old)

    def _ask(self, method: str, path: str, fields: Mapping[str, str], *, old: bool) -> Outcome:
        shown = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        target = f"/v2/{self.repository}/{path}"
        return ask(self.host, method, target, {**shown, **fields}, old=old)
