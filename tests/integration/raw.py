"""A client that sends what it is told and hides nothing of the answer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.hub.images import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.integration.pulling import WayName

ACCEPT = f"{OCI_INDEX}, {DOCKER_LIST}, {OCI_MANIFEST}, {DOCKER_MANIFEST}"
_TIMEOUT = 30


@dataclass(frozen=True)
class Raw:
    """Asks one Docxy, with the token that it was given for one repository."""

    session: requests.Session
    url: str
    ca: Path | None
    """None for plain HTTP."""

    def log_in(self, repository: str, auth: tuple[str, str] | None = None) -> None:
        """Get a token and show it from now on."""
        self.session.headers.pop("Authorization", None)
        scope = {"scope": f"repository:{repository}:pull", "service": "registry.test"}
        answer = self.session.get(
            f"{self.url}/auth/token", params=scope, auth=auth, verify=self._verify, timeout=_TIMEOUT
        )
        assert answer.status_code == 200, answer.text
        self.session.headers["Authorization"] = f"Bearer {answer.json()['token']}"

    def ask(self, method: str, path: str, **headers: str) -> requests.Response:
        """Send a request; the body is unread. Underscores in the names of headers mean hyphens."""
        fields = {"Accept": ACCEPT, "Accept-Encoding": "identity"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.session.request(
            method,
            self.url + path,
            headers=fields,
            allow_redirects=False,
            stream=True,
            verify=self._verify,
            timeout=_TIMEOUT,
        )

    @property
    def _verify(self) -> bool | str:
        return str(self.ca) if self.ca else True


RawBy = Callable[[WayName], Raw]
