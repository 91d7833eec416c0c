"""A client of the hub itself, for the tests of it."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urljoin

import requests

from tests.hub.hub import Hub
from tests.hub.images import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST

ALPINE = "/v2/library/alpine"
LATEST = f"{ALPINE}/manifests/latest"
PRIVATE = "/v2/alice/private/manifests/1"
ACCEPT = {"Accept": f"{OCI_INDEX}, {DOCKER_LIST}, {OCI_MANIFEST}"}


def basic(name: str, password: str) -> str:
    """Return the header of a user and a password."""
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


class Client:
    """A client that shows one token and follows no redirect by itself."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = str(hub.ca_bundle)

    def token(self, *scopes: str, auth: tuple[str, str] | None = None) -> requests.Response:
        """Ask for a token; the one that there is has no business at the token server."""
        fields: dict[str, str | list[str]] = {"service": self.hub.service, "scope": list(scopes)}
        self.log_out()
        return self.session.get(self.hub.token_url, params=fields, auth=auth, timeout=10)

    def log_in(
        self, repository: str = "library/alpine", auth: tuple[str, str] | None = None
    ) -> None:
        """Get a token for a repository and show it from now on."""
        answer = self.token(f"repository:{repository}:pull", auth=auth)
        assert answer.status_code == 200
        self.bear(answer.json()["token"])

    def log_out(self) -> None:
        """Show no token any more."""
        self.session.headers.pop("Authorization", None)

    def bear(self, token: str) -> None:
        """Show this token from now on."""
        self.session.headers["Authorization"] = f"Bearer {token}"

    def ask(self, method: str, target: str, **headers: str) -> requests.Response:
        """Send a request to the registry or to a whole URL."""
        fields = ACCEPT | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.session.request(
            method,
            urljoin(self.hub.url, target),
            headers=fields,
            allow_redirects=False,
            timeout=10,
        )

    def get(self, target: str, **headers: str) -> requests.Response:
        """Send a GET."""
        return self.ask("GET", target, **headers)


@contextmanager
def stranger_at(hub: Hub) -> Iterator[Client]:
    """Give a client that has no token, and close its connections."""
    client = Client(hub)
    with client.session:
        yield client
